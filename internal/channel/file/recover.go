package file

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"

	"github.com/sluice-data/sluice/internal/seglog"
)

// recovery is the state that is found in the directories.
type recovery struct {
	c     *Channel
	w     *wal
	next  mark  // the log's end
	low   int64 // every event below is taken
	taken spans // of the others
	from  mark  // where the frame with low is, or before; only seg and off
}

// recover takes the directories and finds out what is in them. size is how many events wait.
func (c *Channel) recover(ctx context.Context) (_ *running, size int64, err error) {
	w := &wal{fs: c.cfg.FS, maxSize: c.cfg.MaxFileSize, minFree: c.cfg.MinFree, freeSpace: c.cfg.FreeSpace, lazy: c.cfg.SyncEvery > 0, bufs: &c.bufs}
	w.cond = sync.NewCond(&w.smu)
	for _, dir := range c.cfg.DataDirs {
		w.dirs = append(w.dirs, dataDir{path: dir})
	}
	r := &running{c: c, wal: w, kick: make(chan struct{}, 1), lastSeq: -1}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	for _, dir := range c.cfg.dirs() {
		if err := c.cfg.FS.MkdirAll(dir); err != nil {
			return nil, 0, fmt.Errorf("make directory: %w", err)
		}
		if !c.cfg.unlocked {
			lock, err := lockDir(dir)
			if err != nil {
				return nil, 0, err
			}
			r.locks = append(r.locks, lock)
		}
		if err := clean(c.cfg.FS, dir); err != nil {
			return nil, 0, err
		}
	}
	if w.id, err = c.cfg.identify(); err != nil {
		return nil, 0, err
	}
	rec := &recovery{c: c, w: w}
	if err := rec.load(); err != nil {
		return nil, 0, err
	}
	if w.id == (channelID{}) {
		rand.Read(w.id[:])
	}
	if err := rec.openKeys(); err != nil {
		return nil, 0, err
	}
	if len(w.segs) == 0 {
		if err := rec.begin(ctx); err != nil {
			return nil, 0, err
		}
	} else if err := rec.warnUnimported(); err != nil {
		return nil, 0, err
	}
	scanned, err := rec.replay(ctx)
	if err != nil {
		return nil, 0, err
	}
	if err := rec.checkKeys(); err != nil {
		return nil, 0, err
	}
	if err := rec.end(); err != nil {
		return nil, 0, err
	}
	if err := c.cfg.mark(w.id); err != nil {
		return nil, 0, err
	}
	size = rec.next.event - rec.low - rec.taken.count()
	r.cur = cursor{seg: rec.from.seg, pos: rec.from.off, next: rec.low}
	r.taken = rec.taken
	if scanned > 0 {
		r.kick <- struct{}{} // the next recovery need not read it again
	}
	c.log.Info("file channel recovered", "events", size, "segments", len(w.segs), "bytes_replayed", scanned)
	return r, size, nil
}

// dirs are all directories, each once.
func (c *Config) dirs() []string {
	dirs := append([]string{c.CheckpointDir}, c.DataDirs...)
	if c.BackupDir != "" {
		dirs = append(dirs, c.BackupDir)
	}
	return dirs
}

// load opens all segments. What an import that did not come to its end wrote is removed.
func (rec *recovery) load() error {
	w := rec.w
	for i, dir := range w.dirs {
		bases, err := seglog.List(w.fs, dir.path, segmentExt)
		if err != nil {
			return err
		}
		for _, base := range bases {
			f, err := seglog.Open(w.fs, seglog.Name(dir.path, base, segmentExt))
			if err != nil {
				return err
			}
			w.segs = append(w.segs, &segment{segmentInfo: segmentInfo{seq: base}, file: f, dir: i})
		}
	}
	slices.SortFunc(w.segs, func(a, b *segment) int { return cmp.Compare(a.seq, b.seq) })
	if err := rec.dropReplaced(); err != nil {
		return err
	}
	for i := 0; i < len(w.segs); i++ {
		s := w.segs[i]
		gone, err := rec.readHeader(s, i == len(w.segs)-1)
		if err != nil {
			return err
		}
		if gone {
			w.segs = slices.Delete(w.segs, i, i+1)
			i--
		}
	}
	if n := len(w.segs); n > 0 && w.segs[n-1].importing {
		rec.c.log.Warn("the import of a Flume channel was interrupted, it begins anew")
		for len(w.segs) > 0 {
			if err := rec.remove(w.segs[0]); err != nil {
				return err
			}
			w.segs = w.segs[1:]
		}
	}
	for i := 1; i < len(w.segs); i++ {
		if s := w.segs[i]; s.prev != w.segs[i-1].seq {
			return fmt.Errorf("a file of the channel is missing: %s follows file number %d, and the last one there before it is %s: is one of the dataDirs not mounted? (`sluice repair` goes on without what is missing)",
				s.file.Path(), s.prev, filepath.Base(w.segs[i-1].file.Path()))
		}
	}
	return nil
}

