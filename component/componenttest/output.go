// Package componenttest helps to test components: an Output that records what
// a source emits and fails on demand, and an Env whose health reports can be
// read back. It is public for the tests of user-defined components.
package componenttest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

// Output records the batches that a source emits. The zero value is not
// usable, see NewOutput. It is safe for concurrent use.
type Output struct {
	pool *event.Pool

	mu      sync.Mutex
	changed chan struct{} // closed and renewed at each Emit that ended
	batches [][]event.Event
	emits   int
	fail    func(emit int, b *event.Batch) error
	gate    chan struct{} // not nil: Emit waits until it is closed
}

// NewOutput returns an Output that accepts everything.
func NewOutput() *Output {
	return &Output{pool: event.NewPool(), changed: make(chan struct{})}
}

// FailWith makes Emit call fail, with the number of the call (0 is the first)
// and its batch, and return its error. A batch that failed is not recorded.
// nil accepts everything again.
func (o *Output) FailWith(fail func(emit int, b *event.Batch) error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fail = fail
}

// Pause makes Emit wait, as a full channel does, until Resume or the end of
// its context.
func (o *Output) Pause() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.gate == nil {
		o.gate = make(chan struct{})
	}
}

// Resume ends a Pause.
func (o *Output) Resume() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.gate != nil {
		close(o.gate)
		o.gate = nil
	}
}

// Pool returns the pool that NewBatch uses; its Outstanding tells of leaks.
func (o *Output) Pool() *event.Pool { return o.pool }

// NewBatch returns an empty batch.
func (o *Output) NewBatch() *event.Batch { return o.pool.NewBatch() }

// Emit records a copy of b's events and releases b.
func (o *Output) Emit(ctx context.Context, b *event.Batch) error {
	defer b.Release()
	o.mu.Lock()
	gate, fail, n := o.gate, o.fail, o.emits
	o.emits++
	o.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	var err error
	if fail != nil {
		err = fail(n, b)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil {
		evs := make([]event.Event, 0, b.Len())
		for i := range b.Events() {
			evs = append(evs, b.Events()[i].Clone())
		}
		o.batches = append(o.batches, evs)
	}
	close(o.changed)
	o.changed = make(chan struct{})
	return err
}

// Emits is the number of calls of Emit so far, failed ones included.
func (o *Output) Emits() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.emits
}

// Batches returns the accepted batches.
func (o *Output) Batches() [][]event.Event {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([][]event.Event(nil), o.batches...)
}

// Events returns the events of all accepted batches in order.
func (o *Output) Events() []event.Event {
	var evs []event.Event
	for _, b := range o.Batches() {
		evs = append(evs, b...)
	}
	return evs
}

// Bodies returns the bodies of all accepted events in order.
func (o *Output) Bodies() []string {
	ss := []string{}
	for _, e := range o.Events() {
		ss = append(ss, string(e.Body))
	}
	return ss
}

// Wait blocks until at least n events were accepted. It fails the test after
// three minutes, which are only reached when they never come.
func (o *Output) Wait(t testing.TB, n int) {
	t.Helper()
	o.WaitFor(t, fmt.Sprintf("%d events", n), func() bool { return len(o.Events()) >= n })
}

// WaitFor blocks until cond, which is asked again after each Emit and every
// few milliseconds. It fails the test after three minutes.
func (o *Output) WaitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(3 * time.Minute)
	for {
		o.mu.Lock()
		changed := o.changed
		o.mu.Unlock()
		if cond() {
			return
		}
		select {
		case <-changed:
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			t.Fatalf("waited three minutes in vain for %s; have %d events", what, len(o.Events()))
		}
	}
}

var _ component.Output = (*Output)(nil)
