// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/jurat-dev/jurat/ek"
	"github.com/jurat-dev/jurat/verify"
)

// MaxPolicy bounds the text of a policy, in bytes.
const MaxPolicy = 64 << 10

// ParsePolicy reads what an operator demands of every bundle otherwise than
// [verify.DefaultPolicy]: one YAML mapping of
//
//	measured: [0, 1, 2, 3, 4, 5, 6, 7]
//	anchors: [none, nv-latch, nvpcr]
//	latches: [8, 9, 11, 12, 13, 14, 15]
//	nvpcrs: ["000b…"]
//	tiers: [tracepoint, trampoline, lsm]
//	ima_violations: false
//	denied_firmware: [{maker: IFX, from: 0x0, to: 0xffff, why: CVE-2017-15361}]
//	unsafe_clock_grace: 10m
//
// of which each may be left out. Which PCRs are quoted is no operator's choice:
// all agents quote the same. A member that is unknown or has no value is refused.
func ParsePolicy(text []byte) (verify.Policy, error) {
	policy := verify.DefaultPolicy()
	if len(text) > MaxPolicy {
		return verify.Policy{}, fmt.Errorf("policy of %d bytes, at most %d", len(text), MaxPolicy)
	}
	if err := noEmptyMember(text); err != nil {
		return verify.Policy{}, err
	}
	strict := yaml.NewDecoder(bytes.NewReader(text))
	strict.KnownFields(true)
	if err := strict.Decode(&policy); err != nil && !errors.Is(err, io.EOF) {
		return verify.Policy{}, err
	}
	if !slices.Equal(policy.PCRs, verify.DefaultPolicy().PCRs) {
		return verify.Policy{}, errors.New("pcrs: they are not for an operator to choose")
	}
	for i := range policy.Firmware {
		f := &policy.Firmware[i]
		if f.From > f.To || f.Why == "" {
			return verify.Policy{}, fmt.Errorf("denied_firmware[%d]: want from, to, and why", i)
		}
		if f.Maker == "" {
			continue
		}
		maker, err := ek.ParseManufacturer(f.Maker)
		if err != nil {
			return verify.Policy{}, fmt.Errorf("denied_firmware[%d]: %v", i, err)
		}
		f.Maker = MakerID(maker)
	}
	return policy, policy.Check()
}

// noEmptyMember refuses a member without a value, which would read as an empty
// list: nothing measured, nothing denied.
func noEmptyMember(text []byte) error {
	nodes := yaml.NewDecoder(bytes.NewReader(text))
	var node, more yaml.Node
	switch err := nodes.Decode(&node); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	if err := nodes.Decode(&more); !errors.Is(err, io.EOF) {
		return errors.New("more than one document")
	}
	if len(node.Content) != 1 || node.Content[0].Kind != yaml.MappingNode {
		return errors.New("want a mapping")
	}
	members := node.Content[0].Content
	for i := 0; i+1 < len(members); i += 2 {
		if members[i+1].Tag == "!!null" {
			return fmt.Errorf("line %d: %s has no value", members[i].Line, members[i].Value)
		}
	}
	return nil
}