// dropReplaced removes segments without a frame for which another of the same number was begun in another directory.
func (rec *recovery) dropReplaced() error {
	segs := rec.w.segs
	for i := 1; i < len(segs); i++ {
		a, b := segs[i-1], segs[i]
		if a.seq != b.seq {
			continue
		}
		if a.file.Size() > segmentHead {
			a, b = b, a
		}
		if a.file.Size() > segmentHead {
			return fmt.Errorf("%s and %s are the same part of the channel: one of them is a copy, move it away", a.file.Path(), b.file.Path())
		}
		if err := rec.remove(a); err != nil {
			return err
		}
		segs = slices.Delete(segs, i-1, i+1)
		segs = slices.Insert(segs, i-1, b)
		i--
	}
	rec.w.segs = segs
	return nil
}

// readHeader reads a segment's header. gone says that the segment is none, and was put away.
func (rec *recovery) readHeader(s *segment, last bool) (gone bool, err error) {
	w := rec.w
	b := make([]byte, segmentHead)
	var info segmentInfo
	bad := readFull(s, b, 0)
	var short *corruptError
	if bad != nil && !errors.As(bad, &short) {
		return false, bad
	}
	if bad == nil {
		info, bad = parseSegment(b)
	}
	if errors.Is(bad, errVersion) {
		return false, fmt.Errorf("%s: %w", s.file.Path(), bad)
	}
	if bad == nil && info.seq != s.seq {
		return false, fmt.Errorf("%s was renamed: it begins with frame %d", s.file.Path(), info.seq)
	}
	if bad == nil {
		if w.id == (channelID{}) {
			w.id = info.id
		}
		if info.id != w.id {
			return false, fmt.Errorf("%s belongs to another channel: move it away", s.file.Path())
		}
		s.segmentInfo = info
		return false, nil
	}
	// The header was synced before anything else was written: without a good frame behind it this is the beginning of a
	// file that came to nothing.
	at, err := seglog.Resume(s.file, 0, s.file.Size(), &framing{seq: s.seq, gap: true})
	if err != nil {
		return false, fmt.Errorf("look for frames in %s: %w", s.file.Path(), err)
	}
	if at < 0 && last && s.file.Size() <= segmentHead {
		return true, rec.remove(s)
	}
	if at < 0 {
		to := s.file.Path() + damagedExt
		rec.c.log.Error("a file of the channel holds nothing that can be read, it is set aside", "file", s.file.Path(), "as", to, "err", bad)
		return true, errors.Join(s.file.Release(), w.fs.Rename(s.file.Path(), to), w.fs.SyncDir(filepath.Dir(to)))
	}
	head := make([]byte, frameHead)
	if err := readFull(s, head, at); err != nil {
		return false, err
	}
	h, err := parseHeader(head)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", s.file.Path(), err)
	}
	s.id, s.event, s.prev, s.encrypted = w.id, h.event, -1, true // for all that is known
	for _, o := range w.segs {
		if o.seq < s.seq {
			s.prev = o.seq
		}
	}
	return false, rec.damage(s, 0, segmentHead, bad)
}

// remove deletes a file that holds nothing of value.
func (rec *recovery) remove(s *segment) error {
	dir := filepath.Dir(s.file.Path())
	return errors.Join(s.file.Delete(), s.file.Release(), rec.w.fs.SyncDir(dir))
}

func (rec *recovery) damage(s *segment, from, to int64, cause error) error {
	name, err := keepDamaged(rec.w.fs, s, from, to)
	if err != nil {
		return err
	}
	(&running{c: rec.c}).report(s, from, to, name, cause)
	return nil
}

// begin makes the first segment, with the events of a Flume channel if that left some here.
func (rec *recovery) begin(ctx context.Context) error {
	w := rec.w
	imported, err := rec.importFlume(ctx)
	if err != nil || imported {
		return err
	}
	s, err := w.create(0, segmentInfo{id: w.id, prev: -1})
	if err != nil {
		return err
	}
	w.use(s)
	return nil
}

