// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package stage

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/evidence"
)

func (s *Stage) bundle(h *Host) (*evidence.Bundle, error) {
	data, err := (&local.Client{Socket: h.Socket}).Bundle(s.ctx)
	if err != nil {
		return nil, err
	}
	return evidence.Parse(data)
}

// Tier returns what the host's agent can see, as its last evidence has it.
func (s *Stage) Tier(h *Host) (string, error) {
	b, err := s.bundle(h)
	if err != nil {
		return "", err
	}
	return b.Header.Tier, nil
}

// Observed returns the process of the last evidence that left the host.
func (s *Stage) Observed(h *Host) (*evidence.Process, error) {
	b, err := s.bundle(h)
	if err != nil {
		return nil, err
	}
	for _, e := range b.Entries {
		if e.Value.Process != nil {
			return e.Value.Process, nil
		}
	}
	return nil, errors.New("no process in the last evidence")
}

// CodeYAML is the member code of a registration that accepts what p is made
// of, as an operator would write it who believes this run. nil accepts nothing.
func CodeYAML(p *evidence.Process, interpreter bool) string {
	if p == nil {
		return "code:\n  executables: [{digest: \"sha-256:" + strings.Repeat("0", 64) + "\", label: nothing yet}]\n"
	}
	var b strings.Builder
	main, _ := p.Exe.Observed()
	fmt.Fprintf(&b, "code:\n  executables: [{digest: %q, label: %q, interpreter: %t}]\n", digest(main), main.Path, interpreter)
	list := func(name string, files ...evidence.File) {
		if len(files) == 0 {
			return
		}
		fmt.Fprintf(&b, "  %s:\n", name)
		seen := make(map[string]bool)
		for _, f := range files {
			if d := digest(f); !seen[d] {
				seen[d] = true
				fmt.Fprintf(&b, "  - {digest: %q, label: %q}\n", d, f.Path)
			}
		}
	}
	if loader, _ := p.Loader.Observed(); loader != nil {
		list("loaders", *loader)
	}
	if maps, _ := p.Maps.Observed(); len(maps) > 1 {
		list("libraries", maps[1:]...)
	}
	if script, _ := p.Script.Observed(); script != nil {
		list("scripts", script.File)
	}
	models, _ := p.Models.Observed()
	list("models", models...)
	if m, ok := p.Code.Observed(); ok {
		fmt.Fprintf(&b, "  manifests: [{digest: \"sha-256:%s\", label: %d code files}]\n", m.Root, m.Count)
	}
	return b.String()
}

// WorkloadYAML is the registration of a workload that runs in a unit as a user
// and is made of code, which [CodeYAML] or an operator wrote.
func WorkloadYAML(id, machine, code string, unit *Unit, user int) string {
	return fmt.Sprintf(`kind: Workload
id: %s
machines: [%s]
minimum: {ek: ek-cert, anchor: nv-latch, tier: tracepoint, provenance: pinned, ima: none}
%scontext:
  units: ["%s"]
  uids: [%d]
  gids: [%d]
  cgroups: any
  containers: [none]
  ancestors: any
`, id, machine, code, unit.Name(), user, user)
}

// MachineYAML is the registration of a class of machines whose boot nobody
// has learned yet.
func MachineYAML(name string) string { return "kind: Machine\nname: " + name + "\nboot: {pcrs: {}}\n" }

func digest(f evidence.File) string {
	d, _ := f.Digest.Observed()
	return d.String()
}
