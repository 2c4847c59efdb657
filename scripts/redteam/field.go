// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/scripts/internal/stage"
)

const (
	workerID = "spiffe://example.test/agents/worker"
	pythonID = "spiffe://example.test/agents/python"
	approver = "alice@example.test"
	user     = 61001
	python   = "/usr/bin/python3"
	patience = 5 * time.Minute // for one attack, also in an emulated kernel
)

// field is where the attacks take place.
type field struct {
	*stage.Stage
	ctx      context.Context
	host     *stage.Host
	unit     *stage.Unit
	audience string
	work     string // directory of the programs
	worker   string // the honest program's task
	python   string // the honest script's task
	tier     string // of the agent
}

// openField sets everything up. programs is a directory that compilePrograms
// has filled; empty: one of the field's own.
func openField(ctx context.Context, programs string) (f *field, err error) {
	s, err := stage.Open(ctx, "bin")
	if err != nil {
		return nil, err
	}
	f = &field{Stage: s, ctx: ctx, work: programs}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, s.LogTail())
			f.close()
		}
	}()
	if f.unit, err = stage.NewUnit(fmt.Sprintf("redteam@%d.service", os.Getpid())); err != nil {
		return f, err
	}
	if f.unit.Dir == "" {
		return f, errors.New("no cgroup v2 to make a unit in")
	}
	if f.work == "" {
		f.work = s.Path("field")
		if err := compilePrograms(ctx, f.work); err != nil {
			return f, err
		}
	}
	if f.host, err = s.AddHost("h1"); err != nil {
		return f, err
	}
	for _, step := range []func() error{
		s.StartBroker,
		func() error { return s.Enrol(f.host, "--machine", "field") },
		func() error { return s.StartAgent(f.host, "-gate") },
		func() (err error) { f.audience, err = s.StartResource(); return err },
		f.register,
	} {
		if err := step(); err != nil {
			return f, err
		}
	}
	return f, nil
}

func (f *field) close() error {
	err := f.Close()
	if f.unit != nil {
		err = errors.Join(err, f.unit.Remove())
	}
	return err
}

