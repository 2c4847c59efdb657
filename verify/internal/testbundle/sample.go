// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package testbundle

import (
	"bytes"
	"fmt"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/bootlog"
	"github.com/jurat-dev/jurat/verify"
)

// Numbers of entries in the sample log.
const (
	StartEntry   = 0
	ExecEntry    = 1
	ProcessEntry = 2
)

// First returns a host at first contact: a log of three entries (start, exec,
// process) and one request. It has no boot log, and none is wanted.
func First() *World {
	ak := NewAK("1")
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	ueid, nonce, boot := Text("EK of h17"), Text("challenge 1"), Text("boot 1")
	w := &World{
		Now: now, Broker: "https://broker.example", Nonce: append(nonce[:], nonce[:24]...), Expires: now.Add(20 * time.Second),
		UEID: append([]byte{1}, ueid[:]...), AKPublic: ak.Bytes(), AKName: ak.Name(), Level: verify.LevelCert, Policy: verify.DefaultPolicy(),
		AK: ak, BootID: boot[:16], Epoch: 1, Sequence: 1, Number: 1,
		Log:      []*evidence.Entry{Start(1, boot[:16]), Exec(Instance()), Measured(Instance(), Process())},
		Send:     []uint64{StartEntry, ProcessEntry},
		Clock:    tpm2.TPMSClockInfo{Clock: 600_000, ResetCount: 7, RestartCount: 0, Safe: true},
		Firmware: 0x2024010100000001, Quoted: []byte{0xff, 0xff, 0}, Banks: []uint16{bootlog.SHA256.Algorithm}, Maker: "IFX",
	}
	w.Policy.Measured = nil // there is no boot log
	for pcr := range w.PCRs {
		w.PCRs[pcr] = Text(fmt.Sprintf("PCR %d", pcr))
	}
	w.Ask(Instance(), ProcessEntry)
	return w
}

// Second returns the same host at its second contact, five minutes later: the
// log has grown by an exec and a new measurement.
func Second() *World {
	first := First()
	built := first.Build()
	w := First()
	w.Last = &built.Next
	w.Now = w.Now.Add(5 * time.Minute)
	w.Expires = w.Now.Add(20 * time.Second)
	nonce := Text("challenge 2")
	w.Nonce = append(nonce[:], nonce[:24]...)
	w.Sequence, w.Number = 2, 2
	w.Clock.Clock += 300_000
	w.Log = append(w.Log, Exec(Instance()), Measured(Instance(), Process()))
	w.Send = []uint64{StartEntry, 4}
	w.Requests, w.After = nil, nil
	w.Ask(Instance(), 4)
	return w
}

// Booted returns the host at first contact with the log of a boot that its
// PCRs bear out.
func Booted() *World {
	w := First()
	w.Boots(bootlog.Boot{}, bootlog.SHA256)
	return w
}

// Boots has the host boot like this, into these banks. The policy wants to see
// it.
func (w *World) Boots(boot bootlog.Boot, banks ...bootlog.Bank) {
	w.Policy.Measured = verify.DefaultPolicy().Measured
	w.BootLog, _ = boot.Log(banks...)
	for pcr, value := range boot.PCRs() {
		w.PCRs[pcr] = value
	}
	w.Banks = nil
	for _, bank := range banks {
		w.Banks = append(w.Banks, bank.Algorithm)
	}
}

// Rebooted returns the host at its second contact, after a reboot: reset count,
// boot id and epoch are new, the log goes on.
func Rebooted() *World {
	w := Second()
	boot := Text("boot 2")
	w.BootID, w.Epoch = boot[:16], 2
	w.Clock.ResetCount++
	w.Log[3] = Start(2, w.BootID)
	w.Send = []uint64{3, 4}
	return w
}

// Batch returns the host at first contact with a batch of n requests.
func Batch(n int) *World {
	w := First()
	for len(w.Requests) < n {
		w.Ask(Instance(), ProcessEntry)
	}
	return w
}

