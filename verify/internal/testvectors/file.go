// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package testvectors writes and reads the conformance vectors of
// spec/vectors: one bundle with one fault in each file, everything a verifier
// has to know beside it, and the code it must answer. It ships in no program;
// its only door is the directory that the caller names.
package testvectors

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
)

// OK is what a vector expects that must be accepted.
const OK = "ok"

// Vector is one file.
type Vector struct {
	Name      string // of the file, without ".txt"
	Expect    string // OK or a code
	Check     string // number of the check, "-" for OK
	Comment   string
	Now       time.Time
	Challenge verify.Challenge
	Host      verify.Host
	BootLog   []byte // that was kept, behind Host.Boot
	IMA       *List  // that was kept, behind Host.IMA
	Policy    verify.Policy
	Next      *verify.State // what to remember, where it is OK and not appraised
	// Reference, where there is one, is what the first request of the bundle, which
	// is true, is held against; Refused is the checks that say no.
	Reference *verify.Reference
	Refused   []string // "attestor/check", in the order in which they are made
	Bundle    []byte
}

// List is what was kept of a host's IMA list.
type List struct {
	Position verify.IMAPosition `json:"position"`
	Files    []evidence.Hash    `json:"files"`
}

// indexed is a vector's line in index.json.
type indexed struct {
	File    string `json:"file"`
	Expect  string `json:"expect"`
	Check   string `json:"check"`
	Comment string `json:"comment"`
}

// Write writes every vector into dir, and index.json beside them.
func Write(dir string) error {
	var index []indexed
	for _, v := range All() {
		file := v.Name + ".txt"
		if err := os.WriteFile(filepath.Join(dir, file), v.text(), 0o644); err != nil {
			return err
		}
		index = append(index, indexed{file, v.Expect, v.Check, v.Comment})
	}
	data, err := json.MarshalIndent(index, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "index.json"), append(data, '\n'), 0o644)
}

func (v *Vector) text() []byte {
	var b strings.Builder
	line := func(key, value string) { fmt.Fprintf(&b, "%s: %s\n", key, value) }
	line("expect", v.Expect)
	line("check", v.Check)
	line("comment", v.Comment)
	line("now", v.Now.Format(time.RFC3339))
	line("broker", v.Challenge.Broker)
	line("nonce", hex.EncodeToString(v.Challenge.Nonce))
	line("expires", v.Challenge.Expires.Format(time.RFC3339))
	line("ueid", hex.EncodeToString(v.Host.UEID))
	line("ak-public", hex.EncodeToString(v.Host.AKPublic))
	line("ak-name", hex.EncodeToString(v.Host.AKName))
	line("level", v.Host.Level)
	line("maker", v.Host.Maker)
	if v.BootLog != nil {
		line("boot-log", base64.StdEncoding.EncodeToString(v.BootLog))
	}
	if v.IMA != nil {
		line("ima", marshal(v.IMA))
	}
	line("pcrs", strings.Trim(fmt.Sprint(v.Policy.PCRs), "[]"))
	line("anchors", strings.Join(v.Policy.Anchors, " "))
	line("latches", strings.Trim(fmt.Sprint(v.Policy.Latches), "[]"))
	line("measured", strings.Trim(fmt.Sprint(v.Policy.Measured), "[]"))
	for _, name := range v.Policy.NvPCRs {
		line("nvpcr", name.String())
	}
	for _, f := range v.Policy.Firmware {
		line("denied-firmware", fmt.Sprintf("%s %016x %016x %s", f.Maker, f.From, f.To, f.Why))
	}
	if v.Policy.IMAViolations {
		line("ima-violations", "accepted")
	}
	line("tiers", strings.Join(v.Policy.Tiers, " "))
	line("unsafe-clock-grace", v.Policy.UnsafeClockGrace.String())
	for _, s := range []struct {
		key   string
		state *verify.State
	}{{"last", v.Host.Last}, {"next", v.Next}} {
		if s.state != nil {
			line(s.key, marshal(s.state))
		}
	}
	if v.Reference != nil {
		line("refused", strings.Join(v.Refused, " "))
		line("reference", marshal(v.Reference))
	}
	b.WriteString("\n")
	for rest := base64.StdEncoding.EncodeToString(v.Bundle); rest != ""; {
		n := min(len(rest), 100)
		b.WriteString(rest[:n] + "\n")
		rest = rest[n:]
	}
	return []byte(b.String())
}

func marshal(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic("testvectors: " + err.Error())
	}
	return string(data)
}

