// Package log declares what the broker asks of the store that keeps one partition: an ordered sequence of Kafka record
// batches (format v2). Stores only keep ordered batches; producer state, timestamp rules and retention decisions live
// one layer up, in package partition, so that every store behaves alike.
package log

import (
	"context"
	"os"
)

// Log is one partition's store. All methods may be called concurrently.
type Log interface {
	// Append stamps offsets and leader epoch into the batches of b (in place) and writes them in one go. The batches must
	// have been validated. The order of the partition is fixed when Append returns; durability, as far as the flush policy
	// promises any, is the Pending's. The store does not keep b after it returned.
	// On an error nothing of b is in the log. After a failed write or sync that left doubt, every later Append fails with
	// an error that is ErrStorage until the log is opened again; ErrNoSpace goes away when there is space.
	Append(ctx context.Context, b []byte, o AppendOpts) (Pending, error)

	// Durability: WaitDurable takes a log offset; see Pending.
	Durability

	// Read returns whole batches, starting with the one that holds q.Offset. The caller must call Release.
	// An offset outside [Start, High] is an *OffsetOutOfRangeError.
	Read(q ReadReq) (ReadResult, error)

	// Offsets returns the partition's marks, consistent with each other.
	Offsets() Offsets

	// OffsetFor finds the first record whose timestamp is at least ts (milliseconds since 1970), or with ts ==
	// MaxTimestamp the first record that has the largest timestamp. No such record: a Stamp with Offset -1.
	OffsetFor(ctx context.Context, ts int64) (Stamp, error)

	// EpochEnd answers OffsetForLeaderEpoch: the largest epoch not above the given one, and the offset at which it
	// ended. (-1, -1) when there is none.
	EpochEnd(epoch int32) (int32, int64)

	// Notify registers w, which counts the bytes that become readable from offset `from` on. Bytes that are readable
	// already are counted before Notify returns, so nothing is missed between a Read and a Notify. A store may count too
	// much, never too little: after a wake-up the fetch reads again. cancel is idempotent and must be called.
	// Do not wait after a read with Next < Offsets.High: more is there than fitted, and waiting would not change it.
	Notify(w *Waiter, from int64, iso Isolation) (cancel func())

	// Extents lists the units in which the store frees space (segments), oldest first, for retention decisions.
	Extents() []Extent

	// DeleteTo moves the log start to off (at most High) and frees the extents wholly below it, without disturbing open
	// reads. The new start survives a restart.
	DeleteTo(ctx context.Context, off int64) error

	// Sync makes everything appended so far durable.
	Sync(ctx context.Context) error

	// Reconfigure changes the settings for appends and flushes from now on.
	Reconfigure(TopicConfig) error

	// Close syncs, marks the log as cleanly shut down, wakes all waiters, and waits for the store's own goroutines.
	// Open reads stay valid until released. A second Close does nothing.
	Close() error

	// Discard is Close for a log whose files are deleted next: nothing is synced and nothing written.
	Discard() error
}

// Origin says who appends.
type Origin uint8

const (
	OriginClient      Origin = iota // a produce request
	OriginCoordinator               // the broker itself: group and transaction state, transaction markers
)

// AppendOpts qualifies one Append.
type AppendOpts struct {
	Epoch      int32 // leader epoch to stamp
	AppendTime int64 // now, milliseconds since 1970; decides rolling by time where batches have no timestamp
}

// Durability is implemented by stores; see Pending.
type Durability interface {
	// WaitDurable returns when everything below offset end is as durable as the flush policy promises for
	// acknowledgements.
	WaitDurable(ctx context.Context, end int64) error
}

// Pending is the handle of an append whose order is fixed and whose durability may still be under way.
type Pending struct {
	Base int64 // offset of the first record
	Last int64 // offset of the last record

	d Durability
}

// NewPending is for stores and for answering duplicates. A nil d means that there is nothing to wait for.
func NewPending(base, last int64, d Durability) Pending {
	return Pending{Base: base, Last: last, d: d}
}

// Wait returns nil when the append is as durable as the flush policy promises: at once by default, after an fsync that
// covers it when the topic syncs before acknowledging.
func (p Pending) Wait(ctx context.Context) error {
	if p.d == nil {
		return nil
	}
	return p.d.WaitDurable(ctx, p.Last+1)
}

// Isolation is a fetch's isolation level.
type Isolation int8

const (
	ReadUncommitted Isolation = 0
	ReadCommitted   Isolation = 1
)

// ReadReq asks for batches.
type ReadReq struct {
	Offset   int64
	MaxBytes int // stop before the batch that would exceed this many bytes
	// MinOne returns the first batch whole even if it is larger than MaxBytes (KIP-74: for the first partition of a fetch
	// that has data; otherwise a consumer could never get past a large batch).
	MinOne    bool
	Isolation Isolation
}

// Section is a piece of a read: a range of a file, fit for sendfile, or bytes.
type Section struct {
	File *os.File // nil: Bytes
	Off  int64    // position in File
	N    int64    // length in File
	// Bytes are valid until Release and must not be changed.
	Bytes []byte
}

// Len is the section's length in bytes.
func (s Section) Len() int64 {
	if s.File != nil {
		return s.N
	}
	return int64(len(s.Bytes))
}

// AbortedTxn is an entry of a fetch response's list of aborted transactions.
type AbortedTxn struct {
	ProducerID  int64
	FirstOffset int64
}

// ReadResult is what Read found. Sections hold whole batches only; they may start with records below the asked offset,
// as Kafka's do (clients skip them).
type ReadResult struct {
	Sections []Section
	Size     int64 // bytes in Sections
	Next     int64 // first offset not counted by Size: pass it to Notify
	Offsets  Offsets
	Aborted  []AbortedTxn

	release func()
}

// SetRelease is for stores.
func (r *ReadResult) SetRelease(f func()) { r.release = f }

// Release gives the files and buffers back. Call it once, when the bytes are sent. The zero ReadResult may be released.
func (r *ReadResult) Release() {
	if f := r.release; f != nil {
		r.release = nil
		f()
	}
}

// Offsets are a partition's marks.
type Offsets struct {
	Start  int64 // first offset that may be read
	Stable int64 // last stable offset: what read_committed sees; equals High without transactions
	High   int64 // high watermark: what consumers see
	End    int64 // log end: the next record's offset
	Epoch  int32 // latest leader epoch
}

// Special timestamps, as in ListOffsets.
const (
	LatestTimestamp   int64 = -1
	EarliestTimestamp int64 = -2
	MaxTimestamp      int64 = -3
)

// Stamp is a record's place in time. Offset -1 means none.
type Stamp struct {
	Offset    int64
	Timestamp int64
	Epoch     int32
}

// NoStamp is the answer when there is no such record.
var NoStamp = Stamp{Offset: -1, Timestamp: -1, Epoch: -1}

// Extent is a unit of storage that is freed as a whole.
type Extent struct {
	Base         int64 // first offset
	Next         int64 // first offset after it
	Bytes        int64
	MaxTimestamp int64 // largest record timestamp, or when it has none the time of its last change; milliseconds since 1970
}

// Trimmer is implemented by stores whose files are larger than their contents while they are written.
type Trimmer interface {
	// Trim brings the files to the size of their contents if nothing was appended since the call before.
	Trim() error
}
