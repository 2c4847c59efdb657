// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/delegation"
	"github.com/jurat-dev/jurat/evidence"
)

func itoa(n int) string { return strconv.Itoa(n) }

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}

// sampleDelegation is a delegation at a broker, which is all that may vary.
func sampleDelegation(t *testing.T, broker string) (*delegation.Delegation, []byte) {
	t.Helper()
	o, enc, err := delegation.New(delegation.Delegation{
		ID: "dlg_04hmasr9nf6yy1234567890abc", Broker: broker, Requester: "spiffe://example.test/operator",
		Workload: delegation.Workload{ID: "spiffe://example.test/agents/invoice", Levels: delegation.Lowest()},
		Approver: delegation.Person{Issuer: broker, Subject: "alice@example.test"},
		Purpose:  "Close October invoices", Actions: []string{"invoice.read"}, Audience: "https://invoices.example",
		Limits:    delegation.Limits{Per: delegation.PerCredential},
		NotBefore: uint64(noon.Unix()) - 60, Expires: uint64(noon.Unix()) + 3600, Uses: 20, FourEyes: 1,
		RequestedAt: uint64(noon.Unix()) - 60, Nonce: bytes.Repeat([]byte{7}, delegation.NonceSize),
	})
	if err != nil {
		t.Fatal(err)
	}
	return o, enc
}

