// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/jurat-dev/jurat/broker/internal/lru"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
)

// How much of what hosts sent earlier is in memory, taken apart.
const (
	bootMemory  = 32 << 20 // bytes of boot logs
	listMemory  = 1 << 21  // files in IMA lists, as they are in the store
	begunMemory = 1 << 22  // files in lists that came in part, which are nowhere else
	listWeight  = 16       // of a list beside its files
)

// kept spares hosts to send, and the broker to read, what was sent and proved
// before. Everything in it was under a verified quote of its host.
type kept struct {
	boots *lru.Cache[evidence.Hash, *verify.Boot]
	lists *lru.Cache[string, *fileList] // by host
	begun *lru.Cache[string, *begun]    // by host
}

func newKept() kept {
	return kept{
		boots: lru.New[evidence.Hash, *verify.Boot](bootMemory),
		lists: lru.New[string, *fileList](listMemory),
		begun: lru.New[string, *begun](begunMemory),
	}
}

// fileList is a host's IMA list. One bundle of the host uses it at a time.
type fileList struct {
	*verify.IMAList
	files int // at most store.MaxIMAFiles
}

// begun is a list of which a quote bore out nothing yet, because its end is
// still to come. It is worth nothing until a later quote does.
type begun struct {
	fileList
	count uint64          // entries; whoever asks for a challenge reads it while the list may move on
	anew  bool            // it does not go on from the list in the store
	fresh []evidence.Hash // files that are not in the store
}

// room cuts off the files that do not fit into a list: nobody will find them
// confirmed.
func room(have int, files []evidence.Hash) []evidence.Hash {
	return files[:min(len(files), store.MaxIMAFiles-have)]
}

// advance is the list after an update.
func (l fileList) advance(u verify.IMAUpdate) fileList {
	if u.From == 0 {
		l = fileList{}
	}
	u.Files = room(l.files, u.Files)
	return fileList{l.Advanced(u), l.files + len(u.Files)}
}

// recall finds what the bundle leaves out because the broker said it has it.
// Without a list to go on from, s.list stays empty.
func (b *Broker) recall(r *store.Reader, s *submission) error {
	var err error
	if s.boot, err = b.keptBoot(r, s.host.BootLog); err != nil || s.bundle.IMA.From == 0 {
		return err
	}
	if p, ok := b.kept.begun.Get(s.host.ID); ok && p.count == s.bundle.IMA.From {
		s.begun, s.list = p, p.fileList
		return nil
	}
	if s.memory == nil || s.memory.IMA == nil {
		return nil
	}
	// A list in memory that is elsewhere went on in part, or another broker knows more.
	if l, ok := b.kept.lists.Get(s.host.ID); ok && l.Position() == *s.memory.IMA {
		s.list = *l
		return nil
	}
	files, err := r.IMAFiles(s.host.ID)
	s.list = fileList{verify.NewIMAList(*s.memory.IMA, files), len(files)}
	return err
}

// keptBoot returns the boot log with the digest, nil where there is none. One
// that this program cannot read any more is as good as none.
func (b *Broker) keptBoot(r *store.Reader, digest evidence.Hash) (*verify.Boot, error) {
	if digest.IsZero() {
		return nil, nil
	}
	if boot, ok := b.kept.boots.Get(digest); ok {
		return boot, nil
	}
	raw, err := r.BootLog(digest)
	if err != nil {
		return nil, fmt.Errorf("boot log %s: %v", digest, err) // its being away is no host's being away
	}
	boot, err := verify.ParseBoot(raw)
	if err != nil {
		b.Log.Warn("boot log in the store", "digest", digest, "err", err)
		return nil, nil
	}
	b.kept.boots.Put(digest, boot, len(raw))
	return boot, nil
}

// detach copies the boot log out of the bundle, which a log that is kept would
// otherwise hold in memory.
func (s *submission) detach() {
	if len(s.bundle.BootLog) > 0 {
		s.bundle.BootLog = bytes.Clone(s.bundle.BootLog)
	}
	s.rawBoot = s.bundle.BootLog
}

// keep stores what a true bundle proved about boot and list, in the
// transaction of everything else.
func (s *submission) keep(tx *store.Tx) error {
	var digest evidence.Hash
	if boot := s.result.Boot(); boot != nil {
		digest = boot.Digest()
	}
	if digest != s.host.BootLog {
		if err := tx.KeepBootLog(s.host.ID, digest, s.rawBoot); err != nil {
			return err
		}
	}
	update, listed := s.result.IMA()
	known := s.memory != nil && s.memory.IMA != nil
	if known && (!listed || update.From == 0 || s.begun != nil && s.begun.anew) {
		if err := tx.ForgetIMAFiles(s.host.ID); err != nil {
			return err
		}
	}
	if s.begun != nil {
		if err := tx.AddIMAFiles(s.host.ID, s.begun.fresh); err != nil {
			return err
		}
	}
	return tx.AddIMAFiles(s.host.ID, room(s.list.files, update.Files))
}

// keepInMemory does the same for what is in memory, once it is committed.
func (b *Broker) keepInMemory(s *submission) {
	if boot := s.result.Boot(); boot != nil && len(s.rawBoot) > 0 {
		b.kept.boots.Put(boot.Digest(), boot, len(s.rawBoot))
	}
	b.kept.begun.Drop(s.host.ID)
	b.kept.lists.Drop(s.host.ID)
	if update, listed := s.result.IMA(); listed {
		l := s.list.advance(update)
		b.kept.lists.Put(s.host.ID, &l, l.files+listWeight)
	}
}

// keepBegun remembers how much of a list came with a bundle that was refused
// only because the rest is wanted, and forgets it when what came since does not
// bear it out.
func (b *Broker) keepBegun(s *submission, r *verify.Rejection) {
	update, partial := r.Progress()
	if !partial {
		if strings.HasPrefix(string(r.Code), "E_IMA") {
			b.kept.begun.Drop(s.host.ID)
		}
		return
	}
	next := &begun{anew: update.From == 0, count: update.Position.Count}
	if s.begun != nil {
		next.anew, next.fresh = s.begun.anew, s.begun.fresh
	}
	next.fresh = append(next.fresh, room(s.list.files, update.Files)...)
	next.fileList = s.list.advance(update)
	b.kept.begun.Put(s.host.ID, next, next.files+len(next.fresh)+listWeight)
}

// forget drops what is in memory of a host that was removed.
func (k *kept) forget(host string) {
	k.begun.Drop(host)
	k.lists.Drop(host)
}
