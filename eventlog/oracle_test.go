// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog_test

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-attestation/attest"

	"github.com/jurat-dev/jurat/eventlog"
	"github.com/jurat-dev/jurat/internal/require"
)

// logs returns every log of the corpus that is one, by name.
func logs(t *testing.T) map[string][]byte {
	t.Helper()
	out := make(map[string][]byte)
	for _, pattern := range []string{filepath.Join(corpus(t, "eventlog"), "*.bin"), filepath.Join(corpus(t, "vm"), "*", "binary_bios_measurements")} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, file := range files {
			name := strings.TrimSuffix(filepath.Base(file), ".bin")
			if name == "binary_bios_measurements" {
				name = filepath.Base(filepath.Dir(file))
			}
			out[name] = read(t, file)
		}
	}
	return out
}

// otherwise are the logs of which tpm2_eventlog 5.4 has another opinion.
var otherwise = map[string]string{
	"keylime-bogus":            "it crashes; refused here",
	"keylime-empty":            "refused by both",
	"short_no_action_eventlog": "it wants every first EV_NO_ACTION to be a Spec ID event; here it is the start-up locality of an old log",
	"option_rom_eventlog":      "it crashes on Windows' EV_NO_ACTION in PCR 4294967295",
}

// pcr0Otherwise are logs whose PCR 0 tpm2_eventlog 5.4 replays to another value:
// it extends EV_NO_ACTION and knows no start-up locality. go-attestation is of
// our opinion.
var pcr0Otherwise = map[string]string{
	"keylime-server":                         "start-up locality 3",
	"confidential-gke-debug-251000_eventlog": "SP800-155 events",
}

// toolsReplay runs tpm2_eventlog and reads the PCR values it ends with.
func toolsReplay(t *testing.T, raw []byte) (events int, banks map[string]map[int]string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "log")
	write(t, file, raw)
	out, err := exec.Command("tpm2_eventlog", file).Output()
	if err != nil {
		t.Fatalf("tpm2_eventlog: %v", err)
	}
	text := string(out)
	events = strings.Count(text, "PCRIndex:")
	at := strings.LastIndex(text, "\npcrs:\n")
	if at < 0 {
		t.Fatal("tpm2_eventlog prints no PCR values")
	}
	banks = make(map[string]map[int]string)
	bank := ""
	for line := range strings.Lines(text[at+7:]) {
		name, value, _ := strings.Cut(line, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if pcr, err := strconv.Atoi(name); err == nil {
			banks[bank][pcr] = strings.ToLower(strings.TrimPrefix(value, "0x"))
		} else {
			bank = name
			banks[bank] = make(map[int]string)
		}
	}
	return events, banks
}

// TestAgainstTools: tpm2-tools replay each log to the same values.
func TestAgainstTools(t *testing.T) {
	_, err := exec.LookPath("tpm2_eventlog")
	require.Need(t, "tpm", err)
	for name, raw := range logs(t) {
		t.Run(name, func(t *testing.T) {
			if otherwise[name] != "" {
				return
			}
			l, err := eventlog.Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			events, banks := toolsReplay(t, raw)
			if events != len(l.Events) {
				t.Errorf("%d events, tpm2_eventlog has %d", len(l.Events), events)
			}
			if len(banks) != len(l.Banks()) {
				t.Errorf("banks %v, tpm2_eventlog has %d", l.Banks(), len(banks))
			}
			for _, bank := range l.Banks() {
				v := l.Replay(bank)
				got := make(map[int]string)
				for _, pcr := range v.Indexes() {
					got[pcr] = hex.EncodeToString(at(t, v, pcr))
				}
				want := banks[bank.String()]
				if pcr0Otherwise[name] != "" {
					if got[0] == want[0] {
						t.Errorf("PCR 0 is the same: %s", pcr0Otherwise[name])
					}
					delete(got, 0)
					delete(want, 0)
				}
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("bank %v:\ngot  %v\nwant %v", bank, got, want)
				}
			}
		})
	}
}

// refused are logs that go-attestation 0.6.4 has no opinion of, or another.
var refused = map[string]string{
	"keylime-bogus": "refused by both",
	"keylime-empty": "refused by both",
}

