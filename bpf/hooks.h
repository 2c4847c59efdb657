/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* SPDX-FileCopyrightText: The jurat authors */
/*
 * What the tiers above tracepoint do at each security hook, written once: an
 * LSM program and an fentry program at the same place see the same arguments.
 * What they set and tell is what the watch programs set and tell.
 */
#ifndef JURAT_HOOKS_H
#define JURAT_HOOKS_H

#define PROT_EXEC 0x4
#define PTRACE_MODE_ATTACH 0x02
#define PTRACE_MODE_FSCREDS 0x08
#define PR_SET_MM 35
#define MODULE 2 /* READING_MODULE, LOADING_MODULE */
#define BPF_PROG_LOAD 5
#define TS_COMPAT 0x2
#define HASH_ALGO_SHA256 4
#define FS_VERITY_HASH_ALG_SHA256 1
#define EPERM 1

#define NAME_SHEBANG 0x2123              /* "#!" */
#define NAME_UFFD 0x75616672657375ULL   /* "userfau" */
#define NAME_URING 0x6e6972755f6f69ULL  /* "io_urin" */

/* Where the programs of one of these objects sit; the hook's number is HOOK_BASE more. */
enum site {
	SITE_BPRM_CHECK = 0,
	SITE_BPRM_COMMITTED = 1,
	SITE_BPRM_DIGEST = 2,
	SITE_MMAP_FILE = 3,
	SITE_FILE_MPROTECT = 4,
	SITE_FILE_OPEN = 5,
	SITE_PTRACE_ACCESS = 6,
	SITE_PTRACE_TRACEME = 7,
	SITE_COMMIT_CREDS = 8,
	SITE_SB_MOUNT = 9,
	SITE_MOVE_MOUNT = 10,
	SITE_PIVOT_ROOT = 11,
	SITE_CHROOT = 12,
	SITE_NAMESPACES = 13,
	SITE_PRCTL = 14,
	SITE_READ_FILE = 15,
	SITE_LOAD_DATA = 16,
	SITE_BPF = 17,
	SITE_BPF_PROG = 18,
	SITE_INIT_ANON = 19,
	SITE_SB_UMOUNT = 20,
	SITE_REFUSAL = 21,
	SITES = 32,
};

/* Set by user space while it tries whether a refusal works: children of the agent may not exec. */
u32 refuse;
/* Whether IMA has had a digest. */
u32 has_ima;
/* Whether the kernel can tell an fs-verity digest. */
u32 has_verity;
/* What has run at least once. */
u8 fired[SITES];
static __always_inline void saw(enum site site)
{
	if (!fired[site])
		fired[site] = 1;
}

static __always_inline bool is_agent(struct task_struct *leader)
{
	struct control *k = controls();

	return k && k->agent && leader->tgid == k->agent && leader->start_boottime == k->agent_start;
}

/* The process does it to itself. What the agent does while it tries the hooks is nothing to tell. */
static __always_inline void taint_self(u32 taint, u32 hook)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (!is_agent(task->group_leader))
		taint_program(task->group_leader, task, taint, hook);
}

static __always_inline struct pending *pending_of(struct task_struct *task)
{
	struct pending *p = bpf_task_storage_get(&pending, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!p)
		__sync_fetch_and_add(&crowded, 1);
	return p;
}

/*
 * Comes once for each file exec looks at: a script, what the script names,
 * and so on. At the first interp still is the name exec was given. A script
 * that another script names is told as an open.
 */
static __always_inline void at_bprm_check(struct linux_binprm *bprm, u32 hook)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct file *file = bprm->file;
	struct look look = {};
	u16 start = 0;

	saw(SITE_BPRM_CHECK);
	struct pending *p = pending_of(task);
	if (!p || !file)
		return;
	if (bprm->interp == bprm->filename) {
		p->committed = 0;
		p->digest_source = DIGEST_NONE;
		p->steps = fill_file(&p->script, file);
		p->script.mount = mount_kind(file);
		return;
	}
	if (p->steps)
		p->steps++;
	bpf_core_read(&start, sizeof(start), &bprm->buf);
	if (start == NAME_SHEBANG && look_at(&look, file))
		tell_open(task, file, &look, CLASS_CODE, hook);
}

