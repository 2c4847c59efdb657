// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/evidence"
)

// TestNothingHostileReachesTheTerminal: names that processes choose are shown,
// not obeyed, on no screen and in no completion.
func TestNothingHostileReachesTheTerminal(t *testing.T) {
	w := newWorld(t)
	all := sampleProcesses()
	for i := range all.Processes {
		p := &all.Processes[i]
		p.Path, p.Script, p.Command, p.Cgroup, p.Unit = "/"+hostile, hostile, hostile, "/"+hostile, hostile
		p.Container, p.Arguments = "", []string{hostile, hostile}
		p.Digest = evidence.Unknown[evidence.Digest](hostile)
		p.Taints = []local.Spoilt{{Name: hostile, How: hostile}}
	}
	all.Processes[3].Container = hostile
	w.agent.set(func(_ int, r local.Request) any {
		p := &all.Processes[2]
		switch v := sampleAnswer(t, r).(type) {
		case *local.Processes:
			return all
		case *local.Measurements:
			v.Files[0].Path = hostile
			return v
		case *local.Event:
			v.Path, v.Command, v.Unit, v.Entry = hostile, hostile, hostile, nil
			v.Note = hostile
			return v
		case *local.Explanation:
			v.Summary, v.Models = *p, []string{hostile}
			v.Process.TTY, v.Process.Unit = evidence.Known(hostile), evidence.Known(hostile)
			v.Process.Environment = evidence.Known(map[string]string{hostile: hostile})
			v.Process.Code = evidence.Known(evidence.NewManifest([]evidence.CodeFile{{Path: hostile}}))
			v.State.Missing = evidence.Known([]string{hostile})
			v.Signals = []evidence.Signal{{Name: hostile, By: evidence.Unknown[string](hostile)}}
			return v
		default:
			return v
		}
	})
	for _, args := range [][]string{
		{"ps"}, {"ps", "--sort", "program"}, {"tree"}, {"tree", "4712"}, {"explain", "4712"}, {"explain", "-v", "4712"},
		{"measurements"}, {"events", "-n", "1"}, {"__complete", "explain", ""},
		{"ps", "--json"}, {"tree", "--json"}, {"explain", "4712", "--json"}, {"measurements", "--json"}, {"events", "-n", "1", "--json"},
	} {
		_, out, errs := w.run(w.sockets(args...)...)
		if !strings.Contains(out, "measured") {
			t.Errorf("%v does not show the name: %q", args, out)
		}
		for _, r := range out + errs {
			if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
				t.Errorf("%v printed %U: %q", args, r, out+errs)
				break
			}
		}
	}
}

// TestScreensFit: on a terminal of 80 columns no line of a list, a tree or the
// events is longer.
func TestScreensFit(t *testing.T) {
	w := newWorld(t)
	long := strings.Repeat("/a-directory", 20)
	w.agent.set(func(_ int, r local.Request) any {
		switch v := sampleAnswer(t, r).(type) {
		case *local.Processes:
			for i := range v.Processes {
				p := &v.Processes[i]
				p.Path, p.Unit = long+p.Path, "a-unit-with-a-long-name-"+p.Unit
			}
			return v
		case *local.Measurements:
			v.Files[0].Path = long + "日本"
			return v
		case *local.Event:
			v.Path = long
			return v
		default:
			return v
		}
	})
	for _, args := range []string{"ps", "tree", "measurements", "events -n 1"} {
		cmd := w.command(strings.Fields(args)...)
		cmd.Args = append(cmd.Args, "--no-color", "--socket", w.path("agent.sock"))
		cmd.Env = append(cmd.Env, "LC_ALL=C.UTF-8")
		p := onTerminal(t, cmd)
		code, screen := p.end(cmd)
		if code != 0 || screen == "" {
			t.Errorf("%s: exit %d: %s", args, code, screen)
		}
		for line := range strings.Lines(screen) {
			if n := term.Columns(strings.TrimSuffix(line, "\n")); n > 80 {
				t.Errorf("%s: a line of %d columns: %s", args, n, line)
			}
		}
	}
}