// checkpoint reads the checkpoint, or its copy; nil if neither is of use.
func (rec *recovery) checkpoint() (*checkpoint, error) {
	dirs := []string{rec.c.cfg.CheckpointDir}
	if d := rec.c.cfg.BackupDir; d != "" {
		dirs = append(dirs, d)
	}
	for _, dir := range dirs {
		path := checkpointPath(dir)
		b, err := seglog.ReadFile(rec.w.fs, path, maxCheckpoint)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var c *checkpoint
		if err == nil {
			c, err = parseCheckpoint(b)
		}
		if errors.Is(err, errVersion) {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if err == nil && c.id != rec.w.id {
			err = errors.New("it is another channel's")
		}
		if err == nil {
			segs := rec.w.segs
			if last := segs[len(segs)-1]; c.segment > last.seq {
				return nil, fmt.Errorf("the newest file of the channel is missing: %s knows file number %d, the last one there is %s: is one of the dataDirs not mounted? (If it is really gone, remove the checkpoint)",
					path, c.segment, filepath.Base(last.file.Path()))
			}
			if s := rec.segment(c.segment); s != nil && s.file.Size() < c.offset {
				err = fmt.Errorf("it knows %d bytes of %s, which has %d", c.offset, filepath.Base(s.file.Path()), s.file.Size())
			}
		}
		if err == nil {
			return c, nil
		}
		rec.c.log.Warn("a checkpoint is of no use, the log is read instead", "file", path, "err", err)
	}
	return nil, nil
}

func (rec *recovery) segment(seq int64) *segment {
	for _, s := range rec.w.segs {
		if s.seq == seq {
			return s
		}
	}
	return nil
}

// replay reads the log from the checkpoint on, or all of it, and returns how many bytes that were.
func (rec *recovery) replay(ctx context.Context) (scanned int64, err error) {
	w := rec.w
	cp, err := rec.checkpoint()
	if err != nil {
		return 0, err
	}
	first := w.segs[0]
	start := mark{seg: first, off: segmentHead, seq: first.seq, event: first.event}
	rec.from = start
	rec.low = first.event
	if cp != nil {
		if s := rec.segment(cp.lowSegment); s != nil {
			rec.from = mark{seg: s, off: cp.lowOffset}
		}
		rec.low = max(rec.low, cp.low)
		rec.taken = cp.done
		if s := rec.segment(cp.segment); s != nil {
			start = mark{seg: s, off: cp.offset, seq: cp.seq, event: cp.event}
		}
	}
	rec.next = start
	fr := &framing{seq: start.seq, event: start.event}
	fr.accept = func(_ int64, h header, frame []byte) error {
		if h.event > rec.next.event {
			rec.lost(span{rec.next.event, h.event})
		}
		rec.next.event = h.event
		if h.typ == framePut {
			rec.next.event += int64(h.count)
			return nil
		}
		done, err := parseSpans(nil, frame[frameHead:], int(h.count))
		for _, s := range done {
			rec.note(s)
		}
		return err
	}
	for i := slices.Index(w.segs, start.seg); i < len(w.segs); i++ {
		s := w.segs[i]
		if s != start.seg {
			if fr.seq != s.seq || fr.event != s.event { // the end of the one before is damaged
				if s.event > rec.next.event {
					rec.lost(span{rec.next.event, s.event})
				}
				fr.seq, fr.event, rec.next.event = s.seq, s.event, s.event
			}
			rec.next.off = segmentHead
		}
		rec.next.seg = s
		n, err := rec.scan(ctx, s, rec.next.off, fr, i == len(w.segs)-1)
		if err != nil {
			return scanned, err
		}
		scanned += n
	}
	rec.next.seq = fr.seq
	// low is where the first range of what is not taken begins.
	for len(rec.taken) > 0 && rec.taken[0].from <= rec.low {
		rec.low = max(rec.low, rec.taken[0].to)
		rec.taken = rec.taken[1:]
	}
	return scanned, nil
}

// lost takes note of events that went with damaged frames.
func (rec *recovery) lost(s span) {
	rec.c.log.Error("events are lost to damage, or were taken before; what is left of them is in the .damaged file", "events", s.to-s.from, "numbers", fmt.Sprintf("%d to %d", s.from, s.to-1))
	rec.note(s)
}

// note takes events for taken.
func (rec *recovery) note(s span) {
	if s.from = max(s.from, rec.low); s.from < s.to {
		rec.taken = rec.taken.add(s)
	}
}

// scan reads a segment's frames from a position on, cuts off the torn end of the last one, and sets damage aside.
func (rec *recovery) scan(ctx context.Context, s *segment, from int64, fr *framing, last bool) (int64, error) {
	began := from
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		size := s.file.Size()
		res, err := seglog.Scan(s.file, s.file.Path(), from, size, fr)
		var ce *seglog.CorruptionError
		switch {
		case errors.As(err, &ce):
			to := ce.Next
			if to == 0 {
				to = size
			}
			if err := rec.damage(s, ce.Offset, to, ce.Err); err != nil {
				return 0, err
			}
			from, fr.gap = to, true
			if to < size {
				continue
			}
		case err != nil:
			return 0, err
		case res.End < size && last:
			rec.c.log.Warn("the end of a write that did not come to its end is cut off", "file", s.file.Path(), "at", res.End, "bytes", size-res.End, "err", cmp.Or(res.Torn, errZeros))
			if err := s.file.Truncate(res.End); err != nil {
				return 0, err
			}
		case res.End < size:
			if err := rec.damage(s, res.End, size, cmp.Or(res.Torn, errZeros)); err != nil {
				return 0, err
			}
		}
		rec.next.off = s.file.Size()
		return s.file.Size() - began, nil
	}
}

