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
#include "sensor.h"
#include "facts.h"
#include "taint.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

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

/* What a program in memory was held guilty of ends with it; what is so again is held against the new one. */
static __always_inline u64 renew(struct state *s, struct task_struct *p, u64 generation)
{
	u64 *next = (u64 *)taints_of_program(s, generation + 1);
	u8 *own = taints_of_program(s, generation);
	u64 found = 0;

	s->generation = generation;
	s->exec_time = bpf_ktime_get_boot_ns();
	s->flags &= ~(STATE_SEEN | STATE_CREDENTIALS);
	for (int i = 0; i < TAINT_BYTES / 8; i++)
		next[i] = 0;
	note_namespaces(s, p);
	if (generation >> 32)
		s->taint[TAINT_GENERATION] = 1;
	if (p->ptrace) {
		own[TAINT_TRACED] = 1;
		found |= 1ULL << TAINT_TRACED;
	}
	if (p->mm && in_memory_only(p->mm)) {
		own[TAINT_MEMFD_EXEC] = 1;
		found |= 1ULL << TAINT_MEMFD_EXEC;
	}
	if (p->real_parent->flags & PF_KTHREAD && p->pid != 1 && !s->taint[TAINT_USERMODE_HELPER]) {
		s->taint[TAINT_USERMODE_HELPER] = 1;
		found |= 1ULL << TAINT_USERMODE_HELPER;
	}
	return found;
}

/* What the hooks of this exec saw: the script, and the kernel's own digest. */
static __always_inline u32 fill_hooked(struct record_exec *r, struct pending *hooked)
{
	u32 flags = 0;

	__builtin_memset(&r->script, 0, sizeof(r->script));
	r->digest_source = DIGEST_NONE;
	r->digest_algorithm = 0;
	__builtin_memset(r->digest, 0, sizeof(r->digest));
	if (!hooked || !hooked->committed)
		return 0;
	if (hooked->steps > 1) {
		r->script = hooked->script;
		flags = FLAG_SCRIPT;
	}
	if (hooked->digest_source) {
		r->digest_source = hooked->digest_source;
		r->digest_algorithm = hooked->digest_algorithm;
		__builtin_memcpy(r->digest, hooked->digest, sizeof(r->digest));
	}
	return flags;
}

/* The exec is over: nothing of it is left for the next. */
static __always_inline void settle(struct pending *hooked)
{
	if (!hooked)
		return;
	hooked->steps = 0;
	hooked->committed = 0;
	hooked->digest_source = DIGEST_NONE;
}

/* Exec by a thread has made it the leader by now; old_pid is what it was. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)
{
	struct counters *c = this_cpu();
	struct state *s = state_of(p, c);
	u64 generation = p->self_exec_id;

	u64 found = s ? renew(s, p, generation) : 0;
	struct pending *hooked = bpf_task_storage_get(&pending, p, NULL, 0);
	struct control *k = controls();
	if (k && k->hooks && c && !(hooked && hooked->committed))
		c->silent++;
	struct record_exec *r = begin(c, s, RECORD_EXEC, sizeof(*r));
	if (!r) {
		settle(hooked);
		return 0;
	}
	u32 flags = old_pid != p->pid ? FLAG_THREAD_EXEC : 0;
	fill_process(&r->process, p, p, s);
	flags |= fill_program(r, p);
	if (BPF_CORE_READ_BITFIELD_PROBED(bprm, secureexec))
		flags |= FLAG_SECURE_EXEC;
	struct mm_struct *mm = p->mm;
	if (mm) {
		flags |= scan_environment(mm->env_start, mm->env_end);
		flags |= fill_arguments(r, mm);
	} else {
		r->argv_len = r->argv_read = 0;
		flags |= FLAG_ENV_UNKNOWN | FLAG_ARGV_UNKNOWN;
	}
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
	flags |= fill_hooked(r, hooked); /* after the loops, which the verifier walks for each branch before them */
	settle(hooked);
	r->header.flags |= flags;
	end(c, &r->header);
	if (found)
		tell_taint(s, p, found & (1ULL << TAINT_TRACED) ? p->parent : p, found, HOOK_EXEC);
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
		own.exec_time = from->exec_time;
		u64 *to = (u64 *)own.taint, *life = (u64 *)from->taint;
		for (int i = 0; i < TAINT_BYTES / 8; i++)
			to[i] = life[i];
		const u64 *program = (u64 *)taints_of_program(from, own.generation);
		u64 *even = (u64 *)own.program[0], *odd = (u64 *)own.program[1];
		for (int i = 0; i < TAINT_BYTES / 8; i++) {
			even[i] = own.generation & 1 ? 0 : program[i];
			odd[i] = own.generation & 1 ? program[i] : 0;
		}
	} else {
		own.taint[TAINT_STATE_LOST] = 1;
	}
	note_namespaces(&own, child);
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

/* What can be seen afterwards of things that happened before the sensor. */
static __always_inline void note_past(struct state *s, struct task_struct *task)
{
	u8 *own = taints_of_program(s, task->self_exec_id);

	if (task->ptrace)
		own[TAINT_TRACED] = 1;
	if (task->mm && in_memory_only(task->mm))
		own[TAINT_MEMFD_EXEC] = 1;
	if (task->io_uring)
		own[TAINT_IO_URING] = 1;
	if (task->real_parent->flags & PF_KTHREAD && task->pid != 1)
		s->taint[TAINT_USERMODE_HELPER] = 1;
}

/* Takes in what runs already. Its exec was not seen, so it is marked so. */
SEC("iter/task")
int on_task(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	u32 zero = 0;

	if (!task || task->pid != task->tgid || task->signal->live.counter == 0)
		return 0; /* a thread, or ended and not waited for */
	/* Before the programs are attached a state would be out of date at once. */
	struct control *k = controls();
	struct state *s = k && k->attached_at ? state_of(task, this_cpu()) : NULL;
	if (task->flags & PF_KTHREAD)
		return 0; /* but its state goes to the helpers it may start */
	if (s && s->flags & STATE_SEEN)
		note_past(s, task);
	struct record_exec *r = bpf_map_lookup_elem(&scratch, &zero);
	if (!r)
		return 0;
	r->header.version = RECORD_VERSION;
	r->header.kind = RECORD_SEEN;
	r->header.size = sizeof(*r);
	r->header.cpu = bpf_get_smp_processor_id();
	r->header.number = 0;
	r->header.drops = 0;
	r->header.time = s && !(s->flags & STATE_SEEN) ? s->exec_time : bpf_ktime_get_boot_ns();
	fill_process(&r->process, task, task, s);
	r->header.flags = (s ? 0 : FLAG_NO_STATE) | FLAG_ENV_UNKNOWN | FLAG_ARGV_UNKNOWN | fill_program(r, task);
	if (s && s->generation != task->self_exec_id)
		r->header.flags |= FLAG_STALE;
	struct measured *m = bpf_task_storage_get(&measured, task, NULL, 0);
	if (m && m->generation == task->self_exec_id)
		r->header.flags |= FLAG_MEASURED;
	r->old_tid = task->pid;
	bpf_seq_write(ctx->meta->seq, r, sizeof(*r));
	return 0;
}
