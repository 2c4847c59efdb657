// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package store

import (
	"fmt"
	"math/bits"
	"strings"
)

// maxRows is how many rows a statement writes at most, a power of two.
const maxRows = 64

// inserter has the statements that write 1, 2, 4, … rows of a table: few enough
// to be prepared, and any number of rows is a sum of them.
type inserter struct {
	columns    int
	statements []string // by the binary logarithm of the rows
}

func newInserter(into string, columns int, otherwise string) inserter {
	in := inserter{columns: columns}
	for rows := 1; rows <= maxRows; rows *= 2 {
		groups := make([]string, rows)
		for i := range groups {
			groups[i] = parameters(i*columns+1, columns)
		}
		in.statements = append(in.statements, "INSERT INTO "+into+" VALUES "+strings.Join(groups, ", ")+otherwise)
	}
	return in
}

// insert writes rows, whose values stand one after the other in args, and
// returns how many there are now that were not there.
func (in inserter) insert(c Conn, args []any) (rows int64, err error) {
	for len(args) > 0 {
		which := min(bits.Len(uint(len(args)/in.columns)), len(in.statements)) - 1
		n := in.columns << which
		some, err := c.Exec(in.statements[which], args[:n]...)
		if err != nil {
			return rows, err
		}
		rows += some
		args = args[n:]
	}
	return rows, nil
}

// hashQueries ask for 1, 2, 4, … hashes of the log.
var hashQueries = func() (out []string) {
	for n := 1; n <= maxRows; n *= 2 {
		out = append(out, "SELECT idx, hash FROM log_hash WHERE idx IN "+parameters(1, n))
	}
	return out
}()

// parameters is "($3, $4)" for from 3 and n 2.
func parameters(from, n int) string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("$%d", from+i)
	}
	return "(" + strings.Join(out, ", ") + ")"
}
