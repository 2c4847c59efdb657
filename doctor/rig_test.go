// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package doctor

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/ek"
	"github.com/jurat-dev/jurat/internal/bootlog"
	"github.com/jurat-dev/jurat/internal/require"
	"github.com/jurat-dev/jurat/internal/softtpm"
)

// authority is the directory of the certificate authority of all the TPMs.
var authority string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "doctor")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	authority = filepath.Join(dir, "ca")
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rig is a machine: a software TPM, and a directory that stands for its root.
type rig struct {
	t    *testing.T
	chip *softtpm.TPM // nil: none
	opts Options
	ima  []byte
}

// bootID is the boot_id of every rig.
const bootID = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"

// bare is a machine without a TPM on which nothing else is wrong.
func bare(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t}
	r.opts = Options{Root: t.TempDir(), Now: time.Now(), Patience: time.Minute, Sensor: func() (string, error) { return "tracepoint", nil }}
	r.write("/proc/sys/kernel/osrelease", "6.12.1-test\n")
	r.write("/proc/sys/kernel/random/boot_id", bootID+"\n")
	r.write("/proc/cmdline", "BOOT_IMAGE=/boot/vmlinuz-"+bootlog.DefaultKernel+" "+bootlog.DefaultCommandLine+"\n")
	r.write(btfPath, "")
	r.write(securityFS+"/lockdown", "none [integrity] confidentiality\n")
	r.write("/var/lib/jurat/identity.json", `{"host": "spiffe://example.test/host/h1", "level": "ek-cert", "issuer": "https://broker.example"}`)
	return r
}

// healthy is a machine on which nothing is wrong but that its TPM is software.
func healthy(t *testing.T, opts softtpm.Options) *rig {
	t.Helper()
	require.Need(t, "tpm", softtpm.Available())
	r := bare(t)
	dir, err := os.MkdirTemp("", "doctor")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	opts.CA, opts.Firmware = authority, true
	r.chip, err = softtpm.Start(dir, opts)
	must(t, err)
	t.Cleanup(func() { r.chip.Stop() })
	r.opts.TPM, r.opts.Now = r.chip.Path(), time.Now() // its certificates are young
	if !opts.Blank {
		r.opts.Authorities, err = ek.Open(ek.BundleNone, r.chip.RootCA(), r.chip.IssuerCA())
		must(t, err)
	}
	r.booted()
	return r
}

// booted gives the operating system the log of the TPM's last start, and IMA a
// list of three files.
func (r *rig) booted() {
	raw, err := os.ReadFile(r.chip.EventLog())
	must(r.t, err)
	r.write(securityFS+"/tpm0/binary_bios_measurements", string(raw))
	r.ima = nil
	for _, name := range []string{"boot_aggregate", "/usr/bin/true", "/usr/bin/false"} {
		r.measures(name)
	}
}

// measures has IMA measure one file.
func (r *rig) measures(name string) {
	digest := r.list(name)
	must(r.t, r.chip.Measure(10, digest))
}

// list puts a file on IMA's list alone, and returns what IMA would extend.
func (r *rig) list(name string) [32]byte {
	file := sha256.Sum256([]byte(name))
	field := func(b []byte, value string) []byte {
		return append(binary.LittleEndian.AppendUint32(b, uint32(len(value))), value...)
	}
	data := field(field(nil, "sha256:\x00"+string(file[:])), name+"\x00")
	sum := sha1.Sum(data)
	r.ima = binary.LittleEndian.AppendUint32(r.ima, 10)
	r.ima = append(r.ima, sum[:]...)
	r.ima = field(field(r.ima, "ima-ng"), string(data))
	r.write(imaPath, string(r.ima))
	return sha256.Sum256(data)
}

func (r *rig) write(path, text string) {
	r.t.Helper()
	path = r.opts.Root + path
	must(r.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(r.t, os.WriteFile(path, []byte(text), 0o600))
}

func (r *rig) remove(path string) {
	r.t.Helper()
	must(r.t, os.RemoveAll(r.opts.Root+path))
}

func (r *rig) run() *Report {
	r.t.Helper()
	return Run(r.t.Context(), r.opts)
}

// want holds the report to one line; text and hint are parts of it.
func want(t *testing.T, r *Report, name string, status Status, text, hint string) {
	t.Helper()
	for _, c := range r.Checks {
		if c.Name != name {
			continue
		}
		if c.Status != status || !strings.Contains(c.Text, text) || !strings.Contains(c.Hint, hint) || (hint == "") != (c.Hint == "") {
			t.Errorf("%s is %s, %q, hint %q\nwant %s, %q, hint %q", name, c.Status, c.Text, c.Hint, status, text, hint)
		}
		return
	}
	t.Errorf("no line %q in %+v", name, r.Checks)
}

// onlyThese holds the report to the lines that are not well.
func onlyThese(t *testing.T, r *Report, names ...string) {
	t.Helper()
	well := make(map[string]bool)
	for _, name := range names {
		well[name] = true
	}
	for _, c := range r.Checks {
		if c.Status != OK && !well[c.Name] {
			t.Errorf("%s is %s, %q, hint %q", c.Name, c.Status, c.Text, c.Hint)
		}
		if c.Status == OK && well[c.Name] {
			t.Errorf("%s is ok, %q", c.Name, c.Text)
		}
	}
}

func mkfifo(path string) error { return syscall.Mkfifo(path, 0o600) }
