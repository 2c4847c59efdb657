// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"github.com/jurat-dev/jurat/eventlog"
	"github.com/jurat-dev/jurat/evidence"
)

// Boot is a boot event log taken apart: its events, the values that they make
// of the SHA-256 bank, and what is odd about it. It is believed only in so far as
// a quote bears the values out. It does not change, so hosts that booted alike
// may share one.
type Boot struct {
	digest evidence.Hash
	log    *eventlog.Log
	values eventlog.Values
	facts  BootFacts
}

// BootFacts is what a boot log says in a few words.
type BootFacts struct {
	SecureBoot   eventlog.SecureBoot // on, off or unknown
	Reason       string              // why it is what it is
	CommandLines []string            // of the kernel
	Findings     []eventlog.Finding
}

// ParseBoot reads the boot event log of a host, as the firmware wrote it. The
// error is a *Rejection.
func ParseBoot(raw []byte) (*Boot, error) {
	b, rejection := parseBoot(raw, sha256.Sum256(raw))
	if rejection != nil {
		return nil, rejection
	}
	return b, nil
}

func parseBoot(raw []byte, digest evidence.Hash) (*Boot, *Rejection) {
	log, err := eventlog.Parse(raw)
	if err != nil {
		return nil, reject(codeBootForm, "boot log", "a whole TCG event log", err.Error())
	}
	b := &Boot{digest: digest, log: log, values: log.Replay(eventlog.SHA256)}
	b.facts.SecureBoot, b.facts.Reason = log.SecureBoot()
	b.facts.CommandLines, b.facts.Findings = log.KernelCommandLines(), log.Findings()
	return b, nil
}

// Digest is SHA-256 of the log.
func (b *Boot) Digest() evidence.Hash { return b.digest }

// Log is the log's events. It is not to be changed.
func (b *Boot) Log() *eventlog.Log { return b.log }

// Facts are what the log says in a few words. They are not to be changed.
func (b *Boot) Facts() BootFacts { return b.facts }

// makes reports whether the log's events make this value of a PCR. A PCR
// without events has none, not even zero.
func (b *Boot) makes(pcr int, value evidence.Hash) bool {
	made, any := b.values.At(pcr)
	return any && bytes.Equal(made, value[:])
}

// uncovered returns the first measured event without a digest for a bank.
func (b *Boot) uncovered(bank eventlog.Algorithm) (event int, missing bool) {
	for i := range b.log.Events {
		e := &b.log.Events[i]
		if _, has := e.Digest(bank); e.Measured() && !has {
			return e.Number, true
		}
	}
	return 0, false
}

// bootLog wants the log that was quoted: as bytes, or as the one known before.
//
//	boot_log = SHA-256(boot event log)
func (v *verification) bootLog() (rejection *Rejection) {
	claimed, known := v.b.Header.BootLog.Get()
	_, seen := v.b.Header.BootLog.Observed()
	switch {
	case seen && !known:
		return reject(codeBootLog, "header boot_log", "known or unknown", v.b.Header.BootLog.String())
	case !known && len(v.b.BootLog) != 0:
		return reject(codeBootLog, "boot log", "none, as it is "+v.b.Header.BootLog.String(), fmt.Sprintf("%d bytes", len(v.b.BootLog)))
	case !known:
	case len(v.b.BootLog) == 0:
		if v.boot = v.host.Boot; v.boot == nil || v.boot.digest != claimed {
			return reject(codeBootLog, "boot log", "the log with digest "+claimed.String(), "no log, and it is not the one known")
		}
	default:
		digest := evidence.Hash(sha256.Sum256(v.b.BootLog))
		if digest != claimed {
			return reject(codeBootLog, "boot log", claimed.String(), digest.String())
		}
		if v.boot = v.host.Boot; v.boot == nil || v.boot.digest != digest {
			if v.boot, rejection = parseBoot(v.b.BootLog, digest); rejection != nil {
				return rejection
			}
		}
	}
	return v.capped()
}

// measured wants the PCRs of the policy to hold measurements at all (V16), and
// to be what the log's events make of them; or what the operating system makes
// of that by its own log: systemd closes the firmware's PCRs with a separator.
func (v *verification) measured() *Rejection {
	for _, pcr := range v.policy.Measured {
		value, _ := v.pcrs.At(pcr)
		where := fmt.Sprintf("PCR %d", pcr)
		if value == (evidence.Hash{}) || value == allOnes {
			return reject(codeUnmeasured, where, "a value that something was measured into", value.String())
		}
		if v.boot == nil {
			return reject(codeBootLog, "boot log", "a log that makes "+where+" "+value.String(), v.b.Header.BootLog.String())
		}
		made, any := v.boot.values.At(pcr)
		if !any {
			return reject(codeBootReplay, where, "events in the boot log that make "+value.String(), "no event")
		}
		if _, continued := continued(v.boot, v.os, pcr, value); !continued && !v.boot.makes(pcr, value) {
			return reject(codeBootReplay, where, "events in the boot log that make "+value.String(), "events that make "+hexOf(made))
		}
	}
	return nil
}

var allOnes = evidence.Hash(bytes.Repeat([]byte{0xff}, sha256.Size))

// osLog wants the operating system's own log to be the one that was quoted.
//
//	os_log = SHA-256(log)
func (v *verification) osLog() *Rejection {
	claimed, known := v.b.Header.OSLog.Get()
	switch digest := evidence.Hash(sha256.Sum256(v.b.OSLog)); {
	case !known && len(v.b.OSLog) != 0:
		return reject(codeOSLog, "os log", "none, as it is "+v.b.Header.OSLog.String(), fmt.Sprintf("%d bytes", len(v.b.OSLog)))
	case !known:
		return nil
	case digest != claimed:
		return reject(codeOSLog, "os log", claimed.String(), digest.String())
	}
	log, err := eventlog.ParseUserspace(v.b.OSLog)
	if err != nil {
		return reject(codeOSLog, "os log", "whole records of systemd's measurement log", err.Error())
	}
	v.os = log
	return nil
}
