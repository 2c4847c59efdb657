// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/eventlog"
)

// replayJSON is jurat.eventlog-replay/v1.
type replayJSON struct {
	Schema string                       `json:"schema"`
	Events int                          `json:"events"`
	Banks  map[string]map[string]string `json:"banks"` // bank, PCR, value; only PCRs with events
	// Skipped are banks of the log that cannot be computed.
	Skipped   []string       `json:"skipped_banks"`
	Userspace *userspaceJSON `json:"userspace"` // null: not asked for
	Compared  *comparedJSON  `json:"compared"`  // null: not asked for
	summaryJSON
}

type userspaceJSON struct {
	Records int          `json:"records"`
	Torn    int          `json:"torn_bytes"`
	List    []recordJSON `json:"list"`
}

type recordJSON struct {
	Number  int    `json:"number"`
	PCR     *int   `json:"pcr"` // null: an NV index
	NVIndex uint32 `json:"nv_index,omitempty"`
	NVName  string `json:"nv_name,omitempty"`
	Kind    string `json:"kind"`
	Covered bool   `json:"covered"`
	Text    string `json:"text"`
}

type comparedJSON struct {
	Match bool       `json:"match"`
	PCRs  []compared `json:"pcrs"`
}

// compared is one value of a TPM against the replay.
type compared struct {
	Bank     string `json:"bank"`
	PCR      int    `json:"pcr"`
	Observed string `json:"observed"`
	Replayed string `json:"replayed,omitempty"`
	State    string `json:"state"` // see states
	Text     string `json:"text"`
}

// The states of a comparison.
const (
	stateEqual       = "equal"
	stateCompleted   = "completed"   // equal with events that the log lacks
	stateDifferent   = "different"   // the log is not of this boot, or not whole
	stateUnexplained = "unexplained" // a value, and no event
	stateUnused      = "unused"      // no event, and no value
)

func (a *app) eventlogReplay(name, pcrs, list, userspace string) error {
	l, _, err := a.readLog(name)
	if err != nil {
		return err
	}
	out := &replayJSON{Schema: "jurat.eventlog-replay/v1", Events: len(l.Events), Banks: map[string]map[string]string{}, Skipped: []string{}, summaryJSON: summarise(l)}
	u, err := a.readUserspace(userspace)
	if err != nil {
		return err
	}
	if userspace != "" {
		out.Userspace = userspaceOf(u)
	}
	values := make(map[eventlog.Algorithm]eventlog.Values)
	for _, bank := range l.Banks() {
		if !bank.Computable() {
			out.Skipped = append(out.Skipped, bank.String())
			continue
		}
		v := u.Replay(l.Replay(bank))
		values[bank] = v
		out.Banks[bank.String()] = make(map[string]string)
		for _, pcr := range v.Indexes() {
			value, _ := v.At(pcr)
			out.Banks[bank.String()][strconv.Itoa(pcr)] = hex.EncodeToString(value)
		}
	}
	if pcrs != "" {
		raw, err := a.readInput(pcrs, maxPCRFile)
		if err != nil {
			return err
		}
		observed, err := parsePCRs(raw, list, l.Banks())
		if err != nil {
			return malformed(pcrs, err)
		}
		out.Compared = compareAll(l, u, values, observed)
	}
	if err := a.emit(out, func(p *term.Printer) { out.show(p, l) }); err != nil {
		return err
	}
	if out.Compared != nil && !out.Compared.Match {
		return &failure{exit: exitNo, code: "refused"}
	}
	return nil
}

func (a *app) readUserspace(name string) (*eventlog.Userspace, error) {
	if name == "" {
		return new(eventlog.Userspace), nil
	}
	raw, err := a.readInput(name, eventlog.MaxLog)
	if err != nil {
		return nil, err
	}
	u, err := eventlog.ParseUserspace(raw)
	if err != nil {
		return nil, malformed(name, err)
	}
	return u, nil
}

func userspaceOf(u *eventlog.Userspace) *userspaceJSON {
	out := &userspaceJSON{Records: len(u.Records), Torn: u.Torn, List: []recordJSON{}}
	for i := range u.Records {
		r := &u.Records[i]
		x := recordJSON{Number: r.Number, NVIndex: r.NVIndex, NVName: r.NVName, Kind: r.Kind, Covered: r.Covered(), Text: r.Describe()}
		if r.PCR >= 0 {
			x.PCR = &r.PCR
		}
		out.List = append(out.List, x)
	}
	return out
}