/* Whether user space wants to see a refusal work on this exec. */
static __always_inline int refusal(void)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (!refuse || !is_agent(task->real_parent->group_leader))
		return 0;
	saw(SITE_REFUSAL);
	return -EPERM;
}

static __always_inline void at_bprm_committed(void)
{
	struct pending *p = pending_of(bpf_get_current_task_btf());

	saw(SITE_BPRM_COMMITTED);
	if (p)
		p->committed = 1;
}

static __always_inline void at_mprotect(struct vm_area_struct *vma, unsigned long prot, u32 hook)
{
	saw(SITE_FILE_MPROTECT);
	if ((prot & PROT_EXEC) && !(vma->vm_flags & VM_EXEC))
		taint_self(TAINT_MPROTECT_EXEC, hook);
}

/* The process whose mem file this is, as far as it can be told from here. */
static __always_inline bool own_memory(struct pid *pid, struct task_struct *task)
{
	struct hlist_node *node = NULL;
	struct mm_struct *mm = NULL;
	pid_t tgid = 0;

	if (bpf_core_read(&node, sizeof(node), &pid->tasks[0].first) || !node)
		return false;
	struct task_struct *owner = container_of(node, struct task_struct, pid_links);
	bpf_core_read(&tgid, sizeof(tgid), &owner->tgid);
	bpf_core_read(&mm, sizeof(mm), &owner->mm);
	return tgid == task->tgid || mm == task->mm;
}

/*
 * Opens of /proc/PID/mem for writing. Whose it is comes with the check of the
 * permission to trace which follows, unless it is the process's own.
 */
static __always_inline void at_memory_open(struct task_struct *task, struct inode *inode, u32 hook)
{
	struct proc_inode *proc = container_of(inode, struct proc_inode, vfs_inode);
	struct pid *pid = NULL;

	bpf_core_read(&pid, sizeof(pid), &proc->pid);
	if (!pid)
		return;
	if (own_memory(pid, task)) {
		taint_self(TAINT_MEMORY_WRITTEN_SELF, hook);
		return;
	}
	struct pending *p = pending_of(task);
	if (p)
		p->memory = (u64)pid;
}

static __always_inline void at_open(struct file *file, u32 hook)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pending *p = bpf_task_storage_get(&pending, task, NULL, 0);
	struct look look = {};

	saw(SITE_FILE_OPEN);
	if (p)
		p->memory = 0;
	if (!look_at(&look, file))
		return;
	u32 class = class_of(&look);
	if (class)
		tell_open(task, file, &look, class, hook);
	else if (is_memory(&look))
		at_memory_open(task, look.inode, hook);
}

/* Files mapped executable after exec: libraries, under whatever name. */
static __always_inline void at_mmap(struct file *file, unsigned long prot, u32 hook)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct look look = {};

	saw(SITE_MMAP_FILE);
	if (!file || !(prot & PROT_EXEC) || BPF_CORE_READ_BITFIELD_PROBED(task, in_execve))
		return;
	if (look_at(&look, file))
		tell_open(task, file, &look, CLASS_CODE, hook);
}

enum access { ACCESS_HARMLESS, ACCESS_TRACE, ACCESS_WRITE };

/*
 * What a process asks the right to trace another for, told from the system
 * call: reading its memory or taking one of its descriptors changes nothing in
 * it. What is not known to be harmless counts as tracing.
 */
