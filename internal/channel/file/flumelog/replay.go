package flumelog

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/sluice-data/sluice/event"
)

// Dirs are the directories of a channel. Backup is empty if there are no dual checkpoints.
type Dirs struct {
	Checkpoint, Backup string
	Data               []string
}

// Keys gives the keys of encrypted log files by their aliases.
type Keys interface {
	Key(alias string) ([]byte, error)
}

// Queue is what a channel holds: the events that Flume would deliver, in its order.
type Queue struct {
	files  map[int32]*File
	Events []Pointer
	Paths  []string // the log files
	// Checkpoint says that the queue is the one of a checkpoint and what was written after it; otherwise all logs were read.
	Checkpoint bool
}

// Replay finds out what a stopped channel holds, as Flume does when it starts. keys may be nil if nothing is encrypted.
func Replay(ctx context.Context, log *slog.Logger, d Dirs, keys Keys) (_ *Queue, err error) {
	q := &Queue{files: map[int32]*File{}}
	defer func() {
		if err != nil {
			q.Close()
		}
	}()
	for _, dir := range d.Data {
		paths, err := Logs(dir)
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			f, err := Open(path)
			if errors.Is(err, ErrEmpty) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if old := q.files[f.Meta.ID]; old != nil {
				f.Close()
				return nil, fmt.Errorf("%s and %s have the same number", old.Path, path)
			}
			q.files[f.Meta.ID] = f
			if err := f.Unlock(keys); err != nil {
				return nil, err
			}
			q.Paths = append(q.Paths, path)
		}
	}
	cp, err := readCheckpoint(d.Checkpoint)
	if errors.Is(err, errNoCheckpoint) && d.Backup != "" {
		if _, serr := os.Stat(filepath.Join(d.Backup, "backupComplete")); serr == nil {
			log.Warn("the checkpoint of the Flume channel is of no use, the backup is read", "err", err)
			cp, err = readCheckpoint(d.Backup)
		}
	}
	switch {
	case errors.Is(err, errNoCheckpoint):
		log.Warn("the Flume channel has no checkpoint that is of use, all of its log is read", "err", err)
		cp = &checkpoint{}
	case err != nil:
		return nil, fmt.Errorf("read the checkpoint of the Flume channel: %w", err)
	default:
		q.Checkpoint = true
	}
	return q, q.replay(ctx, log, cp)
}

// Close closes the files.
func (q *Queue) Close() error {
	var err error
	for _, f := range q.files {
		err = errors.Join(err, f.Close())
	}
	return err
}

// upcoming is the next record of a file.
type upcoming struct {
	file *File
	scan *Scanner
	rec  Record
}

// merge gives the records of all files in write order.
type merge []*upcoming

func (m merge) Len() int           { return len(m) }
func (m merge) Less(i, j int) bool { return compare(&m[i].rec, &m[j].rec) < 0 }
func (m merge) Swap(i, j int)      { m[i], m[j] = m[j], m[i] }
func (m *merge) Push(x any)        { *m = append(*m, x.(*upcoming)) }
func (m *merge) Pop() any {
	x := (*m)[len(*m)-1]
	*m = (*m)[:len(*m)-1]
	return x
}

// compare is Flume's order: Flume 1.2 could write records with the same write order.
func compare(a, b *Record) int {
	rank := func(t Type) int { return [...]int{1, 0, 2, 3}[t-Put] } // take, put, rollback, commit
	return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Transaction, b.Transaction), cmp.Compare(rank(a.Type), rank(b.Type)))
}

// next moves u to its next record that can be read; false at the end of its file.
func (u *upcoming) next(log *slog.Logger) (bool, error) {
	for {
		ok, err := u.scan.Next()
		if ok && err == nil {
			if u.rec, _, err = ParseRecord(u.scan.Payload); err != nil {
				err = &CorruptError{u.file.Path, u.scan.Offset, err}
			}
		}
		var bad *CorruptError
		if errors.As(err, &bad) {
			log.Error("a record of the Flume channel is passed over", "err", err)
			continue
		}
		return ok, err
	}
}

