package segment

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"sync"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/record"
	"github.com/sluice-data/sluice/internal/seglog"
)

// copyBelow is the size up to which a read is copied instead of handed out as file ranges: below it one pread costs less
// than what sendfile needs around it.
const copyBelow = 32 << 10

// Read implements log.Log.
func (l *Log) Read(q log.ReadReq) (log.ReadResult, error) {
	res := log.ReadResult{Next: q.Offset}
	le := newLease()
	left := int64(q.MaxBytes)
	minOne := q.MinOne
	off := q.Offset
	for first := true; ; first = false {
		l.mu.RLock()
		if l.closed {
			l.mu.RUnlock()
			le.release()
			return log.ReadResult{}, log.ErrClosed
		}
		if first {
			res.Offsets = l.offsets()
			if off < l.start || off > l.end.off {
				l.mu.RUnlock()
				le.release()
				return log.ReadResult{}, &log.OffsetOutOfRangeError{Offset: off, Start: res.Offsets.Start, High: res.Offsets.End}
			}
		} else if off < l.start {
			// Retention overtook this read between two segments; what there is so far is good.
			l.mu.RUnlock()
			break
		}
		limit := l.high
		if off >= limit.off {
			l.mu.RUnlock()
			break
		}
		v := l.segs[l.find(off)].view()
		start := int64(-1)
		if r := l.recentAt(off); r != nil && r.seg == v.seg {
			start = r.pos
		}
		l.mu.RUnlock()
		le.views = append(le.views, v)

		end := v.size
		if v.next > limit.off {
			end, v.next = limit.pos, limit.off
		}
		from, to, next, err := l.span(v, off, start, end, left, minOne)
		if err == nil && start < 0 && to > from { // the last batches are this process's own
			to, next, err = l.verify(&v, from, to, next)
		}
		if err != nil && to == from && len(le.sections) == 0 {
			le.release()
			return log.ReadResult{}, err
		} // otherwise what is before the damage is good, and the next read says it
		if to == from {
			break // the next batch does not fit
		}
		le.sections = append(le.sections, log.Section{File: v.file.OS(), Off: from, N: to - from})
		res.Size += to - from
		res.Next = next
		left -= to - from
		minOne = false
		off = next
		if left <= 0 || to < end {
			break
		}
	}
	if res.Size == 0 {
		le.release()
		return res, nil
	}
	if err := le.fill(res.Size); err != nil {
		le.release()
		return log.ReadResult{}, err
	}
	res.Sections = le.sections
	le.logger = l.logger
	res.SetRelease(le.free)
	return res, nil
}

// find returns the index of the segment that holds off. mu is held.
func (l *Log) find(off int64) int {
	i := sort.Search(len(l.segs), func(i int) bool { return l.segs[i].base > off })
	return max(i-1, 0)
}

// span finds the bytes of whole batches from the one that holds off on, at most limit of them unless one is due, and not
// beyond end, which is a batch's end. start is the position of off's batch if it is known, otherwise -1.
func (l *Log) span(v view, off, start, end, limit int64, one bool) (from, to, next int64, err error) {
	w := walker{r: v.file, end: end, path: v.file.Path}
	defer w.free()
	if start < 0 {
		if start, err = l.search(&v, func(s searcher) (int64, error) { return s.before(v.base, off) }); err != nil {
			return 0, 0, 0, err
		}
		for {
			h, err := w.at(start)
			if err != nil {
				return 0, 0, 0, err
			}
			if h.LastOffset() >= off {
				break
			}
			start += h.Size()
		}
	}
	if end-start <= limit {
		return start, end, v.next, nil
	}
	// The last batch that ends within the limit: jump close to it, then walk.
	to, next = start, off
	jump, err := l.search(&v, func(s searcher) (int64, error) { return s.beforePos(start + max(limit, 0)) })
	if err != nil {
		return 0, 0, 0, err
	}
	for pos := max(jump, start); ; {
		h, err := w.at(pos)
		if err != nil {
			return 0, 0, 0, err
		}
		if pos > start {
			to, next = pos, h.BaseOffset
		}
		pos += h.Size()
		if pos-start > limit {
			if to == start && one {
				return start, pos, h.LastOffset() + 1, nil
			}
			return start, to, next, nil
		}
		to, next = pos, h.LastOffset()+1
	}
}

// search asks the segment's index, and rebuilds it if it turns out to be unusable.
func (l *Log) search(v *view, f func(searcher) (int64, error)) (int64, error) {
	n, err := f(v.find)
	if !errors.Is(err, errBadIndex) {
		return n, err
	}
	l.logger.Warn("rebuilding an index", "file", v.file.Path(), "why", err)
	x, _, err := rebuild(v.file, v.base, v.size, l.interval())
	if err != nil {
		return 0, err
	}
	v.find = memSearcher{x.pos, x.times}
	l.mu.Lock()
	v.seg.mem = x // kept in memory from now on; other readers find it there
	l.mu.Unlock()
	return f(v.find)
}

