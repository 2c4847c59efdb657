// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"bytes"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// mapping is one line of /proc/PID/maps. procfs has a parser too, but it
// reads without a limit, and joins spaces in names.
type mapping struct {
	start, end uint64
	perms      string // "r-xp"
	offset     uint64
	dev, inode uint64 // as the kernel's inode has them
	name       string // of a file: a path, and only a hint
}

func (m *mapping) executable() bool { return m.perms[2] == 'x' }

// file reports whether a file is mapped.
func (m *mapping) file() bool { return m.inode != 0 || m.dev != 0 }

const vsyscall = 0xffffffffff600000 // its one address, on x86

// special reports whether the kernel put the mapping there itself: the vdso,
// the vsyscall page. No process can give a mapping of its own these names;
// what it writes into the vdso shows as private pages.
func (m *mapping) special() bool {
	if m.file() {
		return false
	}
	switch m.name {
	case "[vdso]", "[vectors]", "[sigpage]":
		return true
	case "[vsyscall]":
		return m.start == vsyscall
	}
	return false
}

// link is the name of the mapping in map_files.
func (m *mapping) link() string {
	b := make([]byte, 0, 48)
	b = append(b, "map_files/"...)
	b = strconv.AppendUint(b, m.start, 16)
	b = append(b, '-')
	b = strconv.AppendUint(b, m.end, 16)
	return string(b)
}

// parseMaps reads /proc/PID/maps. It keeps the mappings for which keep says so.
func parseMaps(data []byte, keep func(*mapping) bool) ([]mapping, error) {
	var out []mapping
	for n := 1; len(data) > 0; n++ {
		line, rest, ok := bytes.Cut(data, []byte{'\n'})
		if !ok {
			return nil, fmt.Errorf("malformed maps line %d: no newline", n)
		}
		data = rest
		m, err := parseMapping(line)
		if err != nil {
			return nil, fmt.Errorf("malformed maps line %d: %v", n, err)
		}
		if keep(&m) {
			out = append(out, m)
		}
	}
	return out, nil
}

// parseMapping reads "start-end perms offset major:minor inode   name".
func parseMapping(line []byte) (m mapping, err error) {
	p := fields{rest: line}
	m.start = p.number('-', 16, 64)
	m.end = p.number(' ', 16, 64)
	m.perms = p.perms()
	m.offset = p.number(' ', 16, 64)
	major := p.number(':', 16, 32)
	minor := p.number(' ', 16, 32)
	m.inode = p.number(' ', 10, 64)
	if p.err != nil {
		return mapping{}, p.err
	}
	if m.start >= m.end {
		return mapping{}, fmt.Errorf("range %x-%x", m.start, m.end)
	}
	m.dev = unix.Mkdev(uint32(major), uint32(minor))
	m.name = string(bytes.TrimLeft(p.rest, " "))
	return m, nil
}

// fields takes a line apart; after the first mistake it only remembers it.
type fields struct {
	rest []byte
	err  error
}

// number takes the digits up to the byte end. The last number of a line may
// be without it.
func (f *fields) number(end byte, base, bits int) uint64 {
	if f.err != nil {
		return 0
	}
	word, rest, ok := bytes.Cut(f.rest, []byte{end})
	if !ok && end != ' ' {
		f.err = fmt.Errorf("no %q in %q", end, f.rest)
		return 0
	}
	f.rest = rest
	n, err := strconv.ParseUint(string(word), base, bits)
	if err != nil || word[0] == '+' {
		f.err = fmt.Errorf("number %q", word)
		return 0
	}
	return n
}

var permLetters = [4]string{"r-", "w-", "x-", "ps"}

func (f *fields) perms() string {
	if f.err != nil {
		return ""
	}
	word, rest, _ := bytes.Cut(f.rest, []byte{' '})
	f.rest = rest
	if len(word) != len(permLetters) {
		f.err = fmt.Errorf("permissions %q", word)
		return ""
	}
	for i, letters := range permLetters {
		if bytes.IndexByte([]byte(letters), word[i]) < 0 {
			f.err = fmt.Errorf("permissions %q", word)
			return ""
		}
	}
	return string(word)
}

// executable is what a process has mapped executable.
type executable struct {
	maps      []mapping // of files, and the kernel's own
	anonymous bool      // there is more, that no file stands behind: a JIT compiler moves it about all the time
	loader    *mapping  // the mapping, of any sort, that was asked for
}

// executables returns the executable mappings of the process; loader is the
// one that starts at address at.
func (t *target) executables(at uint64) (*executable, error) {
	data, err := t.read("maps", maxMaps)
	if err != nil {
		return nil, err
	}
	all, err := parseMaps(data, func(m *mapping) bool {
		return m.executable() || at != 0 && m.start == at
	})
	if err != nil {
		return nil, err
	}
	e := new(executable)
	for i := range all {
		if at != 0 && all[i].start == at {
			e.loader = &all[i]
		}
		switch m := &all[i]; {
		case !m.executable():
		case m.file() || m.special():
			e.maps = append(e.maps, *m)
		default:
			e.anonymous = true
		}
	}
	return e, nil
}
