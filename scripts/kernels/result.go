// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// probe is the part of jurat probe --json that is of use here.
type probe struct {
	Kernel string   `json:"kernel"`
	LSMs   []string `json:"lsms"`
	Tier   string   `json:"tier"`
	Better []struct {
		Tier, Reason, Detail string
	} `json:"better"`
	Problem string `json:"problem"`
	Signals []struct {
		Name   string `json:"name"`
		By     string `json:"by"`
		Reason string `json:"reason"`
	} `json:"signals"`
}

// counts are how many signals are seen, and how many unknown.
func (p *probe) counts() (seen, unknown int) {
	for _, s := range p.Signals {
		if s.By != "" {
			seen++
		} else {
			unknown++
		}
	}
	return seen, unknown
}

// result is what a guest reported of one row.
type result struct {
	kernel, release string
	row             row
	probe           *probe
	pass            int
	refused         int // attacks
	fail, skipped   []string
	wrong           []string // everything that is not as it must be, in words
}

var (
	kernelLine = regexp.MustCompile(`(?m)^\[ *\d+\.\d+\].*\n?`)
	testLine   = regexp.MustCompile(`(?m)^ *--- (PASS|FAIL|SKIP): (\S+) `)
	exitLine   = regexp.MustCompile(`(?m)^@exit (\d+)$`)
)

// results reads the console: a result for each row, whether it came to it or not.
func (g *guest) results() []*result {
	var all []*result
	text := kernelLine.ReplaceAllString(g.console, "")
	for i, r := range g.boot.rows {
		_, part, begun := strings.Cut(text, "@row "+r.name+"\n")
		last := i == len(g.boot.rows)-1
		end := "@end\n"
		if !last {
			end = "@row " + g.boot.rows[i+1].name + "\n"
		}
		part, _, ended := strings.Cut(part, end)
		res := &result{kernel: g.kernel.name, release: g.kernel.release, row: r}
		switch {
		case g.err != nil:
			res.complain("%v", g.err)
		case !begun || !ended:
			res.complain("the guest died; its last lines: %s", lastLines(g.console, 8))
		}
		res.read(part)
		all = append(all, res)
	}
	return all
}

func (r *result) complain(format string, args ...any) {
	r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
}

// read takes a row's part of the console and holds it against what is wanted.
func (r *result) read(part string) {
	for _, m := range testLine.FindAllStringSubmatch(part, -1) {
		switch m[1] {
		case "PASS":
			r.pass++
		case "FAIL":
			r.fail = append(r.fail, m[2])
		case "SKIP":
			r.skipped = append(r.skipped, m[2])
		}
	}
	exit := exitLine.FindStringSubmatch(part)
	switch {
	case strings.Contains(part, "@unprepared\n"):
		r.complain("not prepared: %s", r.row.prepare)
	case len(r.fail) > 0:
		r.complain("failed: %s", strings.Join(r.fail, ", "))
	case exit == nil:
		r.complain("tests or attacks did not end")
	case exit[1] != "0":
		n, _ := strconv.Atoi(exit[1])
		r.complain("tests or attacks ended with status %d: %s", n, lastLines(part, 12))
	}
	unexpected := slices.DeleteFunc(slices.Clone(r.skipped), func(name string) bool { return slices.Contains(r.row.skipped[r.kernel], name) })
	if len(unexpected) > 0 {
		r.complain("skipped: %s", strings.Join(unexpected, ", "))
	}
	if r.pass == 0 && r.row.tests != "" {
		r.complain("no test passed")
	}
	r.readAttacks(part)
	var err error
	if r.probe, err = readProbe(part); err != nil {
		r.complain("%v", err)
		return
	}
	r.compare()
}

// readAttacks wants each attack of the row to have been refused.
func (r *result) readAttacks(part string) {
	credential := make(map[string]string)
	for line := range strings.Lines(part) {
		var a struct{ Attack, Verdict, Credential string }
		if strings.HasPrefix(line, `{"number":`) && json.Unmarshal([]byte(line), &a) == nil {
			credential[a.Attack] = a.Credential + ": " + a.Verdict
		}
	}
	for _, name := range r.row.attacks {
		if strings.HasPrefix(credential[name], "no: ") {
			r.refused++
		} else {
			r.complain("attack %s got %q, want a refusal", name, credential[name])
		}
	}
}

func readProbe(part string) (*probe, error) {
	_, rest, found := strings.Cut(part, "@probe\n")
	text, _, ended := strings.Cut(rest, "@probed\n")
	if !found || !ended {
		return nil, errors.New("no probe on the console")
	}
	p := new(probe)
	if err := json.Unmarshal([]byte(text), p); err != nil {
		return nil, fmt.Errorf("jurat probe: %w: %s", err, lastLines(text, 3))
	}
	return p, nil
}

// compare holds the probe against the row's expectation.
func (r *result) compare() {
	p, want := r.probe, &r.row.want
	if p.Tier != want.tier {
		r.complain("tier %q, want %q (%s%s)", p.Tier, want.tier, p.betterThan(), p.Problem)
	}
	if better := p.betterThan(); better != want.better {
		r.complain("better tiers: %q, want %q", better, want.better)
	}
	if len(p.Signals) == 0 {
		r.complain("the probe tells no signal")
	}
	for _, s := range p.Signals {
		if reason := want.reason(r.kernel, s.Name); s.Reason != reason || (s.By == "") != (reason != "") {
			r.complain("signal %s: by %q, unknown(%s); want unknown(%s)", s.Name, s.By, s.Reason, reason)
		}
	}
	var names []string
	for _, s := range p.Signals {
		names = append(names, s.Name)
	}
	for name := range want.unknown {
		if !slices.Contains(names, name) {
			r.complain("signal %s is absent", name)
		}
	}
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}