// compilePrograms builds the worker, its evil twin, and the attacks into a new
// directory. They find their library there, and nowhere else.
func compilePrograms(ctx context.Context, dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	const src = "scripts/redteam/"
	attacks, err := filepath.Glob(src + "attacks/*.c")
	if err != nil {
		return err
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	link := []string{"-L" + dir, "-Wl,-rpath," + dir, "-lworker"}
	for _, args := range [][]string{
		{"-shared", "-fPIC", "-o", in("libworker.so"), src + "worker/libworker.c"},
		{"-shared", "-fPIC", "-DEVIL", "-o", in("libevil.so"), src + "worker/libworker.c"},
		append([]string{"-o", in("worker"), src + "worker/worker.c"}, link...),
		append([]string{"-DEVIL", "-o", in("evil"), src + "worker/worker.c"}, link...),
		append([]string{"-o", in("attacks")}, attacks...),
		{"-static", "-nostdlib", "-ffreestanding", "-o", in("brief"), src + "worker/brief.c"},
	} {
		out, err := exec.CommandContext(ctx, "gcc", append([]string{"-O1", "-w", "-falign-functions=16"}, args...)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("gcc: %w: %s", err, out)
		}
	}
	for _, name := range []string{"agent.py", "tools.py"} {
		data, err := os.ReadFile(src + "worker/" + name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(in(name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// register gives the broker the honest workloads as they are seen when nobody
// attacks, and has their tasks approved.
func (f *field) register() error {
	key, err := f.AddApprover(approver)
	if err != nil {
		return err
	}
	for _, w := range []struct {
		id   string
		task *string
		ask  func() (string, error)
	}{{workerID, &f.worker, f.askWorker}, {pythonID, &f.python, f.askPython}} {
		if err := f.Apply(f.workload(w.id, nil)); err != nil {
			return err
		}
		var made struct{ ID string }
		err := f.JuratJSON(&made, "delegation", "request", "--workload", w.id, "--approver", approver, "--purpose", "Be attacked",
			"--action", "invoice.read", "--audience", f.audience, "--uses", "1000", "--expires", "1h")
		if err != nil {
			return err
		}
		*w.task = made.ID
		if _, err := f.Jurat("delegation", "approve", made.ID, "--key", key, "--yes"); err != nil {
			return err
		}
		if _, err := w.ask(); err != nil {
			return err
		}
		p, err := f.Observed(f.host)
		if err != nil {
			return err
		}
		if err := f.Apply(f.workload(w.id, p)); err != nil {
			return err
		}
	}
	if f.tier, err = f.Tier(f.host); err != nil {
		return err
	}
	_, err = f.Jurat("boot", "learn", "h1")
	return err
}

// workload is a registration: of nothing yet, or of what p is made of.
func (f *field) workload(id string, p *evidence.Process) string {
	return stage.MachineYAML("field") + "---\n" + stage.WorkloadYAML(id, "field", stage.CodeYAML(p, id == pythonID), f.unit, user)
}

func (f *field) env() []string {
	return append(os.Environ(),
		"JURAT_SOCKET="+f.host.Socket, "JURAT_DELEGATION="+f.worker, "JURAT_PY_DELEGATION="+f.python, "JURAT_AUDIENCE="+f.audience,
		"WORKER="+filepath.Join(f.work, "worker"), "EVIL="+filepath.Join(f.work, "evil"), "EVIL_LIBRARY="+filepath.Join(f.work, "libevil.so"),
		"AGENT="+filepath.Join(f.work, "agent.py"), fmt.Sprintf("WORKLOAD_UID=%d", user), "CGROUP_ROOT="+filepath.Dir(filepath.Dir(f.unit.Dir)),
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin")
}

// start runs a program in the workload's unit.
func (f *field) start(ctx context.Context, uid uint32, program string, args ...string) (*exec.Cmd, *bytes.Buffer, error) {
	return f.startWith(ctx, nil, uid, program, args...)
}

func (f *field) startWith(ctx context.Context, in *os.File, uid uint32, program string, args ...string) (*exec.Cmd, *bytes.Buffer, error) {
	unit, err := os.Open(f.unit.Dir)
	if err != nil {
		return nil, nil, err
	}
	defer unit.Close()
	out := new(bytes.Buffer)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.Dir = f.env(), out, out, "/"
	if in != nil {
		cmd.Stdin = in
	}
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(unit.Fd()), Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd, out, cmd.Start()
}

func (f *field) askWorker() (string, error) {
	return f.ask(filepath.Join(f.work, "worker"), "ask control")
}
func (f *field) askPython() (string, error) {
	return f.ask(python, "-B", filepath.Join(f.work, "agent.py"), "control")
}

// ask runs an honest program to its end and returns what juratd answered.
func (f *field) ask(program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(f.ctx, patience)
	defer cancel()
	cmd, out, err := f.start(ctx, user, program, args...)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", program, err, out)
	}
	return strings.TrimSpace(out.String()), nil
}

// control wants the honest workloads to get their credentials.
func (f *field) control() error {
	for _, ask := range []func() (string, error){f.askWorker, f.askPython} {
		said, err := ask()
		if err != nil {
			return err
		}
		_, rest, _ := strings.Cut(said, "{")
		if a := parseAnswer("{" + rest); !a.credential {
			return fmt.Errorf("an honest workload was refused: %s", said)
		}
	}
	return nil
}

// answer is what juratd said to a question.
type answer struct {
	credential bool
	token      string
	code       string
	failed     []string // attestor/check
}

func parseAnswer(text string) answer {
	var said struct {
		Token string       `json:"token"`
		Error *local.Error `json:"error"`
	}
	if err := json.Unmarshal([]byte(text), &said); err != nil {
		return answer{code: fmt.Sprintf("unreadable answer %.80q", text)}
	}
	a := answer{credential: said.Token != "", token: said.Token}
	if said.Error != nil {
		a.code = said.Error.Code
		for _, c := range said.Error.Failed {
			a.failed = append(a.failed, c.Attestor+"/"+c.Check)
		}
	}
	return a
}
