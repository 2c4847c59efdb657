// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/jurat-dev/jurat/agent/local"
	brokerclient "github.com/jurat-dev/jurat/broker-client"
	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/evidence"
)

func TestClassify(t *testing.T) {
	_, missing := os.Open("/nowhere")
	for name, row := range map[string]struct {
		err  error
		exit int
		code string
	}{
		"no juratd":         {&local.Unavailable{Socket: "s", Err: missing}, 3, "agent-unavailable"},
		"socket forbidden":  {&local.Unavailable{Socket: "s", Err: fs.ErrPermission}, 3, "permission"},
		"root only":         {&local.Error{Code: local.CodeForbidden}, 3, "permission"},
		"juratd cannot":     {&local.Error{Code: local.CodeTPM}, 3, "agent-unavailable"},
		"juratd says no":    {&local.Error{Code: local.CodeTaint}, 1, "refused"},
		"no broker":         {&brokerclient.Unreachable{Err: missing}, 3, "broker-unavailable"},
		"admin forbidden":   {&brokerclient.Unreachable{Err: fs.ErrPermission}, 3, "permission"},
		"broker says no":    {&brokerclient.Refusal{Status: 400, Code: "invalid_request"}, 1, "refused"},
		"broker conflict":   {&brokerclient.Refusal{Status: 409, Code: "conflict"}, 1, "refused"},
		"no such thing":     {&brokerclient.Refusal{Status: 404, Code: "not_found"}, 1, "not-found"},
		"broker busy":       {&brokerclient.Refusal{Status: 429, Code: "temporarily_unavailable"}, 3, "broker-unavailable"},
		"broker broken":     {&brokerclient.Refusal{Status: 500, Code: "http_500"}, 3, "broker-unavailable"},
		"no jurat broker":   {&brokerclient.BadAnswer{Op: "x"}, 3, "broker-unavailable"},
		"bad bundle":        {fmt.Errorf("x: %w", &evidence.FormatError{Place: "bundle"}), 1, "malformed"},
		"file missing":      {missing, 2, "usage"},
		"file forbidden":    {&fs.PathError{Err: fs.ErrPermission}, 3, "permission"},
		"anything else":     {errors.New("disk full"), 3, "environment"},
		"known beats cause": {&failure{exit: 1, code: "refused", err: missing}, 1, "refused"},
	} {
		f := classify(row.err)
		if f.exit != row.exit || f.code != row.code {
			t.Errorf("%s: exit %d %s, want %d %s", name, f.exit, f.code, row.exit, row.code)
		}
		known := false
		for _, e := range errorCodes {
			known = known || e.code == f.code && e.exit == f.exit
		}
		if !known {
			t.Errorf("%s: %s with exit %d is not in the table that help shows", name, f.code, f.exit)
		}
	}
}

