// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/softtpm"
	"github.com/jurat-dev/jurat/tpm"
)

// TestWhileItRuns: what others do to the register while the agent runs is found
// by the next quote at the latest, before anything leaves the host.
func TestWhileItRuns(t *testing.T) {
	for name, happens := range map[string]func(*testing.T, *tap, *softtpm.TPM){
		"written": func(t *testing.T, _ *tap, d *softtpm.TPM) {
			outside(t, d, func(g *tpm.LatchRegister) error { return g.Extend(t.Context(), evidence.Hash{6}) })
		},
		"removed and defined again": func(t *testing.T, _ *tap, d *softtpm.TPM) {
			outside(t, d, func(g *tpm.LatchRegister) error {
				return errors.Join(g.Undefine(t.Context()), g.Define(t.Context()))
			})
		},
		"written before it is certified": func(t *testing.T, p *tap, d *softtpm.TPM) {
			p.set(func(code tpm2.TPMCC, forward func() []byte) []byte {
				if code == tpm2.TPMCCNVCertify {
					p.set(nil)
					outside(t, d, func(g *tpm.LatchRegister) error { return g.Extend(t.Context(), evidence.Hash{6}) })
				}
				return forward()
			})
		},
		"removed before it is certified": func(t *testing.T, p *tap, d *softtpm.TPM) {
			p.set(func(code tpm2.TPMCC, forward func() []byte) []byte {
				if code == tpm2.TPMCCNVCertify {
					p.set(nil)
					outside(t, d, func(g *tpm.LatchRegister) error { return g.Undefine(t.Context()) })
				}
				return forward()
			})
		},
		"extends dropped": func(_ *testing.T, p *tap, _ *softtpm.TPM) { p.set(dropping(tpm2.TPMCC(0x136))) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			device := r.withTPM()
			p := newTap(t, device)
			r.open = func(ctx context.Context) (Chip, error) { return openChip(ctx, p.path) }
			r.double.policy.Anchors = append(slices.Clone(r.double.policy.Anchors), evidence.AnchorBroken)
			r.start()
			r.proved()
			happens(t, p, device)
			b := r.proved() // by a second try
			if b.Header.Anchor != evidence.AnchorBroken || b.Register != nil {
				t.Errorf("anchor %s", b.Header.Anchor)
			}
			p.set(nil)
			if b := r.proved(); b.Header.Anchor != evidence.AnchorBroken {
				t.Errorf("and then anchor %s", b.Header.Anchor)
			}
			r.end()
			r.again()
			if b := r.proved(); b.Header.Anchor != evidence.AnchorBroken {
				t.Errorf("started again: anchor %s", b.Header.Anchor)
			}
		})
	}
}

// TestDroppedAtTheStart: a bus that swallows the first write, or the closing of
// the latch, makes no register.
func TestDroppedAtTheStart(t *testing.T) {
	for name, code := range map[string]tpm2.TPMCC{"first write": 0x136, "latch": tpm2.TPMCCPCRExtend} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			p := newTap(t, r.withTPM())
			r.open = func(ctx context.Context) (Chip, error) { return openChip(ctx, p.path) }
			r.double.policy.Anchors = append(slices.Clone(r.double.policy.Anchors), evidence.AnchorBroken)
			p.set(dropping(code))
			r.endsEarly = code == 0x136 // nothing was done, so nothing is broken: it may be tried again
			r.start()
			if r.endsEarly {
				if r.ended == nil || !strings.Contains(r.ended.Error(), "TPM2_NVRead") {
					t.Errorf("ended with %v", r.ended)
				}
				p.set(nil)
				r.endsEarly = false
				if b := r.again().proved(); b.Header.Anchor != evidence.AnchorNVLatch {
					t.Errorf("anchor %s", b.Header.Anchor)
				}
				return
			}
			if b := r.proved(); b.Header.Anchor != evidence.AnchorBroken {
				t.Errorf("anchor %s", b.Header.Anchor)
			}
		})
	}
}
