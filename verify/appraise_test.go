// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/bootlog"
	"github.com/jurat-dev/jurat/verify"
	"github.com/jurat-dev/jurat/verify/internal/testbundle"
)

// scene is a process, the two looks at it, and what is expected of it.
type scene struct {
	p      *evidence.Process
	before *evidence.State
	after  *evidence.State
	ref    *verify.Reference
	world  *testbundle.World
}

// appraise lets change make one thing wrong and returns the answer.
func appraise(t *testing.T, change func(scene)) verify.Appraisal {
	t.Helper()
	w := testbundle.Booted()
	ref := testbundle.Reference()
	if change != nil {
		change(scene{w.Log[testbundle.ProcessEntry].Process, &w.Requests[0].Before, &w.After[0], &ref, w})
	}
	r, _ := accept(t, w)
	return r.Appraise(0, ref)
}

func failed(a verify.Appraisal) []string {
	var out []string
	for _, c := range a.Failed() {
		out = append(out, string(c.Attestor)+"/"+c.Check)
	}
	return out
}

func known[T any](v T) evidence.Value[T]             { return evidence.Known(v) }
func tainted[T any](v T) evidence.Value[T]           { return evidence.Tainted(v, "ptrace") }
func unknown[T any](_ T) evidence.Value[T]           { return evidence.Unknown[T]("raced") }
func file(path string) evidence.Value[evidence.File] { return known(testbundle.File(path)) }

func undigested(path string) evidence.File {
	f := testbundle.File(path)
	f.Digest = evidence.Unknown[evidence.Digest]("unreadable")
	return f
}

func script(path string) evidence.Value[*evidence.Script] {
	return known(&evidence.Script{File: testbundle.File(path), Bound: "exec"})
}

func value(path string) verify.Value {
	return verify.Value{Digest: testbundle.Digest(path).String(), Label: path, Provenance: verify.Pinned, By: "operator@example", At: time.Unix(1, 0)}
}

func TestAppraiseAffirms(t *testing.T) {
	a := appraise(t, nil)
	if !a.OK() || len(a.Failed()) != 0 {
		t.Fatalf("refused: %+v", a.Failed())
	}
	for attestor, claim := range a.Vector() {
		if claim != verify.ClaimAffirming {
			t.Errorf("%s: %v", attestor, claim)
		}
	}
	for _, c := range a.Checks() {
		if c.Hint != "" || c.Expected == nil || c.Observed == nil {
			t.Errorf("%s/%s: %+v", c.Attestor, c.Check, c)
		}
	}
}

