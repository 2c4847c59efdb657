//go:build ignore

// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
// SPDX-FileCopyrightText: The jurat authors

/*
 * The trampoline tier, for kernels without "bpf" among the active LSMs:
 * programs on the functions that call the LSMs. They see what the lsm tier
 * sees but digests, and may refuse.
 */

#define PREEMPTIBLE
#define HOOK_BASE 96

#include "vmlinux.h"
#include "headers/bpf_helpers.h"
#include "record.h"
#include "sensor.h"
#include "facts.h"
#include "taint.h"
#include "open.h"
#include "hooks.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

SEC("fentry/security_bprm_check")
int BPF_PROG(on_bprm_check, struct linux_binprm *bprm)
{
	at_bprm_check(bprm, HOOK_BASE + SITE_BPRM_CHECK);
	return 0;
}

SEC("fmod_ret/security_bprm_check")
int BPF_PROG(on_refusal, struct linux_binprm *bprm, int ret)
{
	return ret ? ret : refusal();
}

SEC("fentry/security_bprm_committed_creds")
int BPF_PROG(on_bprm_committed, struct linux_binprm *bprm)
{
	at_bprm_committed();
	return 0;
}

SEC("fentry/security_mmap_file")
int BPF_PROG(on_mmap_file, struct file *file, unsigned long prot, unsigned long flags)
{
	at_mmap(file, prot, HOOK_BASE + SITE_MMAP_FILE);
	return 0;
}

SEC("fentry/security_file_mprotect")
int BPF_PROG(on_file_mprotect, struct vm_area_struct *vma, unsigned long asked, unsigned long prot)
{
	at_mprotect(vma, prot, HOOK_BASE + SITE_FILE_MPROTECT);
	return 0;
}

SEC("fentry/security_file_open")
int BPF_PROG(on_file_open, struct file *file)
{
	at_open(file, HOOK_BASE + SITE_FILE_OPEN);
	return 0;
}

SEC("fentry/security_ptrace_access_check")
int BPF_PROG(on_ptrace_access, struct task_struct *child, unsigned int mode)
{
	at_ptrace_access(child, mode, HOOK_BASE + SITE_PTRACE_ACCESS);
	return 0;
}

SEC("fentry/security_ptrace_traceme")
int BPF_PROG(on_ptrace_traceme, struct task_struct *parent)
{
	at_traceme(parent, HOOK_BASE + SITE_PTRACE_TRACEME);
	return 0;
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

SEC("fentry/security_sb_mount")
int BPF_PROG(on_sb_mount, const char *from, const struct path *at, const char *type, unsigned long flags, void *data)
{
	at_mount(SITE_SB_MOUNT, HOOK_BASE);
	return 0;
}

SEC("fentry/security_sb_umount")
int BPF_PROG(on_sb_umount, struct vfsmount *mnt, int flags)
{
	at_mount(SITE_SB_UMOUNT, HOOK_BASE);
	return 0;
}

SEC("fentry/security_move_mount")
int BPF_PROG(on_move_mount, const struct path *from, const struct path *to)
{
	at_mount(SITE_MOVE_MOUNT, HOOK_BASE);
	return 0;
}

SEC("fentry/security_sb_pivotroot")
int BPF_PROG(on_pivot_root, const struct path *from, const struct path *to)
{
	at_root(SITE_PIVOT_ROOT, HOOK_BASE);
	return 0;
}

SEC("fentry/security_path_chroot")
int BPF_PROG(on_chroot, const struct path *to)
{
	at_root(SITE_CHROOT, HOOK_BASE);
	return 0;
}

SEC("fentry/security_task_prctl")
int BPF_PROG(on_prctl, int option, unsigned long b, unsigned long c, unsigned long d, unsigned long e)
{
	at_prctl(option, HOOK_BASE + SITE_PRCTL);
	return 0;
}

SEC("fentry/security_kernel_read_file")
int BPF_PROG(on_read_file, struct file *file, int id, bool contents)
{
	at_module(id, SITE_READ_FILE, HOOK_BASE);
	return 0;
}

SEC("fentry/security_kernel_load_data")
int BPF_PROG(on_load_data, int id, bool contents)
{
	at_module(id, SITE_LOAD_DATA, HOOK_BASE);
	return 0;
}

SEC("fentry/security_bpf")
int BPF_PROG(on_bpf, int cmd, union bpf_attr *attr, unsigned int size)
{
	at_bpf(cmd);
	return 0;
}

SEC("fentry/security_bpf_prog")
int BPF_PROG(on_bpf_prog, struct bpf_prog *prog)
{
	at_bpf_prog(prog, HOOK_BASE + SITE_BPF_PROG);
	return 0;
}

SEC("fentry/security_inode_init_security_anon")
int BPF_PROG(on_init_anon, struct inode *inode, const struct qstr *name, const struct inode *context)
{
	at_init_anon(name, HOOK_BASE + SITE_INIT_ANON);
	return 0;
}
