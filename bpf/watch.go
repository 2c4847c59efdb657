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
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Why signals of the watch programs are not seen.
const (
	ReasonOldKernel    = "kernel-too-old"    // the kernel lacks what the program needs
	ReasonNoTracepoint = "no-tracepoint"     // the kernel was built without the place, and mostly without the thing
	ReasonNoTracefs    = "no-tracefs"        // the numbers of tracepoints cannot be read
	ReasonNotLoaded    = "refused-by-kernel" // the programs do not load or attach here
	ReasonNotFiring    = "not-firing"        // attached, and what the sensor did itself was not seen
)

// watcher is a program of watch.bpf.c: where it sits and what it sees.
type watcher struct {
	name    string
	hook    Hook
	signals []string
	victims bool // sees nothing of use unless the kernel lets it look up tasks
}

var watchers = []watcher{
	{watchProgOnPtrace, hookPtrace, []string{"ptrace"}, true},
	{watchProgOnVmWritev, hookVMWritev, []string{"memory-write"}, true},
	{watchProgOnOpen, hookOpen, []string{"code-open", "model-open", "mem-file"}, false},
	{watchProgOnOpenat, hookOpenat, []string{"code-open", "model-open", "mem-file"}, false},
	{watchProgOnOpenat2, hookOpenat2, []string{"code-open", "model-open", "mem-file"}, false},
	{watchProgOnOpenByHandle, hookOpenByHandle, []string{"code-open", "model-open"}, false},
	{watchProgOnSetns, hookSetns, []string{"namespaces"}, false},
	{watchProgOnUnshare, hookUnshare, []string{"namespaces"}, false},
	{watchProgOnChroot, hookChroot, []string{"namespaces"}, false},
	{watchProgOnPivotRoot, hookPivotRoot, []string{"namespaces"}, false},
	{watchProgOnMount, hookMount, []string{"mounts"}, false},
	{watchProgOnMoveMount, hookMoveMount, []string{"mounts"}, false},
	{watchProgOnUmount, hookUmount, []string{"mounts"}, false},
	{watchProgOnPrctl, hookPrctl, []string{"mm-change"}, false},
	{watchProgOnBpf, hookBPF, []string{"bpf-load"}, false},
	{watchProgOnUserfaultfd, hookUserfaultfd, []string{"userfaultfd"}, false},
	{watchProgOnIoUring, hookIOUring, []string{"io-uring"}, false},
	{watchProgOnModule, hookModule, []string{"module-load"}, false},
}

// watch loads and attaches the programs that see taints and opens. The sensor
// goes on without those that this kernel does not take: Signals says which.
func (s *Sensor) watch(o Options) error {
	spec, err := loadWatch()
	if err != nil {
		return fmt.Errorf("reading the embedded object watch: %w", err)
	}
	spec.Maps[watchMapOpens].MaxEntries = uint32(o.OpenBytes)
	for _, name := range []string{watchMapOpenCounters, watchMapCounters, watchMapPaths} {
		spec.Maps[name].MaxEntries = uint32(s.possible)
	}
	spec.Maps[watchMapEvents].MaxEntries = s.objects.Events.MaxEntries()
	tracepoints, err := openTracefs()
	if err != nil {
		return s.blind(ReasonNoTracefs, err)
	}
	defer tracepoints.Close()
	if err := s.dropAbsent(spec, tracepoints); err != nil {
		return err
	}
	if err := s.loadWatchers(spec); err != nil {
		return s.blind(ReasonNotLoaded, err)
	}
	for _, w := range watchers {
		p := s.watching.Programs[w.name]
		if p == nil {
			continue
		}
		section := spec.Programs[w.name].SectionName
		err := s.place(program{name: w.name, attach: section, program: p, hook: w.hook, signals: w.signals}, func() (link.Link, error) {
			return attachProgram(tracepoints, section, p)
		})
		if errors.Is(err, errStrange) {
			return err
		}
		if err != nil {
			s.absent[w.name] = ReasonNotLoaded
			s.notes = append(s.notes, fmt.Errorf("attaching %s: %w", section, err))
		}
	}
	return nil
}

func attachProgram(tracepoints *tracefs, section string, p *ebpf.Program) (link.Link, error) {
	if place, ok := strings.CutPrefix(section, "tracepoint/"); ok {
		return tracepoints.attach(place, p)
	}
	return link.AttachTracing(link.TracingOptions{Program: p})
}

