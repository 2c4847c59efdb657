// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/broker/internal/testbundle"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/postgrestest"
)

// How the load of BenchmarkExchange is made.
const (
	benchHosts    = 8
	benchRequests = 16 // in a bundle, and exchanged at once
)

// BenchmarkExchange is the whole way of a warm host on loopback: challenge,
// bundle with several requests, five attestors, delegation, DPoP proof, token,
// audit. The hosts' part is in it, made and signed in software by the same
// processors; so are the clients' proofs.
func BenchmarkExchange_in_SQLite(b *testing.B) { benchExchange(b, newWorld(b)) }

func BenchmarkExchange_in_PostgreSQL(b *testing.B) {
	benchExchange(b, newWorldIn(b, postgrestest.Start(b).Schema(b, "bench")))
}

func benchExchange(b *testing.B, w *world) {
	w.register()
	d := w.approved(object{"uses": 10_000})
	var left atomic.Int64
	left.Store(int64(b.N))
	var mu sync.Mutex
	var took []time.Duration
	var all sync.WaitGroup
	hosts := make([]*customer, benchHosts)
	for i := range hosts {
		name := fmt.Sprintf("h%d", i)
		h := w.enrol(name)
		hosts[i] = &customer{world: w, host: h, hostID: w.b.HostID(name), subject: h.Measure(b, 4711, nil)}
	}
	b.ResetTimer()
	for _, c := range hosts {
		all.Go(func() {
			for left.Add(-benchRequests) > -benchRequests {
				times, err := c.batch(b, d, benchRequests)
				if err != nil {
					b.Error(err)
					return
				}
				w.clock.add(time.Second) // of the limits per client
				mu.Lock()
				took = append(took, times...)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "exchanges/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}

// batch goes the whole way for n requests of one bundle, and returns how long
// each exchange took.
func (c *customer) batch(t testing.TB, d object, n int) ([]time.Duration, error) {
	w := c.world
	post := func(path, kind, body string, header ...string) (answer, error) {
		a, err := try(w.url+path, kind, body, header...)
		if err == nil && a.status != http.StatusOK {
			err = fmt.Errorf("%s: status %d: %s", path, a.status, a.raw)
		}
		return a, err
	}
	a, err := post("/oauth/challenge", "application/json", fmt.Sprintf(`{"host":%q}`, c.hostID))
	if err != nil {
		return nil, err
	}
	text := a.str("attestation_challenge")
	nonce, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	wish := w.wish(d)
	wish.Subject = c.subject
	wishes := make([]testbundle.Wish, n)
	for i := range wishes {
		wishes[i] = wish
	}
	have := uint64(a.body["have"].(object)["log_size"].(float64))
	if a, err = post("/v1/evidence", evidence.MediaType, string(c.host.Bundle(t, nonce, have, wishes...))); err != nil {
		return nil, err
	}
	took, errs := make([]time.Duration, n), make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		form, proof := w.form(d, ref(a, i)).Encode(), w.proof(w.key, object{"nonce": text, "n": i, "iat": w.clock.now().Unix()})
		all.Go(func() {
			start := time.Now()
			_, errs[i] = post("/oauth/token", "application/x-www-form-urlencoded", form, "DPoP", proof)
			took[i] = time.Since(start)
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return took, nil
}
