// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package brokerclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
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

	"github.com/go-jose/go-jose/v4/json" // knows case, refuses a member given twice
)

// Caps on answers, in bytes.
const (
	maxAnswer         = 256 << 10
	maxEvidenceAnswer = 4 << 20 // one line per request of the largest batch
)

// DefaultTimeout bounds one exchange with the broker.
const DefaultTimeout = 15 * time.Second

// Config says which broker, and whom to believe that it is the one.
type Config struct {
	URL     string         // the issuer: https, or http to a loopback address
	RootCAs *x509.CertPool // nil: the system's
	Timeout time.Duration  // 0: DefaultTimeout
	Agent   string         // User-Agent
}

// Client talks to one broker. It may be used by several goroutines.
type Client struct {
	issuer string
	agent  string
	http   *http.Client
}

// New returns a client for the broker. It does not connect.
func New(c Config) (*Client, error) {
	issuer, err := ParseIssuer(c.URL)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	transport := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		TLSClientConfig:        &tls.Config{RootCAs: c.RootCAs, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    16,
		MaxResponseHeaderBytes: 32 << 10,
		IdleConnTimeout:        90 * time.Second,
		TLSHandshakeTimeout:    10 * time.Second,
	}
	if strings.HasPrefix(issuer, "http://") {
		// A name such as localhost proves nothing; the address dialled does.
		dialer.ControlContext = onlyLoopback
		transport.Proxy = nil
	}
	transport.DialContext = dialer.DialContext
	timeout := c.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	return &Client{
		issuer: issuer, agent: c.Agent,
		http: &http.Client{
			Transport: transport, Timeout: timeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// ParseIssuer returns the issuer URL in the one form it is compared in: https
// (or http to a loopback address), no user, query or fragment, no slash at
// the end.
func ParseIssuer(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", fmt.Errorf("malformed broker URL %q", raw)
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return "", fmt.Errorf("broker URL %q: want https", raw)
	case u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", fmt.Errorf("broker URL %q: want only scheme, host and path", raw)
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return "", fmt.Errorf("broker URL %q: plain http only to a loopback address", raw)
	}
	return strings.TrimRight(u.String(), "/"), nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func onlyLoopback(_ context.Context, _, address string, _ syscall.RawConn) error {
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("plain http to %s: not a loopback address", address)
	}
	return nil
}

// Issuer returns the broker's URL as its tokens and leaves name it.
func (c *Client) Issuer() string { return c.issuer }

// TokenEndpoint returns the URL that a proof for the token exchange names.
func (c *Client) TokenEndpoint() string { return c.issuer + "/oauth/token" }

// call is one exchange.
type call struct {
	op     string // for people: "posting evidence"
	method string
	url    string
	header http.Header
	body   []byte
	limit  int64
	none   bool // the answer's body does not matter
}

// jsonCall posts v as JSON.
func (c *Client) jsonCall(op, path string, v any) (call, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return call{}, err
	}
	return call{
		op: op, method: http.MethodPost, url: c.issuer + path, body: body,
		header: http.Header{"Content-Type": {"application/json"}},
	}, nil
}

// do makes the exchange and decodes a good answer into out.
func (c *Client) do(ctx context.Context, q call, out any) error {
	req, err := http.NewRequestWithContext(ctx, q.method, q.url, bytes.NewReader(q.body))
	if err != nil {
		return fmt.Errorf("%s: %w", q.op, err)
	}
	for name, values := range q.header {
		req.Header[name] = values
	}
	req.Header.Set("Accept", "application/json")
	if c.agent != "" {
		req.Header.Set("User-Agent", c.agent)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return &Unreachable{Op: q.op, URL: c.issuer, Err: cause(err)}
	}
	defer resp.Body.Close()
	limit := q.limit
	if limit == 0 {
		limit = maxAnswer
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return &Unreachable{Op: q.op, URL: c.issuer, Err: cause(err)}
	case int64(len(body)) > limit:
		return badAnswer(q.op, "more than %d bytes", limit)
	case resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusCreated:
		if q.none {
			return nil
		}
		if err := isJSON(resp.Header); err != nil {
			return badAnswer(q.op, "%v", err)
		}
		if err := json.Unmarshal(body, out); err != nil {
			return badAnswer(q.op, "%v", err)
		}
		return nil
	default:
		return refusal(q.op, resp, body)
	}
}

// cause drops the method and URL that net/http puts in front: the caller says
// them, and a query is no business of a log.
func cause(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}

func isJSON(h http.Header) error {
	mediaType, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || mediaType != "application/json" {
		return fmt.Errorf("content type %q, want application/json", h.Get("Content-Type"))
	}
	return nil
}

// refusalJSON is an error answer (spec/broker-api.md, errors).
type refusalJSON struct {
	Error       string  `json:"error"`
	Description string  `json:"error_description"`
	Code        string  `json:"code"`
	Reason      string  `json:"reason"`
	Failed      []Check `json:"failed"`
	Txn         string  `json:"txn"`
	Retry       string  `json:"retry"`
}

// refusal makes an error of an answer that is not good. What does not look
// like a broker's (a proxy's page, say) still becomes one: the status speaks.
func refusal(op string, resp *http.Response, body []byte) error {
	r := &Refusal{Op: op, Status: resp.StatusCode, Nonce: resp.Header.Get("DPoP-Nonce")}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds >= 0 && seconds <= 3600 {
		r.After = time.Duration(seconds) * time.Second
	}
	var said refusalJSON
	if isJSON(resp.Header) == nil && json.Unmarshal(body, &said) == nil && said.Error != "" {
		r.Code, r.Reason, r.Description = printable(said.Error), printable(said.Code), printable(said.Description)
		if r.Reason == "" {
			r.Reason = printable(said.Reason)
		}
		r.Txn, r.Retry = printable(said.Txn), printable(said.Retry)
		for _, f := range said.Failed {
			r.Failed = append(r.Failed, Check{Attestor: printable(f.Attestor), Check: printable(f.Check)})
		}
		return r
	}
	r.Code = fmt.Sprintf("http_%d", resp.StatusCode)
	r.Description = "the answer is not of the broker's form"
	return r
}

const maxShown = 1024

// printable makes a text of the broker's safe to log and to show.
func printable(s string) string {
	if len(s) > maxShown {
		s = s[:maxShown]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return -1
		}
		return r
	}, s)
}

// wellKnown inserts the well-known part between host and path (RFC 8414
// section 3.1).
func (c *Client) wellKnown(name string) string {
	u, err := url.Parse(c.issuer)
	if err != nil {
		return c.issuer // ParseIssuer made it
	}
	u.Path = "/.well-known/" + name + u.Path
	return u.String()
}
