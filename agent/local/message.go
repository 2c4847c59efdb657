// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package local

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// DefaultSocket is where juratd listens.
const DefaultSocket = "/run/jurat/agent.sock"

// Version is the only version of the protocol there is.
const Version = 1

// What a message may hold. Anything larger is refused before it is decoded.
const (
	MaxRequest = 16 << 10 // bytes of one request, its newline included
	MaxAnswer  = 8 << 20  // bytes of one answer: a whole bundle in base64
	maxText    = 4 << 10  // bytes of one text in a request
	maxList    = 32       // actions or datatypes
)

// Operations.
const (
	OpCredential = "credential" // a token
	OpProof      = "proof"      // the two headers of one HTTP request
	OpStatus     = "status"     // how the agent is
	OpBundle     = "bundle"     // the last evidence sent; root only

	// What an operator asks; root only.
	OpProcesses    = "processes"    // every process the sensor knows
	OpEvents       = "events"       // what happens, until the client hangs up
	OpMeasurements = "measurements" // every file whose digest is known
	OpExplain      = "explain"      // one process, measured now
)

// Greeting is what the server says first.
type Greeting struct {
	Version int `json:"jurat"`
}

// Request is the one message of a client. Which members may be set, Op says.
type Request struct {
	Version int    `json:"v"`
	Op      string `json:"op"`
	// Delegation is an id or the base64url of the delegation's content hash.
	Delegation string   `json:"delegation,omitempty"`
	Actions    []string `json:"actions,omitempty"`   // empty: all that was approved
	Datatypes  []string `json:"datatypes,omitempty"` // empty: all that were approved
	Bearer     bool     `json:"bearer,omitempty"`    // credential: not bound to a key, where policy allows it
	Child      bool     `json:"child,omitempty"`     // credential: for the child whose pidfd came along
	Method     string   `json:"method,omitempty"`    // proof
	URL        string   `json:"url,omitempty"`       // proof
	Nonce      string   `json:"nonce,omitempty"`     // proof: what the resource demanded (RFC 9449 section 9)
	PID        uint32   `json:"pid,omitempty"`       // explain: in the initial namespace; processes: none below it
}

// Credential is the answer to OpCredential.
type Credential struct {
	Token     string `json:"token"`
	TokenType string `json:"token_type"` // "DPoP" or "Bearer"
	ExpiresAt int64  `json:"expires_at"` // seconds since 1970
	Txn       string `json:"txn"`
	Audience  string `json:"audience"`
}

// Proof is the answer to OpProof: two header values, good for one request.
type Proof struct {
	Authorization string `json:"authorization"`
	DPoP          string `json:"dpop"`
	ExpiresAt     int64  `json:"expires_at"` // of the token
}

// Status is the answer to OpStatus.
type Status struct {
	Version     string `json:"version"`
	Host        string `json:"host"`
	Broker      string `json:"broker"`
	BrokerState string `json:"broker_state"` // "reachable", "unknown", or "unreachable: …"
	Tier        string `json:"tier"`
	Anchor      string `json:"anchor"`
	AnchorFault string `json:"anchor_fault,omitempty"` // why Anchor is "broken"
	Kernel      string `json:"kernel"`
	Identity    string `json:"peer_identity"` // how callers are identified: "scm-pidfd", "pidfd-open"
	Epoch       uint64 `json:"epoch"`
	Since       int64  `json:"epoch_since"` // seconds since 1970
	LogSize     uint64 `json:"log_size"`
	Checkpoint  uint64 `json:"checkpoint_number"`
	Sequence    uint64 `json:"quote_sequence"`
	Lost        uint64 `json:"lost"`
	Taints      uint64 `json:"taints"`
	Instances   int    `json:"instances"` // processes known
	Keys        int    `json:"keys"`      // processes that hold credentials
	Waiting     int    `json:"waiting"`   // requests waiting for a quote
	Quotes      uint64 `json:"quotes"`    // since the agent started
	Answered    uint64 `json:"requests_answered"`
}

// Bundle is the answer to OpBundle.
type Bundle struct {
	Bundle []byte `json:"bundle"` // evidence.MediaType
}

// Check names one check that said no.
type Check struct {
	Attestor string `json:"attestor"`
	Check    string `json:"check"`
}

// Error is the answer when there is no other.
type Error struct {
	Code    string  `json:"code"`
	Message string  `json:"message"`
	Failed  []Check `json:"failed,omitempty"`
	Txn     string  `json:"txn,omitempty"`
	Retry   string  `json:"retry,omitempty"`
}

func (e *Error) Error() string {
	text := e.Code + ": " + e.Message
	for i, f := range e.Failed {
		sep := ", "
		if i == 0 {
			sep = "; no from "
		}
		text += sep + f.Attestor + "/" + f.Check
	}
	if e.Txn != "" {
		text += "; txn " + e.Txn
	}
	return text
}

