// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package stage sets up jurat's programs on one machine for the demo and the
// benchmarks: software TPMs, a broker and agents on loopback, in a directory
// of its own that goes when it closes. It ships in no program.
package stage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jurat-dev/jurat/internal/softtpm"
)

// startLimit bounds how long a program may take to be there, also in a kernel
// that is emulated on a busy machine.
const startLimit = 5 * time.Minute

// Stage is one directory with everything in it. It is not safe for concurrent use.
type Stage struct {
	Dir    string // removed by Close
	Bin    string // where the programs are
	Issuer string // the broker's URL
	Hosts  map[string]*Host

	ctx   context.Context
	log   *tail
	procs []*Process
	tpms  []*softtpm.TPM
}

// Host is one host: a TPM, its agent's state and socket.
type Host struct {
	Name   string
	TPM    *softtpm.TPM
	State  string
	Socket string
	Agent  *Process // nil while it does not run
}

// Open makes an empty stage. bin is the directory of the built programs.
func Open(ctx context.Context, bin string) (*Stage, error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	for _, program := range []string{"juratd", "jurat", "jurat-broker"} {
		if _, err := os.Stat(filepath.Join(bin, program)); err != nil {
			return nil, fmt.Errorf("%s is not built: run 'make build'", filepath.Join(bin, program))
		}
	}
	if err := softtpm.Available(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "jurat-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // workloads of other users reach the socket
		return nil, err
	}
	return &Stage{Dir: dir, Bin: bin, Hosts: make(map[string]*Host), ctx: ctx, log: new(tail)}, nil
}

// Path returns a path below the stage's directory.
func (s *Stage) Path(parts ...string) string {
	return filepath.Join(append([]string{s.Dir}, parts...)...)
}

// Close ends every program in reverse order and removes the directory.
func (s *Stage) Close() error {
	var errs []error
	for i := len(s.procs) - 1; i >= 0; i-- {
		errs = append(errs, s.procs[i].Stop())
	}
	for _, tpm := range s.tpms {
		errs = append(errs, tpm.Stop())
	}
	return errors.Join(append(errs, s.unpin(), os.RemoveAll(s.Dir))...)
}

// LogTail returns the last lines the programs wrote.
func (s *Stage) LogTail() string { return s.log.String() }

// AddHost makes a host with a TPM of its own. Its firmware measures a boot.
func (s *Stage) AddHost(name string) (*Host, error) {
	if err := os.MkdirAll(s.Path(name, "run"), 0o755); err != nil { // other users reach the socket in it
		return nil, err
	}
	tpm, err := softtpm.Start(s.Path(name, "tpm"), softtpm.Options{CA: s.Path("ca"), Firmware: true})
	if err != nil {
		return nil, err
	}
	s.tpms = append(s.tpms, tpm)
	h := &Host{Name: name, TPM: tpm, State: s.Path(name, "state"), Socket: s.Path(name, "run", "jurat.sock")}
	s.Hosts[name] = h
	return h, nil
}

// StartBroker runs jurat-broker on a free port. It trusts the authority of the
// hosts' TPMs.
func (s *Stage) StartBroker() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return err
	}
	s.Issuer = "http://" + address
	args := []string{"-listen", address, "-issuer", s.Issuer, "-data", s.Path("broker"), "-admin-socket", s.Admin(), "-trust-domain", "example.test"}
	roots := make(map[string]bool)
	for _, tpm := range s.tpms {
		for _, file := range []string{tpm.RootCA(), tpm.IssuerCA()} {
			if !roots[file] {
				args = append(args, "-ek-roots", file)
				roots[file] = true
			}
		}
	}
	if _, err := s.Start("jurat-broker", nil, filepath.Join(s.Bin, "jurat-broker"), args...); err != nil {
		return err
	}
	return s.WaitHTTP(s.Issuer + "/readyz")
}

// Admin returns the broker's operator socket.
func (s *Stage) Admin() string { return s.Path("broker-admin.sock") }

// Enrol adds the host at the broker and enrols its agent's TPM.
func (s *Stage) Enrol(h *Host, more ...string) error {
	var added struct {
		EnrolToken string `json:"enrol_token"`
	}
	if err := s.JuratJSON(&added, append([]string{"host", "add", h.Name}, more...)...); err != nil {
		return err
	}
	token := s.Path(h.Name, "enrol-token")
	if err := os.WriteFile(token, []byte(added.EnrolToken), 0o600); err != nil {
		return err
	}
	_, err := s.Run(filepath.Join(s.Bin, "juratd"), "enrol", "-broker", s.Issuer, "-host", h.Name, "-token-file", token,
		"-tpm", h.TPM.Path(), "-state", h.State)
	return err
}

