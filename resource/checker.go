// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package resource

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Config says who this service is and whom it believes.
type Config struct {
	// Issuer is the broker's issuer URL: https, or http on loopback.
	Issuer string
	// Audience is this service as the delegations name it: an absolute URL.
	Audience string
	// Origin is the scheme, host and port under which callers reach this
	// service, and against which a proof's htu is held. Empty: that of Audience.
	Origin string
	// MaxEvidenceAge bounds the time from the host's evidence to this call.
	// Zero: six minutes.
	MaxEvidenceAge time.Duration
	// IntrospectID and IntrospectSecret are what the broker gave this service.
	// When set, the broker is asked on each call whether the token was revoked.
	IntrospectID, IntrospectSecret string
	// HTTPClient dials the broker. Nil: a client of its own. Redirects are not
	// followed in either case.
	HTTPClient *http.Client
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Logger gets one line per refused call, by txn. Nil: none.
	Logger *slog.Logger
}

// Checker holds calls against the rules. It is safe for concurrent use.
type Checker struct {
	issuer, audience, origin string
	maxAge                   time.Duration
	now                      func() time.Time
	log                      *slog.Logger
	keys                     *keyring
	proofs                   *replay
	introspect               *introspector // nil: not asked for
}

// New returns a Checker. It dials nobody; the first call does.
func New(c Config) (*Checker, error) {
	issuer, err := brokerURL(c.Issuer)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	audience, err := url.Parse(c.Audience)
	if err != nil || audience.Host == "" || (audience.Scheme != "https" && audience.Scheme != "http") {
		return nil, fmt.Errorf("audience %q: want an absolute http or https URL", c.Audience)
	}
	origin, err := url.Parse(c.Origin)
	if c.Origin == "" {
		origin, err = &url.URL{Scheme: audience.Scheme, Host: audience.Host}, nil
	}
	if err != nil || origin.Host == "" || strings.Trim(origin.Path, "/") != "" || origin.RawQuery != "" {
		return nil, fmt.Errorf("origin %q: want scheme://host[:port]", c.Origin)
	}
	if (c.IntrospectID == "") != (c.IntrospectSecret == "") {
		return nil, errors.New("introspection needs both an id and a secret")
	}
	if c.MaxEvidenceAge < 0 {
		return nil, fmt.Errorf("evidence age of %v, want more than 0", c.MaxEvidenceAge)
	}
	k := &Checker{
		issuer: c.Issuer, audience: c.Audience, origin: origin.Scheme + "://" + origin.Host,
		maxAge: c.MaxEvidenceAge, now: c.Now, log: c.Logger, proofs: newReplay(maxReplay, maxReplayPerKey),
	}
	if k.maxAge == 0 {
		k.maxAge = defaultAge
	}
	if k.now == nil {
		k.now = time.Now
	}
	if k.log == nil {
		k.log = slog.New(slog.DiscardHandler)
	}
	k.keys = &keyring{issuer: c.Issuer, base: issuer, client: brokerClient(c.HTTPClient)}
	if c.IntrospectID != "" {
		k.introspect = &introspector{keys: k.keys, id: c.IntrospectID, secret: c.IntrospectSecret}
	}
	return k, nil
}

// brokerURL accepts https, and http where nobody else can listen.
func brokerURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%q: want an absolute URL without query", s)
	}
	switch ip := net.ParseIP(u.Hostname()); {
	case u.Scheme == "https":
	case u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()):
	default:
		return nil, fmt.Errorf("%q: want https, or http on loopback", s)
	}
	return u, nil
}

// Check holds a call against every rule but the action's, in the order of the
// Rule constants. The error is a *Refusal or an *Unavailable.
func (k *Checker) Check(r *http.Request) (Grant, error) {
	now := k.now()
	token, proof, err := credentials(r.Header)
	if err != nil {
		return Grant{}, err
	}
	c, err := k.token(r.Context(), token, now)
	if err != nil {
		return Grant{}, err
	}
	if err := k.proof(r, proof, token, c, now); err != nil {
		return Grant{}, withTxn(err, c.Txn)
	}
	g, err := k.grant(c, now)
	if err != nil {
		return Grant{}, withTxn(err, c.Txn)
	}
	if k.introspect != nil {
		if err := k.introspect.active(r.Context(), token, c.ID, now); err != nil {
			return Grant{}, withTxn(err, c.Txn)
		}
	}
	return g, nil
}

