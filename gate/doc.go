// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package gate holds every exec on the host until the files it runs have been
// hashed, and says afterwards which files these were.
//
// It stands beside station 1 of the flow. Its door is a fanotify descriptor,
// which a process of its own has ([Hold]), with what it takes to set marks
// (mount tables, /proc/PID). In comes [Record], what the kernel recorded of an
// exec, out goes [Verdict]. It denies nothing: what is held is let go once it is
// measured, or its time is up. It refuses to guess: an exec that nothing was
// held for is unknown.
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
//     not that was opened beforehand (flag F).
//   - Deleted files, O_TMPFILE, execveat with AT_EMPTY_PATH: held like any
//     other, because the file is on a file system.
//   - overlayfs: two events, one for the overlay's file and one for the file
//     below, which is what will be mapped, if that file system is marked too.
//   - Not seen: memfd (its file system cannot be marked); a program given to the
//     loader ("ld.so ./prog"), which shows as the loader only; a library;
//     anything else that is opened or mapped and not executed. Files on a file
//     system that is not marked: mounted this instant, remote, in a mount
//     namespace nobody looked into.
//   - A file without permission to execute it: no event. One the kernel cannot
//     run (ENOEXEC, an interpreter that is missing): an event and no exec. A
//     question with AT_EXECVE_CHECK: an event and no exec.
//   - While a mark of the very file is being removed, anybody's, an inotify
//     watch too, the kernel lets an exec of it pass unheld: that exec has no
//     verdict. This package never removes one.
//   - The event names the process, not the thread: FAN_REPORT_TID and
//     FAN_REPORT_PIDFD exclude each other. Where a process has several threads,
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
// All execs of the host wait for the holder. So:
//
//   - A file is held for [DefaultDeadline] at most, and nothing that reads one
//     is waited for: not the disk, not the digester. Whoever hangs at reading a
//     file is replaced.
//   - When the holder dies all that is held goes on, and nothing is held until
//     there is another one: fanotify fails open. That shows in that execs have
//     no verdict. So it is when the kernel's queue (16384 events) is full, or
//     when the agent does not read what the holder says.
//   - A holder that cannot run, stopped by a signal, a debugger or the cgroup
//     freezer, is killed by a timer of the kernel within 3 seconds.
//   - The holder starts no program and dumps no core: it would wait for itself.
//     The agent may, for it is another process. The holder ends when the agent
//     does.
//   - Reading an event opens the file for the holder, so a file system whose
//     server does not answer would stop it. FUSE, NFS and the like are never
//     marked, nor is what is reached through them. If the file cannot be opened
//     (no descriptors left), the kernel refuses the exec: EPERM.
//   - Ignore marks are not used as a cache. An ignored file makes no event, so
//     nothing says which process ran it, in which order with what else.
package gate
