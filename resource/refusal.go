// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package resource

import (
	"fmt"
	"net/http"
	"strings"
)

// Rule names one check. The names are stable: they appear in logs and in
// error_description.
type Rule string

// The rules, in the order in which they are checked.
const (
	RuleSize           Rule = "size"
	RuleAuthorization  Rule = "authorization" // exactly one Authorization: DPoP
	RuleProofHeader    Rule = "proof-header"  // exactly one DPoP
	RuleTokenForm      Rule = "token-form"
	RuleTokenType      Rule = "token-type"
	RuleTokenKey       Rule = "token-key"
	RuleTokenAlgorithm Rule = "token-algorithm"
	RuleTokenSignature Rule = "token-signature"
	RuleIssuer         Rule = "issuer"
	RuleAudience       Rule = "audience"
	RuleExpiry         Rule = "expiry"
	RuleNotYet         Rule = "not-yet"   // iat or nbf in the future
	RuleKeyEpoch       Rule = "key-epoch" // ke not below the broker's minimum
	RuleBinding        Rule = "binding"   // cnf.jkt present
	RuleProofForm      Rule = "proof-form"
	RuleProofType      Rule = "proof-type"
	RuleProofAlgorithm Rule = "proof-algorithm"
	RuleProofKey       Rule = "proof-key"
	RuleProofSignature Rule = "proof-signature"
	RuleThumbprint     Rule = "thumbprint"
	RuleMethod         Rule = "htm"
	RuleURL            Rule = "htu"
	RuleProofTime      Rule = "iat"
	RuleTokenHash      Rule = "ath"
	RuleReplay         Rule = "jti"
	RuleActor          Rule = "actor"
	RuleStatus         Rule = "evidence-status"
	RuleAge            Rule = "evidence-age"
	RuleTask           Rule = "task"
	RuleRevoked        Rule = "revoked"
	RuleAction         Rule = "action"
)

// Refusal is a "no" to one call, with the answer that RFC 6750 section 3 and
// RFC 9449 section 7.1 prescribe for it.
type Refusal struct {
	Status int    // HTTP status of the answer
	Code   string // error code of the answer; "" when the call brought no credential
	Rule   Rule   // the check that said no
	Detail string // fact and place; holds no secret
	Txn    string // the broker's transaction, known only once the signature held
}

// Error returns the rule and the detail.
func (r *Refusal) Error() string { return fmt.Sprintf("%s: %s", r.Rule, r.Detail) }

// Challenge returns the value of the WWW-Authenticate header.
func (r *Refusal) Challenge() string {
	if r.Code == "" {
		return `DPoP algs="ES256 EdDSA"`
	}
	return fmt.Sprintf(`DPoP error="%s", error_description="%s", algs="ES256 EdDSA"`, r.Code, quotable(r.Error()))
}

// quotable keeps what RFC 6750 section 3 allows in error_description.
func quotable(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == '"' || c == '\\':
			return '\''
		case c < 0x20 || c > 0x7e:
			return '?'
		}
		return c
	}, s)
}

// Codes of RFC 6750 section 3.1 and RFC 9449 section 7.1.
const (
	codeRequest = "invalid_request"
	codeToken   = "invalid_token"
	codeProof   = "invalid_dpop_proof"
	codeScope   = "insufficient_scope"
)

func badRequest(rule Rule, format string, args ...any) *Refusal {
	return &Refusal{Status: http.StatusBadRequest, Code: codeRequest, Rule: rule, Detail: fmt.Sprintf(format, args...)}
}

func badToken(rule Rule, format string, args ...any) *Refusal {
	return &Refusal{Status: http.StatusUnauthorized, Code: codeToken, Rule: rule, Detail: fmt.Sprintf(format, args...)}
}

func badProof(rule Rule, format string, args ...any) *Refusal {
	return &Refusal{Status: http.StatusUnauthorized, Code: codeProof, Rule: rule, Detail: fmt.Sprintf(format, args...)}
}

// Unavailable says that the call could be neither accepted nor refused: the
// broker's keys or its answer were not to be had. It is answered with 503.
type Unavailable struct {
	Place string
	Cause error
}

// Error returns the place and the cause.
func (u *Unavailable) Error() string { return u.Place + ": " + u.Cause.Error() }

// Unwrap returns the cause.
func (u *Unavailable) Unwrap() error { return u.Cause }
