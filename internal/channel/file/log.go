package file

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/seglog"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
)

// segmentExt is the ending of a segment's name, which is the number of its first frame in 20 digits.
const segmentExt = ".events"

// freeEvery is how long the free space of a disk is taken for known.
const freeEvery = time.Second

// segment is one file of the log.
type segment struct {
	segmentInfo
	file *seglog.File
	dir  int // index of its data directory
}

// mark is a place in the log, and the numbers that come next there.
type mark struct {
	seg   *segment
	off   int64
	seq   int64
	event int64
}

// dataDir is one of the data directories.
type dataDir struct {
	path string
	free int64     // as last asked, less what was written since
	when time.Time // of the last question
}

// wal is the write-ahead log: frames in segments, of which the last is written. Segments go to the data directories in turn.
type wal struct {
	fs        vfs.FS
	id        channelID
	maxSize   int64
	minFree   int64
	freeSpace func(dir string) (int64, error)
	lazy      bool       // nobody waits for a sync: a timer does it
	sealer    *sealer    // nil: puts are not encrypted
	opener    opener     // for takers
	bufs      *sync.Pool // *[]byte, for encrypted frames

	written atomic.Int64 // bytes since the last checkpoint

	mu   sync.Mutex
	dirs []dataDir
	segs []*segment // ascending; the last is written
	end  mark

	smu     sync.Mutex
	cond    *sync.Cond
	syncing bool
	visible mark  // takers may read up to here: it is synced, or nobody waits for that
	synced  int64 // frames below are synced
	err     error // sticky: the log is not written any more
}

// noSpaceError says that a disk is as good as full.
type noSpaceError struct {
	dir        string
	free, want int64
	err        error
}

func (e *noSpaceError) Error() string {
	if e.err != nil {
		return fmt.Sprintf("usable space exhausted in %s: %v", e.dir, e.err)
	}
	return fmt.Sprintf("usable space exhausted, only %d bytes remaining in %s, required %d bytes: free some, or lower minimumRequiredSpace", e.free, e.dir, e.want)
}

// Unwrap makes it a full channel, too: a source tries again, and has its other events wait.
func (e *noSpaceError) Unwrap() []error {
	if e.err == nil {
		return []error{component.ErrFull}
	}
	return []error{component.ErrFull, e.err}
}

// put writes a put of so many events, which are in b behind the room for the head.
func (l *wal) put(b []byte, events int) (mark, error) {
	if l.sealer == nil {
		return l.append(b, events, false, func(seq, ev int64) { seal(b, framePut, events, seq, ev) })
	}
	buf := l.bufs.Get().(*[]byte)
	defer l.bufs.Put(buf)
	frame := slices.Grow((*buf)[:0], l.frameSize(b))[:l.frameSize(b)]
	keep(buf, frame)
	return l.append(frame, events, false, func(seq, ev int64) { l.sealer.seal(frame, b, events, seq, ev) })
}

// frameSize is how long the frame of a put gets.
func (l *wal) frameSize(b []byte) int {
	if l.sealer == nil {
		return len(b)
	}
	return len(b) + l.sealer.overhead()
}

// append writes a frame. fill gets the numbers that the frame has to bear and seals it. events is how many events the
// frame puts. A frame that only frees space may use the last of the disk.
func (l *wal) append(frame []byte, events int, frees bool, fill func(seq, event int64)) (mark, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.failed(); err != nil {
		return mark{}, err
	}
	if l.sealer != nil && events > 0 {
		if err := l.sealer.ready(); err != nil {
			return mark{}, err
		}
		if !l.end.seg.encrypted { // no segment for this run could be begun at its start
			err := l.roll(int64(len(frame)), false, 0)
			if errors.Is(err, seglog.ErrNoSpace) {
				err = &noSpaceError{dir: l.dirs[l.end.seg.dir].path, err: err}
			}
			if err != nil {
				return mark{}, err
			}
		}
	}
	if l.end.off+int64(len(frame)) > l.maxSize && l.end.off > segmentHead {
		if err := l.roll(int64(len(frame)), frees, 0); err != nil {
			return mark{}, err
		}
	}
	if !frees {
		if err := l.room(l.end.seg.dir, int64(len(frame))); err != nil {
			// Another directory may have space.
			if len(l.dirs) == 1 || l.roll(int64(len(frame)), false, 0) != nil {
				return mark{}, err
			}
		}
	}
	fill(l.end.seq, l.end.event)
	for {
		_, err := l.end.seg.file.Append(frame)
		if err == nil {
			break
		}
		if !errors.Is(err, seglog.ErrNoSpace) {
			return mark{}, l.fail(err)
		}
		full := &noSpaceError{dir: l.dirs[l.end.seg.dir].path, err: err}
		if l.end.seg.file.Err() != nil {
			return mark{}, l.fail(err)
		}
		l.dirs[l.end.seg.dir].when = time.Time{} // ask again how much is free
		if len(l.dirs) == 1 || l.roll(int64(len(frame)), false, 0) != nil {
			return mark{}, full
		}
	}
	l.dirs[l.end.seg.dir].free -= int64(len(frame))
	l.written.Add(int64(len(frame)))
	l.end.off += int64(len(frame))
	l.end.seq++
	l.end.event += int64(events)
	if l.lazy {
		l.smu.Lock()
		l.visible = l.end
		l.smu.Unlock()
	}
	return l.end, nil
}

