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
	PCRs  map[int]evidence.Hash `json:"pcrs"` // for learn-boot
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
	var last *memory
	err := b.store.View(r.Context(), func(s *store.Reader) error {
		host, err := s.HostByID(in.Host)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err == nil {
			last, err = remembered(&host)
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
		Challenge string `json:"attestation_challenge"`
		ExpiresIn int64  `json:"expires_in"`
		Have      struct {
			LogSize uint64 `json:"log_size"`
			BootLog string `json:"boot_log"`
		} `json:"have"`
	}
	out.Challenge, out.ExpiresIn = challenge.Text(nonce), int64(challenge.Life/time.Second)
	if last != nil {
		out.Have.LogSize = last.State.Size
		if !last.State.BootLog.IsZero() {
			out.Have.BootLog = last.State.BootLog.String()
		}
	}
	oauth.WriteJSON(w, http.StatusOK, out)
	return nil
}
