package file

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/channel/headers"
	"github.com/sluice-data/sluice/internal/seglog"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
)

// Extensions and names of the channel's files, for those who look at them from outside.
const (
	SegmentExt     = segmentExt
	CheckpointName = checkpointFile
)

// Frame is a frame of a segment, as Inspect finds it. Its slices are valid until the visit returns.
type Frame struct {
	Position, Size int64
	Put            bool          // otherwise a take
	Number         int64         // of the frame
	Event          int64         // number of the first event of a put, or of the next that will be put
	Count          int           // events of a put
	Key            string        // that they are encrypted with, if they are
	Events         []event.Event // none if they are encrypted and no keys were given
	Taken          [][2]int64    // ranges of a take: from, and up to but not including
}

// Segment is what the header of a segment says.
type Segment struct {
	Channel        string // the id, in hexadecimal
	First          int64  // frame
	Event          int64  // the first that is put here or later
	Before         int64  // first frame of the segment before; -1: there was none
	Low            int64  // every event below was taken when it was begun
	ImportUnderWay bool
	Frames, Events int64 // that can be read
	Takes          int64 // take frames among them
	Damaged        int64 // places
}

// Damage is a place in a file that holds no frames.
type Damage struct {
	Path     string
	From, To int64
	Torn     bool // at the end: of a write that did not come to its end, or of one that is under way
	Err      error
}

func (d Damage) String() string {
	return fmt.Sprintf("%s: bytes %d to %d: %v", d.Path, d.From, d.To, d.Err)
}

// Inspect reads a segment, of a channel that may run, and calls visit for each frame and found for each damaged place. keys
// decrypt the events; they may be nil, everything else can be read without.
func Inspect(path string, keys Keys, visit func(*Frame) error, found func(Damage)) (Segment, error) {
	f, err := seglog.Open(vfs.OS{}, path)
	if err != nil {
		return Segment{}, err
	}
	defer f.Release()
	s := &segment{file: f}
	var out Segment
	size := f.Size() // what is appended from now on is not looked at
	damage := func(from, to int64, torn bool, err error) {
		out.Damaged++
		found(Damage{path, from, to, torn, err})
	}
	head := make([]byte, min(size, segmentHead))
	if err := readFull(s, head, 0); err != nil {
		return out, err
	}
	info, err := parseSegment(head)
	switch {
	case errors.Is(err, errVersion):
		return out, err
	case err != nil:
		damage(0, int64(len(head)), size < segmentHead, err)
	default:
		out = Segment{Channel: fmt.Sprintf("%x", info.id), First: info.seq, Event: info.event, Before: info.prev, Low: info.low, ImportUnderWay: info.importing}
	}
	var names headers.Names
	op := opener{keys: keys, id: info.id}
	var plain []byte
	var keyErr error // which is no damage
	headErr := err
	fr := &framing{seq: info.seq, event: info.event, gap: err != nil}
	fr.accept = func(pos int64, h header, frame []byte) error {
		out.Frames++
		v := Frame{Position: pos, Size: h.size, Put: h.typ == framePut, Number: h.seq, Event: h.event}
		if !v.Put {
			out.Takes++
			spans, err := parseSpans(nil, frame[frameHead:], int(h.count))
			if err != nil {
				return err
			}
			for _, s := range spans {
				v.Taken = append(v.Taken, [2]int64{s.from, s.to})
			}
			return visit(&v)
		}
		v.Count = int(h.count)
		out.Events += int64(h.count)
		if h.encrypted {
			l, err := parseLock(frame)
			if err != nil {
				return err
			}
			v.Key = string(l.alias)
			if keys == nil {
				return visit(&v)
			}
			if headErr != nil {
				err = errors.New("the events are encrypted, and what they need of the header is damaged: `sluice repair` makes it anew")
			} else {
				frame, err = op.open(plain, frame)
			}
			if err != nil {
				keyErr = fmt.Errorf("%s at byte %d: %w", path, pos, err)
				return keyErr
			}
			plain = frame
		}
		rest := frame[frameHead:]
		for range h.count {
			var e event.Event
			var err error
			if e.Body, e.Headers, rest, err = parseEvent(rest, &names, nil); err != nil {
				return err
			}
			v.Events = append(v.Events, e)
		}
		return visit(&v)
	}
	for from := int64(segmentHead); from < size; {
		res, err := seglog.Scan(f, path, from, size, fr)
		if keyErr != nil {
			return out, keyErr
		}
		var ce *seglog.CorruptionError
		switch {
		case errors.As(err, &ce):
			to := cmp.Or(ce.Next, size)
			damage(ce.Offset, to, false, ce.Err)
			from, fr.gap = to, true
			continue
		case err != nil:
			return out, err
		case res.End < size:
			damage(res.End, size, true, cmp.Or(res.Torn, errZeros))
		}
		break
	}
	return out, nil
}

