// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
)

// vectorFiles are the conformance vectors.
func vectorFiles(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("../../spec/vectors/*.txt")
	if err != nil || len(files) < 100 {
		t.Fatalf("%d vectors, %v", len(files), err)
	}
	return files
}

func readVector(t testing.TB, file string) *trial {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	v, err := parseVector(data)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return v
}

// TestVerifyVectors: the command answers as every vector expects, and its
// exit code is the answer.
func TestVerifyVectors(t *testing.T) {
	w := newWorld(t)
	for _, file := range vectorFiles(t) {
		want := readVector(t, file).expected
		code, out, errs := w.run("verify", file, "--json")
		var got verifyJSON
		if err := json.Unmarshal([]byte(out), &got); err != nil || errs != "" {
			t.Errorf("%s: %v, %s", file, err, errs)
			continue
		}
		refused := refusedChecks(&got)
		said := "ok"
		switch {
		case got.Rejection != nil:
			said = string(got.Rejection.Code)
		case len(refused) > 0:
			said = refused[0]
		}
		if said != want || (code == 0) != (want == "ok") || got.OK != (want == "ok") {
			t.Errorf("%s: exit %d, %s, want %s", file, code, said, want)
		}
		if must := vectorLine(t, file, "refused"); strings.Join(refused, " ") != must {
			t.Errorf("%s: no from %v, want it from %s", file, refused, must)
		}
		failed := 0
		for _, s := range got.Stations {
			if s.State == "failed" {
				failed++
			}
		}
		if len(got.Stations) != len(stations) || (failed == 1) != (got.Rejection != nil) {
			t.Errorf("%s: %d of %d stations, %d failed", file, len(got.Stations), len(stations), failed)
		}
	}
}

// refusedChecks are the checks that said no to the first request.
func refusedChecks(v *verifyJSON) (names []string) {
	if len(v.Requests) == 0 {
		return nil
	}
	for _, c := range v.Requests[0].Checks {
		if !c.OK {
			names = append(names, string(c.Attestor)+"/"+c.Check)
		}
	}
	return names
}

