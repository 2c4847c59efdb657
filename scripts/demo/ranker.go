// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/scripts/internal/stage"
)

const (
	rankerID = "spiffe://example.test/agents/ranker"
	python   = "/usr/bin/python3"
)

// ranker is the workload in Python: where its files are, and its task.
type ranker struct{ dir, task string }

func (r *ranker) file(name string) string { return filepath.Join(r.dir, name) }

// asRanker is how it runs when all is well.
func (t *theatre) asRanker() workload {
	w := t.asRegistered()
	w.task, w.argv = t.ranker.task, []string{python, "-B", t.ranker.file("ranker.py"), t.ranker.file("model.safetensors")}
	return w
}

// registerRanker installs the ranker and has it run once, refused; what was
// measured then an operator takes as its reference values.
func (t *theatre) registerRanker() ([]string, error) {
	t.ranker.dir = t.Path("ranker")
	if err := os.Mkdir(t.ranker.dir, 0o755); err != nil {
		return nil, err
	}
	for _, name := range []string{"ranker.py", "scoring.py"} {
		data, err := os.ReadFile(filepath.Join("scripts/sample-ranker", name))
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(t.ranker.file(name), data, 0o644); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(t.ranker.file("model.safetensors"), model(1, 30), 0o644); err != nil {
		return nil, err
	}
	if err := t.Apply(t.rankerYAML(nil)); err != nil {
		return nil, err
	}
	id, err := t.requestFor(rankerID, "1h")
	if err != nil {
		return nil, err
	}
	t.ranker.task = id
	if err := t.approve(id); err != nil {
		return nil, err
	}
	if _, err := t.refusedBy(t.asRanker(), "code", "provenance"); err != nil {
		return nil, err
	}
	p, err := t.Observed(t.Hosts["h1"])
	if err != nil {
		return nil, err
	}
	m, known := p.Code.Get()
	models, ok := p.Models.Get()
	if !known || !ok || len(models) != 1 {
		return nil, fmt.Errorf("code %s, models %s", p.Code, p.Models)
	}
	lines := []string{fmt.Sprintf("code manifest %s, of %d files", m.Root, m.Count), "model " + models[0].Digest.String()}
	return lines, t.Apply(t.rankerYAML(p))
}

func (t *theatre) rankerYAML(p *evidence.Process) string {
	return fmt.Sprintf(`kind: Workload
id: %s
machines: [demo]
minimum: {ek: ek-cert, anchor: nv-latch, tier: tracepoint, provenance: pinned, ima: none}
%scontext:
  units: ["%s"]
  uids: [%d]
  gids: [%d]
  cgroups: any
  containers: [none]
  ancestors: any
`, rankerID, stage.CodeYAML(p, true), t.cgroup.Name(), user, user)
}

// model is a .safetensors file with two weights.
func model(amount, days float32) []byte {
	header := `{"weights":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`
	data := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	data = append(data, header...)
	data = binary.LittleEndian.AppendUint32(data, math.Float32bits(amount))
	return binary.LittleEndian.AppendUint32(data, math.Float32bits(days))
}

func (t *theatre) useRanker() ([]string, error) {
	out, code, err := t.perform(t.asRanker())
	if err != nil {
		return nil, err
	}
	if code != 0 || !strings.Contains(out, "credential for") {
		return nil, fmt.Errorf("the ranker ended with %d: %s", code, out)
	}
	t.decided = append(t.decided, "allow")
	return strings.Split(strings.TrimSpace(out), "\n"), nil
}

// with runs the ranker while one of its files is another, and wants it refused.
func (t *theatre) with(name string, change func([]byte) []byte, attestors ...string) ([]string, error) {
	file := t.ranker.file(name)
	good, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, change([]byte(string(good))), 0o644); err != nil {
		return nil, err
	}
	lines, err := t.refusedBy(t.asRanker(), attestors...)
	if err != nil {
		return nil, err
	}
	return lines, os.WriteFile(file, good, 0o644)
}

func (t *theatre) flippedModel() ([]string, error) {
	return t.with("model.safetensors", func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, "code", "provenance")
}

func (t *theatre) changedModule() ([]string, error) {
	return t.with("scoring.py", func(b []byte) []byte {
		return []byte(strings.Replace(string(b), "weights[0] * amount + weights[1] * days", "-amount", 1))
	}, "code", "provenance")
}

func (t *theatre) changedScript() ([]string, error) {
	return t.with("ranker.py", func(b []byte) []byte { return append(b, "print('and one thing more')\n"...) }, "code", "provenance")
}

// injectedLibrary preloads a library of the system's that no Python needs.
func (t *theatre) injectedLibrary() ([]string, error) {
	w := t.asRanker()
	w.env = []string{"LD_PRELOAD=libBrokenLocale.so.1"}
	return t.refusedBy(w, "code", "provenance")
}
