// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/jurat-dev/jurat/agent/local"
	brokerclient "github.com/jurat-dev/jurat/broker-client"
	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/evidence"
)

// Exit codes. Those of exec are the ones of env(1).
const (
	exitYes         = 0
	exitNo          = 1
	exitUsage       = 2
	exitEnvironment = 3

	exitExec       = 125 // jurat exec itself
	exitCannotRun  = 126
	exitNotFound   = 127
	exitSignalBase = 128
)

// failure is an error with everything a person or a script needs of it.
type failure struct {
	exit   int
	code   string // stable word, see errorCodes
	err    error
	hint   string
	failed []check
	txn    string
	retry  string
}

func (f *failure) Error() string {
	if f.err == nil {
		return fmt.Sprintf("exit code %d", f.exit)
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

// check names one check that said no.
type check struct {
	Attestor string `json:"attestor"`
	Check    string `json:"check"`
}

// errorCodes are the values of code in jurat.error/v1, with their meaning and
// exit code.
var errorCodes = []struct {
	code    string
	exit    int
	meaning string
}{
	{"refused", exitNo, "juratd or the broker said no"},
	{"malformed", exitNo, "the input is not what it should be"},
	{"declined", exitNo, "you did not say yes"},
	{"not-found", exitNo, "there is no such thing"},
	{"usage", exitUsage, "the command line is wrong"},
	{"agent-unavailable", exitEnvironment, "juratd did not answer, or cannot"},
	{"broker-unavailable", exitEnvironment, "the broker did not answer, or cannot"},
	{"permission", exitEnvironment, "you may not open a file or a socket"},
	{"environment", exitEnvironment, "something else on this machine is missing or broken"},
}

// errorJSON is jurat.error/v1.
type errorJSON struct {
	Schema string  `json:"schema"`
	Exit   int     `json:"exit"`
	Code   string  `json:"code"`
	Error  string  `json:"error"`
	Hint   string  `json:"hint,omitempty"`
	Failed []check `json:"failed,omitempty"`
	Txn    string  `json:"txn,omitempty"`
	Retry  string  `json:"retry,omitempty"`
}

// fail reports err and returns the exit code.
func (a *app) fail(err error) int {
	f := classify(err)
	if f.err == nil { // the exit code of a child, which said itself what it had to say
		return f.exit
	}
	text := f.Error()
	if a.json {
		a.emit(&errorJSON{
			Schema: "jurat.error/v1", Exit: f.exit, Code: f.code, Error: text, Hint: f.hint, Failed: f.failed, Txn: f.txn, Retry: f.retry,
		}, nil)
	}
	p := term.New(a.err, a.color(a.err))
	p.Line("jurat: %s: %s", "error", text)
	if f.hint != "" {
		p.Line("jurat: hint: %s", f.hint)
	}
	return f.exit
}

// classify finds out whose fault an error is, and what helps.
func classify(err error) *failure {
	var (
		known       *failure
		unavailable *local.Unavailable
		agentSaid   *local.Error
		unreachable *brokerclient.Unreachable
		refusal     *brokerclient.Refusal
		badAnswer   *brokerclient.BadAnswer
		format      *evidence.FormatError
		path        *fs.PathError
	)
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &unavailable):
		return agentUnavailable(err)
	case errors.As(err, &agentSaid):
		return agentRefused(err, agentSaid)
	case errors.As(err, &unreachable):
		return brokerUnreachable(err)
	case errors.As(err, &refusal):
		return brokerRefused(err, refusal)
	case errors.As(err, &badAnswer):
		return &failure{exit: exitEnvironment, code: "broker-unavailable", err: err, hint: "is this the address of a jurat broker?"}
	case errors.As(err, &format):
		return &failure{exit: exitNo, code: "malformed", err: err, hint: "the format is in spec/evidence.md"}
	case errors.Is(err, fs.ErrPermission):
		return &failure{exit: exitEnvironment, code: "permission", err: err}
	case errors.Is(err, fs.ErrNotExist) && errors.As(err, &path):
		return &failure{exit: exitUsage, code: "usage", err: err}
	}
	return &failure{exit: exitEnvironment, code: "environment", err: err}
}

func agentUnavailable(err error) *failure {
	f := &failure{exit: exitEnvironment, code: "agent-unavailable", err: err, hint: "is juratd running? 'systemctl status juratd'; --socket names another socket"}
	if errors.Is(err, fs.ErrPermission) {
		f.code, f.hint = "permission", "the socket belongs to another user or group"
	}
	return f
}

func agentRefused(err error, said *local.Error) *failure {
	f := &failure{exit: exitNo, code: "refused", err: err, txn: said.Txn, retry: said.Retry}
	for _, c := range said.Failed {
		f.failed = append(f.failed, check(c))
	}
	switch {
	case said.Code == local.CodeForbidden:
		f.exit, f.code, f.hint = exitEnvironment, "permission", "this is for root only"
	case said.Environmental():
		f.exit, f.code = exitEnvironment, "agent-unavailable"
	case said.Txn != "":
		f.hint = "'jurat why " + said.Txn + "' at the broker says what was expected and what was seen"
	}
	return f
}

func brokerUnreachable(err error) *failure {
	f := &failure{exit: exitEnvironment, code: "broker-unavailable", err: err, hint: "is jurat-broker running? --broker and --admin say where"}
	if errors.Is(err, fs.ErrPermission) {
		f.code, f.hint = "permission", "the operator socket is for the broker's own user and root"
	}
	return f
}

func brokerRefused(err error, said *brokerclient.Refusal) *failure {
	f := &failure{exit: exitNo, code: "refused", err: err, txn: said.Txn, retry: said.Retry}
	for _, c := range said.Failed {
		f.failed = append(f.failed, check(c))
	}
	switch {
	case said.Temporary() || said.Status >= 500:
		f.exit, f.code = exitEnvironment, "broker-unavailable"
	case said.Status == 404:
		f.code = "not-found"
	case said.Txn != "":
		f.hint = "'jurat why " + said.Txn + "' says what was expected and what was seen"
	}
	return f
}

// emit prints a result: v as JSON, or what text says for people.
func (a *app) emit(v any, text func(p *term.Printer)) error {
	if !a.json {
		out := bufio.NewWriterSize(a.out, 64<<10)
		p := term.New(out, a.color(a.out)).On(a.screen())
		text(p)
		return cmp.Or(p.Err(), out.Flush())
	}
	return a.encode(v, "  ")
}

// encode writes v as JSON. What a terminal would obey is escaped there as well:
// names that processes and files have are in it.
func (a *app) encode(v any, indent string) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	err := e.Encode(v)
	if err == nil {
		_, err = io.WriteString(a.out, term.CleanJSON(b.String()))
	}
	if err != nil {
		return fmt.Errorf("standard output: %w", err)
	}
	return nil
}

// orEmpty makes a list that is missing an empty one, which JSON shows as [].
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// readInput reads a whole file, or standard input when it is called "-", and
// refuses more than limit bytes.
func (a *app) readInput(name string, limit int) ([]byte, error) {
	in := a.in
	if name != "-" {
		f, err := openRegular(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if len(data) > limit {
		return nil, &failure{exit: exitNo, code: "malformed", err: fmt.Errorf("%s has more than %d bytes", name, limit)}
	}
	return data, nil
}
