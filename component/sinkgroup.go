package component

import (
	"context"
	"time"
)

// Status is how one step of a sink ended when nothing failed.
type Status uint8

// The statuses. Flume calls Empty and Backoff both BACKOFF.
const (
	Ready   Status = iota // a batch was delivered
	Empty                 // the sink's channel had no event
	Backoff               // the sink said ErrBackoff; its events are back in the channel
)

// GroupSink is one sink of a sink group, as the group's processor sees it.
type GroupSink interface {
	// Name is the sink's name in the agent file.
	Name() string
	// Channel is the name of the channel that it takes from; sinks of a group
	// often share one.
	Channel() string
	// Process takes a batch from the sink's own channel, delivers it and
	// commits: Flume's Sink.process. After an error the batch is back in the
	// channel. A sink that has not come up fails at once.
	Process(ctx context.Context) (Status, error)
}

// SinkProcessor decides which of a group's sinks works next. One goroutine
// drives it.
type SinkProcessor interface {
	// Process does one step: it has one sink or several Process, one after the
	// other, until one does not fail, and returns what that one answered. Its
	// error means that no sink could; the agent comes again after a pause.
	// When ctx has ended an error of a sink says nothing about the sink.
	Process(ctx context.Context) (Status, error)
}

// Penalizer is a SinkProcessor that leaves sinks out for a time after they
// failed. The agent shows it, and does not come again before the first of
// them is due when all are left out.
type Penalizer interface {
	// FailedUntil is when the sink with this index is tried again; the zero
	// time is one that is not left out. It is safe for concurrent use.
	FailedUntil(sink int) time.Time
}

// SinkSelector says in which order the processor load_balance tries its
// sinks. One goroutine uses it.
type SinkSelector interface {
	// Order puts the sinks that are not left out (indexes, ascending) in the
	// order in which they are tried until one does not fail. It may change
	// live and return it, or a part of it, and does not keep it.
	Order(live []int) []int
}

// FailureObserver is a SinkSelector that wants to know of failures.
type FailureObserver interface{ SinkFailed(sink int) }
