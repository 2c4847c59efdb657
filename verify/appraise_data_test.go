// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
	"github.com/jurat-dev/jurat/verify/internal/testbundle"
)

// interpreter makes the sample an interpreter that opened one accepted file.
func interpreter(s scene) {
	s.ref.Code.Executables[0].Interpreter = true
	s.ref.Code.Files = verify.Set[verify.Value]{Of: []verify.Value{value("lib.py")}}
	s.p.Code = known(manifest("lib.py"))
}

// scripted makes it an interpreter that runs main.py.
func scripted(s scene) {
	interpreter(s)
	s.ref.Code.Scripts = []verify.Value{value("main.py")}
	s.p.Script = script("main.py")
	s.p.Code = known(manifest("lib.py", "main.py"))
}

func manifest(paths ...string) evidence.Manifest {
	var files []evidence.CodeFile
	for _, path := range paths {
		files = append(files, evidence.CodeFile{Digest: testbundle.Text("file " + path), Path: path})
	}
	return evidence.NewManifest(files)
}

func root(m evidence.Manifest) verify.Value {
	v := value("a manifest")
	v.Digest = "sha-256:" + m.Root.String()
	return v
}

func bound(word string) func(scene) {
	return func(s scene) {
		scripted(s)
		script, _ := s.p.Script.Get()
		script.Bound = word
	}
}

// unseen takes one signal out of the epoch.
func unseen(s scene, name string) {
	start := s.world.Log[testbundle.StartEntry].Start
	start.Signals = slices.DeleteFunc(slices.Clone(start.Signals), func(sig evidence.Signal) bool { return sig.Name == name })
}

func anyFile() verify.Set[verify.Value] { return verify.Set[verify.Value]{Any: true} }

func taints(names ...string) func(scene) {
	return func(s scene) { s.before.Taints, s.after.Taints = names, names }
}

func jit(s scene) {
	s.ref.Code.AcceptedTaints = []string{"anonymous-exec", "mprotect-exec"}
	maps, _ := s.p.Maps.Get()
	s.p.Maps = evidence.Tainted(maps, "anonymous-exec")
	taints("mprotect-exec")(s)
}

