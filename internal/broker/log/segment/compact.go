package segment

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/record"
)

// Compaction. A pass reads what is new in the sealed segments into a map from key to latest offset, and then goes through
// every sealed segment, up to where the map goes, for the records that the map has a later one for. A segment that has
// some is written anew without them; small neighbours become one file. A batch that loses all its records stays as a
// batch without records, and neighbours of that kind become one, so that in a file offsets follow one another without
// gaps, as recovery and reads expect. The new file takes the old one's name in one step. docs/segment-log.md, Compaction,
// has the details.

// defaultMaxKeys is some 60 MB of map.
const defaultMaxKeys = 1_000_000

var _ log.Compactor = (*Log)(nil)

// errUnreadable says that a segment was found to have a damaged header and was marked; it never leaves the package.
var errUnreadable = errors.New("segment cannot be read to its end")

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
	views, high, err := l.compactable(o)
	i := 0 // views before it were released
	defer func() {
		for _, v := range views[i:] {
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
	reached := l.cleaned.to
	for i < len(views) && views[i].base < end {
		group := l.group(views[i:], end)
		err = l.compactGroup(ctx, group, latest, o, &done)
		if errors.Is(err, errUnreadable) {
			continue // with a group that ends before it
		}
		if err != nil {
			err = fmt.Errorf("compact %s: %w", group[0].file.Path(), err)
			break
		}
		reached = max(reached, min(end, group[len(group)-1].next))
		for _, v := range group { // what was replaced gives its space back
			v.release(l.logger)
			i++
		}
	}
	// A pass that ended early went up to reached: below, every record that has a later one is gone.
	return done, errors.Join(err, l.saveCleaned(reached, o))
}

// compactable takes views of the sealed segments that are old enough, and the offset below which their records count.
func (l *Log) compactable(o log.CompactOptions) (views []view, high int64, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return nil, 0, log.ErrClosed
	}
	if l.err != nil {
		return nil, 0, nil // its failure was logged; nothing is written until it is opened again
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
		b.next = v.base
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
				l.giveUp(v)
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

// group takes the first segment, and those behind it that go into one file with it. As in Apache Kafka that is by the
// sizes they have before.
func (l *Log) group(views []view, end int64) []view {
	l.mu.RLock()
	cfg := l.cfg
	l.mu.RUnlock()
	first := &views[0]
	limit := min(cfg.SegmentBytes, maxPosition)
	size := first.size
	if l.unreadable[first.base] || first.next > end {
		return views[:1]
	}
	n := 1
	for ; n < len(views); n++ {
		v := &views[n]
		size += v.size
		entries := size/max(int64(cfg.IndexInterval), record.HeaderSize) + 1
		if v.next > end || l.unreadable[v.base] || size > limit || v.next-1-first.base > maxRelative || entries*posEntrySize > int64(cfg.IndexBytes) {
			break
		}
	}
	return views[:n]
}

// compactGroup makes one file of a group, if that changes anything, and puts it in the group's place.
func (l *Log) compactGroup(ctx context.Context, group []view, latest map[keyHash]int64, o log.CompactOptions, done *log.Compacted) (err error) {
	if l.unreadable[group[0].base] {
		l.passedOver = true
		return nil // it stays as it is
	}
	w := l.newRewriter(group)
	defer func() { err = errors.Join(err, w.close()) }()
	if len(group) > 1 {
		if err := w.begin(); err != nil {
			return err
		}
	}
	before, gone := int64(0), int64(0)
	for i := range group {
		before += group[i].size
		n, err := l.compactSegment(ctx, w, &group[i], latest, o)
		if err != nil {
			return err
		}
		gone += n
	}
	changed, err := w.end()
	if err != nil || !changed {
		return err
	}
	if changed, err = l.replace(group, w); err != nil || !changed {
		return err
	}
	done.Segments += len(group)
	done.Before += before
	done.After += w.out.size
	done.Records += gone
	return nil
}

// compactSegment gives w what is to be left of a segment, and returns how many records are not.
func (l *Log) compactSegment(ctx context.Context, w *rewriter, v *view, latest map[keyHash]int64, o log.CompactOptions) (gone int64, err error) {
	b := batchReader{next: v.base}
	for pos := int64(0); pos < v.size; {
		if err := ctx.Err(); err != nil {
			return gone, err
		}
		batch, h, bad, err := b.at(v, pos)
		if err != nil {
			return gone, err
		}
		at := pos
		pos += h.Size()
		switch {
		case bad != nil:
			l.passOver(v, at, bad)
			if h.Length == 0 {
				l.giveUp(v)
				return gone, errUnreadable
			}
			w.damaged = true
			err = w.keep(batch, &h)
		case h.Count == 0 && !o.KeepEmpty(&h):
			err = w.empty(batch, &h)
		case h.Control() || h.Count == 0:
			err = w.keep(batch, &h)
		default:
			var n int64
			n, err = l.compactBatch(w, &b, v, at, latest, o)
			gone += n
		}
		if err != nil {
			return gone, err
		}
	}
	if b.next != v.next {
		l.passOver(v, v.size, fmt.Errorf("the segment ends at offset %d: want %d", b.next, v.next))
		l.giveUp(v)
		return gone, errUnreadable
	}
	return gone, nil
}

// compactBatch gives w what is to be left of a batch with records, the one that b has read last.
func (l *Log) compactBatch(w *rewriter, b *batchReader, v *view, pos int64, latest map[keyHash]int64, o log.CompactOptions) (gone int64, err error) {
	op, err := b.open(b.in, o.MaxOpened)
	h := &op.Header
	if err != nil {
		l.passOver(v, pos, err)
		if *h, err = record.ParseHeader(b.in); err != nil {
			return 0, err
		}
		return 0, w.keep(b.in, h)
	}
	keep := func(r record.View) bool {
		off, ok := latest[hashKey(r.Key)]
		switch {
		case r.Key == nil:
			return true // from before the topic was compacted; there is nothing that could take its place
		case ok && off > r.Offset:
			return false
		case r.Value == nil && !l.passedOver:
			// A tombstone has done its work when every consumer had the time to see it.
			seen, ok := l.cleaned.seenAt(r.Offset)
			return !ok || o.Now.UnixMilli()-seen <= o.DeleteRetention.Milliseconds()
		}
		return true
	}
	err = op.Each(func(r record.View) bool {
		if !keep(r) {
			gone++
		}
		return true
	})
	switch {
	case err != nil:
		l.passOver(v, pos, err)
		return 0, w.keep(b.in, h)
	case gone == 0:
		return 0, w.keep(b.in, h)
	case gone == int64(h.Count) && !(h.Idempotent() && o.KeepEmpty(h)):
		return gone, w.empty(b.in, h)
	}
	if b.out, _, err = op.Rewrite(b.out[:0], record.Compression{Codec: h.Codec()}, keep); err != nil {
		return 0, err
	}
	return gone, w.change(b.out)
}

// giveUp marks a segment whose batches cannot be told apart.
func (l *Log) giveUp(v *view) {
	if l.unreadable == nil {
		l.unreadable = map[int64]bool{}
	}
	l.unreadable[v.base] = true
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

// batchReader reads whole batches, one after the other; its buffers are used again.
type batchReader struct {
	next            int64 // offset that the next batch begins at
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
	switch {
	case bad != nil:
	case h.Size() > v.size-pos:
		bad = fmt.Errorf("batch of %d bytes where %d are left", h.Size(), v.size-pos)
	case h.BaseOffset != b.next: // which no CRC covers
		bad = fmt.Errorf("base offset is %d: want %d", h.BaseOffset, b.next)
	case h.LastOffset() >= v.next:
		bad = fmt.Errorf("last offset is %d: want less than %d", h.LastOffset(), v.next)
	}
	if bad != nil {
		return nil, record.Header{}, bad, nil
	}
	if err := read(h.Size()); err != nil {
		return nil, h, nil, err
	}
	b.next = h.LastOffset() + 1
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
