// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"crypto/sha256"
	_ "embed" // for objects.json
	"encoding/json"
	"fmt"

	"github.com/cilium/ebpf"
)

// Facts say what the sensor is, for the evidence.
type Facts struct {
	Object   [sha256.Size]byte // SHA-256 of the embedded object
	Compiler string            // what made it
	Programs []ProgramFact
}

// ProgramFact is one kernel program as loaded.
type ProgramFact struct {
	Name   string
	Attach string // section name: type and attach point
	Tag    string // the kernel's hash over its instructions
	Fired  bool   // its work has arrived here since Open
}

// manifest is what go generate wrote down about the object.
//
//go:embed objects.json
var manifest []byte

// Programs returns the facts about the loaded programs. It refuses when the
// embedded object is not the one the manifest names.
func (s *Sensor) Programs() (Facts, error) {
	var m struct{ Compiler, Core string }
	if err := json.Unmarshal(manifest, &m); err != nil {
		return Facts{}, fmt.Errorf("malformed objects.json: %v", err)
	}
	if err := s.use(); err != nil {
		return Facts{}, err
	}
	defer s.using.RUnlock()
	facts := Facts{Object: sha256.Sum256(_CoreBytes), Compiler: m.Compiler}
	if have := fmt.Sprintf("%x", facts.Object); have != m.Core {
		return Facts{}, fmt.Errorf("embedded object has sha-256 %s, objects.json says %q", have, m.Core)
	}
	for _, p := range s.programs() {
		info, err := p.program.Info()
		if err != nil {
			return Facts{}, fmt.Errorf("asking the kernel about program %s: %w", p.name, err)
		}
		facts.Programs = append(facts.Programs, ProgramFact{
			Name: p.name, Attach: p.attach, Tag: info.Tag, Fired: s.fired[p.kind].Load(),
		})
	}
	return facts, nil
}

type program struct {
	name, attach string
	program      *ebpf.Program
	kind         Kind // of the events it makes
	signals      []string
}

// programs lists the programs in the order they are attached: exits first,
// so that no state is handed over before its heir can be seen to exec.
func (s *Sensor) programs() []program {
	return []program{
		{coreProgOnExit, "tp_btf/sched_process_exit", s.objects.OnExit, KindExit, []string{"exit"}},
		{coreProgOnExec, "tp_btf/sched_process_exec", s.objects.OnExec, KindExec, []string{"exec"}},
		{coreProgOnFork, "tp_btf/sched_process_fork", s.objects.OnFork, KindFork, []string{"fork"}},
		{coreProgOnCgroup, "tp_btf/cgroup_attach_task", s.objects.OnCgroup, KindCgroup, []string{"cgroup-move"}},
		{coreProgOnTask, "iter/task", s.objects.OnTask, KindSeen, nil},
	}
}
