/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* SPDX-FileCopyrightText: The jurat authors */
/*
 * Taints a process or the host: first the state, then the record. A taint
 * that is set already makes no second record.
 */
#ifndef JURAT_TAINT_H
#define JURAT_TAINT_H

static __always_inline void fill_taint(struct record_taint *r, struct state *s, struct task_struct *leader,
				       struct task_struct *by, u64 bits, u32 hook)
{
	if (leader)
		fill_process(&r->process, leader, leader, s);
	else
		__builtin_memset(&r->process, 0, sizeof(r->process));
	if (by)
		fill_parent(&r->by, by);
	else
		__builtin_memset(&r->by, 0, sizeof(r->by));
	r->taint = bits;
	r->hook = hook;
	r->reserved = 0;
	if (!leader)
		r->header.flags &= ~FLAG_NO_STATE;
}

static __always_inline void tell_taint(struct state *s, struct task_struct *leader, struct task_struct *by, u64 bits, u32 hook)
{
	u32 at = 0;
	struct counters *c = acquire(&counters, &at);
	struct record_taint *r = begin_in(&events, c, at, loss_of(s), RECORD_TAINT, sizeof(*r));

	if (r) {
		fill_taint(r, s, leader, by, bits, hook);
		end(c, &r->header);
	}
	release(c);
}

/* Taints the program that leader's process runs. */
static __always_inline void taint_program(struct task_struct *leader, struct task_struct *by, u32 taint, u32 hook)
{
	struct counters *c = this_cpu();
	struct state *s = state_of(leader, c);

	if (!s)
		return; /* counted, and a process without state is not attested */
	u8 *set = taints_of_program(s, leader->self_exec_id) + taint;
	if (*set)
		return;
	*set = 1;
	tell_taint(s, leader, by, 1ULL << taint, hook);
}

/* Taints the host; each time is told. */
static __always_inline void taint_host(struct task_struct *by, u32 taint, u32 hook)
{
	u32 zero = 0;
	struct host *h = bpf_map_lookup_elem(&host, &zero);

	if (h)
		h->taint[taint] = 1;
	tell_taint(NULL, NULL, by, 1ULL << taint, hook);
}

#endif