func dataScenes() []refusedScene {
	const none, warning, wrong = verify.ClaimNone, verify.ClaimWarning, verify.ClaimContraindicated
	return []refusedScene{
		{"code file that is not listed", "code/manifest provenance/manifest", wrong, func(s scene) {
			scripted(s)
			s.p.Code = known(manifest("lib.py", "main.py", "evil.py"))
		}},
		{"code file of a program that interprets nothing", "code/manifest provenance/manifest", wrong, func(s scene) { s.p.Code = known(manifest("evil.py")) }},
		{"no code file listed", "code/manifest provenance/manifest", wrong, func(s scene) {
			interpreter(s)
			s.ref.Code.Scripts, s.p.Script = []verify.Value{value("main.py")}, script("main.py")
			s.ref.Code.Files = verify.Set[verify.Value]{}
		}},
		{"another manifest than the listed one", "code/manifest provenance/manifest", wrong, func(s scene) {
			scripted(s)
			s.ref.Code.Files, s.ref.Code.Manifests = verify.Set[verify.Value]{}, []verify.Value{root(manifest("lib.py", "main.py"))}
			s.p.Code = known(manifest("lib.py"))
		}},
		{"interpreter that opened nothing", "code/manifest provenance/manifest", wrong, func(s scene) {
			scripted(s)
			s.p.Code = known(manifest())
		}},
		{"folded manifest whose root is not listed", "code/manifest provenance/manifest", wrong, func(s scene) {
			scripted(s)
			m := manifest("lib.py", "main.py")
			m.Files = nil
			s.p.Code = known(m)
		}},
		{"code files unknown", "code/manifest provenance/manifest", none, func(s scene) { s.p.Code = unknown(manifest()) }},
		{"code files tainted", "code/manifest provenance/manifest", wrong, func(s scene) { s.p.Code = tainted(manifest()) }},
		{"code files of an interpreter unknown where any will do", "code/manifest", none, func(s scene) {
			scripted(s)
			s.ref.Code.Files = anyFile()
			s.p.Code = unknown(manifest())
		}},
		{"opens of code not seen", "code/manifest provenance/manifest", none, func(s scene) { unseen(s, "code-open") }},
		{"root of a manifest that nobody vouches for", "provenance/manifest", none, func(s scene) {
			scripted(s)
			v := root(manifest("lib.py", "main.py"))
			v.By = ""
			s.ref.Code.Manifests = []verify.Value{v}
		}},
		{"code file that nobody vouches for", "provenance/manifest", none, func(s scene) {
			scripted(s)
			s.ref.Code.Files.Of[0].By = ""
		}},

		{"script found after the fact where the gate is wanted", "code/script-bound", warning, func(s scene) {
			bound("exec")(s)
			s.ref.Code.Bound = "gate"
		}},
		{"script known to the gate where the kernel is wanted", "code/script-bound", warning, func(s scene) {
			bound("gate")(s)
			s.ref.Code.Bound = "kernel"
		}},
		{"script bound in an unknown way", "code/script-bound", warning, bound("hearsay")},
		{"misspelt bound", "code/script-bound", warning, func(s scene) {
			bound("kernel")(s)
			s.ref.Code.Bound = "strong"
		}},

		{"other model", "code/models provenance/models", wrong, func(s scene) { s.p.Models = known([]evidence.File{testbundle.File("/srv/evil.safetensors")}) }},
		{"no model listed", "code/models provenance/models", wrong, func(s scene) { s.ref.Code.Models = verify.Set[verify.Value]{} }},
		{"models unknown", "code/models provenance/models", none, func(s scene) { s.p.Models = unknown([]evidence.File{}) }},
		{"models unknown where any will do", "code/models", none, func(s scene) {
			s.ref.Code.Models = anyFile()
			s.p.Models = unknown([]evidence.File{})
		}},
		{"model not digested", "code/models provenance/models", none, func(s scene) { s.p.Models = known([]evidence.File{undigested("/srv/x.gguf")}) }},
		{"model changed after it was opened", "code/models provenance/models", wrong, func(s scene) {
			f := testbundle.File("/srv/ranker.safetensors")
			f.Digest = tainted(testbundle.Digest("/srv/ranker.safetensors"))
			s.p.Models = known([]evidence.File{f})
		}},
		{"required model not opened", "code/models provenance/models", wrong, func(s scene) {
			s.ref.Code.Models.Of[0].Required = true
			s.p.Models = known([]evidence.File{})
		}},
		{"opens of models not seen", "code/models provenance/models", none, func(s scene) { unseen(s, "model-open") }},
		{"model that nobody vouches for", "provenance/models", none, func(s scene) { s.ref.Code.Models.Of[0].By = "" }},
		{"other input", "code/inputs provenance/inputs", wrong, func(s scene) { s.p.Inputs = known([]evidence.File{testbundle.File("evil.txt")}) }},
		{"inputs unknown", "code/inputs provenance/inputs", none, func(s scene) { s.p.Inputs = unknown([]evidence.File{}) }},
		{"required input not declared", "code/inputs provenance/inputs", wrong, func(s scene) {
			s.ref.Code.Inputs.Of[0].Required = true
			s.p.Inputs = known([]evidence.File{})
		}},

		{"taint that nobody accepted", "context/taint", wrong, func(s scene) {
			jit(s)
			taints("mprotect-exec", "io-uring")(s)
		}},
		{"taint that cannot be accepted", "context/taint", wrong, func(s scene) {
			s.ref.Code.AcceptedTaints = []string{"traced"}
			taints("traced")(s)
		}},
		{"mappings of a JIT that nobody accepted", "code/exe-mapped code/libraries provenance/libraries", wrong, func(s scene) {
			jit(s)
			s.ref.Code.AcceptedTaints = []string{"mprotect-exec"}
		}},
		{"mappings with another taint beside an accepted one", "code/exe-mapped code/libraries provenance/libraries", wrong, func(s scene) {
			jit(s)
			maps, _ := s.p.Maps.Observed()
			s.p.Maps = evidence.Tainted(maps, "anonymous-exec", "not-mapped")
		}},
		{"library that is not listed under a JIT", "code/libraries provenance/libraries", wrong, func(s scene) {
			addMap(s, "/tmp/evil.so")
			jit(s)
		}},

		{"context changed before", "context/changed", wrong, func(s scene) { s.before.Changed = known([]string{"credentials"}) }},
		{"context changed after", "context/changed", wrong, func(s scene) { s.after.Changed = known([]string{"root"}) }},
		{"context not looked at", "context/changed", none, func(s scene) { s.before.Changed = unknown([]string{}) }},
		{"context not looked at again", "context/changed", none, func(s scene) { s.after.Changed = unknown([]string{}) }},

		{"wanted signal not seen", "hardware/signals", none, func(s scene) { s.ref.Minimum.Signals = []string{"ptrace", "exec-gate"} }},
		{"wanted signal not listed", "hardware/signals", none, func(s scene) { s.ref.Minimum.Signals = []string{"memory-write"} }},
		{"exec not seen", "hardware/signals", none, func(s scene) { unseen(s, "exec") }},
		{"fork not seen", "hardware/signals", none, func(s scene) { unseen(s, "fork") }},
		{"exit not seen", "hardware/signals", none, func(s scene) { unseen(s, "exit") }},
	}
}

