//go:build ignore

// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
// SPDX-FileCopyrightText: The jurat authors

/*
 * The sensor every kernel from 5.15 runs: exec, fork, exit and cgroup moves
 * seen at typed tracepoints, state kept per process in task storage.
 *
 * State first, events second. What a task is worth (its generation, its
 * taints) is written before the ring buffer is tried, so a record that is
 * lost never makes a task look clean: it taints it. A process is unmeasured
 * by default: only `measured`, written by user space for one generation, says
 * otherwise, and exec moves the generation away from it.
 *
 * The generation is the kernel's own self_exec_id. It grows with every exec,
 * a fork copies it, and no program of ours can lose it.
 */

#include "vmlinux.h"
#include "headers/bpf_helpers.h"
#include "record.h"
#include "facts.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Set by user space: when all programs were attached, in ns since boot; 0 before. */
u64 attached_at;
/* Set by user space once the iterator has visited every task. */
u64 seeded;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} events SEC(".maps");

/* Indexed by CPU; sized to the CPUs there may be when loaded. */
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

/* Where the iterator builds its record; one iteration runs at a time. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, union record);
} scratch SEC(".maps");

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

/* Exec by a thread has made it the leader by now; old_pid is what it was. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)
{
	struct counters *c = this_cpu();
	struct state *s = state_of(p, c);
	u64 generation = p->self_exec_id;

	if (s) {
		s->generation = generation;
		s->flags &= ~STATE_SEEN;
		if (generation >> 32)
			s->taint[TAINT_GENERATION] = 1;
	}
	struct record_exec *r = begin(c, s, RECORD_EXEC, sizeof(*r));
	if (!r)
		return 0;
	u32 flags = old_pid != p->pid ? FLAG_THREAD_EXEC : 0;
	fill_process(&r->process, p, p, s);
	flags |= fill_program(r, p);
	if (BPF_CORE_READ_BITFIELD_PROBED(bprm, secureexec))
		flags |= FLAG_SECURE_EXEC;
	struct mm_struct *mm = p->mm;
	if (mm) {
		flags |= scan_environment(mm);
		flags |= fill_arguments(r, mm);
	} else {
		r->argv_len = r->argv_read = 0;
		flags |= FLAG_ENV_UNKNOWN | FLAG_ARGV_UNKNOWN;
	}
	__builtin_memset(&r->script, 0, sizeof(r->script));
	r->old_tid = old_pid;
	r->argc = bprm->argc;
	long n = bpf_probe_read_kernel_str(r->filename, TEXT_MAX, bprm->filename);
	r->filename_len = n > 0 ? n - 1 : 0;
	if (n <= 0 || n == TEXT_MAX)
		flags |= FLAG_FILENAME_CUT;
	n = bpf_probe_read_kernel_str(r->interp, TEXT_MAX, bprm->interp);
	r->interp_len = n > 0 ? n - 1 : 0;
	if (n <= 0 || n == TEXT_MAX)
		flags |= FLAG_INTERP_CUT;
	r->header.flags |= flags;
	end(c, &r->header);
	return 0;
}

/*
 * A child takes generation, origin and taints from its parent, and has a
 * state of its own from before its first instruction. It is not measured.
 */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	if (child->pid != child->tgid)
		return 0; /* a thread, of a process we know */
	struct counters *c = this_cpu();
	struct state *from = state_of(parent->group_leader, c);
	struct state own = { .generation = child->self_exec_id, .flags = STATE_SEEN };
	if (from) {
		own.flags = from->flags;
		for (int i = 0; i < TAINT_BYTES; i++)
			own.taint[i] = from->taint[i];
	} else {
		own.taint[TAINT_STATE_LOST] = 1;
	}
	struct state *s = bpf_task_storage_get(&states, child, &own, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!s && c)
		c->storage++;
	struct record_fork *r = begin(c, s, RECORD_FORK, sizeof(*r));
	if (!r)
		return 0;
	fill_process(&r->process, child, child, s);
	fill_parent(&r->parent, parent);
	r->cgroup_id = cgroup_id(child);
	end(c, &r->header);
	return 0;
}

/*
 * A leader that ends while another thread calls exec leaves its place to that
 * thread, and the kernel frees its storage: pass the state on. A leader that
 * ended earlier cannot, and state_of taints the heir.
 */
static __always_inline void hand_over(struct task_struct *leader, struct signal_struct *sig, struct counters *c)
{
	struct signal_struct___5_15 *old = (void *)sig;
	struct task_struct *heir;

	if (bpf_core_field_exists(sig->group_exec_task))
		heir = sig->group_exec_task;
	else
		heir = old->group_exit_task;
	if (!heir)
		return;
	struct state *from = bpf_task_storage_get(&states, leader, NULL, 0);
	if (!from)
		return;
	struct state copy = *from;
	if (!bpf_task_storage_get(&states, heir, &copy, BPF_LOCAL_STORAGE_GET_F_CREATE) && c)
		c->storage++;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *p)
{
	struct counters *c = this_cpu();
	struct signal_struct *sig = p->signal;
	struct task_struct *leader = p->group_leader;

	if (sig->live.counter > 0) {
		if (p->pid == p->tgid)
			hand_over(p, sig, c);
		return 0; /* other threads go on */
	}
	struct state *s = bpf_task_storage_get(&states, leader, NULL, 0);
	struct record_exit *r = begin(c, s, RECORD_EXIT, sizeof(*r));
	if (!r)
		return 0;
	fill_process(&r->process, p, leader, s);
	r->status = sig->flags & SIGNAL_GROUP_EXIT ? sig->group_exit_code : leader->exit_code;
	r->reserved = 0;
	end(c, &r->header);
	return 0;
}

SEC("tp_btf/cgroup_attach_task")
int BPF_PROG(on_cgroup, struct cgroup *to, const char *path, struct task_struct *task)
{
	if (to->root->hierarchy_id)
		return 0; /* cgroup v1 */
	struct counters *c = this_cpu();
	struct task_struct *leader = task->group_leader;
	struct state *s = state_of(leader, c);
	struct record_cgroup *r = begin(c, s, RECORD_CGROUP, sizeof(*r));
	if (!r)
		return 0;
	fill_process(&r->process, task, leader, s);
	r->cgroup_id = to->kn->id;
	end(c, &r->header);
	return 0;
}

/* Takes in what runs already. Its exec was not seen, so it is marked so. */
SEC("iter/task")
int on_task(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	u32 zero = 0;

	if (!task || task->pid != task->tgid || task->signal->live.counter == 0)
		return 0; /* a thread, or ended and not waited for */
	struct state *s = state_of(task, this_cpu());
	if (task->flags & PF_KTHREAD)
		return 0; /* but its state goes to the helpers it may start */
	struct record_exec *r = bpf_map_lookup_elem(&scratch, &zero);
	if (!r)
		return 0;
	r->header.version = RECORD_VERSION;
	r->header.kind = RECORD_SEEN;
	r->header.size = sizeof(*r);
	r->header.cpu = bpf_get_smp_processor_id();
	r->header.number = 0;
	r->header.drops = 0;
	r->header.time = bpf_ktime_get_boot_ns();
	fill_process(&r->process, task, task, s);
	r->header.flags = (s ? 0 : FLAG_NO_STATE) | FLAG_ENV_UNKNOWN | FLAG_ARGV_UNKNOWN | fill_program(r, task);
	r->old_tid = task->pid;
	bpf_seq_write(ctx->meta->seq, r, sizeof(*r));
	return 0;
}
