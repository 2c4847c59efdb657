// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// Look looks once at a process that was measured: half of the issuance
// sandwich (spec/evidence.md section 7.1). Lost is left to the caller, who
// counts the kernel's records.
func (m *Meter) Look(pidfd int, p *Pins) evidence.State {
	s := evidence.State{At: m.boot()}
	t, err := m.attach(pidfd)
	if err != nil {
		return blind(s, reasonExited)
	}
	defer t.close()
	if same, err := t.is(p.instance); err != nil || !same {
		return blind(s, reasonExited)
	}
	before, err := m.kernel.State(pidfd)
	s.Generation, s.Taints = before.Generation, before.Taints[:min(len(before.Taints), maxTaints)]
	if err != nil {
		s.Taints = append(slices.Clip(s.Taints), "state-unreadable")
	}
	all := t.threads()
	s.Tracer = all.tracer
	s.Changed = t.changedSince(&p.context, &all, &before)
	m.lookAtFiles(t, p, &s)
	s.Unmeasured = more(s.Unmeasured, &before, p)
	if after, err := m.kernel.State(pidfd); err == nil && after.Generation != before.Generation {
		s.Generation = after.Generation
	}
	s.Alive = t.alive()
	return s
}

// more adds the code files and models opened since the measurement.
func more(unmeasured evidence.Value[uint64], now *State, p *Pins) evidence.Value[uint64] {
	n, ok := unmeasured.Get()
	switch {
	case !ok:
		return unmeasured
	case now.OpenedUnknown != "" && now.OpenedUnknown != p.openedUnknown:
		return evidence.Unknown[uint64](now.OpenedUnknown)
	}
	return evidence.Known(n + uint64(max(0, now.Opened-p.opened)))
}

// blind is the look at a process that is gone, or is another one.
func blind(s evidence.State, reason string) evidence.State {
	s.Unmeasured = evidence.Unknown[uint64](reason)
	s.Private = evidence.Unknown[uint64](reason)
	s.Tracer = evidence.Unknown[uint32](reason)
	s.Missing = evidence.Unknown[[]string](reason)
	s.Changed = evidence.Unknown[[]string](reason)
	return s
}

// lookAtFiles compares the executable mappings, the executable, the script
// and the declared inputs with what was measured. Executable memory without a
// file cannot be measured, and is a taint.
func (m *Meter) lookAtFiles(t *target, p *Pins, s *evidence.State) {
	exec, err := t.executables(0)
	if err == nil && len(exec.maps) > evidence.MaxMaps {
		err = errTooMany
	}
	if err == nil && len(exec.maps) == 0 {
		err = errRaced // its memory is gone; the leader thread may have ended alone
	}
	if err != nil {
		s.Unmeasured, s.Private, s.Missing = unread[uint64](err), unread[uint64](err), unread[[]string](err)
		return
	}
	s.Private = t.privatePages(exec.maps)
	l := look{pins: p, overlays: overlays{m: m, t: t}}
	if err := l.models(t); err != nil {
		s.Unmeasured, s.Missing = unread[uint64](err), unread[[]string](err)
		return
	}
	for k := range exec.maps {
		l.mapping(t, &exec.maps[k])
	}
	l.executable(t)
	l.held(p.script)
	for _, input := range p.inputs {
		l.held(input)
	}
	again, err := t.executables(0)
	if err != nil || !slices.Equal(exec.maps, again.maps) {
		s.Unmeasured, s.Missing = evidence.Unknown[uint64](reasonRaced), evidence.Unknown[[]string](reasonRaced)
		return
	}
	if exec.anonymous || again.anonymous {
		p.anonymous.Store(true)
	}
	if p.anonymous.Load() {
		s.Taints = append(slices.Clip(s.Taints), taintAnonymous)
	}
	s.Unmeasured, s.Missing = evidence.Known(l.unmeasured), evidence.Known(l.missing)
}

// look is the comparison under way.
type look struct {
	pins       *Pins
	overlays   overlays
	unmeasured uint64
	missing    []string
}

// mapping finds out whether a mapping's file was measured.
func (l *look) mapping(t *target, mp *mapping) {
	if mp.special() {
		return
	}
	fd, err := t.link(mp.link())
	if err != nil {
		l.unmeasured++
		return
	}
	defer unix.Close(fd)
	if _, refused, err := l.overlays.check(fd); err != nil || refused != "" {
		l.unmeasured++
		return
	}
	st, err := fstat(fd)
	if err != nil {
		l.unmeasured++
		return
	}
	if _, ok := l.pins.files[st.id]; ok {
		return
	}
	if old, ok := l.pins.inodes[[2]uint64{st.id.Device, st.id.Inode}]; ok {
		l.changed(l.pins.files[old])
		return
	}
	l.unmeasured++
}

// models looks at the models that are mapped to be read, not executed.
func (l *look) models(t *target) error {
	data, err := t.read("maps", maxMaps)
	if err != nil {
		return err
	}
	mapped, err := parseMaps(data, func(mp *mapping) bool {
		return !mp.executable() && mp.file() && (l.pins.models[[2]uint64{mp.dev, mp.inode}] || modelName(mp.name))
	})
	if err != nil {
		return err
	}
	var last [2]uint64
	for k := range mapped {
		if id := [2]uint64{mapped[k].dev, mapped[k].inode}; id != last {
			last = id
			l.mapping(t, &mapped[k])
		}
	}
	return nil
}

// executable checks that /proc/PID/exe is still what was measured.
func (l *look) executable(t *target) {
	if l.pins.exe == (evidence.FileID{}) {
		return // it was not measured; the entry says so
	}
	path := l.pins.files[l.pins.exe]
	fd, err := t.link("exe")
	if err != nil {
		l.changed(path)
		return
	}
	defer unix.Close(fd)
	if _, refused, err := l.overlays.check(fd); err != nil || refused != "" {
		l.changed(path)
		return
	}
	st, err := fstat(fd)
	l.compare(l.pins.exe, st.id, err, path)
}

// held checks a file that Pins hold open.
func (l *look) held(p *pin) {
	if p != nil {
		st, err := fstat(p.fd)
		l.compare(p.id, st.id, err, p.path)
	}
}

func (l *look) compare(want, got evidence.FileID, err error, path string) {
	if err != nil || got != want {
		l.changed(path)
	}
}

// changed names a file that is not what was measured any more.
func (l *look) changed(path string) {
	name := hint(path, maxHint)
	if len(l.missing) < maxMissing && !slices.Contains(l.missing, name) {
		l.missing = append(l.missing, name)
	}
}
