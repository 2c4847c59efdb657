// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package measure says what a process runs and in which context: the digests
// of its executable and of everything mapped executable, its script, its
// credentials, its place on the host. It is station 2 of the flow; its door is
// files and /proc. In come what the kernel said about an exec ([Exec]) and a
// pidfd, out go evidence.Exec, evidence.Process and evidence.State.
//
// It decides nothing and refuses to guess: what could not be bound to the
// process, or changed while it was read, is unknown with a reason or tainted,
// never a value. It identifies nothing by path, by command name or by pid.
//
// How a value is bound:
//
//   - A process is a pidfd. Its directory in /proc is opened once, checked
//     against the pidfd, and read through that descriptor ever after, so a pid
//     that is used again cannot be mistaken for it. The kernel's exec
//     generation, asked through [Kernel], is the same before and after.
//
//   - A file is hashed through a descriptor of the running image (/proc/PID/exe,
//     map_files) whose device, inode, ctime and size are those the kernel
//     reported at exec, and the same before and after the hash, while nobody
//     had it open for writing.
//
//   - On overlayfs a page of the mapping must be the very page of memory that
//     the hashed descriptor shows, or the file was copied up and is tainted.
//
//   - A digest is taken from the cache only while the inode, pinned by an open
//     descriptor, still has the ctime and size it was hashed with.
//
//   - A file that the process opened is found again where the kernel saw it
//     opened, must be the inode the kernel saw, and unchanged since. One that
//     is not makes the whole manifest unknown, never shorter.
//
//   - A script is the file the kernel read "#!" from, or the exec gate held,
//     where either tells; what the interpreter opened by its name must be that.
//
//   - What an operator or a container runtime declares on disk counts only
//     where nobody but root can write it.
//
// What a process keeps in its own memory (arguments beyond those the kernel
// copied at exec, environment) is its own word, and marked so. Without the
// kernel's or the gate's word a script is found by the name the arguments give,
// as it resolves now, and bound no better than that: whoever controls that
// directory can show another file. What the process opened of code is in the
// manifest besides, and a file there is the very one that the kernel saw
// opened, or the whole manifest is unknown. Threads that run under other
// credentials than the leader taint the credentials.
package measure
