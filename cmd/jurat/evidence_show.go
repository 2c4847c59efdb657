// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/evidence"
)

// showBundle prints a bundle from the outside in.
func showBundle(p *term.Printer, e *evidenceJSON) {
	b := e.Bundle
	p.Styled(term.Bold, "Evidence bundle, %d bytes: well formed, not verified", e.Bytes)
	p.Fields("  ",
		term.Field{Label: "digest", Value: e.Digest},
		term.Field{Label: "host (ueid)", Value: b.UEID.String()},
		term.Field{Label: "challenge", Value: b.Nonce.String()},
	)
	showHeader(p, b.Header)
	showQuote(p, e)
	showCheckpoint(p, b)
	for i := range b.Requests {
		showRequest(p, &b.Requests[i], &b.Closing[i])
	}
	section(p, "Entries, %d of %d in the log", len(b.Entries), b.Checkpoint.Size)
	for i := range b.Entries {
		showEntry(p, &b.Entries[i])
	}
	section(p, "Not shown")
	p.Fields("  ",
		term.Field{Label: "boot event log", Value: blobText(e.BootLog, "none here: unknown to the host, or known to the broker")},
		term.Field{Label: "IMA list", Value: blobText(e.IMA, fmt.Sprintf("none here, from entry %d on", e.IMA.From))},
		term.Field{Label: "proofs", Value: fmt.Sprintf("%d of inclusion, one of consistency from size %d", len(b.Requests)+len(b.Entries), b.Consistency.From)},
	)
	p.Blank()
	p.Styled(term.Yellow, "Well formed, not verified: all of this is the host's word until a verifier has checked the quote.")
}

func section(p *term.Printer, format string, args ...any) {
	p.Blank()
	p.Styled(term.Bold, format, args...)
}

func blobText(b blobJSON, empty string) string {
	if b.Bytes == 0 {
		return empty
	}
	return fmt.Sprintf("%d bytes, %s", b.Bytes, b.Digest)
}

func showHeader(p *term.Printer, h *evidence.Header) {
	section(p, "Header, what the quote is said to sign")
	p.Fields("  ",
		term.Field{Label: "AK name", Value: h.AKName.String()},
		term.Field{Label: "boot id", Value: uuid(h.BootID)},
		term.Field{Label: "epoch", Value: fmt.Sprintf("%d, quote number %d", h.Epoch, h.Sequence)},
		term.Field{Label: "anchor", Value: h.Anchor},
		term.Field{Label: "NV index", Value: h.NVName.String()},
		term.Field{Label: "checkpoint", Value: fmt.Sprintf("%d, %s", h.Number, h.Checkpoint)},
		term.Field{Label: "boot log", Value: field(h.BootLog, evidence.Hash.String)},
		term.Field{Label: "IMA", Value: fmt.Sprintf("%d entries, %s", h.IMACount, field(h.IMADigest, evidence.Hash.String))},
		term.Field{Label: "tier", Value: h.Tier},
		term.Field{Label: "sensor", Value: h.Sensor.String()},
		term.Field{Label: "batch", Value: fmt.Sprintf("%d requests, root %s", h.Batch, h.BatchRoot)},
		term.Field{Label: "previous quote", Value: orNone(h.Previous)},
		term.Field{Label: "host's clock", Value: seconds(int64(h.Wall)) + " (reported, decides nothing)"},
	)
}

func showQuote(p *term.Printer, e *evidenceJSON) {
	section(p, "Quote")
	if at := e.Attest; at == nil {
		p.Styled(term.Red, "  the TPMS_ATTEST cannot be read: %d bytes", len(e.Bundle.Quote.Attest))
	} else {
		p.Fields("  ",
			term.Field{Label: "type", Value: at.Type},
			term.Field{Label: "signer", Value: at.QualifiedSigner.String()},
			term.Field{Label: "extra data", Value: at.ExtraData.String()},
			term.Field{Label: "of this header", Value: e.ExtraData.String()},
			term.Field{Label: "clock", Value: fmt.Sprintf("%v, safe: %s", time.Duration(at.Clock)*time.Millisecond, yesNo(at.Safe))},
			term.Field{Label: "resets", Value: fmt.Sprintf("%d, restarts %d", at.ResetCount, at.RestartCount)},
			term.Field{Label: "firmware", Value: fmt.Sprintf("%#x", at.Firmware)},
			term.Field{Label: "PCRs", Value: fmt.Sprintf("%v in %d bank(s)", at.PCRs, at.Banks)},
			term.Field{Label: "PCR digest", Value: at.PCRDigest.String()},
		)
	}
	p.Fields("  ",
		term.Field{Label: "digest", Value: "sha-256:" + e.QuoteDigest.String()},
		term.Field{Label: "signature", Value: fmt.Sprintf("%d bytes, not checked", len(e.Bundle.Quote.Signature))},
	)
	if r := e.Bundle.Register; r != nil {
		p.Fields("  ", term.Field{Label: "register", Value: fmt.Sprintf("certification of %d bytes, not checked", len(r.Certified.Attest))})
	}
	rows := make([][]term.Cell, len(e.Bundle.Quote.PCRs))
	for i, pcr := range e.Bundle.Quote.PCRs {
		rows[i] = []term.Cell{{Text: fmt.Sprint(pcr.Index)}, {Text: pcr.Digest.String()}}
	}
	if len(rows) > 0 {
		p.Table("  ", []string{"PCR", "VALUE"}, rows)
	}
}

