// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package brokerapi speaks to a broker for the jurat command: to its operator
// socket, where the file's permission says who may, or to its public API
// (spec/broker-api.md).
//
// Its door: it dials one broker. It follows no redirect, caps what it reads,
// and refuses an answer that is not JSON.
package brokerapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	brokerclient "github.com/jurat-dev/jurat/broker-client"
)

// maxAnswer bounds one answer, in bytes.
const maxAnswer = 32 << 20

// Client speaks to one broker.
type Client struct {
	address string // for people
	base    string
	http    *http.Client
}

// Operator returns a client for the operator socket at path.
func Operator(path string) *Client {
	t := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	return &Client{address: path, base: "http://operator", http: newHTTP(t)}
}

// Public returns a client for the broker at an https URL, or an http one on
// this machine.
func Public(address string) (*Client, error) {
	issuer, err := brokerclient.ParseIssuer(address)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	t := &http.Transport{DisableKeepAlives: true, ForceAttemptHTTP2: true, DialContext: dialer.DialContext}
	if strings.HasPrefix(issuer, "http://") {
		dialer.ControlContext = onlyLoopback // a name proves nothing, the address dialled does
	} else {
		t.Proxy = http.ProxyFromEnvironment
	}
	return &Client{address: issuer, base: issuer, http: newHTTP(t)}, nil
}

func onlyLoopback(_ context.Context, _, address string, _ syscall.RawConn) error {
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("plain http to %s: not a loopback address", address)
	}
	return nil
}

func newHTTP(t *http.Transport) *http.Client {
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// Address returns where the broker is, for people.
func (c *Client) Address() string { return c.address }

// Get reads path into out. op says for people what that is.
func (c *Client) Get(ctx context.Context, op, path string, out any) error {
	return c.do(ctx, op, http.MethodGet, path, "", nil, out)
}

// Post sends in as JSON and reads the answer into out, which may be nil.
func (c *Client) Post(ctx context.Context, op, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return c.do(ctx, op, http.MethodPost, path, "application/json", body, out)
}

// PostYAML sends a YAML document.
func (c *Client) PostYAML(ctx context.Context, op, path string, body []byte, out any) error {
	return c.do(ctx, op, http.MethodPost, path, "application/yaml", body, out)
}

// Delete removes what is at path.
func (c *Client) Delete(ctx context.Context, op, path string, out any) error {
	return c.do(ctx, op, http.MethodDelete, path, "", nil, out)
}

// Text reads path as text of at most 64 KiB.
func (c *Client) Text(ctx context.Context, op, path string) (string, error) {
	body, err := c.Bytes(ctx, op, path, 64<<10)
	return string(body), err
}

// Bytes reads what is at path, at most so many bytes.
func (c *Client) Bytes(ctx context.Context, op, path string, limit int64) ([]byte, error) {
	resp, body, err := c.exchange(ctx, op, http.MethodGet, path, "", nil, limit)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, refusal(op, resp, body)
	}
	return body, nil
}

func (c *Client) do(ctx context.Context, op, method, path, contentType string, body []byte, out any) error {
	resp, answer, err := c.exchange(ctx, op, method, path, contentType, body, maxAnswer)
	switch {
	case err != nil:
		return err
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return refusal(op, resp, answer)
	case out == nil || resp.StatusCode == http.StatusNoContent:
		return nil
	case !isJSON(resp.Header):
		return &brokerclient.BadAnswer{Op: op, Detail: fmt.Sprintf("content type %q, want application/json", resp.Header.Get("Content-Type"))}
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return &brokerclient.BadAnswer{Op: op, Detail: err.Error()}
	}
	return nil
}

func (c *Client) exchange(ctx context.Context, op, method, path, contentType string, body []byte, limit int64) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", op, err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return nil, nil, &brokerclient.Unreachable{Op: op, URL: c.address, Err: err}
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, nil, &brokerclient.Unreachable{Op: op, URL: c.address, Err: err}
	}
	if int64(len(answer)) > limit {
		return nil, nil, &brokerclient.BadAnswer{Op: op, Detail: fmt.Sprintf("more than %d bytes", limit)}
	}
	return resp, answer, nil
}

func isJSON(h http.Header) bool {
	mediaType, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && (mediaType == "application/json" || mediaType == "application/problem+json")
}

// refusal makes an error of an answer that is a no.
func refusal(op string, resp *http.Response, body []byte) error {
	var said struct {
		Error       string               `json:"error"`
		Description string               `json:"error_description"`
		Code        string               `json:"code"`
		Reason      string               `json:"reason"`
		Failed      []brokerclient.Check `json:"failed"`
		Txn         string               `json:"txn"`
		Retry       string               `json:"retry"`
	}
	r := &brokerclient.Refusal{Op: op, Status: resp.StatusCode}
	if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && n >= 0 && n <= 3600 {
		r.After = time.Duration(n) * time.Second
	}
	if !isJSON(resp.Header) || json.Unmarshal(body, &said) != nil || said.Error == "" {
		r.Code, r.Description = fmt.Sprintf("http_%d", resp.StatusCode), "the answer is not of the broker's form"
		return r
	}
	r.Code, r.Description, r.Reason, r.Failed, r.Txn, r.Retry = said.Error, said.Description, said.Code, said.Failed, said.Txn, said.Retry
	if r.Reason == "" {
		r.Reason = said.Reason
	}
	return r
}

// Ready returns nil when the broker says it is ready.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.Text(ctx, "asking whether it is ready", "/readyz")
	return err
}

// Checkpoint is the first two lines of the log's signed head
// (c2sp.org/tlog-checkpoint). Its signature is not checked here.
type Checkpoint struct {
	Origin string
	Size   uint64
}

// Checkpoint reads the head of the broker's log.
func (c *Client) Checkpoint(ctx context.Context) (Checkpoint, error) {
	const op = "reading the log's checkpoint"
	text, err := c.Text(ctx, op, "/log/checkpoint")
	if err != nil {
		return Checkpoint{}, err
	}
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) < 4 {
		return Checkpoint{}, &brokerclient.BadAnswer{Op: op, Detail: "fewer than three lines"}
	}
	size, err := strconv.ParseUint(lines[1], 10, 63)
	if err != nil {
		return Checkpoint{}, &brokerclient.BadAnswer{Op: op, Detail: fmt.Sprintf("size %q", lines[1])}
	}
	return Checkpoint{Origin: lines[0], Size: size}, nil
}
