// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package oauth

import "github.com/jurat-dev/jurat/evidence"

// Paths below the issuer.
const (
	PathMetadata   = "/.well-known/oauth-authorization-server"
	PathDiscovery  = "/.well-known/openid-configuration"
	PathJWKS       = "/oauth/jwks"
	PathChallenge  = "/oauth/challenge"
	PathToken      = "/oauth/token"
	PathIntrospect = "/oauth/introspect"
	PathRevoke     = "/oauth/revoke"
	PathEvidence   = "/v1/evidence"
)

// Metadata is the authorization server's description of itself (RFC 8414).
type Metadata struct {
	Issuer             string   `json:"issuer"`
	TokenEndpoint      string   `json:"token_endpoint"`
	JWKS               string   `json:"jwks_uri"`
	Introspection      string   `json:"introspection_endpoint"`
	IntrospectionAuth  []string `json:"introspection_endpoint_auth_methods_supported"`
	Revocation         string   `json:"revocation_endpoint"`
	RevocationAuth     []string `json:"revocation_endpoint_auth_methods_supported"`
	Challenge          string   `json:"challenge_endpoint"`
	ResponseTypes      []string `json:"response_types_supported"`
	GrantTypes         []string `json:"grant_types_supported"`
	TokenAuth          []string `json:"token_endpoint_auth_methods_supported"`
	DPoPAlgorithms     []string `json:"dpop_signing_alg_values_supported"`
	DetailTypes        []string `json:"authorization_details_types_supported"`
	CertificateBound   bool     `json:"tls_client_certificate_bound_access_tokens"`
	EvidenceEndpoint   string   `json:"jurat_evidence_endpoint"`
	EvidenceMediaTypes []string `json:"jurat_evidence_media_types_supported"`
	LogOrigin          string   `json:"jurat_log_origin"`
	LogKey             string   `json:"jurat_log_key"` // note verifier key
	MinimumKeyEpoch    int      `json:"jurat_minimum_key_epoch"`
}

// NewMetadata describes the broker at issuer.
func NewMetadata(issuer, logOrigin, logKey string) *Metadata {
	algorithms := make([]string, len(proofAlgorithms))
	for i, a := range proofAlgorithms {
		algorithms[i] = string(a)
	}
	return &Metadata{
		Issuer: issuer, TokenEndpoint: issuer + PathToken, JWKS: issuer + PathJWKS,
		Introspection: issuer + PathIntrospect, IntrospectionAuth: []string{"client_secret_basic"},
		Revocation: issuer + PathRevoke, RevocationAuth: []string{"none"},
		Challenge: issuer + PathChallenge, ResponseTypes: []string{}, GrantTypes: []string{GrantTokenExchange},
		TokenAuth: []string{"none"}, DPoPAlgorithms: algorithms, DetailTypes: []string{evidence.TaskType},
		EvidenceEndpoint: issuer + PathEvidence, EvidenceMediaTypes: []string{evidence.MediaType},
		LogOrigin: logOrigin, LogKey: logKey, MinimumKeyEpoch: KeyEpoch,
	}
}
