// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package store

import "errors"

// Ahead fetches what reads reads, all at once, for when it is read in earnest.
// What reads is given has no rows in it: only that it asks counts.
func (r *Reader) Ahead(reads func(r *Reader)) error {
	if _, over := r.c.(closedConn); over {
		return errOver
	}
	var asked asking
	reads(&Reader{&asked})
	return r.c.Ahead(asked.questions)
}

// asking is a connection that notes what it is asked, and answers nothing.
type asking struct{ questions []Question }

var errAsking = errors.New("nothing is written while it is noted what will be read")

func (a *asking) Exec(string, ...any) (int64, error) { return 0, errAsking }
func (a *asking) Ahead([]Question) error             { return nil }

func (a *asking) Query(query string, args ...any) (Rows, error) {
	a.questions = append(a.questions, Question{query, args})
	return noRows{}, nil
}

type noRows struct{}

func (noRows) Next() bool        { return false }
func (noRows) Scan(...any) error { return ErrNotFound }
func (noRows) Err() error        { return nil }
func (noRows) Close() error      { return nil }
