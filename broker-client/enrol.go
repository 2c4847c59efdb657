// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package brokerclient

import (
	"context"
	"fmt"
	"time"

	"github.com/jurat-dev/jurat/evidence"
)

// EnrolRequest asks the broker to know a host (spec/broker-api.md, enrolment).
type EnrolRequest struct {
	Host           string   `json:"host"`            // name the operator gave it
	Token          string   `json:"token"`           // one-time enrolment token
	EKCertificates [][]byte `json:"ek_certificates"` // DER, leaf first; may be empty where the EK is pinned
	EKPublic       []byte   `json:"ek_public"`       // TPMT_PUBLIC
	AKPublic       []byte   `json:"ak_public"`       // TPMT_PUBLIC
	// AKCertificates is what a cloud provider certified of the attestation key,
	// DER, leaf first. With them the answer needs a [Possession].
	AKCertificates [][]byte `json:"ak_certificates,omitempty"`
}

// Possession is a quote by a certified attestation key over
// [evidence.PossessionDigest] of the secret.
type Possession struct {
	Attest    []byte `json:"attest"`    // TPMS_ATTEST
	Signature []byte `json:"signature"` // TPMT_SIGNATURE
}

// Enrolment is the broker's question to the TPM: only the TPM that holds the
// endorsement key can answer it, and only for that attestation key.
type Enrolment struct {
	ID             string
	CredentialBlob []byte // TPM2B_ID_OBJECT contents
	Secret         []byte // TPM2B_ENCRYPTED_SECRET contents
	ExpiresIn      time.Duration
}

// Identity is what the broker calls an enrolled host, and what the host must
// know of the broker.
type Identity struct {
	Host      string         `json:"host"` // spiffe://TRUST-DOMAIN/host/NAME
	UEID      evidence.Bytes `json:"ueid"` // 01 || SHA-256(SPKI of the endorsement key)
	Level     string         `json:"level"`
	Issuer    string         `json:"issuer"`
	LogOrigin string         `json:"log_origin"`
	LogKey    string         `json:"log_key"` // c2sp signed-note verifier key
}

// Enrol sends the host's keys and returns the broker's question.
func (c *Client) Enrol(ctx context.Context, r EnrolRequest) (*Enrolment, error) {
	const op = "enrolling"
	if r.EKCertificates == nil {
		r.EKCertificates = [][]byte{}
	}
	q, err := c.jsonCall(op, "/v1/enrol", r)
	if err != nil {
		return nil, err
	}
	var out struct {
		ID             string `json:"enrolment"`
		CredentialBlob []byte `json:"credential_blob"`
		Secret         []byte `json:"secret"`
		ExpiresIn      int64  `json:"expires_in"`
	}
	if err := c.do(ctx, q, &out); err != nil {
		return nil, err
	}
	if out.ID == "" || len(out.CredentialBlob) == 0 || len(out.Secret) == 0 {
		return nil, badAnswer(op, "want enrolment, credential_blob and secret")
	}
	return &Enrolment{
		ID: out.ID, CredentialBlob: out.CredentialBlob, Secret: out.Secret,
		ExpiresIn: time.Duration(out.ExpiresIn) * time.Second,
	}, nil
}

// Activate answers the broker's question with what the TPM decrypted, and with
// the key's own word where a provider certified it; else proof is nil.
func (c *Client) Activate(ctx context.Context, enrolment string, secret []byte, proof *Possession) (*Identity, error) {
	const op = "activating the enrolment"
	q, err := c.jsonCall(op, "/v1/enrol/activate", struct {
		ID     string      `json:"enrolment"`
		Secret []byte      `json:"secret"`
		Proof  *Possession `json:"ak_quote,omitempty"`
	}{enrolment, secret, proof})
	if err != nil {
		return nil, err
	}
	id := new(Identity)
	if err := c.do(ctx, q, id); err != nil {
		return nil, err
	}
	if err := id.Check(c.issuer); err != nil {
		return nil, badAnswer(op, "%v", err)
	}
	return id, nil
}

// Check reports what makes the identity unusable with that issuer.
func (i *Identity) Check(issuer string) error {
	switch {
	case i.Host == "":
		return fmt.Errorf("identity names no host")
	case len(i.UEID) != 33 || i.UEID[0] != 1:
		return fmt.Errorf("ueid %s, want 33 bytes beginning with 01", i.UEID)
	case i.Issuer != issuer:
		return fmt.Errorf("issuer %q, asked %q", i.Issuer, issuer)
	}
	return nil
}
