// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/agent/local"
)

// stranger is set in the other processes of these tests: what they do, and the
// socket they do it to.
const stranger = "JURAT_AGENT_STRANGER"

func TestMain(m *testing.M) {
	words := strings.Fields(os.Getenv(stranger))
	if len(words) == 0 {
		os.Exit(m.Run())
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() { // one deed for each line
		if err := behave(words, in.Text()); err != nil {
			fmt.Printf("error %v\n", err)
		}
	}
}

// behave does one thing and prints what came of it.
func behave(words []string, line string) error {
	client := local.Client{Socket: words[1]}
	switch words[0] {
	case "ask":
		if path, ok := strings.CutPrefix(line, "open "); ok {
			_, err := os.ReadFile(path)
			fmt.Println("opened")
			return err
		}
		if line == "setuid" {
			err := syscall.Setresuid(65534, 65534, 65534)
			if err == nil {
				fmt.Println(line)
			}
			return err
		}
		got, err := client.Credential(context.Background(), local.CredentialRequest{Delegation: line})
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(got)
	case "kin": // make a process in the way that the line says
		pid, err := makeKin(line)
		if err != nil {
			return err
		}
		fmt.Println(pid)
		if line == "fork-then-exec" {
			return unix.Exec("/bin/sleep", []string{"sleep", "600"}, nil)
		}
	case "inherit": // write on a connection that the parent made
		f := os.NewFile(3, "connection")
		_, err := fmt.Fprintln(f, line)
		return err
	case "become": // connect, and let another program write
		conn, err := net.Dial("unix", words[1])
		if err != nil {
			return err
		}
		if _, err := conn.Read(make([]byte, 64)); err != nil {
			return err
		}
		f, err := conn.(*net.UnixConn).File()
		if err != nil {
			return err
		}
		if err := unix.Dup2(int(f.Fd()), 9); err != nil {
			return err
		}
		return syscall.Exec("/bin/sh", []string{"sh", "-c", `printf '%s\n' "$1" >&9; cat <&9; exec sleep 60`, "sh", line}, os.Environ())
	}
	return fmt.Errorf("unknown deed %q", words[0])
}

// other is another process.
type other struct {
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Scanner
}

func startOther(t *testing.T, attr *syscall.SysProcAttr, files []*os.File, words ...string) *other {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), stranger+"="+strings.Join(words, " "))
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = files
	cmd.SysProcAttr = attr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &other{cmd: cmd, in: in, out: bufio.NewScanner(out)}
}

func (o *other) pid() uint32 { return uint32(o.cmd.Process.Pid) }

// do has the process do its deed with the line, and returns what it prints.
func (o *other) do(t *testing.T, line string) string {
	t.Helper()
	if _, err := fmt.Fprintln(o.in, line); err != nil {
		t.Fatal(err)
	}
	if !o.out.Scan() {
		t.Fatalf("the other process ended: %v", o.out.Err())
	}
	return o.out.Text()
}

// ask has the process ask for a credential.
func (o *other) ask(t *testing.T, delegation string) (*local.Credential, error) {
	t.Helper()
	line := o.do(t, delegation)
	if text, failed := strings.CutPrefix(line, "error "); failed {
		code, message, _ := strings.Cut(text, ": ")
		return nil, &local.Error{Code: code, Message: message}
	}
	got := new(local.Credential)
	if err := json.Unmarshal([]byte(line), got); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return got, nil
}

// dial connects and reads the greeting.
func dial(t *testing.T, socket string) *net.UnixConn {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if line, err := bufio.NewReaderSize(conn, 16).ReadString('\n'); err != nil || line != string(greeting) {
		t.Fatalf("greeting %q, %v", line, err)
	}
	return conn.(*net.UnixConn)
}

// answerCode returns the code of the error that comes on a connection.
func answerCode(t *testing.T, conn net.Conn) string {
	t.Helper()
	raw, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Error *local.Error `json:"error"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		t.Fatalf("answer %q: %v", raw, err)
	}
	if answer.Error == nil {
		return ""
	}
	return answer.Error.Code
}
