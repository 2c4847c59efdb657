// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package brokerclient

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Check names one check that said no, without what it expected and observed:
// those are for whoever may ask the broker to explain.
type Check struct {
	Attestor string `json:"attestor"`
	Check    string `json:"check"`
}

// Refusal is the broker's no (spec/broker-api.md, errors).
type Refusal struct {
	Op          string  // what was asked
	Status      int     // HTTP status
	Code        string  // OAuth error code, such as "invalid_request"
	Reason      string  // why, where the code alone does not say it: "E_SEQUENCE", "delegation_expired"
	Description string  // for people
	Failed      []Check // which attestor said no
	Txn         string  // under which the broker's log has it
	Retry       string  // "now", "later", "after-change", "new-delegation", "operator", "never"
	After       time.Duration
	Nonce       string // a fresh challenge, when Code is "use_dpop_nonce"
}

func (e *Refusal) Error() string {
	text := fmt.Sprintf("%s: the broker refused: %s", e.Op, e.Code)
	if e.Reason != "" {
		text += " (" + e.Reason + ")"
	}
	if e.Description != "" {
		text += ": " + e.Description
	}
	for i, f := range e.Failed {
		sep := ", "
		if i == 0 {
			sep = "; no from "
		}
		text += sep + f.Attestor + "/" + f.Check
	}
	if e.Txn != "" {
		text += "; txn " + e.Txn
	}
	return text
}

// Temporary reports whether the broker has not decided: it is busy, and takes
// the same question again. A decision that says "later" (not approved yet)
// used up what was asked with.
func (e *Refusal) Temporary() bool {
	switch e.Status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// Unreachable says that no answer came. Whether the broker acted on the
// question is not known.
type Unreachable struct {
	Op  string
	URL string
	Err error
}

func (e *Unreachable) Error() string {
	return fmt.Sprintf("%s: broker %s is unreachable: %v", e.Op, e.URL, e.Err)
}

func (e *Unreachable) Unwrap() error { return e.Err }

// BadAnswer says that an answer came which spec/broker-api.md does not allow.
type BadAnswer struct {
	Op     string
	Detail string
}

func (e *BadAnswer) Error() string { return e.Op + ": malformed answer of the broker: " + e.Detail }

func badAnswer(op, format string, args ...any) error {
	return &BadAnswer{Op: op, Detail: fmt.Sprintf(format, args...)}
}

// Temporary reports whether asking again may help: the broker was not
// reached, or said that it is busy.
func Temporary(err error) bool {
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		return refusal.Temporary()
	}
	_, ok := errors.AsType[*Unreachable](err)
	return ok
}
