// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package peer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Mode is how the kernel names the writer of a message.
type Mode uint8

// The modes, strongest first.
const (
	ModeMessage Mode = iota + 1 // SCM_PIDFD with each message (Linux 6.5)
	ModeOpen                    // pid with each message, pidfd opened after it
)

// String returns the name of the mode as status shows it.
func (m Mode) String() string {
	switch m {
	case ModeMessage:
		return "scm-pidfd"
	case ModeOpen:
		return "pidfd-open"
	}
	return fmt.Sprintf("mode-%d", uint8(m))
}

// Detect returns the strongest mode of this kernel.
func Detect() (Mode, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	if unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_PASSPIDFD, 1) != nil {
		return ModeOpen, nil
	}
	own, err := unix.GetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if err != nil {
		return ModeOpen, nil
	}
	return ModeMessage, unix.Close(own)
}

// Peer is the process that connected and wrote. Close it.
type Peer struct {
	Pidfd int // of the writer
	PID   uint32
	UID   uint32 // effective, when it wrote
	GID   uint32
	// Before is set in ModeOpen: the process counts only if it started before
	// that moment, in nanoseconds since boot. Nobody but the sensor knows its
	// start to the nanosecond, so the caller has to compare.
	Before uint64
	Child  int // pidfd that came along, or -1
}

// Close closes the descriptors.
func (p *Peer) Close() {
	if p.Pidfd >= 0 {
		unix.Close(p.Pidfd)
	}
	if p.Child >= 0 {
		unix.Close(p.Child)
	}
	p.Pidfd, p.Child = -1, -1
}

// Connection is one accepted connection, before anything was read from it.
type Connection struct {
	conn      *net.UnixConn
	mode      Mode
	pidfd     int // of the connector; -1 in ModeOpen
	pid       uint32
	UID       uint32 // of the connector: for quotas only
	greetedAt uint64 // nanoseconds since boot
}

// ErrDoubt is wrapped by every error that says that the peer is in doubt.
var ErrDoubt = errors.New("caller is in doubt")

func doubt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDoubt, fmt.Sprintf(format, args...))
}

// Accept makes the kernel name the writer of every message from now on, and
// notes who connected. Call it before the greeting; Close it in any case.
func Accept(conn *net.UnixConn, mode Mode) (*Connection, error) {
	c := &Connection{conn: conn, mode: mode, pidfd: -1}
	err := c.control(func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
			return os.NewSyscallError("setsockopt SO_PASSCRED", err)
		}
		cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			return os.NewSyscallError("getsockopt SO_PEERCRED", err)
		}
		if cred.Pid <= 0 {
			return doubt("who connected is in another pid namespace")
		}
		c.pid, c.UID = uint32(cred.Pid), cred.Uid
		if mode != ModeMessage {
			return nil
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSPIDFD, 1); err != nil {
			return os.NewSyscallError("setsockopt SO_PASSPIDFD", err)
		}
		if c.pidfd, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD); err != nil {
			c.pidfd = -1
			return doubt("who connected is gone: %v", err)
		}
		return nil
	})
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// PID returns the pid of the connector: for quotas only.
func (c *Connection) PID() uint32 { return c.pid }

// Close closes what Accept opened; not the connection.
func (c *Connection) Close() {
	if c.pidfd >= 0 {
		unix.Close(c.pidfd)
		c.pidfd = -1
	}
}

func (c *Connection) control(f func(fd int) error) error {
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// Greet sends the greeting. What is read after it was written after it.
func (c *Connection) Greet(line []byte) error {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return os.NewSyscallError("clock_gettime", err)
	}
	c.greetedAt = uint64(ts.Nano())
	_, err := c.conn.Write(line)
	return err
}

// ErrMessage is wrapped by errors about the form of the message.
var ErrMessage = errors.New("malformed message")

// Receive reads one line of at most limit bytes and returns it with its
// writer. Deadlines are the connection's.
func (c *Connection) Receive(limit int) ([]byte, *Peer, error) {
	p := &Peer{Pidfd: -1, Child: -1}
	line, err := c.receive(p, limit)
	if err != nil {
		p.Close()
		return nil, nil, err
	}
	return line, p, nil
}

func (c *Connection) receive(p *Peer, limit int) ([]byte, error) {
	buf := make([]byte, 0, 1024)
	chunk, oob := make([]byte, 4096), make([]byte, 512)
	for {
		n, control, flags, _, err := c.conn.ReadMsgUnix(chunk, oob)
		got, parseErr := parseControl(oob[:control])
		if errors.Is(err, io.EOF) || err == nil && n == 0 {
			err = fmt.Errorf("%w: ends without a newline", ErrMessage)
		}
		if err == nil && flags&(unix.MSG_CTRUNC|unix.MSG_TRUNC) != 0 {
			err = fmt.Errorf("%w: too many descriptors", ErrMessage)
		}
		if err := errors.Join(err, parseErr); err != nil {
			got.close()
			return nil, err
		}
		if err := c.writer(p, got); err != nil {
			return nil, err
		}
		buf = append(buf, chunk[:n]...)
		end := bytes.IndexByte(buf, '\n')
		switch {
		case end >= 0 && end+1 < len(buf):
			return nil, fmt.Errorf("%w: more than one line", ErrMessage)
		case end >= 0 && end+1 <= limit:
			return buf[:end], nil
		case len(buf) >= limit:
			return nil, fmt.Errorf("%w: more than %d bytes", ErrMessage, limit)
		}
	}
}