// StartAgent runs juratd for the host and waits for its socket.
func (s *Stage) StartAgent(h *Host, more ...string) error {
	args := append([]string{"-tpm", h.TPM.Path(), "-boot-log", h.TPM.EventLog(), "-broker", s.Issuer, "-state", h.State, "-socket", h.Socket, "-pin", s.pin(h)}, more...)
	p, err := s.Start("juratd "+h.Name, nil, filepath.Join(s.Bin, "juratd"), args...)
	if err != nil {
		return err
	}
	h.Agent = p
	return s.wait("juratd "+h.Name+" to listen", func() bool {
		connection, err := net.Dial("unix", h.Socket)
		if err == nil {
			connection.Close()
		}
		return err == nil
	}, p)
}

// pins is where the kernel keeps programs.
const pins = "/sys/fs/bpf"

// unpin removes what juratds left in the kernel: those of this stage, and of
// stages that were killed.
func (s *Stage) unpin() error {
	entries, err := os.ReadDir(pins)
	if err != nil {
		return nil // no such file system
	}
	var errs []error
	for _, e := range entries {
		stage, _, ok := strings.Cut(strings.TrimPrefix(e.Name(), "jurat-"), "-")
		dir := filepath.Join(filepath.Dir(s.Dir), "jurat-"+stage)
		if _, err := os.Lstat(dir); !ok || !strings.HasPrefix(e.Name(), "jurat-") || err == nil && dir != s.Dir {
			continue
		}
		errs = append(errs, exec.Command(filepath.Join(s.Bin, "juratd"), "uninstall", "-pin", filepath.Join(pins, e.Name()), "-state", dir, "-socket", dir).Run())
	}
	return errors.Join(errs...)
}

// pin is where the host's juratd keeps its kernel programs.
func (s *Stage) pin(h *Host) string {
	return filepath.Join(pins, filepath.Base(s.Dir)+"-"+h.Name)
}

// StopAgent ends the host's juratd.
func (s *Stage) StopAgent(h *Host) error {
	p := h.Agent
	h.Agent = nil
	return p.Stop()
}

// Jurat runs the command line against this stage's broker and returns what it
// printed with --json. A refusal is an *exec.ExitError with code 1.
func (s *Stage) Jurat(args ...string) ([]byte, error) {
	return s.Run(filepath.Join(s.Bin, "jurat"), append([]string{"--json", "--admin", s.Admin(), "--broker", s.Issuer}, args...)...)
}

// JuratJSON does the same and decodes the answer.
func (s *Stage) JuratJSON(into any, args ...string) error {
	out, err := s.Jurat(args...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, into); err != nil {
		return fmt.Errorf("jurat %s: %v in %.200q", strings.Join(args, " "), err, out)
	}
	return nil
}

// Run runs a program to its end and returns its standard output.
func (s *Stage) Run(program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(s.ctx, program, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, io.MultiWriter(&errs, s.log)
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("%s %s: %w: %s", filepath.Base(program), strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.Bytes(), nil
}

// WaitHTTP waits until url answers 200.
func (s *Stage) WaitHTTP(url string) error {
	client := &http.Client{Timeout: 10 * time.Second}
	return s.wait(url, func() bool {
		answer, err := client.Get(url)
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	}, nil)
}

func (s *Stage) wait(what string, ready func() bool, p *Process) error {
	for deadline := time.Now().Add(startLimit); time.Now().Before(deadline); {
		if ready() {
			return nil
		}
		if p != nil && p.ended() {
			return fmt.Errorf("%s ended: %v", p.name, p.err)
		}
		select {
		case <-s.ctx.Done():
			return s.ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return fmt.Errorf("waited %v for %s", startLimit, what)
}

// Process is a program that runs until the stage closes.
type Process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Start runs a program in the background. attr may place it elsewhere.
func (s *Stage) Start(name string, attr *syscall.SysProcAttr, program string, args ...string) (*Process, error) {
	cmd := exec.Command(program, args...)
	if attr == nil {
		attr = new(syscall.SysProcAttr)
	}
	attr.Pdeathsig = syscall.SIGTERM
	cmd.SysProcAttr = attr
	out := s.log.prefixed(name)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{name: name, cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	s.procs = append(s.procs, p)
	return p, nil
}

// PID returns its process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

func (p *Process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Stop ends the program: SIGTERM, and SIGKILL after ten seconds. It is an
// error when the program did not end by itself with success.
func (p *Process) Stop() error {
	if p.ended() {
		return nil
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("%s did not end within 10 s of SIGTERM", p.name)
	}
	if p.err != nil {
		return fmt.Errorf("%s: %v", p.name, p.err)
	}
	return nil
}
