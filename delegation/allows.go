// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package delegation

import (
	"fmt"
	"slices"
	"time"
)

// Excess says what a request asks for beyond the delegation.
type Excess struct {
	Field string // "audience", "actions" or "datatypes"
	Value string // the first thing too much
}

// Error names the field and the value.
func (e *Excess) Error() string {
	return fmt.Sprintf("%s: %q is not delegated", e.Field, e.Value)
}

// Allows reports whether the request stays within o: the same audience byte by
// byte, at least one action, and no action or datatype that o does not name.
// The error is always an *[Excess].
func (o *Delegation) Allows(audience string, actions, datatypes []string) error {
	if audience != o.Audience {
		return &Excess{"audience", audience}
	}
	if len(actions) == 0 {
		return &Excess{"actions", ""}
	}
	for _, a := range actions {
		if !slices.Contains(o.Actions, a) {
			return &Excess{"actions", a}
		}
	}
	for _, t := range datatypes {
		if !slices.Contains(o.Limits.Datatypes, t) {
			return &Excess{"datatypes", t}
		}
	}
	return nil
}

// NotBeforeTime returns when the delegation begins.
func (o *Delegation) NotBeforeTime() time.Time { return time.Unix(int64(o.NotBefore), 0).UTC() }

// ExpiresTime returns when the delegation is over.
func (o *Delegation) ExpiresTime() time.Time { return time.Unix(int64(o.Expires), 0).UTC() }
