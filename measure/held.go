// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"bytes"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// largeOpen is from which size any file's opening is told.
const largeOpen = 64 << 20

var (
	modelSuffixes = []string{
		".safetensors", ".gguf", ".ggml", ".bin", ".pt", ".pth", ".onnx", ".ckpt", ".h5", ".tflite", ".npz", ".pb", ".keras",
		".engine", ".pkl", ".joblib", ".pickle",
	}
	deletedName = " (deleted)"
)

// modelName reports whether the sensor tells the opening of a file for its
// name, as that of a model.
func modelName(name string) bool {
	name = strings.TrimSuffix(name[strings.LastIndexByte(name, '/')+1:], deletedName)
	digest := strings.TrimPrefix(name, "sha256-")
	if len(name) == 64 {
		digest = name
	}
	if len(digest) == 64 && strings.Trim(digest, "0123456789abcdef") == "" {
		return true
	}
	lower := strings.ToLower(name)
	return slices.ContainsFunc(modelSuffixes, func(s string) bool { return strings.HasSuffix(lower, s) })
}

// inodes is a set of files by device and inode number. Where the kernel and
// stat(2) number devices differently the inode has to do.
type inodes map[[2]uint64]bool

func (s inodes) add(i *Inode) {
	s[[2]uint64{i.Device, i.Inode}] = true
	if i.Magic == magicOverlay || i.Magic == magicBtrfs {
		s[[2]uint64{i.Magic, i.Inode}] = true
	}
}

func (s inodes) has(magic uint64, id evidence.FileID) bool {
	return s[[2]uint64{id.Device, id.Inode}] || s[[2]uint64{magic, id.Inode}]
}

// heldUnseen returns the name of a model or large file that the process holds
// open or mapped without having been seen to open it, "" if there is none: a
// cross-check of the sensor. A file that was handed over by another process
// shows here too, and rightly: others may have been handed over, read and
// closed.
func (t *target) heldUnseen(m *Meter, f *Facts) (string, error) {
	seen := make(inodes)
	for k := range f.Opened {
		seen.add(&f.Opened[k].File)
	}
	h := heldFiles{m: m, t: t, opened: f.Opened, seen: seen, started: f.Exec.At}
	if name, err := h.mapped(); name != "" || err != nil {
		return name, err
	}
	return h.open()
}

type heldFiles struct {
	m       *Meter
	t       *target
	opened  []OpenedFile
	seen    inodes // of the same
	started uint64 // when its program began, since boot
}

// mapped looks at the mappings that are not executable; those that are were
// measured each.
func (h *heldFiles) mapped() (string, error) {
	data, err := h.t.read("maps", maxMaps)
	if err != nil {
		return "", err
	}
	all, err := parseMaps(data, func(mp *mapping) bool {
		return !mp.executable() && mp.file() && (modelName(mp.name) || mp.end-mp.start >= largeOpen)
	})
	if err != nil {
		return "", err
	}
	var last [2]uint64
	for k := range all {
		id := [2]uint64{all[k].dev, all[k].inode}
		if id != last && h.unseen(all[k].link(), all[k].name) {
			return all[k].name, nil
		}
		last = id
	}
	return "", nil
}

// open looks at the descriptors.
func (h *heldFiles) open() (string, error) {
	numbers, err := h.t.descriptors()
	if err != nil {
		return "", err
	}
	for _, n := range numbers {
		name, err := h.t.readlink("fd/" + n)
		if err != nil || !strings.HasPrefix(name, "/") || strings.HasPrefix(name, "/memfd:") {
			continue // closed meanwhile, or no file that was opened by a name
		}
		if h.unseen("fd/"+n, name) && h.t.reads(n) {
			return name, nil
		}
	}
	return "", nil
}

// descriptors lists the numbers of the open files.
func (t *target) descriptors() ([]string, error) {
	fd, err := unix.Openat(t.dir, "fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	dir := os.NewFile(uintptr(fd), "fd")
	defer dir.Close()
	numbers, err := dir.Readdirnames(maxDescriptors + 1)
	if len(numbers) > maxDescriptors {
		return nil, errTooMany
	}
	if err == io.EOF {
		err = nil // it has none open
	}
	return numbers, err
}

// unseen reports whether link leads to a file whose opening should have been told.
func (h *heldFiles) unseen(link, name string) bool {
	fd, err := h.t.link(link)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	magic, err := fileSystem(fd)
	if err != nil {
		return false
	}
	if remote(magic) { // nothing is asked of the file itself
		return modelName(name) && !slices.ContainsFunc(h.opened, func(o OpenedFile) bool { return o.Path == name })
	}
	st, err := fstat(fd)
	if err != nil || !st.regular() || h.seen.has(magic, st.id) {
		return false
	}
	// One that is large now may have been small when it was opened.
	return modelName(name) || st.id.Size >= largeOpen && h.started != 0 && !h.m.since(h.started, st.id.Ctime)
}

// reads reports whether the descriptor is open for reading.
func (t *target) reads(number string) bool {
	flags, ok := t.openFlags(number)
	return !ok || flags&unix.O_PATH == 0 && flags&unix.O_ACCMODE != unix.O_WRONLY
}

// uses reports whether the descriptor is more than a name for the file.
func (t *target) uses(number string) bool {
	flags, ok := t.openFlags(number)
	return !ok || flags&unix.O_PATH == 0
}

// openFlags returns what the descriptor was opened with; false: it is closed.
func (t *target) openFlags(number string) (uint64, bool) {
	data, err := t.read("fdinfo/"+number, 64<<10)
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(data) {
		value, ok := bytes.CutPrefix(line, []byte("flags:"))
		if !ok {
			continue
		}
		flags, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 8, 64)
		return flags, err == nil
	}
	return 0, false
}
