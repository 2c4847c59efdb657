// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"fmt"
	"net/http"
	"strings"
)

// Digests of the samples.
var (
	zeros, ones = strings.Repeat("0", 64), strings.Repeat("1", 64)
	shim, grub  = "a1" + strings.Repeat("2", 62), "b2" + strings.Repeat("3", 62)
)

var sampleClass = `{"pcrs":{"4":["` + zeros + `","` + ones + `"],"7":["` + ones + `"]},
	"events":{"4":[{"digest":"` + shim + `","text":"boot application \\EFI\\debian\\shimx64.efi","required":true},
	 {"digest":"` + grub + `","text":"boot application \\EFI\\debian\\grubx64.efi \u001b[2J","required":false}]},
	"secure_boot":["on"],"command_lines":"any","findings":["ebs-missing"]}`

// sampleBoot makes the operator socket answer about boots as
// spec/broker-api.md says.
func sampleBoot(w *world) {
	w.answers("POST /v1/hosts/h17/learn-boot", `{"host":"h17","machine":"web","added":6,"pcrs":{"4":"`+zeros+`","7":"`+ones+`"},
		"values":[{"pcr":4,"digest":"`+zeros+`"},{"pcr":7,"digest":"`+ones+`"}],
		"events":[{"pcr":4,"digest":"`+shim+`","text":"boot application \\EFI\\debian\\shimx64.efi"}],
		"relaxed":[{"pcr":4,"digest":"`+grub+`","text":"boot application \\EFI\\debian\\grubx64.efi"}],
		"secure_boot":["off"],"command_lines":["/vmlinuz-6.12 root=/dev/vda1 ro"],"findings":[{"code":"ebs-missing","text":"PCR 5 has no event about the end of the boot services"}]}`)
	w.answers("POST /v1/hosts/h18/learn-boot", `{"host":"h18","machine":"web","added":0,"pcrs":{},"values":[],"events":[],"relaxed":[],"secure_boot":[],"command_lines":[],"findings":[]}`)
	w.answers("GET /v1/hosts/h17/boot-diff", `{"host":"h17","machine":"web","seen":"2026-11-23T11:59:00Z","ok":false,
		"pcrs":[{"pcr":0,"ok":true,"by":"value","value":"`+zeros+`","difference":"","event":-1,"missing":false},
		 {"pcr":4,"ok":true,"by":"events","value":"`+ones+`","difference":"","event":-1,"missing":false},
		 {"pcr":8,"ok":false,"by":"","value":"`+ones+`","difference":"PCR 8, event 31 kernel command line \"root=/dev/vda1 init=/bin/sh\": digest `+shim+` is not among the accepted","event":31,"missing":false}],
		"secure_boot":{"ok":false,"accepted":["on"],"seen":["off"]},"command_lines":{"ok":true,"accepted":["any"],"seen":["root=/dev/vda1 init=/bin/sh"]},
		"findings":{"ok":true,"accepted":[],"seen":[]}}`)
	w.answers("GET /v1/hosts/h18/boot-diff", `{"host":"h18","machine":"web","seen":"2026-11-23T11:59:00Z","ok":true,
		"pcrs":[{"pcr":0,"ok":true,"by":"value","value":"`+zeros+`","difference":"","event":-1,"missing":false}],
		"secure_boot":{"ok":true,"accepted":["on"],"seen":["on"]},"command_lines":{"ok":true,"accepted":["none"],"seen":["none"]},"findings":{"ok":true,"accepted":[],"seen":[]}}`)
	w.answers("POST /v1/machines/web/forget-boot", `{"machine":"web","forgotten":"digest 9f86d081884c7d65",
		"gone":[{"pcr":4,"digest":"`+grub+`","text":"boot application \\EFI\\debian\\grubx64.efi"},{"pcr":4,"digest":"`+ones+`"}]}`)
	log := []byte("boot log")
	w.answers("GET /v1/hosts/h17/export", `{"host":"spiffe://example.test/host/h17","ueid":"01`+zeros+`","ak_public":"0023","ak_name":"000b","level":"ek-cert","maker":"IFX",
		"last":null,"boot_log":"`+strings.TrimPrefix(digestText(log), "sha-256:")+`","ima":null}`)
	w.admin.HandleFunc("GET /v1/hosts/h17/boot-log", func(rw http.ResponseWriter, _ *http.Request) { rw.Write(log) })
}

// sampleRejections are explanations of evidence that was refused as a whole.
func sampleRejections(w *world) {
	for txn, s := range map[string][5]string{
		"REPLAY": {"boot", "boot-replay", "PCR 4: events in the boot log that make " + zeros, "events that make " + ones,
			"something was extended into this PCR that the boot log does not have: 'jurat eventlog replay' on the host shows which PCRs differ"},
		"REGISTER": {"hardware", "register-value", "register contents: " + zeros, ones, "treat the host as taken over until you know better: its log was rewound"},
		"IMA":      {"boot", "ima-violation", "ima entry 4711: files measured before they changed", "a violation: a file was written to while it was measured or in use", "a file was written to while it was measured or in use: find out which and why"},
	} {
		w.answers("GET /v1/explain/"+txn, fmt.Sprintf(`{"type":"https://jurat.dev/problems/evidence-rejected","title":"%s said no","status":400,"txn":"%s","decision":"deny",
			"time":"2026-11-23T12:00:01Z","host":"spiffe://example.test/host/h17","code":"E_%s",
			"stations":[{"n":8,"attestor":"%s","check":"%s","expected":["%s"],"observed":["%s"],"hint":"%s"}],"passed":[],"checks":[],"log_index":48214}`,
			s[0], txn, strings.ToUpper(strings.ReplaceAll(s[1], "-", "_")), s[0], s[1], s[2], s[3], s[4]))
	}
}
