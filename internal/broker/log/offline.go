package log

import (
	"context"
	"fmt"
)

// Offline is the Log of a partition whose files are damaged: it answers everything with the reason and touches nothing,
// so that what can be saved by hand stays as it is.
type Offline struct {
	Reason error // with file and position
	Bytes  int64 // on disk
}

var _ Log = (*Offline)(nil)

func (o *Offline) err() error {
	return fmt.Errorf("%w: partition is offline: %w", ErrStorage, o.Reason)
}

// Append implements Log.
func (o *Offline) Append(context.Context, []byte, AppendOpts) (Pending, error) {
	return Pending{}, o.err()
}

// WaitDurable implements Log.
func (o *Offline) WaitDurable(context.Context, int64) error { return o.err() }

// Read implements Log.
func (o *Offline) Read(ReadReq) (ReadResult, error) { return ReadResult{}, o.err() }

// Offsets implements Log. Nothing is known of them.
func (o *Offline) Offsets() Offsets { return Offsets{} }

// OffsetFor implements Log.
func (o *Offline) OffsetFor(context.Context, int64) (Stamp, error) { return NoStamp, o.err() }

// EpochEnd implements Log.
func (o *Offline) EpochEnd(int32) (int32, int64) { return -1, -1 }

// Notify implements Log: the next read says why there is nothing to wait for.
func (o *Offline) Notify(w *Waiter, _ int64, _ Isolation) (cancel func()) {
	w.Wake()
	return func() {}
}

// Extents implements Log: one that cannot be freed.
func (o *Offline) Extents() []Extent { return []Extent{{Bytes: o.Bytes}} }

// DeleteTo implements Log.
func (o *Offline) DeleteTo(context.Context, int64) error { return o.err() }

// Sync implements Log.
func (o *Offline) Sync(context.Context) error { return o.err() }

// Reconfigure implements Log: the settings are in force when the partition is opened whole.
func (o *Offline) Reconfigure(TopicConfig) error { return nil }

// Close implements Log.
func (o *Offline) Close() error { return nil }

// Discard implements Log.
func (o *Offline) Discard() error { return nil }
