/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* SPDX-FileCopyrightText: The jurat authors */
/*
 * Copies facts about a task, its program and its file into records. Nothing
 * here follows a path or trusts memory the task can write, except for the
 * hints (argv, environment), which are marked as such.
 */
#ifndef JURAT_FACTS_H
#define JURAT_FACTS_H

#define PF_KTHREAD 0x00200000
#define SIGNAL_GROUP_EXIT 0x00000004
#define PFA_NO_NEW_PRIVS 0
#define VM_EXEC 0x00000004
#define EINVAL 22
#define MULTIGRAIN_QUERIED (1U << 31) /* I_CTIME_QUERIED, 6.13 and newer */

#define TMPFS_MAGIC 0x01021994
#define HUGETLBFS_MAGIC 0x958458f6

#define ENV_STRINGS 256 /* pieces of the environment looked at */
#define ENV_PIECE 256   /* longest piece read at once */

static __always_inline u64 pidfd_inode(struct task_struct *leader)
{
	struct pid *pid = leader->thread_pid;

	if (pid && bpf_core_field_exists(pid->ino))
		return pid->ino;
	return 0;
}

static __always_inline void fill_process(struct record_process *r, struct task_struct *task,
					 struct task_struct *leader, struct state *s)
{
	r->tgid = leader->tgid;
	r->tid = task->pid;
	r->start = leader->start_boottime;
	r->pidfd_ino = pidfd_inode(leader);
	r->exec_id = leader->self_exec_id;
	r->state = s ? s->flags : 0;
	u64 *taint = (u64 *)r->taint;
	if (!s) {
		for (int i = 0; i < TAINT_BYTES / 8; i++)
			taint[i] = 0;
		return;
	}
	const u64 *life = (const u64 *)s->taint, *program = (const u64 *)taints_of_program(s, r->exec_id);
	for (int i = 0; i < TAINT_BYTES / 8; i++)
		taint[i] = life[i] | program[i];
}

static __always_inline void fill_parent(struct record_parent *r, struct task_struct *parent)
{
	struct task_struct *leader = parent->group_leader;

	r->tgid = leader->tgid;
	r->tid = parent->pid;
	r->start = leader->start_boottime;
	r->pidfd_ino = pidfd_inode(leader);
	r->exec_id = leader->self_exec_id;
}

static __always_inline void fill_ctime(struct record_file *r, struct inode *inode)
{
	if (bpf_core_field_exists(inode->i_ctime_sec)) {
		r->ctime_sec = inode->i_ctime_sec;
		r->ctime_nsec = inode->i_ctime_nsec & ~MULTIGRAIN_QUERIED;
		return;
	}
	struct inode___6_6 *mid = (void *)inode;
	if (bpf_core_field_exists(mid->__i_ctime)) {
		r->ctime_sec = mid->__i_ctime.tv_sec;
		r->ctime_nsec = mid->__i_ctime.tv_nsec;
		return;
	}
	struct inode___5_15 *old = (void *)inode;
	r->ctime_sec = old->i_ctime.tv_sec;
	r->ctime_nsec = old->i_ctime.tv_nsec;
}

static __always_inline bool fill_file(struct record_file *r, struct file *file)
{
	struct inode *inode = file->f_inode;
	if (!inode)
		return false;
	struct super_block *sb = inode->i_sb;
	struct address_space *mapping = inode->i_mapping;
	if (!sb || !mapping)
		return false;
	r->ino = inode->i_ino;
	r->size = inode->i_size;
	fill_ctime(r, inode);
	r->magic = sb->s_magic;
	r->dev = sb->s_dev;
	r->nlink = inode->i_nlink;
	r->generation = inode->i_generation;
	r->mode = inode->i_mode;
	r->writecount = inode->i_writecount.counter;
	r->mmap_writable = mapping->i_mmap_writable.counter;
	r->mount = MOUNT_UNKNOWN;
	return true;
}

