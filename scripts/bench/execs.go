// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/scripts/internal/stage"
)

const (
	rounds     = 16   // off, on, on, off, ...
	perRound   = 5000 // execs
	burstRate  = 2000 // execs a second
	burstCount = 60000
)

// execs measures what juratd adds to an exec, and whether it loses any.
func execs(ctx context.Context) ([]figure, error) {
	s, err := stage.Open(ctx, "bin")
	if err != nil {
		return nil, err
	}
	defer s.Close()
	storm, err := buildStorm(s.Dir)
	if err != nil {
		return nil, err
	}
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
	off, on, err := alternate(ctx, s, h, storm)
	if err != nil {
		return nil, err
	}
	burst, err := lossless(ctx, s, h, storm)
	if err != nil {
		return nil, err
	}
	return append([]figure{
		{"exec, fork and exit, juratd not running", off, "us", "", 0},
		{"the same, juratd running", on, "us", "juratd not running", round(on / off)},
	}, burst...), nil
}

func buildStorm(dir string) (string, error) {
	storm := filepath.Join(dir, "storm")
	out, err := exec.Command("gcc", "-O1", "-static", "-nostdlib", "-fno-stack-protector", "-fno-builtin", "-o", storm, "scripts/bench/storm/storm.c").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building storm: %v: %s", err, out)
	}
	return storm, nil
}

// alternate runs the same loop with and without juratd, A B B A, and returns
// the medians in microseconds for one exec.
func alternate(ctx context.Context, s *stage.Stage, h *stage.Host, storm string) (off, on float64, err error) {
	var without, with []float64
	for i := range rounds {
		running := i%4 == 1 || i%4 == 2
		if running {
			if err := s.StartAgent(h); err != nil {
				return 0, 0, err
			}
		}
		begin := time.Now()
		if out, err := exec.CommandContext(ctx, storm, strconv.Itoa(perRound)).CombinedOutput(); err != nil {
			return 0, 0, fmt.Errorf("storm: %v: %s", err, out)
		}
		each := float64(time.Since(begin).Microseconds()) / perRound
		if running {
			with = append(with, each)
			if err := s.StopAgent(h); err != nil {
				return 0, 0, err
			}
		} else {
			without = append(without, each)
		}
	}
	return median(without), median(with), nil
}

// lossless execs at a fixed rate and asks juratd what it missed.
func lossless(ctx context.Context, s *stage.Stage, h *stage.Host, storm string) ([]figure, error) {
	if err := s.StartAgent(h); err != nil {
		return nil, err
	}
	before, err := status(s, h)
	if err != nil {
		return nil, err
	}
	agent := h.Agent
	begin := time.Now()
	if out, err := exec.CommandContext(ctx, storm, strconv.Itoa(burstCount), strconv.Itoa(burstRate)).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("storm: %v: %s", err, out)
	}
	took := time.Since(begin)
	after, err := settled(s, h, before.LogSize+burstCount)
	if err != nil {
		return nil, err
	}
	if err := s.StopAgent(h); err != nil {
		return nil, err
	}
	rate := float64(burstCount) / took.Seconds()
	return []figure{
		{"execs offered for 30 s", math.Round(rate), "1/s", "2000 asked for", round(rate / burstRate)},
		{"log entries for them", float64(after.LogSize - before.LogSize), "entries", "execs", round(float64(after.LogSize-before.LogSize) / burstCount)},
		{"kernel records lost", float64(after.Lost - before.Lost), "records", "must be 0", 0},
		{"juratd, processor time over its life", round(agent.Usage().Seconds() / took.Seconds()), "cores", "", 0},
	}, nil
}

// settled waits until juratd has written at least size entries, or stopped
// making progress.
func settled(s *stage.Stage, h *stage.Host, size uint64) (local.Status, error) {
	for last := uint64(0); ; {
		now, err := status(s, h)
		if err != nil || now.LogSize >= size || now.LogSize == last {
			return now, err
		}
		last = now.LogSize
		time.Sleep(500 * time.Millisecond)
	}
}

func status(s *stage.Stage, h *stage.Host) (local.Status, error) {
	client := local.Client{Socket: h.Socket}
	answer, err := client.Status(context.Background())
	if err != nil {
		return local.Status{}, err
	}
	return *answer, nil
}

func median(x []float64) float64 {
	slices.Sort(x)
	return round((x[(len(x)-1)/2] + x[len(x)/2]) / 2)
}

func round(x float64) float64 { return math.Round(x*100) / 100 }