// vectorLine returns a line of a vector's head; "" where it has none.
func vectorLine(t *testing.T, file, key string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(data), "\n\n")
	for line := range strings.SplitSeq(head, "\n") {
		if value, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// TestStations: every code belongs to a group, in the order of package verify.
func TestStations(t *testing.T) {
	group := 0
	for _, info := range verify.Codes() {
		if group == len(stations) {
			t.Fatalf("%s and what follows it is in no group", info.Code)
		}
		if info.Code == stations[group].last {
			group++
		}
	}
	if group != len(stations) {
		t.Errorf("group %q ends with no code", stations[group].name)
	}
}

// lay writes what a vector has into the files that a person has, and returns
// the command line.
func lay(t *testing.T, w *world, v *trial) []string {
	t.Helper()
	write(t, w.path("b.cbor"), v.bundle)
	f := &hostFile{Schema: "jurat.host/v1", UEID: v.host.UEID, AKPublic: v.host.AKPublic, AKName: v.host.AKName, Level: v.host.Level, Maker: v.host.Maker, Last: v.host.Last}
	text, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	write(t, w.path("h.json"), text)
	return []string{"verify", w.path("b.cbor"), "--host", w.path("h.json"), "--nonce", hex.EncodeToString(v.challenge.Nonce),
		"--issuer", v.challenge.Broker, "--at", v.at.Format(time.RFC3339), "--json"}
}

// TestVerifyFiles: with flags the answer is that of the vector, and each flag
// counts.
func TestVerifyFiles(t *testing.T) {
	w := newWorld(t)
	verdict := func(args ...string) string {
		t.Helper()
		code, out, errs := w.run(args...)
		var got verifyJSON
		if err := json.Unmarshal([]byte(out), &got); err != nil || got.Schema != "jurat.verify/v1" {
			return strings.TrimSpace(errs)
		}
		if (code == 0) != got.OK {
			t.Errorf("exit %d, ok %v", code, got.OK)
		}
		if got.Rejection != nil {
			return string(got.Rejection.Code)
		}
		return map[bool]string{true: "ok", false: "not affirmed"}[got.OK]
	}
	v := readVector(t, "../../spec/vectors/ok-boot-log.txt")
	good := lay(t, w, v)
	if got := verdict(good...); got != "ok" {
		t.Fatal(got)
	}
	change := func(flag, value string) []string {
		args := slices.Clone(good)
		if i := slices.Index(args, flag); i >= 0 {
			args[i+1] = value
			return args
		}
		return append(args, flag, value)
	}
	write(t, w.path("none.yaml"), []byte("anchors: [nv-latch]\n"))
	write(t, w.path("odd.yaml"), []byte("pcrs: [0]\n"))
	write(t, w.path("empty.yaml"), []byte("measured:\n"))
	write(t, w.path("log"), []byte("no log"))
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"another nonce":         {change("--nonce", strings.Repeat("00", 32)), "E_NONCE"},
		"another issuer":        {change("--issuer", "https://other.example"), "E_BROKER"},
		"stricter policy":       {change("--policy", w.path("none.yaml")), "E_ANCHOR"},
		"policy of PCRs":        {change("--policy", w.path("odd.yaml")), "not for an operator"},
		"policy without value":  {change("--policy", w.path("empty.yaml")), "measured has no value"},
		"no boot log":           {change("--boot-log", w.path("log")), "E_BOOT_FORM"},
		"odd nonce":             {change("--nonce", "xyz"), "hexadecimal digits"},
		"odd time":              {change("--at", "noon"), "want a time"},
		"host that is a bundle": {change("--host", w.path("b.cbor")), "invalid character"},
		"no such host":          {change("--host", w.path("nobody")), "no such file"},
	} {
		if got := verdict(c.args...); !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	if code, _, errs := w.run("verify", "../../spec/vectors/ok-boot-log.txt", "--nonce", "00"); code != exitUsage || !strings.Contains(errs, "no flag goes with it") {
		t.Errorf("vector with a flag: %d %s", code, errs)
	}
}

// TestVerifyLeftOut: a bundle that leaves out the boot log needs it from a file.
func TestVerifyLeftOut(t *testing.T) {
	w := newWorld(t)
	v := readVector(t, "../../spec/vectors/ok-boot-log-known.txt")
	args := lay(t, w, v)
	if code, out, _ := w.run(args...); code != exitNo || !strings.Contains(out, "E_BOOT_LOG") {
		t.Errorf("without the log: %d %s", code, out)
	}
	for _, file := range vectorFiles(t) {
		b, err := evidence.Parse(readVector(t, file).bundle)
		if err == nil && len(b.BootLog) > 0 && digestText(b.BootLog) == "sha-256:"+v.host.Boot.Digest().String() {
			write(t, w.path("log"), b.BootLog)
			break
		}
	}
	if code, out, errs := w.run(append(args, "--boot-log", w.path("log"))...); code != 0 {
		t.Errorf("with it: %d %s %s", code, out, errs)
	}
}

const sampleReference = `kind: Machine
name: web
boot: {pcrs: {7: ["PCR7"]}, secure_boot: [on], command_lines: any}
---
kind: Workload
id: spiffe://example.test/agents/invoice
machines: [web]
minimum: {ek: ek-pin, anchor: none, tier: tracepoint, provenance: pinned, ima: none}
code: {executables: [{digest: "EXE"}], loaders: any, libraries: any, models: any, inputs: any}
context: {units: any, uids: any, gids: any, cgroups: any, containers: any, ancestors: any}
`

// TestVerifyReference: genuine evidence of the wrong thing is a no.
func TestVerifyReference(t *testing.T) {
	w := newWorld(t)
	args := lay(t, w, readVector(t, "../../spec/vectors/ok-boot-log.txt"))
	code, out, _ := w.run(args...)
	var got verifyJSON
	if err := json.Unmarshal([]byte(out), &got); code != 0 || err != nil {
		t.Fatal(code, err)
	}
	good := strings.NewReplacer("PCR7", got.PCRs[7].Value.String(), "EXE", got.Requests[0].ExeDigest).Replace(sampleReference)
	for name, c := range map[string]struct {
		text string
		want string
		exit int
	}{
		"as registered":   {good, `"affirmed": true`, 0},
		"another program": {strings.Replace(good, got.Requests[0].ExeDigest, "sha-256:"+ones, 1), `"affirmed": false`, exitNo},
		"another boot":    {strings.Replace(good, got.PCRs[7].Value.String(), ones, 1), `"affirmed": false`, exitNo},
		"no machine":      {good[strings.Index(good, "---"):], "want one of each", exitNo},
		"odd member":      {strings.Replace(good, "machines:", "machine:", 1), "not found", exitNo},
		"unsound":         {strings.Replace(good, "ima: none", "ima: maybe", 1), "minimum.ima", exitNo},
	} {
		write(t, w.path("ref.yaml"), []byte(c.text))
		code, out, errs := w.run(append(args, "--reference", w.path("ref.yaml"))...)
		if code != c.exit || !strings.Contains(out+errs, c.want) {
			t.Errorf("%s: exit %d, %.400s", name, code, out+errs)
		}
	}
	write(t, w.path("ref.yaml"), []byte(strings.Replace(good, "secure_boot: [on]", "secure_boot: [off]", 1)))
	if code, out, _ := w.run(append(args[:len(args)-1], "--reference", w.path("ref.yaml"))...); code != exitNo || !strings.Contains(out, "no   boot   <- the first no\n         secure-boot") {
		t.Errorf("%d %s", code, out)
	}
}

// FuzzVector: whatever a file says, the answer is a verdict or an error.
func FuzzVector(f *testing.F) {
	for _, file := range vectorFiles(f)[:8] {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := parseVector(data)
		if err != nil {
			return
		}
		if out := v.run(); out.OK != (out.Rejection == nil) {
			t.Errorf("ok %v with rejection %v", out.OK, out.Rejection)
		}
	})
}
