// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jurat-dev/jurat/agent/local"
	brokerclient "github.com/jurat-dev/jurat/broker-client"
)

const (
	exchanges  = 16 // at once
	maxTries   = 4  // quotes for one visit
	retryBase  = 100 * time.Millisecond
	retryMax   = 5 * time.Second
	reachable  = "reachable"
	notContact = "unknown" // before the first exchange
)

func (a *Agent) backoff() brokerclient.Backoff {
	return brokerclient.Backoff{Base: retryBase, Max: retryMax, Random: a.jitter}
}

// contact makes one exchange with the broker, again and again until it is
// answered or ctx ends, and keeps for the status how that went.
func (a *Agent) contact(ctx context.Context, do func(context.Context) error) error {
	sulk := func(err error) {
		if errors.Is(err, context.Canceled) {
			return // it was not waited for
		}
		text := "unreachable: " + err.Error()
		if before := a.mood.Swap(&text); before == nil || *before == reachable || *before == notContact {
			a.logger.Warn("the broker does not answer; trying again", "error", err)
		}
	}
	err := a.backoff().Retry(ctx, sulk, do)
	if err != nil && brokerclient.Temporary(err) {
		sulk(err)
		return err
	}
	cheer := reachable
	if before := a.mood.Swap(&cheer); before != nil && *before != reachable && *before != notContact {
		a.logger.Info("the broker answers again")
	}
	return err
}

// greet finds out whether the broker answers, so that the status says so
// before anybody asks for a credential. Nothing depends on it.
func (a *Agent) greet(ctx context.Context) error {
	_ = a.contact(ctx, func(ctx context.Context) error {
		_, err := a.broker.Metadata(ctx)
		return err
	})
	return nil
}

// challenge asks for the challenge that the batch will answer, for as long as
// anybody in it still waits.
func (a *Agent) challenge(ctx context.Context, batch []*visit) (*brokerclient.Challenge, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for _, v := range batch {
			select {
			case <-v.ctx.Done():
			case <-ctx.Done():
				return
			}
		}
		cancel()
	}()
	var c *brokerclient.Challenge
	err := a.contact(ctx, func(ctx context.Context) (err error) {
		c, err = a.broker.Challenge(ctx, a.identity.Host)
		return err
	})
	return c, err
}

// send posts the bundle and redeems every reference it is answered with. It
// returns the visits that no answer was about.
func (a *Agent) send(ctx context.Context, bundle []byte, batch []*visit, challenge *brokerclient.Challenge) ([]*visit, error) {
	if err := a.keepBundle(bundle); err != nil {
		a.logger.Warn("the bundle could not be kept for support", "error", err)
	}
	within, cancel := context.WithTimeout(ctx, challenge.ExpiresIn)
	defer cancel()
	var answer *brokerclient.Submission
	err := a.contact(within, func(ctx context.Context) (err error) {
		answer, err = a.broker.SubmitEvidence(ctx, bundle)
		return err
	})
	if err != nil {
		a.logger.Warn("evidence not accepted", "requests", len(batch), "error", err)
		return batch, err
	}
	// The next batch need not wait for these: what the broker has of the log is
	// settled.
	var group sync.WaitGroup
	for _, v := range batch {
		group.Go(func() {
			select {
			case a.places <- struct{}{}:
				defer func() { <-a.places }()
			case <-v.ctx.Done():
			}
			token, err := a.redeem(v, answer, challenge)
			if err != nil {
				err = faultOf(codeInternal, err)
			}
			v.finish(token, err)
		})
	}
	a.redeeming.Go(func() {
		group.Wait()
		a.keepHead()
	})
	return nil, nil
}

// redeem exchanges one reference for a token.
func (a *Agent) redeem(v *visit, answer *brokerclient.Submission, challenge *brokerclient.Challenge) (*brokerclient.Token, error) {
	said := answer.Request(v.position)
	if said == nil {
		return nil, fault(codeRefused, "the broker's answer does not mention the request")
	}
	if said.Reference == "" || len(said.Failed) > 0 {
		f := fault(codeRefused, "the evidence does not match the workload: verdict %q", said.Verdict)
		f.Txn, f.Retry = said.Txn, "after-change"
		for _, c := range said.Failed {
			f.Failed = append(f.Failed, local.Check(c))
		}
		return nil, f
	}
	ctx, cancel := context.WithTimeout(v.ctx, answer.ExpiresIn)
	defer cancel()
	var before brokerclient.Head
	if a.witness != nil {
		before = a.witness.Head()
	}
	var token *brokerclient.Token
	err := a.contact(ctx, func(ctx context.Context) error {
		ask := brokerclient.ExchangeRequest{
			D: v.want.d, Reference: said.Reference, Audience: v.want.audience, Actions: v.want.actions, Datatypes: v.want.datatypes,
		}
		var err error
		if !v.want.bearer {
			// The same jti would be a replay, so each attempt has its own proof.
			if ask.Proof, err = v.key.Proof("POST", a.identity.Issuer+"/oauth/token", challenge.Text, "", a.now()); err != nil {
				return err
			}
		}
		token, err = a.broker.Exchange(ctx, ask)
		return err
	})
	if err != nil {
		return nil, err
	}
	if a.witness != nil {
		if err := a.witness.Check(token, before); err != nil {
			a.logger.Error("the broker's log is not what it has to be; its token is thrown away", "error", err, "txn", token.Txn)
			return nil, fault(codeBrokerLog, "%v", err)
		}
	}
	a.answered.Add(1)
	return token, nil
}

// again puts back visits for which there was no room.
func (a *Agent) again(batch []*visit) {
	for _, v := range batch {
		a.desk.again(v)
	}
}

// retry puts a visit back for the next quote where that can help, or ends it.
// free: the try does not count.
func (a *Agent) retry(v *visit, err error, free bool) {
	f := faultOf(codeInternal, err)
	refusal, refused := errors.AsType[*brokerclient.Refusal](err)
	if free && v.ctx.Err() == nil {
		a.desk.again(v)
		return
	}
	worth := f.Code == codeEpoch || f.Code == codeAnchor || brokerclient.Temporary(err) || refused && refusal.Retry == "now"
	if v.tries++; worth && v.tries < maxTries && v.ctx.Err() == nil {
		a.desk.again(v)
		return
	}
	v.finish(nil, f)
}
