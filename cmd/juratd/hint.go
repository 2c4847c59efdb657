// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"errors"
	"io/fs"
	"os"

	"github.com/jurat-dev/jurat/agent"
	"github.com/jurat-dev/jurat/bpf"
	brokerclient "github.com/jurat-dev/jurat/broker-client"
	"github.com/jurat-dev/jurat/tpm"
)

// privileged is how to run the agent in a container.
const privileged = "in a container: docker run --privileged --pid=host --cgroupns=host -v /sys/kernel/security:/sys/kernel/security:ro " +
	"--device /dev/tpmrm0 -v /var/lib/jurat:/var/lib/jurat -v /run/jurat:/run/jurat; otherwise: run as root"

// hintFor says what to do about an error, where that is known.
func hintFor(err error) string {
	if sensor, ok := errors.AsType[*bpf.OpenError](err); ok {
		if errors.Is(err, bpf.ErrPermission) {
			return sensor.Hint + "; " + privileged
		}
		return sensor.Hint
	}
	refusal, refused := errors.AsType[*brokerclient.Refusal](err)
	_, unreachable := errors.AsType[*brokerclient.Unreachable](err)
	switch {
	case errors.Is(err, agent.ErrNotEnrolled):
		return "enrol first: juratd enrol -broker URL -host NAME -token-file FILE ('jurat host add NAME' at the broker prints the token)"
	case errors.Is(err, agent.ErrNamespace):
		return privileged
	case errors.Is(err, agent.ErrAnchor):
		return "-nv-index and -latch-pcr choose another register; -anchor none goes without, where the broker's policy accepts that"
	case errors.Is(err, tpm.ErrNoDevice):
		return "-tpm names the device; a container needs --device /dev/tpmrm0; for trying out, a software TPM's socket will do"
	case refused && refusal.Retry == "operator":
		return "'jurat host add NAME' at the broker makes a new enrolment token; a host that is known has to be removed first ('jurat host remove NAME')"
	case unreachable:
		return "is jurat-broker running at that address? -ca names the roots of its certificate, if they are not the system's"
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		return "juratd runs as root, with CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH and CAP_CHECKPOINT_RESTORE"
	case errors.Is(err, fs.ErrPermission):
		return privileged
	}
	return ""
}
