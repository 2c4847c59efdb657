// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jurat-dev/jurat/evidence"
)

const someMaps = `00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus-daemon
00651000-00652000 r--p 00051000 08:02 173521                        /usr/bin/dbus-daemon
35b1a21000-35b1a22000 rw-p 00000000 00:00 0 
7f2a000000-7f2a001000 r-xs 00001000 fd:00 9     /tmp/two  words\012and a line (deleted)
7ffd2e7fe000-7ffd2e800000 r-xp 00000000 00:00 0                          [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
`

func TestParseMaps(t *testing.T) {
	got, err := parseMaps([]byte(someMaps), func(m *mapping) bool { return m.executable() })
	if err != nil {
		t.Fatal(err)
	}
	want := []mapping{
		{0x400000, 0x452000, "r-xp", 0, 0x802, 173521, "/usr/bin/dbus-daemon"},
		{0x7f2a000000, 0x7f2a001000, "r-xs", 0x1000, 0xfd00, 9, `/tmp/two  words\012and a line (deleted)`},
		{0x7ffd2e7fe000, 0x7ffd2e800000, "r-xp", 0, 0, 0, "[vdso]"},
		{vsyscall, vsyscall + 0x1000, "--xp", 0, 0, 0, "[vsyscall]"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got[0].link() != "map_files/400000-452000" {
		t.Error(got[0].link())
	}
	special := []bool{false, false, true, true}
	for i := range got {
		if got[i].special() != special[i] {
			t.Errorf("%q special: %v", got[i].name, got[i].special())
		}
	}
	for _, m := range []mapping{
		{name: "[vsyscall]", start: 1, perms: "--xp"}, {name: "[vdso]", inode: 1}, {name: "[heap]"}, {name: "[stack]"},
		{name: "[anon:[vdso]]"}, {name: ""}, {name: "[uprobes]"},
	} {
		if m.special() {
			t.Errorf("%+v passes for the kernel's own", m)
		}
	}
}

func TestParseMapsRefuses(t *testing.T) {
	for _, line := range []string{
		"", "400000-452000", "452000-400000 r-xp 0 08:02 1", "400000-400000 r-xp 0 08:02 1", "400000-452000 rxp 0 08:02 1",
		"400000-452000 r-xq 0 08:02 1", "400000-452000 r-xp 0 0802 1", "400000-452000 r-xp 0 08:02 x", "+1-2 r-xp 0 0:0 0",
		"400000-452000 r-xp 0 08:02 -1", "10000000000000000-2 r-xp 0 0:0 0",
	} {
		if m, err := parseMaps([]byte(line+"\n"), func(*mapping) bool { return true }); err == nil {
			t.Errorf("%q: %+v", line, m)
		}
	}
	if _, err := parseMaps([]byte("1-2 r-xp 0 0:0 0"), func(*mapping) bool { return true }); err == nil {
		t.Error("a line that was cut off is taken")
	}
}

func FuzzParseMaps(f *testing.F) {
	f.Add([]byte(someMaps))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := parseMaps(data, func(*mapping) bool { return true })
		if err != nil {
			return
		}
		if n := bytes.Count(data, []byte{'\n'}); len(all) != n {
			t.Fatalf("%d mappings in %d lines", len(all), n)
		}
		for _, m := range all {
			if m.start >= m.end || len(m.perms) != 4 {
				t.Fatalf("%+v", m)
			}
			if m.special() && m.file() {
				t.Fatalf("%+v is a file and the kernel's own", m)
			}
		}
	})
}

const someStatus = "Name:\tx\\nTracerPid:\t7\nUmask:\t0022\nTracerPid:\t42\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t4 24 1000 \n" +
	"CapInh:\t0000000000000001\nCapPrm:\t000001fffeffffff\nCapEff:\t0000000000000003\nCapBnd:\t0000000000000004\nCapAmb:\t0000000000000005\n" +
	"NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n"

