// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/broker/internal/testbundle"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/bootlog"
	"github.com/jurat-dev/jurat/verify"
)

// TestSecureBootOff under a class that wants it on, and a PCR 7 that was
// accepted before.
func TestSecureBootOff(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	off := bootlog.Boot{SecureBootOff: true}
	values := off.PCRs()
	w.ok(w.apply(fmt.Sprintf("kind: Machine\nname: demo\nboot: {pcrs: {7: [\"%s\", \"%x\"]}, secure_boot: [on], command_lines: any}\n", testbundleHex(), values[7])))
	if failed := w.tries(d); len(failed) != 0 {
		t.Errorf("Secure Boot on: %v", failed)
	}
	w.reboot(off)
	if failed := w.tries(d); !slices.Equal(failed, []string{"boot/secure-boot"}) {
		t.Errorf("Secure Boot off: %v", failed)
	}
	w.refused(w.tryToken(d), 400, "invalid_request", "")
}

// TestDeniedFirmware: by version, and by the maker that the EK certificate
// named at enrolment.
func TestDeniedFirmware(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	if export := w.ok(w.get(w.operator + "/v1/hosts/h1/export")).body; export["maker"] != "id:00001014" {
		t.Fatalf("maker %v", export["maker"])
	}
	for maker, code := range map[string]string{"IFX": "", "id:00001014": "E_FIRMWARE_DENIED", "": "E_FIRMWARE_DENIED"} {
		w.b.Policy.Firmware = []verify.FirmwareRange{{Maker: maker, From: testbundle.Firmware, To: testbundle.Firmware, Why: "CVE-0000-1"}}
		a := w.tail(d)
		if a.str("code") != code || (a.status == 200) != (code == "") {
			t.Errorf("maker %q: %d %s", maker, a.status, a.raw)
		}
		if code != "" {
			why := w.explain(a.str("txn"))["stations"].([]any)[0].(object)
			if !strings.Contains(fmt.Sprint(why["expected"]), "CVE-0000-1") || !strings.Contains(fmt.Sprint(why["hint"]), "update the TPM's firmware") {
				t.Errorf("explained as %v", why)
			}
		}
	}
	w.b.Policy.Firmware = []verify.FirmwareRange{{From: testbundle.Firmware + 1, To: 1 << 63, Why: "x"}}
	w.ok(w.tail(d))
}

// TestAnchorBroken: a host whose register no longer bears its log out says so,
// and the default policy does not take it.
func TestAnchorBroken(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	w.host.Latch()
	w.ok(w.tail(d))
	w.host.Break()
	if hint := w.rejectedWith(w.tail(d), "E_ANCHOR"); !strings.Contains(hint, "reboot") {
		t.Errorf("hint %q", hint)
	}
	w.b.Policy.Anchors = append(slices.Clone(w.b.Policy.Anchors), evidence.AnchorBroken)
	if failed := failedOf(w.ok(w.tail(d)), 0); !slices.Equal(failed, []string{"hardware/anchor", "delegation/min-levels"}) {
		t.Errorf("with a policy that takes it: %v", failed)
	}
}

// TestRegisterRewound: a register that does not hold what the broker saw in it.
func TestRegisterRewound(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	w.host.Latch()
	w.ok(w.tail(d))
	w.host.Latch() // opened a second time, which no TPM allows
	nonce, have := w.has("h1")
	w.rejected(w.submit(w.host.Tail(t, nonce, have, w.wish(d))), "E_REGISTER_TAIL")
}

// TestBanks: without the TPM's word on its banks nothing is believed.
func TestBanks(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	w.host.OnBundle = func(b *evidence.Bundle) { b.Banks = nil }
	if hint := w.rejectedWith(w.tail(d), "E_BANKS"); !strings.Contains(hint, "firmware setup") {
		t.Errorf("hint %q", hint)
	}
	w.host.OnBundle = nil
	w.ok(w.tail(d))
	// Once proved, it holds until the TPM is started again.
	w.host.OnBundle = func(b *evidence.Bundle) { b.Banks = nil }
	w.ok(w.tail(d))
	w.reboot(bootlog.Boot{})
	w.rejected(w.tail(d), "E_BANKS")
}

// TestHints: who has to do something is told what.
func TestHints(t *testing.T) {
	known := map[verify.Code]bool{}
	for _, info := range verify.Codes() {
		known[info.Code] = true
		if hints[info.Code] == "" && info.Retry != verify.RetryNever && !slices.Contains([]verify.Code{"E_AK_FORM", "E_AK_ALG", "E_AK_ATTRS", "E_AK_POINT"}, info.Code) {
			t.Errorf("no hint for %s (retry %s)", info.Code, info.Retry)
		}
	}
	for code, hint := range hints {
		if !known[code] || len(hint) > 300 || strings.ContainsAny(hint, "\n\t") {
			t.Errorf("%s: %q", code, hint)
		}
	}
}

// TestKeptIsBounded: many hosts with long lists in part do not fill the memory.
func TestKeptIsBounded(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	w.host.WithIMA()
	w.host.Lists("/a", "/b", "/c")
	w.host.Most = 2
	w.rejected(w.tail(d), "E_IMA_PARTIAL")
	for i := range begunMemory/1000 + 1 {
		w.b.kept.begun.Put(fmt.Sprint("host ", i), &begun{}, 1000)
	}
	if _, have := w.has("h1"); have.IMACount != 0 {
		t.Errorf("it has %+v, with the memory full of others", have)
	}
	w.rejected(w.tail(d), "E_IMA_PARTIAL") // from the beginning again
	if len(room(store.MaxIMAFiles-1, make([]evidence.Hash, 5))) != 1 || len(room(store.MaxIMAFiles, make([]evidence.Hash, 5))) != 0 {
		t.Error("a list grows without bound")
	}
}

// TestOtherTPM: a quote of another TPM in the place of this one's.
func TestOtherTPM(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	w.host.OnAttest = func(a *tpm2.TPMSAttest) { a.QualifiedSigner.Buffer[2] ^= 1 }
	if hint := w.rejectedWith(w.tail(d), "E_SIGNER"); !strings.Contains(hint, "jurat host remove") {
		t.Errorf("hint %q", hint)
	}
}
