//go:build !linux

package vfs

import "os"

// writev writes a and b, one behind the other.
func writev(f *os.File, a, b []byte, off int64) (int, error) {
	return f.WriteAt(append(a[:len(a):len(a)], b...), off)
}
