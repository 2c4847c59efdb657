// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package resource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// keyring holds the broker's public keys. It is fetched at the first call,
// again when it is old, and at most once a minute for a kid it does not know.
type keyring struct {
	issuer string
	base   *url.URL
	client *http.Client

	fetching sync.Mutex   // held during a fetch
	mu       sync.RWMutex // guards what follows
	keys     map[string]jose.JSONWebKey
	meta     metadata
	fetched  time.Time
	next     time.Time // no fetch before
}

// metadata is what is read of the broker's description of itself (RFC 8414).
type metadata struct {
	Issuer   string `json:"issuer"`
	Keys     string `json:"jwks_uri"`
	Ask      string `json:"introspection_endpoint"`
	MinEpoch int64  `json:"jurat_minimum_key_epoch"`
}

// minimum returns the least key epoch that is still good.
func (k *keyring) minimum() int64 {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.meta.MinEpoch
}

// endpoint returns where to introspect, or "".
func (k *keyring) endpoint() string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.meta.Ask
}

// brokerClient follows no redirect: what the broker says is said at its own
// address.
func brokerClient(given *http.Client) *http.Client {
	c := http.Client{Timeout: dialTimeout}
	if given != nil {
		c = *given
	}
	if c.Timeout == 0 {
		c.Timeout = dialTimeout
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// find returns the key with this id. The error is a *Refusal when the broker
// has no such key and an *Unavailable when it could not be asked.
func (k *keyring) find(ctx context.Context, kid string, now time.Time) (jose.JSONWebKey, error) {
	if key, ok := k.lookup(kid, now, keysFresh); ok {
		return key, nil
	}
	failed := k.refresh(ctx, now, kid)
	if key, ok := k.lookup(kid, now, keysLast); ok {
		return key, nil
	}
	if failed != nil {
		return jose.JSONWebKey{}, &Unavailable{Place: "keys of " + k.issuer, Cause: failed}
	}
	return jose.JSONWebKey{}, badToken(RuleTokenKey, "%q is no key of %s", clip(kid), k.issuer)
}

func (k *keyring) lookup(kid string, now time.Time, age time.Duration) (jose.JSONWebKey, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	key, ok := k.keys[kid]
	return key, ok && now.Before(k.fetched.Add(age))
}

// refresh fetches the keys unless that was done a moment ago. It returns an
// error when there are none to work with.
func (k *keyring) refresh(ctx context.Context, now time.Time, kid string) error {
	k.fetching.Lock()
	defer k.fetching.Unlock()
	if _, ok := k.lookup(kid, now, keysFresh); ok {
		return nil // somebody else fetched them while this call waited
	}
	k.mu.RLock()
	wait, have := now.Before(k.next), now.Before(k.fetched.Add(keysLast))
	k.mu.RUnlock()
	if wait {
		if !have {
			return errors.New("not reachable a moment ago")
		}
		return nil
	}
	// A caller that hangs up must not keep the others from the keys.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dialTimeout)
	defer cancel()
	keys, meta, err := k.fetch(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		k.next = now.Add(retryGap)
		if have {
			return nil
		}
		return err
	}
	k.keys, k.meta, k.fetched, k.next = keys, meta, now, now.Add(refreshGap)
	return nil
}

// fetch reads the broker's metadata (RFC 8414) and its keys.
func (k *keyring) fetch(ctx context.Context) (map[string]jose.JSONWebKey, metadata, error) {
	var meta metadata
	well := *k.base
	well.Path = "/.well-known/oauth-authorization-server" + strings.TrimSuffix(k.base.Path, "/")
	if err := k.get(ctx, well.String(), &meta); err != nil {
		return nil, meta, err
	}
	if meta.Issuer != k.issuer {
		return nil, meta, fmt.Errorf("metadata is of issuer %q, want %q", clip(meta.Issuer), k.issuer)
	}
	if err := k.own("jwks_uri", meta.Keys); err != nil {
		return nil, meta, err
	}
	if meta.Ask != "" {
		if err := k.own("introspection_endpoint", meta.Ask); err != nil {
			return nil, meta, err
		}
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := k.get(ctx, meta.Keys, &set); err != nil {
		return nil, meta, err
	}
	if len(set.Keys) == 0 || len(set.Keys) > maxKeys {
		return nil, meta, fmt.Errorf("%d keys, want 1 to %d", len(set.Keys), maxKeys)
	}
	keys, err := usable(set.Keys)
	return keys, meta, err
}

// usable returns the keys a token may be signed with. Keys of other kinds are
// passed over; two with one id make the whole set doubtful.
func usable(raw []json.RawMessage) (map[string]jose.JSONWebKey, error) {
	keys := make(map[string]jose.JSONWebKey)
	for _, r := range raw {
		var key jose.JSONWebKey
		if json.Unmarshal(r, &key) != nil || !key.Valid() || !key.IsPublic() {
			continue
		}
		if key.KeyID == "" || key.Use != "" && key.Use != "sig" || keyAlgorithm(key) == "" {
			continue
		}
		if _, twice := keys[key.KeyID]; twice {
			return nil, fmt.Errorf("two keys with the id %q", clip(key.KeyID))
		}
		keys[key.KeyID] = key
	}
	return keys, nil
}

// own refuses an endpoint that is not at the issuer's own origin: it would see
// tokens and this service's secret.
func (k *keyring) own(name, endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != k.base.Scheme || u.Host != k.base.Host {
		return fmt.Errorf("%s %q is not at %s://%s", name, clip(endpoint), k.base.Scheme, k.base.Host)
	}
	return nil
}

func (k *keyring) get(ctx context.Context, address string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	return k.do(req, into)
}

func (k *keyring) do(req *http.Request, into any) error {
	resp, err := k.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", req.URL.Redacted(), resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return err
	}
	if len(data) > maxAnswer {
		return fmt.Errorf("%s answered more than %d bytes", req.URL.Redacted(), maxAnswer)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("malformed answer of %s: %v", req.URL.Redacted(), err)
	}
	return nil
}
