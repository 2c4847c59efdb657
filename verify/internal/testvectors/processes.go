// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package testvectors

import (
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
	"github.com/jurat-dev/jurat/verify/internal/testbundle"
)

// programs are about what runs and what it is fed.
var programs = []appraisal{
	{"exe", "code/exe-digest provenance/exe", "one byte of the program was changed", func(s *scene) {
		runs(0, "evil")(s)
		s.p.Exe = evidence.Known(testbundle.File("evil"))
	}},
	{"exe-mapped", "code/exe-mapped code/libraries provenance/libraries", "the program file is not what is executed", runs(0, "evil")},
	{"loader", "code/loader provenance/loader", "another ELF loader", func(s *scene) {
		runs(2, "evil-ld.so")(s)
		f := testbundle.File("evil-ld.so")
		s.p.Loader = evidence.Known(&f)
	}},
	{"library", "code/libraries provenance/libraries", "an injected library", runs(3, "/tmp/evil.so")},
	{"interference", "code/interference", "LD_PRELOAD was set", func(s *scene) { s.p.Interference = evidence.Known([]string{"LD_PRELOAD"}) }},

	{"ok-script", "", "an interpreter with its script, and its manifest file by file", script},
	{"script-changed", "code/script code/manifest provenance/script provenance/manifest", "one line of the script was changed", func(s *scene) {
		script(s)
		s.p.Script = evidence.Known(&evidence.Script{File: testbundle.File("evil.py"), Bound: evidence.BoundExec})
		s.p.Code = evidence.Known(manifest("lib.py", "evil.py"))
	}},
	{"script-missing", "code/script provenance/script", "an interpreter without a script", func(s *scene) {
		script(s)
		s.p.Script = evidence.Known[*evidence.Script](nil)
	}},
	{"script-replaced", "code/script provenance/script", "the file at the script's name is not the one the kernel read", func(s *scene) {
		script(s)
		s.p.Script = evidence.Unknown[*evidence.Script]("replaced")
	}},
	{"script-bound", "code/script-bound", "a script found by its name, where the kernel's record is wanted", func(s *scene) {
		script(s)
		s.ref.Code.Bound = evidence.BoundKernel
	}},
	{"manifest-file", "code/manifest provenance/manifest", "one line of an imported module was changed", func(s *scene) {
		script(s)
		s.p.Code = evidence.Known(manifest("evil.py", "main.py"))
	}},
	{"manifest-root", "code/manifest provenance/manifest", "a manifest too long to be listed, of another root than the accepted ones", func(s *scene) {
		script(s)
		accepted, other := manifest("lib.py", "main.py"), manifest("lib.py", "main.py", "evil.py")
		v := value("the files of 1.4")
		v.Digest = "sha-256:" + accepted.Root.String()
		s.ref.Code.Manifests, other.Files = []verify.Value{v}, nil
		s.p.Code = evidence.Known(other)
	}},
	{"manifest-empty", "code/manifest provenance/manifest", "an interpreter that opened no code file", func(s *scene) {
		script(s)
		s.p.Code = evidence.Known(manifest())
	}},
	{"manifest-lost", "code/manifest provenance/manifest", "records of opened files were lost", func(s *scene) {
		script(s)
		s.p.Code = evidence.Unknown[evidence.Manifest]("opens-lost")
	}},
	{"manifest-unseen", "code/manifest provenance/manifest", "the sensor does not see code being opened", func(s *scene) {
		script(s)
		unseen("code-open")(s)
	}},
	{"manifest-changed", "code/manifest provenance/manifest", "a code file changed after it was opened", func(s *scene) {
		script(s)
		s.p.Code = evidence.Tainted(manifest("lib.py", "main.py"), "changed-since-open")
	}},

	{"model", "code/models provenance/models", "one byte of the model was changed", func(s *scene) { s.p.Models = files("/srv/evil.safetensors") }},
	{"model-more", "code/models provenance/models", "a second model beside the accepted one", func(s *scene) { s.p.Models = files("/srv/evil.gguf", "/srv/ranker.safetensors") }},
	{"model-required", "code/models provenance/models", "the required model was not opened", func(s *scene) {
		s.ref.Code.Models.Of[0].Required = true
		s.p.Models = files()
	}},
	{"model-unseen", "code/models provenance/models", "the sensor does not see models being opened", unseen("model-open")},
	{"input", "code/inputs provenance/inputs", "another prompt", func(s *scene) { s.p.Inputs = files("/etc/invoice-agent/evil.txt") }},
	{"input-required", "code/inputs provenance/inputs", "the required input is not declared", func(s *scene) {
		s.ref.Code.Inputs.Of[0].Required = true
		s.p.Inputs = files()
	}},
	{"input-untrusted", "code/inputs provenance/inputs", "others than root could have written what is declared", func(s *scene) {
		s.p.Inputs = evidence.Unknown[[]evidence.File]("declaration-not-trusted")
	}},

	{"ok-jit", "", "a JIT compiler's memory, accepted", compiles},
	{"jit", "code/exe-mapped code/libraries provenance/libraries context/taint", "a JIT compiler's memory that nobody accepted", func(s *scene) {
		compiles(s)
		s.ref.Code.AcceptedTaints = nil
	}},
	{"jit-library", "code/libraries provenance/libraries", "an injected library in a process with a JIT compiler", func(s *scene) {
		runs(3, "/tmp/evil.so")(s)
		compiles(s)
	}},
	{"unmeasured", "code/unmeasured", "a library was loaded after the measurement", both(func(l *evidence.State) { l.Unmeasured = evidence.Known[uint64](1) })},
	{"unmeasured-race", "code/unmeasured", "the mappings changed while they were looked at", both(func(l *evidence.State) { l.Unmeasured = evidence.Unknown[uint64]("raced") })},
	{"private-pages", "code/private-pages", "the program's text was written to", both(func(l *evidence.State) { l.Private = evidence.Known[uint64](1) })},
	{"changed-file", "code/changed-files", "a library was replaced after the measurement", func(s *scene) {
		s.after.Missing = evidence.Known([]string{"/lib/x86_64-linux-gnu/libc.so.6"})
	}},
}

