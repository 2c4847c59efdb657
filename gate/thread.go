// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package gate

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A process with more threads than maxThreads is not looked into; one whose
// threads keep running is looked at maxLooks times in all, with a rest between.
const (
	maxThreads = 1024
	maxLooks   = 32
	lookRest   = 500 * time.Microsecond
)

// opener returns the thread of a process that opened the file held now, where
// that is certain: it is the only thread of the process that is in exec. The
// event itself names the process only. While the file is held the process
// cannot have ended, unless it was killed, and then no exec follows that this
// could be wrong about.
func opener(pid uint32) uint32 {
	dir := "/proc/" + strconv.FormatUint(uint64(pid), 10) + "/task"
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return 0
	}
	if st.Nlink == 3 { // itself, its parent, and one thread
		return pid
	}
	threads, err := os.ReadDir(dir)
	if err != nil || len(threads) > maxThreads {
		return 0
	}
	var found uint32
	looks := maxLooks
	for _, t := range threads {
		switch state := inExec(dir+"/"+t.Name()+"/syscall", &looks); {
		case state == stateUnclear || state == stateExec && found != 0:
			return 0
		case state == stateExec:
			tid, err := strconv.ParseUint(t.Name(), 10, 32)
			if err != nil {
				return 0
			}
			found = uint32(tid)
		}
	}
	return found
}

type threadState uint8

const (
	stateElsewhere threadState = iota
	stateExec
	stateUnclear
)

// inExec reports whether a thread is in a call of execve or execveat. A
// running thread does not say: it is looked at again, as long as there are looks
// left.
func inExec(path string, looks *int) threadState {
	for {
		text, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return stateElsewhere // it has ended
		}
		if err != nil {
			return stateUnclear
		}
		number, _, _ := bytes.Cut(bytes.TrimSpace(text), []byte(" "))
		if string(number) == "running" {
			if *looks--; *looks < 0 {
				return stateUnclear
			}
			time.Sleep(lookRest)
			continue
		}
		n, err := strconv.ParseInt(string(number), 10, 64)
		if err != nil {
			return stateUnclear
		}
		if execCall(n) {
			return stateExec
		}
		return stateElsewhere
	}
}

// execCall reports whether a system call number may mean execve or execveat:
// of this machine, of its 32-bit ABI, or of x32. Some of these mean something
// else in another ABI; that one makes a case unclear, never clear.
func execCall(n int64) bool {
	switch n {
	case unix.SYS_EXECVE, unix.SYS_EXECVEAT, 11, 358, 387, 520, 545, 1<<30 | 520, 1<<30 | 545:
		return true
	}
	return false
}
