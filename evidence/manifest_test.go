// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package evidence

import (
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

func codeFiles(n int) []CodeFile {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	files := make([]CodeFile, n)
	for i := range files {
		for k := range files[i].Digest {
			files[i].Digest[k] = byte(r.Uint32())
		}
		files[i].Path = "/opt/agent/lib/module.py"
	}
	return files
}

// TestManifestRoot holds the root against the tree of x/mod/sumdb/tlog.
func TestManifestRoot(t *testing.T) {
	for n := range 70 {
		m := NewManifest(codeFiles(n))
		var stored []tlog.Hash
		read := tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
			out := make([]tlog.Hash, len(at))
			for i := range at {
				out[i] = stored[at[i]]
			}
			return out, nil
		})
		for i, f := range m.Files {
			h, err := tlog.StoredHashes(int64(i), f.Digest[:], read)
			if err != nil {
				t.Fatal(err)
			}
			stored = append(stored, h...)
		}
		want, err := tlog.TreeHash(int64(n), read)
		if err != nil {
			t.Fatal(err)
		}
		if m.Root != Hash(want) || m.Count != uint64(n) {
			t.Errorf("%d files: root %s of %d, want %s", n, m.Root, m.Count, Hash(want))
		}
		if err := m.check(); err != nil {
			t.Errorf("%d files: %v", n, err)
		}
	}
}

// TestManifestIsOfBytes: names, order and repetition make no other root.
func TestManifestIsOfBytes(t *testing.T) {
	files := codeFiles(9)
	want := NewManifest(files).Root
	rand.New(rand.NewPCG(3, 4)).Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	files[0].Path = "/elsewhere"
	files = append(files, files[4])
	if m := NewManifest(files); m.Root != want || m.Count != 9 {
		t.Errorf("root %s of %d, want %s of 9", m.Root, m.Count, want)
	}
	files[3].Digest[31] ^= 1
	if NewManifest(files).Root == want {
		t.Error("another file has the same root")
	}
}

// TestManifestTooLargeIsFolded: what takes too much room keeps root and count.
func TestManifestTooLargeIsFolded(t *testing.T) {
	files := codeFiles(2000)
	m := NewManifest(files)
	if len(m.Files) != 0 || m.Count != 2000 || m.check() != nil {
		t.Errorf("%d files listed of %d: %v", len(m.Files), m.Count, m.check())
	}
}

// TestManifestRefused: a manifest that does not add up is no manifest.
func TestManifestRefused(t *testing.T) {
	for name, spoil := range map[string]func(*Manifest){
		"lists 4":               func(m *Manifest) { m.Files = m.Files[:4] },
		"its files make":        func(m *Manifest) { m.Root[0] ^= 1 },
		"lists digest":          func(m *Manifest) { m.Files[0], m.Files[1] = m.Files[1], m.Files[0] },
		"manifest lists digest": func(m *Manifest) { m.Files[1] = m.Files[0] },
		"manifest names root":   func(m *Manifest) { m.Files[0].Digest = Hash{} },
		"manifest of 6 files":   func(m *Manifest) { m.Count = 6 },
	} {
		p := sampleProcess()
		m := NewManifest(codeFiles(5))
		spoil(&m)
		p.Code = Known(m)
		e := &Entry{Version: 1, Kind: KindProcess, Instance: &Instance{}, Process: p}
		if _, err := e.Marshal(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		data, err := encode(e, (*Entry).wire)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseEntry(data); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("read: %s: %v", name, err)
		}
	}
}
