// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"sync"

	brokerclient "github.com/jurat-dev/jurat/broker-client"
	"github.com/jurat-dev/jurat/delegation"
)

// maxTasks is how many delegations are remembered.
const maxTasks = 1024

// tasks remembers what delegations say. The object behind a content hash never
// changes, and whether it may still be used the broker decides each time.
type tasks struct {
	mu     sync.Mutex // guards what follows
	known  map[string]*brokerclient.Delegation
	asking map[string]chan struct{} // closed when the answer is there
}

func newTasks() *tasks {
	return &tasks{known: make(map[string]*brokerclient.Delegation), asking: make(map[string]chan struct{})}
}

// task returns the delegation with that id or content hash. Requests for the
// same at once become one question to the broker.
func (a *Agent) task(ctx context.Context, name string) (*brokerclient.Delegation, error) {
	t := a.tasks
	for {
		t.mu.Lock()
		if d := t.known[name]; d != nil {
			t.mu.Unlock()
			return d, nil
		}
		asked := t.asking[name]
		if asked == nil {
			asked = make(chan struct{})
			t.asking[name] = asked
			t.mu.Unlock()
			return a.askTask(ctx, name, asked)
		}
		t.mu.Unlock()
		select {
		case <-asked:
		case <-ctx.Done():
			return nil, a.late(ctx)
		}
	}
}

func (a *Agent) askTask(ctx context.Context, name string, asked chan struct{}) (*brokerclient.Delegation, error) {
	t := a.tasks
	var d *brokerclient.Delegation
	err := a.contact(ctx, func(ctx context.Context) (err error) {
		d, err = a.broker.Delegation(ctx, name)
		return err
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.asking, name)
	close(asked)
	if err != nil {
		return nil, err
	}
	if len(t.known) >= maxTasks {
		clear(t.known)
	}
	t.known[d.Object.ID], t.known[delegation.Text(d.D)] = d, d
	return d, nil
}
