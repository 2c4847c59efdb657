// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package delegation

import (
	"bytes"
	"crypto/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/jurat-dev/jurat/evidence"
)

// person is somebody with a key, for tests.
type person struct {
	name   Person
	key    Key
	signer ssh.Signer
}

func somebody(t testing.TB, subject string) person {
	t.Helper()
	key, signer := newSigner(t)
	return person{Person{Issuer: broker, Subject: subject}, key, signer}
}

func trusted(people ...person) (out []Approver) {
	for _, p := range people {
		out = append(out, Approver{p.name, []Registered{{Key: p.key}}})
	}
	return out
}

// answer signs what an honest program would sign, at start plus after.
func (p person) answer(t testing.TB, act Act, enc []byte, after time.Duration) Answer {
	t.Helper()
	a := Answer{Act: act, Method: MethodSSH, Person: p.name, At: uint64(start.Add(after).Unix())}
	message := enc
	if act != Approval {
		var err error
		if message, err = NewStatement(act, Digest(enc), a.At); err != nil {
			t.Fatal(err)
		}
		a.Statement = message
	}
	sig, err := Sign(rand.Reader, p.signer, act, message)
	if err != nil {
		t.Fatal(err)
	}
	a.Signature = sig.Blob()
	return a
}

func bundle(enc []byte, answers ...Answer) *Bundle {
	return &Bundle{Type: BundleType, Version: Version, Object: enc, Answers: answers}
}

