// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package sqlite

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/broker/store/storetest"
	"github.com/jurat-dev/jurat/evidence"
)

var errFault = errors.New("fault")

// faulty is a database in which one step of a transaction goes wrong: a
// statement, a row, the end of the rows.
type faulty struct {
	store.Database
	at, step int    // fault at step at, counted from 1; 0: none
	on       string // and at every statement that begins with this
}

func (f *faulty) fault() error {
	if f.step++; f.step == f.at {
		return errFault
	}
	return nil
}

func (f *faulty) Write(ctx context.Context, fn func(store.Conn) error) error {
	return f.Database.Write(ctx, func(c store.Conn) error { f.step = 0; return fn(faultyConn{c, f}) })
}

func (f *faulty) Read(ctx context.Context, fn func(store.Conn) error) error {
	return f.Database.Read(ctx, func(c store.Conn) error { f.step = 0; return fn(faultyConn{c, f}) })
}

type faultyConn struct {
	store.Conn
	f *faulty
}

func (c faultyConn) Exec(query string, args ...any) (int64, error) {
	err := c.f.fault()
	if err == nil && c.f.on != "" && strings.HasPrefix(query, c.f.on) {
		err = errFault
	}
	if err != nil {
		return 0, err
	}
	return c.Conn.Exec(query, args...)
}

func (c faultyConn) Query(query string, args ...any) (store.Rows, error) {
	if err := c.f.fault(); err != nil {
		return nil, err
	}
	rows, err := c.Conn.Query(query, args...)
	return &faultyRows{Rows: rows, f: c.f}, err
}

type faultyRows struct {
	store.Rows
	f   *faulty
	err error
}

func (r *faultyRows) Next() bool {
	if r.err = r.f.fault(); r.err != nil {
		return false
	}
	return r.Rows.Next()
}

func (r *faultyRows) Scan(dest ...any) error {
	if err := r.f.fault(); err != nil {
		return err
	}
	return r.Rows.Scan(dest...)
}

func (r *faultyRows) Err() error { return errors.Join(r.err, r.Rows.Err()) }

// errs keeps the first error of many calls.
type errs struct{ error }

func (e *errs) add(err error) {
	if e.error == nil {
		e.error = err
	}
}

func got[T any](e *errs, _ T, err error) { e.add(err) }

