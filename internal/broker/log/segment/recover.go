package segment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/record"
	"github.com/sluice-data/sluice/internal/seglog"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
)

// Open recovers the directory's log. After a clean shutdown nothing is scanned; otherwise the segments above the
// recovery point are, usually the last one. A torn end is cut off. Damage that is not a torn end is a
// *seglog.CorruptionError with file and position, unless o.Repair is set.
func Open(ctx context.Context, o Options) (*Log, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, fmt.Errorf("open log %s: %w", o.Dir, err)
	}
	l := &Log{fs: o.FS, dir: o.Dir, cfg: &o.Config, logger: cmp.Or(o.Logger, slog.Default()), synced: o.Synced}
	if l.fs == nil {
		l.fs = vfs.OS{}
	}
	if err := l.open(ctx, o.Repair); err != nil {
		for _, s := range l.segs {
			_ = s.file.Release() // the first error is the one that tells
		}
		if errors.As(err, new(*seglog.CorruptionError)) {
			err = fmt.Errorf("%w: %w (restore the file from a copy, or open the log with repair, which cuts it off there)", log.ErrStorage, err)
		}
		return nil, fmt.Errorf("open log %s: %w", o.Dir, err)
	}
	return l, nil
}

func (l *Log) open(ctx context.Context, repair bool) error {
	if err := l.fs.MkdirAll(l.dir); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if err := seglog.Clean(l.fs, l.dir); err != nil {
		return err
	}
	if err := l.finishMerges(); err != nil {
		return err
	}
	bases, err := seglog.List(l.fs, l.dir, logExt)
	if err != nil {
		return err
	}
	if err := l.dropStray(bases); err != nil {
		return err
	}
	if err := l.readSmallFiles(); err != nil {
		return err
	}
	for _, base := range bases {
		f, err := seglog.Open(l.fs, seglog.Name(l.dir, base, logExt))
		if err != nil {
			return err
		}
		s := &segment{base: base, file: f, size: f.Size(), next: base, maxTS: -1, firstTS: -1}
		l.segs = append(l.segs, s)
		st, err := f.Stat()
		if err != nil {
			return fmt.Errorf("stat segment: %w", err)
		}
		s.created = st.ModTime().UnixMilli()
		s.changed, s.touched = s.created, s.created
		if s.size > maxPosition+1 {
			return &seglog.CorruptionError{Path: f.Path(), Err: errors.New("file is larger than a segment can be")}
		}
	}
	for i := 0; i < len(l.segs); i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := l.openSegment(i, repair); err != nil {
			return err
		}
	}
	if err := l.begin(); err != nil {
		return err
	}
	return l.loadCleaned()
}

// dropStray removes indexes without a log.
func (l *Log) dropStray(bases []int64) error {
	have := make(map[int64]bool, len(bases))
	for _, b := range bases {
		have[b] = true
	}
	for _, ext := range []string{indexExt, timeExt} {
		found, err := seglog.List(l.fs, l.dir, ext)
		if err != nil {
			return err
		}
		for _, b := range found {
			if !have[b] {
				if err := l.fs.Remove(seglog.Name(l.dir, b, ext)); err != nil {
					return fmt.Errorf("remove index without a segment: %w", err)
				}
			}
		}
	}
	return nil
}

func (l *Log) readSmallFiles() error {
	b, err := readSmall(l.fs, l.dir, stateName)
	if err != nil {
		return fmt.Errorf("read log state: %w", err)
	}
	used := b != nil // the epochs are written before the state
	if used {
		if l.state, err = decodeState(b); err != nil {
			// It was written atomically, so it was damaged later. Everything in it but the log start can be found by a scan.
			l.logger.Warn("log state is unreadable; scanning all segments", "dir", l.dir, "err", err)
			l.state = state{}
		}
	}
	if b, err = readSmall(l.fs, l.dir, epochsName); err != nil {
		return fmt.Errorf("read leader epochs: %w", err)
	}
	if b != nil || used {
		if l.epochs, err = decodeEpochs(b); err != nil {
			l.logger.Warn("leader epochs are unreadable; scanning all segments", "dir", l.dir, "err", err)
			l.epochs, l.state.recovery, l.state.clean = nil, 0, false
		} else {
			l.savedEpochs, l.epochsSaved = l.epochs, true
		}
	}
	return nil
}

