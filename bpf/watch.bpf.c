//go:build ignore

// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
// SPDX-FileCopyrightText: The jurat authors

/*
 * What spoils a process, and what it opens, on kernels that allow tracepoints
 * only. It shares its maps with the core and loads apart from it.
 *
 * Programs sit where a system call has returned, each at its own tracepoint:
 * what was tried and refused is nothing, or anybody could taint anybody. What
 * was done is read from the kernel's own objects (the file behind the returned
 * descriptor, the task that is traced), never from the caller's memory.
 *
 * Not seen: system calls through the 32-bit entry (int 0x80), work that
 * io_uring does (having io_uring is itself a taint), a descriptor that another
 * thread replaced before the call returned, descriptors that were passed.
 */

#include "vmlinux.h"
#include "headers/bpf_helpers.h"
#include "record.h"
#include "sensor.h"
#include "facts.h"
#include "taint.h"
#include "open.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Set before loading where tracepoint programs may look up tasks (6.12 and newer). */
const volatile bool finds_tasks = false;

extern struct task_struct *bpf_task_from_pid(s32 pid) __ksym __weak;
extern struct task_struct *bpf_task_from_vpid(s32 vpid) __ksym __weak;
extern void bpf_task_release(struct task_struct *task) __ksym __weak;

#define PTRACE_TRACEME 0
#define PTRACE_ATTACH 16
#define PTRACE_SEIZE 0x4206
#define PR_SET_MM 35
#define BPF_PROG_LOAD 5
#define PID_NS_INIT_INUM 0xeffffffc

/* The first two arguments of the system call that just returned. */
static __always_inline void arguments(struct task_struct *task, u64 *first, u64 *second)
{
	struct pt_regs___x86 *x86 = (void *)bpf_task_pt_regs(task);
	struct pt_regs___arm64 *arm64 = (void *)x86;

	if (bpf_core_field_exists(x86->di)) {
		bpf_core_read(first, sizeof(*first), &x86->di);
		bpf_core_read(second, sizeof(*second), &x86->si);
	} else if (bpf_core_field_exists(arm64->orig_x0)) {
		bpf_core_read(first, sizeof(*first), &arm64->orig_x0);
		bpf_core_read(second, sizeof(*second), &arm64->regs[1]);
	}
}

/* Taints the process with a thread of that number in the initial pid namespace. */
static __always_inline void taint_tid(s32 tid, struct task_struct *by, u32 taint, u32 hook)
{
	struct task_struct *leader, *task;

	if (!finds_tasks || !bpf_task_from_pid || !bpf_task_release)
		return;
	task = bpf_task_from_pid(tid);
	if (!task)
		return;
	s32 tgid = task->tgid;
	bpf_task_release(task);
	leader = bpf_task_from_pid(tgid);
	if (!leader)
		return;
	taint_program(leader, by, taint, hook);
	bpf_task_release(leader);
}

/* The same, by a number of the caller's own pid namespace. */
static __always_inline void taint_vpid(s32 vpid, struct task_struct *by, u32 taint, u32 hook)
{
	if (!finds_tasks)
		return;
	if (!bpf_task_from_vpid || !bpf_task_release) {
		if (pid_namespace(by) == PID_NS_INIT_INUM)
			taint_tid(vpid, by, taint, hook);
		return;
	}
	struct task_struct *task = bpf_task_from_vpid(vpid);
	if (!task)
		return;
	s32 tgid = task->tgid;
	bpf_task_release(task);
	taint_tid(tgid, by, taint, hook);
}

