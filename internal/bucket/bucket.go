// Package bucket writes events to files in directories that depend on the
// events, and rolls the files by size, number of events, age and idleness: what
// Flume's HDFS sink does. A file has a name of its own while it is written, and
// gets its last name when it is closed.
package bucket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/dfs"
)

// Target says where an event belongs.
type Target struct {
	Dir    string
	Prefix string // of the file's name; with a slash in it the file is in a directory below Dir
}

// Encoder turns events into the bytes of one file. What it returned is whole:
// it holds nothing back.
type Encoder interface {
	AppendHeader(dst []byte) ([]byte, error)
	AppendEvents(dst []byte, evs []event.Event) ([]byte, error)
}

// Config is how files are made.
type Config struct {
	FS         dfs.FS
	Log        *slog.Logger
	NewEncoder func(t Target) (Encoder, error) // for each file

	InUsePrefix, InUseSuffix string
	Suffix                   string
	// Lines says that a file is made of lines, of which each is of use by itself: what an interrupted one has after its last line end is cut off.
	Lines bool

	RollInterval time.Duration // age of a file; 0: any
	RollSize     int64         // bytes of bodies; 0: any
	RollCount    int64         // events; 0: any
	Idle         time.Duration // without events; 0: any
	MaxOpen      int           // files; the one that was used longest ago is closed

	// A file that could not be closed is tried again every so often, and given up
	// after so many tries. Its events are safe by then; it keeps its name.
	Retry time.Duration // 0: one try
	Tries int

	Now func() time.Time
	// Counters, as Flume names them.
	Created, Closed, Failed *atomic.Int64
}

// Set is the buckets of one sink. It is for one goroutine.
type Set struct {
	cfg     Config
	open    map[Target]*bucket
	last    *bucket // what the last events went to
	closing []*ending
	left    leftovers
	buf     []byte
}

// New makes a set without buckets.
func New(cfg Config) *Set {
	s := &Set{cfg: cfg, open: map[Target]*bucket{}}
	s.left.cfg, s.left.before = &s.cfg, cfg.Now().UnixMilli()
	s.left.ctx, s.left.cancel = context.WithCancel(context.Background())
	return s
}

// bucket is a target with an open file.
type bucket struct {
	Target
	counter int64
	enc     Encoder
	file    dfs.File // nil: the next event opens one
	stem    string   // its last name, with the directory, without the suffix
	temp    string   // its name while it is written

	events, bytes int64
	flushed       bool // something in it was delivered
	opened, used  time.Time
}

// ending is a file that could not be closed or renamed yet.
type ending struct {
	temp, stem string
	file       dfs.File // nil: it has to be recovered
	recovered  bool     // only its name is left
	remove     bool     // nothing in it was delivered
	renames    int      // names that were taken
	tries      int
	waits      int // times that it was busy
	next       time.Time
}

// Write writes events of one target and flushes them. After an error some of
// them may be in a file, and all belong into another one.
func (s *Set) Write(t Target, evs []event.Event) error {
	if len(evs) == 0 {
		return nil
	}
	b := s.last
	if b == nil || b.Target != t {
		if b = s.open[t]; b == nil {
			if s.cfg.MaxOpen > 0 && len(s.open) >= s.cfg.MaxOpen {
				s.closeOldest()
			}
			b = &bucket{Target: t, counter: s.cfg.Now().UnixMilli()}
			s.open[t] = b
		}
		s.last = b
	}
	b.used = s.cfg.Now()
	err := s.write(b, evs)
	if err == nil {
		if err = b.file.Flush(); err == nil {
			b.flushed = true
			return nil
		}
		err = fmt.Errorf("flush %s: %w", b.temp, err)
	}
	s.cfg.Failed.Add(1)
	s.giveUp(b)
	return err
}

// Pieces of a batch that are encoded at a time.
const maxPiece = 1 << 20

