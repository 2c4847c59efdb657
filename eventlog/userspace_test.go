// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jurat-dev/jurat/eventlog"
)

// record is one line as systemd 257 writes it.
func record(pcr int, kind, text string, of string) string {
	return fmt.Sprintf("\x1e{\"pcr\":%d,\"digests\":[{\"hashAlg\":\"sha256\",\"digest\":\"%x\"}],\"content_type\":\"systemd\","+
		"\"content\":{\"string\":%q,\"bootId\":\"189c18dd7ba245f38cf49d9ac154b525\",\"timestamp\":1515761,\"eventType\":%q}}\n", pcr, sha256.Sum256([]byte(of)), text, kind)
}

// sampleUserspace is a machine with a UKI and an encrypted volume, and one
// register of systemd's own.
var sampleUserspace = record(11, "phase", "enter-initrd", "enter-initrd") +
	record(15, "volume-key", "cryptsetup:root:5e47a9db", "HMAC with the key") +
	fmt.Sprintf("\x1e{\"nv_index\":30474752,\"digests\":[{\"hashAlg\":\"sha256\",\"digest\":\"%x\"}],\"content_type\":\"systemd\","+
		"\"content\":{\"nvIndexName\":\"hardware\",\"string\":\"product-id:missing\",\"eventType\":\"product-id\"}}\n", sha256.Sum256([]byte("product-id:missing"))) +
	record(11, "phase", "leave-initrd", "leave-initrd")

func TestUserspace(t *testing.T) {
	u, err := eventlog.ParseUserspace([]byte(sampleUserspace))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range u.Records {
		r := &u.Records[i]
		got = append(got, fmt.Sprintf("%d %d %#x %s %s %v %s", r.Number, r.PCR, r.NVIndex, r.NVName, r.Kind, r.Covered(), r.Describe()))
	}
	want := []string{
		`0 11 0x0  phase true boot phase: "enter-initrd"`,
		`1 15 0x0  volume-key false key of the encrypted volume: "cryptsetup:root:5e47a9db"`,
		`2 -1 0x1d10200 hardware product-id true product id: "product-id:missing"`,
		`3 11 0x0  phase true boot phase: "leave-initrd"`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if r := u.Records[0]; r.BootID != "189c18dd7ba245f38cf49d9ac154b525" || r.At != 1515761 || u.Torn != 0 || u.Records[1].Offset != strings.Index(sampleUserspace[1:], "\x1e")+1 {
		t.Errorf("%+v", r)
	}
	if n := len(u.Measurements(eventlog.SHA256)); n != 3 {
		t.Errorf("%d measurements into PCRs, want 3", n)
	}
	start := goodBoot().parse(t).Replay(eventlog.SHA256)
	v := u.Replay(start)
	if got := at(t, v, 11); !bytes.Equal(got, extend(extend(make([]byte, 32), "enter-initrd"), "leave-initrd")) {
		t.Errorf("PCR 11 is %x", got)
	}
	if got := at(t, v, 15); !bytes.Equal(got, extend(make([]byte, 32), "HMAC with the key")) {
		t.Errorf("PCR 15 is %x", got)
	}
	if n := len(v.Indexes()); n != len(start.Indexes())+2 {
		t.Errorf("PCRs %v: the NV index is none", v.Indexes())
	}
}

func TestUserspaceTorn(t *testing.T) {
	whole, err := eventlog.ParseUserspace([]byte(sampleUserspace))
	if err != nil {
		t.Fatal(err)
	}
	last := whole.Records[3].Offset
	for n := last + 1; n < len(sampleUserspace); n++ {
		u, err := eventlog.ParseUserspace([]byte(sampleUserspace[:n]))
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if complete := n == len(sampleUserspace)-1; complete != (len(u.Records) == 4) || complete != (u.Torn == 0) {
			t.Fatalf("%d bytes: %d records, torn %d", n, len(u.Records), u.Torn)
		}
	}
	middle := strings.Replace(sampleUserspace, "\"leave-initrd\",", "\"leave-ini", 1) + record(11, "phase", "ready", "ready")
	if _, err := eventlog.ParseUserspace([]byte(middle)); err == nil {
		t.Error("a torn record that is not the last is taken")
	}
}

func TestUserspaceMalformed(t *testing.T) {
	digest := strings.Repeat("00", 32)
	for name, x := range map[string]struct{ raw, text string }{
		"no separator":     {"{}\n", "record separator"},
		"not JSON":         {"\x1enonsense\n", "invalid character"},
		"no PCR":           {"\x1e{\"digests\":[]}\n", "neither"},
		"PCR and NV index": {"\x1e{\"pcr\":1,\"nv_index\":2,\"digests\":[]}\n", "and an NV index"},
		"PCR 24":           {"\x1e{\"pcr\":24,\"digests\":[]}\n", "PCR 24"},
		"PCR -1":           {"\x1e{\"pcr\":-1,\"digests\":[]}\n", "pcr"},
		"no digests":       {"\x1e{\"pcr\":11,\"digests\":[]}\n", "0 digests"},
		"short digest":     {"\x1e{\"pcr\":11,\"digests\":[{\"hashAlg\":\"sha256\",\"digest\":\"00\"}]}\n", "32 bytes"},
		"digest twice":     {"\x1e{\"pcr\":11,\"digests\":[{\"hashAlg\":\"sha256\",\"digest\":\"" + digest + "\"},{\"hashAlg\":\"sha256\",\"digest\":\"" + digest + "\"}]}\n", "two digests"},
		"too long":         {"\x1e" + strings.Repeat(" ", eventlog.MaxRecord+1), "at most"},
		"too large":        {strings.Repeat("\x1e", eventlog.MaxLog+1), "at most"},
		"nested":           {"\x1e" + strings.Repeat("[", 60000) + "\n", "max depth"},
	} {
		_, err := eventlog.ParseUserspace([]byte(x.raw))
		var e *eventlog.Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), x.text) || strings.ContainsAny(err.Error(), "\n\x1b\x1e") {
			t.Errorf("%s: %q", name, err)
		}
	}
	if u, err := eventlog.ParseUserspace(nil); err != nil || len(u.Records) != 0 {
		t.Errorf("an empty log: %v", err)
	}
	unknown := "\x1e{\"pcr\":11,\"digests\":[{\"hashAlg\":\"sha999\",\"digest\":\"zz\"}],\"content\":{\"string\":\"a\\u001b[2Jb\"}}\n"
	u, err := eventlog.ParseUserspace([]byte(unknown))
	if err != nil || u.Records[0].Covered() || strings.Contains(u.Records[0].Text, "\x1b") || len(u.Measurements(eventlog.SHA256)) > 0 {
		t.Errorf("an unknown algorithm: %v %+v", err, u)
	}
}
