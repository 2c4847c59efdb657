// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Command victim is what the tests of package measure measure: a static
// program that does one thing to itself, says "ready", and waits for the end
// of its input.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

func init() { runtime.LockOSThread() } // main runs on the leader thread

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Println("victim:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if base := filepath.Base(os.Args[0]); len(args) == 0 || base != "victim" {
		args = []string{"wait"}
	}
	switch args[0] {
	case "wait":
		return wait()
	case "exit":
		return nil
	case "map": // a file, executable
		return after(mapFile(args[1]))
	case "again": // the file once more for each byte of input
		fmt.Println("ready")
		for one := make([]byte, 1); ; {
			if _, err := os.Stdin.Read(one); err != nil {
				return nil
			}
			if err := mapFile(args[1]); err != nil {
				return err
			}
			fmt.Println("mapped")
		}
	case "jit": // executable memory comes and goes all the time
		go func() {
			for {
				b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
				if err == nil {
					err = unix.Mprotect(b, unix.PROT_READ|unix.PROT_EXEC)
				}
				time.Sleep(50 * time.Microsecond)
				if err != nil || unix.Munmap(b) != nil {
					os.Exit(1)
				}
			}
		}()
		fallthrough
	case "anonymous":
		_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
		return after(err)
	case "text": // writes its own text through /proc/self/mem
		return after(rewrite("r-xp", "victim"))
	case "vdso":
		return after(rewrite("r-xp", "[vdso]"))
	case "memfd":
		return memfd()
	case "leader": // the leader thread ends, the others go on
		go func() {
			time.Sleep(50 * time.Millisecond)
			os.Exit(exitCode(wait()))
		}()
		_, _, errno := unix.RawSyscall(unix.SYS_EXIT, 0, 0, 0)
		return errno
	case "exec": // another program, when told
		fmt.Println("ready")
		if _, err := io.ReadFull(os.Stdin, make([]byte, 1)); err != nil {
			return err
		}
		return unix.Exec(args[1], args[1:], os.Environ())
	case "change":
		return change(args[1], args[2])
	case "overlay":
		return overlay(args[1], args[2:])
	}
	return fmt.Errorf("unknown mode %q", args[0])
}

func wait() error {
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

func after(err error) error {
	if err != nil {
		return err
	}
	return wait()
}

func exitCode(err error) int {
	if err != nil {
		return 1
	}
	return 0
}

func mapFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
	if err == nil {
		_ = b[0] // the page is there
	}
	return err
}

// rewrite writes one byte of a mapping over itself, which copies the page.
func rewrite(perms, name string) error {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	for line := range bytes.Lines(maps) {
		fields := bytes.Fields(line)
		if string(fields[1]) != perms || !bytes.Contains(line, []byte(name)) {
			continue
		}
		start, err := strconv.ParseInt(string(fields[0][:bytes.IndexByte(fields[0], '-')]), 16, 64)
		if err != nil {
			return err
		}
		mem, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer mem.Close()
		one := make([]byte, 1)
		if _, err := mem.ReadAt(one, start); err != nil {
			return err
		}
		_, err = mem.WriteAt(one, start)
		return err
	}
	return fmt.Errorf("no mapping %s %s", perms, name)
}

// memfd runs this program from memory.
func memfd() error {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("victim", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	if _, err := unix.Write(fd, self); err != nil {
		return err
	}
	ro, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	unix.Close(fd)
	return unix.Exec(fmt.Sprintf("/proc/self/fd/%d", ro), []string{"victim", "wait"}, os.Environ())
}

// overlay mounts dir/lower and dir/upper over dir/merged and runs a program there.
func overlay(dir string, args []string) error {
	options := "lowerdir=" + filepath.Join(dir, "lower") + ",upperdir=" + filepath.Join(dir, "upper") + ",workdir=" + filepath.Join(dir, "work")
	merged := filepath.Join(dir, "merged")
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		return fmt.Errorf("mounting: %w", err)
	}
	return unix.Exec(filepath.Join(merged, "victim"), append([]string{"victim"}, args...), os.Environ())
}
