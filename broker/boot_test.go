// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/broker/internal/testbundle"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/bootlog"
	"github.com/jurat-dev/jurat/verify"
)

// emptyClass is the registration of a class that knows nothing yet.
const emptyClass = "kind: Machine\nname: demo\nboot: {pcrs: {}}\n"

// tries submits evidence for the delegation and returns which checks said no.
func (w *world) tries(d object) []string {
	w.t.Helper()
	_, a := w.evidence(w.wish(d))
	return failedOf(w.ok(a), 0)
}

func (w *world) learn(host string) answer {
	w.t.Helper()
	return w.send("POST", w.operator+"/v1/hosts/"+host+"/learn-boot", "", "")
}

func (w *world) diff(host string) object {
	w.t.Helper()
	return w.ok(w.get(w.operator + "/v1/hosts/" + host + "/boot-diff")).body
}

// reboot boots the host so, and measures the workload again.
func (w *world) reboot(boot bootlog.Boot) {
	w.t.Helper()
	w.host.Reboot(w.t, boot)
	w.subject = w.host.Measure(w.t, 77, nil)
}

func texts(list any) (out []string) {
	for _, e := range list.([]any) {
		out = append(out, fmt.Sprint(e.(object)["pcr"], " ", e.(object)["text"]))
	}
	return out
}

// TestLearnBoot: nothing is accepted before it was learned; what was learned is
// said in words; another kernel differs, is named, can be learned, and both are
// accepted then.
func TestLearnBoot(t *testing.T) {
	w := ready(t)
	w.ok(w.apply(emptyClass))
	d := w.approved(nil)
	if a := w.learn("h1"); a.status != 409 {
		t.Errorf("learned before first contact: %d %s", a.status, a.raw)
	}
	if failed := w.tries(d); !slices.Equal(failed, []string{"boot/pcrs"}) {
		t.Errorf("an empty class: %v", failed)
	}
	first := w.ok(w.post(w.operator+"/v1/hosts/h1/learn-boot", object{"pcrs": []int{0, 4, 7, 8, 9}}))
	events := strings.Join(texts(first.body["events"]), "\n")
	if len(first.body["values"].([]any)) != 5 || !strings.Contains(events, `7 variable SecureBoot = 1 (on)`) || !strings.Contains(events, "vmlinuz") ||
		fmt.Sprint(first.body["secure_boot"]) != "[on]" || len(first.body["command_lines"].([]any)) != 1 || first.str("machine") != "demo" {
		t.Errorf("learned %s", first.raw)
	}
	if e := w.lastEntry(); e["type"] != "refs" || e["target"] != "demo" || e["refs_digest"] == "" || e["host"] != w.hostID() {
		t.Errorf("log entry %v", e)
	}
	if failed := w.tries(d); len(failed) != 0 {
		t.Errorf("after it was learned: %v", failed)
	}
	if again := w.ok(w.post(w.operator+"/v1/hosts/h1/learn-boot", object{"pcrs": []int{0, 4, 7, 8, 9}})); again.body["added"] != 0.0 {
		t.Errorf("learned again: %s", again.raw)
	}
	if diff := w.diff("h1"); diff["ok"] != true || len(diff["pcrs"].([]any)) != 5 {
		t.Errorf("diff of the same boot: %v", diff)
	}
	w.reboot(bootlog.Boot{Kernel: "6.12.1-jurat"})
	if failed := w.tries(d); !slices.Equal(failed, []string{"boot/pcr-4", "boot/pcr-8", "boot/pcr-9", "boot/kernel-command-line"}) {
		t.Errorf("another kernel: %v", failed)
	}
	diff := w.diff("h1")
	p8 := diff["pcrs"].([]any)[3].(object)
	if diff["ok"] != false || p8["pcr"] != 8.0 || p8["ok"] != false || !strings.Contains(p8["difference"].(string), "vmlinuz-6.12.1-jurat") || p8["event"].(float64) < 1 {
		t.Errorf("diff %v", diff)
	}
	second := w.ok(w.post(w.operator+"/v1/hosts/h1/learn-boot", object{"pcrs": []int{0, 4, 7, 8, 9}}))
	if len(second.body["values"].([]any)) != 3 || len(second.body["relaxed"].([]any)) == 0 || len(second.body["secure_boot"].([]any)) != 0 {
		t.Errorf("learned the second kernel: %s", second.raw)
	}
	for _, boot := range []bootlog.Boot{{}, {Kernel: "6.12.1-jurat"}} {
		w.reboot(boot)
		if failed := w.tries(d); len(failed) != 0 {
			t.Errorf("%v: %v", boot, failed)
		}
	}
	w.reboot(bootlog.Boot{CommandLine: "root=/dev/vda1 init=/bin/sh"})
	if failed := w.tries(d); !slices.Equal(failed, []string{"boot/pcr-8", "boot/pcr-9", "boot/kernel-command-line"}) {
		t.Errorf("another command line: %v", failed)
	}
}

