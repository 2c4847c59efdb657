// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package doctor

import (
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/ek"
	"github.com/jurat-dev/jurat/eventlog"
	"github.com/jurat-dev/jurat/internal/bootlog"
	"github.com/jurat-dev/jurat/internal/softtpm"
	"github.com/jurat-dev/jurat/tpm"
)

// A machine on which nothing is wrong, and then one thing after the other.
func TestHealthy(t *testing.T) {
	r := healthy(t, softtpm.Options{Banks: "sha1,sha256"})
	first := r.run()
	onlyThese(t, first, "firmware")
	want(t, first, "TPM", OK, "TPM 2.0 answers", "")
	want(t, first, "firmware", Warn, `IBM "SW`, "for trying out")
	want(t, first, "clock", OK, "safe", "")
	want(t, first, "hierarchies", OK, "no password", "")
	want(t, first, "EK rsa-2048", OK, "ek-cert: chain of 3 to", "")
	want(t, first, "EK ecc-p384", OK, "ek-cert", "")
	want(t, first, "EK ecc-p256", OK, "none needed", "")
	want(t, first, "PCR banks", OK, "sha256, and sha1, covered by the boot log", "")
	want(t, first, "latch PCR", OK, "PCR 13 is free, so are 11, 12 and 15", "")
	want(t, first, "register", OK, "0x01906a72 is free", "")
	want(t, first, "boot PCRs", OK, "0 to 7", "")
	want(t, first, "Secure Boot", OK, "on", "")
	want(t, first, "command line", OK, "as measured: BOOT_IMAGE=/boot/vmlinuz", "")
	want(t, first, "IMA", OK, "3 entries, policy tcb: as PCR 10 says", "")
	want(t, first, "sensor", OK, "tier tracepoint", "")
	want(t, first, "lockdown", OK, "integrity", "")
	want(t, first, "enrolment", OK, "spiffe://example.test/host/h1, level ek-cert, at https://broker.example", "")
	if !first.OK || first.TPM == nil || first.TPM.Register != "absent" || !reflect.DeepEqual(first.TPM.Banks, []string{"sha1", "sha256"}) {
		t.Errorf("%v %+v", first.OK, first.TPM)
	}
	if len(first.EK) != 3 || first.EK[0].Level != "ek-cert" || len(first.EK[0].Pin) != 64 || first.EK[2].Level != "ek-pin" {
		t.Errorf("%+v", first.EK)
	}
	if p := first.PCRs; len(p) != 24 || p["0"].State != Equal || p["13"].State != Unused || p["17"].State != Unused || p["10"].State != Unexplained || p["0"].Observed != p["0"].Replayed {
		t.Errorf("%+v", p)
	}
	// Looking changed nothing, so that looking again finds the same.
	if again := r.run(); !reflect.DeepEqual(first, again) {
		t.Errorf("first %+v\nagain %+v", first, again)
	}
	t.Run("makers", func(t *testing.T) { testMakers(t, r) })
	t.Run("files", func(t *testing.T) { testFiles(t, r) })
	t.Run("IMA", func(t *testing.T) { testIMA(t, r) })
	t.Run("latch", func(t *testing.T) { testLatch(t, r) })
	t.Run("register", func(t *testing.T) { testRegister(t, r) })
	t.Run("foreign", func(t *testing.T) { testForeign(t, r) })
	t.Run("boot", func(t *testing.T) { testBoot(t, r) })
	t.Run("coverage", func(t *testing.T) { testCoverage(t, r) })
}

