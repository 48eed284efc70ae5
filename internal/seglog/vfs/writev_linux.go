package vfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// writev writes a and b, one behind the other.
func writev(f *os.File, a, b []byte, off int64) (int, error) {
	bufs := [2][]byte{a, b}
	n, err := unix.Pwritev(int(f.Fd()), bufs[:], off)
	for err == unix.EINTR {
		n, err = unix.Pwritev(int(f.Fd()), bufs[:], off)
	}
	if err != nil {
		return 0, &os.PathError{Op: "pwritev", Path: f.Name(), Err: err}
	}
	for n < len(a)+len(b) { // cut short: the rest says why
		rest := b
		if n < len(a) {
			rest = a[n:]
		} else {
			rest = b[n-len(a):]
		}
		m, err := f.WriteAt(rest, off+int64(n))
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
