// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/jurat-dev/jurat/evidence"
)

// Pins is what a measurement found, kept to see whether it changes. Mapped
// files are held by the process's own mappings; the script by a descriptor.
type Pins struct {
	instance evidence.Instance
	exe      evidence.FileID
	files    map[evidence.FileID]string    // measured, with the path for people
	inodes   map[[2]uint64]evidence.FileID // of the same, by device and inode
	models   map[[2]uint64]bool            // by device and inode
	script   *pin
	inputs   []*pin
	// anonymous: it had executable memory without a file. A JIT compiler takes
	// the right to execute away while it writes, so that one look may see none.
	anonymous atomic.Bool
	context   pinnedContext
	opened    int // files it had opened, all measured or named in the entry
	// openedUnknown is why there may have been more; the entry says so.
	openedUnknown string
	notes         []Note
}

// Notes says which files spoilt a field of the measurement, a few of them.
func (p *Pins) Notes() []Note { return p.notes }

// Close closes the files that Pins holds.
func (p *Pins) Close() {
	if p.script != nil {
		p.script.close()
		p.script = nil
	}
	for _, input := range p.inputs {
		input.close()
	}
	p.inputs = nil
}

// Process measures the process behind pidfd in full. It is an error when that
// is not the instance, or no longer runs the program, that f is about; what
// cannot be measured otherwise is unknown with a reason in the result. The
// caller closes the Pins, which [Meter.Look] needs.
func (m *Meter) Process(ctx context.Context, pidfd int, f *Facts) (*evidence.Process, *Pins, error) {
	t, err := m.attach(pidfd)
	if err != nil {
		return nil, nil, err
	}
	defer t.close()
	if err := m.check(t, f.Instance); err != nil {
		return nil, nil, err
	}
	p := &evidence.Process{
		Origin: f.Origin, ExecAt: f.Exec.At, Measured: m.boot(),
	}
	if f.Origin == evidence.OriginSeen || f.Exec.Seen {
		p.ExecAt = 0
	}
	pins := &Pins{
		instance: f.Instance, files: make(map[evidence.FileID]string), inodes: make(map[[2]uint64]evidence.FileID),
		models: make(map[[2]uint64]bool),
	}
	m.context(ctx, t, f, p, pins) // first, so that what changes while files are hashed shows in the looks
	m.code(ctx, t, f, p, pins)
	m.data(ctx, t, f, p, pins)
	err = m.check(t, f.Instance)
	if err == nil {
		err = fit(p)
	}
	if err != nil {
		pins.Close()
		return nil, nil, err
	}
	return p, pins, nil
}

// code fills in what runs.
func (m *Meter) code(ctx context.Context, t *target, f *Facts, p *evidence.Process, pins *Pins) {
	exe := ""
	i, err := m.measureImage(ctx, t, &f.Exec)
	if err != nil {
		p.Exe, p.Loader, p.Maps = unread[evidence.File](err), unread[*evidence.File](err), unread[[]evidence.File](err)
	} else {
		p.Exe, p.Loader, p.Maps = i.exe(), i.loaderFile(), i.maps()
		pins.exe, exe = i.files[0].ID, i.files[0].Path
		pins.anonymous.Store(slices.Contains(i.taints, taintAnonymous))
		for _, file := range i.files {
			pins.add(file.ID, file.Path)
		}
	}
	a := t.arguments(&f.Exec)
	p.Arguments = a.digest
	if exe == "" {
		p.Script = unread[*evidence.Script](err)
		return
	}
	p.Script, pins.script = m.measureScript(ctx, t, f, exe, a)
}

// data fills in what it was fed: code files, models, declared inputs.
func (m *Meter) data(ctx context.Context, t *target, f *Facts, p *evidence.Process, pins *Pins) {
	o := m.newOpened(t)
	defer o.close()
	p.Code = o.manifest(ctx, f)
	p.Models = o.models(ctx, f, pins.files)
	p.Inputs = o.inputs(ctx, f, p.Unit)
	models, _ := p.Models.Observed()
	for _, file := range models {
		pins.add(file.ID, file.Path)
		pins.models[[2]uint64{file.ID.Device, file.ID.Inode}] = true
	}
	pins.inputs = o.pins
	pins.opened, pins.openedUnknown, pins.notes = len(f.Opened), f.OpenedUnknown, o.notes
}

func (p *Pins) add(id evidence.FileID, path string) {
	p.files[id] = path
	p.inodes[[2]uint64{id.Device, id.Inode}] = id
}

// context fills in where and as whom it runs.
func (m *Meter) context(ctx context.Context, t *target, f *Facts, p *evidence.Process, pins *Pins) {
	before, _ := m.kernel.State(t.pidfd) // check asks again, and says what is wrong
	all := t.threads()
	pins.context = t.pinContext(&all)
	pins.context.altered = before.CredentialsChanged
	p.Credentials, p.Groups = all.credentials, all.groups
	p.Namespaces = pins.context.namespaces
	p.Cgroup = pins.context.cgroup
	if path, ok := p.Cgroup.Get(); ok {
		p.Unit = evidence.Known(unitOf(path))
	} else {
		p.Unit = evidence.Unknown[string]("no-cgroup")
	}
	p.Container = m.container(p.Cgroup, p.Namespaces)
	p.Ancestors = m.lineage(ctx, f)
	p.Label = t.label()
	p.Session, p.TTY = t.session()
	p.Devices = t.devices()
	p.Directory = t.directory()
	p.Environment, p.Interference = m.environment(t, &f.Exec)
}

// fit makes a measurement small enough for a log entry. What a process makes
// too large is unknown.
func fit(p *evidence.Process) error {
	shrink := []func(){
		func() { p.Environment = evidence.Unknown[map[string]string](reasonTooLarge) },
		func() {
			if code, ok := p.Code.Get(); ok {
				code.Files = nil // the root stands for them
				p.Code = evidence.Known(code)
			}
		},
		func() { p.Models = evidence.Unknown[[]evidence.File](reasonTooLarge) },
		func() { p.Maps = evidence.Unknown[[]evidence.File](reasonTooLarge) },
		func() { p.Ancestors = evidence.Unknown[[]evidence.Ancestor](reasonTooLarge) },
	}
	for {
		b, err := evidence.Marshal(p)
		if err != nil {
			return fmt.Errorf("encoding a measurement: %w", err)
		}
		if len(b) <= maxEntryBody {
			return nil
		}
		if len(shrink) == 0 {
			return fmt.Errorf("measurement of %d bytes: %w", len(b), errTooLarge)
		}
		shrink[0]()
		shrink = shrink[1:]
	}
}
