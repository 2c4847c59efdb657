// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"bytes"
	"path"
	"slices"
	"strings"

	"github.com/jurat-dev/jurat/evidence"
)

// interpreter says how a program that runs other people's text reads its
// arguments. What is not listed here is not guessed: an option may load code,
// and a misread one would let another file pass for the script.
type interpreter struct {
	names     []string
	flags     string   // single letters that take nothing and load nothing
	values    string   // single letters that take the next word
	attached  bool     // a value may also be the rest of the word
	plus      bool     // words with + in front are options too
	long      []string // whole options that load nothing; "--x=" with any value
	stdin     string   // letters after which code comes from standard input, or from more than one place
	stdinWord []string // words of that sort
	text      string   // letters that take the code itself, as a value
	textLast  bool     // no option is read behind that
	textWord  string   // the letter after which the first word that is no option is the code
	textLong  []string // whole words before the code; those with two dashes also with "=" and the code
	module    string   // the letter that takes the name of a module to run
	file      string   // the option that names the script, where nothing else does
}

var interpreters = []interpreter{
	{
		names: []string{"python", "pypy"},
		flags: "bBdEIOPqRsSuvx", values: "W", attached: true, stdin: "i", stdinWord: []string{"-"}, text: "c", textLast: true, module: "m",
	},
	{
		names: []string{"bash", "dash"},
		flags: "abefhkmnpuvxBCEHPT", values: "oO", plus: true, stdin: "is", stdinWord: []string{"-"}, textWord: "c",
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
		stdin: "i", stdinWord: []string{"--interactive", "-"}, textLong: []string{"-e", "--eval", "-p", "--print"},
	},
	{names: []string{"perl"}, flags: "cftTwWX", stdinWord: []string{"-"}, text: "eE"},
	{names: []string{"ruby"}, flags: "vwU", stdinWord: []string{"-"}, text: "e"},
	{names: []string{"lua"}, flags: "EvW", stdin: "ei", stdinWord: []string{"-"}},
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

// told is what an interpreter was told to run.
type told struct {
	what  string // the name of a file or a module, or the code itself
	bound string // evidence.BoundArgument, BoundModule or BoundInline
	end   int    // bytes of the arguments that were read for it
	// reason says why it is not known what runs, "" when it is.
	reason string
}

// script finds out from the arguments what the interpreter runs.
func (in *interpreter) script(argv []byte) told {
	if in.flags == "" && len(in.long) == 0 {
		return told{reason: reasonArguments}
	}
	r := reader{in: in, args: arguments{rest: argv}}
	r.args.next() // its own name
	for r.out == (told{}) {
		r.word()
	}
	r.out.end = r.args.read
	return r.out
}

// reader is the reading of arguments under way. It ends when out is set.
type reader struct {
	in       *interpreter
	args     arguments
	textWord bool // the first word that is no option is the code
	out      told
}

func (r *reader) refuse(reason string) { r.out = told{reason: reason} }

// plain takes a word that is no option.
func (r *reader) plain(word string, ok bool) {
	switch {
	case !ok || word == "-" && !r.textWord:
		r.refuse(reasonInline)
	case r.textWord:
		r.out = told{what: word, bound: evidence.BoundInline}
	default:
		r.out = told{what: word, bound: evidence.BoundArgument}
	}
}

// word reads the next word.
func (r *reader) word() {
	in := r.in
	word, ok := r.args.next()
	switch {
	case !ok || slices.Contains(in.stdinWord, word):
		r.refuse(reasonInline)
	case in.longOption(word):
	case r.longText(word):
	case in.file != "" && word != in.file:
		r.refuse(reasonArguments)
	case word == "--" || in.file != "":
		r.plain(r.args.next())
	case word == "" || word[0] != '-' && (word[0] != '+' || !in.plus):
		r.plain(word, true)
	default:
		r.letters(word)
	}
}

func (in *interpreter) longOption(word string) bool {
	name, _, value := strings.Cut(word, "=")
	return slices.Contains(in.long, word) || value && slices.Contains(in.long, name+"=")
}

// longText reads a whole word that says that the code comes next.
func (r *reader) longText(word string) bool {
	name, text, attached := strings.Cut(word, "=")
	switch {
	case slices.Contains(r.in.textLong, word):
		if text, ok := r.args.next(); ok && !strings.HasPrefix(text, "-") {
			r.code(text)
		} else {
			r.refuse(reasonOption)
		}
	case attached && strings.HasPrefix(name, "--") && slices.Contains(r.in.textLong, name):
		r.code(text)
	default:
		return false
	}
	return true
}

// letters reads a word of single-letter options.
func (r *reader) letters(word string) {
	sign, word := word[0], word[1:]
	if word == "" {
		r.refuse(reasonOption)
		return
	}
	for i := range len(word) {
		if done := r.letter(sign, word[i], word[i+1:]); done || r.out != (told{}) {
			return
		}
	}
}

// letter reads one option; rest is what follows in its word. done: that was
// its value.
func (r *reader) letter(sign, c byte, rest string) (done bool) {
	in := r.in
	is := func(letters string) bool { return strings.IndexByte(letters, c) >= 0 }
	switch {
	case is(in.flags):
		return false
	case is(in.stdin):
		r.refuse(reasonInline)
	case is(in.textWord) && sign == '-':
		r.textWord = true
		return false
	case is(in.text):
		if text, ok := r.value(rest); ok {
			r.code(text)
		}
	case is(in.module):
		if name, ok := r.value(rest); ok {
			r.out = told{what: name, bound: evidence.BoundModule}
		}
	case is(in.values) && (rest == "" || in.attached):
		r.value(rest)
	default:
		r.refuse(reasonOption)
	}
	return true
}

// value is the rest of the word, or the next one.
func (r *reader) value(rest string) (string, bool) {
	if rest != "" {
		return rest, true
	}
	word, ok := r.args.next()
	if !ok {
		r.refuse(reasonInline)
	}
	return word, ok
}

// code takes the code itself, if nothing behind it could add to it.
func (r *reader) code(text string) {
	for after := r.args; !r.in.textLast; {
		word, ok := after.next()
		if !ok || word == "--" || !strings.HasPrefix(word, "-") || word == "-" {
			break
		}
		if !r.in.longOption(word) {
			r.refuse(reasonOption)
			return
		}
	}
	r.out = told{what: text, bound: evidence.BoundInline}
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