func (l *Log) interval() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return int64(l.cfg.IndexInterval)
}

// rebuild makes a segment's index from its batch headers.
func rebuild(f *seglog.File, base, size, interval int64) (*index, *segment, error) {
	s := &segment{base: base, file: f, mem: &index{}, next: base, maxTS: -1, firstTS: -1}
	w := walker{r: f, end: size, path: f.Path}
	defer w.free()
	for pos := int64(0); pos < size; {
		h, err := w.at(pos)
		if err != nil {
			return nil, nil, err
		}
		if h.BaseOffset < s.next || h.LastOffset()-base > maxRelative {
			return nil, nil, &seglog.CorruptionError{Path: f.Path(), Offset: pos,
				Err: fmt.Errorf("base offset is %d: want %d or more", h.BaseOffset, s.next)}
		}
		s.note(&h, pos, interval)
		pos += h.Size()
	}
	return s.mem, s, nil
}

// walker reads batch headers one after the other with few system calls.
type walker struct {
	r    io.ReaderAt
	end  int64
	path func() string

	buf *[walkBuffer]byte
	pos int64 // position of buf
	n   int
}

const walkBuffer = 8 << 10

var walkBuffers = sync.Pool{New: func() any { return new([walkBuffer]byte) }}

func (w *walker) free() {
	if w.buf != nil {
		walkBuffers.Put(w.buf)
		w.buf = nil
	}
}

// at parses the header of the batch at pos, which must end by w.end.
func (w *walker) at(pos int64) (record.Header, error) {
	if pos < w.pos || pos+record.HeaderSize > w.pos+int64(w.n) {
		if w.buf == nil {
			w.buf = walkBuffers.Get().(*[walkBuffer]byte)
		}
		n, err := w.r.ReadAt(w.buf[:min(walkBuffer, max(w.end-pos, 0))], pos)
		w.pos, w.n = pos, n
		if n < record.HeaderSize && err != nil && err != io.EOF {
			return record.Header{}, fmt.Errorf("%w: read batch header: %w", log.ErrStorage, err)
		}
	}
	h, err := record.ParseHeader(w.buf[pos-w.pos : w.n])
	if err == nil && h.Size() > w.end-pos {
		err = fmt.Errorf("batch of %d bytes where %d are left", h.Size(), w.end-pos)
	}
	if err != nil {
		return h, fmt.Errorf("%w: %w", log.ErrStorage, &seglog.CorruptionError{Path: w.path(), Offset: pos, Err: err})
	}
	return h, nil
}

// lease is what a ReadResult holds. It is pooled with its slices, so that a read allocates next to nothing.
type lease struct {
	views    []view
	sections []log.Section
	buf      []byte
	free     func() // le.release, bound once
	logger   interface{ Warn(string, ...any) }
}

var leases sync.Pool

func newLease() *lease {
	if le, ok := leases.Get().(*lease); ok {
		return le
	}
	le := &lease{}
	le.free = le.release
	return le
}

func (le *lease) release() {
	for _, v := range le.views {
		if err := v.file.Release(); err != nil && le.logger != nil {
			le.logger.Warn("release segment", "err", err)
		}
	}
	clear(le.views)
	clear(le.sections)
	le.views, le.sections = le.views[:0], le.sections[:0]
	if cap(le.buf) > 1<<20 {
		le.buf = nil
	}
	leases.Put(le)
}

// fill reads the sections into memory where they are small or there is no file for sendfile.
func (le *lease) fill(size int64) error {
	if size >= copyBelow && le.sections[0].File != nil {
		return nil
	}
	if int64(cap(le.buf)) < size {
		le.buf = make([]byte, size)
	}
	buf := le.buf[:size]
	at := int64(0)
	for i, s := range le.sections {
		b := buf[at : at+s.N]
		if n, err := le.views[i].file.ReadAt(b, s.Off); n < len(b) {
			return fmt.Errorf("%w: read %s: %w", log.ErrStorage, le.views[i].file.Path(), err)
		}
		at += s.N
	}
	clear(le.sections)
	le.sections = append(le.sections[:0], log.Section{Bytes: buf})
	return nil
}

// OffsetFor implements log.Log.
func (l *Log) OffsetFor(ctx context.Context, ts int64) (log.Stamp, error) {
	if ts == log.MaxTimestamp {
		return l.maxStamp(ctx)
	}
	if ts < 0 {
		return log.NoStamp, fmt.Errorf("%w: no search for timestamp %d", log.ErrUnsupportedFormat, ts)
	}
	return l.firstAt(ctx, ts)
}