func TestTimeout(t *testing.T) {
	w := newWorld(t)
	w.admin.HandleFunc("GET /v1/hosts", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	code, _, errs := w.run(w.sockets("--timeout", "50ms", "host", "list")...)
	if code != 3 || !strings.Contains(errs, "unreachable") {
		t.Errorf("exit %d: %s", code, errs)
	}
	if code, _, _ := w.run("--timeout", "0", "host", "list"); code != 2 {
		t.Errorf("--timeout 0: exit %d", code)
	}
}

func TestStatusAsksWhatIsNamed(t *testing.T) {
	w := newWorld(t)
	w.agent.set(func(int, local.Request) any { return sampleStatus() })
	nowhere := w.path("nowhere")
	for name, row := range map[string]struct {
		args []string
		env  string
		code int
		says string
	}{
		"agent only":             {[]string{"--socket", w.path("agent.sock"), "status"}, "", 0, "juratd 0.1.0"},
		"agent away":             {[]string{"--socket", nowhere, "status"}, "", 3, "juratd does not answer"},
		"broker away":            {[]string{"--socket", w.path("agent.sock"), "--admin", nowhere, "status"}, "", 3, "unreachable"},
		"broker of environment":  {[]string{"--socket", w.path("agent.sock"), "status"}, "http://127.0.0.1:1", 3, "http://127.0.0.1:1 is unreachable"},
		"both away, both said":   {[]string{"--socket", nowhere, "--admin", nowhere, "status"}, "", 3, "; asking whether it is ready"},
		"admin socket not ready": {[]string{"--socket", w.path("agent.sock"), "--admin", w.path("admin.sock"), "status"}, "", 1, "http_404"},
	} {
		w.env["JURAT_BROKER"] = row.env
		code, out, errs := w.run(row.args...)
		if code != row.code || !strings.Contains(out+errs, row.says) {
			t.Errorf("%s: exit %d, want %d: %s%s", name, code, row.code, out, errs)
		}
	}
}

func TestApplyJoinsFiles(t *testing.T) {
	w := newWorld(t)
	write(t, w.path("a.yaml"), []byte("a: 1\nb: 2"))
	write(t, w.path("b.yaml"), []byte("---\nc: 3\n"))
	write(t, w.path("c.yaml"), []byte("d: 4\n"))
	var got string
	w.admin.HandleFunc("POST /v1/apply", func(rw http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		got = string(data)
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(http.StatusBadRequest)
		io.WriteString(rw, `{"error":"invalid_request","error_description":"line 2: x; line 4: y; line 6: z; pipeline 3"}`)
	})
	code, _, errs := w.run(w.sockets("apply", "-f", w.path("a.yaml"), "-f", w.path("b.yaml"), "-f", w.path("c.yaml"))...)
	if want := "a: 1\nb: 2\n---\nc: 3\n---\nd: 4\n"; got != want {
		t.Errorf("sent %q, want %q", got, want)
	}
	if code != 1 || !strings.Contains(errs, "DIR/a.yaml line 2: x; DIR/b.yaml line 2: y; DIR/c.yaml line 1: z; pipeline 3") {
		t.Errorf("exit %d: %s", code, errs)
	}
	write(t, w.path("a.yaml"), make([]byte, maxApply+1))
	if code, _, errs = w.run(w.sockets("apply", "-f", w.path("a.yaml"))...); code != 1 || !strings.Contains(errs, "more than") {
		t.Errorf("exit %d: %s", code, errs)
	}
}

func TestAuditPages(t *testing.T) {
	w := newWorld(t)
	var asked []string
	w.admin.HandleFunc("GET /v1/audit", func(rw http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RawQuery)
		rw.Header().Set("Content-Type", "application/json")
		var from uint64
		fmt.Sscan(r.URL.Query().Get("from"), &from)
		n := min(3, 7-from)
		var entries []string
		for i := range n {
			entries = append(entries, fmt.Sprintf(`{"index":%d,"leaf":"","entry":{"type":"admin"}}`, from+i))
		}
		fmt.Fprintf(rw, `{"size":7,"checkpoint":"","entries":[%s],"next":%d}`, strings.Join(entries, ","), from+n)
	})
	code, out, errs := w.run(w.sockets("audit", "list")...)
	if code != 0 || strings.Count(out, "admin") != 7 || !strings.Contains(out, "7 of 7 entries; its end") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	if want := "from=0 from=3 from=6"; strings.Join(asked, " ") != want {
		t.Errorf("asked %q, want %s", asked, want)
	}
	asked = nil
	if _, out, _ = w.run(w.sockets("audit", "list", "--from", "1", "--limit", "3")...); !strings.Contains(out, "more with --from 4") || len(asked) != 1 || asked[0] != "from=1&limit=3" {
		t.Errorf("asked %q\n%s", asked, out)
	}
}

