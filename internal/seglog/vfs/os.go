package vfs

import (
	"fmt"
	"io/fs"
	"os"
	"time"
)

// OS is the operating system's file system.
type OS struct{}

var _ FS = OS{}

// Open implements FS. New files are readable by the owner and the group.
func (OS) Open(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag, 0o640)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// Rename implements FS.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove implements FS.
func (OS) Remove(name string) error { return os.Remove(name) }

// Chtimes implements FS.
func (OS) Chtimes(name string, mod time.Time) error { return os.Chtimes(name, time.Time{}, mod) }

// MkdirAll implements FS.
func (OS) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o750) }

// List implements FS.
func (OS) List(dir string) ([]fs.DirEntry, error) { return os.ReadDir(dir) }

// SyncDir implements FS.
func (OS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

type osFile struct{ *os.File }

func (f osFile) OS() *os.File { return f.File }

var _ Padder = osFile{}

// WritePadded implements Padder.
func (f osFile) WritePadded(b []byte, n int, off int64) (int, error) {
	return writev(f.File, b, zeros[:n], off)
}
