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
//
// What a match with a quoted PCR 10 proves: the template data of the entries up
// to there, in this order. What it does not: the names of the templates, which
// no digest covers, and that nobody but the kernel extended the register, which
// root can. So an entry may be an invention of root, but none can be missing.
//
// The formats are those of the kernel's security/integrity/ima: ima_fs.c (the
// lists), ima_template.c (templates and their fields), ima_crypto.c (digests and
// boot_aggregate) and ima_queue.c (what is extended).
package ima
