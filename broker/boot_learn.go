// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
)

// firmwarePCRs are what is learned where neither operator nor policy say: what
// the firmware, the boot loader and Secure Boot measure.
var firmwarePCRs = []int{0, 1, 2, 3, 4, 5, 6, 7}

// booted is how a host booted, as its last true evidence says.
type booted struct {
	host store.Host
	seen *memory
	log  *verify.Boot // nil: it has none
}

// lastBoot reads how a host booted.
func (b *Broker) lastBoot(r *store.Reader, name string) (*booted, error) {
	host, err := r.HostByName(name)
	if err != nil {
		return nil, err
	}
	if host.Machine == "" {
		return nil, conflict("host %q has no machine class", name)
	}
	out := &booted{host: host}
	if out.seen, err = remembered(&host); err != nil {
		return nil, err
	}
	if out.seen == nil {
		return nil, conflict("host %q has not sent evidence yet", name)
	}
	if out.log, err = b.keptBoot(r, host.BootLog); err != nil {
		return nil, err
	}
	if out.log == nil && !out.seen.State.BootLog.IsZero() {
		// Without it, no Secure Boot and no command line would be learned.
		return nil, conflict("the boot log that is kept of host %q cannot be read; it comes again with the host's next boot", name)
	}
	return out, nil
}

// pcrThing is a value of a PCR, or an event in it.
type pcrThing struct {
	PCR    int           `json:"pcr"`
	Digest evidence.Hash `json:"digest"`
	Text   string        `json:"text,omitempty"` // of an event
}

// learnt says what is accepted of a class that was not before.
type learnt struct {
	Host         string                `json:"host"`
	Machine      string                `json:"machine"`
	Added        int                   `json:"added"`
	PCRs         map[int]evidence.Hash `json:"pcrs"` // what was looked at
	Values       []pcrThing            `json:"values"`
	Events       []pcrThing            `json:"events"`
	Relaxed      []pcrThing            `json:"relaxed"` // accepted, and not demanded any more
	SecureBoot   []string              `json:"secure_boot"`
	CommandLines []string              `json:"command_lines"`
	Findings     []finding             `json:"findings"`
}

// finding is something odd about a boot log.
type finding struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// postLearnBoot accepts how a host booted for its machine class: what its last
// true evidence says. That it booted well is the operator's word.
func (b *Broker) postLearnBoot(w http.ResponseWriter, r *http.Request) *oauth.Error {
	var in struct {
		PCRs []int `json:"pcrs"`
	}
	if r.ContentLength != 0 {
		if fault := readJSON(w, r, &in); fault != nil {
			return fault
		}
	}
	if in.PCRs == nil {
		in.PCRs = b.Policy.Measured
	}
	if len(in.PCRs) == 0 {
		in.PCRs = firmwarePCRs
	}
	out, err := b.learnBoot(r.Context(), r.PathValue("name"), in.PCRs)
	if err != nil {
		return b.found("learning how a host booted", err)
	}
	oauth.WriteJSON(w, http.StatusOK, out)
	return nil
}

// learnBoot adds to the registration of the host's class, with the entry that
// says so.
func (b *Broker) learnBoot(ctx context.Context, name string, pcrs []int) (out *learnt, err error) {
	d := b.newDecision(audit.TypeRefs, "boot")
	err = b.store.Update(ctx, func(tx *store.Tx) error {
		boot, err := b.lastBoot(&tx.Reader, name)
		if err != nil {
			return err
		}
		machine, digest, err := readMachine(&tx.Reader, boot.host.Machine)
		if err != nil {
			return err
		}
		before := machine.Boot
		before.PCRs, before.Events = maps.Clone(before.PCRs), maps.Clone(before.Events)
		out = &learnt{Host: boot.host.Name, Machine: boot.host.Machine, PCRs: make(map[int]evidence.Hash)}
		for _, pcr := range pcrs {
			value, quoted := boot.seen.PCRs[pcr]
			if !quoted || pcr == 16 || pcr == 23 {
				return invalid("PCR %d is not quoted or never counts", pcr)
			}
			out.PCRs[pcr] = value
		}
		out.Added = machine.Boot.Learn(out.PCRs, boot.log)
		out.compare(&before, &machine.Boot, boot.log)
		if out.Added == 0 {
			return nil
		}
		d.entry.Host, d.entry.Target = boot.host.ID, boot.host.Machine
		d.why.Title = fmt.Sprintf("how %s booted is accepted of machines of class %s: %d things are new", boot.host.Name, boot.host.Machine, out.Added)
		return b.putDocument(tx, store.KindMachine, machine, digest, d)
	})
	return out, err
}

// compare finds what is in the class now and was not before.
func (l *learnt) compare(before, now *verify.BootReference, log *verify.Boot) {
	l.Values, l.Events, l.Relaxed, l.Findings = []pcrThing{}, []pcrThing{}, []pcrThing{}, []finding{}
	for _, pcr := range slices.Sorted(maps.Keys(l.PCRs)) {
		for _, value := range now.PCRs[pcr][len(before.PCRs[pcr]):] {
			l.Values = append(l.Values, pcrThing{PCR: pcr, Digest: value})
		}
		for i, e := range now.Events[pcr] {
			thing := pcrThing{pcr, e.Digest, e.Text}
			switch earlier := before.Events[pcr]; {
			case i >= len(earlier):
				l.Events = append(l.Events, thing)
			case earlier[i].Required && !e.Required:
				l.Relaxed = append(l.Relaxed, thing)
			}
		}
	}
	l.SecureBoot = append([]string{}, now.SecureBoot.Of[len(before.SecureBoot.Of):]...)
	l.CommandLines = append([]string{}, now.CommandLines.Of[len(before.CommandLines.Of):]...)
	for _, code := range now.Findings[len(before.Findings):] {
		l.Findings = append(l.Findings, finding{code, textOfFinding(log, code)})
	}
}

