// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/jurat-dev/jurat/eventlog"
	"github.com/jurat-dev/jurat/internal/require"
)

// logWriter writes a boot event log with a SHA-256 bank and one that nobody
// knows.
type logWriter struct{ raw []byte }

const unknownBank = 0x7777

func (w *logWriter) u32(values ...uint32) {
	for _, v := range values {
		w.raw = binary.LittleEndian.AppendUint32(w.raw, v)
	}
}

func (w *logWriter) header() {
	w.u32(0, 3)
	w.raw = append(w.raw, make([]byte, 20)...)
	w.u32(16 + 12 + 8 + 1)
	w.raw = append(w.raw, "Spec ID Event03\x00"...)
	w.u32(0, 0x02000200, 2)
	for _, bank := range []uint16{uint16(eventlog.SHA256), 32, unknownBank, 3} {
		w.raw = binary.LittleEndian.AppendUint16(w.raw, bank)
	}
	w.raw = append(w.raw, 0)
}

func (w *logWriter) event(pcr uint32, t eventlog.Type, data, of string) {
	digest := sha256.Sum256([]byte(of))
	w.u32(pcr, uint32(t), 2)
	w.raw = binary.LittleEndian.AppendUint16(w.raw, uint16(eventlog.SHA256))
	w.raw = append(w.raw, digest[:]...)
	w.raw = append(binary.LittleEndian.AppendUint16(w.raw, unknownBank), 1, 2, 3)
	w.u32(uint32(len(data)))
	w.raw = append(w.raw, data...)
}

func wideText(s string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return string(b)
}

// sampleLog is a machine with Secure Boot off that boots GRUB and a kernel.
func sampleLog() []byte {
	const global = "\x61\xdf\xe4\x8b\xca\x93\xd2\x11\xaa\x0d\x00\xe0\x98\x03\x2b\x8c"
	w := new(logWriter)
	w.header()
	version := wideText("ACME 1.2")
	w.event(0, eventlog.SCRTMVersion, version, version)
	secure := global + "\x0a\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00" + wideText("SecureBoot") + "\x00"
	w.event(7, eventlog.EFIVariableDriverConfig, secure, secure)
	for pcr := range uint32(8) {
		w.event(pcr, eventlog.Separator, "\x00\x00\x00\x00", "\x00\x00\x00\x00")
	}
	name := wideText("\\EFI\\debian\\grubx64.efi\x00")
	path := "\x04\x04" + string([]byte{byte(len(name) + 4), 0}) + name + "\x7f\xff\x04\x00"
	w.event(4, eventlog.EFIBootServicesApplication, strings.Repeat("\x00", 24)+string([]byte{byte(len(path)), 0, 0, 0, 0, 0, 0, 0})+path, "grub")
	w.event(8, eventlog.IPL, "grub_cmd: linux /vmlinuz \x1b[2J quiet\x00", "linux /vmlinuz \x1b[2J quiet")
	w.event(8, eventlog.IPL, "kernel_cmdline: /vmlinuz root=/dev/vda1 quiet\x00", "/vmlinuz root=/dev/vda1 quiet")
	w.event(9, eventlog.IPL, "/vmlinuz\x00", "kernel")
	w.event(0, eventlog.Type(0x8401), "\x01", "something")
	w.event(5, eventlog.EFIAction, "Exit Boot Services Invocation", "Exit Boot Services Invocation")
	w.event(5, eventlog.EFIAction, "Exit Boot Services Returned with Success", "Exit Boot Services Returned with Success")
	return w.raw
}

// sampleLogs puts a log, the values of a TPM and systemd's log into the world.
func sampleLogs(t *testing.T, w *world) {
	t.Helper()
	raw := sampleLog()
	write(t, w.path("log.bin"), raw)
	write(t, w.path("truncated.bin"), raw[:len(raw)-1])
	record := fmt.Sprintf("\x1e{\"pcr\":11,\"digests\":[{\"hashAlg\":\"sha256\",\"digest\":\"%x\"}],\"content_type\":\"systemd\",\"content\":{\"string\":\"enter-initrd\",\"eventType\":\"phase\"}}\n",
		sha256.Sum256([]byte("enter-initrd")))
	write(t, w.path("tpm2-measure.log"), []byte(record))
	l, err := eventlog.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	u, err := eventlog.ParseUserspace([]byte(record))
	if err != nil {
		t.Fatal(err)
	}
	values := u.Replay(l.Replay(eventlog.SHA256))
	write(t, w.path("quote.pcrs"), serialized(values, func(int, []byte) {}))
	write(t, w.path("other.pcrs"), serialized(values, func(pcr int, value []byte) {
		if pcr == 4 || pcr == 14 {
			value[0] ^= 1
		}
	}))
}

