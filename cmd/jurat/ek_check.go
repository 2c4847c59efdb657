// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/ek"
	"github.com/jurat-dev/jurat/verify"
)

// maxEKFile bounds a file with certificates or a key.
const maxEKFile = 1 << 20

func (a *app) ekCheckCommand() *cobra.Command {
	var m makers
	var chain []string
	var public, at string
	c := &cobra.Command{
		Use:   "check CERT",
		Short: "say whether a TPM's certificate is believed, and why not",
		Long: `Reads an EK certificate, PEM or DER or as it lies in the TPM's NV memory, and
looks at it as jurat-broker does when a host enrols: profile, key, path to a
maker's root, the operator's rules. CERT - is standard input. Neither root nor
a broker is needed, and nothing is fetched.

--public is the TPM's key, which must be the certified one: a TPMT_PUBLIC or
TPM2B_PUBLIC, as tpm2_readpublic writes it, or PEM. A certificate with which a
cloud provider certifies an attestation key is recognised by its key usage.

The exit code is 0 when the certificate is believed, 1 when it is not.`,
		Example: "  tpm2_nvread 0x1c00002 | jurat ek check -\n  jurat ek check ek.der --chain issuer.pem --roots /etc/jurat/ek-roots",
		Args:    arguments("CERT"),
		RunE: func(c *cobra.Command, args []string) error {
			when := a.now()
			if at != "" {
				var err error
				if when, err = time.Parse(time.RFC3339, at); err != nil {
					return usage(c, "--at %q, want a time such as 2026-11-23T15:00:00Z", at)
				}
			}
			authorities, err := m.open(c)
			if err != nil {
				return err
			}
			q, err := a.ekQuestion(args[0], chain, public)
			if err != nil {
				return err
			}
			return a.ekCheck(authorities, q, when)
		},
	}
	c.Flags().StringArrayVar(&chain, "chain", nil, "`FILE` of intermediates, as a host sends them: hints, not believed by themselves")
	c.Flags().StringVar(&public, "public", "", "`FILE` with the key in the TPM")
	c.Flags().StringVar(&at, "at", "", "`TIME` to judge for (default: now)")
	m.flags(c.Flags())
	return c
}

// ekQuestion is what was given to be judged.
type ekQuestion struct {
	chain  [][]byte // the certificate first
	public []byte   // TPMT_PUBLIC, or nil
	spki   []byte   // the key in the TPM, or nil
}

func (a *app) ekQuestion(cert string, chain []string, public string) (*ekQuestion, error) {
	q := new(ekQuestion)
	for _, name := range append([]string{cert}, chain...) {
		data, err := a.readInput(name, maxEKFile)
		if err != nil {
			return nil, err
		}
		q.chain = append(q.chain, certificatesIn(data)...)
	}
	if public == "" {
		return q, nil
	}
	data, err := a.readInput(public, maxEKFile)
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(data); block != nil {
		if _, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil {
			return nil, malformedInput(public, err)
		}
		q.spki = block.Bytes
		return q, nil
	}
	// A TPM2B_PUBLIC is a TPMT_PUBLIC behind its size.
	if len(data) > 2 && int(data[0])<<8|int(data[1]) == len(data)-2 {
		data = data[2:]
	}
	q.public = data
	if q.spki, err = ek.PublicSPKI(data); err != nil {
		return nil, malformedInput(public, err)
	}
	return q, nil
}

// certificatesIn takes PEM apart. Anything else is one certificate.
func certificatesIn(data []byte) (out [][]byte) {
	if !bytes.Contains(data, []byte("-----BEGIN ")) {
		return [][]byte{data}
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			out = append(out, block.Bytes)
		}
	}
	return out
}

