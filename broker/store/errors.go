// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package store

import "errors"

var (
	// ErrNotFound is returned for a name, id or reference that is not there.
	ErrNotFound = errors.New("not found")
	// ErrExists is returned when something unique is there already.
	ErrExists = errors.New("exists already")
	// ErrReplay is returned by Once the second time.
	ErrReplay = errors.New("used before")
	// ErrExpired is returned for a one-time thing whose time is over.
	ErrExpired = errors.New("expired")
	// ErrStale is returned when something moved since it was read.
	ErrStale = errors.New("changed since it was read")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("store is closed")
)

// Unusable says why a delegation cannot be used now.
type Unusable struct {
	State State // requested, refused, revoked, expired, used
	Early bool  // it is approved, but begins later
}

// Error names the state.
func (u *Unusable) Error() string {
	if u.Early {
		return "delegation has not begun"
	}
	return "delegation is " + string(u.State)
}
