package file

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// tryLock says whether somebody else holds the lock. It is of the kind that belongs to the open file (so two channels of
// one process exclude each other) and that a Java VM's locks respect.
func tryLock(f *os.File) (held bool, err error) {
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return true, nil
	}
	return false, err
}
