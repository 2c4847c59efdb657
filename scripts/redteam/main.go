// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Command redteam attacks a running jurat for real: a broker, an agent with its
// programs in this kernel, a software TPM, an approved task, and attackers with
// root. Each attack ends in a question for a credential. The table says what
// the kernel saw, who said no, and whether there was a credential all the same.
//
// It is no station of the flow and ships in no package. It changes what it must
// of this machine, and puts it back.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	pattern := flag.String("run", "", "only attacks whose name matches this `PATTERN`")
	asJSON := flag.Bool("json", false, "one JSON object a line")
	programs := flag.String("programs", "", "attack with the programs in `DIR`, which -compile has made, and not with new ones")
	compile := flag.Bool("compile", false, "compile the programs into the directory of -programs, and attack nothing")
	flag.Parse()
	err := error(nil)
	if *compile {
		err = compilePrograms(ctx, *programs)
	} else {
		err = run(ctx, *pattern, *asJSON, *programs)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "redteam:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, pattern string, asJSON bool, programs string) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("not root: the attackers are")
	}
	want, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	f, err := openField(ctx, programs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	if err := f.control(); err != nil {
		return fmt.Errorf("before the attacks: %w", err)
	}
	count := make(map[string]int)
	lost := 0
	show := newShow(asJSON)
	for i, a := range suite {
		if !want.MatchString(a.name) {
			continue
		}
		r := f.attack(a)
		r.Number = i + 1
		show.row(r)
		count[r.Outcome]++
		if r.Outcome == outcomeLost || r.Outcome == outcomeBroken {
			lost++
		}
	}
	if err := f.control(); err != nil {
		return fmt.Errorf("after the attacks: %w", err)
	}
	show.end(count)
	if lost > 0 {
		return fmt.Errorf("%d attacks got what they wanted, or proved nothing", lost)
	}
	return nil
}

// show prints rows as they come.
type show struct{ json bool }

func newShow(asJSON bool) *show {
	if !asJSON {
		fmt.Printf("the honest workloads have their credentials\n\n%3s  %-18s  %-11s  %s\n", "", "ATTACK", "CREDENTIAL", "SAID NO / THE KERNEL SAW")
	}
	return &show{asJSON}
}

func (s *show) row(r result) {
	if s.json {
		data, err := json.Marshal(r)
		if err != nil {
			panic(err) // strings and numbers alone
		}
		fmt.Println(string(data))
		return
	}
	fmt.Printf("%3d  %-18s  %-11s  %s\n", r.Number, r.Name, r.Outcome, r.Verdict)
	fmt.Printf("%3s  %-18s  %-11s  %s\n", "", "", "", r.About)
	if r.Saw != "" {
		fmt.Printf("%3s  %-18s  %-11s  saw %s\n", "", "", "", r.Saw)
	}
}

func (s *show) end(count map[string]int) {
	if !s.json {
		fmt.Printf("\n%d refused, %d not possible here, %d missed by this tier, %d through, %d proved nothing; the honest workloads still have their credentials\n",
			count[outcomeNo], count[outcomeCannot], count[outcomeMissed], count[outcomeLost], count[outcomeBroken])
	}
}
