package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/channel/wait"
)

// lease is a taker and its only lease.
type lease struct {
	c       *Channel
	con     *consumer // not nil while the lease is open
	entries []entry
	events  []event.Event
}

// Take leases up to limit events.
func (l *lease) Take(ctx context.Context, limit int) (component.Lease, error) {
	if l.con != nil {
		return nil, errors.New("take: the last take was neither committed nor rolled back")
	}
	c := l.c
	con, err := c.member()
	if err != nil {
		return nil, fmt.Errorf("take: %w", err)
	}
	begin := time.Now()
	var timer *time.Timer
	for waited := false; ; waited = true {
		c.mu.Lock()
		if limit > c.most {
			c.most = limit
			wait.Signal(c.room)
		}
		n, behind := min(c.queue.len(), limit), c.behind()
		patience := c.pollTimeout
		switch {
		case behind > 0 && n == 0:
			patience = max(c.due, c.pollTimeout)
		case behind > 0 && n < limit:
			patience = c.fill
		case n > 0:
			patience = 0
		}
		left := patience - time.Since(begin)
		if n > 0 && (left <= 0 || ctx.Err() != nil) {
			l.lend(con, n)
			more := c.queue.len() > 0
			c.mu.Unlock()
			wait.Signal(c.room)
			if more && waited { // another take may be waiting too
				wait.Signal(c.some)
			}
			c.timed(&c.got, c.getTimer, begin)
			return l, nil
		}
		c.mu.Unlock()
		if left <= 0 || ctx.Err() != nil {
			return nil, nil
		}
		if timer == nil {
			timer = time.NewTimer(left)
			defer timer.Stop()
		} else {
			timer.Reset(left)
		}
		select {
		case <-c.some:
		case <-timer.C:
		case <-con.work.Done():
			return nil, nil
		case <-ctx.Done():
		}
	}
}

// lend moves n entries into the lease. mu is held.
func (l *lease) lend(con *consumer, n int) {
	l.con = con
	l.entries = l.c.queue.pop(l.entries[:0], n)
	for i := range l.entries {
		l.entries[i].part.open++
		l.events = append(l.events, l.entries[i].event)
	}
	l.c.leased += int64(n)
	l.c.open[l] = struct{}{}
}

// reattach makes the events that leases have of a partition from before it was
// lost its events now. mu is held.
func (c *Channel) reattach(old, p *part) {
	for l := range c.open {
		for i := range l.entries {
			if e := &l.entries[i]; e.part == old {
				e.part = p
				p.open++
				p.held = append(p.held, span{e.offset, e.offset + 1})
			}
		}
	}
	slices.SortFunc(p.held, func(a, b span) int { return cmp.Compare(a.from, b.from) })
}

// Events is what was taken.
func (l *lease) Events() []event.Event { return l.events }

// Commit commits the offsets of the events. They are delivered, so that this
// fails is no reason to offer them again: it is tried again until it
// succeeds, and an agent that ends before that takes them once more.
func (l *lease) Commit() error {
	con := l.con
	if con == nil {
		return errors.New("commit: nothing was taken")
	}
	c := l.c
	c.mu.Lock()
	lost := 0
	var s span
	for i := range l.entries {
		e := &l.entries[i]
		if e.part.gone {
			lost++ // but it may come back
		}
		if s.to == s.from {
			s.from = e.from
		}
		s.to = e.offset + 1
		if next := i + 1; next == len(l.entries) || l.entries[next].part != e.part || l.entries[next].from != s.to {
			e.part.take(s)
			s = span{}
		}
	}
	l.close()
	c.mu.Unlock()
	if lost > 0 {
		c.log.Warn("events were delivered of partitions that this member does not have any more: if it does not get them back, another one delivers them again (a batch took longer than kafka.consumer.max.poll.interval.ms, or no broker answered for kafka.consumer.session.timeout.ms)", "group", c.consumer.Group, "events", lost)
	}
	con.commitSoon()
	return nil
}

// Rollback puts the events back at the head of the queue, in order, but for
// those of partitions that are another member's by now: it has them as well.
func (l *lease) Rollback() error {
	if l.con == nil {
		return errors.New("rollback: nothing was taken")
	}
	c := l.c
	c.rollbacks.Add(int64(len(l.entries)))
	c.mu.Lock()
	if c.con == l.con {
		back := slices.DeleteFunc(slices.Clone(l.entries), func(e entry) bool { return e.part.gone || e.part.revoking })
		c.queue.giveBack(back)
	}
	l.close()
	c.mu.Unlock()
	wait.Signal(c.some)
	return nil
}

// close ends the lease. mu is held.
func (l *lease) close() {
	for i := range l.entries {
		l.entries[i].part.closed()
	}
	if l.c.con == l.con {
		l.c.leased -= int64(len(l.entries))
	}
	delete(l.c.open, l)
	clear(l.entries)
	clear(l.events)
	l.con, l.entries, l.events = nil, l.entries[:0], l.events[:0]
}

// closed takes an event from those in leases. Channel.mu is held.
func (p *part) closed() {
	if p.open--; p.open == 0 && p.idle != nil {
		close(p.idle)
		p.idle = nil
	}
}