func (s *Set) write(b *bucket, evs []event.Event) error {
	for len(evs) > 0 {
		if b.file != nil && s.full(b) {
			// Before it counts as one that only has to be closed.
			if err := b.file.Flush(); err != nil {
				return fmt.Errorf("flush %s: %w", b.temp, err)
			}
			b.flushed = true
			s.end(b)
		}
		if b.file == nil {
			if err := s.create(b); err != nil {
				return err
			}
		}
		n, size := 0, 0
		for n < len(evs) && (n == 0 || size < maxPiece && !s.full(b)) {
			size += len(evs[n].Body)
			b.bytes += int64(len(evs[n].Body))
			b.events++
			n++
		}
		var err error
		if s.buf, err = b.enc.AppendEvents(s.buf[:0], evs[:n]); err != nil {
			return fmt.Errorf("serialize events: %w", err)
		}
		if _, err := b.file.Write(s.buf); err != nil {
			return fmt.Errorf("write to %s: %w", b.temp, err)
		}
		if cap(s.buf) > 8*maxPiece { // after some huge event
			s.buf = nil
		}
		evs = evs[n:]
	}
	return nil
}

func (s *Set) full(b *bucket) bool {
	return s.cfg.RollCount > 0 && b.events >= s.cfg.RollCount || s.cfg.RollSize > 0 && b.bytes >= s.cfg.RollSize
}

// maxTaken is how many names in a row may be somebody else's. A directory that is a file is said to exist, whatever the name in it.
const maxTaken = 1000

// create opens the next file of a bucket.
func (s *Set) create(b *bucket) error {
	enc, err := s.cfg.NewEncoder(b.Target)
	if err != nil {
		return err
	}
	header, err := enc.AppendHeader(s.buf[:0])
	if err != nil {
		return fmt.Errorf("serialize the head of a file: %w", err)
	}
	for taken := 0; ; taken++ {
		b.counter++
		b.stem = path.Join(b.Dir, b.Prefix+"."+strconv.FormatInt(b.counter, 10))
		dir, base := path.Split(b.stem)
		b.temp = dir + s.cfg.InUsePrefix + base + s.cfg.Suffix + s.cfg.InUseSuffix
		f, err := s.cfg.FS.Create(b.temp)
		if errors.Is(err, fs.ErrExist) && taken < maxTaken {
			continue // somebody else counts as well
		}
		if err != nil {
			return fmt.Errorf("open %s: %w", b.temp, err)
		}
		b.file, b.enc = f, enc
		b.events, b.bytes, b.flushed, b.opened = 0, 0, false, s.cfg.Now()
		s.cfg.Created.Add(1)
		if len(header) > 0 {
			if _, err := f.Write(header); err != nil {
				return fmt.Errorf("write to %s: %w", b.temp, err)
			}
		}
		return nil
	}
}

// giveUp ends a file after an error. What was flushed before is in it, so it gets its last name, too. One in which nothing was
// flushed goes: where each try ends so (over a quota, say) there would be one more each time.
func (s *Set) giveUp(b *bucket) {
	if b.file == nil {
		return
	}
	b.file.Abort()
	s.closing = append(s.closing, &ending{temp: b.temp, stem: b.stem, remove: !b.flushed, next: s.cfg.Now()})
	b.file = nil
}

// end closes a file. Its events have been flushed, or are flushed by that.
func (s *Set) end(b *bucket) {
	e := &ending{temp: b.temp, stem: b.stem, file: b.file}
	b.file = nil
	s.tryEnd(e)
}

// maxBusy is the longest pause before a file that is busy is looked at again.
const maxBusy = 10 * time.Second

// tryEnd closes and renames a file, now or later.
func (s *Set) tryEnd(e *ending) {
	err := s.finish(e)
	if err == nil {
		s.cfg.Closed.Add(1)
		return
	}
	pause := s.cfg.Retry
	if errors.Is(err, dfs.ErrBusy) {
		pause = min(maxBusy, 250*time.Millisecond<<min(e.waits, 10))
		e.waits++
	} else {
		e.tries++
		s.cfg.Failed.Add(1)
		if s.cfg.Retry <= 0 || s.cfg.Tries > 0 && e.tries >= s.cfg.Tries {
			s.cfg.Log.Error("a file could not be closed and keeps its temporary name; its events are in it", "file", e.temp, "tries", e.tries, "err", err)
			return
		}
		s.cfg.Log.Warn("a file could not be closed; it is tried again", "file", e.temp, "in", pause, "err", err)
	}
	e.next = s.cfg.Now().Add(pause)
	s.closing = append(s.closing, e)
}

