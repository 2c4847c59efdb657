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

// String returns type and place of the hook, as its program's section has it.
func (h Hook) String() string {
	if name := hookNames[h]; name != "" {
		return name
	}
	return fmt.Sprintf("hook-%d", uint8(h))
}