func testMakers(t *testing.T, r *rig) {
	believed := r.opts.Authorities
	defer func() { r.opts.Authorities = believed }()
	got := r.run()
	pin := got.EK[0].Pin
	var err error
	r.opts.Authorities, err = ek.Open(ek.BundleShipped)
	must(t, err)
	want(t, r.run(), "EK rsa-2048", Warn, "not believed, E_EK_CHAIN", "--ek-roots, or pin the key:\njurat host add NAME --ek-pin "+pin)
	r.opts.Authorities, r.opts.Now = believed, r.opts.Now.Add(-24*time.Hour)
	want(t, r.run(), "EK rsa-2048", Warn, "not believed, E_EK_NOT_YET_VALID", "timedatectl")
	r.opts.Authorities, r.opts.Now = nil, r.opts.Now.Add(24*time.Hour)
	want(t, r.run(), "EK rsa-2048", Unknown, "nobody's", "--ek-roots DIR")
	deny := func(rule string) *Report {
		dir := t.TempDir()
		must(t, os.WriteFile(dir+"/"+ek.RulesFile, []byte(rule+"\n"), 0o600))
		r.opts.Authorities, err = ek.Open(ek.BundleNone, r.chip.RootCA(), r.chip.IssuerCA(), dir)
		must(t, err)
		return r.run()
	}
	denied := deny("deny key sha-256:" + pin)
	want(t, denied, "EK rsa-2048", Bad, "denied by a rule", ek.RulesFile)
	if denied.OK || denied.EK[0].Level != "" || denied.EK[0].Code != string(ek.CodeDenied) {
		t.Errorf("%v %+v", denied.OK, denied.EK)
	}
	denied = deny(fmt.Sprintf("deny firmware IBM %s", got.TPM.Firmware))
	want(t, denied, "firmware", Bad, "denied", "update the TPM's firmware")
}

func testFiles(t *testing.T, r *rig) {
	for _, c := range []struct {
		path, content string
		name          string
		status        Status
		text, hint    string
	}{
		{"/etc/crypttab", "root UUID=1 none tpm2-device=auto,tpm2-pcrs=7\n", "sealed disks", OK, "1 volume", "systemd-cryptenroll DEVICE"},
		{"/etc/crypttab", "a UUID=1 none\n#b UUID=2 - tpm2-pcrs=13,tpm2-device=auto\nroot UUID=3 - tpm2-device=auto,tpm2-pcrs=7+13\n", "sealed disks", Warn, "root is sealed to PCR 13", "--latch-pcr"},
		{"/etc/crypttab", "#b UUID=2 - tpm2-pcrs=13\n", "sealed disks", OK, "none in", ""},
		{"/etc/crypttab", "root UUID=3 - tpm2-pcrs=sysexts:sha256\n", "sealed disks", Warn, "root is sealed to PCR 13", "--latch-pcr"},
		{"/etc/crypttab", "home UUID=3 - tpm2-measure-pcr=13\n", "sealed disks", Warn, "opening home extends PCR 13", "--latch-pcr"},
		{"/etc/crypttab", "home UUID=3 - tpm2-measure-pcr=yes,tpm2-pcrs=1+3\n", "sealed disks", OK, "none in", ""},
		{"/proc/cmdline", "root=/dev/vda1 init=/bin/sh\n", "command line", Warn, "was not measured: root=/dev/vda1 init=/bin/sh", "restart"},
		{"/proc/sys/kernel/osrelease", "5.10.0-8\n", "kernel", Bad, "too old", "5.15"},
		{"/proc/sys/kernel/osrelease", "4.19\n", "kernel", Bad, "too old", "5.15"},
		{"/proc/sys/kernel/osrelease", "6\n", "kernel", Unknown, "Linux 6", "5.15"},
		{securityFS + "/lockdown", "[none] integrity confidentiality\n", "lockdown", Warn, "none: root may", "lockdown=integrity"},
		{securityFS + "/lockdown", "none integrity [confidentiality]\n", "lockdown", Warn, "may refuse the sensor", "sensor's line"},
		{securityFS + "/lockdown", "x\n", "lockdown", Unknown, "not understood", "lockdown=integrity"},
		{"/var/lib/jurat/identity.json", "{", "enrolment", Bad, "malformed", "juratd enrol"},
		{osLogPath, "{}", "system log", Warn, osLogPath, "restart"},
		{securityFS + "/tpm0/binary_bios_measurements", "x", "boot log", Bad, "malformed event log", "update the firmware"},
	} {
		before, err := os.ReadFile(r.opts.Root + c.path)
		r.write(c.path, c.content)
		want(t, r.run(), c.name, c.status, c.text, c.hint)
		if r.remove(c.path); err == nil {
			r.write(c.path, string(before))
		}
	}
	for _, c := range []struct {
		path, name string
		status     Status
		text, hint string
	}{
		{securityFS + "/lockdown", "lockdown", Warn, "no lockdown", "CONFIG_SECURITY_LOCKDOWN_LSM"},
		{imaPath, "IMA", Warn, "no IMA", "ima_policy=tcb"},
		{btfPath, "kernel", Bad, "without BTF", "CONFIG_DEBUG_INFO_BTF"},
		{"/var/lib/jurat/identity.json", "enrolment", Warn, "not enrolled", "juratd enrol"},
		{securityFS + "/tpm0/binary_bios_measurements", "boot log", Bad, "what booted cannot be shown", "UEFI"},
	} {
		before, err := os.ReadFile(r.opts.Root + c.path)
		must(t, err)
		r.remove(c.path)
		report := r.run()
		want(t, report, c.name, c.status, c.text, c.hint)
		if c.name == "boot log" {
			want(t, report, "PCR banks", Bad, "sha1 active and covered by no boot log: refused (E_BANKS)", "tpm2_pcrallocate sha1:none")
			want(t, report, "boot PCRs", Unknown, "no boot log", "")
			r.write(efiSecureBoot, "\x06\x00\x00\x00\x01")
			want(t, r.run(), "Secure Boot", Unknown, "the firmware says on, which nobody measured", "")
		}
		r.write(c.path, string(before))
	}
}