// TestAppraiseRefuses makes one thing wrong each, and wants exactly the checks
// that are about it to fail, with the attestor's claim.
func TestAppraiseRefuses(t *testing.T) {
	const none, warning, wrong = verify.ClaimNone, verify.ClaimWarning, verify.ClaimContraindicated
	cases := append([]refusedScene{
		{"ek below the minimum", "hardware/ek-level", warning, func(s scene) { s.world.Level, s.ref.Minimum.EK = verify.LevelPin, verify.LevelCloudAK }},
		{"no ek minimum", "hardware/ek-level", none, func(s scene) { s.ref.Minimum.EK = "" }},
		{"anchor below the minimum", "hardware/anchor", warning, func(s scene) { s.ref.Minimum.Anchor = evidence.AnchorNVLatch }},
		{"no anchor minimum", "hardware/anchor", none, func(s scene) { s.ref.Minimum.Anchor = "" }},
		{"tier below the minimum", "hardware/tier", warning, func(s scene) { s.ref.Minimum.Tier = verify.TierLSM }},
		{"unknown tier minimum", "hardware/tier", none, func(s scene) { s.ref.Minimum.Tier = "best" }},

		{"changed program", "code/exe-digest provenance/exe", wrong, func(s scene) {
			maps, _ := s.p.Maps.Get()
			maps[0] = testbundle.File("evil")
			s.p.Exe = file("evil")
		}},
		{"no program listed", "code/exe-digest provenance/exe", wrong, func(s scene) { s.ref.Code.Executables = nil }},
		{"program unknown", "code/exe-digest code/libraries provenance/exe provenance/libraries", wrong, func(s scene) { s.p.Exe = unknown(evidence.File{}) }},
		{"program tainted", "code/exe-digest code/libraries provenance/exe provenance/libraries", wrong, func(s scene) { s.p.Exe = tainted(testbundle.File("/usr/bin/invoice-agent")) }},
		{"program not digested", "code/exe-digest code/libraries provenance/exe provenance/libraries", wrong, func(s scene) { s.p.Exe = known(undigested("/usr/bin/invoice-agent")) }},
		{"program obtained in another way", "code/exe-digest code/exe-mapped code/libraries provenance/exe provenance/libraries", wrong, func(s scene) {
			f := testbundle.File("/usr/bin/invoice-agent")
			d := testbundle.Digest("/usr/bin/invoice-agent")
			d.Source = "said-so"
			f.Digest = known(d)
			s.p.Exe = known(f)
			s.p.Maps = known([]evidence.File{testbundle.File("/usr/bin/invoice-agent")})
		}},
		{"program under another algorithm", "code/exe-digest provenance/exe", wrong, func(s scene) {
			f := testbundle.File("/usr/bin/invoice-agent")
			d := testbundle.Digest("/usr/bin/invoice-agent")
			d.Algorithm = "fsverity-sha-256"
			f.Digest = known(d)
			maps, _ := s.p.Maps.Get()
			s.p.Exe, maps[0] = known(f), f
		}},
		{"program not what is mapped", "code/exe-mapped code/libraries provenance/libraries", wrong, func(s scene) {
			maps, _ := s.p.Maps.Get()
			maps[0] = testbundle.File("evil")
		}},
		{"mappings unknown", "code/exe-mapped code/libraries provenance/libraries", none, func(s scene) { s.p.Maps = unknown([]evidence.File{}) }},
		{"mappings tainted", "code/exe-mapped code/libraries provenance/libraries", wrong, func(s scene) { s.p.Maps = tainted([]evidence.File{}) }},

		{"other loader", "code/loader provenance/loader", wrong, func(s scene) {
			f := testbundle.File("evil")
			maps, _ := s.p.Maps.Get()
			s.p.Loader, maps[2] = known(&f), f
		}},
		{"no loader listed", "code/loader provenance/loader", wrong, func(s scene) { s.ref.Code.Loaders.Of = nil }},
		{"loader unknown", "code/loader code/libraries provenance/loader provenance/libraries", wrong, func(s scene) { s.p.Loader = unknown[*evidence.File](nil) }},
		{"loader not digested", "code/loader code/libraries provenance/loader provenance/libraries", wrong, func(s scene) {
			f := undigested("/lib64/ld-linux-x86-64.so.2")
			s.p.Loader = known(&f)
		}},

		{"other library", "code/libraries provenance/libraries", wrong, func(s scene) { addMap(s, "/tmp/evil.so") }},
		{"no library listed", "code/libraries provenance/libraries", wrong, func(s scene) { s.ref.Code.Libraries.Of = nil }},
		{"library not digested", "code/libraries provenance/libraries", none, func(s scene) {
			maps, _ := s.p.Maps.Get()
			s.p.Maps = known(append(maps, undigested("/lib/x.so")))
		}},
		{"library not digested where any will do", "code/libraries", none, func(s scene) {
			s.ref.Code.Libraries = verify.Set[verify.Value]{Any: true}
			maps, _ := s.p.Maps.Get()
			s.p.Maps = known(append(maps, undigested("/lib/x.so")))
		}},

		{"interpreter without a script", "code/script provenance/script", wrong, func(s scene) { interpreter(s) }},
		{"interpreter with another script", "code/script provenance/script", wrong, func(s scene) {
			interpreter(s)
			s.ref.Code.Scripts = []verify.Value{value("main.py")}
			s.p.Script = script("evil.py")
		}},
		{"interpreter with inline code", "code/script provenance/script", none, func(s scene) {
			interpreter(s)
			s.p.Script = evidence.Unknown[*evidence.Script]("inline-code")
		}},
		{"interpreter with an undigested script", "code/script provenance/script", none, func(s scene) {
			interpreter(s)
			s.p.Script = known(&evidence.Script{File: undigested("main.py"), Bound: "exec"})
		}},
		{"script that is not listed", "code/script provenance/script", wrong, func(s scene) { s.p.Script = script("evil.py") }},
		{"script unknown", "code/script provenance/script", none, func(s scene) { s.p.Script = unknown[*evidence.Script](nil) }},

		{"LD_PRELOAD", "code/interference", wrong, func(s scene) { s.p.Interference = known([]string{"LD_PRELOAD"}) }},
		{"environment not read", "code/interference", none, func(s scene) { s.p.Interference = unknown([]string{}) }},
		{"unmeasured mapping before", "code/unmeasured", wrong, func(s scene) { s.before.Unmeasured = known[uint64](1) }},
		{"unmeasured mapping after", "code/unmeasured", wrong, func(s scene) { s.after.Unmeasured = known[uint64](1) }},
		{"mappings not looked at", "code/unmeasured", none, func(s scene) { s.before.Unmeasured = unknown[uint64](0) }},
		{"mappings not looked at again", "code/unmeasured", none, func(s scene) { s.after.Unmeasured = unknown[uint64](0) }},
		{"text written to before", "code/private-pages", wrong, func(s scene) { s.before.Private = known[uint64](3) }},
		{"text written to after", "code/private-pages", wrong, func(s scene) { s.after.Private = known[uint64](3) }},
		{"text not looked at", "code/private-pages", none, func(s scene) { s.before.Private = unknown[uint64](0) }},
		{"file changed before", "code/changed-files", wrong, func(s scene) { s.before.Missing = known([]string{"/lib/libc.so.6"}) }},
		{"file changed after", "code/changed-files", wrong, func(s scene) { s.after.Missing = known([]string{"/lib/libc.so.6"}) }},
		{"files not looked at", "code/changed-files", none, func(s scene) { s.after.Missing = unknown([]string{}) }},

		{"nobody vouches", "provenance/exe", none, func(s scene) { s.ref.Code.Executables[0].By = "" }},
		{"vouched at no time", "provenance/loader", none, func(s scene) { s.ref.Code.Loaders.Of[0].At = time.Time{} }},
		{"vouched in no way", "provenance/libraries", none, func(s scene) { s.ref.Code.Libraries.Of[0].Provenance = "" }},
		{"pinned where proof is needed", "provenance/exe provenance/loader provenance/libraries provenance/models provenance/inputs", warning, func(s scene) { s.ref.Minimum.Provenance = verify.Proved }},
		{"one of them only pinned", "provenance/loader provenance/models provenance/inputs", warning, func(s scene) {
			s.ref.Minimum.Provenance = verify.Proved
			s.ref.Code.Executables[0].Provenance = verify.Proved
			s.ref.Code.Libraries.Of[0].Provenance = verify.Proved
		}},
		{"no provenance minimum", "provenance/minimum", none, func(s scene) { s.ref.Minimum.Provenance = "" }},

		{"forked", "context/origin", wrong, func(s scene) { s.p.Origin = evidence.OriginFork }},
		{"seen", "context/origin", wrong, func(s scene) { s.p.Origin = evidence.OriginSeen }},
		{"other unit", "context/unit", wrong, func(s scene) { s.p.Unit = known("ssh.service") }},
		{"no unit listed", "context/unit", wrong, func(s scene) { s.ref.Context.Units = verify.Set[string]{} }},
		{"unit unknown", "context/unit", none, func(s scene) { s.p.Unit = unknown("") }},
		{"unit tainted", "context/unit", wrong, func(s scene) { s.p.Unit = tainted("invoice-agent.service") }},
		{"unit unknown where any will do", "context/unit", none, func(s scene) {
			s.ref.Context.Units = verify.Set[string]{Any: true}
			s.p.Unit = unknown("")
		}},
		{"other cgroup", "context/cgroup", wrong, func(s scene) { s.p.Cgroup = known("/user.slice") }},
		{"uid", "context/uid", wrong, withCreds(func(c *evidence.Credentials) { c.UID = 0 })},
		{"euid", "context/uid", wrong, withCreds(func(c *evidence.Credentials) { c.EUID = 0 })},
		{"suid", "context/uid", wrong, withCreds(func(c *evidence.Credentials) { c.SUID = 0 })},
		{"fsuid", "context/uid", wrong, withCreds(func(c *evidence.Credentials) { c.FSUID = 0 })},
		{"gid", "context/gid", wrong, withCreds(func(c *evidence.Credentials) { c.GID = 0 })},
		{"egid", "context/gid", wrong, withCreds(func(c *evidence.Credentials) { c.EGID = 0 })},
		{"sgid", "context/gid", wrong, withCreds(func(c *evidence.Credentials) { c.SGID = 0 })},
		{"fsgid", "context/gid", wrong, withCreds(func(c *evidence.Credentials) { c.FSGID = 0 })},
		{"no uid listed", "context/uid", wrong, func(s scene) { s.ref.Context.UIDs = verify.Set[uint32]{} }},
		{"user unknown", "context/uid context/gid", none, func(s scene) { s.p.Credentials = unknown(evidence.Credentials{}) }},
		{"other user namespace", "context/user-namespace", wrong, func(s scene) { s.p.Namespaces = known(evidence.Namespaces{User: 4026532000}) }},
		{"namespaces unknown", "context/user-namespace", none, func(s scene) { s.p.Namespaces = unknown(evidence.Namespaces{}) }},
		{"user namespace misspelt", "context/user-namespace", wrong, func(s scene) { s.ref.Context.UserNamespace = "host" }},
		{"container", "context/container", wrong, func(s scene) { s.p.Container = container(known("evil")) }},
		{"container of unknown image", "context/container", none, func(s scene) { s.p.Container = container(unknown("")) }},
		{"container that calls itself none", "context/container", wrong, func(s scene) { s.p.Container = container(known("none")) }},
		{"container unknown", "context/container", none, func(s scene) { s.p.Container = unknown[*evidence.Container](nil) }},
		{"no container where one is wanted", "context/container", wrong, func(s scene) { s.ref.Context.Containers = verify.Set[string]{Of: []string{"image@sha256:1"}} }},
		{"other ancestor", "context/ancestors", wrong, ancestors(evidence.Ancestor{Path: "/bin/bash", Digest: known(testbundle.Digest("/bin/bash"))})},
		{"ancestor not digested", "context/ancestors", none, ancestors(evidence.Ancestor{Path: "/bin/bash", Digest: unknown(evidence.Digest{})})},
		{"no ancestor listed", "context/ancestors", wrong, func(s scene) { s.ref.Context.Ancestors = verify.Set[string]{} }},
		{"no ancestor listed and none there", "context/ancestors", none, func(s scene) {
			s.ref.Context.Ancestors = verify.Set[string]{}
			s.p.Ancestors = known([]evidence.Ancestor{})
		}},
		{"ancestors unknown", "context/ancestors", none, func(s scene) { s.p.Ancestors = unknown([]evidence.Ancestor{}) }},
		{"other variable", "context/environment", wrong, func(s scene) { s.p.Environment = known(map[string]string{"LANG": "tlh"}) }},
		{"variable not set", "context/environment", wrong, func(s scene) { s.p.Environment = known(map[string]string{}) }},
		{"one of two variables", "context/environment", wrong, func(s scene) {
			s.ref.Context.Environment = map[string][]string{"A": {"1"}, "LANG": {"C.UTF-8"}}
			s.p.Environment = known(map[string]string{"A": "2", "LANG": "C.UTF-8"})
		}},
		{"variable that may be empty not set", "context/environment", wrong, func(s scene) { s.ref.Context.Environment = map[string][]string{"A": {""}} }},
		{"variables unknown", "context/environment", none, func(s scene) { s.p.Environment = unknown(map[string]string{}) }},

		{"dead before", "context/alive", wrong, func(s scene) { s.before.Alive = false }},
		{"dead after", "context/alive", wrong, func(s scene) { s.after.Alive = false }},
		{"exec before", "context/generation", wrong, func(s scene) { s.before.Generation++ }},
		{"exec after", "context/generation", wrong, func(s scene) { s.after.Generation++ }},
		{"taint before", "context/taint", wrong, func(s scene) { s.before.Taints = []string{"ptrace"} }},
		{"taint after", "context/taint", wrong, func(s scene) { s.after.Taints = []string{"ptrace"} }},
		{"tracer before", "context/tracer", wrong, func(s scene) { s.before.Tracer = known[uint32](99) }},
		{"tracer after", "context/tracer", wrong, func(s scene) { s.after.Tracer = known[uint32](99) }},
		{"tracer unknown", "context/tracer", none, func(s scene) { s.after.Tracer = unknown[uint32](0) }},
		{"records lost between the looks", "context/loss", wrong, func(s scene) { s.after.Lost = 1 }},
		{"loss taken back", "context/loss", wrong, func(s scene) { s.before.Lost = 1 }},
		{"looks exchanged", "context/window", wrong, func(s scene) { s.after.At = s.before.At - 1 }},
		{"looked at before it was measured", "context/window", wrong, func(s scene) { s.p.Measured = s.before.At + 1 }},
	}, slices.Concat(bootScenes(), dataScenes())...)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a := appraise(t, c.change)
			if got := strings.Join(failed(a), " "); got != c.want || a.OK() {
				t.Fatalf("failed %q, want %q", got, c.want)
			}
			attestor, _, _ := strings.Cut(c.want, "/")
			if got := a.Vector()[verify.Attestor(attestor)]; got != c.claim {
				t.Errorf("%s claims %v, want %v", attestor, got, c.claim)
			}
			if status := a.EAR().Status; status == "affirming" || status != worstOf(a) {
				t.Errorf("the EAR says %s", status)
			}
			seen := make(map[string]bool)
			for _, made := range a.Checks() {
				if name := string(made.Attestor) + "/" + made.Check; seen[name] {
					t.Errorf("%s was checked twice", name)
				} else {
					seen[name] = true
				}
			}
			for _, f := range a.Failed() {
				if len(f.Expected) == 0 || len(f.Observed) == 0 {
					t.Errorf("%s/%s does not say what was expected (%v) or observed (%v)", f.Attestor, f.Check, f.Expected, f.Observed)
				}
			}
		})
	}
}

