// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package peer

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stranger is set in another process of these tests, and says what it does.
const stranger = "JURAT_PEER_STRANGER"

func TestMain(m *testing.M) {
	what, argument, ok := strings.Cut(os.Getenv(stranger), " ")
	if !ok {
		os.Exit(m.Run())
	}
	if err := behave(what, argument); err != nil {
		fmt.Fprintln(os.Stderr, what, err)
		os.Exit(1)
	}
}

// behave is what a stranger does, with a connection as descriptor 3.
func behave(what, argument string) error {
	if what == "write" { // on somebody else's connection
		f := os.NewFile(3, "connection")
		_, err := io.WriteString(f, argument)
		_, _ = io.Copy(io.Discard, f) // live until the other end has looked at us
		return err
	}
	c, err := net.Dial("unix", argument)
	if err != nil {
		return err
	}
	if what == "die" { // right after writing
		if _, err := c.Read(make([]byte, 1)); err != nil {
			return err
		}
		_, err = io.WriteString(c, "{}\n")
		return err
	}
	f, err := c.(*net.UnixConn).File() // pass it on, and live until told otherwise
	if err != nil {
		return err
	}
	if err := unix.Sendmsg(3, []byte("x"), unix.UnixRights(int(f.Fd())), nil, 0); err != nil {
		return err
	}
	_, err = unix.Read(3, make([]byte, 1))
	return err
}

