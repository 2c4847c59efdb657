// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/require"
	"github.com/jurat-dev/jurat/internal/softtpm"
	"github.com/jurat-dev/jurat/measure"
	"github.com/jurat-dev/jurat/verify"
)

// withTPM gives the rig a software TPM, and its broker the TPM's key: from
// then on the double believes only what package verify does.
func (r *rig) withTPM() *softtpm.TPM {
	r.t.Helper()
	return r.withTPMOf(softtpm.Options{Blank: true, Firmware: true})
}

func (r *rig) withTPMOf(options softtpm.Options) *softtpm.TPM {
	r.t.Helper()
	require.Need(r.t, "tpm", softtpm.Available())
	dir, err := os.MkdirTemp("", "j") // socket paths are short
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { os.RemoveAll(dir) })
	device, err := softtpm.Start(dir, options)
	if err != nil {
		r.t.Fatal(err)
	}
	r.logs.boot, r.anchor.Mode = device.EventLog(), evidence.AnchorNVLatch
	r.t.Cleanup(func() {
		if err := device.Stop(); err != nil {
			r.t.Error(err)
		}
	})
	r.open = func(ctx context.Context) (Chip, error) { return openChip(ctx, device.Path()) }
	opened, err := r.open(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	ak := opened.(chip)
	ueid := append([]byte{1}, make([]byte, 32)...)
	if r.double.host, err = verify.NewHost(ueid, ak.Public(), ak.Name(), verify.LevelPin); err != nil {
		r.t.Fatal(err)
	}
	if err := opened.Close(); err != nil {
		r.t.Fatal(err)
	}
	return device
}

// crowd has n processes ask at once. They are told apart by the agent's own
// table only: one process stands in for all of them.
func (r *rig) crowd(n int) {
	r.t.Helper()
	r.self()
	if err := r.sensor.Barrier(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		r.t.Fatal(err)
	}
	defer unix.Close(fd)
	w := want{audience: "https://payments.example", actions: []string{"invoice.read"}}
	keys := make(map[[32]byte]bool)
	var mu sync.Mutex
	var group sync.WaitGroup
	for k := range n {
		i := evidence.Instance{PID: uint32(1e6 + k), Start: 1, Generation: 1}
		p := newProgram(&measure.Exec{Instance: i, Filename: "/bin/agent"}, "agent")
		r.agent.table.exec(p)
		group.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), r.limits.Deadline)
			defer cancel()
			facts, _ := r.agent.table.facts(i.PID)
			g, f := r.agent.credential(ctx, &subject{pidfd: fd, facts: facts}, w)
			if f != nil {
				r.t.Errorf("process %d: %v", k, f)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			keys[g.key.Thumbprint()] = true
		})
	}
	group.Wait()
	if len(keys) != n && !r.t.Failed() {
		r.t.Errorf("%d keys for %d processes", len(keys), n)
	}
}

// TestOneQuoteForMany: a thousand requests at once take a few quotes, also of
// a slow TPM, and every bundle is true.
func TestOneQuoteForMany(t *testing.T) {
	const requests = 1000
	for name, delay := range map[string]time.Duration{"fast TPM": 0, "slow TPM": 150 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.limits.Deadline, r.limits.Gather = 5*time.Minute, DefaultLimits().Gather
			device := r.withTPM()
			device.SetDelay(delay, 0)
			r.meter.size = 1500 // a small static program's measurement
			r.start()
			r.crowd(requests)
			quotes := r.agent.quotes.Load()
			answered := 0
			blinds := make(map[evidence.Hash]bool)
			for _, b := range r.double.bundles {
				answered += len(b.Requests)
				for _, l := range b.Requests {
					blinds[l.Value.Blind] = true
				}
			}
			if len(blinds) != answered {
				t.Errorf("%d blinds for %d requests", len(blinds), answered)
			}
			t.Logf("%d quotes, %d bundles of %v bytes", quotes, len(r.double.bundles), r.double.sizes)
			if quotes > 4 || answered != requests || r.double.exchanges != requests {
				t.Errorf("%d quotes (at most 4) for %d requests, %d exchanges", quotes, answered, r.double.exchanges)
			}
		})
	}
}

// BenchmarkGroupCommit measures a thousand requests at once against a software
// TPM, and compares with one after the other, each with its own quote.
func BenchmarkGroupCommit(b *testing.B) {
	for _, c := range []struct {
		name  string
		delay time.Duration
	}{
		{"1000_requests_at_once/vs_one_quote_each", 0},
		{"1000_requests_at_once,_TPM_of_150_ms/vs_one_quote_each", 150 * time.Millisecond},
	} {
		b.Run(c.name, func(b *testing.B) {
			const requests, alone = 1000, 10
			var together, single time.Duration
			var quotes uint64
			for b.Loop() {
				b.StopTimer()
				r := newRig(b)
				r.limits.Deadline, r.limits.Gather = 5*time.Minute, DefaultLimits().Gather
				r.withTPM().SetDelay(c.delay, 0)
				r.meter.size = 1500
				r.start()
				begin := time.Now()
				for range alone {
					r.crowd(1)
				}
				single = time.Since(begin) / alone
				quotes = r.agent.quotes.Load()
				b.StartTimer()
				begin = time.Now()
				r.crowd(requests)
				together = time.Since(begin)
				b.StopTimer()
				quotes = r.agent.quotes.Load() - quotes
				r.stop()
				b.StartTimer()
			}
			b.ReportMetric(together.Seconds()/(single.Seconds()*requests), "ratio")
			b.ReportMetric(float64(quotes), "quotes")
			b.ReportMetric(requests/together.Seconds(), "requests/s")
		})
	}
}