// Read reads every vector in dir, and wants index.json to list exactly them.
func Read(dir string) ([]Vector, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no vector in %s", dir)
	}
	var out []Vector
	var index []indexed
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		v, err := parse(string(data))
		if err != nil {
			return nil, fmt.Errorf("%s: %v", file, err)
		}
		v.Name = strings.TrimSuffix(filepath.Base(file), ".txt")
		out = append(out, v)
		index = append(index, indexed{v.Name + ".txt", v.Expect, v.Check, v.Comment})
	}
	data, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return nil, err
	}
	var listed []indexed
	if err := json.Unmarshal(data, &listed); err != nil {
		return nil, err
	}
	if !slices.Equal(listed, index) {
		return nil, errors.New("index.json does not list the vectors beside it")
	}
	return out, nil
}

func parse(text string) (v Vector, err error) {
	head, body, found := strings.Cut(text, "\n\n")
	if !found {
		return v, errors.New("no blank line before the bundle")
	}
	if v.Bundle, err = base64.StdEncoding.DecodeString(strings.ReplaceAll(body, "\n", "")); err != nil {
		return v, err
	}
	for line := range strings.SplitSeq(head, "\n") {
		key, value, _ := strings.Cut(line, ":")
		if err := v.set(key, strings.TrimSpace(value)); err != nil {
			return v, fmt.Errorf("%s: %v", key, err)
		}
	}
	return v, nil
}

func (v *Vector) set(key, value string) (err error) {
	switch key {
	case "expect":
		v.Expect = value
	case "check":
		v.Check = value
	case "comment":
		v.Comment = value
	case "now":
		v.Now, err = time.Parse(time.RFC3339, value)
	case "broker":
		v.Challenge.Broker = value
	case "nonce":
		v.Challenge.Nonce, err = hex.DecodeString(value)
	case "expires":
		v.Challenge.Expires, err = time.Parse(time.RFC3339, value)
	case "ueid":
		v.Host.UEID, err = hex.DecodeString(value)
	case "ak-public":
		v.Host.AKPublic, err = hex.DecodeString(value)
	case "ak-name":
		v.Host.AKName, err = hex.DecodeString(value)
	case "level":
		v.Host.Level = value
	case "maker":
		v.Host.Maker = value
	case "boot-log":
		if v.BootLog, err = base64.StdEncoding.DecodeString(value); err == nil {
			v.Host.Boot, err = verify.ParseBoot(v.BootLog)
		}
	case "ima":
		v.IMA = new(List)
		if err = json.Unmarshal([]byte(value), v.IMA); err == nil {
			v.Host.IMA = verify.NewIMAList(v.IMA.Position, v.IMA.Files)
		}
	case "last":
		v.Host.Last = new(verify.State)
		err = json.Unmarshal([]byte(value), v.Host.Last)
	case "next":
		v.Next = new(verify.State)
		err = json.Unmarshal([]byte(value), v.Next)
	case "refused":
		v.Refused = strings.Fields(value)
	case "reference":
		v.Reference = new(verify.Reference)
		dec := json.NewDecoder(strings.NewReader(value))
		dec.DisallowUnknownFields()
		err = dec.Decode(v.Reference)
	default:
		return v.setPolicy(key, value)
	}
	return err
}

func (v *Vector) setPolicy(key, value string) (err error) {
	p := &v.Policy
	switch key {
	case "pcrs":
		p.PCRs, err = numbers(value)
	case "latches":
		p.Latches, err = numbers(value)
	case "measured":
		p.Measured, err = numbers(value)
	case "nvpcr":
		var name evidence.Bytes
		err = name.UnmarshalText([]byte(value))
		p.NvPCRs = append(p.NvPCRs, name)
	case "denied-firmware":
		var f verify.FirmwareRange
		_, err = fmt.Sscanf(value, "%s %x %x %s", &f.Maker, &f.From, &f.To, &f.Why)
		p.Firmware = append(p.Firmware, f)
	case "ima-violations":
		p.IMAViolations = value == "accepted"
	case "anchors":
		p.Anchors = strings.Fields(value)
	case "tiers":
		p.Tiers = strings.Fields(value)
	case "unsafe-clock-grace":
		p.UnsafeClockGrace, err = time.ParseDuration(value)
	default:
		err = errors.New("unknown header")
	}
	return err
}

func numbers(text string) (list []int, err error) {
	for _, field := range strings.Fields(text) {
		n, err := strconv.Atoi(field)
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, nil
}
