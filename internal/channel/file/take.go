package file

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/channel/wait"
	"github.com/sluice-data/sluice/internal/seglog"
)

// readAhead is how much is read at once where there is as much.
const readAhead = 256 << 10

// piece is some of the events of one frame, in a lease or given back by one.
type piece struct {
	seg  *segment
	pos  int64 // of the frame
	size int64 // of the frame
	off  int64 // where in the frame the first of the events begins
	span
}

// cursor is how far the log was read: everything before it is taken, or in a lease, or was given back.
type cursor struct {
	seg  *segment
	pos  int64 // of a frame, or behind the last
	next int64 // the next event

	// The frame at pos, once it is read and found good.
	frame  []byte // nil: not yet; decrypted
	size   int64  // of it on the disk
	off    int64  // where in it the event next begins
	end    int64  // the number behind its last event
	blk    *event.Block
	opened *event.Block // blk, if it is not what was read but what was decrypted of it

	// What was read of the segment last.
	win    *event.Block
	winSeg *segment
	winPos int64
}

// drop lets go of what was read.
func (c *cursor) drop() {
	c.leave()
	if c.win != nil {
		c.win.Release()
		c.win, c.winSeg = nil, nil
	}
}

// leave lets go of the frame.
func (c *cursor) leave() {
	c.frame, c.blk = nil, nil
	if c.opened != nil {
		c.opened.Release()
		c.opened = nil
	}
}

func (c *cursor) moveTo(s *segment) {
	c.drop()
	c.seg, c.pos = s, segmentHead
}

// corruptError says that there is no good frame at a place where one should be.
type corruptError struct{ err error }

func (e *corruptError) Error() string { return e.err.Error() }
func (e *corruptError) Unwrap() error { return e.err }

// window returns n bytes of the segment from pos on, and up to readAhead more are read with them. limit is where the
// readable part of the segment ends.
func (c *cursor) window(pool *event.Pool, seg *segment, pos, n, limit int64) ([]byte, error) {
	if n > limit-pos {
		return nil, &corruptError{fmt.Errorf("%d bytes where %d are left: %w", n, limit-pos, io.ErrUnexpectedEOF)}
	}
	if c.winSeg == seg && pos >= c.winPos && pos+n <= c.winPos+int64(len(c.win.Bytes())) {
		return c.win.Bytes()[pos-c.winPos:][:n:n], nil
	}
	c.drop()
	size := max(n, min(readAhead, limit-pos))
	blk := pool.Block(int(size))
	b := blk.Extend(int(size))
	if err := readFull(seg, b, pos); err != nil {
		blk.Release()
		return nil, err
	}
	c.win, c.winSeg, c.winPos = blk, seg, pos
	return b[:n:n], nil
}

func readFull(seg *segment, b []byte, pos int64) error {
	got, err := seg.file.ReadAt(b, pos)
	switch {
	case got == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return &corruptError{fmt.Errorf("%s ends at byte %d: %w", seg.file.Path(), pos+int64(got), io.ErrUnexpectedEOF)}
	}
	return fmt.Errorf("read %s at byte %d: %w", seg.file.Path(), pos, err)
}

// read returns the frame at the cursor.
func (c *cursor) read(pool *event.Pool, limit int64) ([]byte, header, error) {
	b, err := c.window(pool, c.seg, c.pos, frameHead, limit)
	if err != nil {
		return nil, header{}, err
	}
	h, err := parseHeader(b)
	if err != nil {
		return nil, h, &corruptError{err}
	}
	if b, err = c.window(pool, c.seg, c.pos, h.size, limit); err != nil {
		return nil, h, err
	}
	if _, err := parseFrame(b); err != nil {
		return nil, h, &corruptError{err}
	}
	return b, h, nil
}

