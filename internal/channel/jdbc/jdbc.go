// Package jdbc is Flume's JDBC channel: events are rows of a table, in SQLite or in PostgreSQL. docs/jdbc-channel.md describes
// the tables and what they guarantee.
//
// One process at a time has the table. So the ids of events are given here, in the order of the puts; what is leased is known
// here alone, and what a process that died had leased is simply there; and the number of events is counted once, at the start.
// All changes go through one connection, in the order in which they come in, and those that wait at the same time share a
// transaction. Takers read ahead with a second one.
package jdbc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/channel/wait"
)

// Channel is the channel.
type Channel struct {
	store     store
	capacity  int64 // in events; 0: no limit
	keepAlive time.Duration
	log       *slog.Logger
	health    func(error)
	pool      *event.Pool

	room, some chan struct{} // as in the memory channel: one token each

	mu       sync.Mutex
	size     int64 // events that a put committed and no take has committed
	reserved int64 // events of puts under way
	run      *running
}

var _ component.Channel = (*Channel)(nil)

func newChannel(s store, capacity int64, keepAlive time.Duration, env component.Env) *Channel {
	c := &Channel{store: s, capacity: capacity, keepAlive: keepAlive, log: env.Log, health: env.Health, pool: event.NewPool(),
		room: make(chan struct{}, 1), some: make(chan struct{}, 1)}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.health == nil {
		c.health = func(error) {}
	}
	return c
}

var errNotStarted = errors.New("the channel is not started")

func (c *Channel) running() (*running, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run == nil {
		return nil, errNotStarted
	}
	return c.run, nil
}

// Start connects and counts what is there.
func (c *Channel) Start(ctx context.Context) error {
	if _, err := c.running(); err == nil {
		return nil
	}
	s, err := c.store.open(ctx, false)
	if err != nil {
		return fmt.Errorf("open %s: %w", c.store, err)
	}
	n, lowest, highest, err := s.census(ctx)
	if err != nil {
		return errors.Join(fmt.Errorf("count the events in %s: %w", c.store, err), s.close())
	}
	c.log.Info("database opened", "database", c.store.String(), "events", n)
	r := newRunning(c, s, lowest, highest+1)
	c.mu.Lock()
	c.size, c.reserved, c.run = n, 0, r
	c.mu.Unlock()
	r.done.Go(r.work)
	wait.Signal(c.some)
	return nil
}

// Stop writes what waits to be written, and disconnects. What open leases hold comes again after the next start.
func (c *Channel) Stop(ctx context.Context) error {
	c.mu.Lock()
	r := c.run
	c.run = nil
	c.mu.Unlock()
	if r == nil {
		return nil
	}
	return r.halt(ctx)
}

// TransactionCapacity is 0: there is no limit.
func (c *Channel) TransactionCapacity() int { return 0 }

// Stats counts events of open takes as still in the channel, as Flume does.
func (c *Channel) Stats() component.ChannelStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return component.ChannelStats{Size: c.size, Capacity: c.capacity, Durable: true}
}

// Put writes the whole batch in one transaction and returns when it is durable.
func (c *Channel) Put(ctx context.Context, b *event.Batch) error {
	evs := b.Events()
	if len(evs) == 0 {
		return nil
	}
	r, err := c.running()
	if err != nil {
		return fmt.Errorf("put %d events: %w", len(evs), err)
	}
	for i := range evs {
		if n := size(&evs[i]); n > maxEvent {
			return component.Permanent(fmt.Errorf("put %d events: one has %d bytes, a row of the channel's table takes %d", len(evs), n, maxEvent))
		}
	}
	n := int64(len(evs))
	if err := c.reserve(ctx, n); err != nil {
		return err
	}
	err = r.put(ctx, evs)
	c.mu.Lock()
	c.reserved -= n
	if err == nil {
		c.size += n
	}
	more := c.fits(1)
	c.mu.Unlock()
	if more {
		wait.Signal(c.room)
	}
	if err != nil {
		return fmt.Errorf("put %d events: %w", n, err)
	}
	wait.Signal(c.some)
	return nil
}

// fits says whether there is room for n more events; for a batch that is larger than the capacity there is when the channel is
// empty. mu is held.
func (c *Channel) fits(n int64) bool {
	held := c.size + c.reserved
	return c.capacity <= 0 || held+n <= c.capacity || held == 0
}

// reserve waits keep-alive for room for n events.
func (c *Channel) reserve(ctx context.Context, n int64) error {
	var w wait.Timer
	defer w.Stop()
	expired := false
	for {
		c.mu.Lock()
		if c.fits(n) {
			c.reserved += n
			c.mu.Unlock()
			return nil
		}
		c.mu.Unlock()
		if expired {
			return component.ErrFull
		}
		if !w.For(ctx, c.room, c.keepAlive) {
			if err := ctx.Err(); err != nil {
				return err
			}
			expired = true // one more look: the token may have gone to a put that did not fit
		}
	}
}
