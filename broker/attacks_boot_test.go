// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/jurat-dev/jurat/broker/internal/testbundle"
	"github.com/jurat-dev/jurat/broker/keys"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/bootlog"
)

// has asks for a challenge and what the broker has of a host.
func (w *world) has(host string) ([]byte, testbundle.Have) {
	w.t.Helper()
	a := w.ok(w.post(w.url+"/oauth/challenge", object{"host": w.b.HostID(host)}))
	have := a.body["have"].(object)
	_, raw, _ := w.challenge(w.b.HostID(host))
	return raw, testbundle.Have{LogSize: uint64(have["log_size"].(float64)), BootLog: have["boot_log"].(string),
		RegisterSize: uint64(have["register_size"].(float64)), IMACount: uint64(have["ima_count"].(float64))}
}

// tail submits what the broker does not have.
func (w *world) tail(d object) answer {
	w.t.Helper()
	nonce, have := w.has("h1")
	return w.submit(w.host.Tail(w.t, nonce, have, w.wish(d)))
}

// refusal wants evidence of any host to be refused as a whole.
func (w *world) refusal(a answer, code string) answer {
	w.t.Helper()
	if a.status != http.StatusBadRequest || a.str("code") != code {
		w.t.Fatalf("got %d %s, want %s", a.status, a.raw, code)
	}
	return a
}

// rejectedWith is rejected, and returns the hint that operators get.
func (w *world) rejectedWith(a answer, code string) string {
	w.t.Helper()
	w.rejected(a, code)
	hint, _ := w.explain(a.str("txn"))["stations"].([]any)[0].(object)["hint"].(string)
	return hint
}

// reopen starts the broker again on the same data.
func (w *world) reopen() {
	w.t.Helper()
	w.must(w.store.Close())
	w.open()
}

// TestHave: what was sent and proved is not asked for again, not even after the
// broker was started anew; and what is left out is what was kept.
func TestHave(t *testing.T) {
	w := ready(t)
	w.host.WithIMA()
	w.host.Lists("/sbin/early", "/usr/bin/invoice-agent")
	w.host.Latch()
	d := w.approved(nil)
	if _, have := w.has("h1"); have != (testbundle.Have{}) {
		t.Errorf("before first contact it has %+v", have)
	}
	w.ok(w.tail(d))
	nonce, have := w.has("h1")
	want := testbundle.Have{LogSize: 2, BootLog: evidence.Hash(testbundle.Text(string(w.host.BootLog))).String(), RegisterSize: 1, IMACount: 3}
	if have != want {
		t.Errorf("it has %+v, want %+v", have, want)
	}
	w.host.Lists("/usr/bin/other")
	if body := w.host.Tail(t, nonce, have, w.wish(d)); bytes.Contains(body, w.host.BootLog) || bytes.Contains(body, []byte("/sbin/early")) || !bytes.Contains(body, []byte("/usr/bin/other")) {
		t.Error("the bundle is not the tail")
	} else {
		w.ok(w.submit(body))
	}
	w.reopen()
	if _, have := w.has("h1"); have != (testbundle.Have{LogSize: 2, BootLog: want.BootLog, RegisterSize: 2, IMACount: 4}) {
		t.Errorf("after a start it has %+v", have)
	}
	w.ok(w.tail(d))
	w.ok(w.tail(d))
	export := w.ok(w.get(w.operator + "/v1/hosts/h1/export")).body
	files := unbase64(t, export["ima"].(object)["files"].(string))
	for i, path := range []string{"/sbin/early", "/usr/bin/invoice-agent", "/usr/bin/other"} {
		if digest := testbundle.Digest(path).Value; !bytes.Equal(files[32*i:32*i+32], digest) {
			t.Errorf("file %d is %x, want that of %s", i, files[32*i:32*i+32], path)
		}
	}
	// After a reset everything begins anew, and so does what is kept.
	w.reboot(bootlog.Boot{})
	w.rejected(w.tail(d), "E_REGISTER_TAIL")
	nonce, have = w.has("h1")
	w.ok(w.submit(w.host.Tail(t, nonce, testbundle.Have{LogSize: have.LogSize, BootLog: have.BootLog}, w.wish(d))))
	if _, have = w.has("h1"); have.RegisterSize != 2 || have.IMACount != 1 { // one checkpoint was refused
		t.Errorf("after a reset it has %+v", have)
	}
	if export := w.ok(w.get(w.operator + "/v1/hosts/h1/export")).body; export["ima"].(object)["files"] != nil && export["ima"].(object)["files"] != "" {
		t.Errorf("files of the boot before: %v", export["ima"])
	}
	w.ok(w.send(http.MethodDelete, w.operator+"/v1/hosts/h1", "", ""))
	if _, have := w.has("h1"); have != (testbundle.Have{}) {
		t.Errorf("of a removed host it has %+v", have)
	}
}

