// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jurat-dev/jurat/evidence"
)

// runtimeFiles makes files as the runtimes do, below a directory of root's.
func runtimeFiles(t testing.TB, files map[string]string) runtimes {
	t.Helper()
	dir := declarations(t)
	for name, text := range files {
		path := filepath.Join(dir, name)
		try(t, os.MkdirAll(filepath.Dir(path), 0o755))
		try(t, os.WriteFile(path, []byte(text), 0o600))
	}
	return runtimes(dir)
}

const imageHex = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"

// criConfig is a bundle's configuration as containerd's CRI plugin writes it.
func criConfig(image, uid string) string {
	return `{"ociVersion":"1.2.0","process":{"args":["/agent"]},"annotations":{"io.kubernetes.cri.container-type":"container",` +
		`"io.kubernetes.cri.image-name":"` + image + `","io.kubernetes.cri.sandbox-name":"agent-0","io.kubernetes.cri.sandbox-namespace":"prod",` +
		`"io.kubernetes.cri.sandbox-uid":"` + uid + `"}}`
}

func TestRuntimes(t *testing.T) {
	needRoot(t)
	const k8s = "io.containerd.runtime.v2.task/k8s.io/"
	stored := `[{"id":"` + strings.Repeat("a", 64) + `","image":"` + strings.Repeat("b", 64) + `"},{"id":"` + id64 + `","names":["x"],"image":"` + imageHex + `"}]`
	for _, c := range []struct {
		name, runtime, pod string
		files              map[string]string
		image, says        string // "?" and a reason where unknown
	}{
		{"docker", "docker", "", map[string]string{dockerContainers + "/" + id64 + "/config.v2.json": `{"ID":"` + id64 + `","Image":"sha256:` + imageHex + `","Config":{"Image":"agent:1","Labels":{}}}`}, "sha256:" + imageHex, ""},
		{"docker, labelled as a pod's", "docker", "", map[string]string{dockerContainers + "/" + id64 + "/config.v2.json": `{"ID":"` + id64 + `","Image":"sha256:` + imageHex + `","Config":{"Labels":{"io.kubernetes.pod.uid":"` + podID + `","io.kubernetes.pod.name":"x","io.kubernetes.pod.namespace":"y"}}}`}, "sha256:" + imageHex, ""},
		{"docker, another's file", "docker", "", map[string]string{dockerContainers + "/" + id64 + "/config.v2.json": `{"ID":"x","Image":"sha256:` + imageHex + `"}`}, "?unreadable", ""},
		{"docker, malformed", "docker", "", map[string]string{dockerContainers + "/" + id64 + "/config.v2.json": `{"ID":`}, "?unreadable", ""},
		{"docker, nothing there", "docker", "", nil, "?not-found", ""},
		{"podman", "podman", "", map[string]string{storage + "/containers.json": stored}, "sha256:" + imageHex, ""},
		{"podman, not listed", "podman", "", map[string]string{storage + "/containers.json": "[]"}, "?not-found", ""},
		{"cri-o", "cri-o", podID, map[string]string{storage + "/containers.json": stored, storageRun + "/" + id64 + "/userdata/config.json": `{"annotations":{"io.kubernetes.pod.name":"agent-0","io.kubernetes.pod.namespace":"prod","io.kubernetes.pod.uid":"` + podID + `"}}`}, "sha256:" + imageHex, "prod/agent-0/" + podID},
		{"containerd", "containerd", podID, map[string]string{"run/containerd/" + k8s + id64 + "/config.json": criConfig("registry.example/agent@sha256:"+imageHex, podID)}, "sha256:" + imageHex, "prod/agent-0/" + podID},
		{"k3s and RKE2", "containerd", podID, map[string]string{"run/k3s/containerd/" + k8s + id64 + "/config.json": criConfig("sha256:"+imageHex, podID)}, "sha256:" + imageHex, "prod/agent-0/" + podID},
		{"containerd, image by name", "containerd", podID, map[string]string{"run/containerd/" + k8s + id64 + "/config.json": criConfig("registry.example/agent:1", podID)}, "?" + reasonByName, "prod/agent-0/" + podID},
		{"containerd, a name that looks like a digest", "containerd", podID, map[string]string{"run/containerd/" + k8s + id64 + "/config.json": criConfig("xsha256:"+imageHex, podID)}, "?" + reasonByName, "prod/agent-0/" + podID},
		{"containerd, another pod", "containerd", podID, map[string]string{"run/containerd/" + k8s + id64 + "/config.json": criConfig("sha256:"+imageHex, strings.Repeat("0", 32))}, "sha256:" + imageHex, "?" + reasonAmbiguous},
		{"containerd, twice", "containerd", podID, map[string]string{"run/containerd/" + k8s + id64 + "/config.json": "{}", "run/k3s/containerd/" + k8s + id64 + "/config.json": "{}"}, "?unreadable", podID},
	} {
		r := runtimeFiles(t, c.files)
		got := evidence.Container{Runtime: c.runtime, ID: id64, Pod: evidence.Known(c.pod)}
		r.describe(&got)
		if image, says := shown(got.Image), shown(got.Pod); image != c.image || says != c.says && (c.says != "" || says != c.pod) {
			t.Errorf("%s: image %s, pod %s", c.name, image, says)
		}
	}
}

func shown(v evidence.Value[string]) string {
	if s, ok := v.Get(); ok {
		return s
	}
	return "?" + v.Reason()
}

// What others than root can write says nothing.
func TestRuntimeFilesAreRoots(t *testing.T) {
	needRoot(t)
	for name, spoil := range map[string]func(file string) error{
		"file of a user":      func(file string) error { return os.Chown(file, 1234, 0) },
		"file of all":         func(file string) error { return os.Chmod(file, 0o666) },
		"directory of a user": func(file string) error { return os.Chown(filepath.Dir(filepath.Dir(file)), 1234, 0) },
		"directory of all":    func(file string) error { return os.Chmod(filepath.Dir(file), 0o777) },
		"link": func(file string) error {
			if err := os.Rename(file, file+".x"); err != nil {
				return err
			}
			return os.Symlink(file+".x", file)
		},
	} {
		r := runtimeFiles(t, map[string]string{storage + "/containers.json": `[{"id":"` + id64 + `","image":"` + imageHex + `"}]`})
		try(t, spoil(filepath.Join(string(r), storage, "containers.json")))
		got := evidence.Container{Runtime: "podman", ID: id64, Pod: evidence.Known("")}
		if r.describe(&got); got.Image.Reason() != reasonDenied {
			t.Errorf("%s: image is %v", name, got.Image)
		}
	}
}
