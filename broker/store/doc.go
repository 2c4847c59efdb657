// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package store is what the broker remembers, and the one transaction in which
// it decides (station 9 of the flow).
//
// The door is a database, opened by a driver in a folder below (sqlite for one
// broker, postgres for one or several on the same database). This
// package holds everything that is the same for every database: the entities,
// the statements, the group commit and the broker's log. It decides nothing,
// signs nothing itself, keeps no private key and no token, and reads no clock.
//
// What must not happen twice, or backwards, is never read and then written: it
// is one conditional statement, and a row that did not move is the refusal.
//
//	Once            a challenge, a DPoP proof, a quote   INSERT … ON CONFLICT DO NOTHING
//	TakeEvidence    an evidence reference                DELETE … RETURNING
//	UseDelegation   uses                                 UPDATE … WHERE uses_left > 0 AND state = … RETURNING
//	MoveDelegation  the state of a delegation            UPDATE … WHERE state = from
//	AddAnswer       one answer of a kind per person      UNIQUE
//	AdvanceHost     a host's log                         UPDATE … WHERE epoch, sequence, size, root = from
//	AddHost         one host per name, EK and AK         UNIQUE
//	the log head    one order of everything              UPDATE … WHERE size = before
//
// All of it commits together with the entry in the log that says so, the
// tree's hashes and the newly signed head, or not at all:
//
//	err := s.Update(ctx, func(tx *store.Tx) error {
//		if err := tx.Once(store.SpaceNonce, nonce, expires); err != nil {
//			return err // store.ErrReplay
//		}
//		left, err = tx.UseDelegation(id, instance, now)
//		if err != nil {
//			return err // *store.Unusable
//		}
//		index, err = tx.Append(entry, explanation)
//		return err
//	})
//	// err == nil: durable, and index is covered by a signed checkpoint
//
// A function that returns an error leaves nothing behind. One that writes what
// it refused into the log and returns nil is how a denial is recorded.
//
// Functions of several callers run one after the other inside one database
// transaction (group commit: whatever waits when the last one ended, at most
// 512). They must be quick and do nothing but use tx. What an index or a count
// was is true only once Update has returned nil. An entry is in the log then;
// until then nobody can read it.
//
// A batch refuses a log that ends before what this broker has committed, or in a
// head that no broker with its key has signed: somebody put an earlier state of
// the database back, or wrote to it by hand.
package store