// TestConfirmedAcrossBundles: a file that the list had in an earlier bundle
// counts as confirmed in a later one, also from the store, and one that never
// was in it does not.
func TestConfirmedAcrossBundles(t *testing.T) {
	w := ready(t)
	w.ok(w.apply(strings.ReplaceAll(w.yaml(workloadID, false, "/usr/bin/invoice-agent"), "ima: none", "ima: confirmed")))
	w.host.WithIMA()
	d := w.approved(nil)
	failed := func() []string {
		t.Helper()
		return failedOf(w.ok(w.tail(d)), 0)
	}
	w.host.Lists("/usr/bin/invoice-agent", "/lib64/ld.so")
	if got := failed(); !slices.Equal(got, []string{"code/ima"}) {
		t.Errorf("without libc: %v", got)
	}
	w.host.Lists("/lib/libc.so.6")
	if got := failed(); len(got) != 0 {
		t.Errorf("with all files: %v", got)
	}
	w.reopen()
	if got := failed(); len(got) != 0 {
		t.Errorf("with all files, from the store: %v", got)
	}
	w.reboot(bootlog.Boot{})
	nonce, have := w.has("h1")
	have.IMACount = 0
	if got := failedOf(w.ok(w.submit(w.host.Tail(t, nonce, have, w.wish(d)))), 0); !slices.Equal(got, []string{"code/ima"}) {
		t.Errorf("files of the boot before count: %v", got)
	}
}

// TestPartialList: a long list comes in several bundles; none but the last buys
// anything, and all of it is kept then.
func TestPartialList(t *testing.T) {
	w := ready(t)
	w.host.WithIMA()
	for i := range 9 {
		w.host.Lists(fmt.Sprint("/bin/", i))
	}
	w.host.Most = 4
	d := w.approved(nil)
	for _, count := range []uint64{4, 8} {
		if a := w.refusal(w.tail(d), "E_IMA_PARTIAL"); a.str("retry") != "now" {
			t.Errorf("%s", a.raw)
		}
		if _, have := w.has("h1"); have.IMACount != count || have.LogSize != 0 {
			t.Errorf("it has %+v, want %d entries", have, count)
		}
	}
	w.ok(w.tail(d))
	if _, have := w.has("h1"); have.IMACount != 10 {
		t.Errorf("it has %+v", have)
	}
	export := w.ok(w.get(w.operator + "/v1/hosts/h1/export")).body
	if files := unbase64(t, export["ima"].(object)["files"].(string)); len(files) != 9*32 {
		t.Errorf("%d files", len(files)/32)
	}
	// The list goes on from what is stored, in parts again.
	for i := range 6 {
		w.host.Lists(fmt.Sprint("/sbin/", i))
	}
	w.rejected(w.tail(d), "E_IMA_PARTIAL")
	w.ok(w.tail(d))
	// What came in part only is lost with the broker's memory, and nothing else.
	for i := range 6 {
		w.host.Lists(fmt.Sprint("/opt/", i))
	}
	w.rejected(w.tail(d), "E_IMA_PARTIAL")
	w.reopen()
	if _, have := w.has("h1"); have.IMACount != 16 {
		t.Errorf("after a start it has %+v", have)
	}
	w.rejected(w.tail(d), "E_IMA_PARTIAL")
	w.ok(w.tail(d))
	export = w.ok(w.get(w.operator + "/v1/hosts/h1/export")).body
	files := unbase64(t, export["ima"].(object)["files"].(string))
	if len(files) != 21*32 || !bytes.Equal(files[20*32:], testbundle.Digest("/opt/5").Value) {
		t.Errorf("%d files", len(files)/32)
	}
}

