// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build ignore

// Command manifest_generate writes objects.json: which compiler made the
// committed objects, and their SHA-256.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("manifest_generate: ")
	version, err := exec.Command("clang-14", "--version").Output()
	if err != nil {
		log.Fatalf("asking clang-14 for its version: %v", err)
	}
	first, _, _ := strings.Cut(string(version), "\n")
	manifest := map[string]string{"compiler": first}
	objects, err := filepath.Glob("*_bpfel.o")
	if err != nil {
		log.Fatal(err)
	}
	for _, path := range objects {
		object, err := os.ReadFile(path)
		if err != nil {
			log.Fatal(err)
		}
		digest := sha256.Sum256(object)
		manifest[strings.TrimSuffix(path, "_bpfel.o")] = hex.EncodeToString(digest[:])
	}
	out, err := json.MarshalIndent(manifest, "", "  ")
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile("objects.json", append(out, '\n'), 0o644); err != nil {
		log.Fatal(err)
	}
}
