// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Command kernels boots the stock kernels of Debian 12 and 13 in QEMU, without
// hardware to help it, and runs the tests of bpf and jurat probe there: LSM
// and trampoline programs run somewhere even where this machine's own kernel
// takes neither. It holds what they find against what rows.go expects, prints
// a table, and writes docs/kernels.md when all is as it must be.
//
// It is no station of the flow and ships in no program. A skipped test is a
// failure: the guest's JURAT_REQUIRE names all it has. It leaves no process
// behind, and nothing on disk but the cache in $JURAT_KERNELS_CACHE (default:
// jurat-kernels in the user's cache directory). It refuses kernels that apt
// cannot verify.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	only  *regexp.Regexp // boots to do
	tests string         // instead of each row's own selection
	keep  string         // directory for the consoles
	jobs  int
}

const (
	page   = "docs/kernels.md"
	ownRow = "development"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	only := flag.String("run", "", "boot only guests whose KERNEL/BOOT matches this `REGEXP`; "+page+" is left alone")
	flag.StringVar(&o.tests, "tests", "", "run the tests matching this `REGEXP` instead of each row's own; "+page+" is left alone")
	flag.StringVar(&o.keep, "keep", "", "keep the guests' consoles in this `DIR`")
	flag.IntVar(&o.jobs, "jobs", runtime.NumCPU(), "guests at a time")
	flag.Parse()
	var err error
	if o.only, err = regexp.Compile(*only); err == nil {
		err = run(ctx, o, *only == "" && o.tests == "")
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "kernels: error: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, all bool) error {
	began := time.Now()
	work, err := os.MkdirTemp("", "jurat-kernels")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	kernels, err := fetch(ctx)
	if err != nil {
		return err
	}
	progress("building the guests' disk")
	disk, err := buildDisk(ctx, work, kernels, o.tests)
	if err != nil {
		return err
	}
	var plan []*guest
	for _, b := range boots {
		for _, k := range kernels {
			if b.only != "" && b.only != k.name {
				continue
			}
			g := &guest{kernel: k, boot: b, disk: disk}
			if g.dir = filepath.Join(work, k.name+"-"+b.name); o.only.MatchString(g.name()) {
				plan = append(plan, g)
			}
		}
	}
	ready := time.Since(began)
	rows := bootAll(ctx, plan, o.jobs)
	if o.keep != "" {
		if err := keepConsoles(plan, o.keep); err != nil {
			return err
		}
	}
	report(os.Stdout, rows)
	fmt.Printf("\n%d guests in %v, after %v of preparation\n", len(plan), (time.Since(began) - ready).Round(time.Second), ready.Round(time.Second))
	wrong := 0
	for _, r := range rows {
		if len(r.wrong) > 0 {
			wrong++
		}
	}
	switch {
	case len(rows) == 0:
		return errors.New("no guest matches")
	case wrong > 0:
		return fmt.Errorf("%d of %d rows are not as they must be", wrong, len(rows))
	case !all:
		return nil
	}
	own, err := ownKernel(ctx, work)
	if err != nil {
		return err
	}
	return os.WriteFile(page, []byte(matrix(append(rows, own))), 0o644)
}

// bootAll boots the guests, a few at a time.
func bootAll(ctx context.Context, plan []*guest, jobs int) (rows []*result) {
	slots := make(chan struct{}, max(1, jobs))
	var wg sync.WaitGroup
	for _, g := range plan {
		slots <- struct{}{}
		if ctx.Err() != nil {
			<-slots
			continue
		}
		progress("booting %s", g.name())
		wg.Go(func() {
			defer func() { <-slots }()
			g.run(ctx)
			progress("%s is done after %v", g.name(), g.took.Round(time.Second))
		})
	}
	wg.Wait()
	for _, g := range plan {
		rows = append(rows, g.rows...)
	}
	return rows
}

// ownKernel is the row of the kernel that this program runs on, as far as it
// may load programs there.
func ownKernel(ctx context.Context, work string) (*result, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("not root: " + page + " has a row for this machine's kernel, and is not written without")
	}
	jurat := filepath.Join(work, "root/jurat/bin/jurat")
	out, err := exec.CommandContext(ctx, jurat, "probe", "--json").Output()
	if err != nil {
		return nil, fmt.Errorf("jurat probe on this machine: %w", err)
	}
	p, err := readProbe("@probe\n" + string(out) + "@probed\n")
	if err != nil {
		return nil, err
	}
	return &result{kernel: "this", release: p.Kernel, row: row{name: ownRow}, probe: p}, nil
}

func keepConsoles(plan []*guest, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, g := range plan {
		name := strings.ReplaceAll(g.name(), "/", "-") + ".log"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(g.console), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "kernels: "+format+"\n", args...)
}
