// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package delegation

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// checkPurpose accepts words that look like what they are: in NFC, printable,
// nothing invisible, nothing that turns the direction of writing, no word made
// of letters of several alphabets.
func checkPurpose(text string) error {
	runes := utf8.RuneCountInString(text)
	switch {
	case runes == 0 || runes > MaxPurpose:
		return fmt.Errorf("%d characters, want 1 to %d", runes, MaxPurpose)
	case !norm.NFC.IsNormalString(text):
		return fmt.Errorf("not in Unicode normal form C")
	case strings.TrimSpace(text) != text:
		return fmt.Errorf("begins or ends with a space")
	}
	for i, r := range text {
		if !visible(r) {
			return fmt.Errorf("character %U at byte %d is not allowed", r, i)
		}
	}
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsMark(r) }) {
		if mixed := confusable(scripts(word)); mixed != nil {
			return fmt.Errorf("word %q mixes the letters of %s", word, strings.Join(mixed, " and "))
		}
	}
	return nil
}

// visible reports whether r shows as itself. Invalid UTF-8 reads as
// utf8.RuneError. unicode.IsPrint leaves out
// controls, format and bidirectional characters, private use, unassigned ones
// and every space but U+0020; a few invisible letters and marks remain.
func visible(r rune) bool {
	return unicode.IsPrint(r) && r != utf8.RuneError &&
		!unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) &&
		r != 0x2800 && // braille pattern blank
		(r < 0x1D400 || r > 0x1D7FF) // mathematical look-alikes of plain letters
}

// scripts returns the names of the alphabets whose letters text uses, sorted.
func scripts(text string) []string {
	var names []string
	for _, r := range text {
		for name, table := range unicode.Scripts {
			if name != "Common" && name != "Inherited" && unicode.Is(table, r) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// lookAlikes are the alphabets with letters that pass for those of another.
var lookAlikes = []string{"Armenian", "Cherokee", "Coptic", "Cyrillic", "Deseret", "Greek", "Latin", "Lisu", "Warang_Citi"}

// confusable returns the look-alike alphabets in names if there are several.
func confusable(names []string) []string {
	var found []string
	for _, n := range names {
		if slices.Contains(lookAlikes, n) {
			found = append(found, n)
		}
	}
	if len(found) < 2 {
		return nil
	}
	return found
}
