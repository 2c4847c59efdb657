// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ek

import (
	"fmt"
	"strings"
	"unicode"
)

// Code says in one stable word why a key is not believed.
type Code string

// The codes.
const (
	CodeNone         Code = "E_EK_NONE"
	CodeTooLarge     Code = "E_EK_TOO_LARGE"
	CodeMalformed    Code = "E_EK_MALFORMED"
	CodeKey          Code = "E_EK_KEY"
	CodeROCA         Code = "E_EK_ROCA"
	CodeMismatch     Code = "E_EK_KEY_MISMATCH"
	CodeAuthority    Code = "E_EK_AUTHORITY"
	CodeProfile      Code = "E_EK_PROFILE"
	CodeUsage        Code = "E_EK_KEY_USAGE"
	CodeEKU          Code = "E_EK_EKU"
	CodeSAN          Code = "E_EK_SAN"
	CodeNotYet       Code = "E_EK_NOT_YET_VALID"
	CodeExpired      Code = "E_EK_EXPIRED"
	CodeChain        Code = "E_EK_CHAIN"
	CodeManufacturer Code = "E_EK_MANUFACTURER"
	CodeDenied       Code = "E_EK_DENIED"
	CodeAK           Code = "E_EK_AK"
	CodeAKProof      Code = "E_EK_AK_PROOF"
)

// CodeInfo is a code with its meaning, for people.
type CodeInfo struct {
	Code    Code
	Meaning string
}

// Codes returns all codes.
func Codes() []CodeInfo {
	return []CodeInfo{
		{CodeNone, "there is no certificate"},
		{CodeTooLarge, "a certificate, a public area or a chain is larger than it may be"},
		{CodeMalformed, "the bytes are not what they should be"},
		{CodeKey, "the key is of a kind or size that an endorsement key may not have"},
		{CodeROCA, "the RSA key was made by the faulty Infineon generator (CVE-2017-15361)"},
		{CodeMismatch, "the certificate is for another key"},
		{CodeAuthority, "the certificate is an authority's, not a TPM's"},
		{CodeProfile, "version or critical extensions are not those of a TPM's certificate"},
		{CodeUsage, "key usage does not allow what the key is for"},
		{CodeEKU, "extended key usage names something else"},
		{CodeSAN, "subject alternative name: missing, malformed, or not critical without a subject"},
		{CodeNotYet, "a certificate of the path is not valid yet"},
		{CodeExpired, "a certificate of the path has expired"},
		{CodeChain, "no path leads to an installed root"},
		{CodeManufacturer, "the manufacturer of the TPM is not allowed"},
		{CodeDenied, "a deny rule of the operator names it"},
		{CodeAK, "the attestation key cannot be enrolled by its own certificate"},
		{CodeAKProof, "nothing proves that the host holds the attestation key"},
	}
}

// Error says why a key or a certificate is not believed.
type Error struct {
	Code  Code
	Place string // such as "EK certificate"
	Text  string // safe to print
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Place + ": " + e.Text }

// fault makes an Error. What certificates say of themselves is cleaned.
func fault(code Code, place, format string, args ...any) *Error {
	return &Error{code, place, clean(fmt.Sprintf(format, args...))}
}

// clean replaces what does not print as itself, and cuts what is long: a
// certificate may call itself anything.
func clean(s string) string {
	const longest = 400
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "…"
	}
	return s
}
