// Package memory is Flume's memory channel: a bounded queue of events in this
// process. What it holds is gone when the process dies.
//
// Events are kept by value in one ring with the blocks that they view beside
// them. A put or a take costs one lock and one copy of 48 bytes an event,
// whatever the batch, and allocates nothing.
package memory

import (
	"context"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/channel/wait"
)

func init() {
	component.RegisterChannel(component.Info{
		Name:    "memory",
		Classes: []string{"org.apache.flume.channel.MemoryChannel"},
		Doc:     "Holds events in memory, bounded by their number and by the bytes of their bodies.",
		Notes: "The default of `byteCapacity` is 80 % of the process's memory limit (`GOMEMLIMIT`) or, without one, a quarter of the machine's memory: " +
			"there is no JVM heap to take 80 % of. A take waits only until the first event comes, so a sink gets what is there without delay.",
	}, func() component.ChannelConfig { return new(config) })
}

type config struct {
	capacity     int
	txCapacity   int
	keepAlive    time.Duration
	byteCapacity int64
	byteBuffer   int
}

func (c *config) Fields() []component.Field {
	return []component.Field{
		component.Int("capacity", &c.capacity, 100).In("events").Min(1).Lenient().
			Describe("How many events the channel holds, those of open takes included."),
		component.Int("transactionCapacity", &c.txCapacity, 100).In("events").Min(1).Lenient().
			Describe("The largest batch of one put or take; at most capacity."),
		component.Duration("keep-alive", &c.keepAlive, time.Second, 3*time.Second).Min(0).Lenient().
			Describe("How long a put waits for room and a take for an event."),
		component.Int64("byteCapacity", &c.byteCapacity, DefaultByteCapacity()).AsType("bytes").In("bytes").AsDefault(DefaultByteCapacityText).Min(0).
			Describe("Bound on the bytes of the bodies, counted in slots of 100 bytes. A result below one slot means no bound, as in Flume."),
		component.Int("byteCapacityBufferPercentage", &c.byteBuffer, 20).In("%").Min(0).Max(100).
			Describe("The share of byteCapacity that is set aside for headers, which are not counted."),
	}
}

// NewChannel makes the channel.
func (c *config) NewChannel(component.Env) (component.Channel, error) {
	if c.txCapacity > c.capacity {
		return nil, &component.KeyError{Key: "transactionCapacity",
			Err:  fmt.Errorf("%d is larger than the capacity, %d", c.txCapacity, c.capacity),
			Hint: "lower it, or raise capacity"}
	}
	return New(Config{Capacity: c.capacity, TransactionCapacity: c.txCapacity, KeepAlive: c.keepAlive,
		SlotSize: slotSize, Slots: Slots(c.byteCapacity, c.byteBuffer, slotSize)}), nil
}

// slotSize is the granularity of byte accounting, in bytes (Flume's).
const slotSize = 100

// Slots is how many slots of size bytes a byteCapacity has, less the buffer's percentage. A result below one means no
// bound, as in Flume.
func Slots(byteCapacity int64, buffer, size int) int64 {
	slots := int64(float64(byteCapacity) * (1 - float64(buffer)/100) / float64(size))
	if slots < 1 {
		return math.MaxInt32
	}
	return slots
}

// DefaultByteCapacityText describes DefaultByteCapacity in the documentation.
const DefaultByteCapacityText = "80 % of GOMEMLIMIT, or a quarter of the memory"

// DefaultByteCapacity stands for "80 % of the JVM's heap".
func DefaultByteCapacity() int64 {
	if limit := debug.SetMemoryLimit(-1); limit != math.MaxInt64 {
		return limit / 5 * 4
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemTotal:" {
				if kb, err := strconv.ParseInt(f[1], 10, 64); err == nil {
					return kb << 10 / 4
				}
			}
		}
	}
	return 512 << 20
}

// run is what one put left behind: events that view the next blocks in the
// ring of blocks. first numbers the events in the order of the puts.
type run struct {
	first          int64
	events, blocks int32
}

// Config is how a channel is made.
type Config struct {
	Capacity            int // in events
	TransactionCapacity int // in events; 0: no limit, and a batch that is larger than Capacity is put once the channel is empty
	KeepAlive           time.Duration
	SlotSize            int   // granularity of the account of bytes
	Slots               int64 // bound on the bodies
}

