// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"strings"

	"github.com/jurat-dev/jurat/evidence"
)

// How container runtimes name the scope of a container below systemd.
var scopes = []struct{ prefix, runtime string }{
	{"docker-", "docker"},
	{"cri-containerd-", "containerd"},
	{"nerdctl-", "containerd"},
	{"crio-", "cri-o"},
	{"libpod-", "podman"},
}

// containerOf returns the container a cgroup belongs to, nil where it belongs
// to none, and the cgroup that it was made in. The outermost counts: what is
// below it, its own root can name.
func containerOf(path string) (c *evidence.Container, within string) {
	parent, pod, at := "", "", 0
	for part := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		above, name := joined(part)
		for _, n := range []string{above, name} {
			if p := podOf(n); p != "" {
				pod = p
			}
		}
		if runtime, id := runtimeOf(name, parent); id != "" {
			return &evidence.Container{
				Runtime: runtime, ID: id,
				Image: evidence.Unknown[string](reasonNotFound), Pod: evidence.Known(pod),
			}, path[:at]
		}
		parent, at = name, at+len("/")+len(part)
	}
	return nil, ""
}

// runtimeOf recognises the cgroup of a container by its own name and the one
// above it.
func runtimeOf(name, parent string) (runtime, id string) {
	stem, scope := strings.CutSuffix(name, ".scope")
	for _, s := range scopes {
		if id, ok := strings.CutPrefix(stem, s.prefix); ok && containerID(id) && (scope || s.runtime != "docker") {
			return s.runtime, id
		}
	}
	switch {
	case !containerID(name):
	case parent == "docker":
		return "docker", name
	case podOf(parent) != "", parent == "k8s.io", parent == "default": // the last two: containerd's namespaces
		return "containerd", name
	}
	return "", ""
}

// joined takes apart the name that a runtime set up for systemd gives to a
// cgroup it makes itself: "PARENT.slice:cri-containerd:ID".
func joined(name string) (parent, scope string) {
	parent, rest, ok := strings.Cut(name, ":")
	prefix, id, ok2 := strings.Cut(rest, ":")
	if !ok || !ok2 {
		return "", name
	}
	return parent, prefix + "-" + id + ".scope"
}

// podOf returns the Kubernetes pod a cgroup is named for, "" if none:
// "podUID", or "kubepods-burstable-podUID.slice" with underscores in the UID.
func podOf(name string) string {
	if stem, ok := strings.CutSuffix(name, ".slice"); ok {
		at := strings.LastIndex(stem, "-pod")
		if at < 0 || !strings.Contains(stem[:at], "kubepods") { // kind puts "kubelet-" before it
			return ""
		}
		return podUID(strings.ReplaceAll(stem[at+len("-pod"):], "_", "-"))
	}
	uid, ok := strings.CutPrefix(name, "pod")
	if !ok {
		return ""
	}
	return podUID(uid)
}

func podUID(s string) string {
	if (len(s) != 36 && len(s) != 32) || strings.Trim(s, "0123456789abcdef-") != "" {
		return ""
	}
	return s
}

func containerID(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// container returns the container of a process. One that has process ids or
// users of its own, in a cgroup no runtime is known to make, is unknown: it may
// well be in a container.
func (m *Meter) container(cgroup evidence.Value[string], ns evidence.Value[evidence.Namespaces]) evidence.Value[*evidence.Container] {
	path, ok := cgroup.Get()
	if !ok {
		return evidence.Unknown[*evidence.Container]("no-cgroup")
	}
	if c, within := containerOf(path); c != nil {
		if m.cgroups.rootOnly(within) {
			m.runtimes.describe(c)
		} else { // a user that it was delegated to gives names there, be it those of root's containers
			c.Image, c.Pod = evidence.Unknown[string](reasonDenied), evidence.Unknown[string](reasonDenied)
		}
		return evidence.Known(c)
	}
	n, ok := ns.Get()
	if !ok || n.PID != m.own.PID || n.User != m.own.User {
		return evidence.Unknown[*evidence.Container]("unrecognised")
	}
	return evidence.Known[*evidence.Container](nil)
}
