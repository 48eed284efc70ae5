package dfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Local is the local file system. A file that is written is locked (flock), so
// that a file which a dead process left is known from one in use.
type Local struct{}

// Create implements FS.
func (Local) Create(name string) (File, error) {
	f, err := createLocal(name, 0o755, 0o644)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func createLocal(name string, dirs, files fs.FileMode) (*localFile, error) {
	var f *os.File
	err := os.MkdirAll(filepath.Dir(name), dirs)
	if err == nil {
		f, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, files)
	}
	switch {
	case errors.Is(err, unix.ENAMETOOLONG), errors.Is(err, unix.EILSEQ), errors.Is(err, unix.ENOTDIR):
		return nil, fmt.Errorf("%w: %w", ErrName, err)
	case err != nil:
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
	}
	return &localFile{f: f}, nil
}

// Rename implements FS.
func (Local) Rename(from, to string) error {
	if from == to {
		return nil
	}
	// A hard link, unlike rename, fails where somebody has the name.
	if err := os.Link(from, to); err != nil {
		if !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) { // no links here
			if _, err := os.Lstat(to); err == nil {
				return &fs.PathError{Op: "rename", Path: to, Err: fs.ErrExist}
			}
			return os.Rename(from, to)
		}
		return err
	}
	return os.Remove(from)
}

// Remove implements FS.
func (Local) Remove(name string) error { return os.Remove(name) }

// List implements FS.
func (Local) List(dir string) ([]Entry, error) {
	es, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var list []Entry
	for _, e := range es {
		list = append(list, Entry{e.Name(), e.IsDir()})
	}
	return list, err
}

// MkdirAll implements FS.
func (Local) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o755) }

// Recover implements FS.
func (Local) Recover(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("recover %s: %w: another process writes to it", name, ErrBusy)
	}
	return err
}

// Home implements FS.
func (Local) Home() string { return "" }

// Close implements FS.
func (Local) Close() error { return nil }

type localFile struct {
	f     *os.File
	sync  bool // by Flush
	dirty bool // something may not be on the disk
}

func (f *localFile) Write(p []byte) (int, error) {
	f.dirty = true
	return f.f.Write(p)
}

// Flush does nothing, unless it is told to: what was written outlives the process, as after an hflush on HDFS.
func (f *localFile) Flush() error {
	if !f.sync {
		return nil
	}
	return f.force()
}

func (f *localFile) Err() error { return nil }

func (f *localFile) force() error {
	if !f.dirty {
		return nil
	}
	if err := f.f.Sync(); err != nil {
		return err
	}
	f.dirty = false
	return nil
}

func (f *localFile) Close() error {
	if err := f.force(); err != nil {
		return err
	}
	return f.f.Close()
}

func (f *localFile) Abort() { _ = f.f.Close() }
