// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package registration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/jurat-dev/jurat/verify"
)

// Parse reads registrations in YAML, several of them separated by "---". by
// and now are written beside each digest that does not say who vouches for it
// since when.
func Parse(data []byte, trustDomain, by string, now time.Time) ([]Object, error) {
	if len(data) > MaxInput {
		return nil, fmt.Errorf("registrations of %d bytes, at most %d", len(data), MaxInput)
	}
	// A yaml.Node cannot be decoded strictly, so the bytes are read twice: once
	// to learn the kind, once into the type of that kind.
	kinds, strict := yaml.NewDecoder(bytes.NewReader(data)), yaml.NewDecoder(bytes.NewReader(data))
	strict.KnownFields(true)
	var out []Object
	seen := make(map[[2]string]bool)
	for {
		var node yaml.Node
		if err := kinds.Decode(&node); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		object, err := decode(&node, strict)
		if err != nil {
			return nil, err
		}
		if w, ok := object.(*Workload); ok {
			w.vouch(by, now)
		}
		kind, name := object.Ref()
		if err := object.check(trustDomain); err != nil {
			return nil, fmt.Errorf("line %d: %s %q: %v", node.Line, kind, name, err)
		}
		if seen[[2]string{kind, name}] {
			return nil, fmt.Errorf("line %d: %s %q is there twice", node.Line, kind, name)
		}
		seen[[2]string{kind, name}] = true
		if out = append(out, object); len(out) > MaxObjects {
			return nil, fmt.Errorf("more than %d registrations", MaxObjects)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no registration")
	}
	return out, nil
}

func decode(node *yaml.Node, strict *yaml.Decoder) (Object, error) {
	var head struct {
		Kind string `yaml:"kind"`
	}
	if err := node.Decode(&head); err != nil {
		return nil, err
	}
	var object Object
	switch head.Kind {
	case KindWorkload:
		object = new(Workload)
	case KindMachine:
		object = new(Machine)
	case KindApprover:
		object = new(Approver)
	case KindResource:
		object = new(Resource)
	default:
		return nil, fmt.Errorf("line %d: kind %q, want %s, %s, %s or %s", node.Line, head.Kind, KindWorkload, KindMachine, KindApprover, KindResource)
	}
	return object, strict.Decode(object)
}

// vouch completes digests: an operator who writes one down pins it.
func (w *Workload) vouch(by string, now time.Time) {
	for _, g := range w.groups() {
		for i := range *g.values {
			v := &(*g.values)[i]
			if v.Provenance == "" {
				v.Provenance = verify.Pinned
			}
			if v.By == "" {
				v.By = by
			}
			if v.At.IsZero() {
				v.At = now.UTC().Truncate(time.Second)
			}
		}
	}
}

// Keep takes over from an earlier registration since when digests have been
// vouched for, where w was given the time fresh. So applying the same file
// twice changes nothing.
func (w *Workload) Keep(earlier *Workload, fresh time.Time) {
	fresh = fresh.UTC().Truncate(time.Second)
	for _, g := range w.groups() {
		known := make(map[string]verify.Value)
		for _, v := range *earlier.Group(g.name) {
			known[v.Digest] = v
		}
		for i := range *g.values {
			v := &(*g.values)[i]
			if k, ok := known[v.Digest]; ok && v.At.Equal(fresh) && k.By == v.By {
				v.At = k.At
			}
		}
	}
}

// Marshal returns o as the JSON that is stored and hashed.
func Marshal(o Object) ([]byte, error) { return json.Marshal(o) }

// ParseWorkload reads what Marshal wrote.
func ParseWorkload(body []byte) (*Workload, error) {
	w := new(Workload)
	return w, unmarshal(body, w)
}

// ParseMachine reads what Marshal wrote.
func ParseMachine(body []byte) (*Machine, error) {
	m := new(Machine)
	return m, unmarshal(body, m)
}

func unmarshal(body []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("stored registration: %w", err)
	}
	return nil
}
