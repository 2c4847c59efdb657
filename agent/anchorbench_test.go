// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	brokerclient "github.com/jurat-dev/jurat/broker-client"
	"github.com/jurat-dev/jurat/evidence"
)

// BenchmarkAnchoredQuote measures stations 3 to 5: checkpoint, extend, certify,
// quote, mark. tpm-ms is how long the TPM had a command, over-% how much the
// agent adds to that; with a TPM that takes as long as a real one it is what
// counts.
func BenchmarkAnchoredQuote(b *testing.B) {
	for _, c := range []struct {
		name        string
		quote, each time.Duration // added to each command
	}{{"software_TPM", 0, 0}, {"TPM_of_150_ms_a_quote_and_10_ms_a_command", 150 * time.Millisecond, 10 * time.Millisecond}} {
		b.Run(c.name, func(b *testing.B) {
			r := newRig(b)
			device := r.withTPM()
			device.SetDelay(c.quote, c.each)
			p := newTap(b, device)
			r.open = func(ctx context.Context) (Chip, error) { return openChip(ctx, p.path) }
			var inside atomic.Int64
			p.set(func(_ tpm2.TPMCC, forward func() []byte) []byte {
				begin := time.Now()
				defer func() { inside.Add(int64(time.Since(begin))) }()
				return forward()
			})
			r.start()
			a := r.agent
			leaves := &leaves{root: evidence.Hash{1}, size: 1}
			challenge := new(brokerclient.Challenge)
			begin := inside.Load()
			for b.Loop() {
				have := a.log.Anchor()
				last, _ := a.log.Last()
				challenge.LogSize, challenge.RegisterSize = last.Size, have.Count
				if err := a.append(&evidence.Entry{Kind: evidence.KindLoss, Loss: &evidence.Loss{Cause: "unexplained"}}); err != nil {
					b.Fatal(err)
				}
				check, err := a.checkpoint()
				if err == nil {
					err = a.anchorTo(b.Context(), check)
				}
				if err == nil {
					_, err = a.quote(b.Context(), a.epoch.Load(), check, leaves, challenge, evidence.MaxBundle)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			tpm := float64(inside.Load() - begin)
			b.ReportMetric(tpm/float64(b.N)/1e6, "tpm-ms")
			b.ReportMetric((float64(b.Elapsed())/tpm-1)*100, "over-%")
		})
	}
}
