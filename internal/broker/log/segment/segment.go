// Package segment keeps a partition as append-only segment files in a directory: Kafka's record batches as they came,
// with sparse indexes that can be rebuilt from them. docs/segment-log.md gives the format byte by byte.
//
// Locks, in the order in which they may be taken: compactMu (one compaction at a time), passMu (syncs, deletions, the state file), appendMu (one append at a
// time), mu (what readers see; never held during I/O), sync.mu.
package segment

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/record"
	"github.com/sluice-data/sluice/internal/seglog"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
)

const logExt = ".log"

// Options opens a Log.
type Options struct {
	FS     vfs.FS // nil: the operating system's
	Dir    string // the partition's directory, "topic-partition"; made if absent
	Config log.TopicConfig
	Logger *slog.Logger // nil: slog.Default
	// Repair cuts a damaged log off at the first damaged batch instead of refusing to open it. What is cut is lost.
	Repair bool
	// Synced, if set, is told how long each sync of a segment took.
	Synced func(time.Duration)
}

// Log is a log.Log over segment files.
type Log struct {
	fs     vfs.FS
	dir    string
	logger *slog.Logger
	synced func(time.Duration) // nil: nobody asks

	appendMu sync.Mutex
	batches  []batchRef // scratch
	unsynced int64      // records since the last sync that the append path asked for
	idleEnd  int64      // where the log ended when Trim was called last

	mu       sync.RWMutex
	cfg      *log.TopicConfig // replaced, never changed in place
	segs     []*segment       // ascending, never empty; copied on change, which takes appendMu and mu
	err      error            // sticky
	closed   bool
	start    int64
	high     mark
	end      mark
	epochs   epochs
	waiters  []*registration
	nrecent  uint
	recent   [64]recentBatch // the last batches, a ring: where consumers at the tail ask
	dirDirty atomic.Bool     // file names to be synced

	passMu      sync.Mutex
	state       state  // as on disk
	savedEpochs epochs // as on disk, if epochsSaved
	epochsSaved bool
	openedClean bool // set while opening only

	compactMu sync.Mutex // one compaction at a time; before passMu
	cleaned   cleaned    // under compactMu
	// passedOver says that the pass under way met a batch that it could not look into; toldOver are those that were logged.
	passedOver bool
	toldOver   map[batchPlace]bool
	unreadable map[int64]bool // bases of segments that stay as they are, because of a damaged header

	sync  syncState
	timer *time.Timer // flush.ms; under appendMu
	armed bool        // the timer runs; under appendMu
	wg    sync.WaitGroup
}

// mark is a place at the end of the log. bytes counts all bytes ever appended by this process, for the waiters.
type mark struct {
	off   int64
	bytes int64
	seg   *segment
	pos   int64 // in seg
}

type recentBatch struct {
	base  int64
	seg   *segment
	pos   int64
	bytes int64 // mark.bytes at its start
}

type batchRef struct {
	h   record.Header
	pos int64 // in the append
}

// segment is one file. What readers use is under Log.mu; a sealed segment changes no more but for its index's place.
type segment struct {
	base int64
	file *seglog.File

	mem     *index     // nil once the index files are written
	fidx    *fileIndex // nil until then
	size    int64      // as readers may see it
	next    int64
	maxTS   int64 // largest record timestamp, or -1
	firstTS int64 // largest timestamp of the first batch, or -1
	created int64 // milliseconds since 1970
	jitter  int64 // milliseconds that it is rolled before segment.ms
	changed int64 // time of the last append, likewise
	touched int64 // when this process last wrote to the file, likewise

	verified verified

	synced  bool // sealed and durable; under passMu
	indexed bool // sealed and index files written; under passMu
}

// view is what a reader keeps of a segment after it let go of the lock. It holds a reference to the file.
type view struct {
	seg     *segment
	base    int64
	file    *seglog.File
	find    searcher
	size    int64
	next    int64
	maxTS   int64
	firstTS int64
	// changed is the time of the last append by this process, or of the opening.
	changed time.Time
}

// view takes a reference; Log.mu is held, so the segment's own reference is still there.
func (s *segment) view() view {
	if !s.file.Acquire() {
		panic("segment: a listed segment has no reference")
	}
	v := view{seg: s, base: s.base, file: s.file, size: s.size, next: s.next, maxTS: s.maxTS, firstTS: s.firstTS, changed: time.UnixMilli(s.touched)}
	if s.mem != nil {
		v.find = memSearcher{s.mem.pos, s.mem.times}
	} else {
		v.find = s.fidx
	}
	return v
}

