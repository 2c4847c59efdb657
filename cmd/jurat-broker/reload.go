// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/jurat-dev/jurat/broker"
	"github.com/jurat-dev/jurat/ek"
)

// openAuthorities reads the makers of TPMs and the operator's rules, as the
// command line says.
func (s *settings) openAuthorities() (*ek.Authorities, error) {
	return ek.Open(ek.Bundle(s.bundle), s.roots...)
}

// hangups takes SIGHUP, which would otherwise end the program, until stop is
// called.
func hangups() (asked chan os.Signal, stop func()) {
	asked = make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGHUP)
	return asked, func() { signal.Stop(asked) }
}

// reload reads them anew each time it is asked, until ctx ends. What cannot be
// read as a whole changes nothing.
func (s *settings) reload(ctx context.Context, asked <-chan os.Signal, b *broker.Broker, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-asked:
		}
		authorities, err := s.openAuthorities()
		if err != nil {
			log.Error("EK authorities not reread, the old ones stay", "err", err)
			continue
		}
		b.SetAuthorities(authorities)
		log.Info("EK authorities reread", "ek_roots", authorities.Roots(), "ek_rules", authorities.Rules.Len())
	}
}
