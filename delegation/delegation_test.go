// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package delegation

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/evidence"
)

const broker = "https://broker.example"

// alice is the approver of every sample.
var alice = Person{Issuer: broker, Subject: "alice@example.test"}

// start is when every sample begins.
var start = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// sample is a delegation with something in every field.
func sample() Delegation {
	return Delegation{
		ID: "dlg_0123456789abcdefghjkmnpqr0", Broker: broker, Requester: "spiffe://example/agents/invoice",
		Workload: Workload{ID: "spiffe://example/agents/invoice", Code: []evidence.Hash{{2}, {1}}, Models: []evidence.Hash{{3}},
			Levels: Levels{EK: "ek-cert", Anchor: "none", Tier: "tracepoint"}},
		Approver: alice, Purpose: "Close October invoices", Actions: []string{"invoice.read", "invoice.close"},
		Audience: "https://payments.example", Limits: Limits{Datatypes: []string{"invoice"}, Per: PerCredential, Credential: 300},
		NotBefore: uint64(start.Unix()), Expires: uint64(start.Add(time.Hour).Unix()), Uses: 20, FourEyes: 1,
		RequestedAt: uint64(start.Add(-time.Minute).Unix()), Nonce: bytes.Repeat([]byte{7}, NonceSize),
	}
}

func encoded(t testing.TB, o Delegation) []byte {
	t.Helper()
	_, enc, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return enc
}

