// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/jurat-dev/jurat/agent/internal/logstore"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/tpm"
)

// Anchor says how checkpoints are anchored in the TPM (spec/evidence.md section
// 6.1).
type Anchor struct {
	Mode  string // evidence.AnchorNVLatch, AnchorNvPCR or AnchorNone
	Index uint32 // NV index; 0: the default one, with AnchorNvPCR there is none
	Latch uint8  // PCR that gates the first write; 0: the default one
}

// journal is where it is written down what the register is extended by, before
// it is (*logstore.Log).
type journal interface {
	Anchor() *logstore.Anchor
	BeginAnchor(logstore.AnchorHeader) error
	AppendAnchor(number uint64, digest evidence.Hash) error
	BreakAnchor() error
}

// standing is how the register compares with the journal.
type standing uint8

const (
	unsettled standing = iota // not looked at, or something went wrong since
	unbound                   // there is no register
	fresh                     // nobody wrote to it since the TPM started: the next checkpoint opens it
	opened                    // by the first checkpoint; the latch is not closed yet
	behind                    // it lacks the last digest of the journal, and no other
	whole                     // it is what the journal makes
	broken                    // it is something else: not repaired before the TPM is reset
)

// anchor is the register that checkpoints are extended into (station 4). Like
// the TPM it is of the goroutine that answers; said is for everybody.
type anchor struct {
	options  Anchor
	journal  journal
	logger   *slog.Logger
	standing standing
	latch    *tpm.LatchRegister // nil with AnchorNvPCR
	register *tpm.Register
	header   logstore.AnchorHeader // that a fresh register gets

	said atomic.Pointer[anchorWord]
}

// anchorWord is the mode as the status says it.
type anchorWord struct{ mode, why string }

func newAnchor(options Anchor, log journal, logger *slog.Logger) *anchor {
	r := &anchor{options: options, journal: log, logger: logger}
	if options.Mode == evidence.AnchorNone || options.Mode == "" {
		r.options.Mode, r.standing = evidence.AnchorNone, unbound
	}
	r.said.Store(&anchorWord{mode: r.options.Mode})
	return r
}

// mode is what a quote says of the register.
func (r *anchor) mode() string {
	if r.standing == broken {
		return evidence.AnchorBroken
	}
	return r.options.Mode
}

// bound tells whether there is a register that can be certified.
func (r *anchor) bound() bool { return r.standing == whole }

// unsettle has the register looked at again before it is used. The register
// itself belongs to a TPM that may be closed by now.
func (r *anchor) unsettle() {
	if r.options.Mode != evidence.AnchorNone {
		r.standing, r.latch, r.register = unsettled, nil, nil
	}
}

// breakFor gives the register up until the TPM is reset, and says so.
func (r *anchor) breakFor(why error) error {
	r.standing = broken
	r.said.Store(&anchorWord{evidence.AnchorBroken, why.Error()})
	r.logger.Error("the TPM's register does not bear the log out; nothing is anchored before the machine is restarted", "anchor", r.options.Mode, "found", why)
	have := r.journal.Anchor()
	if have == nil || have.Mode != r.header.Mode || have.ResetCount != r.header.ResetCount || !bytes.Equal(have.Name, r.header.Name) {
		return nil // it is about another register
	}
	return r.journal.BreakAnchor()
}

// settle looks at the register and compares it with the journal. What a crash
// left undone is done here: the last extend, the closing of the latch. What
// cannot be explained breaks the register, and is no error; an error is a TPM
// that cannot do what is asked of it.
func (r *anchor) settle(ctx context.Context, chip Chip, clock tpm.Clock, bootID evidence.Bytes) error {
	if r.standing == unbound {
		return nil
	}
	r.unsettle()
	r.header = logstore.AnchorHeader{Mode: r.options.Mode, BootID: bootID, ResetCount: clock.ResetCount, RestartCount: clock.RestartCount}
	look := r.settleLatch
	if r.options.Mode == evidence.AnchorNvPCR {
		look = r.settleNvPCR
	}
	found, err := look(ctx, chip)
	if unexplained, is := errors.AsType[*anchorError](err); is {
		return r.breakFor(unexplained)
	}
	if errors.Is(err, tpm.ErrDropped) {
		return r.breakFor(err)
	}
	if err != nil {
		return err
	}
	r.standing = found
	r.said.Store(&anchorWord{mode: r.options.Mode})
	return nil
}

// anchorError is what was found instead of a register that bears the log out.
type anchorError struct{ text string }

func (e *anchorError) Error() string { return e.text }

func unexplained(format string, args ...any) error {
	return &anchorError{fmt.Sprintf(format, args...)}
}