// serialized writes PCR 0 to 14 as tpm2_quote does.
func serialized(v eventlog.Values, change func(pcr int, value []byte)) []byte {
	le := binary.LittleEndian
	out := append([]byte{1, 0, 0, 0, 0x0b, 0, 3, 0xff, 0x7f, 0, 0, 0}, make([]byte, 15*8)...)
	out = le.AppendUint32(out, 2)
	for first := 0; first < 15; first += 8 {
		n := min(8, 15-first)
		out = le.AppendUint32(out, uint32(n))
		list := make([]byte, 8*66)
		for i := range n {
			value, ok := v.At(first + i)
			if !ok {
				value = make([]byte, 32)
			}
			change(first+i, value)
			le.PutUint16(list[i*66:], 32)
			copy(list[i*66+2:], value)
		}
		out = append(out, list...)
	}
	return out
}

func replayOf(t *testing.T, w *world, args ...string) (int, replayJSON) {
	t.Helper()
	code, out, errs := w.run(append([]string{"--json", "eventlog", "replay"}, args...)...)
	var r replayJSON
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("exit %d: %v\n%s%s", code, err, out, errs)
	}
	return code, r
}

// TestEventlogDisagrees: a value that the log does not make is refused with the
// whole answer, and so is a value of a boot PCR that no event explains.
func TestEventlogDisagrees(t *testing.T) {
	w := newWorld(t)
	sampleLogs(t, w)
	code, r := replayOf(t, w, w.path("log.bin"), "--pcrs", w.path("other.pcrs"), "--userspace", w.path("tpm2-measure.log"))
	states := make(map[int]string)
	for _, c := range r.Compared.PCRs {
		states[c.PCR] = c.State
	}
	if code != exitNo || r.Compared.Match || states[4] != stateDifferent || states[14] != stateUnexplained || states[7] != stateEqual || states[13] != stateUnused {
		t.Errorf("exit %d, %v", code, states)
	}
	code, r = replayOf(t, w, w.path("log.bin"), "--pcrs", w.path("quote.pcrs"))
	if code != exitYes || !r.Compared.Match || r.Compared.PCRs[11].State != stateUnexplained {
		t.Errorf("without systemd's log: exit %d, PCR 11 is %s", code, r.Compared.PCRs[11].State)
	}
	code, out, _ := w.run("eventlog", "replay", w.path("log.bin"), "--pcrs", w.path("other.pcrs"))
	if code != exitNo || !strings.Contains(out, "does not make the values") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

// TestEventlogCompleted: what only agrees with events that the log lacks is said
// to be so.
func TestEventlogCompleted(t *testing.T) {
	w := newWorld(t)
	sampleLogs(t, w)
	raw := sampleLog()
	l, err := eventlog.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	write(t, w.path("log.bin"), raw[:l.Events[len(l.Events)-2].Offset])
	code, r := replayOf(t, w, w.path("log.bin"), "--pcrs", w.path("quote.pcrs"))
	if c := r.Compared.PCRs[5]; code != exitYes || c.State != stateCompleted || !strings.Contains(c.Text, "Invocation, Success") {
		t.Errorf("exit %d, PCR 5 is %s: %s", code, c.State, c.Text)
	}
}

// TestEventlogPCRForms: every form in which tpm2-tools write values is read.
func TestEventlogPCRForms(t *testing.T) {
	w := newWorld(t)
	sampleLogs(t, w)
	l, err := eventlog.Parse(sampleLog())
	if err != nil {
		t.Fatal(err)
	}
	v := l.Replay(eventlog.SHA256)
	var bare []byte
	printed := "  sha256:\n"
	for pcr := range 24 {
		value, ok := v.At(pcr)
		if !ok {
			value = make([]byte, 32)
		}
		bare = append(bare, value...)
		printed += fmt.Sprintf("    %-2d: 0x%X\n", pcr, value)
	}
	for name, data := range map[string][]byte{"bare": bare, "printed": []byte(printed), "serialized": serialized(v, func(int, []byte) {})} {
		write(t, w.path("x.pcrs"), data)
		code, r := replayOf(t, w, w.path("log.bin"), "--pcrs", w.path("x.pcrs"))
		if code != exitYes || !r.Compared.Match || r.Compared.PCRs[4].State != stateEqual {
			t.Errorf("%s: exit %d, %+v", name, code, r.Compared.PCRs)
		}
	}
	good := serialized(v, func(int, []byte) {})
	for n := range good {
		if got, err := parsePCRs(good[:n], "", nil); err == nil {
			t.Fatalf("%d bytes of %d give %d values", n, len(good), len(got))
		}
		bad := slices.Clone(good)
		bad[n] ^= 0xff
		_, _ = parsePCRs(bad, "", nil) // must not panic
	}
	for _, text := range []string{"sha256:\n", "0 : 0x00\n", "sha256:\n  24: 0x" + strings.Repeat("00", 32), "sha256:\n 0: 0x00", "hello", ""} {
		if got, err := parsePCRs([]byte(text), "", []eventlog.Algorithm{unknownBank}); err == nil {
			t.Errorf("%q gives %v", text, got)
		}
	}
}

// TestEventlogPCRList: bare values of some PCRs are read with a list, and with
// no other.
func TestEventlogPCRList(t *testing.T) {
	w := newWorld(t)
	sampleLogs(t, w)
	l, err := eventlog.Parse(sampleLog())
	if err != nil {
		t.Fatal(err)
	}
	four, _ := l.Replay(eventlog.SHA256).At(4)
	seven, _ := l.Replay(eventlog.SHA256).At(7)
	write(t, w.path("x.pcrs"), slices.Concat(four, seven, make([]byte, 20)))
	for list, want := range map[string]int{
		"sha256:7,4+sha1:1": exitYes, "sha256:4,8+sha1:1": exitNo, "sha256:4,7": exitNo, "sha256:all": exitNo, "": exitNo, "sha256:4,4,7": exitNo,
		"sha256": exitNo, "md5:1": exitNo, "sha256:x": exitNo, "sha256:24": exitNo,
	} {
		if code, _, errs := w.run("--json", "eventlog", "replay", w.path("log.bin"), "--pcrs", w.path("x.pcrs"), "--pcr-list", list); code != want {
			t.Errorf("%q: exit %d, want %d: %s", list, code, want, errs)
		}
	}
}

func TestEventlogMalformed(t *testing.T) {
	w := newWorld(t)
	sampleLogs(t, w)
	write(t, w.path("empty"), nil)
	for name, args := range map[string][]string{
		"empty":     {"eventlog", "show", w.path("empty")},
		"bogus":     {"eventlog", "replay", w.path("tpm2-measure.log")},
		"values":    {"eventlog", "replay", w.path("log.bin"), "--pcrs", w.path("log.bin")},
		"userspace": {"eventlog", "replay", w.path("log.bin"), "--userspace", w.path("log.bin")},
		"too large": {"eventlog", "show", "-"},
	} {
		w.stdin = strings.Repeat("x", eventlog.MaxLog+1)
		code, out, errs := w.run(append([]string{"--json"}, args...)...)
		if code != exitNo || !strings.Contains(out, "\"malformed\"") || strings.Count(errs, "error: ") != 1 {
			t.Errorf("%s: exit %d\n%s%s", name, code, out, errs)
		}
	}
}

// TestEventlogMachines: the recorded machines by way of the command.
func TestEventlogMachines(t *testing.T) {
	root := os.Getenv("JURAT_CORPUS")
	if root == "" {
		root = "../../../shared/corpus"
	}
	machines, err := filepath.Glob(filepath.Join(root, "vm", "*", "quote.pcrs"))
	if err == nil && len(machines) == 0 {
		err = os.ErrNotExist
	}
	require.Need(t, "corpus", err)
	w := newWorld(t)
	for _, pcrs := range machines {
		log := filepath.Join(filepath.Dir(pcrs), "binary_bios_measurements")
		code, r := replayOf(t, w, log, "--pcrs", pcrs)
		if code != exitYes || !r.Compared.Match || len(r.Compared.PCRs) != 15 {
			t.Errorf("%s: exit %d, %+v", log, code, r.Compared)
		}
		_, out, _ := w.run("eventlog", "show", log)
		if bytes.ContainsAny([]byte(out), "\x1b\x00") {
			t.Errorf("%s: what is shown is not clean", log)
		}
	}
}
