// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Command juratd is the host agent: it watches every exec, measures who asks
// for a credential, and answers the broker's challenge with a TPM quote.
//
//	juratd enrol -broker URL -host NAME -token-file FILE
//	juratd [-broker URL]
//	juratd uninstall [-purge]
//	juratd man
//
// It opens no port: it dials the broker, and listens on a unix socket. Exit
// codes: 0 ended in good order, 1 the broker refused, 2 usage, 3 environment
// (no TPM, no permission, broker unreachable, not enrolled).
package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/jurat-dev/jurat/agent"
	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/bpf"
	brokerclient "github.com/jurat-dev/jurat/broker-client"
	"github.com/jurat-dev/jurat/gate"
)

// version is set by the linker.
var version = "unknown"

// Exit codes.
const (
	exitYes         = 0
	exitRefused     = 1
	exitUsage       = 2
	exitEnvironment = 3
)

const (
	defaultTPM   = "/dev/tpmrm0"
	defaultState = "/var/lib/jurat"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var err error
	switch {
	case len(args) > 0 && args[0] == "enrol":
		err = enrol(ctx, args[1:], stdout, stderr)
	case len(args) > 0 && args[0] == "uninstall":
		err = uninstall(args[1:], stdout, stderr)
	case slices.Equal(args, []string{gate.HolderCommand}):
		err = agent.HoldExecs()
	case len(args) > 0 && args[0] == "man":
		err = man(ctx, args[1:], stdout, stderr)
	default:
		err = serve(ctx, args, stdout, stderr)
	}
	switch usage, misused := errors.AsType[*usageError](err); {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return exitYes
	case misused:
		if !usage.said {
			fmt.Fprintf(stderr, "juratd: error: %v\n", err)
		}
		return exitUsage
	}
	fmt.Fprintf(stderr, "juratd: error: %v\n", strings.ReplaceAll(err.Error(), "\n", "; "))
	if hint := hintFor(err); hint != "" {
		fmt.Fprintf(stderr, "juratd: hint: %s\n", hint)
	}
	if refusal, ok := errors.AsType[*brokerclient.Refusal](err); ok && !refusal.Temporary() && refusal.Status < 500 {
		return exitRefused
	}
	return exitEnvironment
}

// usageError is a mistake on the command line. said: package flag has printed
// it already.
type usageError struct {
	text string
	said bool
}

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &usageError{text: fmt.Sprintf(format, args...)}
}

// options are the flags of both commands.
type options struct {
	broker, ca, tpm, state string
}

func (o *options) add(f *flag.FlagSet) {
	f.StringVar(&o.broker, "broker", "", "the broker's issuer `URL`")
	f.StringVar(&o.ca, "ca", "", "PEM `FILE` of the roots that the broker's certificate chains to (default: the system's)")
	f.StringVar(&o.tpm, "tpm", defaultTPM, "TPM device, or `PATH` of a software TPM's socket")
	f.StringVar(&o.state, "state", defaultState, "state `DIR`")
}

func (o *options) roots() (*x509.CertPool, error) {
	if o.ca == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(o.ca)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(raw) {
		return nil, usagef("-ca %s holds no PEM certificate", o.ca)
	}
	return pool, nil
}

// parse parses flags; nothing may be left over.
func parse(f *flag.FlagSet, args []string, stderr io.Writer, usage string) error {
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprint(stderr, usage)
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return &usageError{text: err.Error(), said: true}
	}
	if f.NArg() > 0 {
		return usagef("%q is no command of juratd; it knows enrol, uninstall, man, and none", f.Arg(0))
	}
	return nil
}

const serveUsage = `usage: juratd [flags]
       juratd enrol -broker URL -host NAME -token-file FILE [flags]
       juratd uninstall [-purge] [flags]
       juratd man

Runs the host agent until SIGTERM. The host has to be enrolled.

  juratd -broker https://broker.example

`

