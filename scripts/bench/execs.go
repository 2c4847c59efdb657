// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"fmt"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"time"
)

// runStorm runs storm to its end: how many programs it started, and how long
// that took.
func (h *host) runStorm(program string, args ...int) (count int, took time.Duration, err error) {
	var texts []string
	for _, a := range args {
		texts = append(texts, strconv.Itoa(a))
	}
	out, err := exec.CommandContext(h.ctx, program, texts...).Output()
	if err != nil {
		return 0, 0, fmt.Errorf("storm: %w", err)
	}
	_, err = fmt.Sscan(string(out), &count, &took)
	return count, took, err
}

// execs measures what juratd adds to an exec: the same loop with and without
// it, many short ones, so that what else the machine does falls on few.
func execs(h *host) ([]figure, error) {
	const rounds, loops, perLoop = 8, 16, 500
	storm, err := h.bare("storm")
	if err != nil {
		return nil, err
	}
	micros := make(map[bool][]float64)
	err = h.alternate(rounds, func(running bool) error {
		for i := range loops {
			count, took, err := h.runStorm(storm, perLoop)
			if err != nil {
				return err
			}
			if i > 0 { // the first warms up
				micros[running] = append(micros[running], float64(took.Nanoseconds())/1000/float64(count))
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	off, on := median(micros[false]), median(micros[true])
	return []figure{
		{Name: "posix_spawn and wait of a static program, juratd off", Figure: round(off), Unit: "us"},
		{Name: "the same, juratd on", Figure: round(on), Unit: "us", Ratio: on / off, ComparedTo: "juratd off"},
		figure{Name: "added to each exec", Figure: round(on - off), Unit: "us"}.atMost(15),
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
			n, _, failed := h.runStorm(program, rate*seconds, rate/cpus, seconds)
			mu.Lock()
			defer mu.Unlock()
			if count += n; failed != nil {
				err = failed
			}
		})
	}
	each.Wait()
	return count, err
}