func withTxn(err error, txn string) error {
	var r *Refusal
	if errors.As(err, &r) {
		r.Txn = txn
	}
	return err
}

// credentials returns the one token and the one proof of a call.
func credentials(h http.Header) (token, proof string, err error) {
	auth, proofs := h.Values("Authorization"), h.Values("DPoP")
	for _, v := range auth {
		if len(v) > maxAuthorization {
			return "", "", badRequest(RuleSize, "Authorization of %d bytes, at most %d", len(v), maxAuthorization)
		}
	}
	for _, v := range proofs {
		if len(v) > maxProof {
			return "", "", badRequest(RuleSize, "DPoP of %d bytes, at most %d", len(v), maxProof)
		}
	}
	if len(auth) == 0 {
		return "", "", &Refusal{Status: http.StatusUnauthorized, Rule: RuleAuthorization, Detail: "no Authorization header"}
	}
	if len(auth) > 1 {
		return "", "", badRequest(RuleAuthorization, "%d Authorization headers, want one", len(auth))
	}
	scheme, token, _ := strings.Cut(auth[0], " ")
	if !strings.EqualFold(scheme, "DPoP") {
		return "", "", badToken(RuleAuthorization, "scheme %q, want DPoP", clip(scheme))
	}
	if len(proofs) != 1 {
		return "", "", badProof(RuleProofHeader, "%d DPoP headers, want one", len(proofs))
	}
	if !compact(token) {
		return "", "", badToken(RuleTokenForm, "not three base64url parts")
	}
	if !compact(proofs[0]) {
		return "", "", badProof(RuleProofForm, "not three base64url parts")
	}
	return token, proofs[0], nil
}

// compact reports whether s has the shape of a JWS in compact serialization,
// with a header, a payload and a signature.
func compact(s string) bool {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return false
	}
	for _, p := range parts {
		if _, err := base64.RawURLEncoding.Strict().DecodeString(p); err != nil || p == "" {
			return false
		}
	}
	return true
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// Require lets a call through to next only when every rule holds and its task
// covers action. The Grant is in the context of the call ([FromContext]); the
// token and the proof are removed from it, so that next can neither log them
// nor pass them on.
func (k *Checker) Require(action string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g, err := k.Check(r)
		if err == nil {
			err = g.Covers(action)
		}
		if err != nil {
			k.refuse(w, r, err)
			return
		}
		inner := r.Clone(context.WithValue(r.Context(), grantKey{}, g))
		inner.Header.Del("Authorization")
		inner.Header.Del("DPoP")
		next.ServeHTTP(w, inner)
	})
}

func (k *Checker) refuse(w http.ResponseWriter, r *http.Request, err error) {
	w.Header().Set("Cache-Control", "no-store")
	var no *Refusal
	if !errors.As(err, &no) {
		k.log.ErrorContext(r.Context(), "call not decided", "method", r.Method, "path", r.URL.Path, "error", err)
		w.Header().Set("Retry-After", "5")
		http.Error(w, "the credential could not be checked", http.StatusServiceUnavailable)
		return
	}
	k.log.WarnContext(r.Context(), "call refused", "method", r.Method, "path", r.URL.Path, "rule", no.Rule, "detail", no.Detail, "txn", no.Txn)
	w.Header().Set("WWW-Authenticate", no.Challenge())
	http.Error(w, no.Error(), no.Status)
}

type grantKey struct{}

// FromContext returns the grant under which the call came through
// [Checker.Require].
func FromContext(ctx context.Context) (Grant, bool) {
	g, ok := ctx.Value(grantKey{}).(Grant)
	return g, ok
}