// Ask adds a request for the process that the entry measured.
func (w *World) Ask(instance evidence.Instance, entry uint64) {
	n := len(w.Requests)
	key := Text(fmt.Sprintf("DPoP key %d", n))
	w.Requests = append(w.Requests, &evidence.Request{
		Version: 1, Blind: Text(fmt.Sprintf("blind %d", n)), Broker: w.Broker, Nonce: bytes.Clone(w.Nonce), D: Text(fmt.Sprintf("delegation %d", n)),
		Audience: "https://payments.example", Actions: []string{"invoice.read"}, Datatypes: []string{},
		Confirm: evidence.Confirm{Method: evidence.ConfirmJKT, Thumbprint: key[:]},
		Subject: evidence.Subject{Instance: instance, Index: entry}, Before: Look(400_000_000_000),
	})
	w.After = append(w.After, Look(400_250_000_000))
}

// Look is a clean look at the sample process.
func Look(at uint64) evidence.State {
	return evidence.State{
		At: at, Alive: true, Generation: Instance().Generation, Taints: []string{}, Unmeasured: evidence.Known[uint64](0), Private: evidence.Known[uint64](0),
		Tracer: evidence.Known[uint32](0), Missing: evidence.Known([]string{}), Changed: evidence.Known([]string{}),
	}
}

// Instance is the sample process.
func Instance() evidence.Instance {
	return evidence.Instance{PID: 4711, Start: 99_812_000_000, PidfdInode: 217_235, Generation: 3}
}

// Start is the entry that opens an epoch.
func Start(epoch uint64, boot []byte) *evidence.Entry {
	reason := "first"
	if epoch > 1 {
		reason = "boot"
	}
	return &evidence.Entry{Version: 1, Kind: evidence.KindStart, At: 50_000_000_000, Start: &evidence.Start{
		Reason: reason, Epoch: epoch, BootID: bytes.Clone(boot), Agent: "0.1.0", AgentDigest: evidence.Known(Digest("juratd")), Kernel: "6.1.0-39-amd64",
		Tier: verify.TierTracepoint, Sensor: Text("sensor"), Programs: []evidence.Program{{Name: "jurat_exec", Tag: "5f3a9d0c11e2b874", Fired: true}},
		Capabilities: 0x1ffffffffff, Modules: evidence.Known("lockdown,yama,apparmor,bpf"), Lockdown: evidence.Known("integrity"), Signals: Signals(),
	}}
}

// Signals are what the sample host's sensor sees: of what the issue of a
// credential may need, all but a gate.
func Signals() []evidence.Signal {
	var out []evidence.Signal
	for _, name := range []string{"exec", "fork", "exit", "code-open", "model-open", "ptrace"} {
		out = append(out, evidence.Signal{Name: name, By: evidence.Known("tp_btf/" + name)})
	}
	return append(out, evidence.Signal{Name: "exec-gate", By: evidence.Unknown[string]("off")})
}

// Exec is a light entry for the sample process.
func Exec(instance evidence.Instance) *evidence.Entry {
	return &evidence.Entry{Version: 1, Kind: evidence.KindExec, At: 100_000_000_000, Instance: &instance, Exec: &evidence.Exec{
		CPU: 1, Record: 42, Parent: evidence.Instance{PID: 1}, Hint: "/usr/bin/invoice-agent", Exe: evidence.Known(File("/usr/bin/invoice-agent")),
		Creds: Credentials(), CgroupID: 4242, Cgroup: evidence.Known("/system.slice/invoice-agent.service"), Taints: []string{},
	}}
}

// Measured is the full measurement of a process.
func Measured(instance evidence.Instance, p *evidence.Process) *evidence.Entry {
	return &evidence.Entry{Version: 1, Kind: evidence.KindProcess, At: 300_000_000_000, Instance: &instance, Process: p}
}

