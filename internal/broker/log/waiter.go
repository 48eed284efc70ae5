package log

import "sync/atomic"

// Waiter is one long poll over any number of partitions: it counts the bytes that become readable and fires once when
// there are enough, so that an append wakes only the fetches it can satisfy.
//
// Use: read all partitions; if that is not enough, NewWaiter(min - size), Notify it on each partition from the
// ReadResult's Next, wait for C or the time limit, cancel the registrations, read again.
type Waiter struct {
	need atomic.Int64
	c    chan struct{}
}

// NewWaiter returns a waiter that fires when need more bytes can be read. With need < 1 the first byte fires it.
func NewWaiter(need int) *Waiter {
	w := &Waiter{c: make(chan struct{})}
	w.need.Store(int64(max(need, 1)))
	return w
}

// C is closed when the waiter fires.
func (w *Waiter) C() <-chan struct{} { return w.c }

// Add counts n bytes. It is for stores.
func (w *Waiter) Add(n int64) {
	if n <= 0 {
		return
	}
	// Exactly one Add crosses zero, so the channel is closed once.
	if left := w.need.Add(-n); left <= 0 && left+n > 0 {
		close(w.c)
	}
}

// Wake fires the waiter whatever it has counted: the partition was closed, failed or was cut, and the fetch has to look.
func (w *Waiter) Wake() {
	for {
		left := w.need.Load()
		if left <= 0 {
			return
		}
		if w.need.CompareAndSwap(left, 0) {
			close(w.c)
			return
		}
	}
}
