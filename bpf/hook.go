// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package bpf

import "fmt"

// Hook is the place in the kernel that saw something.
type Hook uint8

// hookNames are the hooks by their numbers in record.h. The tracepoint tier
// numbers from 1, the others from 64.
var hookNames = [256]string{
	1: "tp_btf/sched_process_exec",
}

// String returns type and place of the hook, as its program's section has it.
func (h Hook) String() string {
	if name := hookNames[h]; name != "" {
		return name
	}
	return fmt.Sprintf("hook-%d", uint8(h))
}
