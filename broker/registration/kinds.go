// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package registration

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/jurat-dev/jurat/verify"
)

// Kinds of registrations.
const (
	KindWorkload = "Workload"
	KindMachine  = "Machine"
	KindApprover = "Approver"
	KindResource = "Resource"
)

// Limits of what one registration may say.
const (
	MaxInput    = 1 << 20 // bytes of input
	MaxObjects  = 256     // registrations in one input
	MaxLifetime = 300     // seconds a credential may live
	MaxKeys     = 32      // of one approver
	maxName     = 128
)

// Object is one registration: a *Workload, *Machine, *Approver or *Resource.
type Object interface {
	// Ref returns kind and name.
	Ref() (kind, name string)
	check(trustDomain string) error
}

// Workload is a program that may act for humans, and what it must look like.
type Workload struct {
	Kind     string                  `yaml:"kind" json:"kind"`
	ID       string                  `yaml:"id" json:"id"`             // SPIFFE ID
	Machines []string                `yaml:"machines" json:"machines"` // machine classes it may run on
	Bearer   bool                    `yaml:"bearer" json:"bearer"`     // may it have tokens that work without a key?
	Lifetime int                     `yaml:"lifetime" json:"lifetime"` // seconds of a credential; 0: MaxLifetime
	Minimum  verify.Minimum          `yaml:"minimum" json:"minimum"`
	Code     verify.CodeReference    `yaml:"code" json:"code"`
	Context  verify.ContextReference `yaml:"context" json:"context"`
}

// Machine is a class of machines, and how one of it boots.
type Machine struct {
	Kind string               `yaml:"kind" json:"kind"`
	Name string               `yaml:"name" json:"name"`
	Boot verify.BootReference `yaml:"boot" json:"boot"`
}

// Approver is a person and their ssh keys, as lines of authorized_keys.
type Approver struct {
	Kind string   `yaml:"kind" json:"kind"`
	Name string   `yaml:"name" json:"name"`
	Keys []string `yaml:"keys" json:"keys"`
}

// Resource is a protected system.
type Resource struct {
	Kind     string `yaml:"kind" json:"kind"`
	Name     string `yaml:"name" json:"name"`
	Audience string `yaml:"audience" json:"audience"`
}

// Ref returns kind and SPIFFE ID.
func (w *Workload) Ref() (kind, name string) { return KindWorkload, w.ID }

// Ref returns kind and name.
func (m *Machine) Ref() (kind, name string) { return KindMachine, m.Name }

// Ref returns kind and name.
func (a *Approver) Ref() (kind, name string) { return KindApprover, a.Name }

// Ref returns kind and name.
func (r *Resource) Ref() (kind, name string) { return KindResource, r.Name }

// Reference is what w must look like on machines of class m, which may be nil:
// then there are no boot values, and nothing matches.
func (w *Workload) Reference(m *Machine) verify.Reference {
	ref := verify.Reference{ID: w.ID, Workload: w.ID, Minimum: w.Minimum, Code: w.Code, Context: w.Context}
	if m != nil {
		ref.ID, ref.Boot = w.ID+" on "+m.Name, m.Boot
	}
	return ref
}

func (w *Workload) check(trustDomain string) error {
	if err := CheckWorkloadID(w.ID, trustDomain); err != nil {
		return fmt.Errorf("id: %v", err)
	}
	if len(w.Machines) == 0 {
		return fmt.Errorf("machines: none, so it may run nowhere")
	}
	for _, m := range w.Machines {
		if err := CheckName(m); err != nil {
			return fmt.Errorf("machines: %v", err)
		}
	}
	if w.Lifetime < 0 || w.Lifetime > MaxLifetime {
		return fmt.Errorf("lifetime: %d seconds, want at most %d", w.Lifetime, MaxLifetime)
	}
	for _, group := range w.groups() {
		for i, v := range *group.values {
			if v.Provenance != verify.Pinned {
				return fmt.Errorf("code.%s[%d]: provenance %q: only %q can be said in a registration", group.name, i, v.Provenance, verify.Pinned)
			}
		}
	}
	ref := w.Reference(nil)
	return ref.Check()
}

func (m *Machine) check(string) error {
	if err := CheckName(m.Name); err != nil {
		return fmt.Errorf("name: %v", err)
	}
	return m.Boot.Check()
}

