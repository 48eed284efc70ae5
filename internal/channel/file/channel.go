// Package file is Flume's file channel: events are on the disk before a put returns, and stay there until the commit of a
// take is. docs/file-channel.md describes the files byte by byte, and what a crash may do to them.
//
// A put is one frame of a write-ahead log, the commit of a take another, small one; each costs one write, and whatever
// was written at the same time shares a sync. No event is kept in memory: takers read the log in order, so what waits
// costs disk and nothing else.
package file

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/channel/headers"
	"github.com/sluice-data/sluice/internal/channel/wait"
	"github.com/sluice-data/sluice/internal/seglog"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
)

// Config is how a channel is made. FS and FreeSpace are the operating system's if they are nil.
type Config struct {
	CheckpointDir string
	BackupDir     string // a second checkpoint; "": none
	DataDirs      []string

	Capacity, TransactionCapacity int
	KeepAlive                     time.Duration
	MaxFileSize                   int64
	MinFree                       int64
	CheckpointEvery               time.Duration
	NoCheckpointOnClose           bool
	// SyncEvery is not 0 if no put and no commit waits for a sync, which a timer does instead.
	SyncEvery time.Duration

	// Encryption is nil if what is put is not encrypted.
	Encryption *Encryption

	FS        vfs.FS
	FreeSpace func(dir string) (int64, error)
	Env       component.Env

	unlocked bool // for tests on a file system that has no locks
}

// checkpointBytes is how much may be written or read between two checkpoints: it bounds what a recovery reads.
const checkpointBytes = 128 << 20

// shedLeast is how large a segment must be that is given up early on a full disk.
const shedLeast = 64 << 10

// Channel is the channel. Use New.
type Channel struct {
	cfg  Config
	log  *slog.Logger
	pool *event.Pool
	bufs sync.Pool // *[]byte, for frames

	room, some chan struct{} // as in the memory channel: one token each

	mu       sync.Mutex
	size     int64 // events that a put committed and no take has committed
	reserved int64 // events of puts under way
	run      *running

	putErrors, takeErrors, checkpointErrors, backupErrors, unhealthy *atomic.Int64
}

var _ component.Channel = (*Channel)(nil)