// TestPartialListSmuggles: entries that nobody measured, sent as the beginning
// of a long list, do not become part of it: the quoted PCR 10 does not bear
// them out, and then nothing of them is left.
func TestPartialListSmuggles(t *testing.T) {
	w := ready(t)
	w.ok(w.apply(strings.ReplaceAll(w.yaml(workloadID, false, "/usr/bin/invoice-agent"), "ima: none", "ima: confirmed")))
	d := w.approved(nil)
	w.host.WithIMA()
	w.host.Lists("/sbin/init")
	// A twin whose list has what the process needs, under the same key: it is the
	// compromised kernel of this host, and the quote still has the true PCR 10.
	honest := w.host.PCRs[10]
	w.host.Lists("/usr/bin/invoice-agent", "/lib64/ld.so", "/lib/libc.so.6", "/tail")
	w.host.PCRs[10] = honest
	w.host.Most = 5
	nonce, have := w.has("h1")
	w.host.OnHeader = func(h *evidence.Header) { h.IMACount = 5 }
	w.rejected(w.submit(w.host.Tail(t, nonce, have, w.wish(d))), "E_IMA_PARTIAL")
	w.host.OnHeader = nil
	if _, have := w.has("h1"); have.IMACount != 5 {
		t.Fatalf("it has %+v", have)
	}
	if export := w.ok(w.get(w.operator + "/v1/hosts/h1/export")).body; export["ima"] != nil {
		t.Errorf("what no quote bore out is in the store: %v", export["ima"])
	}
	w.rejected(w.tail(d), "E_IMA_REPLAY")
	if _, have := w.has("h1"); have.IMACount != 0 {
		t.Errorf("the progress is still there: %+v", have)
	}
	w.host.Most = 0
	w.host.WithIMA()
	w.host.Lists("/sbin/init")
	if got := failedOf(w.ok(w.tail(d)), 0); !slices.Equal(got, []string{"code/ima"}) {
		t.Errorf("smuggled files count: %v", got)
	}
}

// TestPartialListIsOneHosts: what one host sent in part is not another's.
func TestPartialListIsOneHosts(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	w.host.WithIMA()
	w.host.Lists("/a", "/b", "/c")
	w.host.Most = 2
	w.rejected(w.tail(d), "E_IMA_PARTIAL")
	other := w.enrol("h2")
	other.WithIMA()
	other.Lists("/a", "/b", "/c")
	nonce, have := w.has("h2")
	if have.IMACount != 0 {
		t.Errorf("of h2 it has %+v", have)
	}
	wish := w.wish(d)
	wish.Subject = other.Measure(t, 1, nil)
	w.refusal(w.submit(other.Tail(t, nonce, testbundle.Have{IMACount: 2}, wish)), "E_IMA")
}

// TestBootLogSwapped: the log of another machine, or of another boot, does not
// make the quoted values; and a host cannot point at a log that others sent.
func TestBootLogSwapped(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	w.ok(w.tail(d))
	other := w.enrol("h2")
	other.Boots(bootlog.Boot{SecureBootOff: true})
	wish := w.wish(d)
	wish.Subject = other.Measure(t, 1, nil)
	send := func(have testbundle.Have) answer {
		nonce, _ := w.has("h2")
		return w.submit(other.Tail(t, nonce, have, wish))
	}
	mine := other.BootLog
	other.BootLog = w.host.BootLog
	w.refusal(send(testbundle.Have{}), "E_BOOT_REPLAY")
	_, have := w.has("h1")
	w.refusal(send(testbundle.Have{BootLog: have.BootLog}), "E_BOOT_LOG") // known, but not of this host
	other.BootLog = mine
	w.ok(send(testbundle.Have{}))
	// Both are kept now, and each is its own host's.
	if diff := w.diff("h1"); diff["ok"] != true {
		t.Errorf("h1: %v", diff)
	}
	if diff := w.diff("h2"); diff["ok"] != false || diff["secure_boot"].(object)["ok"] != false {
		t.Errorf("h2: %v", diff)
	}
}

