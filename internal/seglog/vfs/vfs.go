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
