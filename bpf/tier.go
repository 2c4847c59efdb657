// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

const (
	signalDeny   = "deny"          // no event has it: a refusal was seen to work
	signalDigest = "kernel-digest" // comes with an exec
	lsmList      = "/sys/kernel/security/lsm"
)

// The tiers above TierTracepoint: what a sensor can claim grows with them.
const (
	TierTrampoline = "trampoline" // programs at the calls of the LSMs: sees, and may refuse
	TierLSM        = "lsm"        // programs on LSM hooks: has the kernel's digests too
)

// Reasons for which a tier is not had, or a signal not seen there.
const (
	ReasonNoLSM      = "no-lsm"      // "bpf" is not among the active LSMs
	ReasonFtraceOff  = "ftrace-off"  // kernel.ftrace_enabled is 0
	ReasonNotWatched = "not-watched" // nothing here looks: measure compares the files at each issuance
	ReasonGate       = "gate"        // another room sees it
	ReasonNoDigest   = "no-digest"   // the kernel has had no digest: no IMA policy, no file with fs-verity
)

// NoTier is a tier that a sensor tried and does not have.
type NoTier struct {
	Tier   string
	Reason string // one of the Reason constants
	Detail string // the fact, for a person
}

// Error returns tier and fact.
func (n *NoTier) Error() string { return "no " + n.Tier + " tier: " + n.Detail }

// Tier names what this sensor can claim, for the evidence.
func (s *Sensor) Tier() string { return s.tier }

// Better returns the tiers above the sensor's own, best first, and why each is
// not had.
func (s *Sensor) Better() []NoTier { return s.better }

// hooked is a program of lsm.bpf.c and trampoline.bpf.c: where it sits, and
// what it sees.
type hooked struct {
	name      string
	site      Hook // enum site of hooks.h
	signals   []string
	essential bool // the tier is worth nothing without it
	needs     uint // the capability without which provoke does not come as far as the hook; 0: none
}

var hooks = []hooked{
	{name: lsmProgOnBprmCheck, site: siteBprmCheck, signals: []string{"script"}, essential: true},
	{name: lsmProgOnBprmCommitted, site: siteBprmCommitted, signals: []string{"exec"}, essential: true},
	{name: lsmProgOnDigest, site: 2, signals: []string{"kernel-digest"}},
	{name: lsmProgOnMmapFile, site: 3, signals: []string{"executable-maps"}, essential: true},
	{name: lsmProgOnFileMprotect, site: 4, signals: []string{"mprotect-exec"}},
	{name: lsmProgOnFileOpen, site: 5, signals: []string{"code-open", "model-open", "mem-file"}, essential: true},
	{name: lsmProgOnPtraceAccess, site: 6, signals: []string{"ptrace", "memory-write", "mem-file"}, essential: true},
	{name: lsmProgOnPtraceTraceme, site: 7, signals: []string{"ptrace"}},
	{name: lsmProgOnCommitCreds, site: 8, signals: []string{"credentials", "namespaces"}},
	{name: lsmProgOnSbMount, site: 9, signals: []string{"mounts"}},
	{name: lsmProgOnMoveMount, site: 10, signals: []string{"mounts"}, needs: unix.CAP_SYS_ADMIN},
	{name: lsmProgOnPivotRoot, site: 11, signals: []string{"namespaces"}, needs: unix.CAP_SYS_ADMIN},
	{name: lsmProgOnChroot, site: 12, signals: []string{"namespaces"}, needs: unix.CAP_SYS_CHROOT},
	{name: lsmProgOnNamespaces, site: 13, signals: []string{"namespaces"}, needs: unix.CAP_SYS_ADMIN},
	{name: lsmProgOnPrctl, site: 14, signals: []string{"mm-change"}},
	{name: lsmProgOnReadFile, site: siteReadFile, signals: []string{"module-load"}, needs: unix.CAP_SYS_MODULE},
	{name: lsmProgOnLoadData, site: siteLoadData, signals: []string{"module-load"}, needs: unix.CAP_SYS_MODULE},
	{name: lsmProgOnBpf, site: 17},
	{name: lsmProgOnBpfProg, site: 18, signals: []string{"bpf-load"}},
	{name: lsmProgOnInitAnon, site: 19, signals: []string{"io-uring", "userfaultfd"}},
	{name: lsmProgOnSbUmount, site: 20, signals: []string{"mounts"}, needs: unix.CAP_SYS_ADMIN},
	{name: trampolineProgOnRefusal, site: siteRefusal},
}

// bases are where each tier's hooks are numbered from.
var bases = map[string]Hook{TierLSM: hookLSM, TierTrampoline: hookTrampoline}

