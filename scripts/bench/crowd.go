// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bufio"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// idle measures juratd on a host where next to nothing happens.
func idle(h *host) ([]figure, error) {
	const seconds = 60
	if err := h.start(); err != nil {
		return nil, err
	}
	if err := h.sleep(5 * time.Second); err != nil {
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
	if err := h.sleep(seconds * time.Second); err != nil {
		return nil, err
	}
	used, err := h.processor()
	if err != nil {
		return nil, err
	}
	after, err := h.status()
	if err != nil {
		return nil, err
	}
	now, _, err := h.memory()
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("juratd on an idle host, 60 s (%d log entries)", after.LogSize-before.LogSize)
	return []figure{
		figure{Name: name, Figure: round(100 * (used - spent).Seconds() / seconds), Unit: "% of a core"}.atMost(0.5),
		{Name: "memory of juratd there", Figure: round(now), Unit: "MiB"},
	}, h.stop()
}

// crowd measures how much memory juratd takes with many live processes, each
// an exec of its own.
func crowd(h *host) ([]figure, error) {
	const count = 20000
	program, err := h.bare("crowd")
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
	cmd := exec.CommandContext(h.ctx, program, strconv.Itoa(count))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("crowd: %w", err)
	}
	made, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return nil, err
	}
	if made < count {
		return nil, fmt.Errorf("this machine started %d processes of %d: see pid_max, ulimit -u and pids.max", made, count)
	}
	s, err := h.settled(before.LogSize + count)
	if err != nil {
		return nil, err
	}
	if err := h.sleep(10 * time.Second); err != nil {
		return nil, err
	}
	now, most, err := h.memory()
	if err != nil {
		return nil, err
	}
	return []figure{
		figure{Name: fmt.Sprintf("memory of juratd with %d live processes", s.Instances), Figure: round(now), Unit: "MiB"}.atMost(64),
		{Name: "at most since its start", Figure: round(most), Unit: "MiB"},
	}, h.stop()
}
