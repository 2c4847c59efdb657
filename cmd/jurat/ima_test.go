// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jurat-dev/jurat/ima"
	"github.com/jurat-dev/jurat/internal/require"
)

// measured appends an entry to a list, of any template with fields.
func measured(list []byte, pcr uint32, template string, violation bool, fields ...string) []byte {
	le := binary.LittleEndian
	var data []byte
	for _, f := range fields {
		data = append(le.AppendUint32(data, uint32(len(f))), f...)
	}
	digest := sha1.Sum(data)
	if violation {
		digest = [sha1.Size]byte{}
	}
	list = append(le.AppendUint32(list, pcr), digest[:]...)
	list = append(le.AppendUint32(list, uint32(len(template))), template...)
	return append(le.AppendUint32(list, uint32(len(data))), data...)
}

func ngDigest(of string) string {
	d := sha256.Sum256([]byte(of))
	return "sha256:\x00" + string(d[:])
}

// goodList is a list that nothing is wrong with.
func goodList() []byte {
	list := measured(nil, 10, "ima-ng", false, ngDigest("boot"), "boot_aggregate\x00")
	list = measured(list, 10, "ima-sig", false, ngDigest("init"), "/usr/lib/systemd/systemd\x00", "")
	return measured(list, 10, "ima-buf", false, ngDigest("key"), ".ima\x00", "certificate")
}

// sampleIMA writes lists, and returns the values of PCR 10 that they make.
func sampleIMA(t *testing.T, w *world) *strings.Replacer {
	t.Helper()
	good := goodList()
	r := imaReplayOf(t, good)
	list := measured(good, 10, "ima-ng", true, "sha256:\x00"+strings.Repeat("\x00", 20), "/var/log/\x1b[31mjournal\x00")
	list = measured(list, 11, "d-ngv2|n-ng", false, "verity:"+ngDigest("x"), "/usr/bin/x\x00")
	list = measured(list, 10, "of-tomorrow", false, "anything")
	write(t, w.path("good.ima"), good)
	write(t, w.path("list.ima"), list)
	write(t, w.path("torn.ima"), list[:len(list)-3])
	write(t, w.path("list.txt"), []byte(asciiList(t, list)))
	return strings.NewReplacer("SHA256", hex.EncodeToString(r.SHA256[:]), "PADDED", hex.EncodeToString(r.Padded[:]), "NONCE", quoteNonce)
}

func imaReplayOf(t *testing.T, list []byte) ima.Replay {
	t.Helper()
	r := ima.NewReplay(10, ima.AllTracks)
	for len(list) > 0 {
		e, rest, err := ima.Next(list)
		if err != nil {
			t.Fatal(err)
		}
		r.Add(&e)
		list = rest
	}
	return r
}

