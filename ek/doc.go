// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package ek decides whether a key that claims to be a TPM's endorsement key is
// one (station 9 of the flow, once per host): its certificate, the makers' roots
// and intermediates that ship with jurat, and what is known to be broken.
package ek
