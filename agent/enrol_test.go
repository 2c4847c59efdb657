// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	brokerclient "github.com/jurat-dev/jurat/broker-client"
	"github.com/jurat-dev/jurat/ek"
	"github.com/jurat-dev/jurat/internal/softtpm"
)

// enrolDouble is the enrolment half of a broker. It takes the EKs that accept
// says.
func enrolDouble(t *testing.T, accept func(*brokerclient.EnrolRequest) bool) (*brokerclient.Client, *int) {
	t.Helper()
	secret := []byte("0123456789abcdef0123456789abcdef")
	offers := 0
	var key *ek.EK
	var offered brokerclient.EnrolRequest
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	mux.HandleFunc("POST /v1/enrol", func(w http.ResponseWriter, r *http.Request) {
		offers++
		var in brokerclient.EnrolRequest
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			t.Error(err)
		}
		if in.Host != "h1" || in.Token != "tok" || !accept(&in) {
			say(w, http.StatusForbidden, map[string]any{"error": "access_denied", "retry": "operator", "error_description": "enrolment refused: no"})
			return
		}
		offered = in
		var err error
		if key, err = ek.ParseEK(in.EKPublic); err != nil {
			t.Error(err)
		}
		name := sha256.Sum256(in.AKPublic)
		question, err := key.Challenge(rand.Reader, append([]byte{0, 11}, name[:]...), secret)
		if err != nil {
			t.Error(err)
		}
		say(w, 200, map[string]any{"enrolment": "e1", "credential_blob": question.Blob, "secret": question.Secret, "expires_in": 60})
	})
	mux.HandleFunc("POST /v1/enrol/activate", func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Enrolment string                   `json:"enrolment"`
			Secret    []byte                   `json:"secret"`
			Proof     *brokerclient.Possession `json:"ak_quote"`
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Enrolment != "e1" || !bytes.Equal(in.Secret, secret) {
			t.Errorf("activated with %+v, %v", in, err)
		}
		if certified := len(offered.AKCertificates) > 0; certified != (in.Proof != nil) {
			t.Errorf("certificates of the AK: %v, its own word: %v", certified, in.Proof != nil)
		} else if certified {
			if err := ek.CheckPossession(offered.AKPublic, secret, in.Proof.Attest, in.Proof.Signature); err != nil {
				t.Error(err)
			}
		}
		ueid := key.UEID()
		say(w, 200, map[string]any{"host": "spiffe://example.test/host/h1", "ueid": brokerclient.Identity{UEID: ueid}.UEID, "level": "ek-cert",
			"issuer": server.URL, "log_origin": "o", "log_key": ""})
	})
	c, err := brokerclient.New(brokerclient.Config{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return c, &offers
}

func TestEnrol(t *testing.T) {
	r := newRig(t)
	device := r.withTPMOf(softtpm.Options{})
	state := filepath.Join(t.TempDir(), "state")
	e := Enrolling{State: state, TPM: device.Path(), Host: "h1", Token: "tok"}
	var offers *int
	e.Client, offers = enrolDouble(t, func(*brokerclient.EnrolRequest) bool { return false })
	_, _, err := Enrol(t.Context(), e)
	refusal, ok := errors.AsType[*brokerclient.Refusal](err)
	if !ok || refusal.Retry != "operator" || *offers < 2 || strings.Contains(err.Error(), "\n") {
		t.Errorf("no EK is good enough: %v after %d offers", err, *offers)
	}
	if _, err := ReadIdentity(state); !errors.Is(err, ErrNotEnrolled) {
		t.Errorf("identity after a refusal: %v", err)
	}

	// A broker that takes P-256 only: the first EK offered is RSA.
	e.Client, offers = enrolDouble(t, func(in *brokerclient.EnrolRequest) bool {
		return bytes.HasPrefix(in.EKPublic, []byte{0, 0x23}) && len(in.EKCertificates) > 0
	})
	id, news, err := Enrol(t.Context(), e)
	if err != nil || !news || id.Host != "spiffe://example.test/host/h1" || len(id.AKName) != 34 || *offers != 2 {
		t.Fatalf("%+v, %v, %v after %d offers", id, news, err, *offers)
	}
	for path, want := range map[string]os.FileMode{state: os.ModeDir | 0o700, filepath.Join(state, identityName): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v, want %v (%v)", path, info.Mode(), want, err)
		}
	}
	if got, err := ReadIdentity(state); err != nil || got.Host != id.Host || !bytes.Equal(got.AKName, id.AKName) || !bytes.Equal(got.UEID, id.UEID) {
		t.Errorf("read back %+v, %v", got, err)
	}
	if again, news, err := Enrol(t.Context(), e); err != nil || news || again.Host != id.Host || *offers != 2 {
		t.Errorf("a second time: %+v, %v, %v after %d offers", again, news, err, *offers)
	}
	// With a provider's certificate the key has to speak for itself; the double
	// holds it to that.
	cloud := e
	cloud.State, cloud.AKCertificates = filepath.Join(t.TempDir(), "cloud"), [][]byte{{0x30, 0}}
	cloud.Client, _ = enrolDouble(t, func(in *brokerclient.EnrolRequest) bool { return len(in.AKCertificates) == 1 })
	if _, news, err := Enrol(t.Context(), cloud); err != nil || !news {
		t.Errorf("with a certificate of the attestation key: %v, %v", news, err)
	}
	// Another broker: not in silence.
	other := e
	other.Client, _ = enrolDouble(t, func(*brokerclient.EnrolRequest) bool { return true })
	if _, _, err := Enrol(t.Context(), other); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("another broker: %v", err)
	}
}

func TestReadIdentityRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"empty":      "",
		"not JSON":   "{",
		"no key":     `{"host":"h","ueid":"01` + strings.Repeat("00", 32) + `","issuer":"https://b"}`,
		"short ueid": `{"host":"h","ueid":"01","issuer":"https://b","ak_name":"00"}`,
		"no host":    `{"ueid":"01` + strings.Repeat("00", 32) + `","issuer":"https://b","ak_name":"00"}`,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, identityName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if id, err := ReadIdentity(dir); err == nil || errors.Is(err, ErrNotEnrolled) {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
	}
}
