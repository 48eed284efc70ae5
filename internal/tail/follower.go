package tail

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

const (
	// recentEvery and recentBytes bound what a SIGKILL repeats.
	recentEvery = 20 * time.Millisecond
	recentBytes = 1 << 20
	// recentMost is where the position file is written before its time.
	recentMost = 8 << 20
	// recentFiles is of how many files in a round the position is written as
	// soon as they are read to their end.
	recentFiles = 16
	// gather is how long a change is left alone for more to come.
	gather = 10 * time.Millisecond
	// Files that are gone are remembered for so long, and so many of them.
	awayTime = 24 * time.Hour
	awayMost = 10_000
)

// Options say what to follow and how.
type Options struct {
	Groups    []Group
	Cut       Cutter
	BatchSize int
	// MaxBatches is how many batches are read of one file before the others
	// have their turn.
	MaxBatches int64
	// Start says where to begin in a file that is there at the first look and
	// that Positions do not know. nil: at its start.
	Start func(f *os.File, size int64) (int64, error)
	// Reread makes a file under another path a new one, as Flume has it.
	Reread    bool
	CacheDirs bool

	FileHeader   string // the name of the header with the path; "": none
	OffsetHeader string // the name of the header with the event's offset; "": none

	Idle time.Duration // quiet for so long, a file is read to its last byte and closed
	// KeepPartial leaves a last line without a line end even then, unless the
	// file is no longer listed.
	KeepPartial bool

	FlushAfter time.Duration // after so long what may be incomplete counts as complete; 0: never
	Hold       time.Duration // so long events wait for a full batch; 0: not at all
	WriteEvery time.Duration // between two writes of the position file
	PauseStep  time.Duration // what the pause grows by when there is nothing to read
	PauseMax   time.Duration
	MaxOpen    int

	Env component.Env
}

// Follower follows the files of some groups. Run it once.
type Follower struct {
	o      Options
	pos    *Positions
	notify *notifier
	reader reader
	out    component.Output

	round int64
	files map[id]*file
	away  map[uint64][]*awayFile // by inode
	naway int
	dirs  map[dirKey]*dirList
	found []found // scratch of list
	first bool
	paths map[string]bool // in the first round: what the position file names
	lru   list.List       // of the open files, the one that was read last at the end
	cost  time.Duration   // of the last look at all files
	reads int             // files that were read in this round

	changed  bool // since the last write of the position file
	recent   map[*file]bool
	unstored int64 // bytes delivered since the last write of recent positions
	storedAt time.Time
	wroteAt  time.Time
	storeErr error

	failed   map[string]failure
	reported string
	longSaid bool

	now func() time.Time // for tests
}

// file is one that is listed, or open.
type file struct {
	stat
	path  string
	group *Group
	name  []byte // path, for the header

	f      *os.File // nil: closed
	elem   *list.Element
	pos    int64
	marks  marks
	most   int64 // the largest size that was seen since it was last replaced
	round  int64 // the last one that listed it
	gone   bool  // no longer listed
	sought bool  // looked for after it was gone

	atEnd  bool // nothing to read, as long as it stays what it was at the last look:
	size0  int64
	mtime0 int64
	active time.Time // when it last changed
	due    time.Time // when to read although it has not changed; zero: never
	held   time.Time // since when events wait for more
}

// awayFile is one that is gone, and may come back.
type awayFile struct {
	Entry
	since time.Time
}

// failure is a file or directory that could not be read.
type failure struct {
	err   error
	round int64
}

// NewFollower takes p over.
func NewFollower(o Options, p *Positions) *Follower {
	w := &Follower{o: o, pos: p, first: true, now: time.Now,
		files: map[id]*file{}, away: map[uint64][]*awayFile{}, dirs: map[dirKey]*dirList{},
		recent: map[*file]bool{}, failed: map[string]failure{}}
	w.reader = reader{cut: o.Cut, max: lineMax, long: func() {
		if !w.longSaid {
			w.longSaid = true
			o.Env.Log.Warn("an event is longer than 16 MiB; it is cut into several")
		}
	}}
	return w
}