func TestStanding(t *testing.T) {
	a, b, c := somebody(t, alice.Subject), somebody(t, "bob"), somebody(t, "carol")
	all := trusted(a, b, c)
	one := encoded(t, sample())
	two := sample()
	two.FourEyes = 2
	pair := encoded(t, two)
	for name, c := range map[string]struct {
		enc     []byte
		answers []Answer
		at      time.Duration
		want    State
	}{
		"nobody answered":           {one, nil, 0, Requested},
		"approved":                  {one, []Answer{a.answer(t, Approval, one, 0)}, 0, Approved},
		"approved, last second":     {one, []Answer{a.answer(t, Approval, one, 0)}, time.Hour - time.Second, Approved},
		"approved, not begun":       {one, []Answer{a.answer(t, Approval, one, -time.Minute)}, -time.Second, Early},
		"approved, over":            {one, []Answer{a.answer(t, Approval, one, 0)}, time.Hour, Expired},
		"approved when it was over": {one, []Answer{a.answer(t, Approval, one, time.Hour)}, 0, Requested},
		"refused":                   {one, []Answer{a.answer(t, Refusal, one, 0)}, 0, Refused},
		"approved and refused":      {one, []Answer{a.answer(t, Approval, one, 0), a.answer(t, Refusal, one, 1)}, 0, Refused},
		"approved and revoked":      {one, []Answer{a.answer(t, Approval, one, 0), a.answer(t, Revocation, one, 1)}, 0, Revoked},
		"revoked and approved":      {one, []Answer{a.answer(t, Revocation, one, 0), a.answer(t, Approval, one, 1)}, 0, Revoked},
		"one of two":                {pair, []Answer{a.answer(t, Approval, pair, 0)}, 0, Requested},
		"two of two":                {pair, []Answer{b.answer(t, Approval, pair, 0), a.answer(t, Approval, pair, 1)}, 0, Approved},
		"two without the approver":  {pair, []Answer{b.answer(t, Approval, pair, 0), c.answer(t, Approval, pair, 1)}, 0, Requested},
		"the second refused":        {pair, []Answer{a.answer(t, Approval, pair, 0), b.answer(t, Refusal, pair, 1)}, 0, Refused},
		"the second revoked":        {pair, []Answer{b.answer(t, Approval, pair, 0), a.answer(t, Approval, pair, 0), b.answer(t, Revocation, pair, 1)}, 0, Revoked},
	} {
		s, err := Verify(bundle(c.enc, c.answers...), all)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := s.At(start.Add(c.at)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		if s.D() != Digest(c.enc) || s.Delegation() == nil || len(s.Answers()) != len(c.answers) {
			t.Errorf("%s: standing of another delegation", name)
		}
	}
	var none Standing
	if none.At(start) != Unknown || none.Delegation() != nil {
		t.Error("the zero standing stands for something")
	}
}

func TestVerifyRefuses(t *testing.T) {
	a, b, stranger := somebody(t, alice.Subject), somebody(t, "bob"), somebody(t, alice.Subject)
	all := trusted(a, b)
	enc := encoded(t, sample())
	changedObject := sample()
	changedObject.Actions = append(changedObject.Actions, "invoice.pay")
	larger := encoded(t, changedObject)
	four := sample()
	four.FourEyes = 2
	pair := encoded(t, four)

	yes := func(change func(*Answer)) []Answer {
		x := a.answer(t, Approval, enc, 0)
		change(&x)
		return []Answer{x}
	}
	no := a.answer(t, Refusal, enc, 0)
	end := a.answer(t, Revocation, enc, 0)
	twoKeys := trusted(a, b)
	twoKeys[0].Keys = append(twoKeys[0].Keys, Registered{Key: stranger.key})
	shared := append(trusted(a), Approver{b.name, []Registered{{Key: a.key}}})
	asBob := a.answer(t, Approval, pair, 0)
	asBob.Person = b.name

	for name, c := range map[string]struct {
		enc       []byte
		answers   []Answer
		approvers []Approver
		want      string
	}{
		"a larger delegation, same approval": {larger, yes(func(*Answer) {}), all, "does not fit"},
		"nobody is trusted":                  {enc, yes(func(*Answer) {}), nil, "not registered"},
		"a key nobody registered":            {enc, []Answer{stranger.answer(t, Approval, enc, 0)}, all, "not registered"},
		"bob's key in alice's name":          {enc, []Answer{person{a.name, b.key, b.signer}.answer(t, Approval, enc, 0)}, all, "not registered"},
		"bob, who was not asked":             {enc, []Answer{b.answer(t, Approval, enc, 0)}, all, "only alice"},
		"bob refuses, who was not asked":     {enc, []Answer{b.answer(t, Refusal, enc, 0)}, all, "only alice"},
		"bob revokes, who has no part in it": {enc, []Answer{a.answer(t, Approval, enc, 0), b.answer(t, Revocation, enc, 0)}, all, "neither"},
		"the same name of another issuer":    {enc, yes(func(x *Answer) { x.Person.Issuer = "https://other.example" }), all, "only alice"},
		"unknown act":                        {enc, yes(func(x *Answer) { x.Act = "nod" }), all, "nod"},
		"no act":                             {enc, yes(func(x *Answer) { x.Act = "" }), all, "statement"},
		"unknown method":                     {enc, yes(func(x *Answer) { x.Method = "handshake" }), all, "method"},
		"no method":                          {enc, yes(func(x *Answer) { x.Method = "" }), all, "method"},
		"no time":                            {enc, yes(func(x *Answer) { x.At = 0 }), all, "second 0"},
		"no signature":                       {enc, yes(func(x *Answer) { x.Signature = nil }), all, "malformed signature"},
		"approval with a statement":          {enc, yes(func(x *Answer) { x.Statement = no.Statement }), all, "with a statement"},
		"approval as refusal":                {enc, yes(func(x *Answer) { x.Act, x.Statement = Refusal, no.Statement }), all, "in namespace"},
		"approval as revocation":             {enc, yes(func(x *Answer) { x.Act, x.Statement = Revocation, end.Statement }), all, "in namespace"},
		"refusal as approval":                {enc, []Answer{{Act: Approval, Method: MethodSSH, Person: a.name, At: no.At, Signature: no.Signature}}, all, "in namespace"},
		"refusal as revocation":              {enc, []Answer{{Act: Revocation, Method: MethodSSH, Person: a.name, At: no.At, Statement: no.Statement, Signature: no.Signature}}, all, "type"},
		"refusal with the words of another":  {enc, []Answer{{Act: Revocation, Method: MethodSSH, Person: a.name, At: no.At, Statement: end.Statement, Signature: no.Signature}}, all, "in namespace"},
		"revocation of another":              {enc, []Answer{a.answer(t, Revocation, larger, 0)}, all, "another delegation"},
		"revocation without a statement":     {enc, []Answer{{Act: Revocation, Method: MethodSSH, Person: a.name, At: no.At, Signature: end.Signature}}, all, "malformed statement"},
		"alice approves twice":               {enc, []Answer{a.answer(t, Approval, enc, 0), a.answer(t, Approval, enc, 1)}, all, "second approval"},
		"alice approves with two keys":       {enc, []Answer{a.answer(t, Approval, enc, 0), person{a.name, stranger.key, stranger.signer}.answer(t, Approval, enc, 0)}, twoKeys, "second approval"},
		"one key for two persons":            {pair, []Answer{a.answer(t, Approval, pair, 0), asBob}, shared, "second approval"},
		"one bad answer among good ones":     {enc, append(yes(func(*Answer) {}), stranger.answer(t, Revocation, enc, 0)), all, "not registered"},
		"no delegation":                      {nil, yes(func(*Answer) {}), all, "malformed delegation"},
	} {
		s, err := Verify(bundle(c.enc, c.answers...), c.approvers)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if s.At(start) != Unknown {
			t.Errorf("%s: stands as %s", name, s.At(start))
		}
		if c.enc != nil && len(c.answers) == 1 && c.want != "neither" {
			if _, err := VerifyAnswer(c.enc, c.answers[0], c.approvers); err == nil {
				t.Errorf("%s: the answer alone is taken", name)
			}
		}
	}
	if _, err := VerifyAnswer(enc, a.answer(t, Approval, enc, 0), all); err != nil {
		t.Error(err)
	}
	if _, err := VerifyAnswer(nil, a.answer(t, Approval, enc, 0), all); err == nil {
		t.Error("an answer to nothing is taken")
	}
}

func TestKeyWindow(t *testing.T) {
	a := somebody(t, alice.Subject)
	enc := encoded(t, sample())
	for name, c := range map[string]struct {
		after, before time.Time
		good          bool
	}{
		"no bounds":           {good: true},
		"from that second on": {after: start, good: true},
		"from a second later": {after: start.Add(time.Second)},
		"until that second":   {before: start},
		"a second longer":     {before: start.Add(time.Second), good: true},
	} {
		_, err := Verify(bundle(enc, a.answer(t, Approval, enc, 0)), []Approver{{a.name, []Registered{{a.key, c.after, c.before}}}})
		if (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBundleRoundTrip(t *testing.T) {
	a := somebody(t, alice.Subject)
	enc := encoded(t, sample())
	b := bundle(enc, a.answer(t, Approval, enc, 0), a.answer(t, Revocation, enc, time.Minute))
	b.Log = []Logged{{Entry: []byte("entry"), Receipt: "receipt"}}
	data, err := b.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseBundle(data)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Verify(again, trusted(a))
	if err != nil || s.At(start) != Revoked {
		t.Errorf("%s: %v", s.At(start), err)
	}
	// Whatever byte changes, it is not judged as what was signed.
	for at := range data {
		bad := bytes.Clone(data)
		bad[at] ^= 0x20
		b, err := ParseBundle(bad)
		if err != nil {
			continue
		}
		s, err := Verify(b, trusted(a))
		if err == nil && s.At(start) != Revoked {
			t.Errorf("byte %d makes it %s", at, s.At(start))
		}
	}
	for name, change := range map[string]func(*Bundle){
		"type": func(b *Bundle) { b.Type = Type }, "version": func(b *Bundle) { b.Version = 2 },
		"answers": func(b *Bundle) { b.Answers = make([]Answer, MaxAnswers+1) }, "log": func(b *Bundle) { b.Log = make([]Logged, MaxAnswers+1) },
	} {
		bad := *b
		change(&bad)
		if _, err := ParseBundle(unchecked(t, &bad)); err == nil {
			t.Errorf("%s: parsed", name)
		}
		if _, err := bad.Marshal(); err == nil {
			t.Errorf("%s: written", name)
		}
		if _, err := Verify(&bad, trusted(a)); err == nil {
			t.Errorf("%s: judged", name)
		}
	}
	big := *b
	big.Log = []Logged{{Receipt: strings.Repeat("x", MaxBundle)}}
	if _, err := big.Marshal(); err == nil {
		t.Error("a bundle above the cap was written")
	}
	if _, err := ParseBundle(unchecked(t, &big)); err == nil {
		t.Error("a bundle above the cap was parsed")
	}
	if _, err := ParseBundle(append(slices.Clone(data), 0)); err == nil {
		t.Error("a trailing byte was parsed")
	}
}

func TestStatement(t *testing.T) {
	d := Digest([]byte("x"))
	good, err := NewStatement(Revocation, d, 1)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := ParseStatement(Revocation, good); err != nil || s.D != d || s.Time != 1 {
		t.Errorf("%+v: %v", s, err)
	}
	for name, c := range map[string]struct {
		act     Act
		d       evidence.Hash
		seconds uint64
	}{"approval": {Approval, d, 1}, "nothing": {"", d, 1}, "no d": {Refusal, evidence.Hash{}, 1}, "no time": {Refusal, d, 0}, "late": {Refusal, d, maxTime + 1}} {
		if _, err := NewStatement(c.act, c.d, c.seconds); err == nil {
			t.Errorf("%s: made", name)
		}
		s := &Statement{Type: c.act.statementType(), Version: Version, D: c.d, Time: c.seconds}
		if _, err := ParseStatement(c.act, unchecked(t, s)); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
	other := &Statement{Type: "jurat-revocation", Version: 2, D: d, Time: 1}
	for name, c := range map[string]struct {
		act  Act
		data []byte
	}{"as refusal": {Refusal, good}, "as approval": {Approval, good}, "trailing": {Revocation, append(bytes.Clone(good), 0)}, "version": {Revocation, unchecked(t, other)}} {
		if s, err := ParseStatement(c.act, c.data); err == nil || s != nil {
			t.Errorf("%s: parsed", name)
		}
	}
	if _, err := ParseStatement(Revocation, make([]byte, MaxStatement+1)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a statement above the cap: %v", err)
	}
	for n := range good {
		if _, err := ParseStatement(Revocation, good[:n]); err == nil {
			t.Errorf("the first %d bytes were parsed", n)
		}
	}
}
