// Package channeltest is the conformance suite that every channel passes.
package channeltest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

// Open makes a started channel with the given capacities and a keep-alive of
// a few milliseconds.
type Open func(t *testing.T, capacity, txCapacity int) component.Channel

// Run runs the suite.
func Run(t *testing.T, open Open) {
	RunOrder(t, open)
	t.Run("open takes fill the channel", func(t *testing.T) { leaseHoldsCapacity(t, open) })
	t.Run("full", func(t *testing.T) { full(t, open) })
	t.Run("waiting ends with the context", func(t *testing.T) { cancel(t, open) })
}

// RunOrder is what Run runs without the tests that fill the channel to the last event: for one of several parts, where
// that depends on the batches.
func RunOrder(t *testing.T, open Open) {
	t.Run("order and content", func(t *testing.T) { order(t, open) })
	t.Run("rollback restores the order", func(t *testing.T) { rollback(t, open) })
	t.Run("rollbacks in any order", func(t *testing.T) { rollbacks(t, open) })
	t.Run("transaction capacity", func(t *testing.T) { txCapacity(t, open) })
	t.Run("misuse", func(t *testing.T) { misuse(t, open) })
	t.Run("a waiting take gets what is put", func(t *testing.T) { wakeUp(t, open) })
	t.Run("many puts and takes at once", func(t *testing.T) { concurrent(t, open) })
}

func batch(p *event.Pool, from, n int) *event.Batch {
	b := p.NewBatch()
	for i := from; i < from+n; i++ {
		var hs []event.KV
		switch i % 4 {
		case 1:
			hs = []event.KV{{Key: "n", Value: fmt.Appendf(nil, "%d", i)}}
		case 2:
			hs = []event.KV{{Key: "null"}, {Key: "empty", Value: []byte{}}}
		}
		b.AppendEvent(fmt.Appendf(nil, "event %d", i), hs)
	}
	return b
}

func put(t *testing.T, c component.Channel, p *event.Pool, from, n int) {
	t.Helper()
	b := batch(p, from, n)
	defer b.Release()
	if err := c.Put(context.Background(), b); err != nil {
		t.Fatalf("put %d events from %d: %v", n, from, err)
	}
}

func take(t *testing.T, tk component.Taker, limit int) component.Lease {
	t.Helper()
	l, err := tk.Take(context.Background(), limit)
	if err != nil {
		t.Fatalf("take: %v", err)
	}
	return l
}

func same(t *testing.T, p *event.Pool, evs []event.Event, from int) {
	t.Helper()
	b := batch(p, from, len(evs))
	defer b.Release()
	for i, want := range b.Events() {
		if got, want := fmt.Sprintf("%q", evs[i]), fmt.Sprintf("%q", want); got != want {
			t.Fatalf("event %d of %d: got %s, want %s", i, len(evs), got, want)
		}
	}
}