// room says whether n bytes may be written to a directory. mu is held.
func (l *wal) room(dir int, n int64) error {
	d := &l.dirs[dir]
	// A disk that was full is looked at a little more often.
	if age := time.Since(d.when); age > freeEvery || d.free-n < l.minFree && age > freeEvery/10 {
		free, err := l.freeSpace(d.path)
		if err != nil {
			return err
		}
		d.free, d.when = free, time.Now()
	}
	if d.free-n < l.minFree {
		return &noSpaceError{dir: d.path, free: max(d.free, 0), want: l.minFree}
	}
	return nil
}

// roll begins a segment in the next directory that has room for n bytes; anyway takes the next one even without. The
// segment before is synced first, so that whatever lies behind the last one is whole. One without a frame is replaced.
// mu is held.
func (l *wal) roll(n int64, anyway bool, low int64) error {
	old := l.end.seg
	if err := l.syncSegment(old); err != nil {
		return err
	}
	info := segmentInfo{id: l.id, importing: old.importing, seq: l.end.seq, event: l.end.event, prev: old.seq, low: max(low, old.low)}
	empty := old.seq == l.end.seq
	if empty {
		info.prev = old.prev
	}
	full := errors.New("there is no other directory")
	for i := range l.dirs {
		k := (old.dir + 1 + i) % len(l.dirs)
		if empty && k == old.dir {
			continue
		}
		err := l.room(k, n+segmentHead)
		if err == nil || anyway {
			var s *segment
			if s, err = l.create(k, info); err == nil {
				if empty {
					l.segs = l.segs[:len(l.segs)-1]
					err = l.remove(old)
				}
				l.use(s)
				return err
			}
		}
		if i == 0 {
			full = err
		} else {
			full = errors.Join(full, err)
		}
	}
	return full
}

// remove deletes a segment that is no longer in the list, durably.
func (l *wal) remove(s *segment) error {
	l.dirs[s.dir].when = time.Time{} // ask again how much is free
	if err := errors.Join(s.file.Delete(), l.fs.SyncDir(l.dirs[s.dir].path), s.file.Release()); err != nil {
		return fmt.Errorf("delete segment: %w", err)
	}
	return nil
}

// use makes s the segment that is written. mu is held, or nobody else has l yet.
func (l *wal) use(s *segment) {
	l.segs = append(l.segs, s)
	l.end = mark{seg: s, off: segmentHead, seq: s.seq, event: s.event}
	l.smu.Lock()
	defer l.smu.Unlock()
	l.synced = s.seq
	if l.visible = l.end; l.cond != nil {
		l.cond.Broadcast()
	}
}

// create makes a segment's file, durably.
func (l *wal) create(dir int, info segmentInfo) (_ *segment, err error) {
	info.encrypted = l.sealer != nil
	path := seglog.Name(l.dirs[dir].path, info.seq, segmentExt)
	f, err := seglog.Create(l.fs, path)
	if err != nil {
		return nil, fmt.Errorf("begin segment: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Delete(), f.Release())
		}
	}()
	if _, err := f.Append(info.encode()); err != nil {
		return nil, fmt.Errorf("begin segment: %w", err)
	}
	if err := f.Sync(); err != nil {
		return nil, fmt.Errorf("begin segment: %w", err)
	}
	if err := l.fs.SyncDir(l.dirs[dir].path); err != nil {
		return nil, fmt.Errorf("begin segment: %w", err)
	}
	return &segment{segmentInfo: info, file: f, dir: dir}, nil
}

// syncSegment syncs; an error is the log's end.
func (l *wal) syncSegment(s *segment) error {
	if !s.file.Acquire() {
		return nil // it was sealed, with a sync, consumed and deleted
	}
	err := s.file.Sync()
	if rerr := s.file.Release(); err == nil {
		err = rerr
	}
	if err != nil {
		return l.fail(err)
	}
	return nil
}