// TestAgainstGoAttestation: go-attestation finds that each log makes the values
// we replay, event by event, and the other way round that no other value is made.
func TestAgainstGoAttestation(t *testing.T) {
	hashes := map[eventlog.Algorithm]crypto.Hash{eventlog.SHA1: crypto.SHA1, eventlog.SHA256: crypto.SHA256, eventlog.SHA384: crypto.SHA384}
	for name, raw := range logs(t) {
		t.Run(name, func(t *testing.T) {
			theirs, err := attest.ParseEventLog(raw)
			l, mine := eventlog.Parse(raw)
			if refused[name] != "" {
				if mine == nil {
					t.Error("taken")
				}
				return
			}
			if err != nil || mine != nil {
				t.Fatalf("go-attestation: %v; here: %v", err, mine)
			}
			for _, bank := range l.Banks() {
				v := l.Replay(bank)
				var pcrs, wrong []attest.PCR
				for _, pcr := range v.Indexes() {
					p := attest.PCR{Index: pcr, Digest: at(t, v, pcr), DigestAlg: hashes[bank]}
					pcrs = append(pcrs, p)
					p.Digest = slices.Clone(p.Digest)
					p.Digest[0] ^= 1
					wrong = append(wrong, p)
				}
				events, err := theirs.Verify(pcrs)
				measured := 0
				for i := range l.Events {
					if l.Events[i].Measured() {
						measured++
					}
				}
				if err != nil {
					t.Errorf("bank %v: %v", bank, err)
				} else if n := len(slices.DeleteFunc(events, func(e attest.Event) bool { return e.Type == 3 })); n != measured {
					t.Errorf("bank %v: %d events, go-attestation has %d", bank, measured, n)
				}
				if _, err := theirs.Verify(wrong); len(wrong) > 0 && err == nil {
					t.Errorf("bank %v: go-attestation takes other values, too", bank)
				}
			}
		})
	}
}

// secureBootOtherwise are logs of which go-attestation 0.6.4 has another opinion.
var secureBootOtherwise = map[string]string{
	"arch-linux-workstation":   "SecureBoot without data is an error there, unknown here",
	"crypto_agile_eventlog":    "SecureBoot without data is an error there, unknown here",
	"tpm2tools-uefi-sha1-log":  "SecureBoot without data is an error there, unknown here",
	"tss-nuc":                  "SecureBoot without data is an error there, unknown here",
	"tss-pc_client":            "SecureBoot without data is an error there, unknown here",
	"short_no_action_eventlog": "a log without PCR 7 is 'off' there, unknown here",
}

// TestSecureBootAgainstGoAttestation: where go-attestation has an opinion of
// Secure Boot, it is ours.
func TestSecureBootAgainstGoAttestation(t *testing.T) {
	for name, raw := range logs(t) {
		t.Run(name, func(t *testing.T) {
			theirs, err := attest.ParseEventLog(raw)
			l, mine := eventlog.Parse(raw)
			if err != nil || mine != nil {
				return // see above
			}
			bank := l.Banks()[0]
			if slices.Contains(l.Banks(), eventlog.SHA256) {
				bank = eventlog.SHA256 // it cannot check SHA-384
			}
			v := l.Replay(bank)
			hashes := map[int]crypto.Hash{20: crypto.SHA1, 32: crypto.SHA256, 48: crypto.SHA384}
			var pcrs []attest.PCR
			for _, pcr := range v.Indexes() {
				pcrs = append(pcrs, attest.PCR{Index: pcr, Digest: at(t, v, pcr), DigestAlg: hashes[bank.Size()]})
			}
			events, err := theirs.Verify(pcrs)
			if err != nil {
				t.Fatal(err)
			}
			s, err := attest.ParseSecurebootState(events)
			state, why := l.SecureBoot()
			want := eventlog.SecureBootUnknown
			if err == nil && s.Enabled {
				want = eventlog.SecureBootOn
			} else if err == nil {
				want = eventlog.SecureBootOff
			}
			if name == "bookworm-6.1-direct-kernel-sb-unmeasured" {
				// There it is an error that no key was used; here it is on, with
				// an alarm, because both are what the log says.
				if err == nil || state != eventlog.SecureBootOn || !slices.Contains(codes(l), eventlog.FindingNothingAuthorised) {
					t.Errorf("%s, %v", state, err)
				}
				return
			}
			if state != want && secureBootOtherwise[name] == "" {
				t.Errorf("%s (%s), go-attestation has %s (%v)", state, why, want, err)
			}
			if secureBootOtherwise[name] != "" && state != eventlog.SecureBootUnknown {
				t.Errorf("%s, want it unknown: %s", state, secureBootOtherwise[name])
			}
			if err == nil && state == eventlog.SecureBootOn {
				sameAuthorities(t, l, s)
			}
		})
	}
}

// sameAuthorities: the certificates that authorised images are the same.
func sameAuthorities(t *testing.T, l *eventlog.Log, s *attest.SecurebootState) {
	var got, want []string
	for _, a := range l.Authorities() {
		if a.Image && a.Subject != "" {
			got = append(got, a.Subject)
		}
	}
	for _, c := range slices.Concat(s.PreSeparatorAuthority, s.PostSeparatorAuthority) {
		want = append(want, c.Subject.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("authorities %q, go-attestation has %q", got, want)
	}
	if bytes.Contains([]byte(strings.Join(got, "")), []byte("\x00")) {
		t.Error("a name is not clean")
	}
}
