package segment

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/record"
	"github.com/sluice-data/sluice/internal/seglog"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
)

const (
	// compactedExt is a new file that is being written; seglog.Clean removes one that a crash left.
	compactedExt = logExt + ".tmp"
	// mergedExt is a new file that is whole and takes the place of more than one segment. Its name says which: from the
	// first one's base to the offset that the last one ended at.
	mergedExt = ".merged"

	compactBuffer = 1 << 20
)

// rewriter writes the batches of a group of segments in a row, and makes one of neighbouring batches without records. As
// long as the new file would only repeat the beginning of the first segment's there is none.
type rewriter struct {
	l        *Log
	group    []view
	name     string
	interval int64
	f        vfs.File // nil until something changes
	taken    bool     // the file has got another name
	buf      []byte   // what is to be written
	out      *segment // the new file's books, with buf
	void     void
	damaged  bool // a batch in it fails its CRC
}

// void is a range of offsets without records that was not written yet.
type void struct {
	batches  int // that it is made of; 0: there is none
	from, to int64
	epoch    int32
}

func (v *void) encode() []byte {
	b := record.AppendEmpty(nil, record.Header{
		LeaderEpoch: v.epoch, ProducerID: record.NoProducerID, ProducerEpoch: record.NoProducerEpoch, BaseSequence: record.NoSequence,
	})
	record.SetRange(b, v.from, v.to)
	return b
}

func (l *Log) newRewriter(group []view) *rewriter {
	first := group[0].seg
	w := &rewriter{l: l, group: group, name: seglog.Name(l.dir, first.base, compactedExt), interval: l.interval()}
	w.out = &segment{base: first.base, mem: &index{}, next: first.base, maxTS: -1, firstTS: -1, created: first.created, synced: true}
	for i := range group {
		w.out.changed = max(w.out.changed, group[i].seg.changed)
	}
	return w
}

// begin makes the file, with what there is so far.
func (w *rewriter) begin() (err error) {
	if w.f != nil {
		return nil
	}
	if w.f, err = w.l.fs.Open(w.name, os.O_RDWR|os.O_CREATE|os.O_TRUNC); err != nil {
		return err
	}
	old := w.group[0].file
	for pos := int64(0); pos < w.out.size; {
		b := make([]byte, min(compactBuffer, w.out.size-pos))
		if n, err := old.ReadAt(b, pos); n < len(b) {
			return fmt.Errorf("%w: read %s: %w", log.ErrStorage, old.Path(), cmp.Or(err, io.ErrUnexpectedEOF))
		}
		if _, err := w.f.WriteAt(b, pos); err != nil {
			return err
		}
		pos += int64(len(b))
	}
	return nil
}

// keep takes a batch as it is.
func (w *rewriter) keep(b []byte, h *record.Header) error {
	if err := w.endVoid(); err != nil {
		return err
	}
	return w.put(b, h)
}

// change takes a batch that is not what the segment has there.
func (w *rewriter) change(b []byte) error {
	h, err := record.ParseHeader(b)
	if err != nil {
		return err
	}
	if err := errors.Join(w.endVoid(), w.begin()); err != nil {
		return err
	}
	return w.put(b, &h)
}

// empty takes the offsets of a batch of which no record is left.
func (w *rewriter) empty(b []byte, h *record.Header) error {
	if v := &w.void; v.batches > 0 && (v.epoch != h.LeaderEpoch || h.LastOffset()-v.from > maxRelative) {
		if err := w.endVoid(); err != nil {
			return err
		}
	}
	if w.void.batches == 0 {
		w.void.from, w.void.epoch = h.BaseOffset, h.LeaderEpoch
	}
	w.void.to = h.LastOffset()
	w.void.batches++
	if w.f == nil && (w.void.batches > 1 || !bytes.Equal(w.void.encode(), b)) {
		return w.begin()
	}
	return nil
}

func (w *rewriter) endVoid() error {
	if w.void.batches == 0 {
		return nil
	}
	b := w.void.encode()
	w.void = void{}
	h, err := record.ParseHeader(b)
	if err != nil {
		return err
	}
	return w.put(b, &h)
}

func (w *rewriter) put(b []byte, h *record.Header) error {
	if w.out.size+h.Size() > maxPosition {
		return fmt.Errorf("the new file would be larger than %d bytes", maxPosition)
	}
	w.out.note(h, w.out.size, w.interval)
	if w.f == nil {
		return nil
	}
	if w.buf = append(w.buf, b...); len(w.buf) >= compactBuffer {
		return w.flush()
	}
	return nil
}

func (w *rewriter) flush() error {
	b := w.buf
	w.buf = w.buf[:0]
	_, err := w.f.WriteAt(b, w.out.size-int64(len(b)))
	return err
}