// Run follows until ctx ends (nil) or out refuses a batch for good. It closes
// the positions.
func (w *Follower) Run(ctx context.Context, out component.Output) (err error) {
	w.out, w.reader.pool = out, out.Pool()
	w.notify = newNotifier()
	now := w.now()
	w.storedAt, w.wroteAt = now, now
	for _, e := range w.pos.Entries {
		w.putAway(e, now)
	}
	w.paths = map[string]bool{}
	for _, e := range w.pos.Entries {
		w.paths[e.path] = true
	}
	w.pos.Entries = nil
	if w.pos.Aside != "" {
		w.o.Env.Log.Error("the position file could not be parsed and was set aside; files without a position are read from their start", "file", w.pos.path, "as", w.pos.Aside, "positions", w.naway)
		w.changed = true
	}
	stop := context.AfterFunc(ctx, w.notify.interrupt)
	defer func() {
		stop()
		w.notify.close()
		w.reader.close()
		if w.changed {
			err = errors.Join(err, w.pos.Write(w.entries()))
		}
		for _, f := range w.files {
			w.closeFile(f)
		}
		err = errors.Join(err, w.pos.Close())
	}()

	for idle := 0; ctx.Err() == nil; {
		more, read, err := w.visitAll(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil // the stop: what was not accepted is read again
			}
			return err
		}
		if more {
			idle = 0
			continue
		}
		if read {
			idle = 0
		}
		idle = min(idle+1, 1<<20)
		w.rest(ctx, idle)
	}
	return nil
}

// rest waits until there may be something to read.
func (w *Follower) rest(ctx context.Context, idle int) {
	now := w.now()
	d := w.o.PauseMax
	if p := time.Duration(idle) * w.o.PauseStep; p/time.Duration(idle) == w.o.PauseStep {
		d = min(d, p)
	}
	for _, f := range w.files {
		if !f.due.IsZero() {
			d = min(d, f.due.Sub(now))
		}
	}
	if w.changed {
		d = min(d, w.wroteAt.Add(w.o.WriteEvery).Sub(now))
	}
	if len(w.recent) > 0 {
		d = min(d, w.recentDue().Sub(now))
	}
	if d = max(d, gather); w.notify.wait(ctx, d) {
		// A look at thousands of files is not repeated all the time.
		pause(ctx, max(gather, 10*w.cost))
		w.notify.drain()
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// visitAll is one round over all files. more says that some have more to read,
// read that anything was read.
func (w *Follower) visitAll(ctx context.Context) (more, read bool, err error) {
	w.round++
	w.reads = 0
	now := w.now()
	files, ok := w.list(now)
	w.cost = w.now().Sub(now)
	order := make([]*file, 0, len(files))
	for i := range files {
		if f := w.meet(&files[i], now); f != nil {
			order = append(order, f)
		}
	}
	first := w.leave(ok, now)
	w.first, w.paths = false, nil
	// What must be known before it is read, for a crash later on.
	w.store(now, false)
	for _, f := range slices.Concat(first, order) {
		if err := ctx.Err(); err != nil {
			return false, read, err
		}
		m, r, err := w.visit(ctx, f, now)
		more, read = more || m, read || r
		if err != nil {
			return false, read, err
		}
	}
	w.store(w.now(), false)
	w.expire(now)
	w.report()
	return more, read, nil
}

// meet returns the file that a listing names, new or known; nil when there is
// nothing to read it from, or when it has its turn under another name.
func (w *Follower) meet(x *found, now time.Time) *file {
	f := w.files[x.id]
	if f != nil && !sameBirth(f.born, x.born) {
		w.drop(f) // its inode was given to another file
		f = nil
	}
	if f != nil && f.round == w.round {
		return nil
	}
	if f != nil && f.path != x.path {
		if w.o.Reread {
			w.drop(f)
			f = nil
		} else {
			w.o.Env.Log.Info("a file was renamed", "from", f.path, "to", x.path, "pos", f.pos)
			f.rename(x.path)
			w.note(f)
		}
	}
	if f == nil {
		if f = w.begin(x, now); f == nil {
			return nil
		}
	}
	f.round, f.gone, f.sought, f.group = w.round, false, false, x.group
	f.see(x.stat, now)
	return f
}

func (f *file) rename(path string) { f.path, f.name = path, []byte(path) }

func (f *file) see(st stat, now time.Time) {
	if st.size != f.stat.size || st.mtime != f.stat.mtime {
		f.active = now
	}
	f.stat = st
	f.most = max(f.most, st.size)
}

// begin opens a file that is met for the first time and finds out where to
// begin.
func (w *Follower) begin(x *found, now time.Time) *file {
	f := &file{stat: x.stat, group: x.group, active: now}
	f.rename(x.path)
	if err := w.openFile(f); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			w.fail(x.path, err)
		}
		return nil
	}
	known, err := w.resume(f)
	w.dropAway(f.ino, f.path) // they are of files whose inode this one has now
	if err == nil && !known && w.first && w.o.Start != nil && w.pos.Aside == "" && !w.paths[f.path] {
		if f.pos, err = w.o.Start(f.f, f.stat.size); err == nil {
			f.marks, err = markAt(f.f, f.pos)
		}
	}
	if err != nil {
		w.fail(x.path, err)
		w.closeFile(f)
		return nil
	}
	w.o.Env.Log.Info("following a file", "file", f.path, "inode", f.ino, "pos", f.pos, "size", f.stat.size)
	w.files[f.id] = f
	w.note(f)
	return f
}

