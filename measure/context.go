// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// interfering are environment variables that make a program run code that is
// in none of its arguments. A name that ends in * stands for all it begins.
var interfering = []string{
	"LD_*", "GLIBC_TUNABLES", "GCONV_PATH", "MALLOC_CONF", "OPENSSL_CONF", "OPENSSL_MODULES", "OPENSSL_ENGINES",
	"PYTHON*", "NODE_OPTIONS", "NODE_PATH", "PERL5LIB", "PERL5OPT", "PERL5DB", "PERLLIB", "RUBYOPT", "RUBYLIB",
	"BASH_ENV", "BASH_FUNC_*", "ENV", "SHELLOPTS", "BASHOPTS", "PS4", "CLASSPATH",
	"JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "LUA_INIT*", "LUA_PATH*", "LUA_CPATH*",
	"CUDA_INJECTION*", "NVIDIA_INJECTION*", "VLLM_PLUGINS",
}

// harmless are exceptions: they change what is written, not what is run.
var harmless = []string{
	"PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED", "PYTHONIOENCODING", "PYTHONUTF8", "PYTHONFAULTHANDLER",
	"PYTHONNOUSERSITE", "PYTHONSAFEPATH", "PYTHONDEVMODE", "PYTHONVERBOSE", "LD_BIND_NOW",
}

func interferes(name string) bool {
	if slices.Contains(harmless, name) {
		return false
	}
	for _, pattern := range interfering {
		prefix, all := strings.CutSuffix(pattern, "*")
		if name == pattern || all && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// parseEnviron takes from an environment the values of the names asked for,
// and the names that interfere. The first of several equal names counts, as
// getenv has it.
func parseEnviron(data []byte, names []string) (selected map[string]string, interference []string) {
	selected = make(map[string]string)
	for text := range bytes.SplitSeq(data, []byte{0}) {
		name, value, ok := strings.Cut(string(text), "=")
		if !ok {
			continue
		}
		if _, have := selected[name]; !have && slices.Contains(names, name) {
			selected[name] = value
		}
		if interferes(name) && len(interference) < maxVariables {
			interference = append(interference, hint(name, maxHint))
		}
	}
	slices.Sort(interference)
	return selected, slices.Compact(interference)
}

// environment reads what the process shows of its environment. It can have
// written it since; only the loader's variables were seen by the kernel.
func (m *Meter) environment(t *target, e *Exec) (evidence.Value[map[string]string], evidence.Value[[]string]) {
	data, err := t.read("environ", maxEnviron)
	if err != nil {
		return unread[map[string]string](err), unread[[]string](err)
	}
	selected, found := parseEnviron(data, m.names)
	values := evidence.Known(selected)
	for name, value := range selected {
		if shown := hint(value, evidence.MaxText); shown != value {
			selected[name] = shown
			values = evidence.Tainted(selected, taintNotText)
		}
	}
	interference := evidence.Known(found)
	for _, name := range e.Variables {
		if !slices.Contains(found, name) {
			found = append(found, name)
			interference = evidence.Tainted(found, taintEnviron)
		}
	}
	if !e.VariablesRead {
		interference = taint(interference, taintSelf)
	}
	return values, interference
}

func namespaceNumbers(ns procfs.Namespaces) evidence.Namespaces {
	return evidence.Namespaces{
		PID: ns["pid"].Inode, Mount: ns["mnt"].Inode, User: ns["user"].Inode, Net: ns["net"].Inode,
		Cgroup: ns["cgroup"].Inode, UTS: ns["uts"].Inode, IPC: ns["ipc"].Inode,
	}
}

func (t *target) namespaces() evidence.Value[evidence.Namespaces] {
	ns, err := t.proc.Namespaces()
	if err != nil {
		return unread[evidence.Namespaces](err)
	}
	n := namespaceNumbers(ns)
	if n.PID == 0 || n.Mount == 0 || n.User == 0 {
		return evidence.Unknown[evidence.Namespaces](reasonUnreadable)
	}
	return evidence.Known(n)
}

// mountNamespace returns the number of the process's mount namespace, 0 when
// it cannot be told.
func mountNamespace(t *target) uint32 {
	fd, err := t.link("ns/mnt")
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	st, err := fstat(fd)
	if err != nil {
		return 0
	}
	return uint32(st.id.Inode)
}

// label returns what the Linux security modules call the process.
func (t *target) label() evidence.Value[string] {
	data, err := t.read("attr/current", 64<<10)
	if err == unix.EINVAL || err == unix.ENOENT && t.alive() || err == nil && len(data) == 0 {
		return evidence.Unknown[string]("no-lsm")
	}
	if err != nil {
		return unread[string](err)
	}
	return exact(string(bytes.TrimRight(data, "\x00\n")))
}

// directory returns the working directory as the process names it.
func (t *target) directory() evidence.Value[string] {
	s, err := t.readlink("cwd")
	if err != nil {
		return unread[string](err)
	}
	return exact(s)
}

// session returns the session and the terminal, "" where there is none.
func (t *target) session() (evidence.Value[uint32], evidence.Value[string]) {
	st, err := t.proc.Stat()
	if err != nil {
		return unread[uint32](err), unread[string](err)
	}
	return evidence.Known(uint32(st.Session)), evidence.Known(ttyName(uint32(st.TTY)))
}

// ttyName names a terminal by the device number of /proc/PID/stat.
func ttyName(dev uint32) string {
	major, minor := dev>>8&0xfff, dev&0xff|dev>>12&0xfff00
	switch {
	case dev == 0:
		return ""
	case major == 4 && minor < 64:
		return fmt.Sprintf("tty%d", minor)
	case major == 4:
		return fmt.Sprintf("ttyS%d", minor-64)
	case 136 <= major && major <= 143:
		return fmt.Sprintf("pts/%d", (major-136)<<8|minor)
	}
	return fmt.Sprintf("%d:%d", major, minor)
}