// New returns a channel that is not started.
func New(cfg Config) *Channel {
	if cfg.FS == nil {
		cfg.FS = vfs.OS{}
	}
	if cfg.FreeSpace == nil {
		cfg.FreeSpace = vfs.FreeSpace
	}
	if cfg.Env.Log == nil {
		cfg.Env.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Env.Metrics == nil {
		cfg.Env.Metrics = component.NewMetrics()
	}
	if cfg.Env.Health == nil {
		cfg.Env.Health = func(error) {}
	}
	m := cfg.Env.Metrics
	return &Channel{cfg: cfg, log: cfg.Env.Log, pool: event.NewPool(),
		bufs: sync.Pool{New: func() any { return new([]byte) }},
		room: make(chan struct{}, 1), some: make(chan struct{}, 1),
		putErrors: m.Counter("EventPutErrorCount"), takeErrors: m.Counter("EventTakeErrorCount"),
		checkpointErrors: m.Counter("CheckpointWriteErrorCount"), backupErrors: m.Counter("CheckpointBackupWriteErrorCount"),
		unhealthy: m.Counter("Unhealthy"),
	}
}

// running is what a started channel has and a stopped one has not.
type running struct {
	c     *Channel
	wal   *wal
	locks []*dirLock
	stop  context.CancelFunc
	done  sync.WaitGroup
	kick  chan struct{} // one token: a checkpoint is due
	full  atomic.Bool   // the last put found no space
	broke sync.Once     // the log failed, and that is reported

	tk         sync.Mutex // all below, and who takes next
	cur        cursor
	returned   []piece // of leases that were rolled back, ascending
	open       []*lease
	taken      spans // beyond the cursor; recovered
	unrecorded spans // taken, and there was no space to write it down
	names      headers.Names
	hs         []event.KV
	lastSeq    int64 // of the last checkpoint
	lastLow    int64

	read atomic.Int64 // bytes that the cursor passed since the last checkpoint
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

// Start locks the directories and recovers what is in them.
func (c *Channel) Start(ctx context.Context) error {
	if _, err := c.running(); err == nil {
		return nil
	}
	r, size, err := c.recover(ctx)
	if err != nil {
		c.unhealthy.Store(1)
		return err
	}
	c.unhealthy.Store(0)
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	r.stop = stop
	r.done.Go(func() { r.maintain(work) })
	c.mu.Lock()
	defer c.mu.Unlock()
	c.size, c.reserved, c.run = size, 0, r
	wait.Signal(c.some)
	return nil
}

// Stop writes a checkpoint and lets the directories go. What open leases hold comes again after the next start.
func (c *Channel) Stop(context.Context) error {
	c.mu.Lock()
	r := c.run
	c.run = nil
	c.mu.Unlock()
	if r == nil {
		return nil
	}
	r.stop()
	r.done.Wait()
	return errors.Join(r.finish(), r.close())
}

// finish writes the last checkpoint. A full disk is no failure of the stop: nothing is lost by it.
func (r *running) finish() error {
	if r.wal.failed() != nil {
		return nil // reported when it happened
	}
	err := r.wal.syncTo(r.wal.tail().seq)
	if err == nil && !r.c.cfg.NoCheckpointOnClose {
		if err = r.checkpoint(); errors.Is(err, seglog.ErrNoSpace) {
			r.c.log.Warn("no last checkpoint could be written on the full disk; the next start may take longer", "err", err)
			err = nil
		}
	}
	if n := r.unrecorded.count(); n > 0 {
		r.c.log.Warn("events were taken for which there was no space to write that down: they come again after the next start", "events", n)
	}
	return err
}

// close releases what a channel holds, without a word to the disk.
func (r *running) close() error {
	r.tk.Lock()
	r.cur.drop()
	r.tk.Unlock()
	err := r.wal.close()
	for _, l := range r.locks {
		err = errors.Join(err, l.release())
	}
	return err
}

// TransactionCapacity is the largest batch of a put or take.
func (c *Channel) TransactionCapacity() int { return c.cfg.TransactionCapacity }

// Stats counts events of open takes as still in the channel, as Flume does.
func (c *Channel) Stats() component.ChannelStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := component.ChannelStats{Size: max(c.size, 0), Capacity: int64(c.cfg.Capacity), Durable: true}
	if c.run != nil {
		s.Bytes = c.run.wal.bytes()
	}
	return s
}

// Put appends the batch as one frame and returns when it is synced.
func (c *Channel) Put(ctx context.Context, b *event.Batch) error {
	evs := b.Events()
	if len(evs) == 0 {
		return nil
	}
	if len(evs) > c.cfg.TransactionCapacity {
		return fmt.Errorf("put %d events: more than the channel's transactionCapacity of %d (lower the batch size or raise it)", len(evs), c.cfg.TransactionCapacity)
	}
	r, err := c.running()
	if err != nil {
		return fmt.Errorf("put %d events: %w", len(evs), err)
	}
	if err := c.reserve(ctx, int64(len(evs))); err != nil {
		return err
	}
	err = r.put(evs)
	c.mu.Lock()
	c.reserved -= int64(len(evs))
	if err == nil {
		c.size += int64(len(evs))
	}
	more := c.size+c.reserved < int64(c.cfg.Capacity)
	c.mu.Unlock()
	if more {
		wait.Signal(c.room)
	}
	if err != nil {
		c.putErrors.Add(1)
		return fmt.Errorf("put %d events: %w", len(evs), err)
	}
	wait.Signal(c.some)
	return nil
}

// reserve waits keep-alive for room for n events.
func (c *Channel) reserve(ctx context.Context, n int64) error {
	var w wait.Timer
	defer w.Stop()
	expired := false
	for {
		c.mu.Lock()
		if c.size+c.reserved+n <= int64(c.cfg.Capacity) {
			c.reserved += n
			c.mu.Unlock()
			return nil
		}
		c.mu.Unlock()
		if expired {
			return component.ErrFull
		}
		if !w.For(ctx, c.room, c.cfg.KeepAlive) {
			if err := ctx.Err(); err != nil {
				return err
			}
			expired = true // one more look: the token may have gone to a put that did not fit
		}
	}
}

func (r *running) put(evs []event.Event) error {
	buf := r.c.bufs.Get().(*[]byte)
	defer r.c.bufs.Put(buf)
	b := append((*buf)[:0], make([]byte, frameHead)...)
	for i := range evs {
		b = appendEvent(b, &evs[i])
	}
	keep(buf, b)
	if n, most := int64(r.wal.frameSize(b)), min(r.wal.maxSize-segmentHead, maxFrame); n > most {
		return component.Permanent(fmt.Errorf("they need %d bytes, a file of the channel has room for %d: raise maxFileSize", n, most))
	}
	m, err := r.wal.put(b, len(evs))
	var full *noSpaceError
	if errors.As(err, &full) && r.shed() {
		m, err = r.wal.put(b, len(evs))
	}
	if err == nil {
		err = r.wal.commit(m)
	}
	switch {
	case errors.As(err, &full):
		if !r.full.Swap(true) {
			r.c.log.Error("the disk is full: puts are refused until there is space, takes go on", "err", err)
			r.c.cfg.Env.Health(err)
		}
	case err != nil:
		r.broken()
	case r.full.Load() && r.full.Swap(false):
		r.c.log.Info("the disk has space again")
		r.c.cfg.Env.Health(nil)
	}
	if err == nil && r.due() {
		wait.Signal(r.kick)
	}
	return err
}

// keep keeps a buffer for the next use, unless it is unusually large.
func keep(buf *[]byte, b []byte) {
	if cap(b) <= 4<<20 {
		*buf = b
	}
}

// NewTaker returns a taker with a lease of its own that is used over and over.
func (c *Channel) NewTaker() component.Taker { return &lease{c: c} }

// lease is a taker and its only lease.
type lease struct {
	c      *Channel
	r      *running // not nil while the lease is open
	batch  *event.Batch
	pieces []piece
	spans  []span
	frame  []byte
	wait   wait.Timer
}

// Take leases up to limit events.
func (l *lease) Take(ctx context.Context, limit int) (component.Lease, error) {
	if l.r != nil {
		return nil, fmt.Errorf("take: the last take was neither committed nor rolled back")
	}
	c := l.c
	r, err := c.running()
	if err != nil {
		return nil, fmt.Errorf("take: %w", err)
	}
	limit = min(limit, c.cfg.TransactionCapacity)
	if l.batch == nil {
		l.batch = c.pool.NewBatch()
	}
	defer l.wait.Stop()
	for {
		more, err := r.collect(l, limit)
		if err != nil && l.batch.Len() == 0 {
			c.takeErrors.Add(1)
			return nil, fmt.Errorf("take: %w", err)
		}
		if l.batch.Len() > 0 {
			if more && l.wait.Waited() { // another take may be waiting too
				wait.Signal(c.some)
			}
			return l, nil
		}
		if !l.wait.For(ctx, c.some, c.cfg.KeepAlive) {
			return nil, nil
		}
	}
}

// Events is what was taken.
func (l *lease) Events() []event.Event { return l.batch.Events() }

// Commit writes down that the events are gone, and returns when that is synced.
func (l *lease) Commit() error {
	r := l.r
	if r == nil {
		return fmt.Errorf("commit: nothing was taken")
	}
	n := int64(l.batch.Len())
	err := r.commit(l)
	l.reset()
	if err != nil {
		l.c.takeErrors.Add(1)
		return fmt.Errorf("commit the take of %d events: %w", n, err)
	}
	l.c.mu.Lock()
	l.c.size -= n
	l.c.mu.Unlock()
	wait.Signal(l.c.room)
	return nil
}

// Rollback puts the events back at the head, in order. The disk need not know.
func (l *lease) Rollback() error {
	r := l.r
	if r == nil {
		return fmt.Errorf("rollback: nothing was taken")
	}
	r.tk.Lock()
	r.giveBack(l)
	r.closed(l)
	r.tk.Unlock()
	l.reset()
	wait.Signal(l.c.some)
	return nil
}

func (l *lease) reset() {
	l.r = nil
	l.batch.Reset()
	l.pieces = l.pieces[:0]
}

// closed takes l from the open leases. tk is held.
func (r *running) closed(l *lease) {
	i := slices.Index(r.open, l)
	r.open = slices.Delete(r.open, i, i+1)
}

// commit records a lease's events as taken. The lease counts as taken from the moment that its frame is written, so that
// a checkpoint holds either both or none.
func (r *running) commit(l *lease) error {
	r.tk.Lock()
	l.spans = l.spans[:0]
	for _, p := range l.pieces {
		if n := len(l.spans); n > 0 && l.spans[n-1].to == p.from {
			l.spans[n-1].to = p.to
		} else {
			l.spans = append(l.spans, span{p.from, p.to})
		}
	}
	all := l.spans
	if len(r.unrecorded) > 0 {
		for _, s := range l.spans {
			r.unrecorded = r.unrecorded.add(s)
		}
		all = r.unrecorded
	}
	b := append(l.frame[:0], make([]byte, frameHead)...)
	for _, s := range all {
		b = appendSpan(b, s)
	}
	l.frame = b
	m, err := r.wal.append(b, 0, true, func(seq, ev int64) { seal(b, frameTake, len(all), seq, ev) })
	var full *noSpaceError
	switch {
	case err == nil:
		r.unrecorded = nil
	case errors.As(err, &full):
		// The events are delivered, and only a crash before there is space would repeat them.
		if len(r.unrecorded) == 0 {
			r.c.log.Warn("the disk is full: what was taken is written down later; a crash before that repeats it", "err", err)
			for _, s := range l.spans {
				r.unrecorded = r.unrecorded.add(s)
			}
		}
		err = nil
	}
	r.closed(l)
	r.tk.Unlock()
	if err == nil && m.seg != nil {
		err = r.wal.commit(m)
	}
	if err != nil {
		r.broken()
		return err
	}
	r.reclaim()
	return nil
}

// reclaim gives the space of consumed segments back.
func (r *running) reclaim() {
	if !r.wal.several() {
		return
	}
	r.tk.Lock()
	defer r.tk.Unlock()
	err := r.wal.reclaim(r.low())
	if first := r.wal.first(); first != nil && r.cur.seg.seq < first.seq {
		r.cur.moveTo(first) // behind the last event of a segment that is gone
	}
	if err != nil {
		r.c.log.Error("the space of consumed events could not be given back", "err", err)
	}
}

// shed makes room on a full disk by giving up a segment that holds nothing any more.
func (r *running) shed() bool {
	r.tk.Lock()
	err := r.wal.shed(r.low(), shedLeast)
	r.tk.Unlock()
	if err != nil {
		r.c.log.Warn("no new file could be begun on the full disk", "err", err)
		return false
	}
	if !r.wal.several() {
		return false
	}
	r.reclaim()
	return true
}

// low is the number below which every event is taken. tk is held.
func (r *running) low() int64 {
	_, low := r.lowest()
	return low
}

// lowest is the first event that is not taken and the piece that holds it; nil is the cursor. tk is held.
func (r *running) lowest() (*piece, int64) {
	var first *piece
	low := r.cur.next
	if s := r.taken.next(low); s.from <= low {
		low = s.to
	}
	if len(r.returned) > 0 && r.returned[0].from < low {
		first, low = &r.returned[0], r.returned[0].from
	}
	for _, l := range r.open {
		if len(l.pieces) > 0 && l.pieces[0].from < low {
			first, low = &l.pieces[0], l.pieces[0].from
		}
	}
	return first, low
}

// due says whether enough was written or read for a checkpoint.
func (r *running) due() bool {
	return r.wal.written.Load() > checkpointBytes || r.read.Load() > checkpointBytes
}

// broken reports that the log has failed, once.
func (r *running) broken() {
	err := r.wal.failed()
	if err == nil || errors.Is(err, errStopped) {
		return
	}
	r.broke.Do(func() {
		r.c.unhealthy.Store(1)
		r.c.log.Error("the channel refuses puts and takes until the agent is started again", "err", err)
		r.c.cfg.Env.Health(err)
	})
}

// maintain writes checkpoints and, if nobody else does, syncs.
func (r *running) maintain(ctx context.Context) {
	every := time.NewTicker(r.c.cfg.CheckpointEvery)
	defer every.Stop()
	var sync <-chan time.Time
	if r.wal.lazy {
		t := time.NewTicker(r.c.cfg.SyncEvery)
		defer t.Stop()
		sync = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-sync:
			if err := r.wal.syncTo(r.wal.tail().seq); err != nil && ctx.Err() == nil {
				r.broken()
				return
			}
			continue
		case <-every.C:
		case <-r.kick:
		}
		if err := r.checkpoint(); err != nil && ctx.Err() == nil {
			if r.wal.failed() != nil {
				r.broken()
				return
			}
			r.c.log.Error("no checkpoint could be written; the next start may take longer", "err", err)
		}
	}
}