/* Says which sort of mount holds file: a memfd lives on none a path can reach. */
static __always_inline u32 mount_kind(struct file *file)
{
	struct vfsmount *mnt = file->f_path.mnt;
	struct mnt_namespace *ns = NULL;

	if (!mnt)
		return MOUNT_UNKNOWN;
	struct mount *mount = container_of(mnt, struct mount, mnt);
	if (bpf_core_read(&ns, sizeof(ns), &mount->mnt_ns))
		return MOUNT_UNKNOWN;
	if (!ns)
		return MOUNT_DETACHED;
	return (long)ns == -EINVAL ? MOUNT_INTERNAL : MOUNT_ATTACHED;
}

/* A program that is an anonymous file in memory; an unlinked file on a mounted tmpfs is not one. */
static __always_inline bool in_memory_only(struct mm_struct *mm)
{
	struct file *file = mm->exe_file;

	if (!file || !file->f_inode || file->f_inode->i_nlink)
		return false;
	u64 magic = file->f_inode->i_sb->s_magic;
	return (magic == TMPFS_MAGIC || magic == HUGETLBFS_MAGIC) && mount_kind(file) == MOUNT_INTERNAL;
}

struct mapped {
	struct record_file file;
	u64 found;
};

/* On a stacked file system the text mapping maps the file below, and this one is it. */
static long take_text(struct task_struct *task, struct vm_area_struct *vma, struct mapped *m)
{
	struct file *file = vma->vm_file;

	if (file && (vma->vm_flags & VM_EXEC))
		m->found = fill_file(&m->file, file);
	return 0;
}

static __always_inline u32 fill_files(struct record_exec *r, struct task_struct *task, struct mm_struct *mm)
{
	struct mapped mapped = {};
	struct file *file = mm ? mm->exe_file : NULL;

	if (!file || !fill_file(&r->file, file)) {
		__builtin_memset(&r->file, 0, sizeof(r->file));
		__builtin_memset(&r->backing, 0, sizeof(r->backing));
		return 0;
	}
	r->file.mount = mount_kind(file);
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_find_vma)) {
		bpf_find_vma(task, mm->start_code, take_text, &mapped, 0);
		if (mapped.found) {
			r->backing = mapped.file;
			return FLAG_FILE | FLAG_BACKING | FLAG_BACKING_MAPPED;
		}
	}
	r->backing = r->file;
	return FLAG_FILE | FLAG_BACKING;
}

static __always_inline u32 fill_creds(struct record_creds *r, struct task_struct *task)
{
	const struct cred *c = task->cred;

	r->uid = c->uid.val;
	r->gid = c->gid.val;
	r->suid = c->suid.val;
	r->sgid = c->sgid.val;
	r->euid = c->euid.val;
	r->egid = c->egid.val;
	r->fsuid = c->fsuid.val;
	r->fsgid = c->fsgid.val;
	bpf_core_read(&r->inheritable, sizeof(u64), &c->cap_inheritable);
	bpf_core_read(&r->permitted, sizeof(u64), &c->cap_permitted);
	bpf_core_read(&r->effective, sizeof(u64), &c->cap_effective);
	bpf_core_read(&r->bounding, sizeof(u64), &c->cap_bset);
	bpf_core_read(&r->ambient, sizeof(u64), &c->cap_ambient);
	r->securebits = c->securebits;
	r->seccomp_mode = bpf_core_field_exists(task->seccomp.mode) ? task->seccomp.mode : 0;
	r->seccomp_filters =
		bpf_core_field_exists(task->seccomp.filter_count) ? task->seccomp.filter_count.counter : 0;
	r->reserved = 0;
	return task->atomic_flags & (1UL << PFA_NO_NEW_PRIVS) ? FLAG_NO_NEW_PRIVS : 0;
}

/* The namespace a process is in, not the one its children will be in. */
static __always_inline u32 pid_namespace(struct task_struct *task)
{
	struct pid_namespace *ns = NULL;
	struct pid *pid = NULL;
	u32 level = 0, inum = 0;

	bpf_core_read(&pid, sizeof(pid), &task->thread_pid);
	bpf_core_read(&level, sizeof(level), &pid->level);
	bpf_core_read(&ns, sizeof(ns), (void *)&pid->numbers[0].ns + level * sizeof(struct upid));
	bpf_core_read(&inum, sizeof(inum), &ns->ns.inum);
	return inum;
}

