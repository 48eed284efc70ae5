package segment

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/record"
	"github.com/sluice-data/sluice/internal/seglog"
)

// Compaction. A pass reads what is new in the sealed segments into a map from key to latest offset, and then writes every
// sealed segment anew, up to where the map goes, without the records that the map has a later one for. A batch that loses
// all its records stays as a batch without records, and neighbours of that kind become one, so that in a file offsets
// follow one another without gaps, as recovery and reads expect. The new file takes the old one's name in one step.
// docs/segment-log.md, Compaction, has the details.

// defaultMaxKeys is some 60 MB of map.
const defaultMaxKeys = 1_000_000

// compactedExt is a new file before it takes the segment's name; seglog.Clean removes one that a crash left.
const compactedExt = logExt + ".tmp"

var _ log.Compactor = (*Log)(nil)

// keyHash stands for a key. Two keys with the same one would be taken for one; with 128 bits that does not happen.
type keyHash [16]byte

func hashKey(key []byte) keyHash {
	sum := sha256.Sum256(key)
	return keyHash(sum[:16])
}

// Compact implements log.Compactor.
func (l *Log) Compact(ctx context.Context, o log.CompactOptions) (done log.Compacted, err error) {
	l.compactMu.Lock()
	defer l.compactMu.Unlock()
	if err := l.loadCleaned(); err != nil {
		return done, err
	}
	views, high, err := l.compactable(o)
	defer func() {
		for _, v := range views {
			v.release(l.logger)
		}
	}()
	if err != nil || len(views) == 0 || !l.worthIt(views, o) {
		return done, err
	}
	l.passedOver = false
	latest, end, err := l.readKeys(ctx, views, high, o)
	if err != nil {
		return done, fmt.Errorf("compact: %w", err)
	}
	st := l.cleaned.with(end)
	for i := range views {
		v := &views[i]
		if v.base >= end {
			break
		}
		if err := ctx.Err(); err != nil {
			return done, err
		}
		if err := l.compactSegment(v, latest, o, &done); err != nil {
			return done, fmt.Errorf("compact %s: %w", v.file.Path(), err)
		}
		if _, ok := st.seen[v.base]; !ok && v.next <= end {
			st.seen[v.base] = o.Now.UnixMilli()
		}
	}
	// A state that is older than the files only makes the next pass look at more than it must.
	return done, l.saveCleaned(st)
}

// compactable takes views of the sealed segments that are old enough, and the offset below which their records count.
func (l *Log) compactable(o log.CompactOptions) (views []view, high int64, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return nil, 0, log.ErrClosed
	}
	for _, s := range l.segs[:len(l.segs)-1] {
		last := s.maxTS
		if last < 0 {
			last = s.changed
		}
		if s.next > l.high.off || o.MinLag > 0 && o.Now.UnixMilli()-last < o.MinLag.Milliseconds() {
			break
		}
		if s.next > l.start {
			views = append(views, s.view())
		}
	}
	return views, l.high.off, nil
}

// worthIt applies the dirty ratio and the longest lag.
func (l *Log) worthIt(views []view, o log.CompactOptions) bool {
	var clean, dirty int64
	oldest := int64(-1)
	for i := range views {
		v := &views[i]
		if v.next <= l.cleaned.to {
			clean += v.size
			continue
		}
		dirty += v.size
		if oldest < 0 {
			oldest = cmp.Or(max(v.firstTS, 0), v.seg.created)
		}
	}
	if dirty == 0 {
		return false
	}
	if o.MaxLag > 0 && o.Now.UnixMilli()-oldest > o.MaxLag.Milliseconds() {
		return true
	}
	return float64(dirty) >= o.MinDirtyRatio*float64(clean+dirty)
}

// readKeys maps the keys of what was not compacted yet to their latest offsets, until there are as many as allowed. end is
// the offset up to which the map goes: the end of a batch.
func (l *Log) readKeys(ctx context.Context, views []view, high int64, o log.CompactOptions) (map[keyHash]int64, int64, error) {
	limit := cmp.Or(o.MaxKeys, defaultMaxKeys)
	latest := map[keyHash]int64{}
	end := l.cleaned.to
	var b batchReader
	for i := range views {
		v := &views[i]
		if v.next <= l.cleaned.to {
			continue
		}
		for pos := int64(0); pos < v.size; {
			if err := ctx.Err(); err != nil {
				return nil, 0, err
			}
			batch, h, bad, err := b.at(v, pos)
			if err != nil {
				return nil, 0, err
			}
			if bad != nil {
				l.passOver(v, pos, bad)
			}
			if h.Length == 0 { // not even where the next one begins is known
				break
			}
			at := pos
			pos += h.Size()
			if bad != nil || h.LastOffset() < l.cleaned.to || h.LastOffset() >= high {
				continue
			}
			if len(latest) >= limit && end > l.cleaned.to {
				return latest, end, nil
			}
			if !h.Control() && h.Count > 0 {
				op, err := b.open(batch, o.MaxOpened)
				if err == nil {
					err = op.Each(func(r record.View) bool {
						if r.Key != nil {
							latest[hashKey(r.Key)] = r.Offset
						}
						return true
					})
				}
				if err != nil {
					l.passOver(v, at, err)
				}
			}
			end = h.LastOffset() + 1
		}
		end = max(end, v.next)
	}
	return latest, end, nil
}

