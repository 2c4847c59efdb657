// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package bpf

import "fmt"

// Hook is the place in the kernel that saw something.
type Hook uint8

// The hooks of the tracepoint tier (record.h).
const (
	hookExec Hook = iota + 1
	hookPtrace
	hookVMWritev
	hookOpen
	hookOpenat
	hookOpenat2
	hookOpenByHandle
	hookSetns
	hookUnshare
	hookChroot
	hookPivotRoot
	hookMount
	hookMoveMount
	hookUmount
	hookPrctl
	hookBPF
	hookUserfaultfd
	hookIOUring
	hookModule
)

// hookNames are the hooks by their numbers in record.h. The tracepoint tier
// numbers from 1, the others from 64.
var hookNames = [256]string{
	hookExec:         "tp_btf/sched_process_exec",
	hookPtrace:       "tracepoint/syscalls/sys_exit_ptrace",
	hookVMWritev:     "tracepoint/syscalls/sys_exit_process_vm_writev",
	hookOpen:         "tracepoint/syscalls/sys_exit_open",
	hookOpenat:       "tracepoint/syscalls/sys_exit_openat",
	hookOpenat2:      "tracepoint/syscalls/sys_exit_openat2",
	hookOpenByHandle: "tracepoint/syscalls/sys_exit_open_by_handle_at",
	hookSetns:        "tracepoint/syscalls/sys_exit_setns",
	hookUnshare:      "tracepoint/syscalls/sys_exit_unshare",
	hookChroot:       "tracepoint/syscalls/sys_exit_chroot",
	hookPivotRoot:    "tracepoint/syscalls/sys_exit_pivot_root",
	hookMount:        "tracepoint/syscalls/sys_exit_mount",
	hookMoveMount:    "tracepoint/syscalls/sys_exit_move_mount",
	hookUmount:       "tracepoint/syscalls/sys_exit_umount",
	hookPrctl:        "tracepoint/syscalls/sys_exit_prctl",
	hookBPF:          "tracepoint/syscalls/sys_exit_bpf",
	hookUserfaultfd:  "tracepoint/syscalls/sys_exit_userfaultfd",
	hookIOUring:      "tp_btf/io_uring_create",
	hookModule:       "tp_btf/module_load",
}

// Numbers of the first site in each tier above (HOOK_BASE).
const (
	hookLSM        Hook = 64
	hookTrampoline Hook = 96
)

// Sites that are asked about by themselves (enum site of hooks.h).
const (
	siteBprmCheck     Hook = 0
	siteBprmCommitted Hook = 1
	siteReadFile      Hook = 15
	siteLoadData      Hook = 16
	siteRefusal       Hook = 21
	sites                  = 32
)

// places are the sites in either tier; empty: the tier has no such program.
var places = [sites]struct{ lsm, call string }{
	siteBprmCheck:     {"lsm/bprm_check_security", "fentry/security_bprm_check"},
	siteBprmCommitted: {"lsm/bprm_committed_creds", "fentry/security_bprm_committed_creds"},
	2:                 {"lsm.s/bprm_committed_creds", ""},
	3:                 {"lsm/mmap_file", "fentry/security_mmap_file"},
	4:                 {"lsm/file_mprotect", "fentry/security_file_mprotect"},
	5:                 {"lsm/file_open", "fentry/security_file_open"},
	6:                 {"lsm/ptrace_access_check", "fentry/security_ptrace_access_check"},
	7:                 {"lsm/ptrace_traceme", "fentry/security_ptrace_traceme"},
	8:                 {"fentry/commit_creds", "fentry/commit_creds"},
	9:                 {"lsm/sb_mount", "fentry/security_sb_mount"},
	10:                {"lsm/move_mount", "fentry/security_move_mount"},
	11:                {"lsm/sb_pivotroot", "fentry/security_sb_pivotroot"},
	12:                {"lsm/path_chroot", "fentry/security_path_chroot"},
	13:                {"fentry/switch_task_namespaces", "fentry/switch_task_namespaces"},
	14:                {"lsm/task_prctl", "fentry/security_task_prctl"},
	siteReadFile:      {"lsm/kernel_read_file", "fentry/security_kernel_read_file"},
	siteLoadData:      {"lsm/kernel_load_data", "fentry/security_kernel_load_data"},
	17:                {"lsm/bpf", "fentry/security_bpf"},
	18:                {"lsm/bpf_prog", "fentry/security_bpf_prog"},
	19:                {"lsm/inode_init_security_anon", "fentry/security_inode_init_security_anon"},
	20:                {"lsm/sb_umount", "fentry/security_sb_umount"},
	siteRefusal:       {"", "fmod_ret/security_bprm_check"},
}

// String returns type and place of the hook, as its program's section has it.
func (h Hook) String() string {
	name := hookNames[h]
	switch {
	case h >= hookTrampoline && h < hookTrampoline+sites:
		name = places[h-hookTrampoline].call
	case h >= hookLSM && h < hookLSM+sites:
		name = places[h-hookLSM].lsm
	}
	if name == "" {
		return fmt.Sprintf("hook-%d", uint8(h))
	}
	return name
}