// Codes of an Error. Those from E_EXITED on are differences between the two
// looks at a process, or what made a look unclean: nothing was released.
const (
	CodeRequest     = "E_REQUEST"            // the request is malformed
	CodePeer        = "E_PEER"               // who asks is in doubt
	CodeForbidden   = "E_FORBIDDEN"          // not for this user
	CodeBusy        = "E_BUSY"               // too many requests at once
	CodeDeadline    = "E_DEADLINE"           // took too long
	CodeUnreachable = "E_BROKER_UNREACHABLE" // no answer from the broker
	CodeRefused     = "E_BROKER_REFUSED"     // the broker said no
	CodeBrokerLog   = "E_BROKER_LOG"         // the broker's log is not what it was
	CodeTPM         = "E_TPM"                // no quote
	CodeSensor      = "E_SENSOR"             // the kernel side does not answer
	CodeLog         = "E_LOG_BROKEN"         // the measurement log cannot go on
	CodeEpoch       = "E_EPOCH"              // the TPM was reset meanwhile
	CodeAnchor      = "E_ANCHOR"             // the TPM's register does not bear the log out
	CodeTooLarge    = "E_TOO_LARGE"          // the measurement does not fit the format
	CodeNone        = "E_NONE"               // there is nothing yet
	CodeInternal    = "E_INTERNAL"

	CodeExited     = "E_EXITED"        // the process ended
	CodeExec       = "E_EXEC"          // it runs another program now
	CodeTaint      = "E_TAINT"         // something spoilt it
	CodeLoss       = "E_LOSS"          // kernel records were lost meanwhile
	CodeUnmeasured = "E_UNMEASURED"    // an executable mapping has no measured file
	CodePrivate    = "E_PRIVATE_PAGES" // its text was written to
	CodeTraced     = "E_TRACED"        // a debugger is attached
	CodeChanged    = "E_FILE_CHANGED"  // a measured file changed
	CodeContext    = "E_CONTEXT"       // its credentials, namespaces, cgroup or root are others
	CodeUnknown    = "E_STATE_UNKNOWN" // one of the above could not be looked at
)

// Environmental reports whether the host or the network stands in the way, as
// against a no to this process.
func (e *Error) Environmental() bool {
	switch e.Code {
	case CodeBusy, CodeDeadline, CodeUnreachable, CodeTPM, CodeSensor, CodeLog, CodeEpoch, CodeAnchor, CodeNone, CodeInternal:
		return true
	}
	return false
}

// ParseRequest decodes one request. What it returns is well formed for its
// operation; who sent it is not in it.
func ParseRequest(line []byte) (*Request, error) {
	if len(line) > MaxRequest {
		return nil, fmt.Errorf("request of %d bytes, at most %d", len(line), MaxRequest)
	}
	r := new(Request)
	if err := decode(line, r); err != nil {
		return nil, fmt.Errorf("malformed request: %v", err)
	}
	if r.Version != Version {
		return nil, fmt.Errorf("request version %d, want %d", r.Version, Version)
	}
	return r, r.check()
}

// check refuses members that the operation does not read: a request that says
// more than is done would mislead whoever wrote it.
func (r *Request) check() error {
	if err := r.checkTexts(); err != nil {
		return err
	}
	allowed := Request{Version: r.Version, Op: r.Op}
	switch r.Op {
	case OpCredential:
		allowed.Delegation, allowed.Actions, allowed.Datatypes = r.Delegation, r.Actions, r.Datatypes
		allowed.Bearer, allowed.Child = r.Bearer, r.Child
	case OpProof:
		allowed.Delegation, allowed.Method, allowed.URL, allowed.Nonce = r.Delegation, r.Method, r.URL, r.Nonce
		if r.Method == "" || r.URL == "" {
			return fmt.Errorf("request for a proof names no method or no url")
		}
	case OpExplain:
		allowed.PID = r.PID
		if r.PID == 0 {
			return fmt.Errorf("request to explain names no pid")
		}
	case OpProcesses:
		allowed.PID = r.PID
	case OpStatus, OpBundle, OpEvents, OpMeasurements:
	default:
		return fmt.Errorf("unknown operation %q", r.Op)
	}
	if (r.Op == OpCredential || r.Op == OpProof) && r.Delegation == "" {
		return fmt.Errorf("request for a %s names no delegation", r.Op)
	}
	given, err := json.Marshal(r)
	if err != nil {
		return err
	}
	want, err := json.Marshal(&allowed)
	if err != nil {
		return err
	}
	if !bytes.Equal(given, want) {
		return fmt.Errorf("request for %s has members of another operation", r.Op)
	}
	return nil
}

func (r *Request) checkTexts() error {
	if len(r.Actions) > maxList || len(r.Datatypes) > maxList {
		return fmt.Errorf("request names %d actions and %d datatypes, at most %d each", len(r.Actions), len(r.Datatypes), maxList)
	}
	texts := []string{r.Op, r.Delegation, r.Method, r.URL, r.Nonce}
	for _, t := range append(append(texts, r.Actions...), r.Datatypes...) {
		if len(t) > maxText {
			return fmt.Errorf("request has a text of %d bytes, at most %d", len(t), maxText)
		}
	}
	for _, list := range [][]string{r.Actions, r.Datatypes} {
		for i, t := range list {
			if t == "" || (i > 0 && t <= list[i-1]) {
				return fmt.Errorf("request lists %q: want ascending, none twice, none empty", list)
			}
		}
	}
	return nil
}

// decode decodes exactly one JSON object into v: valid UTF-8, no unknown
// member, none twice in any case, nothing behind the end.
func decode(data []byte, v any) error {
	if !utf8.Valid(data) {
		return fmt.Errorf("not UTF-8")
	}
	if err := checkMembers(data); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// checkMembers refuses what encoding/json lets pass: a member given twice, or
// spelt in another case.
func checkMembers(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("want one JSON object")
	}
	seen := make(map[string]bool)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return err
		}
		name, _ := t.(string) // between members the decoder returns names only
		if name != strings.ToLower(name) || seen[name] {
			return fmt.Errorf("member %q twice or in another case", name)
		}
		seen[name] = true
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("something follows at byte %d", d.InputOffset())
	}
	return nil
}
