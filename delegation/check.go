// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package delegation

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/jurat-dev/jurat/evidence"
)

// check reports the first thing that keeps o from being approvable.
func (o *Delegation) check() error {
	if o.Version != Version {
		return fmt.Errorf("delegation version %d, want %d", o.Version, Version)
	}
	if o.Type != Type {
		return fmt.Errorf("delegation of type %q, want %q", o.Type, Type)
	}
	steps := []struct {
		field string
		err   error
	}{
		{"id", checkID(o.ID)},
		{"broker", checkURL(o.Broker)},
		{"requester", checkSPIFFE(o.Requester)},
		{"workload.id", checkSPIFFE(o.Workload.ID)},
		{"workload.code_ref", checkRefs(o.Workload.Code)},
		{"workload.model_ref", checkRefs(o.Workload.Models)},
		{"workload.min_levels", o.Workload.Levels.check()},
		{"approver", o.Approver.check()},
		{"purpose", checkPurpose(o.Purpose)},
		{"actions", checkWords(o.Actions, 1)},
		{"audience", checkURL(o.Audience)},
		{"limits.datatypes", checkWords(o.Limits.Datatypes, 0)},
		{"limits", o.Limits.check()},
		{"", o.checkTimes()},
		{"", o.checkNumbers()},
		{"", o.checkDetails()},
	}
	for _, s := range steps {
		if s.err != nil {
			return fmt.Errorf("delegation %s: %v", strings.TrimSpace(s.field), s.err)
		}
	}
	return nil
}

func (o *Delegation) checkTimes() error {
	if o.Expires > maxTime || o.NotBefore >= o.Expires {
		return fmt.Errorf("expires: second %d, want one after not_before %d and before the year 10000", o.Expires, o.NotBefore)
	}
	if o.RequestedAt == 0 || o.RequestedAt >= o.Expires {
		return fmt.Errorf("requested_at: second %d, want one before expires %d", o.RequestedAt, o.Expires)
	}
	return nil
}

func (o *Delegation) checkNumbers() error {
	switch {
	case o.Uses == 0 || o.Uses > MaxUses:
		return fmt.Errorf("uses: %d, want 1 to %d", o.Uses, MaxUses)
	case o.FourEyes == 0 || o.FourEyes > MaxFourEyes:
		return fmt.Errorf("four_eyes: %d persons, want 1 to %d", o.FourEyes, MaxFourEyes)
	case len(o.Nonce) != NonceSize:
		return fmt.Errorf("nonce: %d bytes, want %d", len(o.Nonce), NonceSize)
	case bytes.Equal(o.Nonce, make([]byte, NonceSize)):
		return fmt.Errorf("nonce: all zeros")
	}
	return nil
}

// checkDetails refuses a task that would not fit a token (RFC 9396).
func (o *Delegation) checkDetails() error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode([]any{map[string]any{
		"type": evidence.TaskType, "purpose": o.Purpose, "actions": o.Actions,
		"datatypes": o.Limits.Datatypes, "locations": []string{o.Audience},
	}})
	if err != nil {
		return err
	}
	if n := b.Len() - 1; n > MaxDetails {
		return fmt.Errorf("task: %d bytes as authorization_details, at most %d", n, MaxDetails)
	}
	return nil
}

func (l *Limits) check() error {
	if l.Per != PerCredential && l.Per != PerInstance {
		return fmt.Errorf("one use is per %q, want %q or %q", l.Per, PerCredential, PerInstance)
	}
	if l.Credential != 0 && (l.Credential < MinCredential || l.Credential > MaxCredential) {
		return fmt.Errorf("credential of %d seconds, want %d to %d, or 0", l.Credential, MinCredential, MaxCredential)
	}
	return nil
}

func (p Person) check() error {
	if err := checkURL(p.Issuer); err != nil {
		return fmt.Errorf("iss: %v", err)
	}
	if err := checkName(p.Subject); err != nil {
		return fmt.Errorf("sub: %v", err)
	}
	return nil
}