// Channel is the queue. Use New.
type Channel struct {
	cfg Config

	mu     sync.Mutex
	events ring[event.Event]
	blocks ring[*event.Block]
	runs   ring[run]
	next   int64 // number of the next event
	leased int   // events of open takes: they still fill the channel
	used   int64 // slots, those of open takes included
	pinned int64 // bytes of the blocks in the rings; a block shared by two puts counts twice

	// One token each: some put (take) may find what it waits for. The
	// woken one passes the token on when there is more.
	room, some chan struct{}
}

var _ component.Channel = (*Channel)(nil)

// New returns an empty channel.
func New(cfg Config) *Channel {
	return &Channel{cfg: cfg, room: make(chan struct{}, 1), some: make(chan struct{}, 1)}
}

// Start does nothing: there is nothing to acquire.
func (c *Channel) Start(context.Context) error { return nil }

// Stop keeps the events, as Flume does over a reload; they go with the process.
func (c *Channel) Stop(context.Context) error { return nil }

// TransactionCapacity is the largest batch of a put or take.
func (c *Channel) TransactionCapacity() int { return c.cfg.TransactionCapacity }

// Stats counts events of open takes as still in the channel, as Flume does
// for the capacity.
func (c *Channel) Stats() component.ChannelStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return component.ChannelStats{Size: int64(c.events.len() + c.leased), Capacity: int64(c.cfg.Capacity), Bytes: c.pinned}
}

func (c *Channel) slotsOf(evs []event.Event) int64 {
	n, size := int64(len(evs)), c.cfg.SlotSize
	for i := range evs {
		if body := len(evs[i].Body); body > size {
			n += int64((body - 1) / size)
		}
	}
	return n
}

// Put adds the whole batch, waiting keep-alive for room.
func (c *Channel) Put(ctx context.Context, b *event.Batch) error {
	return c.PutWithin(ctx, b, c.cfg.KeepAlive)
}

// PutWithin is Put with a keep-alive of its own.
func (c *Channel) PutWithin(ctx context.Context, b *event.Batch, keepAlive time.Duration) error {
	evs := b.Events()
	if len(evs) == 0 {
		return nil
	}
	if most := c.cfg.TransactionCapacity; most > 0 && len(evs) > most {
		return fmt.Errorf("put %d events: more than the channel's transactionCapacity of %d (lower the batch size or raise it)", len(evs), most)
	}
	need := c.slotsOf(evs)
	if need > c.cfg.Slots {
		return component.Permanent(fmt.Errorf("put %d events: their bodies need %d bytes, the channel's byteCapacity allows %d", len(evs), need*int64(c.cfg.SlotSize), c.cfg.Slots*int64(c.cfg.SlotSize)))
	}
	var w wait.Timer
	defer w.Stop()
	expired := false
	for {
		c.mu.Lock()
		if c.fits(len(evs)) && c.used+need <= c.cfg.Slots {
			break
		}
		c.mu.Unlock()
		if expired {
			return component.ErrFull
		}
		if !w.For(ctx, c.room, keepAlive) {
			if err := ctx.Err(); err != nil {
				return err
			}
			expired = true // one more look: the token may have gone to a put that did not fit
		}
	}
	c.used += need
	c.events.push(evs, max(c.cfg.Capacity, len(evs)))
	blks := b.Blocks()
	for _, blk := range blks {
		blk.Retain()
		c.pinned += int64(blk.Cap())
	}
	c.blocks.push(blks, math.MaxInt)
	c.runs.push1(run{c.next, int32(len(evs)), int32(len(blks))}, math.MaxInt)
	c.next += int64(len(evs))
	more := c.events.len()+c.leased < c.cfg.Capacity
	c.mu.Unlock()
	wait.Signal(c.some)
	if more && w.Waited() { // another put may be waiting too
		wait.Signal(c.room)
	}
	return nil
}

// fits says whether there is room for n events. mu is held.
func (c *Channel) fits(n int) bool {
	held := c.events.len() + c.leased
	return held+n <= c.cfg.Capacity || held == 0 && c.cfg.TransactionCapacity == 0
}

// NewTaker returns a taker with a lease of its own that is used over and over.
func (c *Channel) NewTaker() component.Taker {
	l := &lease{c: c}
	return l
}