// resume looks for the file among those that are away.
func (w *Follower) resume(f *file) (bool, error) {
	for i, e := range w.away[f.ino] {
		m, same, err := adopt(f.f, f.stat, f.path, &e.Entry, !w.o.Reread)
		if err != nil {
			return false, err
		}
		if !same {
			continue
		}
		f.pos, f.marks = e.Pos, m
		w.away[f.ino] = slices.Delete(w.away[f.ino], i, i+1)
		w.naway--
		return true, nil
	}
	return false, nil
}

// dropAway forgets files that are away and had that inode in the directory of
// path, and so on the same device.
func (w *Follower) dropAway(ino uint64, path string) {
	was := len(w.away[ino])
	kept := slices.DeleteFunc(w.away[ino], func(e *awayFile) bool { return filepath.Dir(e.path) == filepath.Dir(path) })
	w.naway -= was - len(kept)
	if w.away[ino] = kept; len(kept) == 0 {
		delete(w.away, ino)
	}
}

// leave finds out about files that the listing no longer names, and returns
// those that are still to be read, the oldest first.
func (w *Follower) leave(ok map[*Group]bool, now time.Time) []*file {
	var rest, lost []*file
	for _, f := range w.files {
		if f.round == w.round {
			continue
		}
		if ok[f.group] {
			f.gone = true
		}
		if f.f == nil && f.gone && !f.sought {
			lost = append(lost, f)
		}
	}
	w.seek(lost, now)
	if w.first {
		w.seekAway(now)
	}
	for _, f := range w.files {
		switch {
		case f.round == w.round:
		case f.f != nil:
			if st, err := statFile(f.f); err != nil {
				w.fail(f.path, err)
			} else {
				f.see(st, now)
				rest = append(rest, f)
			}
		case f.gone:
			w.part(f, now)
		}
	}
	slices.SortFunc(rest, func(a, b *file) int {
		return cmp.Or(cmp.Compare(a.mtime, b.mtime), cmp.Compare(a.born, b.born), strings.Compare(a.path, b.path))
	})
	return rest
}

// seek looks for closed files that were renamed away, and opens them.
func (w *Follower) seek(lost []*file, now time.Time) {
	byDir := map[string]map[id]*file{}
	for _, f := range lost {
		f.sought = true
		dir := filepath.Dir(f.path)
		if byDir[dir] == nil {
			byDir[dir] = map[id]*file{}
		}
		byDir[dir][f.id] = f
	}
	for dir, want := range byDir {
		search(dir, func(st stat, path string) bool {
			f := want[st.id]
			if f == nil || !sameBirth(f.born, st.born) {
				return false
			}
			delete(want, st.id)
			if f.pos == st.size && w.lru.Len() >= w.o.MaxOpen {
				return len(want) == 0 // nothing to read, and no room to wait for more
			}
			f.rename(path)
			if err := w.openFile(f); err == nil {
				f.active = now
			} else if !errors.Is(err, fs.ErrNotExist) {
				w.fail(path, err)
			}
			return len(want) == 0
		})
	}
}

