// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package brokerclient_test

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	brokerclient "github.com/jurat-dev/jurat/broker-client"
	"github.com/jurat-dev/jurat/evidence"
)

const origin = "jurat.dev/log/broker.example"

// brokerLog is a transparency log in memory.
type brokerLog struct {
	t      *testing.T
	signer note.Signer
	key    string
	tree   evidence.Tree
	hashes []evidence.Hash
	leaves []evidence.Hash
}

func newBrokerLog(t *testing.T) *brokerLog {
	private, public, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	l := &brokerLog{t: t, signer: signer, key: public}
	l.tree = evidence.NewTree(func(indexes []int64) ([]evidence.Hash, error) {
		out := make([]evidence.Hash, len(indexes))
		for i, at := range indexes {
			out[i] = l.hashes[at]
		}
		return out, nil
	})
	return l
}

func (l *brokerLog) append(entry string) {
	leaf := evidence.LeafHash([]byte(entry))
	h, err := l.tree.StoredHashes(uint64(len(l.leaves)), leaf)
	if err != nil {
		l.t.Fatal(err)
	}
	l.hashes, l.leaves = append(l.hashes, h...), append(l.leaves, leaf)
}

// token returns a token for the entry with its receipt in the log of that size.
func (l *brokerLog) token(index, size uint64) *brokerclient.Token {
	root, err := l.tree.Root(size)
	if err != nil {
		l.t.Fatal(err)
	}
	proof, err := l.tree.Inclusion(size, index)
	if err != nil {
		l.t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", origin, size, base64.StdEncoding.EncodeToString(root[:]))}, l.signer)
	if err != nil {
		l.t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "c2sp.org/tlog-proof@v1\nindex %d\n", index)
	for _, h := range proof {
		fmt.Fprintln(&b, base64.StdEncoding.EncodeToString(h[:]))
	}
	fmt.Fprintf(&b, "\n%s", signed)
	claims := fmt.Sprintf(`{"iss":"x","log":{"origin":%q,"index":%d,"leaf":"sha-256:%s"}}`, origin, index, l.leaves[index])
	return &brokerclient.Token{Access: "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".sig", Receipt: b.String()}
}

func TestWitness(t *testing.T) {
	l := newBrokerLog(t)
	for i := range 9 {
		l.append(fmt.Sprint("decision ", i))
	}
	w, err := brokerclient.NewWitness(origin, l.key, "")
	if err != nil {
		t.Fatal(err)
	}
	check := func(token *brokerclient.Token, before brokerclient.Head, want string) {
		t.Helper()
		err := w.Check(token, before)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	check(l.token(3, 5), w.Head(), "")
	asked := w.Head()
	check(l.token(7, 8), asked, "")
	check(l.token(5, 6), asked, "") // asked at the same time, answered later
	if got := w.Head().Size; got != 8 {
		t.Errorf("head %d, want the largest seen", got)
	}
	check(l.token(5, 6), w.Head(), "shrank")

	lie := l.token(8, 9)
	lie.Access = l.token(4, 9).Access
	check(lie, w.Head(), "its receipt is for")
	lie = l.token(8, 9)
	lie.Receipt = strings.Replace(lie.Receipt, "index 8", "index 08", 1)
	check(lie, w.Head(), "no index")
	for _, text := range []string{"", "x", "c2sp.org/tlog-proof@v1\n", "c2sp.org/tlog-proof@v1\n\n\nx", "c2sp.org/tlog-proof@v1\nindex 1\n!\n\n"} {
		check(&brokerclient.Token{Access: lie.Access, Receipt: text}, w.Head(), "receipt")
	}

	stranger := newBrokerLog(t)
	stranger.append("other")
	check(stranger.token(0, 1), brokerclient.Head{}, "checkpoint")

	fork := newBrokerLog(t)
	fork.signer = l.signer
	for i := range 9 {
		fork.append(fmt.Sprint("another decision ", i))
	}
	check(fork.token(7, 8), w.Head(), "forked")
	swapped := l.token(8, 9)
	swapped.Access = fork.token(8, 9).Access
	check(swapped, w.Head(), "not in the broker's log")

	again, err := brokerclient.NewWitness(origin, l.key, w.Head().Note)
	if err != nil || again.Head() != w.Head() {
		t.Fatalf("going on from the head last seen: %+v, %v", again.Head(), err)
	}
	if err := again.Check(l.token(2, 3), again.Head()); err == nil {
		t.Error("the log may shrink while the agent restarts")
	}
	if _, err := brokerclient.NewWitness("jurat.dev/log/other", l.key, w.Head().Note); err == nil {
		t.Error("a head of another log was taken")
	}
}
