// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/agent"
	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/bpf"
	brokerclient "github.com/jurat-dev/jurat/broker-client"
	"github.com/jurat-dev/jurat/internal/require"
	"github.com/jurat-dev/jurat/internal/softtpm"
	"github.com/jurat-dev/jurat/tpm"
)

// asMain is set in a process of these tests that is juratd.
const asMain = "JURAT_TEST_JURATD"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		main()
	}
	os.Exit(m.Run())
}

func juratd(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestCommandLine(t *testing.T) {
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("tok\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	enrol := func(more ...string) []string {
		return append([]string{"enrol", "-broker", "http://127.0.0.1:1", "-host", "h1", "-token-file", token, "-state", filepath.Join(dir, "new")}, more...)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"help":                {[]string{"-help"}, exitYes, "juratd -broker https://broker.example"},
		"help of enrol":       {[]string{"enrol", "-help"}, exitYes, "jurat host add NAME"},
		"unknown flag":        {[]string{"-x"}, exitUsage, "not defined"},
		"unknown command":     {[]string{"enroll"}, exitUsage, `"enroll" is no command`},
		"more words":          {enrol("more"), exitUsage, `"more"`},
		"no such anchor":      {[]string{"-anchor", "pcr16"}, exitUsage, "want nv-latch, nvpcr or none"},
		"nvpcr of no index":   {[]string{"-anchor", "nvpcr"}, exitUsage, "needs -nv-index"},
		"nvpcr with a latch":  {[]string{"-anchor", "nvpcr", "-nv-index", "0x1d10200", "-latch-pcr", "13"}, exitUsage, "is for -anchor nv-latch"},
		"no NV index":         {[]string{"-nv-index", "0x81000001"}, exitUsage, "0x01000000 to 0x01ffffff"},
		"IMA's PCR as latch":  {[]string{"-latch-pcr", "10"}, exitUsage, "want 8, 9 or 11 to 15"},
		"firmware's PCR":      {[]string{"-latch-pcr", "7"}, exitUsage, "want 8, 9 or 11 to 15"},
		"resettable PCR":      {[]string{"-latch-pcr", "16"}, exitUsage, "want 8, 9 or 11 to 15"},
		"latch of none":       {[]string{"-anchor", "none", "-latch-pcr", "13"}, exitUsage, "-anchor is none"},
		"odd ring":            {[]string{"-ring-bytes", "12345"}, exitUsage, "power of two"},
		"small ring":          {[]string{"-ring-bytes", "64"}, exitUsage, "power of two"},
		"not enrolled":        {[]string{"-state", dir}, exitEnvironment, "hint: enrol first"},
		"no CA file":          {[]string{"-state", dir, "-ca", filepath.Join(dir, "none")}, exitEnvironment, "no such file"},
		"CA without PEM":      {[]string{"-state", dir, "-ca", token}, exitUsage, "no PEM certificate"},
		"enrol without flags": {[]string{"enrol"}, exitUsage, "needs -broker, -host and -token-file"},
		"enrol in plain http": {[]string{"enrol", "-broker", "http://broker.example", "-host", "h", "-token-file", token}, exitUsage, "plain http"},
		"no token file":       {enrol("-token-file", filepath.Join(dir, "none")), exitEnvironment, "no such file"},
		"no token in file":    {enrol("-token-file", large), exitUsage, "no enrolment token"},
		"no TPM":              {enrol("-tpm", filepath.Join(dir, "none")), exitEnvironment, "hint: -tpm names the device"},
		"not a TPM":           {enrol("-tpm", token), exitEnvironment, "neither a character device nor a unix socket"},
	} {
		code, stdout, stderr := juratd(t, c.args...)
		if code != c.code || !strings.Contains(stderr, c.says) || stdout != "" {
			t.Errorf("%s: exit %d, want %d\n%s%s", name, code, c.code, stdout, stderr)
		}
	}
	if code, stdout, stderr := juratd(t, "-version"); code != exitYes || stdout != "juratd unknown\n" || stderr != "" {
		t.Errorf("version: exit %d, %q, %q", code, stdout, stderr)
	}
}

// as runs juratd as a process of its own, with attributes.
func as(t *testing.T, attr *syscall.SysProcAttr, args ...string) (int, string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), asMain+"=1", "NOTIFY_SOCKET=")
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