func (s *Set) finish(e *ending) error {
	if e.remove {
		if err := s.cfg.FS.Remove(e.temp); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if f := e.file; f != nil {
		e.file = nil
		if err := f.Close(); err != nil {
			f.Abort()
			return fmt.Errorf("close: %w", err)
		}
		e.recovered = true
	}
	if !e.recovered {
		if err := s.cfg.FS.Recover(e.temp); errors.Is(err, fs.ErrNotExist) {
			return nil // somebody has renamed or removed it
		} else if err != nil {
			return err
		}
		if s.cfg.Lines {
			if err := s.cfg.FS.Trim(e.temp); err != nil {
				return err
			}
		}
		e.recovered = true
	}
	for {
		name := e.stem + s.cfg.Suffix
		if e.renames > 0 {
			name = e.stem + "-" + strconv.Itoa(e.renames) + s.cfg.Suffix
		}
		err := s.cfg.FS.Rename(e.temp, name)
		switch {
		case errors.Is(err, fs.ErrExist) && e.renames < maxTaken: // of another agent that writes to the directory
			e.renames++
		case errors.Is(err, fs.ErrNotExist): // renamed by a try before whose answer was lost, or removed
			return nil
		default:
			return err
		}
	}
}

// closeOldest makes room for another bucket. Those without a file go first: what cannot be written closes no file that can.
func (s *Set) closeOldest() {
	var old *bucket
	for _, b := range s.open {
		if old == nil || b.file == nil && old.file != nil || (b.file == nil) == (old.file == nil) && b.used.Before(old.used) {
			old = b
		}
	}
	s.drop(old)
}

// drop closes a bucket.
func (s *Set) drop(b *bucket) {
	if b.file != nil {
		s.end(b)
	}
	delete(s.open, b.Target)
	if s.last == b {
		s.last = nil
	}
}

// Tick does what is due without events: it is to be called often.
func (s *Set) Tick() {
	now := s.cfg.Now()
	for _, names := range s.left.take() {
		s.cfg.Log.Info("a file that a process before this one left behind is closed", "file", names[0])
		s.closing = append(s.closing, &ending{temp: names[0], stem: names[1], next: now})
	}
	for _, b := range s.open {
		if b.file != nil {
			if err := b.file.Err(); err != nil {
				s.cfg.Log.Warn("a file that was open broke; it is closed, and the next event begins another", "file", b.temp, "err", err)
				s.cfg.Failed.Add(1)
				s.giveUp(b)
			}
		}
		switch {
		case s.cfg.RollInterval > 0 && b.file != nil && now.Sub(b.opened) >= s.cfg.RollInterval:
			s.drop(b)
		case s.cfg.Idle > 0 && now.Sub(b.used) >= s.cfg.Idle:
			s.drop(b)
		}
	}
	due := s.closing
	s.closing = nil
	for _, e := range due {
		if now.Before(e.next) {
			s.closing = append(s.closing, e)
			continue
		}
		s.tryEnd(e)
	}
}

// maxStopPause is the longest pause between two tries to close the last files.
const maxStopPause = 2 * time.Second

// Stop closes all files. Those that are being recovered are waited for until
// ctx ends.
func (s *Set) Stop(ctx context.Context) error {
	s.left.stop()
	for _, b := range s.open {
		s.drop(b)
	}
	for pause := 100 * time.Millisecond; len(s.closing) > 0; pause = min(2*pause, maxStopPause) {
		for _, e := range s.closing {
			e.next = time.Time{}
		}
		s.Tick()
		if len(s.closing) == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d files keep their temporary names, such as %s: the next start looks for them", len(s.closing), s.closing[0].temp)
		case <-time.After(pause):
		}
	}
	return nil
}
