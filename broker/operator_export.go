// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"net/http"

	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
)

// hostExport is what evidence of a host is held against: what was pinned when
// it enrolled, and what it proved last. Whoever has it verifies the host's next
// bundle without this broker.
type hostExport struct {
	Host     string         `json:"host"`
	UEID     evidence.Bytes `json:"ueid"`
	AKPublic evidence.Bytes `json:"ak_public"`
	AKName   evidence.Bytes `json:"ak_name"`
	Level    string         `json:"level"`
	Maker    string         `json:"maker"`
	Last     *verify.State  `json:"last"`     // null: nothing was proved yet
	BootLog  string         `json:"boot_log"` // digest of the log that is kept, see boot-log; "": none
	IMA      *listExport    `json:"ima"`      // null: no list is kept
}

type listExport struct {
	Position verify.IMAPosition `json:"position"`
	Files    []byte             `json:"files"` // SHA-256 digests, 32 bytes each
}

func (b *Broker) getHostExport(w http.ResponseWriter, r *http.Request) *oauth.Error {
	var out hostExport
	err := b.store.View(r.Context(), func(s *store.Reader) error {
		host, err := s.HostByName(r.PathValue("name"))
		if err != nil {
			return err
		}
		out = hostExport{Host: host.ID, UEID: host.UEID, AKPublic: host.AKPublic, AKName: host.AKName, Level: host.Level, Maker: host.Maker}
		if !host.BootLog.IsZero() {
			out.BootLog = host.BootLog.String()
		}
		last, err := remembered(&host)
		if err != nil || last == nil {
			return err
		}
		out.Last = &last.State
		if last.IMA == nil {
			return nil
		}
		files, err := s.IMAFiles(host.ID)
		out.IMA = &listExport{Position: *last.IMA}
		for i := range files {
			out.IMA.Files = append(out.IMA.Files, files[i][:]...)
		}
		return err
	})
	if err != nil {
		return b.found("exporting a host", err)
	}
	oauth.WriteJSON(w, http.StatusOK, out)
	return nil
}

// getHostBootLog returns the bytes of the boot log that is kept of a host.
func (b *Broker) getHostBootLog(w http.ResponseWriter, r *http.Request) *oauth.Error {
	var log []byte
	err := b.store.View(r.Context(), func(s *store.Reader) error {
		host, err := s.HostByName(r.PathValue("name"))
		if err == nil {
			log, err = s.BootLog(host.BootLog)
		}
		return err
	})
	if err != nil {
		return b.found("reading a boot log", err)
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/octet-stream")
	if _, err := w.Write(log); err != nil {
		b.Log.Debug("writing a boot log", "err", err)
	}
	return nil
}
