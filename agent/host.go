// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// hostFacts are what the agent says about itself and the kernel when an epoch
// begins. None of it is believed without the quote.
type hostFacts struct {
	bootID       evidence.Bytes
	kernel       string
	agent        evidence.Value[evidence.Digest]
	capabilities uint64
	modules      evidence.Value[string]
	lockdown     evidence.Value[string]
}

const securityFS = "/sys/kernel/security/"

func readHost() (hostFacts, error) {
	var f hostFacts
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return f, err
	}
	if f.bootID, err = parseBootID(raw); err != nil {
		return f, err
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return f, os.NewSyscallError("uname", err)
	}
	f.kernel = unix.ByteSliceToString(uts.Release[:])
	f.agent = ownDigest()
	if f.capabilities, err = effectiveCapabilities(); err != nil {
		return f, err
	}
	f.modules = securityFile("lsm", "no-lsm", func(s string) string { return s })
	f.lockdown = securityFile("lockdown", "no-lsm", chosen)
	return f, nil
}

// parseBootID reads the kernel's boot id: a UUID, 16 bytes in hexadecimal.
func parseBootID(raw []byte) (evidence.Bytes, error) {
	id, err := hex.DecodeString(strings.ReplaceAll(string(bytes.TrimSpace(raw)), "-", ""))
	if err != nil || len(id) != 16 {
		return nil, fmt.Errorf("malformed boot id %q", raw)
	}
	return id, nil
}

// ownDigest hashes the program this process runs, through the running image.
func ownDigest() evidence.Value[evidence.Digest] {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return evidence.Unknown[evidence.Digest]("unreadable")
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return evidence.Unknown[evidence.Digest]("unreadable")
	}
	return evidence.Known(evidence.Digest{Algorithm: "sha-256", Value: h.Sum(nil), Source: evidence.SourceRead})
}

func effectiveCapabilities() (uint64, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, os.NewSyscallError("capget", err)
	}
	return uint64(data[1].Effective)<<32 | uint64(data[0].Effective), nil
}

func securityFile(name, absent string, read func(string) string) evidence.Value[string] {
	raw, err := os.ReadFile(securityFS + name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return evidence.Unknown[string](absent)
	case err != nil || len(raw) > evidence.MaxText:
		return evidence.Unknown[string]("unreadable")
	}
	return evidence.Known(read(strings.TrimSpace(string(raw))))
}

// chosen returns the word in brackets of "none [integrity] confidentiality".
func chosen(s string) string {
	_, rest, _ := strings.Cut(s, "[")
	word, _, ok := strings.Cut(rest, "]")
	if !ok {
		return s
	}
	return word
}

// readLog returns a log of measurements, and its digest, if it has at most
// limit bytes.
func readLog(path string, limit int) ([]byte, evidence.Value[evidence.Hash]) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, evidence.Unknown[evidence.Hash]("no-log")
	}
	if err != nil {
		return nil, evidence.Unknown[evidence.Hash]("unreadable")
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	switch {
	case err != nil:
		return nil, evidence.Unknown[evidence.Hash]("unreadable")
	case len(raw) == 0:
		return nil, evidence.Unknown[evidence.Hash]("no-log")
	case len(raw) > limit:
		return nil, evidence.Unknown[evidence.Hash]("truncated")
	}
	return raw, evidence.Known(evidence.Hash(sha256.Sum256(raw)))
}

// bootClock returns nanoseconds since boot, suspend included: the clock of the
// kernel's records.
func bootClock() uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("agent: no boot clock: " + err.Error()) // every kernel with BPF has it
	}
	return uint64(ts.Nano())
}
