// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package local

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestParseRequest(t *testing.T) {
	for line, want := range map[string]Request{
		`{"v":1,"op":"status"}`: {Version: 1, Op: OpStatus},
		`{"op":"bundle","v":1}`: {Version: 1, Op: OpBundle},
		` {"v":1,"op":"credential","delegation":"d","actions":["a","b"],"datatypes":["x"],"bearer":true,"child":true} `: {
			Version: 1, Op: OpCredential, Delegation: "d", Actions: []string{"a", "b"}, Datatypes: []string{"x"}, Bearer: true, Child: true},
		`{"v":1,"op":"proof","delegation":"d","method":"GET","url":"https://a","nonce":"n"}`: {
			Version: 1, Op: OpProof, Delegation: "d", Method: "GET", URL: "https://a", Nonce: "n"},
	} {
		if got, err := ParseRequest([]byte(line)); err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%s: %+v, %v", line, got, err)
		}
	}
}

func TestParseRequestRefuses(t *testing.T) {
	long := strings.Repeat("x", maxText+1)
	many, err := json.Marshal(strings.Split(strings.Repeat("x ", maxList+1), " "))
	if err != nil {
		t.Fatal(err)
	}
	for name, line := range map[string]string{
		"empty":                 ``,
		"null":                  `null`,
		"array":                 `[]`,
		"text":                  `"status"`,
		"truncated":             `{"v":1,"op":"status"`,
		"trailing":              `{"v":1,"op":"status"} x`,
		"two values":            `{"v":1,"op":"status"}{"v":1,"op":"status"}`,
		"no version":            `{"op":"status"}`,
		"version 2":             `{"v":2,"op":"status"}`,
		"version as text":       `{"v":"1","op":"status"}`,
		"no operation":          `{"v":1}`,
		"unknown operation":     `{"v":1,"op":"sign"}`,
		"unknown member":        `{"v":1,"op":"status","x":1}`,
		"member twice":          `{"v":1,"op":"status","v":1}`,
		"member in other case":  `{"v":1,"OP":"status"}`,
		"both cases":            `{"v":1,"op":"bundle","Op":"status"}`,
		"escaped twice":         `{"v":1,"op":"bundle","\u006fp":"status"}`,
		"not UTF-8":             "{\"v\":1,\"op\":\"credential\",\"delegation\":\"\xff\"}",
		"another's member":      `{"v":1,"op":"status","delegation":"d"}`,
		"proof with actions":    `{"v":1,"op":"proof","delegation":"d","method":"GET","url":"u","actions":["a"]}`,
		"credential with url":   `{"v":1,"op":"credential","delegation":"d","url":"u"}`,
		"proof for a child":     `{"v":1,"op":"proof","delegation":"d","method":"GET","url":"u","child":true}`,
		"proof without method":  `{"v":1,"op":"proof","delegation":"d","url":"u"}`,
		"no delegation":         `{"v":1,"op":"credential"}`,
		"actions not ascending": `{"v":1,"op":"credential","delegation":"d","actions":["b","a"]}`,
		"action twice":          `{"v":1,"op":"credential","delegation":"d","actions":["a","a"]}`,
		"empty action":          `{"v":1,"op":"credential","delegation":"d","actions":[""]}`,
		"too many actions":      `{"v":1,"op":"credential","delegation":"d","actions":` + string(many) + `}`,
		"long text":             `{"v":1,"op":"credential","delegation":"` + long + `"}`,
		"too long":              `{"v":1,"op":"credential","delegation":"` + strings.Repeat("x", MaxRequest) + `"}`,
		"deep":                  `{"v":1,"op":` + strings.Repeat("[", 4000) + `}`,
	} {
		if got, err := ParseRequest([]byte(line)); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestErrorText(t *testing.T) {
	e := &Error{Code: CodeRefused, Message: "no", Failed: []Check{{"code", "exe-digest"}, {"context", "unit"}}, Txn: "t1"}
	if got := e.Error(); got != "E_BROKER_REFUSED: no; no from code/exe-digest, context/unit; txn t1" {
		t.Errorf("%q", got)
	}
	if e.Environmental() || !(&Error{Code: CodeTPM}).Environmental() || (&Error{Code: CodeTaint}).Environmental() {
		t.Error("whose fault it is")
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"v":1,"op":"credential","delegation":"d","actions":["a"],"bearer":true}`))
	f.Add([]byte(`{"v":1,"op":"proof","delegation":"d","method":"GET","url":"https://a"}`))
	f.Add([]byte(`{"v":1,"op":"status","op":"bundle"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := ParseRequest(line)
		if err != nil {
			return
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		s, err := ParseRequest(again)
		if err != nil || !reflect.DeepEqual(normal(r), normal(s)) {
			t.Errorf("%q reads as %+v, which is written %q and reads as %+v, %v", line, r, again, s, err)
		}
	})
}

// normal makes an empty list and none the same.
func normal(r *Request) Request {
	out := *r
	if len(out.Actions) == 0 {
		out.Actions = nil
	}
	if len(out.Datatypes) == 0 {
		out.Datatypes = nil
	}
	return out
}
