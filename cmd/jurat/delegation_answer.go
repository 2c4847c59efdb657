// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"

	"github.com/spf13/cobra"

	brokerclient "github.com/jurat-dev/jurat/broker-client"
	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/delegation"
	"github.com/jurat-dev/jurat/evidence"
)

// answer is one of the three things a person can say to a delegation.
type answer struct {
	act      delegation.Act
	use      string // the command
	short    string
	long     string
	question string
	done     string
}

var answers = []answer{
	{
		delegation.Approval, "approve", "approve a delegation with your ssh key",
		`Fetches the delegation, recomputes its digest, shows in plain words what it
allows, asks, and signs exactly that with ssh-keygen. FILE is a private key, or
a public key whose private half is in your ssh-agent; security keys work.`,
		"Approve this?", "approved",
	},
	{
		delegation.Refusal, "refuse", "refuse a delegation with your ssh key",
		`Shows the delegation, asks, and signs the refusal with ssh-keygen. Nobody can
use or approve it afterwards.`,
		"Refuse this?", "refused",
	},
	{
		delegation.Revocation, "revoke", "revoke a delegation with your ssh key",
		`Shows the delegation, asks, and signs the revocation with ssh-keygen. No
credential is issued on it afterwards; those that live end within minutes, or at
once where the service asks the broker.`,
		"Revoke this?", "revoked",
	},
}

func (a *app) answerCommand(said answer) *cobra.Command {
	var key string
	var yes bool
	c := &cobra.Command{
		Use:     said.use + " ID --key FILE",
		Short:   said.short,
		Long:    said.long,
		Example: "  jurat delegation " + said.use + " dlg_… --key ~/.ssh/id_ed25519",
		Args:    arguments("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			if key == "" {
				return usage(c, "--key FILE is missing")
			}
			if err := a.mayAsk(c, yes); err != nil {
				return err
			}
			return a.answer(c, said, args[0], key, yes)
		},
	}
	c.Flags().StringVar(&key, "key", "", "ssh key `FILE` to sign with")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

// answerJSON is jurat.answer/v1.
type answerJSON struct {
	Schema     string `json:"schema"`
	Act        string `json:"act"` // "approval", "refusal", "revocation"
	Delegation string `json:"delegation"`
	D          string `json:"d"`
	Key        string `json:"key"`   // fingerprint
	State      string `json:"state"` // of the delegation now
}

// answer shows a delegation, asks, signs and sends.
func (a *app) answer(c *cobra.Command, said answer, id, key string, yes bool) error {
	broker, err := a.public(c)
	if err != nil {
		return err
	}
	found, enc, err := a.fetchDelegation(c.Context(), id)
	if err != nil {
		return err
	}
	words, err := delegation.Describe(enc)
	if err != nil {
		return err
	}
	show := term.New(a.out, a.color(a.out))
	if a.json {
		show = term.New(a.err, a.color(a.err))
	}
	paragraphs(show, "", words)
	show.Line("  %-12s %s", "state", found.State)
	show.Blank()
	if err := a.sure(c, yes, said.question); err != nil {
		return err
	}
	now := uint64(a.now().Unix())
	signed, statement := enc, []byte(nil)
	if said.act != delegation.Approval {
		if statement, err = delegation.NewStatement(said.act, found.D, now); err != nil {
			return err
		}
		signed = statement
	}
	sig, err := a.sign(c.Context(), key, said.act, signed)
	if err != nil {
		return err
	}
	if err := fits(enc, found.Object.Approver, said.act, statement, sig, now); err != nil {
		return err
	}
	ctx, cancel := a.bounded(c.Context())
	defer cancel()
	in := map[string]any{"signature": string(sig.Armored())}
	if statement != nil {
		in["statement"] = statement // base64
	}
	var state struct {
		State string `json:"state"`
	}
	path := "/v1/delegations/" + found.Object.ID + "/" + said.use
	if err := broker.Post(ctx, "sending the "+string(said.act), path, in, &state); err != nil {
		return err
	}
	out := &answerJSON{"jurat.answer/v1", string(said.act), found.Object.ID, "sha-256:" + found.D.String(), sig.Key().Fingerprint(), state.State}
	return a.emit(out, func(p *term.Printer) {
		p.Styled(term.Green, "%s %s with key %s; it is now %s", out.Delegation, said.done, out.Key, out.State)
	})
}

// fetchDelegation returns a delegation and enc(D), from which its digest was
// computed here.
func (a *app) fetchDelegation(ctx context.Context, id string) (*brokerclient.Delegation, []byte, error) {
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	client, err := brokerclient.New(brokerclient.Config{URL: a.broker, Timeout: a.timeout, Agent: "jurat/" + version})
	if err != nil {
		return nil, nil, err
	}
	found, err := client.Delegation(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	enc, err := found.Object.Marshal()
	if err != nil {
		return nil, nil, err
	}
	if d := delegation.Digest(enc); d != found.D {
		return nil, nil, fmt.Errorf("delegation %s has digest %s, the broker says %s", found.Object.ID, d, found.D)
	}
	return found, enc, nil
}

// sign lets ssh-keygen sign, which knows about agents, passphrases and
// security keys. There is no time limit: somebody may have to find their key.
func (a *app) sign(ctx context.Context, key string, act delegation.Act, message []byte) (*delegation.Signature, error) {
	cmd := exec.CommandContext(ctx, "ssh-keygen", "-q", "-Y", "sign", "-n", act.Namespace(), "-f", key)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(message), &out, a.err
	if err := cmd.Run(); err != nil {
		return nil, &failure{
			exit: exitEnvironment, code: "environment", err: fmt.Errorf("signing with %s: ssh-keygen: %w", key, err),
			hint: "the key must be readable, or its public half given and the private one in your ssh-agent",
		}
	}
	return delegation.ParseArmored(out.Bytes())
}

// sure asks whether it is meant, unless that was said already.
func (a *app) sure(c *cobra.Command, yes bool, question string) error {
	if err := a.mayAsk(c, yes); err != nil || yes {
		return err
	}
	yes, err := term.Ask(a.in, a.err, question)
	if err == nil && !yes {
		err = &failure{exit: exitNo, code: "declined", err: errors.New("you did not say yes: nothing was done")}
	}
	return err
}

// mayAsk refuses to go on where nobody can be asked.
func (a *app) mayAsk(c *cobra.Command, yes bool) error {
	if yes || term.IsTerminal(a.in) {
		return nil
	}
	return usage(c, "standard input is no terminal, so nobody can be asked: --yes says it is meant")
}

// fits checks the signature against what was shown, before it is sent.
func fits(enc []byte, person delegation.Person, act delegation.Act, statement []byte, sig *delegation.Signature, now uint64) error {
	given := delegation.Answer{
		Act: act, Method: delegation.MethodSSH, Person: person, At: now,
		Statement: evidence.Bytes(statement), Signature: sig.Blob(),
	}
	_, err := delegation.VerifyAnswer(enc, given, []delegation.Approver{{Person: person, Keys: []delegation.Registered{{Key: sig.Key()}}}})
	return err
}
