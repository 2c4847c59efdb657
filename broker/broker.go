// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/broker/internal/challenge"
	"github.com/jurat-dev/jurat/broker/internal/limit"
	"github.com/jurat-dev/jurat/broker/keys"
	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/broker/registration"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/ek"
	"github.com/jurat-dev/jurat/verify"
)

// How long things are good.
const (
	tokenLife      = 300 * time.Second
	bearerLife     = 60 * time.Second
	referenceLife  = 30 * time.Second
	enrolmentLife  = 60 * time.Second
	invitationLife = 24 * time.Hour
)

// Config says who the broker is and what it goes by.
type Config struct {
	Issuer      string          // URL; see registration.CheckURL
	TrustDomain string          // of the SPIFFE IDs of hosts and workloads
	Authorities *ek.Authorities // makers of TPMs; see SetAuthorities
	Policy      verify.Policy   // what every bundle has to meet
	Log         *slog.Logger
	Now         func() time.Time // the one clock that decides
	Rand        io.Reader        // safe for use by many goroutines
}

// Broker is the station. It is safe for use by many goroutines.
type Broker struct {
	Config
	prefix     string // path of the issuer
	store      *store.Store
	signer     *oauth.Signer
	log        *audit.Signer
	pairwise   []byte
	challenges *challenge.Maker
	metadata   *oauth.Metadata

	strangers *limit.Limiter // what anybody may ask, per client
	enrolling *limit.Limiter // what costs an RSA operation, per client
	denials   *limit.Limiter // entries in the log about refusals, per host
	bodies    chan struct{}  // bundles in memory at the same time
	slots     chan struct{}  // verifications at the same time
	hosts     [64]sync.Mutex // one bundle of a host at a time, by its UEID
	counters  counters
	ready     readiness
	kept      kept

	authorities atomic.Pointer[ek.Authorities]
}

// New returns the broker at c.Issuer. log signed the store's log.
func New(c Config, s *store.Store, k *keys.Keys, log *audit.Signer) (*Broker, error) {
	if err := registration.CheckURL(c.Issuer); err != nil {
		return nil, fmt.Errorf("issuer: %v", err)
	}
	if err := registration.CheckTrustDomain(c.TrustDomain); err != nil {
		return nil, err
	}
	if err := c.Policy.Check(); err != nil {
		return nil, err
	}
	if c.Authorities == nil || c.Log == nil || c.Now == nil || c.Rand == nil {
		return nil, errors.New("broker: authorities, log, clock and randomness must be given")
	}
	origin, err := audit.Origin(c.Issuer)
	if err != nil {
		return nil, err
	}
	if origin != log.Origin() {
		return nil, fmt.Errorf("log %q is not that of issuer %s", log.Origin(), c.Issuer)
	}
	signer, err := oauth.NewSigner(k.Token)
	if err != nil {
		return nil, err
	}
	issuer, err := url.Parse(c.Issuer)
	if err != nil {
		return nil, err
	}
	b := &Broker{
		Config: c, prefix: issuer.EscapedPath(), store: s, signer: signer, log: log, pairwise: k.Pairwise,
		challenges: challenge.New(k.Challenge, c.Issuer, c.Rand),
		metadata:   oauth.NewMetadata(c.Issuer, origin, log.VerifierKey()),
		strangers:  limit.New(500, 5000),
		enrolling:  limit.New(2, 40),
		denials:    limit.New(1, 5000),
		kept:       newKept(),
		bodies:     make(chan struct{}, 128),
		slots:      make(chan struct{}, 4*runtime.GOMAXPROCS(0)),
	}
	b.authorities.Store(c.Authorities)
	return b, nil
}

// SetAuthorities replaces the makers of TPMs that are believed. Enrolments that
// have begun were judged by the old ones; hosts stay enrolled.
func (b *Broker) SetAuthorities(a *ek.Authorities) { b.authorities.Store(a) }

// HostID returns the SPIFFE ID of the host that operators call name.
func (b *Broker) HostID(name string) string {
	return "spiffe://" + b.TrustDomain + "/host/" + name
}

// Run does what has to be done now and then, until ctx ends: it forgets what
// expired, ends delegations whose time is over, and puts into the log how many
// messages of strangers were refused.
func (b *Broker) Run(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := b.Sweep(ctx); err != nil {
				b.Log.Error("sweeping", "err", err)
			}
		case <-ctx.Done():
			// The context is over, but what was counted must not be lost.
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			if err := b.Sweep(last); err != nil {
				b.Log.Error("sweeping before the end", "err", err)
			}
			return
		}
	}
}

// Sweep does once what Run does every minute.
func (b *Broker) Sweep(ctx context.Context) error {
	now := b.Now()
	err := b.store.Update(ctx, func(tx *store.Tx) error {
		if _, err := tx.ExpireDelegations(now); err != nil {
			return err
		}
		_, err := tx.Purge(now)
		return err
	})
	return errors.Join(err, b.flushCounters(ctx))
}

// readiness remembers for a moment whether the store could be written.
type readiness struct {
	mu  sync.Mutex // guards what follows
	at  time.Time
	err error
}

const readinessLife = 2 * time.Second

// Ready reports why the broker could not decide now: the store cannot be
// written, or its log does not end as it should.
func (b *Broker) Ready(ctx context.Context) error {
	r := &b.ready
	r.mu.Lock()
	defer r.mu.Unlock()
	now := b.Now()
	if since := now.Sub(r.at); since >= 0 && since < readinessLife {
		return r.err
	}
	value := []byte(now.UTC().Format(time.RFC3339Nano))
	r.err = b.store.Update(ctx, func(tx *store.Tx) error {
		head, err := tx.Head()
		if err != nil {
			return err
		}
		if _, err := b.log.Open(head.Checkpoint); err != nil {
			return err
		}
		previous, err := tx.Setting("ready")
		if errors.Is(err, store.ErrNotFound) {
			previous, err = nil, nil
		}
		if err != nil {
			return err
		}
		return tx.SetSetting("ready", value, previous)
	})
	r.at = now
	return r.err
}

// newTxn returns a fresh transaction id: 128 random bits in 26 characters.
func (b *Broker) newTxn() (string, error) {
	var raw [16]byte
	if _, err := io.ReadFull(b.Rand, raw[:]); err != nil {
		return "", fmt.Errorf("reading randomness: %w", err)
	}
	return txnEncoding.EncodeToString(raw[:]), nil
}

// isTxn reports whether an id looks like one newTxn made.
func isTxn(id string) bool {
	return len(id) == 26 && strings.Trim(id, txnAlphabet) == ""
}
