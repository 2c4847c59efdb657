// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
)

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

// completeWith makes a shell complete the values of a flag.
func completeWith(c *cobra.Command, flag string, values []string) {
	err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err) // there is no such flag: a mistake in this program
	}
}

// completionPatience bounds how long a shell waits for juratd.
const completionPatience = 2 * time.Second

// completePID makes a shell complete the pids that juratd knows, each with its
// program. Where juratd does not answer, there are none.
func (a *app) completePID(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(c.Context(), completionPatience)
	defer cancel()
	all, err := a.agent().Processes(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for i := range all {
		if pid := fmt.Sprint(all[i].Instance.PID); strings.HasPrefix(pid, typed) {
			out = append(out, cobra.CompletionWithDesc(pid, term.Clean(program(&all[i]))))
		}
	}
	return slices.Clip(out), cobra.ShellCompDirectiveNoFileComp
}
