// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Command kernels runs the tests of the rooms with a door to the kernel on the
// stock kernels of Debian 12 and 13, emulated by QEMU, so that LSM and
// trampoline programs run somewhere even where this machine's own kernel takes
// neither. It prints a table, and with -write the tiers and signals of each
// kernel as docs/kernels.md.
//
// It is no station of the flow and ships in no program. A skipped test is a
// failure: the guest's JURAT_REQUIRE names all it has. It leaves no process
// behind, and nothing on disk but the cache in $JURAT_KERNELS_CACHE (default:
// jurat-kernels in the user's cache directory).
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
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
	only  *regexp.Regexp // runs to do
	tests string         // instead of a run's own selection
	write string         // file for the matrix
	keep  string         // directory for the consoles
	jobs  int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	only := flag.String("run", "", "do only the runs whose KERNEL/SCENARIO matches this `REGEXP`")
	flag.StringVar(&o.tests, "tests", "", "run the tests matching this `REGEXP` instead of the scenario's own")
	flag.StringVar(&o.write, "write", "", "write tiers and signals of each kernel to this `FILE`")
	flag.StringVar(&o.keep, "keep", "", "keep the guests' consoles in this `DIR`")
	flag.IntVar(&o.jobs, "jobs", runtime.NumCPU(), "guests at a time")
	flag.Parse()
	var err error
	if o.only, err = regexp.Compile(*only); err == nil {
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "kernels: error: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
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
	progress("building the guest's disk")
	disk, err := buildDisk(ctx, work, kernels)
	if err != nil {
		return err
	}
	var plan []*guest
	for _, s := range scenarios {
		for _, k := range kernels {
			if g := newGuest(k, s, disk, work, o); o.only.MatchString(g.name()) {
				plan = append(plan, g)
			}
		}
	}
	ready := time.Since(began)
	bootAll(ctx, plan, o.jobs)
	report(os.Stdout, plan)
	fmt.Printf("\n%d guests in %v, after %v of preparation\n", len(plan), (time.Since(began) - ready).Round(time.Second), ready.Round(time.Second))
	if o.keep != "" {
		if err := keepConsoles(plan, o.keep); err != nil {
			return err
		}
	}
	for _, g := range plan {
		if !g.passed() {
			return fmt.Errorf("%s: %s", g.name(), g.complaint())
		}
	}
	if o.write != "" {
		return os.WriteFile(o.write, []byte(matrix(ctx, plan)), 0o644)
	}
	return nil
}

// bootAll boots the guests, a few at a time.
func bootAll(ctx context.Context, plan []*guest, jobs int) {
	slots := make(chan struct{}, max(1, jobs))
	var wg sync.WaitGroup
	for _, g := range plan {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			g.boot(ctx)
			progress("%-22s %s", g.name(), g.summary())
		})
	}
	wg.Wait()
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
