// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"bytes"
	"context"
	"crypto/sha256"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// argv is the arguments of a process, and how many bytes of them are the
// kernel's word: it copied them at exec, before the program could write them.
type argv struct {
	bytes  []byte
	proved int
	digest evidence.Value[evidence.Hash]
}

// arguments reads the arguments. What lies beyond the kernel's copy is what
// the process shows of itself.
//
//	digest = SHA-256(argv[0] || NUL || argv[1] || NUL || ...)
func (t *target) arguments(e *Exec) argv {
	kernel := e.Arguments
	if len(kernel) > 0 && uint64(len(kernel)) == e.ArgumentsSize {
		return argv{kernel, len(kernel), evidence.Known(evidence.Hash(sha256.Sum256(kernel)))}
	}
	own, err := t.read("cmdline", maxArguments)
	if err != nil {
		return argv{bytes: kernel, proved: len(kernel), digest: unread[evidence.Hash](err)}
	}
	digest := evidence.Hash(sha256.Sum256(own))
	switch {
	case len(kernel) == 0:
		return argv{own, 0, evidence.Tainted(digest, taintSelf)}
	case !bytes.HasPrefix(own, kernel) || uint64(len(own)) != e.ArgumentsSize:
		return argv{kernel, len(kernel), evidence.Tainted(digest, taintArguments)}
	}
	return argv{own, len(kernel), evidence.Tainted(digest, taintSelf)}
}

// measureScript measures what an interpreter was told to run: nil where the
// program is none and the kernel started no script. The returned pin is nil
// unless there is a file.
func (m *Meter) measureScript(ctx context.Context, t *target, f *Facts, exe string, a argv) (evidence.Value[*evidence.Script], *pin) {
	e := &f.Exec
	named := e.Interpreter != "" && e.Interpreter != e.Filename || e.Script.Inode != 0
	in := interpreterOf(exe)
	if in == nil && !named && !e.Cut {
		return evidence.Known[*evidence.Script](nil), nil
	}
	if e.Cut {
		return evidence.Unknown[*evidence.Script](reasonTruncated), nil
	}
	what := told{what: e.Filename, bound: evidence.BoundExec}
	if in != nil {
		arg := in.script(a.bytes)
		switch {
		case arg.reason != "" && len(a.bytes) == a.proved && uint64(a.proved) < e.ArgumentsSize:
			return evidence.Unknown[*evidence.Script](reasonTruncated), nil
		case arg.reason != "":
			return evidence.Unknown[*evidence.Script](arg.reason), nil
		case named && (arg.bound != evidence.BoundArgument || arg.what != e.Filename):
			return evidence.Unknown[*evidence.Script](reasonOption), nil
		case !named:
			what = arg
		}
	}
	var (
		v evidence.Value[*evidence.Script]
		p *pin
	)
	switch what.bound {
	case evidence.BoundInline:
		v = evidence.Known(inline(what.what))
	case evidence.BoundModule:
		v, p = m.moduleScript(ctx, t, f, what.what)
	default:
		v, p = m.fileScript(ctx, t, f, &what)
	}
	if what.end > a.proved {
		v = taint(v, taintSelf)
	}
	return v, p
}

// inline is code that is itself an argument.
//
//	digest = SHA-256(the argument, without its NUL)
func inline(text string) *evidence.Script {
	sum := sha256.Sum256([]byte(text))
	return &evidence.Script{Bound: evidence.BoundInline, File: evidence.File{
		Path: "(argument)", ID: evidence.FileID{Size: uint64(len(text))},
		Digest: evidence.Known(evidence.Digest{Algorithm: Algorithm, Value: sum[:], Source: evidence.SourceRead}),
	}}
}

