// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "write the golden files anew")

// scenes are command lines whose output is kept in testdata, for people and as
// JSON. DIR stands for a directory of the test.
var scenes = []struct{ name, args string }{
	{"status", "status"},
	{"evidence-show", "evidence show DIR/bundle.cbor"},
	{"evidence-show-stdin", "evidence show -"},
	{"evidence-show-truncated", "evidence show DIR/truncated.cbor"},
	{"evidence-show-missing", "evidence show DIR/nowhere.cbor"},
	{"evidence-last", "evidence last -o DIR/last.cbor"},
	{"eventlog-show", "eventlog show DIR/log.bin"},
	{"eventlog-replay", "eventlog replay DIR/log.bin --pcrs DIR/quote.pcrs --userspace DIR/tpm2-measure.log"},
	{"eventlog-truncated", "eventlog replay DIR/truncated.bin"},
	{"delegation-show", "delegation show dlg_04hmasr9nf6yy1234567890abc"},
	{"delegation-list", "delegation list"},
	{"delegation-request", "delegation request --workload spiffe://example.test/agents/invoice --approver alice@example.test " +
		"--purpose Invoices --action invoice.read --audience https://invoices.example --uses 20"},
	{"delegation-request-incomplete", "delegation request --workload x --purpose Invoices --action invoice.read --audience y"},
	{"delegation-export", "delegation export dlg_04hmasr9nf6yy1234567890abc -o DIR/x.delegation"},
	{"delegation-approve-nobody-to-ask", "delegation approve dlg_x --key k"},
	{"apply", "apply -f DIR/a.yaml -f DIR/b.yaml"},
	{"workload-list", "workload list"},
	{"workload-show", "workload show spiffe://example.test/agents/invoice"},
	{"workload-show-missing", "workload show spiffe://example.test/nobody"},
	{"machine-list", "machine list"},
	{"approver-list", "approver list"},
	{"resource-list", "resource list"},
	{"resource-add", "resource add invoices --audience https://invoices.example"},
	{"refs-add", "refs add spiffe://example.test/agents/invoice sha-256:9f --label x --reason y"},
	{"host-add", "host add h17 --machine web"},
	{"host-list", "host list"},
	{"host-remove", "host remove h17 --yes"},
	{"host-export", "host export h17 -o DIR/h17.json --boot-log DIR/h17.bootlog"},
	{"boot-learn", "boot learn h17"},
	{"boot-learn-nothing", "boot learn h18"},
	{"boot-diff", "boot diff h17"},
	{"boot-diff-same", "boot diff h18"},
	{"boot-show", "boot show web"},
	{"boot-show-missing", "boot show nowhere"},
	{"boot-forget", "boot forget web --digest 9f86d081884c7d65 --pcr 4 --reason CVE-2026-1234"},
	{"boot-forget-usage", "boot forget web"},
	{"verify", "verify ../../spec/vectors/ok-boot-log.txt"},
	{"verify-ima", "verify ../../spec/vectors/ok-ima-behind.txt"},
	{"verify-refused", "verify ../../spec/vectors/boot-value.txt"},
	{"verify-usage", "verify DIR/bundle.cbor --host DIR/h17.json"},
	{"audit-list", "audit list --from 48213"},
	{"why-denied", "why DENIED"},
	{"why-allowed", "why ALLOWED"},
	{"why-batch", "why BATCH"},
	{"why-unknown", "why NOBODY"},
	{"why-boot-replay", "why REPLAY"},
	{"why-register", "why REGISTER"},
	{"why-ima", "why IMA"},
	{"ima-show", "ima show DIR/list.ima"},
	{"ima-show-part", "ima show DIR/list.txt --from 2 --count 2"},
	{"ima-show-torn", "ima show DIR/torn.ima"},
	{"ima-replay", "ima replay DIR/good.ima --pcr10 SHA256"},
	{"ima-replay-padded", "ima replay DIR/good.ima --pcr10 PADDED"},
	{"ima-replay-alone", "ima replay DIR/good.ima"},
	{"ima-replay-usage", "ima replay DIR/good.ima --pcr10 3f2a"},
	{"quote-check", "quote check --ak DIR/ak.tpmt --msg DIR/msg --sig DIR/sig --nonce NONCE --pcrs DIR/pcrs"},
	{"quote-check-bare", "quote check --ak DIR/ak.pem --msg DIR/msg --sig DIR/sig --nonce 0xNONCE"},
	{"quote-check-usage", "quote check --ak DIR/ak.pem --msg DIR/msg --sig DIR/sig"},
	{"mistyped", "delegation aprove x"},
	{"unknown-flag", "status --verbos"},
	{"group-alone", "delegation"},
	{"ek-check", "ek check ../../ek/testdata/ek-rsa2048.der --chain ../../ek/testdata/issuer.pem --bundle none --roots ../../ek/testdata/root.pem --at 2027-03-01T00:00:00Z"},
	{"ek-check-no-such-bundle", "ek check ../../ek/testdata/ek-rsa2048.der --bundle some"},
	{"ek-roots", "ek roots --bundle none --roots ../../ek/testdata/root.pem --roots ../../ek/testdata/issuer.pem"},
	{"doctor", "doctor --root DIR/host"},
	{"doctor-usage", "doctor --patience 0s"},
	{"probe-usage", "probe now"},
	{"ps", "ps"},
	{"ps-filtered", "ps python --unit invoice --tainted --sort pid"},
	{"ps-usage", "ps --sort nonsense"},
	{"ps-nobody", "ps --user nobody-of-that-name"},
	{"ps-watch-nowhere", "ps --watch"},
	{"tree", "tree"},
	{"tree-tainted", "tree --tainted"},
	{"tree-of", "tree 4712"},
	{"tree-missing", "tree 99"},
	{"events", "events -n 1"},
	{"events-usage", "events --kind nonsense"},
	{"measurements", "measurements 9f9f"},
	{"explain", "explain 4712"},
	{"explain-verbose", "explain 4712 -v"},
	{"explain-usage", "explain init"},
	{"help-exec", "exec --help"},
	{"help-delegation", "help delegation"},
	{"help-exit-codes", "help exit-codes"},
	{"help-json", "help json"},
}