// writeAll does everything a transaction can do, and stops at the first error.
func writeAll(tx *store.Tx) error {
	now, later := storetest.Now, storetest.Now.Add(time.Hour)
	h := evidence.Hash{1}
	const iss, sub, id = "https://broker.example", "alice", "dlg_1"
	host := store.Host{Name: "h", ID: "spiffe://td/host/h", UEID: []byte{1}, EK: h, AKPublic: []byte{1}, AKName: []byte{1}}
	state := store.HostState{Epoch: 1, JSON: []byte("{}")}
	d := store.Delegation{ID: id, D: h, Object: []byte("object"), Issuer: iss, Subject: sub, State: store.StateRequested, PerInstance: true, UsesLeft: 9,
		NotBefore: now, Expires: later, Requested: now}
	revocation := storetest.Entry("r")
	revocation.Type = audit.TypeRevocation
	for _, step := range []func(e *errs){
		func(e *errs) { e.add(tx.Once(store.SpaceNonce, h, later)) },
		func(e *errs) { e.add(tx.Invite(store.Invitation{Token: h, Name: "h", Created: now, Expires: later})) },
		func(e *errs) { i, err := tx.Invitation(h, now); got(e, i, err) },
		func(e *errs) {
			e.add(tx.PutEnrolment(store.Enrolment{ID: "e", Token: h, UEID: []byte{1}, AKPublic: []byte{1}, AKName: []byte{1}, Expires: later}))
		},
		func(e *errs) { x, err := tx.TakeEnrolment("e", now); got(e, x, err) },
		func(e *errs) { x, err := tx.TakeInvitation(h, now); got(e, x, err) },
		func(e *errs) { e.add(tx.AddHost(host)) },
		func(e *errs) { e.add(tx.AdvanceHost(host.ID, store.HostState{}, state, now)) },
		func(e *errs) { e.error = keepAll(tx, host.ID) },
		func(e *errs) {
			e.add(tx.PutDocument(store.Document{Kind: "workload", Name: "w", Body: []byte("{}")}, evidence.Hash{}))
		},
		func(e *errs) {
			e.add(tx.PutDocument(store.Document{Kind: "workload", Name: "w", Body: []byte("[]")}, store.DocumentDigest([]byte("{}"))))
		},
		func(e *errs) { e.add(tx.AddApprover(store.Approver{Issuer: iss, Subject: sub, Salt: []byte{1}})) },
		func(e *errs) { e.add(tx.AddKey(iss, sub, store.ApproverKey{Fingerprint: "f", Key: []byte{1}})) },
		func(e *errs) { e.add(tx.RemoveKey("f", now)) },
		func(e *errs) { e.add(tx.AddKey(iss, sub, store.ApproverKey{Fingerprint: "f", Key: []byte{1}})) },
		func(e *errs) { e.add(tx.PutResource(store.Resource{ID: "r", Audience: "a"})) },
		func(e *errs) { e.add(tx.AddDelegation(d)) },
		func(e *errs) {
			e.add(tx.AddAnswer(store.Answer{D: d.D, Act: "approval", Issuer: iss, Subject: sub, Signature: []byte{1}, Key: []byte{1}}))
		},
		func(e *errs) { e.add(tx.MoveDelegation(id, store.StateRequested, store.StateApproved, now)) },
		func(e *errs) { x, err := tx.UseDelegation(id, "i", now); got(e, x, err) },
		func(e *errs) { x, err := tx.UseDelegation(id, "i", now); got(e, x, err) },
		func(e *errs) { e.add(tx.AddToken(store.Token{JTI: h, Delegation: id, Host: host.ID, Expires: later})) },
		func(e *errs) { e.add(tx.AddEvidence(store.Evidence{Ref: h, Host: host.ID, Expires: later})) },
		func(e *errs) { x, err := tx.TakeEvidence(h, now); got(e, x, err) },
		func(e *errs) { e.add(tx.SetSetting("s", []byte{1}, nil)) },
		func(e *errs) { e.add(tx.SetSetting("s", []byte{2}, []byte{1})) },
		func(e *errs) { x, err := tx.Append(storetest.Entry("t"), []byte("{}")); got(e, x, err) },
		func(e *errs) { x, err := tx.Append(revocation, nil); got(e, x, err) },
		func(e *errs) { x, err := tx.Append(storetest.Entry("u"), []byte("{}")); got(e, x, err) },
		func(e *errs) { e.add(readAll(&tx.Reader)) },
		func(e *errs) { x, err := tx.RevokeInstance(host.ID, "i", now); got(e, x, err) },
		func(e *errs) { e.add(tx.RevokeToken(h, now)) },
		func(e *errs) { e.add(tx.MoveDelegation(id, store.StateApproved, store.StateRevoked, now)) },
		func(e *errs) { x, err := tx.ExpireDelegations(now); got(e, x, err) },
		func(e *errs) { x, err := tx.Purge(now); got(e, x, err) },
		func(e *errs) { e.add(tx.RemoveHost("h", now)) },
		func(e *errs) { e.add(tx.RemoveResource("r")) },
		func(e *errs) { e.add(tx.RemoveDocument("workload", "w")) },
		func(e *errs) { e.add(tx.EraseApprover(iss, sub)) },
	} {
		var e errs
		if step(&e); e.error != nil {
			return e.error
		}
	}
	return nil
}

