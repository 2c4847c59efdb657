// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/scripts/internal/stage"
)

// host is an enrolled host whose juratd does not run yet.
type host struct {
	*stage.Stage
	*stage.Host
	ctx context.Context
}

// onHost returns a part that measures on a host of its own.
func onHost(do func(*host) ([]figure, error)) func(context.Context) ([]figure, error) {
	return func(ctx context.Context) ([]figure, error) {
		s, err := stage.Open(ctx, "bin")
		if err != nil {
			return nil, err
		}
		defer s.Close()
		h, err := s.AddHost("bench")
		if err != nil {
			return nil, err
		}
		if err := s.StartBroker(); err != nil {
			return nil, err
		}
		if err := s.Enrol(h); err != nil {
			return nil, err
		}
		return do(&host{s, h, ctx})
	}
}

// start runs juratd and waits until it has taken in what runs already.
func (h *host) start() error {
	if err := h.StartAgent(h.Host); err != nil {
		return err
	}
	_, err := h.settled(math.MaxUint64)
	return err
}

func (h *host) stop() error { return h.StopAgent(h.Host) }

// alternate calls one rounds times without juratd and rounds times with it, in
// the order off, on, on, off, so that a machine that gets slower does so for both.
func (h *host) alternate(rounds int, one func(running bool) error) error {
	for i := range 2 * rounds {
		running := i%4 == 1 || i%4 == 2
		if running && h.Agent == nil {
			if err := h.start(); err != nil {
				return err
			}
		}
		if !running && h.Agent != nil {
			if err := h.stop(); err != nil {
				return err
			}
		}
		if err := one(running); err != nil {
			return err
		}
	}
	if h.Agent == nil {
		return nil
	}
	return h.stop()
}

// bare compiles one of the programs without a C library.
func (h *host) bare(name string) (string, error) {
	program := h.Path(name)
	out, err := exec.CommandContext(h.ctx, "gcc", "-O1", "-static", "-nostdlib", "-fno-stack-protector", "-fno-builtin",
		"-o", program, filepath.Join("scripts/bench/storm", name+".c")).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building %s: %v: %s", name, err, out)
	}
	return program, nil
}

func (h *host) status() (local.Status, error) {
	answer, err := (&local.Client{Socket: h.Socket}).Status(h.ctx)
	if err != nil {
		return local.Status{}, err
	}
	return *answer, nil
}

// settled waits until juratd has written at least size entries, or stopped
// making progress.
func (h *host) settled(size uint64) (local.Status, error) {
	for last := uint64(math.MaxUint64); ; {
		now, err := h.status()
		if err != nil || now.LogSize >= size || now.LogSize == last {
			return now, err
		}
		last = now.LogSize
		time.Sleep(time.Second)
	}
}

// memory returns what juratd holds in memory now and held at most, in MiB:
// VmRSS and VmHWM of proc_pid_status(5).
func (h *host) memory() (now, most float64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.Agent.PID()))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		switch name {
		case "VmRSS":
			now = kib / 1024
		case "VmHWM":
			most = kib / 1024
		}
	}
	return now, most, nil
}

// processor returns the processor time that juratd has used, to 10 ms:
// utime and stime of proc_pid_stat(5).
func (h *host) processor() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.Agent.PID()))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields behind the name", h.Agent.PID(), len(fields))
	}
	const tick = 10 * time.Millisecond
	var sum time.Duration
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}

func (h *host) sleep(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-h.ctx.Done():
		return h.ctx.Err()
	}
}

// quartile returns what a quarter of x is below: what else the machine does
// only ever adds to a time.
func quartile(x []float64) float64 {
	return slices.Sorted(slices.Values(x))[len(x)/4]
}

func round(x float64) float64 { return math.Round(x*100) / 100 }
