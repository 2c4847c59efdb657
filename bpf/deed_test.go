// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// The actors of TestSignals. Each does its deed on the leader's thread, where
// init of host_test.go holds it, and succeeds: the tracepoint tier sees calls
// as they return.
func init() {
	for name, do := range map[string]func(args []string) error{
		"nothing":         func([]string) error { return nil },
		"seize":           func(args []string) error { return ofPid(args[0], unix.PtraceSeize) },
		"traceme":         func([]string) error { return call(unix.SYS_PTRACE, unix.PTRACE_TRACEME, 0, 0) },
		"write-memory":    func(args []string) error { return ofPid(args[0], writeMemory) },
		"open-memory":     func(args []string) error { return openOnly("/proc/"+args[0]+"/mem", os.O_WRONLY) },
		"open-own-memory": func([]string) error { return openOnly("/proc/self/mem", os.O_RDWR) },
		"make-executable": func([]string) error { return makeExecutable() },
		"unshare-mounts":  func([]string) error { return unix.Unshare(unix.CLONE_NEWNS) },
		"unshare-user": func([]string) error {
			return syscall.Exec("/usr/bin/unshare", []string{"unshare", "-U", "/bin/true"}, nil)
		},
		"setns":            func([]string) error { return joinParent() },
		"chroot":           func([]string) error { return unix.Chroot("/") },
		"pivot-root":       func(args []string) error { return pivotRoot(args[0]) },
		"bind":             func(args []string) error { return unix.Mount(args[0], args[0], "", unix.MS_BIND, "") },
		"move-mount":       func(args []string) error { return moveMount(args[0]) },
		"change-arguments": func([]string) error { return changeArguments() },
		"io-uring": func([]string) error {
			return call(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(new([128]byte))), 0)
		},
		"userfaultfd":     func([]string) error { return call(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|1, 0, 0) },
		"map":             func(args []string) error { return mapExecutable(args[0]) },
		"read":            func(args []string) error { return openOnly(args[0], os.O_RDONLY) },
		"setuid":          func([]string) error { return syscall.Setuid(1) },
		"drop-capability": func([]string) error { return unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_WAKE_ALARM, 0, 0, 0) },
		"load-module":     func(args []string) error { return loadModule(args[0]) },
		"load-program":    func([]string) error { return loadProgram() },
	} {
		actors[name] = do
	}
}

func ofPid(text string, do func(int) error) error {
	pid, err := strconv.Atoi(text)
	if err != nil {
		return err
	}
	return do(pid)
}

func call(number, a, b, c uintptr) error {
	if _, _, errno := unix.Syscall(number, a, b, c); errno != 0 {
		return errno
	}
	return nil
}

func openOnly(path string, flags int) error {
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// writeMemory writes a zero where the victim's stack ends.
func writeMemory(pid int) error {
	f, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if line := lines.Text(); strings.HasSuffix(line, "[stack]") {
			begin, _, _ := strings.Cut(line, "-")
			at, err := strconv.ParseUint(begin, 16, 64)
			if err != nil {
				return err
			}
			zero := []byte{0}
			_, err = unix.ProcessVMWritev(pid, []unix.Iovec{{Base: &zero[0], Len: 1}}, []unix.RemoteIovec{{Base: uintptr(at), Len: 1}}, 0)
			return err
		}
	}
	return errors.New("the victim has no stack")
}

func makeExecutable() error {
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	return unix.Mprotect(page, unix.PROT_READ|unix.PROT_EXEC)
}

func mapExecutable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = unix.Mmap(int(f.Fd()), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
	return err
}

// joinParent enters the parent's mount namespace, not sharing its own root
// and directory with other threads, which the kernel refuses.
func joinParent() error {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", os.Getppid()))
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	return unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS)
}

func pivotRoot(dir string) error {
	old := filepath.Join(dir, "old")
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		return err
	}
	if err := os.Mkdir(old, 0o755); err != nil {
		return err
	}
	return unix.PivotRoot(dir, old)
}

func moveMount(dir string) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	return unix.MoveMount(tree, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// changeArguments sets where code, heap, arguments and environment are to
// where they are, in the one way that needs no capability.
func changeArguments() error {
	text, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	brk, _, _ := unix.Syscall(unix.SYS_BRK, 0, 0, 0)
	var layout struct { // struct prctl_mm_map
		at      [11]uint64
		auxv    uint64
		auxvLen uint32
		exe     int32
	}
	layout.exe = -1
	for i, field := range []int{26, 27, 45, 46, 47, 0, 28, 48, 49, 50, 51} { // as proc(5) numbers them
		if layout.at[i] = uint64(brk); field != 0 {
			if layout.at[i], err = strconv.ParseUint(fields[field-3], 10, 64); err != nil {
				return err
			}
		}
	}
	const all = 14 // PR_SET_MM_MAP
	return unix.Prctl(unix.PR_SET_MM, all, uintptr(unsafe.Pointer(&layout)), unsafe.Sizeof(layout), 0)
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil {
		return err
	}
	return unix.DeleteModule(strings.TrimSuffix(filepath.Base(path), ".ko"), unix.O_NONBLOCK)
}

func loadProgram() error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.RawTracepoint, License: "Dual MIT/GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return err
	}
	return p.Close()
}

// sum is the SHA-256 of a file.
func sum(t *testing.T, path string) [sha256.Size]byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(data)
}

// enableVerity makes a file immutable and returns its fs-verity digest.
func enableVerity(t *testing.T, path string) (digest [sha256.Size]byte) {
	t.Helper()
	const enable, measure = 0x40806685, 0xc0046686 // FS_IOC_ENABLE_VERITY, FS_IOC_MEASURE_VERITY
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var arg [128]byte // struct fsverity_enable_arg: version, algorithm, block size
	for i, v := range []uint32{1, veritySHA256, 4096} {
		binary.LittleEndian.PutUint32(arg[4*i:], v)
	}
	if err := call(unix.SYS_IOCTL, f.Fd(), enable, uintptr(unsafe.Pointer(&arg))); err != nil {
		t.Fatalf("enabling fs-verity of %s: %v", path, err)
	}
	var out [4 + sha256.Size]byte // struct fsverity_digest: algorithm, size, digest
	binary.LittleEndian.PutUint16(out[2:], sha256.Size)
	if err := call(unix.SYS_IOCTL, f.Fd(), measure, uintptr(unsafe.Pointer(&out))); err != nil {
		t.Fatalf("asking for the fs-verity digest of %s: %v", path, err)
	}
	return [sha256.Size]byte(out[4:])
}
