// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
)

func (a *app) measurementsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "measurements [PATTERN]",
		Short: "which files juratd has measured, and how",
		Long: `Lists the files whose digests juratd knows now. PATTERN is a part of the path or
the beginning of a digest. A file that changed is not listed: its digest is made
anew when it is used again.

HOW says where the digest came from: read, cache, ima or fsverity. FIRST and LAST
are how long ago it was measured and last asked for. --json has digests in full.`,
		Example: "  jurat measurements /opt/agent\n  jurat measurements 9f86d081",
		Args:    atMostOne,
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cancel := a.bounded(c.Context())
			defer cancel()
			all, err := a.agent().Measurements(ctx)
			if err != nil {
				return err
			}
			pattern := strings.Join(args, "")
			out := &measurementsJSON{Schema: "jurat.measurements/v1", Known: len(all.Files), More: all.More, Files: []local.Measured{}}
			for _, f := range all.Files {
				d, _ := f.Digest.Observed()
				if strings.Contains(f.Path, pattern) || strings.HasPrefix(d.Value.String(), pattern) || strings.HasPrefix(d.String(), pattern) {
					out.Files = append(out.Files, f)
				}
			}
			return a.emit(out, func(p *term.Printer) { a.showMeasurements(p, out) })
		},
	}
}

// measurementsJSON is jurat.measurements/v1.
type measurementsJSON struct {
	Schema string           `json:"schema"`
	Known  int              `json:"known"`
	More   bool             `json:"more"` // juratd knows others that did not fit
	Files  []local.Measured `json:"files"`
}

func (a *app) showMeasurements(p *term.Printer, out *measurementsJSON) {
	rows := make([][]term.Cell, 0, len(out.Files))
	for _, f := range out.Files {
		digest, source := f.Digest.Reason(), "-"
		if d, ok := f.Digest.Observed(); ok {
			digest, source = prefix(d.Value.String(), 12), d.Source
		}
		rows = append(rows, []term.Cell{
			{Text: digest}, {Text: source}, {Text: bytesText(f.ID.Size)}, {Text: a.age(f.FirstSeen)}, {Text: a.age(f.LastUsed)}, {Text: fmt.Sprint(f.Uses)}, {Text: f.Path, Tail: true},
		})
	}
	p.List([]term.Column{
		{Title: "DIGEST"}, {Title: "HOW"}, {Title: "SIZE"}, {Title: "FIRST"}, {Title: "LAST"}, {Title: "USES"},
		{Title: "PATH", Least: 20},
	}, rows)
	p.Styled(term.Dim, "%d of %d files", len(out.Files), out.Known)
	if out.More {
		p.Styled(term.Yellow, "juratd knows more than fit into one answer")
	}
}

// bytesText is a size in the largest unit of which there is one.
func bytesText(n uint64) string {
	const units = "KMGTPE"
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	for value >= 1024 {
		value, unit = value/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", value, units[unit])
}
