// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/bpf"
	"github.com/jurat-dev/jurat/evidence"
)

// hostTaints are what spoilt the host since it started. Each is in every look
// at a process from then on.
type hostTaints struct {
	mu  sync.Mutex // guards set
	set []string
}

// add notes a taint and reports whether it was news.
func (h *hostTaints) add(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if slices.Contains(h.set, name) {
		return false
	}
	h.set = append(slices.Clip(h.set), name)
	slices.Sort(h.set)
	return true
}

// names returns all of them, in order; the caller does not change them.
func (h *hostTaints) names() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.set)
}

// spoilHost takes in that something spoilt the host. Each time is logged: who
// did it the second time is another.
func (a *Agent) spoilHost(names []string, how string, ev *bpf.Event) error {
	for _, name := range names {
		if err := a.noteHostTaint(name); err != nil {
			return err
		}
		if err := a.logTaint(nil, &local.Spoilt{Name: name, At: ev.Time, How: how, By: actor(ev)}, ev.Time); err != nil {
			return err
		}
	}
	return nil
}

// hostTaintsFile is what the state directory keeps of the host's taints: an
// agent that is started anew holds them against the host as before, until the
// machine is.
type hostTaintsFile struct {
	BootID evidence.Bytes `json:"boot_id"`
	Taints []string       `json:"taints"`
}

// noteHostTaint holds a taint against the host.
func (a *Agent) noteHostTaint(name string) error {
	if !a.spoilt.add(name) {
		return nil
	}
	data, err := json.Marshal(hostTaintsFile{a.host.bootID, a.spoilt.names()})
	if err != nil {
		return err
	}
	return writeFile(a.state, taintsName, data)
}

// readHostTaints takes in what agents before this one held against the host
// since it was started.
func (a *Agent) readHostTaints() error {
	path := filepath.Join(a.state, taintsName)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var kept hostTaintsFile
	if err := json.Unmarshal(data, &kept); err != nil {
		return fmt.Errorf("malformed %s: %v; it says what was held against this host: remove it after a restart of the machine only", path, err)
	}
	if !bytes.Equal(kept.BootID, a.host.bootID) {
		return os.Remove(path)
	}
	for _, name := range kept.Taints {
		a.spoilt.add(name)
	}
	return nil
}

// runs reports whether the untainted process i runs the very file that the
// process with that pid runs: what it does, this program would have done.
func (t *table) runs(i evidence.Instance, pid uint32) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, own := t.processes[i.PID], t.processes[pid]
	if p == nil || own == nil || p.instance != i || len(p.spoilt) > 0 {
		return false
	}
	text, mine := p.program.image.Value().text, own.program.image.Value().text
	return text.Inode != 0 && fileID(&text) == fileID(&mine) && text.Generation == mine.Generation
}
