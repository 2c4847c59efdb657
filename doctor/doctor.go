// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package doctor looks at a host the way juratd and the broker will, before
// either of them does, and says in one line per matter what stands in the way
// and what to do about it.
//
// It is no station of the flow. Its doors are the TPM, files below /sys, /proc,
// /etc, /run and the state directory, and the kernel's BPF. It changes nothing:
// no NV index is written, no key made persistent, no PCR extended; the sensor
// is loaded, seen to fire and taken away again.
//
// It refuses to guess. What it may not read is unknown, with what would make
// it readable; and it judges nobody, since what a host says about itself is
// for the broker to check. Red is what makes evidence be refused where nothing
// was configured to the contrary, yellow is what makes it worth less or needs
// a person's decision.
package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/jurat-dev/jurat/ek"
	"github.com/jurat-dev/jurat/tpm"
)

// Status is what came of a check.
type Status string

// The statuses. Unknown is none of the others: it could not be looked at.
const (
	OK      Status = "ok"
	Warn    Status = "warn"
	Bad     Status = "bad"
	Unknown Status = "unknown"
)

// Check is one line: a matter, how it stands, and what to do.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Text   string `json:"text"`
	Hint   string `json:"hint"` // what else there is to do on a line of its own; empty: nothing
}

// Report is what was found. Nothing of it is signed. Texts may contain what
// others wrote and are to be cleaned before they are shown.
type Report struct {
	OK     bool           `json:"ok"` // nothing is bad
	Checks []Check        `json:"checks"`
	TPM    *Chip          `json:"tpm"`  // null: there is none that answers
	EK     []Key          `json:"ek"`   // those with a certificate first
	PCRs   map[string]PCR `json:"pcrs"` // of the SHA-256 bank, by number; empty without a TPM or that bank
}

// Chip is what the TPM says about itself.
type Chip struct {
	Path         string   `json:"path"`
	Manufacturer string   `json:"manufacturer"`
	Vendor       string   `json:"vendor"`
	Firmware     string   `json:"firmware"`
	Revision     string   `json:"revision"` // of the specification
	Banks        []string `json:"banks"`    // active
	Resets       uint32   `json:"reset_count"`
	Restarts     uint32   `json:"restart_count"`
	ClockSafe    bool     `json:"clock_safe"`
	FreeLatches  []int    `json:"free_latches"` // PCRs that may be a latch and are zero
	Register     string   `json:"register"`     // stage, as in tpm.Stage; empty: not known
}

// Key is an endorsement key.
type Key struct {
	Algorithm   string `json:"algorithm"`
	Pin         string `json:"pin"`         // SHA-256 of the SubjectPublicKeyInfo, as --ek-pin takes it
	Certificate bool   `json:"certificate"` // has one
	Level       string `json:"level"`       // that enrolling with it gives: "ek-cert", "ek-pin", or "" if it is denied
	Code        string `json:"code"`        // why the certificate is not believed
}

// PCR is a register of the SHA-256 bank against what the logs make of it.
type PCR struct {
	Observed string `json:"observed"`
	Replayed string `json:"replayed"` // empty: no log has an event for it
	State    State  `json:"state"`
}

// State is how a PCR compares.
type State string

// The states of a comparison.
const (
	Equal       State = "equal"
	Completed   State = "completed"   // equal with events that the firmware left out of its log
	Different   State = "different"   // the log is not of this boot, or not whole
	Unexplained State = "unexplained" // a value, and no event
	Unused      State = "unused"      // no event, and no value
	Latch       State = "latch"       // jurat's own, closed
)

// DefaultPatience bounds one answer of the TPM or the kernel. Endorsement keys
// get half as much again, so that a run is over within 20 seconds.
const DefaultPatience = 5 * time.Second

// Options say what to look at. The zero value is this machine, with nobody's
// certificates believed.
type Options struct {
	TPM         string          // device, or socket of a software TPM; empty: /dev/tpmrm0, and none below another Root
	Root        string          // directory that stands for / in front of every path that is not named here
	State       string          // juratd's state directory; empty: /var/lib/jurat
	BootLog     string          // firmware's log; empty: the kernel's
	OSLog       string          // systemd's log; empty: where systemd writes it
	IMAList     string          // empty: the kernel's
	Authorities *ek.Authorities // whom the broker believes; nil: nobody
	Register    tpm.RegisterOptions
	Now         time.Time     // for certificates
	Patience    time.Duration // 0: DefaultPatience
	// Sensor loads the sensor, takes it away again and says its tier; nil: it is
	// not tried. [Sensor] is the one to use.
	Sensor func() (tier string, err error)
}