// compareAll holds the values of a TPM against the replay.
func compareAll(l *eventlog.Log, u *eventlog.Userspace, values map[eventlog.Algorithm]eventlog.Values, observed []pcrValue) *comparedJSON {
	out := &comparedJSON{Match: true, PCRs: []compared{}}
	for _, o := range observed {
		c := compared{Bank: o.bank.String(), PCR: o.pcr, Observed: hex.EncodeToString(o.value)}
		replayed, ok := values[o.bank].At(o.pcr)
		switch {
		case ok && bytes.Equal(replayed, o.value):
			c.State, c.Text = stateEqual, "as the log says"
		case ok:
			c.State, c.Text = stateDifferent, "another value than the log makes"
			for _, w := range l.Completions(o.bank) {
				if o.pcr == 5 && bytes.Equal(w.Value, o.value) {
					c.State, c.Text = stateCompleted, "as the log says only with what it lacks: "+w.Text
				}
			}
		case atReset(o):
			c.State, c.Text = stateUnused, "nothing was measured"
		default:
			c.State, c.Text = stateUnexplained, "measured, but not in this log"
		}
		if ok {
			c.Replayed = hex.EncodeToString(replayed)
		}
		if c.State == stateDifferent || c.State == stateUnexplained && (o.pcr <= 9 || o.pcr == 14) {
			out.Match = false
		}
		out.PCRs = append(out.PCRs, c)
	}
	return out
}

// atReset reports whether a PCR has the value it had before anything happened.
func atReset(o pcrValue) bool {
	fill := byte(0)
	if o.pcr >= 17 && o.pcr <= 22 {
		fill = 0xff
	}
	return bytes.Equal(o.value, bytes.Repeat([]byte{fill}, len(o.value)))
}

func (r *replayJSON) show(p *term.Printer, l *eventlog.Log) {
	p.Styled(term.Bold, "Boot event log, %d events, replayed", r.Events)
	for _, bank := range l.Banks() {
		list, ok := r.Banks[bank.String()]
		if !ok {
			continue
		}
		section(p, "Bank %v", bank)
		var rows [][]term.Cell
		for pcr := range 24 {
			if value, ok := list[strconv.Itoa(pcr)]; ok {
				rows = append(rows, []term.Cell{{Text: fmt.Sprint(pcr)}, {Text: value}})
			}
		}
		p.Table("  ", []string{"PCR", "VALUE"}, rows)
	}
	if u := r.Userspace; u != nil {
		section(p, "Measured by the operating system: %d", u.Records)
		var rows [][]term.Cell
		for _, x := range u.List {
			where := x.NVName
			if x.PCR != nil {
				where = fmt.Sprint(*x.PCR)
			}
			rows = append(rows, []term.Cell{{Text: fmt.Sprint(x.Number)}, {Text: where}, {Text: clip(x.Text, 100)}})
		}
		if len(rows) > 0 {
			p.Table("  ", []string{"#", "PCR", "WHAT"}, rows)
		}
		if u.Torn > 0 {
			p.Styled(term.Yellow, "  the last record is torn: %d bytes are left out, and a PCR may have been extended", u.Torn)
		}
	}
	r.summaryJSON.show(p)
	if r.Compared != nil {
		r.Compared.show(p)
	}
}

func (c *comparedJSON) show(p *term.Printer) {
	section(p, "Compared with the values given")
	rows := make([][]term.Cell, len(c.PCRs))
	for i, x := range c.PCRs {
		style := term.Plain
		switch x.State {
		case stateEqual:
			style = term.Green
		case stateDifferent, stateUnexplained, stateCompleted:
			style = term.Yellow
		}
		rows[i] = []term.Cell{{Text: x.Bank}, {Text: fmt.Sprint(x.PCR)}, {Text: x.State, Style: style}, {Text: clip(x.Observed, 8) + "  " + x.Text}}
	}
	p.Table("  ", []string{"BANK", "PCR", "STATE", "VALUE"}, rows)
	if c.Match {
		p.Styled(term.Green, "The log makes the values that were given.")
	} else {
		p.Styled(term.Red, "The log does not make the values that were given.")
	}
}