func (v view) release(logger *slog.Logger) {
	if err := v.file.Release(); err != nil {
		logger.Warn("release segment", "err", err)
	}
}

// note takes a batch that was written at pos into the segment's books.
func (s *segment) note(h *record.Header, pos, interval int64) {
	s.mem.note(s.base, h, pos, s.maxTS, interval)
	if pos == 0 {
		s.firstTS = h.MaxTimestamp
	}
	s.maxTS = max(s.maxTS, h.MaxTimestamp)
	s.next = h.LastOffset() + 1
	s.size = pos + h.Size()
}

func (l *Log) active() *segment { return l.segs[len(l.segs)-1] }

// Append implements log.Log.
func (l *Log) Append(ctx context.Context, b []byte, o log.AppendOpts) (log.Pending, error) {
	if err := ctx.Err(); err != nil {
		return log.Pending{}, err
	}
	l.appendMu.Lock()
	defer l.appendMu.Unlock()
	l.mu.RLock()
	err, closed, cfg, cur, end := l.err, l.closed, l.cfg, l.epochs, l.end
	l.mu.RUnlock()
	switch {
	case closed:
		return log.Pending{}, log.ErrClosed
	case err != nil:
		return log.Pending{}, err
	case o.Epoch < cur.last():
		return log.Pending{}, fmt.Errorf("%w: append with epoch %d, the log has %d", log.ErrFencedEpoch, o.Epoch, cur.last())
	}

	next, records, err := l.stamp(b, end.off, o.Epoch)
	if err != nil {
		return log.Pending{}, err
	}
	if why := l.full(cfg, int64(len(b)), next, o.AppendTime); why != "" {
		if err := l.roll(o.AppendTime, why); err != nil {
			return log.Pending{}, l.writeError(err)
		}
	}
	seg := l.active()
	pos, err := seg.file.Append(b)
	if err != nil {
		return log.Pending{}, l.writeError(err)
	}
	l.publish(seg, pos, int64(len(b)), next, &o, cfg)

	var d log.Durability
	l.unsynced += records
	switch {
	case cfg.SyncAcks:
		d = (*mustSync)(l)
		l.kick()
	case cfg.FlushMessages > 0 && l.unsynced >= cfg.FlushMessages:
		// As in Kafka the append that reaches the number waits for the sync.
		d = (*mustSync)(l)
		l.kick()
		l.unsynced = 0
	case cfg.FlushAge > 0:
		l.arm(cfg.FlushAge)
	}
	return log.NewPending(end.off, next-1, d), nil
}

// Trim implements log.Trimmer: tools that read a partition's files, Apache Kafka's among them, need not know about padding
// once it is not written any more.
func (l *Log) Trim() error {
	l.appendMu.Lock()
	defer l.appendMu.Unlock()
	l.mu.RLock()
	err, closed, end, s := l.err, l.closed, l.end.off, l.active()
	l.mu.RUnlock()
	if err != nil || closed {
		return nil // appends and Close say so
	}
	if end != l.idleEnd {
		l.idleEnd = end
		return nil
	}
	if err := l.trim(s); err != nil {
		return l.fail(err)
	}
	return nil
}

// trim cuts off the active segment's padding. appendMu is held.
func (l *Log) trim(s *segment) error {
	cut, err := s.file.Trim()
	if cut {
		l.mu.Lock()
		s.touched = time.Now().UnixMilli()
		l.mu.Unlock()
	}
	return err
}

// stamp gives the batches their offsets and epoch and notes where they lie.
func (l *Log) stamp(b []byte, off int64, epoch int32) (next, records int64, err error) {
	l.batches = l.batches[:0]
	if len(b) == 0 {
		return 0, 0, fmt.Errorf("%w: append without batches", log.ErrInvalidRecord)
	}
	for pos := int64(0); pos < int64(len(b)); {
		h, err := record.ParseHeader(b[pos:])
		if err != nil {
			return 0, 0, fmt.Errorf("%w: batch at byte %d of the append: %w", log.ErrCorruptMessage, pos, err)
		}
		if h.Size() > int64(len(b))-pos {
			return 0, 0, fmt.Errorf("%w: batch at byte %d of the append is cut short", log.ErrCorruptMessage, pos)
		}
		record.SetBaseOffset(b[pos:], off)
		record.SetLeaderEpoch(b[pos:], epoch)
		h.BaseOffset, h.LeaderEpoch = off, epoch
		l.batches = append(l.batches, batchRef{h, pos})
		records += int64(h.LastOffsetDelta) + 1
		off = h.LastOffset() + 1
		pos += h.Size()
	}
	return off, records, nil
}

