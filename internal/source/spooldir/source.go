package spooldir

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/charset"
	"github.com/sluice-data/sluice/internal/filelock"
	"github.com/sluice-data/sluice/internal/javapath"
	"github.com/sluice-data/sluice/internal/serde"
)

type source struct {
	cfg        *config
	deser      serde.DeserializerConfig
	env        component.Env
	dir        string // as Java would write it: the tracker file has paths below it
	trackerDir string
	tracker    tracker
	lock       *os.File // of trackerDir; nil: not started

	// The rest is Run's.
	progress map[string]progress // of files that are begun and not done
	listing  *listing
	skipped  map[string]failure
	bad      []string // set aside
	trackErr error
	reported string
	ends     [8 << 10]byte // scratch of identity
	polls    atomic.Int64  // times that nothing was left to read

	// For tests.
	now  func() time.Time
	open func(string) (*os.File, error)
}

// progress is how far a file was delivered.
type progress struct {
	serde.Position
	of    string // the file's identity; empty: not known
	begun bool   // in this run of the agent
}

// identity tells a file from another one that gets its name later: by the size
// and a checksum of both ends. A copy and a new time leave it what it was,
// which an inode and the time would not.
func (s *source) identity(f io.ReaderAt, size int64) (string, error) {
	buf := s.ends[:]
	head := min(size, int64(len(buf)/2))
	tail := min(size-head, int64(len(buf)/2))
	if _, err := f.ReadAt(buf[:head], 0); err != nil && err != io.EOF {
		return "", err
	}
	if _, err := f.ReadAt(buf[head:head+tail], size-tail); err != nil && err != io.EOF {
		return "", err
	}
	sum := crc32.Checksum(buf[:head+tail], castagnoli)
	return strconv.FormatInt(size, 10) + " " + strconv.FormatUint(uint64(sum), 16), nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// failure is a file or a directory that could not be read. It is tried again
// in the next pass.
type failure struct {
	err  error
	pass int64 // the number of polls before
}

func newSource(c *config, d serde.DeserializerConfig, env component.Env) *source {
	s := &source{cfg: c, deser: d, env: env, now: time.Now, open: os.Open,
		progress: map[string]progress{}, skipped: map[string]failure{}}
	s.dir = javapath.Clean(c.spoolDir)
	s.trackerDir = javapath.Clean(c.trackerDir)
	if !filepath.IsAbs(s.trackerDir) {
		s.trackerDir = s.dir + "/" + s.trackerDir
	}
	s.tracker.path = s.trackerDir + "/" + metaName
	return s
}

// BatchSize implements component.Sizer.
func (s *source) BatchSize() int { return s.cfg.batchSize }

// Retry implements component.Retrier with Flume's pauses.
func (s *source) Retry() component.RetryPolicy {
	return component.RetryPolicy{Initial: min(250*time.Millisecond, s.cfg.maxBackoff), Max: s.cfg.maxBackoff}
}

func (s *source) Start(context.Context) error {
	fi, err := os.Stat(s.dir)
	switch {
	case err != nil:
		return fmt.Errorf("open spool directory: %w", err)
	case !fi.IsDir():
		return fmt.Errorf("open spool directory: %s is not a directory", s.dir)
	}
	if s.cfg.tracking == "rename" {
		if err := s.canary(); err != nil {
			return fmt.Errorf("try to write, read and delete a file in the spool directory: %w (grant the right to write to %s, or set trackingPolicy = tracker_dir)", err, s.dir)
		}
	}
	if err := os.Mkdir(s.trackerDir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make tracker directory: %w", err)
	}
	if fi, err := os.Stat(s.trackerDir); err != nil {
		return fmt.Errorf("open tracker directory: %w", err)
	} else if !fi.IsDir() {
		return fmt.Errorf("open tracker directory: %s is not a directory", s.trackerDir)
	}
	if s.lock == nil { // not after a run that failed
		lock, err := filelock.Open(s.trackerDir + "/" + lockName)
		if errors.Is(err, filelock.ErrHeld) {
			return fmt.Errorf("tracker directory %s is in use by another source or another agent: let one read the spool directory, or give each a trackerDir and an includePattern of its own", s.trackerDir)
		}
		if err != nil {
			return fmt.Errorf("lock tracker directory: %w", err)
		}
		s.lock = lock
	}
	return s.resume()
}

// canaryName begins with a dot, unlike Flume's, so that a file that a kill left
// behind is not read as data: by this source or by Flume.
const canaryName = ".flume-spooldir-perm-check-*.canary"

// canary finds out before any event is read whether files can be renamed.
func (s *source) canary() error {
	left, err := filepath.Glob(filepath.Join(globEscape.Replace(s.dir), canaryName))
	if err != nil {
		return err
	}
	for _, name := range left {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	f, err := os.CreateTemp(s.dir, canaryName)
	if err != nil {
		return err
	}
	_, err = f.WriteString("testing flume file permissions\n")
	err = errors.Join(err, f.Close())
	if err == nil {
		_, err = os.ReadFile(f.Name())
	}
	return errors.Join(err, os.Remove(f.Name()))
}

// globEscape makes a pattern of a path that matches just the path.
var globEscape = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// resume reads the tracker file. One that cannot be understood costs repeated
// events and no more.
func (s *source) resume() error {
	e, err := readTracker(s.tracker.path)
	var pe *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := s.tracker.remove(); err != nil { // Flume deletes an empty one, too
			return err
		}
		return nil
	case errors.As(err, &pe):
		return fmt.Errorf("read tracker: %w", err)
	case err != nil:
		s.env.Log.Warn("the tracker file is damaged; the file it stands for will be read from its start", "tracker", s.tracker.path, "err", err)
		return nil
	}
	path := s.localPath(e.target)
	s.tracker.disk = path
	if _, known := s.progress[path]; !known {
		s.progress[path] = progress{Position: e.pos, of: e.of}
		s.env.Log.Info("going on with a file that was begun", "file", path, "offset", e.pos.Offset)
	}
	return nil
}

// localPath finds the path by which the source knows a file of the tracker,
// which may have been written under another spelling of the directory.
func (s *source) localPath(target string) string {
	if strings.HasPrefix(target, s.dir+"/") {
		return target
	}
	dir, err1 := filepath.Abs(s.dir)
	file, err2 := filepath.Abs(target)
	if rel, err := filepath.Rel(dir, file); errors.Join(err, err1, err2) == nil && filepath.IsLocal(rel) {
		return s.dir + "/" + rel
	}
	return target
}

// Stop gives the tracker directory back; what Run holds it lets go of itself.
func (s *source) Stop(context.Context) error {
	if s.lock == nil {
		return nil
	}
	err := s.lock.Close()
	s.lock = nil
	return err
}

func (s *source) Run(ctx context.Context, out component.Output) (err error) {
	defer func() {
		// The last batches may not have been due.
		if pos, begun := s.progress[s.tracker.target]; begun && pos.Position != (serde.Position{}) {
			err = errors.Join(err, s.tracker.store(s.tracker.target, pos.Position, s.now(), true))
		}
		s.tracker.close()
	}()
	for ctx.Err() == nil {
		path, err := s.next(s.now())
		if err != nil {
			return err
		}
		s.report()
		if path != "" {
			if err := s.consume(ctx, out, path); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
			continue
		}
		s.polls.Add(1)
		select {
		case <-ctx.Done():
		case <-time.After(s.cfg.pollDelay):
		}
	}
	return nil
}

// spooled is a file being read.
type spooled struct {
	path string
	abs  []byte // for the header
	base []byte
	f    *os.File
	fi   fs.FileInfo // when it was opened
	n    int64       // events delivered in this run
}

// consume delivers one file and retires it. An error is one that the source
// cannot go on from.
func (s *source) consume(ctx context.Context, out component.Output, path string) error {
	f, err := s.open(path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.skip(path, fmt.Errorf("open: %w", err))
		}
		return nil
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		s.skip(path, err)
		return nil
	}
	sp := &spooled{path: path, f: f, fi: fi, base: []byte(filepath.Base(path)), abs: []byte(path)}
	if !filepath.IsAbs(path) {
		abs, err := javapath.Abs(path)
		if err != nil {
			return err
		}
		sp.abs = []byte(abs)
	}
	switch err := s.deliver(ctx, out, sp); {
	case err == nil:
		err = s.retire(sp)
		if err != nil && isBad(err) {
			return s.setAside(sp, err)
		}
		return err
	case isBad(err):
		s.env.Metrics.Counter("EventReadFail").Add(1)
		return s.setAside(sp, err)
	case errors.Is(err, errRead):
		s.env.Metrics.Counter("EventReadFail").Add(1)
		s.skip(path, err)
		return nil
	default:
		return err
	}
}