// snapshot takes views of all segments that may hold timestamps of ts or more, and the range that counts.
func (l *Log) snapshot(ts int64) (views []view, start int64, limit mark, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return nil, 0, mark{}, log.ErrClosed
	}
	for _, s := range l.segs {
		if s.maxTS >= ts && s.next > l.start && s.base < l.high.off {
			views = append(views, s.view())
		}
	}
	return views, l.start, l.high, nil
}

func (l *Log) firstAt(ctx context.Context, ts int64) (log.Stamp, error) {
	views, start, limit, err := l.snapshot(ts)
	if err != nil {
		return log.NoStamp, err
	}
	defer func() {
		for _, v := range views {
			v.release(l.logger)
		}
	}()
	for _, v := range views {
		off, err := l.search(&v, func(s searcher) (int64, error) { return s.notAfter(v.base, ts) })
		if err != nil {
			return log.NoStamp, err
		}
		late := func(t int64) bool { return t >= ts }
		st, err := l.scanTimes(ctx, v, max(off, start), limit, late, late)
		if err != nil || st.Offset >= 0 {
			return st, err
		}
	}
	return log.NoStamp, nil
}

// scanTimes returns the first record from offset off on whose timestamp is wanted. Only batches whose largest timestamp
// passes are opened.
func (l *Log) scanTimes(ctx context.Context, v view, off int64, limit mark, pass, want func(int64) bool) (log.Stamp, error) {
	end := v.size
	if v.next > limit.off {
		end = limit.pos
	}
	pos, err := l.search(&v, func(s searcher) (int64, error) { return s.before(v.base, off) })
	if err != nil {
		return log.NoStamp, err
	}
	w := walker{r: v.file, end: end, path: v.file.Path}
	defer w.free()
	for pos < end {
		if err := ctx.Err(); err != nil {
			return log.NoStamp, err
		}
		h, err := w.at(pos)
		if err != nil {
			return log.NoStamp, err
		}
		if h.LastOffset() >= off && pass(h.MaxTimestamp) {
			b := make([]byte, h.Size())
			if n, err := v.file.ReadAt(b, pos); n < len(b) {
				return log.NoStamp, fmt.Errorf("%w: read %s: %w", log.ErrStorage, v.file.Path(), err)
			}
			st := log.NoStamp
			err := record.Stamps(ctx, b, func(o, t int64) bool {
				if o >= off && want(t) {
					st = log.Stamp{Offset: o, Timestamp: t, Epoch: h.LeaderEpoch}
				}
				return st.Offset < 0
			})
			if ctx.Err() != nil {
				return log.NoStamp, ctx.Err()
			}
			if err != nil {
				// A batch that nobody can read, of a log from elsewhere or changed on the disk, must not hide the records behind it.
				l.logger.Warn("search by time passes over an unreadable batch", "file", v.file.Path(), "position", pos, "err", err)
			}
			if st.Offset >= 0 {
				return st, nil
			}
		}
		pos += h.Size()
	}
	return log.NoStamp, nil
}

// maxStamp finds the first record with the largest timestamp.
func (l *Log) maxStamp(ctx context.Context) (log.Stamp, error) {
	views, start, limit, err := l.snapshot(0)
	if err != nil {
		return log.NoStamp, err
	}
	maxTS := int64(-1)
	for _, v := range views {
		// A segment that is cut by the log start or the high watermark may owe its largest timestamp to what is cut off.
		if v.maxTS > maxTS && (v.base < start || v.next > limit.off) {
			t, err2 := l.maxWithin(ctx, v, start, limit)
			maxTS, err = max(maxTS, t), errors.Join(err, err2)
		} else {
			maxTS = max(maxTS, v.maxTS)
		}
		v.release(l.logger)
	}
	if err != nil || maxTS < 0 {
		return log.NoStamp, err
	}
	return l.firstAt(ctx, maxTS)
}

// maxWithin is the largest record timestamp of the part of a segment that can be read.
func (l *Log) maxWithin(ctx context.Context, v view, start int64, limit mark) (int64, error) {
	maxTS := int64(-1)
	_, err := l.scanTimes(ctx, v, max(start, v.base), limit,
		func(t int64) bool { return t > maxTS },
		func(t int64) bool { maxTS = max(maxTS, t); return false })
	return maxTS, err
}

// Extents implements log.Log.
func (l *Log) Extents() []log.Extent {
	l.mu.RLock()
	defer l.mu.RUnlock()
	out := make([]log.Extent, 0, len(l.segs))
	for _, s := range l.segs {
		e := log.Extent{Base: s.base, Next: s.next, Bytes: s.size, MaxTimestamp: s.maxTS}
		if e.MaxTimestamp < 0 {
			e.MaxTimestamp = s.changed
		}
		out = append(out, e)
	}
	return out
}
