// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// bootLimit bounds one guest. Emulated on a busy machine, the longest takes a
// quarter of it.
const bootLimit = 12 * time.Minute

// guest is one kernel in one scenario, and what came of it.
type guest struct {
	kernel   *kernel
	scenario scenario
	disk     string
	script   string // what the guest runs
	dir      string

	console string
	took    time.Duration
	err     error
}

func newGuest(k *kernel, s scenario, disk, work string, o options) *guest {
	g := &guest{kernel: k, scenario: s, disk: disk, dir: filepath.Join(work, k.name+"-"+s.name)}
	var b strings.Builder
	fmt.Fprintf(&b, "export JURAT_REQUIRE=%s JURAT_TIER=%s GOTRACEBACK=all\n%s\n", s.require, s.tier, s.prepare)
	fmt.Fprint(&b, "echo @probe; jurat probe --json; echo @probed\n")
	for _, room := range rooms {
		pattern, some := s.tests[room]
		if !some {
			continue
		}
		if o.tests != "" {
			pattern = o.tests
		}
		fmt.Fprintf(&b, "if [ -x /tests/%[1]s/test ]; then cd /tests/%[1]s; echo \"@room %[1]s\"; ./test -test.v -test.timeout 10m -test.run '%[2]s'; echo \"@exit $?\"; fi\n", room, pattern)
	}
	g.script = b.String()
	return g
}

func (g *guest) name() string { return g.kernel.name + "/" + g.scenario.name }

// boot runs the guest until it switches itself off. The emulator's way of
// patching kernel text may kill a guest early: then, and only then, once more.
func (g *guest) boot(ctx context.Context) {
	began := time.Now()
	for range 2 {
		g.console = ""
		g.err = g.once(ctx)
		if !strings.Contains(g.console, "Oops: int3") {
			break
		}
		progress("%s: the emulator's int3 fault, once more", g.name())
	}
	g.took = time.Since(began)
}

func (g *guest) once(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	if err := os.MkdirAll(g.dir, 0o755); err != nil {
		return err
	}
	script, console := filepath.Join(g.dir, "script"), filepath.Join(g.dir, "console")
	if err := os.WriteFile(script, padded(g.script), 0o644); err != nil {
		return err
	}
	q := exec.CommandContext(ctx, "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg",
		// Without these two the emulator of Debian 12 trips newer kernels.
		"-cpu", "max,cx16=off,la57=off", "-smp", "1", "-m", "1024",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "file:"+console,
		"-drive", "if=none,id=root,format=raw,snapshot=on,cache=unsafe,file="+g.disk,
		"-drive", "if=none,id=script,format=raw,readonly=on,file="+script,
		"-device", "nvme,id=disks,serial=disks", "-device", "nvme-ns,drive=root,nsid=1", "-device", "nvme-ns,drive=script,nsid=2",
		"-kernel", g.kernel.image, "-append", "root=/dev/nvme0n1 rootwait rw init=/init console=ttyS0 quiet panic=-1 "+g.scenario.cmdline)
	q.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var complaint bytes.Buffer
	q.Stderr = &complaint
	err := q.Run()
	text, readErr := os.ReadFile(console)
	g.console = string(bytes.ReplaceAll(text, []byte("\r"), nil))
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("not done within %v", bootLimit)
	case err != nil:
		return fmt.Errorf("qemu: %w: %s", err, strings.TrimSpace(complaint.String()))
	}
	return readErr
}

// padded is text as a disk: whole sectors of it.
func padded(text string) []byte {
	const sector = 4096
	return append([]byte(text), bytes.Repeat([]byte("\n"), sector-len(text)%sector)...)
}

var (
	testLine = regexp.MustCompile(`^\s*--- (PASS|FAIL|SKIP): (\S+) `)
	roomLine = regexp.MustCompile(`^@room (\S+)$`)
	exitLine = regexp.MustCompile(`^@exit (\d+)$`)
)

// outcome is what the console says of the tests.
type outcome struct {
	pass          int
	fail, skipped []string // room and test
	exits         []int
	ended         bool // the guest came to the end of its script
}

func (g *guest) outcome() outcome {
	var o outcome
	room := ""
	for line := range strings.Lines(g.console) {
		line = strings.TrimRight(line, "\n")
		if m := testLine.FindStringSubmatch(line); m != nil {
			switch m[1] {
			case "PASS":
				o.pass++
			case "FAIL":
				o.fail = append(o.fail, room+" "+m[2])
			case "SKIP":
				o.skipped = append(o.skipped, room+" "+m[2])
			}
		} else if m := roomLine.FindStringSubmatch(line); m != nil {
			room = m[1]
		} else if m := exitLine.FindStringSubmatch(line); m != nil {
			n, _ := strconv.Atoi(m[1])
			o.exits = append(o.exits, n)
		}
		o.ended = o.ended || line == "@end"
	}
	return o
}

func (g *guest) passed() bool { return g.complaint() == "" }

// complaint says what is wrong, in a line; empty: nothing.
func (g *guest) complaint() string {
	o := g.outcome()
	bad := slices.ContainsFunc(o.exits, func(n int) bool { return n != 0 })
	tier := ""
	if p, err := g.probe(); err == nil {
		tier = p.Tier
	}
	switch {
	case errors.Is(g.err, context.Canceled):
		return "interrupted"
	case g.err != nil:
		return g.err.Error()
	case !o.ended:
		return "the guest died: " + lastLines(g.console, 3)
	case len(o.fail) > 0:
		return "failed: " + strings.Join(o.fail, ", ")
	case bad:
		return "a test binary ended with an error: " + lastLines(g.console, 6)
	case len(o.skipped) > 0:
		return "skipped: " + strings.Join(o.skipped, ", ")
	case o.pass == 0:
		return "no test was run"
	case tier != g.scenario.tier:
		return fmt.Sprintf("jurat probe says tier %q, want %q", tier, g.scenario.tier)
	}
	return ""
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}

func (g *guest) summary() string {
	took := g.took.Round(time.Second)
	if c := g.complaint(); c != "" {
		return fmt.Sprintf("FAIL in %v: %s", took, c)
	}
	return fmt.Sprintf("ok, %d tests in %v", g.outcome().pass, took)
}
