// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jurat-dev/jurat/internal/require"
	"github.com/jurat-dev/jurat/internal/softtpm"
)

func TestRunsUntilItIsTold(t *testing.T) {
	require.Need(t, "tpm", softtpm.Available())
	dir, err := os.MkdirTemp("", "softtpm")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	r, w := io.Pipe()
	status := make(chan int, 1)
	var stderr bytes.Buffer
	go func() {
		status <- run([]string{"-dir", dir, "-firmware"}, w, &stderr)
		w.Close()
	}()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err, <-status, stderr.String())
	}
	path := strings.TrimSuffix(line, "\n")
	if path != filepath.Join(dir, "tpm.sock") {
		t.Errorf("first line is %q", line)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	// TPM2_GetRandom of two bytes: once it is answered the TPM knows of this client.
	if _, err := conn.Write([]byte{0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 2}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 14)); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("a reset left the client connected")
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := <-status; code != 0 {
		t.Errorf("exit %d\n%s", code, &stderr)
	}
	for _, name := range []string{"state", "ca"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err) // the TPM is to be the same next time
		}
	}
}

func TestUsage(t *testing.T) {
	for want, args := range map[int][]string{
		0: {"-h"},
		2: {"-firmware"},
		3: {"-dir", "/dev/null/x"},
	} {
		if code := run(args, io.Discard, io.Discard); code != want {
			t.Errorf("%q: exit %d, want %d", args, code, want)
		}
	}
}