static __always_inline void fill_namespaces(struct record_namespaces *r, struct task_struct *task)
{
	struct nsproxy *ns = task->nsproxy;

	r->pid = pid_namespace(task);
	r->user = task->cred->user_ns->ns.inum;
	r->mnt = ns ? ns->mnt_ns->ns.inum : 0;
	r->net = ns ? ns->net_ns->ns.inum : 0;
	r->cgroup = ns ? ns->cgroup_ns->ns.inum : 0;
	r->uts = ns ? ns->uts_ns->ns.inum : 0;
	r->ipc = ns ? ns->ipc_ns->ns.inum : 0;
	r->reserved = 0;
}

static __always_inline u64 cgroup_id(struct task_struct *task)
{
	if (!bpf_core_field_exists(task->cgroups))
		return 0;
	return task->cgroups->dfl_cgrp->kn->id;
}

/* What one environment string means to the loader. Little-endian words. */
static __always_inline u32 loader_variable(const char *text)
{
	const u64 *word = (const void *)text;

	if (word[0] == 0x4f4c4552505f444cULL) /* LD_PRELO */
		return text[8] == 'A' && text[9] == 'D' && text[10] == '=' ? FLAG_LD_PRELOAD : 0;
	if (word[0] == 0x54494455415f444cULL) /* LD_AUDIT */
		return text[8] == '=' ? FLAG_LD_AUDIT : 0;
	if (word[0] == 0x415242494c5f444cULL) /* LD_LIBRA */
		return word[1] == 0x3d485441505f5952ULL ? FLAG_LD_LIBRARY_PATH : 0; /* RY_PATH= */
	return 0;
}

/* How far the environment exec just made was looked at. */
struct environment {
	u64 at, end;
	u64 whole; /* the next piece starts a variable, and is not the rest of one */
	u64 flags;
	char text[ENV_PIECE];
};

/* Looks at one piece; 1: no more. */
static long scan_piece(u64 i, struct environment *e)
{
	if (e->at >= e->end)
		return 1;
	long n = bpf_probe_read_user_str(e->text, sizeof(e->text), (void *)e->at);
	if (n < 0) {
		e->flags |= FLAG_ENV_UNKNOWN;
		return 1;
	}
	if (n == 0)
		n = 1; /* how some kernels (6.1, 6.12) measure an empty string */
	if (e->whole)
		e->flags |= loader_variable(e->text);
	e->whole = n < ENV_PIECE;
	e->at += e->whole ? n : n - 1;
	return 0;
}

/*
 * Looks for loader variables. A longer environment than ENV_STRINGS pieces, or
 * one that cannot be read, is unknown. Not static: the verifier walks it once,
 * not once for each way to its call. Where the kernel has no loops of its own
 * (before 5.17) it walks every piece as well, which takes it a second.
 */
__noinline u32 scan_environment(u64 at, u64 end)
{
	struct environment e = { .at = at, .end = end, .whole = 1 };

	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_loop))
		bpf_loop(ENV_STRINGS, scan_piece, &e, 0);
	else
		for (int i = 0; i < ENV_STRINGS; i++)
			if (scan_piece(i, &e))
				break;
	return e.at >= e.end ? e.flags : e.flags | FLAG_ENV_UNKNOWN;
}

static __always_inline u32 fill_arguments(struct record_exec *r, struct mm_struct *mm)
{
	u64 len = mm->arg_end - mm->arg_start;
	u32 n = len < TEXT_MAX ? len : TEXT_MAX;

	r->argv_len = len;
	r->argv_read = n;
	if (n > TEXT_MAX || bpf_probe_read_user(r->argv, n, (void *)mm->arg_start)) {
		r->argv_read = 0;
		return FLAG_ARGV_UNKNOWN;
	}
	return 0;
}

/* The facts that hold for any running program, new or long there. */
static __always_inline u32 fill_program(struct record_exec *r, struct task_struct *task)
{
	u32 flags = fill_creds(&r->creds, task);

	fill_parent(&r->parent, task->real_parent);
	fill_namespaces(&r->namespaces, task);
	r->cgroup_id = cgroup_id(task);
	bpf_core_read(r->comm, sizeof(r->comm), &task->comm);
	return flags | fill_files(r, task, task->mm);
}

#endif
