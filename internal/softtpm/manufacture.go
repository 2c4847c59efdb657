// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package softtpm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// permanent is the file in which swtpm keeps a TPM's seeds and NV memory.
const permanent = "tpm2-00.permall"

// manufacture makes the TPM in dir unless there is one: seeds, an RSA 2048
// and an ECC P-384 EK (what swtpm_setup makes), and a certificate for each in
// NV memory, signed by the authority in opts.CA, which is made if need be.
func manufacture(dir string, opts Options) error {
	state := filepath.Join(dir, stateName)
	if err := os.MkdirAll(state, 0o700); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(state, permanent)); !errors.Is(err, os.ErrNotExist) || opts.Blank {
		if opts.Blank && errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	tmp, err := os.MkdirTemp(dir, "manufacture-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	config, err := writeConfig(tmp, opts.CA)
	if err != nil {
		return err
	}
	cmd := exec.Command("swtpm_setup", "--tpm2", "--config", config, "--tpm-state", state,
		"--create-ek-cert", "--pcr-banks", opts.Banks, "--lock-nvram")
	// swtpm_setup and certtool keep their temporary files where TMPDIR says.
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("manufacturing a software TPM in %s: %w\n%s", dir, err, bytes.TrimSpace(out))
	}
	return nil
}

// writeConfig writes the files that keep swtpm_setup and swtpm_localca away
// from the machine's own configuration and authority.
func writeConfig(dir, ca string) (string, error) {
	if err := os.MkdirAll(ca, 0o700); err != nil {
		return "", err
	}
	localca, err := exec.LookPath("swtpm_localca")
	if err != nil {
		return "", err
	}
	setup := filepath.Join(dir, "swtpm_setup.conf")
	config := filepath.Join(dir, "swtpm-localca.conf")
	options := filepath.Join(dir, "swtpm-localca.options")
	files := map[string]string{
		setup: fmt.Sprintf("create_certs_tool = %s\ncreate_certs_tool_config = %s\ncreate_certs_tool_options = %s\n",
			localca, config, options),
		config: fmt.Sprintf("statedir = %s\nsigningkey = %s\nissuercert = %s\ncertserial = %s\n",
			ca, filepath.Join(ca, "signkey.pem"), filepath.Join(ca, "issuercert.pem"), filepath.Join(ca, "certserial")),
		options: "--platform-manufacturer jurat\n--platform-version 1\n--platform-model softtpm\n",
	}
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	return setup, nil
}
