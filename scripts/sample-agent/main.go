// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Command sample-agent is a small AI workload: it reads a task, ranks invoices
// with a model of its own, and gets the invoices from a protected service under
// a delegation. It holds no password and no token: juratd makes the proof for
// each request. It is the workload of the demo and ships in no package.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jurat-dev/jurat/agent/local"
)

// build is set by the linker. Another build is another program: its digest
// differs, and so does what it may do.
var build = "1"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}

// Exit codes: 0 done, 1 refused, 2 usage, 3 nothing to ask.
func run(ctx context.Context, args []string, env func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	f := flag.NewFlagSet("sample-agent", flag.ContinueOnError)
	f.SetOutput(stderr)
	task := f.String("task", "", "the task (default: standard input)")
	model := f.String("model", "", "a .safetensors file with two weights: amount, days overdue")
	address := f.String("url", "", "where the invoices are")
	timeout := f.Duration("timeout", time.Minute, "longest wait for the answer")
	if f.Parse(args) != nil || f.NArg() > 0 || *address == "" {
		fmt.Fprintln(stderr, "sample-agent: error: usage: sample-agent -url URL [-task TEXT] [-model FILE]")
		return 2
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	fmt.Fprintf(stdout, "sample-agent, build %s\n", build)
	if err := work(ctx, *task, *model, *address, env, stdin, stdout); err != nil {
		fmt.Fprintf(stderr, "sample-agent: error: %v\n", err)
		return exitCode(err)
	}
	return 0
}

// refused is the service's no.
type refused struct{ status, challenge string }

func (e *refused) Error() string { return "the service refused: " + e.status + " " + e.challenge }

func exitCode(err error) int {
	var no *refused
	var said *local.Error
	if errors.As(err, &no) || errors.As(err, &said) && !said.Environmental() {
		return 1
	}
	return 3
}

func work(ctx context.Context, task, model, address string, env func(string) string, stdin io.Reader, out io.Writer) error {
	if task == "" {
		data, err := io.ReadAll(io.LimitReader(stdin, 64<<10))
		if err != nil {
			return err
		}
		task = strings.TrimSpace(string(data))
	}
	fmt.Fprintf(out, "task: %q\n", task)
	weights := []float32{1, 0}
	if model != "" {
		var err error
		if weights, err = readModel(model, 2); err != nil {
			return err
		}
		fmt.Fprintf(out, "model: %s, weights %v\n", model, weights)
	}
	found, err := fetch(ctx, address, env)
	if err != nil {
		return err
	}
	slices.SortStableFunc(found, func(a, b invoice) int { return cmp.Compare(b.score(weights), a.score(weights)) })
	fmt.Fprintf(out, "got %d invoices from %s\n", len(found), address)
	for i, v := range found {
		fmt.Fprintf(out, "%d. %q: %d.%02d, %d days overdue\n", i+1, v.From, v.Cents/100, v.Cents%100, v.Days)
	}
	return nil
}

type invoice struct {
	From  string `json:"from"`
	Cents int    `json:"cents"`
	Days  int    `json:"days_overdue"`
}

func (v invoice) score(w []float32) float32 { return w[0]*float32(v.Cents)/1000 + w[1]*float32(v.Days) }

// fetch gets the invoices. The transport asks juratd for token and proof; this
// program sees neither.
func fetch(ctx context.Context, address string, env func(string) string) ([]invoice, error) {
	id := env("JURAT_DELEGATION")
	if id == "" {
		return nil, errors.New("JURAT_DELEGATION is not set: run me with 'jurat exec --delegation ID -- …'")
	}
	client := &http.Client{Transport: &local.Transport{Client: local.Client{Socket: env("JURAT_SOCKET")}, Delegation: id}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
		return nil, &refused{resp.Status, resp.Header.Get("WWW-Authenticate")}
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", address, resp.Status)
	}
	var answer struct {
		Invoices []invoice `json:"invoices"`
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer)
	return answer.Invoices, err
}
