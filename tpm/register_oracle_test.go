// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/require"
	"github.com/jurat-dev/jurat/internal/softtpm"
)

// tools runs tpm2-tools, which nobody here wrote, on swtpm's own socket: they
// keep their sessions from one program to the next, and nobody is to flush them.
type tools struct {
	t    *testing.T
	dir  string
	tcti string
}

func newTools(t *testing.T, chip *softtpm.TPM) tools {
	t.Helper()
	_, err := exec.LookPath("tpm2_nvdefine")
	require.Need(t, "tpm", err)
	// They set the locality through a control channel before anything else.
	control, err := net.Listen("unix", chip.RawPath()+".ctrl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { control.Close() })
	go func() {
		for {
			conn, err := control.Accept()
			if err != nil {
				return
			}
			if _, err := io.ReadFull(conn, make([]byte, 5)); err == nil {
				conn.Write(make([]byte, 4))
			}
			conn.Close()
		}
	}()
	return tools{t, shortDir(t), "swtpm:path=" + chip.RawPath()}
}

func (x tools) run(line string) string {
	x.t.Helper()
	words := strings.Fields(line)
	cmd := exec.Command(words[0], append([]string{"-T", x.tcti}, words[1:]...)...)
	cmd.Dir = x.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		x.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// tpm2-tools make the same index from their own policies, and give it the name
// that is computed here without a TPM.
func TestToolsMakeTheSameRegister(t *testing.T) {
	for _, opts := range []RegisterOptions{{}, {Index: 0x01800000, Latch: 8}, {Index: 0x01bfffff, Latch: 15}} {
		chip := startTPM(t, softtpm.Options{Blank: true})
		x := newTools(t, chip)
		index, latch := opts.Index, opts.Latch
		if index == 0 {
			index, latch = DefaultIndex, DefaultLatch
		}
		x.run("tpm2_startauthsession -S s")
		x.run(fmt.Sprintf("tpm2_policypcr -S s -l sha256:%d", latch))
		x.run("tpm2_policynvwritten -S s c")
		x.run("tpm2_policycommandcode -S s -L first TPM2_CC_NV_Extend")
		x.run("tpm2_flushcontext s")
		x.run("tpm2_startauthsession -S s")
		x.run("tpm2_policynvwritten -S s s")
		x.run("tpm2_policycommandcode -S s -L later TPM2_CC_NV_Extend")
		x.run("tpm2_flushcontext s")
		x.run("tpm2_startauthsession -S s")
		x.run("tpm2_policyor -S s -L policy sha256:first,later")
		x.run("tpm2_flushcontext s")
		x.run(fmt.Sprintf("tpm2_nvdefine 0x%x -C o -s 32 -g sha256 -L policy -a nt=extend|policywrite|ownerread|authread|no_da|orderly|clear_stclear", index))
		for i, branch := range registerBranches(latch) {
			made, err := os.ReadFile(filepath.Join(x.dir, []string{"first", "later"}[i]))
			if err != nil || evidence.Hash(made) != branch {
				t.Errorf("branch %d is %x, theirs %x: %v", i+1, branch, made, err)
			}
		}

		dev, err := Open(chip.RawPath())
		must(t, err)
		r, _ := register(t, dev, opts, StageDefined)
		must(t, r.Open(t.Context(), evidence.Hash{1}), r.CloseLatch(t.Context(), bootID), r.Extend(t.Context(), evidence.Hash{2}))
		want, err := r.Read(t.Context())
		must(t, err, dev.Close())

		name := "name: " + hex.EncodeToString(RegisterName(index, latch))
		if public := x.run(fmt.Sprintf("tpm2_nvreadpublic 0x%x", index)); !strings.Contains(public, name) {
			t.Errorf("want %s, they say:\n%s", name, public)
		}
		if value := x.run(fmt.Sprintf("tpm2_nvread -C 0x%x -s 32 0x%x", index, index)); value != string(want[:]) {
			t.Errorf("register is %x, they read %x", want, value)
		}
	}
}

// A change of the default makes another register on every host there is.
func TestRegisterNameIsPinned(t *testing.T) {
	for _, c := range []struct {
		index uint32
		latch uint8
		name  string
	}{
		{DefaultIndex, DefaultLatch, "000beca2f94949c509af42c3d0adee2cf97f5af3a3b37c99ed1510183193e4c9af1d"},
		{0x01800000, 8, "000b66d68d3b4238d7f636601c1259887fcbd41c6bdd38bd571e3d237735b6c88ea2"},
	} {
		if got := hex.EncodeToString(RegisterName(c.index, c.latch)); got != c.name {
			t.Errorf("name of 0x%x latched by PCR %d is %s, want %s", c.index, c.latch, got, c.name)
		}
	}
}
