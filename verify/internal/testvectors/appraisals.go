// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package testvectors

import (
	"bytes"
	"slices"
	"strings"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/bootlog"
	"github.com/jurat-dev/jurat/verify"
	"github.com/jurat-dev/jurat/verify/internal/testbundle"
)

// scene is a bundle that is true, and the reference it is held against.
type scene struct {
	world         *testbundle.World
	p             *evidence.Process
	before, after *evidence.State
	ref           *verify.Reference
}

// appraisal is one vector to be: the sample process on the sample machine, and
// the one thing about it, or about the reference, that is not as accepted.
type appraisal struct {
	name    string
	refused string // the checks that say no, by attestor, in their order; "": none
	comment string
	change  func(*scene)
}

// vector builds the bundle and says what must come of it.
func (a *appraisal) vector() Vector {
	w, ref := testbundle.Booted(), testbundle.Reference()
	ref.Boot.Events = nil // values alone: shorter
	s := scene{w, w.Log[testbundle.ProcessEntry].Process, &w.Requests[0].Before, &w.After[0], &ref}
	if a.change != nil {
		a.change(&s)
	}
	v := Vector{
		Name: "appraise-" + a.name, Expect: OK, Check: "-", Comment: a.comment, Now: w.Now, Challenge: w.Challenge(), Host: w.Host(), Policy: w.Policy,
		Reference: &ref, Refused: strings.Fields(a.refused), Bundle: w.Build().Bytes,
	}
	if len(v.Refused) > 0 {
		v.Expect = v.Refused[0]
	}
	return v
}

func value(path string) verify.Value {
	v := testbundle.Reference().Code.Executables[0]
	v.Digest, v.Label = testbundle.Digest(path).String(), path
	return v
}

func manifest(paths ...string) evidence.Manifest {
	var files []evidence.CodeFile
	for _, path := range paths {
		files = append(files, evidence.CodeFile{Digest: testbundle.Text("file " + path), Path: path})
	}
	return evidence.NewManifest(files)
}

func files(paths ...string) evidence.Value[[]evidence.File] {
	list := []evidence.File{}
	for _, path := range paths {
		list = append(list, testbundle.File(path))
	}
	return evidence.Known(list)
}

// script has an interpreter run a listed script, which opens a listed file.
func script(s *scene) {
	s.ref.Code.Executables[0].Interpreter = true
	s.ref.Code.Scripts = []verify.Value{value("main.py")}
	s.ref.Code.Files = verify.Set[verify.Value]{Of: []verify.Value{value("lib.py")}}
	s.p.Script = evidence.Known(&evidence.Script{File: testbundle.File("main.py"), Bound: evidence.BoundExec})
	s.p.Code = evidence.Known(manifest("lib.py", "main.py"))
}

// compiles has the process make code as it runs, which the reference accepts.
func compiles(s *scene) {
	s.ref.Code.AcceptedTaints = []string{"anonymous-exec"}
	maps, _ := s.p.Maps.Get()
	s.p.Maps = evidence.Tainted(maps, "anonymous-exec")
	s.before.Taints, s.after.Taints = []string{"anonymous-exec"}, []string{"anonymous-exec"}
}

// runs has the process execute one file more, or another one in the program's place.
func runs(at int, path string) func(*scene) {
	return func(s *scene) {
		maps, _ := s.p.Maps.Get()
		maps = slices.Clone(maps)
		if at < len(maps) {
			maps[at] = testbundle.File(path)
		} else {
			maps = append(maps, testbundle.File(path))
		}
		s.p.Maps = evidence.Known(maps)
	}
}

func both(change func(*evidence.State)) func(*scene) {
	return func(s *scene) {
		change(s.before)
		change(s.after)
	}
}

// unseen takes one signal out of the epoch.
func unseen(name string) func(*scene) {
	return func(s *scene) {
		start := s.world.Log[testbundle.StartEntry].Start
		for k := range start.Signals {
			if start.Signals[k].Name == name {
				start.Signals[k].By = evidence.Unknown[string]("tier-tracepoint")
			}
		}
	}
}

