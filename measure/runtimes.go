// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// runtimes reads what container runtimes keep on disk about their containers,
// below the directory that it is. Only files that nobody but root can write
// count; a user's own runtime is root's word for nothing.
type runtimes string

const (
	maxRuntimeFile = 8 << 20 // bytes of a runtime's file
	reasonByName   = "image-by-name"
	reasonDenied   = "runtime-not-trusted"
)

// Where runtimes keep their files. RKE2 and k3s, MicroK8s and others put
// containerd elsewhere.
var containerdStates = []string{
	"run/containerd/io.containerd.runtime.v2.task", "run/k3s/containerd/io.containerd.runtime.v2.task",
	"var/snap/microk8s/common/run/containerd/io.containerd.runtime.v2.task",
}

const (
	dockerContainers = "var/lib/docker/containers"
	storage          = "var/lib/containers/storage/overlay-containers"
	storageRun       = "run/containers/storage/overlay-containers"
)

// described is what a runtime's files say of a container.
type described struct {
	image                string // as the runtime identifies it
	pod, namespace, name string // of Kubernetes; pod is the UID
}

// describe fills in the image and pod of a container: the image's digest as
// its runtime identifies it (of the image's configuration or manifest),
// "sha256:…", and "namespace/name/UID" of the pod. Without names the pod is the
// UID that the cgroup has; outside Kubernetes it is "".
func (r runtimes) describe(c *evidence.Container) {
	var (
		d   described
		err error
	)
	switch c.Runtime {
	case "docker":
		d, err = r.docker(c.ID)
	case "podman":
		d.image, err = r.storageImage(c.ID)
	case "cri-o":
		d, err = r.crio(c.ID)
	case "containerd":
		d, err = r.containerd(c.ID)
	}
	if err != nil {
		c.Image = evidence.Unknown[string](refusalOf(err))
		return
	}
	if digest := imageDigest(d.image); digest != "" {
		c.Image = evidence.Known(digest)
	} else {
		c.Image = evidence.Unknown[string](reasonByName)
	}
	pod, _ := c.Pod.Get()
	switch {
	case pod == "" || d.pod == "" || d.namespace == "" || d.name == "": // labels alone make no pod
	case strings.ReplaceAll(pod, "-", "") != strings.ReplaceAll(d.pod, "-", ""):
		c.Pod = evidence.Unknown[string](reasonAmbiguous)
	default:
		c.Pod = exact(d.namespace + "/" + d.name + "/" + d.pod)
	}
}

func refusalOf(err error) string {
	switch {
	case errors.Is(err, errOthers), errors.Is(err, unix.ELOOP):
		return reasonDenied
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return reasonNotFound
	case errors.Is(err, errTooLarge):
		return reasonTooLarge
	}
	return reasonUnreadable
}

// imageDigest returns the digest in what names an image, "" where it is only a name.
func imageDigest(image string) string {
	if i := strings.LastIndex(image, "sha256:"); i >= 0 && (i == 0 || image[i-1] == '@') {
		image = image[i+len("sha256:"):]
	}
	if !containerID(image) {
		return ""
	}
	return "sha256:" + image
}

// read decodes a runtime's file.
func (r runtimes) read(name string, into any) error {
	data, err := readRootOnly(string(r), name, maxRuntimeFile)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// docker reads /var/lib/docker/containers/ID/config.v2.json.
func (r runtimes) docker(id string) (d described, err error) {
	var c struct {
		ID, Image string
		Config    struct{ Labels map[string]string }
	}
	if err := r.read(filepath.Join(dockerContainers, id, "config.v2.json"), &c); err != nil {
		return d, err
	}
	if c.ID != id {
		return d, errors.New("it is of another container")
	}
	l := c.Config.Labels // as cri-dockerd sets them
	return described{c.Image, l["io.kubernetes.pod.uid"], l["io.kubernetes.pod.namespace"], l["io.kubernetes.pod.name"]}, nil
}

// storageImage finds a container of Podman or CRI-O in the storage of both.
func (r runtimes) storageImage(id string) (string, error) {
	var list []struct{ ID, Image string }
	if err := r.read(storage+"/containers.json", &list); err != nil {
		return "", err
	}
	for _, c := range list {
		if c.ID == id {
			return c.Image, nil
		}
	}
	return "", os.ErrNotExist
}

// crio takes the image from the storage, the pod from the bundle.
func (r runtimes) crio(id string) (d described, err error) {
	if d.image, err = r.storageImage(id); err != nil {
		return d, err
	}
	a, err := r.annotations(filepath.Join(storageRun, id, "userdata/config.json"))
	if err != nil {
		return d, err
	}
	d.pod, d.namespace, d.name = a["io.kubernetes.pod.uid"], a["io.kubernetes.pod.namespace"], a["io.kubernetes.pod.name"]
	return d, nil
}

// containerd finds the bundle of the container, in whichever namespace it is.
func (r runtimes) containerd(id string) (d described, err error) {
	found := ""
	for _, state := range containerdStates {
		spaces, err := os.ReadDir(filepath.Join(string(r), state))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return d, err
		}
		for _, space := range spaces {
			bundle := filepath.Join(state, space.Name(), id)
			if _, err := os.Lstat(filepath.Join(string(r), bundle)); err != nil {
				continue
			}
			if found != "" {
				return d, errors.New("two containers have that id")
			}
			found = bundle
		}
	}
	if found == "" {
		return d, os.ErrNotExist
	}
	a, err := r.annotations(found + "/config.json")
	if err != nil {
		return d, err
	}
	const cri = "io.kubernetes.cri."
	return described{a[cri+"image-name"], a[cri+"sandbox-uid"], a[cri+"sandbox-namespace"], a[cri+"sandbox-name"]}, nil
}

// annotations are those of an OCI bundle.
func (r runtimes) annotations(name string) (map[string]string, error) {
	var c struct{ Annotations map[string]string }
	err := r.read(name, &c)
	return c.Annotations, err
}
