// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/broker/internal/testbundle"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/evidence"
)

// How much is killed in TestKilled, and how many exchange meanwhile.
const (
	killRounds  = 12
	killTokens  = 25 // that are given out between two kills, at least
	databaseWas = 4  // each so many rounds, the database is killed instead of a broker
	customers   = 3
)

// customer is a workload on a host of its own that wants token after token, and
// takes no answer for an answer.
type customer struct {
	world   *world
	given   *atomic.Int64 // tokens, to all customers
	host    *testbundle.Host
	hostID  string
	subject evidence.Subject

	tokens   []string // that were given out
	unheard  int      // attempts that ended without an answer, or with a 5xx
	answered int      // refusals
}

// once goes the whole way, and notes how far it came.
func (c *customer) once(t testing.TB, d object) {
	w := c.world
	failed := func(a answer, err error) bool {
		switch {
		case err != nil || a.status >= 500:
			c.unheard++
			time.Sleep(5 * time.Millisecond)
		case a.status != http.StatusOK:
			c.answered++
		default:
			return false
		}
		return true
	}
	a, err := try(w.url+"/oauth/challenge", "application/json", fmt.Sprintf(`{"host":%q}`, c.hostID))
	if failed(a, err) {
		return
	}
	text := a.str("attestation_challenge")
	nonce, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Error(err)
		return
	}
	wish := w.wish(d)
	wish.Subject = c.subject
	bundle := c.host.Bundle(t, nonce, uint64(a.body["have"].(object)["log_size"].(float64)), wish)
	if a, err = try(w.url+"/v1/evidence", evidence.MediaType, string(bundle)); failed(a, err) {
		return
	}
	form := w.form(d, ref(a, 0)).Encode()
	proof := w.proof(w.key, object{"nonce": text, "iat": time.Now().Unix()})
	if a, err = try(w.url+"/oauth/token", "application/x-www-form-urlencoded", form, "DPoP", proof); failed(a, err) {
		return
	}
	c.tokens = append(c.tokens, a.str("access_token"))
	c.given.Add(1)
}

// TestKilled kills brokers and the database in the middle of exchanges, again and
// again. Whatever was given out is in the log, each use was spent once, and the
// log ends as it should; brokers and database start again as if nothing was.
func TestKilled(t *testing.T) {
	c := newCluster(t, 3)
	c.register()
	d := c.approved(object{"uses": 10_000})
	var all []*customer
	var given atomic.Int64
	for i := range customers {
		name := fmt.Sprintf("h%d", i)
		h := c.enrol(name)
		all = append(all, &customer{world: c.world, given: &given, host: h, hostID: c.b.HostID(name), subject: h.Measure(t, 4711, nil)})
	}
	over := make(chan struct{})
	var busy sync.WaitGroup
	for _, one := range all {
		busy.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
					one.once(t, d)
				}
			}
		})
	}
	for round := range killRounds {
		deadline := time.Now().Add(time.Minute)
		for enough := given.Load() + killTokens; given.Load() < enough && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		if time.Now().After(deadline) {
			t.Errorf("round %d: nobody gets tokens any more: %s", round, c.members[0].said)
			break
		}
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
		if round%databaseWas == databaseWas-1 {
			c.db.Kill()
			c.db.Restart(t)
			continue
		}
		m := c.members[round%len(c.members)]
		m.kill()
		if err := c.start(m); err != nil {
			t.Error(err)
		}
	}
	close(over)
	busy.Wait()
	c.afterKills(all, d)
}

// afterKills holds what the customers have against what the store has.
func (c *cluster) afterKills(all []*customer, d object) {
	t := c.t
	before := 0
	for _, one := range all {
		before += len(one.tokens)
	}
	for _, one := range all { // everything works again, at each of the brokers
		for range 2 * len(c.members) {
			one.once(t, d)
		}
	}
	given, unheard, answered := 0, 0, 0
	for _, one := range all {
		given, unheard, answered = given+len(one.tokens), unheard+one.unheard, answered+one.answered
	}
	t.Logf("%d kills: %d tokens, %d attempts without an answer, %d refused", killRounds, given, unheard, answered)
	if given == before || before == 0 || unheard == 0 {
		t.Errorf("%d tokens before the end, %d after it, %d without an answer", before, given-before, unheard)
	}
	c.inspect(func(r *store.Reader) error {
		seen := map[string]bool{}
		for _, one := range all {
			for _, token := range one.tokens {
				claims := c.claims(token)
				jti, index := claims["jti"].(string), uint64(claims["log"].(object)["index"].(float64))
				if seen[jti] {
					t.Errorf("token %s was given out twice", jti)
				}
				seen[jti] = true
				row, err := r.Token(secretDigest(jti))
				if err != nil {
					t.Errorf("token at %d is not in the store: %v", index, err)
				}
				leaves, err := r.Leaves(index, 1)
				if err != nil || len(leaves) != 1 || leaves[0].Txn != row.Txn {
					t.Errorf("entry %d is not that of the token (%v)", index, err)
				}
			}
		}
		allowed := countAllowed(t, r, d["id"].(string))
		row, err := r.Delegation(d["id"].(string))
		if err != nil {
			return err
		}
		if spent := 10_000 - row.UsesLeft; spent != uint64(allowed) || allowed < given {
			t.Errorf("%d uses spent, %d tokens in the log, %d given out", spent, allowed, given)
		}
		return nil
	})
}
