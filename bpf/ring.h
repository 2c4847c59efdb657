/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* SPDX-FileCopyrightText: The jurat authors */
/*
 * The maps that the objects share, and what every program does with them:
 * find a process's state, number a record, send it. The loader gives all
 * objects the maps of core.
 */
#ifndef JURAT_RING_H
#define JURAT_RING_H

/* Set by user space: when all programs were attached, in ns since boot; 0 before. */
u64 attached_at;
/* Set by user space once the iterator has visited every task. */
u64 seeded;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} events SEC(".maps");

/*
 * Indexed by slot: one for each CPU there may be, for programs that nothing
 * of ours can interrupt on their CPU, then SLOTS - 1 more for each, which the
 * others claim (hooks.h). Sized when loaded.
 */
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

/* Apart from states, so that user space writing one can never undo an exec. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct measured);
} measured SEC(".maps");

/* On a thread, from where it enters exec. Kernel programs alone write it. */
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
 * The state of a process, made if there is none. That is as it should be for
 * a process from before the sensor which the iterator has not reached yet.
 * Afterwards it means that a state was lost, and whatever it said with it.
 */
static __always_inline struct state *state_of(struct task_struct *leader, struct counters *c)
{
	struct state *s = bpf_task_storage_get(&states, leader, NULL, 0);
	if (s)
		return s;
	struct state fresh = { .generation = leader->self_exec_id, .flags = STATE_SEEN };
	if (seeded || (attached_at && leader->start_boottime > attached_at))
		fresh.taint[TAINT_STATE_LOST] = 1;
	s = bpf_task_storage_get(&states, leader, &fresh, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!s && c)
		c->storage++;
	return s;
}

/* Numbers a record and finds room for it. No room: counted, and s is tainted. */
static __always_inline void *begin(struct counters *c, struct state *s, u32 kind, u64 size)
{
	if (!c) {
		if (s)
			s->taint[TAINT_EVENT_LOSS] = 1;
		return NULL;
	}
	u64 number = ++c->number;
	struct record_header *h = bpf_ringbuf_reserve(&events, size, 0);
	if (!h) {
		if (s)
			s->taint[TAINT_EVENT_LOSS] = 1;
		c->dropped[kind]++;
		c->drops++;
		c->done = number;
		return NULL;
	}
	h->version = RECORD_VERSION;
	h->kind = kind;
	h->size = size;
	h->cpu = bpf_get_smp_processor_id();
	h->flags = s ? 0 : FLAG_NO_STATE;
	h->number = number;
	h->drops = c->drops;
	h->time = bpf_ktime_get_boot_ns();
	return h;
}

static __always_inline void end(struct counters *c, struct record_header *h)
{
	u64 number = h->number;

	bpf_ringbuf_submit(h, BPF_RB_NO_WAKEUP);
	c->done = number;
}

#endif
