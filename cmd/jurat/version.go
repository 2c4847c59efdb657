// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"runtime"
	"strings"

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

// completionJSON is jurat.completion/v1.
type completionJSON struct {
	Schema string `json:"schema"`
	Shell  string `json:"shell"`
	Script string `json:"script"`
}

func (a *app) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:       "completion bash|zsh|fish",
		Short:     "script that completes jurat's command lines",
		Example:   "  jurat completion bash > /etc/bash_completion.d/jurat\n  jurat completion zsh > \"${fpath[1]}/_jurat\"",
		Args:      arguments("SHELL"),
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(c *cobra.Command, args []string) error {
			var script strings.Builder
			var err error
			switch args[0] {
			case "bash":
				err = c.Root().GenBashCompletionV2(&script, true)
			case "zsh":
				err = c.Root().GenZshCompletion(&script)
			case "fish":
				err = c.Root().GenFishCompletion(&script, true)
			default:
				return usage(c, "shell %q, want bash, zsh or fish", args[0])
			}
			if err != nil {
				return err
			}
			if a.json {
				return a.emit(&completionJSON{"jurat.completion/v1", args[0], script.String()}, nil)
			}
			_, err = a.out.Write([]byte(script.String()))
			return err
		},
	}
}