// seekAway does the same for files that the position file names and no group
// has: they were renamed while nobody followed them.
func (w *Follower) seekAway(now time.Time) {
	if w.o.Reread {
		return
	}
	byDir := map[string]map[uint64]string{} // the path by inode
	for ino, l := range w.away {
		for _, e := range l {
			if !e.known {
				continue
			}
			dir := filepath.Dir(e.path)
			if w.groupOf(dir) == nil { // the agent file has changed
				continue
			}
			if byDir[dir] == nil {
				byDir[dir] = map[uint64]string{}
			}
			byDir[dir][ino] = e.path
		}
	}
	for dir, want := range byDir {
		search(dir, func(st stat, path string) bool {
			// Under the name that it had it would be listed, had the groups
			// not changed.
			if was := want[st.ino]; was == "" || was == path || w.files[st.id] != nil {
				return false
			}
			f := &file{stat: st, active: now, gone: true, sought: true, group: w.groupOf(dir)}
			f.rename(path)
			if err := w.openFile(f); err != nil {
				if !errors.Is(err, fs.ErrNotExist) {
					w.fail(path, err)
				}
				return false
			}
			known, err := w.resume(f)
			if err != nil {
				w.fail(path, err)
			}
			// The writer of a file that changed a moment ago may have more.
			if !known || f.pos == st.size && now.Sub(time.Unix(0, st.mtime)) >= w.o.Idle {
				if known {
					w.putAway(f.entry(), now)
				}
				w.closeFile(f)
				return false
			}
			w.o.Env.Log.Info("a file was renamed; it is read to its end", "to", path, "pos", f.pos, "size", st.size)
			w.files[f.id] = f
			return false
		})
	}
}

// groupOf is the group that a file of that directory belonged to, if any.
func (w *Follower) groupOf(dir string) *Group {
	for i := range w.o.Groups {
		if g := &w.o.Groups[i]; g.Dir == dir || g.Below && strings.HasPrefix(dir, g.Dir+"/") {
			return g
		}
	}
	return nil
}

// openFile opens f.path and sees to it that it is f.
func (w *Follower) openFile(f *file) error {
	of, err := os.Open(f.path)
	if err != nil {
		return err
	}
	st, err := statFile(of)
	if err == nil && (st.id != f.id || !sameBirth(st.born, f.born)) {
		err = fs.ErrNotExist // renamed since: the next listing says where it is
	}
	if err != nil {
		of.Close()
		return err
	}
	f.f = of
	f.elem = w.lru.PushBack(f)
	for e := w.lru.Front(); e != nil && w.lru.Len() > w.o.MaxOpen; {
		old := e.Value.(*file)
		e = e.Next()
		if old != f && !old.gone { // what is gone cannot be opened again
			w.closeFile(old)
		}
	}
	return nil
}

func (w *Follower) closeFile(f *file) {
	if f.f != nil {
		_ = f.f.Close() // nothing was written
		w.lru.Remove(f.elem)
		f.f, f.elem = nil, nil
	}
}

// visit reads what is new in a file.
func (w *Follower) visit(ctx context.Context, f *file, now time.Time) (more, read bool, err error) {
	changed := !f.atEnd || f.stat.size != f.size0 || f.stat.mtime != f.mtime0
	idle := now.Sub(f.active) >= w.o.Idle
	due := !f.due.IsZero() && !now.Before(f.due)
	switch {
	case changed || due:
	case idle && f.pos < f.stat.size && (f.gone || !w.o.KeepPartial):
	case idle && f.f != nil:
		w.o.Env.Log.Info("a file is quiet and closed", "file", f.path, "pos", f.pos)
		w.closeFile(f)
		if f.gone {
			w.part(f, now)
		}
		return false, false, nil
	default:
		return false, false, nil
	}
	if f.f == nil {
		if err := w.openFile(f); err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				w.fail(f.path, err)
			}
			return false, false, nil
		}
	}
	w.lru.MoveToBack(f.elem)
	mode := More
	switch quiet := now.Sub(f.active); {
	case idle && !changed && (f.gone || !w.o.KeepPartial):
		mode = All
	case w.o.FlushAfter > 0 && quiet >= w.o.FlushAfter:
		mode = Flush
	}
	more, read, err = w.read(ctx, f, mode, now)
	if err == nil || !errors.Is(err, errRead) {
		return more, read, err
	}
	w.o.Env.Metrics.Counter("EventReadFail").Add(1)
	w.fail(f.path, err)
	return false, read, nil
}

// errRead marks errors of the file, which do not concern the others.
var errRead = errors.New("read")

