// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package local

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// DefaultTimeout bounds one exchange where the context does not. A slow TPM
// and a broker that has to be tried again fit into it.
const DefaultTimeout = 40 * time.Second

// Client asks juratd. Its zero value uses [DefaultSocket]. It may be used by
// several goroutines.
type Client struct {
	Socket string
}

// Unavailable says that juratd did not answer.
type Unavailable struct {
	Socket string
	Err    error
}

func (e *Unavailable) Error() string {
	return fmt.Sprintf("juratd does not answer on %s: %v", e.Socket, e.Err)
}

func (e *Unavailable) Unwrap() error { return e.Err }

// CredentialRequest asks for a token.
type CredentialRequest struct {
	Delegation string   // id, or base64url of the content hash
	Actions    []string // ascending; empty: all that was approved
	Datatypes  []string
	Bearer     bool     // not bound to a key, where the policy allows it
	Child      *os.File // pidfd of a child of the caller that the token is for; nil: the caller
}

// Credential asks for a token for this process, or for its child.
func (c *Client) Credential(ctx context.Context, r CredentialRequest) (*Credential, error) {
	out := new(Credential)
	return out, c.ask(ctx, &Request{
		Op: OpCredential, Delegation: r.Delegation, Actions: r.Actions, Datatypes: r.Datatypes, Bearer: r.Bearer, Child: r.Child != nil,
	}, r.Child, out)
}

// Proof asks for the headers of one HTTP request. nonce is what the resource
// demanded, or empty.
func (c *Client) Proof(ctx context.Context, delegation, method, url, nonce string) (*Proof, error) {
	out := new(Proof)
	return out, c.ask(ctx, &Request{Op: OpProof, Delegation: delegation, Method: method, URL: url, Nonce: nonce}, nil, out)
}

// Status asks how the agent is.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	out := new(Status)
	return out, c.ask(ctx, &Request{Op: OpStatus}, nil, out)
}

// Bundle asks for the last evidence the agent sent. Only root gets it.
func (c *Client) Bundle(ctx context.Context) ([]byte, error) {
	var out Bundle
	err := c.ask(ctx, &Request{Op: OpBundle}, nil, &out)
	return out.Bundle, err
}

// ask makes one exchange on one connection. Its errors are *Error for what
// juratd answered and *Unavailable when it did not.
func (c *Client) ask(ctx context.Context, r *Request, file *os.File, out any) error {
	r.Version = Version
	if err := r.check(); err != nil {
		return &Error{Code: CodeRequest, Message: err.Error()}
	}
	line, err := json.Marshal(r)
	if err != nil {
		return &Error{Code: CodeRequest, Message: err.Error()}
	}
	if line = append(line, '\n'); len(line) > MaxRequest {
		return &Error{Code: CodeRequest, Message: fmt.Sprintf("request of %d bytes, at most %d", len(line), MaxRequest)}
	}
	answer, err := c.exchange(ctx, line, file)
	if err != nil {
		return &Unavailable{Socket: c.socket(), Err: err}
	}
	var failed struct {
		Error *Error `json:"error"`
	}
	if bytes.Contains(answer, []byte(`"error"`)) { // others may be long, and are read once
		if err := json.Unmarshal(answer, &failed); err != nil {
			return &Unavailable{Socket: c.socket(), Err: fmt.Errorf("malformed answer: %v", err)}
		}
	}
	if failed.Error != nil {
		return failed.Error
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return &Unavailable{Socket: c.socket(), Err: fmt.Errorf("malformed answer: %v", err)}
	}
	return nil
}

func (c *Client) socket() string {
	if c.Socket == "" {
		return DefaultSocket
	}
	return c.Socket
}

func (c *Client) exchange(ctx context.Context, line []byte, file *os.File) ([]byte, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultTimeout)
		defer cancel()
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.socket())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	answer, err := converse(conn.(*net.UnixConn), line, file)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return answer, err
}

func converse(conn *net.UnixConn, line []byte, file *os.File) ([]byte, error) {
	in := bufio.NewReaderSize(io.LimitReader(conn, MaxAnswer), 4096)
	first, err := in.ReadSlice('\n')
	if err != nil {
		return nil, fmt.Errorf("no greeting: %w", err)
	}
	var greeting struct {
		Greeting
		Error *Error `json:"error"`
	}
	if err := json.Unmarshal(first, &greeting); err != nil {
		return nil, fmt.Errorf("malformed greeting: %v", err)
	}
	if greeting.Error != nil { // it does not even want to hear the question
		return first, nil
	}
	if greeting.Version != Version {
		return nil, fmt.Errorf("it speaks version %d, this client %d", greeting.Version, Version)
	}
	var rights []byte
	if file != nil {
		rights = fileRights(file)
	}
	if _, _, err := conn.WriteMsgUnix(line, rights, nil); err != nil {
		return nil, err
	}
	answer, err := in.ReadBytes('\n')
	switch {
	case err == nil:
		return answer, nil
	case errors.Is(err, io.EOF) && len(answer) == 0:
		return nil, errors.New("the connection ended without an answer")
	case errors.Is(err, io.EOF) && len(answer) >= MaxAnswer:
		return nil, fmt.Errorf("answer of more than %d bytes", MaxAnswer)
	}
	return nil, fmt.Errorf("the answer ends in the middle: %w", err)
}
