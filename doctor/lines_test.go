// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package doctor

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/bpf"
	"github.com/jurat-dev/jurat/eventlog"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/bootlog"
	"github.com/jurat-dev/jurat/internal/softtpm"
	"github.com/jurat-dev/jurat/tpm"
)

// line holds one check to its status, and parts of its text and hint.
func line(t *testing.T, c Check, status Status, text, hint string) {
	t.Helper()
	want(t, &Report{Checks: []Check{c}}, c.Name, status, text, hint)
}

// What a software TPM cannot easily be brought to say.
func TestWhatATPMMaySay(t *testing.T) {
	usable := tpm.Hierarchy{OwnerEnabled: true, EndorsementEnabled: true}
	with := func(change func(*tpm.Survey)) *examination {
		c := &chip{survey: tpm.Survey{Hierarchy: usable, Room: tpm.Room{CountersLeft: 2, TransientLeft: 3, SessionsLeft: 4}}}
		change(&c.survey)
		return &examination{Options: Options{Register: tpm.RegisterOptions{Latch: 13}}, chip: c}
	}
	for _, c := range []struct {
		change     func(*tpm.Hierarchy)
		status     Status
		text, hint string
	}{
		{func(h *tpm.Hierarchy) { h.EndorsementEnabled = false }, Bad, "endorsement hierarchy is disabled", "firmware setup"},
		{func(h *tpm.Hierarchy) { h.EndorsementPassword = true }, Bad, "endorsement hierarchy has a password", "tpm2_changeauth -c e"},
		{func(h *tpm.Hierarchy) { h.OwnerEnabled = false }, Bad, "owner hierarchy is disabled", "firmware setup"},
		{func(h *tpm.Hierarchy) { h.OwnerPassword = true }, Bad, "owner hierarchy has a password", "tpm2_changeauth -c o"},
		{func(h *tpm.Hierarchy) { h.LockoutPassword = true }, OK, "one on lockout", ""},
	} {
		line(t, with(func(s *tpm.Survey) { c.change(&s.Hierarchy) }).hierarchies(), c.status, c.text, c.hint)
	}
	line(t, with(func(s *tpm.Survey) { s.Lockout = tpm.Lockout{Active: true, Failures: 32} }).lockout(), Warn, "32 wrong passwords", "tpm2_dictionarylockout")
	line(t, with(func(s *tpm.Survey) { s.Room.TransientLeft = 0 }).room(), Warn, "room for 2 counters, 0 loaded keys", "tpm2_flushcontext")
	line(t, with(func(s *tpm.Survey) { s.Room.CountersLeft = 0 }).room(), Warn, "0 counters", "tpm2_getcap handles-nv-index")
	line(t, with(func(s *tpm.Survey) { s.Banks = []tpm.Bank{{Name: "sha256", PCRs: []uint8{0, 1, 2}}} }).banks(), Bad, "without PCR 3", "tpm2_pcrallocate")
	line(t, with(func(s *tpm.Survey) {
		s.Properties = tpm.Properties{Manufacturer: "IFX", Vendor: "SLB9670", Firmware: 7<<48 | 85<<32, Revision: 138}
	}).firmware(), OK, `IFX "SLB9670", firmware 7.85`, "")
	e := with(func(s *tpm.Survey) {})
	e.chip.keysErr = errors.New("the TPM makes no endorsement key")
	line(t, e.keys(new(Report))[0], Bad, "no endorsement key", "cannot enrol")
	e.chip.keys, e.chip.keysErr = []tpm.EK{{Algorithm: "rsa-2048", Public: []byte("x")}}, nil
	line(t, e.keys(new(Report))[0], Bad, "", "the broker will not take this key")
}

// Each value of a PCR that no log makes is said.
func TestUnexplainedPCRs(t *testing.T) {
	raw, _ := bootlog.Boot{}.Log(bootlog.SHA256)
	l, err := eventlog.Parse(raw)
	must(t, err)
	e := &examination{chip: new(chip), boot: bootLog{log: l}}
	line(t, e.bootPCRs(), Unknown, "SHA-256 bank", "")
	e.chip.survey.PCRs = []evidence.PCR{{}}
	e.pcrs = map[int]PCR{3: {State: Unexplained}, 6: {State: Unexplained}}
	line(t, e.bootPCRs(), Bad, "PCR 3 and 6: a value, and no event", "jurat eventlog replay")
	e.pcrs = map[int]PCR{2: {State: Unused}}
	line(t, e.bootPCRs(), Bad, "PCR 2: nothing was measured", "update it")
	e.pcrs = map[int]PCR{5: {State: Completed}}
	line(t, e.bootPCRs(), Warn, "5 only with events", "leave PCR 5 out")
}