// writer holds the writer of one piece against the connector, and takes over
// the descriptors in got.
func (c *Connection) writer(p *Peer, got control) error {
	defer got.close()
	if got.cred == nil {
		return doubt("the kernel does not name the writer")
	}
	if got.cred.Pid <= 0 {
		return doubt("the writer is in another pid namespace")
	}
	pid := uint32(got.cred.Pid)
	switch {
	case pid != c.pid:
		return doubt("process %d writes on the connection of process %d", pid, c.pid)
	case p.Pidfd >= 0 && (p.UID != got.cred.Uid || p.GID != got.cred.Gid):
		return doubt("process %d changed its user between two writes", pid)
	}
	p.PID, p.UID, p.GID = pid, got.cred.Uid, got.cred.Gid
	if len(got.rights) > 1 || len(got.rights) == 1 && p.Child >= 0 {
		return fmt.Errorf("%w: more than one descriptor", ErrMessage)
	}
	if len(got.rights) == 1 {
		p.Child, got.rights[0] = got.rights[0], -1
	}
	if c.mode == ModeMessage {
		return c.named(p, &got)
	}
	return c.opened(p)
}

// named takes the pidfd that came with the message.
func (c *Connection) named(p *Peer, got *control) error {
	if got.pidfd < 0 {
		return doubt("the writer, process %d, is gone", p.PID)
	}
	if err := same(got.pidfd, c.pidfd); err != nil {
		return err
	}
	if p.Pidfd < 0 {
		p.Pidfd, got.pidfd = got.pidfd, -1
	}
	return nil
}

// opened opens a pidfd for the writer's pid. The writer lived after the
// greeting; so a process of that pid that started before the greeting is the
// writer, and one that started after it is not.
func (c *Connection) opened(p *Peer) error {
	p.Before = c.greetedAt
	if p.Pidfd >= 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(int(p.PID), 0)
	if err != nil {
		return doubt("the writer, process %d, is gone: %v", p.PID, err)
	}
	p.Pidfd = fd
	return nil
}

// same reports whether two pidfds are of one process. Where pidfds have an
// inode of their own (Linux 6.9) that decides. Before, the pids in our
// namespace do: both processes are held by a pidfd, and both live.
func same(a, b int) error {
	var sa, sb unix.Stat_t
	if err := errors.Join(unix.Fstat(a, &sa), unix.Fstat(b, &sb)); err != nil {
		return doubt("fstat of a pidfd: %v", err)
	}
	if sa.Ino != sb.Ino || sa.Dev != sb.Dev {
		return doubt("the writer is not the process that connected")
	}
	pa, err := PID(a)
	if err != nil {
		return doubt("the writer: %v", err)
	}
	pb, err := PID(b)
	if err != nil {
		return doubt("who connected: %v", err)
	}
	if pa != pb {
		return doubt("process %d writes on the connection of process %d", pa, pb)
	}
	return nil
}

// PID returns the pid behind a pidfd in our pid namespace, if it lives.
func PID(pidfd int) (uint32, error) {
	info, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(pidfd))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(info) {
		if text, ok := bytes.CutPrefix(line, []byte("Pid:")); ok {
			pid, err := strconv.Atoi(string(bytes.TrimSpace(text)))
			if err != nil || pid <= 0 {
				return 0, errors.New("process has ended")
			}
			return uint32(pid), nil
		}
	}
	return 0, errors.New("descriptor is no pidfd")
}

// control is what came beside a piece of a message.
type control struct {
	cred   *unix.Ucred
	pidfd  int
	rights []int
}

func (c *control) close() {
	if c.pidfd >= 0 {
		unix.Close(c.pidfd)
	}
	for _, fd := range c.rights {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

func parseControl(oob []byte) (control, error) {
	c := control{pidfd: -1}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return c, fmt.Errorf("%w: control data: %v", ErrMessage, err)
	}
	for i := range messages {
		m := &messages[i]
		if m.Header.Level != unix.SOL_SOCKET {
			continue
		}
		switch m.Header.Type {
		case unix.SCM_CREDENTIALS:
			if c.cred, err = unix.ParseUnixCredentials(m); err != nil {
				return c, fmt.Errorf("%w: credentials: %v", ErrMessage, err)
			}
		case unix.SCM_RIGHTS:
			fds, err := unix.ParseUnixRights(m)
			c.rights = append(c.rights, fds...)
			if err != nil {
				return c, fmt.Errorf("%w: descriptors: %v", ErrMessage, err)
			}
		case unix.SCM_PIDFD:
			if len(m.Data) >= 4 {
				c.pidfd = int(int32(binary.NativeEndian.Uint32(m.Data)))
			}
		}
	}
	return c, nil
}
