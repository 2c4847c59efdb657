// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/bpf"
)

// How an attack may end.
const (
	outcomeNo     = "no"
	outcomeLost   = "YES"
	outcomeMissed = "missed" // YES, and threat-model.md says that this tier misses it
	outcomeCannot = "-"
	outcomeBroken = "nothing"
)

// result is one row of the table.
type result struct {
	Number  int      `json:"number"`
	Name    string   `json:"attack"`
	About   string   `json:"about"`
	Deeds   []string `json:"deeds"`
	Saw     string   `json:"kernel_saw"`
	Verdict string   `json:"verdict"`
	Outcome string   `json:"credential"` // no, YES, missed, - (not possible here) or nothing (it proved nothing)
}

// attack runs one attack and judges what came of it.
func (f *field) attack(a attack) result {
	r := result{Name: a.name, About: a.about}
	ctx, cancel := context.WithTimeout(f.ctx, patience)
	defer cancel()
	seen := f.listen(ctx)
	var lines []string
	var err error
	switch a.name {
	case "flood":
		lines, err = f.flood(ctx)
	case "killed-agent":
		lines, err = f.killedAgent(ctx)
	case "stolen-token":
		lines, err = f.stolenToken(ctx)
	case "first-run":
		lines, err = f.firstRun(ctx)
	case "killed-gate":
		lines, err = f.lamedGate(ctx, syscall.SIGKILL)
	case "stopped-gate":
		lines, err = f.lamedGate(ctx, syscall.SIGSTOP)
	default:
		lines, err = f.program(ctx, a.name)
	}
	r.judge(lines)
	time.Sleep(20 * time.Millisecond) // what the kernel saw is on its way
	r.Saw = strings.Join(seen(), ", ")
	if err != nil && r.Outcome != outcomeLost {
		r.Outcome, r.Verdict = outcomeBroken, err.Error()
	}
	if a.hooks && r.Outcome == outcomeLost && f.tier == bpf.TierTracepoint {
		r.Outcome, r.Verdict = outcomeMissed, "a credential: only tiers above tracepoint see it"
	}
	return r
}

// judge reads what an attack said of itself (kit/kit.h).
func (r *result) judge(lines []string) {
	var said []string
	r.Outcome = outcomeBroken
	answered := false
	for _, line := range lines {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "deed":
			r.Deeds = append(r.Deeds, rest)
		case "cannot":
			r.Outcome, r.Verdict = outcomeCannot, "not possible here: "+rest
			return
		case "broken":
			r.Verdict = rest
			return
		case "answer", "control":
			_, text, _ := strings.Cut(rest, " ")
			a := parseAnswer(text)
			if word == "control" {
				if !a.credential {
					r.Verdict = "no credential before the attack: " + a.code + " " + strings.Join(a.failed, ", ")
					return
				}
				continue
			}
			answered = true
			if a.credential {
				r.Outcome, r.Verdict = outcomeLost, "a credential"
				return
			}
			if len(a.failed) == 0 {
				a.failed = []string{a.code}
			}
			for _, no := range a.failed {
				if !slices.Contains(said, no) && !strings.HasPrefix(no, "provenance/") {
					said = append(said, no)
				}
			}
		}
	}
	r.Verdict = strings.Join(said, ", ")
	switch {
	case !answered:
		r.Verdict = "nobody asked: " + strings.Join(lines, " | ")
	case len(r.Deeds) == 0:
		r.Verdict = "the attack did nothing; " + r.Verdict
	default:
		r.Outcome = outcomeNo
	}
}

// listen collects the taints that juratd logs until the result is asked for.
func (f *field) listen(ctx context.Context) func() []string {
	ctx, cancel := context.WithCancel(ctx)
	var mu sync.Mutex
	var seen []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		client := local.Client{Socket: f.host.Socket}
		_ = client.Events(ctx, func(ev *local.Event) error { // it ends with the attack
			if ev.Entry == nil || ev.Entry.Taint == nil && ev.Entry.Loss == nil {
				return nil
			}
			text := ""
			if t := ev.Entry.Taint; t != nil {
				text = t.Name + " (" + t.How + ")"
			} else {
				text = "loss (" + ev.Entry.Loss.Cause + ")"
			}
			mu.Lock()
			defer mu.Unlock()
			if !slices.Contains(seen, text) {
				seen = append(seen, text)
			}
			return nil
		})
	}()
	time.Sleep(20 * time.Millisecond) // until juratd has taken us in
	return func() []string {
		cancel()
		<-done
		return seen
	}
}

