// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	brokerclient "github.com/jurat-dev/jurat/broker-client"
	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
)

// hostFile is jurat.host/v1: what evidence of a host is held against. It is
// what 'host export' writes and 'verify' reads.
type hostFile struct {
	Schema   string         `json:"schema"`
	Host     string         `json:"host"` // SPIFFE ID
	UEID     evidence.Bytes `json:"ueid"`
	AKPublic evidence.Bytes `json:"ak_public"` // TPMT_PUBLIC
	AKName   evidence.Bytes `json:"ak_name"`
	Level    string         `json:"level"`
	Maker    string         `json:"maker"`
	Last     *verify.State  `json:"last"`
	BootLog  string         `json:"boot_log"` // digest of the log in --boot-log; "": none
	IMA      *imaKept       `json:"ima"`
}

// imaKept is how far the host's IMA list was verified, and the files in it.
type imaKept struct {
	Position verify.IMAPosition `json:"position"`
	Files    []byte             `json:"files"` // SHA-256 digests, 32 bytes each
}

// hostExportJSON is jurat.host-export/v1.
type hostExportJSON struct {
	Schema  string    `json:"schema"`
	Host    string    `json:"host"`
	File    string    `json:"file"`
	Bytes   int       `json:"bytes"`
	BootLog *lastFile `json:"boot_log"` // null: none was asked for
}

type lastFile struct {
	File   string `json:"file"`
	Bytes  int    `json:"bytes"`
	Digest string `json:"digest"`
}

func (a *app) hostExportCommand() *cobra.Command {
	var file, log string
	c := &cobra.Command{
		Use:   "export NAME -o FILE",
		Short: "save what a host's next evidence is held against",
		Long: `Writes what the broker pinned when the host enrolled, and what it proved last, to
FILE: what 'jurat verify --host' needs to verify the host's next bundle without this
broker. Nothing in it is secret. A bundle that the broker took already is not newer
than what is exported afterwards: export first.`,
		Example: "  jurat host export h17 -o h17.json\n  jurat host export h17 -o h17.json --boot-log h17.bootlog",
		Args:    arguments("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			if file == "" {
				return usage(c, "-o FILE is missing")
			}
			return a.hostExport(c.Context(), args[0], file, log)
		},
	}
	c.Flags().StringVarP(&file, "output", "o", "", "`FILE` to write")
	c.Flags().StringVar(&log, "boot-log", "", "`FILE` to write the host's boot log to")
	return c
}

func (a *app) hostExport(ctx context.Context, name, file, log string) error {
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	path := "/v1/hosts/" + url.PathEscape(name)
	h := new(hostFile)
	if err := a.operator().Get(ctx, "exporting the host", path+"/export", h); err != nil {
		return err
	}
	if len(h.UEID) == 0 || len(h.AKPublic) == 0 {
		return &brokerclient.BadAnswer{Op: "exporting the host", Detail: "no key of the host"}
	}
	h.Schema = "jurat.host/v1"
	text, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return err
	}
	out := &hostExportJSON{Schema: "jurat.host-export/v1", Host: h.Host, File: file, Bytes: len(text) + 1}
	if log != "" {
		data, err := a.operator().Bytes(ctx, "reading the boot log", path+"/boot-log", evidence.MaxBootLog)
		if err != nil {
			return err
		}
		if digest := digestText(data); digest != "sha-256:"+h.BootLog {
			return &brokerclient.BadAnswer{Op: "reading the boot log", Detail: fmt.Sprintf("digest %s, want %s", digest, h.BootLog)}
		}
		if err := replaceFile(log, data); err != nil {
			return err
		}
		out.BootLog = &lastFile{log, len(data), digestText(data)}
	}
	if err := replaceFile(file, append(text, '\n')); err != nil {
		return err
	}
	return a.emit(out, func(p *term.Printer) {
		p.Line("%s: %s", out.File, out.Host)
		if out.BootLog != nil {
			p.Line("%s: %d bytes, %s", out.BootLog.File, out.BootLog.Bytes, out.BootLog.Digest)
		}
	})
}
