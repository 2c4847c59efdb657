// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package delegation

import (
	"strings"
	"testing"
)

func TestURL(t *testing.T) {
	for _, good := range []string{
		"https://payments.example", "https://payments.example/", "https://payments.example:8443/v1/x", "http://localhost:8080", "http://127.0.0.1:1",
		"http://127.9.9.9", "http://[::1]:8080/a", "https://xn--bcher-kva.example", "https://a.example/%C3%A9",
	} {
		if err := checkURL(good); err != nil {
			t.Errorf("%v", err)
		}
	}
	for _, bad := range []string{
		"", "payments", "//payments.example", "http://payments.example", "http://10.0.0.1", "http://localhost.evil.example", "http://127.0.0.1.evil.example",
		"https://", "https:///x", "https://:443", "https://a.example:", "https://user@a.example", "https://user:pw@a.example", "https://a.example#f", "https://a.example?q=1",
		"https://a.example#", "https://a.example?", "HTTPS://a.example", "https://A.example", "https://a.example https://b.example", "https://a.example,https://b.example",
		"https://a.example\n", " https://a.example", "https://b\u00fccher.example", "https://a.example/\u202e", "ftp://a.example", "javascript:alert(1)", "https:a.example",
		"https://a.example/<b>", "https://a.example\\@b.example", "https://" + strings.Repeat("a", MaxURL), "https://[::1", "https://a.example/%zz", "http://0x7f.1", "http://[::ffff:10.0.0.1]",
	} {
		if err := checkURL(bad); err == nil {
			t.Errorf("URL %q is taken", bad)
		}
	}
}

func TestSPIFFE(t *testing.T) {
	for _, good := range []string{"spiffe://td/a", "spiffe://example.org/host/h-1", "spiffe://td/A_b.c"} {
		if err := checkSPIFFE(good); err != nil {
			t.Errorf("%v", err)
		}
	}
	for _, bad := range []string{
		"", "spiffe://", "spiffe://td", "spiffe://td/", "spiffe:///a", "spiffe://TD/a", "spiffe://td/a/", "spiffe://td//a", "spiffe://td/./a", "spiffe://td/../a",
		"spiffe://td/a?b", "spiffe://td/a#b", "spiffe://u@td/a", "spiffe://td:1/a", "spiffe://td/a b", "spiffe://td/%41", "SPIFFE://td/a", "https://td/a",
		"spiffe://td/" + strings.Repeat("a", MaxName),
	} {
		if err := checkSPIFFE(bad); err == nil {
			t.Errorf("SPIFFE ID %q is taken", bad)
		}
	}
}
