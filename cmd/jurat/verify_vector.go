// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
)

// isVector reports whether a file is one of spec/vectors, which no bundle
// begins like.
func isVector(data []byte) bool { return bytes.HasPrefix(data, []byte("expect: ")) }

// parseVector reads a vector (spec/vectors/README.md).
func parseVector(data []byte) (*trial, error) {
	head, body, found := strings.Cut(string(data), "\n\n")
	if !found {
		return nil, errors.New("no blank line before the bundle")
	}
	t := new(trial)
	var err error
	if t.bundle, err = base64.StdEncoding.DecodeString(strings.ReplaceAll(body, "\n", "")); err != nil {
		return nil, err
	}
	for line := range strings.SplitSeq(head, "\n") {
		key, value, _ := strings.Cut(line, ":")
		set := vectorKeys[key]
		if set == nil {
			return nil, fmt.Errorf("unknown key %q", key)
		}
		if err := set(t, strings.TrimSpace(value)); err != nil {
			return nil, fmt.Errorf("%s: %v", key, err)
		}
	}
	return t, nil
}

// vectorKeys fill a trial from the lines of a vector.
var vectorKeys = map[string]func(*trial, string) error{
	"expect":  func(t *trial, s string) error { t.expected = s; return nil },
	"check":   func(*trial, string) error { return nil },
	"comment": func(*trial, string) error { return nil },
	"next":    func(*trial, string) error { return nil },
	"refused": func(*trial, string) error { return nil },

	"now":     func(t *trial, s string) error { return setTime(&t.at, s) },
	"broker":  func(t *trial, s string) error { t.challenge.Broker = s; return nil },
	"nonce":   func(t *trial, s string) error { return setHex(&t.challenge.Nonce, s) },
	"expires": func(t *trial, s string) error { return setTime(&t.challenge.Expires, s) },

	"ueid":      func(t *trial, s string) error { return setHex(&t.host.UEID, s) },
	"ak-public": func(t *trial, s string) error { return setHex(&t.host.AKPublic, s) },
	"ak-name":   func(t *trial, s string) error { return setHex(&t.host.AKName, s) },
	"level":     func(t *trial, s string) error { t.host.Level = s; return nil },
	"maker":     func(t *trial, s string) error { t.host.Maker = s; return nil },
	"last": func(t *trial, s string) error {
		t.host.Last = new(verify.State)
		return json.Unmarshal([]byte(s), t.host.Last)
	},
	"boot-log": func(t *trial, s string) error {
		raw, err := base64.StdEncoding.DecodeString(s)
		if err == nil {
			t.host.Boot, err = verify.ParseBoot(raw)
		}
		return err
	},
	"ima": func(t *trial, s string) error {
		var kept struct {
			Position verify.IMAPosition `json:"position"`
			Files    []evidence.Hash    `json:"files"`
		}
		err := json.Unmarshal([]byte(s), &kept)
		t.host.IMA = verify.NewIMAList(kept.Position, kept.Files)
		return err
	},

	"reference": func(t *trial, s string) error {
		t.reference = new(verify.Reference)
		strict := json.NewDecoder(strings.NewReader(s))
		strict.DisallowUnknownFields()
		return strict.Decode(t.reference)
	},

	"pcrs":           func(t *trial, s string) error { return setNumbers(&t.policy.PCRs, s) },
	"measured":       func(t *trial, s string) error { return setNumbers(&t.policy.Measured, s) },
	"latches":        func(t *trial, s string) error { return setNumbers(&t.policy.Latches, s) },
	"anchors":        func(t *trial, s string) error { t.policy.Anchors = strings.Fields(s); return nil },
	"tiers":          func(t *trial, s string) error { t.policy.Tiers = strings.Fields(s); return nil },
	"ima-violations": func(t *trial, s string) error { t.policy.IMAViolations = s == "accepted"; return nil },
	"unsafe-clock-grace": func(t *trial, s string) (err error) {
		t.policy.UnsafeClockGrace, err = time.ParseDuration(s)
		return err
	},
	"nvpcr": func(t *trial, s string) error {
		var name evidence.Bytes
		err := name.UnmarshalText([]byte(s))
		t.policy.NvPCRs = append(t.policy.NvPCRs, name)
		return err
	},
	"denied-firmware": func(t *trial, s string) error {
		fields := strings.SplitN(s, " ", 4)
		if len(fields) != 4 {
			return errors.New("want maker, first and last version, reason")
		}
		from, err := strconv.ParseUint(fields[1], 16, 64)
		to, err2 := strconv.ParseUint(fields[2], 16, 64)
		t.policy.Firmware = append(t.policy.Firmware, verify.FirmwareRange{Maker: fields[0], From: from, To: to, Why: fields[3]})
		return errors.Join(err, err2)
	},
}

func setTime(t *time.Time, s string) (err error) {
	*t, err = time.Parse(time.RFC3339, s)
	return err
}

func setHex(b *[]byte, s string) (err error) {
	*b, err = hex.DecodeString(s)
	return err
}

func setNumbers(list *[]int, s string) error {
	for _, field := range strings.Fields(s) {
		n, err := strconv.Atoi(field)
		if err != nil {
			return err
		}
		*list = append(*list, n)
	}
	return nil
}
