// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package brokerclient is station 7 of the flow: a bundle goes to the broker,
// a credential comes back. The exchanges are those of spec/broker-api.md.
//
// Its door is the network, outbound only: https, or plain http to a loopback
// address. It keeps no file. Time, randomness and waiting are parameters.
//
// It refuses what a broker would not send: an answer that is too large, that
// is not one JSON value, that names a member twice, a redirect. It decides
// nothing about evidence, and it never sends a key: a [Key] leaves this
// package only as the proofs it signs.
package brokerclient
