// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package ima reads the list of files that the Linux Integrity Measurement
// Architecture measured, and works out which values of PCR 10 its prefixes make
// (stations 6 and 8 of the flow, and people who look at a list).
//
// It has no door: bytes in the kernel's binary form go in, entries and PCR
// values come out, entry by entry, so that the tail of a long list is read
// without its beginning. It refuses to take a violation for a measurement: such
// an entry proves nothing about a file.
package ima
