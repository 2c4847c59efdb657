// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
)

// maxApply bounds what is applied at once, in bytes (spec/broker-api.md
// section 8).
const maxApply = 1 << 20

// applyJSON is jurat.apply/v1.
type applyJSON struct {
	Schema  string        `json:"schema"`
	Applied []appliedJSON `json:"applied"`
}

type appliedJSON struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Result string `json:"result"` // "created", "changed", "unchanged"
}

func (a *app) applyCommand() *cobra.Command {
	var files []string
	c := &cobra.Command{
		Use:   "apply -f FILE [-f FILE...]",
		Short: "tell the broker about workloads, machines, people and services",
		Long: `Sends registrations in YAML to the broker: kinds Workload, Machine, Approver and
Resource, several in one file separated by "---". All of them are taken, or none.
FILE - is standard input. What the broker reads is in spec/broker-api.md.`,
		Example: `  jurat apply -f workload.yaml -f alice.yaml
  jurat apply -f - <<EOF
  kind: Approver
  name: alice@example.test
  keys: ["ssh-ed25519 AAAA…"]
  EOF`,
		Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			if len(files) == 0 {
				return usage(c, "-f FILE is missing")
			}
			return a.apply(c.Context(), files)
		},
	}
	c.Flags().StringArrayVarP(&files, "file", "f", nil, "`FILE` to apply (repeatable), - for standard input")
	return c
}

func (a *app) apply(ctx context.Context, files []string) error {
	joined, origins, err := a.join(files)
	if err != nil {
		return err
	}
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	var out applyJSON
	if err := a.operator().PostYAML(ctx, "applying", "/v1/apply", joined, &out); err != nil {
		f := *classify(err)
		f.err = fmt.Errorf("%s", origins.place(f.Error()))
		return &f
	}
	out.Schema, out.Applied = "jurat.apply/v1", orEmpty(out.Applied)
	return a.emit(&out, func(p *term.Printer) {
		rows := make([][]term.Cell, len(out.Applied))
		for i, r := range out.Applied {
			style := term.Green
			if r.Result == "unchanged" {
				style = term.Dim
			}
			rows[i] = []term.Cell{{Text: r.Kind}, {Text: r.Name}, {Text: r.Result, Style: style}}
		}
		p.Table("", []string{"KIND", "NAME", "RESULT"}, rows)
	})
}

// origin says at which line of the joined text a file begins.
type origin struct {
	file  string
	first int
}

type origins []origin

// join makes one document stream of several files, so that they are applied
// together or not at all.
func (a *app) join(files []string) ([]byte, origins, error) {
	var joined bytes.Buffer
	var from origins
	for _, name := range files {
		data, err := a.readInput(name, maxApply)
		if err != nil {
			return nil, nil, err
		}
		if joined.Len() > 0 && !bytes.HasPrefix(data, []byte("---")) {
			joined.WriteString("---\n")
		}
		from = append(from, origin{name, bytes.Count(joined.Bytes(), []byte("\n")) + 1})
		joined.Write(data)
		if !bytes.HasSuffix(data, []byte("\n")) {
			joined.WriteByte('\n')
		}
	}
	if joined.Len() > maxApply {
		return nil, nil, &failure{exit: exitNo, code: "malformed", err: fmt.Errorf("registrations of %d bytes, at most %d", joined.Len(), maxApply)}
	}
	return joined.Bytes(), from, nil
}

var lineNumber = regexp.MustCompile(`\bline (\d+)`)

// place puts the file's name and its own line number where the broker counted
// lines of the joined text.
func (o origins) place(text string) string {
	return lineNumber.ReplaceAllStringFunc(text, func(m string) string {
		n, err := strconv.Atoi(strings.TrimPrefix(m, "line "))
		if err != nil {
			return m
		}
		for i := len(o) - 1; i >= 0; i-- {
			if n >= o[i].first {
				return fmt.Sprintf("%s line %d", o[i].file, n-o[i].first+1)
			}
		}
		return m
	})
}

// refsJSON is jurat.refs/v1.
type refsJSON struct {
	Schema   string `json:"schema"`
	Workload string `json:"workload"`
	Group    string `json:"group"`
	Digest   string `json:"digest"`
	Result   string `json:"result"` // "added", "unchanged"
}

func (a *app) refsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "refs",
		Short:   "add reference values of a workload",
		Example: "  jurat refs add spiffe://example.test/agents/invoice sha-256:… --label 1.4.3 --reason \"release 1.4.3\"",
		Args:    cobra.ArbitraryArgs,
		RunE:    group,
	}
	in := struct {
		Workload string `json:"workload"`
		Digest   string `json:"digest"`
		Label    string `json:"label"`
		Reason   string `json:"reason"`
		Group    string `json:"group,omitempty"`
	}{}
	add := &cobra.Command{
		Use:   "add WORKLOAD sha-256:DIGEST --label TEXT --reason TEXT",
		Short: "accept one more digest for a workload",
		Long: `Accepts one more digest for a workload: of its executable, or with --group of a
loader, library, script, code file, model or input, or of a whole manifest of code
files. What a refused process had is in 'jurat why TXN', with the command that
accepts it. The label and the reason go into the broker's log.`,
		Example: `  jurat refs add spiffe://example.test/agents/invoice sha-256:9f86d0… \
      --label "invoice-agent 1.4.3" --reason "release 1.4.3, ticket 4711"`,
		Args: arguments("WORKLOAD", "sha-256:DIGEST"),
		RunE: func(c *cobra.Command, args []string) error {
			in.Workload, in.Digest = args[0], args[1]
			if in.Label == "" || in.Reason == "" {
				return usage(c, "--label and --reason must both be given")
			}
			ctx, cancel := a.bounded(c.Context())
			defer cancel()
			out := &refsJSON{Digest: in.Digest}
			if err := a.operator().Post(ctx, "adding the reference value", "/v1/refs", in, out); err != nil {
				return err
			}
			out.Schema = "jurat.refs/v1"
			return a.emit(out, func(p *term.Printer) { p.Line("%s %s: %s %s", out.Workload, out.Group, out.Digest, out.Result) })
		},
	}
	add.Flags().StringVar(&in.Label, "label", "", "`TEXT` that says for people what it is")
	add.Flags().StringVar(&in.Reason, "reason", "", "`TEXT` that says why it is accepted")
	add.Flags().StringVar(&in.Group, "group", "", "executables (default), loaders, libraries, scripts, manifests, files, models or inputs")
	c.AddCommand(add)
	return c
}