func worstOf(a verify.Appraisal) string {
	worst := "affirming"
	for _, name := range []string{"none", "warning", "contraindicated"} {
		for _, claim := range a.Vector() {
			if claim.String() == name {
				worst = name
			}
		}
	}
	return worst
}

func addMap(s scene, path string) {
	maps, _ := s.p.Maps.Get()
	s.p.Maps = known(append(slices.Clone(maps), testbundle.File(path)))
}

func withCreds(change func(*evidence.Credentials)) func(scene) {
	return func(s scene) {
		c := testbundle.Credentials()
		change(&c)
		s.p.Credentials = known(c)
	}
}

func ancestors(more evidence.Ancestor) func(scene) {
	return func(s scene) {
		list, _ := s.p.Ancestors.Get()
		s.p.Ancestors = known(append([]evidence.Ancestor{more}, list...))
	}
}

func container(image evidence.Value[string]) evidence.Value[*evidence.Container] {
	return known(&evidence.Container{Runtime: "containerd", ID: "1", Image: image, Pod: evidence.Unknown[string]("not-collected")})
}

// TestAppraiseAccepts: other ways to be right.
func TestAppraiseAccepts(t *testing.T) {
	cases := map[string]func(scene){
		"static program": func(s scene) {
			s.p.Loader = known[*evidence.File](nil)
			s.p.Maps = known([]evidence.File{testbundle.File("/usr/bin/invoice-agent")})
			s.ref.Code.Loaders, s.ref.Code.Libraries = verify.Set[verify.Value]{}, verify.Set[verify.Value]{}
		},
		"any library": func(s scene) {
			s.ref.Code.Libraries = verify.Set[verify.Value]{Any: true}
			addMap(s, "/opt/anything.so")
		},
		"any loader": func(s scene) { s.ref.Code.Loaders = verify.Set[verify.Value]{Any: true} },
		"listed script of an interpreter": func(s scene) {
			interpreter(s)
			s.ref.Code.Scripts = []verify.Value{value("main.py")}
			s.p.Script = script("main.py")
		},
		"listed script of a program": func(s scene) {
			s.ref.Code.Scripts = []verify.Value{value("main.py")}
			s.p.Script = script("main.py")
		},
		"proved where pinned would do": func(s scene) { s.ref.Code.Executables[0].Provenance = verify.Proved },
		"forked where that is allowed": func(s scene) {
			s.ref.Context.Origins = []string{evidence.OriginFork}
			s.p.Origin = evidence.OriginFork
		},
		"any context": func(s scene) {
			s.ref.Context = verify.ContextReference{
				Units: verify.Set[string]{Any: true}, UIDs: verify.Set[uint32]{Any: true}, GIDs: verify.Set[uint32]{Any: true}, Cgroups: verify.Set[string]{Any: true},
				Containers: verify.Set[string]{Any: true}, Ancestors: verify.Set[string]{Any: true}, UserNamespace: "any",
			}
			s.p.Namespaces = known(evidence.Namespaces{User: 4026532000})
			s.p.Container = container(known("none"))
		},
		"a container's image": func(s scene) {
			s.ref.Context.Containers = verify.Set[string]{Of: []string{"image@sha256:1"}}
			s.p.Container = container(known("image@sha256:1"))
		},
		"user namespace by its name": func(s scene) { s.ref.Context.UserNamespace = verify.InitialNamespace },
		"no variable wanted": func(s scene) {
			s.ref.Context.Environment = nil
			s.p.Environment = unknown(map[string]string{})
		},
		"every file in the IMA list": func(s scene) {
			s.ref.Minimum.IMA = verify.IMAConfirmed
			s.world.IMA = covering(s.world)
		},
		"a PCR that systemd went on extending": func(s scene) { systemd(s, 4, "enter-initrd", "leave-initrd") },
		"a PCR by its events":                  func(s scene) { s.ref.Boot.PCRs[4] = nil },
		"a PCR by its value":                   func(s scene) { delete(s.ref.Boot.Events, 4) },
		"a kernel that was learned as well": func(s scene) {
			s.world.Boots(bootlog.Boot{Kernel: "6.13.0", CommandLine: "quiet"}, bootlog.SHA256)
			boot, err := verify.ParseBoot(s.world.BootLog)
			if err != nil {
				panic(err)
			}
			s.ref.Boot.Learn(map[int]evidence.Hash{4: s.world.PCRs[4]}, boot)
			s.ref.Boot.PCRs[4] = nil // by its events
		},
		"lost records before the looks": func(s scene) { s.before.Lost, s.after.Lost = 7, 7 },
	}
	for name, change := range cases {
		if a := appraise(t, change); !a.OK() {
			t.Errorf("%s: refused: %+v", name, a.Failed())
		}
	}
}