// end makes the new file durable. It is false when there is none, because it would be what there is.
func (w *rewriter) end() (bool, error) {
	if err := w.endVoid(); err != nil || w.f == nil {
		return false, err
	}
	if want := w.group[len(w.group)-1].next; w.out.next != want {
		return false, fmt.Errorf("the new file ends at offset %d: want %d", w.out.next, want)
	}
	if err := w.flush(); err != nil {
		return false, err
	}
	// Retention goes by the time of the last append where records have none.
	if err := w.l.fs.Chtimes(w.name, time.UnixMilli(w.out.changed)); err != nil {
		return false, err
	}
	w.out.touched = w.out.changed
	return true, w.f.Sync()
}

// close removes a file that was not put in its place.
func (w *rewriter) close() error {
	if w.f == nil {
		return nil
	}
	err := w.f.Close()
	if !w.taken {
		err = errors.Join(err, w.l.fs.Remove(w.name))
	}
	return err
}

func mergedName(dir string, base, next int64) string {
	return filepath.Join(dir, fmt.Sprintf("%020d-%020d%s", base, next, mergedExt))
}

// replace puts the new file in the place of a group's. It is false when one of them was deleted meanwhile. Readers of the
// old files keep them.
//
// One file takes the other's name. Where there are more, the new one first gets a name that says which it replaces: from
// then on a start finishes what a crash leaves undone, see finishMerges.
func (l *Log) replace(group []view, w *rewriter) (bool, error) {
	l.passMu.Lock()
	defer l.passMu.Unlock()
	l.mu.RLock()
	at := l.position(group[0].seg) // deletions begin at the front
	closed := l.closed
	l.mu.RUnlock()
	if at < 0 || closed {
		return false, nil
	}
	s := w.out
	name := seglog.Name(l.dir, s.base, logExt)
	if len(group) > 1 {
		name = mergedName(l.dir, s.base, s.next)
	}
	if err := l.fs.Rename(w.name, name); err != nil {
		return false, err
	}
	w.taken = true
	if err := l.fs.SyncDir(l.dir); err != nil {
		return true, l.fail(err)
	}
	file, err := seglog.Open(l.fs, name)
	if err == nil && file.Size() != s.size {
		err = errors.Join(fmt.Errorf("%s has %d bytes: want %d", name, file.Size(), s.size), file.Release())
	}
	if err != nil {
		return true, l.fail(err)
	}
	s.file = file
	if !w.damaged {
		s.verified.add(0, s.size)
	}
	first := group[0].seg
	if first.size == s.size && first.fidx != nil {
		// Its readers could take the new index for its own, which has another name only until they open it.
		_, _, _ = first.fidx.open() // an error stays in it
	}
	l.appendMu.Lock() // appends read the list without mu
	l.mu.Lock()
	segs := append([]*segment(nil), l.segs[:at]...)
	l.segs = append(append(segs, s), l.segs[at+len(group):]...)
	l.mu.Unlock()
	l.appendMu.Unlock()
	if len(group) > 1 {
		for i := 1; i < len(group); i++ {
			err = errors.Join(err, l.unlink(group[i].seg))
		}
		if err == nil {
			err = l.fs.SyncDir(l.dir)
		}
		if err == nil {
			err = file.Rename(seglog.Name(l.dir, s.base, logExt))
		}
		if err == nil {
			err = l.fs.SyncDir(l.dir)
		}
		if err != nil {
			return true, errors.Join(l.fail(err), first.file.Release())
		}
	}
	l.persistIndex(s)
	return true, first.file.Release()
}

// finishMerges ends what a crash interrupted after the new file had got its name: the segments that it replaces go, and it
// takes the name of the first. Every step can be done again.
func (l *Log) finishMerges() error {
	entries, err := l.fs.List(l.dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", l.dir, err)
	}
	for _, e := range entries {
		stem, ok := strings.CutSuffix(e.Name(), mergedExt)
		if !ok {
			continue
		}
		var base, next int64
		if n, err := fmt.Sscanf(stem, "%020d-%020d", &base, &next); n != 2 || err != nil || e.Name() != filepath.Base(mergedName(l.dir, base, next)) {
			continue // not ours
		}
		if err := l.finishMerge(base, next); err != nil {
			return fmt.Errorf("finish a compaction: %w", err)
		}
	}
	return nil
}

func (l *Log) finishMerge(base, next int64) error {
	for _, ext := range []string{logExt, indexExt, timeExt} {
		bases, err := seglog.List(l.fs, l.dir, ext)
		if err != nil {
			return err
		}
		for _, b := range bases {
			if b < base || b >= next || b == base && ext == logExt {
				continue
			}
			if err := l.fs.Remove(seglog.Name(l.dir, b, ext)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return err
	}
	if err := l.fs.Rename(mergedName(l.dir, base, next), seglog.Name(l.dir, base, logExt)); err != nil {
		return err
	}
	return l.fs.SyncDir(l.dir)
}