// ekCheckJSON is jurat.ek-check/v1.
type ekCheckJSON struct {
	Schema       string           `json:"schema"`
	OK           bool             `json:"ok"`
	Code         string           `json:"code"`  // of the first finding, or ""
	Level        string           `json:"level"` // "ek-cert", "cloud-ak-cert" or ""
	At           time.Time        `json:"at"`
	Manufacturer *ekMakerJSON     `json:"manufacturer"`
	Model        string           `json:"model"`
	Version      string           `json:"version"`
	Firmware     string           `json:"firmware"` // version, as makers write it
	Subject      string           `json:"subject"`
	Issuer       string           `json:"issuer"`
	IssuerURL    string           `json:"issuer_url"` // where the issuer's certificate is said to be; nothing is fetched
	Serial       string           `json:"serial"`
	Key          string           `json:"key"`
	ROCA         bool             `json:"roca"`
	SPKI         string           `json:"spki_sha256"`
	Digest       string           `json:"digest"`
	NotBefore    *time.Time       `json:"not_before"`
	NotAfter     *time.Time       `json:"not_after"`
	Authority    *ekAuthorityJSON `json:"authority"` // the installed one it is, or null
	Chain        []ekLinkJSON     `json:"chain"`
	Findings     []ekFindingJSON  `json:"findings"`
	Notes        []string         `json:"notes"`
}

type ekMakerJSON struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

type ekLinkJSON struct {
	Subject  string    `json:"subject"`
	Vendor   string    `json:"vendor"` // folder, or "" of what came along
	Origin   string    `json:"origin"` // "host", "shipped" or "operator"
	NotAfter time.Time `json:"not_after"`
	Digest   string    `json:"digest"`

	name string
}

type ekFindingJSON struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

func (a *app) ekCheck(authorities *ek.Authorities, q *ekQuestion, at time.Time) error {
	v, level := authorities.Examine(q.chain, q.spki, at), verify.LevelCert
	if v.Leaf != nil && v.Leaf.ForSigning() {
		v, level = authorities.ExamineAK(q.chain, q.spki, at), verify.LevelCloudAK
	}
	out := &ekCheckJSON{Schema: "jurat.ek-check/v1", OK: v.OK(), At: at.UTC().Truncate(time.Second), Chain: []ekLinkJSON{}, Findings: []ekFindingJSON{}, Notes: []string{}}
	if out.OK {
		out.Level = level
		if level == verify.LevelCloudAK && q.public != nil {
			if err := authorities.CheckCloudAK(q.public, q.chain, at); err != nil {
				out.OK, out.Level = false, ""
				v.Findings = append(v.Findings, asEK(err))
			}
		}
	}
	for _, f := range v.Findings {
		out.Findings = append(out.Findings, ekFindingJSON{string(f.Code), f.Text})
	}
	if len(out.Findings) > 0 {
		out.Code = out.Findings[0].Code
	}
	if v.Leaf != nil {
		out.describe(v.Leaf)
		if one := authorities.Find(v.Leaf.Certificate); one != nil {
			found := makerJSON(one, at)
			out.Authority = &found
		}
	}
	for _, l := range v.Path {
		sum := sha256.Sum256(l.Certificate.Raw)
		out.Chain = append(out.Chain, ekLinkJSON{Subject: term.Clean(l.Certificate.Subject.String()), Vendor: l.Vendor, Origin: l.Origin,
			NotAfter: l.Certificate.NotAfter.UTC(), Digest: fmt.Sprintf("sha-256:%x", sum), name: shortName(l.Certificate.Subject.CommonName, cmp.Or(l.Certificate.Subject.String(), "(without a subject)"))})
	}
	if err := a.emit(out, func(p *term.Printer) { showEK(p, out) }); err != nil {
		return err
	}
	if !out.OK {
		return &failure{exit: exitNo} // said above
	}
	return nil
}

func asEK(err error) *ek.Error {
	var said *ek.Error
	if !errors.As(err, &said) {
		said = &ek.Error{Code: ek.CodeAK, Text: err.Error()}
	}
	return said
}

