// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

var (
	// ErrExited says that the process ended before it was measured.
	ErrExited = errors.New("process has ended")
	// ErrChanged says that the process runs another program by now than the
	// one that was to be measured.
	ErrChanged = errors.New("process runs another program by now")

	errTooLarge = errors.New("too large")
	errTooMany  = errors.New("too many")
	errRaced    = errors.New("changed while being read")
)

const clockTick = 10_000_000 // nanoseconds in a tick of /proc/PID/stat

// target is a process held by pidfd, with its directory in /proc open. The
// directory descriptor stays with the process: when the process has ended,
// reads through it say so, whoever has its pid by then.
type target struct {
	pidfd int
	dir   int
	pid   uint32
	inode uint64 // of the pidfd; 0 on kernels before 6.9
	proc  procfs.Proc
}

// attach opens the directory of the process behind pidfd. The process was
// alive after that, so the directory is its own.
func (m *Meter) attach(pidfd int) (*target, error) {
	pid, err := pidOf(pidfd)
	if err != nil {
		return nil, err
	}
	dir, err := unix.Openat(m.procDir, strconv.Itoa(int(pid)), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening /proc/%d: %w", pid, ErrExited)
	}
	t := &target{pidfd: pidfd, dir: dir, pid: pid}
	if !t.alive() {
		t.close()
		return nil, fmt.Errorf("process %d: %w", pid, ErrExited)
	}
	if t.inode, err = pidfdInode(pidfd); err != nil {
		t.close()
		return nil, err
	}
	// procfs reads DIR/NUMBER: the descriptor's number instead of a pid.
	if t.proc, err = m.fdFS.Proc(dir); err != nil {
		t.close()
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	return t, nil
}

func (t *target) close() { unix.Close(t.dir) }

// alive reports whether any thread of the process is left.
func (t *target) alive() bool { return alive(t.pidfd) }

func alive(pidfd int) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 0)
		if err == unix.EINTR {
			continue
		}
		return err == nil && n == 0
	}
}

// is reports whether the process is the one i names, whatever it runs.
func (t *target) is(i evidence.Instance) (bool, error) {
	if t.pid != i.PID {
		return false, nil
	}
	if t.inode != 0 && i.PidfdInode != 0 {
		return t.inode == i.PidfdInode, nil
	}
	start, err := t.start()
	return start == i.Start-i.Start%clockTick, err
}

// start is when the process started, in nanoseconds since boot, rounded down
// to clock ticks.
func (t *target) start() (uint64, error) {
	st, err := t.proc.Stat()
	if err != nil {
		return 0, fmt.Errorf("process %d: %w", t.pid, err)
	}
	return st.Starttime * clockTick, nil
}

// read returns the whole of a file of the process's directory.
func (t *target) read(name string, limit int) ([]byte, error) {
	fd, err := unix.Openat(t.dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(b) > limit {
		return nil, fmt.Errorf("/proc/%d/%s: %w", t.pid, name, errTooLarge)
	}
	return b, nil
}

// link opens what a link of the process's directory leads to, without
// touching the file: devices do not notice.
func (t *target) link(name string) (int, error) {
	return unix.Openat(t.dir, name, unix.O_PATH|unix.O_CLOEXEC, 0)
}

// readlink returns what a link of the process's directory says it leads to: a hint.
func (t *target) readlink(name string) (string, error) {
	return readlinkAt(t.dir, name)
}

func readlinkAt(dir int, name string) (string, error) {
	buf := make([]byte, 4096)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// pathOf returns the path of an open file as the kernel shows it: a hint.
func pathOf(fd int) string {
	s, err := readlinkAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd))
	if err != nil {
		return ""
	}
	return s
}

// pidOf returns the pid of the process behind pidfd, in our pid namespace.
func pidOf(pidfd int) (uint32, error) {
	data, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(pidfd))
	if err != nil {
		return 0, fmt.Errorf("descriptor %d: %w", pidfd, err)
	}
	for line := range bytes.Lines(data) {
		rest, ok := bytes.CutPrefix(line, []byte("Pid:"))
		if !ok {
			continue
		}
		pid, err := strconv.Atoi(string(bytes.TrimSpace(rest)))
		if err != nil {
			return 0, fmt.Errorf("descriptor %d: malformed pid %q", pidfd, rest)
		}
		if pid <= 0 {
			return 0, fmt.Errorf("descriptor %d: %w", pidfd, ErrExited)
		}
		return uint32(pid), nil
	}
	return 0, fmt.Errorf("descriptor %d is no pidfd", pidfd)
}

// pidfdInode returns the inode of a pidfd where it names the process (kernel
// 6.9 and newer), else 0.
func pidfdInode(pidfd int) (uint64, error) {
	magic, err := fileSystem(pidfd)
	if err != nil {
		return 0, fmt.Errorf("pidfd %d: %w", pidfd, err)
	}
	if magic != unix.PID_FS_MAGIC {
		return 0, nil
	}
	st, err := fstat(pidfd)
	return st.id.Inode, err
}
