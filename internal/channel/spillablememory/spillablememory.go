// Package spillablememory is Flume's spillable memory channel: the memory channel, and the file channel for what does not
// fit into it. docs/file-channel.md says what is on the disk.
//
// The parts are the channels themselves. What this package adds is the order of the events across them, as numbers of
// events: each part gives its own in order.
package spillablememory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/channel/file"
	"github.com/sluice-data/sluice/internal/channel/memory"
	"github.com/sluice-data/sluice/internal/channel/wait"
	"github.com/sluice-data/sluice/internal/seglog"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
)

const (
	// orderName is the file in checkpointDir with the order of the events, from a clean stop to the next start.
	orderName = "drain-order.json"
	// maxOrder bounds what is read of it.
	maxOrder = 64 << 20
	// keptDir is where the memory's events are then: in a file channel below checkpointDir and the first of dataDirs.
	keptDir = "memory"
	// keptFree is the free space in bytes from which on they are written. minimumRequiredSpace is for puts that can wait.
	keptFree = 1 << 20
	// A frame of what is kept holds up to so many events and bytes of bodies (or one event).
	keptEvents, keptBytes = 1000, 16 << 20
)

// Config is how a channel is made.
type Config struct {
	MemoryCapacity      int // in events; 0: no memory part
	OverflowCapacity    int // in events; 0: no overflow
	TransactionCapacity int // at most the larger of the two
	Timeout             time.Duration
	Threshold           int   // in percent
	SlotSize            int   // as the memory channel's
	Slots               int64 // as the memory channel's
	File                file.Config
}

// Channel is the channel. Use New.
type Channel struct {
	cfg  Config
	log  *slog.Logger
	past context.Context // has ended: for takes that do not wait

	mem  *memory.Channel // nil: no memory part
	disk *file.Channel   // nil: no overflow
	some chan struct{}   // one token: some take may find what it waits for

	spilling atomic.Bool // the memory was full, and too little of it is free yet

	gate    sync.RWMutex // held for reading by puts under way
	running bool         // written with gate and tk held

	tk   sync.Mutex // who takes next; held before mu
	open []*lease

	mu    sync.Mutex
	order order
	kept  *file.Channel // nil: nothing was ever kept
}

var _ component.Channel = (*Channel)(nil)

var errNotStarted = errors.New("the channel is not started")

// New returns a channel that is not started.
func New(cfg Config) *Channel {
	if cfg.File.FS == nil {
		cfg.File.FS = vfs.OS{}
	}
	log := cfg.File.Env.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	past, end := context.WithCancel(context.Background())
	end()
	c := &Channel{cfg: cfg, log: log, past: past, some: make(chan struct{}, 1)}
	if cfg.MemoryCapacity > 0 {
		c.mem = memory.New(memory.Config{Capacity: cfg.MemoryCapacity, TransactionCapacity: cfg.TransactionCapacity, KeepAlive: cfg.Timeout, SlotSize: cfg.SlotSize, Slots: cfg.Slots})
	}
	if cfg.OverflowCapacity > 0 {
		d := cfg.File
		d.Capacity, d.TransactionCapacity, d.KeepAlive = cfg.OverflowCapacity, cfg.TransactionCapacity, cfg.Timeout
		c.disk = file.New(d)
	}
	return c
}

// newKept is the channel for what the memory holds at a stop.
func (c *Channel) newKept() *file.Channel {
	k := c.cfg.File
	k.CheckpointDir, k.DataDirs, k.BackupDir = filepath.Join(k.CheckpointDir, keptDir), []string{filepath.Join(k.DataDirs[0], keptDir)}, ""
	k.Capacity, k.TransactionCapacity, k.KeepAlive = math.MaxInt, max(c.cfg.TransactionCapacity, keptEvents), 0
	k.MaxFileSize, k.SyncEvery = file.MaxFileSize, 0 // whatever was put must fit, and be there
	k.MinFree = min(k.MinFree, keptFree)
	k.Env.Log = c.log.With("part", keptDir)
	return file.New(k)
}

