// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package oauth

import (
	"bytes"
	"slices"

	"github.com/go-jose/go-jose/v4/json"

	"github.com/jurat-dev/jurat/evidence"
)

// Task is the one authorization_details type there is (RFC 9396).
type Task struct {
	Type      string   `json:"type"`
	Purpose   string   `json:"purpose,omitempty"` // the approved words, for people; never parsed
	Actions   []string `json:"actions"`
	Datatypes []string `json:"datatypes,omitempty"`
	Locations []string `json:"locations,omitempty"`
}

// taskFields are the members a task may have. Case counts.
var taskFields = []string{"type", "purpose", "actions", "datatypes", "locations"}

// ParseDetails reads authorization_details: an array of one task. An unknown
// type, an unknown or doubled member, an empty or repeated action are refused.
func ParseDetails(text string) (*Task, *Error) {
	bad := func(format string, args ...any) (*Task, *Error) {
		return nil, Refuse(InvalidDetails, RetryNever, "authorization_details: "+format, args...)
	}
	if len(text) > MaxDetails {
		return bad("%d bytes, at most %d", len(text), MaxDetails)
	}
	// The decoder is go-jose's: it knows case and refuses a member given twice.
	var members []map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &members); err != nil {
		return bad("%v", err)
	}
	if len(members) != 1 {
		return bad("%d elements, want 1", len(members))
	}
	for name, value := range members[0] {
		if !slices.Contains(taskFields, name) {
			return bad("unknown member %q", name)
		}
		if bytes.Equal(value, []byte("null")) {
			return bad("member %q is null", name)
		}
	}
	var tasks []Task
	if err := json.Unmarshal([]byte(text), &tasks); err != nil {
		return bad("%v", err)
	}
	t := &tasks[0]
	if t.Type != evidence.TaskType {
		return bad("type %q, want %s", t.Type, evidence.TaskType)
	}
	if len(t.Actions) == 0 {
		return bad("no action")
	}
	for _, list := range [][]string{t.Actions, t.Datatypes, t.Locations} {
		if len(list) > evidence.MaxActions {
			return bad("%d values, at most %d", len(list), evidence.MaxActions)
		}
		slices.Sort(list)
		if slices.Contains(list, "") || len(slices.Compact(slices.Clone(list))) != len(list) {
			return bad("an empty or repeated value in %q", list)
		}
	}
	return t, nil
}
