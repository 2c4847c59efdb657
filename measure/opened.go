// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// opened measures the files that a process opened: each is found again where
// it was opened, must be the very file the kernel saw, and is hashed.
type opened struct {
	m     *Meter
	t     *target
	dirs  map[string]int // directories found so far, -1: nowhere
	walks overlays
	notes []Note
	pins  []*pin // of declared inputs, which stay open
}

// maxDirectories is how many directories are kept open during a measurement.
const maxDirectories = 256

func (m *Meter) newOpened(t *target) *opened {
	return &opened{m: m, t: t, dirs: make(map[string]int), walks: overlays{m: m, t: t}}
}

func (o *opened) close() {
	for _, fd := range o.dirs {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// Note says which file spoilt a field of a measurement: for people, and in no
// evidence.
type Note struct {
	Field, Path, Why string
}

const maxNotes = 16

func (o *opened) note(field, path, why string) {
	if len(o.notes) < maxNotes {
		o.notes = append(o.notes, Note{Field: field, Path: hint(path, evidence.MaxText), Why: why})
	}
}

// maxPathConfig is how large a .pth file is at most to be taken for one of
// Python's path configuration, whose lines Python runs, and not for weights.
const maxPathConfig = 64 << 10

// code reports whether the file belongs in the manifest.
func (of *OpenedFile) code() bool {
	return of.Class == ClassCode || strings.HasSuffix(of.Path, ".pth") && of.File.Size < maxPathConfig
}

// manifest folds the code files. One that cannot be measured spoils the whole:
// a manifest is never shorter than what was opened.
func (o *opened) manifest(ctx context.Context, f *Facts) evidence.Value[evidence.Manifest] {
	if f.OpenedUnknown != "" {
		return evidence.Unknown[evidence.Manifest](f.OpenedUnknown)
	}
	var (
		files  []evidence.CodeFile
		taints []string
		why    string
	)
	for k := range f.Opened {
		of := &f.Opened[k]
		if !of.code() {
			continue
		}
		file := o.file(ctx, of)
		d, seen := file.Digest.Observed()
		if !seen {
			o.note("code", of.Path, file.Digest.Reason())
			if why == "" {
				why = file.Digest.Reason()
			}
			continue
		}
		for _, name := range file.Digest.Taints() {
			o.note("code", of.Path, name)
			if !slices.Contains(taints, name) {
				taints = append(taints, name)
			}
		}
		files = append(files, evidence.CodeFile{Digest: evidence.Hash(d.Value), Path: file.Path})
	}
	switch {
	case why != "":
		return evidence.Unknown[evidence.Manifest](why)
	case len(taints) > 0:
		return evidence.Tainted(evidence.NewManifest(files), taints...)
	}
	return evidence.Known(evidence.NewManifest(files))
}

// models lists the models and the other large files, each once for every
// version opened. mapped are the files that are mapped executable: a large
// library is no model.
func (o *opened) models(ctx context.Context, f *Facts, mapped map[evidence.FileID]string) evidence.Value[[]evidence.File] {
	if f.OpenedUnknown != "" {
		return evidence.Unknown[[]evidence.File](f.OpenedUnknown)
	}
	if name, err := o.t.heldUnseen(o.m, f); err != nil {
		return unread[[]evidence.File](err)
	} else if name != "" {
		o.note("models", name, reasonIncomplete)
		return evidence.Unknown[[]evidence.File](reasonIncomplete)
	}
	files := []evidence.File{}
	for k := range f.Opened {
		of := &f.Opened[k]
		if of.code() {
			continue
		}
		if _, ok := mapped[of.File.id()]; ok && of.Class == ClassLarge {
			continue
		}
		if len(files) == maxModels {
			return evidence.Unknown[[]evidence.File](reasonTooMany)
		}
		file := o.file(ctx, of)
		if _, clean := file.Digest.Get(); !clean {
			o.note("models", of.Path, file.Digest.Reason()+strings.Join(file.Digest.Taints(), ", "))
		}
		files = append(files, file)
	}
	slices.SortStableFunc(files, func(a, b evidence.File) int { return strings.Compare(a.Path, b.Path) })
	return evidence.Known(files)
}

// file measures one opened file.
func (o *opened) file(ctx context.Context, of *OpenedFile) evidence.File {
	f := evidence.File{Path: hint(of.Path, evidence.MaxText), ID: of.File.id()}
	fd, err := o.find(of)
	switch {
	case err != nil:
		f.Digest = unfound[evidence.Digest](err)
		return f
	case fd < 0:
		f.Digest = evidence.Unknown[evidence.Digest](reasonRemote)
		return f
	}
	defer unix.Close(fd)
	f.ID, f.Digest = o.digest(ctx, fd, of)
	return f
}

// digest hashes the file at fd if it is the one that was opened.
func (o *opened) digest(ctx context.Context, fd int, of *OpenedFile) (evidence.FileID, evidence.Value[evidence.Digest]) {
	id := of.File.id()
	magic, refused, err := o.walks.check(fd)
	if err != nil {
		return id, unread[evidence.Digest](err)
	}
	if refused != "" {
		return id, evidence.Unknown[evidence.Digest](refused)
	}
	seen, err := fstat(fd)
	if err != nil {
		return id, unread[evidence.Digest](err)
	}
	same, unchanged := matches(&of.File, &of.File, seen.id)
	if !same || magic != of.File.Magic {
		return id, evidence.Unknown[evidence.Digest](reasonReplaced)
	}
	s := source{path: fd, seen: seen, kernel: &of.File, limit: MaxModel, patience: settleAfter(seen.id.Ctime)}
	if !unchanged {
		s.kernel = nil
	}
	d := o.m.digest(ctx, &s)
	if !unchanged || o.m.since(of.At, seen.id.Ctime) {
		d = taint(d, taintOpened)
	}
	if magic == magicOverlay && (o.walks.volatile(fd) || o.m.inMemory(fd)) {
		d = taint(d, taintCtime)
	}
	return s.seen.id, d
}

// since reports whether a file with that ctime may have changed after the
// moment at, or so shortly before that the clock could not tell.
func (m *Meter) since(at uint64, ctime int64) bool {
	if at == 0 {
		return false
	}
	when := m.now().Add(-time.Duration(int64(m.boot() - at)))
	return !time.Unix(0, ctime).Before(when.Add(-tick))
}

var errCut = errors.New("its path is longer than a record")

// find opens the file where it was opened, without following a link: the
// kernel's path has none. fd is -1 where it must not even be looked for.
func (o *opened) find(of *OpenedFile) (fd int, err error) {
	switch {
	case remote(of.File.Magic):
		return -1, nil
	case of.Cut:
		return -1, errCut
	case !strings.HasPrefix(of.Path, "/"):
		return -1, unix.ENOENT // on no mount that the process could reach
	}
	dir, err := o.directory(path.Dir(of.Path))
	if err != nil {
		return -1, err
	}
	return unix.Openat(dir, path.Base(of.Path), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// directory finds a directory below the root of the process, once.
func (o *opened) directory(name string) (int, error) {
	if fd, ok := o.dirs[name]; ok {
		if fd < 0 {
			return -1, unix.ENOENT
		}
		return fd, nil
	}
	if len(o.dirs) >= maxDirectories {
		o.close()
		clear(o.dirs)
	}
	r, err := o.t.resolve(name, &o.walks)
	if err != nil {
		o.dirs[name] = -1
		return -1, err
	}
	o.dirs[name] = r.fd
	return r.fd, nil
}

// unfound is a file that is not where it was opened, and why.
func unfound[T any](err error) evidence.Value[T] {
	switch {
	case errors.Is(err, errCut):
		return evidence.Unknown[T](reasonTruncated)
	case errors.Is(err, errUnresolvable):
		return evidence.Unknown[T](reasonUnresolvable)
	case gone(err), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return evidence.Unknown[T](reasonNotFound)
	}
	return evidence.Unknown[T](reasonUnreadable)
}
