// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package eventlog reads what firmware, boot loader and operating system say
// they measured into the TPM, and works out which PCR values that makes (used
// by station 8 of the flow, and by people who look at a log).
//
// It has no door: the bytes of a log go in, events, replayed PCR values and
// findings come out. It refuses to believe a log: only a PCR index and a digest
// are authenticated, and those only where a quote bears the replayed value out.
// A PCR without events has no replayed value; an unknown state is not "off".
package eventlog
