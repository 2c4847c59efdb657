// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"context"
	"net/http"
	"strings"

	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/verify"
)

// rejection makes one of verify's rejections for what the broker finds itself.
func rejection(code verify.Code, place, expected, observed string) *verify.Rejection {
	r := &verify.Rejection{Code: code, Attestor: verify.AttestorHardware, Retry: verify.RetryNever, Place: place, Expected: expected, Observed: observed}
	for _, info := range verify.Codes() {
		if info.Code == code {
			r.Check, r.Attestor, r.Retry = info.Check, info.Attestor, info.Retry
		}
	}
	return r
}

// checkName is the word for a rejection code in lists of checks: "E_PCR_DIGEST"
// is pcr-digest.
func checkName(code verify.Code) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(string(code), "E_")), "_", "-")
}

// rejected is the answer to a bundle that is not true as a whole. It names the
// place, not what would have been right.
func rejected(r *verify.Rejection) *oauth.Error {
	return &oauth.Error{Status: http.StatusBadRequest, Code: oauth.InvalidRequest, Retry: r.Retry, Rejection: string(r.Code),
		Description: "evidence rejected: " + r.Place, Failed: []oauth.Failure{{Attestor: string(r.Attestor), Check: checkName(r.Code)}}}
}

// reject logs that a known host's bundle was rejected.
func (b *Broker) reject(ctx context.Context, s *submission, r *verify.Rejection) *oauth.Error {
	d := b.newDecision(audit.TypeDecision, "deny")
	d.entry.Host = s.host.ID
	d.fail(station{Number: 8, Attestor: string(r.Attestor), Check: checkName(r.Code), Expected: []string{r.Place + ": " + r.Expected}, Observed: []string{r.Observed},
		Hint: hintOf(r)})
	e := rejected(r)
	d.problem(e.Status, e.Rejection)
	d.why.Type = "https://jurat.dev/problems/evidence-rejected"
	return b.refuse(ctx, d, e)
}
