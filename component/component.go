// Package component is the contract between the agent and its components:
// the interfaces, the registry, the declaration of properties and the kinds of
// errors. It is public because user-defined components are written against it.
//
// A component never sees commit, rollback, back-off or counters: the runners
// in the agent own these. It starts, stops and moves batches.
package component

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/sluice-data/sluice/event"
)

// Component is what sources, channels and sinks have in common.
type Component interface {
	// Start acquires what the component needs (files, sockets) and returns
	// fast. A failed start must be undone by Start itself; the agent tries it
	// again after a pause, as Flume does. ctx bounds the start only.
	Start(ctx context.Context) error
	// Stop releases everything and waits for the component's own goroutines,
	// until ctx ends. It is idempotent and legal without Start.
	Stop(ctx context.Context) error
}

// Source produces events.
type Source interface {
	Component
	// Run emits batches until ctx ends (then it returns nil) or it cannot go
	// on. The agent runs it again after a pause, unless the error is marked
	// by Fatal: then the source stays down and health says so.
	Run(ctx context.Context, out Output) error
}

// Output is where a source's batches go: interceptors, then the selector,
// then one put per channel. It is safe for concurrent use.
type Output interface {
	// Pool is where blocks for reading into come from.
	Pool() *event.Pool
	// NewBatch returns an empty batch.
	NewBatch() *event.Batch
	// Emit takes ownership of b, always. Interceptors run once; a channel
	// that is full is tried again below them according to the source's
	// RetryPolicy, and only channels that do not have b yet. An error means
	// that some required channel lacks b: the source must read it again (or
	// tell its client). A source advances its position only after nil.
	Emit(ctx context.Context, b *event.Batch) error
}

// RetryPolicy says how long Emit goes on when a channel is full or fails,
// beyond the channel's own keep-alive. The pause doubles from Initial to Max.
type RetryPolicy struct {
	Initial, Max time.Duration
	// Once makes Emit fail at the first refusal: for sources whose client
	// waits for an answer (netcat).
	Once bool
}

// Retrier is a Source with a retry policy of its own. Others get 250 ms,
// doubling to 4 s, for ever: a full channel slows the source down.
type Retrier interface{ Retry() RetryPolicy }

// Interceptor edits or drops the events of a batch, only through b's methods.
// It keeps no views of them beyond the call (Clone may be kept). Intercept
// must be safe for concurrent use unless the interceptor implements Serial.
// An error fails the whole batch: the source reads it again.
// An interceptor that implements io.Closer is closed when its source stops.
type Interceptor interface {
	Intercept(b *event.Batch) error
}

// Serial marks an interceptor whose Intercept must not run concurrently.
type Serial interface{ InterceptSerially() }

// Channel holds events between sources and sinks.
type Channel interface {
	Component
	// Put adds all of b or nothing. It waits keep-alive for room, then fails
	// with ErrFull. A channel that cannot undo (a Kafka topic) may add some of
	// b and fail with a *PartialError that names the others. b stays the
	// caller's: a channel copies what it keeps, or retains b's blocks.
	Put(ctx context.Context, b *event.Batch) error
	// NewTaker returns a taker; every sink has one of its own.
	NewTaker() Taker
	// Stats is safe for concurrent use.
	Stats() ChannelStats
	// TransactionCapacity is the largest batch of one put or take; 0 means
	// no limit.
	TransactionCapacity() int
}

// Shared marks a Channel that other agents put into and take out of as well (a
// Kafka topic): with sources alone, or sinks alone, it is complete.
type Shared interface{ IsShared() }

// Taker takes events out of a channel, for one sink. One lease is open at a time.
type Taker interface {
	// Take waits keep-alive for an event and leases up to max of those that
	// are there. An empty lease (nothing came, or ctx ended) is nil, with a nil error.
	Take(ctx context.Context, max int) (Lease, error)
}

// Lease is Flume's take transaction: the events are the sink's until Commit
// removes them from the channel or Rollback gives them back, in order, ahead
// of the others. One of the two must be called; after that the events are void.
type Lease interface {
	Events() []event.Event
	Commit() error
	Rollback() error
}

// ChannelStats is a snapshot of a channel.
type ChannelStats struct {
	Size     int64 // events that a put committed and no take has committed yet
	Capacity int64 // in events; 0: unknown (a Kafka topic, say)
	Bytes    int64 // memory or disk that the events pin; 0: not known
	Durable  bool  // events survive the process, if it stops in order
}

// Sink delivers events.
type Sink interface {
	Component
	// Write delivers evs, which are read-only and void after it returns. nil
	// means that all are delivered. A *PartialError means that those it names
	// are not. ErrBackoff (wrapped or not) is Flume's BACKOFF: nothing is
	// wrong, but come again later. After any other error the whole lease is
	// rolled back and offered again after a pause.
	Write(ctx context.Context, evs []event.Event) error
}

// Sizer is a Sink (or Source) that tells its batch size in events, the most
// that one Write gets. The batch size must not exceed the transaction capacity
// of a channel at the other end: the agent refuses such a configuration.
// A sink without it gets up to 1000 events.
type Sizer interface{ BatchSize() int }

// Idler is a Sink with work to do when its channel is empty (rolling a file
// by time): Idle is called after each take that brought nothing, from the
// goroutine that calls Write.
type Idler interface {
	Idle(ctx context.Context) error
}

// Route is the outcome of selection for one event: indexes into the source's
// list of channels. A selector returns the same *Route for events that go the
// same way, so that runs of them are handled at once.
type Route struct{ Required, Optional []int }

// Selector decides which channels get an event. It is used concurrently. When
// it is a Uniform selector the agent asks once and for all.
type Selector interface {
	Select(e *event.Event) *Route
}

// Uniform is a Selector whose answer never depends on the event.
type Uniform interface{ Always() *Route }

// PerEvent marks a Selector whose answer may differ from one event to the next
// even where their headers are the same (load balancing): it is asked exactly
// once for each event.
type PerEvent interface{ SelectsEachEvent() }

// Env is what a component gets when it is made.
type Env struct {
	Agent string       // the agent's name
	Name  string       // the component's name in the agent file
	Log   *slog.Logger // names the component already
	// Metrics are the component's counters; runners keep the common ones.
	Metrics *Metrics
	// Health reports a condition that an operator should know of, until it
	// is reported again with nil: the agent goes on. Safe for concurrent use.
	Health func(err error)
	// Properties are the JVM-style -D properties of the command line.
	Properties map[string]string
	// Finding takes what a constructor has to say about a property without
	// refusing it; the agent adds file and line. It may be nil: use Warn.
	Finding func(Finding)
}

// Warn makes a finding about a property; for use in constructors.
func (e Env) Warn(key, hint, format string, args ...any) {
	if e.Finding != nil {
		e.Finding(Finding{Key: key, Message: fmt.Sprintf(format, args...), Hint: hint})
	}
}