func testIMA(t *testing.T, r *rig) {
	list := r.ima
	defer func() { r.ima = list; r.write(imaPath, string(list)) }()
	r.list("/usr/bin/id") // listed, and PCR 10 was read before
	want(t, r.run(), "IMA", OK, "4 entries, policy tcb, the last 1 since: as PCR 10 says", "")
	r.write(imaPath, string(list[:len(list)-1]))
	want(t, r.run(), "IMA", Bad, "malformed list", "jurat ima show")
	r.ima = nil
	r.list("boot_aggregate")
	r.list("/usr/bin/evil")
	want(t, r.run(), "IMA", Bad, "2 entries, policy tcb: not what PCR 10 says", "something beside IMA")
	r.write(imaPath, "")
	want(t, r.run(), "IMA", Warn, "empty", "ima_policy=tcb")
}

func testLatch(t *testing.T, r *rig) {
	defer r.reset(bootlog.Boot{})
	must(t, r.chip.Measure(13, sha256.Sum256(nil)))
	got := r.run()
	want(t, got, "latch PCR", Warn, "PCR 13 is in use, probably by systemd-stub (system extensions)", "--latch-pcr: 11, 12 and 15 are free")
	want(t, got, "system log", Warn, "PCR 13: not what the logs make of it", "find out")
	r.opts.Register.Latch = 15
	want(t, r.run(), "latch PCR", OK, "PCR 15 is free", "")
	r.write("/etc/crypttab", "home UUID=3 - tpm2-measure-pcr=yes\n")
	want(t, r.run(), "sealed disks", Warn, "opening home extends PCR 15", "--latch-pcr")
	r.remove("/etc/crypttab")
	r.opts.Register.Latch = 10
	want(t, r.run(), "latch PCR", Bad, "latch PCR 10, want 8, 9 or 11 to 15", "--latch-pcr")
	r.opts.Register = tpm.RegisterOptions{}
	for _, pcr := range []int{11, 12, 15} {
		must(t, r.chip.Measure(pcr, sha256.Sum256(nil)))
	}
	want(t, r.run(), "latch PCR", Warn, "in use", "none is free")
}

// reset starts the machine anew.
func (r *rig) reset(boot bootlog.Boot) {
	r.chip.SetBoot(boot)
	must(r.t, r.chip.Reset())
	r.booted()
}

