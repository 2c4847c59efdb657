// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/agent/internal/peer"
	"github.com/jurat-dev/jurat/agent/local"
)

// identify finds the process behind a pidfd among those the sensor knows.
// before, if not 0, is a moment at which the process must have been there.
func (a *Agent) identify(ctx context.Context, pidfd int, uid, pid uint32, before uint64) (*subject, *local.Error) {
	// An exec just now may still be in the ring.
	if err := a.sensor.Barrier(ctx); err != nil {
		return nil, fault(codeSensor, "%v", err)
	}
	facts, ok := a.table.facts(pid)
	if !ok {
		return nil, fault(codePeer, "process %d is not known to the sensor", pid)
	}
	i := facts.Instance
	if before != 0 && i.Start >= before {
		return nil, fault(codePeer, "process %s started after the connection was made", i)
	}
	if i.PidfdInode != 0 {
		var st unix.Stat_t
		if err := unix.Fstat(pidfd, &st); err != nil || st.Ino != i.PidfdInode {
			return nil, fault(codePeer, "process %d is not the one the sensor knows by that pid", pid)
		}
	}
	state, err := a.sensor.State(pidfd)
	if err != nil {
		return nil, fault(codePeer, "process %s: %v", i, err)
	}
	if state.Generation != i.Generation {
		return nil, fault(codeExec, "process %s runs another program by now", i)
	}
	if again, err := peer.PID(pidfd); err != nil || again != pid {
		return nil, fault(codeExited, "process %s ended", i)
	}
	return &subject{pidfd: pidfd, uid: uid, facts: facts}, nil
}

// child finds the child that a pidfd came along for, if it is one: its real
// parent asked, and runs as the same user.
func (a *Agent) child(ctx context.Context, p *peer.Peer) (*subject, *local.Error) {
	if p.Child < 0 {
		return nil, fault(codeRequest, "the request is for a child, and no pidfd came along")
	}
	about, err := statusOf(p.Child)
	if err != nil {
		return nil, fault(codePeer, "the child: %v", err)
	}
	switch {
	case about.parent != p.PID:
		return nil, fault(codePeer, "process %d is no child of process %d", about.pid, p.PID)
	case about.ruid != p.UID || about.euid != p.UID || about.suid != p.UID:
		return nil, fault(codePeer, "process %d runs as user %d, its parent as %d", about.pid, about.euid, p.UID)
	}
	return a.identify(ctx, p.Child, p.UID, about.pid, 0)
}

// status is what the kernel says of a process at one moment.
type status struct {
	pid, parent, ruid, euid, suid uint32
}

// statusOf asks about the process behind a pidfd: by PIDFD_GET_INFO (Linux
// 6.13), or from /proc, where the answer counts because the process still has
// its pid afterwards.
func statusOf(pidfd int) (status, error) {
	pid, err := peer.PID(pidfd)
	if err != nil {
		return status{}, err
	}
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_PID | unix.PIDFD_INFO_CREDS}
	if unix.IoctlPidfdInfo(pidfd, &info) == nil && info.Mask&unix.PIDFD_INFO_CREDS != 0 {
		return status{pid: pid, parent: info.Ppid, ruid: info.Ruid, euid: info.Euid, suid: info.Suid}, nil
	}
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(int(pid)) + "/status")
	if err != nil {
		return status{}, err
	}
	s, err := parseStatus(raw)
	if err != nil {
		return status{}, err
	}
	s.pid = pid
	if again, err := peer.PID(pidfd); err != nil || again != pid {
		return status{}, errors.New("process has ended")
	}
	return s, nil
}

// parseStatus reads PPid and Uid of /proc/PID/status.
func parseStatus(raw []byte) (status, error) {
	var s status
	found := 0
	for line := range bytes.Lines(raw) {
		name, rest, _ := bytes.Cut(line, []byte(":"))
		fields := bytes.Fields(rest)
		switch {
		case string(name) == "PPid" && len(fields) == 1:
			found |= 1
			if err := numbers(fields, &s.parent); err != nil {
				return s, err
			}
		case string(name) == "Uid" && len(fields) == 4:
			found |= 2
			if err := numbers(fields, &s.ruid, &s.euid, &s.suid); err != nil {
				return s, err
			}
		}
	}
	if found != 3 {
		return s, errors.New("malformed status: no PPid or Uid")
	}
	return s, nil
}

func numbers(fields [][]byte, into ...*uint32) error {
	for k, n := range into {
		v, err := strconv.ParseUint(string(fields[k]), 10, 32)
		if err != nil {
			return fmt.Errorf("malformed status: %q", fields[k])
		}
		*n = uint32(v)
	}
	return nil
}
