package seglog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"github.com/sluice-data/sluice/internal/seglog/vfs"
)

// File is one append-only file with a reference count. One goroutine at a time may append or truncate; all other
// methods may be called concurrently.
type File struct {
	fs   vfs.FS
	f    vfs.File
	refs atomic.Int32
	size atomic.Int64 // end of what was appended whole

	padder vfs.Padder // nil: appends are not padded
	end    int64      // of the file: size and padding; the appender's

	mu      sync.Mutex
	path    string
	err     error  // sticky
	unlink  string // remove this name on the last release
	onClose []func()
}

// Create makes a new file; it must not exist. The caller holds the first reference. The name is durable after a SyncDir.
func Create(fsys vfs.FS, path string) (*File, error) {
	return open(fsys, path, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

// Open opens an existing file. The caller holds the first reference.
func Open(fsys vfs.FS, path string) (*File, error) {
	return open(fsys, path, os.O_RDWR)
}

func open(fsys vfs.FS, path string, flag int) (*File, error) {
	f, err := fsys.Open(path, flag)
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", noSpace(err))
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open segment %s: %w", path, err)
	}
	s := &File{fs: fsys, f: f, path: path}
	s.refs.Store(1)
	s.size.Store(st.Size())
	s.end = st.Size()
	return s, nil
}

// Appends may be padded with zeros up to a multiple of PadTo, which the next append overwrites. The system then keeps
// the file in pieces of that size from the beginning; an append to an odd place costs it several small ones and half as
// much time again. Small appends are not padded: the zeros would cost more than they save.
const (
	PadTo   = 16 << 10
	padFrom = 4 << 10
)

// Pad has appends padded from now on, where the file system can. The padding is no part of Size; Trim takes it off.
func (s *File) Pad() { s.padder, _ = s.f.(vfs.Padder) }

// write is Append's.
func (s *File) write(b []byte, pos int64) error {
	end := pos + int64(len(b))
	zeros := 0
	if s.padder != nil && len(b) >= padFrom && end > s.end {
		zeros = int(-end & (PadTo - 1))
	}
	if zeros == 0 {
		_, err := s.f.WriteAt(b, pos)
		s.end = max(s.end, end)
		return err
	}
	_, err := s.padder.WritePadded(b, zeros, pos)
	s.end = end + int64(zeros)
	return err
}

// Trim cuts off the padding, and reports whether there was any. It belongs to the appender.
func (s *File) Trim() (cut bool, err error) {
	if size := s.size.Load(); s.end > size {
		return true, s.Truncate(size)
	}
	return false, nil
}

// Path is the file's name.
func (s *File) Path() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.path
}

// Size is the length of what was appended whole.
func (s *File) Size() int64 { return s.size.Load() }

// OS is the operating system's file, for sendfile; nil on other file systems.
func (s *File) OS() *os.File { return s.f.OS() }

// Stat returns the file's metadata.
func (s *File) Stat() (fs.FileInfo, error) { return s.f.Stat() }

// ReadAt implements io.ReaderAt. The caller holds a reference.
func (s *File) ReadAt(p []byte, off int64) (int, error) { return s.f.ReadAt(p, off) }

// Append writes b at the end in one write and returns its position. A write that fails is undone: with the disk full the
// error is ErrNoSpace and the file can be appended to again; after any other error, or if undoing fails, the file is
// failed for good.
func (s *File) Append(b []byte) (int64, error) {
	if err := s.Err(); err != nil {
		return 0, err
	}
	pos := s.size.Load()
	err := s.write(b, pos)
	if err == nil {
		s.size.Store(pos + int64(len(b)))
		return pos, nil
	}
	err = noSpace(err)
	undo := s.f.Truncate(pos)
	s.end = pos
	switch {
	case undo != nil:
		return 0, s.fail(fmt.Errorf("append to %s: %w; undo: %w", s.Path(), err, undo))
	case !errors.Is(err, ErrNoSpace):
		return 0, s.fail(fmt.Errorf("append to %s: %w", s.Path(), err))
	}
	return 0, fmt.Errorf("append to %s: %w", s.Path(), err)
}

// Sync makes what was appended durable. An error sticks: the system may have dropped the pages it could not write, and a
// second sync would then succeed and lie.
func (s *File) Sync() error {
	if err := s.Err(); err != nil {
		return err
	}
	if err := s.f.Sync(); err != nil {
		return s.fail(fmt.Errorf("sync %s: %w", s.Path(), err))
	}
	return nil
}

// Truncate cuts the file off at size; for recovery.
func (s *File) Truncate(size int64) error {
	if err := s.Err(); err != nil {
		return err
	}
	if err := s.f.Truncate(size); err != nil {
		return s.fail(fmt.Errorf("truncate %s: %w", s.Path(), err))
	}
	s.size.Store(size)
	s.end = size
	return nil
}

func (s *File) fail(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	return err
}

// Err is nil, or why the file refuses writes.
func (s *File) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrFailed, s.err)
}

// Acquire takes a reference. It is false when the last one is gone already.
func (s *File) Acquire() bool {
	for {
		n := s.refs.Load()
		if n <= 0 {
			return false
		}
		if s.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// OnClose has f called when the last reference is released.
func (s *File) OnClose(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onClose = append(s.onClose, f)
}

// Release gives a reference back. The last one closes the file, and unlinks it if it was deleted.
func (s *File) Release() error {
	n := s.refs.Add(-1)
	if n > 0 {
		return nil
	}
	if n < 0 {
		panic("seglog: file released more often than acquired")
	}
	s.mu.Lock()
	unlink, hooks := s.unlink, s.onClose
	s.mu.Unlock()
	for _, f := range hooks {
		f()
	}
	err := s.f.Close()
	if unlink != "" {
		err = errors.Join(err, s.fs.Remove(unlink))
	}
	if err != nil {
		return fmt.Errorf("close segment: %w", err)
	}
	return nil
}

// Rename gives the file another name, and takes the place of what has it. The name is durable after a SyncDir.
func (s *File) Rename(path string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fs.Rename(s.path, path); err != nil {
		return fmt.Errorf("rename segment: %w", err)
	}
	s.path = path
	return nil
}

// Delete takes the file out of the log: it is renamed at once and unlinked when its last reader is done, so that open
// reads stay valid and a crash in between leaves nothing that looks like a segment. It keeps the caller's reference.
func (s *File) Delete() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unlink != "" {
		return nil
	}
	gone := s.path + deletedSuffix
	if err := s.fs.Rename(s.path, gone); err != nil {
		return fmt.Errorf("delete segment: %w", err)
	}
	s.path, s.unlink = gone, gone
	return nil
}
