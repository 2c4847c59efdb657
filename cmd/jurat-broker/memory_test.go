// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/broker/keys"
	"github.com/jurat-dev/jurat/broker/lasthead"
	"github.com/jurat-dev/jurat/internal/postgrestest"
)

// place is where a broker of a test lives.
type place struct {
	t     *testing.T
	dir   string
	args  []string
	hosts int
}

func newPlace(t *testing.T, args ...string) *place {
	t.Helper()
	p := &place{t: t, dir: t.TempDir()}
	address := freeAddress(t)
	p.args = append([]string{"-issuer", "https://broker.example", "-listen", address, "-data", p.data(""), "-admin-socket", p.admin(), "-ek-bundle", "shipped"}, args...)
	return p
}

func (p *place) data(name string) string { return filepath.Join(p.dir, "data", name) }
func (p *place) admin() string           { return filepath.Join(p.dir, "admin.sock") }

// invite puts one entry into the log, if it can.
func (p *place) invite() int {
	p.t.Helper()
	p.hosts++
	resp, err := onSocket(p.admin()).Post("http://admin/v1/hosts", "application/json", strings.NewReader(fmt.Sprintf(`{"name":"h%d"}`, p.hosts)))
	must(p.t, err)
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	must(p.t, err)
	return resp.StatusCode
}

// session runs the broker while n entries are made, and returns what it logged.
func (p *place) session(n int) string {
	p.t.Helper()
	stop, log := start(p.t, p.args...)
	for range n {
		if status := p.invite(); status != http.StatusCreated {
			p.t.Fatalf("invitation: status %d", status)
		}
	}
	if code := stop(); code != exitOK {
		p.t.Fatalf("exit %d: %s", code, log)
	}
	return log.String()
}

// refused starts the broker, which must not start and say want.
func (p *place) refused(want string, args ...string) {
	p.t.Helper()
	var said output
	if code := run(context.Background(), append(p.args, args...), io.Discard, &said); code != exitEnvironment || !strings.Contains(said.String(), want) {
		p.t.Errorf("exit %d, %q is not in %s", code, want, &said)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, text, 0o600))
}

// TestRolledBack: a backup that is older than the head that was kept keeps the
// broker from starting. Without the head it starts, and says so in the log.
func TestRolledBack(t *testing.T) {
	p := newPlace(t)
	old, newer := filepath.Join(p.dir, "old.db"), filepath.Join(p.dir, "newer.db")
	p.rolledBack(func() { copyFile(t, p.data("broker.db"), old) }, func() {
		copyFile(t, p.data("broker.db"), newer)
		copyFile(t, old, p.data("broker.db"))
	}, func() { copyFile(t, newer, p.data("broker.db")) })
}

// TestPostgreSQL is the same, and more, on a server of its own.
func TestPostgreSQL(t *testing.T) {
	server := postgrestest.Start(t)
	for name, test := range map[string]func(*testing.T, *postgrestest.Server, string){
		"rolledback": func(t *testing.T, server *postgrestest.Server, schema string) {
			p := newPlace(t, "-store", server.Schema(t, schema))
			p.rolledBack(func() { server.Backup(t, schema, "olderstate") }, func() {
				server.Backup(t, schema, "newerstate")
				server.PutBack(t, schema, "olderstate")
			}, func() { server.PutBack(t, schema, "newerstate") })
		},
		"rolledbackmeanwhile": testRolledBackMeanwhile, "brokerssharekeys": testBrokersShareKeys, "storerefused": testStoreRefused,
	} {
		t.Run(name, func(t *testing.T) { test(t, server, name) })
	}
}

func (p *place) rolledBack(backup, putBack, undo func()) {
	p.t.Helper()
	if log := p.session(2); strings.Contains(log, "no head") {
		p.t.Errorf("a first start: %s", log)
	}
	backup()
	p.session(3)
	putBack()
	p.refused("log has 2 entries, but 5 were seen before: the store was rolled back")
	p.refused("log.head")
	undo()
	p.session(1)
	must(p.t, os.Remove(p.data(lasthead.File)))
	stop, log := start(p.t, p.args...)
	status, body := get(p.t, onSocket(p.admin()), "http://admin/v1/audit")
	var audit struct {
		Entries []struct{ Entry map[string]any }
	}
	must(p.t, json.Unmarshal(body, &audit))
	if n := len(audit.Entries); status != http.StatusOK || n != 7 || audit.Entries[n-1].Entry["decision"] != "log-head-unknown" {
		p.t.Errorf("the log does not say that no head was kept: %s", body)
	}
	if !strings.Contains(log.String(), "no head of the log was kept here") {
		p.t.Errorf("log: %s", log)
	}
	stop()
	head, err := os.ReadFile(p.data(lasthead.File))
	must(p.t, err)
	must(p.t, os.WriteFile(p.data(lasthead.File), []byte(strings.Replace(string(head), "\n7\n", "\n1\n", 1)), 0o600))
	p.refused("log.head: checkpoint")
}

