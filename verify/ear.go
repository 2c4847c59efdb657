// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

// EARProfile is the version of EAT Attestation Results written here.
const EARProfile = "tag:ietf.org,2026:rats/ear#03"

// EAR is an appraisal as an EAT Attestation Result (draft-ietf-rats-ear), to be
// written as JSON. It is not signed.
type EAR struct {
	Profile  string              `json:"eat_profile"`
	Status   string              `json:"ear_status"`
	IssuedAt int64               `json:"iat"`
	Verifier VerifierID          `json:"ear_verifier_id"`
	Submods  map[Attestor]Submod `json:"submods"`
}

// VerifierID says which verifier made an EAR.
type VerifierID struct {
	Developer string `json:"developer"`
	Build     string `json:"build"`
}

// Submod is one attestor's part of an EAR.
type Submod struct {
	Status   string           `json:"ear_status"`
	Vector   map[string]Claim `json:"ear_trustworthiness_vector"`
	Policies []string         `json:"ear_appraisal_policy_ids,omitempty"`
}

// claims says which AR4SI claims an attestor makes.
var claims = map[Attestor][]string{
	AttestorHardware:   {"instance-identity", "hardware"},
	AttestorBoot:       {"configuration"},
	AttestorCode:       {"executables"},
	AttestorProvenance: {"sourced-data"},
	AttestorContext:    {"runtime-opaque"},
}

// EAR returns the appraisal as an EAT Attestation Result. Its status is that of
// the worst attestor.
func (a Appraisal) EAR() EAR {
	ear := EAR{
		Profile: EARProfile, Verifier: VerifierID{Developer: "https://jurat.dev", Build: "verify/1"},
		IssuedAt: a.at.Unix(), Submods: make(map[Attestor]Submod, len(attestors)),
	}
	overall := ClaimAffirming
	for attestor, claim := range a.Vector() {
		overall = worse(overall, claim)
		s := Submod{Status: claim.String(), Vector: make(map[string]Claim)}
		for _, name := range claims[attestor] {
			s.Vector[name] = claim
		}
		if a.id != "" {
			s.Policies = []string{a.id}
		}
		ear.Submods[attestor] = s
	}
	ear.Status = overall.String()
	return ear
}
