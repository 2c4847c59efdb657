/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* SPDX-FileCopyrightText: The jurat authors */
/*
 * What all objects share: the maps, which the loader makes once and gives to
 * each object, the state of a process, and how a record is begun and ended.
 */
#ifndef JURAT_SENSOR_H
#define JURAT_SENSOR_H

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} events SEC(".maps");

/* Indexed by slot, see acquire; sized to SLOTS times the CPUs there may be when loaded. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct counters);
} counters SEC(".maps");

/* On the group leader; on another thread only while it inherits by exec. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct state);
} states SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct control);
} control SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct host);
} host SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct pending);
} pending SEC(".maps");

static __always_inline struct counters *this_cpu(void)
{
	u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&counters, &cpu);
}

/*
 * A slot to number a record in. Programs at tracepoints run to their end on
 * their CPU, and its first slot is theirs. A program on an LSM hook or at a
 * function can be preempted by another one, so it claims one of the CPU's
 * other slots: within a slot numbers follow the order in the ring.
 */
#ifdef PREEMPTIBLE
/* Set by user space: CPUs there may be. */
u32 cpus = 1;
/* Records that found every slot taken, and hooks that found no memory: told to nobody. */
u64 crowded;

static __always_inline struct counters *acquire(void *map, u32 *at)
{
	u32 cpu = bpf_get_smp_processor_id();

	for (int i = 1; i < SLOTS; i++) {
		*at = cpu + i * cpus;
		struct counters *c = bpf_map_lookup_elem(map, at);
		if (c && __sync_val_compare_and_swap(&c->busy, 0, 1) == 0)
			return c;
	}
	__sync_fetch_and_add(&crowded, 1);
	return NULL;
}

static __always_inline void release(struct counters *c)
{
	if (c)
		__sync_lock_test_and_set(&c->busy, 0);
}
#else
static __always_inline struct counters *acquire(void *map, u32 *at)
{
	*at = bpf_get_smp_processor_id();
	return bpf_map_lookup_elem(map, at);
}

static __always_inline void release(struct counters *c)
{
}
#endif

static __always_inline struct control *controls(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&control, &zero);
}

/* The set of taints of the program that is at exec id generation. */
static __always_inline u8 *taints_of_program(struct state *s, u64 generation)
{
	return s->program[generation & 1];
}

static __always_inline void note_namespaces(struct state *s, struct task_struct *task)
{
	struct nsproxy *ns = task->nsproxy;

	s->user = task->cred->user_ns->ns.inum;
	s->mnt = ns ? ns->mnt_ns->ns.inum : 0;
	s->pid = ns ? ns->pid_ns_for_children->ns.inum : 0;
}

/*
 * The state of a process, made if there is none. That is as it should be for
 * a process from before the sensor which the iterator has not reached yet.
 * Afterwards it means that a state was lost, and whatever it said with it.
 * Not inlined: what it needs of the stack is its callers' again afterwards.
 */
static __attribute__((noinline)) struct state *state_of(struct task_struct *leader, struct counters *c)
{
	struct state *s = bpf_task_storage_get(&states, leader, NULL, 0);
	if (s)
		return s;
	struct state fresh = { .generation = leader->self_exec_id, .flags = STATE_SEEN };
	struct control *k = controls();
	if (!k || k->seeded || (k->attached_at && leader->start_boottime > k->attached_at))
		fresh.taint[TAINT_STATE_LOST] = 1;
	note_namespaces(&fresh, leader);
	s = bpf_task_storage_get(&states, leader, &fresh, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!s && c)
		c->storage++;
	return s;
}

/* Numbers a record and finds room for it in a ring. No room: counted, and *lost is set. */
static __always_inline void *begin_in(void *ring, struct counters *c, u32 at, u8 *lost, u32 kind, u64 size)
{
	if (!c) {
		if (lost)
			*lost = 1;
		return NULL;
	}
	u64 number = ++c->number;
	struct record_header *h = bpf_ringbuf_reserve(ring, size, 0);
	if (!h) {
		if (lost)
			*lost = 1;
		c->dropped[kind]++;
		c->drops++;
		c->done = number;
		return NULL;
	}
	h->version = RECORD_VERSION;
	h->kind = kind;
	h->size = size;
	h->cpu = at;
	h->flags = lost ? 0 : FLAG_NO_STATE;
	h->number = number;
	h->drops = c->drops;
	h->time = bpf_ktime_get_boot_ns();
	return h;
}

/* The byte that says a record about the process was lost. Taken only behind the check, as the verifier wants it. */
static __always_inline u8 *loss_of(struct state *s)
{
	if (!s)
		return NULL;
	asm volatile("" : "+r"(s));
	return &s->taint[TAINT_EVENT_LOSS];
}

/* A record that no process may miss: s is tainted when it is lost. */
static __always_inline void *begin(struct counters *c, struct state *s, u32 kind, u64 size)
{
	return begin_in(&events, c, bpf_get_smp_processor_id(), loss_of(s), kind, size);
}

static __always_inline void end(struct counters *c, struct record_header *h)
{
	u64 number = h->number;

	bpf_ringbuf_submit(h, BPF_RB_NO_WAKEUP);
	c->done = number;
}

#endif