// ParseCheckpoint describes a checkpoint's contents.
func ParseCheckpoint(b []byte) (CheckpointInfo, error) {
	c, err := parseCheckpoint(b)
	if err != nil {
		return CheckpointInfo{}, err
	}
	i := CheckpointInfo{Channel: fmt.Sprintf("%x", c.id), Frame: c.seq, Event: c.event, Segment: c.segment, Position: c.offset,
		Low: c.low, LowSegment: c.lowSegment, LowPosition: c.lowOffset, Waiting: c.event - c.low - c.done.count()}
	for _, s := range c.done {
		i.Taken = append(i.Taken, [2]int64{s.from, s.to})
	}
	return i, nil
}

// CheckpointInfo is a checkpoint; docs/file-channel.md explains the fields.
type CheckpointInfo struct {
	Channel     string     `json:"channel"`
	Frame       int64      `json:"frame"`
	Event       int64      `json:"event"`
	Segment     int64      `json:"segment"`
	Position    int64      `json:"position"`
	Low         int64      `json:"low"`
	LowSegment  int64      `json:"lowSegment"`
	LowPosition int64      `json:"lowPosition"`
	Waiting     int64      `json:"waiting"`
	Taken       [][2]int64 `json:"taken"`
}

// Repair makes the directories of a stopped channel such that it starts: all of them have to be named. What it does it
// says through say; with dry it only says so. It throws nothing away: what is replaced is kept under a name with .damaged.
func Repair(dirs []string, dry bool, say func(string)) (repaired int, err error) {
	fsys := vfs.OS{}
	do := func(f func() error, format string, args ...any) {
		if err != nil {
			return
		}
		repaired++
		say(fmt.Sprintf(format, args...))
		if !dry {
			err = f()
		}
	}
	var segs []*segment
	defer func() {
		for _, s := range segs {
			err = errors.Join(err, s.file.Release())
		}
	}()
	checkpoints := []string{}
	for i, dir := range dirs {
		lock, lerr := lockDir(dir)
		if lerr != nil {
			return 0, lerr
		}
		defer lock.release()
		bases, lerr := seglog.List(fsys, dir, segmentExt)
		if lerr != nil {
			return 0, lerr
		}
		for _, base := range bases {
			f, oerr := seglog.Open(fsys, seglog.Name(dir, base, segmentExt))
			if oerr != nil {
				return 0, oerr
			}
			segs = append(segs, &segment{segmentInfo: segmentInfo{seq: base}, file: f, dir: i})
		}
		switch _, rerr := seglog.ReadFile(fsys, checkpointPath(dir), maxCheckpoint); {
		case rerr == nil:
			checkpoints = append(checkpoints, checkpointPath(dir))
		case !errors.Is(rerr, fs.ErrNotExist):
			return 0, rerr
		}
	}
	if len(segs) == 0 {
		return 0, fmt.Errorf("there are no files of a file channel in %s", strings.Join(dirs, ", "))
	}
	slices.SortFunc(segs, func(a, b *segment) int { return cmp.Compare(a.seq, b.seq) })
	var id channelID
	encrypted := false
	bad := map[*segment]error{}
	for _, s := range segs {
		b := make([]byte, segmentHead)
		herr := readFull(s, b, 0)
		var info segmentInfo
		if herr == nil {
			info, herr = parseSegment(b)
		}
		if herr == nil && info.seq != s.seq {
			herr = fmt.Errorf("it begins with frame %d, its name says %d", info.seq, s.seq)
		}
		if errors.Is(herr, errVersion) {
			return 0, fmt.Errorf("%s: %w", s.file.Path(), herr)
		}
		if herr != nil {
			bad[s] = herr
			continue
		}
		if id != (channelID{}) && info.id != id {
			return 0, fmt.Errorf("%s belongs to another channel than %s", s.file.Path(), segs[0].file.Path())
		}
		s.segmentInfo, id = info, info.id
		encrypted = encrypted || info.encrypted
	}
	if id == (channelID{}) {
		return 0, errors.New("no file has a header that can be read: the channel's id is not known")
	}
	prev, gap := int64(-1), false
	for i, s := range segs {
		name := s.file.Path()
		if herr := bad[s]; herr != nil {
			at, rerr := seglog.Resume(s.file, 0, s.file.Size(), &framing{seq: s.seq, gap: true})
			if rerr != nil {
				return repaired, rerr
			}
			if at < 0 {
				do(func() error { return fsys.Rename(name, name+damagedExt) }, "%s holds no frame that can be read (%v): set aside as %s", name, herr, filepath.Base(name+damagedExt))
				continue
			}
			head := make([]byte, frameHead)
			if rerr := readFull(s, head, at); rerr != nil {
				return repaired, rerr
			}
			h, rerr := parseHeader(head)
			if rerr != nil {
				return repaired, rerr
			}
			s.segmentInfo = segmentInfo{id: id, seq: s.seq, event: h.event, prev: prev, encrypted: encrypted || h.encrypted}
			do(func() error { return rewriteHeader(s, true) }, "%s: the header is made anew (%v)", name, herr)
		} else if i > 0 && s.prev != prev {
			missing := s.prev
			gap = true
			s.prev = prev
			do(func() error { return rewriteHeader(s, false) }, "%s: file number %d before it is missing, and is no longer waited for; its events are lost", name, missing)
		}
		prev = s.seq
		if err != nil {
			return repaired, err
		}
	}
	for _, path := range checkpoints {
		b, rerr := seglog.ReadFile(fsys, path, maxCheckpoint)
		if rerr != nil {
			return repaired, rerr
		}
		c, cerr := parseCheckpoint(b)
		if errors.Is(cerr, errVersion) {
			return repaired, fmt.Errorf("%s: %w", path, cerr)
		}
		switch {
		case cerr != nil:
		case c.id != id:
			cerr = errors.New("it is another channel's")
		case c.segment > prev:
			cerr = fmt.Errorf("it knows file number %d, which is missing; its events are lost", c.segment)
		case gap:
			cerr = errors.New("it counts the events of files that are missing")
		}
		if cerr != nil {
			do(func() error { return fsys.Rename(path, path+damagedExt) }, "%s: %v: set aside as %s; the next start reads the whole log", path, cerr, filepath.Base(path+damagedExt))
		}
	}
	for _, s := range segs {
		if err != nil {
			return repaired, err
		}
		path := s.file.Path()
		_, ierr := Inspect(path, nil, func(*Frame) error { return nil }, func(d Damage) {
			if d.From == 0 || d.Torn && s == segs[len(segs)-1] {
				return // the header; and what the next start cuts off
			}
			if _, serr := os.Stat(damagedName(path, d.From)); serr == nil {
				return // known
			}
			do(func() error { _, err := keepDamaged(fsys, s, d.From, d.To); return err },
				"%s: a copy of the damaged bytes is kept in %s; takers pass over them", d, filepath.Base(damagedName(path, d.From)))
		})
		if ierr != nil && !errors.Is(ierr, fs.ErrNotExist) {
			return repaired, ierr
		}
	}
	for _, dir := range dirs {
		if err == nil && !dry {
			err = fsys.SyncDir(dir)
		}
	}
	return repaired, err
}

// rewriteHeader writes a segment's header in place; what is there is kept if it is damaged.
func rewriteHeader(s *segment, damaged bool) error {
	if damaged {
		if _, err := keepDamaged(vfs.OS{}, s, 0, segmentHead); err != nil {
			return err
		}
	}
	f, err := vfs.OS{}.Open(s.file.Path(), os.O_RDWR)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(s.encode(), 0)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