func (w *Follower) read(ctx context.Context, f *file, mode Mode, now time.Time) (more, read bool, err error) {
	r := &w.reader
	defer r.close()
	for tries := 0; ; tries++ {
		limit := f.stat.size
		replaced := limit < f.pos
		if !replaced {
			r.open(f.f, f.pos, limit, &f.marks)
			if limit == f.pos {
				err = r.verify()
			} else {
				var some bool
				more, some, err = w.batches(ctx, f, mode, now)
				read = read || some
			}
			replaced = errors.Is(err, errReplaced)
		}
		if !replaced {
			break
		}
		r.close()
		if tries == 3 { // it is being replaced again and again: the next round
			return true, read, nil
		}
		st, err := statFile(f.f)
		if err != nil {
			return false, read, fmt.Errorf("%w: %w", errRead, err)
		}
		w.o.Env.Log.Warn("the file's contents were replaced; it is read from its start", "file", f.path, "pos", f.pos, "missed_bytes", f.most-f.pos, "size", st.size)
		f.pos, f.marks, f.most, f.due, f.held = 0, marks{}, 0, time.Time{}, time.Time{}
		f.see(st, now)
		w.note(f)
	}
	if err != nil {
		return false, read, err
	}
	f.atEnd = !more
	f.size0, f.mtime0 = f.stat.size, f.stat.mtime
	if r.limit < f.stat.size { // it shrank meanwhile
		f.atEnd = false
	}
	return more, read, nil
}

// batches delivers what there is of a file that the reader has open.
func (w *Follower) batches(ctx context.Context, f *file, mode Mode, now time.Time) (more, read bool, err error) {
	r := &w.reader
	w.reads++
	f.due = time.Time{}
	for n := int64(1); ; n++ {
		b := w.out.NewBatch()
		b.Grow(min(w.o.BatchSize, 4096))
		rerr := r.read(b, w.o.BatchSize, mode, w.o.OffsetHeader != "")
		if rerr == io.EOF && w.o.Hold > 0 && b.Len() > 0 && b.Len() < w.o.BatchSize {
			if f.held.IsZero() {
				f.held = now
			}
			if until := f.held.Add(w.o.Hold); now.Before(until) && mode != All {
				b.Release()
				f.due = until
				return false, read, nil
			}
		}
		f.held = time.Time{}
		events := b.Len()
		if events > 0 {
			w.headers(f, b)
			if err := w.out.Emit(ctx, b); err != nil {
				return false, read, fmt.Errorf("put events of %s: %w", f.path, err)
			}
			read = true
		} else {
			b.Release()
		}
		if pos := r.pos(); pos != f.pos {
			w.unstored += pos - f.pos
			f.pos, f.marks = pos, r.marks
			w.note(f)
			w.store(w.now(), rerr == io.EOF && w.reads <= recentFiles)
		}
		switch {
		case rerr == io.EOF:
			if w.o.FlushAfter > 0 && mode == More && len(r.buf) > 0 {
				f.due = f.active.Add(w.o.FlushAfter)
			}
			return false, read, nil
		case errors.Is(rerr, errReplaced):
			return false, read, rerr
		case rerr != nil:
			return false, read, fmt.Errorf("%w: %w", errRead, rerr)
		case n >= w.o.MaxBatches:
			return true, read, nil
		}
		if err := ctx.Err(); err != nil {
			return false, read, err
		}
	}
}

// headers sets what the events of a batch have in common, and their offsets.
// Later ones win, as in Flume.
func (w *Follower) headers(f *file, b *event.Batch) {
	if key := w.o.OffsetHeader; key != "" {
		var text [20]byte
		for i, at := range w.reader.at {
			b.SetHeader(i, key, strconv.AppendInt(text[:0], at, 10))
		}
	}
	for _, h := range f.group.Headers {
		b.SetHeaderAll(h.Key, h.Value, false)
	}
	if key := w.o.FileHeader; key != "" {
		b.SetHeaderAll(key, f.name, false)
	}
}

// note marks a file's position to be stored.
func (w *Follower) note(f *file) {
	w.recent[f] = true
	w.changed = true
}

func (f *file) entry() Entry {
	return Entry{Inode: f.ino, Pos: f.pos, path: f.path, known: true, born: f.born,
		headLen: f.marks.headLen, headSum: f.marks.headSum, tailLen: f.marks.tailLen, tailSum: f.marks.tailSum()}
}

// entries is everything that is known, by path.
func (w *Follower) entries() []Entry {
	all := make([]Entry, 0, len(w.files)+w.naway)
	for _, f := range w.files {
		all = append(all, f.entry())
	}
	for _, l := range w.away {
		for _, e := range l {
			all = append(all, e.Entry)
		}
	}
	slices.SortFunc(all, func(a, b Entry) int { return strings.Compare(a.path, b.path) })
	return all
}

// recentDue is when recent positions are to be written. With many files that
// change it is less often: each takes some 200 bytes.
func (w *Follower) recentDue() time.Time {
	return w.storedAt.Add(recentEvery + time.Duration(len(w.recent))*recentEvery/100)
}

