package segment

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/record"
	"github.com/sluice-data/sluice/internal/seglog"
	"golang.org/x/sys/unix"
)

// The bytes of a batch are verified when they are read first, and taken for good after that: sendfile does not see them,
// and to check them each time would cost as much as sending them. What this process appended or scanned itself counts as
// verified. All of that is forgotten when the file was changed by someone else, and every verifyAge, because a disk may
// give other bytes when it is read again.
const verifyAge = 10 * time.Minute

// foreign is how much later than the last append a file's modification time may be; the kernel's clock is coarse, and the
// append's time was taken before it.
const foreign = time.Second

// maxRanges bounds what is kept of a segment that is read in many places.
const maxRanges = 16

// byteRange is part of a segment, from one batch's start to another's end.
type byteRange struct{ from, to int64 }

// verified are the parts of a segment that were verified.
type verified struct {
	mu     sync.Mutex
	ranges []byteRange // ascending, not touching
	since  time.Time   // when the first of them was added
	mtime  time.Time   // a change by someone else that is known
	told   int64       // position of the damage that was logged last, plus one
}

// add takes up a range.
func (v *verified) add(from, to int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.ranges) == 0 {
		v.since = time.Now()
	}
	if n := len(v.ranges); n > 0 && v.ranges[n-1].to == from { // an append
		v.ranges[n-1].to = to
		return
	}
	i := 0
	for i < len(v.ranges) && v.ranges[i].to < from {
		i++
	}
	j := i
	for j < len(v.ranges) && v.ranges[j].from <= to {
		from, to = min(from, v.ranges[j].from), max(to, v.ranges[j].to)
		j++
	}
	r := append(v.ranges[:i:i], byteRange{from, to})
	v.ranges = append(r, v.ranges[j:]...)
	if len(v.ranges) > maxRanges {
		least := 0
		for k, x := range v.ranges {
			if x.to-x.from < v.ranges[least].to-v.ranges[least].from {
				least = k
			}
		}
		v.ranges = append(v.ranges[:least], v.ranges[least+1:]...)
	}
}

// missing returns the first part of [from, to) that is not verified; it is empty when all of it is.
func (v *verified) missing(from, to int64) (int64, int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, r := range v.ranges {
		if r.to <= from {
			continue
		}
		if r.from > from {
			return from, min(to, r.from)
		}
		if from = r.to; from >= to {
			return to, to
		}
	}
	return from, to
}

// check forgets everything when it is too old or the file was changed by someone else since the last append.
func (v *verified) check(now, mtime, appended time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	changed := mtime.Sub(appended) > foreign && !mtime.Equal(v.mtime)
	if changed {
		v.mtime = mtime
	}
	if changed || now.Sub(v.since) > verifyAge {
		v.ranges = nil
	}
}

// tell reports whether damage at a position is news.
func (v *verified) tell(pos int64) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	news := v.told != pos+1
	v.told = pos + 1
	return news
}

// modified is a file's modification time, without the allocations of Stat where it can be had so.
func modified(f *seglog.File) (time.Time, error) {
	if osf := f.OS(); osf != nil {
		var st unix.Stat_t
		if err := unix.Fstat(int(osf.Fd()), &st); err != nil {
			return time.Time{}, err
		}
		return time.Unix(st.Mtim.Unix()), nil
	}
	st, err := f.Stat()
	if err != nil {
		return time.Time{}, err
	}
	return st.ModTime(), nil
}

// verify checks the batches of a segment between two positions as far as that has not been done, and returns where the
// good ones end and the offset there. The error is of the batch that begins there.
func (l *Log) verify(v *view, from, to, next int64) (good, end int64, err error) {
	seen := &v.seg.verified
	mtime, err := modified(v.file)
	if err != nil {
		return from, 0, fmt.Errorf("%w: stat %s: %w", log.ErrStorage, v.file.Path(), err)
	}
	seen.check(time.Now(), mtime, v.changed)
	for pos := from; ; {
		a, b := seen.missing(pos, to)
		if a == b {
			return to, next, nil
		}
		good, err := l.verifyBytes(v, a, b)
		if good > a {
			seen.add(a, good)
		}
		if err != nil {
			end, werr := l.offsetAt(v, from, good)
			if werr != nil {
				return from, 0, werr
			}
			return good, end, err
		}
		pos = b
	}
}

// offsetAt walks from the batch at from to the position to and returns the offset there.
func (l *Log) offsetAt(v *view, from, to int64) (next int64, err error) {
	w := walker{r: v.file, end: to, path: v.file.Path}
	defer w.free()
	for pos := from; pos < to; {
		h, err := w.at(pos)
		if err != nil {
			return 0, err
		}
		next, pos = h.LastOffset()+1, pos+h.Size()
	}
	return next, nil
}

var verifyBuffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// verifyBytes checks the batches in [from, to) and returns where the good ones end.
func (l *Log) verifyBytes(v *view, from, to int64) (int64, error) {
	pooled := verifyBuffers.Get().(*[]byte)
	defer verifyBuffers.Put(pooled)
	buf := *pooled
	damage := func(pos int64, err error) (int64, error) {
		ce := &seglog.CorruptionError{Path: v.file.Path(), Offset: pos, Err: err}
		if v.seg.verified.tell(pos) {
			l.logger.Error("a record batch is damaged; consumers cannot read it, and can read those before and behind it",
				"file", ce.Path, "position", pos, "err", err)
		}
		return pos, fmt.Errorf("%w: %w", log.ErrStorage, ce)
	}
	last := v.base - 1
	at, n := from, 0 // what buf holds
	for pos := from; pos < to; {
		want := min(int64(record.HeaderSize), to-pos)
		for {
			if pos < at || pos+want > at+int64(n) {
				if want > int64(len(buf)) {
					buf = make([]byte, want) // a large batch; it is not kept
				}
				got, err := v.file.ReadAt(buf[:min(int64(len(buf)), to-pos)], pos)
				if int64(got) < want {
					if err == nil || err == io.EOF {
						return damage(pos, fmt.Errorf("the file ends at byte %d: %w", pos+int64(got), io.ErrUnexpectedEOF))
					}
					return damage(pos, err)
				}
				at, n = pos, got
			}
			b := buf[pos-at : n]
			h, err := record.ParseHeader(b)
			switch {
			case err != nil:
				return damage(pos, fmt.Errorf("batch behind offset %d: %w", last, err))
			case h.Size() > to-pos:
				return damage(pos, fmt.Errorf("batch at offset %d: %d bytes where %d are left", h.BaseOffset, h.Size(), to-pos))
			case h.Size() > int64(len(b)):
				want = h.Size()
				continue
			case h.BaseOffset <= last || h.LastOffset() >= v.next:
				return damage(pos, fmt.Errorf("%w: base offset is %d where %d or more is due, below %d", record.ErrCorrupt, h.BaseOffset, last+1, v.next))
			}
			if _, err := record.Check(b); err != nil {
				return damage(pos, fmt.Errorf("batch at offset %d: %w", h.BaseOffset, err))
			}
			last = h.LastOffset()
			pos += h.Size()
			break
		}
	}
	return to, nil
}