// errRead marks errors of reading the file, which may pass.
var errRead = errors.New("read")

// changedError is a file that did not keep still.
type changedError struct{ what string }

func (e *changedError) Error() string { return e.what }

// isBad says whether the fault is in the file and will stay.
func isBad(err error) bool {
	var fe *serde.FormatError
	var ce *changedError
	return errors.As(err, &fe) || errors.As(err, &ce)
}

// deliver emits what is left of the file.
func (s *source) deliver(ctx context.Context, out component.Output, sp *spooled) error {
	from := s.progress[sp.path]
	of, err := s.identity(sp.f, sp.fi.Size())
	if err != nil {
		return readError(err)
	}
	switch {
	case from.of != "" && from.of != of:
		// The one that was begun is gone; the rest of another would be a part of it lost.
		s.env.Log.Warn("the file is not the one that was begun under its name; it is read from its start", "file", sp.path, "offset", from.Offset)
		from = progress{}
	case from.Offset > sp.fi.Size():
		s.env.Log.Warn("the file is shorter than what was read of it; it is read from its start", "file", sp.path, "offset", from.Offset, "size", sp.fi.Size())
		from = progress{}
	}
	d, err := s.deser.NewDeserializer(serde.Input{
		File: sp.f, Size: sp.fi.Size(), From: from.Position, Pool: out.Pool(),
		Charset: s.cfg.charset, Errors: policies[s.cfg.decodeErrors],
		Log: s.env.Log.With("file", sp.path), AtEnd: sp.unchanged,
	})
	if err != nil {
		return readError(err)
	}
	defer d.Close()
	s.tracker.begin(sp.path, of, s.now())
	for {
		if err := ctx.Err(); err != nil { // a stop does not wait for the end of a large file
			return err
		}
		b := out.NewBatch()
		readErr := d.Read(b, s.cfg.batchSize)
		if b.Len() == 0 && readErr == io.EOF && sp.n == 0 && !from.begun && from.Position == (serde.Position{}) {
			b.Append(nil) // Flume's event for an empty file
		}
		if n := b.Len(); n > 0 {
			if s.cfg.fileHeader {
				b.SetHeaderAll(s.cfg.fileKey, sp.abs, false)
			}
			if s.cfg.baseHeader {
				b.SetHeaderAll(s.cfg.baseKey, sp.base, false)
			}
			pos := d.Position()
			if err := out.Emit(ctx, b); err != nil {
				return fmt.Errorf("put events of %s: %w", sp.path, err)
			}
			sp.n += int64(n)
			s.advance(sp.path, of, pos)
		} else {
			b.Release()
		}
		if readErr == io.EOF {
			return nil
		}
		if readErr != nil {
			return readError(readErr)
		}
	}
}