// program runs an attack of attacks/ as root in the workload's unit.
func (f *field) program(ctx context.Context, name string) ([]string, error) {
	dir, err := os.MkdirTemp(f.work, name+"-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	os.Setenv("WORK", dir)
	cmd, out, err := f.start(ctx, 0, filepath.Join(f.work, "attacks"), name)
	if err == nil {
		err = cmd.Wait()
	}
	f.sweep()
	return strings.Split(strings.TrimSpace(out.String()), "\n"), err
}

// sweep ends what an attack left behind in the unit, one by one: into a cgroup
// that cgroup.kill was written to, some kernels let nothing be started again.
func (f *field) sweep() {
	for range 20 {
		data, err := os.ReadFile(filepath.Join(f.unit.Dir, "cgroup.procs"))
		if err != nil || len(data) == 0 {
			return
		}
		for _, text := range strings.Fields(string(data)) {
			if pid, err := strconv.Atoi(text); err == nil && pid > 0 {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// agentPID returns the process number of the host's juratd.
func (f *field) agentPID() (int, error) { return f.juratd(false) }

// juratd returns the process number of the host's juratd, or of the process
// that holds execs for it.
func (f *field) juratd(holder bool) (int, error) {
	all, err := (&local.Client{Socket: f.host.Socket}).Processes(f.ctx)
	if err != nil {
		return 0, err
	}
	own, err := filepath.Abs(filepath.Join(f.Bin, "juratd"))
	if err != nil {
		return 0, err
	}
	for _, p := range all {
		dir := fmt.Sprintf("/proc/%d/", p.Instance.PID)
		line, err := os.ReadFile(dir + "cmdline")
		if link, linkErr := os.Readlink(dir + "exe"); err != nil || linkErr != nil || link != own {
			continue
		}
		if strings.Contains(string(line), "\x00hold-execs\x00") == holder {
			return int(p.Instance.PID), nil
		}
	}
	return 0, fmt.Errorf("no process runs %s", own)
}

// storm runs programs that end at once until stop is called; it says how many.
func storm(ctx context.Context) (stop func() int) {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	var count [4]int
	for i := range count {
		group.Go(func() {
			for ctx.Err() == nil {
				if exec.Command("/bin/true").Run() == nil {
					count[i]++
				}
			}
		})
	}
	return func() int {
		cancel()
		group.Wait()
		return count[0] + count[1] + count[2] + count[3]
	}
}

// flood stops juratd while programs run, and another program asks meanwhile.
func (f *field) flood(ctx context.Context) ([]string, error) {
	pid, err := f.agentPID()
	if err != nil {
		return nil, err
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return nil, err
	}
	stop := storm(ctx)
	cmd, out, err := f.start(ctx, user, filepath.Join(f.work, "evil"), "ask answer")
	select {
	case <-time.After(4 * time.Second):
	case <-ctx.Done():
	}
	ran := stop()
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		return nil, err
	}
	if err == nil {
		err = cmd.Wait()
	}
	lines := strings.Split(out.String(), "\n")
	return append(lines, fmt.Sprintf("deed %d programs ran while juratd stood still", ran)), err
}

// killedAgent kills juratd in a storm and starts it again: an honest process
// from before may have done anything meanwhile.
func (f *field) killedAgent(ctx context.Context) ([]string, error) {
	in, ask, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer ask.Close()
	before, out, err := f.startWith(ctx, in, user, filepath.Join(f.work, "worker"))
	in.Close()
	if err != nil {
		return nil, err
	}
	stop := storm(ctx)
	pid, err := f.agentPID()
	if err != nil {
		return nil, err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return nil, err
	}
	_ = f.StopAgent(f.host) // it says how it ended: killed
	time.Sleep(time.Second) // nobody watches
	ran := stop()
	if err := f.StartAgent(f.host, "-gate"); err != nil {
		return nil, err
	}
	if _, err := ask.WriteString("ask answer\n"); err != nil {
		return nil, err
	}
	ask.Close()
	err = before.Wait()
	lines := strings.Split(out.String(), "\n")
	return append(lines, fmt.Sprintf("deed juratd was killed in a storm of %d programs and started again", ran)), err
}

// stolenToken presents an honest workload's token without its key.
func (f *field) stolenToken(ctx context.Context) ([]string, error) {
	said, err := f.askWorker()
	if err != nil {
		return nil, err
	}
	_, rest, _ := strings.Cut(said, "{")
	a := parseAnswer("{" + rest)
	if !a.credential {
		return []string{"broken no token to steal: " + said}, nil
	}
	lines := []string{"deed read the token of an honest workload"}
	for _, scheme := range []string{"Bearer ", "DPoP "} {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.audience+"/invoices", nil)
		if err != nil {
			return nil, err
		}
		request.Header.Set("Authorization", scheme+a.token)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return nil, err
		}
		response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return append(lines, `answer 0 {"token":"stolen"}`), nil
		}
		lines = append(lines, fmt.Sprintf(`answer 0 {"error":{"code":"the service: %d","message":""}}`, response.StatusCode))
	}
	return lines, nil
}