// Start recovers what is on the disk.
func (c *Channel) Start(ctx context.Context) (err error) {
	c.gate.Lock()
	defer c.gate.Unlock()
	c.tk.Lock()
	defer c.tk.Unlock()
	if c.running {
		return nil
	}
	if c.disk == nil {
		c.running = true
		return nil
	}
	if err := c.disk.Start(ctx); err != nil {
		return err
	}
	k := c.kept // of this process; it is as stopped as the rest
	defer func() {
		if err != nil {
			err = errors.Join(err, c.disk.Stop(ctx))
			if k != nil {
				err = errors.Join(err, k.Stop(ctx))
			}
		}
	}()
	if k == nil {
		list, err := c.cfg.File.FS.List(filepath.Join(c.cfg.File.CheckpointDir, keptDir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("look for what the last stop kept of the memory: %w", err)
		}
		if len(list) > 0 {
			k = c.newKept()
		}
	}
	if k != nil {
		if err := k.Start(ctx); err != nil {
			return fmt.Errorf("recover what the last stop kept of the memory: %w", err)
		}
	}
	o, err := c.readOrder(k)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.order.waiting() { // what a stop before this start could not write down
		o.push(r.part, r.n)
	}
	c.order, c.kept, c.running = o, k, true
	if len(o.waiting()) > 0 {
		wait.Signal(c.some)
	}
	return nil
}

// readOrder reads the order that a clean stop left, and removes it, because the first take or put makes it wrong. Without
// one, what is kept comes first: it was there before what has overflowed since.
func (c *Channel) readOrder(k *file.Channel) (order, error) {
	fsys, path := c.cfg.File.FS, filepath.Join(c.cfg.File.CheckpointDir, orderName)
	overflow, set := c.disk.Stats().Size, int64(0)
	if k != nil {
		set = k.Stats().Size
	}
	var o order
	b, err := seglog.ReadFile(fsys, path, maxOrder)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		o.push(kept, int(set))
		o.push(onDisk, int(overflow))
		return o, nil
	case err != nil:
		return o, err
	}
	if o, err = decodeOrder(b, overflow, set); err != nil {
		c.log.Warn("the order of the events at the last stop does not fit to what is there: what the memory held comes first", "file", path, "err", err)
		o = order{}
		o.push(kept, int(set))
		o.push(onDisk, int(overflow))
	}
	if err := fsys.Remove(path); err != nil {
		return o, fmt.Errorf("remove the order of the last stop: %w", err)
	}
	if err := fsys.SyncDir(filepath.Dir(path)); err != nil {
		return o, fmt.Errorf("remove the order of the last stop: %w", err)
	}
	return o, nil
}

// Stop writes what is in the memory to the disk, with the order of all events, even if ctx has ended: the time was the
// sinks', and this takes little. Without an overflow the memory stays as it is, and goes with the process.
func (c *Channel) Stop(ctx context.Context) error {
	c.gate.Lock()
	defer c.gate.Unlock()
	c.tk.Lock()
	defer c.tk.Unlock()
	if !c.running {
		return nil
	}
	c.running = false
	if c.disk == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.keep(context.WithoutCancel(ctx))
	err = errors.Join(err, c.disk.Stop(ctx))
	if c.kept != nil {
		err = errors.Join(err, c.kept.Stop(ctx))
	}
	return err
}

// held is a run and, if that is open, the lease on it, with its events.
type held struct {
	run
	lease  *lease
	events []event.Event
}