// advance brings the cursor to the next event that is not taken; false if there is none. tk is held.
func (r *running) advance() (bool, error) {
	c := &r.cur
	for {
		if c.frame != nil {
			ok, err := r.skipTaken()
			if ok || err != nil {
				return ok, err
			}
			c.pos += c.size
			r.read.Add(c.size)
			c.leave()
		}
		visible, err := r.wal.readable()
		if err != nil {
			return false, err
		}
		if c.next >= visible.event {
			return false, nil
		}
		limit := c.seg.file.Size()
		if c.seg == visible.seg {
			limit = visible.off
		}
		if c.pos >= limit {
			if c.seg == visible.seg {
				r.lose(visible.event)
				return false, nil
			}
			c.moveTo(r.wal.after(c.seg))
			r.lose(c.seg.event)
			continue
		}
		b, h, err := c.read(r.c.pool, limit)
		var bad *corruptError
		switch {
		case errors.As(err, &bad):
			next, err := r.setAside(c.seg, c.pos, limit, bad)
			if err != nil {
				return false, err
			}
			c.drop()
			c.pos = next
		case err != nil:
			return false, err
		case h.typ != framePut || h.event+int64(h.count) <= c.next:
			c.pos += h.size
			r.read.Add(h.size)
		default:
			r.lose(h.event)
			blk := c.win
			if h.encrypted {
				if blk, b, err = r.decrypt(c.seg, c.pos, b); err != nil {
					return false, err
				}
				c.opened = blk
			}
			c.frame, c.size, c.off, c.end, c.blk = b, h.size, frameHead, h.event+int64(h.count), blk
			for at := h.event; at < c.next; at++ { // a recovery begins anywhere in a frame
				if err := r.pass(); err != nil {
					return false, err
				}
			}
		}
	}
}

// decrypt returns a frame with its events as they were put, and the block that it is in. tk is held.
func (r *running) decrypt(seg *segment, pos int64, frame []byte) (*event.Block, []byte, error) {
	blk := r.c.pool.Block(len(frame))
	b, err := r.wal.opener.open(blk.Extend(len(frame)), frame)
	if err != nil {
		blk.Release()
		return nil, nil, fmt.Errorf("frame at byte %d of %s: %w", pos, seg.file.Path(), err)
	}
	return blk, b, nil
}

// skipTaken passes over what a recovery found taken in the cursor's frame; false if nothing else is left in it.
func (r *running) skipTaken() (bool, error) {
	c := &r.cur
	for c.next < c.end {
		if len(r.taken) == 0 || r.taken[0].from > c.next {
			return true, nil
		}
		if r.taken[0].to <= c.next {
			r.taken = r.taken[1:]
			continue
		}
		if r.taken[0].to >= c.end {
			c.next = c.end
			break
		}
		for c.next < r.taken[0].to {
			if err := r.pass(); err != nil {
				return false, err
			}
			c.next++
		}
	}
	return false, nil
}

// pass steps over one event of the cursor's frame without counting it.
func (r *running) pass() error {
	_, hs, rest, err := parseEvent(r.cur.frame[r.cur.off:], &r.names, r.hs[:0])
	if err != nil {
		return r.undecodable(r.cur.seg, r.cur.pos, err)
	}
	r.hs = hs
	r.cur.off = int64(len(r.cur.frame) - len(rest))
	return nil
}

// undecodable cannot be: the CRC of the frame is right.
func (r *running) undecodable(seg *segment, pos int64, err error) error {
	return fmt.Errorf("frame at byte %d of %s: %w: a defect of the program, or the file was changed by hand", pos, seg.file.Path(), err)
}

// lose moves the cursor to an event whose predecessors cannot be read. tk is held.
func (r *running) lose(to int64) {
	from := r.cur.next
	if to <= from {
		return
	}
	lost := to - from
	for _, s := range r.taken {
		if s.from < to && s.to > from {
			lost -= min(s.to, to) - max(s.from, from)
		}
	}
	r.cur.next = to
	if lost <= 0 {
		return
	}
	r.forget(lost)
	r.c.log.Error("events are lost to damage; what is left of them is in the .damaged file", "events", lost, "numbers", fmt.Sprintf("%d to %d", from, to-1))
}

// forget takes lost events out of the account.
func (r *running) forget(lost int64) {
	r.c.mu.Lock()
	r.c.size -= lost
	r.c.mu.Unlock()
	wait.Signal(r.c.room)
}

// setAside copies the damaged bytes that begin at pos into a file of their own, and returns where good frames go on.
func (r *running) setAside(seg *segment, pos, limit int64, cause error) (int64, error) {
	next, err := seglog.Resume(seg.file, pos, limit, &framing{seq: seg.seq, gap: true})
	if err != nil {
		return 0, fmt.Errorf("look for good frames in %s behind byte %d: %w", seg.file.Path(), pos, err)
	}
	if next < 0 {
		next = limit
	}
	name, err := keepDamaged(r.wal.fs, seg, pos, next)
	if err != nil {
		return 0, err
	}
	r.report(seg, pos, next, name, cause)
	return next, nil
}

