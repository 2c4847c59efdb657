// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package local

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"time"
)

// Processes asks which processes the sensor knows, by pid: all of them, in as
// many answers as that takes. Who starts or ends meanwhile may be in it or not.
// Only root gets it, as all that follows.
func (c *Client) Processes(ctx context.Context) ([]Process, error) {
	all := []Process{}
	for from := uint32(0); ; {
		var part Processes
		if err := c.ask(ctx, &Request{Op: OpProcesses, PID: from}, nil, &part); err != nil {
			return nil, err
		}
		all = append(all, part.Processes...)
		if !part.More {
			return all, nil
		}
		if len(part.Processes) == 0 || all[len(all)-1].Instance.PID < from {
			return nil, &Unavailable{Socket: c.socket(), Err: fmt.Errorf("malformed answer: others than those of pid %d and above", from)}
		}
		from = all[len(all)-1].Instance.PID + 1
	}
}

// Measurements asks for every file whose digest is known.
func (c *Client) Measurements(ctx context.Context) (*Measurements, error) {
	out := new(Measurements)
	return out, c.ask(ctx, &Request{Op: OpMeasurements}, nil, out)
}

// Explain has the process with that pid of the initial namespace measured now.
func (c *Client) Explain(ctx context.Context, pid uint32) (*Explanation, error) {
	out := new(Explanation)
	return out, c.ask(ctx, &Request{Op: OpExplain, PID: pid}, nil, out)
}

// Events calls f for each event from now on, until ctx ends, f returns an
// error, which Events then returns, or juratd ends the connection.
func (c *Client) Events(ctx context.Context, f func(*Event) error) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.socket())
	if err != nil {
		return &Unavailable{Socket: c.socket(), Err: err}
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	err = c.follow(conn, f)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (c *Client) follow(conn net.Conn, f func(*Event) error) error {
	lines := bufio.NewScanner(conn)
	lines.Buffer(make([]byte, 4096), MaxAnswer)
	unavailable := func(format string, args ...any) error {
		return &Unavailable{Socket: c.socket(), Err: fmt.Errorf(format, args...)}
	}
	var greeting struct {
		Greeting
		Error *Error `json:"error"`
	}
	switch {
	case !lines.Scan():
		return unavailable("no greeting: %w", ended(lines))
	case json.Unmarshal(lines.Bytes(), &greeting) != nil:
		return unavailable("malformed greeting")
	case greeting.Error != nil:
		return greeting.Error
	case greeting.Version != Version:
		return unavailable("it speaks version %d, this client %d", greeting.Version, Version)
	}
	if _, err := fmt.Fprintf(conn, `{"v":%d,"op":%q}`+"\n", Version, OpEvents); err != nil {
		return unavailable("%w", err)
	}
	for lines.Scan() {
		var line struct {
			Event
			Error *Error `json:"error"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return unavailable("malformed event: %w", err)
		}
		if line.Error != nil {
			return line.Error
		}
		if err := f(&line.Event); err != nil {
			return err
		}
	}
	return unavailable("%w", ended(lines))
}

// ended is why no further line came.
func ended(lines *bufio.Scanner) error {
	if err := lines.Err(); err != nil {
		return err
	}
	return io.EOF
}
