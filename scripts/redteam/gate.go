// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jurat-dev/jurat/agent/local"
)

// firstRun runs a program that nobody knows, which ends at once and is gone.
// The log has to say what it was: that is the answer this attack gets.
func (f *field) firstRun(ctx context.Context) ([]string, error) {
	program, err := os.ReadFile(filepath.Join(f.work, "brief"))
	if err != nil {
		return nil, err
	}
	program = append(program, time.Now().String()...) // nobody has seen it before
	path := filepath.Join(f.work, "first-run")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		return nil, err
	}
	hearing, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	listening, found := make(chan struct{}), ""
	done := make(chan error, 1)
	go func() {
		client := local.Client{Socket: f.host.Socket}
		close(listening)
		done <- client.Events(hearing, func(ev *local.Event) error {
			if ev.Entry == nil || ev.Entry.Exec == nil || ev.Entry.Exec.Hint != path {
				return nil
			}
			file, _ := ev.Entry.Exec.Exe.Observed()
			d, seen := file.Digest.Observed()
			if found = "not measured: " + file.Digest.String(); seen {
				found = hex.EncodeToString(d.Value)
			}
			cancel()
			return nil
		})
	}()
	<-listening
	time.Sleep(100 * time.Millisecond) // until juratd has taken us in
	err = exec.CommandContext(ctx, path).Run()
	if removed := os.Remove(path); err != nil || removed != nil {
		return nil, errors.Join(err, removed)
	}
	if err := <-done; found == "" {
		return nil, fmt.Errorf("no entry about it: %w", err)
	}
	lines := []string{"deed a program ran for the first time, ended at once and was deleted"}
	if sum := sha256.Sum256(program); found != hex.EncodeToString(sum[:]) {
		return append(lines, `answer 0 {"token":"`+found+`"}`), nil
	}
	return append(lines, `answer 0 {"error":{"code":"its digest is in the log","message":""}}`), nil
}

// hung is after how long an exec that is held counts as a host that hangs.
const hung = 20 * time.Second

// lamedGate sends the process that holds execs a signal and starts an honest
// worker: it must run before long, and must get nothing, since nothing held it.
func (f *field) lamedGate(ctx context.Context, signal syscall.Signal) ([]string, error) {
	pid, err := f.juratd(true)
	if err != nil {
		return nil, err
	}
	stop := storm(ctx)
	if err := syscall.Kill(pid, signal); err != nil {
		stop()
		return nil, err
	}
	began := time.Now()
	cmd, out, err := f.start(ctx, user, filepath.Join(f.work, "worker"), "ask answer")
	took := time.Since(began)
	if err == nil {
		err = cmd.Wait()
	}
	ran := stop()
	lines := strings.Split(out.String(), "\n")
	if took > hung {
		lines = append(lines, fmt.Sprintf(`answer 0 {"token":"the host hung for %v"}`, took.Round(time.Second)))
	}
	for again := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		if next, err := f.juratd(true); err == nil && next != pid {
			break
		}
		if time.Now().After(again) {
			return nil, errors.New("no process holds execs again")
		}
	}
	time.Sleep(time.Second) // it holds by then, and the honest may ask again
	return append(lines, fmt.Sprintf("deed the gate got %s while %d programs ran; the next was held for %d ms", signal, ran, took.Milliseconds())), err
}