func TestGolden(t *testing.T) {
	for _, s := range scenes {
		t.Run(s.name, func(t *testing.T) {
			w := newWorld(t)
			sampleBroker(t, w)
			bundle := sampleBundle(t)
			w.agent.set(func(_ int, r local.Request) any {
				if r.Op == local.OpBundle {
					return local.Bundle{Bundle: bundle}
				}
				return sampleAnswer(t, r)
			})
			write(t, w.path("bundle.cbor"), bundle)
			write(t, w.path("truncated.cbor"), bundle[:len(bundle)-1])
			sampleLogs(t, w)
			write(t, w.path("a.yaml"), []byte("kind: Workload\n"))
			write(t, w.path("b.yaml"), []byte("---\nkind: Approver\n"))
			w.stdin = string(bundle)
			values := sampleIMA(t, w)
			sampleHost(t, w)
			sampleQuote(t, w)
			var b strings.Builder
			for _, form := range [][]string{nil, {"--json"}} {
				args := strings.Fields(values.Replace(strings.ReplaceAll(s.args, "DIR", w.dir)))
				code, out, errs := w.run(append(w.sockets(form...), args...)...)
				fmt.Fprintf(&b, "$ jurat %s\n%s", strings.Join(append(form, s.args), " "), out)
				for line := range strings.Lines(errs) {
					b.WriteString("2> " + line)
				}
				fmt.Fprintf(&b, "exit %d\n\n", code)
				if form != nil {
					checkJSON(t, out, code)
				}
			}
			golden(t, s.name, b.String())
		})
	}
}