SEC("tracepoint/syscalls/sys_exit_ptrace")
int on_ptrace(struct syscall_trace_exit *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u64 request = 0, vpid = 0;

	if (ctx->ret)
		return 0;
	arguments(task, &request, &vpid);
	if (request == PTRACE_TRACEME)
		taint_program(task->group_leader, task->parent, TAINT_TRACED, HOOK_PTRACE);
	else if (request == PTRACE_ATTACH || request == PTRACE_SEIZE)
		taint_vpid(vpid, task, TAINT_TRACED, HOOK_PTRACE);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_process_vm_writev")
int on_vm_writev(struct syscall_trace_exit *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u64 vpid = 0, unused;

	if (ctx->ret <= 0)
		return 0;
	arguments(task, &vpid, &unused);
	taint_vpid(vpid, task, TAINT_MEMORY_WRITTEN, HOOK_VM_WRITEV);
	return 0;
}

static __always_inline void taint_self(u32 taint, u32 hook)
{
	struct task_struct *task = bpf_get_current_task_btf();

	taint_program(task->group_leader, task, taint, hook);
}

/* Other namespaces than network, time and the like do not change what a path means. */
static __always_inline int namespaces(long ret, u32 hook)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct state now = {};

	if (ret)
		return 0;
	struct state *s = state_of(task->group_leader, this_cpu());
	note_namespaces(&now, task);
	if (s && (now.mnt != s->mnt || now.user != s->user || now.pid != s->pid))
		taint_self(TAINT_NAMESPACE_CHANGED, hook);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_setns")
int on_setns(struct syscall_trace_exit *ctx)
{
	return namespaces(ctx->ret, HOOK_SETNS);
}

SEC("tracepoint/syscalls/sys_exit_unshare")
int on_unshare(struct syscall_trace_exit *ctx)
{
	return namespaces(ctx->ret, HOOK_UNSHARE);
}

SEC("tracepoint/syscalls/sys_exit_chroot")
int on_chroot(struct syscall_trace_exit *ctx)
{
	if (!ctx->ret)
		taint_self(TAINT_NAMESPACE_CHANGED, HOOK_CHROOT);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_pivot_root")
int on_pivot_root(struct syscall_trace_exit *ctx)
{
	if (!ctx->ret)
		taint_self(TAINT_NAMESPACE_CHANGED, HOOK_PIVOT_ROOT);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_mount")
int on_mount(struct syscall_trace_exit *ctx)
{
	if (!ctx->ret)
		taint_self(TAINT_MOUNTED_OVER, HOOK_MOUNT);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_move_mount")
int on_move_mount(struct syscall_trace_exit *ctx)
{
	if (!ctx->ret)
		taint_self(TAINT_MOUNTED_OVER, HOOK_MOVE_MOUNT);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_umount")
int on_umount(struct syscall_trace_exit *ctx)
{
	if (!ctx->ret)
		taint_self(TAINT_MOUNTED_OVER, HOOK_UMOUNT);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_prctl")
int on_prctl(struct syscall_trace_exit *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u64 option = 0, unused;

	if (ctx->ret)
		return 0;
	arguments(task, &option, &unused);
	if ((u32)option == PR_SET_MM)
		taint_program(task->group_leader, task, TAINT_MM_CHANGED, HOOK_PRCTL);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_userfaultfd")
int on_userfaultfd(struct syscall_trace_exit *ctx)
{
	if (ctx->ret >= 0)
		taint_self(TAINT_USERFAULTFD, HOOK_USERFAULTFD);
	return 0;
}

SEC("tp_btf/io_uring_create")
int BPF_PROG(on_io_uring)
{
	taint_self(TAINT_IO_URING, HOOK_IO_URING);
	return 0;
}

SEC("tp_btf/module_load")
int BPF_PROG(on_module)
{
	taint_host(bpf_get_current_task_btf(), TAINT_MODULE_LOADED, HOOK_MODULE);
	return 0;
}

/* Programs that can watch, answer for or change what the rest of the kernel does. */
#define MEDDLING \
	(1ULL << 2 /* kprobe */ | 1ULL << 5 /* tracepoint */ | 1ULL << 7 /* perf_event */ | 1ULL << 17 /* raw_tracepoint */ | \
	 1ULL << 24 /* raw_tracepoint_writable */ | 1ULL << 26 /* tracing */ | 1ULL << 27 /* struct_ops */ | \
	 1ULL << 28 /* ext */ | 1ULL << 29 /* lsm */ | 1ULL << 31 /* syscall */)

SEC("tracepoint/syscalls/sys_exit_bpf")
int on_bpf(struct syscall_trace_exit *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct task_struct *leader = task->group_leader;
	struct control *k = controls();
	struct bpf_prog *prog = NULL;
	u64 command = 0, unused;
	u32 type = 0;

	if (ctx->ret < 0)
		return 0;
	arguments(task, &command, &unused);
	if ((u32)command != BPF_PROG_LOAD || leader->tgid == 1)
		return 0;
	if (k && k->agent == leader->tgid && k->agent_start == leader->start_boottime)
		return 0;
	struct file *file = file_of(task, ctx->ret);
	if (file) {
		bpf_core_read(&prog, sizeof(prog), &file->private_data);
		bpf_core_read(&type, sizeof(type), &prog->type);
	}
	if (!file || type > 63 || MEDDLING & (1ULL << (type & 63)))
		taint_host(task, TAINT_BPF_LOADED, HOOK_BPF);
	return 0;
}

/* A process's memory as a file, opened for writing. */
static __always_inline void memory_file(struct task_struct *by, struct inode *inode, u32 hook)
{
	struct proc_inode *proc = container_of(inode, struct proc_inode, vfs_inode);
	struct pid *pid = NULL;
	s32 tid = 0, own = by->tgid;

	bpf_core_read(&pid, sizeof(pid), &proc->pid);
	bpf_core_read(&tid, sizeof(tid), &pid->numbers[0].nr);
	if (tid == own)
		taint_program(by->group_leader, by, TAINT_MEMORY_WRITTEN_SELF, hook);
	else
		taint_tid(tid, by, TAINT_MEMORY_WRITTEN, hook);
}

static __always_inline int opened(long fd, u32 hook)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct look look = {};

	if (fd < 0)
		return 0;
	struct file *file = file_of(task, fd);
	if (!file || !look_at(&look, file))
		return 0;
	u32 class = class_of(&look);
	if (class)
		tell_open(task, file, &look, class, hook);
	else if (is_memory(&look))
		memory_file(task, look.inode, hook);
	else if (is_userfaultfd(&look))
		taint_program(task->group_leader, task, TAINT_USERFAULTFD, hook);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_open")
int on_open(struct syscall_trace_exit *ctx)
{
	return opened(ctx->ret, HOOK_OPEN);
}

SEC("tracepoint/syscalls/sys_exit_openat")
int on_openat(struct syscall_trace_exit *ctx)
{
	return opened(ctx->ret, HOOK_OPENAT);
}

SEC("tracepoint/syscalls/sys_exit_openat2")
int on_openat2(struct syscall_trace_exit *ctx)
{
	return opened(ctx->ret, HOOK_OPENAT2);
}

SEC("tracepoint/syscalls/sys_exit_open_by_handle_at")
int on_open_by_handle(struct syscall_trace_exit *ctx)
{
	return opened(ctx->ret, HOOK_OPEN_BY_HANDLE);
}
