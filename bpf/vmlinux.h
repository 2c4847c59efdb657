/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* SPDX-FileCopyrightText: The jurat authors */
/*
 * The kernel's types as far as our programs read them. Offsets mean nothing
 * here: every access is relocated at load time against the running kernel's
 * BTF. A name with a ___suffix is the same type as an older kernel has it;
 * its fields are read only where the kernel says they exist.
 */
#ifndef JURAT_VMLINUX_H
#define JURAT_VMLINUX_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;
typedef _Bool bool;

enum {
	false = 0,
	true = 1,
};

typedef int pid_t;
typedef u32 dev_t;
typedef unsigned short umode_t;

enum {
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};

enum {
	BPF_F_NO_PREALLOC = 1,
	BPF_F_MMAPABLE = 1024,
};

enum {
	BPF_LOCAL_STORAGE_GET_F_CREATE = 1,
};

enum {
	BPF_RB_NO_WAKEUP = 1,
};

/* Its members tell which helpers the kernel has. */
enum bpf_func_id {
	BPF_FUNC_find_vma = 180,
	BPF_FUNC_loop = 181,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct seq_file;

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	u32 val;
} kuid_t;

typedef struct {
	u32 val;
} kgid_t;

/* Two words of 32 bits before 6.3; the same eight bytes on little-endian. */
typedef struct {
	u64 val;
} kernel_cap_t;

struct timespec64 {
	s64 tv_sec;
	long tv_nsec;
};

struct ns_common {
	unsigned int inum;
};

struct user_namespace {
	struct ns_common ns;
};

struct pid_namespace {
	struct ns_common ns;
};

struct mnt_namespace {
	struct ns_common ns;
};

struct uts_namespace {
	struct ns_common ns;
};

struct ipc_namespace {
	struct ns_common ns;
};

struct cgroup_namespace {
	struct ns_common ns;
};

struct net {
	struct ns_common ns;
};

struct list_head {
	struct list_head *next;
};

struct nsproxy {
	struct uts_namespace *uts_ns;
	struct ipc_namespace *ipc_ns;
	struct mnt_namespace *mnt_ns;
	struct pid_namespace *pid_ns_for_children;
	struct net *net_ns;
	struct cgroup_namespace *cgroup_ns;
};

struct hlist_node {
	struct hlist_node *next;
};

struct hlist_head {
	struct hlist_node *first;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	u64 ino; /* 6.9 and newer */
	struct hlist_head tasks[1];
	struct upid numbers[1];
};

struct cred {
	kuid_t uid;
	kgid_t gid;
	kuid_t suid;
	kgid_t sgid;
	kuid_t euid;
	kgid_t egid;
	kuid_t fsuid;
	kgid_t fsgid;
	unsigned int securebits;
	kernel_cap_t cap_inheritable;
	kernel_cap_t cap_permitted;
	kernel_cap_t cap_effective;
	kernel_cap_t cap_bset;
	kernel_cap_t cap_ambient;
	struct user_namespace *user_ns;
};

struct super_block {
	dev_t s_dev;
	unsigned long s_magic;
};

struct address_space {
	atomic_t i_mmap_writable;
};

struct inode {
	umode_t i_mode;
	struct super_block *i_sb;
	struct address_space *i_mapping;
	unsigned long i_ino;
	union {
		const unsigned int i_nlink;
		unsigned int __i_nlink;
	};
	s64 i_size;
	s64 i_ctime_sec; /* 6.11 and newer */
	u32 i_ctime_nsec;
	u32 i_generation;
	atomic_t i_writecount;
};

struct inode___6_6 {
	struct timespec64 __i_ctime; /* 6.6 to 6.10 */
};

struct inode___5_15 {
	struct timespec64 i_ctime; /* up to 6.5 */
};

struct vfsmount;

struct qstr {
	union {
		struct {
			u32 hash;
			u32 len;
		};
		u64 hash_len;
	};
	const unsigned char *name;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	unsigned int f_mode;
	struct inode *f_inode;
	struct path f_path;
	void *private_data;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
	struct mnt_namespace *mnt_ns;
};

struct proc_inode {
	struct pid *pid;
	struct inode vfs_inode;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct fs_struct {
	struct path root;
};

enum bpf_prog_type {
	BPF_PROG_TYPE_UNSPEC = 0,
};

union bpf_attr {
	u32 command;
};

struct bpf_dynptr {
	u64 opaque[2];
};

struct bpf_prog {
	enum bpf_prog_type type;
};

/* Arguments of a system call: on x86 where the call put them, on arm64 where the kernel keeps the first. */
struct pt_regs___x86 {
	unsigned long orig_ax;
	unsigned long di;
	unsigned long si;
};

struct pt_regs___arm64 {
	s32 syscallno;
	u64 regs[31];
	u64 orig_x0;
};

struct vm_area_struct {
	unsigned long vm_flags;
	struct file *vm_file;
};

struct mm_struct {
	unsigned long start_code;
	unsigned long arg_start;
	unsigned long arg_end;
	unsigned long env_start;
	unsigned long env_end;
	struct file *exe_file;
};

struct kernfs_node {
	u64 id;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup {
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct seccomp {
	int mode;
	atomic_t filter_count;
};

struct task_struct;

struct signal_struct {
	atomic_t live;
	int group_exit_code;
	struct task_struct *group_exec_task; /* 5.16 and newer */
	unsigned int flags;
};

struct signal_struct___5_15 {
	struct task_struct *group_exit_task;
};

struct thread_info {
	u32 status; /* x86 */
};

struct task_struct {
	struct thread_info thread_info;
	unsigned int in_execve : 1;
	struct hlist_node pid_links[1];
	unsigned int flags;
	unsigned int ptrace;
	struct mm_struct *mm;
	int exit_code;
	unsigned long atomic_flags;
	pid_t pid;
	pid_t tgid;
	struct task_struct *real_parent;
	struct task_struct *parent;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	u64 start_boottime;
	const struct cred *cred;
	char comm[16];
	struct fs_struct *fs;
	struct files_struct *files;
	struct nsproxy *nsproxy;
	void *io_uring;
	struct signal_struct *signal;
	struct seccomp seccomp;
	u64 self_exec_id;
	struct css_set *cgroups;
};

struct linux_binprm {
	char buf[256];
	struct file *file;
	unsigned int secureexec : 1;
	int argc;
	const char *filename;
	const char *interp;
};

/* What a program at a syscalls/sys_exit_* tracepoint is given. */
struct syscall_trace_exit {
	int nr;
	long ret;
};

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

#pragma clang attribute pop

#endif