var policies = map[string]charset.Policy{"FAIL": charset.Fail, "REPLACE": charset.Replace, "IGNORE": charset.Ignore}

func readError(err error) error {
	if isBad(err) {
		return err
	}
	return fmt.Errorf("%w: %w", errRead, err)
}

// advance notes that everything before pos is in the channels.
func (s *source) advance(path, of string, pos serde.Position) {
	s.progress[path] = progress{Position: pos, of: of, begun: true}
	now := s.now()
	if !s.tracker.due(pos, now) {
		return
	}
	err := s.tracker.store(path, pos, now, false)
	if err != nil && s.trackErr == nil {
		s.env.Log.Error("the position cannot be stored; a crash now would repeat events", "err", err)
	}
	if changed := (err == nil) != (s.trackErr == nil); changed {
		s.trackErr = err
		s.report()
	}
}

// unchanged compares the file with what it was when it was opened.
func (sp *spooled) unchanged() error {
	now, err := os.Stat(sp.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &changedError{"the file was removed while it was read"}
	case err != nil:
		return err
	case !os.SameFile(now, sp.fi):
		return &changedError{"the file was replaced by another one while it was read"}
	case now.Size() != sp.fi.Size():
		return &changedError{fmt.Sprintf("the file has changed size since it was opened, from %d to %d bytes", sp.fi.Size(), now.Size())}
	case !now.ModTime().Equal(sp.fi.ModTime()):
		return &changedError{fmt.Sprintf("the file was modified after it was opened (%s, then %s)", sp.fi.ModTime().Format(time.RFC3339Nano), now.ModTime().Format(time.RFC3339Nano))}
	}
	return nil
}

// retire marks a file that was delivered completely.
func (s *source) retire(sp *spooled) error {
	if err := sp.unchanged(); err != nil {
		return err
	}
	switch {
	case s.cfg.deletePolicy == "immediate":
		if err := os.Remove(sp.path); err != nil {
			return fmt.Errorf("delete spooled file: %w (it was delivered; grant the right to write to its directory)", err)
		}
	case s.cfg.tracking == "tracker_dir":
		mark := s.mark(sp.path, s.cfg.suffix)
		if err := createMark(mark, nil); errors.Is(err, fs.ErrExist) {
			return &changedError{fmt.Sprintf("the name was used before: %s is there already. All events were delivered", mark)}
		} else if err != nil {
			return fmt.Errorf("mark %s as delivered: %w", sp.path, err)
		}
	default:
		to := sp.path + s.cfg.suffix
		if _, err := os.Lstat(to); err == nil {
			return &changedError{fmt.Sprintf("the name was used before: %s is there already. All events were delivered", to)}
		}
		if err := os.Rename(sp.path, to); err != nil {
			return fmt.Errorf("rename spooled file: %w (it was delivered; grant the right to write to its directory)", err)
		}
	}
	s.env.Log.Info("file delivered", "file", sp.path, "events", sp.n)
	return s.forget(sp.path)
}

