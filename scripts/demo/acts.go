// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/jurat-dev/jurat/scripts/internal/stage"
)

// request asks alice for a task and returns the delegation's id.
func (t *theatre) request(expires string) (string, error) { return t.requestFor(workloadID, expires) }

func (t *theatre) requestFor(workload, expires string) (string, error) {
	var made struct{ ID string }
	err := t.JuratJSON(&made, "delegation", "request", "--workload", workload, "--approver", approver,
		"--purpose", "Read the October invoices and rank them", "--action", action, "--audience", t.audience,
		"--uses", "20", "--expires", expires)
	if err == nil && made.ID == "" {
		err = fmt.Errorf("the broker gave the delegation no id")
	}
	return made.ID, err
}

func (t *theatre) approve(id string) error {
	_, err := t.Jurat("delegation", "approve", id, "--key", t.key, "--yes")
	return err
}

func (t *theatre) requestTask() (_ []string, err error) {
	t.task, err = t.request("1h")
	return []string{t.task, "read the October invoices at " + t.audience + ", 20 times at most, for one hour"}, err
}

func (t *theatre) approveTask() ([]string, error) { return nil, t.approve(t.task) }

// workload is one run of the sample agent.
type workload struct {
	host   *stage.Host
	task   string
	user   uint32
	inUnit bool
	argv   []string // nil: the sample agent, asking for invoices
	env    []string // beside the demo's own
}

// asRegistered is how the workload runs when all is well.
func (t *theatre) asRegistered() workload {
	return workload{host: t.Hosts["h1"], task: t.task, user: user, inUnit: true}
}

// command starts the workload under jurat exec, with the user and the unit
// that w says.
func (t *theatre) command(w workload, options, args []string) (*exec.Cmd, func(), error) {
	argv := append([]string{"--socket", w.host.Socket, "exec", "--delegation", w.task}, options...)
	if w.argv != nil {
		args = w.argv
	} else {
		args = append([]string{t.agent}, args...)
	}
	argv = append(append(argv, "--"), args...)
	cmd := exec.CommandContext(t.ctx, filepath.Join(t.Bin, "jurat"), argv...)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), w.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: w.user, Gid: w.user}}
	if !w.inUnit || t.cgroup.Dir == "" {
		return cmd, func() {}, nil
	}
	dir, err := os.Open(t.cgroup.Dir)
	if err != nil {
		return nil, nil, err
	}
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	return cmd, func() { dir.Close() }, nil
}

// perform runs the workload to its end: what it printed, and its exit code.
func (t *theatre) perform(w workload) (string, int, error) {
	cmd, done, err := t.command(w, nil, []string{"-url", t.audience + "/invoices", "-task", "Rank the October invoices"})
	if err != nil {
		return "", 0, err
	}
	defer done()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		return "", 0, err
	}
	return out.String(), cmd.ProcessState.ExitCode(), nil
}

func (t *theatre) useCredential() ([]string, error) {
	out, code, err := t.perform(t.asRegistered())
	if err != nil {
		return nil, err
	}
	if code != 0 || !strings.Contains(out, "invoices from") {
		return nil, fmt.Errorf("the workload ended with %d: %s", code, out)
	}
	t.decided = append(t.decided, "allow")
	return strings.Split(strings.TrimSpace(out), "\n"), nil
}

var txnInText = regexp.MustCompile(`txn ([0-9A-Z]{26})`)

// refusedBy runs the workload and wants exactly these attestors (or parts of
// the broker) to have said no. It returns expected against observed.
func (t *theatre) refusedBy(w workload, attestors ...string) ([]string, error) {
	out, code, err := t.perform(w)
	if err != nil {
		return nil, err
	}
	m := txnInText.FindStringSubmatch(out)
	if code != 1 || m == nil {
		return nil, fmt.Errorf("want a refusal with exit code 1 and a txn, got %d: %s", code, out)
	}
	t.decided = append(t.decided, "deny")
	return t.why(m[1], attestors...)
}

// why asks the broker as an operator would: who said no, what was expected,
// what was observed.
func (t *theatre) why(txn string, attestors ...string) ([]string, error) {
	out, err := t.Jurat("why", txn)
	if err != nil && len(out) == 0 {
		return nil, err
	}
	var answer struct {
		Stations []struct {
			Attestor, Check    string
			Expected, Observed []string
		}
	}
	if err := decode(out, &answer); err != nil {
		return nil, err
	}
	said := make(map[string]bool)
	var lines []string
	for _, s := range answer.Stations {
		said[s.Attestor] = true
		lines = append(lines, fmt.Sprintf("%-10s %s", s.Attestor, s.Check),
			"           expected "+listed(s.Expected), "           observed "+listed(s.Observed))
	}
	for _, a := range attestors {
		if !said[a] {
			return nil, fmt.Errorf("want %s to say no, but: %s", a, out)
		}
		delete(said, a)
	}
	for other := range said {
		return nil, fmt.Errorf("want only %v to say no, but %s did too: %s", attestors, other, out)
	}
	return lines, nil
}

// listed shows a list on one line that fits a terminal.
func listed(values []string) string {
	const width = 88
	if len(values) == 0 {
		return "(nothing)"
	}
	text := strings.Join(values, ", ")
	if len(text) > width {
		text = text[:width-3] + "..."
	}
	return text
}

func (t *theatre) unknownBoot() ([]string, error) {
	lines, err := t.refusedBy(t.asRegistered(), "boot")
	return lines[:min(3, len(lines))], err
}

func (t *theatre) learnBoot() ([]string, error) {
	var learned struct {
		Machine string
		PCRs    map[string]string
	}
	if err := t.JuratJSON(&learned, "boot", "learn", "h1"); err != nil {
		return nil, err
	}
	if len(learned.PCRs) == 0 {
		return nil, fmt.Errorf("learned no PCR of h1")
	}
	return []string{fmt.Sprintf("class %s, %d PCRs, PCR 7 = %.16s…", learned.Machine, len(learned.PCRs), learned.PCRs["7"])}, nil
}

// dates are shortened to the time of day, which is enough for a demo: the
// columns behind them say more.
var dates = regexp.MustCompile(`(?:(TIME    ) {16}|\d{4}-\d\d-\d\dT(\d\d:\d\d:\d\d)\.\d+Z)`)

// auditTrail prints the broker's log and holds it against what happened.
func (t *theatre) auditTrail() ([]string, error) {
	var trail struct {
		Entries []struct {
			Index uint64
			Entry struct{ Type, Decision string }
		}
	}
	if err := t.JuratJSON(&trail, "audit", "list"); err != nil {
		return nil, err
	}
	text, err := t.Run(filepath.Join(t.Bin, "jurat"), "--admin", t.Admin(), "--no-color", "audit", "list")
	if err != nil {
		return nil, err
	}
	var decisions []string
	for i, e := range trail.Entries {
		if e.Index != uint64(i) {
			return nil, fmt.Errorf("the log lists entry %d in place %d", e.Index, i)
		}
		if d := e.Entry.Decision; e.Entry.Type == "decision" && (d == "allow" || d == "deny") {
			decisions = append(decisions, d)
		}
	}
	if !slices.Equal(decisions, t.decided) {
		return nil, fmt.Errorf("the log holds the decisions %v, want %v\n%s", decisions, t.decided, text)
	}
	return append(strings.Split(strings.TrimSpace(dates.ReplaceAllString(string(text), "$1$2")), "\n"),
		fmt.Sprintf("%d decisions, as many as there were, in their order", len(decisions))), nil
}
