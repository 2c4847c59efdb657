// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// Character devices of accelerators that have had their number for ever
// (Documentation/admin-guide/devices.txt).
const (
	majorNvidia = 195
	majorDRM    = 226
	majorAccel  = 261
)

// accelerators are the names in /proc/devices and /proc/misc of those whose
// number is given out anew on each boot, and what their nodes are called.
var accelerators = map[string]string{
	"nvidia-uvm": "nvidia-uvm", "nvidia-nvswitch": "nvidia-nvswitch", "nvidia-nvlink": "nvidia-nvlink", "nvidia-caps": "nvidia-caps/nvidia-cap",
	"nvidia-caps-imex-channels": "nvidia-caps-imex-channels/channel", "nvidia-modeset": "nvidia-modeset", "kfd": "kfd", "dxg": "dxg",
	"habanalabs": "hl", "neuron": "neuron", "apex": "apex_", "ipu": "ipu", "vfio": "vfio/", "vfio/vfio": "vfio/vfio", "vfio-dev": "vfio/devices/vfio",
}

// devices lists the accelerators that the process holds open now, each by the
// name that its device number has below /dev, whatever its node is called:
// "/dev/nvidia0".
func (t *target) devices() evidence.Value[[]string] {
	majors, err := characterDevices()
	if err != nil {
		return evidence.Unknown[[]string](reasonUnreadable)
	}
	numbers, err := t.descriptors()
	if err != nil {
		return unread[[]string](err)
	}
	found := []string{}
	for _, n := range numbers {
		name, err := t.accelerator("fd/"+n, majors)
		if err != nil {
			return unread[[]string](err)
		}
		if name != "" && t.uses(n) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return evidence.Known(slices.Compact(found))
}

// accelerator names the accelerator that a descriptor is open on, "" for anything else.
func (t *target) accelerator(link string, majors map[uint32]string) (string, error) {
	fd, err := t.link(link)
	if err != nil {
		if gone(err) || err == unix.ENXIO {
			return "", nil // closed meanwhile
		}
		return "", err
	}
	defer unix.Close(fd)
	if magic, err := fileSystem(fd); err != nil || remote(magic) {
		return "", err // no device node works there
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return "", nil
	}
	return acceleratorName(unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)), majors), nil
}

const majorMisc = 10

// acceleratorName names a device number, "" where it is no accelerator's.
func acceleratorName(major, minor uint32, majors map[uint32]string) string {
	switch {
	case major == majorNvidia && minor == 255:
		return "/dev/nvidiactl"
	case major == majorNvidia && minor == 254:
		return "/dev/nvidia-modeset"
	case major == majorNvidia:
		return fmt.Sprintf("/dev/nvidia%d", minor)
	case major == majorDRM && minor >= 128:
		return fmt.Sprintf("/dev/dri/renderD%d", minor)
	case major == majorDRM:
		return fmt.Sprintf("/dev/dri/card%d", minor)
	case major == majorAccel:
		return fmt.Sprintf("/dev/accel/accel%d", minor)
	case major == majorMisc:
		return prefixed("/dev/", accelerators[miscName(minor)])
	}
	name := accelerators[majors[major]]
	switch {
	case name == "" || name == "kfd" || name == "nvidia-uvm" && minor == 0:
		return prefixed("/dev/", name)
	case name == "nvidia-uvm" && minor == 1:
		return "/dev/nvidia-uvm-tools"
	}
	return fmt.Sprintf("/dev/%s%d", name, minor)
}

func prefixed(prefix, name string) string {
	if name == "" {
		return ""
	}
	return prefix + name
}

// characterDevices reads the names of the character devices' major numbers.
func characterDevices() (map[uint32]string, error) {
	data, err := os.ReadFile("/proc/devices")
	if err != nil {
		return nil, err
	}
	return parseDevices(data), nil
}

func parseDevices(data []byte) map[uint32]string {
	majors := make(map[uint32]string)
	for line := range bytes.Lines(data) {
		words := bytes.Fields(line)
		if len(words) == 2 && string(words[0]) == "Block" {
			break
		}
		if len(words) != 2 {
			continue
		}
		if n, err := strconv.ParseUint(string(words[0]), 10, 32); err == nil {
			majors[uint32(n)] = string(words[1])
		}
	}
	return majors
}

// miscName names a minor number of the miscellaneous devices, as /proc/misc has it.
func miscName(minor uint32) string {
	data, err := os.ReadFile("/proc/misc")
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(data) {
		words := bytes.Fields(line)
		if len(words) != 2 {
			continue
		}
		if n, err := strconv.ParseUint(string(words[0]), 10, 32); err == nil && uint32(n) == minor {
			return string(words[1])
		}
	}
	return ""
}