// TestBootLogShared: hosts that booted alike have one log between them, and the
// last to leave it takes it along.
func TestBootLogShared(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	w.ok(w.tail(d))
	other := w.enrol("h2")
	wish := w.wish(d)
	wish.Subject = other.Measure(t, 1, nil)
	nonce, have := w.has("h2")
	w.ok(w.submit(other.Tail(t, nonce, have, wish)))
	w.ok(w.send(http.MethodDelete, w.operator+"/v1/hosts/h1", "", ""))
	nonce, have = w.has("h2")
	if have.BootLog == "" {
		t.Error("the log went with the other host")
	}
	w.ok(w.submit(other.Tail(t, nonce, have, wish)))
	w.must(w.store.Check(t.Context()))
	// One that this program cannot read is never learned as if there were none.
	odd := []byte("another program's boot log")
	w.must(w.store.Update(t.Context(), func(tx *store.Tx) error {
		return tx.KeepBootLog(w.b.HostID("h2"), sha256.Sum256(odd), odd)
	}))
	if a := w.learn("h2"); a.status != 409 {
		t.Errorf("learned from a log that is not there: %d %s", a.status, a.raw)
	}
	nonce, have = w.has("h2")
	w.ok(w.submit(other.Tail(t, nonce, have, wish)))
	w.ok(w.learn("h2"))
	// A host without a log leaves it behind.
	w.b.Policy.Measured = nil
	other.BootLog = nil
	nonce, have = w.has("h2")
	w.ok(w.submit(other.Tail(t, nonce, have, wish)))
	if _, have = w.has("h2"); have.BootLog != "" {
		t.Errorf("it has %+v of a host without a log", have)
	}
	w.must(w.store.Check(t.Context()))
}

// TestHaveWhileMoving: challenges are answered while the list of the host moves
// on in parts (for the race detector).
func TestHaveWhileMoving(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	w.host.WithIMA()
	for i := range 40 {
		w.host.Lists(fmt.Sprint("/bin/", i))
	}
	w.host.Most = 4
	done := make(chan bool)
	go func() {
		defer close(done)
		for range 200 {
			host := store.Host{ID: w.hostID(), BootLog: evidence.Hash{1}}
			if have, err := w.b.have(&host); err != nil || have.IMACount > 41 {
				t.Errorf("it has %+v, %v", have, err)
			}
		}
	}()
	for range 10 {
		w.refusal(w.tail(d), "E_IMA_PARTIAL")
	}
	w.ok(w.tail(d))
	<-done
}

// TestTwoBrokers on one store: what one has in memory does not keep it from
// seeing what the other took.
func TestTwoBrokers(t *testing.T) {
	w := ready(t)
	w.ok(w.apply(strings.ReplaceAll(w.yaml(workloadID, false, "/usr/bin/invoice-agent"), "ima: none", "ima: confirmed")))
	d := w.approved(nil)
	w.host.WithIMA()
	w.host.Lists("/usr/bin/invoice-agent")
	w.ok(w.tail(d))
	first := w.b
	k, err := keys.Open(w.data, rand.Reader)
	w.must(err)
	second, err := New(first.Config, w.store, k, w.log)
	w.must(err)
	for i, path := range []string{"/lib64/ld.so", "/lib/libc.so.6", "/bin/x"} {
		w.b = []*Broker{second, first}[i%2]
		w.host.Lists(path)
		if failed := failedOf(w.ok(w.tail(d)), 0); (len(failed) == 0) != (i > 0) {
			t.Errorf("after %s: %v", path, failed)
		}
	}
}

// TestPartialListOfRemovedHost: a host that comes back under the name of one
// that was removed begins with nothing.
func TestPartialListOfRemovedHost(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	w.host.WithIMA()
	w.host.Lists("/a", "/b", "/c")
	w.host.Most = 2
	w.rejected(w.tail(d), "E_IMA_PARTIAL")
	w.ok(w.send(http.MethodDelete, w.operator+"/v1/hosts/h1", "", ""))
	w.enrol("h1")
	if _, have := w.has("h1"); have != (testbundle.Have{}) {
		t.Errorf("it has %+v", have)
	}
}
