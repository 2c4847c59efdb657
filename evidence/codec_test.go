// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package evidence

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"
)

// sampleEntries returns one entry of every kind.
func sampleEntries() []*Entry {
	i := &Instance{PID: 1 << 20, Start: math.MaxUint64, PidfdInode: 24, Generation: math.MaxUint32}
	process := sampleProcess()
	process.Script = Known(&Script{File: File{Digest: Unknown[Digest]("exited")}, Bound: "exec"})
	process.Container = Known(&Container{Runtime: "podman", Image: Unknown[string]("unreadable"), Pod: Known("p")})
	process.Ancestors = Known([]Ancestor{{Path: "/sbin/init", Digest: Tainted(Digest{Algorithm: "sha-256"}, "deleted", "memfd")}})
	process.Code = Known(NewManifest([]CodeFile{{Digest: Hash{9}, Path: "/b.py"}, {Digest: Hash{2}, Path: "/a.py"}, {Digest: Hash{9}, Path: "/c.py"}}))
	process.Exe = Tainted(File{ID: FileID{Ctime: math.MinInt64}, Digest: Unknown[Digest]("raced")}, "memfd")
	return []*Entry{
		{Version: 1, Kind: KindStart, Start: &Start{Reason: "first", BootID: make([]byte, 16), AgentDigest: Unknown[Digest]("unreadable"),
			Programs: []Program{{Name: "on_exec", Tag: "00", Fired: true}}, Modules: Known("bpf"), Lockdown: Unknown[string]("no-lsm"),
			Signals: []Signal{{Name: "exec", By: Known("tp_btf/sched_process_exec")}, {Name: "ptrace", By: Unknown[string]("tier-tracepoint")}}}},
		{Version: 1, Kind: KindExec, At: 255, Instance: i, Exec: &Exec{Record: 256, Parent: *i, Exe: Unknown[File]("exited"), Cgroup: Known("/"), Taints: []string{"memfd"}}},
		{Version: 1, Kind: KindProcess, At: 65535, Instance: i, Process: sampleProcess()},
		{Version: 1, Kind: KindProcess, At: 65536, Instance: i, Process: process},
		{Version: 1, Kind: KindExit, At: math.MaxUint32, Instance: i, Exit: &Exit{Code: 9}},
		{Version: 1, Kind: KindLoss, At: math.MaxUint32 + 1, Loss: &Loss{Cause: "ring-full", Count: 3}},
		{Version: 1, Kind: KindTaint, At: 23, Taint: &Taint{Name: "bpf-load", By: i}},
		{Version: 1, Kind: KindRelease, At: 24, Instance: i, Release: &Release{After: sampleState()}},
	}
}

// TestCodecAgainstLibrary wants the same bytes of the codec and of a general
// CBOR library that knows the types by reflection.
func TestCodecAgainstLibrary(t *testing.T) {
	for _, e := range sampleEntries() {
		ours, err := e.Marshal()
		if err != nil {
			t.Fatalf("%s: %v", e.Kind, err)
		}
		theirs, err := Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(ours, theirs) {
			t.Fatalf("%s:\n ours   %x\n theirs %x", e.Kind, ours, theirs)
		}
		if again, err := ParseEntry(ours); err != nil {
			t.Errorf("%s: %v", e.Kind, err)
		} else if enc, err := again.Marshal(); err != nil || !bytes.Equal(enc, ours) {
			t.Errorf("%s: read and written again differs (%v)", e.Kind, err)
		}
	}
	b := sampleBundle(t, 2)
	for name, pair := range map[string][2]any{
		"header": {b.RawHeader, b.Header}, "checkpoint": {b.RawChk, b.Checkpoint}, "request": {b.Requests[0].Raw, b.Requests[0].Value},
	} {
		if theirs, err := Marshal(pair[1]); err != nil || !bytes.Equal(pair[0].([]byte), theirs) {
			t.Errorf("%s differs from the library's (%v)", name, err)
		}
	}
	data, err := b.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var w wire
	if err := Unmarshal(data, &w); err != nil {
		t.Fatalf("the library refuses our bundle: %v", err)
	}
}

// mutate changes a few bytes, or cuts, or repeats a piece.
func mutate(rng *rand.Rand, data []byte) []byte {
	out := bytes.Clone(data)
	switch rng.IntN(4) {
	case 0:
		out = out[:rng.IntN(len(out))]
	case 1:
		at := rng.IntN(len(out))
		out = append(out[:at:at], out[rng.IntN(len(out)):]...)
	default:
		for range rng.IntN(3) + 1 {
			out[rng.IntN(len(out))] = byte(rng.Uint32())
		}
	}
	return out
}

// agree wants both decoders to take data, or neither.
func agree(t *testing.T, data []byte) (taken bool) {
	t.Helper()
	var ours, theirs Entry
	mine := decode(data, &ours, (*Entry).wire)
	other := Unmarshal(data, &theirs)
	if (mine == nil) != (other == nil) {
		t.Fatalf("ours says %v, the library says %v, of %x", mine, other, data)
	}
	return mine == nil
}

func TestDecoderAgainstLibrary(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	taken := 0
	for _, e := range sampleEntries() {
		data, err := e.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		for range 4000 {
			if agree(t, mutate(rng, data)) {
				taken++
			}
		}
	}
	if taken == 0 {
		t.Error("no mutation was taken: the test is too coarse to tell the decoders apart")
	}
}

func FuzzDecoderAgainstLibrary(f *testing.F) {
	for _, e := range sampleEntries() {
		data, err := e.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) { agree(t, data) })
}

// TestReaderBuysNoMemory gives a count that nothing follows.
func TestReaderBuysNoMemory(t *testing.T) {
	var x []File
	data := []byte{0x99, 0x0f, 0xff}
	if n := testing.AllocsPerRun(10, func() { _ = decode(data, &x, files) }); n > 20 || cap(x) > firstItems {
		t.Errorf("%v allocations, room for %d files", n, cap(x))
	}
}

// TestJSONAndBack: what one program prints with --json another can read.
func TestJSONAndBack(t *testing.T) {
	for _, e := range sampleEntries() {
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatalf("%s: %v", e.Kind, err)
		}
		var back Entry
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatalf("%s: %v\n%s", e.Kind, err, text)
		}
		again, err := json.Marshal(&back)
		if err != nil || !bytes.Equal(text, again) {
			t.Errorf("%s: %v\n%s\n%s", e.Kind, err, text, again)
		}
	}
	for _, bad := range []string{`{}`, `{"unknown":"x","value":"y"}`, `{"unknown":"x","tainted":["y"]}`, `{"value":"x","more":1}`} {
		var v Value[string]
		if json.Unmarshal([]byte(bad), &v) == nil {
			t.Errorf("%s is taken for %v", bad, v)
		}
	}
}
