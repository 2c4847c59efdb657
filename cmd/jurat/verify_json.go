// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"time"

	"github.com/jurat-dev/jurat/eventlog"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
)

// verifyJSON is jurat.verify/v1.
type verifyJSON struct {
	Schema    string             `json:"schema"`
	OK        bool               `json:"ok"`      // genuine, and affirmed where references were given
	Genuine   bool               `json:"genuine"` // it is this host's answer to this challenge
	Bytes     int                `json:"bytes"`
	Digest    string             `json:"digest"`
	At        time.Time          `json:"at"`
	Expected  string             `json:"expected,omitempty"` // of a vector: ok, the code that must be the answer, or the first check that must say no
	Rejection *verify.Rejection  `json:"rejection"`          // null: genuine
	Stations  []stepJSON         `json:"stations"`
	Host      *provedHost        `json:"host"` // null, as all that follows, unless genuine
	PCRs      []verify.Explained `json:"pcrs"`
	Boot      *provedBoot        `json:"boot"` // null: the host has no log
	IMA       *provedIMA         `json:"ima"`  // null: the host has no list
	Requests  []provedRequest    `json:"requests"`
	Next      *verify.State      `json:"next"` // to be remembered of the host
}

// stepJSON is a group of checks, in the order in which they are made.
type stepJSON struct {
	Station string `json:"station"`
	State   string `json:"state"` // "passed", "failed" or "not asked"
}

type provedHost struct {
	UEID     string `json:"ueid"`
	Level    string `json:"level"`
	Maker    string `json:"maker"`
	Tier     string `json:"tier"`
	Anchor   string `json:"anchor"`
	Firmware string `json:"firmware"`
	SkewMS   int64  `json:"skew_ms"` // of the host's clock; it decided nothing
	// Signals are what the host's sensor sees, and what it cannot see and why.
	Signals []evidence.Signal `json:"signals"`
}

type provedBoot struct {
	Digest           string             `json:"digest"`
	SecureBoot       string             `json:"secure_boot"`
	SecureBootReason string             `json:"secure_boot_reason"`
	CommandLines     []string           `json:"command_lines"`
	Findings         []eventlog.Finding `json:"findings"`
}

func provedBootOf(b *verify.Boot) *provedBoot {
	if b == nil {
		return nil
	}
	facts := b.Facts()
	return &provedBoot{Digest: "sha-256:" + b.Digest().String(), SecureBoot: string(facts.SecureBoot), SecureBootReason: facts.Reason,
		CommandLines: orEmpty(facts.CommandLines), Findings: orEmpty(facts.Findings)}
}

type provedIMA struct {
	Entries uint64 `json:"entries"`
	New     int    `json:"new_files"`
}

type provedRequest struct {
	Index        uint64         `json:"index"`
	D            string         `json:"d"`
	Audience     string         `json:"audience"`
	Actions      []string       `json:"actions"`
	Datatypes    []string       `json:"datatypes"`
	Confirm      string         `json:"confirm"`
	Key          string         `json:"key"`
	Process      string         `json:"process"`
	Exe          string         `json:"exe"`
	ExeDigest    string         `json:"exe_digest"`
	Script       string         `json:"script"`    // path and digest, or why not known; empty: none
	Code         string         `json:"code_root"` // of the manifest, or why not known
	CodeFiles    uint64         `json:"code_files"`
	Models       []namedFile    `json:"models"`
	ModelsState  string         `json:"models_unknown,omitempty"` // why the list is not known or not to be believed
	Inputs       []namedFile    `json:"inputs"`
	InputsState  string         `json:"inputs_unknown,omitempty"`
	Before       evidence.State `json:"before"`  // the look under the quote
	After        evidence.State `json:"after"`   // the look behind it
	Unclean      []string       `json:"unclean"` // what both looks show that is not as it should be, in words
	WindowNS     int64          `json:"window_ns"`
	IMAKnown     bool           `json:"ima_known"`
	IMAConfirmed int            `json:"ima_confirmed"`
	IMAMissing   []namedFile    `json:"ima_missing"`
	Affirmed     *bool          `json:"affirmed"` // null: no references were given
	Checks       []verify.Check `json:"checks"`
}

// namedFile is a file and its digest, in words where it is not known.
type namedFile struct {
	Path   string `json:"path"`
	Digest string `json:"digest"`
}

// stations are the checks of package verify in groups that people can follow,
// in its order. A group ends with the last of its codes.
var stations = []struct {
	name string
	last verify.Code
}{
	{"well formed", "E_FORMAT"},
	{"policy, challenge and pinned key are sound", "E_AK_NAME"},
	{"whole, of this host, for this challenge, in time", "E_NONCE_EXPIRED"},
	{"quote: signed by the pinned key, over these PCRs", "E_PCR_DIGEST"},
	{"parts belong to the quoted header", "E_IMA"},
	{"PCR banks in the TPM's own words", "E_BANKS"},
	{"firmware of the TPM", "E_FIRMWARE_DENIED"},
	{"epoch and counters of the TPM", "E_EPOCH"},
	{"clock and order of quotes", "E_QUOTE_CHAIN"},
	{"tier, anchor and register", "E_REGISTER_VALUE"},
	{"log: longer than known, nothing rewound", "E_CONSISTENCY"},
	{"entries of log and batch are in their trees", "E_START"},
	{"boot log: whole, and the quoted one", "E_BOOT_FORM"},
	{"operating system's log", "E_OS_LOG"},
	{"boot log makes the PCRs", "E_BOOT_REPLAY"},
	{"IMA list makes PCR 10", "E_IMA_REPLAY"},
	{"requests: for this broker, by what was measured", "E_SUBJECT"},
}

// steps says how far the bundle came: the checks are made in the order of
// [verify.Codes].
func (v *verifyJSON) steps() {
	state, group := "passed", 0
	for _, info := range verify.Codes() {
		if v.Rejection != nil && info.Code == v.Rejection.Code {
			state = "failed"
		}
		if group < len(stations) && info.Code == stations[group].last {
			v.Stations = append(v.Stations, stepJSON{stations[group].name, state})
			group++
			if state == "failed" {
				state = "not asked"
			}
		}
	}
}
