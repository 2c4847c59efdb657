// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/json" // knows case, refuses a member given twice

	"github.com/jurat-dev/jurat/broker/internal/limit"
	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/evidence"
)

const (
	txnAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	maxJSON     = 64 << 10 // bytes of a JSON request
)

var txnEncoding = base32.NewEncoding(txnAlphabet).WithPadding(base32.NoPadding)

// handler answers, or says why not.
type handler func(w http.ResponseWriter, r *http.Request) *oauth.Error

// Public returns the API for hosts, workloads, people and auditors.
func (b *Broker) Public() http.Handler {
	mux := http.NewServeMux()
	open := func(pattern string, h handler) { b.handle(mux, pattern, b.limited(b.strangers, h)) }
	metadata := b.document(b.metadata)
	b.handleAt(mux, "GET "+oauth.PathMetadata+b.prefix, metadata)
	b.handleAt(mux, "GET "+oauth.PathDiscovery+b.prefix, metadata)
	b.handle(mux, "GET "+oauth.PathJWKS, b.document(b.signer.JWKS()))
	b.handle(mux, "POST /v1/enrol", b.limited(b.enrolling, b.postEnrol))
	b.handle(mux, "POST /v1/enrol/activate", b.limited(b.enrolling, b.postActivate))
	open("POST "+oauth.PathChallenge, b.postChallenge)
	open("POST "+oauth.PathEvidence, b.postEvidence)
	open("POST "+oauth.PathToken, b.postToken)
	open("POST "+oauth.PathIntrospect, b.postIntrospect)
	open("POST "+oauth.PathRevoke, b.postRevoke)
	open("GET /v1/delegations/{id}", b.getDelegation)
	open("POST /v1/delegations/{id}/approve", b.postApprove)
	open("POST /v1/delegations/{id}/refuse", b.postRefuse)
	open("POST /v1/delegations/{id}/revoke", b.postRevocation)
	open("GET /v1/explain/{txn}", b.getShortExplanation)
	open("GET /log/checkpoint", b.getCheckpoint)
	open("GET /log/proof", b.getProof)
	b.handle(mux, "GET /healthz", b.getHealth)
	b.handle(mux, "GET /readyz", b.getReady)
	return harden(mux)
}

// Operator returns the API for those who may open its socket.
func (b *Broker) Operator() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]handler{
		"POST /v1/apply":                       b.postApply,
		"GET /v1/workloads":                    b.getWorkloads,
		"GET /v1/machines":                     b.getMachines,
		"GET /v1/approvers":                    b.getApprovers,
		"GET /v1/resources":                    b.getResources,
		"POST /v1/resources":                   b.postResource,
		"GET /v1/hosts":                        b.getHosts,
		"POST /v1/hosts":                       b.postHost,
		"DELETE /v1/hosts/{name}":              b.deleteHost,
		"POST /v1/hosts/{name}/learn-boot":     b.postLearnBoot,
		"GET /v1/hosts/{name}/boot-diff":       b.getBootDiff,
		"GET /v1/hosts/{name}/export":          b.getHostExport,
		"GET /v1/hosts/{name}/boot-log":        b.getHostBootLog,
		"POST /v1/machines/{name}/forget-boot": b.postForgetBoot,
		"POST /v1/refs":                        b.postRefs,
		"GET /v1/delegations":                  b.getDelegations,
		"POST /v1/delegations":                 b.postDelegation,
		"GET /v1/delegations/{id}":             b.getDelegation,
		"POST /v1/delegations/{id}/approve":    b.postApprove,
		"POST /v1/delegations/{id}/refuse":     b.postRefuse,
		"POST /v1/delegations/{id}/revoke":     b.postRevocation,
		"GET /v1/audit":                        b.getAudit,
		"GET /v1/explain/{txn}":                b.getExplanation,
		"GET /log/checkpoint":                  b.getCheckpoint,
		"GET /log/proof":                       b.getProof,
		"GET /healthz":                         b.getHealth,
		"GET /readyz":                          b.getReady,
	} {
		b.handleAt(mux, pattern, h)
	}
	return harden(mux)
}

// handle serves a pattern below the issuer's path.
func (b *Broker) handle(mux *http.ServeMux, pattern string, h handler) {
	for i := range len(pattern) {
		if pattern[i] == ' ' {
			b.handleAt(mux, pattern[:i+1]+b.prefix+pattern[i+1:], h)
			return
		}
	}
}

func (b *Broker) handleAt(mux *http.ServeMux, pattern string, h handler) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if fault := h(w, r); fault != nil {
			fault.Write(w)
		}
	})
}

