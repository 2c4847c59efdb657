// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// bootLimit bounds one guest. Emulated on a busy machine, the longest takes
// half of it.
const bootLimit = 15 * time.Minute

// guest is one kernel booted once.
type guest struct {
	kernel *kernel
	boot   boot
	disk   string
	dir    string

	console string
	took    time.Duration
	err     error
	rows    []*result
}

func (g *guest) name() string { return g.kernel.name + "/" + g.boot.name }

// script is what the guest runs, as its init says. tests replaces the rows' own
// choice; programs is where the attacks' programs are.
func (b *boot) script(tests, programs string) string {
	var s strings.Builder
	fmt.Fprintln(&s, "export GOTRACEBACK=all JURAT_MODULE=/modules/$(uname -r)/nls_cp437.ko")
	for _, r := range b.rows {
		fmt.Fprintf(&s, "echo '@row %s'\nexport JURAT_REQUIRE=%s JURAT_TIER=%s\n", r.name, r.require, r.want.tier)
		if r.prepare != "" {
			fmt.Fprintf(&s, "{ %s; } || echo '@unprepared'\n", r.prepare)
		}
		fmt.Fprintln(&s, "echo @probe; jurat probe --json; echo @probed")
		if r.tests != "" {
			fmt.Fprintf(&s, "cd /tests/bpf; ./test -test.v -test.timeout 10m -test.run '%s'; echo \"@exit $?\"\n", cmp.Or(tests, r.tests))
		}
		if r.attacks != nil {
			fmt.Fprintf(&s, "cd /jurat; bin/redteam -json -programs %s -run '^(%s)$'; echo \"@exit $?\"\n", programs, strings.Join(r.attacks, "|"))
		}
	}
	return s.String()
}

// run boots the guest until it switches itself off. The emulator's way of
// patching kernel text may kill a guest early: then, and only then, once more.
func (g *guest) run(ctx context.Context) {
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
	g.rows = g.results()
}

func (g *guest) once(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	if err := os.MkdirAll(g.dir, 0o755); err != nil {
		return err
	}
	console := filepath.Join(g.dir, "console")
	q := exec.CommandContext(ctx, "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg",
		// Without these two the emulator of Debian 12 trips newer kernels.
		"-cpu", "max,cx16=off,la57=off", "-smp", "1", "-m", "1024",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "file:"+console,
		"-drive", "if=none,id=root,format=raw,snapshot=on,cache=unsafe,file="+g.disk, "-device", "nvme,drive=root,serial=root",
		// What the kernel does not know it hands to init: boot, as a variable.
		"-kernel", g.kernel.image, "-append", "root=/dev/nvme0n1 rootwait rw init=/init console=ttyS0 quiet loglevel=2 panic=-1 rcupdate.rcu_expedited=1 boot="+g.boot.name+" "+g.boot.cmdline)
	q.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var complaint bytes.Buffer
	q.Stderr = &complaint
	err := q.Run()
	text, readErr := os.ReadFile(console)
	g.console = string(bytes.ReplaceAll(text, []byte("\r"), nil))
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("not done within %v", bootLimit)
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case err != nil:
		return fmt.Errorf("qemu: %w: %s", err, strings.TrimSpace(complaint.String()))
	}
	return readErr
}
