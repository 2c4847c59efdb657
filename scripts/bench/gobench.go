// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// goBench returns a part that runs the Go benchmarks of a package whose names
// begin with prefix, and reports every figure they print. A benchmark that
// reports a metric named "ratio" says in its name what it compares with:
// BenchmarkBundle/one_request/vs_bare_signature.
func goBench(pkg, prefix string) func(context.Context) ([]figure, error) {
	return func(ctx context.Context) ([]figure, error) {
		cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^"+prefix, pkg)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("go test -bench %s %s: %v: %s", prefix, pkg, err, out)
		}
		var figures []figure
		for line := range strings.Lines(string(out)) {
			figures = append(figures, parseBench(strings.Fields(line))...)
		}
		if len(figures) == 0 {
			return nil, fmt.Errorf("go test -bench %s %s printed no figure: %s", prefix, pkg, out)
		}
		return figures, nil
	}
}

// parseBench reads "BenchmarkX-2  100  12.3 ns/op  0.81 ratio  ...".
func parseBench(fields []string) []figure {
	if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
		return nil
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(fields[0], "Benchmark"), "-")
	name, against, _ := strings.Cut(name, "/vs_")
	name, against = spaced(name), spaced(against)
	var figures []figure
	ratio := 0.0
	for i := 2; i+1 < len(fields); i += 2 {
		value, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return nil
		}
		switch unit := fields[i+1]; unit {
		case "ratio":
			ratio = value
		case "ns/op", "B/op", "allocs/op", "MB/s": // the benchmarks say in metrics of their own what counts
		default:
			figures = append(figures, figure{Name: name, Figure: round(value), Unit: unit})
		}
	}
	if len(figures) > 0 && ratio != 0 {
		figures[0].Ratio, figures[0].ComparedTo = ratio, against
	}
	return figures
}

func spaced(s string) string { return strings.NewReplacer("_", " ", "/", ", ").Replace(s) }
