package jdbc

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/channel/wait"
)

// leaseBytes is about where a lease ends, however many events are asked for.
const leaseBytes = 16 << 20

// chunk is events that were read together.
type chunk struct {
	batch *event.Batch
	ids   []int64
	left  int // events that no commit took
}

// piece is some consecutive events of a chunk.
type piece struct {
	*chunk
	from, to int
}

// window is what takers have in memory: what was read and is not leased. What leases hold is not in it.
type window struct {
	tk     sync.Mutex // all below, and who takes next
	cursor int64      // events below it were read
	ready  []piece    // ascending
}

// forget lets go of what nobody has leased. tk is held.
func (w *window) forget() {
	for _, p := range w.ready {
		w.settled(p)
	}
	w.ready = nil
}

// settled counts a piece's events as gone. tk is held.
func (w *window) settled(p piece) {
	if p.left -= p.to - p.from; p.left == 0 {
		p.batch.Release()
	}
}

// giveBack puts pieces in where they belong. tk is held.
func (w *window) giveBack(ps []piece) {
	w.ready = append(w.ready, ps...)
	slices.SortFunc(w.ready, func(a, b piece) int { return cmp.Compare(a.ids[a.from], b.ids[b.from]) })
	whole := w.ready[:0]
	for _, p := range w.ready {
		if n := len(whole); n > 0 && whole[n-1].chunk == p.chunk && whole[n-1].to == p.from {
			whole[n-1].to = p.to
			continue
		}
		whole = append(whole, p)
	}
	clear(w.ready[len(whole):])
	w.ready = whole
}

// NewTaker returns a taker with a lease of its own that is used over and over.
func (c *Channel) NewTaker() component.Taker { return &lease{c: c} }

// lease is a taker and its only lease.
type lease struct {
	c      *Channel
	r      *running // not nil while the lease is open
	events []event.Event
	merged []event.Event // room for events of several pieces
	bytes  int
	pieces []piece
	spans  []span
	wait   wait.Timer
}

// Take leases up to limit events, in the order of the puts.
func (l *lease) Take(ctx context.Context, limit int) (component.Lease, error) {
	if l.r != nil {
		return nil, fmt.Errorf("take: the last take was neither committed nor rolled back")
	}
	c := l.c
	r, err := c.running()
	if err != nil {
		return nil, fmt.Errorf("take: %w", err)
	}
	defer l.wait.Stop()
	for {
		more, err := r.collect(l, limit)
		if len(l.pieces) > 0 {
			if more && l.wait.Waited() { // another take may be waiting too
				wait.Signal(c.some)
			}
			return l, nil
		}
		if !l.wait.For(ctx, c.some, c.keepAlive) {
			if err != nil && ctx.Err() == nil {
				err = fmt.Errorf("take: %w", err)
			}
			return nil, err
		}
	}
}

// collect fills l. more says that others may find something.
func (r *running) collect(l *lease, limit int) (more bool, err error) {
	r.tk.Lock()
	defer r.tk.Unlock()
	s, horizon, err := r.session()
	if err != nil {
		return false, err
	}
	n := 0
	for n < limit && l.bytes < leaseBytes {
		if len(r.ready) == 0 {
			if r.cursor >= horizon {
				break
			}
			if err = r.fill(s, horizon, max(limit-n, 500)); err != nil {
				break
			}
			continue
		}
		p := &r.ready[0]
		got := piece{p.chunk, p.from, p.from}
		for ; got.to < p.to && n < limit && l.bytes < leaseBytes; n++ {
			l.bytes += size(&p.batch.Events()[got.to])
			got.to++
		}
		if p.from = got.to; p.from == p.to {
			r.ready = slices.Delete(r.ready, 0, 1)
		}
		l.pieces = append(l.pieces, got)
	}
	if n == 0 {
		return false, err
	}
	l.r = r
	if len(l.pieces) == 1 {
		p := l.pieces[0]
		l.events = p.batch.Events()[p.from:p.to:p.to]
	} else {
		for _, p := range l.pieces {
			l.merged = append(l.merged, p.batch.Events()[p.from:p.to]...)
		}
		l.events = l.merged
	}
	return len(r.ready) > 0 || r.cursor < horizon, nil
}

// fill reads on. tk is held.
func (r *running) fill(s session, horizon int64, limit int) error {
	ck := &chunk{batch: r.c.pool.NewBatch()}
	ids, err := s.read(r.life, span{r.cursor, horizon}, limit, ck.batch, nil)
	if err != nil {
		ck.batch.Release()
		r.mu.Lock()
		r.suspect = true
		r.mu.Unlock()
		wait.Signal(r.kick)
		return fmt.Errorf("read from %s: %w", r.c.store, err)
	}
	if len(ids) == 0 {
		ck.batch.Release()
		r.cursor = horizon
		return nil
	}
	r.cursor = ids[len(ids)-1] + 1
	ck.ids, ck.left = ids, len(ids)
	r.ready = append(r.ready, piece{ck, 0, len(ids)})
	return nil
}

// Events is what was taken.
func (l *lease) Events() []event.Event { return l.events }

// Commit takes the events out of the table.
func (l *lease) Commit() error {
	r := l.r
	if r == nil {
		return fmt.Errorf("commit: nothing was taken")
	}
	l.spans = l.spans[:0]
	for _, p := range l.pieces {
		// What is not between two events that were read together is not there.
		s := span{p.ids[p.from], p.ids[p.to-1] + 1}
		if n := len(l.spans); n > 0 && l.spans[n-1].end == s.first {
			l.spans[n-1].end = s.end
		} else {
			l.spans = append(l.spans, s)
		}
	}
	n := int64(len(l.events))
	err := r.remove(l.spans, n)
	r.tk.Lock()
	for _, p := range l.pieces {
		r.settled(p)
	}
	r.tk.Unlock()
	l.reset()
	if err != nil {
		return fmt.Errorf("commit the take of %d events: %w", n, err)
	}
	l.c.mu.Lock()
	l.c.size -= n
	l.c.mu.Unlock()
	wait.Signal(l.c.room)
	return nil
}

// Rollback puts the events back, in order, before the others. The database need not know.
func (l *lease) Rollback() error {
	r := l.r
	if r == nil {
		return fmt.Errorf("rollback: nothing was taken")
	}
	r.tk.Lock()
	r.giveBack(l.pieces)
	r.tk.Unlock()
	l.reset()
	wait.Signal(l.c.some)
	return nil
}

func (l *lease) reset() {
	l.r = nil
	clear(l.merged)
	clear(l.pieces)
	l.events, l.merged, l.bytes, l.pieces = nil, l.merged[:0], 0, l.pieces[:0]
}