func tainted(names ...string) func(*scene) {
	return both(func(l *evidence.State) { l.Taints = names })
}

// bootsLike has the machine boot otherwise.
func bootsLike(b bootlog.Boot) func(*scene) {
	return func(s *scene) { s.world.Boots(b, bootlog.SHA256) }
}

// retyped gives the first separator of a boot log another type. Its digest
// stays, so the log goes on to replay.
func retyped(log []byte) []byte {
	out := bytes.Clone(log)
	out[bytes.Index(log, []byte{0, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0x0b, 0})+4] = 0x0d
	return out
}

// hosts are about the machine: hardware, boot, provenance of what was accepted.
var hosts = []appraisal{
	{"ok", "", "everything is as accepted", nil},
	{"ek-level", "hardware/ek-level", "an EK that was pinned, where a certified one is wanted", func(s *scene) {
		s.world.Level, s.ref.Minimum.EK = verify.LevelPin, verify.LevelCert
	}},
	{"anchor", "hardware/anchor", "a log without a register", func(s *scene) { s.ref.Minimum.Anchor = evidence.AnchorNVLatch }},
	{"tier", "hardware/tier", "a sensor below the wanted tier", func(s *scene) { s.ref.Minimum.Tier = verify.TierLSM }},
	{"signal-wanted", "hardware/signals", "a wanted signal that is not seen", func(s *scene) { s.ref.Minimum.Signals = []string{"exec-gate"} }},
	{"signal-fork", "hardware/signals", "forks are not seen", unseen("fork")},

	{"boot-values", "boot/pcrs", "no boot values in the reference", func(s *scene) { s.ref.Boot.PCRs = nil }},
	{"boot-pcr", "boot/pcr-4", "another boot loader than the accepted ones", func(s *scene) {
		s.ref.Boot.PCRs[4] = []evidence.Hash{testbundle.Text("boot loader")}
	}},
	{"secure-boot", "boot/secure-boot", "Secure Boot was on, and off is wanted", func(s *scene) { s.ref.Boot.SecureBoot = verify.Set[string]{Of: []string{"off"}} }},
	{"command-line", "boot/kernel-command-line", "another command line of the kernel", bootsLike(bootlog.Boot{CommandLine: "root=/dev/vda1 init=/bin/sh"})},
	{"boot-finding", "boot/boot-log", "a separator of the boot log has another type", func(s *scene) {
		s.world.BootLog = retyped(s.world.BootLog)
	}},
	{"ima", "code/ima", "files that the kernel's own list does not bear out", func(s *scene) { s.ref.Minimum.IMA = verify.IMAConfirmed }},

	{"provenance-minimum", "provenance/minimum", "a misspelt minimum", func(s *scene) { s.ref.Minimum.Provenance = "vouched" }},
	{"provenance-exe", "provenance/exe", "a program that nobody vouches for", func(s *scene) { s.ref.Code.Executables[0].By = "" }},
	{"provenance-loader", "provenance/loader", "a loader that nobody vouches for", func(s *scene) { s.ref.Code.Loaders.Of[0].By = "" }},
	{"provenance-libraries", "provenance/libraries", "a library that nobody vouches for", func(s *scene) { s.ref.Code.Libraries.Of[0].By = "" }},
	{"provenance-script", "provenance/script provenance/manifest", "a script that nobody vouches for, in the manifest besides", func(s *scene) {
		script(s)
		s.ref.Code.Scripts[0].By = ""
	}},
	{"provenance-manifest", "provenance/manifest", "a code file that nobody vouches for", func(s *scene) {
		script(s)
		s.ref.Code.Files.Of[0].By = ""
	}},
	{"provenance-models", "provenance/models", "a model that nobody vouches for", func(s *scene) { s.ref.Code.Models.Of[0].By = "" }},
	{"provenance-inputs", "provenance/inputs", "an input that nobody vouches for", func(s *scene) { s.ref.Code.Inputs.Of[0].By = "" }},
}
