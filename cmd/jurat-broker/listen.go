// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/jurat-dev/jurat/broker"
	"github.com/jurat-dev/jurat/broker/registration"
)

// Limits of a connection.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 30 * time.Second
	writeTimeout  = 60 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 16 << 10
	shutdownTime  = 10 * time.Second
)

// listeners are the broker's two doors.
type listeners struct {
	public, admin net.Listener
}

// checkPlain refuses to serve plain http where others could listen in.
func checkPlain(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("-listen: %v", err)
	}
	if !registration.IsLoopback(host) {
		return fmt.Errorf("-listen %s: plain http only on a loopback address; give -tls-cert and -tls-key", address)
	}
	return nil
}

func listen(s *settings) (*listeners, error) {
	public, err := net.Listen("tcp", s.listen)
	if err != nil {
		return nil, err
	}
	l := &listeners{public: public}
	if s.cert != "" {
		pair, err := tls.LoadX509KeyPair(s.cert, s.key)
		if err != nil {
			return nil, errors.Join(err, public.Close())
		}
		l.public = tls.NewListener(public, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}})
	} else if err := checkPlain(public.Addr().String()); err != nil {
		// A name that resolved to something else than this machine.
		return nil, errors.Join(err, public.Close())
	}
	if l.admin, err = listenAdmin(s.admin); err != nil {
		return nil, errors.Join(err, public.Close())
	}
	return l, nil
}

// listenAdmin opens the operators' socket. Its mode is their authentication;
// the process's umask sees to it that there is no moment at which others could
// connect, and a directory that is made for it is the owner's alone.
func listenAdmin(path string) (net.Listener, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%s exists and is no socket", path)
	default:
		if conn, err := net.Dial("unix", path); err == nil {
			return nil, errors.Join(fmt.Errorf("a broker serves %s already", path), conn.Close())
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func server(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// serve answers on both doors until ctx ends or one of them breaks, then lets
// what is under way finish.
func (l *listeners) serve(ctx context.Context, b *broker.Broker, log *slog.Logger) error {
	servers := []*http.Server{server(b.Public(), log), server(b.Operator(), log)}
	broken := make(chan error, len(servers))
	for i, listener := range []net.Listener{l.public, l.admin} {
		go func() { broken <- servers[i].Serve(listener) }()
	}
	var err error
	select {
	case err = <-broken:
	case <-ctx.Done():
		log.Info("ending: finishing what is under way", "at_most", shutdownTime)
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	for _, s := range servers {
		if e := s.Shutdown(last); e != nil && err == nil {
			err = fmt.Errorf("shutting down: %w", e)
		}
	}
	return err
}