func (r *running) report(seg *segment, from, to int64, name string, cause error) {
	err := fmt.Errorf("%s is damaged from byte %d to %d: %w (the bytes are kept in %s, the events around them are delivered)",
		seg.file.Path(), from, to, cause, filepath.Base(name))
	r.c.log.Error("a file of the channel is damaged", "err", err)
	r.c.cfg.Env.Health(err)
}

// collect fills l with up to limit events that nobody else has, in order. more says that others may be left.
func (r *running) collect(l *lease, limit int) (more bool, err error) {
	r.tk.Lock()
	defer r.tk.Unlock()
	defer func() {
		if l.batch.Len() > 0 {
			l.r = r
			r.open = append(r.open, l)
		}
	}()
	if _, err := r.wal.readable(); err != nil {
		return false, err
	}
	for len(r.returned) > 0 && l.batch.Len() < limit {
		if err := r.again(l, limit-l.batch.Len()); err != nil {
			return false, err
		}
	}
	if len(r.returned) > 0 {
		return true, nil
	}
	for l.batch.Len() < limit {
		ok, err := r.advance()
		if err != nil || !ok {
			return false, err
		}
		stop := r.cur.end
		if s := r.taken.next(r.cur.next); s.from < stop {
			stop = s.from
		}
		p := piece{seg: r.cur.seg, pos: r.cur.pos, size: r.cur.size, off: r.cur.off, span: span{r.cur.next, r.cur.next}}
		p.to = min(stop, p.from+int64(limit-l.batch.Len()))
		off, err := r.decode(l.batch, r.cur.frame, r.cur.blk, p)
		if err != nil {
			r.giveBack(l)
			return false, err
		}
		r.cur.off, r.cur.next = off, p.to
		l.pieces = append(l.pieces, p)
	}
	if r.due() {
		wait.Signal(r.kick)
	}
	return true, nil
}

// giveBack undoes what collect did for l so far. tk is held.
func (r *running) giveBack(l *lease) {
	r.returned = append(r.returned, l.pieces...)
	slices.SortFunc(r.returned, func(a, b piece) int { return cmp.Compare(a.from, b.from) })
	l.pieces = l.pieces[:0]
	l.batch.Reset()
}

// decode adds a piece's events to b, which then holds blk, and returns where they end in the frame.
func (r *running) decode(b *event.Batch, frame []byte, blk *event.Block, p piece) (int64, error) {
	b.Attach(blk)
	b.Grow(int(p.to - p.from))
	rest := frame[p.off:]
	for range p.to - p.from {
		var body []byte
		var err error
		if body, r.hs, rest, err = parseEvent(rest, &r.names, r.hs[:0]); err != nil {
			return 0, r.undecodable(p.seg, p.pos, err)
		}
		b.AppendView(event.Event{Body: body})
		if len(r.hs) > 0 {
			b.SetHeaders(b.Len()-1, r.hs)
		}
	}
	return int64(len(frame) - len(rest)), nil
}

// again takes up to limit events of the first piece that was given back, reading its frame anew. tk is held.
func (r *running) again(l *lease, limit int) error {
	p := r.returned[0]
	blk := r.c.pool.Block(int(p.size))
	defer func() { blk.Release() }()
	b := blk.Extend(int(p.size))
	err := readFull(p.seg, b, p.pos)
	if err == nil {
		h, ferr := parseFrame(b)
		switch {
		case ferr != nil:
			err = &corruptError{ferr}
		case h.encrypted:
			var opened *event.Block
			if opened, b, err = r.decrypt(p.seg, p.pos, b); err == nil {
				blk.Release()
				blk = opened
			}
		}
	}
	var bad *corruptError
	if errors.As(err, &bad) { // it was good before
		name, err := keepDamaged(r.wal.fs, p.seg, p.pos, p.pos+p.size)
		if err != nil {
			return err
		}
		r.report(p.seg, p.pos, p.pos+p.size, name, bad)
		r.returned = r.returned[1:]
		r.forget(p.to - p.from)
		return nil
	}
	if err != nil {
		return err
	}
	part := p
	part.to = min(p.to, p.from+int64(limit))
	off, err := r.decode(l.batch, b, blk, part)
	if err != nil {
		r.giveBack(l)
		return err
	}
	l.pieces = append(l.pieces, part)
	if part.to == p.to {
		r.returned = r.returned[1:]
	} else {
		r.returned[0].from, r.returned[0].off = part.to, off
	}
	return nil
}