// asciiList writes a list as the kernel does, for the fields it has here.
func asciiList(t *testing.T, list []byte) string {
	t.Helper()
	var b strings.Builder
	for len(list) > 0 {
		e, rest, err := ima.Next(list)
		if err != nil {
			t.Fatal(err)
		}
		list = rest
		fmt.Fprintf(&b, "%2d %x %s", e.PCR, e.TemplateDigest, e.Template)
		for _, f := range e.Fields() {
			switch label, digest, ok := strings.Cut(string(f.Value), "\x00"); {
			case strings.HasPrefix(f.ID, "d-"):
				fmt.Fprintf(&b, " %s%x", label, digest)
			case ok:
				fmt.Fprintf(&b, " %s", label)
			default:
				fmt.Fprintf(&b, " %x", f.Value)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// imaReplay runs the command on a list from standard input.
func replayed(t *testing.T, list []byte, args ...string) (int, *imaReplayJSON) {
	t.Helper()
	w := newWorld(t)
	w.stdin = string(list)
	code, out, errs := w.run(append([]string{"ima", "replay", "-", "--json"}, args...)...)
	var r imaReplayJSON
	if err := json.Unmarshal([]byte(out), &r); err != nil || r.Schema != "jurat.ima-replay/v1" {
		t.Fatalf("%v: %s%s", err, out, errs)
	}
	return code, &r
}

// TestIMAReplayVerdict: what is yes and what is no.
func TestIMAReplayVerdict(t *testing.T) {
	good := goodList()
	r := imaReplayOf(t, good)
	value := hex.EncodeToString(r.SHA256[:])
	violated := measured(bytes.Clone(good), 10, "ima-ng", true, "sha256:\x00", "/x\x00")
	longer := measured(bytes.Clone(good), 10, "ima-ng", false, ngDigest("y"), "/y\x00")
	edited := bytes.Replace(good, []byte("/usr/lib"), []byte("/usr/lab"), 1)
	elsewhere := measured(bytes.Clone(good), 12, "ima-ng", true, "sha256:\x00", "/x\x00")
	lossy := asciiList(t, measured(bytes.Clone(good), 10, "of-tomorrow", false, "x"))
	for _, c := range []struct {
		what    string
		list    []byte
		args    []string
		code    int
		matched uint64 // 0 for none
		beyond  uint64
	}{
		{"good, alone", good, nil, 0, 0, 0},
		{"good", good, []string{"--pcr10", value}, 0, 3, 0},
		{"good, SHA-1", good, []string{"--pcr10", "0x" + strings.ToUpper(hex.EncodeToString(r.SHA1[:]))}, 0, 3, 0},
		{"good, kernel before 5.8", good, []string{"--pcr10", hex.EncodeToString(r.Padded[:])}, 0, 3, 0},
		{"another value", good, []string{"--pcr10", strings.Repeat("ab", 32)}, 1, 0, 0},
		{"longer", longer, []string{"--pcr10", value}, 0, 3, 1},
		{"edited", edited, nil, 1, 0, 0},
		{"violation", violated, nil, 1, 0, 0},
		{"violation behind the match", violated, []string{"--pcr10", value}, 1, 3, 1},
		{"violation, allowed", violated, []string{"--pcr10", value, "--allow-violations"}, 0, 3, 1},
		{"violation elsewhere", elsewhere, nil, 1, 0, 0},
		{"line feed", append(bytes.Clone(good), '\n'), []string{"--pcr10", value}, 0, 3, 0},
		{"ASCII", []byte(asciiList(t, good)), []string{"--pcr10", value}, 0, 3, 0},
		{"ASCII, lossy", []byte(lossy), nil, 1, 0, 0},
		{"ASCII, lossy behind the match", []byte(lossy), []string{"--pcr10", value}, 0, 3, 1},
		{"empty", nil, nil, 0, 0, 0},
		{"empty, with a value", nil, []string{"--pcr10", value}, 1, 0, 0},
	} {
		code, out := replayed(t, c.list, c.args...)
		var matched, beyond uint64
		if out.Match != nil {
			matched, beyond = out.Match.Entries, out.Match.Beyond
		}
		if code != c.code || out.OK != (code == 0) || matched != c.matched || beyond != c.beyond {
			t.Errorf("%s: exit %d, ok %v, match of %d and %d beyond; want %d, %d and %d", c.what, code, out.OK, matched, beyond, c.code, c.matched, c.beyond)
		}
		if lossy := strings.Contains(c.what, "lossy"); (out.PCR10 == nil) != lossy {
			t.Errorf("%s: PCR 10 %v", c.what, out.PCR10)
		}
		if out.LineFeed != (c.what == "line feed") {
			t.Errorf("%s: a line feed: %v", c.what, out.LineFeed)
		}
	}
	code, out := replayed(t, elsewhere)
	if code != 1 || len(out.Others) != 1 || out.Others[0].PCR != 12 || out.PCR10.Entries != 3 || out.PCR10.SHA256 != value {
		t.Errorf("an entry of PCR 12: %+v, %+v", out.PCR10, out.Others)
	}
}

// TestIMAPeopleAreTold: the words for every verdict, exit code or not.
func TestIMAPeopleAreTold(t *testing.T) {
	good := goodList()
	value := hex.EncodeToString(bytes.Repeat([]byte{7}, 32))
	violated := measured(bytes.Clone(good), 10, "ima-ng", true, "sha256:\x00", "/x\x00")
	edited := bytes.Replace(good, []byte("/usr/lib"), []byte("/usr/lab"), 1)
	lossy := asciiList(t, measured(bytes.Clone(good), 10, "of-tomorrow", false, "x"))
	for want, c := range map[string]struct {
		list []byte
		args []string
	}{
		"NO: no beginning of this list makes PCR 10 = 0707":     {good, []string{"--pcr10", value}},
		"NO: there are violations":                              {violated, nil},
		"Violations were allowed":                               {violated, []string{"--allow-violations"}},
		"NO: the template digest is not that of the data in 1 ": {edited, nil},
		"Lost in writing the list as ASCII":                     {[]byte(lossy), nil},
	} {
		w := newWorld(t)
		w.stdin = string(c.list)
		if _, out, errs := w.run(append([]string{"ima", "replay", "-"}, c.args...)...); !strings.Contains(out, want) {
			t.Errorf("%s%s\nwant %q", out, errs, want)
		}
	}
}

// TestIMAManyTemplates: a list that was made up to have many does not grow what
// is kept of it.
func TestIMAManyTemplates(t *testing.T) {
	var list []byte
	for i := range 1000 {
		list = measured(list, 10, fmt.Sprintf("t%d", i), false, "x")
	}
	if _, out := replayed(t, list); len(out.Templates) != maxIMATemplates+1 || out.Templates["(others)"] != 1000-maxIMATemplates || out.Opaque != 1000 {
		t.Errorf("%d templates, %d others, %d opaque", len(out.Templates), out.Templates["(others)"], out.Opaque)
	}
}

// TestIMACorpus: real lists through the real command.
func TestIMACorpus(t *testing.T) {
	root := os.Getenv("JURAT_CORPUS")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared", "corpus")
	}
	_, err := os.Stat(root)
	require.Need(t, "corpus", err)
	for name, want := range map[string]struct {
		code    int
		entries uint64
	}{
		"ima/tss-sml-ima-sha1.bin": {0, 12}, "ima/tss-sml-ima-ng-sha1.bin": {0, 6}, "ima/tss-sml-ima-sha1-invalidated.bin": {1, 1},
		"ima/rust-keylime-ascii_runtime_measurements": {0, 826}, "vm/trixie-6.12-uki-sb-snakeoil/ima_binary_runtime_measurements": {0, 351},
		"vm/trixie-6.12-uki-sb-snakeoil/ima_ascii_runtime_measurements": {0, 351},
	} {
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if code, out := replayed(t, data); code != want.code || out.Entries != want.entries {
			t.Errorf("%s: exit %d, %d entries; want %d, %d", name, code, out.Entries, want.code, want.entries)
		}
		w := newWorld(t)
		w.stdin = string(data)
		if code, out, errs := w.run("ima", "show", "-"); code != 0 || uint64(strings.Count(out, "\n")) < want.entries {
			t.Errorf("%s: show: exit %d, %d lines, %s", name, code, strings.Count(out, "\n"), errs)
		}
	}
}
