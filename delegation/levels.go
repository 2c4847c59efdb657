// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package delegation

import (
	"fmt"
	"slices"

	"github.com/jurat-dev/jurat/evidence"
)

// Levels say how well something is proved: how the host's key is known, how
// its log is anchored, how much its sensor sees.
type Levels struct {
	_      struct{} `cbor:",toarray"`
	EK     string   `json:"ek"`     // "ek-pin", "cloud-ak-cert", "ek-cert"
	Anchor string   `json:"anchor"` // "none", "nvpcr", "nv-latch"
	Tier   string   `json:"tier"`   // "tracepoint", "trampoline", "lsm"
}

// Each list goes from least to most.
var (
	ekLevels     = []string{"ek-pin", "cloud-ak-cert", "ek-cert"}
	anchorLevels = []string{evidence.AnchorNone, evidence.AnchorNvPCR, evidence.AnchorNVLatch}
	tierLevels   = []string{"tracepoint", "trampoline", "lsm"}
)

// Lowest returns the levels that everything well formed reaches.
func Lowest() Levels {
	return Levels{EK: ekLevels[0], Anchor: anchorLevels[0], Tier: tierLevels[0]}
}

func (l Levels) check() error {
	for _, s := range l.scales(Levels{}) {
		if !slices.Contains(s.order, s.least) {
			return fmt.Errorf("unknown %s level %q, want one of %q", s.name, s.least, s.order)
		}
	}
	return nil
}

// Reached reports whether seen is at least l in everything. A word that is on
// neither list reaches nothing.
func (l Levels) Reached(seen Levels) error {
	for _, s := range l.scales(seen) {
		least, have := slices.Index(s.order, s.least), slices.Index(s.order, s.seen)
		if least < 0 || have < least {
			return fmt.Errorf("%s level %q, want at least %q", s.name, s.seen, s.least)
		}
	}
	return nil
}

type scale struct {
	name, least, seen string
	order             []string
}

func (l Levels) scales(seen Levels) [3]scale {
	return [3]scale{
		{"ek", l.EK, seen.EK, ekLevels},
		{"anchor", l.Anchor, seen.Anchor, anchorLevels},
		{"tier", l.Tier, seen.Tier, tierLevels},
	}
}