func TestEvidenceLast(t *testing.T) {
	w := newWorld(t)
	bundle := sampleBundle(t)
	w.agent.set(func(int, local.Request) any { return local.Bundle{Bundle: bundle} })
	if code, out, errs := w.run(w.sockets("evidence", "last", "-o", "-")...); code != 0 || out != string(bundle) {
		t.Errorf("exit %d, %d bytes: %s", code, len(out), errs)
	}
	if code, _, _ := w.run(w.sockets("--json", "evidence", "last", "-o", "-")...); code != 2 {
		t.Errorf("JSON and bundle both on standard output: exit %d", code)
	}
	if code, _, _ := w.run(w.sockets("evidence", "last", "-o", w.path("b"))...); code != 0 {
		t.Errorf("exit %d", code)
	}
	if info, err := os.Stat(w.path("b")); err != nil || info.Mode() != 0o600 || info.Size() != int64(len(bundle)) {
		t.Errorf("%v, %v", info, err)
	}
	w.agent.set(func(int, local.Request) any { return &local.Error{Code: local.CodeForbidden, Message: "x"} })
	if code, _, errs := w.run(w.sockets("evidence", "last", "-o", w.path("c"))...); code != 3 || !strings.Contains(errs, "root only") || exists(w.path("c")) {
		t.Errorf("exit %d: %s", code, errs)
	}
}

func TestManPages(t *testing.T) {
	w := newWorld(t)
	code, out, errs := w.run("man", w.dir)
	pages, _ := filepath.Glob(w.path("jurat*.1"))
	if code != 0 || len(pages) < 30 || !strings.Contains(out, fmt.Sprintf("%d pages", len(pages))) {
		t.Fatalf("exit %d, %d pages: %s%s", code, len(pages), out, errs)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, section := range []string{".TH JURAT", ".SH NAME\njurat", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH EXAMPLES", ".SH EXIT STATUS"} {
			if !strings.Contains(string(text), section) {
				t.Errorf("%s has no %q", page, section)
			}
		}
	}
	everyCommand(new(app).root(), func(c *cobra.Command) {
		if c.Name() == "help" || c.IsAdditionalHelpTopicCommand() {
			return
		}
		text, err := os.ReadFile(w.path(strings.ReplaceAll(c.CommandPath(), " ", "-") + ".1"))
		if err != nil {
			t.Errorf("no page of %s: %v", c.CommandPath(), err)
		}
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && !strings.Contains(string(text), roff("--"+f.Name)) {
				t.Errorf("the page of %s has no --%s", c.CommandPath(), f.Name)
			}
		})
	})
	if code, _, _ := w.run("man", w.path("nowhere")); code != 2 {
		t.Errorf("no directory: exit %d", code)
	}
	text, err := os.ReadFile(w.path("jurat-exec.1"))
	if err != nil {
		t.Fatal(err)
	}
	// The rule of groff: a line that begins with a dot is a request.
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, ".") && !strings.Contains(" .TH .SH .TP .nf .fi .B .BR ", " "+strings.Fields(line)[0]+" ") {
			t.Errorf("line of text that begins with a dot: %s", line)
		}
	}
}

func TestCompletion(t *testing.T) {
	w := newWorld(t)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		code, out, _ := w.run("completion", shell)
		if code != 0 || !strings.Contains(out, "__complete") {
			t.Errorf("%s: exit %d, %d bytes", shell, code, len(out))
		}
		if shell == "bash" {
			if text, err := exec.Command("bash", "-n", "-c", out).CombinedOutput(); err != nil {
				t.Errorf("bash does not take its script: %v %s", err, text)
			}
		}
		code, out, _ = w.run("completion", shell, "--json")
		checkJSON(t, out, code)
	}
	if code, _, _ := w.run("completion", "csh"); code != 2 {
		t.Errorf("csh: exit %d", code)
	}
	w.agent.set(func(_ int, r local.Request) any { return sampleAnswer(t, r) })
	for line, want := range map[string]string{
		"explain 471": "4711\tpython3.11 /opt/invoice/agent.py\n4712\t", "tree 472": "4720\t", "explain 4711 ": ":4", "ps --sort p": "age\nprogram\n", "events --kind re": "release\nnote\n",
	} {
		_, out, _ := w.run(w.sockets(append([]string{"__complete"}, strings.Split(line, " ")...)...)...)
		if !strings.Contains(out, want) {
			t.Errorf("completion of %q: %q, want %q", line, out, want)
		}
	}
	if _, out, _ := w.run("__complete", "delegation", "app"); !strings.Contains(out, "approve\t") {
		t.Errorf("completion of \"app\": %s", out)
	}
	code, out, _ := w.run("version", "--json")
	checkJSON(t, out, code)
}

