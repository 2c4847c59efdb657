// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package gate

import (
	"strings"

	"github.com/jurat-dev/jurat/evidence"
)

// exec returns what was held for an exec that the kernel recorded, and forgets
// it. Everything held for the same process before is of execs that failed.
//
// The times of the two are from one clock. A file is held before the exec it
// is for is recorded, and one for the next exec after: so records may be read
// late, and still each finds its own.
func (p *pairing) exec(r *Record) evidence.Value[Verdict] {
	var line []*kept
	p.mu.Lock()
	p.take(r.Process, r.At, &line)
	lost := p.lost
	p.mu.Unlock()
	return judge(r, steps(line), lost)
}

// step is one file the kernel opened to execute: on overlayfs it was held
// again, as the file below.
type step struct{ top, under *kept }

func steps(line []*kept) []step {
	var all []step
	for _, h := range line {
		if n := len(all); n > 0 && all[n-1].covers(h) {
			all[n-1].under = h
			continue
		}
		all = append(all, step{top: h})
	}
	return all
}

// covers reports whether h is the file below the overlay's, or below that.
func (s *step) covers(h *kept) bool {
	top := &s.top.file
	if s.under != nil {
		top = &s.under.file
	}
	return top.Stacked && h.file.ID.Device != top.ID.Device && h.file.ID.Ctime == top.ID.Ctime && h.file.ID.Size == top.ID.Size
}

func (s *step) closed() bool { return s.top.closed || s.under != nil && s.under.closed }

// watched reports whether its being closed would have been noticed.
func (s *step) watched() bool { return s.top.watched || s.under != nil && s.under.watched }

// file returns the file as the process sees it, with the digest of what is
// below where that was held.
func (s *step) file() File {
	f := s.top.file
	if s.under != nil {
		f.Digest = s.under.file.Digest
	}
	return f
}

// runs reports whether the file is what the kernel recorded. Where the file
// below was held, it is that which must be.
func (s *step) runs(r *Record) bool {
	if s.under != nil {
		return s.under.file.ID == r.Text
	}
	id := s.top.file.ID
	return id.Inode == r.Exe.Inode && (id.Device == r.Exe.Device || r.Stacked) &&
		id.Ctime == r.Text.Ctime && id.Size == r.Text.Size
}

// judge finds the executable among what was held, from the end: it is the last
// that was opened, or the one before its loader.
func judge(r *Record, all []step, lost uint64) evidence.Value[Verdict] {
	at := len(all) - 1
	for at >= 0 && !all[at].runs(r) {
		at--
	}
	if at < 0 || r.Exe.Inode == 0 {
		return evidence.Unknown[Verdict](ReasonNoVerdict)
	}
	return evidence.Known(Verdict{
		Executable: all[at].file(), Loader: loader(&all[at], all[at+1:]), Script: script(r, all[:at+1], lost),
	})
}

// loader returns the file that was opened after the executable.
func loader(exe *step, after []step) evidence.Value[*File] {
	switch {
	case exe.top.file.Form == FormStatic && len(after) == 0:
		return evidence.Known[*File](nil)
	case exe.top.file.Form != FormDynamic || len(after) > 1:
		return evidence.Unknown[*File](ReasonAmbiguous)
	case len(after) == 0:
		return evidence.Unknown[*File](ReasonNoVerdict)
	}
	f := after[0].file()
	return evidence.Known(&f)
}

// script returns the file that asked for the executable, the last of line, as
// its interpreter: the first of those that were opened one after the other,
// each for the one before, in one exec.
func script(r *Record, line []step, lost uint64) evidence.Value[*File] {
	exe := len(line) - 1
	first := exe
	for first > 0 && line[first-1].asks() {
		first--
	}
	switch {
	case first == exe && !r.Scripted:
		return evidence.Known[*File](nil)
	case first == exe:
		return evidence.Unknown[*File](ReasonNoVerdict)
	case !r.Scripted:
		return evidence.Unknown[*File](ReasonAmbiguous)
	}
	for i := first; i <= exe; i++ {
		if t := line[i].top; t.thread == 0 || t.thread != line[exe].top.thread || t.at <= lost {
			return evidence.Unknown[*File](ReasonAmbiguous)
		}
	}
	if last := &line[exe-1].top.file; last.Form == FormScript && !named(r, last.Interpreter) {
		return evidence.Unknown[*File](ReasonAmbiguous)
	}
	f := line[first].file()
	return evidence.Known(&f)
}

// asks reports whether the exec this file was opened for had not failed when
// the next file was opened, so that the next one is its interpreter.
func (s *step) asks() bool {
	return s.watched() && !s.closed() && s.top.file.Form != FormUnread
}

func named(r *Record, interpreter string) bool {
	return r.Interpreter == interpreter || r.Cut && r.Interpreter != "" && strings.HasPrefix(interpreter, r.Interpreter)
}
