package broker

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// memoryGate bounds the memory for requests under way, over all connections.
// A request that finds none left waits, and so does its connection: no more is
// read from it (Apache Kafka mutes its channels under queued.max.request.bytes).
//
// A request that waits may hold a part of what it needs, so waiting alone
// could last for ever. Therefore one request at a time may go beyond the
// limit: it gets all it asks for, and when it is done the next one may. And
// nobody waits longer than patience: a client that sends slowly, or long polls
// that hold all of the memory, then cost others their connection.
type memoryGate struct {
	limit    int64
	patience time.Duration
	used     atomic.Int64
	waiting  atomic.Int64
	paused   atomic.Int64 // how often somebody had to wait

	beyond atomic.Pointer[request] // the one that may go beyond the limit; changed under mu

	mu      sync.Mutex
	changed chan struct{} // closed when memory was given back
}

const memoryPatience = time.Minute

func newMemoryGate(limit int64) *memoryGate {
	return &memoryGate{limit: limit, patience: memoryPatience, changed: make(chan struct{})}
}

// try counts n bytes for r if there is room, or if r may go beyond it.
func (g *memoryGate) try(r *request, n int64) bool {
	if g.used.Add(n) <= g.limit {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if b := g.beyond.Load(); b == nil || b == r {
		g.beyond.Store(r)
		return true
	}
	g.used.Add(-n)
	return false
}

// wait counts n bytes for r, when there is room for them.
func (g *memoryGate) wait(ctx context.Context, stopping <-chan struct{}, r *request, n int64) error {
	g.waiting.Add(1)
	defer g.waiting.Add(-1)
	g.paused.Add(1)
	timer := time.NewTimer(g.patience)
	defer timer.Stop()
	for {
		g.mu.Lock()
		changed := g.changed
		g.mu.Unlock()
		// Asked after changed was taken, or a release in between would be missed.
		if g.try(r, n) {
			return nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return fmt.Errorf("requests under way used all of the %s that they may have together for %v", sizeText(g.limit), g.patience)
		case <-stopping:
			return errClose
		case <-ctx.Done():
			return errClose
		}
	}
}

// give returns n bytes of r, which is all that it had.
func (g *memoryGate) give(r *request, n int64) {
	g.used.Add(-n)
	if g.beyond.Load() != r && g.waiting.Load() == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.beyond.CompareAndSwap(r, nil)
	close(g.changed)
	g.changed = make(chan struct{})
}