// keep moves the memory's events to the part that is kept. gate, tk and mu are held: nobody puts, takes or ends a lease.
// What an open lease has comes again after the next start, as in the file channel.
func (c *Channel) keep(ctx context.Context) error {
	var all []held
	for _, r := range c.order.waiting() {
		all = append(all, held{run: r})
	}
	for _, l := range c.open {
		at := 0
		for _, r := range l.pieces {
			all = append(all, held{r, l, l.events[at : at+r.n]})
			at += r.n
		}
		l.void = true
	}
	c.open = c.open[:0]
	slices.SortStableFunc(all, func(a, b held) int { return cmp.Compare(a.seq, b.seq) })
	left := 0
	for _, h := range all {
		if h.part == inMemory {
			left += h.n
		}
	}
	c.order = order{}
	if left == 0 && (c.kept == nil || c.kept.Stats().Size == 0) {
		return nil // all is in the overflow, in its order
	}
	if c.kept == nil {
		k := c.newKept()
		if err := k.Start(ctx); err != nil {
			for _, h := range all {
				if h.part == inMemory && h.lease == nil {
					c.order.push(inMemory, h.n)
				}
			}
			return fmt.Errorf("keep %d events of the memory: %w", left, err)
		}
		c.kept = k
	}
	m := mover{c: c, ctx: ctx, batch: event.NewPool().NewBatch()}
	defer m.batch.Release()
	if c.mem != nil {
		m.from = c.mem.NewTaker()
	}
	var failed error
	lost := 0
	rs := make([]run, 0, len(all))
	for _, h := range all {
		if h.part != inMemory {
			rs = append(rs, h.run)
			continue
		}
		written, moved := 0, 0
		if failed == nil {
			written, moved, failed = m.move(h)
		}
		if written > 0 {
			rs = append(rs, run{part: kept, n: written})
		}
		lost += h.n - written
		if h.lease == nil {
			c.order.push(inMemory, h.n-moved)
		}
	}
	if failed != nil {
		failed = fmt.Errorf("keep %d events of the memory, which goes with the process: %w", lost, failed)
	} else if left > 0 {
		c.log.Info("the events in the memory are written to the disk", "events", left)
	}
	b, err := encodeOrder(rs)
	if err == nil {
		err = seglog.WriteFile(c.cfg.File.FS, filepath.Join(c.cfg.File.CheckpointDir, orderName), b)
	}
	if err != nil { // no event depends on it
		c.log.Warn("the order of the events could not be written: what the memory held comes first after the next start", "err", err)
	}
	return failed
}

// mover moves events from the memory to the part that is kept.
type mover struct {
	c     *Channel
	ctx   context.Context
	from  component.Taker
	batch *event.Batch
}

// move writes the events of h down. It returns how many are written, and how many have left the memory: the same, unless it
// fails.
func (m *mover) move(h held) (written, moved int, err error) {
	if h.lease != nil {
		written, err = m.put(h.events)
		return written, written, err
	}
	for moved < h.n {
		l, err := m.from.Take(m.c.past, min(h.n-moved, keptEvents))
		if err == nil && l == nil {
			err = fmt.Errorf("BUG: the memory has %d events less than its order", h.n-moved)
		}
		if err != nil {
			return written, moved, err
		}
		evs := l.Events()
		n, err := m.put(evs)
		written += n
		if err != nil {
			return written, moved, errors.Join(err, l.Rollback())
		}
		moved += len(evs)
		if err := l.Commit(); err != nil {
			return written, moved, err
		}
	}
	return written, moved, nil
}