// checkpoint writes the state down, so that a recovery need not read what came before.
func (r *running) checkpoint() error {
	r.tk.Lock()
	first, low := r.lowest()
	c := checkpoint{id: r.wal.id, low: low, lowSegment: r.cur.seg.seq, lowOffset: r.cur.pos}
	if first != nil {
		c.lowSegment, c.lowOffset = first.seg.seq, first.pos
	}
	c.done = r.gaps(low)
	end := r.wal.mark() // under tk: every take before it is in low and done
	r.read.Store(0)
	same := end.seq == r.lastSeq && low == r.lastLow
	r.tk.Unlock()
	if same {
		return nil
	}
	c.seq, c.event, c.segment, c.offset = end.seq, end.event, end.seg.seq, end.off
	if err := r.wal.syncTo(end.seq); err != nil {
		return err
	}
	b := c.encode()
	if err := seglog.WriteFile(r.wal.fs, checkpointPath(r.c.cfg.CheckpointDir), b); err != nil {
		r.c.checkpointErrors.Add(1)
		return fmt.Errorf("write checkpoint: %w", err)
	}
	if dir := r.c.cfg.BackupDir; dir != "" {
		if err := seglog.WriteFile(r.wal.fs, checkpointPath(dir), b); err != nil {
			r.c.backupErrors.Add(1)
			return fmt.Errorf("write backup checkpoint: %w", err)
		}
	}
	r.tk.Lock()
	r.lastSeq, r.lastLow = end.seq, low
	r.tk.Unlock()
	return nil
}

// gaps is what is taken of the events from low on. tk is held.
func (r *running) gaps(low int64) spans {
	var waiting spans // before the cursor
	for _, p := range r.returned {
		waiting = waiting.add(span{p.from, p.to})
	}
	for _, l := range r.open {
		for _, p := range l.pieces {
			waiting = waiting.add(span{p.from, p.to})
		}
	}
	var done spans
	at := low
	for _, s := range waiting {
		if s.from > at {
			done = done.add(span{at, s.from})
		}
		at = max(at, s.to)
	}
	if r.cur.next > at {
		done = done.add(span{at, r.cur.next})
	}
	for _, s := range r.taken {
		if s.to > low {
			done = done.add(span{max(s.from, low), s.to})
		}
	}
	if len(done) > 0 && done[0].from == low { // cannot be: low is not taken
		done = done[1:]
	}
	return done
}