const (
	maxPosition = 1<<31 - 1
	maxRelative = 1<<31 - 1
)

// full says why the active segment must be rolled before an append of n bytes that ends before offset next, or "".
func (l *Log) full(cfg *log.TopicConfig, n, next, now int64) string {
	s := l.active()
	if s.size == 0 {
		return ""
	}
	// As in Kafka age is measured in record time where records have one: from the first batch's to the new one's.
	age := now - s.created
	if ts := l.batches[0].h.MaxTimestamp; s.firstTS >= 0 && ts >= 0 {
		age = ts - s.firstTS
	}
	longest := cfg.SegmentAge
	if cfg.Compact && cfg.MaxCompactionLag > 0 { // the segment that is written is not compacted
		longest = min(longest, cfg.MaxCompactionLag)
	}
	switch {
	case s.size+n > min(cfg.SegmentBytes, maxPosition):
		return "size"
	case age > longest.Milliseconds()-s.jitter:
		return "age"
	case int64(len(s.mem.pos)+1)*posEntrySize > int64(cfg.IndexBytes):
		return "index"
	case next-1-s.base > maxRelative:
		return "offsets"
	}
	return ""
}

// roll seals the active segment and begins a new one at the log's end. appendMu is held.
func (l *Log) roll(now int64, why string) error {
	base := l.end.off
	if err := l.trim(l.active()); err != nil {
		return fmt.Errorf("roll segment: %w", err)
	}
	file, err := seglog.Create(l.fs, seglog.Name(l.dir, base, logExt))
	if err != nil {
		return fmt.Errorf("roll segment: %w", err)
	}
	file.Pad()
	s := &segment{base: base, file: file, mem: &index{}, next: base, maxTS: -1, firstTS: -1, created: now}
	if j := min(l.cfg.SegmentJitter, l.cfg.SegmentAge).Milliseconds(); j > 0 {
		s.jitter = rand.Int64N(j)
	}
	l.mu.Lock()
	l.segs = append(l.segs[:len(l.segs):len(l.segs)], s)
	l.mu.Unlock()
	l.dirDirty.Store(true)
	l.logger.Debug("rolled segment", "base", base, "why", why)
	l.kick() // the sealed segment is synced and indexed in the background
	return nil
}

// publish makes an append visible.
func (l *Log) publish(seg *segment, pos, n, next int64, o *log.AppendOpts, cfg *log.TopicConfig) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.batches {
		b := &l.batches[i]
		seg.note(&b.h, pos+b.pos, int64(cfg.IndexInterval))
		l.recent[l.nrecent%uint(len(l.recent))] = recentBatch{b.h.BaseOffset, seg, pos + b.pos, l.end.bytes + b.pos}
		l.nrecent++
	}
	seg.changed, seg.touched = o.AppendTime, time.Now().UnixMilli()
	seg.verified.add(pos, pos+n)
	l.epochs = l.epochs.add(o.Epoch, l.end.off)
	l.end = mark{off: next, bytes: l.end.bytes + n, seg: seg, pos: pos + n}
	if !cfg.SyncAcks {
		l.raise(l.end)
	}
}

// raise moves the high watermark and counts for the waiters. mu is held.
func (l *Log) raise(to mark) {
	n := to.bytes - l.high.bytes
	if n < 0 || to.off < l.high.off {
		return // a sync that began before the setting changed
	}
	l.high = to
	if n == 0 {
		return
	}
	for _, r := range l.waiters {
		if r.from < to.off {
			r.w.Add(n)
		}
	}
}

// writeError turns a failed write into the log's error. Only a full disk that could be undone lets the log go on.
func (l *Log) writeError(err error) error {
	if errors.Is(err, seglog.ErrNoSpace) && !errors.Is(err, seglog.ErrFailed) && l.active().file.Err() == nil {
		return fmt.Errorf("%w: %w (free space or shorten the retention; the append was undone)", log.ErrNoSpace, err)
	}
	return l.fail(err)
}

// fail makes the log refuse appends until it is opened again.
func (l *Log) fail(err error) error {
	l.mu.Lock()
	if l.err == nil {
		l.err = fmt.Errorf("%w: %w (check the disk, then restart the broker)", log.ErrStorage, err)
		l.logger.Error("log failed; it takes no more appends until it is opened again", "dir", l.dir, "err", err)
	}
	err = l.err
	l.wakeAll()
	l.mu.Unlock()
	l.sync.fail(err)
	return err
}

// Offsets implements log.Log.
func (l *Log) Offsets() log.Offsets {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.offsets()
}

