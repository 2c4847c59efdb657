// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/ek"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
)

type enrolRequest struct {
	Host           string   `json:"host"`
	Token          string   `json:"token"`
	Certificates   [][]byte `json:"ek_certificates"`
	AKCertificates [][]byte `json:"ak_certificates"` // a cloud provider's; may be missing
	EKPublic       []byte   `json:"ek_public"`
	AKPublic       []byte   `json:"ak_public"`
}

// postEnrol is the first message of an enrolment: the host shows its keys, and
// gets a question that only the TPM with that EK can answer, and only for that
// AK (V21).
func (b *Broker) postEnrol(w http.ResponseWriter, r *http.Request) *oauth.Error {
	var in enrolRequest
	if fault := readJSON(w, r, &in); fault != nil {
		return fault
	}
	now := b.Now()
	var invited store.Invitation
	err := b.store.View(r.Context(), func(s *store.Reader) (err error) {
		invited, err = s.Invitation(secretDigest(in.Token), now)
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrExpired), err == nil && invited.Name != in.Host:
		b.counters.add("enrolment-token")
		return denied("the enrolment token is unknown, used, expired or for another host")
	case err != nil:
		return b.unwritable("looking up an invitation", err)
	}
	found, err := b.judgeEK(&in, invited.EKPin, now)
	if err != nil {
		return b.refuseEnrolment(r, &invited, "ek", err)
	}
	if err := verify.CheckAK(in.AKPublic); err != nil {
		return b.refuseEnrolment(r, &invited, "ak", err)
	}
	return b.askTPM(w, r, &in, found, now)
}

// judged is an endorsement key, and why it is believed.
type judged struct {
	*ek.EK
	level string
	maker string // of the TPM, where a certificate that is believed says so
}

// judgeEK decides how far an endorsement key is believed: because of its
// certificate, because of one that a cloud provider gave the AK, or because an
// operator pinned it. What the operator's rules deny is believed for nothing.
func (b *Broker) judgeEK(in *enrolRequest, pin []byte, now time.Time) (*judged, error) {
	key, err := ek.ParseEK(in.EKPublic)
	if err != nil {
		return nil, err
	}
	if len(pin) > 0 && subtle.ConstantTimeCompare(pin, key.Pin[:]) != 1 {
		return nil, errors.New("the EK is not the one that the operator pinned")
	}
	makers := b.authorities.Load()
	if err := makers.Rules.DenyKey(key.Pin); err != nil {
		return nil, err
	}
	shown := makers.Examine(in.Certificates, key.SPKI, now)
	if err := shown.Denied(); err != nil {
		return nil, err
	}
	if shown.OK() {
		found := &judged{EK: key, level: verify.LevelCert}
		if shown.Leaf.TPM.Named {
			found.maker = MakerID(shown.Leaf.TPM.Manufacturer)
		}
		return found, nil
	}
	cause := shown.Err()
	if len(in.AKCertificates) > 0 {
		err := makers.CheckCloudAK(in.AKPublic, in.AKCertificates, now)
		var said *ek.Error
		switch {
		case err == nil:
			return &judged{EK: key, level: verify.LevelCloudAK}, nil
		case errors.As(err, &said) && said.Code == ek.CodeDenied:
			return nil, err
		case len(in.Certificates) == 0:
			cause = err
		}
	}
	if len(pin) > 0 {
		return &judged{EK: key, level: verify.LevelPin}, nil
	}
	return nil, cause
}

// MakerID is how a maker of TPMs is written in policies and in the store: the
// characters of its TCG vendor id, such as "IFX", or the id in digits where
// those are none.
func MakerID(m ek.Manufacturer) string {
	text := strings.TrimRight(string(m[:]), "\x00 ")
	for _, c := range []byte(text) {
		if c < '!' || c > '~' {
			return m.ID()
		}
	}
	if text == "" {
		return m.ID()
	}
	return text
}

func (b *Broker) askTPM(w http.ResponseWriter, r *http.Request, in *enrolRequest, key *judged, now time.Time) *oauth.Error {
	secret := make([]byte, ek.SecretSize)
	if _, err := io.ReadFull(b.Rand, secret); err != nil {
		return b.unwritable("reading randomness", err)
	}
	name := akName(in.AKPublic)
	question, err := key.Challenge(b.Rand, name, secret)
	if err != nil {
		return b.unwritable("making a credential", err)
	}
	id, _, err := b.secret()
	if err != nil {
		return b.unwritable("reading randomness", err)
	}
	err = b.store.Update(r.Context(), func(tx *store.Tx) error {
		if _, err := tx.Invitation(secretDigest(in.Token), now); err != nil {
			return err
		}
		return tx.PutEnrolment(store.Enrolment{
			ID: id, Token: secretDigest(in.Token), Secret: sha256.Sum256(secret), UEID: key.UEID(), EK: key.Pin,
			AKPublic: in.AKPublic, AKName: name, Level: key.level, Maker: key.maker, Expires: now.Add(enrolmentLife),
		})
	})
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrExpired) {
		return denied("the enrolment token is unknown, used, expired or for another host")
	}
	if err != nil {
		return b.unwritable("keeping an enrolment", err)
	}
	oauth.WriteJSON(w, http.StatusOK, struct {
		ID        string `json:"enrolment"`
		Blob      []byte `json:"credential_blob"`
		Secret    []byte `json:"secret"`
		ExpiresIn int64  `json:"expires_in"`
	}{id, question.Blob, question.Secret, int64(enrolmentLife / time.Second)})
	return nil
}