func (a *Approver) check(string) error {
	if err := checkPerson(a.Name); err != nil {
		return fmt.Errorf("name: %v", err)
	}
	if len(a.Keys) > MaxKeys {
		return fmt.Errorf("keys: %d, at most %d", len(a.Keys), MaxKeys)
	}
	return nil
}

func (r *Resource) check(string) error {
	if err := CheckName(r.Name); err != nil {
		return fmt.Errorf("name: %v", err)
	}
	if err := CheckURL(r.Audience); err != nil {
		return fmt.Errorf("audience: %v", err)
	}
	return nil
}

// group is one list of digests of a workload.
type group struct {
	name   string
	values *[]verify.Value
}

func (w *Workload) groups() []group {
	c := &w.Code
	return []group{{"executables", &c.Executables}, {"loaders", &c.Loaders.Of}, {"libraries", &c.Libraries.Of}, {"scripts", &c.Scripts},
		{"manifests", &c.Manifests}, {"files", &c.Files.Of}, {"models", &c.Models.Of}, {"inputs", &c.Inputs.Of}}
}

// GroupNames are the lists of digests that a workload has.
const GroupNames = "executables, loaders, libraries, scripts, manifests, files, models or inputs"

// Group returns the list of digests called name, one of [GroupNames], or nil.
func (w *Workload) Group(name string) *[]verify.Value {
	for _, g := range w.groups() {
		if g.name == name {
			return g.values
		}
	}
	return nil
}

// CheckName accepts names of hosts, machine classes and resources: lower-case
// letters, digits, dots and dashes, as a path segment of a SPIFFE ID.
func CheckName(name string) error {
	ok := name != "" && len(name) <= maxName && name != "." && name != ".."
	for i := range len(name) {
		c := name[i]
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || i > 0 && (c == '.' || c == '-' || c == '_'))
	}
	if !ok {
		return fmt.Errorf("name %q: want 1 to %d lower-case letters, digits, dots and dashes", name, maxName)
	}
	return nil
}

// CheckWorkloadID accepts a SPIFFE ID of the trust domain that is not a host's.
func CheckWorkloadID(id, trustDomain string) error {
	path, ok := strings.CutPrefix(id, "spiffe://"+trustDomain+"/")
	if !ok || len(id) > maxName {
		return fmt.Errorf("%q: want spiffe://%s/… of at most %d bytes", id, trustDomain, maxName)
	}
	segments := strings.Split(path, "/")
	for _, s := range segments {
		plain := s != "" && s != "." && s != ".."
		for _, c := range []byte(s) {
			plain = plain && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("._-", c) >= 0)
		}
		if !plain {
			return fmt.Errorf("%q: path segment %q", id, s)
		}
	}
	if segments[0] == "host" {
		return fmt.Errorf("%q: names below /host/ are hosts", id)
	}
	return nil
}

// CheckTrustDomain accepts the name of a trust domain (SPIFFE-ID section 2.1).
func CheckTrustDomain(name string) error {
	if name == "" || len(name) > 64 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") != "" {
		return fmt.Errorf("trust domain %q: want lower-case letters, digits, dots, dashes", name)
	}
	return nil
}

func checkPerson(name string) error {
	ok := name != "" && len(name) <= maxName
	for _, c := range []byte(name) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("._-+@", c) >= 0)
	}
	if !ok {
		return fmt.Errorf("name %q: want 1 to %d letters, digits and ._-+@", name, maxName)
	}
	return nil
}

// CheckURL accepts a URL that everybody writes the same way: https, or http to
// this machine; no user, query, fragment or slash at the end.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || len(text) > maxName:
		return fmt.Errorf("malformed URL %q", text)
	case u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "":
		return fmt.Errorf("URL %q: want only scheme, host and path", text)
	case u.String() != text || strings.ToLower(u.Host) != u.Host || strings.HasSuffix(text, "/"):
		return fmt.Errorf("URL %q is not in its plain form", text)
	case u.Scheme == "https" || u.Scheme == "http" && IsLoopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("URL %q: want https (http only to a loopback address)", text)
}

// IsLoopback reports whether host is this machine.
func IsLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// Allows reports whether w may run on machines of the class.
func (w *Workload) Allows(class string) bool { return slices.Contains(w.Machines, class) }