func (l *Log) offsets() log.Offsets {
	return log.Offsets{Start: l.start, Stable: l.high.off, High: l.high.off, End: l.end.off, Epoch: l.epochs.last()}
}

// EpochEnd implements log.Log.
func (l *Log) EpochEnd(ep int32) (int32, int64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.epochs.end(ep, l.end.off)
}

// Reconfigure implements log.Log.
func (l *Log) Reconfigure(c log.TopicConfig) error {
	if err := c.Validate(); err != nil {
		return err
	}
	l.appendMu.Lock()
	defer l.appendMu.Unlock()
	if l.closed {
		return log.ErrClosed
	}
	l.mu.Lock()
	was := l.cfg.SyncAcks
	l.cfg = &c
	if was && !c.SyncAcks {
		l.raise(l.end)
	}
	l.mu.Unlock()
	if c.SyncAcks && !was {
		l.kick() // duplicates of what came before wait for a sync too
	}
	return nil
}

// registration is one waiter on this log.
type registration struct {
	w    *log.Waiter
	from int64
}

// Notify implements log.Log.
func (l *Log) Notify(w *log.Waiter, from int64, _ log.Isolation) (cancel func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || from < l.start {
		w.Wake() // the next read says why
		return func() {}
	}
	if from < l.high.off {
		if at, ok := l.bytesAt(from); ok {
			w.Add(l.high.bytes - at)
		} else {
			w.Wake() // long ago: plenty to read
		}
	}
	r := &registration{w, from}
	l.waiters = append(l.waiters, r)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for i, x := range l.waiters {
			if x == r {
				n := len(l.waiters) - 1
				l.waiters[i], l.waiters[n] = l.waiters[n], nil
				l.waiters = l.waiters[:n]
				return
			}
		}
	}
}

// bytesAt finds the count of bytes at an offset among the last batches. mu is held.
func (l *Log) bytesAt(off int64) (int64, bool) {
	if r := l.recentAt(off); r != nil {
		return r.bytes, true
	}
	return 0, false
}

// recentAt finds the batch that starts at off among the last ones. mu is held.
func (l *Log) recentAt(off int64) *recentBatch {
	n := uint(len(l.recent))
	for i := uint(1); i <= min(n, l.nrecent); i++ {
		r := &l.recent[(l.nrecent-i)%n]
		if r.base == off {
			return r
		}
		if r.base < off {
			return nil
		}
	}
	return nil
}

func (l *Log) wakeAll() {
	for _, r := range l.waiters {
		r.w.Wake()
	}
}

// Close implements log.Log.
func (l *Log) Close() error { return l.shut((*Log).finish) }

// Discard implements log.Log.
func (l *Log) Discard() error { return l.shut(func(*Log) error { return nil }) }

// finish leaves the files as a clean shutdown does. passMu is held, nothing appends any more.
func (l *Log) finish() error {
	if _, err := l.active().file.Trim(); err != nil {
		return err
	}
	if err := l.pass(); err != nil {
		return err
	}
	return l.markClean()
}

// shut ends the log. finish has the last word on its files, unless the log failed before.
func (l *Log) shut(finish func(*Log) error) error {
	l.appendMu.Lock()
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		l.appendMu.Unlock()
		l.wg.Wait()
		return nil
	}
	l.closed = true
	failed := l.err
	l.wakeAll()
	l.waiters = nil
	l.mu.Unlock()
	if l.timer != nil && l.timer.Stop() {
		l.wg.Done()
	}
	l.appendMu.Unlock()
	l.wg.Wait()

	l.passMu.Lock()
	defer l.passMu.Unlock()
	err := failed
	if err == nil {
		err = finish(l)
	}
	l.sync.fail(log.ErrClosed)
	for _, s := range l.segs {
		if rerr := s.file.Release(); rerr != nil && err == nil {
			err = rerr
		}
	}
	if err != nil {
		return fmt.Errorf("close log %s: %w", l.dir, err)
	}
	return nil
}

// markClean writes the last segment's index and the marker of a clean shutdown. passMu is held, nothing appends.
func (l *Log) markClean() error {
	s := l.active()
	st := state{start: l.start, recovery: s.base, clean: true, cleanEnd: l.end.off, cleanSize: s.size}
	if st == l.state {
		return nil // nothing happened since the last clean shutdown
	}
	if err := l.writeIndex(s, s.mem); err != nil {
		return err
	}
	return l.writeState(st)
}

var (
	_ log.Log     = (*Log)(nil)
	_ log.Trimmer = (*Log)(nil)
)