// mark is the path of a mark in the tracker directory.
func (s *source) mark(path, suffix string) string {
	return s.trackerDir + "/" + path[len(s.dir)+1:] + suffix
}

func createMark(mark string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(mark), 0o777); err != nil {
		return err
	}
	f, err := os.OpenFile(mark, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

func (s *source) forget(path string) error {
	delete(s.progress, path)
	delete(s.skipped, path)
	if s.tracker.disk == path {
		return s.tracker.remove()
	}
	return nil
}

// setAside takes a file that cannot be read to its end, or not be marked as
// delivered, out of the way.
func (s *source) setAside(sp *spooled, cause error) error {
	if s.cfg.onBadFile == "stop" {
		return component.Fatal(fmt.Errorf("bad file %s: %w; the source stops for good (onBadFile = stop): repair or remove the file, then restart the agent", sp.path, cause))
	}
	done := s.progress[sp.path].Offset
	reason := fmt.Appendf(nil, "%v\nfile: %s\ndelivered before it was set aside: everything up to byte %d of %d\ntime: %s\n",
		cause, sp.path, done, sp.fi.Size(), s.now().Format(time.RFC3339))
	if _, err := os.Lstat(sp.path); errors.Is(err, fs.ErrNotExist) {
		s.env.Log.Error("a file was removed while it was read", "file", sp.path, "delivered_bytes", done)
		return s.forget(sp.path)
	}
	where := ""
	if s.cfg.deletePolicy == "never" && s.cfg.tracking == "tracker_dir" {
		where = s.mark(sp.path, badSuffix)
		if err := createMark(where, reason); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("set %s aside: %w (what was wrong with it: %w)", sp.path, err, cause)
		}
	} else {
		where = freeName(sp.path)
		// The reason first: there is no file set aside without one.
		err := os.WriteFile(where+strings.TrimPrefix(reasonSuffix, badSuffix), reason, 0o666)
		if err == nil {
			err = os.Rename(sp.path, where)
		}
		if err != nil {
			return fmt.Errorf("set %s aside: %w (what was wrong with it: %w)", sp.path, err, cause)
		}
	}
	s.env.Log.Error("a bad file was set aside", "file", sp.path, "as", where, "delivered_bytes", done, "size", sp.fi.Size(), "err", cause)
	s.bad = append(s.bad, where)
	s.report()
	return s.forget(sp.path)
}

// freeName finds a name for a file to be set aside under.
func freeName(path string) string {
	name := path + badSuffix
	for i := 2; ; i++ {
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			return name
		}
		name = fmt.Sprintf("%s.%d%s", path, i, badSuffix)
	}
}

// skip passes a file over until the next poll.
func (s *source) skip(path string, err error) {
	if have, ok := s.skipped[path]; !ok || have.err.Error() != err.Error() {
		s.env.Log.Warn("a file cannot be read; it is tried again at every poll", "file", path, "err", err)
	}
	s.skipped[path] = failure{err, s.polls.Load()}
	s.report()
}

// report tells health what an operator should know, when it changes.
func (s *source) report() {
	var all []string
	if n := len(s.bad); n > 0 {
		bad := s.bad[:min(n, 3)]
		what := strings.Join(bad, ", ")
		if n > len(bad) {
			what += fmt.Sprintf(" and %d more", n-len(bad))
		}
		all = append(all, fmt.Sprintf("%d files were set aside: %s; the reasons are beside them. Repair them and move them back under a new name, or remove them", n, what))
	}
	if paths := slices.Sorted(maps.Keys(s.skipped)); len(paths) > 0 {
		all = append(all, fmt.Sprintf("%d files cannot be read, among them %s: %v", len(paths), paths[0], s.skipped[paths[0]].err))
	}
	if s.trackErr != nil {
		all = append(all, fmt.Sprintf("the position cannot be stored: %v", s.trackErr))
	}
	text := strings.Join(all, "; ")
	if text == s.reported {
		return
	}
	s.reported = text
	if text == "" {
		s.env.Health(nil)
		return
	}
	s.env.Health(errors.New(text))
}
