// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/eventlog"
)

// eventlogJSON is jurat.eventlog/v1.
type eventlogJSON struct {
	Schema   string   `json:"schema"`
	Verified bool     `json:"verified"` // always false: nothing was verified
	Bytes    int      `json:"bytes"`
	Events   int      `json:"events"` // the header of a crypto-agile log included
	Banks    []string `json:"banks"`
	Vendor   []byte   `json:"vendor_info,omitempty"`
	summaryJSON
	List []eventJSON `json:"list"`
}

// eventJSON is one event.
type eventJSON struct {
	Number   int               `json:"number"`
	Offset   int               `json:"offset"`
	PCR      uint32            `json:"pcr"`
	Type     string            `json:"type"`
	TypeID   uint32            `json:"type_id"`
	Measured bool              `json:"measured"`
	Covered  bool              `json:"covered"` // the digests are those of the data
	Text     string            `json:"text"`
	Digests  map[string]string `json:"digests"`
	Data     []byte            `json:"data"`
}

func (a *app) eventlogShow(name string) error {
	l, size, err := a.readLog(name)
	if err != nil {
		return err
	}
	out := &eventlogJSON{Schema: "jurat.eventlog/v1", Bytes: size, Events: len(l.Events), Banks: bankNames(l), Vendor: l.VendorInfo(), summaryJSON: summarise(l)}
	for i := range l.Events {
		out.List = append(out.List, eventOf(l, &l.Events[i]))
	}
	return a.emit(out, func(p *term.Printer) { out.show(p, l) })
}

func bankNames(l *eventlog.Log) []string {
	names := []string{}
	for _, b := range l.Banks() {
		names = append(names, b.String())
	}
	return names
}

func eventOf(l *eventlog.Log, e *eventlog.Event) eventJSON {
	out := eventJSON{
		Number: e.Number, Offset: e.Offset, PCR: e.PCR, Type: e.Type.String(), TypeID: uint32(e.Type), Measured: e.Measured(),
		Covered: e.Covered(), Text: e.Describe(), Digests: map[string]string{}, Data: e.Data,
	}
	for _, b := range l.Banks() {
		if digest, ok := e.Digest(b); ok {
			out.Digests[b.String()] = hex.EncodeToString(digest)
		}
	}
	return out
}

func (e *eventlogJSON) show(p *term.Printer, l *eventlog.Log) {
	p.Styled(term.Bold, "Boot event log, %d events, %d bytes, banks %s: not verified", e.Events, e.Bytes, strings.Join(e.Banks, ", "))
	p.Blank()
	bank, ok := strongest(l)
	rows := make([][]term.Cell, len(e.List))
	for i, x := range e.List {
		mark, digest, pcr := "", "", fmt.Sprint(x.PCR)
		if x.Covered {
			mark = "="
		}
		if !x.Measured {
			pcr = "-"
		} else if ok {
			digest = clip(x.Digests[bank.String()], 8)
		}
		rows[i] = []term.Cell{{Text: fmt.Sprint(x.Number)}, {Text: pcr}, {Text: strings.TrimPrefix(x.Type, "EV_"), Style: term.Dim}, {Text: digest, Style: term.Dim}, {Text: mark}, {Text: clip(x.Text, 84)}}
	}
	p.Table("  ", []string{"#", "PCR", "TYPE", strings.ToUpper(bank.String()), "", "WHAT"}, rows)
	e.summaryJSON.show(p)
	p.Blank()
	p.Styled(term.Yellow, "Not verified: all of this is the host's word until a quote bears it out.")
	p.Styled(term.Dim, "'=': the digest is of these words. --json has whole texts, digests and data.")
}

// strongest returns the bank to show where there is room for one.
func strongest(l *eventlog.Log) (eventlog.Algorithm, bool) {
	banks := l.Banks()
	for _, want := range []eventlog.Algorithm{eventlog.SHA256, eventlog.SHA384, eventlog.SHA512, eventlog.SHA1} {
		if slices.Contains(banks, want) {
			return want, true
		}
	}
	return banks[0], true
}

// clip cuts a text to at most n characters.
func clip(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	if n <= 8 { // a digest
		return string(r[:n])
	}
	return string(r[:n-1]) + "…"
}