// openSegment brings segment i into the state it had. Segments before it are done.
func (l *Log) openSegment(i int, repair bool) error {
	s := l.segs[i]
	last := i == len(l.segs)-1
	if last {
		if l.state.clean && l.openClean(s) {
			return nil
		}
		return l.scan(i, s.base, repair)
	}
	want := l.segs[i+1].base
	if s.base >= l.state.recovery {
		return l.scan(i, want, repair)
	}
	s.fidx = &fileIndex{fs: l.fs, dir: l.dir, base: s.base, logSize: s.size}
	maxTS, next, err := s.fidx.tail()
	if err == nil && next == want {
		s.maxTS, s.next = maxTS, next
		s.file.OnClose(s.fidx.close)
		s.synced, s.indexed = true, true
		return nil
	}
	l.logger.Warn("rebuilding an index", "file", s.file.Path(), "why", cmp.Or(err, errors.New("it does not fit the next segment")))
	x, r, err := rebuild(s.file, s.base, s.size, int64(l.cfg.IndexInterval))
	if err == nil && r.next != want {
		err = &seglog.CorruptionError{Path: s.file.Path(), Offset: s.size,
			Err: fmt.Errorf("it ends at offset %d, the next segment begins at %d", r.next, want)}
	}
	if err != nil {
		if ce := (*seglog.CorruptionError)(nil); errors.As(err, &ce) && repair {
			return l.scan(i, want, repair)
		}
		return err
	}
	s.fidx, s.mem, s.maxTS, s.firstTS, s.next, s.synced = nil, x, r.maxTS, r.firstTS, want, true
	l.persistIndex(s)
	return nil
}

// openClean takes over the last segment after a clean shutdown, if marker and index fit the file.
func (l *Log) openClean(s *segment) bool {
	if s.size != l.state.cleanSize {
		l.logger.Warn("the log is not what its clean shutdown left; scanning it", "file", s.file.Path(),
			"size", s.size, "want", l.state.cleanSize)
		return false
	}
	x, maxTS, next, err := loadIndex(l.fs, l.dir, s.base, s.size)
	if err == nil && next != l.state.cleanEnd {
		err = fmt.Errorf("it ends at offset %d: want %d", next, l.state.cleanEnd)
	}
	if err == nil && s.size > 0 {
		w := walker{r: s.file, end: s.size, path: s.file.Path}
		defer w.free()
		var h record.Header
		if h, err = w.at(0); err == nil {
			s.firstTS = h.MaxTimestamp
		}
	}
	if err != nil {
		l.logger.Warn("scanning the last segment although the log was closed cleanly", "file", s.file.Path(), "why", err)
		return false
	}
	s.mem, s.maxTS, s.next = x, maxTS, next
	l.openedClean = true
	return true
}

// framing is the log's seglog.Framing: batches in a row, without gaps.
type framing struct {
	s        *segment
	interval int64
	epochs   epochs
}

func (*framing) HeaderSize() int { return record.HeaderSize }

func (*framing) FrameSize(b []byte) (int64, error) {
	if !record.IsV2(b) { // without making an error for every byte of a search
		return 0, record.ErrMagic
	}
	h, err := record.ParseHeader(b)
	return h.Size(), err
}

func (f *framing) Accept(pos int64, frame []byte) error {
	h, err := record.Check(frame)
	if err != nil {
		return err
	}
	if h.BaseOffset != f.s.next {
		return fmt.Errorf("%w: base offset is %d: want %d", record.ErrCorrupt, h.BaseOffset, f.s.next)
	}
	if h.LastOffset()-f.s.base > maxRelative {
		return fmt.Errorf("%w: last offset is %d, too far from the segment's", record.ErrCorrupt, h.LastOffset())
	}
	f.s.note(&h, pos, f.interval)
	f.s.verified.add(pos, pos+h.Size())
	f.epochs = f.epochs.add(h.LeaderEpoch, h.BaseOffset)
	return nil
}