// readAll reads everything that writeAll has written half-way.
func readAll(r *store.Reader) error {
	h := evidence.Hash{1}
	for _, step := range []func(e *errs){
		func(e *errs) { x, err := r.HostByName("h"); got(e, x, err) },
		func(e *errs) { x, err := r.HostByID("spiffe://td/host/h"); got(e, x, err) },
		func(e *errs) { x, err := r.HostByUEID([]byte{1}); got(e, x, err) },
		func(e *errs) { x, err := r.Hosts(); got(e, x, err) },
		func(e *errs) { x, err := r.Invitations(); got(e, x, err) },
		func(e *errs) { x, err := r.Document("workload", "w"); got(e, x, err) },
		func(e *errs) { x, err := r.Documents("workload"); got(e, x, err) },
		func(e *errs) { x, err := r.Approver("https://broker.example", "alice"); got(e, x, err) },
		func(e *errs) { x, err := r.Approvers(); got(e, x, err) },
		func(e *errs) { x, err := r.Resource("r"); got(e, x, err) },
		func(e *errs) { x, err := r.Resources(); got(e, x, err) },
		func(e *errs) { x, err := r.Delegation("dlg_1"); got(e, x, err) },
		func(e *errs) { x, err := r.DelegationByD(h); got(e, x, err) },
		func(e *errs) { x, err := r.Delegations(9); got(e, x, err) },
		func(e *errs) {
			x, err := r.OpenRequests("https://broker.example", "alice", storetest.Now)
			got(e, x, err)
		},
		func(e *errs) { x, err := r.Answers(h); got(e, x, err) },
		func(e *errs) { x, err := r.Token(h); got(e, x, err) },
		func(e *errs) { x, err := r.Setting("s"); got(e, x, err) },
		func(e *errs) { x, err := r.Leaves(0, 9); got(e, x, err) },
		func(e *errs) { x, err := r.Explanations("t"); got(e, x, err) },
	} {
		var e errs
		if step(&e); e.error != nil {
			return e.error
		}
	}
	return nil
}

// readLog reads what is only there once something is committed.
func readLog(r *store.Reader) error {
	var e errs
	head, err := r.Head()
	got(&e, head, err)
	if e.error == nil {
		x, err := r.Receipt(1)
		got(&e, x, err)
	}
	if e.error == nil {
		_, _, err := r.Consistency(1)
		e.add(err)
	}
	if e.error == nil {
		e.add(r.Continues(audit.Checkpoint{Size: head.Size, Root: head.Root}))
	}
	return e.error
}

