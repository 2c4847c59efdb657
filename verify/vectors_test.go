// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify_test

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
	"github.com/jurat-dev/jurat/verify/internal/testvectors"
)

const vectorDir = "../spec/vectors"

// judge parses and verifies, as a broker does.
func judge(v *testvectors.Vector) (verify.Result, *verify.Rejection) {
	b, err := evidence.Parse(v.Bundle)
	if err != nil {
		return verify.Result{}, verify.Malformed(err)
	}
	r, err := verify.Bundle(b, v.Host, v.Challenge, v.Policy, v.Now)
	var rejection *verify.Rejection
	if err != nil && !errors.As(err, &rejection) {
		panic("an error that is no rejection: " + err.Error())
	}
	return r, rejection
}

// TestVectors runs every vector of the specification.
func TestVectors(t *testing.T) {
	vectors, err := testvectors.Read(vectorDir)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			r, rejection := judge(&v)
			seen[v.Expect] = true
			if v.Reference != nil {
				appraiseVector(t, &v, r, rejection)
				return
			}
			if v.Expect == testvectors.OK {
				if rejection != nil {
					t.Fatal(rejection)
				}
				if !r.OK() || v.Next == nil || !equalState(r.Next(), *v.Next) {
					t.Fatalf("next state\n%+v, want\n%+v", r.Next(), v.Next)
				}
				return
			}
			if rejection == nil {
				t.Fatalf("accepted, want %s (%s)", v.Expect, v.Comment)
			}
			if string(rejection.Code) != v.Expect || rejection.Check != v.Check {
				t.Fatalf("%s (%s): %v, want %s (%s)", rejection.Code, rejection.Check, rejection, v.Expect, v.Check)
			}
			if r.OK() || len(r.Requests()) != 0 || rejection.Place == "" || rejection.Expected == "" || rejection.Observed == "" {
				t.Errorf("refused without a whole reason or with a result: %+v", rejection)
			}
		})
	}
	for _, info := range verify.Codes() {
		if !seen[string(info.Code)] && info.Code != "E_INCOMPLETE" { // Parse never makes such a bundle
			t.Errorf("no vector expects %s", info.Code)
		}
	}
}

// TestEveryCheckHasAVector: the checks that are made are those of the table in
// spec/vectors/README.md, and for each of them a vector is refused.
func TestEveryCheckHasAVector(t *testing.T) {
	vectors, err := testvectors.Read(vectorDir)
	if err != nil {
		t.Fatal(err)
	}
	made, refused := make(map[string]bool), make(map[string]bool)
	for _, v := range vectors {
		if v.Reference == nil {
			continue
		}
		r, _ := judge(&v)
		for _, c := range r.Appraise(0, *v.Reference).Checks() {
			made[generic(string(c.Attestor)+"/"+c.Check)] = true
		}
		for _, name := range v.Refused {
			refused[generic(name)] = true
		}
	}
	text, err := os.ReadFile(filepath.Join(vectorDir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| check | says no unless |")
	table, _, _ = strings.Cut(table, "\n\n")
	documented := make(map[string]bool)
	for _, m := range regexp.MustCompile("`([a-z]+/[a-zA-Z-]+)`").FindAllStringSubmatch(table, -1) {
		documented[m[1]] = true
	}
	if !maps.Equal(made, documented) {
		t.Errorf("made are %v, documented %v", made, documented)
	}
	refused["hardware/evidence"] = true // no bundle that is true fails it; TestAppraiseRequest has what does
	if !maps.Equal(made, refused) {
		t.Errorf("made are %v, refused for %v", made, refused)
	}
}

// generic is a check's name without the number of a PCR.
func generic(name string) string {
	if strings.HasPrefix(name, "boot/pcr-") {
		return "boot/pcr-N"
	}
	return name
}

// appraiseVector holds a bundle that is true against the vector's reference.
func appraiseVector(t *testing.T, v *testvectors.Vector, r verify.Result, rejection *verify.Rejection) {
	if rejection != nil {
		t.Fatal(rejection)
	}
	a := r.Appraise(0, *v.Reference)
	if got := failed(a); !slices.Equal(got, v.Refused) || a.OK() != (v.Expect == testvectors.OK) || len(got) > 0 && got[0] != v.Expect {
		t.Errorf("%s: refused %q, want %q", v.Comment, got, v.Refused)
	}
	if v.Expect == testvectors.OK {
		if err := v.Reference.Check(); err != nil {
			t.Error(err)
		}
	}
}

func equalState(a, b verify.State) bool {
	if !bytes.Equal(a.BootID, b.BootID) || !a.EpochSince.Equal(b.EpochSince) || !a.ResetSince.Equal(b.ResetSince) {
		return false
	}
	a.BootID, b.BootID = nil, nil
	a.EpochSince, a.ResetSince = b.EpochSince, b.ResetSince
	return reflect.DeepEqual(a, b)
}

// TestVectorsAreGenerated holds the files against their generator, byte for
// byte.
func TestVectorsAreGenerated(t *testing.T) {
	dir := t.TempDir()
	if err := testvectors.Write(dir); err != nil {
		t.Fatal(err)
	}
	fresh, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(fresh) < 100 {
		t.Fatalf("%d files generated (%v)", len(fresh), err)
	}
	kept, err := filepath.Glob(filepath.Join(vectorDir, "*"))
	if err != nil || len(kept) != len(fresh)+1 { // README.md
		t.Errorf("%d files in %s, want the %d generated ones and README.md", len(kept), vectorDir, len(fresh))
	}
	for _, file := range fresh {
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(vectorDir, filepath.Base(file)))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s differs from its generator: run go generate ./verify (%v)", filepath.Base(file), err)
		}
	}
}

// TestEmptyVectors: a folder without vectors is an error, not a pass.
func TestEmptyVectors(t *testing.T) {
	if _, err := testvectors.Read(t.TempDir()); err == nil {
		t.Error("no vector, and no error")
	}
}