func testRegister(t *testing.T, r *rig) {
	dev, err := tpm.Open(r.chip.Path())
	must(t, err)
	defer r.reset(bootlog.Boot{})
	defer dev.Close()
	ctx := t.Context()
	register, _, err := dev.Register(ctx, tpm.RegisterOptions{})
	must(t, err)
	must(t, register.Define(ctx))
	want(t, r.run(), "register", OK, "holds jurat's register, not written yet", "")
	// A register of another latch is left from another configuration.
	r.opts.Register.Latch = 12
	want(t, r.run(), "register", Warn, "holds jurat's register with PCR 13 as its latch", "-latch-pcr 13")
	r.opts.Register.Latch = 0
	must(t, register.Open(ctx, sha256.Sum256([]byte("genesis"))))
	id, ok := (&examination{Options: r.opts}).bootID()
	if !ok {
		t.Fatal("no boot id")
	}
	must(t, register.CloseLatch(ctx, id))
	got := r.run()
	want(t, got, "register", OK, "written since the TPM started", "")
	want(t, got, "latch PCR", OK, "closed by jurat's register", "")
	want(t, got, "system log", OK, "systemd measured nothing", "")
	if got.TPM.Register != "closed" || got.PCRs["13"].State != Latch {
		t.Errorf("%+v %+v", got.TPM, got.PCRs["13"])
	}
	must(t, r.chip.Measure(13, sha256.Sum256(nil)))
	want(t, r.run(), "latch PCR", Warn, "extended by somebody else too", "--latch-pcr")
}

// Something at the index that is no register at all.
func testForeign(t *testing.T, r *rig) {
	conn, err := net.Dial("unix", r.chip.Path())
	must(t, err)
	defer conn.Close()
	_, err = tpm2.NVUndefineSpace{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		NVIndex:    tpm2.NamedHandle{Handle: tpm.DefaultIndex, Name: tpm2.TPM2BName{Buffer: nvName(t, conn)}},
	}.Execute(wire{conn})
	must(t, err)
	_, err = tpm2.NVDefineSpace{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: tpm.DefaultIndex, NameAlg: tpm2.TPMAlgSHA256, DataSize: 8,
			Attributes: tpm2.TPMANV{NT: tpm2.TPMNTOrdinary, OwnerRead: true, OwnerWrite: true},
		}),
	}.Execute(wire{conn})
	must(t, err)
	want(t, r.run(), "register", Warn, "0x01906a72 holds something else: ordinary, 8 bytes", "--nv-index")
	r.opts.Register.Index = tpm.DefaultIndex + 1
	want(t, r.run(), "register", OK, "0x01906a73 is free", "")
	r.opts.Register.Index = 1
	want(t, r.run(), "latch PCR", Bad, "register at NV index 0x1", "--nv-index")
	want(t, r.run(), "register", Unknown, "line above", "")
	r.opts.Register = tpm.RegisterOptions{}
}

// nvName is the name of what is at the default index.
func nvName(t *testing.T, conn net.Conn) []byte {
	t.Helper()
	rsp, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(tpm.DefaultIndex)}.Execute(wire{conn})
	must(t, err)
	return rsp.NVName.Buffer
}

// wire sends commands to a TPM.
type wire struct{ net.Conn }

func (w wire) Send(command []byte) ([]byte, error) {
	if _, err := w.Write(command); err != nil {
		return nil, err
	}
	answer := make([]byte, 4096)
	n, err := w.Read(answer)
	return answer[:n], err
}

func testBoot(t *testing.T, r *rig) {
	defer r.reset(bootlog.Boot{})
	log, err := os.ReadFile(r.chip.EventLog())
	must(t, err)
	r.reset(bootlog.Boot{SecureBootOff: true, Kernel: "6.12.0-other"})
	got := r.run()
	want(t, got, "Secure Boot", Warn, "off", "enable it in the firmware setup")
	want(t, got, "boot PCRs", OK, "0 to 7", "")
	// The log of one boot and the TPM of another.
	r.opts.BootLog = r.opts.Root + "/earlier"
	r.write("/earlier", string(log))
	got = r.run()
	r.opts.BootLog = ""
	want(t, got, "boot PCRs", Bad, "PCR 4 and 7: another value than the boot log makes", "jurat eventlog replay")
	want(t, got, "system log", Warn, "PCR 8 and 9", "find out")
	want(t, got, "Secure Boot", Warn, "PCR 7 does not bear it out", "boot PCRs")
	want(t, got, "kernel image", Warn, "PCR 4 does not bear it out", "boot PCRs")
	if got.OK || got.PCRs["7"].State != Different {
		t.Errorf("%v %+v", got.OK, got.PCRs["7"])
	}
	// A power cut, before the clock has gone on.
	must(t, r.chip.PowerCut())
	r.booted()
	want(t, r.run(), "clock", Warn, "not safe", "70 minutes")
}