func textOfFinding(log *verify.Boot, code string) string {
	if log != nil {
		for _, f := range log.Facts().Findings {
			if f.Code == code {
				return f.Text
			}
		}
	}
	return ""
}

// postForgetBoot takes back what was learned for a class: a value or an event
// by its digest, or one of the words.
func (b *Broker) postForgetBoot(w http.ResponseWriter, r *http.Request) *oauth.Error {
	var in forgetting
	if fault := readJSON(w, r, &in); fault != nil {
		return fault
	}
	class := r.PathValue("name")
	d := b.newDecision(audit.TypeRefs, "boot-forgotten")
	d.entry.Target, d.why.Reason = class, in.Reason
	var gone []pcrThing
	err := b.store.Update(r.Context(), func(tx *store.Tx) error {
		machine, digest, err := readMachine(&tx.Reader, class)
		if err != nil {
			return err
		}
		if digest.IsZero() {
			return store.ErrNotFound
		}
		if gone, err = in.from(&machine.Boot); err != nil {
			return err
		}
		d.why.Title = fmt.Sprintf("%s is not accepted of machines of class %s any more", in.what(), class)
		return b.putDocument(tx, store.KindMachine, machine, digest, d)
	})
	if err != nil {
		return b.found("forgetting how machines boot", err)
	}
	oauth.WriteJSON(w, http.StatusOK, map[string]any{"machine": class, "forgotten": in.what(), "gone": gone})
	return nil
}

// forgetting names one accepted thing.
type forgetting struct {
	Digest      string `json:"digest"`
	PCR         *int   `json:"pcr"` // where the digest stands in several
	SecureBoot  string `json:"secure_boot"`
	CommandLine string `json:"command_line"`
	Finding     string `json:"finding"`
	Reason      string `json:"reason"`
}

func (f *forgetting) what() string {
	switch {
	case f.Digest != "":
		return "digest " + f.Digest
	case f.SecureBoot != "":
		return "Secure Boot " + f.SecureBoot
	case f.CommandLine != "":
		return "kernel command line " + f.CommandLine
	}
	return "finding " + f.Finding
}

// from takes the thing out of the accepted ones, and returns what went along.
func (f *forgetting) from(b *verify.BootReference) ([]pcrThing, error) {
	named := 0
	for _, s := range []string{f.Digest, f.SecureBoot, f.CommandLine, f.Finding} {
		if s != "" {
			named++
		}
	}
	if named != 1 || len(f.Reason) > 500 || f.PCR != nil && f.Digest == "" {
		return nil, invalid("want exactly one of digest (pcr may say where), secure_boot, command_line and finding, and a reason of at most 500 bytes")
	}
	switch {
	case f.Digest != "":
		return f.digestFrom(b)
	case f.Finding != "":
		return []pcrThing{}, without(&b.Findings, f.Finding, 0)
	case f.SecureBoot != "":
		return []pcrThing{}, without(&b.SecureBoot.Of, f.SecureBoot, 1)
	}
	return []pcrThing{}, without(&b.CommandLines.Of, f.CommandLine, 1)
}

// without removes a word, of which at least so many have to stay: an empty set
// would refuse every machine.
func without(list *[]string, word string, stay int) error {
	i := slices.Index(*list, word)
	switch {
	case i < 0:
		return store.ErrNotFound
	case len(*list) <= stay:
		return conflict("it is the last that is accepted: no machine of the class could boot; accept another first")
	}
	*list = slices.Delete(slices.Clone(*list), i, i+1)
	return nil
}

// digestFrom removes a value, or an event. Nobody knows any more which of the
// values an event went into, so that they go with it; boot logs stand for them.
func (f *forgetting) digestFrom(b *verify.BootReference) ([]pcrThing, error) {
	var digest evidence.Hash
	if err := digest.UnmarshalText([]byte(f.Digest)); err != nil {
		return nil, invalid("digest: %v", err)
	}
	isEvent := func(e verify.BootEvent) bool { return e.Digest == digest }
	var in []int
	for pcr := range 24 {
		if slices.Contains(b.PCRs[pcr], digest) || slices.ContainsFunc(b.Events[pcr], isEvent) {
			in = append(in, pcr)
		}
	}
	if f.PCR != nil {
		in = slices.DeleteFunc(in, func(pcr int) bool { return pcr != *f.PCR })
	}
	switch {
	case len(in) == 0:
		return nil, store.ErrNotFound
	case len(in) > 1:
		return nil, conflict("the digest is accepted in PCRs %v: say in which it is to be forgotten", in)
	}
	pcr, gone := in[0], []pcrThing{}
	var events []verify.BootEvent
	values := b.PCRs[pcr]
	for _, e := range b.Events[pcr] {
		if isEvent(e) {
			gone = append(gone, pcrThing{pcr, e.Digest, e.Text})
		} else {
			events = append(events, e)
		}
	}
	eventGone := len(gone) > 0
	values = slices.DeleteFunc(slices.Clone(values), func(v evidence.Hash) bool {
		if eventGone || v == digest {
			gone = append(gone, pcrThing{PCR: pcr, Digest: v})
		}
		return eventGone || v == digest
	})
	if len(values) == 0 && len(events) == 0 {
		return nil, conflict("nothing else is accepted in PCR %d, and a PCR of which nothing is known does not count: learn another boot first", pcr)
	}
	put(b.PCRs, pcr, values)
	put(b.Events, pcr, events)
	return gone, nil
}

// put leaves no empty list behind, which would be refused.
func put[T any](m map[int][]T, pcr int, list []T) {
	if len(list) == 0 {
		delete(m, pcr)
		return
	}
	m[pcr] = list
}
