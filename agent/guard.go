// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/bpf"
	"github.com/jurat-dev/jurat/evidence"
)

// taintDisturbed is the host's taint when somebody works against the agent or
// its sensor.
const taintDisturbed = "sensor-disturbed"

// harden keeps other processes of root's out of this one's memory as far as
// the kernel lets it: no ptrace without CAP_SYS_PTRACE, no core file.
func harden() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl PR_SET_DUMPABLE", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return os.NewSyscallError("setrlimit RLIMIT_CORE", err)
	}
	return nil
}

// guard looks for signs that somebody works against the agent: its program,
// its socket, its state directory, its memory. What it found once it keeps.
type guard struct {
	state, socket string
	bound         os.FileInfo // the socket as it was made
	check         func() []bpf.Finding
	known         []string
}

// look returns what is wrong and was not before.
func (g *guard) look() (news []bpf.Finding) {
	var found []bpf.Finding
	if g.check != nil {
		found = g.check()
	}
	found = append(found, ownProgram()...)
	found = append(found, g.ownSocket()...)
	found = append(found, g.ownState()...)
	found = append(found, ownTracer()...)
	for _, f := range found {
		if key := f.Name + "\x00" + f.Detail; !slices.Contains(g.known, key) && len(g.known) < maxFindings {
			g.known = append(g.known, key)
			news = append(news, f)
		}
	}
	return news
}

// maxFindings bounds what is remembered, and logged, of what was found.
const maxFindings = 64

// ownProgram finds out whether the program on disk is the one that runs.
func ownProgram() []bpf.Finding {
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return []bpf.Finding{{Name: "program-unknown", Detail: "reading /proc/self/exe: " + err.Error()}}
	}
	running, err := os.Stat("/proc/self/exe")
	if err != nil {
		return []bpf.Finding{{Name: "program-unknown", Detail: err.Error()}}
	}
	path, deleted := strings.CutSuffix(path, " (deleted)")
	onDisk, err := os.Stat(path)
	switch {
	case err != nil:
		return []bpf.Finding{{Name: "program-deleted", Detail: err.Error()}}
	case deleted || !os.SameFile(running, onDisk):
		return []bpf.Finding{{Name: "program-replaced", Detail: path + " is not the file that runs; restart the agent"}}
	}
	return nil
}

// ownSocket finds out whether the path of the socket leads to this agent.
func (g *guard) ownSocket() []bpf.Finding {
	if g.bound == nil {
		return nil
	}
	now, err := os.Lstat(g.socket)
	switch {
	case err != nil:
		return []bpf.Finding{{Name: "socket-gone", Detail: err.Error()}}
	case !os.SameFile(g.bound, now):
		return []bpf.Finding{{Name: "socket-squatted", Detail: g.socket + " is another's: it was replaced"}}
	}
	return nil
}

// ownState finds out whether anybody but root can write the state directory.
func (g *guard) ownState() []bpf.Finding {
	var st unix.Stat_t
	if err := unix.Stat(g.state, &st); err != nil {
		return []bpf.Finding{{Name: "state-gone", Detail: g.state + ": " + err.Error()}}
	}
	if st.Mode&0o077 != 0 || st.Uid != uint32(os.Geteuid()) {
		return []bpf.Finding{{Name: "state-open", Detail: fmt.Sprintf("%s has mode %04o and owner %d: want 0700 and the agent's own", g.state, st.Mode&0o7777, st.Uid)}}
	}
	return nil
}

// ownTracer finds out whether a debugger is attached.
func ownTracer() []bpf.Finding {
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return []bpf.Finding{{Name: "tracer-unknown", Detail: err.Error()}}
	}
	for line := range bytes.Lines(raw) {
		if pid, ok := bytes.CutPrefix(line, []byte("TracerPid:")); ok {
			if pid = bytes.TrimSpace(pid); string(pid) != "0" {
				return []bpf.Finding{{Name: "agent-traced", Detail: "process " + string(pid) + " traces the agent"}}
			}
			return nil
		}
	}
	return []bpf.Finding{{Name: "tracer-unknown", Detail: "/proc/self/status names no TracerPid"}}
}

// inspect logs what the guard finds, as a taint of the host. Call it before a
// look, and now and then.
func (a *Agent) inspect() error {
	a.guarding.Lock()
	defer a.guarding.Unlock()
	for _, f := range a.guard.look() {
		a.logger.Error("somebody works against the agent", "finding", f.Name, "detail", f.Detail)
		if err := a.noteHostTaint(taintDisturbed); err != nil {
			return err
		}
		how := f.Name + ": " + f.Detail
		if err := a.logTaint(nil, &local.Spoilt{Name: taintDisturbed, How: how[:min(len(how), evidence.MaxText)]}, a.boot()); err != nil {
			return err
		}
	}
	return nil
}