// TestLearnRefuses what is not there, or never counts.
func TestLearnRefuses(t *testing.T) {
	w := ready(t)
	w.tries(w.approved(nil))
	for name, body := range map[string]object{"PCR 16": {"pcrs": []int{16}}, "PCR not quoted": {"pcrs": []int{20}}, "other member": {"pcr": 1}} {
		if a := w.post(w.operator+"/v1/hosts/h1/learn-boot", body); a.status != 400 {
			t.Errorf("%s: %d %s", name, a.status, a.raw)
		}
	}
	for _, path := range []string{"boot-diff", "export", "boot-log"} {
		if a := w.get(w.operator + "/v1/hosts/h9/" + path); a.status != 404 {
			t.Errorf("%s of an unknown host: %d %s", path, a.status, a.raw)
		}
	}
	if a := w.learn("h9"); a.status != 404 {
		t.Errorf("unknown host: %d %s", a.status, a.raw)
	}
	w.enrol("h2")
	if a := w.get(w.operator + "/v1/hosts/h2/boot-log"); a.status != 404 {
		t.Errorf("boot log before first contact: %d %s", a.status, a.raw)
	}
	if a := w.ok(w.get(w.operator + "/v1/hosts/h2/export")); a.body["last"] != nil || len(a.str("ak_public")) == 0 {
		t.Errorf("export before first contact: %s", a.raw)
	}
	for _, raw := range []string{w.ok(w.get(w.operator + "/v1/hosts/h1/export")).str("boot_log"), fmt.Sprintf("%x", sha256.Sum256(w.host.BootLog))} {
		log := w.ok(w.get(w.operator + "/v1/hosts/h1/boot-log")).raw
		if got := fmt.Sprintf("%x", sha256.Sum256(log)); got != raw {
			t.Errorf("boot log %s, want %s", got, raw)
		}
	}
}

