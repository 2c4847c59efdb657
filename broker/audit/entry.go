// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package audit

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jurat-dev/jurat/evidence"
)

// Version is the only version of entries there is.
const Version = 1

// What a peer may rely on. An entry within the other caps is never above
// MaxEntry; a test holds the sum to it.
const (
	MaxEntry   = 4 << 10 // bytes of an encoded entry
	MaxName    = 256     // bytes of a SPIFFE ID, an audience, a target
	MaxActions = 32
	MaxAction  = 64 // bytes
	MaxFailed  = 6  // failed checks listed; the others are counted
	MaxWord    = 32 // bytes of a decision, an attestor, a check, a transaction id
	MaxID      = 40 // bytes of a delegation id
	MaxPerson  = 32 // bytes of a pseudonym
	MaxProcess = 96 // bytes of a process instance
)

// What an entry records.
const (
	TypeDecision   = "decision"   // evidence or a token was asked for and answered
	TypeDelegation = "delegation" // a delegation was asked for, or ended by itself
	TypeApproval   = "approval"   // a person said yes
	TypeRefusal    = "refusal"    // a person said no
	TypeRevocation = "revocation" // a person, an operator, a client or a new epoch ended something
	TypeKey        = "key"        // a person's key, or one of the broker's, came or went
	TypePolicy     = "policy"     // a workload or machine class was registered or changed
	TypeRefs       = "refs"       // reference values were changed
	TypeHost       = "host"       // a host was invited, enrolled or removed
	TypeAdmin      = "admin"      // anything else an operator did
)

var types = []string{TypeDecision, TypeDelegation, TypeApproval, TypeRefusal, TypeRevocation, TypeKey, TypePolicy, TypeRefs, TypeHost, TypeAdmin}

// Entry is one record of the broker's log (spec/broker-api.md, audit log).
// Fields that do not apply are empty.
type Entry struct {
	_            struct{}       `cbor:",toarray"`
	Version      uint64         `json:"v"`
	Type         string         `json:"type"`
	Time         uint64         `json:"time_ms"` // milliseconds since 1970, the broker's clock
	Txn          string         `json:"txn"`
	PrevTxn      string         `json:"prev_txn"` // the transaction this one goes on from, such as that of the evidence
	Decision     string         `json:"decision"` // one word: "allow", "deny", "enrolled", "removed", …
	Agent        string         `json:"agent"`    // SPIFFE ID of the workload
	Host         string         `json:"host"`     // SPIFFE ID of the host
	Instance     string         `json:"instance"` // process instance on it
	Human        evidence.Bytes `json:"human"`    // pseudonym, see Pseudonym
	Target       string         `json:"target"`   // what else it is about: a workload, machine class, resource or key
	Audience     string         `json:"audience"`
	Actions      []string       `json:"actions"`
	Failed       []Failure      `json:"failed"`
	FailedMore   uint64         `json:"failed_more"` // failed checks beyond MaxFailed
	Attestors    Vector         `json:"attestors"`
	Policy       evidence.Bytes `json:"policy_digest"` // SHA-256 of the registration that was applied
	Refs         evidence.Bytes `json:"refs_digest"`   // SHA-256 of the reference values that were applied
	DelegationID string         `json:"delegation_id"`
	D            evidence.Bytes `json:"d"`
	Evidence     evidence.Bytes `json:"evidence_digest"` // SHA-256 of the quote's TPMS_ATTEST
	JTI          evidence.Bytes `json:"jti_digest"`      // SHA-256 of the token's jti
	Material     evidence.Bytes `json:"material_digest"` // SHA-256 of what else was decided on: a signed answer, a public key
}

// Failure is one check that said no.
type Failure struct {
	_        struct{} `cbor:",toarray"`
	Attestor string   `json:"attestor"`
	Check    string   `json:"check"`
}

// Vector is what each attestor said, as AR4SI status: 0 none, 2 affirming,
// 32 warning, 96 contraindicated.
type Vector struct {
	_          struct{} `cbor:",toarray"`
	Hardware   uint8    `json:"hardware"`
	Boot       uint8    `json:"boot"`
	Code       uint8    `json:"code"`
	Provenance uint8    `json:"provenance"`
	Context    uint8    `json:"context"`
}

// Marshal returns the canonical bytes of e: what the log's leaf hashes.
func (e *Entry) Marshal() ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	return evidence.Marshal(e)
}