var errZeros = errors.New("nothing but zeros follows")

// end syncs what was found (a killed process may not have) and begins a segment of its own for this run: behind what
// one run left un-synced, the next must not write anything that counts.
func (rec *recovery) end() error {
	w := rec.w
	s := rec.next.seg
	w.end = rec.next
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", s.file.Path(), err)
	}
	w.synced, w.visible = w.end.seq, w.end
	if s.file.Size() == segmentHead && s.event == w.end.event && s.seq == w.end.seq {
		return rec.reuse(s)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.roll(0, true, rec.low)
	if errors.Is(err, seglog.ErrNoSpace) {
		rec.c.log.Warn("no new file could be begun on the full disk, the last one is used on", "err", err)
		return nil
	}
	return err
}

// reuse makes an empty segment one of this run.
func (rec *recovery) reuse(s *segment) error {
	if s.encrypted == (rec.w.sealer != nil) {
		return nil
	}
	s.encrypted = !s.encrypted
	old, path := s.file, s.file.Path()
	if err := seglog.WriteFile(rec.w.fs, path, s.encode()); err != nil {
		return err
	}
	f, err := seglog.Open(rec.w.fs, path)
	if err != nil {
		return err
	}
	s.file = f
	return old.Release()
}

// openKeys opens the key store, and fetches the key for what will be put.
func (rec *recovery) openKeys() error {
	w, enc := rec.w, rec.c.cfg.Encryption
	w.opener.id = w.id
	if enc == nil {
		return nil
	}
	keys, err := enc.Open()
	if err != nil {
		return fmt.Errorf("encryption: %w", err)
	}
	key, err := keys.Key(enc.ActiveKey)
	if err == nil {
		w.sealer, err = newSealer(enc.ActiveKey, key, w.id)
	}
	if err != nil {
		return fmt.Errorf("encryption.activeKey %q: %w", enc.ActiveKey, err)
	}
	w.opener.keys = keys
	return nil
}

// checkKeys says so at the start if a key is missing that events need which wait. A segment is written by one run, so by
// one key: its first put tells.
func (rec *recovery) checkKeys() error {
	segs := rec.w.segs
	for i, s := range segs {
		last := rec.next.event
		if i+1 < len(segs) {
			last = segs[i+1].event
		}
		if !s.encrypted || last <= rec.low {
			continue
		}
		frame, at, err := firstEncrypted(s)
		if err != nil || frame == nil {
			continue // what cannot be read, or is damaged, is the takers' matter
		}
		l, err := parseLock(frame)
		if err == nil {
			err = rec.w.opener.fit(l)
		}
		if err != nil {
			return fmt.Errorf("%s at byte %d: %w", s.file.Path(), at, err)
		}
	}
	return nil
}

// firstEncrypted returns the first encrypted put of a segment, if it is among the first bytes of it.
func firstEncrypted(s *segment) ([]byte, int64, error) {
	head := make([]byte, frameHead)
	for at := int64(segmentHead); at < min(s.file.Size(), readAhead); {
		if err := readFull(s, head, at); err != nil {
			return nil, 0, err
		}
		h, err := parseHeader(head)
		if err != nil || h.size > s.file.Size()-at {
			return nil, 0, err
		}
		if !h.encrypted {
			at += h.size
			continue
		}
		frame := make([]byte, h.size)
		if err := readFull(s, frame, at); err != nil {
			return nil, 0, err
		}
		_, err = parseFrame(frame)
		return frame, at, err
	}
	return nil, 0, nil
}