// store writes the position file, or what has changed since, where it is due
// or urgent.
func (w *Follower) store(now time.Time, urgent bool) {
	var err error
	switch {
	case w.changed && (now.Sub(w.wroteAt) >= w.o.WriteEvery || w.pos.size > recentMost):
		err = w.pos.Write(w.entries())
		w.wroteAt, w.changed = now, err != nil
	case len(w.recent) > 0 && (urgent || w.unstored >= recentBytes || !now.Before(w.recentDue())):
		list := make([]Entry, 0, len(w.recent))
		for f := range w.recent {
			list = append(list, f.entry())
		}
		err = w.pos.Append(list)
	default:
		return
	}
	w.storedAt, w.unstored = now, 0
	if err == nil {
		clear(w.recent)
		w.stored()
	} else {
		w.storeFailed(err)
	}
}

func (w *Follower) stored() {
	if w.storeErr != nil {
		w.o.Env.Log.Info("positions are stored again")
		w.storeErr = nil
	}
}

func (w *Follower) storeFailed(err error) {
	if w.storeErr == nil {
		w.o.Env.Log.Error("positions cannot be stored; a restart now would repeat events", "err", err)
	}
	w.storeErr = err
}

// drop forgets a file whose inode is another one's now.
func (w *Follower) drop(f *file) {
	w.closeFile(f)
	delete(w.files, f.id)
	delete(w.recent, f)
	w.changed = true
}

// part is drop for a file that may come back.
func (w *Follower) part(f *file, now time.Time) {
	w.drop(f)
	w.putAway(f.entry(), now)
}

func (w *Follower) putAway(e Entry, now time.Time) {
	w.dropAway(e.Inode, e.path)
	w.away[e.Inode] = append(w.away[e.Inode], &awayFile{e, now})
	w.naway++
}

// expire forgets files that have been away for long, or are too many.
func (w *Follower) expire(now time.Time) {
	if w.naway == 0 || w.round%64 != 0 && w.naway <= awayMost {
		return
	}
	all := make([]*awayFile, 0, w.naway)
	for _, l := range w.away {
		all = append(all, l...)
	}
	slices.SortFunc(all, func(a, b *awayFile) int { return a.since.Compare(b.since) })
	for _, e := range all {
		if (w.naway <= awayMost*3/4 || len(all) <= awayMost) && now.Sub(e.since) < awayTime {
			break
		}
		w.away[e.Inode] = slices.DeleteFunc(w.away[e.Inode], func(x *awayFile) bool { return x == e })
		if len(w.away[e.Inode]) == 0 {
			delete(w.away, e.Inode)
		}
		w.naway--
		w.changed = true
	}
}

// fail notes that something cannot be read. It is tried again every round.
func (w *Follower) fail(path string, err error) {
	if have, ok := w.failed[path]; !ok || have.err.Error() != err.Error() {
		w.o.Env.Log.Warn("a file or directory cannot be read; it is tried again", "path", path, "err", err)
	}
	w.failed[path] = failure{err, w.round}
}

// report tells health what an operator should know, when it changes.
func (w *Follower) report() {
	maps.DeleteFunc(w.failed, func(_ string, f failure) bool { return f.round < w.round })
	var all []string
	if as := w.pos.Aside; as != "" {
		if _, err := os.Lstat(as); err == nil {
			all = append(all, fmt.Sprintf("the position file could not be parsed; it was set aside as %s, and files whose position it did not give were read from their start. Remove it when you have seen to it", as))
		}
	}
	if paths := slices.Sorted(maps.Keys(w.failed)); len(paths) > 0 {
		all = append(all, fmt.Sprintf("%d files or directories cannot be read, among them %s: %v", len(paths), paths[0], w.failed[paths[0]].err))
	}
	if w.storeErr != nil {
		all = append(all, fmt.Sprintf("positions cannot be stored: %v", w.storeErr))
	}
	text := strings.Join(all, "; ")
	if text == w.reported {
		return
	}
	w.reported = text
	if text == "" {
		w.o.Env.Health(nil)
		return
	}
	w.o.Env.Health(errors.New(text))
}

// NoLimit is a MaxBatches that never ends a turn.
const NoLimit = math.MaxInt64

// AtEnd is a Start that passes over what is there.
func AtEnd(_ *os.File, size int64) (int64, error) { return size, nil }
