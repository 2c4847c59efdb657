// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"os"
	"testing"

	"github.com/google/go-tpm/tpm2"

	brokerclient "github.com/jurat-dev/jurat/broker-client"
	"github.com/jurat-dev/jurat/evidence"
)

// trickle gives data in pieces.
type trickle struct {
	data []byte
	size int
}

func (r *trickle) Read(p []byte) (int, error) {
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.data[:min(r.size, len(r.data))])
	r.data = r.data[n:]
	return n, nil
}

// withIMA gives the rig a kernel that measures.
func (r *rig) withIMA() (*measured, *tap) {
	r.t.Helper()
	device := r.withTPM()
	p := newTap(r.t, device)
	r.open = func(ctx context.Context) (Chip, error) { return openChip(ctx, p.path) }
	m := &measured{t: r.t, path: r.logs.ima, device: device}
	m.add(3, 50)
	return m, p
}

// known is how far the broker has the list.
func (r *rig) known() uint64 {
	r.double.mu.Lock()
	defer r.double.mu.Unlock()
	return r.double.host.IMA.Position().Count
}

func TestIMATail(t *testing.T) {
	r := newRig(t)
	m, p := r.withIMA()
	r.start()
	b := r.proved()
	if b.IMA.From != 0 || b.Header.IMACount != 3 || b.Checkpoint.IMACount != 3 || r.known() != 3 {
		t.Errorf("from %d, header %d, checkpoint %d, the broker has %d", b.IMA.From, b.Header.IMACount, b.Checkpoint.IMACount, r.known())
	}
	if b = r.proved(); b.IMA.From != 3 || len(b.IMA.Data) != 0 || b.Header.IMACount != 3 {
		t.Errorf("nothing new: from %d, %d bytes", b.IMA.From, len(b.IMA.Data))
	}
	// The kernel measures while the TPM quotes: some before, some after.
	r.during(p, tpm2.TPMCCQuote, func() { m.add(2, 50) })
	b = r.proved()
	if b.IMA.From != 3 || b.Header.IMACount != 3 || len(b.IMA.Data) == 0 {
		t.Errorf("while it quotes: from %d, header %d, %d bytes", b.IMA.From, b.Header.IMACount, len(b.IMA.Data))
	}
	if n := r.known(); n < 5 || n > 7 {
		t.Errorf("the broker has %d", n)
	}
	// A torn entry at the end is of no account.
	entry, data := imaEntry("/bin/late")
	m.write(entry[:40])
	from := r.known()
	if b = r.proved(); b.IMA.From != from || b.Header.IMACount != 7 {
		t.Errorf("torn: from %d, header %d", b.IMA.From, b.Header.IMACount)
	}
	m.write(entry[40:])
	if err := m.device.Measure(10, hashData(data)); err != nil {
		t.Fatal(err)
	}
	if b = r.proved(); b.Header.IMACount != 8 || r.known() != 8 {
		t.Errorf("whole: header %d, the broker has %d", b.Header.IMACount, r.known())
	}
	// Another run of the agent goes on with what the broker has.
	r.end()
	m.add(1, 50)
	r.again()
	if b = r.proved(); b.IMA.From != 8 || b.Header.IMACount != 9 {
		t.Errorf("another run: from %d, header %d", b.IMA.From, b.Header.IMACount)
	}
	// A broker that forgot is sent everything.
	r.double.mu.Lock()
	r.double.host.IMA = nil
	r.double.mu.Unlock()
	if b = r.proved(); b.IMA.From != 0 || r.known() != 9 {
		t.Errorf("forgotten: from %d, the broker has %d", b.IMA.From, r.known())
	}
}

func hashData(b []byte) evidence.Hash { return sha256.Sum256(b) }

// during runs f around each command of that code: once before, once after.
func (r *rig) during(p *tap, when tpm2.TPMCC, f func()) {
	p.set(func(code tpm2.TPMCC, forward func() []byte) []byte {
		if code != when {
			return forward()
		}
		p.set(nil)
		f()
		answer := forward()
		f()
		return answer
	})
}

// TestIMAAfterAReset: the list of another boot is another list, however long.
func TestIMAAfterAReset(t *testing.T) {
	for name, running := range map[string]bool{"agent runs": true, "agent starts": false} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			m, _ := r.withIMA()
			r.start()
			r.proved()
			if !running {
				r.end()
			}
			if err := errors.Join(m.device.Reset(), os.Remove(m.path)); err != nil {
				t.Fatal(err)
			}
			m.add(9, 50)
			if !running {
				// Another boot has another id, and so have its checkpoints.
				r.boot = append([]byte{1}, make([]byte, 15)...)
				r.again()
			}
			b := r.proved()
			if b.IMA.From != 0 || b.Header.IMACount != 9 || r.known() != 9 {
				t.Errorf("from %d, header %d, the broker has %d", b.IMA.From, b.Header.IMACount, r.known())
			}
		})
	}
}