func serve(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o options
	f := flag.NewFlagSet("juratd", flag.ContinueOnError)
	o.add(f)
	socket := f.String("socket", local.DefaultSocket, "unix socket to listen on, `PATH`")
	ring := f.Int("ring-bytes", 0, "size of the kernel's event ring, a power of two (default 8388608)")
	pin := f.String("pin", bpf.DefaultPin, "`DIR` below a bpf file system that keeps the kernel programs for the next juratd, so that a restart misses nothing; \"\": they end with this one")
	var anchoring anchorFlags
	anchoring.add(f)
	inputs := f.String("inputs", agent.DefaultInputs, "`DIR` that declares what units read besides code; \"\": none")
	gated := f.Bool("gate", false, "hold each exec on the host until its files are hashed, and taint those that were not")
	showVersion := f.Bool("version", false, "print the version and end")
	if err := parse(f, args, stderr, serveUsage); err != nil {
		return err
	}
	if *showVersion {
		_, err := fmt.Fprintln(stdout, "juratd", version)
		return err
	}
	if page := os.Getpagesize(); *ring != 0 && (*ring < page || *ring&(*ring-1) != 0 || *ring > 1<<30) {
		return usagef("-ring-bytes %d: want a power of two from %d to %d", *ring, page, 1<<30)
	}
	anchor, err := anchoring.anchor()
	if err != nil {
		return err
	}
	roots, err := o.roots()
	if err != nil {
		return err
	}
	notify := notifier(os.Getenv("NOTIFY_SOCKET"))
	logger := slog.New(slog.NewTextHandler(stderr, nil))
	err = agent.Run(ctx, agent.Config{
		State: o.state, Socket: *socket, TPM: o.tpm, Broker: o.broker, RootCAs: roots, RingBytes: *ring, Pin: *pin,
		Anchor: anchor, BootLog: anchoring.bootLog, OSLog: anchoring.osLog, IMAList: anchoring.imaList,
		Inputs: *inputs, Gate: *gated,
		Version: version, Limits: agent.DefaultLimits(), Logger: logger,
		Ready: func() { notify("READY=1\nSTATUS=answering on " + *socket) },
	})
	notify("STOPPING=1")
	return err
}

const enrolUsage = `usage: juratd enrol -broker URL -host NAME -token-file FILE [flags]

Makes this host known to the broker. An operator adds the host first, with
"jurat host add NAME", and gets the token that FILE has to hold.

  juratd enrol -broker https://broker.example -host h17 -token-file /run/enrol-token

`

// maxToken bounds an enrolment token, in bytes.
const maxToken = 4096

func enrol(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o options
	f := flag.NewFlagSet("juratd enrol", flag.ContinueOnError)
	o.add(f)
	host := f.String("host", "", "`NAME` that the operator gave this host")
	tokenFile := f.String("token-file", "", "`FILE` with the one-time enrolment token")
	akCert := f.String("ak-cert", "", "`FILE` with the cloud provider's certificate of this host's attestation key and what leads to its root, PEM")
	if err := parse(f, args, stderr, enrolUsage); err != nil {
		return err
	}
	if o.broker == "" || *host == "" || *tokenFile == "" {
		return usagef("enrol needs -broker, -host and -token-file; juratd enrol -help")
	}
	roots, err := o.roots()
	if err != nil {
		return err
	}
	client, err := brokerclient.New(brokerclient.Config{URL: o.broker, RootCAs: roots, Agent: "juratd/" + version})
	if err != nil {
		return usagef("%v", err)
	}
	token, err := os.ReadFile(*tokenFile)
	if err != nil {
		return err
	}
	if len(token) > maxToken {
		return usagef("%s has %d bytes: no enrolment token", *tokenFile, len(token))
	}
	var certificates [][]byte
	if *akCert != "" {
		if certificates, err = readCertificates(*akCert); err != nil {
			return err
		}
	}
	id, news, err := agent.Enrol(ctx, agent.Enrolling{
		State: o.state, TPM: o.tpm, Client: client, Host: *host, Token: strings.TrimSpace(string(token)), AKCertificates: certificates,
	})
	if err != nil {
		return err
	}
	if !news {
		_, err = fmt.Fprintf(stdout, "already enrolled as %s at %s (%s)\n", id.Host, id.Issuer, id.Level)
		return err
	}
	_, err = fmt.Fprintf(stdout, "enrolled as %s at %s (%s)\nnext: start the agent, with 'systemctl start juratd' or: juratd -broker %s -state %s\n",
		id.Host, id.Issuer, id.Level, id.Issuer, o.state)
	return err
}

// readCertificates reads the DER of every certificate in a PEM file.
func readCertificates(path string) ([][]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			out = append(out, block.Bytes)
		}
	}
	if len(out) == 0 {
		return nil, usagef("%s holds no certificate in PEM", path)
	}
	return out, nil
}
