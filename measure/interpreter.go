// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"bytes"
	"path"
	"slices"
	"strings"
)

// interpreter says how a program that runs other people's text reads its
// arguments. What is not listed here is not guessed: an option may load code,
// and a misread one would let another file pass for the script.
type interpreter struct {
	names    []string
	flags    string   // single letters that take nothing and load nothing
	values   string   // single letters that take the next word
	attached bool     // a value may also be the rest of the word
	plus     bool     // words with + in front are options too
	long     []string // whole options that load nothing; "--x=" with any value
	inline   string   // letters after which the code is text or standard input
	inWords  []string // long options of that sort
	file     string   // the option that names the script, where nothing else does
}

var interpreters = []interpreter{
	{
		names: []string{"python", "pypy"},
		flags: "bBdEIOPqRsSuvx", values: "W", attached: true, inline: "cmi", inWords: []string{"-"},
	},
	{
		names: []string{"bash", "dash"},
		flags: "abefhkmnpuvxBCEHPT", values: "oO", plus: true, inline: "cis", inWords: []string{"-"},
		long: []string{"--posix", "--norc", "--noprofile", "--restricted", "--verbose"},
	},
	{
		names: []string{"node", "nodejs"},
		long: []string{
			"--max-old-space-size=", "--max-semi-space-size=", "--stack-size=", "--stack-trace-limit=", "--enable-source-maps",
			"--no-warnings", "--no-deprecation", "--throw-deprecation", "--trace-deprecation", "--trace-uncaught", "--trace-warnings",
			"--unhandled-rejections=", "--use-openssl-ca", "--use-system-ca", "--use-bundled-ca", "--expose-gc", "--frozen-intrinsics",
			"--disallow-code-generation-from-strings", "--jitless", "--permission", "--dns-result-order=",
		},
		inline: "epi", inWords: []string{"--eval", "--print", "--interactive", "-"},
	},
	{names: []string{"perl"}, flags: "cftTwWX", inline: "eE", inWords: []string{"-"}},
	{names: []string{"ruby"}, flags: "vwU", inline: "e", inWords: []string{"-"}},
	{names: []string{"lua"}, flags: "EvW", inline: "ei", inWords: []string{"-"}},
	{names: []string{"java"}, long: []string{"-server", "-ea", "-esa"}, file: "-jar"},
	// Those below take sub-commands, addresses or several sorts of code.
	{names: []string{
		"sh", "ksh", "mksh", "zsh", "fish", "busybox", "toybox", "deno", "bun", "php", "luajit", "R", "Rscript", "tclsh",
		"wish", "irb", "jshell", "julia", "guile", "awk", "gawk", "mawk", "gdb", "wasmtime",
	}},
}

// interpreterOf recognises an interpreter by the name of its executable, with
// whatever version follows it. A renamed one is not recognised; its digest
// still is what it is, and without a script it equals no workload with one.
func interpreterOf(exe string) *interpreter {
	base := path.Base(strings.TrimSuffix(exe, " (deleted)"))
	stem := strings.TrimRight(strings.TrimSuffix(base, "-dbg"), "tdm")
	stem = strings.TrimRight(stem, "0123456789.-")
	for i := range interpreters {
		names := interpreters[i].names
		if slices.Contains(names, base) || slices.Contains(names, stem) {
			return &interpreters[i]
		}
	}
	return nil
}

// script finds the script among the arguments. end is how many bytes of them
// were read for it. Without a script, reason says why there is none to hash.
func (in *interpreter) script(argv []byte) (name string, end int, reason string) {
	if in.flags == "" && len(in.long) == 0 {
		return "", 0, reasonArguments
	}
	args := arguments{rest: argv}
	args.next() // its own name
	for {
		word, ok := args.next()
		switch {
		case !ok || slices.Contains(in.inWords, word):
			return "", args.read, reasonInline
		case in.longOption(word):
			continue
		case in.file != "" && word != in.file:
			return "", args.read, reasonArguments
		case word == "--" || in.file != "":
			if word, ok = args.next(); !ok || word == "-" {
				return "", args.read, reasonInline
			}
			return word, args.read, ""
		case word == "" || word[0] != '-' && (word[0] != '+' || !in.plus):
			return word, args.read, ""
		}
		if reason := in.letters(word[1:], &args); reason != "" {
			return "", args.read, reason
		}
	}
}

func (in *interpreter) longOption(word string) bool {
	name, _, value := strings.Cut(word, "=")
	return slices.Contains(in.long, word) || value && slices.Contains(in.long, name+"=")
}

// letters reads a word of single-letter options.
func (in *interpreter) letters(word string, args *arguments) (reason string) {
	if word == "" {
		return reasonOption
	}
	for i, c := range []byte(word) {
		last := i+1 == len(word)
		switch {
		case strings.IndexByte(in.flags, c) >= 0:
		case strings.IndexByte(in.inline, c) >= 0:
			return reasonInline
		case strings.IndexByte(in.values, c) >= 0 && last:
			if _, ok := args.next(); !ok {
				return reasonInline
			}
		case strings.IndexByte(in.values, c) >= 0 && in.attached:
			return ""
		default:
			return reasonOption
		}
	}
	return ""
}

// arguments takes argv apart, counting the bytes.
type arguments struct {
	rest []byte
	read int
}

func (a *arguments) next() (string, bool) {
	word, rest, ok := bytes.Cut(a.rest, []byte{0})
	if !ok {
		return "", false // the last one is not whole
	}
	a.read += len(word) + 1
	a.rest = rest
	return string(word), true
}
