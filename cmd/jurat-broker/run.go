// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jurat-dev/jurat/broker"
	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/broker/keys"
	"github.com/jurat-dev/jurat/broker/registration"
	"github.com/jurat-dev/jurat/ek"
	"github.com/jurat-dev/jurat/verify"
)

// Exit codes.
const (
	exitOK          = 0
	exitUsage       = 2
	exitEnvironment = 3
)

// list is a flag that may be given more than once.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

// Set adds one value.
func (l *list) Set(value string) error {
	if value == "" {
		return errors.New("empty")
	}
	*l = append(*l, value)
	return nil
}

// settings is the command line.
type settings struct {
	listen, issuer, data, admin, domain string
	cert, key                           string
	store                               string
	newKeys                             bool
	bundle                              string
	roots                               list
	policy                              string
	grace                               time.Duration
	version                             bool
}

const defaultAdmin = "/run/jurat-broker/admin.sock"

func parse(args []string, stderr io.Writer) (*settings, error) {
	s := &settings{}
	f := flag.NewFlagSet("jurat-broker", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&s.listen, "listen", "127.0.0.1:8440", "`address` of the public API; plain http only on a loopback address")
	f.StringVar(&s.issuer, "issuer", "", "`URL` by which everybody knows this broker (must be given)")
	f.StringVar(&s.data, "data", "/var/lib/jurat-broker", "`directory` of keys, of the last head of the log, and of the store unless -store names another place, mode 0700")
	f.StringVar(&s.store, "store", "", "PostgreSQL `URL`, postgres://…, for one broker or several; its password in a file: passfile=FILE in the URL, or PGPASSFILE (default: SQLite in -data)")
	f.BoolVar(&s.newKeys, "new-keys", false, "with -store: the keys in -data replace those that the brokers of this store have had")
	f.StringVar(&s.admin, "admin-socket", defaultAdmin, "`path` of the operators' unix socket, mode 0600")
	f.StringVar(&s.bundle, "ek-bundle", string(ek.BundleShipped), "makers of TPMs to begin with: `shipped` with this program, or none")
	f.Var(&s.roots, "ek-roots", "more certificates of TPM makers, and "+ek.RulesFile+", a `file or directory`; may be given more than once; SIGHUP rereads them")
	f.StringVar(&s.domain, "trust-domain", "", "SPIFFE trust `domain` (default: the issuer's host)")
	f.StringVar(&s.cert, "tls-cert", "", "certificate chain `file`, PEM")
	f.StringVar(&s.key, "tls-key", "", "private key `file`, PEM")
	f.StringVar(&s.policy, "policy", "", "what is demanded of every host otherwise than by default, a YAML `file`")
	f.DurationVar(&s.grace, "unsafe-clock-grace", 0, "how `long` after a TPM reset its clock may be unsafe (after a power loss it is, for a while)")
	f.BoolVar(&s.version, "version", false, "print the version and exit")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if s.version {
		return s, nil
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	return s, s.check()
}

// check refuses a command line that cannot be meant.
func (s *settings) check() error {
	if s.issuer == "" {
		return errors.New("-issuer must be given")
	}
	if err := registration.CheckURL(s.issuer); err != nil {
		return fmt.Errorf("-issuer: %v", err)
	}
	issuer, err := url.Parse(s.issuer)
	if err != nil {
		return err
	}
	if s.domain == "" {
		s.domain = issuer.Hostname()
	}
	if err := registration.CheckTrustDomain(s.domain); err != nil {
		return fmt.Errorf("-trust-domain: %v", err)
	}
	if s.bundle != string(ek.BundleShipped) && s.bundle != string(ek.BundleNone) {
		return fmt.Errorf("-ek-bundle %q, want %s or %s", s.bundle, ek.BundleShipped, ek.BundleNone)
	}
	if s.store != "" && !strings.HasPrefix(s.store, "postgres://") && !strings.HasPrefix(s.store, "postgresql://") {
		return errors.New("-store is no URL of PostgreSQL, postgres://…")
	}
	if s.newKeys && s.store == "" {
		return errors.New("-new-keys is for -store")
	}
	if (s.cert == "") != (s.key == "") {
		return errors.New("-tls-cert and -tls-key go together")
	}
	if s.cert != "" && issuer.Scheme != "https" {
		return fmt.Errorf("-issuer %s is not https, but -tls-cert is given", s.issuer)
	}
	if s.cert == "" {
		return checkPlain(s.listen)
	}
	return nil
}

// run is the whole program.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	s, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		fmt.Fprintf(stderr, "jurat-broker: error: %v\njurat-broker: hint: see jurat-broker -help\n", err)
		return exitUsage
	}
	if s.version {
		fmt.Fprintln(stdout, "jurat-broker", version)
		return exitOK
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	if err := serve(ctx, s, log); err != nil {
		fmt.Fprintf(stderr, "jurat-broker: error: %v\n", err)
		return exitEnvironment
	}
	return exitOK
}

