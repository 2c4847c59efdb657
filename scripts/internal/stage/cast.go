// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package stage

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Build compiles one of the samples as a static binary that any user may run.
func (s *Stage) Build(out, pkg, ldflags string) error {
	cmd := exec.CommandContext(s.ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w "+ldflags, "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %v: %s", pkg, err, text)
	}
	return os.Chmod(out, 0o755)
}

// StartResource builds and runs the protected service and returns its URL,
// which is the audience of tasks.
func (s *Stage) StartResource() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return "", err
	}
	service := filepath.Join(s.Bin, "sample-resource") // where there is no Go, it was built before
	if _, err := os.Stat(service); err != nil {
		service = s.Path("sample-resource")
		if err := s.Build(service, "./scripts/sample-resource", ""); err != nil {
			return "", err
		}
	}
	audience := "http://" + address
	if _, err := s.Start("invoices", nil, service, "-listen", address, "-issuer", s.Issuer, "-audience", audience); err != nil {
		return "", err
	}
	return audience, s.WaitHTTP(audience + "/healthz")
}

// AddApprover registers a person and returns the file of their new ssh key.
func (s *Stage) AddApprover(name string) (key string, err error) {
	key = s.Path("approver")
	if _, err := s.Run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", key); err != nil {
		return "", err
	}
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		return "", err
	}
	line := strings.Join(strings.Fields(string(public))[:2], " ")
	return key, s.Apply(fmt.Sprintf("kind: Approver\nname: %s\nkeys: [%q]\n", name, line))
}

// Apply gives the broker a registration.
func (s *Stage) Apply(yaml string) error {
	file := s.Path("registration.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		return err
	}
	_, err := s.Jurat("apply", "-f", file)
	return err
}
