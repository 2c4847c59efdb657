// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package brokerclient

import (
	"context"
	"encoding/base64"
	"net/http"
	"time"

	"github.com/jurat-dev/jurat/evidence"
)

// Metadata is what the client reads of the broker's RFC 8414 document.
type Metadata struct {
	Issuer    string `json:"issuer"`
	LogOrigin string `json:"jurat_log_origin"`
}

// Metadata fetches the broker's document and refuses one that speaks for
// another issuer (RFC 8414 section 3.3).
func (c *Client) Metadata(ctx context.Context) (*Metadata, error) {
	const op = "reading the broker's metadata"
	m := new(Metadata)
	q := call{op: op, method: http.MethodGet, url: c.wellKnown("oauth-authorization-server")}
	if err := c.do(ctx, q, m); err != nil {
		return nil, err
	}
	if m.Issuer != c.issuer {
		return nil, badAnswer(op, "issuer %q, asked %q", m.Issuer, c.issuer)
	}
	return m, nil
}

// Challenge is what evidence has to answer, and what the broker already has.
type Challenge struct {
	Nonce        []byte
	Text         string // the nonce as the broker wrote it, for DPoP proofs
	ExpiresIn    time.Duration
	LogSize      uint64        // the log the broker last believed
	BootLog      evidence.Hash // boot log it has; zero: none
	RegisterSize uint64        // checkpoints it knows in the register; 0: none
	IMACount     uint64        // entries of the IMA list it has
}

// Challenge asks for a challenge for the host.
func (c *Client) Challenge(ctx context.Context, host string) (*Challenge, error) {
	const op = "asking for a challenge"
	q, err := c.jsonCall(op, "/oauth/challenge", struct {
		Host string `json:"host"`
	}{host})
	if err != nil {
		return nil, err
	}
	var out struct {
		Challenge string `json:"attestation_challenge"`
		ExpiresIn int64  `json:"expires_in"`
		Have      struct {
			LogSize      uint64 `json:"log_size"`
			BootLog      string `json:"boot_log"`
			RegisterSize uint64 `json:"register_size"`
			IMACount     uint64 `json:"ima_count"`
		} `json:"have"`
	}
	if err := c.do(ctx, q, &out); err != nil {
		return nil, err
	}
	ch := &Challenge{
		Text: out.Challenge, ExpiresIn: time.Duration(out.ExpiresIn) * time.Second,
		LogSize: out.Have.LogSize, RegisterSize: out.Have.RegisterSize, IMACount: out.Have.IMACount,
	}
	ch.Nonce, err = base64.RawURLEncoding.Strict().DecodeString(out.Challenge)
	switch {
	case err != nil || len(ch.Nonce) < evidence.MinNonce || len(ch.Nonce) > evidence.MaxNonce:
		return nil, badAnswer(op, "attestation_challenge of %d characters, want base64url of %d to %d bytes",
			len(out.Challenge), evidence.MinNonce, evidence.MaxNonce)
	case out.ExpiresIn <= 0:
		return nil, badAnswer(op, "expires_in %d", out.ExpiresIn)
	}
	if out.Have.BootLog != "" {
		if err := ch.BootLog.UnmarshalText([]byte(out.Have.BootLog)); err != nil {
			return nil, badAnswer(op, "boot_log: %v", err)
		}
	}
	return ch, nil
}

// Submission is the broker's answer to a bundle.
type Submission struct {
	ExpiresIn time.Duration // of the references
	Txn       string
	Verdict   string
	Requests  []Appraised
}

// Appraised is the broker's answer to one request of a bundle.
type Appraised struct {
	Index     uint64  `json:"index"`
	Txn       string  `json:"txn"`
	Reference string  `json:"evidence_ref"` // one-time; empty where nothing was believed
	Verdict   string  `json:"verdict"`
	Failed    []Check `json:"failed"`
}

// SubmitEvidence posts one bundle in canonical form.
func (c *Client) SubmitEvidence(ctx context.Context, bundle []byte) (*Submission, error) {
	const op = "posting evidence"
	q := call{
		op: op, method: http.MethodPost, url: c.issuer + "/v1/evidence", body: bundle, limit: maxEvidenceAnswer,
		header: http.Header{"Content-Type": {evidence.MediaType}},
	}
	var out struct {
		ExpiresIn int64       `json:"expires_in"`
		Txn       string      `json:"txn"`
		Verdict   string      `json:"verdict"`
		Requests  []Appraised `json:"requests"`
	}
	if err := c.do(ctx, q, &out); err != nil {
		return nil, err
	}
	for i, r := range out.Requests {
		if i > 0 && r.Index <= out.Requests[i-1].Index {
			return nil, badAnswer(op, "request %d after %d, want ascending", r.Index, out.Requests[i-1].Index)
		}
	}
	return &Submission{
		ExpiresIn: time.Duration(out.ExpiresIn) * time.Second, Txn: printable(out.Txn), Verdict: printable(out.Verdict), Requests: out.Requests,
	}, nil
}

// Request returns the answer to the request of that index, or nil.
func (s *Submission) Request(index uint64) *Appraised {
	for i := range s.Requests {
		if s.Requests[i].Index == index {
			return &s.Requests[i]
		}
	}
	return nil
}
