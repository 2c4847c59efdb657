// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/softtpm"
)

// recordLink keeps a copy of every answer.
type recordLink struct {
	link
	answers [][]byte
}

func (l *recordLink) exchange(command []byte) ([]byte, error) {
	answer, err := l.link.exchange(command)
	l.answers = append(l.answers, bytes.Clone(answer))
	return answer, err
}

// replayLink gives recorded answers again, whatever the commands are.
type replayLink struct {
	answers [][]byte
	next    int
}

func (l *replayLink) exchange([]byte) ([]byte, error) {
	if l.next >= len(l.answers) {
		return nil, io.EOF
	}
	l.next++
	return readAnswer(bytes.NewReader(l.answers[l.next-1]))
}

func (l *replayLink) Close() error { return nil }

// outcome is what signed statements everything came to.
type outcome struct {
	quote     evidence.Quote
	certified evidence.Certification
	value     evidence.Hash
}

// everything uses all of the Device over l and goes on past errors. What
// ActivateCredential comes to is left out: its session has a fresh nonce, so a
// replay cannot satisfy it. For the same reason AuditBanks, which has a second
// command after that, is not here at all.
func everything(ctx context.Context, l link, credential, secret []byte) (out outcome, errs error) {
	// An answer that asks for patience would slow a million tries down.
	impatient := func(context.Context, time.Duration) error { return errors.New("impatient") }
	dev := &Device{bus: &bus{path: "replay", link: l, sleep: impatient}}
	errs = dev.probe(ctx)
	ak, err := dev.CreateAK(ctx, "1")
	errs = errors.Join(errs, err)
	if err == nil {
		out.quote, err = ak.Quote(ctx, evidence.Hash{1})
		errs = errors.Join(errs, err, useRegister(ctx, dev, ak, &out))
		_, err = ak.CertifyCreation(ctx)
		errs = errors.Join(errs, err)
	}
	list, err := dev.EKs(ctx)
	errs = errors.Join(errs, err)
	if ak != nil && len(list) > 0 {
		_, _ = ak.ActivateCredential(ctx, list[0], credential, secret)
	}
	_, err = dev.Clock(ctx)
	errs = errors.Join(errs, err)
	_, err = dev.Survey(ctx)
	return out, errors.Join(errs, err, dev.Close())
}

// useRegister takes a register all the way.
func useRegister(ctx context.Context, dev *Device, ak *AK, out *outcome) error {
	r, _, err := dev.Register(ctx, RegisterOptions{})
	if r == nil {
		return err
	}
	errs := errors.Join(err, r.Define(ctx), r.Open(ctx, evidence.Hash{1}), r.CloseLatch(ctx, bootID), r.Extend(ctx, evidence.Hash{2}))
	_, err = r.State(ctx)
	errs = errors.Join(errs, err)
	out.certified, out.value, err = r.Certify(ctx, ak, evidence.Hash{1})
	_, nvErr := dev.NvPCR(ctx, r.Index(), nil)
	if errors.Is(nvErr, ErrForeign) { // which it is
		nvErr = nil
	}
	return errors.Join(errs, err, nvErr)
}

// record has a conversation with a real TPM.
func record(t testing.TB) (answers [][]byte, credential, secret []byte) {
	t.Helper()
	chip := startTPM(t, softtpm.Options{Firmware: true})
	dev := open(t, chip.Path())
	ak := createAK(t, dev, "1")
	list, err := dev.EKs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, credential, secret = challenge(t, list[0], ak.Name())
	if err := dev.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(chip.Path())
	if err != nil {
		t.Fatal(err)
	}
	recorder := &recordLink{link: again.bus.link}
	if _, err := everything(t.Context(), recorder, credential, secret); err != nil {
		t.Fatal(err)
	}
	return recorder.answers, credential, secret
}

// hostile replays answers with one of them changed, and holds what comes of it
// against what came of the genuine conversation.
func hostile(t *testing.T, genuine outcome, answers [][]byte, credential, secret []byte) {
	t.Helper()
	got, err := everything(t.Context(), &replayLink{answers: answers}, credential, secret)
	if err == nil && (got.quote.Attest == nil || got.certified.Attest == nil) {
		t.Fatal("no statement, and no error")
	}
	if got.certified.Attest != nil && (!bytes.Equal(got.certified.Attest, genuine.certified.Attest) || got.value != genuine.value) {
		t.Fatalf("a register that the TPM did not certify: %+v", got)
	}
	hostileQuote(t, genuine.quote, got.quote)
}

func hostileQuote(t *testing.T, genuine, quote evidence.Quote) {
	t.Helper()
	if quote.Attest == nil {
		return
	}
	if !bytes.Equal(quote.Attest, genuine.Attest) || len(quote.PCRs) != len(genuine.PCRs) {
		t.Fatalf("a quote that the TPM did not make: %+v", quote)
	}
	for i, pcr := range quote.PCRs {
		if !bytes.Equal(pcr.Digest, genuine.PCRs[i].Digest) || pcr.Index != genuine.PCRs[i].Index {
			t.Fatalf("PCR %d is %x in a quote over %x", pcr.Index, pcr.Digest, genuine.PCRs[i].Digest)
		}
	}
}

// changes are what a broken or hostile TPM may make of an answer.
func changes(answer []byte) (out [][]byte) {
	sized := func(b []byte) []byte {
		b = bytes.Clone(b)
		binary.BigEndian.PutUint32(b[2:], uint32(len(b)))
		return b
	}
	out = append(out,
		nil,
		sized(answer[:headerSize]),        // success without a word
		answer[:len(answer)-1],            // cut off
		append(bytes.Clone(answer), 0xff), // more behind
		sized(append(bytes.Clone(answer), 0, 0, 0)), // more inside
	)
	// Most of the structure is in front; samples do for the rest. The fuzz
	// target goes everywhere.
	for i := headerSize; i < len(answer); i += 2 + i/8 {
		b := bytes.Clone(answer)
		b[i] ^= []byte{0x01, 0x80, 0xff}[i%3]
		out = append(out, b)
		if i%3 == 0 {
			out = append(out, sized(answer[:i]))
		}
	}
	return out
}

func TestHostileTPM(t *testing.T) {
	answers, credential, secret := record(t)
	genuine, err := everything(t.Context(), &replayLink{answers: answers}, credential, secret)
	if err != nil {
		t.Fatalf("the replay does not work: %v", err)
	}
	for i, answer := range answers {
		t.Run(fmt.Sprintf("answer %d", i), func(t *testing.T) {
			for _, change := range changes(answer) {
				changed := append([][]byte(nil), answers...)
				changed[i] = change
				hostile(t, genuine, changed, credential, secret)
			}
		})
	}
}

func FuzzHostileTPM(f *testing.F) {
	answers, credential, secret := record(f)
	genuine, err := everything(f.Context(), &replayLink{answers: answers}, credential, secret)
	if err != nil {
		f.Fatal(err)
	}
	for i, answer := range answers {
		f.Add(uint16(i), uint16(headerSize), answer[headerSize:])
	}
	f.Fuzz(func(t *testing.T, which, at uint16, patch []byte) {
		i := int(which) % len(answers)
		answer := bytes.Clone(answers[i])
		from := min(int(at), len(answer))
		answer = append(answer[:from], patch...)
		if from >= headerSize {
			binary.BigEndian.PutUint32(answer[2:], uint32(len(answer)))
		}
		changed := append([][]byte(nil), answers...)
		changed[i] = answer
		hostile(t, genuine, changed, credential, secret)
	})
}