// harden keeps browsers from making anything of an answer, and turns the mux's
// own refusals into ours.
func harden(next *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		if _, pattern := next.Handler(r); pattern == "" {
			unknown(r).Write(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func unknown(r *http.Request) *oauth.Error {
	return &oauth.Error{Status: http.StatusNotFound, Code: oauth.NotFound, Retry: oauth.RetryNever,
		Description: fmt.Sprintf("nothing answers %s at this path", r.Method)}
}

// limited counts the request on its client.
func (b *Broker) limited(l *limit.Limiter, h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) *oauth.Error {
		if ok, after := l.Allow(limit.Client(r.RemoteAddr), b.Now()); !ok {
			b.counters.add("too-many-requests")
			return busy(http.StatusTooManyRequests, "too many requests from this address", after)
		}
		return h(w, r)
	}
}

func busy(status int, description string, after time.Duration) *oauth.Error {
	return &oauth.Error{Status: status, Code: oauth.Unavailable, Retry: oauth.RetryLater, Description: description,
		After: int(after/time.Second) + 1}
}

// document serves something that does not change while the broker runs.
func (b *Broker) document(v any) handler {
	return func(w http.ResponseWriter, _ *http.Request) *oauth.Error {
		w.Header().Set("Cache-Control", "max-age=300")
		oauth.WriteJSON(w, http.StatusOK, v)
		return nil
	}
}

// readJSON decodes the body of a request into v, strictly.
func readJSON(w http.ResponseWriter, r *http.Request, v any) *oauth.Error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return wrongType(r, "application/json")
	}
	body, fault := oauth.ReadBody(w, r, maxJSON)
	if fault != nil {
		return fault
	}
	if err := decodeStrict(body, v); err != nil {
		return oauth.Refuse(oauth.InvalidRequest, oauth.RetryNever, "malformed JSON: %v", err)
	}
	return nil
}

func wrongType(r *http.Request, want string) *oauth.Error {
	return &oauth.Error{Status: http.StatusUnsupportedMediaType, Code: oauth.UnsupportedFormat, Retry: oauth.RetryNever,
		Description: fmt.Sprintf("content type %q, want %s", r.Header.Get("Content-Type"), want)}
}

// unwritable says that the store did not take what had to be decided. What
// exactly went wrong is for the broker's own log.
func (b *Broker) unwritable(doing string, err error) *oauth.Error {
	if errors.Is(err, context.Canceled) {
		return busy(http.StatusServiceUnavailable, "the request was given up", time.Second)
	}
	b.Log.Error(doing, "err", err)
	return busy(http.StatusServiceUnavailable, "the broker cannot read or write its store", time.Second)
}

// secret returns 32 random bytes as text, and the digest that is stored.
func (b *Broker) secret() (string, evidence.Hash, error) {
	var raw [32]byte
	if _, err := io.ReadFull(b.Rand, raw[:]); err != nil {
		return "", evidence.Hash{}, fmt.Errorf("reading randomness: %w", err)
	}
	text := base64.RawURLEncoding.EncodeToString(raw[:])
	return text, secretDigest(text), nil
}

// secretDigest returns what is stored in place of a secret.
func secretDigest(text string) evidence.Hash { return sha256.Sum256([]byte(text)) }

// rfc3339 writes a time; the zero time is "".
func rfc3339(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// found turns the store's word for a missing thing into ours, and passes on an
// answer that is one already.
func (b *Broker) found(doing string, err error) *oauth.Error {
	var fault *oauth.Error
	if errors.As(err, &fault) {
		return fault
	}
	if errors.Is(err, store.ErrNotFound) {
		return &oauth.Error{Status: http.StatusNotFound, Code: oauth.NotFound, Retry: oauth.RetryNever, Description: "there is no such thing"}
	}
	return b.unwritable(doing, err)
}

func (b *Broker) getHealth(w http.ResponseWriter, _ *http.Request) *oauth.Error {
	oauth.WriteJSON(w, http.StatusOK, map[string]string{"status": "alive"})
	return nil
}

func (b *Broker) getReady(w http.ResponseWriter, r *http.Request) *oauth.Error {
	if err := b.Ready(r.Context()); err != nil {
		return b.unwritable("checking readiness", err)
	}
	oauth.WriteJSON(w, http.StatusOK, map[string]string{"status": "ready"})
	return nil
}

// decodeStrict reads exactly the members that v has.
func decodeStrict(data []byte, v any) error {
	// go-jose's decoder refuses doubled members and takes no other case, but
	// drops unknown ones; they are found by what is left of the object.
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		return err
	}
	known := memberNames(v)
	for name := range members {
		if !slices.Contains(known, name) {
			return fmt.Errorf("unknown member %q", name)
		}
	}
	return json.Unmarshal(data, v)
}

// memberNames lists the JSON members of the struct that v points to.
func memberNames(v any) []string {
	t := reflect.TypeOf(v).Elem()
	names := make([]string, t.NumField())
	for i := range names {
		names[i], _, _ = strings.Cut(t.Field(i).Tag.Get("json"), ",")
	}
	return names
}
