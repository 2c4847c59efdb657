// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Command softtpm runs a software TPM in the foreground, for trying jurat out
// on a machine without a TPM:
//
//	go run ./scripts/softtpm -dir DIR [-firmware] [-ca DIR] [-quote-delay 150ms]
//
// The TPM is made in DIR if there is none yet, with EK certificates of an
// authority in DIR/ca (or -ca). The first line on standard output is the path
// of its socket; the TPM runs until SIGTERM or SIGINT. SIGHUP resets it, as a
// reboot of the machine would. It writes only below DIR and -ca, and removes
// nothing but its own sockets.
//
// A software TPM proves nothing about the machine it runs on.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/jurat-dev/jurat/internal/softtpm"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run returns 0 after an orderly end, 2 for wrong usage, 3 when the TPM
// cannot run here.
func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("softtpm", flag.ContinueOnError)
	flags.SetOutput(stderr)
	dir := flags.String("dir", "", "`directory` of the TPM: its state, its socket (required)")
	ca := flags.String("ca", "", "`directory` of the certificate authority (default DIR/ca); TPMs may share one")
	firmware := flags.Bool("firmware", false, "measure a boot, with its log in DIR/binary_bios_measurements")
	delay := flags.Duration("quote-delay", 0, "time added to each TPM2_Quote")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if *dir == "" || flags.NArg() != 0 {
		fmt.Fprintln(stderr, "softtpm: error: -dir is required, and there are no arguments")
		return 2
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := softtpm.Available(); err != nil {
		fmt.Fprintf(stderr, "softtpm: error: %v\n", err)
		return 3
	}
	tpm, err := softtpm.Start(*dir, softtpm.Options{CA: *ca, Firmware: *firmware})
	if err != nil {
		fmt.Fprintf(stderr, "softtpm: error: %v\n", err)
		return 3
	}
	tpm.SetDelay(*delay, 0)
	fmt.Fprintln(stdout, tpm.Path())
	fmt.Fprintf(stderr, "softtpm: EK root %s, issuer %s\n", tpm.RootCA(), tpm.IssuerCA())
	for sig := range signals {
		if sig == syscall.SIGHUP {
			err = tpm.Reset()
		} else {
			err = tpm.Stop()
		}
		if err != nil {
			fmt.Fprintf(stderr, "softtpm: error: %v\n", err)
			return 3
		}
		if sig != syscall.SIGHUP {
			return 0
		}
	}
	return 0
}
