// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/jurat-dev/jurat/evidence"
)

// Reference is what one workload on one class of machines must look like. It
// is plain data with names for YAML and JSON. Nothing in it is optional in the
// sense of "not checked": an empty set matches nothing.
type Reference struct {
	ID       string           `yaml:"id" json:"id"`             // names this version of the values in results
	Workload string           `yaml:"workload" json:"workload"` // for hints
	Minimum  Minimum          `yaml:"minimum" json:"minimum"`
	Boot     BootReference    `yaml:"boot" json:"boot"`
	Code     CodeReference    `yaml:"code" json:"code"`
	Context  ContextReference `yaml:"context" json:"context"`
}

// Minimum is the weakest acceptable step of each ladder. A step that is not on
// the ladder, the empty one included, is never reached.
type Minimum struct {
	EK         string `yaml:"ek" json:"ek"`                 // ek-pin, cloud-ak-cert, ek-cert
	Anchor     string `yaml:"anchor" json:"anchor"`         // broken, none; nv-latch and nvpcr are one step
	Tier       string `yaml:"tier" json:"tier"`             // tracepoint, trampoline, lsm
	Provenance string `yaml:"provenance" json:"provenance"` // pinned, proved
	IMA        string `yaml:"ima" json:"ima"`               // none, confirmed
	// Signals that the sensor must see, beside exec, fork and exit (spec/evidence.md section 4.2.1).
	Signals []string `yaml:"signals,omitempty" json:"signals,omitempty"`
}

// How far the kernel's own list has to bear out what runs, weakest first.
const (
	IMANone      = "none"
	IMAConfirmed = "confirmed" // every executable file of the process is in the quoted list
)

// BootReference says how machines of a class boot. A PCR is accepted by its
// value, or by its events, of which each must be known; a PCR with neither does
// not count.
type BootReference struct {
	PCRs         map[int][]evidence.Hash `yaml:"pcrs" json:"pcrs"`
	Events       map[int][]BootEvent     `yaml:"events" json:"events"`
	SecureBoot   Set[string]             `yaml:"secure_boot" json:"secure_boot"`     // on, off, unknown
	CommandLines Set[string]             `yaml:"command_lines" json:"command_lines"` // of the kernel; none: the log has none
	Findings     []string                `yaml:"findings" json:"findings"`           // codes of what may be odd in the boot log
}

// BootEvent is one accepted event of a PCR, wherever it stands among the others.
type BootEvent struct {
	Digest   evidence.Hash `yaml:"digest" json:"digest"`
	Text     string        `yaml:"text" json:"text"`                   // for people
	Required bool          `yaml:"required,omitempty" json:"required"` // each boot has to have it
}

// CodeReference gives the accepted digests of everything that is executable in
// the process, and of what it is fed.
type CodeReference struct {
	Executables []Value    `yaml:"executables" json:"executables"`
	Loaders     Set[Value] `yaml:"loaders" json:"loaders"`     // ELF interpreters; a static program needs none
	Libraries   Set[Value] `yaml:"libraries" json:"libraries"` // every other file mapped executable
	Scripts     []Value    `yaml:"scripts" json:"scripts"`     // for executables marked interpreter

	// Bound is how a script must at least be bound to the process: argument (also
	// when empty; found by a name after the fact), gate, kernel.
	Bound     string     `yaml:"bound,omitempty" json:"bound,omitempty"`
	Manifests []Value    `yaml:"manifests,omitempty" json:"manifests,omitempty"` // roots of accepted sets of opened code files
	Files     Set[Value] `yaml:"files,omitempty" json:"files,omitzero"`          // code files that may be opened, whatever the set
	Models    Set[Value] `yaml:"models,omitempty" json:"models,omitzero"`        // model weights that may be opened
	Inputs    Set[Value] `yaml:"inputs,omitempty" json:"inputs,omitzero"`        // declared inputs: a prompt, a configuration of tools
	// AcceptedTaints are taints that this program, or its host, causes in good faith.
	AcceptedTaints []string `yaml:"accepted_taints,omitempty" json:"accepted_taints,omitempty"`
}

