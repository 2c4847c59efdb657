// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Command demo shows jurat's main job on one machine with real parts: two
// hosts with a software TPM each, a broker, a protected service, a small AI
// workload and a person with an ssh key. It then tries ten ways to get or use
// a credential that must all be refused, and checks who refused and why.
//
// It must run as root (eBPF). It exits 0 when everything went as it should,
// 1 when something did not, 3 when the machine lacks what it needs, and takes
// everything it made away again.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx))
}

func run(ctx context.Context) int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "demo: error: eBPF needs root\ndemo: hint: sudo make demo")
		return 3
	}
	begin := time.Now()
	show := newShow(os.Stdout)
	show.title("jurat: from an exec to a credential, and what is refused")
	show.note("The TPMs here are software (swtpm). They are for trying out: they prove nothing about hardware.")
	st, err := newTheatre(ctx, show)
	if err != nil {
		fmt.Fprintf(os.Stderr, "demo: error: %v\n", err)
		return 3
	}
	err = errors.Join(perform(st), st.close())
	if err != nil {
		show.failed(err)
		if log := st.LogTail(); log != "" {
			fmt.Fprintf(os.Stderr, "\nlast lines of the programs:\n%s", log)
		}
		return 1
	}
	show.done(time.Since(begin))
	return 0
}

// perform runs the acts in order; the first that does not go as expected ends
// the demo.
func perform(st *theatre) error {
	acts := []struct {
		title string
		steps []step
	}{
		{"Set up: two hosts, a broker, a protected service", []step{
			{"software TPMs made, with EK certificates of a private authority", (*theatre).startTPMs},
			{"jurat-broker runs, and trusts that authority for EK certificates", (*theatre).startBroker},
			{"hosts h1 and h2 enrolled: each TPM proved that it holds the key it shows", (*theatre).enrolHosts},
			{"juratd watches every exec on both", (*theatre).startAgents},
			{"the service \"invoices\" runs: it takes tokens for itself only, with proof of key", (*theatre).startResource},
		}},
		{"Register the workload and the person", []step{
			{"workload registered: this digest, this unit, this user", (*theatre).registerWorkload},
			{"approver alice registered with her ssh key", (*theatre).registerApprover},
		}},
		{"A person approves one task", []step{
			{"task requested", (*theatre).requestTask},
			{"alice signed exactly this task with her ssh key", (*theatre).approveTask},
		}},
		{"The workload does it, holding nobody's password", []step{
			{"first try: refused, because nobody has said yet how h1 must boot", (*theatre).unknownBoot},
			{"operator took h1's boot measurements as reference values of its class", (*theatre).learnBoot},
			{"evidence matched on all five attestors; the service answered the workload", (*theatre).useCredential},
		}},
		{"The machine is not what it was", []step{
			{"h1 booted with another kernel command line", (*theatre).otherCommandLine},
			{"h1 booted with Secure Boot off", (*theatre).secureBootOff},
			{"h1 booted as it should: a new epoch, believed again", (*theatre).goodBoot},
			{"root wrote to the register that anchors h1's log", (*theatre).foreignExtend},
			{"only another reset gives h1 a register again", (*theatre).goodBoot},
		}},
		{"Refused, as each must be", []step{
			{"the same path with a changed binary", (*theatre).changedBinary},
			{"the right binary under the wrong unit and user", (*theatre).wrongContext},
			{"the same bundle sent again", (*theatre).replayedBundle},
			{"a bundle from another host's TPM", (*theatre).foreignTPM},
			{"an expired delegation", (*theatre).expiredDelegation},
			{"a delegation nobody signed", (*theatre).unsignedDelegation},
			{"a token used without its key", (*theatre).stolenToken},
			{"a token used with another key", (*theatre).stolenTokenOtherKey},
			{"a revoked delegation", (*theatre).revokedDelegation},
		}},
		{"An agent in Python is more than its interpreter", []step{
			{"its script, its modules, its libraries and its model registered as they ran once", (*theatre).registerRanker},
			{"evidence matched: it has its credential", (*theatre).useRanker},
			{"one bit of its model flipped", (*theatre).flippedModel},
			{"one line of its module changed", (*theatre).changedModule},
			{"one line of its script changed", (*theatre).changedScript},
			{"one library injected", (*theatre).injectedLibrary},
			{"everything as it was: it has its credential again", (*theatre).useRanker},
		}},
		{"What the broker's log says about it", []step{
			{"every decision is there", (*theatre).auditTrail},
		}},
	}
	for i, act := range acts {
		st.show.act(i+1, act.title)
		for _, s := range act.steps {
			if err := st.ctx.Err(); err != nil {
				return errors.New("interrupted")
			}
			finish := st.show.begin(s.name)
			detail, err := s.do(st)
			finish(err)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			st.show.detail(detail)
		}
	}
	return nil
}

// step is one thing the demo does. What it returns is shown below its name.
type step struct {
	name string
	do   func(*theatre) ([]string, error)
}