static __always_inline enum access access_for(struct task_struct *task)
{
	struct pt_regs *regs = (void *)bpf_task_pt_regs(task);
	struct pt_regs___x86 *x86 = (void *)regs;
	struct pt_regs___arm64 *arm64 = (void *)regs;
	struct thread_info *info = (void *)&task->thread_info;

	if (bpf_core_field_exists(x86->orig_ax)) {
		if (bpf_core_field_exists(info->status) && (info->status & TS_COMPAT))
			return ACCESS_TRACE;
		switch (x86->orig_ax) {
		case 310: /* process_vm_readv */
		case 438: /* pidfd_getfd */
		case 440: /* process_madvise */
			return ACCESS_HARMLESS;
		case 311: /* process_vm_writev */
			return ACCESS_WRITE;
		}
	} else if (bpf_core_field_exists(arm64->syscallno)) {
		switch (arm64->syscallno) {
		case 270:
		case 438:
		case 440:
			return ACCESS_HARMLESS;
		case 271:
			return ACCESS_WRITE;
		}
	}
	return ACCESS_TRACE;
}

static __always_inline void at_ptrace_access(struct task_struct *child, unsigned int mode, u32 hook)
{
	struct task_struct *task = bpf_get_current_task_btf();

	saw(SITE_PTRACE_ACCESS);
	if (!(mode & PTRACE_MODE_ATTACH) || is_agent(task->group_leader))
		return;
	if (mode & PTRACE_MODE_FSCREDS) {
		struct pending *p = bpf_task_storage_get(&pending, task, NULL, 0);
		if (p && p->memory && p->memory == (u64)child->thread_pid) {
			p->memory = 0;
			taint_program(child->group_leader, task, TAINT_MEMORY_WRITTEN, hook);
		}
		return;
	}
	switch (access_for(task)) {
	case ACCESS_TRACE:
		taint_program(child->group_leader, task, TAINT_TRACED, hook);
		break;
	case ACCESS_WRITE:
		taint_program(child->group_leader, task, TAINT_MEMORY_WRITTEN, hook);
		break;
	case ACCESS_HARMLESS:
		break;
	}
}

static __always_inline void at_traceme(struct task_struct *parent, u32 hook)
{
	struct task_struct *task = bpf_get_current_task_btf();

	saw(SITE_PTRACE_TRACEME);
	taint_program(task->group_leader, parent, TAINT_TRACED, hook);
}

static __always_inline bool same_creds(const struct cred *a, const struct cred *b)
{
	u64 x[5] = {}, y[5] = {};

	bpf_core_read(&x[0], sizeof(u64), &a->cap_inheritable);
	bpf_core_read(&x[1], sizeof(u64), &a->cap_permitted);
	bpf_core_read(&x[2], sizeof(u64), &a->cap_effective);
	bpf_core_read(&x[3], sizeof(u64), &a->cap_bset);
	bpf_core_read(&x[4], sizeof(u64), &a->cap_ambient);
	bpf_core_read(&y[0], sizeof(u64), &b->cap_inheritable);
	bpf_core_read(&y[1], sizeof(u64), &b->cap_permitted);
	bpf_core_read(&y[2], sizeof(u64), &b->cap_effective);
	bpf_core_read(&y[3], sizeof(u64), &b->cap_bset);
	bpf_core_read(&y[4], sizeof(u64), &b->cap_ambient);
	for (int i = 0; i < 5; i++)
		if (x[i] != y[i])
			return false;
	return a->uid.val == b->uid.val && a->gid.val == b->gid.val && a->suid.val == b->suid.val &&
	       a->sgid.val == b->sgid.val && a->euid.val == b->euid.val && a->egid.val == b->egid.val &&
	       a->fsuid.val == b->fsuid.val && a->fsgid.val == b->fsgid.val && a->securebits == b->securebits;
}

