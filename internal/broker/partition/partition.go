// Package partition is the layer above a partition's store that is the same for every store: it validates what producers
// send, keeps idempotent producers honest, applies the timestamp rules and decides what retention deletes.
package partition

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/record"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
)

// LocalStartTimestamp is ListOffsets' -4 (KIP-405): the first offset on local disk, which here is the log start.
const LocalStartTimestamp int64 = -4

// snapshotBytes is after how much appended data a new snapshot of the producers is due. It bounds what a start after a
// crash has to read again, at some 20 ms for each 64 MiB of batches of 16 KiB.
const snapshotBytes = 64 << 20

// Options opens a Partition.
type Options struct {
	Topic  string
	ID     int32
	Log    log.Log         // open; the Partition owns it from now on and closes it
	Config log.TopicConfig // the same as the log's
	FS     vfs.FS          // where snapshots of the producer state are kept; nil: the operating system's
	Dir    string          // the directory for them, which exists; the segment store's own will do
	Logger *slog.Logger    // nil: slog.Default
	// LeaderEpoch is stamped into batches; it stays 0 on one machine.
	LeaderEpoch int32
	// ProducerExpiry forgets idempotent producers that were silent so long (producer.id.expiration.ms). 0: one day.
	ProducerExpiry time.Duration
	// Opening bounds how many batches are decompressed at a time, over all partitions that share it; nil: no bound.
	Opening chan struct{}
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Partition is one partition. All methods may be called concurrently.
type Partition struct {
	log     log.Log
	fs      vfs.FS
	dir     string
	logger  *slog.Logger
	expiry  time.Duration
	now     func() time.Time
	opening chan struct{}

	mu        sync.Mutex       // order of appends; held while the log is written, never during a sync
	cfg       *log.TopicConfig // replaced, never changed in place
	epoch     int32
	producers producers
	sinceSnap int64 // bytes appended since the last snapshot
	snapshot  int64 // offset of the newest snapshot on disk, or -1
	closed    bool

	tickMu sync.Mutex // one Tick or Close at a time; taken before mu
	// compactMu is held by Compact and by Close, which ends a compaction first. It is taken before tickMu.
	compactMu   sync.Mutex
	stopCompact context.CancelFunc
	closing     context.Context
}

// Open rebuilds the producer state (latest snapshot, then the log's tail) and returns the partition.
// If it fails the log is closed.
func Open(ctx context.Context, o Options) (*Partition, error) {
	p := &Partition{
		log:     o.Log,
		fs:      o.FS,
		dir:     o.Dir,
		logger:  cmp.Or(o.Logger, slog.Default()).With("partition", o.Topic+"-"+strconv.Itoa(int(o.ID))),
		expiry:  cmp.Or(o.ProducerExpiry, 24*time.Hour),
		now:     o.Now,
		opening: o.Opening,
		cfg:     &o.Config,
		epoch:   o.LeaderEpoch,
	}
	p.closing, p.stopCompact = context.WithCancel(context.WithoutCancel(ctx))
	if p.fs == nil {
		p.fs = vfs.OS{}
	}
	if p.now == nil {
		p.now = time.Now
	}
	if err := p.recover(ctx); err != nil {
		if cerr := p.log.Close(); cerr != nil {
			p.logger.Warn("close log after a failed open", "err", cerr)
		}
		return nil, fmt.Errorf("open partition %s-%d: %w", o.Topic, o.ID, err)
	}
	return p, nil
}

// recover loads the newest snapshot and takes up what was appended after it.
// Offline is a Partition over files that are damaged: whatever needs them fails with ErrStorage and reason.
func Offline(o Options, reason error, bytes int64) *Partition {
	return &Partition{
		log:         &log.Offline{Reason: reason, Bytes: bytes},
		fs:          o.FS,
		dir:         o.Dir,
		logger:      cmp.Or(o.Logger, slog.Default()),
		now:         time.Now,
		cfg:         &o.Config,
		producers:   producers{},
		stopCompact: func() {},
		snapshot:    0, // what Offsets says: Close leaves those on disk alone
	}
}

func (p *Partition) recover(ctx context.Context) error {
	o := p.log.Offsets()
	ps, off, err := p.loadSnapshot(o.End)
	if err != nil {
		return fmt.Errorf("load producers: %w", err)
	}
	p.producers, p.snapshot = ps, off
	now := p.now().UnixMilli()
	for off = max(off, o.Start); off < o.End; {
		if err := ctx.Err(); err != nil {
			return err
		}
		r, err := p.log.Read(log.ReadReq{Offset: off, MaxBytes: 4 << 20, MinOne: true})
		if err != nil {
			return fmt.Errorf("scan for producers: %w", err)
		}
		p.sinceSnap += r.Size
		err = eachHeader(r.Sections, func(h *record.Header) {
			if h.Idempotent() && !h.Control() {
				p.producers.note(h, h.BaseOffset, now)
			}
		})
		next := r.Next
		r.Release()
		if err != nil {
			return fmt.Errorf("scan for producers: %w", err)
		}
		if next <= off {
			return fmt.Errorf("scan for producers: no progress at offset %d", off)
		}
		off = next
	}
	return nil
}

// eachHeader walks the batch headers of a read.
func eachHeader(sections []log.Section, f func(*record.Header)) error {
	var buf [record.HeaderSize]byte
	for _, s := range sections {
		for pos := int64(0); pos < s.Len(); {
			b := buf[:]
			if s.File == nil {
				b = s.Bytes[pos:]
			} else if n, err := s.File.ReadAt(b, s.Off+pos); err != nil && !(err == io.EOF && n == len(b)) {
				return err
			}
			h, err := record.ParseHeader(b)
			if err != nil {
				return err
			}
			f(&h)
			pos += h.Size()
		}
	}
	return nil
}

// AppendOpts qualifies an append.
type AppendOpts struct {
	Acks   int16 // 0, 1 or -1; with 0 Append does not wait for durability
	Origin log.Origin
}

// Appended tells where an append went.
type Appended struct {
	Base       int64 // offset of the first record
	Last       int64 // offset of the last record
	AppendTime int64 // milliseconds since 1970 with LogAppendTime, otherwise -1: what a produce response carries
	LogStart   int64
	Records    int
	Bytes      int
	Duplicate  bool // an idempotent producer's retry: Base is the original offset and nothing was written
}

// Append validates the batches of one produce request, appends them and waits for what o.Acks asks. records is changed in
// place and not kept. Errors are of the kinds in package log; see log.KafkaCode.
// When ctx ends while waiting, the append stands and the error is ctx's.
func (p *Partition) Append(ctx context.Context, records []byte, o AppendOpts) (Appended, error) {
	a, pending, err := p.AppendAsync(ctx, records, o)
	if err != nil || o.Acks == 0 {
		return a, err
	}
	return a, pending.Wait(ctx)
}

// AppendAsync is Append without the wait: order is fixed, the caller calls Pending.Wait before it acknowledges. A produce
// request over many partitions appends to all first and waits then, so that the fsyncs overlap.
func (p *Partition) AppendAsync(ctx context.Context, records []byte, o AppendOpts) (Appended, log.Pending, error) {
	now := p.now().UnixMilli()
	p.mu.Lock()
	cfg := p.cfg
	p.mu.Unlock()
	c, records, err := p.check(ctx, records, o, cfg, now)
	if err != nil {
		return Appended{}, log.Pending{}, err
	}
	h := &c.first
	a := Appended{AppendTime: -1, Records: c.records, Bytes: len(records)}
	if cfg.TimestampType == log.LogAppendTime {
		a.AppendTime = now
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return Appended{}, log.Pending{}, log.ErrClosed
	}
	idempotent := o.Origin == log.OriginClient && h.Idempotent()
	if idempotent {
		dup, err := p.producers[h.ProducerID].check(h)
		if err != nil {
			return Appended{}, log.Pending{}, err
		}
		if dup != nil {
			a.Base, a.Last, a.Duplicate, a.Bytes = dup.first, dup.last, true, 0
			a.LogStart = p.log.Offsets().Start
			return a, log.NewPending(dup.first, dup.last, p.log), nil
		}
	}
	pending, err := p.log.Append(ctx, records, log.AppendOpts{Epoch: p.epoch, AppendTime: now})
	if err != nil {
		return Appended{}, log.Pending{}, err
	}
	if idempotent {
		p.producers.note(h, pending.Base, now)
	}
	p.sinceSnap += int64(len(records))
	a.Base, a.Last = pending.Base, pending.Last
	a.LogStart = p.log.Offsets().Start
	return a, pending, nil
}

// ErrNoGroup says that batches cannot be appended as one; nothing of them was.
var ErrNoGroup = errors.New("batches do not make a group")

// AppendGroup is AppendAsync for batches that one client sent in requests of their own, one behind the other, to a topic
// that does not wait for the disk: they are written together, because a write costs more than its bytes. buf is room to
// put them in a row; out takes what became of each. On any error nothing was appended, and AppendAsync of one batch after
// the other tells what is wrong with which.
func (p *Partition) AppendGroup(ctx context.Context, batches [][]byte, buf []byte, out []Appended) error {
	now := p.now().UnixMilli()
	p.mu.Lock()
	cfg := p.cfg
	p.mu.Unlock()
	if cfg.SyncAcks || cfg.FlushMessages > 0 || cfg.Compact || cfg.Recompress {
		return ErrNoGroup
	}
	var heads [MaxGroup]record.Header
	if len(batches) > len(heads) || len(out) < len(batches) {
		return ErrNoGroup
	}
	buf = buf[:0]
	for i, b := range batches {
		c, b, err := p.check(ctx, b, AppendOpts{Acks: -1, Origin: log.OriginClient}, cfg, now)
		if err != nil {
			return err
		}
		h := &c.first
		heads[i] = *h
		if i > 0 {
			// One producer's batches in sequence: whether the first is welcome decides for all.
			last := &heads[i-1]
			if h.ProducerID != last.ProducerID || h.ProducerEpoch != last.ProducerEpoch ||
				h.Idempotent() && h.BaseSequence != nextSequence(last.LastSequence()) {
				return ErrNoGroup
			}
		}
		out[i] = Appended{AppendTime: -1, Records: c.records, Bytes: len(b)}
		if cfg.TimestampType == log.LogAppendTime {
			out[i].AppendTime = now
		}
		buf = append(buf, b...)
	}
	if int64(len(buf)) > cfg.SegmentBytes {
		return ErrNoGroup
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return log.ErrClosed
	}
	idempotent := heads[0].Idempotent()
	if idempotent {
		if dup, err := p.producers[heads[0].ProducerID].check(&heads[0]); err != nil || dup != nil {
			return ErrNoGroup
		}
	}
	pending, err := p.log.Append(ctx, buf, log.AppendOpts{Epoch: p.epoch, AppendTime: now})
	if err != nil {
		return err
	}
	start := p.log.Offsets().Start
	base := pending.Base
	for i := range batches {
		if idempotent {
			p.producers.note(&heads[i], base, now)
		}
		out[i].Base, out[i].Last, out[i].LogStart = base, base+int64(heads[i].LastOffsetDelta), start
		base = out[i].Last + 1
	}
	p.sinceSnap += int64(len(buf))
	return nil
}

// MaxGroup is how many batches AppendGroup takes.
const MaxGroup = 8

// Read is the store's; see log.Log.
func (p *Partition) Read(q log.ReadReq) (log.ReadResult, error) { return p.log.Read(q) }

// Notify is the store's; see log.Log.
func (p *Partition) Notify(w *log.Waiter, from int64, iso log.Isolation) (cancel func()) {
	return p.log.Notify(w, from, iso)
}

// Offsets returns the partition's marks.
func (p *Partition) Offsets() log.Offsets { return p.log.Offsets() }

// ListOffsets answers one ListOffsets entry: LatestTimestamp (-1), EarliestTimestamp (-2), MaxTimestamp (-3), the local
// log start (-4), or the first record at or after a time. Nothing found: log.NoStamp. Other negative values are an
// ErrUnsupportedFormat.
func (p *Partition) ListOffsets(ctx context.Context, ts int64, iso log.Isolation) (log.Stamp, error) {
	o := p.log.Offsets()
	switch ts {
	case log.LatestTimestamp:
		off := o.High
		if iso == log.ReadCommitted {
			off = o.Stable
		}
		return log.Stamp{Offset: off, Timestamp: -1, Epoch: o.Epoch}, nil
	case log.EarliestTimestamp, LocalStartTimestamp:
		return log.Stamp{Offset: o.Start, Timestamp: -1, Epoch: o.Epoch}, nil
	}
	st, err := p.log.OffsetFor(ctx, ts)
	if err == nil && iso == log.ReadCommitted && st.Offset >= o.Stable {
		return log.NoStamp, nil
	}
	return st, err
}

// OffsetForLeaderEpoch returns the largest epoch not above the given one and its end offset, or (-1, -1).
func (p *Partition) OffsetForLeaderEpoch(epoch int32) (int32, int64) { return p.log.EpochEnd(epoch) }

// DeleteRecords moves the log start to off, or to the high watermark with off == -1, and returns the new log start.
func (p *Partition) DeleteRecords(ctx context.Context, off int64) (int64, error) {
	if off == -1 {
		off = p.log.Offsets().High
	}
	err := p.log.DeleteTo(ctx, off)
	return p.log.Offsets().Start, err
}

// Size is the partition's size on disk in bytes, without indexes.
func (p *Partition) Size() (n int64) {
	for _, e := range p.log.Extents() {
		n += e.Bytes
	}
	return n
}

// Tick is Upkeep and then retention, at the rate of log.retention.check.interval.ms. It reports how many bytes
// retention freed.
func (p *Partition) Tick(ctx context.Context) (freed int64, err error) {
	p.tickMu.Lock()
	defer p.tickMu.Unlock()
	now := p.now()
	cfg, err := p.upkeep(now)
	if err != nil {
		return 0, err
	}
	return p.retain(ctx, &cfg, now)
}

// Upkeep expires producers and takes a snapshot of the producer state when it is due. The broker calls it every few
// seconds, so that a start after a crash has little to read.
func (p *Partition) Upkeep() error {
	p.tickMu.Lock()
	defer p.tickMu.Unlock()
	_, err := p.upkeep(p.now())
	return err
}

// upkeep is called under tickMu and returns the settings in force.
func (p *Partition) upkeep(now time.Time) (cfg log.TopicConfig, err error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return cfg, log.ErrClosed
	}
	cfg = *p.cfg
	p.producers.expire(now.Add(-p.expiry).UnixMilli())
	var snap []byte
	var off int64
	if p.sinceSnap >= snapshotBytes {
		off = p.log.Offsets().End
		snap = p.producers.encode(off)
		p.sinceSnap = 0
	}
	p.mu.Unlock()
	if t, ok := p.log.(log.Trimmer); ok {
		if err := t.Trim(); err != nil {
			return cfg, err
		}
	}
	if snap != nil {
		if err := writeSnapshot(p.fs, p.dir, off, snap); err != nil {
			// It only makes the next start slower.
			p.logger.Warn("could not write a snapshot of producers", "err", err)
		} else {
			p.snapshot = off // under tickMu too
		}
	}
	return cfg, nil
}

