// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// tracefs is the directory in which the kernel lists its tracepoints. Where
// nobody mounted it, a mount of our own serves that no other process sees.
type tracefs struct{ dir *os.File }

const tracefsMagic = 0x74726163

func openTracefs() (*tracefs, error) {
	for _, path := range []string{"/sys/kernel/tracing", "/sys/kernel/debug/tracing"} {
		var st unix.Statfs_t
		if unix.Statfs(path, &st) != nil || st.Type != tracefsMagic {
			continue
		}
		if dir, err := os.Open(path); err == nil {
			return &tracefs{dir}, nil
		}
	}
	context, err := unix.Fsopen("tracefs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("tracefs is not mounted, and opening it: %w", err)
	}
	defer unix.Close(context)
	if err := unix.FsconfigCreate(context); err != nil {
		return nil, fmt.Errorf("tracefs is not mounted, and making it: %w", err)
	}
	mount, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("tracefs is not mounted, and mounting it for ourselves: %w", err)
	}
	return &tracefs{os.NewFile(uintptr(mount), "tracefs")}, nil
}

func (t *tracefs) Close() error { return t.dir.Close() }

// id returns the number of a tracepoint, such as "syscalls/sys_exit_open".
func (t *tracefs) id(tracepoint string) (uint64, error) {
	path := "events/" + tracepoint + "/id"
	fd, err := unix.Openat(int(t.dir.Fd()), path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: t.dir.Name() + "/" + path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 64))
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
}

// attach attaches a program to a tracepoint by a link that can be pinned.
func (t *tracefs) attach(tracepoint string, p *ebpf.Program) (link.Link, error) {
	id, err := t.id(tracepoint)
	if err != nil {
		return nil, err
	}
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_TRACEPOINT, Config: id, Sample_type: unix.PERF_SAMPLE_RAW, Sample: 1, Wakeup: 1}
	attr.Size = uint32(unix.PERF_ATTR_SIZE_VER1)
	// The program runs on every CPU, whichever the event is opened on.
	event, err := unix.PerfEventOpen(&attr, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("opening the event of %s: %w", tracepoint, err)
	}
	defer unix.Close(event) // the link holds it
	l, err := link.AttachRawLink(link.RawLinkOptions{Target: event, Program: p, Attach: ebpf.AttachPerfEvent})
	if err != nil {
		return nil, err
	}
	return l, nil
}
