// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jurat-dev/jurat/ek"
	"github.com/jurat-dev/jurat/eventlog"
	"github.com/jurat-dev/jurat/tpm"
)

// chip is what a TPM answered.
type chip struct {
	survey   tpm.Survey
	state    tpm.RegisterState
	stateErr error // why nothing is known of the register
	other    uint8 // what is at its index is a register of ours with this latch; 0: it is not
	keys     []tpm.EK
	keysErr  error
}

// noTPM is the text of each check that needs one and has none.
const noTPM = "no TPM to ask"

// answer is a value or an error.
type answer[T any] struct {
	v   T
	err error
}

// lookAtChip asks the TPM everything. Of one that hangs nothing more is asked.
func (e *examination) lookAtChip(ctx context.Context) {
	if e.TPM == "" {
		e.chipIs = Check{"TPM", Unknown, "not asked: the files are another machine's", ""}
		return
	}
	opened, ok := within(ctx, e.Patience, func(context.Context) answer[*tpm.Device] {
		dev, err := tpm.Open(e.TPM)
		return answer[*tpm.Device]{dev, err}
	})
	if !ok {
		e.chipIs = e.silent()
		return
	}
	if opened.err != nil {
		e.chipIs = e.unopened(opened.err)
		return
	}
	dev := opened.v
	surveyed, ok := within(ctx, e.Patience, func(ctx context.Context) answer[*chip] {
		var c chip
		var err error
		if c.survey, err = dev.Survey(ctx); err != nil {
			return answer[*chip]{err: err}
		}
		c.inspect(ctx, dev, e.Register)
		return answer[*chip]{v: &c}
	})
	switch {
	case !ok || errors.Is(surveyed.err, context.DeadlineExceeded):
		e.chipIs = e.silent()
		return
	case surveyed.err != nil:
		e.chipIs = Check{"TPM", Bad, fmt.Sprintf("%s: %v", e.TPM, surveyed.err), "restart the machine; a TPM that keeps doing this is broken"}
		return
	}
	e.chip = surveyed.v
	e.chipIs = Check{"TPM", OK, "TPM 2.0 answers at " + e.TPM, ""}
	patience := e.Patience * 3 / 2
	found, ok := within(ctx, patience, func(ctx context.Context) answer[[]tpm.EK] {
		keys, err := dev.EKs(ctx)
		return answer[[]tpm.EK]{keys, err}
	})
	e.chip.keys, e.chip.keysErr = found.v, found.err
	if !ok || errors.Is(found.err, context.DeadlineExceeded) {
		e.chip.keysErr = slow(patience)
		return // the TPM is still at it
	}
	within(ctx, time.Second, func(context.Context) error { return dev.Close() })
}

// inspect looks at the register. One that another latch gates is juratd's too,
// and was left by another configuration.
func (c *chip) inspect(ctx context.Context, dev *tpm.Device, opts tpm.RegisterOptions) {
	_, c.state, c.stateErr = dev.Register(ctx, opts)
	for latch := uint8(8); c.stateErr == nil && c.state.Defined && !c.state.Ours && latch < 16; latch++ {
		if _, state, err := dev.Register(ctx, tpm.RegisterOptions{Index: opts.Index, Latch: latch}); err == nil && state.Ours {
			c.other = latch
		}
	}
}

// slow says that making the endorsement keys took longer.
type slow time.Duration

func (s slow) Error() string { return fmt.Sprintf("not made within %v", time.Duration(s)) }

func (e *examination) silent() Check {
	return Check{"TPM", Bad, fmt.Sprintf("%s does not answer within %v", e.TPM, e.Patience),
		"look for 'tpm' in dmesg, restart the machine; a slow TPM: --patience 30s"}
}