// After wants a base offset that can follow.
func (f *framing) After(frame []byte) bool {
	h, err := record.Check(frame)
	return err == nil && h.BaseOffset > f.s.next && h.BaseOffset-f.s.base <= maxRelative
}

// Ends trusts a header with the offset that comes next: nothing but the log itself has put it there.
func (f *framing) Ends(header []byte) seglog.Ends {
	h, err := record.ParseHeader(header)
	if err != nil || h.BaseOffset != f.s.next {
		return nil
	}
	return record.NewEnds(header)
}

// scan verifies segment i batch by batch and cuts off a torn end. next is where the next segment begins.
func (l *Log) scan(i int, next int64, repair bool) error {
	s := l.segs[i]
	last := i == len(l.segs)-1
	size := s.size
	s.mem, s.fidx, s.size, s.next, s.maxTS, s.firstTS = &index{}, nil, 0, s.base, -1, -1
	s.synced, s.indexed = false, false
	fr := &framing{s: s, interval: int64(l.cfg.IndexInterval), epochs: l.epochs.truncate(s.base)}
	if n := len(fr.epochs); n < len(l.epochs) && s.base < l.state.recovery {
		fr.epochs = l.epochs // below the recovery point the file is the truth
	}
	res, err := seglog.Scan(s.file, s.file.Path(), 0, size, fr)
	damage := (*seglog.CorruptionError)(nil)
	switch {
	case errors.As(err, &damage):
		err = nil
	case err != nil:
		return err
	case !last && s.next != next && !(res.Unwritten || res.Torn == nil):
		damage = &seglog.CorruptionError{Path: s.file.Path(), Offset: res.End, Err: fmt.Errorf("%w (another segment follows)", res.Torn)}
	case !last && s.next != next && s.base < l.state.recovery:
		damage = &seglog.CorruptionError{Path: s.file.Path(), Offset: res.End,
			Err: fmt.Errorf("it ends at offset %d, the next segment begins at %d", s.next, next)}
	case !last && s.next == next && res.Torn != nil:
		damage = &seglog.CorruptionError{Path: s.file.Path(), Offset: res.End, Err: fmt.Errorf("%w behind the last record", res.Torn)}
	}
	if damage != nil && !repair {
		damage.Err = fmt.Errorf("offset %d: %w", s.next, damage.Err)
		return damage
	}
	l.epochs = fr.epochs
	switch {
	case res.End < size && res.Torn == nil:
		l.logger.Debug("cutting off the padding", "file", s.file.Path(), "at", res.End, "bytes", size-res.End)
	case res.End < size:
		l.logger.Warn("cutting off the end of the log", "file", s.file.Path(), "at", res.End, "bytes", size-res.End,
			"damage", damage != nil, "why", res.Torn)
	}
	if res.End < size {
		if err := s.file.Truncate(res.End); err != nil {
			return err
		}
		s.touched = time.Now().UnixMilli()
	}
	if err := s.file.Sync(); err != nil {
		return err
	}
	s.synced = true
	if last || s.next == next {
		return nil
	}
	// Later segments cannot stand behind the hole. They were never synced, or this one would have been before them.
	dead := l.segs[i+1:]
	l.segs = l.segs[: i+1 : i+1]
	for _, x := range dead {
		l.logger.Warn("dropping a segment behind the end of the log", "file", x.file.Path(), "bytes", x.size)
		err = errors.Join(err, l.unlink(x))
	}
	return err
}