// blind notes that none of the watchers is there.
func (s *Sensor) blind(reason string, err error) error {
	for _, w := range watchers {
		s.absent[w.name] = cmp.Or(s.absent[w.name], reason)
	}
	s.notes = append(s.notes, err)
	return nil
}

// dropAbsent takes out of spec what this kernel has no place for.
func (s *Sensor) dropAbsent(spec *ebpf.CollectionSpec, tracepoints *tracefs) error {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return err
	}
	for _, w := range watchers {
		p := spec.Programs[w.name]
		if place, ok := strings.CutPrefix(p.SectionName, "tracepoint/"); ok {
			_, err = tracepoints.id(place)
		} else {
			_, err = kernel.AnyTypesByName("btf_trace_" + p.AttachTo)
		}
		switch {
		case errors.Is(err, os.ErrNotExist), errors.Is(err, btf.ErrNotFound):
			s.absent[w.name] = ReasonNoTracepoint
			delete(spec.Programs, w.name)
		case err != nil:
			return fmt.Errorf("looking for %s: %w", p.SectionName, err)
		}
	}
	return nil
}

// loadWatchers loads what is left of spec, if need be without what finds
// other tasks.
func (s *Sensor) loadWatchers(spec *ebpf.CollectionSpec) error {
	var errs []error
	for _, finds := range []bool{true, false} {
		if finds && !hasFunctions("bpf_task_from_pid", "bpf_task_release") {
			continue // the programs load, and find nobody
		}
		try := spec.Copy()
		if err := try.Variables[watchVarFindsTasks].Set(finds); err != nil {
			return err
		}
		collection, err := ebpf.NewCollectionWithOptions(try, *s.shared(try))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s.watching = collection
		if err := collection.Variables[watchVarFindsTasks].Get(&s.findsTasks); err != nil {
			return fmt.Errorf("reading a constant of the programs: %w", err)
		}
		return s.shareWatching()
	}
	return errors.Join(errs...)
}

// shareWatching keeps the maps of the programs of s.watching for the next agent.
func (s *Sensor) shareWatching() error {
	return s.share(s.watching.Maps)
}

// hasFunctions reports whether the kernel has all these functions.
func hasFunctions(names ...string) bool {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return false
	}
	for _, name := range names {
		var fn *btf.Func
		if kernel.TypeByName(name, &fn) != nil {
			return false
		}
	}
	return true
}

// seesVictims reports whether a watcher has what it needs of the kernel.
func (s *Sensor) seesVictims(name, signal string) bool {
	i := slices.IndexFunc(watchers, func(w watcher) bool { return w.name == name })
	return i < 0 || s.findsTasks || !watchers[i].victims && signal != "mem-file"
}

// tellsOpens reports whether the watchers tell opens.
func (s *Sensor) tellsOpens() bool {
	return slices.ContainsFunc(s.attached, func(a attachment) bool { return a.hook == hookOpenat })
}

// openCanary opens a file that does not exist on any disk, with the suffix of
// code, and returns its inode.
func openCanary() (inode uint64, err error) {
	memory, err := unix.MemfdCreate("jurat-canary.py", unix.MFD_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("making the file the sensor is to see opened: %w", err)
	}
	defer unix.Close(memory)
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", memory), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("opening the file the sensor is to see opened: %w", err)
	}
	unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(memory, &st); err != nil {
		return 0, err
	}
	return st.Ino, nil
}

// noOpens notes that the watchers did not tell an open.
func (s *Sensor) noOpens() {
	for _, a := range s.attached {
		if strings.HasPrefix(a.attach, "tracepoint/") {
			s.absent[a.name] = ReasonNotFiring
		}
	}
}

// canaryOpens opens a file and waits for the watchers to tell it.
func (s *Sensor) canaryOpens(limit time.Duration) error {
	if !s.tellsOpens() {
		return nil
	}
	inode, err := openCanary()
	if err != nil {
		return err
	}
	backlog, seen, err := s.await(time.Now().Add(limit), func(ev *Event) bool {
		return ev.Kind == KindOpen && ev.Process.PID == uint32(os.Getpid()) && ev.Opened.File.Inode == inode
	})
	s.queue = append(backlog, s.queue...)
	if err != nil {
		return err
	}
	if !seen {
		s.noOpens()
	}
	return nil
}
