// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"bytes"
	"time"

	"github.com/jurat-dev/jurat/evidence"
)

// How an endorsement key came to be trusted, weakest first.
const (
	LevelPin     = "ek-pin"        // an operator pinned the hash of the EK
	LevelCloudAK = "cloud-ak-cert" // a cloud provider certified the AK
	LevelCert    = "ek-cert"       // the EK certificate chains to a TPM vendor
)

// Host is what the broker pinned at enrolment, and what it saw last. Nothing
// in it is ever taken from a bundle.
type Host struct {
	UEID     []byte   // spec/evidence.md section 2
	AKPublic []byte   // TPMT_PUBLIC that [CheckAK] accepted
	AKName   []byte   // its TPM2B_NAME, without the size
	Level    string   // LevelPin, LevelCloudAK or LevelCert
	Maker    string   // TCG vendor id of its TPM, such as "IFX"; "": not known
	Last     *State   // nil at first contact
	Boot     *Boot    // the log whose digest is Last.BootLog, if it was kept
	IMA      *IMAList // as it was kept; nil: it has to be sent from its beginning

	key *attestationKey // parsed from AKPublic; nil: parse at each use
}

// NewHost returns a host whose attestation key is checked and parsed once, for
// brokers that verify many of its bundles. A Host may also be written as a
// literal; then each [Bundle] checks and parses the key anew.
func NewHost(ueid, akPublic, akName []byte, level string) (Host, error) {
	h := Host{UEID: bytes.Clone(ueid), AKPublic: bytes.Clone(akPublic), AKName: bytes.Clone(akName), Level: level}
	key, rejection := h.attestationKey()
	if rejection == nil {
		rejection = h.check()
	}
	if rejection != nil {
		return Host{}, rejection
	}
	h.key = key
	return h, nil
}

// attestationKey returns the parsed key. A key parsed earlier counts only
// while it is the one that is pinned.
func (h *Host) attestationKey() (*attestationKey, *Rejection) {
	key := h.key
	if key == nil || !bytes.Equal(key.public, h.AKPublic) {
		var rejection *Rejection
		if key, rejection = parseAK(h.AKPublic); rejection != nil {
			return nil, rejection
		}
	}
	if !bytes.Equal(h.AKName, key.name) {
		return nil, reject(codeAKName, "host AK name", hexOf(key.name), hexOf(h.AKName))
	}
	return key, nil
}

func (h *Host) check() *Rejection {
	if len(h.UEID) != 33 || h.UEID[0] != 1 {
		return reject(codeHost, "host UEID", "33 bytes beginning with 01", hexOf(h.UEID))
	}
	if levelRank(h.Level) == 0 {
		return reject(codeHost, "host level", "ek-pin, cloud-ak-cert or ek-cert", quoted(h.Level))
	}
	return nil
}

// State is what a broker remembers of a host's last accepted bundle. It is
// plain data, meant to be stored as JSON beside the decision it belongs to.
type State struct {
	Epoch        uint64         `json:"epoch"`
	Sequence     uint64         `json:"sequence"`
	Number       uint64         `json:"number"` // of the checkpoint
	Size         uint64         `json:"size"`   // of the log
	Root         evidence.Hash  `json:"root"`
	Checkpoint   evidence.Hash  `json:"checkpoint"`
	Quote        evidence.Hash  `json:"quote"` // SHA-256 of the TPMS_ATTEST
	Start        evidence.Hash  `json:"start"` // leaf of the entry that opened the epoch
	Lost         uint64         `json:"lost"`
	Taints       uint64         `json:"taints"`
	BootID       evidence.Bytes `json:"boot_id"`
	BootLog      evidence.Hash  `json:"boot_log"` // zero: none seen
	ResetCount   uint32         `json:"reset_count"`
	RestartCount uint32         `json:"restart_count"`
	Clock        uint64         `json:"clock_ms"`
	Firmware     uint64         `json:"firmware"`
	Banks        []uint16       `json:"banks"`              // active PCR banks, TPM_ALG_ID
	Register     *RegisterState `json:"register,omitempty"` // nil: the log is in none
	EpochSince   time.Time      `json:"epoch_since"`        // when the broker first saw the epoch
	ResetSince   time.Time      `json:"reset_since"`        // when it first saw ResetCount
}

// RegisterState is where a host's register was when its last bundle was
// accepted.
type RegisterState struct {
	Name  evidence.Bytes `json:"name"`
	Size  uint64         `json:"size"` // checkpoints in it
	Value evidence.Hash  `json:"value"`
	Tip   evidence.Hash  `json:"tip"` // digest of the last of them
}

// Challenge is what the broker asked this host, and until when it may answer.
// The broker's clock decides alone.
type Challenge struct {
	Broker  string // issuer URL, as it stands in each request
	Nonce   []byte
	Expires time.Time
}

func (c *Challenge) check() *Rejection {
	if c.Broker == "" {
		return reject(codeChallenge, "challenge broker", "an issuer URL", "nothing")
	}
	if len(c.Nonce) < minChallenge || len(c.Nonce) > evidence.MaxNonce {
		return reject(codeChallenge, "challenge nonce", number(minChallenge)+" to "+number(evidence.MaxNonce)+" bytes", number(len(c.Nonce))+" bytes")
	}
	return nil
}
