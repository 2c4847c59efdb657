// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/internal/bootlog"
)

// TestEpochEndsCredentials: what was issued in an epoch of the host is worth
// nothing from the moment on that the broker has seen the next, whatever began
// it, and what was asked for in the old one is not issued any more.
func TestEpochEndsCredentials(t *testing.T) {
	for name, end := range map[string]func(*world){
		"reset of the TPM":     func(w *world) { w.host.Reboot(t, bootlog.Boot{}) },
		"restart of the agent": func(w *world) { w.host.Restart(t) },
		"hibernation": func(w *world) {
			w.host.Chip.Restart++
			w.host.Restart(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := ready(t)
			d := w.approved(nil)
			secret := w.ok(w.post(w.operator+"/v1/resources", object{"name": "payments", "audience": audience})).str("secret")
			w.secrets = append(w.secrets, secret)
			old := w.ok(w.token(d)).str("access_token")
			nonce, a := w.evidence(w.wish(d)) // not exchanged before the epoch ends
			if active := w.introspect(secret, old).body["active"]; active != true {
				t.Fatalf("before: active is %v", active)
			}
			end(w)
			w.subject = w.host.Measure(t, 77, nil)
			if w.introspect(secret, old).body["active"] != true {
				t.Error("ended before the broker could know")
			}
			before := len(w.entries())
			fresh, b := w.evidence(w.wish(d))
			w.ok(b)
			if got := w.introspect(secret, old); got.body["active"] != false || len(got.body) != 1 {
				t.Errorf("after: %s", got.raw)
			}
			ended := 0
			for _, e := range w.entries()[before:] {
				if e["type"] == "revocation" && e["decision"] == "epoch" && e["host"] == w.hostID() && e["prev_txn"] == b.str("txn") {
					ended++
					if title := w.explain(e["txn"].(string))["title"].(string); !strings.Contains(title, "1 live credentials") {
						t.Errorf("explained as %q", title)
					}
				}
			}
			if ended != 1 {
				t.Errorf("%d entries about it", ended)
			}
			// The old evidence with a proof that is as fresh as can be.
			w.refused(w.exchange(w.form(d, ref(a, 0)), w.proof(w.key, object{"nonce": nonce})), 400, oauth.InvalidRequest, "evidence_stale")
			again := w.ok(w.exchange(w.form(d, ref(b, 0)), w.proof(w.key, object{"nonce": fresh, "jti": "2"}))).str("access_token")
			if w.introspect(secret, again).body["active"] != true || w.introspect(secret, old).body["active"] != false {
				t.Error("the new epoch's token is not good, or the old one's is again")
			}
			// Evidence in the same epoch ends nothing.
			w.ok(w.token(d))
			if w.introspect(secret, again).body["active"] != true {
				t.Error("ended inside its epoch")
			}
		})
	}
}

// TestEpochOfAnother: another host's new epoch ends nothing here.
func TestEpochOfAnother(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	secret := w.ok(w.post(w.operator+"/v1/resources", object{"name": "payments", "audience": audience})).str("secret")
	w.secrets = append(w.secrets, secret)
	mine := w.ok(w.token(d)).str("access_token")
	other := w.enrol("h2")
	for range 2 {
		_, nonce, have := w.challenge(w.b.HostID("h2"))
		wish := w.wish(d)
		wish.Subject = other.Measure(t, 5, nil)
		w.ok(w.submit(other.Bundle(t, nonce, have, wish)))
		other.Reboot(t, bootlog.Boot{})
	}
	if got := w.introspect(secret, mine); got.body["active"] != true {
		t.Error(fmt.Sprint("ended by another host: ", string(got.raw)))
	}
}