/* Every change of ids, capabilities or user namespace ends here; so does each exec, before its tracepoint. */
static __always_inline void at_commit_creds(struct cred *next, u32 hook)
{
	struct task_struct *task = bpf_get_current_task_btf();
	const struct cred *now = task->cred;

	saw(SITE_COMMIT_CREDS);
	if (is_agent(task->group_leader))
		return;
	if (next->user_ns != now->user_ns)
		taint_program(task->group_leader, task, TAINT_NAMESPACE_CHANGED, hook);
	if (same_creds(now, next))
		return;
	struct state *s = state_of(task->group_leader, NULL);
	if (s)
		s->flags |= STATE_CREDENTIALS;
}

/* unshare and setns; also the end of a task, with no namespaces to go to. */
static __always_inline void at_namespaces(struct task_struct *task, struct nsproxy *to, u32 hook)
{
	struct nsproxy *from = task->nsproxy;

	saw(SITE_NAMESPACES);
	if (!from || !to || is_agent(task->group_leader))
		return;
	if (from->mnt_ns != to->mnt_ns || from->pid_ns_for_children != to->pid_ns_for_children)
		taint_program(task->group_leader, task, TAINT_NAMESPACE_CHANGED, hook);
}

static __always_inline void at_prctl(int option, u32 hook)
{
	saw(SITE_PRCTL);
	if (option == PR_SET_MM)
		taint_self(TAINT_MM_CHANGED, hook);
}

static __always_inline void at_mount(enum site site, u32 base)
{
	saw(site);
	taint_self(TAINT_MOUNTED_OVER, base + site);
}

/* Another root: the same path is another file. */
static __always_inline void at_root(enum site site, u32 base)
{
	saw(site);
	taint_self(TAINT_NAMESPACE_CHANGED, base + site);
}

/* finit_module and init_module; other ids are firmware, keys and the like. */
static __always_inline void at_module(int id, enum site site, u32 base)
{
	struct task_struct *task = bpf_get_current_task_btf();

	saw(site);
	if (id == MODULE && !is_agent(task->group_leader))
		taint_host(task, TAINT_MODULE_LOADED, base + site);
}

/* Remembers which bpf(2) this is: a program's descriptor is made for its loader, and for whoever asks by number. */
static __always_inline void at_bpf(int cmd)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pending *p;

	saw(SITE_BPF);
	if (cmd == BPF_PROG_LOAD)
		p = pending_of(task);
	else
		p = bpf_task_storage_get(&pending, task, NULL, 0);
	if (p)
		p->command = cmd;
}

/* Types of programs that can see or change what other processes do. */
static __always_inline bool watches(u32 type)
{
	switch (type) {
	case 2:  /* kprobe */
	case 5:  /* tracepoint */
	case 7:  /* perf_event */
	case 17: /* raw_tracepoint */
	case 24: /* raw_tracepoint_writable */
	case 26: /* tracing */
	case 27: /* struct_ops */
	case 28: /* ext */
	case 29: /* lsm */
	case 31: /* syscall */
		return true;
	}
	return false;
}

static __always_inline void at_bpf_prog(struct bpf_prog *prog, u32 hook)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pending *p = bpf_task_storage_get(&pending, task, NULL, 0);

	saw(SITE_BPF_PROG);
	if (!p || p->command != BPF_PROG_LOAD || !watches(prog->type))
		return;
	if (task->tgid != 1 && !is_agent(task->group_leader))
		taint_host(task, TAINT_BPF_LOADED, hook);
}

/* userfaultfd and io_uring are files without a name in any directory, made here. */
static __always_inline void at_init_anon(const struct qstr *name, u32 hook)
{
	const unsigned char *text = NULL;
	u64 word = 0;

	saw(SITE_INIT_ANON);
	bpf_core_read(&text, sizeof(text), &name->name);
	bpf_probe_read_kernel(&word, sizeof(word), text);
	word >>= 8; /* "[" */
	if (word == NAME_UFFD)
		taint_self(TAINT_USERFAULTFD, hook);
	else if (word == NAME_URING)
		taint_self(TAINT_IO_URING, hook);
}

#endif