func vector(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestVector(t *testing.T) {
	o, enc, err := New(sample())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := hex.EncodeToString(enc), vector(t, "delegation.hex"); got != want {
		t.Errorf("enc(D) is\n%s\nwant\n%s", got, want)
	}
	if got, want := Text(Digest(enc)), vector(t, "delegation.d"); got != want {
		t.Errorf("d is %s, want %s", got, want)
	}
	if h := sha256.Sum256(append([]byte("jurat/delegation/v1\x00"), enc...)); Digest(enc) != h {
		t.Error("d is not its formula")
	}
	again, err := Parse(enc)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := again.Marshal(); err != nil || !bytes.Equal(b, enc) {
		t.Errorf("encoded again: %v", err)
	}
	if o.Version != 1 || o.Type != Type || !slices.IsSorted(o.Actions) || o.Workload.Code[0] != (evidence.Hash{1}) {
		t.Errorf("New did not bring it in order: %+v", o)
	}
	text, err := Describe(enc)
	if err != nil || text != vector(t, "delegation.txt")+"\n" {
		t.Errorf("described as\n%s\n%v", text, err)
	}
}

func TestNewLeavesItsArgument(t *testing.T) {
	o := sample()
	o.Purpose = "Cafe\u0301" // decomposed, as some keyboards write it
	n, _, err := New(o)
	if err != nil || n.Purpose != "Caf\u00e9" {
		t.Errorf("purpose %q: %v", n.Purpose, err)
	}
	if o.Actions[0] != "invoice.read" || o.Workload.Code[0] != (evidence.Hash{2}) {
		t.Error("New sorted the caller's lists")
	}
}

func TestNewRefuses(t *testing.T) {
	many := func(n int) (out []string) {
		for i := range n {
			out = append(out, "a."+strings.Repeat("b", i+1))
		}
		return out
	}
	long := strings.Repeat("x", 300)
	for name, c := range map[string]struct {
		change func(*Delegation)
		want   string
	}{
		"no id":               {func(o *Delegation) { o.ID = "" }, "id"},
		"id of another kind":  {func(o *Delegation) { o.ID = "usr_0123456789abcdefghjkmnpqr0" }, "id"},
		"id in capitals":      {func(o *Delegation) { o.ID = "dlg_0123456789ABCDEFGHJKMNPQR0" }, "id"},
		"id with loose bits":  {func(o *Delegation) { o.ID = "dlg_0123456789abcdefghjkmnpqr1" }, "id"},
		"id with line end":    {func(o *Delegation) { o.ID = "dlg_0123456789abcdefghjkmnpqr0\n" }, "id"},
		"short id":            {func(o *Delegation) { o.ID = "dlg_01234567" }, "id"},
		"no broker":           {func(o *Delegation) { o.Broker = "" }, "broker"},
		"requester":           {func(o *Delegation) { o.Requester = "alice" }, "requester"},
		"workload":            {func(o *Delegation) { o.Workload.ID = "spiffe://example" }, "workload.id"},
		"code repeated":       {func(o *Delegation) { o.Workload.Code = []evidence.Hash{{}} }, "code_ref"},
		"too much code":       {func(o *Delegation) { o.Workload.Code = hashes(MaxRefs + 1) }, "code_ref"},
		"too many models":     {func(o *Delegation) { o.Workload.Models = hashes(MaxRefs + 1) }, "model_ref"},
		"unknown ek level":    {func(o *Delegation) { o.Workload.Levels.EK = "trust-me" }, "ek level"},
		"no anchor level":     {func(o *Delegation) { o.Workload.Levels.Anchor = "" }, "anchor level"},
		"unknown tier":        {func(o *Delegation) { o.Workload.Levels.Tier = "LSM" }, "tier level"},
		"approver's issuer":   {func(o *Delegation) { o.Approver.Issuer = "broker" }, "iss"},
		"approver's name":     {func(o *Delegation) { o.Approver.Subject = "alice smith" }, "sub"},
		"approver's comma":    {func(o *Delegation) { o.Approver.Subject = "alice,bob" }, "sub"},
		"approver's length":   {func(o *Delegation) { o.Approver.Subject = long }, "sub"},
		"no purpose":          {func(o *Delegation) { o.Purpose = "" }, "purpose"},
		"no action":           {func(o *Delegation) { o.Actions = nil }, "actions"},
		"empty action":        {func(o *Delegation) { o.Actions = []string{""} }, "actions"},
		"action with space":   {func(o *Delegation) { o.Actions = []string{"a b"} }, "actions"},
		"action too long":     {func(o *Delegation) { o.Actions = []string{long} }, "actions"},
		"too many actions":    {func(o *Delegation) { o.Actions = many(MaxActions + 1) }, "actions"},
		"datatype":            {func(o *Delegation) { o.Limits.Datatypes = []string{"a\x00"} }, "datatypes"},
		"task too large":      {func(o *Delegation) { o.Actions = many(MaxActions); o.Limits.Datatypes = o.Actions }, "authorization_details"},
		"no audience":         {func(o *Delegation) { o.Audience = "" }, "audience"},
		"per what":            {func(o *Delegation) { o.Limits.Per = "day" }, "per"},
		"credential short":    {func(o *Delegation) { o.Limits.Credential = 9 }, "credential"},
		"credential long":     {func(o *Delegation) { o.Limits.Credential = 3601 }, "credential"},
		"over when it begins": {func(o *Delegation) { o.NotBefore = o.Expires }, "expires"},
		"never over":          {func(o *Delegation) { o.Expires = maxTime + 1 }, "expires"},
		"asked for when over": {func(o *Delegation) { o.RequestedAt = o.Expires }, "requested_at"},
		"never asked for":     {func(o *Delegation) { o.RequestedAt = 0 }, "requested_at"},
		"no use":              {func(o *Delegation) { o.Uses = 0 }, "uses"},
		"endless uses":        {func(o *Delegation) { o.Uses = MaxUses + 1 }, "uses"},
		"nobody approves":     {func(o *Delegation) { o.FourEyes = 0 }, "four_eyes"},
		"everybody approves":  {func(o *Delegation) { o.FourEyes = MaxFourEyes + 1 }, "four_eyes"},
		"no nonce":            {func(o *Delegation) { o.Nonce = nil }, "nonce"},
		"nonce of zeros":      {func(o *Delegation) { o.Nonce = make([]byte, NonceSize) }, "nonce"},
		"long nonce":          {func(o *Delegation) { o.Nonce = make([]byte, NonceSize+1) }, "nonce"},
	} {
		o := sample()
		c.change(&o)
		if _, _, err := New(o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func hashes(n int) (out []evidence.Hash) {
	for i := range n {
		out = append(out, evidence.Hash{byte(i + 1)})
	}
	return out
}

// unchecked encodes o as it is.
func unchecked(t testing.TB, o any) []byte {
	t.Helper()
	b, err := evidence.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseRefuses(t *testing.T) {
	good := encoded(t, sample())
	changed := func(change func(*Delegation)) []byte {
		o, err := Parse(good)
		if err != nil {
			t.Fatal(err)
		}
		change(o)
		return unchecked(t, o)
	}
	for name, data := range map[string][]byte{
		"nothing":            {},
		"trailing byte":      append(bytes.Clone(good), 0),
		"indefinite length":  append(append([]byte{0x9f}, good[2:]...), 0xff),
		"long array head":    append([]byte{0x98, 17}, good[1:]...),
		"a map":              {0xa0},
		"a tag":              append([]byte{0xc1}, good...),
		"too large":          make([]byte, MaxObject+1),
		"version 0":          changed(func(o *Delegation) { o.Version = 0 }),
		"version 2":          changed(func(o *Delegation) { o.Version = 2 }),
		"another type":       changed(func(o *Delegation) { o.Type = "jurat-revocation" }),
		"actions unsorted":   changed(func(o *Delegation) { slices.Reverse(o.Actions) }),
		"action twice":       changed(func(o *Delegation) { o.Actions = []string{"a", "a"} }),
		"datatypes unsorted": changed(func(o *Delegation) { o.Limits.Datatypes = []string{"b", "a"} }),
		"code unsorted":      changed(func(o *Delegation) { slices.Reverse(o.Workload.Code) }),
		"purpose decomposed": changed(func(o *Delegation) { o.Purpose = "Cafe\u0301" }),
		"invalid UTF-8":      changed(func(o *Delegation) { o.Purpose = "a\xff" }),
	} {
		if o, err := Parse(data); err == nil || o != nil {
			t.Errorf("%s was parsed", name)
		}
	}
	for n := range good {
		if _, err := Parse(good[:n]); err == nil {
			t.Errorf("the first %d bytes were parsed", n)
		}
	}
	if _, err := Parse(make([]byte, MaxObject+1)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a delegation above the cap: %v", err)
	}
	if text, err := Describe(good[1:]); err == nil || text != "" {
		t.Errorf("no delegation was described as %q", text)
	}
}

// The largest delegation that the caps of its fields allow is below MaxObject.
func TestFullDelegationFits(t *testing.T) {
	word := func(n int) string { return strings.Repeat("w", n) }
	o := sample()
	o.Broker = "https://" + word(MaxURL-8)
	o.Audience, o.Approver = o.Broker, Person{Issuer: o.Broker, Subject: word(MaxName)}
	o.Requester = "spiffe://" + word(MaxName-11) + "/w"
	o.Workload = Workload{ID: o.Requester, Code: hashes(MaxRefs), Models: hashes(MaxRefs), Levels: Levels{EK: "cloud-ak-cert", Anchor: "nv-latch", Tier: "trampoline"}}
	o.Purpose = strings.Repeat("\U00020000", 100) // four bytes each, as many as fit the task
	o.Actions = []string{word(MaxAction), word(MaxAction - 1), word(MaxAction - 2)}
	enc := encoded(t, o)
	if len(enc) > MaxObject/2 {
		t.Errorf("%d bytes, the cap is %d", len(enc), MaxObject)
	}
}

func TestDescribe(t *testing.T) {
	o := sample()
	o.Purpose, o.FourEyes, o.Uses = "\u041f\u0440\u043e\u0432\u0435\u0440\u0438\u0442\u044c \"invoices\"", 3, 1
	o.Limits = Limits{Per: PerInstance}
	text, err := Describe(encoded(t, o))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\\\"invoices\\\"", "letters of Cyrillic, Latin", "3 persons, alice@example.test among them", "uses         1 run\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	for _, not := range []string{"\n  on ", "good for"} {
		if strings.Contains(text, not) {
			t.Errorf("%q is in\n%s", not, text)
		}
	}
	o.Purpose = "Close"
	if text, err = Describe(encoded(t, o)); err != nil || strings.Contains(text, "letters of") {
		t.Errorf("plain Latin is pointed out: %v\n%s", err, text)
	}
}

// Every other byte string is another delegation, or none.
func TestOneByteChanged(t *testing.T) {
	good := encoded(t, sample())
	d := Digest(good)
	parsed := 0
	for at := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[at] ^= 1 << bit
			if Digest(bad) == d {
				t.Fatalf("byte %d bit %d does not change d", at, bit)
			}
			if o, err := Parse(bad); err == nil {
				parsed++
				if enc, err := o.Marshal(); err != nil || !bytes.Equal(enc, bad) {
					t.Fatalf("byte %d bit %d: parsed and written otherwise: %v", at, bit, err)
				}
			}
		}
	}
	if parsed == 0 {
		t.Error("no change at all was parsed: the test tests nothing")
	}
}

func TestLevels(t *testing.T) {
	least := Levels{EK: "cloud-ak-cert", Anchor: "nvpcr", Tier: "trampoline"}
	for _, c := range []struct {
		seen Levels
		want bool
	}{
		{least, true},
		{Levels{}.with("ek-cert", "nv-latch", "lsm"), true},
		{Levels{}.with("ek-pin", "nv-latch", "lsm"), false},
		{Levels{}.with("ek-cert", "none", "lsm"), false},
		{Levels{}.with("ek-cert", "nv-latch", "tracepoint"), false},
		{Levels{}.with("ek-cert", "nv-latch", "better"), false},
		{Levels{}, false},
	} {
		if err := least.Reached(c.seen); (err == nil) != c.want {
			t.Errorf("%+v: %v", c.seen, err)
		}
	}
	if err := (Levels{}).Reached(Levels{}.with("ek-cert", "nv-latch", "lsm")); err == nil {
		t.Error("unknown least levels are reached")
	}
	if err := Lowest().check(); err != nil {
		t.Error(err)
	}
}

func TestAllows(t *testing.T) {
	o, _, err := New(sample())
	if err != nil {
		t.Fatal(err)
	}
	const aud = "https://payments.example"
	for _, c := range []struct {
		audience           string
		actions, datatypes []string
		want               string
	}{
		{aud, []string{"invoice.read"}, nil, ""},
		{aud, []string{"invoice.read", "invoice.close"}, []string{"invoice"}, ""},
		{aud + "/", []string{"invoice.read"}, nil, "audience"},
		{"https://payments.example.evil", []string{"invoice.read"}, nil, "audience"},
		{"", []string{"invoice.read"}, nil, "audience"},
		{aud, nil, nil, "actions"},
		{aud, []string{""}, nil, "actions"},
		{aud, []string{"invoice"}, nil, "actions"},
		{aud, []string{"invoice.rea"}, nil, "actions"},
		{aud, []string{"invoice.read2"}, nil, "actions"},
		{aud, []string{"Invoice.read"}, nil, "actions"},
		{aud, []string{"invoice.read", "invoice.pay"}, nil, "actions"},
		{aud, []string{"invoice.read"}, []string{"salary"}, "datatypes"},
	} {
		err := o.Allows(c.audience, c.actions, c.datatypes)
		var e *Excess
		if c.want == "" && err != nil || c.want != "" && (!errors.As(err, &e) || e.Field != c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestText(t *testing.T) {
	d := Digest([]byte("x"))
	if got, err := ParseText(Text(d)); err != nil || got != d {
		t.Errorf("%v %v", got, err)
	}
	good := Text(evidence.Hash{})
	for _, bad := range []string{"", good + "=", good[:42], good + "A", good[:42] + "B", "\n" + good[1:], good + "\n", strings.Repeat("/", 43), strings.Repeat("+", 43)} {
		if _, err := ParseText(bad); err == nil {
			t.Errorf("digest %q is taken", bad)
		}
	}
}

func TestFingerprint(t *testing.T) {
	seen := map[string]bool{}
	for n := range 1 << 16 {
		words := Fingerprint(evidence.Hash{byte(n >> 8), byte(n)})
		if len(words) != 35 || seen[words] {
			t.Fatalf("%04x: %q", n, words)
		}
		seen[words] = true
	}
	var d evidence.Hash
	base := Fingerprint(d)
	for i := range 12 {
		d[i]++
		if Fingerprint(d) == base {
			t.Errorf("byte %d is not in the fingerprint", i)
		}
		d[i]--
	}
}

func TestNewID(t *testing.T) {
	id, err := NewID(bytes.NewReader(bytes.Repeat([]byte{0xff}, 16)))
	if err != nil || checkID(id) != nil {
		t.Errorf("id %q: %v %v", id, err, checkID(id))
	}
	if _, err := NewID(bytes.NewReader(make([]byte, 15))); err == nil {
		t.Error("an id from too little randomness")
	}
}

func (Levels) with(ek, anchor, tier string) Levels {
	return Levels{EK: ek, Anchor: anchor, Tier: tier}
}
