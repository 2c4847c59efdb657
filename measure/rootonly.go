// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// errOthers says that somebody beside root could have written what is read.
var errOthers = errors.New("not to be trusted")

// readRootOnly reads the file name below dir. From dir down nothing may be a
// link, or anybody's but root's: what it says is root's word.
func readRootOnly(dir, name string, limit int64) ([]byte, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	for part := range strings.SplitSeq(name, "/") {
		if err := rootOnly(fd, dir); err != nil {
			unix.Close(fd)
			return nil, err
		}
		next, err := unix.Openat(fd, part, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		unix.Close(fd)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
		}
		fd = next
	}
	f := os.NewFile(uintptr(fd), filepath.Join(dir, name))
	defer f.Close()
	if st, err := fstat(fd); err != nil || !st.regular() {
		return nil, fmt.Errorf("%s is no regular file: %w", f.Name(), errors.Join(err, errOthers))
	}
	if err := rootOnly(fd, f.Name()); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: %w", f.Name(), errTooLarge)
	}
	return data, err
}

// rootOnly returns nil where only root can change what fd is.
func rootOnly(fd int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Uid != 0 || st.Mode&0o022 != 0 {
		return fmt.Errorf("%s can be changed by others than root (owner %d, mode %04o): %w", name, st.Uid, st.Mode&0o7777, errOthers)
	}
	return nil
}