// begin sets the marks from the segments and writes the state of a log in use.
func (l *Log) begin() error {
	if n := len(l.segs); n > 0 && l.active().next < l.state.start {
		// The log lost what was behind its start; offsets must not be given twice.
		l.logger.Warn("the log ends before its start; beginning anew there", "dir", l.dir, "end", l.active().next, "start", l.state.start)
		dead := l.segs
		l.segs, l.epochs = nil, nil
		var err error
		for _, s := range dead {
			err = errors.Join(err, l.unlink(s))
		}
		if err != nil {
			return err
		}
	}
	if len(l.segs) == 0 {
		f, err := seglog.Create(l.fs, seglog.Name(l.dir, l.state.start, logExt))
		if err != nil {
			return err
		}
		st, err := f.Stat()
		if err != nil {
			_ = f.Release()
			return fmt.Errorf("stat segment: %w", err)
		}
		l.segs = []*segment{{base: l.state.start, file: f, mem: &index{}, next: l.state.start, maxTS: -1, firstTS: -1,
			created: st.ModTime().UnixMilli()}}
		if err := errors.Join(l.fs.SyncDir(l.dir), l.fs.SyncDir(filepath.Dir(l.dir))); err != nil {
			return err
		}
	}
	for len(l.segs) > 1 && l.segs[0].next <= l.state.start { // a deletion was interrupted
		dead := l.segs[0]
		l.segs = l.segs[1:]
		if err := l.unlink(dead); err != nil {
			return err
		}
	}
	for _, s := range l.segs[:len(l.segs)-1] {
		l.persistIndex(s)
	}
	s := l.active()
	s.file.Pad()
	s.synced = false // a scan has synced it, and more will be written to it
	l.start = max(l.state.start, l.segs[0].base)
	l.end = mark{off: s.next, seg: s, pos: s.size}
	l.high = l.end
	l.sync.synced = s.next
	l.epochs = l.epochs.truncate(s.next)
	// A marker of a clean shutdown that was right may stay on disk: it says what the files looked like, and as soon as
	// anything is appended they look different.
	if l.state.start == l.start && l.state.recovery == s.base && l.state.clean == l.openedClean {
		return nil
	}
	return l.writeState(state{start: l.start, recovery: s.base})
}

// unlink takes a segment out of the directory and gives its reference back; readers that hold it go on. The caller has
// taken it out of the list.
func (l *Log) unlink(s *segment) (err error) {
	defer func() { err = errors.Join(err, s.file.Release()) }()
	if err := s.file.Delete(); err != nil {
		return err
	}
	for _, ext := range []string{indexExt, timeExt} {
		if err := l.fs.Remove(seglog.Name(l.dir, s.base, ext)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove index: %w", err)
		}
	}
	return nil
}

// DeleteTo implements log.Log.
func (l *Log) DeleteTo(ctx context.Context, off int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.passMu.Lock()
	defer l.passMu.Unlock()
	l.appendMu.Lock()
	if l.closed {
		l.appendMu.Unlock()
		return log.ErrClosed
	}
	l.mu.RLock()
	o := l.offsets()
	l.mu.RUnlock()
	var rollErr error
	switch s := l.active(); {
	case off > o.High || off < 0:
		l.appendMu.Unlock()
		return &log.OffsetOutOfRangeError{Offset: off, Start: o.Start, High: o.High}
	case off <= o.Start:
		l.appendMu.Unlock()
		return nil
	case off == o.End && s.size > 0:
		// Everything goes, the active segment too. On a full disk this may fail and the rest still goes.
		if rollErr = l.roll(s.created, "all deleted"); rollErr != nil {
			rollErr = l.writeError(rollErr)
			off = s.base
		}
	}
	boundary := false
	for _, s := range l.segs {
		boundary = boundary || s.base == off
	}
	l.appendMu.Unlock()

	st := state{start: max(o.Start, off), recovery: l.state.recovery}
	if !boundary {
		// Inside a segment only the state file knows the start, so it comes first. At a segment's edge the files tell, and
		// deleting first works on a full disk too.
		if err := l.writeState(st); err != nil {
			return fmt.Errorf("%w: move log start: %w", log.ErrStorage, err)
		}
	}
	l.appendMu.Lock()
	l.mu.Lock()
	n := 0
	for n < len(l.segs)-1 && l.segs[n].next <= off {
		n++
	}
	dead := l.segs[:n:n]
	l.segs = l.segs[n:]
	l.start = max(l.start, off)
	l.mu.Unlock()
	l.appendMu.Unlock()
	var err error
	for _, s := range dead {
		err = errors.Join(err, l.unlink(s))
	}
	if boundary && err == nil {
		if werr := l.writeState(st); werr != nil {
			l.logger.Warn("could not write the log start; the files tell it", "dir", l.dir, "err", werr)
		}
	}
	if err = errors.Join(rollErr, err); err != nil {
		return fmt.Errorf("delete to offset %d: %w", off, err)
	}
	return nil
}
