// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"runtime"

	"github.com/spf13/cobra"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
)

// versionJSON is jurat.version/v1.
type versionJSON struct {
	Schema  string `json:"schema"`
	Version string `json:"version"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "which jurat this is",
		Example: "  jurat version",
		Args:    arguments(),
		RunE: func(*cobra.Command, []string) error {
			v := &versionJSON{"jurat.version/v1", version, runtime.Version(), runtime.GOOS, runtime.GOARCH}
			return a.emit(v, func(p *term.Printer) { p.Line("jurat %s (%s, %s/%s)", v.Version, v.Go, v.OS, v.Arch) })
		},
	}
}
