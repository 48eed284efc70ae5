package deadletter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/sluice-data/sluice/internal/filelock"
	"github.com/sluice-data/sluice/internal/seglog"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
)

// segmentBytes is when a new file begins.
const segmentBytes = 16 << 20

const (
	lockFile       = "lock"
	replayLockFile = "replay.lock"
	damagedExt     = ".damaged"
)

// ErrFull is in the chain of the error of an append that the limit on the
// files' size refuses.
var ErrFull = errors.New("the dead letters are full")

// Store is what a component appends its letters to. It is safe for concurrent
// use.
type Store struct {
	dir      string
	maxBytes int64
	fs       vfs.FS
	log      *slog.Logger

	mu   sync.Mutex
	lock *os.File
	file *seglog.File // nil: not open
	next int64
	buf  []byte
}

// Dir is the directory of a component below the configured one; kind is sink
// or source.
func Dir(directory, agent, kind, name string) string {
	escape := func(s string) string {
		return strings.NewReplacer(".", "%2E", "+", "%20", "~", "%7E").Replace(url.QueryEscape(s))
	}
	return filepath.Join(directory, escape(agent)+"."+kind+"."+escape(name))
}

// NewStore returns the store of a component's directory, not open yet.
// maxBytes bounds what its files may take; log gets what is found damaged.
func NewStore(fsys vfs.FS, dir string, maxBytes int64, log *slog.Logger) *Store {
	return &Store{dir: dir, maxBytes: maxBytes, fs: fsys, log: log}
}

// Start makes the directory, takes its lock, cuts off a torn tail, finds the
// next number and reports what is damaged in the last file. The store may be
// started again after Stop.
func (s *Store) Start(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock != nil {
		return nil
	}
	err := s.fs.MkdirAll(s.dir)
	if err == nil {
		s.lock, err = lock(filepath.Join(s.dir, lockFile), "another agent writes to it")
	}
	if err == nil {
		err = s.open()
	}
	if err != nil {
		s.close()
		return fmt.Errorf("open the dead letters: %w", err)
	}
	return nil
}

// lock takes a lock that goes with the process.
func lock(name, taken string) (*os.File, error) {
	f, err := filelock.Open(name)
	if errors.Is(err, filelock.ErrHeld) {
		return nil, fmt.Errorf("directory %s is in use: %s", filepath.Dir(name), taken)
	}
	return f, err
}

// open opens the last file.
func (s *Store) open() error {
	s.next = 1
	bases, err := seglog.List(s.fs, s.dir, extension)
	if err == nil && len(bases) > 0 {
		err = s.openFile(bases[len(bases)-1])
	}
	if err != nil {
		return err
	}
	// Numbers are never used again: a replay may have seen a letter that is
	// not there any more, and a new one of its number would count as replayed.
	replayed, err := readReplayed(s.fs, s.dir)
	if err != nil {
		s.log.Error("which dead letters were replayed cannot be read; letters are written all the same", "err", err)
	}
	if s.next >= replayed.end() {
		return nil
	}
	s.next = replayed.end()
	return s.closeFile()
}

// openFile opens the file that begins with letter base.
func (s *Store) openFile(base int64) error {
	f, err := seglog.Open(s.fs, seglog.Name(s.dir, base, extension))
	if err != nil {
		return err
	}
	fr := framing{next: base}
	var unreadable int64
	res, err := fr.scan(f, f.Path(), f.Size(), func(ce *seglog.CorruptionError) {
		unreadable = ce.Next
		s.log.Error("dead letters are damaged; those around the damage are kept, and so is the file until it is deleted by hand", "err", ce)
	})
	if err == nil && res.End < f.Size() {
		err = s.cutTail(f, res)
	}
	s.file, s.next = f, fr.next
	switch {
	case err != nil:
		return errors.Join(err, s.closeFile())
	case unreadable == 0:
		return nil
	case unreadable == f.Size(): // nobody knows how many numbers are in it
		s.next += unreadable / (headerSize + minPayload)
	}
	return s.closeFile() // so that it can be deleted while the agent runs
}

