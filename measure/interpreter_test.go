// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"strings"
	"testing"

	"github.com/jurat-dev/jurat/evidence"
)

func TestInterpreterOf(t *testing.T) {
	for exe, want := range map[string]string{
		"/usr/bin/python3.11": "python", "/opt/v/bin/python3.13t": "python", "/usr/bin/python3.11-dbg": "python", "pypy3.9": "python",
		"/usr/bin/bash": "bash", "/bin/dash": "bash", "/usr/bin/node": "node", "/usr/bin/node-18": "node", "/usr/bin/perl5.36.0": "perl",
		"/usr/bin/python3.11 (deleted)": "python", "/usr/bin/lua5.4": "lua", "/bin/busybox": "sh", "/usr/bin/php8.2": "sh",
		"/usr/bin/cat": "", "/usr/bin/pythonista": "", "": "", "/": "", "/usr/sbin/sshd": "",
	} {
		got := ""
		if in := interpreterOf(exe); in != nil {
			got = in.names[0]
		}
		if got != want {
			t.Errorf("%q: %q, want %q", exe, got, want)
		}
	}
}

func TestScriptArgument(t *testing.T) {
	for line, want := range map[string]string{
		"python3 x.py -c":                     "x.py",
		"python3 -u -B x.py":                  "x.py",
		"python3 -uB -W ignore -Wd -- -x.py":  "-x.py",
		"python3 +x y.py":                     "+x",
		"python3 dir/__main__.py":             "dir/__main__.py",
		"python3":                             reasonInline,
		"python3 -":                           reasonInline,
		"python3 -c pass":                     "inline pass",
		"python3 -Bcpass x.py":                "inline pass",
		"python3 -m http.server":              "module http.server",
		"python3 -i x.py":                     reasonInline,
		"python3 -W":                          reasonInline,
		"python3 --":                          reasonInline,
		"python3 -- -":                        reasonInline,
		"python3 -X pycache_prefix=/x y.py":   reasonOption,
		"python3 --check-hash-based-pycs x y": reasonOption,
		"bash x.sh":                           "x.sh",
		"bash -eu -o pipefail x.sh":           "x.sh",
		"bash -euo pipefail x.sh":             "x.sh",
		"bash +x --norc x.sh":                 "x.sh",
		"bash -oe pipefail x.sh":              reasonOption,
		"bash -c x":                           "inline x",
		"bash -ec x":                          "inline x",
		"bash -s x":                           reasonInline,
		"bash -i x":                           reasonInline,
		"bash --rcfile y x.sh":                reasonOption,
		"bash -l x.sh":                        reasonOption,
		"bash - x.sh":                         reasonInline,
		"node x.js":                           "x.js",
		"node --max-old-space-size=9 x.js":    "x.js",
		"node --max-old-space-size 9 x.js":    reasonOption,
		"node -r ./y.js x.js":                 reasonOption,
		"node --require=y x.js":               reasonOption,
		"node -e 1":                           "inline 1",
		"node -p 1":                           "inline 1",
		"node -pe 1":                          reasonOption,
		"node --eval 1":                       "inline 1",
		"node --inspect x.js":                 reasonOption,
		"perl -w x.pl":                        "x.pl",
		"perl -Mx x.pl":                       reasonOption,
		"perl -ne 1":                          reasonOption,
		"python3 -c":                          reasonInline,
		"python3 -um x -c y":                  "module x",
		"python3 -mx y.py":                    "module x",
		"bash -c":                             reasonInline,
		"bash -c -x -- x y":                   "inline x",
		"bash -cs x":                          reasonInline,
		"bash +c x":                           reasonOption,
		"dash -c x":                           "inline x",
		"node --eval=1 x.js":                  "inline 1",
		"node -e -r":                          reasonOption,
		"node -e 1 -r ./y.js":                 reasonOption,
		"node -e 1 --no-warnings -- -r":       "inline 1",
		"perl -we1 x":                         "inline 1",
		"perl -e 1 -e 2":                      reasonOption,
		"perl -e 1 -Mx":                       reasonOption,
		"perl -e 1 -- -e 2":                   "inline 1",
		"ruby -e 1 x":                         "inline 1",
		"lua -e 1":                            reasonInline,
		"perl -e 1":                           "inline 1",
		"ruby -w x.rb":                        "x.rb",
		"ruby -rx x.rb":                       reasonOption,
		"ruby -W x.rb y.rb":                   reasonOption,
		"lua x.lua":                           "x.lua",
		"java -server -jar x.jar":             "x.jar",
		"java Main":                           reasonArguments,
		"java -cp x Main":                     reasonArguments,
		"java @file":                          reasonArguments,
		"java -jar":                           reasonInline,
		"sh x.sh":                             reasonArguments,
		"deno run x.ts":                       reasonArguments,
		"php x.php":                           reasonArguments,
	} {
		words := strings.Fields(line)
		got := interpreterOf(words[0]).script([]byte(strings.Join(words, "\x00") + "\x00"))
		text := got.what + got.reason
		if got.bound != evidence.BoundArgument && got.bound != "" {
			text = got.bound + " " + text
		}
		if text != want {
			t.Errorf("%s: %+v, want %q", line, got, want)
		}
		if got.reason == "" && !strings.HasSuffix(strings.Join(words, "\x00")[:got.end-1], got.what) {
			t.Errorf("%s: read %d bytes", line, got.end)
		}
	}
	in := interpreterOf("python3")
	if got := in.script([]byte("python3\x00x.p")); got.reason != reasonInline {
		t.Errorf("a name that is cut off: %+v", got)
	}
	if got := in.script([]byte("python3\x00-c\x00pri")); got.reason != reasonInline {
		t.Errorf("code that is cut off: %+v", got)
	}
	if got := in.script([]byte("python3\x00\x00")); got.what != "" || got.reason != "" {
		t.Errorf("an empty name: %+v", got) // which resolves to no file
	}
}

func FuzzScriptArgument(f *testing.F) {
	f.Add("python3", []byte("python3\x00-u\x00x.py\x00"))
	f.Add("bash", []byte("bash\x00-euo\x00pipefail\x00x.sh\x00"))
	f.Add("java", []byte("java\x00-jar\x00x\x00"))
	f.Fuzz(func(t *testing.T, exe string, argv []byte) {
		in := interpreterOf(exe)
		if in == nil {
			return
		}
		got := in.script(argv)
		if got.end > len(argv) || got.reason != "" && got.what != "" {
			t.Fatalf("%+v", got)
		}
		if got.reason == "" && string(argv[got.end-1-len(got.what):got.end-1]) != got.what {
			t.Fatalf("%+v does not end there in %q", got, argv)
		}
	})
}