func TestNotPermitted(t *testing.T) {
	denied := &fs.PathError{Op: "open", Path: "/x", Err: fs.ErrPermission}
	line(t, unread("IMA", "/x", denied), Unknown, "no permission to read /x", "sudo")
	line(t, unread("IMA", "/x", &fs.PathError{Op: "read", Path: "/x", Err: errors.New("broken")}), Unknown, "/x: broken", "by hand")
	e := &examination{Options: Options{TPM: "/dev/tpmrm0"}, boot: bootLog{err: denied}}
	line(t, e.unopened(fmt.Errorf("opening TPM: %w", fs.ErrPermission)), Unknown, "no permission to open /dev/tpmrm0", "sudo")
	line(t, e.unopened(errors.New("opening TPM /dev/tpm0: busy")), Bad, "busy", "/dev/tpmrm0")
	line(t, e.bootLogCheck(), Unknown, "no permission", "sudo")
	all := make([]uint8, 16)
	for i := range all {
		all[i] = uint8(i)
	}
	e.chip = &chip{survey: tpm.Survey{Banks: []tpm.Bank{{Name: "sha1", PCRs: all}, {Name: "sha256", PCRs: all}}}}
	line(t, e.banks(), Unknown, "sha1, which the boot log must cover", "sudo")
}

func TestSensor(t *testing.T) {
	try := func(err error) Check {
		e := &examination{Options: Options{Patience: time.Minute, Sensor: func() (string, error) { return "", err }}}
		return e.sensor(t.Context())
	}
	line(t, try(&bpf.OpenError{Reason: bpf.ErrNoBTF, Fact: "/sys/kernel/btf/vmlinux", Hint: "take another kernel"}), Bad, "BTF", "take another kernel")
	line(t, try(&bpf.OpenError{Reason: bpf.ErrNotFiring, Fact: "x"}), Bad, "do not fire", "5.15")
	line(t, try(errors.New("odd")), Bad, "odd", "5.15")
	status := Unknown
	if privileged() {
		status = Bad
	}
	line(t, try(&bpf.OpenError{Reason: bpf.ErrPermission, Fact: "x", Hint: "sudo, or the like"}), status, "not permitted", "sudo")
	release := make(chan struct{})
	defer close(release)
	e := &examination{Options: Options{Patience: time.Millisecond, Sensor: func() (string, error) { <-release; return "", nil }}}
	line(t, e.sensor(t.Context()), Bad, "not loaded within 2ms", "--patience")
}

// systemd's own log continues the firmware's.
func TestSystemLog(t *testing.T) {
	r := healthy(t, softtpm.Options{Blank: true})
	digest := sha256.Sum256([]byte("enter-initrd"))
	must(t, r.chip.Measure(11, digest))
	want(t, r.run(), "system log", Warn, "PCR 11: not what", "find out")
	record := fmt.Sprintf("\x1e"+`{"pcr":11,"digests":[{"hashAlg":"sha256","digest":"%x"}],"content_type":"systemd",`+
		`"content":{"string":"enter-initrd","bootId":"0f1e2d3c4b5a69788796a5b4c3d2e1f0","timestamp":1,"eventType":"phase"}}`+"\n", digest)
	r.write(osLogPath, record)
	got := r.run()
	want(t, got, "system log", OK, "1 record of systemd's", "")
	if got.PCRs["11"].State != Equal {
		t.Errorf("%+v", got.PCRs["11"])
	}
	r.write(osLogPath, record+"\x1e{")
	want(t, r.run(), "system log", Warn, "torn", "interrupted")
	r.remove(osLogPath)
	must(t, os.Mkdir(r.opts.Root+osLogPath, 0o755))
	want(t, r.run(), "system log", Unknown, "not a file", "by hand")
	r.remove(osLogPath)
	// A log without the end of the boot services.
	raw, err := os.ReadFile(r.chip.EventLog())
	must(t, err)
	l, err := eventlog.Parse(raw)
	must(t, err)
	r.write(securityFS+"/tpm0/binary_bios_measurements", string(raw[:l.Events[len(l.Events)-2].Offset]))
	got = r.run()
	want(t, got, "boot PCRs", Warn, "5 only with events", "leave PCR 5 out")
	want(t, got, "boot findings", Warn, eventlog.FindingEBSMissing, "by name")
}

