// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// clean makes a text fit for a terminal and a log line: short, and without
// control characters or invisible ones. Paths and names come from the host.
func clean(s string) string {
	if len(s) <= maxShownText && !strings.ContainsFunc(s, unprintable) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if b.Len() >= maxShownText {
			b.WriteString("…")
			break
		}
		if unprintable(r) {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// unprintable holds for what is not even UTF-8, too.
func unprintable(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }

// shown makes a list fit to be shown: clean, sorted, without repetition, and
// of limited length.
func shown(list []string) []string {
	out := make([]string, 0, len(list))
	for _, s := range list {
		out = append(out, clean(s))
	}
	slices.Sort(out)
	out = slices.Compact(out)
	if more := len(out) - maxShown; more > 0 {
		out = append(out[:maxShown:maxShown], fmt.Sprintf("and %d more", more))
	}
	return out
}

func hexOf(b []byte) string {
	if len(b) == 0 {
		return "nothing"
	}
	return hex.EncodeToString(b)
}

func quoted(s string) string { return strconv.Quote(s) }

func number[T ~int | ~uint32 | ~uint64](n T) string { return strconv.FormatUint(uint64(n), 10) }

func place(what string, index uint64) string { return what + " " + number(index) }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
