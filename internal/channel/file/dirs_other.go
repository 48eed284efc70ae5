//go:build !linux

package file

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// tryLock says whether somebody else holds the lock. A Java VM does not see this kind.
func tryLock(f *os.File) (held bool, err error) {
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}
