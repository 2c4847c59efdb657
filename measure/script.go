// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// How a script was found (spec/evidence.md section 4.4).
const (
	boundExec     = "exec"     // the kernel ran it: its first line names the interpreter
	boundArgument = "argument" // the interpreter was given its name
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
	named := e.Interpreter != "" && e.Interpreter != e.Filename
	in := interpreterOf(exe)
	if in == nil && !named && !e.Cut {
		return evidence.Known[*evidence.Script](nil), nil
	}
	if e.Cut {
		return evidence.Unknown[*evidence.Script](reasonTruncated), nil
	}
	name, bound, proved := e.Filename, boundExec, true
	if in != nil {
		arg, end, reason := in.script(a.bytes)
		switch {
		case reason != "" && len(a.bytes) == a.proved && uint64(a.proved) < e.ArgumentsSize:
			return evidence.Unknown[*evidence.Script](reasonTruncated), nil
		case reason != "":
			return evidence.Unknown[*evidence.Script](reason), nil
		case named && arg != name:
			return evidence.Unknown[*evidence.Script](reasonOption), nil
		}
		if !named {
			name, bound, proved = arg, boundArgument, end <= a.proved
		}
	}
	s, p, err := m.openScript(ctx, t, f, name)
	if err != nil {
		return unreadScript(err), nil
	}
	s.Bound = bound
	v := evidence.Known(s)
	if !proved {
		v = taint(v, taintSelf)
	}
	if p.after(m.execTime(f)) {
		v = taint(v, taintChanged)
	}
	if moved := f.Exec.Namespaces.Mount; moved != 0 && moved != mountNamespace(t) {
		v = taint(v, taintNamespace)
	}
	return v, p
}

func unreadScript(err error) evidence.Value[*evidence.Script] {
	switch {
	case errors.Is(err, errUnresolvable):
		return evidence.Unknown[*evidence.Script]("unresolvable")
	case gone(err), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return evidence.Unknown[*evidence.Script]("not-found")
	}
	return evidence.Unknown[*evidence.Script](reasonUnreadable)
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
