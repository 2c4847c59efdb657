// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog_test

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"

	"github.com/jurat-dev/jurat/eventlog"
)

func hex256(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }

func TestAgainst(t *testing.T) {
	grub := func(of string) *eventlog.Log {
		return goodBoot().change(atImage, func(e *entry) { e.of = text(of) }).parse(t)
	}
	first, second := grub("grub 1").Known(eventlog.SHA256, 4), grub("grub 2").Known(eventlog.SHA256, 4)
	known := eventlog.Union(first, second)
	if required := slices.DeleteFunc(slices.Clone(known), func(k eventlog.Known) bool { return !k.Required }); len(known) != 4 || len(required) != 2 {
		t.Fatalf("%d known, %d required: %+v", len(known), len(required), known)
	}
	for _, of := range []string{"grub 1", "grub 2"} {
		if ok, d := grub(of).Against(eventlog.SHA256, 4, known); !ok {
			t.Errorf("%s: %s", of, d.Text)
		}
	}
	ok, d := grub("grub 3").Against(eventlog.SHA256, 4, known)
	want := `PCR 4, event 18 boot application \EFI\debian\grubx64.efi: digest ` + hex256("grub 3") + " is not among the accepted"
	if ok || d.Text != want || d.Event != 18 || d.PCR != 4 || d.Missing || fmt.Sprintf("%x", d.Digest) != hex256("grub 3") {
		t.Errorf("%v %+v\nwant %s", ok, d, want)
	}
	// What may be there need not, what must be there must.
	if ok, d := goodBoot().remove(atImage).parse(t).Against(eventlog.SHA256, 4, known); !ok {
		t.Error(d.Text)
	}
	ok, d = goodBoot().remove(8).remove(atImage-1).parse(t).Against(eventlog.SHA256, 4, known)
	want = `PCR 4: action: "Calling EFI Application from Boot Option" with digest ` + hex256("Calling EFI Application from Boot Option") + " is missing"
	if ok || d.Text != want || !d.Missing || d.Event != -1 {
		t.Errorf("%v %+v\nwant %s", ok, d, want)
	}
	if ok, _ := goodBoot().parse(t).Against(eventlog.SHA256, 4, nil); ok {
		t.Error("everything is accepted where nothing is known")
	}
}

func TestCompare(t *testing.T) {
	before := goodBoot().parse(t).Known(eventlog.SHA256, 8)
	if ok, d := goodBoot().parse(t).Compare(eventlog.SHA256, 8, before); !ok {
		t.Error(d.Text)
	}
	for name, x := range map[string]struct {
		b    *builder
		want string
	}{
		"changed": {goodBoot().change(atLine, func(e *entry) { e.data, e.of = text("kernel_cmdline: /vmlinuz\x00"), text("/vmlinuz") }),
			`PCR 8, event 21 kernel command line (GRUB): "/vmlinuz": digest ` + hex256("/vmlinuz") + `, before it was kernel command line (GRUB): "/vmlinuz quiet" with ` + hex256("/vmlinuz quiet")},
		"missing": {goodBoot().remove(atLine), `PCR 8: kernel command line (GRUB): "/vmlinuz quiet" with digest ` + hex256("/vmlinuz quiet") + " is missing"},
		"more": {goodBoot().add(entry{pcr: 8, kind: eventlog.IPL, data: text("grub_cmd: x\x00"), of: text("x")}),
			`PCR 8, event 24 GRUB command: "x": digest ` + hex256("x") + " comes after what was there before"},
	} {
		if ok, d := x.b.parse(t).Compare(eventlog.SHA256, 8, before); ok || d.Text != x.want {
			t.Errorf("%s: %v\ngot  %s\nwant %s", name, ok, d.Text, x.want)
		}
	}
	order := goodBoot()
	order.entries[18], order.entries[atLine] = order.entries[atLine], order.entries[18]
	if ok, _ := order.parse(t).Compare(eventlog.SHA256, 8, before); ok {
		t.Error("another order is taken for the same")
	}
}