// Process is the sample workload: one service, measured in full.
func Process() *evidence.Process {
	libc, loader := File("/lib/x86_64-linux-gnu/libc.so.6"), File("/lib64/ld-linux-x86-64.so.2")
	return &evidence.Process{
		Origin: evidence.OriginExec, ExecAt: 100_000_000_000, Measured: 300_000_000_000,
		Exe: evidence.Known(File("/usr/bin/invoice-agent")), Loader: evidence.Known(&loader), Script: evidence.Known[*evidence.Script](nil),
		Maps: evidence.Known([]evidence.File{File("/usr/bin/invoice-agent"), libc, loader}), Arguments: evidence.Known(Text("argv")),
		Code: evidence.Known(evidence.NewManifest(nil)), Models: evidence.Known([]evidence.File{File("/srv/ranker.safetensors")}),
		Inputs: evidence.Known([]evidence.File{File("/etc/invoice-agent/prompt.txt")}), Credentials: evidence.Known(Credentials()), Groups: evidence.Known([]uint32{990}),
		Namespaces: evidence.Known(evidence.Namespaces{PID: 4026531836, Mount: 4026531841, User: 4026531837, Net: 4026531840, Cgroup: 4026531835, UTS: 4026531838, IPC: 4026531839}),
		Cgroup:     evidence.Known("/system.slice/invoice-agent.service"), Unit: evidence.Known("invoice-agent.service"), Container: evidence.Known[*evidence.Container](nil),
		Ancestors: evidence.Known([]evidence.Ancestor{{Instance: evidence.Instance{PID: 1, Generation: 1}, Path: "/usr/lib/systemd/systemd", Digest: evidence.Known(Digest("/usr/lib/systemd/systemd"))}}),
		Label:     evidence.Known("unconfined"), Session: evidence.Known[uint32](4294967295), TTY: evidence.Known(""), Directory: evidence.Known("/"),
		Environment: evidence.Known(map[string]string{"LANG": "C.UTF-8"}), Devices: evidence.Unknown[[]string]("not-collected"), Interference: evidence.Known([]string{}),
	}
}

// Credentials are the sample process's.
func Credentials() evidence.Credentials {
	return evidence.Credentials{UID: 990, EUID: 990, SUID: 990, FSUID: 990, GID: 990, EGID: 990, SGID: 990, FSGID: 990, NoNewPrivs: true}
}

// File is a file whose digest its path determines.
func File(path string) evidence.File {
	return evidence.File{Path: path, ID: evidence.FileID{Device: 65024, Inode: uint64(len(path)), Ctime: 1_790_000_000_000_000_000, Size: 4096}, Digest: evidence.Known(Digest(path))}
}

// Digest is the digest of that file.
func Digest(path string) evidence.Digest {
	value := Text("file " + path)
	return evidence.Digest{Algorithm: "sha-256", Value: value[:], Source: evidence.SourceRead}
}

// Reference accepts the sample process on the sample machine, and nothing else.
func Reference() verify.Reference {
	value := func(path string) verify.Value {
		return verify.Value{Digest: Digest(path).String(), Label: path, Provenance: verify.Pinned, By: "operator@example", At: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)}
	}
	ref := verify.Reference{
		ID: "sha-256:" + Text("reference").String(), Workload: "invoice-agent",
		Minimum: verify.Minimum{EK: verify.LevelPin, Anchor: evidence.AnchorNone, Tier: verify.TierTracepoint, Provenance: verify.Pinned, IMA: verify.IMANone},
		Code: verify.CodeReference{
			Executables: []verify.Value{value("/usr/bin/invoice-agent")},
			Loaders:     verify.Set[verify.Value]{Of: []verify.Value{value("/lib64/ld-linux-x86-64.so.2")}},
			Libraries:   verify.Set[verify.Value]{Of: []verify.Value{value("/lib/x86_64-linux-gnu/libc.so.6")}},
			Models:      verify.Set[verify.Value]{Of: []verify.Value{value("/srv/ranker.safetensors")}},
			Inputs:      verify.Set[verify.Value]{Of: []verify.Value{value("/etc/invoice-agent/prompt.txt")}},
		},
		Context: verify.ContextReference{
			Units: verify.Set[string]{Of: []string{"invoice-agent.service"}}, UIDs: verify.Set[uint32]{Of: []uint32{990}}, GIDs: verify.Set[uint32]{Of: []uint32{990}},
			Cgroups: verify.Set[string]{Of: []string{"/system.slice/invoice-agent.service"}}, Containers: verify.Set[string]{Of: []string{verify.NoContainer}},
			Ancestors:   verify.Set[string]{Of: []string{Digest("/usr/lib/systemd/systemd").String()}},
			Environment: map[string][]string{"LANG": {"C", "C.UTF-8"}},
		},
	}
	w := Booted()
	pcrs := map[int]evidence.Hash{0: w.PCRs[0], 4: w.PCRs[4], 7: w.PCRs[7]}
	ref.Boot.Learn(pcrs, must(verify.ParseBoot(w.BootLog)))
	ref.Boot.PCRs[0] = append(ref.Boot.PCRs[0], Text("an older firmware"))
	return ref
}