// Value is one digest, and who vouches for it.
type Value struct {
	Digest      string    `yaml:"digest" json:"digest"` // "sha-256:…" or "fsverity-sha-256:…", as evidence shows it
	Label       string    `yaml:"label" json:"label"`   // for people, such as "invoice-agent 1.4.2"
	Provenance  string    `yaml:"provenance" json:"provenance"`
	By          string    `yaml:"by" json:"by"` // the operator who pinned it, or the builder that was proved
	At          time.Time `yaml:"at" json:"at"`
	Interpreter bool      `yaml:"interpreter" json:"interpreter"`               // an executable that is nothing without its script
	Required    bool      `yaml:"required,omitempty" json:"required,omitempty"` // a model or an input that must be there
}

// How a digest came to be accepted, weakest first.
const (
	Pinned = "pinned" // an operator says so
	Proved = "proved" // a signed statement of its builder was verified
)

// ContextReference gives the accepted circumstances of the process.
type ContextReference struct {
	Units         Set[string]         `yaml:"units" json:"units"` // systemd units; "" stands for none
	UIDs          Set[uint32]         `yaml:"uids" json:"uids"`   // real, effective, saved and file system uid alike
	GIDs          Set[uint32]         `yaml:"gids" json:"gids"`
	Cgroups       Set[string]         `yaml:"cgroups" json:"cgroups"`
	Containers    Set[string]         `yaml:"containers" json:"containers"`         // images; "none" stands for no container
	Ancestors     Set[string]         `yaml:"ancestors" json:"ancestors"`           // digests that parents up to process 1 may have
	Origins       []string            `yaml:"origins" json:"origins"`               // exec, fork, seen; empty: exec alone
	UserNamespace string              `yaml:"user_namespace" json:"user_namespace"` // "initial", also when empty, or "any"
	Environment   map[string][]string `yaml:"environment" json:"environment"`       // accepted values of the variables named
}

// Words with a meaning in references.
const (
	NoContainer      = "none"
	InitialNamespace = "initial"
)

// initialUserNamespace is the inode of the first user namespace on every Linux
// (PROC_USER_INIT_INO, include/linux/proc_ns.h).
const initialUserNamespace = 0xEFFFFFFD

// Check says what in the reference can never match or means something else
// than it seems, or nil. Brokers call it when they load one.
func (r *Reference) Check() error {
	switch m := r.Minimum; {
	case levelRank(m.EK) == 0:
		return fmt.Errorf("reference minimum.ek: %q is not ek-pin, cloud-ak-cert or ek-cert", m.EK)
	case anchorRank(m.Anchor) == 0:
		return fmt.Errorf("reference minimum.anchor: %q is not broken, none, nv-latch or nvpcr", m.Anchor)
	case tierRank(m.Tier) == 0:
		return fmt.Errorf("reference minimum.tier: %q is not tracepoint, trampoline or lsm", m.Tier)
	case vouchRank(m.Provenance) == 0:
		return fmt.Errorf("reference minimum.provenance: %q is not pinned or proved", m.Provenance)
	case imaRank(m.IMA) == 0:
		return fmt.Errorf("reference minimum.ima: %q is not none or confirmed", m.IMA)
	}
	for _, name := range r.Minimum.Signals {
		if rank(name, signalNames[:]...) == 0 {
			return fmt.Errorf("reference minimum.signals: there is no signal %q", name)
		}
	}
	if err := r.Boot.Check(); err != nil {
		return fmt.Errorf("reference %v", err)
	}
	if err := r.Code.check(); err != nil {
		return err
	}
	return r.Context.check()
}