func TestJSONOfUnreadableCommandLine(t *testing.T) {
	w := newWorld(t)
	code, out, _ := w.run("status", "--nonsense", "--json")
	checkJSON(t, out, code)
	if _, out, _ = w.run("exec", "--nonsense", "--", "x", "--json"); out != "" {
		t.Errorf("the program's --json was taken for ours: %s", out)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestFullOutput(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"version", "--json"}, {"completion", "bash"}} {
		if code := run(args, strings.NewReader(""), full{}, io.Discard); code != 3 {
			t.Errorf("%v: exit %d", args, code)
		}
	}
}

// FuzzEvidenceShow: whatever is well formed can be shown, and moves no cursor.
func FuzzEvidenceShow(f *testing.F) {
	f.Add(sampleBundle(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		var out strings.Builder
		a := &app{in: bytes.NewReader(data), out: &out, env: func(string) string { return "" }}
		if err := a.evidenceShow("-"); err != nil {
			out.WriteString(term.Clean(err.Error()))
		}
		for _, r := range out.String() {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Fatalf("%U on the screen", r)
			}
		}
	})
}

// TestUsage: what is missing or too much is said before anybody is asked.
func TestUsage(t *testing.T) {
	request := "delegation request --workload w --approver a --purpose p --audience u"
	for line, says := range map[string]string{
		"apply":                                       "-f FILE is missing",
		"refs add w sha-256:00 --label x":             "--label and --reason",
		"refs add w":                                  "sha-256:DIGEST is missing",
		request:                                       "--action is missing",
		request + " --action x --expires 10ms":        "want a time",
		request + " --action x --starts -1h":          "want a time",
		request + " --action x --uses many":           "invalid argument",
		"delegation export dlg_x":                     "-o FILE is missing",
		"delegation verify x":                         "--approvers FILE is missing",
		"delegation verify x --approvers y --at noon": "want a time such as",
		"evidence last":                               "-o FILE is missing",
		"evidence show a b":                           `unexpected argument "b"`,
		"resource add invoices":                       "--audience URL is missing",
		"help nobody":                                 `no help on "nobody"`,
		"host":                                        "host what?",
		"why":                                         "TXN is missing",
	} {
		w := newWorld(t)
		code, _, errs := w.run(w.sockets(strings.Fields(line)...)...)
		if code != 2 || !strings.Contains(errs, says) || !strings.Contains(errs, "jurat: hint: see 'jurat") {
			t.Errorf("jurat %s: exit %d: %s", line, code, errs)
		}
	}
	w := newWorld(t)
	code, _, errs := w.run("exec", "--delegation", "d", "--action", "x", "true")
	if code != 125 || !strings.Contains(errs, "--action needs --token-file") {
		t.Errorf("exec --action: exit %d: %s", code, errs)
	}
	write(t, w.path("signers"), []byte("not a signer\n"))
	write(t, w.path("x"), sampleExport(t))
	if code, _, errs = w.run("delegation", "verify", w.path("x"), "--approvers", w.path("signers")); code != 2 || !strings.Contains(errs, "allowed signers line 1") {
		t.Errorf("bad file of signers: exit %d: %s", code, errs)
	}
	for _, name := range []string{"a.yaml", "b.yaml"} {
		write(t, w.path(name), make([]byte, maxApply*2/3))
	}
	if code, _, errs = w.run(w.sockets("apply", "-f", w.path("a.yaml"), "-f", w.path("b.yaml"))...); code != 1 || !strings.Contains(errs, "at most") {
		t.Errorf("too much to apply: exit %d: %s", code, errs)
	}
	if code, _, errs = w.run("evidence", "show", w.dir); code != 3 || !strings.Contains(errs, "is a directory") {
		t.Errorf("a directory: exit %d: %s", code, errs)
	}
}

func sampleExport(t *testing.T) []byte {
	t.Helper()
	o, enc := sampleDelegation(t, "https://broker.example")
	data, err := (&delegationJSON{Object: enc, Delegation: o}).bundle()
	if err != nil {
		t.Fatal(err)
	}
	return data
}