// delegationAnswer is what a broker says about it.
func delegationAnswer(t *testing.T, broker, state string, approvals ...map[string]any) string {
	o, enc := sampleDelegation(t, broker)
	if approvals == nil {
		approvals = []map[string]any{}
	}
	data, err := json.Marshal(map[string]any{
		"id": o.ID, "d": delegation.Text(delegation.Digest(enc)), "object": enc, "delegation": o, "state": state, "uses_left": 19,
		"approvals": approvals, "later_member": true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func sampleStatus() *local.Status {
	return &local.Status{
		Version: "0.1.0", Host: "spiffe://example.test/host/h17", Broker: "https://broker.example", BrokerState: "reachable", Tier: "tracepoint",
		Anchor: "none", Kernel: "6.18.5", Identity: "scm-pidfd", Epoch: 3, Since: noon.Unix() - 86400, LogSize: 4711, Checkpoint: 12,
		Sequence: 13, Lost: 2, Instances: 87, Keys: 2, Waiting: 1, Quotes: 13, Answered: 29,
	}
}

// sampleBundle is a bundle in which every kind of entry and every state of a
// field occurs.
func sampleBundle(t testing.TB) []byte {
	t.Helper()
	digest := func(b byte) evidence.Value[evidence.Digest] {
		return evidence.Known(evidence.Digest{Algorithm: "sha-256", Value: bytes.Repeat([]byte{b}, 32), Source: evidence.SourceRead})
	}
	file := func(path string, b byte) evidence.File {
		return evidence.File{Path: path, ID: evidence.FileID{Device: 1, Inode: 2, Ctime: 3, Size: 4}, Digest: digest(b)}
	}
	self := evidence.Instance{PID: 4711, Start: 99812000000, PidfdInode: 13, Generation: 2}
	parent := evidence.Instance{PID: 1, Start: 1, PidfdInode: 2, Generation: 1}
	agent, loader := file("/usr/local/bin/invoice-agent\x1b[2J", 0xaa), file("/lib64/ld-linux-x86-64.so.2", 0xbb)
	process := &evidence.Process{
		Origin: evidence.OriginExec, ExecAt: 5, Measured: 100e9, Exe: evidence.Known(agent), Loader: evidence.Known(&loader),
		Script: evidence.Known[*evidence.Script](nil), Maps: evidence.Known([]evidence.File{agent, loader}),
		Arguments: evidence.Known(evidence.Hash{1}), Code: evidence.Known(evidence.NewManifest([]evidence.CodeFile{
			{Digest: evidence.Hash{0xc1}, Path: "/opt/invoice/agent.py"}, {Digest: evidence.Hash{0xc0}, Path: "/opt/invoice/evil\u202ename.py"}})),
		Models: evidence.Tainted([]evidence.File{file("/srv/m.safetensors", 0xcc)}, "changed"), Inputs: evidence.Unknown[[]evidence.File]("not-collected"),
		Credentials: evidence.Known(evidence.Credentials{UID: 990, EUID: 990, SUID: 990, FSUID: 990, GID: 990, EGID: 0, NoNewPrivs: true, Seccomp: 2}),
		Groups:      evidence.Known([]uint32{990}), Namespaces: evidence.Known(evidence.Namespaces{PID: 1}),
		Cgroup: evidence.Known("/system.slice/invoice.service"), Unit: evidence.Known("invoice.service"),
		Container: evidence.Known(&evidence.Container{Runtime: "podman", ID: "c0ffee", Image: evidence.Known("sha256:11"), Pod: evidence.Unknown[string]("none")}),
		Ancestors: evidence.Known([]evidence.Ancestor{{Instance: parent, Path: "/usr/lib/systemd/systemd", Digest: digest(0xdd)}}),
		Label:     evidence.Unknown[string]("no-lsm"), Session: evidence.Known[uint32](3), TTY: evidence.Known(""),
		Directory: evidence.Tainted("/tmp", "deleted"), Environment: evidence.Known(map[string]string{"PATH": "/bin", "LANG": "C"}),
		Devices: evidence.Known([]string{"/dev/nvidia0"}), Interference: evidence.Known([]string{}),
	}
	state := evidence.State{
		At: 101e9, Alive: true, Generation: 2, Taints: []string{}, Lost: 2, Unmeasured: evidence.Known[uint64](0),
		Private: evidence.Known[uint64](0), Tracer: evidence.Known[uint32](0), Missing: evidence.Known([]string{}), Changed: evidence.Known([]string{}),
	}
	after := state
	after.At, after.Alive, after.Taints, after.Private = 102e9, false, []string{"ptrace"}, evidence.Unknown[uint64]("exited")
	entries := []*evidence.Entry{
		{Kind: evidence.KindStart, At: 1e9, Start: &evidence.Start{
			Reason: "boot", Epoch: 3, BootID: make([]byte, 16), Agent: "0.1.0", AgentDigest: digest(0xee), Kernel: "6.18.5", Tier: "tracepoint",
			Programs: []evidence.Program{{Name: "exec", Tag: "a1", Fired: true}, {Name: "exit", Tag: "b2"}},
			Modules:  evidence.Known("lockdown,capability"), Lockdown: evidence.Unknown[string]("no-securityfs"),
			Signals: []evidence.Signal{{Name: "exec", By: evidence.Known("tp_btf/sched_process_exec")}, {Name: "deny", By: evidence.Unknown[string]("tier-tracepoint")}},
		}},
		{Kind: evidence.KindExec, At: 2e9, Instance: &self, Exec: &evidence.Exec{
			Parent: parent, Hint: "invoice-agent", Exe: evidence.Known(agent), Cgroup: evidence.Known("/x"), Taints: []string{"preload"}, CPU: 1, Record: 9,
		}},
		{Kind: evidence.KindLoss, At: 3e9, Loss: &evidence.Loss{Cause: "ring-full", CPU: 1, Count: 2}},
		{Kind: evidence.KindTaint, At: 4e9, Instance: &self, Taint: &evidence.Taint{Name: "ptrace", How: "attached", By: &parent}},
		{Kind: evidence.KindExit, At: 5e9, Instance: &parent, Exit: &evidence.Exit{Code: 9}},
		{Kind: evidence.KindRelease, At: 6e9, Instance: &self, Release: &evidence.Release{Window: 1234567, After: state}},
		{Kind: evidence.KindProcess, At: 7e9, Instance: &self, Process: process},
	}
	b := &evidence.Bundle{
		UEID: append([]byte{1}, make([]byte, 32)...), Nonce: bytes.Repeat([]byte{9}, 56), BootLog: []byte("boot log"),
		Closing: []evidence.Closing{{After: after}},
	}
	for i, e := range entries {
		e.Version = evidence.EntryVersion
		raw, err := e.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		b.Entries = append(b.Entries, evidence.Leaf[evidence.Entry]{Index: uint64(i), Value: e, Raw: raw})
	}
	chk := &evidence.Checkpoint{
		Version: 1, BootID: make([]byte, 16), Epoch: 3, Number: 12, Size: 4711, IMADigest: evidence.Unknown[evidence.Hash]("no-ima"), Lost: 2, Taints: 1, At: 99e9,
	}
	b.Checkpoint, b.RawChk = chk, chk.Marshal()
	request := &evidence.Request{
		Version: 1, Broker: "https://broker.example", Nonce: b.Nonce, D: evidence.Hash{3}, Audience: "https://invoices.example",
		Actions: []string{"invoice.read"}, Confirm: evidence.Confirm{Method: evidence.ConfirmJKT, Thumbprint: make([]byte, 32)},
		Subject: evidence.Subject{Instance: self, Index: 6}, Before: state, Number: 12,
	}
	b.Requests = []evidence.Leaf[evidence.Request]{{Value: request, Raw: request.Marshal()}}
	header := &evidence.Header{
		Version: 1, AKName: bytes.Repeat([]byte{0xab}, 34), BootID: make([]byte, 16), Epoch: 3, Sequence: 13, Anchor: evidence.AnchorNone, Number: 12,
		Checkpoint: evidence.CheckpointDigest(b.RawChk), BootLog: evidence.Known(evidence.Hash{5}), OSLog: evidence.Unknown[evidence.Hash]("no-log"), IMADigest: evidence.Unknown[evidence.Hash]("no-ima"),
		Tier: "tracepoint", Batch: 1, Wall: uint64(noon.Unix()),
	}
	b.Header, b.RawHeader = header, header.Marshal()
	extra := evidence.HeaderDigest(b.RawHeader)
	b.Quote = evidence.Quote{
		Attest: attest(extra[:]), Signature: make([]byte, 72),
		PCRs: []evidence.PCR{{Index: 0, Digest: make([]byte, 32)}, {Index: 7, Digest: bytes.Repeat([]byte{7}, 32)}},
	}
	data, err := b.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func attest(extra []byte) []byte {
	return tpm2.Marshal(tpm2.TPMSAttest{
		Magic: tpm2.TPMGeneratedValue, Type: tpm2.TPMSTAttestQuote, ExtraData: tpm2.TPM2BData{Buffer: extra},
		ClockInfo: tpm2.TPMSClockInfo{Clock: 123456, ResetCount: 4, RestartCount: 1, Safe: true}, FirmwareVersion: 0x20191023,
		Attested: tpm2.NewTPMUAttest(tpm2.TPMSTAttestQuote, &tpm2.TPMSQuoteInfo{
			PCRSelect: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: []byte{0x81, 0, 0}}}},
			PCRDigest: tpm2.TPM2BDigest{Buffer: make([]byte, 32)},
		}),
	})
}

// sampleBroker makes the operator socket answer as spec/broker-api.md says.
func sampleBroker(t *testing.T, w *world) {
	const sum = "sha-256:1111111111111111111111111111111111111111111111111111111111111111"
	d := delegationAnswer(t, "https://broker.example", "approved", map[string]any{
		"act": "approval", "person": "alice@example.test",
		"key": "SHA256:abc", "at": "2026-11-23T11:59:30Z", "signature": base64.StdEncoding.EncodeToString([]byte{1}), "statement": "",
	})
	w.answers("GET /v1/delegations/{id}", d)
	w.answers("GET /v1/delegations", `{"delegations":[`+d+`]}`)
	w.answers("POST /v1/delegations", delegationAnswer(t, "https://broker.example", "requested"))
	w.answers("POST /v1/apply", `{"applied":[{"kind":"Workload","name":"spiffe://example.test/agents/invoice","result":"created"},
		{"kind":"Approver","name":"alice@example.test","result":"unchanged"}]}`)
	w.answers("GET /v1/workloads", `{"workloads":[{"kind":"Workload","id":"spiffe://example.test/agents/invoice","machines":["web","batch"],
		"code":{"executables":[{"digest":"`+sum+`","label":"invoice-agent 1.4.2"}],"loaders":"any"},"digest":"`+sum+`","updated":"2026-11-23T10:00:00Z"}]}`)
	w.answers("GET /v1/machines", `{"machines":[{"kind":"Machine","name":"web","boot":`+sampleClass+`,"digest":"`+sum+`","updated":"2026-11-23T10:00:00Z"}]}`)
	w.answers("GET /v1/approvers", `{"approvers":[{"kind":"Approver","name":"alice@example.test","added":"2026-11-01T00:00:00Z",
		"keys":[{"fingerprint":"SHA256:abc","key":"ssh-ed25519 AAAA","added":"2026-11-01T00:00:00Z"},
		 {"fingerprint":"SHA256:old","key":"ssh-ed25519 AAAB","added":"2026-10-01T00:00:00Z","removed":"2026-11-01T00:00:00Z"}]}]}`)
	w.answers("GET /v1/resources", `{"resources":[{"kind":"Resource","name":"invoices","audience":"https://invoices.example"}]}`)
	w.answers("POST /v1/resources", `{"name":"invoices","audience":"https://invoices.example","secret":"c2VjcmV0"}`)
	w.answers("POST /v1/refs", `{"workload":"spiffe://example.test/agents/invoice","group":"executables","result":"added"}`)
	w.answers("POST /v1/hosts", `{"name":"h17","host":"spiffe://example.test/host/h17","enrol_token":"dG9rZW4","expires_in":86400}`)
	w.answers("GET /v1/hosts", `{"hosts":[
		{"name":"h17","id":"spiffe://example.test/host/h17","ueid":"01aa","level":"ek-cert","machine":"web","state":"enrolled",
		 "enrolled":"2026-11-01T00:00:00Z","seen":"2026-11-23T11:59:00Z","epoch":3,"log_size":4711},
		{"name":"h18","id":"spiffe://example.test/host/h18","ueid":"","level":"","machine":"","state":"invited","enrolled":"","seen":"","epoch":0,"log_size":0}]}`)
	w.answers("DELETE /v1/hosts/h17", `{"name":"h17","result":"removed"}`)
	sampleBoot(w)
	w.answers("GET /v1/audit", sampleAudit)
	w.answers("GET /v1/explain/DENIED", sampleDenied)
	w.answers("GET /v1/explain/ALLOWED", sampleAllowed)
	w.answers("GET /v1/explain/BATCH", sampleBatch)
	sampleRejections(w)
	reply(w.admin, "GET /v1/explain/{txn}", 404, `{"error":"not_found","error_description":"there is no such thing","retry":"never"}`)
	w.admin.HandleFunc("GET /log/checkpoint", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Write([]byte("jurat.dev/log/broker.example\n48215\nAAAA\n\n— x y\n"))
	})
	w.answers("GET /readyz", `{"status":"ready"}`)
}

