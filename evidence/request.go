// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package evidence

import "fmt"

// RequestVersion is the only version of requests there is.
const RequestVersion = 1

// TaskType is the authorization_details type of a jurat task (RFC 9396).
const TaskType = "https://jurat.dev/rar/task"

// Confirmation methods: what a credential will be bound to.
const (
	ConfirmBearer = "bearer"   // nothing; only where a policy says so
	ConfirmJKT    = "jkt"      // DPoP key thumbprint (RFC 9449, RFC 7638)
	ConfirmX5T    = "x5t#S256" // client certificate (RFC 8705)
)

// Request is one leaf of a batch (spec/evidence.md section 7): for which
// challenge, delegation, audience, task and key this evidence is made, and for
// which process. Evidence made for one request buys nothing else.
type Request struct {
	_       struct{} `cbor:",toarray"`
	Version uint64   `json:"version"`
	Blind   Hash     `json:"blind"`  // random; hides a leaf from its neighbours
	Broker  string   `json:"broker"` // issuer URL
	Nonce   Bytes    `json:"nonce"`  // the broker's challenge
	D       Hash     `json:"d"`      // content hash of the delegation
	// Audience, Actions and Datatypes are what is asked for: at most what D allows.
	Audience  string   `json:"audience"`
	Actions   []string `json:"actions"`
	Datatypes []string `json:"datatypes"`
	Confirm   Confirm  `json:"confirm"`
	Subject   Subject  `json:"subject"`
	Before    State    `json:"before"`
	Number    uint64   `json:"checkpoint_number"`
}

// Confirm is the key the credential is asked for.
type Confirm struct {
	_          struct{} `cbor:",toarray"`
	Method     string   `json:"method"`
	Thumbprint Bytes    `json:"thumbprint"` // SHA-256; empty for ConfirmBearer
}

// Subject names the log entry (KindProcess) of the process that asks.
type Subject struct {
	_        struct{} `cbor:",toarray"`
	Instance Instance `json:"instance"`
	Index    uint64   `json:"index"`
	Leaf     Hash     `json:"leaf"`
}

// State is one look at a process during the issuance sandwich (spec/evidence.md
// section 7.1). The first look is in the quoted request, the second follows
// the quote.
type State struct {
	_          struct{}        `cbor:",toarray"`
	At         uint64          `json:"at_ns"`
	Alive      bool            `json:"alive"`
	Generation uint32          `json:"generation"`
	Taints     []string        `json:"taints"`
	Lost       uint64          `json:"lost"`          // kernel records lost in this epoch, all read up to now
	Unmeasured Value[uint64]   `json:"unmeasured"`    // executable mappings, code files and models without a measured file
	Private    Value[uint64]   `json:"private_pages"` // copied pages in file-backed executable mappings
	Tracer     Value[uint32]   `json:"tracer"`        // pid of the tracer, 0: none
	Missing    Value[[]string] `json:"missing_files"` // mapped or measured files changed since
	Changed    Value[[]string] `json:"changed"`       // context that is not what was measured: "credentials", "namespaces", "cgroup", "root"
}

// Marshal returns the canonical bytes of r.
func (r *Request) Marshal() []byte { return mustEncode(r, (*Request).wire) }

// ParseRequest decodes one request in canonical form.
func ParseRequest(data []byte) (*Request, error) {
	if len(data) > MaxRequest {
		return nil, fmt.Errorf("request of %d bytes, at most %d", len(data), MaxRequest)
	}
	r := new(Request)
	if err := decode(data, r, (*Request).wire); err != nil {
		return nil, fmt.Errorf("malformed request: %v", err)
	}
	if r.Version != RequestVersion {
		return nil, fmt.Errorf("request version %d, want %d", r.Version, RequestVersion)
	}
	if len(r.Nonce) < MinNonce || len(r.Nonce) > MaxNonce {
		return nil, fmt.Errorf("request has a nonce of %d bytes, want %d to %d", len(r.Nonce), MinNonce, MaxNonce)
	}
	return r, r.Confirm.check()
}

func (c Confirm) check() error {
	switch {
	case c.Method == ConfirmBearer && len(c.Thumbprint) == 0:
		return nil
	case (c.Method == ConfirmJKT || c.Method == ConfirmX5T) && len(c.Thumbprint) == 32:
		return nil
	}
	return fmt.Errorf("confirmation method %q with a thumbprint of %d bytes", c.Method, len(c.Thumbprint))
}