func TestSHA1Alone(t *testing.T) {
	r := healthy(t, softtpm.Options{Banks: "sha1"})
	got := r.run()
	want(t, got, "PCR banks", Bad, "SHA-256 is not active", "tpm2_pcrallocate sha256:all")
	want(t, got, "latch PCR", Unknown, "SHA-256 bank", "")
	want(t, got, "boot PCRs", Unknown, "SHA-256 bank", "")
	want(t, got, "IMA", Unknown, "no PCR 10", "")
}

// The log belongs to the TPM that is looked at.
func TestBootLogPath(t *testing.T) {
	for path, number := range map[string]string{"/dev/tpmrm0": "0", "/dev/tpm1": "1", "/dev/tpmrm12": "12", "/run/tpm.sock": "0", "/dev/tpm": "0", "": "0"} {
		if got := bootLogPath(path); got != securityFS+"/tpm"+number+"/binary_bios_measurements" {
			t.Errorf("%s: %s", path, got)
		}
	}
}

// A pipe in place of a file keeps nobody waiting.
func TestPipeForAFile(t *testing.T) {
	r := bare(t)
	r.remove(securityFS + "/lockdown")
	must(t, mkfifo(r.opts.Root+securityFS+"/lockdown"))
	want(t, r.run(), "lockdown", Unknown, "is not a file", "by hand")
	r.write("/etc/crypttab", strings.Repeat("#", maxCrypttab+1))
	want(t, r.run(), "sealed disks", Unknown, "has more than", "by hand")
}

func TestBankNames(t *testing.T) {
	for name, a := range map[string]eventlog.Algorithm{"sha1": eventlog.SHA1, "sha3-256": eventlog.SHA3_256, "0x0012": eventlog.SM3, "0x4321": 0x4321, "?": 0} {
		if got := algorithmOf(name); got != a {
			t.Errorf("%s: %v, want %v", name, got, a)
		}
	}
}

// A list longer than the deadline is not read to its end.
func TestIMADeadline(t *testing.T) {
	r := bare(t)
	r.list("boot_aggregate")
	one := bytes.Repeat(r.ima, 5000)
	r.write(imaPath, string(one))
	r.opts.Patience = time.Nanosecond
	want(t, r.run(), "IMA", Unknown, "not read within", "--patience")
}

func TestIMALimits(t *testing.T) {
	r := bare(t)
	r.list("boot_aggregate")
	for _, limit := range []int64{int64(len(r.ima)), int64(len(r.ima)) - 1} {
		if list, err := replayIMA(t.Context(), bytes.NewReader(r.ima), nil, limit); err == nil {
			t.Errorf("limit %d: a list that may have been cut is taken for whole, or for malformed: %+v", limit, list)
		}
	}
	list, err := replayIMA(t.Context(), bytes.NewReader(r.ima), nil, int64(len(r.ima))+1)
	if err != nil || list.replay.Count != 1 || list.matched != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	list.matched = 1
	e := &examination{Options: r.opts}
	line(t, e.imaCheck("IMA", list, true), Warn, "measures no file", "ima_policy=tcb")
}

func FuzzCrypttab(f *testing.F) {
	f.Add("root UUID=1 none tpm2-device=auto,tpm2-pcrs=7+13\n", uint8(13))
	f.Add("home /dev/x - tpm2-measure-pcr=yes", uint8(15))
	f.Fuzz(func(t *testing.T, raw string, latch uint8) {
		if c := crypttab("x", raw, latch); c.Status == Warn && !strings.Contains(raw, "tpm2-") {
			t.Errorf("%q: %+v", raw, c)
		}
		version(raw)
	})
}

// What is not there at all is nobody's fault.
func TestEmptyMachine(t *testing.T) {
	r := bare(t)
	r.remove("/proc")
	want(t, r.run(), "kernel", Unknown, "no /proc/sys/kernel/osrelease", "")
}
