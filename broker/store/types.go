// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package store

import (
	"time"

	"github.com/jurat-dev/jurat/evidence"
)

// Space is a kind of thing that may be used once.
type Space string

// What may be used once.
const (
	SpaceNonce Space = "nonce" // SHA-256 of a challenge
	SpaceProof Space = "dpop"  // SHA-256(jkt || jti || htu) of a DPoP proof
	SpaceQuote Space = "quote" // SHA-256 of a quote's TPMS_ATTEST
)

// Host is one enrolled host.
type Host struct {
	Name     string        // as the operator calls it
	ID       string        // SPIFFE ID
	UEID     []byte        // 0x01 || SHA-256 of the EK
	EK       evidence.Hash // SHA-256 of the EK's SubjectPublicKeyInfo
	AKPublic []byte        // TPMT_PUBLIC
	AKName   []byte
	Level    string // how the EK is known
	Maker    string // TCG vendor id of the TPM; "": not known
	Machine  string // machine class, may be empty
	Enrolled time.Time
	Seen     time.Time     // last accepted evidence; zero: never
	Last     HostState     // zero before first contact
	BootLog  evidence.Hash // the log that is kept of it; zero: none
}

// HostState is how far a host's log was when it was last believed.
type HostState struct {
	Epoch, Sequence, Size uint64
	Root                  evidence.Hash
	JSON                  []byte // verify.State; nil before first contact
}

// Invitation is an operator's word that one host may enrol.
type Invitation struct {
	Token   evidence.Hash // SHA-256 of the one-time token
	Name    string
	ID      string // SPIFFE ID the host will have
	Machine string
	EKPin   []byte // SHA-256 of the EK's SubjectPublicKeyInfo, or empty: a certificate is wanted
	Created time.Time
	Expires time.Time
}

// Enrolment is a host between the two messages of its enrolment: it has shown
// an EK and an AK, and now has to show that they live in one TPM.
type Enrolment struct {
	ID       string
	Token    evidence.Hash // of the invitation
	Secret   evidence.Hash // SHA-256 of what only the right TPM can say
	UEID     []byte
	EK       evidence.Hash
	AKPublic []byte
	AKName   []byte
	Level    string
	Maker    string
	Expires  time.Time
}

// Kinds of documents.
const (
	KindWorkload = "workload" // registration and reference values, by SPIFFE ID
	KindMachine  = "machine"  // boot reference values, by machine class
)

// Document is a registration as canonical JSON.
type Document struct {
	Kind, Name string
	Body       []byte
	Digest     evidence.Hash // SHA-256 of Body
	Updated    time.Time
}

// Approver is a person who may be asked, with the keys registered for them.
type Approver struct {
	Issuer, Subject string
	Salt            []byte // keys the pseudonym in the log; nil after EraseApprover
	Added           time.Time
	Keys            []ApproverKey
}

// ApproverKey is one registered public key of a person.
type ApproverKey struct {
	Fingerprint string // "SHA256:…" as ssh-keygen prints it
	Key         []byte // in SSH wire format
	Added       time.Time
	Removed     time.Time // zero: still good
}

// Resource is a protected system that may ask about tokens for its audience.
type Resource struct {
	ID       string
	Audience string
	Secret   evidence.Hash // SHA-256 of its secret
	Updated  time.Time
}

// State is where a delegation stands.
type State string

// The states of a delegation, and what ends each:
//
//	requested -> approved -> used
//	    |            |         |
//	    +-> refused  +---------+-> revoked, expired
//	    +-> revoked, expired
const (
	StateRequested State = "requested"
	StateApproved  State = "approved"
	StateRefused   State = "refused"
	StateRevoked   State = "revoked"
	StateExpired   State = "expired"
	StateUsed      State = "used" // no use is left; credentials may still live
)

// Delegation is one object D with what became of it. The columns beside Object
// are for looking up and counting; what may be issued, the caller reads from
// the signed bytes again.
type Delegation struct {
	ID          string
	D           evidence.Hash // delegation.Digest(Object)
	Object      []byte        // enc(D)
	Workload    string
	Issuer      string // of the approver
	Subject     string // of the approver
	State       State
	PerInstance bool // a use is a process instance, not a credential
	UsesLeft    uint64
	NotBefore   time.Time
	Expires     time.Time
	Requested   time.Time
	Updated     time.Time
}

// Answer is what a person signed about a delegation, byte for byte.
type Answer struct {
	D               evidence.Hash
	Act             string // "approval", "refusal", "revocation"
	Issuer, Subject string
	Method          string // "sshsig"
	Statement       []byte // what was signed; empty for an approval: enc(D)
	Signature       []byte // binary
	Key             []byte // public key, in the method's own form
	At              time.Time
}

// Evidence is a believed request of an accepted bundle, waiting to be spent.
type Evidence struct {
	Ref       evidence.Hash // SHA-256 of the one-time reference
	Txn       string        // of the submission
	Request   int           // index in the bundle
	Host      string        // SPIFFE ID
	D         evidence.Hash
	Appraisal []byte // JSON
	Expires   time.Time
}

// Token is what is remembered of an issued credential.
type Token struct {
	JTI        evidence.Hash // SHA-256 of the jti
	Txn        string
	Delegation string // id
	Workload   string // SPIFFE ID
	Host       string // SPIFFE ID
	Epoch      uint64 // of the host, when the evidence was made
	Instance   string
	Audience   string
	Thumbprint []byte // of the key it is bound to; empty: bearer
	Issued     time.Time
	Expires    time.Time
	Revoked    time.Time // zero: never
}

// Leaf is one entry of the log as stored.
type Leaf struct {
	Index uint64
	Txn   string
	Entry []byte
}

// Explanation is the long answer to "why", for those who may see it.
type Explanation struct {
	Index uint64 // of its entry in the log
	Txn   string
	JSON  []byte
}

// Head is the end of the log.
type Head struct {
	Size       uint64
	Root       evidence.Hash
	Checkpoint []byte // signed note; empty while the log is empty
}