func write(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".txt")
	if *update {
		write(t, file, []byte(got))
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update writes it anew):\n%s", file, difference(string(want), got))
	}
}

// difference shows the first lines that differ.
func difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return fmt.Sprintf("line %d\nwant %q\ngot  %q", i+1, w[i], g[i])
		}
	}
	return fmt.Sprintf("want %d lines, got %d", len(w), len(g))
}

// checkJSON holds output to what "jurat help json" promises.
func checkJSON(t *testing.T, out string, code int) {
	t.Helper()
	var v map[string]any
	d := json.NewDecoder(strings.NewReader(out))
	if err := d.Decode(&v); err != nil {
		t.Errorf("not a JSON object: %v\n%s", err, out)
		return
	}
	if d.More() {
		t.Error("more than one JSON object")
	}
	schema, _ := v["schema"].(string)
	if !regexp.MustCompile(`^jurat\.[a-z-]+/v1$`).MatchString(schema) {
		t.Errorf("schema %q", schema)
	}
	if readme, err := os.ReadFile("README.md"); err != nil || !strings.Contains(string(readme), "`"+schema+"`") {
		t.Errorf("README.md does not describe %s (%v)", schema, err)
	}
	// Those that are a verdict print it, and their exit code is the verdict.
	verdict := slices.Contains([]string{"jurat.boot-diff/v1", "jurat.verify/v1"}, schema)
	if ok, _ := v["ok"].(bool); verdict && (code == 0) != ok {
		t.Errorf("exit %d, the object says %v", code, v["ok"])
	}
	if code != 0 && schema != "jurat.error/v1" && !verdict {
		t.Errorf("exit %d with schema %q", code, schema)
	}
	if exit, _ := v["exit"].(float64); schema == "jurat.error/v1" && int(exit) != code {
		t.Errorf("exit %d, the object says %v", code, v["exit"])
	}
}

// TestScenesCoverCommands: no command without a test of its output.
func TestScenesCoverCommands(t *testing.T) {
	elsewhere := []string{
		"jurat", "jurat help", "jurat exec", "jurat completion", "jurat man", "jurat version", "jurat delegation refuse", "jurat delegation revoke",
		"jurat delegation verify", "jurat machine show", "jurat approver show", "jurat resource show",
	}
	everyCommand(new(app).root(), func(c *cobra.Command) {
		if c.HasSubCommands() || c.IsAdditionalHelpTopicCommand() || slices.Contains(elsewhere, c.CommandPath()) {
			return
		}
		path := strings.TrimPrefix(c.CommandPath(), "jurat ")
		if !slices.ContainsFunc(scenes, func(s struct{ name, args string }) bool { return strings.HasPrefix(s.args, path) }) {
			t.Errorf("no golden output of %q", c.CommandPath())
		}
	})
}

func everyCommand(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		everyCommand(sub, f)
	}
}

// TestEveryCommandExplainsItself: a description, an example, and --json help.
func TestEveryCommandExplainsItself(t *testing.T) {
	w := newWorld(t)
	everyCommand(new(app).root(), func(c *cobra.Command) {
		if c.IsAdditionalHelpTopicCommand() {
			return
		}
		if c.Short == "" || !strings.Contains(c.Example, "jurat ") {
			t.Errorf("%s: no description or no example", c.CommandPath())
		}
		args := append(strings.Fields(c.CommandPath())[1:], "--help")
		code, out, errs := w.run(args...)
		if code != 0 || errs != "" || !strings.Contains(out, "Example:") {
			t.Errorf("jurat %s: exit %d, %s", strings.Join(args, " "), code, errs)
		}
		for line := range strings.Lines(out) {
			if len([]rune(line)) > 121 {
				t.Errorf("jurat %s: line of %d characters: %s", strings.Join(args, " "), len(line), line)
			}
		}
		code, out, _ = w.run(append(args, "--json")...)
		checkJSON(t, out, code)
	})
}
