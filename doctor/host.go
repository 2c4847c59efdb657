// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jurat-dev/jurat/bpf"
)

// oldest is the first kernel on which the sensor is known to load.
const (
	oldestMajor = 5
	oldestMinor = 15
)

const btfPath = "/sys/kernel/btf/vmlinux"

func (e *examination) kernel() Check {
	const name, path = "kernel", "/proc/sys/kernel/osrelease"
	release, err := e.line(path)
	if err != nil {
		return unread(name, path, err)
	}
	release = clip(release, 40)
	major, minor, ok := version(release)
	switch {
	case !ok:
		return Check{name, Unknown, "Linux " + release, "5.15 or newer is needed"}
	case major < oldestMajor || major == oldestMajor && minor < oldestMinor:
		return Check{name, Bad, "Linux " + release + " is too old", "5.15 or newer is needed"}
	}
	if _, err := os.Stat(e.Root + btfPath); err != nil {
		return Check{name, Bad, "Linux " + release + " without BTF", "a kernel with CONFIG_DEBUG_INFO_BTF, which distributions ship: " + btfPath}
	}
	return Check{name, OK, "Linux " + release + " with BTF", ""}
}

// version reads the two numbers at the start of a release.
func version(release string) (major, minor int, ok bool) {
	first, rest, _ := strings.Cut(release, ".")
	if i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		rest = rest[:i]
	}
	major, err := strconv.Atoi(first)
	minor, err2 := strconv.Atoi(rest)
	return major, minor, err == nil && err2 == nil
}

// Sensor loads the sensor of package bpf, waits until it fires, and takes it
// away again.
func Sensor() (string, error) {
	s, err := bpf.Open(bpf.Options{})
	if err != nil {
		return "", err
	}
	return s.Tier(), s.Close()
}

func (e *examination) sensor(ctx context.Context) Check {
	const name = "sensor"
	if e.Options.Sensor == nil {
		return Check{name, Unknown, "not tried: the files are another machine's", ""}
	}
	got, ok := within(ctx, 2*e.Patience, func(context.Context) answer[string] {
		tier, err := e.Options.Sensor()
		return answer[string]{tier, err}
	})
	var refused *bpf.OpenError
	switch {
	case !ok:
		return Check{name, Bad, fmt.Sprintf("BPF programs are not loaded within %v", 2*e.Patience), "the machine is overloaded, or --patience is too short"}
	case got.err == nil:
		return Check{name, OK, "BPF programs load and fire, tier " + got.v, ""}
	case errors.Is(got.err, bpf.ErrPermission) && !privileged():
		return Check{name, Unknown, "no permission to load BPF programs", asRoot}
	case errors.As(got.err, &refused):
		hint := refused.Hint
		if hint == "" {
			hint = "juratd needs Linux 5.15 or newer with BTF, and root"
		}
		return Check{name, Bad, clip(refused.Error(), 90), hint}
	}
	return Check{name, Bad, clip(got.err.Error(), 90), "juratd needs Linux 5.15 or newer with BTF, and root"}
}

// lockdown: without it root may write to the kernel's memory, and so to what
// the sensor says.
func (e *examination) lockdown() Check {
	const name, path = "lockdown", securityFS + "/lockdown"
	const hint = "boot with lockdown=integrity; with Secure Boot many distributions do"
	text, err := e.line(path)
	switch {
	case missing(err) && !e.mounted():
		return Check{name, Unknown, securityFS + " is empty", mountHint}
	case missing(err):
		return Check{name, Warn, "the kernel has no lockdown: root may change the kernel", "a kernel with CONFIG_SECURITY_LOCKDOWN_LSM and lsm=lockdown,…"}
	case err != nil:
		return unread(name, path, err)
	}
	_, rest, _ := strings.Cut(text, "[")
	switch mode, _, _ := strings.Cut(rest, "]"); mode {
	case "integrity":
		return Check{name, OK, "integrity: not even root changes the kernel", ""}
	case "confidentiality":
		return Check{name, Warn, "confidentiality: the kernel may refuse the sensor", "the sensor's line says whether it does; lockdown=integrity is enough"}
	case "none":
		return Check{name, Warn, "none: root may change the kernel", hint}
	}
	return Check{name, Unknown, "not understood: " + clip(text, 40), hint}
}

// enrolment looks for juratd's identity.
func (e *examination) enrolment() Check {
	const name = "enrolment"
	const hint = "juratd enrol -broker URL -host NAME -token-file F"
	path := filepath.Join(e.State, "identity.json")
	raw, err := readAll(path, maxSmall)
	switch {
	case missing(err):
		return Check{name, Warn, "not enrolled: no " + path, hint}
	case err != nil:
		return unread(name, path, err)
	}
	var id struct {
		Host   string `json:"host"`
		Issuer string `json:"issuer"`
		Level  string `json:"level"`
	}
	if err := json.Unmarshal(raw, &id); err != nil || id.Host == "" {
		return Check{name, Bad, path + " is malformed", "remove it, and enrol again: " + hint}
	}
	return Check{name, OK, fmt.Sprintf("%s, level %s, at %s", clip(id.Host, 50), clip(id.Level, 16), clip(id.Issuer, 40)), ""}
}
