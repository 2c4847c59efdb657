// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package testbundle

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"

	"github.com/jurat-dev/jurat/evidence"
)

// IMA is a kernel's list of measured files, and how much of it is where.
type IMA struct {
	Entries   [][]byte // as the kernel lists them
	From      int      // entries the broker has
	Committed int      // entries the checkpoint is about
	Counted   int      // entries the header is about
	Quoted    int      // entries that PCR 10 of the quote is about
	Sent      int      // entries in the bundle, those of the broker included
	More      bool
	Fixed     *evidence.Hash // PCR 10, if it is not what the first Quoted entries make
}

// FilesListed is a list that begins with the aggregate of these PCRs and then
// has these files.
func FilesListed(pcrs *[24]evidence.Hash, paths ...string) *IMA {
	aggregate := sha256.New()
	for _, pcr := range pcrs[:10] {
		aggregate.Write(pcr[:])
	}
	l := &IMA{Entries: [][]byte{imaEntry(aggregate.Sum(nil), "boot_aggregate")}}
	for _, path := range paths {
		l.Entries = append(l.Entries, imaEntry(Digest(path).Value, path))
	}
	return l.Upto(len(l.Entries))
}

// Upto makes the list be about its first n entries everywhere.
func (l *IMA) Upto(n int) *IMA {
	l.Committed, l.Counted, l.Quoted, l.Sent = n, n, n, n
	return l
}

// imaEntry is one entry of template ima-ng (kernel: Documentation/security/IMA-templates.rst).
func imaEntry(digest []byte, path string) []byte {
	field := func(b []byte) []byte { return append(binary.LittleEndian.AppendUint32(nil, uint32(len(b))), b...) }
	data := append(field(append([]byte("sha256:\x00"), digest...)), field([]byte(path+"\x00"))...)
	hash := sha1.Sum(data)
	return imaRaw(10, hash[:], data)
}

func imaRaw(pcr uint32, hash, data []byte) []byte {
	e := append(binary.LittleEndian.AppendUint32(nil, pcr), hash...)
	e = append(binary.LittleEndian.AppendUint32(e, 6), "ima-ng"...)
	return append(binary.LittleEndian.AppendUint32(e, uint32(len(data))), data...)
}

// Violate makes entry i a violation: no digest, and PCR 10 gets all ones.
func (l *IMA) Violate(i int) { copy(l.Entries[i][4:24], make([]byte, 20)) }

// OtherPCR makes entry i one of another PCR.
func (l *IMA) OtherPCR(i int) { l.Entries[i][0] = 11 }

// pcr is PCR 10 after the first n entries.
func (l *IMA) pcr(n int) (value evidence.Hash) {
	for _, e := range l.Entries[:n] {
		if e[0] != 10 {
			continue
		}
		digest := sha256.Sum256(e[38:]) // behind PCR, SHA-1, "ima-ng" and the two lengths
		if bytes.Equal(e[4:24], make([]byte, 20)) {
			digest = [32]byte(bytes.Repeat([]byte{0xff}, 32))
		}
		value = sha256.Sum256(append(value[:], digest[:]...))
	}
	return value
}

func (l *IMA) quoted() evidence.Hash {
	if l.Fixed != nil {
		return *l.Fixed
	}
	return l.pcr(l.Quoted)
}

// PCR is the value of PCR 10 after n entries.
func (l *IMA) PCR(n int) evidence.Hash { return l.pcr(n) }

func (l *IMA) digest(from, to int) evidence.Value[evidence.Hash] {
	return evidence.Known(evidence.Hash(sha256.Sum256(bytes.Join(l.Entries[from:to], nil))))
}

func (l *IMA) committed() (uint64, evidence.Value[evidence.Hash]) {
	return uint64(l.Committed), l.digest(0, l.Committed)
}

func (l *IMA) tail() (evidence.IMATail, uint64, evidence.Value[evidence.Hash]) {
	tail := evidence.IMATail{From: uint64(l.From), Data: bytes.Join(l.Entries[l.From:l.Sent], nil), More: l.More}
	return tail, uint64(l.Counted), l.digest(l.From, l.Counted)
}
