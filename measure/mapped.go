// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// image is what a process executes: its executable and every other file
// mapped executable.
type image struct {
	m *Meter
	t *target
	e *Exec

	files     []evidence.File         // the executable first
	index     map[evidence.FileID]int // into files
	taints    []string                // of the whole
	exeMapped bool
	program   program
	programOK bool
	base      uint64 // where the loader was mapped, 0: nowhere
	loader    int    // into files, -1: not found
	overlays  overlays
}

// measureImage measures the executable and all executable mappings. When they
// change meanwhile it starts again, a few times.
func (m *Meter) measureImage(ctx context.Context, t *target, e *Exec) (*image, error) {
	for range maxTries {
		i := &image{m: m, t: t, e: e, index: make(map[evidence.FileID]int), loader: -1, overlays: overlays{m: m, t: t}}
		err := i.measure(ctx)
		if !errors.Is(err, errRaced) {
			return i, err
		}
	}
	return nil, errRaced
}

func (i *image) measure(ctx context.Context) error {
	if err := i.executable(ctx); err != nil {
		return err
	}
	before, err := i.t.executables(i.base)
	if err != nil {
		return err
	}
	if len(before.maps) > evidence.MaxMaps {
		return errTooMany
	}
	if len(before.maps) == 0 {
		return errRaced // it has no memory any more, or its leader thread has ended
	}
	for k := range before.maps {
		if err := i.add(ctx, &before.maps[k], before.loader); err != nil {
			return err
		}
	}
	after, err := i.t.executables(0)
	if err != nil {
		return err
	}
	if !slices.Equal(before.maps, after.maps) {
		return errRaced
	}
	if before.anonymous || after.anonymous {
		i.taint(taintAnonymous)
	}
	return nil
}

// executable measures /proc/PID/exe, and finds out whether there is a loader.
func (i *image) executable(ctx context.Context) error {
	fd, err := i.t.link("exe")
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	d, id := i.m.kernelFile(ctx, fd, i.e, &i.overlays, MaxFile)
	d = i.e.confirm(d)
	i.files = append(i.files, evidence.File{Path: hint(pathOf(fd), evidence.MaxText), ID: id, Digest: d})
	i.index[id] = 0
	if _, ok := d.Observed(); !ok {
		return nil // not to be read
	}
	content, err := reopen(fd)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(content), "exe")
	defer f.Close()
	if i.program, err = parseProgram(f); err != nil {
		return nil
	}
	auxv, err := i.t.read("auxv", 8<<10)
	if err != nil {
		return err
	}
	i.base, err = loaderBase(auxv, i.program.bits32)
	i.programOK = err == nil
	return nil
}

// add measures what one executable mapping maps. loader is the mapping at
// the loader's base, of which this may be the text.
func (i *image) add(ctx context.Context, mp, loader *mapping) error {
	if mp.special() {
		return nil
	}
	fd, err := i.t.link(mp.link())
	if errors.Is(err, unix.ENOENT) {
		return errRaced
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	magic, refused, err := i.overlays.check(fd)
	if err != nil {
		return err
	}
	if refused != "" {
		i.refuse(mp, refused)
		return nil
	}
	seen, err := fstat(fd)
	if err != nil {
		return err
	}
	if magic != magicOverlay && (seen.id.Inode != mp.inode || magic != magicBtrfs && seen.id.Device != mp.dev) {
		return errRaced
	}
	n, ok := i.index[seen.id]
	if !ok {
		n = len(i.files)
		d := i.m.digest(ctx, &source{path: fd, seen: seen, limit: MaxFile, patience: settleAfter(seen.id.Ctime)})
		i.files = append(i.files, evidence.File{Path: hint(mp.name, evidence.MaxText), ID: seen.id, Digest: d})
		i.index[seen.id] = n
	}
	f := &i.files[n]
	if seen.links == 0 && strings.HasPrefix(mp.name, "/memfd:") {
		i.taint(taintAnonymous)
		f.Digest = taint(f.Digest, taintMemfd)
	}
	if magic == magicOverlay {
		i.bind(f, fd, mp)
	}
	i.exeMapped = i.exeMapped || n == 0
	if loader != nil && loader.dev == mp.dev && loader.inode == mp.inode && loader.name == mp.name {
		i.loader = n
	}
	return nil
}

// refuse notes a file that is not looked at. Its identity is what the maps
// show, without a time or size.
func (i *image) refuse(mp *mapping, reason string) {
	id := evidence.FileID{Device: mp.dev, Inode: mp.inode}
	if i.files[0].Digest.Reason() == reason && i.e.Exe.Device == mp.dev && i.e.Exe.Inode == mp.inode {
		i.exeMapped = true
		return
	}
	if _, ok := i.index[id]; ok {
		return
	}
	i.index[id] = len(i.files)
	i.files = append(i.files, evidence.File{
		Path: hint(mp.name, evidence.MaxText), ID: id, Digest: evidence.Unknown[evidence.Digest](reason),
	})
}

// bind holds a mapping on overlayfs against the file that was hashed for it.
func (i *image) bind(f *evidence.File, fd int, mp *mapping) {
	if i.overlays.volatile(fd) {
		f.Digest = taint(f.Digest, taintCtime)
	}
	switch i.m.samePages(i.t, mp, fd) {
	case pagesDiffer:
		f.Digest = taint(f.Digest, taintCopiedUp)
	case pagesInMemory:
		f.Digest = taint(f.Digest, taintCtime)
	case pagesUnknown:
		f.Digest = evidence.Unknown[evidence.Digest](reasonUnbound)
	}
}

func (i *image) taint(name string) {
	if !slices.Contains(i.taints, name) {
		i.taints = append(i.taints, name)
	}
}

// exe is the executable; a process that no longer maps it runs something else.
func (i *image) exe() evidence.Value[evidence.File] {
	if !i.exeMapped {
		return evidence.Tainted(i.files[0], taintNotMapped)
	}
	return evidence.Known(i.files[0])
}

// maps is every file mapped executable.
func (i *image) maps() evidence.Value[[]evidence.File] {
	if len(i.taints) > 0 {
		return evidence.Tainted(i.files, i.taints...)
	}
	return evidence.Known(i.files)
}

// loaderFile is the ELF interpreter: nil where the executable names none and
// the kernel mapped none.
func (i *image) loaderFile() evidence.Value[*evidence.File] {
	switch {
	case !i.programOK:
		return evidence.Unknown[*evidence.File]("not-elf")
	case !i.program.loader && i.base == 0:
		return evidence.Known[*evidence.File](nil)
	case !i.program.loader || i.base == 0 || i.loader < 0:
		return evidence.Unknown[*evidence.File](taintNotMapped)
	}
	f := i.files[i.loader]
	return evidence.Known(&f)
}
