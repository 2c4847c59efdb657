// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

const (
	maxDeclaration = 64 << 10 // bytes of the declaration of one unit
	maxInputs      = 256      // files in it
)

// errDeclaration says that a declaration may not be what the operator wrote.
var errDeclaration = errors.New("not to be trusted")

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
		file, err := o.input(ctx, f, path)
		if err != nil {
			v := unfound[[]evidence.File](err)
			o.note("inputs", path, v.Reason())
			return v
		}
		files = append(files, file)
	}
	return evidence.Known(files)
}

// input measures one declared file. Changed since the exec, it may not be what
// the process read.
func (o *opened) input(ctx context.Context, f *Facts, path string) (evidence.File, error) {
	r, err := o.t.resolve(path, &o.walks)
	if err != nil {
		return evidence.File{}, err
	}
	defer unix.Close(r.fd)
	seen, err := fstat(r.fd)
	if err != nil {
		return evidence.File{}, err
	}
	d := o.m.digest(ctx, &source{path: r.fd, seen: seen, limit: MaxModel, patience: settleAfter(seen.id.Ctime)})
	if p := (pin{ctime: r.ctime}); p.after(o.m.execTime(f)) {
		d = taint(d, taintChanged)
	}
	for _, name := range d.Taints() {
		o.note("inputs", path, name)
	}
	return evidence.File{Path: hint(path, evidence.MaxText), ID: seen.id, Digest: d}, nil
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
// lines and those that begin with # say nothing. Neither the file nor a
// directory from the one of all declarations down may be anybody's but root's.
func readDeclaration(dir, name string) ([]string, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	for part := range strings.SplitSeq(name, "/") {
		if err := rootOnly(fd, dir); err != nil {
			unix.Close(fd)
			return nil, err
		}
		next, err := unix.Openat(fd, part, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		unix.Close(fd)
		if err != nil {
			return nil, fmt.Errorf("%s/%s: %w", dir, name, err)
		}
		fd = next
	}
	f := os.NewFile(uintptr(fd), filepath.Join(dir, name))
	defer f.Close()
	if st, err := fstat(fd); err != nil || !st.regular() {
		return nil, fmt.Errorf("%s is no regular file: %w", f.Name(), errors.Join(err, errDeclaration))
	}
	if err := rootOnly(fd, f.Name()); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxDeclaration+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxDeclaration {
		return nil, fmt.Errorf("%s: %w", f.Name(), errTooLarge)
	}
	return parseDeclaration(f.Name(), data)
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

// rootOnly returns nil where only root can change what fd is.
func rootOnly(fd int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Uid != 0 || st.Mode&0o022 != 0 {
		return fmt.Errorf("%s can be changed by others than root (owner %d, mode %04o): %w", name, st.Uid, st.Mode&0o7777, errDeclaration)
	}
	return nil
}