// put writes events in frames of bounded size.
func (m *mover) put(evs []event.Event) (int, error) {
	done := 0
	for done < len(evs) {
		n, bytes := 0, 0
		for n < keptEvents && done+n < len(evs) && (n == 0 || bytes+len(evs[done+n].Body) <= keptBytes) {
			bytes += len(evs[done+n].Body)
			m.batch.AppendView(evs[done+n])
			n++
		}
		err := m.c.kept.Put(m.ctx, m.batch)
		m.batch.Reset()
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// TransactionCapacity is the largest batch of a put or take.
func (c *Channel) TransactionCapacity() int { return c.cfg.TransactionCapacity }

// Stats counts events of open takes as still in the channel, as Flume does. With an overflow the events outlive the
// process, if that stops in order.
func (c *Channel) Stats() component.ChannelStats {
	c.mu.Lock()
	k := c.kept
	c.mu.Unlock()
	s := component.ChannelStats{Capacity: int64(c.cfg.MemoryCapacity) + int64(c.cfg.OverflowCapacity), Durable: c.disk != nil}
	add := func(p component.ChannelStats) { s.Size += p.Size; s.Bytes += p.Bytes }
	if c.mem != nil {
		add(c.mem.Stats())
	}
	if c.disk != nil {
		add(c.disk.Stats())
	}
	if k != nil {
		add(k.Stats())
	}
	return s
}

// Put adds the whole batch to the memory or, if it does not fit there, to the overflow.
func (c *Channel) Put(ctx context.Context, b *event.Batch) error {
	n := b.Len()
	if n == 0 {
		return nil
	}
	if n > c.cfg.TransactionCapacity {
		return fmt.Errorf("put %d events: more than the channel's transactionCapacity of %d (lower the batch size or raise it)", n, c.cfg.TransactionCapacity)
	}
	c.gate.RLock()
	defer c.gate.RUnlock()
	if !c.running {
		return fmt.Errorf("put %d events: %w", n, errNotStarted)
	}
	if c.mem != nil && n <= c.cfg.MemoryCapacity-c.stillKept() {
		limit := c.cfg.Timeout
		if c.spilling.Load() {
			limit = 0
		}
		err := c.mem.PutWithin(ctx, b, limit)
		if err == nil {
			c.added(inMemory, n)
			return nil
		}
		if n > c.cfg.OverflowCapacity || !errors.Is(err, component.ErrFull) && !component.IsPermanent(err) {
			return err
		}
		if errors.Is(err, component.ErrFull) && !c.spilling.Swap(true) {
			c.log.Info("the memory is full: events overflow to the disk", "memoryCapacity", c.cfg.MemoryCapacity)
		}
	}
	if n > c.cfg.OverflowCapacity { // what is kept has the room
		return component.ErrFull
	}
	if err := c.disk.Put(ctx, b); err != nil {
		return err
	}
	c.added(onDisk, n)
	return nil
}

// stillKept is how much of the memory's capacity a stop has used up: what it kept, and what has come since. It is 0 once
// all that was kept is gone, and then the memory itself counts.
func (c *Channel) stillKept() int {
	c.mu.Lock()
	k := c.kept
	c.mu.Unlock()
	if k == nil {
		return 0
	}
	n := k.Stats().Size
	if n > 0 {
		n += c.mem.Stats().Size
	}
	return int(n)
}

func (c *Channel) added(p part, n int) {
	c.mu.Lock()
	c.order.push(p, n)
	c.mu.Unlock()
	wait.Signal(c.some)
}

// calm ends the overflow when enough of the memory is free.
func (c *Channel) calm() {
	if !c.spilling.Load() || c.mem == nil {
		return
	}
	capacity := int64(c.cfg.MemoryCapacity)
	if free := capacity - c.mem.Stats().Size; free*100 >= int64(c.cfg.Threshold)*capacity && c.spilling.Swap(false) {
		c.log.Info("the memory has room again", "free", free)
	}
}

// NewTaker returns a taker with a lease of its own that is used over and over.
func (c *Channel) NewTaker() component.Taker { return &lease{c: c} }

// lease is a taker and its only lease: on events of the memory, of one of the other parts, or of both.
type lease struct {
	c      *Channel
	from   [parts]component.Taker // made when first used
	leases [parts]component.Lease // nil: nothing of that part
	pieces []run
	events []event.Event // in order
	merged []event.Event // what events are in if they are of two parts
	isOpen bool
	void   bool // the channel stopped, and the events come again
	wait   wait.Timer
}

// Take leases up to limit events.
func (l *lease) Take(ctx context.Context, limit int) (component.Lease, error) {
	if l.isOpen {
		return nil, fmt.Errorf("take: the last take was neither committed nor rolled back")
	}
	c := l.c
	limit = min(limit, c.cfg.TransactionCapacity)
	defer l.wait.Stop()
	for {
		more, err := c.collect(l, limit)
		if err != nil {
			return nil, fmt.Errorf("take: %w", err)
		}
		if l.isOpen {
			if more && l.wait.Waited() { // another take may be waiting too
				wait.Signal(c.some)
			}
			return l, nil
		}
		if !l.wait.For(ctx, c.some, c.cfg.Timeout) {
			return nil, nil
		}
	}
}

// collect fills l with up to limit events that nobody else has, in order. more says that others may be left.
func (c *Channel) collect(l *lease, limit int) (more bool, err error) {
	c.tk.Lock()
	defer c.tk.Unlock()
	if !c.running {
		return false, errNotStarted
	}
	for {
		c.mu.Lock()
		l.pieces = c.order.plan(l.pieces[:0], limit)
		c.mu.Unlock()
		if len(l.pieces) == 0 {
			return false, nil
		}
		again, err := c.lease(l)
		if err != nil {
			return false, err
		}
		if !again {
			break
		}
	}
	c.mu.Lock()
	c.order.drop(total(l.pieces))
	more = len(c.order.waiting()) > 0
	c.mu.Unlock()
	l.isOpen = true
	c.open = append(c.open, l)
	return more, nil
}

// lease takes what l.pieces names out of the parts, and cuts l.pieces where less is there. again says that the order has
// changed and a new plan is needed. tk is held.
func (c *Channel) lease(l *lease) (again bool, err error) {
	for _, p := range []part{onDisk, kept} {
		want := count(l.pieces, p)
		if want == 0 {
			continue
		}
		got, err := l.take(p, want)
		if err != nil {
			if l.pieces[0].part == p {
				return false, err
			}
			l.cut(p, 0) // first what is before; the error comes again
			break
		}
		if got == 0 { // lost to damage, and reported
			c.mu.Lock()
			c.order.forget(p, want)
			c.mu.Unlock()
			return true, nil
		}
		l.cut(p, got)
	}
	if want := count(l.pieces, inMemory); want > 0 {
		if got, err := l.take(inMemory, want); err != nil || got != want {
			return false, errors.Join(err, fmt.Errorf("BUG: the memory gave %d events of %d", got, want), l.giveUp())
		}
	}
	l.merge()
	return false, nil
}

// take leases n events of a part, without waiting.
func (l *lease) take(p part, n int) (int, error) {
	if l.from[p] == nil {
		l.from[p] = l.c.part(p).NewTaker()
	}
	sub, err := l.from[p].Take(l.c.past, n)
	if err != nil || sub == nil {
		return 0, err
	}
	l.leases[p] = sub
	return len(sub.Events()), nil
}

func (c *Channel) part(p part) component.Channel {
	switch p {
	case inMemory:
		return c.mem
	case onDisk:
		return c.disk
	}
	return c.kept
}

// cut shortens the pieces so that they end after n events of p.
func (l *lease) cut(p part, n int) {
	for i := range l.pieces {
		if l.pieces[i].part != p {
			continue
		}
		if k := &l.pieces[i].n; *k <= n {
			n -= *k
			continue
		}
		l.pieces[i].n = n
		if n > 0 {
			i++
		}
		l.pieces = l.pieces[:i]
		return
	}
}

// giveUp gives back what was leased so far.
func (l *lease) giveUp() (err error) {
	for p, sub := range l.leases {
		if sub != nil {
			err = errors.Join(err, sub.Rollback())
			l.leases[p] = nil
		}
	}
	return err
}

// merge brings the events of the parts into their order.
func (l *lease) merge() {
	var rest [parts][]event.Event
	several := 0
	for p, sub := range l.leases {
		if sub != nil {
			rest[p] = sub.Events()
			l.events = rest[p]
			several++
		}
	}
	if several < 2 {
		return
	}
	for _, r := range l.pieces {
		l.merged = append(l.merged, rest[r.part][:r.n]...)
		rest[r.part] = rest[r.part][r.n:]
	}
	l.events = l.merged
}

// Events is what was taken.
func (l *lease) Events() []event.Event { return l.events }

// end takes l from the open leases. tk is held.
func (l *lease) end() {
	if i := slices.Index(l.c.open, l); i >= 0 {
		l.c.open = slices.Delete(l.c.open, i, i+1)
	}
}

// Commit writes down that the events of the disk are gone, and gives the room of the others back.
func (l *lease) Commit() error {
	if !l.isOpen {
		return fmt.Errorf("commit: nothing was taken")
	}
	c := l.c
	c.tk.Lock()
	void := l.void
	l.end()
	c.tk.Unlock()
	var err error
	for _, sub := range l.leases {
		if sub != nil { // the memory's events are delivered even if the disk fails
			err = errors.Join(err, sub.Commit())
		}
	}
	l.reset()
	c.calm()
	if void {
		return errors.Join(err, fmt.Errorf("commit: the channel was stopped before, and the events come again after its next start"))
	}
	return err
}

// Rollback puts the events back, in order, before the others.
func (l *lease) Rollback() error {
	if !l.isOpen {
		return fmt.Errorf("rollback: nothing was taken")
	}
	c := l.c
	c.tk.Lock()
	defer c.tk.Unlock()
	l.end()
	var err error
	if l.void { // the stop wrote down what is in the memory
		if sub := l.leases[inMemory]; sub != nil {
			err = sub.Commit()
			l.leases[inMemory] = nil
		}
		err = errors.Join(err, l.giveUp())
		l.reset()
		return err
	}
	err = l.giveUp()
	c.mu.Lock()
	c.order.giveBack(l.pieces)
	c.mu.Unlock()
	l.reset()
	wait.Signal(c.some)
	return err
}

func (l *lease) reset() {
	l.isOpen, l.void = false, false
	clear(l.leases[:])
	clear(l.merged)
	l.merged, l.events, l.pieces = l.merged[:0], nil, l.pieces[:0]
}
