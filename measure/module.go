// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"context"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// moduleScript measures the file that Python opened for the module it was told
// to run. Where a module lies is for Python to know: only what it opened
// counts, and two files that could be it are none.
func (m *Meter) moduleScript(ctx context.Context, t *target, f *Facts, module string) (evidence.Value[*evidence.Script], *pin) {
	if f.OpenedUnknown != "" {
		return evidence.Unknown[*evidence.Script](f.OpenedUnknown), nil
	}
	found, reason := f.module(module)
	if reason != "" {
		return evidence.Unknown[*evidence.Script](reason), nil
	}
	o := m.newOpened(t)
	defer o.close()
	fd, err := o.find(found)
	if err != nil {
		return unfound[*evidence.Script](err), nil
	}
	if fd < 0 {
		return evidence.Unknown[*evidence.Script](reasonRemote), nil
	}
	s := &evidence.Script{Bound: evidence.BoundModule, File: evidence.File{Path: hint(found.Path, evidence.MaxText)}}
	s.File.ID, s.File.Digest = o.digest(ctx, fd, found)
	if reason := s.File.Digest.Reason(); reason != "" {
		unix.Close(fd)
		return evidence.Unknown[*evidence.Script](reason), nil
	}
	return evidence.Known(s), &pin{fd: fd, id: s.File.ID, path: s.File.Path, ctime: s.File.ID.Ctime}
}

// module finds among the opened files the one that a module's code came from.
// A package is run by its __main__; its other files are imported.
func (f *Facts) module(name string) (*OpenedFile, string) {
	if name == "" || strings.ContainsAny(name, "/\x00") {
		return nil, reasonNotFound
	}
	where := strings.ReplaceAll(name, ".", "/")
	var found [2]*OpenedFile // as a package's __main__, as a module
	for k := range f.Opened {
		of := &f.Opened[k]
		source, ok := sourceOfModule(of.Path)
		if !ok {
			continue
		}
		for i, suffix := range [...]string{"/" + where + "/__main__.py", "/" + where + ".py"} {
			if !strings.HasSuffix(source, suffix) {
				continue
			}
			better, ok := preferred(found[i], of)
			if !ok {
				return nil, reasonAmbiguous
			}
			found[i] = better
		}
	}
	switch {
	case found[0] != nil && found[1] != nil:
		return nil, reasonAmbiguous
	case found[0] != nil:
		return found[0], ""
	case found[1] != nil:
		return found[1], ""
	}
	return nil, reasonNotFound
}

// preferred chooses between two files that could be a module's. Of bytecode and
// the source beside it the source counts: Python turned to it because the
// bytecode did not do, or to compare the two.
func preferred(a, b *OpenedFile) (*OpenedFile, bool) {
	if a == nil {
		return b, true
	}
	source, _ := sourceOfModule(a.Path)
	if other, _ := sourceOfModule(b.Path); other != source || (a.Path == source) == (b.Path == source) {
		return nil, false
	}
	if a.Path == source {
		return a, true
	}
	return b, true
}

// sourceOfModule returns the source file that a file of Python stands for:
// itself, or for "__pycache__/x.cpython-311.opt-1.pyc" the "x.py" above it.
func sourceOfModule(name string) (string, bool) {
	if strings.HasSuffix(name, ".py") {
		return name, true
	}
	stem, ok := strings.CutSuffix(name, ".pyc")
	if !ok {
		return "", false
	}
	dir, base := path.Split(stem)
	if above, ok := strings.CutSuffix(dir, "/__pycache__/"); ok {
		base, _, ok = strings.Cut(base, ".")
		return above + "/" + base + ".py", ok
	}
	return stem + ".py", true
}