// hookTier is a tier whose programs sit on hooks.
type hookTier struct {
	name   string
	number uint32 // in the map control
	load   func() (*ebpf.CollectionSpec, error)
}

var hookTiers = []hookTier{{TierLSM, 1, loadLsm}, {TierTrampoline, 2, loadTrampoline}}

// climb takes the best tier that works here, and the watch programs where
// none above theirs does.
func (s *Sensor) climb(o Options) error {
	for _, t := range hookTiers {
		no, err := s.try(t, o)
		if err != nil {
			return err
		}
		if no == nil {
			return nil
		}
		s.better = append(s.better, *no)
	}
	s.tier = TierTracepoint
	return s.watch(o)
}

// climbAgain takes the tier that an earlier agent had.
func (s *Sensor) climbAgain(o Options) error {
	for _, t := range hookTiers {
		if t.number != s.control.Hooks {
			continue
		}
		no, err := s.try(t, o)
		if no != nil {
			return no
		}
		return err
	}
	if s.control.Hooks != 0 {
		return fmt.Errorf("%w: of tier number %d", errStrange, s.control.Hooks)
	}
	s.tier = TierTracepoint
	return s.watch(o)
}

// try loads a tier's programs, attaches them and provokes what they ought to
// see. It returns why the tier is not had, nil when it is.
func (s *Sensor) try(t hookTier, o Options) (*NoTier, error) {
	if no := obstacle(t.name); no != nil {
		return no, nil
	}
	spec, err := t.load()
	if err != nil {
		return nil, fmt.Errorf("reading the embedded object %s: %w", t.name, err)
	}
	absent, err := s.prepare(spec, o)
	if err != nil {
		return nil, err
	}
	c, err := ebpf.NewCollectionWithOptions(spec, *s.shared(spec))
	if err != nil {
		return &NoTier{t.name, ReasonNotLoaded, "the kernel does not take its programs: " + plain(err)}, nil
	}
	core := len(s.attached)
	if err = s.attachHooks(bases[t.name], spec, c, absent); err == nil {
		err = s.provoked(bases[t.name], c, o.Canary, absent)
	}
	if err != nil {
		for _, a := range s.attached[core:] {
			err = errors.Join(err, a.link.Close())
		}
		s.attached = s.attached[:core]
		c.Close()
		var no *NoTier
		if errors.As(err, &no) {
			no.Tier = t.name
			return no, nil
		}
		return nil, err
	}
	s.tier, s.watching, s.absent = t.name, c, absent
	s.control.Hooks = t.number
	if err := s.shareWatching(); err != nil {
		return nil, err
	}
	return nil, s.putControl()
}

// obstacle finds what is known to keep a tier's programs from running, before
// any is attached.
func obstacle(tier string) *NoTier {
	if text, err := os.ReadFile(ftraceSwitch); err == nil && strings.TrimSpace(string(text)) == "0" {
		return &NoTier{tier, ReasonFtraceOff, ftraceSwitch + " is 0: its programs would never run"}
	}
	text, err := os.ReadFile(lsmList)
	active := strings.Split(strings.TrimSpace(string(text)), ",")
	if tier == TierLSM && err == nil && !slices.Contains(active, "bpf") {
		return &NoTier{tier, ReasonNoLSM, `"bpf" is not among the active LSMs (` + strings.Join(active, ",") + "): boot with lsm=" + strings.Join(active, ",") + ",bpf"}
	}
	return nil
}

// prepare sizes the maps of a tier and takes out of it what this kernel has no
// place for. It returns why those are absent.
func (s *Sensor) prepare(spec *ebpf.CollectionSpec, o Options) (absent map[string]string, err error) {
	spec.Maps[lsmMapOpens].MaxEntries = uint32(o.OpenBytes)
	for _, name := range []string{lsmMapOpenCounters, lsmMapCounters, lsmMapPaths} {
		spec.Maps[name].MaxEntries = uint32(s.possible)
	}
	spec.Maps[lsmMapEvents].MaxEntries = s.objects.Events.MaxEntries()
	if err := spec.Variables[lsmVarCpus].Set(uint32(s.possible / slotsPerCPU)); err != nil {
		return nil, fmt.Errorf("setting the number of cpus: %w", err)
	}
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return nil, err
	}
	absent = make(map[string]string)
	for name, p := range spec.Programs {
		target := p.AttachTo
		if p.Type == ebpf.LSM {
			target = "bpf_lsm_" + target
		}
		var fn *btf.Func
		switch err := kernel.TypeByName(target, &fn); {
		case errors.Is(err, btf.ErrNotFound):
			absent[name] = ReasonOldKernel
			delete(spec.Programs, name)
		case err != nil:
			return nil, fmt.Errorf("looking for %s: %w", target, err)
		}
	}
	return absent, nil
}