func (e *examination) unopened(err error) Check {
	text, hint, _ := strings.Cut(err.Error(), ": ")
	switch {
	case errors.Is(err, fs.ErrPermission):
		return Check{"TPM", Unknown, "no permission to open " + e.TPM, asRoot + ", or join the group that owns it (often tss)"}
	case errors.Is(err, tpm.ErrNoDevice):
		return Check{"TPM", Bad, text, hint}
	case errors.Is(err, tpm.ErrNotTPM):
		return Check{"TPM", Bad, e.TPM + " is no TPM 2.0", "name a TPM 2.0 with --tpm: /dev/tpmrm0, or the socket of a software TPM"}
	}
	return Check{"TPM", Bad, err.Error(), "look for 'tpm' in dmesg; stop other programs that use the TPM; use /dev/tpmrm0"}
}

func revision(r uint32) string { return fmt.Sprintf("%d.%02d", r/100, r%100) }

func (e *examination) firmware() Check {
	const name = "firmware"
	if e.chip == nil {
		return Check{name, Unknown, noTPM, ""}
	}
	p := e.chip.survey.Properties
	version := ek.FirmwareOf(p.Firmware)
	text := fmt.Sprintf("%s %q, firmware %v, specification %s", p.Manufacturer, p.Vendor, version, revision(p.Revision))
	maker, err := ek.ParseManufacturer(p.Manufacturer)
	if err == nil && e.Authorities != nil && e.Authorities.Rules != nil {
		if denied := e.Authorities.Rules.DenyFirmware(maker, version); denied != nil {
			return Check{name, Bad, text + ": denied", "update the TPM's firmware; the rule is in " + ek.RulesFile + " of --ek-roots"}
		}
	}
	// What IBM's reference code, and so swtpm, calls itself.
	if p.Manufacturer == "IBM" && strings.HasPrefix(p.Vendor, "SW") {
		return Check{name, Warn, text, "a software TPM is for trying out; where it counts use the machine's own: /dev/tpmrm0"}
	}
	return Check{name, OK, text, ""}
}

func (e *examination) clock() Check {
	const name = "clock"
	if e.chip == nil {
		return Check{name, Unknown, noTPM, ""}
	}
	c := e.chip.survey.Clock
	text := fmt.Sprintf("%s, %s since the last", plural(int(c.ResetCount), "reset", "resets"), plural(int(c.RestartCount), "restart", "restarts"))
	if !c.Safe {
		return Check{name, Warn, "not safe after an unclean shutdown; " + text, "wait: it is safe again within 70 minutes; shut down in order next time"}
	}
	return Check{name, OK, "safe; " + text, ""}
}

func (e *examination) lockout() Check {
	const name = "lockout"
	if e.chip == nil {
		return Check{name, Unknown, noTPM, ""}
	}
	l := e.chip.survey.Lockout
	if l.Active {
		return Check{name, Warn, fmt.Sprintf("locked after %s; jurat's key and register are exempt", plural(int(l.Failures), "wrong password", "wrong passwords")),
			"find out who guesses; 'tpm2_dictionarylockout -c' ends it"}
	}
	return Check{name, OK, fmt.Sprintf("not locked, %d of %d wrong passwords", l.Failures, l.Limit), ""}
}

// hierarchies: the attestation key is made in the endorsement hierarchy, and
// the register in the owner's, both with the empty password.
func (e *examination) hierarchies() Check {
	const name = "hierarchies"
	if e.chip == nil {
		return Check{name, Unknown, noTPM, ""}
	}
	switch h := e.chip.survey.Hierarchy; {
	case !h.EndorsementEnabled:
		return Check{name, Bad, "the endorsement hierarchy is disabled: no attestation key can be made", "enable the TPM's endorsement hierarchy in the firmware setup"}
	case h.EndorsementPassword:
		return Check{name, Bad, "the endorsement hierarchy has a password: no attestation key can be made", "remove it: 'tpm2_changeauth -c e -p PASSWORD'"}
	case !h.OwnerEnabled:
		return Check{name, Bad, "the owner hierarchy is disabled: no register can be made", "enable it in the firmware setup, or run juratd -anchor none where the policy accepts that"}
	case h.OwnerPassword:
		return Check{name, Bad, "the owner hierarchy has a password: no register can be made", "remove it: 'tpm2_changeauth -c o -p PASSWORD', or run juratd -anchor none"}
	case h.LockoutPassword:
		return Check{name, OK, "no password on endorsement and owner, one on lockout", ""}
	}
	return Check{name, OK, "no password on endorsement and owner", ""}
}