// TestAppraiseAcceptsData: other ways to be right about what a process is fed.
func TestAppraiseAcceptsData(t *testing.T) {
	cases := map[string]func(scene){
		"interpreter whose files are listed": scripted,
		"interpreter whose manifest is listed": func(s scene) {
			scripted(s)
			s.ref.Code.Files, s.ref.Code.Manifests = verify.Set[verify.Value]{}, []verify.Value{root(manifest("lib.py", "main.py"))}
		},
		"folded manifest that is listed": func(s scene) {
			scripted(s)
			m := manifest("lib.py", "main.py")
			s.ref.Code.Manifests = []verify.Value{root(m)}
			m.Files = nil
			s.p.Code = known(m)
		},
		"interpreter that may open anything": func(s scene) {
			scripted(s)
			s.ref.Code.Files = anyFile()
			s.p.Code = known(manifest("evil.py"))
		},
		"library and program opened as files": func(s scene) {
			scripted(s)
			s.p.Code = known(manifest("main.py", "/lib/x86_64-linux-gnu/libc.so.6", "/usr/bin/invoice-agent", "/lib64/ld-linux-x86-64.so.2"))
		},
		"code files of no interpreter unknown where any will do": func(s scene) {
			s.ref.Code.Files = anyFile()
			s.p.Code = unknown(manifest())
		},
		"opens of code not seen where any will do": func(s scene) {
			s.ref.Code.Files = anyFile()
			unseen(s, "code-open")
		},
		"kernel's word where the gate's would do": func(s scene) {
			bound("kernel")(s)
			s.ref.Code.Bound = "gate"
		},
		"module": bound("module"), "inline": bound("inline"), "argument": bound("argument"),
		"argument where it is named": func(s scene) {
			bound("module")(s)
			s.ref.Code.Bound = "argument"
		},
		"any model": func(s scene) {
			s.ref.Code.Models = anyFile()
			s.p.Models = known([]evidence.File{testbundle.File("/srv/evil.safetensors")})
		},
		"required model": func(s scene) { s.ref.Code.Models.Of[0].Required = true },
		"no model where none is required": func(s scene) {
			s.p.Models, s.p.Inputs = known([]evidence.File{}), known([]evidence.File{})
		},
		"JIT that is accepted":  jit,
		"signals that are seen": func(s scene) { s.ref.Minimum.Signals = []string{"ptrace", "code-open"} },
	}
	for name, change := range cases {
		if a := appraise(t, change); !a.OK() {
			t.Errorf("%s: refused: %+v", name, a.Failed())
		}
	}
}