// serve runs the broker until ctx ends.
func serve(ctx context.Context, s *settings, log *slog.Logger) (err error) {
	authorities, err := s.openAuthorities()
	if err != nil {
		return err
	}
	k, err := keys.Open(s.data, rand.Reader)
	if err != nil {
		return err
	}
	origin, err := audit.Origin(s.issuer)
	if err != nil {
		return err
	}
	signer, err := audit.NewSigner(origin, k.Log)
	if err != nil {
		return err
	}
	m, err := s.openMemory(ctx, k, signer)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	policy, err := s.openPolicy()
	if err != nil {
		return err
	}
	b, err := broker.New(broker.Config{
		Issuer: s.issuer, TrustDomain: s.domain, Authorities: authorities, Policy: policy, Log: log, Now: time.Now, Rand: rand.Reader,
	}, m.store, k, signer)
	if err != nil {
		return err
	}
	if err := m.admit(ctx, b, log); err != nil {
		return err
	}
	asked, stop := hangups()
	defer stop()
	listeners, err := listen(s)
	if err != nil {
		return err
	}
	log.Info("serving", "issuer", s.issuer, "listen", listeners.public.Addr(), "admin", s.admin, "trust_domain", s.domain, "store", m.where,
		"ek_roots", authorities.Roots(), "ek_rules", authorities.Rules.Len(), "log", origin, "log_key", signer.VerifierKey(), "version", version)
	if len(k.Made) > 0 {
		log.Info("keys made", "files", k.Made, "directory", s.data)
	}
	work, end := context.WithCancel(context.WithoutCancel(ctx))
	serving, refuse := context.WithCancel(ctx)
	defer refuse()
	var background sync.WaitGroup
	background.Go(func() { b.Run(work) })
	background.Go(func() { s.reload(work, asked, b, log) })
	background.Go(func() { m.watch(work, refuse, log) })
	err = listeners.serve(serving, b, log)
	end()
	background.Wait()
	log.Info("ended")
	return errors.Join(err, m.refused)
}

// openPolicy reads what is demanded of every host.
func (s *settings) openPolicy() (verify.Policy, error) {
	policy := verify.DefaultPolicy()
	if s.policy != "" {
		f, err := os.Open(s.policy)
		if err != nil {
			return policy, err
		}
		defer f.Close()
		text, err := io.ReadAll(io.LimitReader(f, broker.MaxPolicy+1))
		if err != nil {
			return policy, err
		}
		if policy, err = broker.ParsePolicy(text); err != nil {
			return policy, fmt.Errorf("-policy %s: %v", s.policy, err)
		}
	}
	if s.grace != 0 {
		if policy.UnsafeClockGrace != 0 {
			return policy, fmt.Errorf("-unsafe-clock-grace %v, and -policy %s says unsafe_clock_grace too: give one", s.grace, s.policy)
		}
		policy.UnsafeClockGrace = s.grace
	}
	return policy, nil
}