// ParseEntry decodes one entry in canonical form.
func ParseEntry(data []byte) (*Entry, error) {
	if len(data) > MaxEntry {
		return nil, fmt.Errorf("audit entry of %d bytes, at most %d", len(data), MaxEntry)
	}
	e := new(Entry)
	if err := evidence.Unmarshal(data, e); err != nil {
		return nil, fmt.Errorf("malformed audit entry: %v", err)
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *Entry) check() error {
	switch {
	case e.Version != Version:
		return fmt.Errorf("audit entry version %d, want %d", e.Version, Version)
	case !slices.Contains(types, e.Type):
		return fmt.Errorf("audit entry of unknown type %q", e.Type)
	case e.Time == 0:
		return fmt.Errorf("audit entry has no time")
	case e.Txn == "":
		return fmt.Errorf("audit entry has no transaction id")
	case e.Type == TypeDecision && e.Decision == "":
		return fmt.Errorf("audit entry of a decision does not say which")
	}
	for _, f := range []struct {
		name, value string
		most        int
	}{
		{"txn", e.Txn, MaxWord}, {"prev_txn", e.PrevTxn, MaxWord}, {"decision", e.Decision, MaxWord},
		{"agent", e.Agent, MaxName}, {"host", e.Host, MaxName}, {"instance", e.Instance, MaxProcess},
		{"target", e.Target, MaxName}, {"audience", e.Audience, MaxName}, {"delegation_id", e.DelegationID, MaxID},
	} {
		if err := checkWord(f.value, f.most); err != nil {
			return fmt.Errorf("audit entry %s: %v", f.name, err)
		}
	}
	if err := e.checkLists(); err != nil {
		return err
	}
	return e.checkDigests()
}

func (e *Entry) checkLists() error {
	if len(e.Actions) > MaxActions {
		return fmt.Errorf("audit entry lists %d actions, at most %d", len(e.Actions), MaxActions)
	}
	for _, a := range e.Actions {
		if err := checkWord(a, MaxAction); err != nil || a == "" {
			return fmt.Errorf("audit entry actions: malformed action %q", a)
		}
	}
	if len(e.Failed) > MaxFailed {
		return fmt.Errorf("audit entry lists %d failed checks, at most %d", len(e.Failed), MaxFailed)
	}
	for _, f := range e.Failed {
		for _, w := range []string{f.Attestor, f.Check} {
			if err := checkWord(w, MaxWord); err != nil {
				return fmt.Errorf("audit entry failed: %v", err)
			}
		}
	}
	return nil
}

func (e *Entry) checkDigests() error {
	for _, f := range []struct {
		name  string
		value []byte
	}{
		{"policy_digest", e.Policy}, {"refs_digest", e.Refs}, {"d", e.D}, {"evidence_digest", e.Evidence},
		{"jti_digest", e.JTI}, {"material_digest", e.Material}, {"human", e.Human},
	} {
		if len(f.value) != 0 && len(f.value) != 32 {
			return fmt.Errorf("audit entry %s has %d bytes, want 32 or none", f.name, len(f.value))
		}
	}
	return nil
}

// checkWord accepts printable ASCII without spaces, quotes or brackets: names,
// identifiers and URLs, no sentence.
func checkWord(s string, most int) error {
	if len(s) > most {
		return fmt.Errorf("%d bytes, at most %d", len(s), most)
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || strings.IndexByte("\"'<>\\`{}", s[i]) >= 0 {
			return fmt.Errorf("byte %d of %q is not allowed", i, s)
		}
	}
	return nil
}

// Fit cuts what a stranger chose down to what an entry may hold, so that a
// refusal is never left out of the log because of what was asked: actions that
// are no words or too many, an audience or instance that is none, failed checks
// beyond the cap.
func (e *Entry) Fit() {
	e.Actions = slices.DeleteFunc(slices.Clone(e.Actions), func(a string) bool { return a == "" || checkWord(a, MaxAction) != nil })
	e.Actions = e.Actions[:min(len(e.Actions), MaxActions)]
	for _, s := range []*string{&e.Audience, &e.Agent, &e.Target} {
		if checkWord(*s, MaxName) != nil {
			*s = ""
		}
	}
	if checkWord(e.Host, MaxName) != nil {
		e.Host = ""
	}
	if checkWord(e.Instance, MaxProcess) != nil {
		e.Instance = ""
	}
	if checkWord(e.DelegationID, MaxID) != nil {
		e.DelegationID = ""
	}
	if extra := len(e.Failed) - MaxFailed; extra > 0 {
		e.FailedMore += uint64(extra)
		e.Failed = slices.Clone(e.Failed[:MaxFailed])
	}
}