// compactSegment writes one segment anew if that makes it smaller, and puts the new file in its place.
func (l *Log) compactSegment(v *view, latest map[keyHash]int64, o log.CompactOptions, done *log.Compacted) (err error) {
	tmp := seglog.Name(l.dir, v.base, compactedExt)
	f, err := l.fs.Open(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	swapped := false
	defer func() {
		err = errors.Join(err, f.Close())
		if !swapped {
			err = errors.Join(err, l.fs.Remove(tmp))
		}
	}()
	// Tombstones have done their work when every consumer had the time to see them.
	seen, ok := l.cleaned.seen[v.base]
	oldEnough := ok && o.Now.UnixMilli()-seen > o.DeleteRetention.Milliseconds()
	w := compactWriter{f: f}
	var b batchReader
	gone := int64(0)
	damaged := false
	for pos := int64(0); pos < v.size; {
		batch, h, bad, err := b.at(v, pos)
		if err != nil {
			return err
		}
		if bad != nil {
			l.passOver(v, pos, bad)
			if h.Length == 0 {
				return nil // the segment stays as it is
			}
			w.batch(batch)
			damaged = true
			pos += h.Size()
			continue
		}
		at := pos
		pos += h.Size()
		if h.Count == 0 && !o.KeepEmpty(&h) {
			w.empty(&h)
			continue
		}
		if h.Control() || h.Count == 0 {
			w.batch(batch)
			continue
		}
		op, err := b.open(batch, o.MaxOpened)
		if err != nil {
			l.passOver(v, at, err)
			w.batch(batch)
			continue
		}
		keep := func(r record.View) bool {
			off, ok := latest[hashKey(r.Key)]
			switch {
			case r.Key == nil:
				return true // from before the topic was compacted; there is nothing that could take its place
			case ok && off > r.Offset:
				return false
			case r.Value == nil && oldEnough && !l.passedOver && r.Offset < l.cleaned.to:
				return false
			}
			return true
		}
		lost := 0
		if err := op.Each(func(r record.View) bool {
			if !keep(r) {
				lost++
			}
			return true
		}); err != nil || lost == 0 {
			w.batch(batch)
			continue
		}
		gone += int64(lost)
		if lost == int(h.Count) && !(h.Idempotent() && o.KeepEmpty(&h)) {
			w.empty(&h)
			continue
		}
		c := record.Compression{Codec: h.Codec()}
		if o.Compression != nil {
			if x, ok := o.Compression(h.Codec()); ok {
				c = x
			}
		}
		if b.out, _, err = op.Rewrite(b.out[:0], c, keep); err != nil {
			return err
		}
		w.batch(b.out)
	}
	if err := w.flush(); err != nil {
		return err
	}
	if w.size >= v.size {
		return nil
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if swapped, err = l.swap(v, tmp, damaged); err != nil || !swapped {
		return err
	}
	done.Segments++
	done.Before += v.size
	done.After += w.size
	done.Records += gone
	return nil
}

// swap gives the new file the segment's name. It is false when the segment was deleted meanwhile. Readers of the old file
// keep it.
func (l *Log) swap(v *view, tmp string, damaged bool) (bool, error) {
	l.passMu.Lock()
	defer l.passMu.Unlock()
	l.mu.RLock()
	at := l.position(v.seg)
	closed := l.closed
	l.mu.RUnlock()
	if at < 0 || closed {
		return false, nil
	}
	name := seglog.Name(l.dir, v.base, logExt)
	if err := l.fs.Rename(tmp, name); err != nil {
		return false, err
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return true, l.fail(err)
	}
	file, err := seglog.Open(l.fs, name)
	if err != nil {
		return true, l.fail(err)
	}
	x, s, err := rebuild(file, v.base, file.Size(), l.interval())
	if err == nil && s.next != v.next {
		err = fmt.Errorf("the new file ends at offset %d: want %d", s.next, v.next)
	}
	if err != nil {
		return true, errors.Join(l.fail(err), file.Release())
	}
	old := v.seg
	s.mem, s.created, s.changed, s.touched, s.synced = x, old.created, old.changed, time.Now().UnixMilli(), true
	if !damaged {
		s.verified.add(0, s.size)
	}
	l.appendMu.Lock() // appends read the list without mu
	l.mu.Lock()
	segs := append([]*segment(nil), l.segs...)
	at = l.position(old)
	if at >= 0 {
		segs[at] = s
		l.segs = segs
	}
	l.mu.Unlock()
	l.appendMu.Unlock()
	if at < 0 { // cannot be: deletions hold passMu
		return true, file.Release()
	}
	l.persistIndex(s)
	return true, old.file.Release()
}

// position is where a segment is in the list, or -1. mu is held.
func (l *Log) position(s *segment) int {
	for i, x := range l.segs {
		if x == s {
			return i
		}
	}
	return -1
}

// batchReader reads whole batches; its buffers are used again.
type batchReader struct {
	in, opened, out []byte
}

// at reads the batch at pos. bad says what is wrong with it: with its records, and then batch is what the file has, or with
// its header, and then h is empty and the batch after it cannot be found.
func (b *batchReader) at(v *view, pos int64) (batch []byte, h record.Header, bad, err error) {
	read := func(n int64) error {
		if int64(cap(b.in)) < n {
			b.in = make([]byte, max(n, 64<<10))
		}
		b.in = b.in[:n]
		if k, err := v.file.ReadAt(b.in, pos); int64(k) < n {
			return fmt.Errorf("%w: read %s: %w", log.ErrStorage, v.file.Path(), cmp.Or(err, io.ErrUnexpectedEOF))
		}
		return nil
	}
	if err := read(min(record.HeaderSize, v.size-pos)); err != nil {
		return nil, h, nil, err
	}
	h, bad = record.ParseHeader(b.in)
	if bad == nil && h.Size() > v.size-pos {
		bad = fmt.Errorf("batch of %d bytes where %d are left", h.Size(), v.size-pos)
	}
	if bad != nil {
		return nil, record.Header{}, bad, nil
	}
	if err := read(h.Size()); err != nil {
		return nil, h, nil, err
	}
	// What is written anew gets a right CRC; damage must not.
	_, bad = record.Check(b.in)
	return b.in, h, bad, nil
}

// passOver notes a batch that cannot be looked into: it stays, and so do the tombstones behind it, because it may hold what
// they delete.
func (l *Log) passOver(v *view, pos int64, why error) {
	l.passedOver = true
	at := batchPlace{v.base, pos}
	if l.toldOver[at] {
		return
	}
	if l.toldOver == nil || len(l.toldOver) >= 1000 {
		l.toldOver = map[batchPlace]bool{}
	}
	l.toldOver[at] = true
	l.logger.Error("compaction passes over a batch that cannot be read; it stays as it is", "file", v.file.Path(), "position", pos, "err", why)
}

// batchPlace is a segment's base and a position in it.
type batchPlace struct{ base, pos int64 }

func (b *batchReader) open(batch []byte, limit int64) (o record.Opened, err error) {
	o, b.opened, err = record.Open(batch, b.opened, limit)
	return o, err
}

// compactWriter writes batches in a row and makes one of neighbouring batches without records.
type compactWriter struct {
	f interface {
		WriteAt([]byte, int64) (int, error)
	}
	buf   []byte
	size  int64 // with buf
	void  []byte
	first int64 // offset that void begins at
	last  int64
	epoch int32
	err   error
}

const compactBuffer = 1 << 20

func (w *compactWriter) batch(b []byte) {
	w.endVoid()
	w.buf = append(w.buf, b...)
	w.size += int64(len(b))
	if len(w.buf) >= compactBuffer {
		w.write()
	}
}

// empty notes offsets without records.
func (w *compactWriter) empty(h *record.Header) {
	if w.void != nil && (w.epoch != h.LeaderEpoch || h.LastOffset()-w.first > maxRelative) {
		w.endVoid()
	}
	if w.void == nil {
		w.void = record.AppendEmpty(nil, record.Header{
			LeaderEpoch: h.LeaderEpoch, ProducerID: record.NoProducerID, ProducerEpoch: record.NoProducerEpoch, BaseSequence: record.NoSequence,
		})
		w.first, w.epoch = h.BaseOffset, h.LeaderEpoch
	}
	w.last = h.LastOffset()
}

func (w *compactWriter) endVoid() {
	if w.void == nil {
		return
	}
	b := w.void
	w.void = nil
	record.SetRange(b, w.first, w.last)
	w.batch(b)
}

func (w *compactWriter) write() {
	if w.err == nil && len(w.buf) > 0 {
		_, w.err = w.f.WriteAt(w.buf, w.size-int64(len(w.buf)))
	}
	w.buf = w.buf[:0]
}

func (w *compactWriter) flush() error {
	w.endVoid()
	w.write()
	return w.err
}
