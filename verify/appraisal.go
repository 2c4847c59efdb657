// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"slices"
	"time"
)

// Appraisal is the answer of the five attestors on one request. Its zero value
// is not OK.
type Appraisal struct {
	checks []Check
	id     string
	at     time.Time
}

// Check is one look of one attestor, with what was expected and what was there.
type Check struct {
	Attestor Attestor `json:"attestor"`
	Check    string   `json:"check"`
	Expected []string `json:"expected"`
	Observed []string `json:"observed"`
	OK       bool     `json:"ok"`
	Hint     string   `json:"hint,omitempty"` // what an operator can do about it
	claim    Claim
}

// Claim is a trustworthiness claim (draft-ietf-rats-ar4si section 2.3).
type Claim int8

// The steps of AR4SI's ladder that are used here.
const (
	ClaimNone            Claim = 0  // nothing can be said: it was not measured
	ClaimAffirming       Claim = 2  // as it should be
	ClaimWarning         Claim = 32 // genuine, but weaker than asked for
	ClaimContraindicated Claim = 96 // measured, and not what it should be
)

// String returns the name of the claim's tier.
func (c Claim) String() string {
	switch c {
	case ClaimAffirming:
		return "affirming"
	case ClaimWarning:
		return "warning"
	case ClaimContraindicated:
		return "contraindicated"
	default:
		return "none"
	}
}

// worse orders claims: the worst one speaks for all. Nothing known is worse
// than affirming, and better than known to be wrong.
func worse(a, b Claim) Claim {
	ladder := []Claim{ClaimAffirming, ClaimNone, ClaimWarning, ClaimContraindicated}
	if slices.Index(ladder, a) > slices.Index(ladder, b) {
		return a
	}
	return b
}

var attestors = [...]Attestor{AttestorHardware, AttestorBoot, AttestorCode, AttestorProvenance, AttestorContext}

// OK reports whether every attestor said yes to every check.
func (a Appraisal) OK() bool {
	vector := a.Vector()
	for _, attestor := range attestors {
		if vector[attestor] != ClaimAffirming {
			return false
		}
	}
	return true
}

// Checks lists every check that was made, by attestor.
func (a Appraisal) Checks() []Check { return slices.Clone(a.checks) }

// Failed lists the checks that were not passed.
func (a Appraisal) Failed() []Check {
	return slices.DeleteFunc(a.Checks(), func(c Check) bool { return c.OK })
}

// Vector gives each attestor's claim: its worst check's. An attestor that made
// no check claims nothing.
func (a Appraisal) Vector() map[Attestor]Claim {
	out := make(map[Attestor]Claim, len(attestors))
	for _, attestor := range attestors {
		out[attestor] = ClaimNone
	}
	asked := make(map[Attestor]bool, len(attestors))
	for _, c := range a.checks {
		if !asked[c.Attestor] {
			asked[c.Attestor], out[c.Attestor] = true, c.claim
		} else {
			out[c.Attestor] = worse(out[c.Attestor], c.claim)
		}
	}
	return out
}

// pass and fail add a check with its outcome.
func (a *Appraisal) pass(attestor Attestor, check string, expected, observed []string) {
	a.add(attestor, check, expected, observed, ClaimAffirming, "")
}

func (a *Appraisal) fail(attestor Attestor, check string, expected, observed []string, hint string) {
	a.add(attestor, check, expected, observed, ClaimContraindicated, hint)
}

func (a *Appraisal) add(attestor Attestor, check string, expected, observed []string, claim Claim, hint string) {
	ok := claim == ClaimAffirming
	if ok {
		hint = ""
	}
	a.checks = append(a.checks, Check{
		Attestor: attestor, Check: check, Expected: shown(expected), Observed: shown(observed), OK: ok, Hint: hint, claim: claim,
	})
}

// judge adds a check that is passed or failed.
func (a *Appraisal) judge(attestor Attestor, check string, ok bool, expected, observed []string, hint string) {
	if ok {
		a.pass(attestor, check, expected, observed)
		return
	}
	a.fail(attestor, check, expected, observed, hint)
}
