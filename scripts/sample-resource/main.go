// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Command sample-resource is a small protected service, "invoices": what
// package resource looks like in use, and the service of the demo. It ships in
// no package.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/jurat-dev/jurat/resource"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run serves until ctx ends.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f := flag.NewFlagSet("sample-resource", flag.ContinueOnError)
	f.SetOutput(stderr)
	listen := f.String("listen", "127.0.0.1:0", "address to listen on")
	issuer := f.String("issuer", "", "the broker's issuer URL")
	audience := f.String("audience", "", "this service as delegations name it (default: http:// and the address)")
	id := f.String("introspect-id", "", "id to ask the broker with whether a token was revoked")
	secretFile := f.String("introspect-secret-file", "", "file with the secret that belongs to it")
	if f.Parse(args) != nil || f.NArg() > 0 || *issuer == "" {
		fmt.Fprintln(stderr, "sample-resource: error: usage: sample-resource -issuer URL [-listen ADDRESS] [-audience URL]")
		return 2
	}
	fail := func(err error) int {
		fmt.Fprintf(stderr, "sample-resource: error: %v\n", err)
		return 3
	}
	secret, err := readSecret(*secretFile)
	if err != nil {
		return fail(err)
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return fail(err)
	}
	if *audience == "" {
		*audience = "http://" + listener.Addr().String()
	}
	log := slog.New(slog.NewJSONHandler(stdout, nil))
	checker, err := resource.New(resource.Config{
		Issuer: *issuer, Audience: *audience, IntrospectID: *id, IntrospectSecret: secret, Logger: log,
	})
	if err != nil {
		listener.Close()
		return fail(err)
	}
	log.Info("listening", "address", "http://"+listener.Addr().String(), "audience", *audience, "issuer", *issuer)
	server := &http.Server{Handler: routes(checker, log), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 20 * time.Second}
	stop := context.AfterFunc(ctx, func() {
		bounded, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(bounded) // what is left ends with the process
	})
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fail(err)
	}
	return 0
}

func readSecret(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	data, err := os.ReadFile(file)
	return strings.TrimSpace(string(data)), err
}

// invoice is one invoice.
type invoice struct {
	ID     int    `json:"id"`
	From   string `json:"from"`
	Cents  int    `json:"cents"`
	Days   int    `json:"days_overdue"`
	Status string `json:"status"`
}

var invoices = []invoice{
	{1, "Harbour Crane Ltd", 129900, 3, "open"},
	{2, "Paper & Pencil", 4250, 41, "open"},
	{3, "Cloud Nine Hosting", 88000, 12, "open"},
}

// routes says which action each path needs.
func routes(checker *resource.Checker, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	answer := func(w http.ResponseWriter, r *http.Request, v any) {
		g, _ := resource.FromContext(r.Context())
		log.Info("call answered", "method", r.Method, "path", r.URL.Path, "agent", g.Actor.Subject, "instance", g.Actor.Instance,
			"host", g.Actor.Host, "delegation", g.Delegation.ID, "txn", g.Txn, "log_index", g.Log.Index)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(v) // the caller is gone when this fails
	}
	mux.Handle("GET /invoices", checker.Require("invoice.read", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, map[string]any{"invoices": invoices})
	})))
	mux.Handle("POST /invoices/{id}/pay", checker.Require("invoice.pay", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, map[string]any{"paid": r.PathValue("id")})
	})))
	return mux
}