// testRolledBackMeanwhile: a broker ends when the store is put back under it, and
// decides nothing on it.
func testRolledBackMeanwhile(t *testing.T, server *postgrestest.Server, schema string) {
	p := newPlace(t, "-store", server.Schema(t, schema))
	p.session(2)
	server.Backup(t, schema, "laststate")
	stop, log := start(t, p.args...)
	if status := p.invite(); status != http.StatusCreated {
		t.Fatal(status)
	}
	server.PutBack(t, schema, "laststate")
	if resp, err := onSocket(p.admin()).Post("http://admin/v1/hosts", "application/json", strings.NewReader(`{"name":"late"}`)); err == nil {
		resp.Body.Close()
		if resp.StatusCode == http.StatusCreated {
			t.Error("it went on with the older state")
		}
	}
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(log.String(), "msg=ended"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it goes on: %s", log)
		}
	}
	if code := stop(); code != exitEnvironment {
		t.Errorf("exit %d: %s", code, log)
	}
	if n := server.SQL(t, schema, "SELECT COUNT(*) FROM log_leaf"); n != "2" {
		t.Errorf("%s entries in the older state, want 2", n)
	}
}

// testBrokersShareKeys: a broker with other keys than its neighbours does not
// start; a token key may be replaced on purpose.
func testBrokersShareKeys(t *testing.T, server *postgrestest.Server, schema string) {
	url := server.Schema(t, schema)
	one, two := newPlace(t, "-store", url), newPlace(t, "-store", url)
	if log := one.session(1); strings.Contains(log, server.Password()) || !strings.Contains(log, "store=PostgreSQL") {
		t.Errorf("log: %s", log)
	}
	two.refused(keys.LogFile + " was missing and has just been made")
	for _, name := range []string{keys.LogFile, keys.PairwiseFile, keys.ChallengeFile} {
		copyFile(t, one.data(name), two.data(name))
	}
	two.refused(keys.TokenFile + " is not that of the other brokers")
	copyFile(t, one.data(keys.TokenFile), two.data(keys.TokenFile))
	two.hosts = 1
	two.session(1)
	one.hosts = 2
	one.session(1)
	for _, c := range []struct {
		name  string
		other bool
	}{{keys.TokenFile, true}, {keys.ChallengeFile, true}, {keys.PairwiseFile, false}} {
		copyFile(t, two.data(c.name), two.data("kept"))
		must(t, os.Remove(two.data(c.name)))
		two.refused(c.name + " ")
		if !c.other {
			two.refused("is not that of the other brokers", "-new-keys")
			copyFile(t, two.data("kept"), two.data(c.name))
			continue
		}
		plain := two.args
		two.args = append(two.args, "-new-keys")
		two.session(0)
		two.args = plain
		one.refused(c.name + " is not that of the other brokers")
		copyFile(t, two.data(c.name), one.data(c.name))
		one.session(0)
	}
}

// testStoreRefused: where the store must not be.
func testStoreRefused(t *testing.T, server *postgrestest.Server, schema string) {
	url := server.Schema(t, schema)
	open := filepath.Join(t.TempDir(), "open")
	must(t, os.WriteFile(open, []byte("*:*:*:*:x"), 0o644))
	none, wrong := filepath.Join(t.TempDir(), "none"), filepath.Join(t.TempDir(), "wrong")
	must(t, os.WriteFile(wrong, []byte("*:*:*:*:other"), 0o600))
	p := newPlace(t)
	for what, c := range map[string]struct{ store, want string }{
		"password in the URL":   {"postgres://jurat:sesame@/x?host=" + server.Dir, "can be read by everybody"},
		"password as parameter": {url + "&password=sesame", "can be read by everybody"},
		"no such file":          {strings.Replace(url, "pgpass", "none", 1), "no such file"},
		"file for all":          {"postgres:///postgres?user=jurat&host=" + server.Dir + "&passfile=" + open, "mode 0644"},
		"wrong password":        {"postgres:///postgres?user=jurat&host=" + server.Dir + "&passfile=" + wrong, "password authentication failed"},
		"nobody there":          {"postgres:///postgres?user=jurat&host=" + none, "no such file"},
		"TCP without TLS":       {"postgres://db.example/x?sslmode=disable", "sslmode=verify-full"},
		"TLS if it likes":       {"postgres://db.example/x", "sslmode=verify-full"},
		"TLS with anybody":      {"postgres://db.example/x?sslmode=require", "sslmode=verify-full"},
		"second of two":         {"postgres://127.0.0.1,db.example/x?sslmode=disable", "db.example"},
		"no such schema":        {server.URL("postgres", "nowhere"), "no schema"},
		"no such database":      {server.URL("nowhere", "public"), "does not exist"},
	} {
		var said output
		if code := run(context.Background(), append(p.args, "-store", c.store), io.Discard, &said); code != exitEnvironment || !strings.Contains(said.String(), c.want) || strings.Contains(said.String(), "sesame") {
			t.Errorf("%s: exit %d, %s", what, code, &said)
		}
	}
	t.Setenv("PGPASSFILE", server.PassFile())
	p.args = append(p.args, "-store", "postgres:///postgres?user=jurat&search_path="+schema+"&host="+server.Dir)
	p.session(1)
}
