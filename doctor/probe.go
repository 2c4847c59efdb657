// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package doctor

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/bpf"
)

// Capability is what the running kernel lets a sensor see, found by loading
// the sensor, seeing it fire, and taking it away again.
type Capability struct {
	Kernel       string   `json:"kernel"`       // as uname -r has it
	Machine      string   `json:"machine"`      // as GOARCH has it
	BTF          bool     `json:"btf"`          // the kernel describes its types
	LSMs         []string `json:"lsms"`         // active, in order; empty: not known
	Ftrace       string   `json:"ftrace"`       // "on", "off", "absent" or "unknown"
	BPFFS        string   `json:"bpffs"`        // where pins can live; empty: not mounted
	ExecGate     bool     `json:"exec_gate"`    // an exec can be held until it is measured
	ExecGateWhy  string   `json:"exec_gate_no"` // why not; empty when it can
	Capabilities []string `json:"missing"`      // capabilities juratd wants and this process lacks

	Tier    string   `json:"tier"`    // empty: there is no sensor
	Better  []NoTier `json:"better"`  // tiers above it, best first, and why they are not had
	Problem string   `json:"problem"` // without a tier: why
	Hint    string   `json:"hint"`    // without a tier: what to do
	Signals []Signal `json:"signals"` // every one, always, in one order
}

// NoTier is a tier that is not had.
type NoTier struct {
	Tier   string `json:"tier"`
	Reason string `json:"reason"` // a word
	Detail string `json:"detail"` // the fact
}

// Signal is one thing there is to see.
type Signal struct {
	Name   string `json:"name"`
	By     string `json:"by"`     // the hooks that see it, joined by blanks
	Reason string `json:"reason"` // without hooks: a word why
}

const (
	ftraceSwitch = "/proc/sys/kernel/ftrace_enabled"
	lsmPath      = securityFS + "/lsm"
	bpffs        = "/sys/fs/bpf"
)

// wanted are the capabilities of juratd, with what each is for.
var wanted = []struct {
	bit  int
	name string
}{
	{unix.CAP_BPF, "CAP_BPF"}, {unix.CAP_PERFMON, "CAP_PERFMON"}, {unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE"},
	{unix.CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH"}, {unix.CAP_CHECKPOINT_RESTORE, "CAP_CHECKPOINT_RESTORE"},
	{unix.CAP_LEASE, "CAP_LEASE"}, {unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"},
}

// Probe tries what the kernel of this machine lets a sensor see. It takes
// about a second, and leaves nothing loaded.
func Probe() (*Capability, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return nil, fmt.Errorf("asking for the kernel's release: %w", err)
	}
	missing, err := lacking()
	if err != nil {
		return nil, fmt.Errorf("reading this process's capabilities: %w", err)
	}
	_, btf := os.Stat(btfPath)
	c := &Capability{
		Kernel: unix.ByteSliceToString(name.Release[:]), Machine: runtime.GOARCH, BTF: btf == nil, LSMs: activeLSMs(),
		Ftrace: ftrace(), BPFFS: pinnable(), Capabilities: missing, Better: []NoTier{},
	}
	if err := holdsExecs(); err == nil {
		c.ExecGate = true
	} else {
		c.ExecGateWhy = err.Error()
	}
	c.sense()
	return c, nil
}

// sense loads the sensor and asks it what it sees.
func (c *Capability) sense() {
	s, err := bpf.Open(bpf.Options{})
	if err != nil {
		c.Problem = err.Error()
		var refused *bpf.OpenError
		if errors.As(err, &refused) {
			c.Hint = refused.Hint
		}
		for _, name := range bpf.SignalNames {
			c.Signals = append(c.Signals, Signal{Name: name, Reason: "no-sensor"})
		}
	} else {
		defer s.Close()
		c.Tier = s.Tier()
		for _, t := range s.Better() {
			c.Better = append(c.Better, NoTier(t))
		}
		for _, signal := range s.Signals() {
			c.Signals = append(c.Signals, Signal(signal))
		}
	}
	for i := range c.Signals {
		if gate := &c.Signals[i]; gate.Name == "exec-gate" {
			*gate = Signal{Name: gate.Name, Reason: "not-possible"}
			if c.ExecGate {
				*gate = Signal{Name: gate.Name, By: "fanotify"}
			}
		}
	}
}

func lacking() ([]string, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return nil, err
	}
	effective := uint64(data[0].Effective) | uint64(data[1].Effective)<<32
	missing := []string{}
	for _, w := range wanted {
		if effective&(1<<w.bit) == 0 {
			missing = append(missing, w.name)
		}
	}
	return missing, nil
}

func activeLSMs() []string {
	text, err := readAll(lsmPath, maxSmall)
	if err != nil {
		return []string{}
	}
	return strings.Split(strings.TrimSpace(string(text)), ",")
}

func ftrace() string {
	text, err := readAll(ftraceSwitch, maxSmall)
	switch {
	case missing(err):
		return "absent"
	case err != nil:
		return "unknown"
	case strings.TrimSpace(string(text)) == "1":
		return "on"
	}
	return "off"
}

func pinnable() string {
	var st unix.Statfs_t
	if err := unix.Statfs(bpffs, &st); err != nil || st.Type != unix.BPF_FS_MAGIC {
		return ""
	}
	return bpffs
}

// holdsExecs asks fanotify to hold execs of a file that nobody runs, and goes.
func holdsExecs() error {
	group, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return fmt.Errorf("fanotify_init: %w", err)
	}
	defer unix.Close(group)
	f, err := os.CreateTemp("", "jurat-probe")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := unix.FanotifyMark(group, unix.FAN_MARK_ADD, unix.FAN_OPEN_EXEC_PERM, unix.AT_FDCWD, f.Name()); err != nil {
		return fmt.Errorf("fanotify_mark for FAN_OPEN_EXEC_PERM: %w", err)
	}
	return nil
}
