// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/jurat-dev/jurat/agent/local"
	brokerclient "github.com/jurat-dev/jurat/broker-client"
	"github.com/jurat-dev/jurat/evidence"
)

// Names in the state directory.
const (
	identityName = "identity.json"
	bundleName   = "last-bundle.cbor"
	headName     = "broker-checkpoint"
	tableName    = "processes.json"
	taintsName   = "host-taints.json"
	logName      = "log"
)

// Identity is what enrolment gave this host, as kept in the state directory.
type Identity struct {
	brokerclient.Identity
	AKName evidence.Bytes `json:"ak_name"` // of the key that is enrolled
}

// ErrNotEnrolled says that the state directory holds no identity.
var ErrNotEnrolled = errors.New("this host is not enrolled")

// ReadIdentity reads the identity in the state directory.
func ReadIdentity(state string) (Identity, error) {
	var id Identity
	raw, err := os.ReadFile(filepath.Join(state, identityName))
	if errors.Is(err, fs.ErrNotExist) {
		return id, fmt.Errorf("%w: no %s in %s", ErrNotEnrolled, identityName, state)
	}
	if err != nil {
		return id, err
	}
	if err := json.Unmarshal(raw, &id); err != nil {
		return id, fmt.Errorf("malformed %s: %v", filepath.Join(state, identityName), err)
	}
	if err := id.Check(id.Issuer); err != nil || len(id.AKName) == 0 {
		return id, errors.Join(fmt.Errorf("malformed %s", filepath.Join(state, identityName)), err)
	}
	return id, nil
}

// writeFile replaces a file as a whole: mode 0600, on disk when it returns.
func writeFile(dir, name string, data []byte) error {
	f, err := os.CreateTemp(dir, "."+name+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// keepBundle keeps the last bundle for support. It need not survive a crash,
// so nothing waits for the disk.
func (a *Agent) keepBundle(data []byte) error {
	path := filepath.Join(a.state, bundleName)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (a *Agent) lastBundle() (*local.Bundle, *local.Error) {
	data, err := os.ReadFile(filepath.Join(a.state, bundleName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault(codeNone, "no evidence was sent yet")
	}
	if err != nil {
		return nil, fault(codeInternal, "%v", err)
	}
	return &local.Bundle{Bundle: data}, nil
}

// keepHead keeps the largest log of the broker that was seen.
func (a *Agent) keepHead() {
	if a.witness == nil {
		return
	}
	a.heads.Lock()
	defer a.heads.Unlock()
	head := a.witness.Head().Note
	if head == a.keptHead {
		return
	}
	if err := writeFile(a.state, headName, []byte(head)); err != nil {
		a.logger.Warn("the broker's checkpoint could not be kept", "error", err)
		return
	}
	a.keptHead = head
}

// status answers OpStatus.
func (a *Agent) status() *local.Status {
	e := a.epoch.Load()
	s := &local.Status{
		Version: a.version, Host: a.identity.Host, Broker: a.identity.Issuer, BrokerState: notContact,
		Tier: a.facts.Tier, Kernel: a.host.kernel, Identity: a.mode.String(),
		Epoch: e.number, Since: e.since.Unix(), LogSize: a.log.Size(), Sequence: a.log.Quoted().Sequence,
		Lost: e.lost.Load(), Taints: e.taints.Load(), Waiting: a.desk.waiting(),
		Quotes: a.quotes.Load(), Answered: a.answered.Load(),
	}
	said := a.anchor.said.Load()
	s.Anchor, s.AnchorFault = said.mode, said.why
	if mood := a.mood.Load(); mood != nil {
		s.BrokerState = *mood
	}
	if last, _ := a.log.Last(); last != nil {
		s.Checkpoint = last.Number
	}
	s.Instances, s.Keys = a.table.size()
	return s
}
