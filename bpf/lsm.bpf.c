//go:build ignore

// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
// SPDX-FileCopyrightText: The jurat authors

/*
 * The lsm tier: programs on the hooks of the BPF LSM. They run only where
 * "bpf" is among the active LSMs; elsewhere they attach, and never run.
 *
 * A hook that decides hands on what the program before it decided: one that
 * answered 0 instead could turn a refusal into a permission.
 */

#define PREEMPTIBLE
#define HOOK_BASE 64

#include "vmlinux.h"
#include "headers/bpf_helpers.h"
#include "record.h"
#include "sensor.h"
#include "facts.h"
#include "taint.h"
#include "open.h"
#include "hooks.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

extern int bpf_get_fsverity_digest(struct file *file, struct bpf_dynptr *digest) __ksym __weak;

SEC("lsm/bprm_check_security")
int BPF_PROG(on_bprm_check, struct linux_binprm *bprm, int ret)
{
	at_bprm_check(bprm, HOOK_BASE + SITE_BPRM_CHECK);
	return ret ? ret : refusal();
}

SEC("lsm/bprm_committed_creds")
int BPF_PROG(on_bprm_committed, struct linux_binprm *bprm)
{
	at_bprm_committed();
	return 0;
}

SEC("lsm/mmap_file")
int BPF_PROG(on_mmap_file, struct file *file, unsigned long asked, unsigned long prot, unsigned long flags, int ret)
{
	at_mmap(file, prot, HOOK_BASE + SITE_MMAP_FILE);
	return ret;
}

SEC("lsm/file_mprotect")
int BPF_PROG(on_file_mprotect, struct vm_area_struct *vma, unsigned long asked, unsigned long prot, int ret)
{
	at_mprotect(vma, prot, HOOK_BASE + SITE_FILE_MPROTECT);
	return ret;
}

SEC("lsm/file_open")
int BPF_PROG(on_file_open, struct file *file, int ret)
{
	at_open(file, HOOK_BASE + SITE_FILE_OPEN);
	return ret;
}

SEC("lsm/ptrace_access_check")
int BPF_PROG(on_ptrace_access, struct task_struct *child, unsigned int mode, int ret)
{
	at_ptrace_access(child, mode, HOOK_BASE + SITE_PTRACE_ACCESS);
	return ret;
}

SEC("lsm/ptrace_traceme")
int BPF_PROG(on_ptrace_traceme, struct task_struct *parent, int ret)
{
	at_traceme(parent, HOOK_BASE + SITE_PTRACE_TRACEME);
	return ret;
}

SEC("fentry/commit_creds")
int BPF_PROG(on_commit_creds, struct cred *next)
{
	at_commit_creds(next, HOOK_BASE + SITE_COMMIT_CREDS);
	return 0;
}

SEC("fentry/switch_task_namespaces")
int BPF_PROG(on_namespaces, struct task_struct *task, struct nsproxy *to)
{
	at_namespaces(task, to, HOOK_BASE + SITE_NAMESPACES);
	return 0;
}

SEC("lsm/sb_mount")
int BPF_PROG(on_sb_mount, const char *from, const struct path *at, const char *type, unsigned long flags, void *data, int ret)
{
	at_mount(SITE_SB_MOUNT, HOOK_BASE);
	return ret;
}

SEC("lsm/sb_umount")
int BPF_PROG(on_sb_umount, struct vfsmount *mnt, int flags, int ret)
{
	at_mount(SITE_SB_UMOUNT, HOOK_BASE);
	return ret;
}

SEC("lsm/move_mount")
int BPF_PROG(on_move_mount, const struct path *from, const struct path *to, int ret)
{
	at_mount(SITE_MOVE_MOUNT, HOOK_BASE);
	return ret;
}

SEC("lsm/sb_pivotroot")
int BPF_PROG(on_pivot_root, const struct path *from, const struct path *to, int ret)
{
	at_root(SITE_PIVOT_ROOT, HOOK_BASE);
	return ret;
}

SEC("lsm/path_chroot")
int BPF_PROG(on_chroot, const struct path *to, int ret)
{
	at_root(SITE_CHROOT, HOOK_BASE);
	return ret;
}

SEC("lsm/task_prctl")
int BPF_PROG(on_prctl, int option, unsigned long b, unsigned long c, unsigned long d, unsigned long e, int ret)
{
	at_prctl(option, HOOK_BASE + SITE_PRCTL);
	return ret;
}

SEC("lsm/kernel_read_file")
int BPF_PROG(on_read_file, struct file *file, int id, bool contents, int ret)
{
	at_module(id, SITE_READ_FILE, HOOK_BASE);
	return ret;
}

SEC("lsm/kernel_load_data")
int BPF_PROG(on_load_data, int id, bool contents, int ret)
{
	at_module(id, SITE_LOAD_DATA, HOOK_BASE);
	return ret;
}

SEC("lsm/bpf")
int BPF_PROG(on_bpf, int cmd, union bpf_attr *attr, unsigned int size, int ret)
{
	at_bpf(cmd);
	return ret;
}

SEC("lsm/bpf_prog")
int BPF_PROG(on_bpf_prog, struct bpf_prog *prog, int ret)
{
	at_bpf_prog(prog, HOOK_BASE + SITE_BPF_PROG);
	return ret;
}

SEC("lsm/inode_init_security_anon")
int BPF_PROG(on_init_anon, struct inode *inode, const struct qstr *name, const struct inode *context, int ret)
{
	at_init_anon(name, HOOK_BASE + SITE_INIT_ANON);
	return ret;
}

/*
 * Digests the kernel has anyway. IMA is asked for what it measured at this
 * exec, never to measure: without a policy it would read the whole file.
 */
SEC("lsm.s/bprm_committed_creds")
int BPF_PROG(on_digest, struct linux_binprm *bprm)
{
	struct pending *p = pending_of(bpf_get_current_task_btf());
	struct file *file = bprm->file;
	struct bpf_dynptr out;

	saw(SITE_BPRM_DIGEST);
	if (!p || !file)
		return 0;
	struct inode *inode = file->f_inode;
	if (inode && bpf_ima_inode_hash(inode, p->digest, DIGEST_MAX) == HASH_ALGO_SHA256) {
		p->digest_algorithm = HASH_ALGO_SHA256;
		p->digest_source = DIGEST_IMA;
		has_ima = 1;
		return 0;
	}
	if (!bpf_get_fsverity_digest)
		return 0;
	has_verity = 1;
	if (bpf_dynptr_from_mem(&p->verity, sizeof(p->verity), 0, &out) || bpf_get_fsverity_digest(file, &out) < 0)
		return 0;
	if (p->verity.algorithm == FS_VERITY_HASH_ALG_SHA256 && p->verity.size == DIGEST_MAX) {
		__builtin_memcpy(p->digest, p->verity.digest, DIGEST_MAX);
		p->digest_algorithm = FS_VERITY_HASH_ALG_SHA256;
		p->digest_source = DIGEST_FSVERITY;
	}
	return 0;
}