// settleLatch does it with the register that a PCR latches.
func (r *anchor) settleLatch(ctx context.Context, chip Chip) (standing, error) {
	latch, found, err := chip.Register(ctx, tpm.RegisterOptions{Index: r.options.Index, Latch: r.options.Latch})
	if err != nil {
		return unsettled, err
	}
	r.latch, r.register = latch, &latch.Register
	r.header.Name, r.header.Index, r.header.Latch = latch.Name(), latch.Index(), latch.Latch()
	now, err := judge(r.journal.Anchor(), found, &r.header)
	if err != nil {
		return unsettled, err
	}
	switch stage := found.Stage(); {
	case now == behind:
		return whole, r.register.Extend(ctx, r.journal.Anchor().Last)
	case now == opened:
		return whole, latch.CloseLatch(ctx, [16]byte(r.header.BootID))
	case stage == tpm.StageForeign:
		// A register of another latch was left by another configuration.
		if err := latch.Undefine(ctx); errors.Is(err, tpm.ErrForeign) {
			return unsettled, unexplained("%v; choose another index with -nv-index", err)
		} else if err != nil {
			return unsettled, err
		}
		return now, latch.Define(ctx)
	case stage == tpm.StageAbsent:
		return now, latch.Define(ctx)
	}
	return now, nil
}

// judge compares a latched register with the journal. The header says which
// register it is, in which boot, since which start of the TPM.
func judge(have *logstore.Anchor, found tpm.RegisterState, now *logstore.AnchorHeader) (standing, error) {
	ours := have != nil && have.Mode == now.Mode && bytes.Equal(have.Name, now.Name) && have.ResetCount == now.ResetCount
	since := have != nil && have.ResetCount == now.ResetCount && have.RestartCount == now.RestartCount
	switch stage := found.Stage(); stage {
	case tpm.StageAbsent, tpm.StageDefined, tpm.StageForeign:
		if since && have.Count > 1 {
			return unsettled, unexplained("the register (%s) and PCR %d are as after a reset of the TPM, which counts none; %d checkpoints had been anchored", stage, now.Latch, have.Count)
		}
		return fresh, nil
	case tpm.StageLost:
		return unsettled, unexplained("PCR %d is %s, and nothing was written to the register: something else extended that PCR (then choose another with -latch-pcr), or removed the register", now.Latch, found.Latch)
	case tpm.StageOpen:
		if !ours || have.Count != 1 || have.Value != found.Value {
			return unsettled, unexplained("the register was opened by somebody else: its value is %s", found.Value)
		}
		return opened, nil
	}
	if !found.ClosedIn([16]byte(now.BootID)) {
		if ours && len(have.BootID) == 16 && found.ClosedIn([16]byte(have.BootID)) {
			return unsettled, unexplained("PCR %d was closed in boot %s, this is boot %s: the kernel was started without the TPM being reset (kexec)", now.Latch, have.BootID, now.BootID)
		}
		return unsettled, unexplained("PCR %d is %s, closed by somebody else", now.Latch, found.Latch)
	}
	if !ours {
		return unsettled, unexplained("the register has the value %s, and what was anchored in it is not on record", found.Value)
	}
	return compare(have, found.Value)
}

// compare holds the value of a register that was written to against the
// journal.
func compare(have *logstore.Anchor, value evidence.Hash) (standing, error) {
	switch {
	case have.Broken:
		return unsettled, unexplained("it was found broken before, and the TPM was not reset since")
	case value == have.Value:
		return whole, nil
	case value == have.Before && have.Count > 0:
		return behind, nil
	}
	return unsettled, unexplained("the register has the value %s, %d checkpoints make %s", value, have.Count, have.Value)
}

// put extends the register by a checkpoint. The checkpoint is on disk, and its
// digest is before the TPM gets to see it: a register that holds more than the
// journal would be nobody's.
func (r *anchor) put(ctx context.Context, check *sealed) error {
	if r.standing == unbound || r.standing == broken {
		return nil
	}
	first := r.standing == fresh
	if !first && r.standing != whole {
		return errUnsettled
	}
	r.standing = unsettled
	if first {
		if err := r.journal.BeginAnchor(r.header); err != nil {
			return err
		}
	}
	digest := evidence.CheckpointDigest(check.raw)
	if err := r.journal.AppendAnchor(check.Number, digest); err != nil {
		return err
	}
	if !first || r.latch == nil {
		if err := r.register.Extend(ctx, digest); err != nil {
			return err
		}
	} else {
		if err := r.latch.Open(ctx, digest); err != nil {
			return err
		}
		if err := r.latch.CloseLatch(ctx, [16]byte(r.header.BootID)); err != nil {
			return err
		}
	}
	r.standing = whole
	return nil
}

// ErrAnchor says that this TPM has no register for the log. The agent does not
// go on without one unless it is told to.
var ErrAnchor = errors.New("the log cannot be anchored in the TPM")

var errUnsettled = errors.New("the register was not looked at")