// attachHooks attaches what is loaded. What the kernel refuses is absent.
func (s *Sensor) attachHooks(base Hook, spec *ebpf.CollectionSpec, c *ebpf.Collection, absent map[string]string) error {
	for _, h := range hooks {
		p := c.Programs[h.name]
		if p == nil {
			continue
		}
		section := spec.Programs[h.name].SectionName
		err := s.place(program{name: h.name, attach: section, program: p, hook: base + h.site, signals: h.signals}, func() (link.Link, error) {
			if p.Type() == ebpf.LSM {
				return link.AttachLSM(link.LSMOptions{Program: p})
			}
			return link.AttachTracing(link.TracingOptions{Program: p})
		})
		switch {
		case errors.Is(err, errStrange):
			return err
		case err != nil && h.essential:
			return &NoTier{Reason: ReasonNotLoaded, Detail: section + " does not attach: " + plain(err)}
		case err != nil:
			absent[h.name] = ReasonNotLoaded
		}
	}
	return nil
}

// provoked provokes the hooks and sees which ran, then whether a refusal holds.
func (s *Sensor) provoked(base Hook, c *ebpf.Collection, canary []string, absent map[string]string) error {
	if err := provoke(canary); err != nil {
		return err
	}
	var fired [sites]uint8
	if err := c.Variables[lsmVarFired].Get(&fired); err != nil {
		return fmt.Errorf("reading which hooks have run: %w", err)
	}
	fired[siteReadFile] = fired[siteLoadData] // beside it; to provoke it alone, a file must be read as a module
	lacking, err := lackedCapabilities()
	if err != nil {
		return err
	}
	for _, h := range hooks {
		switch {
		case c.Programs[h.name] == nil || h.site == siteRefusal:
		case fired[h.site] != 0:
			s.firedAt[base+h.site].Store(true)
		case h.essential:
			return &NoTier{Reason: ReasonNotFiring, Detail: "its programs attach, and " + h.name + " does not run"}
		case h.needs == 0 || lacking&(1<<h.needs) == 0:
			absent[h.name] = ReasonNotFiring
		}
	}
	if err := c.Variables[lsmVarRefuse].Set(uint32(1)); err != nil {
		return fmt.Errorf("setting what to refuse: %w", err)
	}
	held, err := refuses(canary)
	if setErr := c.Variables[lsmVarRefuse].Set(uint32(0)); err != nil || setErr != nil {
		return errors.Join(err, setErr)
	}
	if !held {
		absent[signalDeny] = ReasonNotFiring
	}
	return nil
}

// lackedCapabilities is the set of capabilities that this process has not.
func lackedCapabilities() (uint64, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, fmt.Errorf("reading this process's capabilities: %w", err)
	}
	return ^(uint64(data[0].Effective) | uint64(data[1].Effective)<<32), nil
}

// missing says why no program sees a signal.
func (s *Sensor) missing(signal string) string {
	if s.tier == TierTracepoint {
		reason := ReasonTier
		for _, w := range watchers {
			if slices.Contains(w.signals, signal) {
				reason = cmp.Or(s.absent[w.name], ReasonOldKernel)
			}
		}
		return reason
	}
	switch signal {
	case "file-write":
		return ReasonNotWatched
	case "exec-gate":
		return ReasonGate
	}
	for _, h := range hooks {
		if slices.Contains(h.signals, signal) && s.absent[h.name] != "" {
			return s.absent[h.name]
		}
	}
	return "tier-" + s.tier
}

// digests names the parts of the kernel that a digest can come from.
func (s *Sensor) digests() (by []string, reason string) {
	const at = "lsm.s/bprm_committed_creds:"
	if reason = s.absent[lsmProgOnDigest]; reason != "" {
		return nil, reason
	}
	for _, source := range []struct {
		variable string
		source   DigestSource
	}{{lsmVarHasIma, DigestIMA}, {lsmVarHasVerity, DigestVerity}} {
		var has uint32
		if err := s.watching.Variables[source.variable].Get(&has); err == nil && has != 0 {
			by = append(by, at+source.source.String())
		}
	}
	return by, ReasonNoDigest
}

// refusal is the place of the program that refuses.
func (s *Sensor) refusal() string {
	if s.tier == TierLSM {
		return places[siteBprmCheck].lsm
	}
	return places[siteRefusal].call
}

// committed is the place that each exec passes when it cannot fail any more.
func (s *Sensor) committed() string {
	if s.tier == TierTrampoline {
		return places[siteBprmCommitted].call
	}
	return places[siteBprmCommitted].lsm
}

// plain is the kernel's answer without the library's guess at a memory limit,
// which kernels since 5.11 do not have.
func plain(err error) string {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}