func (q *Queue) replay(ctx context.Context, log *slog.Logger, cp *checkpoint) error {
	var m merge
	for _, id := range sortedIDs(q.files) {
		f := q.files[id]
		u := &upcoming{file: f, scan: f.Scan(f.skip(cp.order))}
		ok, err := u.next(log)
		if err != nil {
			return err
		}
		if ok {
			m = append(m, u)
		}
	}
	heap.Init(&m)

	added := cp.queue
	var removed []Pointer
	open := map[int64][]Pointer{} // by transaction
	for _, t := range cp.puts {
		slices.Sort(t.events)
		open[t.transaction] = append(open[t.transaction], t.events...)
	}
	taking := map[int64][]Pointer{} // open when the checkpoint was written: no longer in its queue
	for _, t := range cp.takes {
		taking[t.transaction] = append(taking[t.transaction], t.events...)
	}
	for n := 0; len(m) > 0; n++ {
		if n%10000 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		u := m[0]
		if r := u.rec; r.Order > cp.order {
			switch r.Type {
			case Put:
				open[r.Transaction] = append(open[r.Transaction], NewPointer(u.file.Meta.ID, int32(u.scan.Offset)))
			case Take:
				open[r.Transaction] = append(open[r.Transaction], r.Taken)
			case Rollback:
				delete(open, r.Transaction)
			case Commit:
				events := open[r.Transaction]
				delete(open, r.Transaction)
				if r.Of == Take {
					removed = append(removed, events...)
					delete(taking, r.Transaction)
				} else {
					added = append(added, events...)
				}
			}
		}
		ok, err := u.next(log)
		if err != nil {
			return err
		}
		if ok {
			heap.Fix(&m, 0)
		} else {
			heap.Pop(&m)
		}
	}
	// What was being taken and was not committed comes first.
	for _, events := range taking {
		q.Events = append(q.Events, events...)
	}
	slices.Sort(q.Events)
	slices.Sort(removed)
	for _, p := range added {
		if _, gone := slices.BinarySearch(removed, p); !gone {
			q.Events = append(q.Events, p)
		}
	}
	return nil
}

// skip is where in a file the records after a checkpoint begin.
func (l *File) skip(order int64) int64 {
	switch m := l.Meta; {
	case m.Position == 0:
		return 0
	case m.Order <= order:
		return m.Position
	case m.BackupOrder <= order:
		return m.BackupPosition
	}
	return 0
}

func sortedIDs(files map[int32]*File) []int32 {
	var ids []int32
	for id := range files {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Each calls f with every event in order. The event is valid until f returns. Events that cannot be read are passed over and
// counted in lost.
func (q *Queue) Each(ctx context.Context, log *slog.Logger, f func(event.Event) error) (lost int64, err error) {
	var buf []byte
	var hs []event.KV
	for i, p := range q.Events {
		if i%10000 == 0 && ctx.Err() != nil {
			return lost, ctx.Err()
		}
		l := q.files[p.File()]
		if l == nil {
			return lost, fmt.Errorf("the Flume channel lacks log-%d, which holds an event that is due: is one of its data directories missing?", p.File())
		}
		var e event.Event
		buf, err = l.At(p.Offset(), buf)
		if err == nil {
			var r Record
			var body []byte
			if r, body, err = ParseRecord(buf); err == nil && r.Type != Put {
				err = fmt.Errorf("it is a %v", r.Type)
			}
			if err == nil {
				e, err = ParseEvent(body, hs[:0])
				hs = e.Headers
			}
			if err != nil {
				err = &CorruptError{l.Path, p.Offset(), err}
			}
		}
		var bad *CorruptError
		if errors.As(err, &bad) {
			lost++
			log.Error("an event of the Flume channel is passed over", "err", err)
			continue
		}
		if err != nil {
			return lost, err
		}
		if err := f(e); err != nil {
			return lost, err
		}
	}
	return lost, nil
}
