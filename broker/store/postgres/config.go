// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// How long one answer is waited for; the server gives up a little earlier. A
// broker that holds the lock and does nothing loses it.
const (
	writePatience = 12 * time.Second
	readPatience  = 40 * time.Second
	writeLimit    = "10s"
	readLimit     = "30s"
	idleLimit     = "5s"
	dialTime      = 5 * time.Second
)

// configs reads a connection string, for writing and for reading.
func configs(connection string) (writer, reader *pgx.ConnConfig, err error) {
	if secret(connection) {
		return nil, nil, errors.New("a password in the connection string can be read by everybody on this machine: put it in a file (passfile=FILE, mode 0600) or use the server's peer or certificate authentication")
	}
	writer, err = pgx.ParseConfig(connection)
	if err != nil {
		return nil, nil, err // it hides passwords
	}
	if err := errors.Join(checkRoute(writer), checkPassFile(connection)); err != nil {
		return nil, nil, err
	}
	if writer.ConnectTimeout == 0 {
		writer.ConnectTimeout = dialTime
	}
	params := writer.RuntimeParams
	if params["application_name"] == "" {
		params["application_name"] = "jurat-broker"
	}
	params["client_encoding"], params["standard_conforming_strings"] = "UTF8", "on"
	params["idle_in_transaction_session_timeout"] = idleLimit
	reader = writer.Copy()
	writer.RuntimeParams["statement_timeout"] = writeLimit
	reader.RuntimeParams["statement_timeout"] = readLimit
	reader.RuntimeParams["default_transaction_read_only"] = "on"
	return writer, reader, nil
}

// secret reports whether a connection string has a password in it.
func secret(connection string) bool {
	if u, err := url.Parse(connection); err == nil && u.Scheme != "" {
		_, set := u.User.Password()
		return set || u.Query().Has("password") || u.Query().Has("sslpassword")
	}
	return strings.Contains(strings.ToLower(connection), "password")
}

var passFileWord = regexp.MustCompile(`(?:^|\s)passfile\s*=\s*(?:'([^']*)'|(\S+))`)

// passFile is the file with the password that a connection string, or else
// PGPASSFILE, names; "": neither does.
func passFile(connection string) string {
	if u, err := url.Parse(connection); err == nil && u.Scheme != "" {
		if name := u.Query().Get("passfile"); name != "" {
			return name
		}
	} else if m := passFileWord.FindStringSubmatch(connection); m != nil {
		return m[1] + m[2]
	}
	return os.Getenv("PGPASSFILE")
}

// checkPassFile refuses a password that others may read.
func checkPassFile(connection string) error {
	name := passFile(connection)
	if name == "" {
		return nil
	}
	info, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("file with the password: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("file with the password: %s has mode %04o: others may read it, want 0600", name, mode)
	}
	return nil
}

// checkRoute refuses to speak to a server on the network that has not shown who
// it is: whoever sits between could write the decisions.
func checkRoute(c *pgx.ConnConfig) error {
	routes := []struct {
		host string
		tls  *tls.Config
	}{{c.Host, c.TLSConfig}}
	for _, f := range c.Fallbacks {
		routes = append(routes, struct {
			host string
			tls  *tls.Config
		}{f.Host, f.TLSConfig})
	}
	for _, r := range routes {
		ip := net.ParseIP(r.host)
		if strings.HasPrefix(r.host, "/") || strings.HasPrefix(r.host, "@") || r.host == "localhost" || ip != nil && ip.IsLoopback() {
			continue
		}
		if r.tls == nil || r.tls.InsecureSkipVerify && r.tls.VerifyPeerCertificate == nil && r.tls.VerifyConnection == nil {
			return fmt.Errorf("%s is reached without its certificate being verified: say sslmode=verify-full, and sslrootcert=FILE for an authority of your own", r.host)
		}
	}
	return nil
}

// suitable refuses a server on which a commit is not one.
func suitable(ctx context.Context, raw *pgx.Conn) error {
	var standby bool
	var fsync, commit, encoding string
	err := raw.QueryRow(ctx, `SELECT pg_is_in_recovery(), current_setting('fsync'), current_setting('synchronous_commit'), current_setting('server_encoding')`).
		Scan(&standby, &fsync, &commit, &encoding)
	switch {
	case err != nil:
		return err
	case standby:
		return errors.New("the server is a standby: name the primary, or say target_session_attrs=primary")
	case fsync != "on":
		return errors.New("the server has fsync off: what it says is committed may be gone after a crash")
	case commit == "off":
		return errors.New("synchronous_commit is off: what the server says is committed may be gone after a crash")
	case encoding != "UTF8":
		return fmt.Errorf("the database is in %s, want UTF8", encoding)
	}
	return nil
}