const sampleAudit = `{"size":48219,"checkpoint":"jurat.dev/log/x\n48219\nAAAA\n","next":48219,"entries":[
	{"index":48213,"leaf":"aa","entry":{"v":1,"type":"decision","time_ms":1795435200123,"txn":"ALLOWED","prev_txn":"EVIDENCE","decision":"allow",
	 "agent":"spiffe://example.test/agents/invoice","host":"spiffe://example.test/host/h17","instance":"b1c2:4711:99812:2","human":"00","target":"",
	 "audience":"https://invoices.example","actions":["invoice.read"],"failed":[],"failed_more":0,
	 "attestors":{"hardware":2,"boot":2,"code":2,"provenance":2,"context":2},"policy_digest":"","refs_digest":"","delegation_id":"dlg_x","d":"",
	 "evidence_digest":"","jti_digest":"","material_digest":""}},
	{"index":48214,"leaf":"bb","entry":{"v":1,"type":"decision","time_ms":1795435201000,"txn":"DENIED","decision":"deny",
	 "agent":"spiffe://example.test/agents/invoice","host":"spiffe://example.test/host/h17","human":"","actions":[],
	 "failed":[{"attestor":"code","check":"exe-digest"},{"attestor":"context","check":"unit"}],"failed_more":3,
	 "attestors":{"hardware":2,"boot":2,"code":96,"provenance":2,"context":96}}},
	{"index":48215,"leaf":"cc","entry":{"type":"approval","time_ms":1795435202000,"txn":"A","decision":"approval","human":"9a2ca2fd0011",
	 "agent":"spiffe://example.test/agents/invoice","delegation_id":"dlg_x","actions":[],"failed":[]}},
	{"index":48216,"leaf":"dd","entry":{"type":"host","time_ms":1795435203000,"txn":"B","decision":"enrolled","host":"spiffe://example.test/host/h17"}},
	{"index":48217,"leaf":"ee","entry":{"type":"policy","time_ms":1795435204000,"txn":"C","decision":"created","target":"spiffe://example.test/agents/invoice"}},
	{"index":48218,"leaf":"ff","entry":{"type":"key","time_ms":1795435205000,"txn":"D","decision":"added","human":"9a2ca2fd0011"}}]}`