func TestParseStatus(t *testing.T) {
	s, err := parseStatus([]byte(someStatus))
	if err != nil {
		t.Fatal(err)
	}
	want := evidence.Credentials{
		UID: 1, EUID: 2, SUID: 3, FSUID: 4, GID: 5, EGID: 6, SGID: 7, FSGID: 8,
		Inheritable: 1, Permitted: 0x1fffeffffff, Effective: 3, Bounding: 4, Ambient: 5, NoNewPrivs: true, Seccomp: 2,
	}
	if s.tracer != 42 || !slices.Equal(s.groups, []uint32{4, 24, 1000}) || s.credentials != want {
		t.Errorf("%+v", s)
	}
	for line := range strings.Lines(someStatus) {
		name, _, _ := strings.Cut(line, ":")
		if !slices.ContainsFunc(statusFields[:], func(f struct {
			name string
			read func(*status, []byte) error
		}) bool {
			return f.name == name
		}) {
			continue
		}
		if _, err := parseStatus([]byte(strings.Replace(someStatus, "\n"+line, "\n", 1))); err == nil {
			t.Errorf("without %q there is no error", line)
		}
		if _, err := parseStatus([]byte(someStatus + line)); err == nil {
			t.Errorf("with %q twice there is no error", line)
		}
	}
	for _, bad := range []string{"Uid:\t1\t2\t3\n", "Uid:\t1\t2\t3\t4\t5\n", "Uid:\t1\t2\t3\t4294967296\n", "CapEff:\tx\n"} {
		name, _, _ := strings.Cut(bad, ":")
		var lines []string
		for line := range strings.Lines(someStatus) {
			if strings.HasPrefix(line, name+":") {
				line = bad
			}
			lines = append(lines, line)
		}
		if _, err := parseStatus([]byte(strings.Join(lines, ""))); err == nil {
			t.Errorf("%q is no error", bad)
		}
	}
	if _, err := parseStatus([]byte(strings.Replace(someStatus, "Seccomp:\t2", "TracerPid:\t0", 1))); err == nil {
		t.Error("one field twice makes up for another that is missing")
	}
	many := strings.Replace(someStatus, "4 24", strings.Repeat("1 ", maxGroups), 1)
	if _, err := parseStatus([]byte(many)); !errors.Is(err, errTooMany) {
		t.Errorf("%d groups: %v", maxGroups+1, err)
	}
}

func FuzzParseStatus(f *testing.F) {
	f.Add([]byte(someStatus))
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := parseStatus(data); err == nil && len(s.groups) > maxGroups {
			t.Fatal(len(s.groups))
		}
	})
}

func TestParseProgram(t *testing.T) {
	for path, loader := range map[string]bool{victim(t): false, "/bin/cat": true} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		p, err := parseProgram(f)
		f.Close()
		if err != nil || p.loader != loader || p.bits32 {
			t.Errorf("%s: %+v, %v", path, p, err)
		}
	}
	head := make([]byte, 64+56)
	copy(head, "\x7fELF\x02\x01\x01")
	binary.LittleEndian.PutUint64(head[32:], 64)
	binary.LittleEndian.PutUint16(head[54:], 56)
	binary.LittleEndian.PutUint16(head[56:], 1)
	binary.LittleEndian.PutUint32(head[64:], ptInterp)
	if p, err := parseProgram(bytes.NewReader(head)); err != nil || !p.loader {
		t.Errorf("%+v, %v", p, err)
	}
	for what, spoil := range map[string]func(b []byte) []byte{
		"magic": func(b []byte) []byte { b[0] = 0; return b }, "class": func(b []byte) []byte { b[4] = 3; return b },
		"order": func(b []byte) []byte { b[5] = 2; return b }, "entry size": func(b []byte) []byte { b[54] = 57; return b },
		"count": func(b []byte) []byte { b[57] = 255; return b }, "offset": func(b []byte) []byte { b[39] = 255; return b },
		"length": func(b []byte) []byte { return b[:len(b)-1] }, "header": func(b []byte) []byte { return b[:51] },
	} {
		if p, err := parseProgram(bytes.NewReader(spoil(slices.Clone(head)))); !errors.Is(err, errNotELF) {
			t.Errorf("wrong %s: %+v, %v", what, p, err)
		}
	}
}

func FuzzParseProgram(f *testing.F) {
	f.Add([]byte("\x7fELF\x02\x01\x01"), false)
	f.Fuzz(func(t *testing.T, data []byte, bits32 bool) {
		parseProgram(bytes.NewReader(data))
		loaderBase(data, bits32)
	})
}

func TestLoaderBase(t *testing.T) {
	var v []byte
	for _, n := range []uint64{3, 99, atBase, 0x7f0000, 0, 0} {
		v = binary.LittleEndian.AppendUint64(v, n)
	}
	if base, err := loaderBase(v, false); base != 0x7f0000 || err != nil {
		t.Error(base, err)
	}
	if base, err := loaderBase(v[32:], false); base != 0 || err != nil {
		t.Error(base, err)
	}
	if _, err := loaderBase(v[:16], false); err == nil {
		t.Error("a vector without its end is taken")
	}
	v = nil
	for _, n := range []uint32{atBase, 0xf70000, 0, 0} {
		v = binary.LittleEndian.AppendUint32(v, n)
	}
	if base, err := loaderBase(v, true); base != 0xf70000 || err != nil {
		t.Error(base, err)
	}
}