func showCheckpoint(p *term.Printer, b *evidence.Bundle) {
	c := b.Checkpoint
	section(p, "Checkpoint %d", c.Number)
	p.Fields("  ",
		term.Field{Label: "digest", Value: evidence.CheckpointDigest(b.RawChk).String()},
		term.Field{Label: "log", Value: fmt.Sprintf("%d entries, root %s", c.Size, c.Root)},
		term.Field{Label: "epoch", Value: fmt.Sprint(c.Epoch)},
		term.Field{Label: "made", Value: sinceBoot(c.At)},
		term.Field{Label: "lost records", Value: fmt.Sprint(c.Lost), Style: warnIf(c.Lost > 0)},
		term.Field{Label: "taints", Value: fmt.Sprint(c.Taints), Style: warnIf(c.Taints > 0)},
		term.Field{Label: "previous", Value: orNone(c.Previous)},
	)
}

func showRequest(p *term.Printer, l *evidence.Leaf[evidence.Request], closing *evidence.Closing) {
	r := l.Value
	section(p, "Request %d", l.Index)
	p.Fields("  ",
		term.Field{Label: "broker", Value: r.Broker},
		term.Field{Label: "delegation (d)", Value: "sha-256:" + r.D.String()},
		term.Field{Label: "audience", Value: r.Audience},
		term.Field{Label: "actions", Value: strings.Join(r.Actions, ", ")},
		term.Field{Label: "datatypes", Value: strings.Join(r.Datatypes, ", ")},
		term.Field{Label: "bound to", Value: strings.TrimSpace(r.Confirm.Method + " " + r.Confirm.Thumbprint.String())},
		term.Field{Label: "process", Value: fmt.Sprintf("%s, log entry %d", r.Subject.Instance, r.Subject.Index)},
		term.Field{Label: "first look", Value: look(r.Before)},
		term.Field{Label: "second look", Value: look(closing.After)},
	)
}

// look is one look at a process during the issuance sandwich.
func look(s evidence.State) string {
	parts := []string{sinceBoot(s.At), fmt.Sprintf("generation %d", s.Generation)}
	if !s.Alive {
		parts = append(parts, "NOT ALIVE")
	}
	if len(s.Taints) > 0 {
		parts = append(parts, "TAINTED "+strings.Join(s.Taints, ", "))
	}
	number := func(v evidence.Value[uint64]) string { return field(v, func(n uint64) string { return fmt.Sprint(n) }) }
	parts = append(parts,
		fmt.Sprintf("lost %d", s.Lost),
		"unmeasured files "+number(s.Unmeasured),
		"private pages "+number(s.Private),
		"tracer "+field(s.Tracer, func(pid uint32) string { return fmt.Sprint(pid) }),
		"files changed "+field(s.Missing, func(l []string) string { return fmt.Sprint(len(l)) }),
		"context changed "+field(s.Changed, listText),
	)
	return strings.Join(parts, "; ")
}

// field shows a value with its state.
func field[T any](v evidence.Value[T], show func(T) string) string {
	seen, ok := v.Observed()
	switch {
	case !ok:
		return "unknown (" + v.Reason() + ")"
	case len(v.Taints()) > 0:
		return "TAINTED (" + strings.Join(v.Taints(), ", ") + ") " + show(seen)
	}
	return show(seen)
}

func orNone(h evidence.Hash) string {
	if h.IsZero() {
		return "none, the first"
	}
	return h.String()
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func warnIf(bad bool) term.Style {
	if bad {
		return term.Yellow
	}
	return term.Plain
}

// uuid writes 16 bytes the way the kernel writes its boot id.
func uuid(b []byte) string {
	if len(b) != 16 {
		return fmt.Sprintf("%x", b)
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func sinceBoot(ns uint64) string {
	return fmt.Sprintf("%d.%03d s after boot", ns/1e9, ns%1e9/1e6)
}

// seconds writes seconds since 1970.
func seconds(s int64) string {
	if s < 0 || s > 253402300799 { // the year 9999
		return fmt.Sprintf("second %d", s)
	}
	return time.Unix(s, 0).UTC().Format(time.RFC3339)
}
