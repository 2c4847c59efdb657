// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
)

// defaultAdmin is where jurat-broker has its operator socket.
const defaultAdmin = "/run/jurat-broker/admin.sock"

// defaultTimeout bounds everything that is asked of juratd or a broker.
const defaultTimeout = 45 * time.Second

// app is one run of the command: its streams, the global flags, and the two
// things it takes from the world without being asked.
type app struct {
	in       io.Reader
	out, err io.Writer
	env      func(string) string
	now      func() time.Time
	// execve replaces this process; tests put something else here.
	execve func(path string, argv, env []string) error

	json, noColor         bool
	socket, admin, broker string
	timeout               time.Duration
	set                   map[string]bool // which of the three somebody named
	fromEnv               bool            // the broker was named by the environment
	users                 map[uint32]string
}

// run is the whole command as a function of its arguments and streams. Signals
// end it as they end any program, except while it stands over a child.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{in: stdin, out: stdout, err: stderr, env: os.Getenv, now: time.Now, execve: syscall.Exec}
	return a.main(context.Background(), args)
}

func (a *app) main(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitYes
	}
	// A command line that could not be read to its end may still have --json.
	a.json = a.json || slices.Contains(args[:dashes(args)], "--json")
	return a.fail(err)
}

// dashes returns where the arguments of jurat exec's program may begin.
func dashes(args []string) int {
	if i := slices.Index(args, "--"); i >= 0 {
		return i
	}
	return len(args)
}

// root is the tree of commands.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "jurat",
		Short: "evidence, delegations and credentials for workloads",
		Long: `jurat asks which binary, in which context, on which host, wants something, and
which human allowed it, and shows what the answer was.`,
		Example: `  jurat status
  jurat delegation approve dlg_… --key ~/.ssh/id_ed25519
  jurat exec --delegation dlg_… -- ./invoice-agent
  jurat why 01JD…`,
		Args:              cobra.ArbitraryArgs,
		RunE:              group,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		PersistentPreRunE: a.prepare,
	}
	f := root.PersistentFlags()
	f.BoolVar(&a.json, "json", false, "print one JSON object (jurat help json)")
	f.BoolVar(&a.noColor, "no-color", false, "no colour, as with NO_COLOR in the environment")
	f.StringVar(&a.socket, "socket", local.DefaultSocket, "juratd's socket")
	f.StringVar(&a.admin, "admin", defaultAdmin, "jurat-broker's operator socket")
	f.StringVar(&a.broker, "broker", "", "the broker's URL (default: $JURAT_BROKER)")
	f.DurationVar(&a.timeout, "timeout", defaultTimeout, "longest wait for juratd or the broker")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage(c, "%v", err)
	})
	root.SetHelpFunc(a.help)
	root.SetHelpCommand(a.helpCommand())
	root.AddCommand(
		a.statusCommand(), a.execCommand(), a.evidenceCommand(), a.delegationCommand(), a.whyCommand(), a.auditCommand(),
		a.applyCommand(), a.refsCommand(), a.hostCommand(), a.completionCommand(), a.manCommand(), a.versionCommand(),
	)
	root.AddCommand(a.registryCommands()...)
	root.AddCommand(a.eventlogCommand())
	root.AddCommand(a.imaCommand())
	root.AddCommand(a.quoteCommand())
	root.AddCommand(a.ekCommand())
	root.AddCommand(a.psCommand(), a.treeCommand(), a.eventsCommand(), a.measurementsCommand(), a.explainCommand())
	root.AddCommand(a.doctorCommand(), a.probeCommand())
	root.AddCommand(a.bootCommand())
	root.AddCommand(a.verifyCommand())
	root.AddCommand(topics()...)
	return root
}

// prepare settles the global flags before a command runs.
func (a *app) prepare(c *cobra.Command, _ []string) error {
	a.set = make(map[string]bool)
	for _, name := range []string{"socket", "admin", "broker"} {
		a.set[name] = c.Flags().Changed(name)
	}
	if a.broker == "" {
		a.broker = a.env("JURAT_BROKER")
		a.fromEnv = a.broker != ""
		a.set["broker"] = a.fromEnv
	}
	if a.timeout <= 0 {
		return usage(c, "--timeout %v, want more than 0", a.timeout)
	}
	return nil
}

// group is what a command does that only has others below it.
func group(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		if !c.HasParent() {
			return c.Help()
		}
		return usage(c, "%s what? One of: %s", c.CommandPath(), strings.Join(names(c), ", "))
	}
	err := usage(c, "unknown command %q for %q", args[0], c.CommandPath())
	c.SuggestionsMinimumDistance = 2
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		err.hint = "did you mean '" + c.CommandPath() + " " + near[0] + "'?"
	}
	return err
}

func names(c *cobra.Command) []string {
	var out []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			out = append(out, sub.Name())
		}
	}
	return out
}

// arguments wants exactly the named arguments.
func arguments(want ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < len(want):
			return usage(c, "%s is missing", want[len(args)])
		case len(args) > len(want):
			return usage(c, "unexpected argument %q", args[len(want)])
		}
		return nil
	}
}

// atMostOne wants one argument or none.
func atMostOne(c *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usage(c, "unexpected argument %q", args[1])
	}
	return nil
}

// color reports whether w takes colour.
func (a *app) color(w io.Writer) bool {
	return !a.noColor && a.env("NO_COLOR") == "" && a.env("TERM") != "dumb" && term.IsTerminal(w)
}

// printer writes results for people.
func (a *app) printer() *term.Printer { return term.New(a.out, a.color(a.out)).On(a.screen()) }

// screen is what standard output has room for.
func (a *app) screen() term.Screen {
	columns, rows := term.Size(a.out)
	return term.Screen{Columns: columns, Rows: rows, Unicode: a.utf8()}
}

// bounded limits how long a command waits for others.
func (a *app) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, a.timeout)
}

func (a *app) agent() *local.Client { return &local.Client{Socket: a.socket} }

// usage is the error of a command line that cannot be carried out.
func usage(c *cobra.Command, format string, args ...any) *failure {
	exit := exitUsage
	if c.Name() == "exec" {
		exit = exitExec // 2 may be what the program it runs says
	}
	return &failure{exit: exit, code: "usage", err: fmt.Errorf(format, args...), hint: "see '" + c.CommandPath() + " --help'"}
}
