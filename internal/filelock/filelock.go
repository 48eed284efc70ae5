// Package filelock takes the locks by which two processes, or two components of
// one, do not work on the same files. A lock goes with its open file, so also
// with the process.
package filelock

import (
	"errors"
	"fmt"
	"os"
)

// ErrHeld means that somebody else has the lock.
var ErrHeld = errors.New("somebody else holds the lock")

// Open opens the file of that name, makes it if it is not there, and locks it
// until it is closed.
func Open(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := Lock(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return f, nil
}