// checkName accepts the characters of mail addresses and account names, so
// that a name looks the same everywhere and fits a file of allowed signers.
func checkName(name string) error {
	if name == "" || len(name) > MaxName {
		return fmt.Errorf("name of %d bytes, want 1 to %d", len(name), MaxName)
	}
	for i := range len(name) {
		if !alphanumeric(name[i]) && strings.IndexByte("._-+@:|=~/", name[i]) < 0 {
			return fmt.Errorf("name %q: byte %d is not a letter, digit or one of ._-+@:|=~/", name, i)
		}
	}
	return nil
}

func checkID(id string) error {
	text, ok := strings.CutPrefix(id, idPrefix)
	b, err := idEncoding.DecodeString(text)
	if !ok || err != nil || len(b) != 16 || idEncoding.EncodeToString(b) != text {
		return fmt.Errorf("malformed id %q: want %q and 26 characters", id, idPrefix)
	}
	return nil
}

// checkWords accepts a sorted list without repetition of short machine words.
func checkWords(list []string, least int) error {
	if len(list) < least || len(list) > MaxActions {
		return fmt.Errorf("%d words, want %d to %d", len(list), least, MaxActions)
	}
	for i, w := range list {
		if w == "" || len(w) > MaxAction {
			return fmt.Errorf("word %d has %d bytes, want 1 to %d", i, len(w), MaxAction)
		}
		for j := range len(w) {
			if !alphanumeric(w[j]) && strings.IndexByte("._-:/", w[j]) < 0 {
				return fmt.Errorf("word %q: byte %d is not a letter, digit or one of ._-:/", w, j)
			}
		}
		if i > 0 && list[i-1] >= w {
			return fmt.Errorf("word %q does not come after %q", w, list[i-1])
		}
	}
	return nil
}

func checkRefs(list []evidence.Hash) error {
	if len(list) > MaxRefs {
		return fmt.Errorf("%d digests, at most %d", len(list), MaxRefs)
	}
	for i := range list {
		if list[i].IsZero() || i > 0 && compareHash(list[i-1], list[i]) >= 0 {
			return fmt.Errorf("digest %d is zero or does not come after the one before it", i)
		}
	}
	return nil
}

// checkURL accepts one https URL, or a plain http one of this machine, in the
// form every program writes the same way: lower-case host, no user, query or
// fragment. URLs are compared byte by byte.
func checkURL(text string) error {
	if text == "" || len(text) > MaxURL {
		return fmt.Errorf("URL of %d bytes, want 1 to %d", len(text), MaxURL)
	}
	for i := range len(text) {
		if text[i] <= ' ' || text[i] >= 0x7f || strings.IndexByte("\"'<>\\^`{|},#?", text[i]) >= 0 {
			return fmt.Errorf("URL %q: byte %d is not allowed", text, i)
		}
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return fmt.Errorf("malformed URL %q", text)
	case u.Host == "" || u.Opaque != "" || u.User != nil || u.Hostname() == "" || strings.HasSuffix(u.Host, ":"):
		return fmt.Errorf("URL %q has no plain host", text)
	case u.String() != text || u.Host != strings.ToLower(u.Host):
		return fmt.Errorf("URL %q is not in its plain form %q", text, u)
	case u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("URL %q is neither https nor http to this machine", text)
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// checkSPIFFE accepts a SPIFFE ID with a path (SPIFFE-ID section 2).
func checkSPIFFE(id string) error {
	rest, ok := strings.CutPrefix(id, "spiffe://")
	domain, path, hasPath := strings.Cut(rest, "/")
	if !ok || len(id) > MaxName || domain == "" || !hasPath {
		return fmt.Errorf("malformed SPIFFE ID %q: want spiffe://domain/path of at most %d bytes", id, MaxName)
	}
	for i := range len(domain) {
		if c := domain[i]; !alphanumeric(c) && strings.IndexByte("._-", c) < 0 || 'A' <= c && c <= 'Z' {
			return fmt.Errorf("SPIFFE ID %q: trust domain has byte %q", id, c)
		}
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return fmt.Errorf("SPIFFE ID %q: path segment %q", id, segment)
		}
		for i := range len(segment) {
			if !alphanumeric(segment[i]) && strings.IndexByte("._-", segment[i]) < 0 {
				return fmt.Errorf("SPIFFE ID %q: path has byte %q", id, segment[i])
			}
		}
	}
	return nil
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