// algorithmOf finds a bank's number by the name that package tpm gives it.
func algorithmOf(name string) eventlog.Algorithm {
	for _, a := range []eventlog.Algorithm{eventlog.SHA1, eventlog.SHA256, eventlog.SHA384, eventlog.SHA512, eventlog.SM3,
		eventlog.SHA3_256, eventlog.SHA3_384, eventlog.SHA3_512} {
		if strings.ReplaceAll(a.String(), "_", "-") == name {
			return a
		}
	}
	n, _ := strconv.ParseUint(name, 0, 16) // of no known name: its number
	return eventlog.Algorithm(n)
}

// banks: the broker wants SHA-256 active, and every other active bank covered
// by the boot log, or somebody could write a boot of his own into it.
func (e *examination) banks() Check {
	const name = "PCR banks"
	if e.chip == nil {
		return Check{name, Unknown, noTPM, ""}
	}
	var others []string
	var quoted *tpm.Bank
	for i, bank := range e.chip.survey.Banks {
		if bank.Name == "sha256" {
			quoted = &e.chip.survey.Banks[i]
		} else {
			others = append(others, bank.Name)
		}
	}
	if quoted == nil {
		return Check{name, Bad, "SHA-256 is not active", "enable it in the firmware setup, or 'tpm2_pcrallocate sha256:all', and restart"}
	}
	for pcr := range uint8(16) {
		if !slices.Contains(quoted.PCRs, pcr) {
			return Check{name, Bad, fmt.Sprintf("SHA-256 is active without PCR %d", pcr), "'tpm2_pcrallocate sha256:all', and restart"}
		}
	}
	if len(others) == 0 {
		return Check{name, OK, "sha256 alone", ""}
	}
	disable := fmt.Sprintf("disable %s in the firmware setup, or 'tpm2_pcrallocate %s:none', and restart", others[0], others[0])
	switch {
	case e.boot.log == nil && e.boot.hidden():
		return Check{name, Unknown, fmt.Sprintf("sha256, and %s, which the boot log must cover", strings.Join(others, ", ")), asRoot}
	case e.boot.log == nil:
		return Check{name, Bad, fmt.Sprintf("%s active and covered by no boot log: refused (E_BANKS)", strings.Join(others, ", ")), disable}
	}
	for _, other := range others {
		if event, lacks := uncovered(e.boot.log, algorithmOf(other)); lacks {
			disable := fmt.Sprintf("disable %s in the firmware setup, or 'tpm2_pcrallocate %s:none', and restart", other, other)
			return Check{name, Bad, fmt.Sprintf("%s is active, and boot log event %d has no digest for it: refused (E_BANKS)", other, event), disable}
		}
	}
	return Check{name, OK, fmt.Sprintf("sha256, and %s, covered by the boot log", strings.Join(others, ", ")), ""}
}

// uncovered returns the first measured event without a digest for a bank.
func uncovered(l *eventlog.Log, bank eventlog.Algorithm) (event int, lacks bool) {
	for i := range l.Events {
		if _, has := l.Events[i].Digest(bank); l.Events[i].Measured() && !has {
			return l.Events[i].Number, true
		}
	}
	return 0, false
}

// bootID returns the id of this boot.
func (e *examination) bootID() (id [16]byte, ok bool) {
	text, err := e.line("/proc/sys/kernel/random/boot_id")
	text = strings.ReplaceAll(text, "-", "")
	if err != nil || len(text) != 32 {
		return id, false
	}
	for i := range id {
		n, err := strconv.ParseUint(text[2*i:2*i+2], 16, 8)
		if err != nil {
			return id, false
		}
		id[i] = byte(n)
	}
	return id, true
}

// privileged reports whether this process is root.
func privileged() bool { return os.Geteuid() == 0 }