// TestFileIsNamed: what is refused stands beside what was expected under the
// same name, by digest and path.
func TestFileIsNamed(t *testing.T) {
	lib := testbundle.Digest("lib.py").String()
	for name, change := range map[string]func(scene){
		"code/manifest": func(s scene) {
			scripted(s)
			s.ref.Code.Files.Of[0].Label = "lib.py 1.4"
			s.ref.Code.Files.Of = append(s.ref.Code.Files.Of, value("other.py"))
			s.ref.Code.Files.Of[0].Label = "/opt/agent/lib.py"
			s.p.Code = known(manifest("main.py", "/srv/lib.py"))
		},
		"code/models": func(s scene) {
			s.ref.Code.Models.Of = []verify.Value{value("a.gguf"), value("lib.py")}
			s.p.Models = known([]evidence.File{testbundle.File("/srv/lib.py")})
		},
		"code/libraries": func(s scene) {
			s.ref.Code.Libraries.Of = append(s.ref.Code.Libraries.Of, value("lib.py"))
			addMap(s, "/srv/lib.py")
		},
	} {
		a := appraise(t, change)
		failed := a.Failed()
		if got := string(failed[0].Attestor) + "/" + failed[0].Check; got != name {
			t.Fatalf("failed %s, want %s", got, name)
		}
		evil := testbundle.Digest("/srv/lib.py").String()
		f := failed[0]
		if len(f.Expected) != 1 || !strings.HasPrefix(f.Expected[0], lib) || !slices.Equal(f.Observed, []string{evil + " /srv/lib.py"}) || !strings.Contains(f.Hint, evil) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// TestTaintWords: the specification lists the taints of the table and no other,
// and what is never accepted says so when it is loaded.
func TestTaintWords(t *testing.T) {
	text, err := os.ReadFile("../spec/evidence.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(text), "\nTaints: ")
	list, _, _ = strings.Cut(list, "A reader treats a word")
	var words, listed []string
	for i, part := range strings.Split(list, "`") {
		if i%2 == 1 {
			listed = append(listed, part)
		}
	}
	for _, taint := range verify.Taints() {
		words = append(words, taint.Name)
		if taint.Meaning == "" || taint.Remedy == "" {
			t.Errorf("%s: no words", taint.Name)
		}
		ref := testbundle.Reference()
		ref.Code.AcceptedTaints = []string{taint.Name}
		if err := ref.Check(); (err == nil) != taint.Acceptable {
			t.Errorf("%s: acceptable %v, loading it: %v", taint.Name, taint.Acceptable, err)
		}
		a := appraise(t, func(s scene) {
			s.ref.Code.AcceptedTaints = []string{taint.Name}
			taints(taint.Name)(s)
		})
		if a.OK() != taint.Acceptable {
			t.Errorf("%s: acceptable %v, appraised %v", taint.Name, taint.Acceptable, a.OK())
		}
		if !a.OK() && !strings.Contains(fmt.Sprint(a.Failed()[0].Observed), taint.Meaning) {
			t.Errorf("%s: %v says nothing of its meaning", taint.Name, a.Failed()[0].Observed)
		}
	}
	slices.Sort(words)
	slices.Sort(listed)
	if !slices.Equal(words, listed) {
		t.Errorf("the table has\n%v, the specification\n%v", words, listed)
	}
}

// TestSignalWords: a reference may name every signal of the specification.
func TestSignalWords(t *testing.T) {
	text, err := os.ReadFile("../spec/evidence.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(text), "#### 4.2.1 Signals\n")
	list, _, _ = strings.Cut(list, "\n### ")
	listed := 0
	for i, part := range strings.Split(list, "`") {
		if i%2 == 0 || part == "#!" || part == "seen" {
			continue
		}
		listed++
		ref := testbundle.Reference()
		ref.Minimum.Signals = []string{part}
		if err := ref.Check(); err != nil {
			t.Errorf("%s: %v", part, err)
		}
	}
	if listed != 25 {
		t.Errorf("%d signals listed", listed)
	}
}
