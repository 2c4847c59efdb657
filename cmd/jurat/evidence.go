// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/evidence"
)

func (a *app) evidenceCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "evidence",
		Short:   "look at evidence bundles",
		Example: "  jurat evidence last -o bundle.cbor\n  jurat evidence show bundle.cbor",
		Args:    cobra.ArbitraryArgs,
		RunE:    group,
	}
	show := &cobra.Command{
		Use:   "show FILE",
		Short: "print a bundle for people, or as JSON",
		Long: `Prints what a bundle says: quote, PCR values, checkpoint, requests, and each
process with its files and digests. FILE - is standard input.

A bundle that can be shown is well formed. Nothing of it is verified here: the
signature is not checked, and every value is the host's word.`,
		Example: "  jurat evidence show bundle.cbor\n  jurat evidence show --json - < bundle.cbor | jq .bundle.header",
		Args:    arguments("FILE"),
		RunE:    func(_ *cobra.Command, args []string) error { return a.evidenceShow(args[0]) },
	}
	var file string
	last := &cobra.Command{
		Use:   "last -o FILE",
		Short: "save the last bundle that juratd sent",
		Long: `Asks juratd for the last bundle it sent to the broker and writes it to FILE,
mode 0600. FILE - is standard output. Only root is answered.`,
		Example: "  sudo jurat evidence last -o bundle.cbor\n  sudo jurat evidence last -o - | jurat evidence show -",
		Args:    arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			if file == "" {
				return usage(c, "-o FILE is missing")
			}
			if file == "-" && a.json {
				return usage(c, "--json and -o - would both write to standard output")
			}
			return a.evidenceLast(c.Context(), file)
		},
	}
	last.Flags().StringVarP(&file, "output", "o", "", "`FILE` to write, - for standard output")
	c.AddCommand(show, last)
	return c
}

// evidenceJSON is jurat.evidence/v1.
type evidenceJSON struct {
	Schema      string           `json:"schema"`
	Verified    bool             `json:"verified"` // always false: nothing was verified
	Bytes       int              `json:"bytes"`
	Digest      string           `json:"digest"`       // SHA-256 of the file
	ExtraData   evidence.Hash    `json:"extra_data"`   // what the quote must carry to be over this header
	QuoteDigest evidence.Hash    `json:"quote_digest"` // SHA-256 of the TPMS_ATTEST
	Attest      *attestJSON      `json:"attest"`       // null: the TPMS_ATTEST cannot be read
	BootLog     blobJSON         `json:"boot_log"`
	IMA         blobJSON         `json:"ima"`
	Bundle      *evidence.Bundle `json:"bundle"`
}

// blobJSON stands for bytes that are too many to print.
type blobJSON struct {
	Bytes  int    `json:"bytes"`
	Digest string `json:"digest,omitempty"`
	From   uint64 `json:"from,omitempty"`
}

func blob(data []byte) blobJSON {
	if len(data) == 0 {
		return blobJSON{}
	}
	return blobJSON{Bytes: len(data), Digest: digestText(data)}
}

func digestText(data []byte) string {
	return "sha-256:" + evidence.Hash(sha256.Sum256(data)).String()
}

func (a *app) evidenceShow(name string) error {
	data, err := a.readInput(name, evidence.MaxBundle)
	if err != nil {
		return err
	}
	b, err := evidence.Parse(data)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	out := &evidenceJSON{
		Schema: "jurat.evidence/v1", Bytes: len(data), Digest: digestText(data), ExtraData: evidence.HeaderDigest(b.RawHeader),
		QuoteDigest: sha256.Sum256(b.Quote.Attest), Attest: readAttest(b.Quote.Attest), BootLog: blob(b.BootLog), IMA: blob(b.IMA.Data), Bundle: b,
	}
	out.IMA.From = b.IMA.From
	return a.emit(out, func(p *term.Printer) { showBundle(p, out) })
}

// lastJSON is jurat.evidence-last/v1.
type lastJSON struct {
	Schema string `json:"schema"`
	File   string `json:"file"`
	Bytes  int    `json:"bytes"`
	Digest string `json:"digest"`
}

func (a *app) evidenceLast(ctx context.Context, file string) error {
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	data, err := a.agent().Bundle(ctx)
	if err != nil {
		return err
	}
	if file == "-" {
		_, err = a.out.Write(data)
		return err
	}
	if err := replaceFile(file, data); err != nil {
		return err
	}
	out := &lastJSON{"jurat.evidence-last/v1", file, len(data), digestText(data)}
	return a.emit(out, func(p *term.Printer) { p.Line("%s: %d bytes, %s", out.File, out.Bytes, out.Digest) })
}

// openRegular opens a file to be read.
func openRegular(name string) (*os.File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory", name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// replaceFile writes a file of mode 0600 as a whole: who opens it sees the old
// content or the new, never a part.
func replaceFile(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
