// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

const (
	maxDeclaration = 64 << 10 // bytes of the declaration of one unit
	maxInputs      = 256      // files in it
)

// inputs measures what the host's operator declares that the unit reads
// besides code: a prompt, a configuration of tools. Names are what they mean to
// the process.
func (o *opened) inputs(ctx context.Context, f *Facts, unit evidence.Value[string]) evidence.Value[[]evidence.File] {
	name, ok := unit.Get()
	if !ok {
		return evidence.Unknown[[]evidence.File]("no-unit")
	}
	paths, err := o.m.declared(name)
	if err != nil {
		o.note("inputs", err.Error(), reasonDeclaration)
		return evidence.Unknown[[]evidence.File](reasonDeclaration)
	}
	files := []evidence.File{}
	for _, path := range paths {
		file, p, err := o.input(ctx, f, path)
		if err != nil {
			v := unfound[[]evidence.File](err)
			o.note("inputs", path, v.Reason())
			return v
		}
		files, o.pins = append(files, file), append(o.pins, p)
	}
	return evidence.Known(files)
}

// input measures one declared file. Changed since the exec, it may not be what
// the process read.
func (o *opened) input(ctx context.Context, f *Facts, path string) (evidence.File, *pin, error) {
	r, err := o.t.resolve(path, &o.walks)
	if err != nil {
		return evidence.File{}, nil, err
	}
	seen, err := fstat(r.fd)
	if err != nil {
		unix.Close(r.fd)
		return evidence.File{}, nil, err
	}
	s := source{path: r.fd, seen: seen, limit: MaxModel, patience: settleAfter(seen.id.Ctime)}
	d := o.m.digest(ctx, &s)
	p := &pin{fd: r.fd, id: s.seen.id, path: hint(path, evidence.MaxText), ctime: r.ctime}
	if p.after(o.m.execTime(f)) {
		d = taint(d, taintChanged)
	}
	if _, clean := d.Get(); !clean {
		o.note("inputs", path, d.Reason()+strings.Join(d.Taints(), ", "))
	}
	return evidence.File{Path: p.path, ID: p.id, Digest: d}, p, nil
}

// declared returns the paths declared for a unit: none where there is no file
// for it, nor for the template it is an instance of.
func (m *Meter) declared(unit string) ([]string, error) {
	if m.inputs == "" || unit == "" {
		return nil, nil
	}
	names := []string{unit}
	if at := strings.LastIndexByte(unit, '@'); at > strings.LastIndexByte(unit, '/') {
		names = append(names, unit[:at+1]+filepath.Ext(unit))
	}
	for _, name := range names {
		paths, err := readDeclaration(m.inputs, name)
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
			return paths, err
		}
	}
	return nil, nil
}

// readDeclaration reads one declaration: absolute paths, one a line; empty
// lines and those that begin with # say nothing.
func readDeclaration(dir, name string) ([]string, error) {
	data, err := readRootOnly(dir, name, maxDeclaration)
	if err != nil {
		return nil, err
	}
	return parseDeclaration(filepath.Join(dir, name), data)
}

func parseDeclaration(name string, data []byte) (paths []string, err error) {
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxDeclaration)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimRight(lines.Text(), " \t\r")
		switch {
		case line == "" || line[0] == '#':
		case line[0] != '/' || strings.IndexByte(line, 0) >= 0 || len(line) > evidence.MaxText:
			return nil, fmt.Errorf("%s line %d: %q is no absolute path", name, n, hint(line, maxHint))
		case len(paths) == maxInputs:
			return nil, fmt.Errorf("%s line %d: more than %d files: %w", name, n, maxInputs, errTooMany)
		default:
			paths = append(paths, line)
		}
	}
	return paths, lines.Err()
}
