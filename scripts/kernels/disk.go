// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"debug/elf"
	_ "embed" // for init
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed init
var guestInit string

// programs are those of this machine that tests run, with their libraries.
// Everything else is busybox.
var programs = []string{"/bin/cat", "/bin/sh", "/bin/true", "/bin/sleep", "/usr/bin/env"}

// guestModules are those that guests need: overlay is loaded by init, the other
// by a test.
var guestModules = map[string]string{"overlay": "fs/overlayfs/overlay.ko", "nls_cp437": "fs/nls/nls_cp437.ko"}

// kernel is one to boot, as unpacked from its package.
type kernel struct {
	name    string            // "debian-12"
	image   string            // path of vmlinuz
	release string            // as uname -r has it
	modules map[string]string // paths of the modules guests need, by name
}

// fetch downloads what the cache does not have.
func fetch(ctx context.Context) ([]*kernel, error) {
	cache := os.Getenv("JURAT_KERNELS_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("%w (or set JURAT_KERNELS_CACHE)", err)
		}
		cache = filepath.Join(dir, "jurat-kernels")
	}
	var all []*kernel
	for _, r := range releases {
		progress("kernel of %s", r.name)
		fetch := exec.CommandContext(ctx, "scripts/kernels/fetch.sh", r.codename, cache)
		fetch.Stderr = os.Stderr
		out, err := fetch.Output()
		if err != nil {
			return nil, fmt.Errorf("fetching the kernel of %s: %w", r.name, err)
		}
		k, err := newKernel(r.name, strings.TrimSpace(string(out)))
		if err != nil {
			return nil, err
		}
		all = append(all, k)
	}
	return all, nil
}

func newKernel(name, root string) (*kernel, error) {
	k := &kernel{name: name, modules: make(map[string]string)}
	images, err := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return nil, fmt.Errorf("%s: %d kernels in %s/boot, want one", name, len(images), root)
	}
	k.image = images[0]
	k.release = strings.TrimPrefix(filepath.Base(k.image), "vmlinuz-")
	for module, file := range guestModules {
		found, err := filepath.Glob(filepath.Join(root, "*", "modules", k.release, "kernel", file+"*"))
		if err == nil && len(found) == 0 {
			found, err = filepath.Glob(filepath.Join(root, "usr", "lib", "modules", k.release, "kernel", file+"*"))
		}
		if err != nil || len(found) != 1 {
			return nil, fmt.Errorf("%s: no module %s below %s", name, module, root)
		}
		k.modules[module] = found[0]
	}
	return k, nil
}

// buildDisk makes the root file system of all guests: ext4, as hosts have it,
// with fs-verity. It returns the image's path.
func buildDisk(ctx context.Context, work string, kernels []*kernel, choice string) (string, error) {
	root := filepath.Join(work, "root")
	for _, dir := range []string{"usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "proc", "sys", "dev", "run", "tmp", "var/tmp", "root", "etc", "tests", "modules", "boots", "jurat/bin", "mnt"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return "", err
		}
	}
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+dir, filepath.Join(root, dir)); err != nil {
			return "", err
		}
	}
	field := filepath.Join(work, "field")
	for _, step := range []func(context.Context, string) error{
		userland, tests,
		func(ctx context.Context, root string) error { return attacks(ctx, root, field) },
		func(ctx context.Context, root string) error { return modules(ctx, root, kernels) },
	} {
		if err := step(ctx, root); err != nil {
			return "", err
		}
	}
	for _, b := range boots {
		if err := os.WriteFile(filepath.Join(root, "boots", b.name), []byte(b.script(choice, field)), 0o644); err != nil {
			return "", err
		}
	}
	image := filepath.Join(work, "root.ext4")
	out, err := exec.CommandContext(ctx, "mke2fs", "-q", "-t", "ext4", "-O", "verity", "-b", "4096", "-d", root, "-E", "lazy_itable_init=1", image, "768M").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("mke2fs: %w: %s", err, out)
	}
	return image, nil
}

