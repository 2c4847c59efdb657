// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify_test

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"testing"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/bootlog"
	"github.com/jurat-dev/jurat/verify"
	"github.com/jurat-dev/jurat/verify/internal/testbundle"
)

// largest are bundles of about the size that is just allowed, each filled with
// what costs a reader most.
var largest = map[string]func(*testbundle.World){
	"register": func(w *testbundle.World) {
		w.Register = testbundle.Latched()
		w.Register.Tail = make([]evidence.Hash, evidence.MaxRegister-1)
	},
	"small IMA entries": func(w *testbundle.World) {
		w.IMA = testbundle.FilesListed(&w.PCRs)
		entry := w.IMA.Entries[0]
		for size := 0; size < 3<<20; size += len(entry) {
			w.IMA.Entries = append(w.IMA.Entries, entry)
		}
		w.IMA.Upto(len(w.IMA.Entries))
	},
	"IMA entries that claim a gigabyte": func(w *testbundle.World) {
		w.IMA = testbundle.FilesListed(&w.PCRs)
		entry := bytes.Clone(w.IMA.Entries[0])
		binary.LittleEndian.PutUint32(entry[34:], 1<<30)
		w.IMA.Entries = append(w.IMA.Entries, entry)
		w.IMA.Upto(2)
	},
	"small boot events": func(w *testbundle.World) {
		w.Boots(bootlog.Boot{}, bootlog.SHA256)
		event := []byte{1, 0, 0, 0, 0x0d, 0, 0, 0, 1, 0, 0, 0, 0x0b, 0}
		event = append(append(event, make([]byte, 32)...), 0, 0, 0, 0)
		w.BootLog = append(w.BootLog, bytes.Repeat(event, (evidence.MaxBootLog-len(w.BootLog))/len(event))...)
	},
	"boot events that claim four gigabytes": func(w *testbundle.World) {
		w.Boots(bootlog.Boot{}, bootlog.SHA256)
		event := []byte{1, 0, 0, 0, 0x0d, 0, 0, 0, 1, 0, 0, 0, 0x0b, 0}
		w.BootLog = append(append(append(w.BootLog, event...), make([]byte, 32)...), 0xff, 0xff, 0xff, 0xff)
	},
	"small records of systemd": func(w *testbundle.World) {
		w.OSLog = bytes.Repeat([]byte("\x1e{\"pcr\":11}\n"), evidence.MaxOSLog/12)
	},
	"requests": func(w *testbundle.World) {
		for len(w.Requests) < evidence.MaxBatch {
			w.Ask(testbundle.Instance(), testbundle.ProcessEntry)
		}
	},
}

// mostMemory is what reading and verifying one bundle may allocate in all,
// whatever it says: eight times what a bundle may have.
const mostMemory = 8 * evidence.MaxBundle

// TestMemoryIsBounded reads and verifies the worst there is.
func TestMemoryIsBounded(t *testing.T) {
	for name, change := range largest {
		w := testbundle.First()
		change(w)
		data := w.Build().Bytes
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		b, err := evidence.Parse(data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_, err = verify.Bundle(b, w.Host(), w.Challenge(), w.Policy, w.Now)
		runtime.ReadMemStats(&after)
		used := after.TotalAlloc - before.TotalAlloc
		t.Logf("%s: bundle of %d bytes, %d allocated, %v", name, len(data), used, err)
		if used > mostMemory {
			t.Errorf("%s: a bundle of %d bytes made the verifier allocate %d, at most %d", name, len(data), used, mostMemory)
		}
	}
}

// BenchmarkLargest measures the same, one bundle a round; B/op is what counts.
func BenchmarkLargest(b *testing.B) {
	for name, change := range largest {
		w := testbundle.First()
		change(w)
		data := w.Build().Bytes
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				bundle, err := evidence.Parse(data)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = verify.Bundle(bundle, w.Host(), w.Challenge(), w.Policy, w.Now)
			}
		})
	}
}