// examination is one run: what was asked for, and what was found.
type examination struct {
	Options
	chip   *chip // nil until it answered
	chipIs Check // about the TPM as such
	boot   bootLog
	pcrs   map[int]PCR
}

// whole fills in what was left empty.
func (o Options) whole() Options {
	if o.TPM == "" && o.Root == "" {
		o.TPM = "/dev/tpmrm0"
	}
	if o.State == "" {
		o.State = o.Root + "/var/lib/jurat"
	}
	if o.BootLog == "" {
		o.BootLog = o.Root + bootLogPath(o.TPM)
	}
	if o.OSLog == "" {
		o.OSLog = o.Root + osLogPath
	}
	if o.IMAList == "" {
		o.IMAList = o.Root + imaPath
	}
	if o.Register.Latch == 0 {
		o.Register.Latch = tpm.DefaultLatch
	}
	if o.Register.Index == 0 {
		o.Register.Index = tpm.DefaultIndex
	}
	if o.Patience <= 0 {
		o.Patience = DefaultPatience
	}
	return o
}

// Run looks at everything. What does not answer in time is unknown or bad, so
// that Run itself always comes to an end.
func Run(ctx context.Context, o Options) *Report {
	o = o.whole()
	ctx, cancel := context.WithTimeout(ctx, o.Patience*7/2)
	defer cancel()
	e := &examination{Options: o}
	sensor := make(chan Check, 1)
	go func() { sensor <- e.sensor(ctx) }()
	e.lookAtChip(ctx)
	e.readBootLog()
	e.compare()
	r := &Report{PCRs: map[string]PCR{}, EK: []Key{}}
	r.Checks = append(r.Checks, e.chipIs, e.firmware(), e.clock(), e.lockout(), e.hierarchies())
	r.Checks = append(r.Checks, e.keys(r)...)
	r.Checks = append(r.Checks, e.banks(), e.latch(), e.register(), e.room(), e.disks())
	r.Checks = append(r.Checks, e.bootLogCheck(), e.bootPCRs(), e.bootFindings(), e.secureBoot(), e.kernelImage(), e.commandLine(), e.osLog(), e.ima(ctx))
	r.Checks = append(r.Checks, e.kernel(), <-sensor, e.lockdown(), e.enrolment())
	e.describe(r)
	r.settle()
	return r
}

// Add puts a check of the caller's own at the end of the report.
func (r *Report) Add(c Check) {
	r.Checks = append(r.Checks, c)
	r.settle()
}

func (r *Report) settle() { r.OK = r.Count(Bad) == 0 }

// Count returns how many checks have a status.
func (r *Report) Count(s Status) int {
	n := 0
	for _, c := range r.Checks {
		if c.Status == s {
			n++
		}
	}
	return n
}

// Next returns the check to do something about first, and whether there is
// one: the first that is bad, else the first that could not be looked at, else
// the first warning, of those with a hint.
func (r *Report) Next() (Check, bool) {
	for _, s := range []Status{Bad, Unknown, Warn} {
		for _, c := range r.Checks {
			if c.Status == s && c.Hint != "" {
				return c, true
			}
		}
	}
	return Check{}, false
}

// describe fills in the parts of a report that are not lines.
func (e *examination) describe(r *Report) {
	for pcr, value := range e.pcrs {
		r.PCRs[fmt.Sprint(pcr)] = value
	}
	if e.chip == nil {
		return
	}
	s := &e.chip.survey
	r.TPM = &Chip{
		Path: e.TPM, Manufacturer: s.Properties.Manufacturer, Vendor: s.Properties.Vendor,
		Firmware: ek.FirmwareOf(s.Properties.Firmware).String(), Revision: revision(s.Properties.Revision), Banks: []string{},
		Resets: s.Clock.ResetCount, Restarts: s.Clock.RestartCount, ClockSafe: s.Clock.Safe, FreeLatches: []int{},
	}
	for _, bank := range s.Banks {
		r.TPM.Banks = append(r.TPM.Banks, bank.Name)
	}
	for _, pcr := range s.Latches {
		r.TPM.FreeLatches = append(r.TPM.FreeLatches, int(pcr))
	}
	if e.chip.stateErr == nil {
		r.TPM.Register = string(e.chip.state.Stage())
	}
}

// within waits for f, but no longer than limit: what f asks may hang in the
// kernel, and then its goroutine ends with the process. So f shares nothing
// with the caller but what it returns.
func within[T any](ctx context.Context, limit time.Duration, f func(context.Context) T) (v T, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan T, 1)
	go func() { done <- f(ctx) }()
	select {
	case v = <-done:
		return v, true
	case <-ctx.Done():
	}
	select { // both may have been ready
	case v = <-done:
		return v, true
	default:
		return v, false
	}
}
