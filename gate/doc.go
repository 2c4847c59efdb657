// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package gate holds every exec on the host until the files it runs have been
// measured, and says afterwards which files these were.
//
// It stands beside station 1 of the flow; its door is a fanotify descriptor,
// and what it takes to set marks (mount tables, /proc/PID/task). In come
// [Record], what the kernel recorded of an exec, out goes [Verdict]. It denies
// nothing: it lets go what it holds once it is measured, or its time is up.
// It refuses to guess: an exec that nothing was held for is unknown.
//
// # What fanotify shows
//
// FAN_OPEN_EXEC_PERM stops a thread inside execve, for each file the kernel
// opens to execute, before the file is opened. Seen on Linux 6.18, and held to
// by the tests of this package:
//
//   - A program: its file, then its ELF loader. A script: itself, then its
//     interpreter, then the interpreter's loader; with nested scripts each. A
//     file for a handler of binfmt_misc: itself, then the handler, whether or
//     not that was opened beforehand (flag F). Relative to the order nothing
//     is different for execveat, vfork or clone.
//   - Deleted files, O_TMPFILE, execveat with AT_EMPTY_PATH from an O_PATH
//     descriptor: held like any other, because the file is on a file system.
//   - overlayfs: two events, one for the overlay's file and one for the file
//     below, which is what will be mapped, if that file system is marked too.
//   - Not seen: memfd (its file system cannot be marked), so a script in one
//     shows as its interpreter only, and a program in one not at all; a program
//     given to the loader ("ld.so ./prog"), which shows as the loader only; a
//     library; anything else that is opened or mapped and not executed. What
//     io_uring opens is of this sort: it has no exec. Files on a file system
//     that is not marked: mounted this instant, remote, in a mount namespace
//     nobody looked into.
//   - A file without permission to execute it: no event. One the kernel cannot
//     run (ENOEXEC, an interpreter that is missing): an event and no exec. A
//     question with AT_EXECVE_CHECK: an event and no exec.
//   - The event names the process, not the thread, even if another thread than
//     its leader is in execve: FAN_REPORT_TID and FAN_REPORT_PIDFD exclude
//     each other (EINVAL), and a thread's number alone can be used again. The
//     pidfd of the event is that of the process for good: it is made from what
//     the event holds, not from a number. Where a process has several threads,
//     which one it was is told by who is in execve at that moment.
//   - Between the event and the exec the file can still be written: the kernel
//     forbids that only once it has opened it. So a verdict counts for a file
//     that is, at the exec, what it was when it was hashed: device, inode,
//     change time, size.
//   - That an exec failed shows in that its files are closed: the kernel does
//     so before the thread returns to its program. A script is therefore
//     watched for being closed (FAN_CLOSE_NOWRITE) until its interpreter is
//     opened. Without that, one exec that fails and another that the gate does
//     not see could be taken for one.
//
// # What it can do to a host
//
// All execs of the host wait for this process. So:
//
//   - A file is held for [DefaultDeadline] at most, and nothing that reads one
//     is waited for: not the disk, not the digester.
//   - When the holder dies, or closes the descriptor, all that is held goes on,
//     and nothing is held any more: fanotify fails open. That shows in that
//     execs have no verdict. So it is when the kernel's queue (16384 events)
//     is full: then Lost is called, and what went by has no verdict.
//   - A holder that is stopped (SIGSTOP, a debugger, the cgroup freezer) stops
//     every exec on the host. It must not be.
//   - The holder can start no program: see [Open]. It dumps no core: the
//     kernel would start a program for that.
//   - Reading an event opens the file for the holder, so a file system whose
//     server does not answer would stop the gate. FUSE, NFS and the like are
//     never marked, nor is what is reached through them. If the file cannot be
//     opened (no descriptors left), the kernel refuses the exec: EPERM.
//   - Ignore marks are not used as a cache. An ignored file makes no event, so
//     nothing says which process ran it, in which order with what else, or
//     whether the mark was there at that moment (a new inode, an evicted one and
//     a closed gate look the same). What it would save is small: see README.
package gate
