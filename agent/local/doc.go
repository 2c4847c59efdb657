// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package local is the protocol of the host's socket: how a process asks
// juratd for its credential, and the client to do it with (the last arrow of
// the flow, credential to workload).
//
// Its door is one unix stream socket, one request for each connection:
//
//	server: {"jurat":1}\n
//	client: {"v":1,"op":"proof","delegation":"…","method":"GET","url":"…"}\n
//	server: {"authorization":"DPoP …","dpop":"…","expires_at":…}\n     and closes
//
// An answer is one line; that to "events" is a line an event, until the client
// hangs up. The client waits for the greeting: only what is written after it carries the
// kernel's word on who wrote it. Nothing in a request says who asks, because
// nothing a process says about itself would be believed.
//
// A workload needs [Transport] at most:
//
//	http.Client{Transport: &local.Transport{Delegation: "dlg_…"}}
//
// The package keeps no token and never sees a key.
package local
