// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package bpf is the sensor: it tells which program started, forked, moved or
// ended in which process of this host, what it opened of code and models, and
// what spoilt it, as the kernel saw it.
//
// Station 1 of the flow. Door: the kernel, through BPF programs and maps.
// Out: [Event], and the [State] of a process kept inside the kernel.
//
// State comes first, events second. Generation and taints of a process live
// in kernel task storage and are set before the ring buffer is tried, so a
// lost record taints a process and never makes it look clean. A process is
// unmeasured until [Sensor.MarkMeasured] says otherwise for the one generation
// that was measured; an exec in between wins.
//
// Loss is data. Records are numbered per CPU. What the kernel had no room for
// arrives as an event of kind [KindLost] with cause ring-full; a hole that
// the kernel does not account for (somebody else read the ring) arrives with
// cause unexplained. Opens have a ring of their own, so that many of them
// starve nothing else; a lost one marks the process that opened.
//
// Programs, maps and rings are pinned, so that the kernel watches on when an
// agent ends. A record stays in its ring until [Sensor.Release]; the next agent
// takes over what is exactly the set it would have made ([Continuity]), and
// goes on behind the last record that was released.
//
// What the attached programs see and what not, [Sensor.Signals] says.
//
// The package refuses to work half: no BTF, no capability, or a program of the
// core that attaches but does not fire makes [Open] return an [*OpenError] that says
// what is missing. It never falls back to polling /proc. It opens no file of
// a process, follows no path and makes no digest; that is station 2.
//
// The objects are committed, so building needs no clang. To rebuild them with
// the pinned compiler: go generate ./bpf. No difference may result.
package bpf
