// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package postgrestest runs a PostgreSQL server of a test's own: a fresh
// cluster in a temporary directory, reached by a unix socket in it, run by an
// unprivileged user and gone with the test. No service of the machine is used or
// disturbed.
//
// It is no station of the flow and ships in no program. A machine without the
// programs initdb and postgres skips the test, unless JURAT_REQUIRE names
// "postgres".
package postgrestest

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/internal/require"
)

// User is who owns the server's databases. A password is demanded of everybody.
const User = "jurat"

// Server is a running PostgreSQL.
type Server struct {
	Dir string // everything of it; sockets are here

	programs string
	as       *syscall.Credential // nil: the test's own user
	password string
	process  *exec.Cmd
	said     *output
}

// output is what the server wrote.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// Start makes a cluster and starts its server. Both are gone when the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	programs, err := find()
	require.Need(t, "postgres", err)
	s := &Server{programs: programs, password: "no-secret-of-one-test"}
	if os.Geteuid() == 0 {
		s.as, err = unprivileged()
		require.Need(t, "postgres", err)
	}
	// t.TempDir is closed to other users.
	if s.Dir, err = os.MkdirTemp("", "jurat-pg-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Kill()
		if err := os.RemoveAll(s.Dir); err != nil {
			t.Error(err)
		}
	})
	for name, text := range map[string]string{"pw": s.password + "\n", "pgpass": "*:*:*:*:" + s.password + "\n"} {
		if err := os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if s.as != nil {
		for _, name := range []string{"", "pw"} {
			if err := os.Chown(filepath.Join(s.Dir, name), int(s.as.Uid), int(s.as.Gid)); err != nil {
				t.Fatal(err)
			}
		}
	}
	init := s.command("initdb", "-D", filepath.Join(s.Dir, "data"), "-U", User, "--pwfile", filepath.Join(s.Dir, "pw"), "-A", "scram-sha-256",
		"-E", "UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US", // a database that sorts as people do
		"--no-sync", "--no-instructions")
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v: %s", err, out)
	}
	s.Restart(t)
	return s
}

// find returns the directory of the newest installed programs.
func find() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // Debian's, not on the path
	if err != nil {
		return "", err
	}
	slices.SortFunc(found, func(a, b string) int { return version(a) - version(b) })
	if len(found) > 0 {
		return filepath.Dir(found[len(found)-1]), nil
	}
	path, err := exec.LookPath("initdb")
	return filepath.Dir(path), err
}

func version(path string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	if err != nil {
		return 0
	}
	return n
}

// unprivileged is who runs the server for root, as whom it does not start.
func unprivileged() (*syscall.Credential, error) {
	var errs []error
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err1, err2)
	}
	return nil, errors.Join(errs...)
}

func (s *Server) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.programs, program), args...)
	cmd.Dir = s.Dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as, Pdeathsig: syscall.SIGKILL} // it ends with the test if that dies
	return cmd
}

// Restart starts the server again after Kill. It goes by what is on the disk.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.said = &output{}
	cmd := s.command("postgres", "-D", filepath.Join(s.Dir, "data"), "-k", s.Dir, "-c", "listen_addresses=", "-c", "shared_buffers=32MB", "-c", "max_connections=60")
	cmd.Stdout, cmd.Stderr = s.said, s.said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.process = cmd
	ready := s.command("pg_isready", "-q", "-h", s.Dir)
	for deadline := time.Now().Add(60 * time.Second); ready.Run() != nil; ready = s.command("pg_isready", "-q", "-h", s.Dir) {
		if time.Now().After(deadline) {
			t.Fatalf("PostgreSQL does not start: %s", s.said)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Kill kills the server, all its processes, without a word, and waits until they
// are gone.
func (s *Server) Kill() {
	if s.process == nil {
		return
	}
	pid := s.process.Process.Pid
	// Its children are in sessions of their own.
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
	s.process = nil
	for _, word := range strings.Fields(string(text)) {
		child, err := strconv.Atoi(word)
		if err != nil {
			continue
		}
		_ = syscall.Kill(child, syscall.SIGKILL)
		for running(child) {
			time.Sleep(time.Millisecond)
		}
	}
}

// running reports whether a process does anything any more.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, ok := strings.Cut(string(stat), ") ")
	return err == nil && ok && !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// PassFile is the file with the password.
func (s *Server) PassFile() string { return filepath.Join(s.Dir, "pgpass") }

// Password must not turn up anywhere.
func (s *Server) Password() string { return s.password }

// URL names a database of the server. The tables are in the schema called
// schema, which must have been made.
func (s *Server) URL(database, schema string) string {
	q := url.Values{"host": {s.Dir}, "user": {User}, "passfile": {s.PassFile()}, "search_path": {schema}}
	return (&url.URL{Scheme: "postgres", Path: "/" + database, RawQuery: q.Encode()}).String()
}

// Schema makes an empty schema and returns the URL to it.
func (s *Server) Schema(t testing.TB, name string) string {
	t.Helper()
	s.SQL(t, "public", fmt.Sprintf("CREATE SCHEMA %q", name))
	return s.URL("postgres", name)
}

// SQL runs statements in a schema with PostgreSQL's own client, and returns what
// it prints.
func (s *Server) SQL(t testing.TB, schema, statements string) string {
	t.Helper()
	return s.client(t, schema, statements, "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-")
}

// Backup copies a schema, as pg_dump and psql do, into a new one. No text in it
// may have the schema's name in it.
func (s *Server) Backup(t testing.TB, schema, into string) {
	t.Helper()
	dump := s.client(t, schema, "", "pg_dump", "--schema="+schema)
	s.SQL(t, "public", strings.ReplaceAll(dump, schema, into))
}

// PutBack makes what was copied into from the schema, as if the server had been
// restored and started again.
func (s *Server) PutBack(t testing.TB, schema, from string) {
	t.Helper()
	s.SQL(t, "public", fmt.Sprintf(`BEGIN; DROP SCHEMA %[1]q CASCADE; ALTER SCHEMA %[2]q RENAME TO %[1]q; COMMIT;
		SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'`, schema, from))
}

func (s *Server) client(t testing.TB, schema, input, program string, args ...string) string {
	t.Helper()
	cmd := s.command(program, append(args, "-h", s.Dir, "-U", User, "-d", "postgres")...)
	cmd.SysProcAttr.Credential = nil // the password file is the test's
	cmd.Env = append(cmd.Env, "PGPASSFILE="+s.PassFile(), "PGOPTIONS=-c client_min_messages=warning -c search_path="+schema)
	cmd.Stdin = strings.NewReader(input)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v: %s", program, err, &said)
	}
	return strings.TrimSpace(out.String())
}