// Check says what in the boot values can never match or never counts, or nil.
func (b *BootReference) Check() error {
	for _, pcr := range b.indexes() {
		if pcr < 0 || pcr > 23 || pcr == 16 || pcr == 23 {
			return fmt.Errorf("boot: PCR %d never counts", pcr)
		}
	}
	for pcr, values := range b.PCRs {
		if len(values) == 0 {
			return fmt.Errorf("boot.pcrs: PCR %d has no accepted value", pcr)
		}
	}
	for pcr, events := range b.Events {
		if len(events) == 0 {
			return fmt.Errorf("boot.events: PCR %d has no accepted event", pcr)
		}
	}
	for _, state := range b.SecureBoot.Of {
		if rank(state, "on", "off", "unknown") == 0 {
			return fmt.Errorf("boot.secure_boot: %q is not on, off or unknown", state)
		}
	}
	return nil
}

func (c *CodeReference) check() error {
	for _, group := range []struct {
		name   string
		values []Value
	}{{"executables", c.Executables}, {"loaders", c.Loaders.Of}, {"libraries", c.Libraries.Of}, {"scripts", c.Scripts},
		{"manifests", c.Manifests}, {"files", c.Files.Of}, {"models", c.Models.Of}, {"inputs", c.Inputs.Of}} {
		seen := make(map[string]bool, len(group.values))
		for i, v := range group.values {
			where := fmt.Sprintf("reference code.%s[%d]", group.name, i)
			if err := checkDigest(v.Digest); err != nil {
				return fmt.Errorf("%s: %v", where, err)
			}
			if vouchRank(v.Provenance) == 0 {
				return fmt.Errorf("%s: provenance %q is not pinned or proved", where, v.Provenance)
			}
			if v.By == "" || v.At.IsZero() {
				return fmt.Errorf("%s: does not say by whom and when it was %s", where, v.Provenance)
			}
			if v.Interpreter && group.name != "executables" {
				return fmt.Errorf("%s: only executables can be interpreters", where)
			}
			if v.Required && group.name != "models" && group.name != "inputs" {
				return fmt.Errorf("%s: only models and inputs can be required", where)
			}
			if seen[v.Digest] {
				return fmt.Errorf("%s: digest %s is listed twice", where, v.Digest)
			}
			seen[v.Digest] = true
		}
	}
	return c.checkWords()
}

func (c *CodeReference) checkWords() error {
	if rank(c.Bound, "", evidence.BoundArgument, evidence.BoundGate, evidence.BoundKernel) == 0 {
		return fmt.Errorf("reference code.bound: %q is not argument, gate or kernel", c.Bound)
	}
	for _, name := range c.AcceptedTaints {
		switch t, ok := taintNamed(name); {
		case !ok:
			return fmt.Errorf("reference code.accepted_taints: there is no taint %q", name)
		case !t.Acceptable:
			return fmt.Errorf("reference code.accepted_taints: %s is never accepted: %s", name, t.Meaning)
		}
	}
	return nil
}

func (c *ContextReference) check() error {
	for i, digest := range c.Ancestors.Of {
		if err := checkDigest(digest); err != nil {
			return fmt.Errorf("reference context.ancestors[%d]: %v", i, err)
		}
	}
	for _, origin := range c.Origins {
		if rank(origin, evidence.OriginExec, evidence.OriginFork, evidence.OriginSeen) == 0 {
			return fmt.Errorf("reference context.origins: %q is not exec, fork or seen", origin)
		}
	}
	switch c.UserNamespace {
	case "", InitialNamespace, anyWord:
		return nil
	}
	return fmt.Errorf("reference context.user_namespace: %q is not initial or any", c.UserNamespace)
}

// checkDigest wants the form that evidence shows: algorithm and 64 hexadecimal
// digits in lower case.
func checkDigest(digest string) error {
	algorithm, value, _ := strings.Cut(digest, ":")
	raw, err := hex.DecodeString(value)
	if rank(algorithm, "sha-256", "fsverity-sha-256") == 0 || err != nil || len(raw) != 32 || strings.ToLower(value) != value {
		return fmt.Errorf("digest %q is not sha-256: or fsverity-sha-256: and 64 hexadecimal digits", digest)
	}
	return nil
}
