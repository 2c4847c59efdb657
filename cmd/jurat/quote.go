// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/verify"
)

// maxQuoteFile is the largest file of a quote that is read, in bytes. That of
// the PCR values is the largest there is.
const maxQuoteFile = 64 << 10

func (a *app) quoteCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "quote",
		Short:   "check quotes of a TPM, as tpm2-tools make them",
		Example: "  jurat quote check --ak ak.pub --msg quote.msg --sig quote.sig --nonce 6f1c… --pcrs quote.pcrs",
		Args:    cobra.ArbitraryArgs,
		RunE:    group,
	}
	c.AddCommand(a.quoteCheckCommand())
	return c
}

// quoteFlags are the files of a quote, by name.
type quoteFlags struct{ ak, msg, sig, nonce, pcrs string }

func (a *app) quoteCheckCommand() *cobra.Command {
	var f quoteFlags
	c := &cobra.Command{
		Use:   "check --ak FILE --msg FILE --sig FILE --nonce HEX",
		Short: "check one quote, offline",
		Long: `Checks a quote that 'tpm2_quote -m MSG -s SIG -o PCRS' made: that it is a quote
and in the one form a TPM writes, signed by the given key with an algorithm that
this key has, made for this nonce, over PCRs that mean something, and, with
--pcrs, over these values. No TPM, no broker and no root are needed.

The key is a PEM file, which cannot show that the TPM keeps it to signing what
the TPM itself says, or the TPM's public area (tpm2_createak -u, tpm2_readpublic
-o), which can. Whose key it is, and whether the values are good, is for you to
know. One of the files may be -, standard input.`,
		Example: "  jurat quote check --ak ak.pub --msg quote.msg --sig quote.sig --nonce 6f1c… --pcrs quote.pcrs",
		Args:    arguments(),
		RunE:    func(c *cobra.Command, _ []string) error { return a.quoteCheck(c, f) },
	}
	c.Flags().StringVar(&f.ak, "ak", "", "the key, `FILE`: PEM, DER, TPM2B_PUBLIC or TPMT_PUBLIC")
	c.Flags().StringVar(&f.msg, "msg", "", "what was signed, `FILE` of tpm2_quote -m")
	c.Flags().StringVar(&f.sig, "sig", "", "the signature, `FILE` of tpm2_quote -s")
	c.Flags().StringVar(&f.nonce, "nonce", "", "what you gave to tpm2_quote -q, `HEX`")
	c.Flags().StringVar(&f.pcrs, "pcrs", "", "PCR values, `FILE` of tpm2_quote -o")
	return c
}

func (a *app) quoteCheck(c *cobra.Command, f quoteFlags) error {
	in := 0
	for _, flag := range []struct{ name, value string }{{"ak", f.ak}, {"msg", f.msg}, {"sig", f.sig}, {"nonce", f.nonce}, {"pcrs", f.pcrs}} {
		if flag.value == "" && flag.name != "pcrs" {
			return usage(c, "--%s is missing", flag.name)
		}
		if flag.value == "-" && flag.name != "nonce" {
			in++
		}
	}
	nonce, err := hex.DecodeString(strings.TrimPrefix(f.nonce, "0x"))
	if err != nil || len(nonce) == 0 {
		return usage(c, "--nonce %q, want hexadecimal digits", f.nonce)
	}
	if in > 1 {
		return usage(c, "more than one file is -, standard input")
	}
	q := verify.QuoteFiles{Nonce: nonce}
	for _, file := range []struct {
		name string
		into *[]byte
	}{{f.ak, &q.Key}, {f.msg, &q.Attest}, {f.sig, &q.Signature}, {f.pcrs, &q.PCRs}} {
		if file.name == "" {
			continue
		}
		if *file.into, err = a.readInput(file.name, maxQuoteFile); err != nil {
			return err
		}
	}
	out := quoteReport(verify.CheckQuoteFiles(q))
	if err := a.emit(out, func(p *term.Printer) { showQuoteCheck(p, out) }); err != nil {
		return err
	}
	if !out.OK {
		return &failure{exit: exitNo} // said above
	}
	return nil
}

// quoteCheckJSON is jurat.quote-check/v1.
type quoteCheckJSON struct {
	Schema   string                `json:"schema"`
	OK       bool                  `json:"ok"`
	Code     verify.Code           `json:"code"` // of the first check that failed; empty if none did
	Failed   []*verify.Rejection   `json:"failed"`
	Findings []verify.QuoteFinding `json:"findings"`
	Key      *quoteKeyJSON         `json:"key"`   // null: it cannot be used
	Quote    *quoteJSON            `json:"quote"` // null: it cannot be read; believe it only if ok
}

type quoteKeyJSON struct {
	Kind       string `json:"kind"`
	Name       string `json:"name"` // empty: a bare key
	Restricted bool   `json:"restricted"`
}

type quoteJSON struct {
	Signer       string      `json:"signer"`
	ExtraData    string      `json:"extra_data"`
	Firmware     string      `json:"firmware"`
	ClockMS      uint64      `json:"clock_ms"`
	Safe         bool        `json:"clock_safe"`
	ResetCount   uint32      `json:"reset_count"`
	RestartCount uint32      `json:"restart_count"`
	PCRDigest    string      `json:"pcr_digest"`
	Banks        []quoteBank `json:"banks"`
}

