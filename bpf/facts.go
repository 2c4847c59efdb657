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
	Object   [sha256.Size]byte // SHA-256 over the SHA-256 of each embedded object: core, watch, lsm, trampoline
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

// embedded are the objects of this build.
var embedded = []struct {
	name  string
	bytes []byte
}{{"core", _CoreBytes}, {"watch", _WatchBytes}, {"lsm", _LsmBytes}, {"trampoline", _TrampolineBytes}}

// Programs returns the facts about the loaded programs. It refuses when the
// embedded object is not the one the manifest names.
func (s *Sensor) Programs() (Facts, error) {
	var m map[string]string
	if err := json.Unmarshal(manifest, &m); err != nil {
		return Facts{}, fmt.Errorf("malformed objects.json: %v", err)
	}
	if err := s.use(); err != nil {
		return Facts{}, err
	}
	defer s.using.RUnlock()
	all := sha256.New()
	for _, object := range embedded {
		digest := sha256.Sum256(object.bytes)
		if have := fmt.Sprintf("%x", digest); have != m[object.name] {
			return Facts{}, fmt.Errorf("embedded object %s has sha-256 %s, objects.json says %q", object.name, have, m[object.name])
		}
		all.Write(digest[:])
	}
	facts := Facts{Object: [sha256.Size]byte(all.Sum(nil)), Compiler: m["compiler"]}
	for _, p := range s.programs() {
		info, err := p.program.Info()
		if err != nil {
			return Facts{}, fmt.Errorf("asking the kernel about program %s: %w", p.name, err)
		}
		facts.Programs = append(facts.Programs, ProgramFact{
			Name: p.name, Attach: p.attach, Tag: info.Tag, Fired: p.hook != 0 && s.firedAt[p.hook].Load() || p.hook == 0 && s.fired[p.kind].Load(),
		})
	}
	return facts, nil
}

type program struct {
	name, attach string
	program      *ebpf.Program
	kind         Kind // of the events it makes
	hook         Hook // else what they say saw it
	signals      []string
}

// programs lists the programs that are loaded and attached.
func (s *Sensor) programs() []program {
	list := s.corePrograms()
	for _, a := range s.attached {
		if a.hook != 0 {
			list = append(list, a.program)
		}
	}
	return list
}

// corePrograms lists the programs of the core in the order they are attached:
// exits first, so that no state is handed over before its heir can be seen to
// exec.
func (s *Sensor) corePrograms() []program {
	return []program{
		{coreProgOnExit, "tp_btf/sched_process_exit", s.objects.OnExit, KindExit, 0, []string{"exit"}},
		{coreProgOnExec, "tp_btf/sched_process_exec", s.objects.OnExec, KindExec, 0, []string{"exec", "usermode-helper"}},
		{coreProgOnFork, "tp_btf/sched_process_fork", s.objects.OnFork, KindFork, 0, []string{"fork"}},
		{coreProgOnCgroup, "tp_btf/cgroup_attach_task", s.objects.OnCgroup, KindCgroup, 0, []string{"cgroup-move"}},
		{coreProgOnTask, "iter/task", s.objects.OnTask, KindSeen, 0, nil},
	}
}