func userland(_ context.Context, root string) error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	if err := install(busybox, filepath.Join(root, "usr/bin/busybox")); err != nil {
		return err
	}
	for _, p := range programs {
		if err := withLibraries(p, root); err != nil {
			return err
		}
	}
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return fmt.Errorf("busybox --list: %w", err)
	}
	for applet := range strings.Lines(string(applets)) {
		link := filepath.Join(root, "usr/bin", strings.TrimSpace(applet))
		if err := os.Symlink("busybox", link); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
		"etc/group":  "root:x:0:\nnogroup:x:65534:\n",
		"etc/hosts":  "127.0.0.1 localhost guest\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(root, "tmp"), 0o777|fs.ModeSticky); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, "init"), []byte(guestInit), 0o755)
}

// libraries are where the programs' loader looks.
var libraries = []string{"/usr/lib/x86_64-linux-gnu/swtpm/", "/usr/lib/x86_64-linux-gnu/"}

// withLibraries installs a program and whatever its loader will ask for.
func withLibraries(path, root string) error {
	if err := install(path, filepath.Join(root, "usr", strings.TrimPrefix(path, "/usr"))); err != nil {
		return err
	}
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	names, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, name := range names {
		library := ""
		for _, dir := range libraries {
			if _, err := os.Stat(dir + name); err == nil {
				library = dir + name
			}
		}
		if _, err := os.Stat(root + library); err == nil && library != "" {
			continue
		}
		if err := withLibraries(library, root); err != nil {
			return fmt.Errorf("%s needs %s: %w", path, name, err)
		}
	}
	if _, err := os.Stat(root + "/usr/lib64/ld-linux-x86-64.so.2"); err == nil {
		return nil
	}
	return install("/lib64/ld-linux-x86-64.so.2", root+"/usr/lib64/ld-linux-x86-64.so.2")
}

func install(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

func build(ctx context.Context, args ...string) error {
	c := exec.CommandContext(ctx, "go", args...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// tests builds the tests of bpf, and jurat for its probe.
func tests(ctx context.Context, root string) error {
	to := filepath.Join(root, "tests/bpf")
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	if err := build(ctx, "test", "-c", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(to, "test"), "./bpf"); err != nil {
		return err
	}
	bin := filepath.Join(root, "jurat/bin") + "/"
	if err := build(ctx, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", bin, "./cmd/juratd", "./cmd/jurat", "./cmd/jurat-broker", "./scripts/redteam", "./scripts/sample-resource"); err != nil {
		return err
	}
	return os.Symlink("/jurat/bin/jurat", filepath.Join(root, "usr/bin/jurat"))
}

// attacks brings what scripts/redteam needs: the attacks' programs, at the same
// path there as here, a software TPM with its tools, and Python.
func attacks(ctx context.Context, root, field string) error {
	out, err := exec.CommandContext(ctx, filepath.Join(root, "jurat/bin/redteam"), "-compile", "-programs", field).CombinedOutput()
	if err != nil {
		return fmt.Errorf("compiling the attacks: %w: %s", err, out)
	}
	if err := os.CopyFS(filepath.Join(root, field), os.DirFS(field)); err != nil {
		return err
	}
	for _, p := range []string{"swtpm", "swtpm_setup", "swtpm_localca", "swtpm_cert", "certtool", "ssh-keygen"} {
		path, err := exec.LookPath(p)
		if err != nil {
			return err
		}
		if err := withLibraries(path, root); err != nil {
			return err
		}
	}
	python, err := filepath.EvalSymlinks("/usr/bin/python3")
	if err != nil {
		return err
	}
	if err := withLibraries(python, root); err != nil {
		return err
	}
	if err := os.Symlink(filepath.Base(python), filepath.Join(root, "usr/bin/python3")); err != nil {
		return err
	}
	modules := "/usr/lib/" + filepath.Base(python)
	return os.CopyFS(filepath.Join(root, modules), os.DirFS(modules))
}

// modules unpacks each kernel's modules, which newer packages compress.
func modules(ctx context.Context, root string, kernels []*kernel) error {
	for _, k := range kernels {
		for name, path := range k.modules {
			to := filepath.Join(root, "modules", k.release, name+".ko")
			if !strings.HasSuffix(path, ".xz") {
				if err := install(path, to); err != nil {
					return err
				}
				continue
			}
			data, err := exec.CommandContext(ctx, "xz", "-dc", path).Output()
			if err != nil {
				return fmt.Errorf("xz -dc %s: %w", path, err)
			}
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(to, data, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}