func TestUnitOf(t *testing.T) {
	for path, want := range map[string]string{
		"/system.slice/nginx.service":                                                 "nginx.service",
		"/system.slice/_cgroup.service":                                               "cgroup.service",
		"/system.slice/system-getty.slice/getty@tty1.service":                         "getty@tty1.service",
		"/system.slice/a.service/b.service":                                           "a.service", // b is a's own
		"/system.slice/docker.service/system.slice/b.service":                         "docker.service",
		"/user.slice/user-1000.slice/session-3.scope":                                 "session-3.scope",
		"/user.slice/user-1000.slice/user@1000.service/init.scope":                    "user@1000.service",
		"/user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service":       "user@1000.service/nginx.service",
		"/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.slice/a.scope": "user@1000.service/a.scope",
		"/user.slice/user-1000.slice/user@1000.service":                               "user@1000.service",
		"/ai.slice/ai-train.slice/job.service":                                        "job.service",
		"/":                                                                           "",
		"":                                                                            "",
		"/init.scope":                                                                 "",
		"/nginx.service":                                                              "",
		"/docker/nginx.service":                                                       "",
		"/system.slice":                                                               "",
		"/system.slice/x/nginx.service":                                               "",
		"/system.slice/user-1000.slice/a.service":                                     "", // not inside user.slice
		"/user-1000.slice/a.service":                                                  "",
		"/.slice/a.service":                                                           "",
		"/-.slice/a.service":                                                          "",
		"/system.slice/na me.service":                                                 "",
		"/system.slice/\n.service":                                                    "",
		"/system.slice//a.service":                                                    "",
		"/system.slice/a.mount":                                                       "",
		"/system.slice/_.slice/a.service":                                             "",
	} {
		if got := unitOf(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

const (
	id64   = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	podID  = "01234567-89ab-cdef-0123-456789abcdef"
	podSys = "01234567_89ab_cdef_0123_456789abcdef"
)

func TestContainerOf(t *testing.T) {
	for path, want := range map[string]string{
		"/docker/" + id64:                                                          "docker/" + id64 + "/",
		"/system.slice/docker-" + id64 + ".scope":                                  "docker/" + id64 + "/",
		"/system.slice/docker-" + id64 + ".scope/init":                             "docker/" + id64 + "/",
		"/machine.slice/libpod-" + id64 + ".scope/container":                       "podman/" + id64 + "/",
		"/kubepods/burstable/pod" + podID + "/" + id64:                             "containerd/" + id64 + "/" + podID,
		"/kubepods/besteffort/pod" + podID + "/crio-" + id64:                       "cri-o/" + id64 + "/" + podID,
		"/kubepods.slice/kubepods-pod" + podSys + ".slice/crio-" + id64 + ".scope": "cri-o/" + id64 + "/" + podID,
		"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + podSys + ".slice/cri-containerd-" + id64 + ".scope":                                       "containerd/" + id64 + "/" + podID,
		"/docker/" + id64 + "/docker/" + strings.Repeat("f", 64):                                                                                                        "docker/" + id64 + "/",
		"/system.slice/docker-" + id64 + ".scope/libpod-" + strings.Repeat("f", 64):                                                                                     "docker/" + id64 + "/",
		"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod" + podSys + ".slice/cri-containerd-" + id64 + ".scope": "containerd/" + id64 + "/" + podID, // kind
		"/system.slice/containerd.service/kubepods-burstable-pod" + podSys + ".slice:cri-containerd:" + id64:                                                            "containerd/" + id64 + "/" + podID,
		"/system.slice/k3s.service/kubepods-pod" + podSys + ".slice:cri-containerd:" + id64:                                                                             "containerd/" + id64 + "/" + podID,
		"/system.slice/crio.service/kubepods-besteffort-pod" + podSys + ".slice:crio:" + id64:                                                                           "cri-o/" + id64 + "/" + podID,
		"/docker/" + id64 + "/kubepods/besteffort/pod" + podID + "/" + strings.Repeat("f", 64):                                                                          "docker/" + id64 + "/", // Kubernetes in Docker
		"/system.slice/docker-" + id64 + ".scope/kubelet.slice/kubelet-kubepods.slice/x.slice:cri-containerd:" + strings.Repeat("f", 64):                                "docker/" + id64 + "/",
		"/k8s.io/" + id64: "containerd/" + id64 + "/",
		"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + id64 + ".scope/container": "podman/" + id64 + "/",
		"/libpod_parent/libpod-" + id64:       "podman/" + id64 + "/",
		"/system.slice/x.service/a:b:" + id64: "", "/system.slice/x.service/a:cri-containerd": "", "/x.slice:cri-containerd:short": "",
		"/system.slice/docker.service":                    "",
		"/machine.slice/libpod-conmon-" + id64 + ".scope": "",
		"/system.slice/crio-conmon-" + id64 + ".scope":    "",
		"/docker/short":                    "",
		"/docker/" + strings.ToUpper(id64): "",
		"/" + id64:                         "",
		"/podx/" + id64:                    "",
		"/":                                "",
	} {
		got := ""
		if c, _ := containerOf(path); c != nil {
			pod, _ := c.Pod.Get()
			got = c.Runtime + "/" + c.ID + "/" + pod
		}
		if got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

func FuzzCgroupPath(f *testing.F) {
	f.Add("/system.slice/docker-" + id64 + ".scope")
	f.Add("/user.slice/user-1000.slice/user@1000.service/app.slice/a.scope")
	f.Fuzz(func(t *testing.T, path string) {
		unit := unitOf(path)
		if own, user := strings.CutPrefix(unit, "user@"); strings.Contains(unit, "/") && !user {
			t.Fatalf("%q: unit %q of %q", path, unit, own)
		}
		if !utf8.ValidString(unit) {
			t.Fatalf("%q: unit %q", path, unit)
		}
		if c, _ := containerOf(path); c != nil && len(c.ID) != 64 {
			t.Fatalf("%q: container %+v", path, c)
		}
	})
}

func TestParseEnviron(t *testing.T) {
	data := "A=1\x00LD_PRELOAD=/x\x00B=2=3\x00A=9\x00noequals\x00PYTHONPATH=\x00PYTHONUNBUFFERED=1\x00LD_PRELOAD=/y\x00=z\x00BASH_FUNC_ls%%=() { :; }\x00LAST=cut"
	values, names := parseEnviron([]byte(data), []string{"A", "B", "C"})
	if fmt.Sprint(values) != "map[A:1 B:2=3]" {
		t.Error(values)
	}
	if !slices.Equal(names, []string{"BASH_FUNC_ls%%", "LD_PRELOAD", "PYTHONPATH"}) {
		t.Error(names)
	}
	if _, names := parseEnviron(bytes.Repeat([]byte("LD_X=\x00"), 10*maxVariables), nil); !slices.Equal(names, []string{"LD_X"}) {
		t.Error(len(names))
	}
}

func FuzzParseEnviron(f *testing.F) {
	f.Add([]byte("A=1\x00LD_PRELOAD=/x\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		values, names := parseEnviron(data, []string{"A"})
		if len(values) > 1 || len(names) > maxVariables {
			t.Fatal(values, names)
		}
		for _, name := range names {
			if !utf8.ValidString(name) {
				t.Fatalf("%q", name)
			}
		}
	})
}

func TestHint(t *testing.T) {
	for _, c := range []struct {
		in    string
		limit int
		out   string
	}{{"plain", 9, "plain"}, {"cut off", 3, "cut"}, {"aé", 2, "a"}, {"b\xff", 9, `b\xff`}, {"é\xff", 99, `\u00e9\xff`}, {"", 3, ""}} {
		if got := hint(c.in, c.limit); got != c.out {
			t.Errorf("%q: %q, want %q", c.in, got, c.out)
		}
	}
	if v, ok := exact("plain").Get(); !ok || v != "plain" {
		t.Error(v)
	}
	for _, s := range []string{"\xff", strings.Repeat("x", evidence.MaxText+1)} {
		if v := exact(s); !slices.Equal(v.Taints(), []string{taintNotText}) {
			t.Errorf("%v", v)
		}
	}
}

func TestTTYName(t *testing.T) {
	for dev, want := range map[uint32]string{0: "", 0x8803: "pts/3", 0x0401: "tty1", 0x0441: "ttyS1", 0x8904: "pts/260", 0x0501: "5:1"} {
		if got := ttyName(dev); got != want {
			t.Errorf("%x: %q, want %q", dev, got, want)
		}
	}
}

func TestCountPrivate(t *testing.T) {
	var b []byte
	for _, e := range []uint64{0, pagePresent, pagePresent | pageOfFile, pageSwapped, pageSwapped | pageOfFile, pageOfFile} {
		b = binary.NativeEndian.AppendUint64(b, e)
	}
	if n := countPrivate(append(b, 1, 2, 3)); n != 2 {
		t.Error(n)
	}
}
