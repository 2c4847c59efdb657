// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/jurat-dev/jurat/eventlog"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/ima"
	"github.com/jurat-dev/jurat/internal/require"
	"github.com/jurat-dev/jurat/verify"
	"github.com/jurat-dev/jurat/verify/internal/testbundle"
)

// guest is the sample host with the boot log, the IMA list and the PCRs of a
// machine that really booted.
func guest(t *testing.T, machine string) *testbundle.World {
	t.Helper()
	root := os.Getenv("JURAT_CORPUS")
	if root == "" {
		root = "../../shared/corpus"
	}
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(root, "vm", machine, name))
		require.Need(t, "corpus", err)
		return data
	}
	w := testbundle.First()
	w.Policy = verify.DefaultPolicy()
	w.BootLog = read("binary_bios_measurements")
	boot, err := verify.ParseBoot(w.BootLog)
	if err != nil {
		t.Fatal(err)
	}
	w.Banks = nil
	for _, bank := range boot.Log().Banks() {
		w.Banks = append(w.Banks, uint16(bank))
	}
	w.PCRs = recorded(t, read("quote.pcrs"))
	list := &testbundle.IMA{}
	for rest := read("ima_binary_runtime_measurements"); len(rest) > 0; {
		e, next, err := ima.Next(rest)
		if err != nil {
			t.Fatal(err)
		}
		list.Entries, rest = append(list.Entries, e.Raw), next
	}
	pcr10 := w.PCRs[10]
	list.Fixed = &pcr10
	list.Sent = len(list.Entries)
	list.Counted, list.Committed = list.Sent/2, list.Sent/3
	w.IMA = list
	return w
}

// recorded reads PCRs 0 to 14 from what tpm2_quote wrote: a selection of 132
// bytes, a count, and lists of up to eight digests (tpm2-tools, pcr_get_pcr...).
func recorded(t *testing.T, file []byte) (pcrs [24]evidence.Hash) {
	t.Helper()
	next := 0
	for rest := file[136:]; len(rest) >= 4; rest = rest[4+8*66:] {
		for i := range int(binary.LittleEndian.Uint32(rest)) {
			copy(pcrs[next][:], rest[4+66*i+2:])
			next++
		}
	}
	if next != 15 {
		t.Fatalf("%d PCRs in the file, want 15", next)
	}
	return pcrs
}

// TestGuests takes what recorded machines measured through the whole verifier,
// under the default policy.
func TestGuests(t *testing.T) {
	for machine, want := range map[string]struct {
		secureBoot eventlog.SecureBoot
		kernel     bool // measured
	}{
		"bookworm-6.1-uki-nosb":                    {eventlog.SecureBootOff, true},
		"trixie-6.12-uki-sb-snakeoil":              {eventlog.SecureBootOn, true},
		"bookworm-6.1-direct-kernel-sb-unmeasured": {eventlog.SecureBootOn, false},
	} {
		t.Run(machine, func(t *testing.T) {
			w := guest(t, machine)
			r, _ := accept(t, w)
			facts := r.Boot().Facts()
			if facts.SecureBoot != want.secureBoot {
				t.Errorf("Secure Boot %s (%s), want %s", facts.SecureBoot, facts.Reason, want.secureBoot)
			}
			warned := slices.ContainsFunc(facts.Findings, func(f eventlog.Finding) bool { return f.Code == eventlog.FindingKernelUnmeasured })
			if warned == want.kernel {
				t.Errorf("findings %+v, want the kernel measured: %v", facts.Findings, want.kernel)
			}
			update, listed := r.IMA()
			if !listed || len(update.Files) == 0 || update.Position.PCR != w.PCRs[10] {
				t.Errorf("IMA list %+v", update.Position)
			}
			for _, e := range r.Explain() {
				if e.Source == verify.SourceNoneSaid && e.PCR != 11 && e.PCR != 15 { // their logs of systemd were not recorded
					t.Errorf("PCR %d: %s is explained by nothing", e.PCR, e.Value)
				}
			}
			secureBootDemanded(t, r, facts.SecureBoot == eventlog.SecureBootOn && !warned)
			guestRefused(t, machine)
		})
	}
}

// secureBootDemanded holds a machine against a class that was learned from it,
// but wants Secure Boot and nothing odd.
func secureBootDemanded(t *testing.T, r verify.Result, want bool) {
	t.Helper()
	ref := testbundle.Reference()
	ref.Boot = verify.BootReference{}
	pcrs := make(map[int]evidence.Hash)
	for _, e := range r.Explain()[:10] {
		pcrs[e.PCR] = e.Boot
	}
	if added := ref.Boot.Learn(pcrs, r.Boot()); added == 0 {
		t.Error("nothing was learned")
	}
	if again := ref.Boot.Learn(pcrs, r.Boot()); again != 0 {
		t.Errorf("%d things are new the second time", again)
	}
	if a := r.Appraise(0, ref); !a.OK() {
		t.Errorf("refused by what was learned from it: %+v", a.Failed())
	}
	ref.Boot.SecureBoot = verify.Set[string]{Of: []string{"on"}}
	ref.Boot.Findings = slices.DeleteFunc(ref.Boot.Findings, func(code string) bool { return code == eventlog.FindingKernelUnmeasured })
	if a := r.Appraise(0, ref); a.OK() != want {
		t.Errorf("a class that demands a verified kernel says %v, want %v: %+v", a.OK(), want, a.Failed())
	}
}

// guestRefused changes one thing of a good recording at a time.
func guestRefused(t *testing.T, machine string) {
	t.Helper()
	for want, change := range map[verify.Code]func(*testbundle.World){
		"E_BOOT_REPLAY":   func(w *testbundle.World) { w.PCRs[7][3] ^= 1; w.IMA, w.PCRs[10] = nil, evidence.Hash{} },
		"E_BOOT_FORM":     func(w *testbundle.World) { w.BootLog = w.BootLog[:len(w.BootLog)-1] },
		"E_BANKS":         func(w *testbundle.World) { w.Banks = append(w.Banks, 0x0012) },
		"E_IMA_AGGREGATE": func(w *testbundle.World) { w.PCRs[8] = sha256.Sum256(nil) },
		"E_IMA_REPLAY": func(w *testbundle.World) {
			e := bytes.Clone(w.IMA.Entries[3])
			e[len(e)-3] ^= 1
			w.IMA.Entries[3] = e
		},
	} {
		w := guest(t, machine)
		change(w)
		refused(t, w, want)
	}
}
