// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// probe is the part of jurat probe --json that is of use here.
type probe struct {
	Kernel  string `json:"kernel"`
	Tier    string `json:"tier"`
	Signals []struct {
		Name   string `json:"name"`
		By     string `json:"by"`
		Reason string `json:"reason"`
	} `json:"signals"`
}

// probe reads what jurat probe printed in the guest.
func (g *guest) probe() (*probe, error) {
	_, rest, found := strings.Cut(g.console, "@probe\n")
	text, _, ended := strings.Cut(rest, "@probed")
	if !found || !ended {
		return nil, errors.New("no probe on the console")
	}
	p := new(probe)
	if err := json.Unmarshal([]byte(text), p); err != nil {
		return nil, fmt.Errorf("jurat probe: %w", err)
	}
	return p, nil
}

func report(w io.Writer, plan []*guest) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "KERNEL\tSCENARIO\tRELEASE\tTIER\tPASSED\tFAILED\tSKIPPED\tTIME\tRESULT")
	for _, g := range plan {
		o, tier, result := g.outcome(), "-", "ok"
		if p, err := g.probe(); err == nil {
			tier = p.Tier
		}
		if !g.passed() {
			result = "FAIL"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%v\t%s\n", g.kernel.name, g.scenario.name, g.kernel.release, tier,
			o.pass, len(o.fail), len(o.skipped), g.took.Round(time.Second), result)
	}
	t.Flush()
}

// matrix is docs/kernels.md.
func matrix(ctx context.Context, plan []*guest) string {
	return ""
}
