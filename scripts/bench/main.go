// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Command bench measures jurat on this machine against the limit of the thing
// measured, and prints a table; the same goes to bench.jsonl as JSON lines
// {name, figure, unit, compared_to, ratio}. It must run as root. Figures of one
// run compare with each other; figures of two machines do not.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"text/tabwriter"
)

// figure is one line of the result. Ratio is figure over what it is compared
// to, in the same unit; 0 where there is nothing to compare with.
type figure struct {
	Name       string  `json:"name"`
	Figure     float64 `json:"figure"`
	Unit       string  `json:"unit"`
	ComparedTo string  `json:"compared_to"`
	Ratio      float64 `json:"ratio"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "bench: error: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	out, err := os.Create("bench.jsonl")
	if err != nil {
		return err
	}
	defer out.Close()
	var all []figure
	for _, part := range []struct {
		name string
		do   func(context.Context) ([]figure, error)
	}{
		{"cost of an exec, and losses at 2,000 a second", execs},
		{"one quote for many requests", goBench("./agent", "BenchmarkGroupCommit")},
		{"anchoring a checkpoint in the TPM", goBench("./agent", "BenchmarkAnchoredQuote")},
		{"reading a boot log", goBench("./eventlog", "BenchmarkBootLog")},
		{"replaying an IMA list", goBench("./ima", "BenchmarkIMAList")},
		{"verifying a bundle", goBench("./verify", "BenchmarkBundle")},
		{"verifying a first contact", goBench("./verify", "BenchmarkColdHost")},
		{"committing a decision to SQLite", goBench("./broker/store/sqlite", "BenchmarkDecision")},
		{"committing a decision to PostgreSQL", goBench("./broker/store/postgres", "BenchmarkDecision")},
		{"the whole exchange, with SQLite and with PostgreSQL", goBench("./broker", "BenchmarkExchange")},
	} {
		fmt.Fprintf(os.Stderr, "bench: %s ...\n", part.name)
		figures, err := part.do(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		for _, f := range figures {
			if err := json.NewEncoder(out).Encode(f); err != nil {
				return err
			}
		}
		all = append(all, figures...)
	}
	return table(os.Stdout, all)
}

func table(w io.Writer, all []figure) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WHAT\tFIGURE\tUNIT\tRATIO\tCOMPARED TO")
	for _, f := range all {
		ratio := "-"
		if f.Ratio != 0 {
			ratio = strconv.FormatFloat(f.Ratio, 'g', 2, 64)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", f.Name, strconv.FormatFloat(f.Figure, 'f', -1, 64), f.Unit, ratio, f.ComparedTo)
	}
	return t.Flush()
}
