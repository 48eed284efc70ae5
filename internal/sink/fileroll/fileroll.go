// Package fileroll is the sink that writes events to local files and starts a
// new one at intervals.
package fileroll

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/serde"
)

func init() {
	component.RegisterSink(component.Info{
		Name:    "file_roll",
		Classes: []string{"org.apache.flume.sink.RollingFileSink"},
		Doc:     "Writes events to files in a local directory, a new file every so many seconds.",
		Notes: "An existing file is never touched: where its name is taken the next number is used (Flume truncates it). " +
			"A batch counts as delivered when the operating system has its bytes; they are forced to the disk when the file is rolled and when the sink stops. " +
			"When a write fails (disk full) the file is cut back to the end of the last whole batch, so no torn or doubled line stays in it. " +
			"A file that is removed under the sink is replaced by a new one (Flume writes on, to nowhere). " +
			"As in Flume a file is opened at the start and at every roll, also when there are no events.",
	}, func() component.SinkConfig { return new(config) })
}

type config struct {
	dir         string
	interval    time.Duration
	batchSize   int
	serializer  component.Config
	pathManager string
	prefix      string
	extension   string
}

// Flume also takes the class names of its two path managers.
var pathManagers = map[string]string{
	"default":  "DEFAULT",
	"rolltime": "ROLLTIME",
	"org.apache.flume.formatter.output.defaultpathmanager$builder":  "DEFAULT",
	"org.apache.flume.formatter.output.rolltimepathmanager$builder": "ROLLTIME",
}

func (c *config) Fields() []component.Field {
	manager := component.Value("sink.pathManager", &c.pathManager, "enum", "DEFAULT", func(s string) (string, error) {
		if m := pathManagers[strings.ToLower(strings.TrimSpace(s))]; m != "" {
			return m, nil
		}
		return "", fmt.Errorf("%q is not one of DEFAULT, ROLLTIME (Java classes cannot be loaded)", s)
	}).Describe("How files are named: PREFIXmillis-n (DEFAULT: the time when the sink was configured) or PREFIXyyyyMMddHHmmss-n (ROLLTIME: the local time of the roll).")
	manager.Values = []string{"DEFAULT", "ROLLTIME"}
	return []component.Field{
		component.String("sink.directory", &c.dir, "").Require().AsType("path").Describe("The directory for the files. It must exist."),
		component.Duration("sink.rollInterval", &c.interval, time.Second, 30*time.Second).Describe("A new file every so many seconds; 0 or less: one file only."),
		component.Int("sink.batchSize", &c.batchSize, 100).In("events").Min(1).Describe("The most events taken in one transaction."),
		component.Part("sink.serializer", &c.serializer, component.KindSerializer, "sink.serializer.", "TEXT").Describe("How events are written."),
		manager,
		component.String("sink.pathManager.prefix", &c.prefix, "").Describe("What file names start with."),
		component.String("sink.pathManager.extension", &c.extension, "").Describe("What file names end with; a dot is put before it."),
	}
}

func (c *config) NewSink(env component.Env) (component.Sink, error) {
	if strings.ContainsRune(c.prefix, os.PathSeparator) {
		return nil, &component.KeyError{Key: "sink.pathManager.prefix", Err: fmt.Errorf("%q has a path separator", c.prefix), Hint: "name the directory in sink.directory"}
	}
	if _, err := serde.NewSerializer(c.serializer); err != nil {
		return nil, &component.KeyError{Key: "sink.serializer", Err: err}
	}
	return &sink{
		config: *c, log: env.Log, health: env.Health, fs: osFS{}, now: time.Now,
		names:   names{prefix: c.prefix, extension: c.extension, rollTime: c.pathManager == "ROLLTIME", made: time.Now()},
		created: env.Metrics.Counter("ConnectionCreatedCount"),
		closed:  env.Metrics.Counter("ConnectionClosedCount"),
		failed:  env.Metrics.Counter("ConnectionFailedCount"),
	}, nil
}

// file is the little that the sink needs of an open file.
type file interface {
	WriteAt(p []byte, off int64) (int, error)
	Truncate(size int64) error
	Sync() error
	Close() error
	Unlinked() bool
}

// fileSystem is what tests replace to make writes fail.
type fileSystem interface {
	Create(path string) (file, error) // fs.ErrExist if there is one
	Remove(path string) error
	SyncDir(path string) error
}

type osFS struct{}

func (osFS) Create(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, err
	}
	return &osFile{File: f}, nil
}

func (osFS) Remove(path string) error { return os.Remove(path) }

func (osFS) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// sink is used by one goroutine at a time.
type sink struct {
	config
	log     *slog.Logger
	health  func(error)
	fs      fileSystem
	now     func() time.Time
	names   names
	created *atomic.Int64
	closed  *atomic.Int64
	failed  *atomic.Int64

	started bool
	path    string
	file    file // nil: to be opened with the next call
	ser     serde.Serializer
	size    int64     // bytes that were committed
	end     int64     // bytes that may be in the file; beyond size they are of a failed batch
	opened  time.Time // when the interval began
	buf     []byte
	sick    bool // health was told of an error
}

// BatchSize implements component.Sizer.
func (s *sink) BatchSize() int { return s.batchSize }

