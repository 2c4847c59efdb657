// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// MaxRecord is how many bytes one record of a userspace log may have.
const MaxRecord = 64 << 10

// Userspace is what an operating system says it measured after the firmware:
// /run/log/systemd/tpm2-measure.log.
type Userspace struct {
	Records []Record
	// Torn is the number of bytes of a last record that is not whole: its writer
	// was interrupted, and the PCR may have been extended or not.
	Torn int
}

// Record is one measurement that systemd wrote down, in the form of the TCG's
// Canonical Event Log in JSON. As with firmware, only PCR and digest count.
type Record struct {
	Number int // from 0
	Offset int // byte of the log at which it begins
	PCR    int // -1: not into a PCR
	// NVIndex and NVName name a register of systemd's own (NvPCR); 0 and empty
	// for a PCR.
	NVIndex uint32
	NVName  string
	// Kind is systemd's word for what was measured: "phase", "filesystem",
	// "volume-key", "machine-id", "product-id", "keyslot", "nvpcr-init",
	// "nvpcr-separator", "dm-verity", "os-separator", "login", or one that is
	// not known here; empty where there is none.
	Kind string
	// Text is what was measured, cleaned; of a volume key it is the name.
	Text   string
	BootID string // 32 hexadecimal digits
	At     uint64 // microseconds since boot, systemd's word

	digests []algorithmDigest
	covered bool
}

type algorithmDigest struct {
	algorithm Algorithm
	digest    []byte
}

// recordJSON is a record on the disk.
type recordJSON struct {
	PCR     *uint64 `json:"pcr"`
	NVIndex *uint32 `json:"nv_index"`
	RTMR    *uint32 `json:"rtmr"` // not of a TPM
	Digests []struct {
		Algorithm string `json:"hashAlg"`
		Digest    string `json:"digest"`
	} `json:"digests"`
	ContentType string `json:"content_type"`
	Content     struct {
		Kind   string `json:"eventType"`
		Text   string `json:"string"`
		BootID string `json:"bootId"`
		NVName string `json:"nvIndexName"`
		At     uint64 `json:"timestamp"`
	} `json:"content"`
}

const recordSeparator = 0x1e // RFC 7464

// ParseUserspace reads systemd's log: records of JSON, each after a record
// separator (RFC 7464). A last record without its end of line that is not whole
// is left out, see [Userspace.Torn]; anything else that is not a record is an
// *[Error]. An empty log has no records, as on a machine where systemd measures
// nothing.
func ParseUserspace(raw []byte) (*Userspace, error) {
	if len(raw) > MaxLog {
		return nil, &Error{CodeTooLarge, -1, 0, fmt.Sprintf("%d bytes, at most %d", len(raw), MaxLog)}
	}
	u := new(Userspace)
	for at := 0; at < len(raw); {
		refuse := func(code Code, format string, args ...any) error {
			return &Error{code, len(u.Records), at, fmt.Sprintf(format, args...)}
		}
		if raw[at] != recordSeparator {
			return nil, refuse(CodeRecord, "byte 0x%02x, want a record separator", raw[at])
		}
		body := raw[at+1:]
		next := bytes.IndexByte(body, recordSeparator)
		if next >= 0 {
			body = body[:next]
		}
		switch {
		case len(u.Records) == MaxEvents:
			return nil, refuse(CodeTooLarge, "more than %d records", MaxEvents)
		case len(body) > MaxRecord:
			return nil, refuse(CodeTooLarge, "%d bytes, at most %d", len(body), MaxRecord)
		}
		r := Record{Number: len(u.Records), Offset: at, PCR: -1}
		if detail := r.read(body); detail != "" {
			if next < 0 && !bytes.HasSuffix(body, []byte("\n")) && !json.Valid(body) {
				u.Torn = len(body) + 1
				return u, nil
			}
			return nil, refuse(CodeRecord, "%s", detail)
		}
		u.Records = append(u.Records, r)
		at += 1 + len(body)
	}
	return u, nil
}

// read reads one record, and says what is wrong with it.
func (r *Record) read(body []byte) string {
	var j recordJSON
	if err := json.Unmarshal(body, &j); err != nil {
		return clean(err.Error())
	}
	switch {
	case j.PCR == nil && j.NVIndex == nil && j.RTMR == nil:
		return "neither a PCR nor an NV index"
	case j.PCR != nil && j.NVIndex != nil:
		return "a PCR and an NV index"
	case j.PCR != nil && *j.PCR >= numPCRs:
		return fmt.Sprintf("PCR %d", *j.PCR)
	case len(j.Digests) == 0 || len(j.Digests) > MaxAlgorithms:
		return plural(len(j.Digests), "digest", "digests")
	}
	if j.PCR != nil {
		r.PCR = int(*j.PCR)
	}
	if j.NVIndex != nil {
		r.NVIndex = *j.NVIndex
	}
	c := j.Content
	r.Kind, r.Text, r.BootID, r.NVName, r.At = clean(c.Kind), clean(c.Text), clean(c.BootID), clean(c.NVName), c.At
	r.covered = true
	for _, d := range j.Digests {
		algorithm, ok := parseAlgorithm(d.Algorithm)
		if !ok {
			continue // as systemd itself does
		}
		digest, err := hex.DecodeString(d.Digest)
		if err != nil || len(digest) != algorithm.Size() {
			return fmt.Sprintf("the digest of %v is not %d bytes in hexadecimal", algorithm, algorithm.Size())
		}
		if _, twice := r.Digest(algorithm); twice {
			return fmt.Sprintf("two digests of %v", algorithm)
		}
		r.digests = append(r.digests, algorithmDigest{algorithm, digest})
		r.covered = r.covered && algorithm.is(digest, []byte(c.Text))
	}
	r.covered = r.covered && len(r.digests) > 0
	return ""
}

// Digest returns the digest in a bank, and whether there is one.
func (r *Record) Digest(a Algorithm) ([]byte, bool) {
	for _, d := range r.digests {
		if d.algorithm == a {
			return d.digest, true
		}
	}
	return nil, false
}

// Covered reports whether the digests are those of the text as the log has it.
// Those of a volume key are not: it is an HMAC with the key.
func (r *Record) Covered() bool { return r.covered }

var kindNames = map[string]string{
	"phase": "boot phase", "filesystem": "file system", "volume-key": "key of the encrypted volume", "machine-id": "machine id",
	"product-id": "product id", "keyslot": "unlocked by", "nvpcr-init": "NvPCR made", "nvpcr-separator": "NvPCRs closed", "dm-verity": "dm-verity image",
	"os-separator": "the operating system takes over", "login": "login", "imds-userdata": "data from the cloud",
}

// Describe says in one line of words what was measured.
func (r *Record) Describe() string {
	name, ok := kindNames[r.Kind]
	if !ok {
		name = "measurement"
		if r.Kind != "" {
			name += " of kind " + r.Kind
		}
	}
	if r.Text != "" {
		name += ": \"" + r.Text + "\""
	}
	return clean(name)
}

// Measurements returns what was extended into PCRs of a bank, in order. What
// went into an NV index is not among it.
func (u *Userspace) Measurements(a Algorithm) []Measurement {
	var out []Measurement
	for i := range u.Records {
		r := &u.Records[i]
		if digest, ok := r.Digest(a); ok && r.PCR >= 0 {
			out = append(out, Measurement{r.PCR, digest})
		}
	}
	return out
}

// Replay continues the replay of a firmware log, in the bank of start.
func (u *Userspace) Replay(start Values) Values {
	return start.Extend(u.Measurements(start.algorithm)...)
}