func order(t *testing.T, open Open) {
	p := event.NewPool()
	c := open(t, 100, 50)
	tk := c.NewTaker()
	in, out := 0, 0
	for round := range 300 {
		n := 1 + round*7%50
		put(t, c, p, in, n)
		in += n
		for in-out > 30 {
			l := take(t, tk, 1+round*11%50)
			same(t, p, l.Events(), out)
			out += len(l.Events())
			if err := l.Commit(); err != nil {
				t.Fatal(err)
			}
		}
		if got := c.Stats().Size; got != int64(in-out) {
			t.Fatalf("size %d, want %d", got, in-out)
		}
	}
	for out < in {
		l := take(t, tk, 50)
		same(t, p, l.Events(), out)
		out += len(l.Events())
		if err := l.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if l := take(t, tk, 10); l != nil {
		t.Fatalf("took %d events from an empty channel", len(l.Events()))
	}
	if n := p.Outstanding(); n != 0 && !c.Stats().Durable {
		t.Errorf("%d blocks still held by an empty channel", n)
	}
}

func rollback(t *testing.T, open Open) {
	p := event.NewPool()
	c := open(t, 100, 100)
	tk := c.NewTaker()
	put(t, c, p, 0, 10)
	put(t, c, p, 10, 20)
	for _, n := range []int{1, 7, 10, 15, 30, 100} {
		l := take(t, tk, n)
		same(t, p, l.Events(), 0)
		if err := l.Rollback(); err != nil {
			t.Fatal(err)
		}
	}
	put(t, c, p, 30, 5)
	l := take(t, tk, 12)
	same(t, p, l.Events(), 0)
	if err := l.Commit(); err != nil {
		t.Fatal(err)
	}
	l = take(t, tk, 8)
	if err := l.Rollback(); err != nil {
		t.Fatal(err)
	}
	l = take(t, tk, 100)
	same(t, p, l.Events(), 12)
	if len(l.Events()) != 23 {
		t.Errorf("%d events left, want 23", len(l.Events()))
	}
	if err := l.Commit(); err != nil {
		t.Fatal(err)
	}
}

// rollbacks lets several takers give back what they have, in several orders.
func rollbacks(t *testing.T, open Open) {
	for _, ends := range [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 3, 0, 2}, {2, 0, 3, 1}} {
		p := event.NewPool()
		c := open(t, 100, 100)
		for i := range 20 {
			put(t, c, p, 3*i, 3)
		}
		takers := make([]component.Taker, 4)
		leases := make([]component.Lease, 4)
		for i := range takers {
			takers[i] = c.NewTaker()
			leases[i] = take(t, takers[i], 10)
		}
		again := ends[0]
		if err := leases[again].Rollback(); err != nil {
			t.Fatal(err)
		}
		leases[again] = take(t, takers[again], 14) // what was given back, and some from behind the others
		for _, i := range ends {
			if err := leases[i].Rollback(); err != nil {
				t.Fatal(err)
			}
		}
		for from := 0; from < 60; {
			l := take(t, takers[0], 100)
			if l == nil {
				t.Fatalf("nothing comes, %d is due", from)
			}
			same(t, p, l.Events(), from)
			from += len(l.Events())
			if err := l.Commit(); err != nil {
				t.Fatal(err)
			}
		}
		if n := p.Outstanding(); n != 0 && !c.Stats().Durable {
			t.Errorf("%d blocks still held by an empty channel", n)
		}
	}
}

// bounded skips what fills a channel where there is no limit.
func bounded(t *testing.T, c component.Channel) {
	t.Helper()
	if c.Stats().Capacity == 0 {
		t.Skip("the channel has no capacity")
	}
}

func leaseHoldsCapacity(t *testing.T, open Open) {
	p := event.NewPool()
	c := open(t, 10, 10)
	bounded(t, c)
	put(t, c, p, 0, 10)
	l := take(t, c.NewTaker(), 6)
	b := batch(p, 10, 1)
	defer b.Release()
	if err := c.Put(context.Background(), b); !errors.Is(err, component.ErrFull) {
		t.Errorf("put beside an open take: %v, want ErrFull", err)
	}
	if err := l.Commit(); err != nil {
		t.Fatal(err)
	}
	put(t, c, p, 10, 6)
}

func full(t *testing.T, open Open) {
	p := event.NewPool()
	c := open(t, 10, 10)
	bounded(t, c)
	put(t, c, p, 0, 8)
	b := batch(p, 8, 3)
	defer b.Release()
	if err := c.Put(context.Background(), b); !errors.Is(err, component.ErrFull) {
		t.Errorf("put into a full channel: %v, want ErrFull", err)
	}
	put(t, c, p, 8, 2) // nothing of the refused batch is in
	l := take(t, c.NewTaker(), 10)
	same(t, p, l.Events(), 0)
	if err := l.Commit(); err != nil {
		t.Fatal(err)
	}
}

func txCapacity(t *testing.T, open Open) {
	p := event.NewPool()
	c := open(t, 100, 10)
	if c.TransactionCapacity() == 0 {
		t.Skip("the channel has no limit")
	}
	if got := c.TransactionCapacity(); got != 10 {
		t.Errorf("TransactionCapacity() = %d, want 10", got)
	}
	b := batch(p, 0, 11)
	defer b.Release()
	if err := c.Put(context.Background(), b); err == nil || errors.Is(err, component.ErrFull) {
		t.Errorf("put beyond the transaction capacity: %v", err)
	}
	put(t, c, p, 0, 10)
	put(t, c, p, 10, 10)
	l := take(t, c.NewTaker(), 100)
	if len(l.Events()) > 10 {
		t.Errorf("took %d events beyond the transaction capacity", len(l.Events()))
	}
	if err := l.Commit(); err != nil {
		t.Fatal(err)
	}
}