// fileScript measures the script of that name, and binds it to what the kernel
// or the gate knows of it.
func (m *Meter) fileScript(ctx context.Context, t *target, f *Facts, what *told) (evidence.Value[*evidence.Script], *pin) {
	s, p, err := m.openScript(ctx, t, f, what.what)
	if err != nil {
		return unreadScript(err), nil
	}
	s.Bound = what.bound
	reason, taints := m.bind(ctx, f, s, p)
	if reason == "" && f.openedAnother(s, p) {
		reason = reasonReplaced
	}
	if reason != "" {
		p.close()
		return evidence.Unknown[*evidence.Script](reason), nil
	}
	v := evidence.Known(s)
	for _, name := range taints {
		v = taint(v, name)
	}
	if p.after(m.execTime(f)) {
		v = taint(v, taintChanged)
	}
	// A name means something else in another namespace; a file is what it is.
	if moved := f.Exec.Namespaces.Mount; s.Bound != evidence.BoundKernel && s.Bound != evidence.BoundGate && moved != 0 && moved != mountNamespace(t) {
		v = taint(v, taintNamespace)
	}
	return v, p
}

// bind holds the file found by name against the one the kernel read, or the
// gate held. reason says why it is another.
func (m *Meter) bind(ctx context.Context, f *Facts, s *evidence.Script, p *pin) (reason string, taints []string) {
	e := &f.Exec
	if s.Bound != evidence.BoundExec {
		return "", nil
	}
	if e.Script.Inode != 0 {
		same, unchanged := matches(&e.Script, &e.Script, p.id)
		switch {
		case !same:
			return reasonReplaced, nil
		case !unchanged:
			s.Bound = evidence.BoundKernel
			return "", []string{taintChanged}
		}
		seen, err := fstat(p.fd)
		if err != nil {
			return reasonUnreadable, nil
		}
		s.Bound = evidence.BoundKernel
		s.File.Digest = m.digest(ctx, &source{path: p.fd, seen: seen, kernel: &e.Script, limit: MaxFile})
		return "", nil
	}
	for _, h := range e.Held {
		if !h.Script {
			continue
		}
		if h.ID != p.id {
			return reasonReplaced, nil
		}
		held, ok := h.Digest.Get()
		if own, seen := s.File.Digest.Observed(); ok && seen && !bytes.Equal(own.Value, held.Value) {
			return reasonRaced, nil
		}
		if ok {
			s.Bound, s.File.Digest = evidence.BoundGate, h.Digest
		}
		return "", nil
	}
	return "", nil
}

// openedAnother reports whether the process opened another file, or another
// version of it, by the script's name: what it runs is then not what was found.
func (f *Facts) openedAnother(s *evidence.Script, p *pin) bool {
	for k := range f.Opened {
		o := &f.Opened[k]
		if o.Path != s.File.Path || o.Cut {
			continue
		}
		if same, unchanged := matches(&o.File, &o.File, p.id); !same || !unchanged {
			return true
		}
	}
	return false
}

func unreadScript(err error) evidence.Value[*evidence.Script] {
	return unfound[*evidence.Script](err)
}

// pin holds a file open to see whether it changes.
type pin struct {
	fd    int
	id    evidence.FileID
	path  string
	ctime int64 // the youngest of the file and the links that led to it
}

// after reports whether the file, or a link on the way to it, changed after
// t or so shortly before that the clock could not tell.
func (p *pin) after(t time.Time) bool { return !time.Unix(0, p.ctime).Before(t.Add(-tick)) }

func (p *pin) close() { unix.Close(p.fd) }

// openScript hashes the file that name means to the process.
func (m *Meter) openScript(ctx context.Context, t *target, f *Facts, name string) (*evidence.Script, *pin, error) {
	r, err := t.resolve(name, &overlays{m: m, t: t})
	if err != nil {
		return nil, nil, err
	}
	seen, err := fstat(r.fd)
	if err != nil {
		unix.Close(r.fd)
		return nil, nil, err
	}
	d := m.digest(ctx, &source{path: r.fd, seen: seen, limit: MaxFile, patience: settleAfter(seen.id.Ctime)})
	path := hint(pathOf(r.fd), evidence.MaxText)
	s := &evidence.Script{File: evidence.File{Path: path, ID: seen.id, Digest: d}}
	return s, &pin{fd: r.fd, id: seen.id, path: path, ctime: r.ctime}, nil
}

// execTime is when the process began to run its program, on the clock that
// file times follow; for one older than the sensor, when it started.
func (m *Meter) execTime(f *Facts) time.Time {
	at := f.Exec.At
	if f.Exec.Seen || f.Origin == evidence.OriginSeen {
		at = f.Instance.Start
	}
	return m.now().Add(-time.Duration(int64(m.boot() - at)))
}