type quoteBank struct {
	Algorithm string     `json:"algorithm"`
	PCRs      []uint32   `json:"pcrs"`
	Values    []quotePCR `json:"values"` // empty: not given, or not those that were signed
}

type quotePCR struct {
	PCR   uint8  `json:"pcr"`
	Value string `json:"value"`
}

func quoteReport(c verify.QuoteCheck) *quoteCheckJSON {
	out := &quoteCheckJSON{Schema: "jurat.quote-check/v1", OK: c.OK, Failed: orEmpty(c.Failed), Findings: orEmpty(c.Findings)}
	if len(c.Failed) > 0 {
		out.Code = c.Failed[0].Code
	}
	if c.Key.Kind != "" {
		out.Key = &quoteKeyJSON{c.Key.Kind, hex.EncodeToString(c.Key.Name), c.Key.Restricted}
	}
	if f := c.Facts; f != nil {
		out.Quote = &quoteJSON{
			Signer: hex.EncodeToString(f.Signer), ExtraData: hex.EncodeToString(f.ExtraData), Firmware: fmt.Sprintf("%016x", f.Firmware), ClockMS: f.Clock,
			Safe: f.Safe, ResetCount: f.ResetCount, RestartCount: f.RestartCount, PCRDigest: hex.EncodeToString(f.PCRDigest), Banks: []quoteBank{},
		}
		for _, b := range f.Banks {
			bank := quoteBank{b.Algorithm, orEmpty(b.PCRs), []quotePCR{}}
			for _, v := range b.Values {
				bank.Values = append(bank.Values, quotePCR{v.Index, hex.EncodeToString(v.Digest)})
			}
			out.Quote.Banks = append(out.Quote.Banks, bank)
		}
	}
	return out
}

func showQuoteCheck(p *term.Printer, r *quoteCheckJSON) {
	if k := r.Key; k != nil {
		restricted := "not known: a bare key"
		if k.Restricted {
			restricted = "yes"
		}
		p.Fields("", term.Field{Label: "key", Value: k.Kind}, term.Field{Label: "name", Value: k.Name}, term.Field{Label: "restricted", Value: restricted})
		p.Blank()
	}
	if r.Quote != nil {
		if !r.OK {
			p.Styled(term.Yellow, "What it says, which is not to be believed:")
		}
		showQuoteFacts(p, r.Quote)
		p.Blank()
	}
	for _, f := range r.Findings {
		p.Styled(term.Yellow, "note: %s", f.Text)
	}
	for _, f := range r.Failed {
		p.Blank()
		p.Styled(term.Red, "%s: %s", f.Code, f.Place)
		p.Line("  want  %s", f.Expected)
		p.Line("  seen  %s", f.Observed)
	}
	p.Blank()
	if r.OK {
		p.Styled(term.Green, "YES: this key made this quote for this nonce%s", withValues(r.Quote))
	} else {
		p.Styled(term.Red, "NO: do not believe this quote")
	}
}

func withValues(q *quoteJSON) string {
	if q == nil || len(q.Banks) == 0 || len(q.Banks[0].Values) == 0 {
		return ""
	}
	return ", over these values"
}

// ranges writes ascending numbers as "0-7, 10".
func ranges(list []uint32) string {
	var parts []string
	for i := 0; i < len(list); i++ {
		first := list[i]
		for i+1 < len(list) && list[i+1] == list[i]+1 {
			i++
		}
		if list[i] == first {
			parts = append(parts, fmt.Sprint(first))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", first, list[i]))
		}
	}
	if parts == nil {
		return "none"
	}
	return strings.Join(parts, ", ")
}

func showQuoteFacts(p *term.Printer, q *quoteJSON) {
	fields := []term.Field{
		{Label: "signer", Value: q.Signer},
		{Label: "extra data", Value: q.ExtraData},
		{Label: "firmware", Value: q.Firmware},
		{Label: "clock", Value: fmt.Sprintf("%v, safe: %s", time.Duration(min(q.ClockMS, 1<<43))*time.Millisecond, yesNo(q.Safe)), Style: warnIf(!q.Safe)},
		{Label: "resets", Value: fmt.Sprintf("%d, restarts %d", q.ResetCount, q.RestartCount)},
		{Label: "PCR digest", Value: q.PCRDigest},
	}
	for _, b := range q.Banks {
		fields = append(fields, term.Field{Label: "bank", Value: fmt.Sprintf("%s, PCRs %s", b.Algorithm, ranges(b.PCRs))})
	}
	p.Fields("", fields...)
	for _, b := range q.Banks {
		rows := make([][]term.Cell, len(b.Values))
		for i, v := range b.Values {
			rows[i] = []term.Cell{{Text: fmt.Sprint(v.PCR)}, {Text: v.Value}}
		}
		if len(rows) > 0 {
			p.Blank()
			p.Table("", []string{"PCR", strings.ToUpper(b.Algorithm)}, rows)
		}
	}
}
