// Package partition is the layer above a partition's store that is the same for every store: it validates what producers
// send, keeps idempotent producers honest, applies the timestamp rules and decides what retention deletes.
package partition

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
)

// Options opens a Partition.
type Options struct {
	Topic  string
	ID     int32
	Log    log.Log         // open; the Partition owns it from now on and closes it
	Config log.TopicConfig // the same as the log's
	FS     vfs.FS          // where snapshots of the producer state are kept
	Dir    string          // the directory for them; the segment store's own directory will do
	Logger *slog.Logger
	// ProducerExpiry forgets idempotent producers that were silent so long (producer.id.expiration.ms). 0: one day.
	ProducerExpiry time.Duration
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Partition is one partition. All methods may be called concurrently.
type Partition struct{}

// Open rebuilds the producer state (latest snapshot, then the log's tail) and returns the partition.
// If it fails the log is closed.
func Open(ctx context.Context, o Options) (*Partition, error) { return nil, errors.ErrUnsupported }

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
	return Appended{}, errors.ErrUnsupported
}

// AppendAsync is Append without the wait: order is fixed, the caller calls Pending.Wait before it acknowledges. A produce
// request over many partitions appends to all first and waits then, so that the fsyncs overlap.
func (p *Partition) AppendAsync(ctx context.Context, records []byte, o AppendOpts) (Appended, log.Pending, error) {
	return Appended{}, log.Pending{}, errors.ErrUnsupported
}

// Read is the store's; see log.Log.
func (p *Partition) Read(q log.ReadReq) (log.ReadResult, error) {
	return log.ReadResult{}, errors.ErrUnsupported
}

// Notify is the store's; see log.Log.
func (p *Partition) Notify(w *log.Waiter, from int64, iso log.Isolation) (cancel func()) { return nil }

// Offsets returns the partition's marks.
func (p *Partition) Offsets() log.Offsets { return log.Offsets{} }

// ListOffsets answers one ListOffsets entry: LatestTimestamp (-1), EarliestTimestamp (-2), MaxTimestamp (-3), the local
// log start (-4), or the first record at or after a time. Nothing found: log.NoStamp. Other negative values are an
// ErrUnsupportedFormat.
func (p *Partition) ListOffsets(ctx context.Context, ts int64, iso log.Isolation) (log.Stamp, error) {
	return log.NoStamp, errors.ErrUnsupported
}

// OffsetForLeaderEpoch returns the largest epoch not above the given one and its end offset, or (-1, -1).
func (p *Partition) OffsetForLeaderEpoch(epoch int32) (int32, int64) { return -1, -1 }

// DeleteRecords moves the log start to off, or to the high watermark with off == -1, and returns the new log start.
func (p *Partition) DeleteRecords(ctx context.Context, off int64) (int64, error) {
	return 0, errors.ErrUnsupported
}

// Size is the partition's size on disk in bytes.
func (p *Partition) Size() int64 { return 0 }

// Tick does the periodic work: retention, expiry of producers, a snapshot of the producer state when it is due. The
// broker calls it from a loop of its own, about once in some seconds up to log.retention.check.interval.ms.
// It reports how many bytes retention freed.
func (p *Partition) Tick(ctx context.Context) (freed int64, err error) {
	return 0, errors.ErrUnsupported
}

// Reconfigure changes the topic's settings.
func (p *Partition) Reconfigure(c log.TopicConfig) error { return errors.ErrUnsupported }

// Producer describes one producer for DescribeProducers.
type Producer struct {
	ID            int64
	Epoch         int16
	LastSequence  int32
	LastTimestamp int64
}

// Producers lists the known idempotent producers.
func (p *Partition) Producers() []Producer { return nil }

// Close writes a snapshot of the producer state and closes the log. Idempotent.
func (p *Partition) Close() error { return errors.ErrUnsupported }