// TestFaults lets every single step of everything go wrong once. The error
// must come out, and nothing of the transaction may stay.
func TestFaults(t *testing.T) {
	inner, err := open(t.Context(), filepath.Join(t.TempDir(), "state", "broker.db"), storetest.Now)
	if err != nil {
		t.Fatal(err)
	}
	f := &faulty{Database: inner}
	s, err := store.New(t.Context(), f, storetest.NewSigner(t))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	write := func() error { return s.Update(t.Context(), writeAll) }
	grow(t, s, 0, 5)
	writes := everyFault(t, f, write)
	logs := everyFault(t, f, func() error { return s.View(t.Context(), readLog) })
	checks := everyFault(t, f, func() error { return s.Check(t.Context()) })
	opens := everyFault(t, f, func() error {
		_, err := store.New(t.Context(), kept{f}, storetest.NewSigner(t))
		return err
	})
	t.Logf("%d faults in writing and reading, %d in reading the log, %d in Check, %d in opening", writes, logs, checks, opens)
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// kept is a database that somebody else closes.
type kept struct{ store.Database }

func (kept) Close() error { return nil }

// everyFault runs do with a fault at step 1, 2, 3, … until it gets through.
func everyFault(t *testing.T, f *faulty, do func() error) int {
	t.Helper()
	for f.at = 1; ; f.at++ {
		err := do()
		if f.step < f.at {
			faults := f.at - 1
			f.at = 0
			if err != nil {
				t.Fatalf("without a fault: %v", err)
			}
			return faults
		}
		if !errors.Is(err, errFault) {
			t.Fatalf("fault at step %d came out as %v", f.at, err)
		}
	}
}

// When a failed update cannot be taken back, nobody in its batch is committed:
// what it wrote must not ride along.
func TestCannotTakeBack(t *testing.T) {
	inner, _ := openedDatabase(t)
	f := &faulty{Database: inner}
	s, err := store.New(t.Context(), kept{f}, storetest.NewSigner(t))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	once := func(n byte, then error) func(tx *store.Tx) error {
		return func(tx *store.Tx) error {
			return errors.Join(tx.Once(store.SpaceNonce, evidence.Hash{n}, storetest.Now), then)
		}
	}
	for round, fault := range []string{"", "ROLLBACK TO"} {
		inside, leave := make(chan bool), make(chan bool)
		first, bad, good := make(chan error, 1), make(chan error, 1), make(chan error, 1)
		go func() { // holds the turn, so that the next two share a batch
			first <- s.Update(context.Background(), func(*store.Tx) error { close(inside); <-leave; return nil })
		}()
		<-inside
		go func() { bad <- s.Update(context.Background(), once(1, errors.New("no"))) }()
		time.Sleep(20 * time.Millisecond)
		go func() { good <- s.Update(context.Background(), once(byte(2+round), nil)) }()
		time.Sleep(20 * time.Millisecond)
		f.on = fault
		close(leave)
		if err := <-first; err != nil {
			t.Error(err)
		}
		if err := <-bad; err == nil {
			t.Error("the failed update says it is done")
		}
		if err := <-good; (err == nil) != (fault == "") || fault != "" && !errors.Is(err, errFault) {
			t.Errorf("fault %q: its neighbour says %v", fault, err)
		}
		f.on = ""
		if fault == "" {
			continue
		}
		if err := s.Update(t.Context(), once(1, nil)); err != nil {
			t.Errorf("the failed update left something: %v", err)
		}
	}
}

// failing is a database whose commits fail while fail says so.
type failing struct {
	store.Database
	fail error
}

func (f *failing) Write(ctx context.Context, fn func(store.Conn) error) error {
	return f.Database.Write(ctx, func(c store.Conn) error {
		if err := fn(c); err != nil {
			return err
		}
		return f.fail
	})
}

// moody is a signer that does not sign while fail says so.
type moody struct {
	*audit.Signer
	fail error
}

func (m *moody) Checkpoint(size uint64, root evidence.Hash) ([]byte, error) {
	if m.fail != nil {
		return nil, m.fail
	}
	return m.Signer.Checkpoint(size, root)
}

// Without a commit or without a signed head there is no yes, and nothing stays.
func TestNotCommitted(t *testing.T) {
	inner, err := open(t.Context(), filepath.Join(t.TempDir(), "state", "broker.db"), storetest.Now)
	if err != nil {
		t.Fatal(err)
	}
	db, signer := &failing{Database: inner}, &moody{Signer: storetest.NewSigner(t)}
	boom := errors.New("no space left on device")
	signer.fail = boom
	if _, err := store.New(t.Context(), db, signer); !errors.Is(err, boom) {
		t.Errorf("a new log without a signed head: %v", err)
	}
	signer.fail = nil
	s, err := store.New(t.Context(), db, signer)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	try := func() error {
		return s.Update(t.Context(), func(tx *store.Tx) error {
			if err := tx.Once(store.SpaceNonce, evidence.Hash{1}, storetest.Now); err != nil {
				return err
			}
			_, err := tx.Append(storetest.Entry("t"), []byte("{}"))
			return err
		})
	}
	db.fail = boom
	if err := try(); !errors.Is(err, boom) {
		t.Errorf("commit failed, update says %v", err)
	}
	db.fail, signer.fail = nil, boom
	if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.SetSetting("a", nil, nil) }); err != nil {
		t.Errorf("nothing to sign, but %v", err)
	}
	if err := try(); !errors.Is(err, boom) {
		t.Errorf("signing failed, update says %v", err)
	}
	signer.fail = nil
	if err := try(); err != nil {
		t.Errorf("something stayed: %v", err)
	}
	if err := try(); err != store.ErrReplay {
		t.Errorf("second time: %v", err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
}