// TestWatch shows what runs again and again, over what it showed before.
func TestWatch(t *testing.T) {
	w := newWorld(t)
	w.agent.set(func(n int, r local.Request) any {
		v := sampleProcesses()
		v.Processes[2].Path = fmt.Sprintf("/round-%d", n)
		for k := range uint32(30) {
			v.Processes = append(v.Processes, local.Process{Instance: evidence.Instance{PID: 5000 + k}, Digest: sampleDigest(1), Standing: local.StandingKnown})
		}
		return v
	})
	cmd := w.command("ps", "--no-color", "--watch=10ms", "--socket", w.path("agent.sock"))
	p := onTerminal(t, cmd)
	p.answer("/round-3", "")
	if err := cmd.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	if _, screen := p.end(cmd); !strings.Contains(screen, "\x1b[HPID") || !strings.Contains(screen, "34 of 34 processes") || !strings.Contains(screen, "and 14 more") {
		t.Errorf("%q", screen)
	}
}

func TestPsSorts(t *testing.T) {
	w := newWorld(t)
	w.agent.set(func(_ int, r local.Request) any { return sampleAnswer(t, r) })
	for order, want := range map[string][]uint32{
		"standing": {4712, 4720, 4711, 1}, "pid": {1, 4711, 4712, 4720}, "age": {1, 4711, 4712, 4720}, "program": {4720, 4712, 1, 4711},
		"unit": {1, 4720, 4711, 4712}, "user": {4720, 1, 4711, 4712},
	} {
		_, out, _ := w.run(w.sockets("ps", "--json", "--sort", order)...)
		var got psJSON
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatal(err)
		}
		for i := range want {
			if len(got.Processes) != len(want) || got.Processes[i].Instance.PID != want[i] {
				t.Errorf("by %s: %v", order, out)
				break
			}
		}
	}
}

// TestFilter: each flag leaves out what it is about, and nothing else.
func TestFilter(t *testing.T) {
	w := newWorld(t)
	w.agent.set(func(_ int, r local.Request) any { return sampleAnswer(t, r) })
	for flags, want := range map[string]string{
		"": "4 of 4", "--unit invoice.service": "2 of 4", "--unit invoice": "2 of 4", "--unit voice": "0 of 4", "--container 8f2c": "1 of 4",
		"--container 2c": "0 of 4", "--user 4004": "1 of 4", "--user root": "3 of 4", "--user 0": "3 of 4", "--tainted": "1 of 4",
		"agent.py": "1 of 4", "systemd --tainted": "0 of 4",
	} {
		if _, out, errs := w.run(w.sockets(append([]string{"ps"}, strings.Fields(flags)...)...)...); !strings.Contains(out, want+" processes") {
			t.Errorf("ps %s: want %s: %s%s", flags, want, out, errs)
		}
	}
}

// TestTreeOfTenThousand: a chain of forks, each the parent of the next, is
// shown to its end in lines that do not grow.
func TestTreeOfTenThousand(t *testing.T) {
	w := newWorld(t)
	const count = 10000
	all := &local.Processes{}
	for k := range uint32(count) {
		i := evidence.Instance{PID: k + 1, Start: uint64(k) + 1}
		all.Processes = append(all.Processes, local.Process{Instance: i, Parent: evidence.Instance{PID: k, Start: uint64(k)},
			Digest: sampleDigest(1), Path: "/x", Standing: local.StandingKnown})
	}
	w.agent.set(func(int, local.Request) any { return all })
	w.env["LANG"] = "en_GB.UTF-8"
	code, out, errs := w.run(w.sockets("tree")...)
	if code != 0 || strings.Count(out, "\n") != count || !strings.Contains(out, "└─ 2 known") {
		t.Fatalf("exit %d, %d lines: %s", code, strings.Count(out, "\n"), errs)
	}
	for line := range strings.Lines(out) {
		if term.Columns(line) > deepest+40 {
			t.Fatalf("line of %d columns", term.Columns(line))
		}
	}
}

