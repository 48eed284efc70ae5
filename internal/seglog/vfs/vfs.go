// Package vfs is the little of a file system that durable files need, so that tests can put a failing one under them.
package vfs

import (
	"io"
	"io/fs"
	"os"
	"time"
)

// FS is a file system. Paths are the operating system's.
type FS interface {
	// Open opens a file; flag is as in os.OpenFile (O_RDONLY, O_RDWR, O_CREATE, O_EXCL, O_TRUNC).
	Open(name string, flag int) (File, error)
	Rename(from, to string) error
	Remove(name string) error
	// Chtimes sets a file's modification time.
	Chtimes(name string, mod time.Time) error
	// MkdirAll makes a directory and its parents.
	MkdirAll(dir string) error
	// List returns a directory's entries, sorted by name.
	List(dir string) ([]fs.DirEntry, error)
	// SyncDir makes created, renamed and removed names of the directory durable.
	SyncDir(dir string) error
}

// File is an open file. Methods may be called concurrently.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	// Sync makes the contents and the size durable.
	Sync() error
	Stat() (fs.FileInfo, error)
	// OS returns the operating system's file for sendfile, or nil if there is none.
	OS() *os.File
}

// Padder is a File that can write zeros behind what it writes, with the same system call.
type Padder interface {
	// WritePadded is WriteAt for b and zeros more bytes, at most MaxPadding. n counts both.
	WritePadded(b []byte, zeros int, off int64) (n int, err error)
}

// MaxPadding is what Padder's writes may end in.
const MaxPadding = 64 << 10

// zeros are what paddings are written from.
var zeros [MaxPadding]byte

// CopyPadded is WritePadded by way of WriteAt, for file systems of tests.
func CopyPadded(f io.WriterAt, b []byte, n int, off int64) (int, error) {
	return f.WriteAt(append(b[:len(b):len(b)], zeros[:n]...), off)
}
