// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
)

// Limits of what is read, in bytes.
const (
	maxHostFile  = 64 << 20 // a long IMA list is in it
	maxPolicy    = 64 << 10
	maxReference = 1 << 20
)

// trial is a bundle, and everything it is held against.
type trial struct {
	bundle    []byte
	host      verify.Host
	challenge verify.Challenge
	policy    verify.Policy
	at        time.Time
	reference *verify.Reference // nil: no appraisal
	expected  string            // of a vector: "ok", a code, or the first check that must say no
}

// readHost reads what 'jurat host export' wrote.
func (a *app) readHost(name string) (verify.Host, error) {
	data, err := a.readInput(name, maxHostFile)
	if err != nil {
		return verify.Host{}, err
	}
	f := new(hostFile)
	strict := json.NewDecoder(bytes.NewReader(data))
	strict.DisallowUnknownFields()
	if err := strict.Decode(f); err != nil {
		return verify.Host{}, malformedInput(name, err)
	}
	if f.Schema != "jurat.host/v1" {
		return verify.Host{}, malformedInput(name, fmt.Errorf("schema %q, want jurat.host/v1, which 'jurat host export' writes", f.Schema))
	}
	host, err := verify.NewHost(f.UEID, f.AKPublic, f.AKName, f.Level)
	if err != nil {
		return verify.Host{}, malformedInput(name, err)
	}
	host.Maker, host.Last = f.Maker, f.Last
	if f.IMA != nil {
		if len(f.IMA.Files)%32 != 0 {
			return verify.Host{}, malformedInput(name, fmt.Errorf("ima files of %d bytes, want 32 for each", len(f.IMA.Files)))
		}
		var files []evidence.Hash
		for rest := f.IMA.Files; len(rest) > 0; rest = rest[32:] {
			files = append(files, evidence.Hash(rest[:32]))
		}
		host.IMA = verify.NewIMAList(f.IMA.Position, files)
	}
	return host, nil
}

// readPolicy reads a policy as jurat-broker's -policy does.
func (a *app) readPolicy(name string) (verify.Policy, error) {
	policy := verify.DefaultPolicy()
	if name == "" {
		return policy, nil
	}
	text, err := a.readInput(name, maxPolicy)
	if err != nil {
		return policy, err
	}
	var members map[string]any
	if err := yaml.Unmarshal(text, &members); err != nil {
		return policy, malformedInput(name, err)
	}
	for member, value := range members {
		if value == nil {
			return policy, malformedInput(name, fmt.Errorf("%s has no value", member))
		}
	}
	if err := decodeYAML(text, &policy); err != nil && !errors.Is(err, io.EOF) {
		return policy, malformedInput(name, err)
	}
	if !slices.Equal(policy.PCRs, verify.DefaultPolicy().PCRs) {
		return policy, malformedInput(name, errors.New("pcrs: they are not for an operator to choose"))
	}
	if err := policy.Check(); err != nil {
		return policy, malformedInput(name, err)
	}
	return policy, nil
}

func decodeYAML(text []byte, v any) error {
	strict := yaml.NewDecoder(bytes.NewReader(text))
	strict.KnownFields(true)
	return strict.Decode(v)
}

// registrations are the members of those registrations that make a reference.
type registrations struct {
	Kind     string                  `yaml:"kind"`
	ID       string                  `yaml:"id"`
	Name     string                  `yaml:"name"`
	Machines []string                `yaml:"machines"`
	Bearer   bool                    `yaml:"bearer"`
	Lifetime int                     `yaml:"lifetime"`
	Minimum  verify.Minimum          `yaml:"minimum"`
	Code     verify.CodeReference    `yaml:"code"`
	Context  verify.ContextReference `yaml:"context"`
	Boot     verify.BootReference    `yaml:"boot"`
	Keys     []string                `yaml:"keys"`
	Audience string                  `yaml:"audience"`
}

// readReference makes a reference of one Workload and one Machine, as they are
// registered.
func (a *app) readReference(name string, now time.Time) (*verify.Reference, error) {
	text, err := a.readInput(name, maxReference)
	if err != nil {
		return nil, err
	}
	strict := yaml.NewDecoder(bytes.NewReader(text))
	strict.KnownFields(true)
	ref := new(verify.Reference)
	workloads, classes := 0, 0
	for {
		var r registrations
		if err := strict.Decode(&r); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, malformedInput(name, err)
		}
		switch r.Kind {
		case "Workload":
			workloads++
			ref.ID, ref.Workload, ref.Minimum, ref.Code, ref.Context = r.ID, r.ID, r.Minimum, r.Code, r.Context
		case "Machine":
			classes++
			ref.Boot = r.Boot
		}
	}
	if workloads != 1 || classes != 1 {
		return nil, malformedInput(name, fmt.Errorf("%d registrations of kind Workload and %d of kind Machine, want one of each", workloads, classes))
	}
	for _, group := range []*[]verify.Value{&ref.Code.Executables, &ref.Code.Loaders.Of, &ref.Code.Libraries.Of, &ref.Code.Scripts} {
		for i := range *group {
			pin(&(*group)[i], name, now)
		}
	}
	if err := ref.Check(); err != nil {
		return nil, malformedInput(name, err)
	}
	return ref, nil
}

// pin says of a digest that nobody vouches for who does: whoever wrote the file.
func pin(v *verify.Value, file string, now time.Time) {
	if v.Provenance == "" {
		v.Provenance = verify.Pinned
	}
	if v.By == "" {
		v.By = file
	}
	if v.At.IsZero() {
		v.At = now
	}
}
