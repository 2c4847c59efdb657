// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"
)

// gust is what one storm came to.
type gust struct {
	count     int           // programs it started
	took      time.Duration // by the clock
	processor time.Duration // used by it and them
}

// runStorm runs storm to its end.
func (h *host) runStorm(program string, args ...int) (r gust, err error) {
	var texts []string
	for _, a := range args {
		texts = append(texts, strconv.Itoa(a))
	}
	cmd := exec.CommandContext(h.ctx, program, texts...)
	out, err := cmd.Output()
	if err != nil {
		return r, fmt.Errorf("storm: %w", err)
	}
	r.processor = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	_, err = fmt.Sscan(string(out), &r.count, &r.took)
	return r, err
}

// each is the time for one program in microseconds.
func (r *gust) each(d time.Duration) float64 {
	return float64(d.Nanoseconds()) / 1000 / float64(r.count)
}

// execs measures what juratd adds to an exec: the same loop with and without
// it, many short ones, so that what else the machine does falls on few.
func execs(h *host) ([]figure, error) {
	const rounds, loops, perLoop = 8, 40, 100
	storm, err := h.bare("storm")
	if err != nil {
		return nil, err
	}
	clock, processor := make(map[bool][]float64), make(map[bool][]float64)
	var quiet []float64 // the quartile of each round without juratd
	err = h.alternate(rounds, func(running bool) error {
		first := len(clock[running])
		for i := range loops {
			r, err := h.runStorm(storm, perLoop)
			if err != nil {
				return err
			}
			if i > 0 { // the first warms up
				clock[running], processor[running] = append(clock[running], r.each(r.took)), append(processor[running], r.each(r.processor))
			}
		}
		if !running {
			quiet = append(quiet, quartile(clock[running][first:]))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	off, on := quartile(clock[false]), quartile(clock[true])
	cpuOff, cpuOn := quartile(processor[false]), quartile(processor[true])
	return []figure{
		{Name: "posix_spawn and wait of a static program, juratd off", Figure: round(off), Unit: "us"},
		{Name: "between rounds of that, at most", Figure: round(slices.Max(quiet) - slices.Min(quiet)), Unit: "us", Ratio: slices.Max(quiet) / slices.Min(quiet), ComparedTo: "each other"},
		{Name: "the same, juratd on", Figure: round(on), Unit: "us", Ratio: on / off, ComparedTo: "juratd off"},
		figure{Name: "added to each exec", Figure: round(on - off), Unit: "us"}.atMost(15),
		{Name: "added to each exec, processor time", Figure: round(cpuOn - cpuOff), Unit: "us", Ratio: cpuOn / cpuOff, ComparedTo: "juratd off"},
	}, nil
}

// storms starts programs as fast as asked or as the machine can, from every
// CPU, and asks juratd what it missed.
func storms(h *host) ([]figure, error) {
	const asked, seconds = 5000, 60
	storm, err := h.bare("storm")
	if err != nil {
		return nil, err
	}
	if err := h.start(); err != nil {
		return nil, err
	}
	before, err := h.status()
	if err != nil {
		return nil, err
	}
	spent, err := h.processor()
	if err != nil {
		return nil, err
	}
	count, err := h.stormAll(storm, asked, seconds)
	if err != nil {
		return nil, err
	}
	after, err := h.settled(before.LogSize + uint64(count))
	if err != nil {
		return nil, err
	}
	used, err := h.processor()
	if err != nil {
		return nil, err
	}
	_, most, err := h.memory()
	if err != nil {
		return nil, err
	}
	logged := float64(after.LogSize - before.LogSize)
	rate := float64(count) / seconds
	return []figure{
		{Name: "execs for 60 s", Figure: round(rate), Unit: "1/s", Ratio: rate / asked, ComparedTo: "5000 asked for"},
		figure{Name: "kernel records of them lost", Figure: float64(after.Lost - before.Lost), Unit: "records"}.atMost(0),
		figure{Name: "log entries for them", Figure: logged, Unit: "entries", Ratio: logged / float64(count), ComparedTo: "execs"}.atLeast(float64(count)),
		{Name: "juratd meanwhile", Figure: round((used - spent).Seconds() / seconds), Unit: "cores"},
		{Name: "juratd meanwhile, memory at most", Figure: round(most), Unit: "MiB"},
	}, h.stop()
}

// stormAll runs one storm for each CPU, at rate together.
func (h *host) stormAll(program string, rate, seconds int) (count int, err error) {
	cpus := runtime.NumCPU()
	var (
		each sync.WaitGroup
		mu   sync.Mutex // guards count and err
	)
	for range cpus {
		each.Go(func() {
			r, failed := h.runStorm(program, rate*seconds, rate/cpus, seconds)
			mu.Lock()
			defer mu.Unlock()
			if count += r.count; failed != nil {
				err = failed
			}
		})
	}
	each.Wait()
	return count, err
}