// TestIMACatchesUp: a list that is longer than a bundle comes in several, for
// one who asks once. It takes more of them than a request may be tried.
func TestIMACatchesUp(t *testing.T) {
	r := newRig(t)
	m, _ := r.withIMA()
	m.add(130, 90_000)
	r.start()
	b := r.proved()
	r.double.mu.Lock()
	parts := len(r.double.partial)
	r.double.mu.Unlock()
	if parts <= maxTries || r.known() != 133 || b.Header.IMACount != 133 || b.IMA.More {
		t.Errorf("%d parts, the broker has %d, header %d", parts, r.known(), b.Header.IMACount)
	}
	for i, p := range r.double.partial {
		if !p.IMA.More || len(p.IMA.Data) > maxIMATail || i > 0 && p.IMA.From <= r.double.partial[i-1].IMA.From {
			t.Errorf("part %d: from %d, %d bytes", i, p.IMA.From, len(p.IMA.Data))
		}
	}
	if b.IMA.From == 0 {
		t.Error("the last part begins at 0")
	}
}

// TestIMAOutgrowsTheQuote: more was measured during the quote than fits.
func TestIMAOutgrowsTheQuote(t *testing.T) {
	r := newRig(t)
	m, p := r.withIMA()
	r.start()
	r.during(p, tpm2.TPMCCQuote, func() { m.add(3, 100_000) })
	if r.proved(); r.known() < 6 || len(r.double.partial) == 0 {
		t.Errorf("the broker has %d, after %d parts", r.known(), len(r.double.partial))
	}
}

// TestIMAStandsStill: a broker that always wants more and never takes any is
// not asked for ever.
func TestIMAStandsStill(t *testing.T) {
	r := newRig(t)
	r.withIMA()
	r.start()
	r.double.set(func(w http.ResponseWriter, q *http.Request) bool {
		if q.URL.Path != "/v1/evidence" {
			return false
		}
		refuse(w, reasonIMAPartial, "now", errors.New("more"))
		return true
	})
	if _, err := r.prove(); code(err) != codeRefused || r.agent.quotes.Load() != maxTries+1 {
		t.Errorf("%v after %d quotes", err, r.agent.quotes.Load())
	}
}

// TestCatchUp is which refusals are progress, and where the next tail begins.
func TestCatchUp(t *testing.T) {
	partial := &brokerclient.Refusal{Reason: reasonIMAPartial}
	var c catchUp
	send := func(from, end uint64) { c.sent(&evidence.IMATail{From: from, More: true}, imaPlace{count: end}) }
	for i, step := range []struct {
		from    uint64
		err     error
		further bool
	}{
		{0, partial, true}, {10, partial, true}, {10, partial, false}, {5, partial, false}, {20, partial, true},
		{20, nil, false}, {20, partial, true}, {20, errors.New("other"), false}, {20, &brokerclient.Refusal{Reason: "E_QUOTE"}, false},
	} {
		send(step.from, step.from+10)
		if got := c.answered(step.err); got != step.further {
			t.Errorf("step %d: %v", i, got)
		}
	}
	if c.anew {
		t.Error("begins anew without being told")
	}
	if c.answered(&brokerclient.Refusal{Reason: reasonIMA}); !c.anew {
		t.Error("the broker does not know the place, and is told it again")
	}
	for i := range uint64(3 * maxEnds) {
		send(0, i)
	}
	if len(c.ends) != maxEnds {
		t.Errorf("%d ends are remembered", len(c.ends))
	}
}

// TestOSLog: the operating system's log goes with every quote, as far as it is
// known.
func TestOSLog(t *testing.T) {
	r := newRig(t).start().self()
	if _, err := r.ask(); err != nil {
		t.Fatal(err)
	}
	if b := r.double.bundles[0]; b.Header.OSLog.Reason() != "no-log" || len(b.OSLog) != 0 {
		t.Errorf("no log: %s, %d bytes", b.Header.OSLog, len(b.OSLog))
	}
	for i, c := range []struct {
		size int
		why  string
	}{{100, ""}, {evidence.MaxOSLog, ""}, {evidence.MaxOSLog + 1, "truncated"}} {
		if err := os.WriteFile(r.logs.os, make([]byte, c.size), 0o600); err != nil {
			t.Fatal(err)
		}
		r.execAgain(uint32(i + 2))
		if _, err := r.ask(); err != nil {
			t.Fatal(err)
		}
		b := r.double.bundles[i+1]
		if digest, known := b.Header.OSLog.Get(); b.Header.OSLog.Reason() != c.why || known && (digest != hashData(b.OSLog) || len(b.OSLog) != c.size) {
			t.Errorf("%d bytes: %s with %d", c.size, b.Header.OSLog, len(b.OSLog))
		}
	}
}
