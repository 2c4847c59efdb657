// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/bootlog"
	"github.com/jurat-dev/jurat/tpm"
)

// reboot stops h1's agent, boots the machine around its TPM anew, and starts
// the agent again.
func (t *theatre) reboot(boot bootlog.Boot) error {
	h := t.Hosts["h1"]
	if err := t.StopAgent(h); err != nil {
		return err
	}
	h.TPM.SetBoot(boot)
	if err := h.TPM.Reset(); err != nil {
		return err
	}
	return t.StartAgent(h)
}

// otherBoot wants h1 refused for how it booted, and only for that.
func (t *theatre) otherBoot(boot bootlog.Boot) ([]string, error) {
	if err := t.reboot(boot); err != nil {
		return nil, err
	}
	return t.refusedBy(t.asRegistered(), "boot")
}

func (t *theatre) otherCommandLine() ([]string, error) {
	return t.otherBoot(bootlog.Boot{CommandLine: bootlog.DefaultCommandLine + " init=/bin/sh"})
}

func (t *theatre) secureBootOff() ([]string, error) {
	return t.otherBoot(bootlog.Boot{SecureBootOff: true})
}

// foreignExtend is what root could do to hide a checkpoint: write to the
// register. It cannot be taken back before the next reset, and it shows.
func (t *theatre) foreignExtend() (lines []string, err error) {
	if err := t.extendRegister(); err != nil {
		return nil, err
	}
	out, code, err := t.perform(t.asRegistered())
	if err != nil {
		return nil, err
	}
	if code == 0 || !strings.Contains(out, "E_ANCHOR") {
		return nil, fmt.Errorf("want a refusal for a broken register, got %d: %s", code, out)
	}
	t.decided = append(t.decided, "deny")
	for line := range strings.Lines(out) {
		if strings.Contains(line, "E_ANCHOR") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines, nil
}

func (t *theatre) extendRegister() (err error) {
	dev, err := tpm.Open(t.Hosts["h1"].TPM.Path())
	if err != nil {
		return err
	}
	defer func() {
		if e := dev.Close(); err == nil {
			err = e
		}
	}()
	register, _, err := dev.Register(context.Background(), tpm.RegisterOptions{})
	if err != nil {
		return err
	}
	return register.Extend(context.Background(), evidence.Hash{1})
}

// goodBoot boots h1 as it was learned.
func (t *theatre) goodBoot() ([]string, error) {
	if err := t.reboot(bootlog.Boot{}); err != nil {
		return nil, err
	}
	lines, err := t.useCredential()
	return lines[:min(1, len(lines))], err
}