// lease is a taker and its only lease.
type lease struct {
	c      *Channel
	open   bool
	events []event.Event
	blocks []*event.Block
	runs   []run
	slots  int64
	wait   wait.Timer
}

// Take leases up to limit events.
func (l *lease) Take(ctx context.Context, limit int) (component.Lease, error) {
	if l.open {
		return nil, fmt.Errorf("take: the last take was neither committed nor rolled back")
	}
	if most := l.c.cfg.TransactionCapacity; most > 0 {
		limit = min(limit, most)
	}
	c := l.c
	defer l.wait.Stop()
	for {
		c.mu.Lock()
		if c.events.len() > 0 {
			break
		}
		c.mu.Unlock()
		if !l.wait.For(ctx, c.some, c.cfg.KeepAlive) {
			return nil, nil
		}
	}
	n := min(limit, c.events.len())
	l.events = c.events.pop(l.events[:0], n)
	for left := n; left > 0; {
		r := c.runs.front()
		l.blocks = c.blocks.peek(l.blocks, int(r.blocks))
		if int(r.events) > left { // the rest of the run stays, and holds its blocks too
			for _, blk := range l.blocks[len(l.blocks)-int(r.blocks):] {
				blk.Retain()
			}
			l.runs = append(l.runs, run{r.first, int32(left), r.blocks})
			r.events -= int32(left)
			r.first += int64(left)
			break
		}
		left -= int(r.events)
		l.runs = append(l.runs, *r)
		for range r.blocks {
			c.pinned -= int64((*c.blocks.front()).Cap())
			c.blocks.drop()
		}
		c.runs.drop()
	}
	c.leased += n
	more := c.events.len() > 0
	c.mu.Unlock()
	l.slots = c.slotsOf(l.events)
	l.open = true
	if more && l.wait.Waited() { // another take may be waiting too
		wait.Signal(c.some)
	}
	return l, nil
}

// Events is what was taken.
func (l *lease) Events() []event.Event { return l.events }

// Commit gives the room of the events back.
func (l *lease) Commit() error {
	if !l.open {
		return fmt.Errorf("commit: nothing was taken")
	}
	c := l.c
	c.mu.Lock()
	c.leased -= len(l.events)
	c.used -= l.slots
	c.mu.Unlock()
	wait.Signal(c.room)
	for _, blk := range l.blocks {
		blk.Release()
	}
	l.reset()
	return nil
}

// Rollback puts the events back at the head of the queue, in order, also with
// those that another lease gave back before.
func (l *lease) Rollback() error {
	if !l.open {
		return fmt.Errorf("rollback: nothing was taken")
	}
	c := l.c
	c.mu.Lock()
	for _, blk := range l.blocks {
		c.pinned += int64(blk.Cap())
	}
	c.leased -= len(l.events)
	c.giveBack(l.events, l.blocks, l.runs)
	c.mu.Unlock()
	wait.Signal(c.some)
	l.reset()
	return nil
}

// giveBack puts runs with their events and blocks in where they belong. mu is held.
func (c *Channel) giveBack(events []event.Event, blocks []*event.Block, runs []run) {
	last := runs[len(runs)-1].first
	events, blocks, runs = slices.Clip(events), slices.Clip(blocks), slices.Clip(runs) // they are the lease's
	for c.runs.len() > 0 && c.runs.front().first < last {                              // another lease gave back what comes between
		r := *c.runs.front()
		c.runs.drop()
		at, e, b := 0, 0, 0
		for runs[at].first < r.first {
			e, b = e+int(runs[at].events), b+int(runs[at].blocks)
			at++
		}
		events = slices.Insert(events, e, c.events.pop(nil, int(r.events))...)
		blocks = slices.Insert(blocks, b, c.blocks.pop(nil, int(r.blocks))...)
		runs = slices.Insert(runs, at, r)
	}
	c.events.pushFront(events)
	c.blocks.pushFront(blocks)
	c.runs.pushFront(runs)
}

func (l *lease) reset() {
	l.open = false
	clear(l.events)
	clear(l.blocks)
	l.events, l.blocks, l.runs, l.slots = l.events[:0], l.blocks[:0], l.runs[:0], 0
}