// TestEventsFilter: what is not asked for is not shown, but that events were
// missed always is.
func TestEventsFilter(t *testing.T) {
	w := newWorld(t)
	w.agent.set(func(_ int, r local.Request) any { return sampleAnswer(t, r) })
	for flags, want := range map[string][2]bool{ // the event is shown, the missed ones are
		"-n 1": {true, true}, "--unit invoice -n 1": {true, true}, "--unit other": {false, true}, "--pid 4712 -n 1": {true, true}, "--pid 1": {false, true},
		"--user 4004": {false, true}, "--user root -n 1": {true, true}, "--kind exec,note": {false, true}, "--kind taint -n 1": {true, true},
	} {
		for _, form := range []string{"", " --json"} {
			_, out, _ := w.run(w.sockets(append([]string{"events"}, strings.Fields(flags+form)...)...)...)
			out, _, _ = strings.Cut(out, "jurat.error/v1") // the double hangs up after one event
			if shown, missed := strings.Contains(out, "sys_exit_ptrace"), strings.Contains(out, "missed"); shown != want[0] || missed != want[1] {
				t.Errorf("events %s: shown %v, missed %v: %s", flags+form, shown, missed, out)
			}
		}
	}
}

// TestExplainSaysWhatToExpect of a broker, for each way a process can stand.
func TestExplainSaysWhatToExpect(t *testing.T) {
	for name, row := range map[string]struct {
		bend func(*local.Explanation)
		want string
	}{
		"tainted": {func(x *local.Explanation) {}, "A broker will say no: it is tainted (traced)"},
		"deleted": {func(x *local.Explanation) {
			x.Summary.Taints = nil
			x.Summary.Digest = evidence.Tainted(evidence.Digest{}, "deleted")
		}, "not a file that can be measured again (deleted)"},
		"unclean":   {func(x *local.Explanation) { x.Summary.Standing = local.StandingKnown }, "as long as the look is not clean: tainted: traced"},
		"no digest": {func(x *local.Explanation) { x.Summary.Standing = local.StandingUnknown; settle(x) }, "its program has no digest"},
		"seen":      {func(x *local.Explanation) { x.Summary.Standing = local.StandingSeen; settle(x) }, "It ran before juratd did"},
		"fine":      {func(x *local.Explanation) { x.Summary.Standing = local.StandingMeasured; settle(x) }, "jurat refs add WORKLOAD sha-256:aaaa"},
		"unknown look": {func(x *local.Explanation) {
			x.Summary.Standing = local.StandingMeasured
			settle(x)
			x.State.Private = evidence.Unknown[uint64]("unreadable")
		}, "as long as the look is not clean: executable pages that were written to: unknown (unreadable)"},
	} {
		w := newWorld(t)
		w.agent.set(func(_ int, r local.Request) any {
			v := sampleAnswer(t, r)
			if x, ok := v.(*local.Explanation); ok {
				row.bend(x)
			}
			return v
		})
		if code, out, errs := w.run(w.sockets("explain", "4712")...); code != 0 || !strings.Contains(out, row.want) {
			t.Errorf("%s: want %q: exit %d\n%s%s", name, row.want, code, out, errs)
		}
	}
	for code, want := range map[string]int{local.CodeExited: 1, local.CodePeer: 1, local.CodeForbidden: 3, local.CodeSensor: 3} {
		w := newWorld(t)
		w.agent.set(func(int, local.Request) any { return &local.Error{Code: code, Message: "x"} })
		if got, _, errs := w.run(w.sockets("explain", "4712")...); got != want || (want == 1) != strings.Contains(errs, "'jurat ps' lists") {
			t.Errorf("%s: exit %d, want %d: %s", code, got, want, errs)
		}
	}
}

func settle(x *local.Explanation) {
	x.State.Taints, x.State.Changed = nil, evidence.Known[[]string](nil)
}

// TestHostTaints: what spoilt the host is not blamed on the process, and what
// spoilt the process not on the host.
func TestHostTaints(t *testing.T) {
	x := &local.Explanation{Summary: local.Process{Standing: local.StandingKnown}}
	x.State = evidence.State{Alive: true, Taints: []string{"bpf-loaded"}}
	if _, next := conclusion(x, uncleanLook(&x.State)); !strings.Contains(next[0], "to the host (bpf-loaded)") {
		t.Errorf("a tainted host: %q", next)
	}
	x.State.Taints, x.Summary.Taints = []string{"traced"}, []local.Spoilt{{Name: "traced"}}
	if _, next := conclusion(x, uncleanLook(&x.State)); strings.Contains(strings.Join(next, " "), "host") {
		t.Errorf("a tainted process: %q", next)
	}
}