// commit returns when everything up to m is as durable as asked for. All who wait share one sync: the first syncs
// everything that is there, the others wait for it or for the next.
func (l *wal) commit(m mark) error {
	if l.lazy {
		return l.failed()
	}
	return l.syncTo(m.seq)
}

// syncTo returns when the frames below seq are synced.
func (l *wal) syncTo(seq int64) error {
	l.smu.Lock()
	defer l.smu.Unlock()
	for {
		if l.err != nil {
			return l.err
		}
		if l.synced >= seq {
			return nil
		}
		if l.syncing {
			l.cond.Wait()
			continue
		}
		l.syncing = true
		l.smu.Unlock()
		l.mu.Lock()
		m := l.end
		l.mu.Unlock()
		err := l.syncSegment(m.seg)
		l.smu.Lock()
		l.syncing = false
		if err == nil && m.seq > l.synced {
			l.synced = m.seq
			if m.seq > l.visible.seq {
				l.visible = m
			}
		}
		l.cond.Broadcast()
	}
}

// fail ends the log's writing for good: after a failed sync nobody knows what is on the disk.
func (l *wal) fail(err error) error {
	l.smu.Lock()
	defer l.smu.Unlock()
	if l.err == nil {
		l.err = fmt.Errorf("the channel's log failed, and is not used until the channel is started again: %w", err)
		l.cond.Broadcast()
	}
	return l.err
}

func (l *wal) failed() error {
	l.smu.Lock()
	defer l.smu.Unlock()
	return l.err
}

func (l *wal) readable() (mark, error) {
	l.smu.Lock()
	defer l.smu.Unlock()
	return l.visible, l.err
}

// mark is the end, from which the bytes up to the next checkpoint are counted.
func (l *wal) mark() mark {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.written.Store(0)
	return l.end
}

func (l *wal) tail() mark {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end
}

// after is the segment behind s; nil if s is the last.
func (l *wal) after(s *segment) *segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range l.segs {
		if o.seq >= s.seq && o != s { // one without a frame is replaced by one of the same number
			return o
		}
	}
	return nil
}

// first is the oldest segment; nil once the log is closed.
func (l *wal) first() *segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.segs) == 0 {
		return nil
	}
	return l.segs[0]
}

// several says whether there are segments behind the first.
func (l *wal) several() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.segs) > 1
}

// reclaim deletes the segments of which every event is below low, the oldest first, each durably before the next: the
// numbers of the oldest segment left say that all before is taken.
func (l *wal) reclaim(low int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.segs) > 1 && l.segs[1].event <= low {
		s := l.segs[0]
		l.segs = l.segs[1:]
		if err := l.remove(s); err != nil {
			return err
		}
	}
	return nil
}

// shed begins a new segment if the present one holds nothing that is needed and is worth it, so that its space comes back.
func (l *wal) shed(low, least int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.end.event != low || l.end.off < least {
		return nil
	}
	return l.roll(0, true, low)
}

// bytes is the length of all segments.
func (l *wal) bytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var n int64
	for _, s := range l.segs {
		n += s.file.Size()
	}
	return n
}

var errStopped = errors.New("the channel is stopped")

// close releases the files. Nothing is synced: commit and the checkpoint did that.
func (l *wal) close() error {
	l.fail(errStopped)
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	for _, s := range l.segs {
		err = errors.Join(err, s.file.Release())
	}
	l.segs = nil
	return err
}

// spans is a set of event numbers as ranges, ascending and apart from each other.
type spans []span

// add puts r into the set.
func (s spans) add(r span) spans {
	if len(s) == 0 || r.from > s[len(s)-1].to { // the usual case
		return append(s, r)
	}
	i, _ := s.find(r.from)
	if i > 0 && s[i-1].to == r.from {
		i--
	}
	j := i
	for j < len(s) && s[j].from <= r.to {
		r.from, r.to = min(r.from, s[j].from), max(r.to, s[j].to)
		j++
	}
	if i == j {
		s = append(s, span{})
		copy(s[i+1:], s[i:])
		s[i] = r
		return s
	}
	s[i] = r
	return append(s[:i+1], s[j:]...)
}

// find returns the index of the first range that ends behind n, and whether it holds n.
func (s spans) find(n int64) (int, bool) {
	lo, hi := 0, len(s)
	for lo < hi {
		if mid := (lo + hi) / 2; s[mid].to <= n {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(s) && s[lo].from <= n
}

// next is the first number of the set that is not below n; MaxInt64 if there is none.
func (s spans) next(n int64) span {
	i, _ := s.find(n)
	if i == len(s) {
		return span{math.MaxInt64, math.MaxInt64}
	}
	return s[i]
}

func (s spans) count() (n int64) {
	for _, r := range s {
		n += r.to - r.from
	}
	return n
}