// start runs a stranger with the connection as its descriptor 3.
func start(t *testing.T, what, argument string, connection *net.UnixConn) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), stranger+"="+what+" "+argument)
	cmd.Stderr = os.Stderr
	if connection != nil {
		f, err := connection.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.ExtraFiles = []*os.File{f}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func modes(t *testing.T, f func(t *testing.T, mode Mode)) {
	strongest, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	for mode := strongest; mode <= ModeOpen; mode++ {
		t.Run(mode.String(), func(t *testing.T) { f(t, mode) })
	}
}

// pair returns both ends of a connection through a socket in the file system.
func pair(t *testing.T) (client, server *net.UnixConn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	s.SetDeadline(time.Now().Add(10 * time.Second))
	return c.(*net.UnixConn), s.(*net.UnixConn)
}

// accepted returns a greeted connection.
func accepted(t *testing.T, mode Mode) (*net.UnixConn, *net.UnixConn, *Connection) {
	t.Helper()
	client, server := pair(t)
	c, err := Accept(server, mode)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := c.Greet([]byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	return client, server, c
}

func openFiles(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func TestWriterIsKnown(t *testing.T) {
	modes(t, func(t *testing.T, mode Mode) {
		client, _, c := accepted(t, mode)
		if c.PID() != uint32(os.Getpid()) || c.UID != uint32(os.Getuid()) {
			t.Errorf("connector %d of user %d", c.PID(), c.UID)
		}
		go func() {
			for _, piece := range []string{"{\"a\":", "1", "}\n"} {
				io.WriteString(client, piece)
				time.Sleep(time.Millisecond)
			}
		}()
		line, p, err := c.Receive(100)
		if err != nil || string(line) != `{"a":1}` {
			t.Fatalf("%q, %v", line, err)
		}
		defer p.Close()
		if p.PID != uint32(os.Getpid()) || p.UID != uint32(os.Getuid()) || p.GID != uint32(os.Getgid()) || p.Child != -1 {
			t.Errorf("peer %+v", p)
		}
		if pid, err := PID(p.Pidfd); err != nil || pid != uint32(os.Getpid()) {
			t.Errorf("pidfd of %d, %v", pid, err)
		}
		if (mode == ModeOpen) != (p.Before != 0) {
			t.Errorf("started before %d", p.Before)
		}
	})
}

func TestForm(t *testing.T) {
	modes(t, func(t *testing.T, mode Mode) {
		for name, c := range map[string]struct {
			send string
			want error
		}{
			"whole":            {strings.Repeat("x", 99) + "\n", nil},
			"one byte more":    {strings.Repeat("x", 100) + "\n", ErrMessage},
			"much more":        {strings.Repeat("x", 100000), ErrMessage},
			"two lines":        {"a\nb\n", ErrMessage},
			"a line and a bit": {"a\nb", ErrMessage},
			"no newline":       {"abc", ErrMessage},
			"nothing":          {"", ErrMessage},
		} {
			client, _, conn := accepted(t, mode)
			go func() {
				io.WriteString(client, c.send)
				client.CloseWrite()
			}()
			line, p, err := conn.Receive(100)
			if name == "much more" && (err == nil || !strings.Contains(err.Error(), "more than 100 bytes")) {
				t.Errorf("%s: %v", name, err)
			}
			if c.want == nil && (err != nil || string(line)+"\n" != c.send) || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%s: %q, %v", name, line, err)
			}
			if p != nil {
				p.Close()
			}
		}
	})
}

func TestSlowWriterMeetsTheDeadline(t *testing.T) {
	client, server, c := accepted(t, ModeOpen)
	io.WriteString(client, "{")
	server.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, _, err := c.Receive(100); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestChildCanComeAlong(t *testing.T) {
	modes(t, func(t *testing.T, mode Mode) {
		before := openFiles(t)
		func() {
			client, server := pair(t)
			defer client.Close()
			defer server.Close()
			c, err := Accept(server, mode)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			own, err := unix.PidfdOpen(os.Getpid(), 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(own)
			for name, rights := range map[string][]int{"one": {own}, "two": {own, own}, "very many": make([]int, 250)} {
				if _, _, err := client.WriteMsgUnix([]byte("a\n"), unix.UnixRights(rights...), nil); err != nil {
					t.Fatal(err)
				}
				_, p, err := c.Receive(100)
				if (name == "one") != (err == nil) || name == "very many" && !strings.Contains(err.Error(), "too many descriptors") {
					t.Fatalf("%s: %v", name, err)
				}
				if err != nil {
					continue
				}
				if pid, err := PID(p.Child); err != nil || pid != uint32(os.Getpid()) {
					t.Errorf("child %d, %v", pid, err)
				}
				if flags, err := unix.FcntlInt(uintptr(p.Child), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
					t.Errorf("the descriptor would be inherited: %x, %v", flags, err)
				}
				p.Close()
			}
		}()
		if after := openFiles(t); after > before {
			t.Errorf("%d descriptors open, %d before", after, before)
		}
	})
}

func TestInheritedConnectionIsRefused(t *testing.T) {
	modes(t, func(t *testing.T, mode Mode) {
		for _, text := range []string{"{}\n", "}\n"} {
			client, server, c := accepted(t, mode)
			if text == "}\n" { // the connector writes one half, somebody else the other
				io.WriteString(client, "{")
			}
			cmd := start(t, "write", text, client)
			line, p, err := c.Receive(100)
			if !errors.Is(err, ErrDoubt) {
				t.Errorf("%q from another process: %q, %+v, %v", text, line, p, err)
			}
			server.Close()
			client.Close()
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestPassedConnectionIsRefused has a child connect, hand the connection over
// by SCM_RIGHTS, and this process write on it.
func TestPassedConnectionIsRefused(t *testing.T) {
	modes(t, func(t *testing.T, mode Mode) {
		path := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ours, theirs := pair(t)
		cmd := start(t, "pass", path, theirs)
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		c, err := Accept(server.(*net.UnixConn), mode)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		oob := make([]byte, 64)
		_, n, _, _, err := ours.ReadMsgUnix(make([]byte, 8), oob)
		if err != nil {
			t.Fatal(err)
		}
		messages, err := unix.ParseSocketControlMessage(oob[:n])
		if err != nil || len(messages) != 1 {
			t.Fatal(err)
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fds[0])
		for round := range 2 { // while the connector lives, and after it died
			if _, err := unix.Write(fds[0], []byte("{}\n")); err != nil {
				t.Fatal(err)
			}
			server.SetReadDeadline(time.Now().Add(5 * time.Second))
			if line, _, err := c.Receive(100); !errors.Is(err, ErrDoubt) {
				t.Errorf("round %d: %q, %v", round, line, err)
			}
			if round == 0 {
				fmt.Fprint(ours, "x")
				if err := cmd.Wait(); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// TestDeadWriterIsRefused has a process connect, write and die before anybody
// looks.
func TestDeadWriterIsRefused(t *testing.T) {
	modes(t, func(t *testing.T, mode Mode) {
		path := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		cmd := start(t, "die", path, nil)
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		c, err := Accept(server.(*net.UnixConn), mode)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Greet([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		if line, _, err := c.Receive(100); !errors.Is(err, ErrDoubt) {
			t.Errorf("%q, %v", line, err)
		}
	})
}

// Before Linux 6.16 a message of a process that is gone comes with no pidfd.
func TestNoPidfdIsRefused(t *testing.T) {
	c := &Connection{mode: ModeMessage, pidfd: -1}
	if err := c.named(&Peer{Pidfd: -1, PID: 7}, &control{pidfd: -1}); !errors.Is(err, ErrDoubt) || !strings.Contains(err.Error(), "process 7, is gone") {
		t.Error(err)
	}
}