const sampleDenied = `{"type":"https://jurat.dev/problems/attestation-refused","title":"the code attestor refused","status":400,"txn":"DENIED",
	"decision":"deny","time":"2026-11-23T12:00:01Z","agent":"spiffe://example.test/agents/invoice","host":"spiffe://example.test/host/h17",
	"stations":[
	 {"n":8,"attestor":"code","check":"exe-digest","expected":["sha-256:aa (invoice-agent 1.4.2)","sha-256:ab (invoice-agent 1.4.1)"],
	  "observed":["sha-256:bb (/usr/local/bin/invoice-agent)"],"hint":"jurat refs add spiffe://example.test/agents/invoice sha-256:bb"},
	 {"n":8,"attestor":"context","check":"unit","expected":["invoice.service"],"observed":[]}],
	"passed":["hardware","boot","provenance"],"checks":[{"n":8,"attestor":"boot","check":"pcr-7","expected":["aa"],"observed":["aa"]},
	 {"n":8,"attestor":"boot","check":"pcr-0","expected":["aa"],"observed":["aa"]},{"n":9,"attestor":"request","check":"audience","expected":[],"observed":[]}],
	"delegation":"dlg_x","policy":"sha-256:cc","prev_txn":"EVIDENCE","log_index":48214}`

const sampleAllowed = `{"title":"a credential was issued","status":200,"txn":"ALLOWED","decision":"allow","stations":[],
	"passed":["hardware","boot","code","provenance","context"],"checks":[],"log_index":48213}`

const sampleBatch = `{"title":"evidence is true: 2 requests, none","status":200,"txn":"BATCH","decision":"none","stations":[],"passed":[],"checks":[],
	"requests":[{"index":0,"txn":"R0","verdict":"affirming"},{"index":1,"txn":"R1","verdict":"none"}],"counters":{"unknown-host":3},"log_index":7}`
