// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	brokerclient "github.com/jurat-dev/jurat/broker-client"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/tpm"
)

// Enrolling is what enrolment needs.
type Enrolling struct {
	State  string // directory, made if there is none
	TPM    string
	Client *brokerclient.Client
	Host   string // name the operator gave the host
	Token  string // one-time
	// AKCertificates is what a cloud provider certified of the attestation key,
	// DER, leaf first; nil on any other machine.
	AKCertificates [][]byte
}

// Enrol makes this host known to the broker: the broker asks the TPM a
// question that only the TPM with this endorsement key can answer, and only
// for its attestation key. A host that is enrolled there already stays as it
// is; then news is false.
func Enrol(ctx context.Context, e Enrolling) (id Identity, news bool, err error) {
	if err := makeState(e.State); err != nil {
		return id, false, err
	}
	dev, err := tpm.Open(e.TPM)
	if err != nil {
		return id, false, err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	ak, err := dev.CreateAK(ctx, rotation)
	if err != nil {
		return id, false, err
	}
	id, err = ReadIdentity(e.State)
	switch {
	case err == nil && id.Issuer == e.Client.Issuer() && bytes.Equal(id.AKName, ak.Name()):
		return id, false, nil
	case err == nil:
		return id, false, fmt.Errorf("%s holds the identity %s at %s with attestation key %s: remove it to enrol anew",
			e.State, id.Host, id.Issuer, id.AKName)
	case !errors.Is(err, ErrNotEnrolled):
		return id, false, err
	}
	eks, err := dev.EKs(ctx)
	if err != nil {
		return id, false, err
	}
	got, err := enrolWith(ctx, e, ak, eks)
	if err != nil {
		return id, false, err
	}
	id = Identity{Identity: *got, AKName: ak.Name()}
	raw, err := json.MarshalIndent(&id, "", "  ")
	if err != nil {
		return id, false, err
	}
	// What was seen of an earlier broker's log says nothing about this one's.
	if err := os.Remove(filepath.Join(e.State, headName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return id, false, err
	}
	return id, true, writeFile(e.State, identityName, append(raw, '\n'))
}

// enrolWith offers the broker the TPM's endorsement keys, those with a
// certificate first, until it takes one.
func enrolWith(ctx context.Context, e Enrolling, ak *tpm.AK, eks []tpm.EK) (*brokerclient.Identity, error) {
	var errs []error
	said := make(map[string]bool)
	for _, ek := range eks {
		r := brokerclient.EnrolRequest{Host: e.Host, Token: e.Token, EKPublic: ek.Public, AKPublic: ak.Public(), AKCertificates: e.AKCertificates}
		if ek.Certificate != nil {
			r.EKCertificates = append([][]byte{ek.Certificate}, ek.Chain...)
		}
		question, err := e.Client.Enrol(ctx, r)
		if err != nil {
			if !said[err.Error()] {
				errs = append(errs, fmt.Errorf("endorsement key %s: %w", ek.Algorithm, err))
			}
			said[err.Error()] = true
			if _, refused := errors.AsType[*brokerclient.Refusal](err); !refused {
				break
			}
			continue
		}
		secret, err := ak.ActivateCredential(ctx, ek, question.CredentialBlob, question.Secret)
		if err != nil {
			return nil, fmt.Errorf("endorsement key %s: %w", ek.Algorithm, err)
		}
		proof, err := possession(ctx, e, ak, secret)
		if err != nil {
			return nil, err
		}
		return e.Client.Activate(ctx, question.ID, secret, proof)
	}
	return nil, errors.Join(errs...)
}

// possession has a certified key speak for itself: an EK that nobody vouches for
// opens a challenge for any key.
func possession(ctx context.Context, e Enrolling, ak *tpm.AK, secret []byte) (*brokerclient.Possession, error) {
	if len(e.AKCertificates) == 0 {
		return nil, nil
	}
	quote, err := ak.Quote(ctx, evidence.PossessionDigest(secret))
	if err != nil {
		return nil, err
	}
	return &brokerclient.Possession{Attest: quote.Attest, Signature: quote.Signature}, nil
}

// makeState makes the state directory, for root alone.
func makeState(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return os.Chmod(dir, 0o700)
	}
	return nil
}