func needRoot(t *testing.T) {
	t.Helper()
	var err error
	if os.Geteuid() != 0 {
		err = errors.New("not root")
	}
	require.Need(t, "root", err)
}

// TestStartThatCannotWorkSaysWhatIsMissing: as a user, and in a container.
func TestStartThatCannotWorkSaysWhatIsMissing(t *testing.T) {
	needRoot(t)
	state := filepath.Join(t.TempDir(), "state")
	writeIdentity(t, state, "http://127.0.0.1:1", append([]byte{0, 11}, make([]byte, 32)...))
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if code, out := as(t, nobody, "-state", state); code != exitEnvironment || !strings.Contains(out, "CAP_BPF") {
		t.Errorf("as nobody: exit %d\n%s", code, out)
	}
	container := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if code, out := as(t, container, "-state", state); code != exitEnvironment || !strings.Contains(out, "--pid=host") {
		t.Errorf("in a pid namespace: exit %d\n%s", code, out)
	}
	if code, out := as(t, nil, "-state", state, "-broker", "https://other.example"); code != exitEnvironment || !strings.Contains(out, "enrol there first") {
		t.Errorf("another broker: exit %d\n%s", code, out)
	}
}

func writeIdentity(t *testing.T, state, issuer string, akName []byte) {
	t.Helper()
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(&agent.Identity{AKName: akName, Identity: brokerclient.Identity{
		Host: "spiffe://example.test/host/h1", UEID: append([]byte{1}, make([]byte, 32)...), Level: "ek-pin", Issuer: issuer,
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(state, "identity.json"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

// capabilities are those that the hint for a start without them names, as
// setpriv(1) spells them.
const capabilities = "+bpf,+perfmon,+sys_ptrace,+dac_read_search,+checkpoint_restore"

// TestLife is juratd from start to SIGTERM, twice, without a broker.
func TestLife(t *testing.T) {
	needRoot(t)
	require.Need(t, "tpm", softtpm.Available())
	require.Loads(t)
	sensor, err := bpf.Open(bpf.Options{})
	require.Need(t, "bpf", err)
	sensor.Close()
	dir, err := os.MkdirTemp("", "j") // socket paths are short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	device, err := softtpm.Start(filepath.Join(dir, "tpm"), softtpm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer device.Stop()
	state := filepath.Join(dir, "state")
	writeIdentity(t, state, "http://127.0.0.1:1", akName(t, device.Path()))

	bpffs := filepath.Join(dir, "bpf")
	if err := errors.Join(os.Mkdir(bpffs, 0o700), unix.Mount("bpf", bpffs, "bpf", 0, "mode=700")); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(bpffs, 0)
	pin := filepath.Join(bpffs, "jurat")
	hear := serviceManager(t, filepath.Join(dir, "notify"))
	socket := filepath.Join(dir, "run", "agent.sock")
	for epoch := uint64(1); epoch <= 2; epoch++ {
		// The second time with no more than it says it needs.
		cmd, log := startJuratd(t, epoch == 2, "-state", state, "-socket", socket, "-tpm", device.Path(), "-ring-bytes", "1048576", "-pin", pin)
		hear("READY=1\nSTATUS=")
		client := local.Client{Socket: socket}
		s, err := client.Status(t.Context())
		if err != nil || s.Epoch != epoch || s.Tier != "tracepoint" || s.Host != "spiffe://example.test/host/h1" {
			t.Errorf("status %+v, %v", s, err)
		}
		if code, out := as(t, nil, "-state", state, "-socket", socket, "-tpm", device.Path()); code != exitEnvironment || !strings.Contains(out, "another juratd") {
			t.Errorf("a second juratd: exit %d\n%s", code, out)
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		hear("STOPPING=1")
		if err := cmd.Wait(); err != nil {
			t.Errorf("ended with %v\n%s", err, log)
		}
		if reason := []string{"first", "restart"}[epoch-1]; !strings.Contains(log.String(), "reason="+reason) {
			t.Errorf("epoch %d does not begin with %s:\n%s", epoch, reason, log)
		}
		if _, err := os.Stat(socket); err == nil {
			t.Error("an orderly end left its socket")
		}
	}
	if code, out, errs := juratd(t, "uninstall", "-state", state, "-socket", socket, "-pin", pin); code != exitYes || out != "removed "+pin+"\n" {
		t.Errorf("uninstall: exit %d, %s%s", code, out, errs)
	}
	// Another TPM than the one that is enrolled.
	writeIdentity(t, state, "http://127.0.0.1:1", append([]byte{0, 11}, make([]byte, 32)...))
	if code, out := as(t, nil, "-state", state, "-socket", socket, "-tpm", device.Path()); code != exitEnvironment || !strings.Contains(out, "another TPM") {
		t.Errorf("another TPM: exit %d\n%s", code, out)
	}
}

// startJuratd runs juratd in the background, with few capabilities if asked to.
func startJuratd(t *testing.T, few bool, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	if few {
		cmd = exec.Command("setpriv", append([]string{"--bounding-set=-all," + capabilities, "--inh-caps=-all", program}, args...)...)
	}
	cmd.Env = append(os.Environ(), asMain+"=1")
	log := new(bytes.Buffer)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	return cmd, log
}

// serviceManager listens where NOTIFY_SOCKET says, and returns a function that
// waits for the next state juratd reports.
func serviceManager(t *testing.T, path string) (hear func(want string)) {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return func(want string) {
		t.Helper()
		buf := make([]byte, 512)
		conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		if n, err := conn.Read(buf); err != nil || !strings.HasPrefix(string(buf[:n]), want) {
			t.Fatalf("the service manager hears %q, %v; want %s", buf[:n], err, want)
		}
	}
}

func akName(t *testing.T, path string) []byte {
	t.Helper()
	dev, err := tpm.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	ak, err := dev.CreateAK(context.Background(), "1")
	if err != nil {
		t.Fatal(err)
	}
	return ak.Name()
}

// TestEnrolRefused: the broker's no is exit code 1, its silence 3.
func TestEnrolRefused(t *testing.T) {
	require.Need(t, "tpm", softtpm.Available())
	dir, err := os.MkdirTemp("", "j")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	device, err := softtpm.Start(filepath.Join(dir, "tpm"), softtpm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer device.Stop()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("tok"), 0o600); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		w.Write([]byte(`{"error":"access_denied","retry":"operator","error_description":"the enrolment token is used"}`))
	}))
	defer server.Close()
	args := []string{"enrol", "-host", "h1", "-token-file", token, "-tpm", device.Path(), "-state", filepath.Join(dir, "state"), "-broker"}
	if code, _, stderr := juratd(t, append(args, server.URL)...); code != exitRefused || !strings.Contains(stderr, "the enrolment token is used") || !strings.Contains(stderr, "jurat host add") {
		t.Errorf("refused: exit %d\n%s", code, stderr)
	}
	if code, _, stderr := juratd(t, append(args, "http://127.0.0.1:1")...); code != exitEnvironment || !strings.Contains(stderr, "unreachable") || strings.Contains(stderr, "tok\n") {
		t.Errorf("silent: exit %d\n%s", code, stderr)
	}
}

func TestNotify(t *testing.T) {
	notifier("")("READY=1")
	notifier(filepath.Join(t.TempDir(), "none"))("READY=1") // nobody listens: no matter
	name := "@jurat-test-" + filepath.Base(t.TempDir()) + time.Now().Format("150405.000000")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	notifier(name)("READY=1")
	buf := make([]byte, 32)
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := conn.Read(buf); err != nil || string(buf[:n]) != "READY=1" {
		t.Errorf("%q, %v", buf[:n], err)
	}
}