// akName returns the name of a checked AK.
//
//	name = nameAlg || SHA-256(TPMT_PUBLIC)   (TPM 2.0 part 1 section 16)
func akName(public []byte) []byte {
	sum := sha256.Sum256(public)
	return append([]byte{0x00, 0x0b}, sum[:]...)
}

func denied(description string) *oauth.Error {
	return &oauth.Error{Status: http.StatusForbidden, Code: oauth.Forbidden, Retry: oauth.RetryOperator, Description: description}
}

// refuseEnrolment logs that an invited host was refused, and why.
func (b *Broker) refuseEnrolment(r *http.Request, i *store.Invitation, check string, cause error) *oauth.Error {
	d := b.newDecision(audit.TypeHost, "refused")
	d.entry.Host = i.ID
	d.fail(station{Number: 9, Attestor: string(verify.AttestorHardware), Check: "enrol-" + check,
		Expected: []string{"an EK of a known maker or with the pinned digest, and a restricted AK in the same TPM"}, Observed: []string{cause.Error()}})
	return b.refuse(r.Context(), d, denied("enrolment refused: "+cause.Error()))
}

type activateRequest struct {
	ID     string `json:"enrolment"`
	Secret []byte `json:"secret"`
	// Only where the level will be cloud-ak-cert: see ek.CheckPossession.
	Quote struct {
		Attest    []byte `json:"attest"`
		Signature []byte `json:"signature"`
	} `json:"ak_quote"`
}

// answered reports why an answer is not the one that a pending enrolment asked
// for, or nil.
func (in *activateRequest) answered(pending *store.Enrolment) error {
	given := sha256.Sum256(in.Secret)
	if subtle.ConstantTimeCompare(given[:], pending.Secret[:]) != 1 {
		return errors.New("the secret is not the one that was asked for")
	}
	if pending.Level == verify.LevelCloudAK {
		return ek.CheckPossession(pending.AKPublic, in.Secret, in.Quote.Attest, in.Quote.Signature)
	}
	return nil
}

// errTaken is why a host cannot be enrolled a second time.
var errTaken = errors.New("name, EK or AK is enrolled already")

// postActivate is the second message: the TPM's answer. There is one try.
func (b *Broker) postActivate(w http.ResponseWriter, r *http.Request) *oauth.Error {
	var in activateRequest
	if fault := readJSON(w, r, &in); fault != nil {
		return fault
	}
	now := b.Now()
	var pending store.Enrolment
	var wrong error
	// The try counts whatever the answer is, so this commits by itself.
	err := b.store.Update(r.Context(), func(tx *store.Tx) (err error) {
		if pending, err = tx.TakeEnrolment(in.ID, now); err == nil {
			wrong = in.answered(&pending)
		}
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrExpired):
		b.counters.add("enrolment")
		return denied("the enrolment is unknown, used or expired")
	case err != nil:
		return b.unwritable("taking an enrolment", err)
	}
	host, fault := b.admit(r, &pending, wrong, now)
	if fault != nil {
		return fault
	}
	oauth.WriteJSON(w, http.StatusOK, struct {
		Host      string         `json:"host"`
		UEID      evidence.Bytes `json:"ueid"`
		Level     string         `json:"level"`
		Issuer    string         `json:"issuer"`
		LogOrigin string         `json:"log_origin"`
		LogKey    string         `json:"log_key"`
	}{host.ID, host.UEID, host.Level, b.Issuer, b.log.Origin(), b.log.VerifierKey()})
	return nil
}

// admit makes a host of an answered enrolment. Whether name, EK and AK are new
// is decided by the store, in one statement (V22). wrong is what was wrong with
// the answer.
func (b *Broker) admit(r *http.Request, p *store.Enrolment, wrong error, now time.Time) (*store.Host, *oauth.Error) {
	d := b.newDecision(audit.TypeHost, "enrolled")
	material := sha256.Sum256(bytes.Join([][]byte{p.EK[:], p.AKName}, nil))
	d.entry.Material = material[:]
	var host store.Host
	err := b.store.Update(r.Context(), func(tx *store.Tx) error {
		if wrong != nil {
			invited, err := tx.Invitation(p.Token, now)
			if err != nil {
				return err
			}
			host.ID = invited.ID
			return nil
		}
		invited, err := tx.TakeInvitation(p.Token, now)
		if err != nil {
			return err
		}
		host = store.Host{Name: invited.Name, ID: invited.ID, UEID: p.UEID, EK: p.EK, AKPublic: p.AKPublic, AKName: p.AKName,
			Level: p.Level, Maker: p.Maker, Machine: invited.Machine, Enrolled: now}
		if err := tx.AddHost(host); errors.Is(err, store.ErrExists) {
			return errTaken
		} else if err != nil {
			return err
		}
		d.entry.Host, d.entry.Target = host.ID, p.Level
		return b.append(tx, d)
	})
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrExpired):
		return nil, denied("the enrolment token is unknown, used, expired or for another host")
	case errors.Is(err, errTaken):
		return nil, &oauth.Error{Status: http.StatusConflict, Code: oauth.Conflict, Retry: oauth.RetryOperator,
			Description: fmt.Sprint(errTaken, "; an operator has to remove the old host first")}
	case err != nil:
		return nil, b.unwritable("enrolling a host", err)
	case wrong != nil:
		return nil, b.refuseEnrolment(r, &store.Invitation{ID: host.ID}, "activate", wrong)
	}
	b.Log.Info("host enrolled", "host", host.ID, "level", host.Level, "machine", host.Machine)
	return &host, nil
}