func (s *sink) Start(context.Context) error {
	if s.started {
		return nil
	}
	st, err := os.Stat(s.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("use sink.directory: %w: make the directory first", err)
	case err != nil:
		return fmt.Errorf("use sink.directory: %w", err)
	case !st.IsDir():
		return fmt.Errorf("use sink.directory: %s is not a directory", s.dir)
	}
	if err := s.open(); err != nil {
		return err
	}
	s.started = true
	return nil
}

func (s *sink) Stop(context.Context) error {
	s.started = false
	if s.file == nil {
		return nil
	}
	return s.close()
}

// open starts a new file with the serializer's header.
func (s *sink) open() (err error) {
	defer func() {
		if err != nil {
			s.failed.Add(1)
		}
	}()
	ser, err := serde.NewSerializer(s.serializer)
	if err != nil {
		return err
	}
	header, err := ser.AppendHeader(s.buf[:0])
	if err != nil {
		return err
	}
	now := s.now()
	for {
		s.path = filepath.Join(s.dir, s.names.next(now))
		f, err := s.fs.Create(s.path)
		if errors.Is(err, fs.ErrExist) {
			continue // the next number: what others wrote stays
		}
		if err != nil {
			return fmt.Errorf("open a file of sink.directory: %w", err)
		}
		if _, err := f.WriteAt(header, 0); err != nil && len(header) > 0 {
			// Nothing is lost with this file; the next try makes it anew.
			err = errors.Join(err, f.Close(), s.fs.Remove(s.path))
			return fmt.Errorf("write the header of %s: %w", s.path, explain(err))
		}
		s.file, s.ser, s.opened = f, ser, now
		s.size, s.end = int64(len(header)), int64(len(header))
		s.created.Add(1)
		return nil
	}
}

// close makes the file durable and lets go of it. What was committed is with
// the operating system, so an error here is told and not a reason to write
// the events again.
func (s *sink) close() error {
	f := s.file
	s.file = nil
	var cut error
	if s.end > s.size {
		cut = f.Truncate(s.size)
	}
	err := errors.Join(cut, f.Sync(), f.Close(), s.fs.SyncDir(s.dir))
	if err != nil {
		s.failed.Add(1)
		err = fmt.Errorf("close %s: %w: its last events may be lost if this host loses power", s.path, err)
		s.unwell(err)
		return err
	}
	s.closed.Add(1)
	if s.sick {
		s.sick = false
		s.health(nil)
	}
	return nil
}

// unwell reports what an operator should know of until a file was closed well.
func (s *sink) unwell(err error) {
	s.sick = true
	s.health(err)
}

// roll opens a new file when the time has come, or the last try failed.
func (s *sink) roll() error {
	if !s.started {
		return errors.New("write events to files: the sink is not started")
	}
	if s.file != nil && s.interval > 0 && s.now().Sub(s.opened) >= s.interval {
		if err := s.close(); err != nil {
			s.log.Error("rolling to a new file", "error", err)
		}
	}
	if s.file != nil && s.file.Unlinked() {
		s.log.Warn("the file was removed while it was written to: going on with a new one", "file", s.path)
		if err := s.close(); err != nil {
			s.log.Error("closing the removed file", "error", err)
		}
	}
	if s.file == nil {
		return s.open()
	}
	return nil
}

// Idle implements component.Idler: files roll by time without events, too.
func (s *sink) Idle(context.Context) error { return s.roll() }

// maxWrite is when a batch is written in pieces, as events may be large.
const maxWrite = 1 << 20

// Write implements component.Sink.
func (s *sink) Write(_ context.Context, evs []event.Event) error {
	if err := s.roll(); err != nil {
		return err
	}
	if cap(s.buf) > 4*maxWrite { // after some huge event
		s.buf = nil
	}
	off := s.size
	for len(evs) > 0 {
		n, bytes := 0, 0
		for n < len(evs) && (n == 0 || bytes < maxWrite) {
			bytes += len(evs[n].Body)
			n++
		}
		buf, err := s.ser.AppendEvents(s.buf[:0], evs[:n])
		s.buf = buf
		if err != nil {
			return errors.Join(fmt.Errorf("serialize events: %w", err), s.cutBack())
		}
		w, err := s.file.WriteAt(buf, off)
		s.end = max(s.end, off+int64(w))
		if err != nil {
			s.failed.Add(1)
			return errors.Join(fmt.Errorf("write to %s: %w", s.path, explain(err)), s.cutBack())
		}
		off += int64(w)
		evs = evs[n:]
	}
	// All of it is in the file. That a tail which an earlier, larger batch
	// left behind cannot be removed yet is no reason to write it twice.
	s.size = off
	if err := s.cutBack(); err != nil {
		s.unwell(err)
	}
	return nil
}

// cutBack removes what a failed batch left in the file. If even that fails,
// the next batch overwrites the rest, and close tries again.
func (s *sink) cutBack() error {
	if s.end == s.size {
		return nil
	}
	if err := s.file.Truncate(s.size); err != nil {
		return fmt.Errorf("cut %s back to the last whole batch: %w", s.path, err)
	}
	s.end = s.size
	return nil
}

func explain(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: make room; the events wait in the channel until then", err)
	}
	return err
}
