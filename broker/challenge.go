// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jurat-dev/jurat/broker/internal/challenge"
	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
)

// memory is what the broker keeps of a host's last true evidence, beside the
// columns that the store compares.
type memory struct {
	State verify.State          `json:"state"`
	PCRs  map[int]evidence.Hash `json:"pcrs"`          // at the end of the boot, to be learned
	IMA   *verify.IMAPosition   `json:"ima,omitempty"` // how far its list is in the store; nil: it has none
}

// remembered reads what is known of a host; nil before first contact.
func remembered(h *store.Host) (*memory, error) {
	if h.Last.JSON == nil {
		return nil, nil
	}
	m := new(memory)
	if err := json.Unmarshal(h.Last.JSON, m); err != nil {
		return nil, fmt.Errorf("state of host %s: %v", h.ID, err)
	}
	return m, nil
}

// haveAnswer says what the host need not send (spec/broker-api.md section 3).
type haveAnswer struct {
	LogSize      uint64 `json:"log_size"`
	BootLog      string `json:"boot_log"`
	RegisterSize uint64 `json:"register_size"`
	IMACount     uint64 `json:"ima_count"`
}

// have is what the broker knows of a host: of register and list since the reset
// of the TPM that it saw last.
func (b *Broker) have(host *store.Host) (haveAnswer, error) {
	last, err := remembered(host)
	if err != nil {
		return haveAnswer{}, err
	}
	var out haveAnswer
	if !host.BootLog.IsZero() {
		out.BootLog = host.BootLog.String()
	}
	if last != nil {
		out.LogSize = last.State.Size
		if register := last.State.Register; register != nil {
			out.RegisterSize = register.Size
		}
		if last.IMA != nil {
			out.IMACount = last.IMA.Count
		}
	}
	if p, ok := b.kept.begun.Get(host.ID); ok {
		out.IMACount = p.count
	}
	return out, nil
}

// postChallenge gives a nonce to whoever asks. It costs one HMAC and no
// memory. A stranger learns nothing from the answer: it has the same form.
func (b *Broker) postChallenge(w http.ResponseWriter, r *http.Request) *oauth.Error {
	var in struct {
		Host string `json:"host"`
	}
	if fault := readJSON(w, r, &in); fault != nil {
		return fault
	}
	if in.Host == "" || len(in.Host) > 256 {
		return oauth.Refuse(oauth.InvalidRequest, oauth.RetryNever, "host of %d bytes, want a SPIFFE ID", len(in.Host))
	}
	var have haveAnswer
	err := b.store.View(r.Context(), func(s *store.Reader) error {
		host, err := s.HostByID(in.Host)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err == nil {
			have, err = b.have(&host)
		}
		return err
	})
	if err != nil {
		return b.unwritable("looking up a host", err)
	}
	nonce, err := b.challenges.Make(in.Host, b.Now())
	if err != nil {
		return b.unwritable("making a challenge", err)
	}
	var out struct {
		Challenge string     `json:"attestation_challenge"`
		ExpiresIn int64      `json:"expires_in"`
		Have      haveAnswer `json:"have"`
	}
	out.Challenge, out.ExpiresIn, out.Have = challenge.Text(nonce), int64(challenge.Life/time.Second), have
	oauth.WriteJSON(w, http.StatusOK, out)
	return nil
}