func misuse(t *testing.T, open Open) {
	p := event.NewPool()
	c := open(t, 10, 10)
	put(t, c, p, 0, 2)
	tk := c.NewTaker()
	l := take(t, tk, 1)
	if _, err := tk.Take(context.Background(), 1); err == nil {
		t.Error("a second take with the first one open did not fail")
	}
	if err := l.Commit(); err != nil {
		t.Fatal(err)
	}
	if l.Commit() == nil || l.Rollback() == nil {
		t.Error("ending a lease twice did not fail")
	}
}

func cancel(t *testing.T, open Open) {
	p := event.NewPool()
	c := open(t, 2, 2)
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if l, err := c.NewTaker().Take(ctx, 1); l != nil || err != nil {
		t.Errorf("take with an ended context: %v, %v", l, err)
	}
	bounded(t, c)
	put(t, c, p, 0, 2)
	b := batch(p, 2, 1)
	defer b.Release()
	if err := c.Put(ctx, b); err == nil {
		t.Error("put into a full channel with an ended context did not fail")
	}
}

// wakeUp: a take that waits is woken by a put. The events need not come at
// once: a put into a topic may be two requests.
func wakeUp(t *testing.T, open Open) {
	p := event.NewPool()
	c := open(t, 10, 10)
	got := make(chan error, 1)
	go func() {
		tk := c.NewTaker()
		for n := 0; n < 3; {
			l, err := tk.Take(context.Background(), 10)
			if err != nil {
				got <- err
				return
			}
			if l == nil {
				continue // keep-alive ran out
			}
			for _, e := range l.Events() {
				if want := fmt.Sprintf("event %d", n); string(e.Body) != want {
					got <- fmt.Errorf("%q instead of %q", e.Body, want)
					return
				}
				n++
			}
			if err := l.Commit(); err != nil {
				got <- err
				return
			}
		}
		got <- nil
	}()
	put(t, c, p, 0, 3)
	if err := <-got; err != nil {
		t.Errorf("take: %v", err)
	}
}

// concurrent lets several sources and sinks work on one channel, with random
// rollbacks: every event comes out once, and each source's in order per put.
func concurrent(t *testing.T, open Open) {
	const sources, sinks, perSource = 3, 3, 4000
	p := event.NewPool()
	c := open(t, 500, 100)
	var wg sync.WaitGroup
	for s := range sources {
		wg.Go(func() {
			for i := 0; i < perSource; {
				n := min(1+i%37, perSource-i)
				b := p.NewBatch()
				for j := i; j < i+n; j++ {
					b.Append(fmt.Appendf(nil, "%d-%d", s, j))
				}
				err := c.Put(context.Background(), b)
				b.Release()
				switch {
				case err == nil:
					i += n
				case !errors.Is(err, component.ErrFull):
					t.Errorf("put: %v", err)
					return
				case t.Failed(): // nobody may be there to make room
					return
				}
			}
		})
	}
	var mu sync.Mutex
	seen := map[string]int{}
	var total atomic.Int64
	for k := range sinks {
		wg.Go(func() {
			tk := c.NewTaker()
			for i := 0; total.Load() < sources*perSource; i++ {
				ctx, stop := context.WithTimeout(context.Background(), 20*time.Millisecond)
				l, err := tk.Take(ctx, 1+(i*13+k)%90)
				stop()
				if err != nil {
					t.Errorf("take: %v", err)
					return
				}
				if l == nil {
					continue
				}
				if (i+k)%5 == 0 {
					if err := l.Rollback(); err != nil {
						t.Errorf("rollback: %v", err)
					}
					continue
				}
				mu.Lock()
				for _, e := range l.Events() {
					seen[string(e.Body)]++
				}
				mu.Unlock()
				total.Add(int64(len(l.Events())))
				if err := l.Commit(); err != nil {
					t.Errorf("commit: %v", err)
				}
			}
		})
	}
	wg.Wait()
	for body, n := range seen {
		if n != 1 {
			t.Errorf("%s came out %d times", body, n)
		}
	}
	if len(seen) != sources*perSource {
		t.Errorf("%d events came out, want %d", len(seen), sources*perSource)
	}
}
