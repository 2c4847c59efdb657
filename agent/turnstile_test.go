// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"testing"
	"time"
)

func TestTurnstile(t *testing.T) {
	s := newTurnstile()
	enter := func(uid, pid uint32) func() {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		leave, err := s.enter(ctx, uid, pid)
		if err != nil {
			return nil
		}
		return leave
	}
	var leaves []func()
	must := func(ok bool, uid, pid uint32) {
		t.Helper()
		leave := enter(uid, pid)
		if (leave != nil) != ok {
			t.Errorf("user %d process %d: entered %v", uid, pid, leave != nil)
		}
		if leave != nil {
			leaves = append(leaves, leave)
		}
	}
	for pid := range uint32(measurersPerUser) {
		must(true, 1, pid)
	}
	must(false, 1, 99) // the user has as many as one may
	must(false, 2, 0)  // the process is in already, whoever it is now
	for pid := range uint32(measurers - measurersPerUser) {
		must(true, 2, 100+pid)
	}
	must(false, 3, 200) // no place is left
	for _, leave := range leaves {
		leave()
	}
	leaves = nil
	if len(s.groups) != 0 || len(s.places) != 0 {
		t.Errorf("%d groups, %d places after everybody left", len(s.groups), len(s.places))
	}
	must(true, 1, 1)
	leaves[0]()
	if len(s.groups) != 0 {
		t.Errorf("%d groups", len(s.groups))
	}
}
