// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Command bench measures jurat on this machine against the limit of the thing
// measured, and prints a table; the same goes to bench.jsonl as JSON lines
// {name, figure, unit, limit, met, compared_to, ratio}. It must run as root.
// Figures of one run compare with each other; figures of two machines do not.
//
//	bench [PART...]
//
// runs all parts, or those named.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// figure is one line of the result. Limit is what jurat promises, "" where it
// promises nothing. Ratio is figure over what it is compared to, in the same
// unit; 0 where there is nothing to compare with.
type figure struct {
	Name       string  `json:"name"`
	Figure     float64 `json:"figure"`
	Unit       string  `json:"unit"`
	Limit      string  `json:"limit,omitempty"`
	Met        bool    `json:"met"`
	ComparedTo string  `json:"compared_to"`
	Ratio      float64 `json:"ratio"`
}

// atMost is the figure with the limit that it must not exceed.
func (f figure) atMost(limit float64) figure {
	f.Limit, f.Met = "<= "+number(limit), f.Figure <= limit
	return f
}

// atLeast is the figure with the limit that it must reach.
func (f figure) atLeast(limit float64) figure {
	f.Limit, f.Met = ">= "+number(limit), f.Figure >= limit
	return f
}

func number(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }

// part is some figures that are measured together.
type part struct {
	name string
	do   func(context.Context) ([]figure, error)
}

// parts are in the order in which they run: what a loud one leaves behind must
// not disturb a quiet one.
var parts = []part{
	{"idle", onHost(idle)},
	{"execs", onHost(execs)},
	{"build", onHost(build)},
	{"model", onHost(model)},
	{"crowd", onHost(crowd)},
	{"storm", onHost(storms)},
	{"quote", goBench("./agent", "BenchmarkGroupCommit")},
	{"anchor", goBench("./agent", "BenchmarkAnchoredQuote")},
	{"boot-log", goBench("./eventlog", "BenchmarkBootLog")},
	{"ima-list", goBench("./ima", "BenchmarkIMAList")},
	{"bundle", goBench("./verify", "BenchmarkBundle")},
	{"first-contact", goBench("./verify", "BenchmarkColdHost")},
	{"decision", goBench("./broker/store/sqlite", "BenchmarkDecision")},
	{"decision-postgres", goBench("./broker/store/postgres", "BenchmarkDecision")},
	{"exchange", goBench("./broker", "BenchmarkExchange")},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "bench: error: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, names []string) error {
	var known []string
	for _, p := range parts {
		known = append(known, p.name)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return fmt.Errorf("%q is no part, those are %s", name, strings.Join(known, ", "))
		}
	}
	out, err := os.Create("bench.jsonl")
	if err != nil {
		return err
	}
	defer out.Close()
	conditions, err := conditions()
	if err != nil {
		return err
	}
	var all []figure
	for _, p := range parts {
		if len(names) > 0 && !slices.Contains(names, p.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "bench: %s (load %s) ...\n", p.name, load())
		figures, err := p.do(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		for _, f := range figures {
			if err := json.NewEncoder(out).Encode(f); err != nil {
				return err
			}
		}
		all = append(all, figures...)
	}
	return table(os.Stdout, conditions, all)
}

// conditions say what the figures were measured on.
func conditions() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, Linux %s, %d CPUs, load %s before", time.Now().UTC().Format("2006-01-02 15:04 UTC"),
		unix.ByteSliceToString(u.Release[:]), runtime.NumCPU(), load()), nil
}

// load is how many processes wanted a CPU in the last minute.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

func table(w io.Writer, conditions string, all []figure) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WHAT\tFIGURE\tUNIT\tLIMIT\tRATIO\tCOMPARED TO")
	for _, f := range all {
		ratio, limit := "-", "-"
		if f.Ratio != 0 {
			ratio = strconv.FormatFloat(f.Ratio, 'g', 3, 64)
		}
		if f.Limit != "" {
			limit = f.Limit
			if !f.Met {
				limit += " MISSED"
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", f.Name, number(f.Figure), f.Unit, limit, ratio, f.ComparedTo)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, conditions)
	return err
}
