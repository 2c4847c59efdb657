// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package store

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/jurat-dev/jurat/evidence"
)

// MaxIMAFiles is how many files of one host's list are kept. What is beyond
// counts as not there.
const MaxIMAFiles = 1 << 19

// pieceFiles is up to how many files a piece of a list grows, so that many
// short tails do not become as many rows.
const pieceFiles = 512

// KeepBootLog makes the log with the digest the host's, in place of the one it
// had. log may be nil where the store has it; a zero digest is no log. A log that
// no host has any more is forgotten. It returns [ErrNotFound] for a log that is
// not there, and for a host that is not.
func (tx *Tx) KeepBootLog(host string, digest evidence.Hash, log []byte) error {
	before, err := tx.HostByID(host)
	if err != nil || before.BootLog == digest {
		return err
	}
	switch {
	case digest.IsZero():
	case log == nil:
		if _, err := tx.BootLog(digest); err != nil {
			return err
		}
	case len(log) > evidence.MaxBootLog:
		return fmt.Errorf("boot log of %d bytes, at most %d", len(log), evidence.MaxBootLog)
	case digest != sha256.Sum256(log):
		return errors.New("boot log has another digest")
	default:
		if _, err := tx.c.Exec(`INSERT INTO boot_log (digest, log) VALUES ($1, $2) ON CONFLICT DO NOTHING`, digest[:], log); err != nil {
			return err
		}
	}
	if err := moved(tx.c, ErrNotFound, `UPDATE host SET boot_log = $1 WHERE id = $2`, digest[:], host); err != nil {
		return err
	}
	return tx.leaveBootLog(before.BootLog)
}

// leaveBootLog forgets a log unless some host still has it.
func (tx *Tx) leaveBootLog(digest evidence.Hash) error {
	_, err := tx.c.Exec(`DELETE FROM boot_log WHERE digest = $1 AND NOT EXISTS (SELECT 1 FROM host h WHERE h.boot_log = boot_log.digest)`, digest[:])
	return err
}

// BootLog returns the boot event log with the digest.
func (r *Reader) BootLog(digest evidence.Hash) ([]byte, error) {
	var log []byte
	err := one(r.c, []any{&log}, `SELECT log FROM boot_log WHERE digest = $1`, digest[:])
	return log, err
}

// AddIMAFiles adds digests to those of the files in a host's list.
func (tx *Tx) AddIMAFiles(host string, files []evidence.Hash) error {
	if len(files) == 0 {
		return nil
	}
	var number uint64
	var last []byte
	err := one(tx.c, []any{counter{&number}, &last}, `SELECT number, files FROM ima_files WHERE host = $1 ORDER BY number DESC LIMIT 1`, host)
	switch {
	case errors.Is(err, ErrNotFound):
		last = nil
	case err != nil:
		return err
	case len(last)/sha256.Size+len(files) > pieceFiles:
		number, last = number+1, nil
	}
	piece := make([]byte, 0, len(last)+len(files)*sha256.Size)
	piece = append(piece, last...)
	for i := range files {
		piece = append(piece, files[i][:]...)
	}
	_, err = tx.c.Exec(`INSERT INTO ima_files (host, number, files) VALUES ($1, $2, $3)
		ON CONFLICT (host, number) DO UPDATE SET files = excluded.files`, host, count(number), piece)
	return err
}

// ForgetIMAFiles forgets the files of a host's list: it begins anew.
func (tx *Tx) ForgetIMAFiles(host string) error {
	_, err := tx.c.Exec(`DELETE FROM ima_files WHERE host = $1`, host)
	return err
}

// IMAFiles returns the digests of the files in a host's list, in their order.
func (r *Reader) IMAFiles(host string) ([]evidence.Hash, error) {
	pieces, err := all(r.c, func(scan func(...any) error) (piece []byte, err error) {
		return piece, scan(&piece)
	}, `SELECT files FROM ima_files WHERE host = $1 ORDER BY number`, host)
	if err != nil {
		return nil, err
	}
	var out []evidence.Hash
	for _, piece := range pieces {
		if len(piece)%sha256.Size != 0 {
			return nil, fmt.Errorf("list of host %s: piece of %d bytes", host, len(piece))
		}
		for ; len(piece) > 0; piece = piece[sha256.Size:] {
			out = append(out, evidence.Hash(piece[:sha256.Size]))
		}
	}
	return out, nil
}

// checkKept wants each host's boot log to be there, each log to be some
// host's and to have its digest, and each list to be of a host.
func (r *Reader) checkKept() error {
	noLog := []any{make([]byte, sha256.Size)}
	for _, c := range []struct {
		what, query string
		args        []any
	}{
		{"hosts whose boot log is missing", `SELECT COUNT(*) FROM host h WHERE h.boot_log <> $1 AND NOT EXISTS (SELECT 1 FROM boot_log b WHERE b.digest = h.boot_log)`, noLog},
		{"boot logs of no host", `SELECT COUNT(*) FROM boot_log b WHERE b.digest = $1 OR NOT EXISTS (SELECT 1 FROM host h WHERE h.boot_log = b.digest)`, noLog},
		{"IMA lists of no host", `SELECT COUNT(*) FROM ima_files f WHERE NOT EXISTS (SELECT 1 FROM host h WHERE h.id = f.host)`, nil},
	} {
		var n uint64
		if err := one(r.c, []any{counter{&n}}, c.query, c.args...); err != nil {
			return err
		}
		if n > 0 {
			return fmt.Errorf("%d %s", n, c.what)
		}
	}
	_, err := all(r.c, func(scan func(...any) error) (struct{}, error) {
		var want evidence.Hash
		var log []byte
		if err := scan(digest{&want}, &log); err != nil {
			return struct{}{}, err
		}
		if want != sha256.Sum256(log) {
			return struct{}{}, fmt.Errorf("boot log %s has another digest", want)
		}
		return struct{}{}, nil
	}, `SELECT digest, log FROM boot_log`)
	return err
}