// retain deletes the oldest extents that are too old or too much. The one being written goes too when all its records
// are too old, as in Kafka.
func (p *Partition) retain(ctx context.Context, c *log.TopicConfig, now time.Time) (freed int64, err error) {
	if c.KeepExpired {
		return 0, nil
	}
	high := p.log.Offsets().High
	ext := p.log.Extents()
	total := int64(0)
	for _, e := range ext {
		total += e.Bytes
	}
	to := int64(-1)
	for _, e := range ext {
		old := c.RetentionAge >= 0 && now.UnixMilli()-e.MaxTimestamp > c.RetentionAge.Milliseconds()
		much := c.RetentionBytes >= 0 && total-freed-e.Bytes >= c.RetentionBytes
		if e.Bytes == 0 || e.Next > high || !old && !much {
			break
		}
		freed += e.Bytes
		to = e.Next
	}
	if to < 0 {
		return 0, nil
	}
	if err := p.log.DeleteTo(ctx, to); err != nil {
		return 0, fmt.Errorf("apply retention: %w", err)
	}
	p.logger.Info("retention deleted segments", "bytes", freed, "log_start", to)
	return freed, nil
}

// Reconfigure changes the topic's settings.
func (p *Partition) Reconfigure(c log.TopicConfig) error {
	if err := p.log.Reconfigure(c); err != nil {
		return fmt.Errorf("reconfigure topic: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cfg = &c
	return nil
}

// Sync makes everything appended so far durable.
func (p *Partition) Sync(ctx context.Context) error { return p.log.Sync(ctx) }

// Producer describes one producer for DescribeProducers.
type Producer struct {
	ID            int64
	Epoch         int16
	LastSequence  int32
	LastTimestamp int64
}

// Producers lists the known idempotent producers by id.
func (p *Partition) Producers() []Producer {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Producer, 0, len(p.producers))
	for id, x := range p.producers {
		out = append(out, Producer{id, x.epoch, x.lastSeq(), x.lastTime})
	}
	slices.SortFunc(out, func(a, b Producer) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Close writes a snapshot of the producer state and closes the log. A second Close does nothing.
func (p *Partition) Close() error {
	return p.shut(func(off int64, snap []byte) error {
		if off != p.snapshot { // without an append the one on disk will do
			if err := writeSnapshot(p.fs, p.dir, off, snap); err != nil {
				p.logger.Warn("could not write a snapshot of producers", "err", err)
			}
		}
		return p.log.Close()
	})
}

// Discard is Close for a partition whose files are deleted next: nothing is made durable, which takes several syncs.
func (p *Partition) Discard() error {
	return p.shut(func(int64, []byte) error { return p.log.Discard() })
}

// shut ends the partition and has finish, with the log's end and the producers there, close the log.
func (p *Partition) shut(finish func(off int64, snap []byte) error) error {
	p.stopCompact()
	p.compactMu.Lock()
	defer p.compactMu.Unlock()
	p.tickMu.Lock()
	defer p.tickMu.Unlock()
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	off := p.log.Offsets().End
	snap := p.producers.encode(off)
	p.mu.Unlock()
	return finish(off, snap)
}