// circumstances are about where and as whom it runs, and what befell it.
var circumstances = []appraisal{
	{"origin", "context/origin", "a fork that runs its parent's program", func(s *scene) { s.p.Origin = evidence.OriginFork }},
	{"unit", "context/unit", "another systemd unit", func(s *scene) { s.p.Unit = evidence.Known("ssh.service") }},
	{"cgroup", "context/cgroup", "another cgroup", func(s *scene) { s.p.Cgroup = evidence.Known("/user.slice") }},
	{"uid", "context/uid", "root by its saved uid", credentials(func(c *evidence.Credentials) { c.SUID = 0 })},
	{"gid", "context/gid", "another group", credentials(func(c *evidence.Credentials) { c.EGID = 0 })},
	{"threads-differ", "context/uid context/gid", "a thread that runs as another user", func(s *scene) {
		s.p.Credentials = evidence.Tainted(testbundle.Credentials(), "threads-differ")
	}},
	{"user-namespace", "context/user-namespace", "root of a user namespace of its own", func(s *scene) {
		n, _ := s.p.Namespaces.Get()
		n.User++
		s.p.Namespaces = evidence.Known(n)
	}},
	{"container", "context/container", "a container where none is accepted", inContainer(evidence.Known("sha256:" + testbundle.Text("image").String()))},
	{"container-by-name", "context/container", "a container whose image the runtime knows by name alone", inContainer(evidence.Unknown[string]("image-by-name"))},
	{"ancestor", "context/ancestors", "made by a shell", madeBy(evidence.Known(testbundle.Digest("/bin/sh")))},
	{"ancestor-ended", "context/ancestors", "made by something that ended before it was measured", madeBy(evidence.Unknown[evidence.Digest]("exited"))},
	{"ancestors-lost", "context/ancestors", "the record of a fork was lost", func(s *scene) {
		s.p.Ancestors = evidence.Unknown[[]evidence.Ancestor]("no-kernel-record")
	}},
	{"environment", "context/environment", "another value of a variable that counts", func(s *scene) {
		s.p.Environment = evidence.Known(map[string]string{"LANG": "tlh"})
	}},

	{"alive", "context/alive", "it ended before the second look", func(s *scene) { s.after.Alive = false }},
	{"generation", "context/generation", "it called exec between the looks", func(s *scene) { s.after.Generation++ }},
	{"taint-traced", "context/taint", "a debugger was attached to it", tainted("traced")},
	{"taint-between", "context/taint", "another process wrote into its memory between the looks", func(s *scene) { s.after.Taints = []string{"memory-written"} }},
	{"taint-never", "context/taint", "a taint that a reference names and nobody may accept", func(s *scene) {
		s.ref.Code.AcceptedTaints = []string{"memory-written"}
		tainted("memory-written")(s)
	}},
	{"taint-unknown", "context/taint", "a taint that this version does not know", tainted("bewitched")},
	{"ok-taint", "", "io_uring, which the reference accepts", func(s *scene) {
		s.ref.Code.AcceptedTaints = []string{"io-uring"}
		tainted("io-uring")(s)
	}},
	{"changed-credentials", "context/changed", "it changed its user after the measurement", both(func(l *evidence.State) { l.Changed = evidence.Known([]string{"credentials"}) })},
	{"changed-namespaces", "context/changed", "it entered other namespaces between the looks", func(s *scene) { s.after.Changed = evidence.Known([]string{"namespaces"}) }},
	{"changed-unknown", "context/changed", "its context could not be read again", func(s *scene) { s.after.Changed = evidence.Unknown[[]string]("unreadable") }},
	{"tracer", "context/tracer", "a debugger is attached", both(func(l *evidence.State) { l.Tracer = evidence.Known[uint32](99) })},
	{"loss", "context/loss", "a record was lost between the looks", func(s *scene) { s.after.Lost = s.before.Lost + 1 }},
	{"window", "context/window", "the second look was before the first", func(s *scene) { s.after.At = s.before.At - 1 }},
	{"window-measured", "context/window", "it was measured after the first look", func(s *scene) { s.p.Measured = s.before.At + 1 }},
}

func credentials(change func(*evidence.Credentials)) func(*scene) {
	return func(s *scene) {
		c := testbundle.Credentials()
		change(&c)
		s.p.Credentials = evidence.Known(c)
	}
}

func inContainer(image evidence.Value[string]) func(*scene) {
	return func(s *scene) {
		id := testbundle.Text("container").String()
		s.p.Container = evidence.Known(&evidence.Container{Runtime: "containerd", ID: id, Image: image, Pod: evidence.Known("")})
	}
}

func madeBy(digest evidence.Value[evidence.Digest]) func(*scene) {
	return func(s *scene) {
		above, _ := s.p.Ancestors.Get()
		maker := evidence.Ancestor{Instance: evidence.Instance{PID: 4700, Start: 99_000_000_000, Generation: 2}, Path: "/bin/sh", Digest: digest}
		s.p.Ancestors = evidence.Known(append([]evidence.Ancestor{maker}, above...))
	}
}