// A bank that the log does not cover.
func testCoverage(t *testing.T, r *rig) {
	raw, _ := bootlog.Boot{}.Log(bootlog.SHA256)
	r.write(securityFS+"/tpm0/binary_bios_measurements", string(raw))
	got := r.run()
	want(t, got, "PCR banks", Bad, "sha1 is active, and boot log event 1 has no digest for it: refused (E_BANKS)", "tpm2_pcrallocate sha1:none")
	want(t, got, "boot PCRs", OK, "0 to 7", "")
}

// A TPM as it left no factory: no certificates, and the keys are made anew.
func TestBlank(t *testing.T) {
	r := healthy(t, softtpm.Options{Blank: true})
	got := r.run()
	for _, c := range got.Checks {
		if strings.HasPrefix(c.Name, "EK ") {
			want(t, got, c.Name, Warn, "no certificate in the TPM", "jurat host add NAME --ek-pin ")
		}
	}
	if len(got.EK) != 2 || got.EK[0].Level != "ek-pin" || !got.OK {
		t.Errorf("%v %+v", got.OK, got.EK)
	}
	if next, ok := got.Next(); !ok || next.Name != "firmware" {
		t.Errorf("next %+v", next)
	}
}

func TestNoTPM(t *testing.T) {
	r := bare(t)
	r.opts.TPM = r.opts.Root + "/dev/tpmrm0"
	got := r.run()
	want(t, got, "TPM", Bad, "no TPM at", "enable the TPM in the firmware setup")
	for _, name := range []string{"firmware", "clock", "lockout", "hierarchies", "EK", "PCR banks", "latch PCR", "register", "TPM memory"} {
		want(t, got, name, Unknown, "no TPM", "")
	}
	if next, ok := got.Next(); !ok || next.Name != "TPM" || got.OK || got.TPM != nil || len(got.PCRs) != 0 {
		t.Errorf("next %+v, %+v", next, got)
	}
	// What needs no TPM is looked at all the same.
	raw, _ := bootlog.Boot{}.Log(bootlog.SHA256)
	r.write(securityFS+"/tpm0/binary_bios_measurements", string(raw))
	r.list("boot_aggregate")
	r.list("/usr/bin/true")
	got = r.run()
	want(t, got, "boot log", OK, "events, sha256", "")
	want(t, got, "boot PCRs", Unknown, noTPM, "")
	want(t, got, "Secure Boot", OK, "on", "")
	want(t, got, "IMA", Unknown, "2 entries, policy tcb; no PCR 10 to compare with", "")
	// Another machine's files, and nobody asked for a TPM.
	r.opts.TPM, r.opts.Sensor = "", nil
	got = r.run()
	want(t, got, "TPM", Unknown, "another machine's", "")
	want(t, got, "sensor", Unknown, "another machine's", "")
}

// securityfs that is not mounted says nothing about the kernel.
func TestNotMounted(t *testing.T) {
	r := bare(t)
	r.remove(securityFS)
	must(t, os.MkdirAll(r.opts.Root+securityFS, 0o755))
	got := r.run()
	for _, name := range []string{"boot log", "IMA", "lockdown"} {
		want(t, got, name, Unknown, "is empty", "mount -t securityfs")
	}
}

// The alarms of a log are red, and a kernel that was never measured too.
func TestFindings(t *testing.T) {
	raw, _ := bootlog.Boot{}.Log(bootlog.SHA256)
	l, err := eventlog.Parse(raw)
	must(t, err)
	for i := range l.Events {
		if l.Events[i].Type == eventlog.EFIBootServicesApplication {
			raw = raw[:l.Events[i].Offset]
			break
		}
	}
	r := bare(t)
	r.write(securityFS+"/tpm0/binary_bios_measurements", string(raw))
	got := r.run()
	want(t, got, "boot findings", Bad, eventlog.FindingKernelUnmeasured, "jurat eventlog show")
	want(t, got, "kernel image", Bad, "never measured", "UEFI")
	want(t, got, "command line", Unknown, "not in the boot log as text, as with a unified kernel image", "")
}
