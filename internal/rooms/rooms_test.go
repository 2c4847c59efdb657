// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package rooms holds the tree to the import law in README.md. It ships in no
// program.
package rooms

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/jurat-dev/jurat"

// law is what README.md says between ```law and ```.
type law struct {
	allowed map[string][]string // room -> rooms it may import, transitively
	only    []rule              // a foreign package and the rooms that may name it
	never   []rule              // a program and the rooms it must not link
}

type rule struct {
	subject string
	rooms   []string
}

var lawBlock = regexp.MustCompile("(?s)```law\n(.*?)```")

func readLaw(t *testing.T) law {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	m := lawBlock.FindSubmatch(text)
	if m == nil {
		t.Fatal("README.md has no ```law block")
	}
	l := law{allowed: make(map[string][]string)}
	for line := range strings.Lines(string(m[1])) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if below, above, ok := strings.Cut(line, " < "); ok {
			for _, room := range list(above) {
				for _, b := range list(below) {
					if b != "NONE" {
						l.allowed[room] = append(l.allowed[room], b)
					} else if l.allowed[room] == nil {
						l.allowed[room] = []string{}
					}
				}
			}
		} else if what, rooms, ok := strings.Cut(line, " only in "); ok {
			l.only = append(l.only, rule{what, list(rooms)})
		} else if what, rooms, ok := strings.Cut(line, " never links "); ok {
			l.never = append(l.never, rule{what, list(rooms)})
		} else {
			t.Fatalf("README.md: the law does not say %q", line)
		}
	}
	if len(l.allowed) < 8 || len(l.only) < 3 || len(l.never) < 2 {
		t.Fatalf("README.md: the law is too short to be whole: %d rooms, %d doors, %d programs", len(l.allowed), len(l.only), len(l.never))
	}
	return l
}

func list(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		out = append(out, strings.TrimSpace(part))
	}
	return out
}

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", "./...")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "GOOS=linux")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// room returns the room a package of ours belongs to: the longest room of the
// law that is its path or a parent of it.
func (l law) room(path string) string {
	path = strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
	for p := path; p != "." && p != ""; p = filepath.Dir(p) {
		if _, ok := l.allowed[p]; ok {
			return p
		}
	}
	return ""
}

func (l law) mayImport(room, other string) bool {
	if room == other {
		return true
	}
	for _, below := range l.allowed[room] {
		if below == other || l.mayImport(below, other) {
			return true
		}
	}
	return false
}

// shipped reports whether the law governs a package: all but what only serves
// tests, scripts and generators.
func shipped(path string) bool {
	rest := strings.TrimPrefix(path, module+"/")
	return !strings.HasPrefix(rest, "internal/") && !strings.HasPrefix(rest, "scripts/") &&
		!strings.HasPrefix(rest, "spec/") && !strings.Contains(rest, "/internal/test") && !strings.HasSuffix(rest, "/storetest")
}

func TestImportLaw(t *testing.T) {
	l := readLaw(t)
	all := packages(t)
	seen := make(map[string]bool)
	for _, p := range all {
		if !shipped(p.ImportPath) {
			continue
		}
		room := l.room(p.ImportPath)
		if room == "" {
			t.Errorf("%s belongs to no room of the law", p.ImportPath)
			continue
		}
		seen[room] = true
		for _, imported := range p.Imports {
			if strings.HasPrefix(imported, module) {
				if other := l.room(imported); !shipped(imported) || !l.mayImport(room, other) {
					t.Errorf("%s imports %s: the law does not let %s import %s", p.ImportPath, imported, room, other)
				}
				continue
			}
			for _, o := range l.only {
				if (imported == o.subject || strings.HasPrefix(imported, o.subject+"/")) && !slices.Contains(o.rooms, room) {
					t.Errorf("%s imports %s, which belongs in %v only", p.ImportPath, imported, o.rooms)
				}
			}
		}
		for _, n := range l.never {
			if p.ImportPath != module+"/"+n.subject {
				continue
			}
			for _, dep := range p.Deps {
				if strings.HasPrefix(dep, module) && slices.Contains(n.rooms, l.room(dep)) {
					t.Errorf("%s links %s, which it never may", p.ImportPath, dep)
				}
			}
		}
	}
	for room := range l.allowed {
		if !seen[room] {
			t.Errorf("the law names %s, and there is no such room", room)
		}
	}
	for _, n := range l.never {
		if !slices.ContainsFunc(all, func(p pkg) bool { return p.ImportPath == module+"/"+n.subject }) {
			t.Errorf("the law names the program %s, and there is none", n.subject)
		}
	}
}

// TestEvidenceHasNoDoor keeps the two rooms that must run anywhere free of
// files, clocks, sockets and randomness.
func TestEvidenceHasNoDoor(t *testing.T) {
	doors := []string{"os", "net", "net/http", "crypto/rand", "math/rand", "math/rand/v2", "syscall", "os/exec", "io/fs"}
	for _, p := range packages(t) {
		switch strings.TrimPrefix(p.ImportPath, module+"/") {
		case "evidence", "eventlog", "ima", "verify", "delegation", "broker/audit":
			for _, door := range doors {
				if slices.Contains(p.Imports, door) {
					t.Errorf("%s imports %s: it has no door", p.ImportPath, door)
				}
			}
		}
	}
}