// describe fills in what the certificate says.
func (out *ekCheckJSON) describe(c *ek.Certificate) {
	if c.TPM.Named {
		out.Manufacturer = &ekMakerJSON{c.TPM.Manufacturer.ID(), c.TPM.Manufacturer.Name()}
		out.Model, out.Version = term.Clean(c.TPM.Model), term.Clean(c.TPM.Version)
		if c.TPM.Readable {
			out.Firmware = c.TPM.Firmware.String()
		}
	}
	out.Subject, out.Issuer, out.Serial = term.Clean(c.Subject.String()), term.Clean(c.Issuer.String()), c.SerialNumber.Text(16)
	out.Key, out.ROCA, out.SPKI, out.Digest = c.KeyKind(), c.HasROCA(), c.Pin.String(), digestText(c.Raw)
	from, until := c.NotBefore.UTC(), c.NotAfter.UTC()
	out.NotBefore, out.NotAfter = &from, &until
	if len(c.IssuingCertificateURL) > 0 {
		out.IssuerURL = term.Clean(c.IssuingCertificateURL[0])
	}
	out.Notes = orEmpty(c.Notes)
}

func showEK(p *term.Printer, out *ekCheckJSON) {
	switch {
	case out.OK:
		p.Styled(term.Green, "BELIEVED, level %s", out.Level)
	case out.Authority != nil:
		p.Styled(term.Red, "NOT BELIEVED, %s", out.Code)
		p.Line("  It is the %s %s of %s that is installed (%s), no TPM's certificate.", out.Authority.Origin, out.Authority.Role, out.Authority.Vendor, out.Authority.name)
	default:
		p.Styled(term.Red, "NOT BELIEVED, %s", out.Code)
	}
	for _, f := range out.Findings {
		p.Line("  %s: %s", f.Code, f.Text)
	}
	if out.Code == string(ek.CodeChain) && len(out.Issuer) > 0 {
		p.Line("  Is the issuer's certificate missing? --chain adds it as a host would, --roots as an operator.")
	}
	if out.Key == "" {
		return
	}
	p.Blank()
	maker, firmware, roca := "", out.Version, "no"
	if out.Manufacturer != nil {
		maker = out.Manufacturer.ID
		if out.Manufacturer.Name != "" {
			maker = out.Manufacturer.Name + ", " + maker
		}
	}
	if out.Firmware != "" {
		firmware = out.Version + ", that is " + out.Firmware + ", as it left the factory"
	}
	style := term.Plain
	if out.ROCA {
		roca, style = "yes: the private key can be computed (CVE-2017-15361)", term.Red
	}
	fields := []term.Field{
		{Label: "manufacturer", Value: maker}, {Label: "model", Value: out.Model}, {Label: "firmware", Value: firmware},
		{Label: "key", Value: out.Key}, {Label: "ROCA", Value: roca, Style: style}, {Label: "key SHA-256", Value: out.SPKI},
		{Label: "subject", Value: out.Subject}, {Label: "issuer", Value: out.Issuer}, {Label: "", Value: out.IssuerURL}, {Label: "serial", Value: out.Serial},
		{Label: "valid", Value: out.NotBefore.Format(time.RFC3339) + " to " + out.NotAfter.Format(time.RFC3339)},
	}
	for _, n := range out.Notes {
		fields = append(fields, term.Field{Label: "note", Value: n})
	}
	p.Fields("  ", fields...)
	if len(out.Chain) == 0 {
		return
	}
	p.Blank()
	rows := make([][]term.Cell, 0, len(out.Chain))
	for _, l := range out.Chain {
		from := l.Origin
		if l.Vendor != "" {
			from += ", " + l.Vendor
		}
		rows = append(rows, []term.Cell{{Text: from}, {Text: l.NotAfter.Format(time.DateOnly)}, {Text: l.name}})
	}
	p.Table("  ", []string{"FROM", "UNTIL", "PATH"}, rows)
}
