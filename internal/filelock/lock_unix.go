//go:build unix && !solaris && !aix

package filelock

import (
	"os"

	"golang.org/x/sys/unix"
)

// Lock locks an open file until it is closed.
func Lock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch err {
		case unix.EINTR:
			continue
		case unix.EWOULDBLOCK:
			return ErrHeld
		}
		return err
	}
}
