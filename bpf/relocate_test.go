// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"bytes"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// oldTypes are the running kernel's types with what a kernel of 5.15 lacks
// taken out, so that the programs are relocated as for that kernel.
func oldTypes(t *testing.T) *btf.Spec {
	t.Helper()
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	changed := make(map[string]bool)
	var types []btf.Type
	for ty, err := range kernel.All() {
		if err != nil {
			t.Fatal(err)
		}
		switch ty := ty.(type) {
		case *btf.Enum:
			n := len(ty.Values)
			ty.Values = slices.DeleteFunc(ty.Values, func(v btf.EnumValue) bool {
				return v.Name == "BPF_FUNC_find_vma" || v.Name == "BPF_FUNC_loop"
			})
			changed["helpers"] = changed["helpers"] || len(ty.Values) == n-2
		case *btf.Struct:
			for i := range ty.Members {
				if ty.Name == "signal_struct" && ty.Members[i].Name == "group_exec_task" {
					ty.Members[i].Name = "group_exit_task"
					changed["group_exec_task"] = true
				}
			}
		}
		types = append(types, ty)
	}
	if !changed["helpers"] || !changed["group_exec_task"] {
		t.Fatalf("the running kernel is as old: changed only %v", changed)
	}
	builder, err := btf.NewBuilder(types, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := builder.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// The branches for old kernels pass the verifier too.
func TestProgramsLoadWithOldTypes(t *testing.T) {
	needKernel(t)
	spec, err := loadCore()
	if err != nil {
		t.Fatal(err)
	}
	var objects coreObjects
	options := ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{KernelTypes: oldTypes(t)}}
	if err := spec.LoadAndAssign(&objects, &options); err != nil {
		t.Fatalf("%+v", err)
	}
	objects.Close()
}