// cutTail cuts off what lies behind the last good letter: an append that did
// not come to its end, whose events are still in their channel. Bytes that were
// written whole may be a damaged letter, so they are kept.
func (s *Store) cutTail(f *seglog.File, res seglog.ScanResult) error {
	size := f.Size()
	if res.Torn != nil && !res.Unwritten {
		b := make([]byte, size-res.End)
		if n, err := f.ReadAt(b, res.End); n < len(b) {
			return fmt.Errorf("read %s: %w", f.Path(), err)
		}
		name := fmt.Sprintf("%s.%d%s", f.Path(), res.End, damagedExt)
		if err := seglog.WriteFile(s.fs, name, b); err != nil {
			return fmt.Errorf("keep the damaged end of %s: %w", f.Path(), err)
		}
		s.log.Error("the end of the dead letters is damaged; it is cut off and kept", "file", f.Path(), "at", res.End, "bytes", len(b), "kept", name, "err", res.Torn)
	} else {
		s.log.Warn("the end of a dead letter that did not come to its end is cut off; its event is still in the channel", "file", f.Path(), "at", res.End, "bytes", size-res.End)
	}
	if err := f.Truncate(res.End); err != nil {
		return err
	}
	return f.Sync()
}

// Append makes letters durable, all of them or none, and numbers them.
func (s *Store) Append(letters []Letter) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock == nil {
		return errors.New("append dead letters: not started")
	}
	if s.file != nil && s.file.Err() != nil { // what was written since the last sync is not known: look
		err := s.closeFile()
		if err == nil {
			err = s.open()
		}
		if err != nil {
			return fmt.Errorf("append dead letters: %w", err)
		}
	}
	s.buf = s.buf[:0]
	for i := range letters {
		letters[i].Number = s.next + int64(i)
		var err error
		if s.buf, err = appendFrame(s.buf, &letters[i]); err != nil {
			return err
		}
	}
	if err := s.write(s.buf); err != nil {
		return fmt.Errorf("append dead letters: %w", err)
	}
	s.next += int64(len(letters))
	if cap(s.buf) > 1<<20 {
		s.buf = nil
	}
	return nil
}

func (s *Store) write(b []byte) error {
	used, err := s.used()
	if err != nil {
		return err
	}
	if used+int64(len(b)) > s.maxBytes {
		return fmt.Errorf("%w: the files in %s have %d of %d bytes, and %d more are needed: replay them or raise deadletter.maxBytes", ErrFull, s.dir, used, s.maxBytes, len(b))
	}
	if s.file != nil && s.file.Size() >= segmentBytes {
		if err := s.closeFile(); err != nil {
			return err
		}
	}
	if s.file == nil {
		f, err := seglog.Create(s.fs, seglog.Name(s.dir, s.next, extension))
		if err != nil {
			return err
		}
		s.file = f
		if err := s.fs.SyncDir(s.dir); err != nil { // its name may not outlive a power cut
			return errors.Join(err, s.fs.Remove(f.Path()), s.closeFile())
		}
	}
	pos, err := s.file.Append(b)
	if err != nil {
		return err
	}
	if err := s.file.Sync(); err != nil {
		// The events are still in their channel; what a next look finds here
		// would be letters twice.
		return errors.Join(err, truncate(s.fs, s.file.Path(), pos))
	}
	return nil
}

// truncate cuts a file that failed off behind the last good letter.
func truncate(fsys vfs.FS, path string, size int64) error {
	f, err := fsys.Open(path, os.O_RDWR)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// used is what the files take. A replay may have deleted some.
func (s *Store) used() (int64, error) {
	entries, err := s.fs.List(s.dir)
	if err != nil {
		return 0, err
	}
	var n int64
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), extension) {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		n += info.Size()
	}
	return n, nil
}

// Stop closes the files and gives the lock back.
func (s *Store) Stop(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.close()
}

func (s *Store) close() error {
	err := s.closeFile()
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
		s.lock = nil
	}
	return err
}

// closeFile closes the file that is written.
func (s *Store) closeFile() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Release()
	s.file = nil
	return err
}
