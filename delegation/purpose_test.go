// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package delegation

import (
	"strings"
	"testing"
)

func TestPurpose(t *testing.T) {
	for _, good := range []string{
		"Close October invoices", "x", strings.Repeat("é", MaxPurpose), "Rechnungen prüfen & abschließen (Q3, 12 €)", "発注書を確認する（10月）", "请核对十月的发票",
		"Проверить счета", "Έλεγχος τιμολογίων", "בדיקת חשבוניות", "चालान जाँचें", "Überprüfen: 100 % – „alles“ …", "ship it 🚀", "Проверить invoice 7", "<b>not html</b>", "a' OR 1=1 --",
		"$(rm -rf /)", "한국어 청구서", "10 µm, 5 Ω",
	} {
		if err := checkPurpose(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for name, bad := range map[string]string{
		"empty":                  "",
		"too long":               strings.Repeat("é", MaxPurpose+1),
		"invalid UTF-8":          "a\xc3",
		"surrogate":              "a\xed\xa0\x80",
		"replacement":            "a\ufffd",
		"new line":               "a\nb",
		"tab":                    "a\tb",
		"nul":                    "a\x00b",
		"escape sequence":        "a\x1b[2Jb",
		"C1 control":             "a\u009bb",
		"delete":                 "a\x7fb",
		"leading space":          " a",
		"trailing space":         "a ",
		"no-break space":         "a\u00a0b",
		"em space":               "a\u2003b",
		"ideographic space":      "a\u3000b",
		"line separator":         "a\u2028b",
		"paragraph separator":    "a\u2029b",
		"right-to-left override": "pay \u202eeciovni",
		"left-to-right embed":    "a\u202ab",
		"first strong isolate":   "a\u2068b",
		"right-to-left mark":     "a\u200fb",
		"arabic letter mark":     "a\u061cb",
		"zero width space":       "a\u200bb",
		"zero width joiner":      "a\u200db",
		"word joiner":            "a\u2060b",
		"byte order mark":        "a\ufeffb",
		"soft hyphen":            "a\u00adb",
		"grapheme joiner":        "a\u034fb",
		"hangul filler":          "a\u3164b",
		"halfwidth filler":       "a\uffa0b",
		"braille blank":          "a\u2800b",
		"variation selector":     "a\ufe0fb",
		"variation supplement":   "a\U000e0100b",
		"tag character":          "a\U000e0041b",
		"annotation anchor":      "a\ufff9b",
		"private use":            "a\ue000b",
		"unassigned":             "a\u0378b",
		"non-character":          "a\uffffb",
		"decomposed":             "Cafe\u0301",
		"mathematical bold":      "\U0001d429ay",
		"cyrillic a in paypal":   "p\u0430ypal",
		"greek o in close":       "Cl\u03bfse",
		"cherokee in latin":      "p\u13a1y",
		"armenian in latin":      "pa\u0585",
	} {
		if err := checkPurpose(bad); err == nil {
			t.Errorf("%s: %q is taken", name, bad)
		}
	}
}

// What is shown on a terminal holds no control character, whatever was asked.
func FuzzDescribe(f *testing.F) {
	f.Add("Close October invoices", "invoice.read", "alice@example.test", "https://a.example")
	f.Add("a\x1b[2J", "b\n", "c\u202e", "d")
	f.Fuzz(func(t *testing.T, purpose, action, subject, audience string) {
		o := sample()
		o.Purpose, o.Actions, o.Approver.Subject, o.Audience = purpose, []string{action}, subject, audience
		_, enc, err := New(o)
		if err != nil {
			return
		}
		text, err := Describe(enc)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
			for _, r := range line {
				if !visible(r) {
					t.Fatalf("%q shows %U", line, r)
				}
			}
		}
		if strings.Count(text, "\n") > 30 {
			t.Fatalf("%d lines", strings.Count(text, "\n"))
		}
	})
}
