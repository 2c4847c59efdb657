// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// BenchmarkExec runs the smallest program with and without the sensor. What
// the kernel programs cost is in their own figures: the difference of the two
// loops is smaller than what a busy machine adds to either.
func BenchmarkExec(b *testing.B) {
	path := tiny(b)
	b.Run("without", func(b *testing.B) {
		for b.Loop() {
			run(b, path, nil)
		}
	})
	b.Run("with", func(b *testing.B) {
		s := open(b, Options{})
		stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
		if err != nil {
			b.Fatal(err)
		}
		defer stats.Close()
		record(b, s)
		for b.Loop() {
			run(b, path, nil)
		}
		b.StopTimer()
		for _, p := range s.programs()[:3] {
			st, err := p.program.Stats()
			if err != nil || st.RunCount == 0 {
				b.Fatalf("%s ran %d times, %v", p.name, st.RunCount, err)
			}
			b.ReportMetric(float64(st.Runtime.Nanoseconds())/float64(st.RunCount), p.kind.String()+"-ns")
		}
		reportLost(b, s)
	})
}

// BenchmarkBurst runs programs as fast as it can while the reader stands
// still for the first second: nothing may be lost.
func BenchmarkBurst(b *testing.B) {
	s := open(b, Options{})
	path := tiny(b)
	stop := time.Now().Add(time.Second)
	for b.Loop() {
		if !stop.IsZero() && time.Now().After(stop) {
			record(b, s)
			stop = time.Time{}
		}
		run(b, path, nil)
	}
	b.StopTimer()
	reportLost(b, s)
}

// BenchmarkDecode is the reader's work on one exec record.
func BenchmarkDecode(b *testing.B) {
	_, raw, _ := sample(b, KindExec)
	var ev Event
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decode(raw, &ev); err != nil {
			b.Fatal(err)
		}
	}
}

func reportLost(b *testing.B, s *Sensor) {
	b.Helper()
	losses, err := s.Losses()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(losses.Exec+losses.Fork+losses.Exit+losses.Cgroup+losses.Unexplained+losses.Skipped), "lost")
}
