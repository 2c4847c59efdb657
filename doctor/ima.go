// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package doctor

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/jurat-dev/jurat/ima"
)

const (
	imaPath = securityFS + "/ima/binary_runtime_measurements"
	imaPCR  = 10
)

// imaList is what a list of IMA came to.
type imaList struct {
	replay    ima.Replay
	matched   uint64 // entries that make the value of PCR 10; 0: none do
	malformed error
}

// ima looks at the kernel's list of files. PCR 10 was read before the list, so
// that it has the value of some prefix.
func (e *examination) ima(ctx context.Context) Check {
	const name = "IMA"
	f, err := regular(e.IMAList)
	switch {
	case missing(err) && !e.mounted():
		return Check{name, Unknown, securityFS + " is empty", mountHint}
	case missing(err):
		return Check{name, Warn, "the kernel has no IMA: files that others loaded are not shown", "a kernel with CONFIG_IMA, booted with ima_policy=tcb ima_hash=sha256"}
	case err != nil:
		return unread(name, e.IMAList, err)
	}
	want, _ := hex.DecodeString(e.pcrs[imaPCR].Observed)
	type reading struct {
		list *imaList
		err  error
	}
	got, ok := within(ctx, e.Patience, func(ctx context.Context) reading {
		defer f.Close()
		list, err := replayIMA(ctx, f, want, maxIMA)
		return reading{list, err}
	})
	switch {
	case !ok || errors.Is(got.err, context.DeadlineExceeded):
		return Check{name, Unknown, fmt.Sprintf("the list was not read within %v", e.Patience), "'jurat ima replay " + e.IMAList + "' takes its time; or --patience 60s"}
	case got.err != nil:
		return unread(name, e.IMAList, got.err)
	case got.list.malformed != nil:
		return Check{name, Bad, "malformed list: " + clip(got.list.malformed.Error(), 70), "'jurat ima show " + e.IMAList + "' shows the rest"}
	}
	return e.imaCheck(name, got.list, len(want) > 0)
}

func (e *examination) imaCheck(name string, list *imaList, comparable bool) Check {
	r := &list.replay
	text := plural(int(r.Count), "entry", "entries")
	if policy := e.imaPolicy(); policy != "" {
		text += ", " + policy
	}
	if r.Violations > 0 {
		text += ", " + plural(int(r.Violations), "violation", "violations")
	}
	switch {
	case r.Count == 0:
		return Check{name, Warn, "the list is empty", "boot with ima_policy=tcb ima_hash=sha256"}
	case !comparable:
		return Check{name, Unknown, text + "; no PCR 10 to compare with", ""}
	case list.matched == 0:
		return Check{name, Bad, text + ": not what PCR 10 says", "restart; if it stays, something beside IMA extends PCR 10"}
	case r.Count == 1:
		return Check{name, Warn, "measures no file: the list has its first entry alone", "boot with ima_policy=tcb ima_hash=sha256"}
	}
	if newer := r.Count - list.matched; newer > 0 {
		text += fmt.Sprintf(", the last %d since", newer)
	}
	return Check{name, OK, text + ": as PCR 10 says", ""}
}

// imaPolicy is what the kernel's command line says of it.
func (e *examination) imaPolicy() string {
	line, err := e.line("/proc/cmdline")
	if err != nil {
		return ""
	}
	for _, word := range strings.Fields(line) {
		if policy, ok := strings.CutPrefix(word, "ima_policy="); ok {
			return "policy " + clip(policy, 24)
		}
		if word == "ima_tcb" {
			return "policy tcb"
		}
	}
	return ""
}

// replayIMA reads a list of fewer than limit bytes and looks for the longest
// prefix that makes want.
func replayIMA(ctx context.Context, in io.Reader, want []byte, limit int64) (*imaList, error) {
	list := &imaList{replay: ima.NewReplay(imaPCR, ima.TrackSHA256|ima.TrackPadded)}
	bounded := &io.LimitedReader{R: in, N: limit}
	for r := ima.NewReader(bounded); ; {
		entry, err := r.Next()
		var malformed *ima.Error
		switch {
		case errors.Is(err, io.EOF) && bounded.N > 0:
			return list, nil
		case bounded.N <= 0:
			return nil, fmt.Errorf("%d bytes or more", limit)
		case errors.As(err, &malformed):
			list.malformed = err
			return list, nil
		case err != nil:
			return nil, err
		}
		list.replay.Add(entry)
		if _, same := list.replay.Match(want); same {
			list.matched = list.replay.Count
		}
		if list.replay.Count%4096 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}
