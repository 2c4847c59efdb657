// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package resource

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4/json"
)

// taskType is the authorization_details type of a jurat task (RFC 9396).
const taskType = "https://jurat.dev/rar/task"

// attestors are the five that must all say yes.
var attestors = [...]string{"hardware", "boot", "code", "provenance", "context"}

// affirming is the AR4SI trustworthiness tier of a "yes".
const affirming = 2

// Grant is what an accepted call may do, and on whose word.
type Grant struct {
	Subject    string // the delegating human, pairwise for this broker and service
	Actor      Actor  // the workload that calls
	Purpose    string // the approved text, for people: never parse it
	Actions    []string
	Datatypes  []string
	Delegation Delegation
	Txn        string // the broker's transaction: log this
	TokenID    string
	Issued     time.Time
	Expires    time.Time
	Evidence   time.Duration // age of the host's evidence at this call
	Log        LogEntry
}

// Actor is the workload that calls, as the host attested it.
type Actor struct {
	Subject  string `json:"sub"`
	Instance string `json:"instance"`
	Host     string `json:"host"`
}

// Delegation names the human's approval behind a grant.
type Delegation struct {
	ID string `json:"id"`
	D  string `json:"d"`
}

// LogEntry is where the broker's log holds the decision.
type LogEntry struct {
	Origin string `json:"origin"`
	Index  uint64 `json:"index"`
	Leaf   string `json:"leaf"`
}

// Covers returns nil when the task allows the action, compared as a whole, and
// a *Refusal otherwise.
func (g Grant) Covers(action string) error {
	if slices.Contains(g.Actions, action) {
		return nil
	}
	return &Refusal{
		Status: http.StatusForbidden, Code: codeScope, Rule: RuleAction, Txn: g.Txn,
		Detail: fmt.Sprintf("action %q, the task allows %q", action, g.Actions),
	}
}

// claims are the access token's (RFC 9068 and spec/broker-api.md).
type claims struct {
	Issuer    string   `json:"iss"`
	Audience  audience `json:"aud"`
	Subject   string   `json:"sub"`
	Client    string   `json:"client_id"`
	ID        string   `json:"jti"`
	Txn       string   `json:"txn"`
	Issued    int64    `json:"iat"`
	NotBefore int64    `json:"nbf"`
	Expires   int64    `json:"exp"`
	Actor     Actor    `json:"act"`
	Confirm   struct {
		JKT string `json:"jkt"`
	} `json:"cnf"`
	Details    []detail   `json:"authorization_details"`
	Delegation Delegation `json:"delegation"`
	Evidence   struct {
		Status map[string]int `json:"status"`
		Age    *int64         `json:"age"`
	} `json:"evidence"`
	Log      LogEntry `json:"log"`
	KeyEpoch int64    `json:"ke"`
}

type detail struct {
	Type      string   `json:"type"`
	Purpose   string   `json:"purpose"`
	Actions   []string `json:"actions"`
	Datatypes []string `json:"datatypes"`
	Locations []string `json:"locations"`
}

// audience is one name: a string, or a list of exactly one (RFC 7519 section
// 4.1.3). A token for two services is none of ours.
type audience string

// UnmarshalJSON reads a string or a list of one string.
func (a *audience) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*a = audience(one)
		return nil
	}
	var many []string
	if err := json.Unmarshal(data, &many); err != nil {
		return err
	}
	if len(many) != 1 {
		return fmt.Errorf("aud names %d services, want one", len(many))
	}
	*a = audience(many[0])
	return nil
}

// grant holds the claims behind the signature against the rules about who
// acts, what the attestors said, and what was approved.
func (k *Checker) grant(c *claims, now time.Time) (Grant, error) {
	if c.Actor.Subject == "" || c.Subject == "" {
		return Grant{}, badToken(RuleActor, "no actor or no human: sub %q, act.sub %q", c.Subject, c.Actor.Subject)
	}
	if c.Client != c.Actor.Subject {
		return Grant{}, badToken(RuleActor, "client_id %q is not act.sub %q", c.Client, c.Actor.Subject)
	}
	for _, name := range attestors {
		if got, ok := c.Evidence.Status[name]; !ok || got != affirming {
			return Grant{}, badToken(RuleStatus, "%s is %d, want %d", name, got, affirming)
		}
	}
	for name, got := range c.Evidence.Status {
		if got != affirming {
			return Grant{}, badToken(RuleStatus, "%s is %d, want %d", name, got, affirming)
		}
	}
	if c.Evidence.Age == nil || *c.Evidence.Age < 0 || *c.Evidence.Age > int64(k.maxAge/time.Second) {
		return Grant{}, badToken(RuleAge, "no evidence age between 0 s and %v", k.maxAge)
	}
	issued := time.Unix(c.Issued, 0)
	made, since := time.Duration(*c.Evidence.Age)*time.Second, max(0, now.Sub(issued))
	if since > k.maxAge-made {
		return Grant{}, badToken(RuleAge, "evidence was %v old at issuance %v ago, at most %v", made, since.Round(time.Second), k.maxAge)
	}
	if len(c.Details) != 1 || c.Details[0].Type != taskType {
		return Grant{}, badToken(RuleTask, "%d authorization_details, want one of type %s", len(c.Details), taskType)
	}
	task := c.Details[0]
	if len(task.Locations) != 1 || task.Locations[0] != k.audience {
		return Grant{}, badToken(RuleTask, "locations %q, want only %q", task.Locations, k.audience)
	}
	if len(task.Actions) == 0 {
		return Grant{}, badToken(RuleTask, "the task allows no action")
	}
	return Grant{
		Subject: c.Subject, Actor: c.Actor, Purpose: task.Purpose, Actions: task.Actions, Datatypes: task.Datatypes,
		Delegation: c.Delegation, Txn: c.Txn, TokenID: c.ID, Issued: issued, Expires: time.Unix(c.Expires, 0),
		Evidence: made + since, Log: c.Log,
	}, nil
}
