// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/jurat-dev/jurat/bpf"
)

// Uninstalling says what [Uninstall] removes.
type Uninstalling struct {
	State  string // the state directory
	Pin    string // where the sensor is pinned; "": nowhere
	Socket string
	Purge  bool // also the state
}

// Uninstall removes what an agent leaves behind that has ended, and returns
// what there was. It refuses while one answers, and to purge a directory that
// is no agent's.
func Uninstall(u Uninstalling) (removed []string, err error) {
	if conn, err := net.Dial("unix", u.Socket); err == nil {
		conn.Close()
		return nil, fmt.Errorf("juratd answers on %s: stop it first", u.Socket)
	}
	if info, err := os.Lstat(u.Socket); err == nil && info.Mode()&fs.ModeSocket != 0 {
		if err := os.Remove(u.Socket); err != nil {
			return removed, err
		}
		removed = append(removed, u.Socket)
	}
	if u.Pin != "" && exists(u.Pin) {
		if err := bpf.Unpin(u.Pin); err != nil {
			return removed, err
		}
		removed = append(removed, u.Pin)
	}
	if !u.Purge || !exists(u.State) {
		return removed, nil
	}
	if !exists(filepath.Join(u.State, identityName)) && !exists(filepath.Join(u.State, logName)) {
		return removed, fmt.Errorf("%s holds neither %s nor a %s: it is no agent's state, and stays", u.State, identityName, logName)
	}
	if err := os.RemoveAll(u.State); err != nil {
		return removed, err
	}
	return append(removed, u.State), nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
