// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "how juratd and the broker are",
		Long: `Asks juratd on this host and the broker how they are.

What a flag or JURAT_BROKER names must answer, or the exit code is 3. Without
any, the usual sockets are tried and one answer is enough.`,
		Example: "  jurat status\n  jurat status --broker https://broker.example --json",
		Args:    arguments(),
		RunE:    func(c *cobra.Command, _ []string) error { return a.status(c.Context()) },
	}
}

// statusJSON is jurat.status/v1.
type statusJSON struct {
	Schema string      `json:"schema"`
	Agent  *agentJSON  `json:"agent"`  // null: not asked
	Broker *brokerJSON `json:"broker"` // null: not asked
}

type agentJSON struct {
	Socket string        `json:"socket"`
	Error  string        `json:"error,omitempty"`
	Status *local.Status `json:"status,omitempty"`
}

type brokerJSON struct {
	Address string `json:"address"`
	Ready   bool   `json:"ready"`
	Error   string `json:"error,omitempty"`
	LogSize uint64 `json:"log_size"`
	Origin  string `json:"log_origin,omitempty"`
}

func (a *app) status(ctx context.Context) error {
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	out := &statusJSON{Schema: "jurat.status/v1"}
	var failed []error
	if a.set["socket"] || !(a.set["broker"] || a.set["admin"]) || exists(a.socket) {
		out.Agent = &agentJSON{Socket: a.socket}
		st, err := a.agent().Status(ctx)
		if err != nil {
			out.Agent.Error = err.Error()
			failed = append(failed, err)
		} else {
			out.Agent.Status = st
		}
	}
	if a.set["broker"] || a.set["admin"] || exists(a.admin) {
		b, err := a.brokerStatus(ctx)
		out.Broker = b
		if err != nil {
			failed = append(failed, err)
		}
	}
	named := a.set["socket"] || a.set["broker"] || a.set["admin"]
	answered := out.Agent != nil && out.Agent.Status != nil || out.Broker != nil && out.Broker.Ready
	if len(failed) > 0 && (named || !answered) {
		f := *classify(failed[0])
		f.err = errors.Join(failed...)
		f.err = errors.New(strings.ReplaceAll(f.err.Error(), "\n", "; "))
		return &f
	}
	return a.emit(out, func(p *term.Printer) { showStatus(p, out) })
}

// brokerStatus asks whether the broker is ready and how long its log is.
func (a *app) brokerStatus(ctx context.Context) (*brokerJSON, error) {
	c, err := a.anyBroker()
	if err != nil {
		return nil, err
	}
	out := &brokerJSON{Address: c.Address()}
	if err := c.Ready(ctx); err != nil {
		out.Error = err.Error()
		return out, err
	}
	out.Ready = true
	head, err := c.Checkpoint(ctx)
	if err != nil {
		out.Error = err.Error()
		return out, err
	}
	out.Origin, out.LogSize = head.Origin, head.Size
	return out, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func showStatus(p *term.Printer, s *statusJSON) {
	if g := s.Agent; g != nil && g.Status == nil {
		p.Styled(term.Bold, "juratd")
		p.Fields("  ", term.Field{Label: "state", Value: g.Error, Style: term.Red})
	} else if g != nil {
		showAgent(p, g)
	}
	if s.Agent != nil && s.Broker != nil {
		p.Blank()
	}
	b := s.Broker
	if b == nil {
		return
	}
	p.Styled(term.Bold, "Broker at %s", b.Address)
	if b.Error != "" {
		p.Fields("  ", term.Field{Label: "state", Value: b.Error, Style: term.Red})
		return
	}
	p.Fields("  ",
		term.Field{Label: "state", Value: "ready", Style: term.Green},
		term.Field{Label: "log", Value: fmt.Sprintf("%d entries, %s", b.LogSize, b.Origin)},
	)
}

func showAgent(p *term.Printer, g *agentJSON) {
	st := g.Status
	style := term.Green
	if st.BrokerState != "reachable" {
		style = term.Yellow
	}
	p.Styled(term.Bold, "juratd %s at %s", st.Version, g.Socket)
	p.Fields("  ",
		term.Field{Label: "host", Value: st.Host},
		term.Field{Label: "broker", Value: st.Broker},
		term.Field{Label: "", Value: st.BrokerState, Style: style},
		term.Field{Label: "kernel", Value: st.Kernel},
		term.Field{Label: "tier", Value: st.Tier + ", callers known by: " + st.Identity},
		term.Field{Label: "anchor", Value: anchored(st), Style: warnIf(st.AnchorFault != "")},
		term.Field{Label: "epoch", Value: fmt.Sprintf("%d, since %s", st.Epoch, seconds(st.Since))},
		term.Field{Label: "log", Value: fmt.Sprintf("%d entries, checkpoint %d, %d quotes answered %d requests", st.LogSize, st.Checkpoint, st.Quotes, st.Answered)},
		term.Field{Label: "lost records", Value: fmt.Sprint(st.Lost), Style: warnIf(st.Lost > 0)},
		term.Field{Label: "taints", Value: fmt.Sprint(st.Taints), Style: warnIf(st.Taints > 0)},
		term.Field{Label: "processes", Value: fmt.Sprintf("%d known, %d with credentials, %d waiting for a quote", st.Instances, st.Keys, st.Waiting)},
	)
}

// anchored says how the log is bound to the TPM, and what is wrong with that.
func anchored(st *local.Status) string {
	if st.AnchorFault != "" {
		return st.Anchor + ": " + st.AnchorFault + " (ends with the next start of the machine)"
	}
	return st.Anchor
}
