// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/tpm"
)

// nvpcrDir is where systemd leaves the first branch of each NvPCR's policy.
const nvpcrDir = "/run/systemd/nvpcr"

// settleNvPCR does it with one of systemd's registers. It was written to before
// the agent came, so the value that is found at first is where it begins.
func (r *anchor) settleNvPCR(ctx context.Context, chip Chip) (standing, error) {
	have := r.journal.Anchor()
	ours := have != nil && have.Mode == r.header.Mode && have.Index == r.options.Index && have.ResetCount == r.header.ResetCount
	register, err := openNvPCR(ctx, chip, r.options.Index, nvpcrDir)
	if ours && (errors.Is(err, tpm.ErrNoRegister) || errors.Is(err, tpm.ErrForeign)) {
		return unsettled, unexplained("%v, although %d checkpoints were anchored in it", err, have.Count)
	}
	if err != nil {
		return unsettled, err
	}
	value, err := register.Read(ctx)
	if err != nil {
		return unsettled, err
	}
	r.register = register
	r.header.Name, r.header.Index, r.header.Base = register.Name(), register.Index(), value
	if !ours {
		return fresh, nil
	}
	if !bytes.Equal(have.Name, register.Name()) {
		return unsettled, unexplained("the NvPCR has the name %x, %d checkpoints were anchored in %s", register.Name(), have.Count, have.Name)
	}
	now, err := compare(have, value)
	if now == behind {
		return whole, register.Extend(ctx, have.Last)
	}
	return now, err
}

// openNvPCR opens a NvPCR with whichever first branch systemd left that makes
// its policy; one whose own password may write needs none.
func openNvPCR(ctx context.Context, chip Chip, index uint32, dir string) (*tpm.Register, error) {
	register, err := chip.NvPCR(ctx, index, nil)
	if !errors.Is(err, tpm.ErrForeign) {
		return register, err
	}
	names, globErr := filepath.Glob(filepath.Join(dir, "*.auth"))
	if globErr != nil {
		return nil, globErr
	}
	for _, name := range names {
		branch := firstBranch(name)
		if branch == nil {
			continue
		}
		if register, err := chip.NvPCR(ctx, index, branch); !errors.Is(err, tpm.ErrForeign) {
			return register, err
		}
	}
	return nil, err
}

// firstBranch reads a policy digest: 32 bytes, or as many in hexadecimal.
func firstBranch(path string) []byte {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > evidence.MaxText {
		return nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	if len(raw) == sha256.Size {
		return raw
	}
	branch, err := hex.DecodeString(string(bytes.TrimSpace(raw)))
	if err != nil || len(branch) != sha256.Size {
		return nil
	}
	return branch
}
