// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	buildFiles     = 48
	buildFunctions = 16 // in each: a quarter of a second of gcc -O2
)

// build measures what juratd adds to a build in the shape of a kernel's: for
// each file a shell, a compiler driver, a compiler, an assembler and some
// small tools, two files at a time. The files are generated.
func build(h *host) ([]figure, error) {
	const rounds = 6
	dir := h.Path("build")
	if err := generate(dir); err != nil {
		return nil, err
	}
	seconds, processor := make(map[bool][]float64), make(map[bool][]float64)
	logged := uint64(0)
	err := h.alternate(rounds, func(running bool) error {
		if out, err := exec.CommandContext(h.ctx, "make", "-s", "-C", dir, "clean").CombinedOutput(); err != nil {
			return fmt.Errorf("make clean: %w: %s", err, out)
		}
		before := uint64(0)
		if running {
			s, err := h.status()
			if err != nil {
				return err
			}
			before = s.LogSize
		}
		begin := time.Now()
		cmd := exec.CommandContext(h.ctx, "make", "-s", "-j2", "-C", dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("make: %w: %s", err, out)
		}
		seconds[running] = append(seconds[running], time.Since(begin).Seconds())
		processor[running] = append(processor[running], (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds())
		if !running {
			return nil
		}
		s, err := h.settled(before + 5*buildFiles)
		logged = s.LogSize - before
		return err
	})
	if err != nil {
		return nil, err
	}
	off, on := quartile(seconds[false]), quartile(seconds[true])
	cpuOff, cpuOn := quartile(processor[false]), quartile(processor[true])
	return []figure{
		{Name: fmt.Sprintf("make -j2, gcc -O2 of %d generated files, juratd off", buildFiles), Figure: round(off), Unit: "s"},
		{Name: fmt.Sprintf("the same, juratd on (%d log entries)", logged), Figure: round(on), Unit: "s", Ratio: on / off, ComparedTo: "juratd off"},
		figure{Name: "added to the build", Figure: round(100 * (on/off - 1)), Unit: "%"}.atMost(2),
		{Name: "added to the build, processor time", Figure: round(100 * (cpuOn/cpuOff - 1)), Unit: "%", Ratio: cpuOn / cpuOff, ComparedTo: "juratd off"},
	}, nil
}

// generate writes the files and their Makefile.
func generate(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	var objects []string
	for i := range buildFiles {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("part%d.c", i)), source(i), 0o644); err != nil {
			return err
		}
		objects = append(objects, fmt.Sprintf("part%d.o", i))
	}
	makefile := "all: " + strings.Join(objects, " ") + "\n" +
		"%.o: %.c\n\tset -e; gcc -O2 -g -Wall -MMD -c -o $@.tmp $<; mv $@.tmp $@; touch $*.d\n" +
		"clean:\n\trm -f *.o *.d\n"
	return os.WriteFile(filepath.Join(dir, "Makefile"), []byte(makefile), 0o644)
}

// source is a file with functions that keep an optimiser busy, each another.
func source(file int) []byte {
	var b strings.Builder
	b.WriteString("#include <errno.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <sys/stat.h>\n#include <unistd.h>\n")
	for i := range buildFunctions {
		n := file*buildFunctions + i
		fmt.Fprintf(&b, `
struct record%[1]d { unsigned long key, count[%[2]d]; char name[%[3]d]; };
int take%[1]d(struct record%[1]d *r, const char *text, size_t length)
{
	for (size_t at = 0; at < length; at++) {
		switch (text[at] %% 7) {
		case 0: r->key = r->key * 31 + text[at]; break;
		case 1: r->count[at %% %[2]d] += r->key >> %[4]d; break;
		case 2: if (at < sizeof(r->name)) r->name[at] = text[at] ^ 0x%[5]x; break;
		case 3: if (r->key > length) return -EINVAL; break;
		default: r->count[r->key %% %[2]d] ^= at * %[6]d;
		}
	}
	return memcmp(r->name, text, length < sizeof(r->name) ? length : sizeof(r->name));
}
`, n, 3+n%5, 16+n%48, n%13, n%200, 7+n%90)
	}
	return []byte(b.String())
}