// TestDiffAgrees: what is shown to people says no where the appraisal does.
func TestDiffAgrees(t *testing.T) {
	w := ready(t)
	w.ok(w.apply(emptyClass))
	d := w.approved(nil)
	w.tries(d)
	w.ok(w.post(w.operator+"/v1/hosts/h1/learn-boot", object{"pcrs": []int{0, 1, 4, 5, 7, 8, 14}}))
	for i, boot := range []bootlog.Boot{{}, {Kernel: "x"}, {SecureBootOff: true}, {CommandLine: "quiet"}, {Kernel: "x", SecureBootOff: true, CommandLine: "ro"}, {}, {}} {
		w.reboot(boot)
		switch i {
		case 5: // somebody, and no log says who
			w.host.PCRs[14] = testbundle.PCR(0)
		case 6: // systemd, and its log says so
			w.host.Extends(14, "phase")
		}
		var want []string
		for _, f := range w.tries(d) {
			want = append(want, strings.TrimPrefix(f, "boot/"))
		}
		diff := w.diff("h1")
		var got []string
		for _, p := range diff["pcrs"].([]any) {
			one := p.(object)
			if one["ok"] != true {
				got = append(got, fmt.Sprintf("pcr-%v", one["pcr"]))
			}
			if (one["ok"] == true) != (one["difference"] == "") {
				t.Errorf("%v", one)
			}
		}
		for member, check := range map[string]string{"secure_boot": "secure-boot", "command_lines": "kernel-command-line", "findings": "boot-log"} {
			if diff[member].(object)["ok"] != true {
				got = append(got, check)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) || (diff["ok"] == true) != (len(want) == 0) {
			t.Errorf("%+v: the appraisal says no to %v, the diff to %v", boot, want, got)
		}
	}
}

// TestForgetBoot: what was taken back is refused again, and a PCR does not
// silently cease to count.
func TestForgetBoot(t *testing.T) {
	w := ready(t)
	w.ok(w.apply(emptyClass))
	d := w.approved(nil)
	forget := func(in object) answer { return w.post(w.operator+"/v1/machines/demo/forget-boot", in) }
	learn := func() answer {
		w.tries(d)
		return w.ok(w.post(w.operator+"/v1/hosts/h1/learn-boot", object{"pcrs": []int{4, 7, 8}}))
	}
	first := learn()
	value := func(a answer, i int) string { return a.body["values"].([]any)[i].(object)["digest"].(string) }
	w.reboot(bootlog.Boot{Kernel: "6.12.1-jurat"})
	second := learn()
	kernel := ""
	for _, e := range second.body["events"].([]any) {
		if e.(object)["pcr"] == 4.0 {
			kernel = e.(object)["digest"].(string)
		}
	}
	for name, c := range map[string]struct {
		in     object
		status int
	}{
		"nothing":                {object{}, 400},
		"two things":             {object{"digest": kernel, "finding": "x"}, 400},
		"a PCR without digest":   {object{"pcr": 4, "finding": "x"}, 400},
		"malformed":              {object{"digest": "xyz"}, 400},
		"unknown digest":         {object{"digest": strings.Repeat("0", 64)}, 404},
		"other PCR":              {object{"digest": kernel, "pcr": 7}, 404},
		"in several PCRs":        {object{"digest": fmt.Sprintf("%x", sha256.Sum256(make([]byte, 4)))}, 409},
		"unknown finding":        {object{"finding": "x"}, 404},
		"the last state":         {object{"secure_boot": "on"}, 409},
		"an unknown state":       {object{"secure_boot": "off"}, 404},
		"an unknown command":     {object{"command_line": "x"}, 404},
		"long reason":            {object{"finding": "x", "reason": strings.Repeat("a", 501)}, 400},
		"a value of a known PCR": {object{"digest": value(first, 0), "pcr": 8}, 404},
	} {
		if a := forget(c.in); a.status != c.status {
			t.Errorf("%s: %d %s", name, a.status, a.raw)
		}
	}
	// Of an event the values go along, or the boot would still be accepted.
	gone := w.ok(forget(object{"digest": kernel, "reason": "CVE"}))
	if len(gone.body["gone"].([]any)) != 3 {
		t.Errorf("forgot %s", gone.raw)
	}
	if e := w.lastEntry(); e["type"] != "refs" || e["decision"] != "boot-forgotten" || e["target"] != "demo" || w.explain(e["txn"].(string))["reason"] != "CVE" {
		t.Errorf("log entry %v", e)
	}
	if failed := w.tries(d); !slices.Equal(failed, []string{"boot/pcr-4"}) {
		t.Errorf("the forgotten kernel: %v", failed)
	}
	w.ok(forget(object{"command_line": "/boot/vmlinuz-6.12.1-jurat " + bootlog.DefaultCommandLine}))
	w.reboot(bootlog.Boot{})
	if failed := w.tries(d); len(failed) != 0 {
		t.Errorf("the kernel that stays: %v", failed)
	}
	if a := forget(object{"command_line": "/boot/vmlinuz-6.12.0-jurat " + bootlog.DefaultCommandLine}); a.status != 409 {
		t.Errorf("the last command line: %d %s", a.status, a.raw)
	}
	w.ok(w.apply(fmt.Sprintf("kind: Machine\nname: demo\nboot: {pcrs: {7: [\"%s\"]}, secure_boot: any, command_lines: any}\n", testbundleHex())))
	if a := forget(object{"digest": testbundleHex()}); a.status != 409 || !strings.Contains(a.str("error_description"), "does not count") {
		t.Errorf("the last thing of a PCR: %d %s", a.status, a.raw)
	}
	if a := w.post(w.operator+"/v1/machines/none/forget-boot", object{"finding": "x"}); a.status != 404 {
		t.Errorf("unknown class: %d %s", a.status, a.raw)
	}
}

// TestExportVerifies: with what is exported anybody verifies the host's next
// bundle, tails and all, and comes to the broker's result.
func TestExportVerifies(t *testing.T) {
	w := ready(t)
	w.host.WithIMA()
	w.host.Lists("/usr/bin/invoice-agent")
	d := w.approved(nil)
	w.ok(w.tail(d))
	w.host.Lists("/lib/libc.so.6", "/lib64/ld.so")
	var export hostExport
	w.must(json.Unmarshal(w.ok(w.get(w.operator+"/v1/hosts/h1/export")).raw, &export))
	log := w.ok(w.get(w.operator + "/v1/hosts/h1/boot-log")).raw
	nonce, have := w.has("h1")
	body := w.host.Tail(t, nonce, have, w.wish(d))
	host, err := verify.NewHost(export.UEID, export.AKPublic, export.AKName, export.Level)
	w.must(err)
	host.Maker, host.Last = export.Maker, export.Last
	host.Boot, err = verify.ParseBoot(log)
	w.must(err)
	var files []evidence.Hash
	for rest := export.IMA.Files; len(rest) > 0; rest = rest[32:] {
		files = append(files, evidence.Hash(rest[:32]))
	}
	host.IMA = verify.NewIMAList(export.IMA.Position, files)
	bundle, err := evidence.Parse(body)
	w.must(err)
	result, err := verify.Bundle(bundle, host, verify.Challenge{Broker: w.url, Nonce: nonce, Expires: w.clock.now().Add(time.Second)}, w.b.Policy, w.clock.now())
	w.must(err)
	if cover := result.Requests()[0].IMA; cover.Confirmed != 3 || len(cover.Missing) != 0 {
		t.Errorf("confirmed %+v", cover)
	}
	w.ok(w.submit(body))
	w.must(json.Unmarshal(w.ok(w.get(w.operator+"/v1/hosts/h1/export")).raw, &export))
	if !reflect.DeepEqual(*export.Last, result.Next()) {
		t.Errorf("the broker remembers %+v, want %+v", *export.Last, result.Next())
	}
}

// TestLearnUnderSystemd: what the operating system extended after the boot, and
// wrote down, is not learned: it moves on while the machine runs.
func TestLearnUnderSystemd(t *testing.T) {
	w := ready(t)
	w.ok(w.apply(emptyClass))
	d := w.approved(nil)
	w.host.Extends(14, "phase 1")
	w.tries(d)
	got := w.ok(w.post(w.operator+"/v1/hosts/h1/learn-boot", object{"pcrs": []int{0, 14}}))
	if value := got.body["pcrs"].(object)["14"]; value != fmt.Sprintf("%x", testbundle.PCR(14)) {
		t.Errorf("learned %s", got.raw)
	}
	w.host.Extends(14, "phase 2")
	if failed := w.tries(d); len(failed) != 0 {
		t.Errorf("after another phase: %v", failed)
	}
	if diff := w.diff("h1"); diff["ok"] != true {
		t.Errorf("%v", diff)
	}
}

// TestLearnDefault: where the policy wants nothing measured, the firmware's
// PCRs are learned.
func TestLearnDefault(t *testing.T) {
	w := ready(t)
	w.b.Policy.Measured = []int{7}
	w.tries(w.approved(nil))
	if got := w.ok(w.learn("h1")); len(got.body["pcrs"].(object)) != 1 {
		t.Errorf("%s", got.raw)
	}
	w.b.Policy.Measured = nil
	if got := w.ok(w.learn("h1")); len(got.body["pcrs"].(object)) != 8 {
		t.Errorf("%s", got.raw)
	}
}

// TestLearnIsBounded: a class does not grow without end.
func TestLearnIsBounded(t *testing.T) {
	w := ready(t)
	w.ok(w.apply("kind: Machine\nname: demo\nboot: {pcrs: {}, findings: [" + strings.Repeat("x,", 524_200) + "y]}\n"))
	w.tries(w.approved(nil))
	if a := w.learn("h1"); a.status != 409 || !strings.Contains(a.str("error_description"), "at most") {
		t.Errorf("%d %.300s", a.status, a.raw)
	}
}
