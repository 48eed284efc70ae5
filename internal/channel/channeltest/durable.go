package channeltest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

// Store is where a durable channel keeps its events. One channel at a time is open on it.
type Store interface {
	// Open returns a started channel on the store, with a keep-alive of a few milliseconds.
	Open(t *testing.T, capacity, txCapacity int) component.Channel
	// Close stops the channel in order.
	Close(t *testing.T)
	// Kill ends the channel as a power cut would, or as near to it as can be had.
	Kill(t *testing.T)
}

// RunDurable runs what channels pass whose events outlive the process, in addition to Run. fresh makes an empty store.
func RunDurable(t *testing.T, fresh func(t *testing.T) Store) {
	for name, end := range map[string]func(Store, *testing.T){"closed": Store.Close, "killed": Store.Kill} {
		t.Run(name, func(t *testing.T) {
			durable(t, fresh, end)
			t.Run("another capacity", func(t *testing.T) { otherCapacity(t, fresh(t), end) })
		})
	}
}

// RunStopped is RunDurable without a kill, and without a test that fills the channel: for one of several parts, of which
// some outlive the process only if that stops in order.
func RunStopped(t *testing.T, fresh func(t *testing.T) Store) { durable(t, fresh, Store.Close) }

func durable(t *testing.T, fresh func(t *testing.T) Store, end func(Store, *testing.T)) {
	t.Run("content and order", func(t *testing.T) { keeps(t, fresh(t), end) })
	t.Run("open takes come again", func(t *testing.T) { openTakes(t, fresh(t), end) })
	t.Run("commits in any order", func(t *testing.T) { anyOrder(t, fresh(t), end) })
	t.Run("random history", func(t *testing.T) { history(t, fresh, end) })
}

// drain takes everything, and wants the events with these numbers.
func drain(t *testing.T, c component.Channel, p *event.Pool, want []int) {
	t.Helper()
	if got := c.Stats().Size; got != int64(len(want)) {
		t.Errorf("the channel says that it holds %d events, want %d", got, len(want))
	}
	tk := c.NewTaker()
	for len(want) > 0 {
		l := take(t, tk, 7)
		if l == nil {
			t.Fatalf("nothing comes, %d events are due: %v", len(want), want[:min(len(want), 20)])
		}
		for _, e := range l.Events() {
			if len(want) == 0 {
				t.Fatalf("event %q is one too many", e)
			}
			same(t, p, []event.Event{e}, want[0])
			want = want[1:]
		}
		if err := l.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if l := take(t, tk, 1); l != nil {
		t.Fatalf("event %q is one too many", l.Events()[0])
	}
	if !c.Stats().Durable {
		t.Error("the channel does not say that it is durable")
	}
}

func numbers(from, to int) (n []int) {
	for i := from; i < to; i++ {
		n = append(n, i)
	}
	return n
}

func commit(t *testing.T, l component.Lease) {
	t.Helper()
	if err := l.Commit(); err != nil {
		t.Fatal(err)
	}
}

func keeps(t *testing.T, s Store, end func(Store, *testing.T)) {
	p := event.NewPool()
	c := s.Open(t, 1000, 100)
	put(t, c, p, 0, 30)
	put(t, c, p, 30, 1)
	put(t, c, p, 31, 69)
	commit(t, take(t, c.NewTaker(), 40))
	end(s, t)
	c = s.Open(t, 1000, 100)
	put(t, c, p, 100, 10)
	end(s, t)
	c = s.Open(t, 1000, 100)
	drain(t, c, p, numbers(40, 110))
	end(s, t)
	c = s.Open(t, 1000, 100)
	drain(t, c, p, nil)
	put(t, c, p, 110, 3)
	drain(t, c, p, numbers(110, 113))
	end(s, t)
}

func openTakes(t *testing.T, s Store, end func(Store, *testing.T)) {
	p := event.NewPool()
	c := s.Open(t, 1000, 100)
	put(t, c, p, 0, 50)
	a, b := c.NewTaker(), c.NewTaker()
	commit(t, take(t, a, 10))
	if err := take(t, a, 5).Rollback(); err != nil {
		t.Fatal(err)
	}
	take(t, b, 20)
	commit(t, take(t, a, 10)) // behind the open one
	end(s, t)
	drain(t, s.Open(t, 1000, 100), p, append(numbers(10, 30), numbers(40, 50)...))
	end(s, t)
}

func anyOrder(t *testing.T, s Store, end func(Store, *testing.T)) {
	p := event.NewPool()
	c := s.Open(t, 1000, 100)
	put(t, c, p, 0, 60)
	var leases []component.Lease
	for range 6 {
		leases = append(leases, take(t, c.NewTaker(), 10))
	}
	for _, i := range []int{4, 1, 3} {
		commit(t, leases[i])
	}
	end(s, t)
	c = s.Open(t, 1000, 100)
	l := take(t, c.NewTaker(), 15)
	if n := len(l.Events()); n != 15 {
		t.Errorf("took %d events across those that are taken, want 15", n)
	}
	same(t, p, l.Events()[:10], 0)
	same(t, p, l.Events()[10:], 20)
	commit(t, l)
	end(s, t)
	drain(t, s.Open(t, 1000, 100), p, append(numbers(25, 30), numbers(50, 60)...))
	end(s, t)
}

func otherCapacity(t *testing.T, s Store, end func(Store, *testing.T)) {
	p := event.NewPool()
	c := s.Open(t, 50, 50)
	bounded(t, c)
	put(t, c, p, 0, 50)
	end(s, t)
	c = s.Open(t, 100, 50)
	put(t, c, p, 50, 50)
	end(s, t)
	c = s.Open(t, 10, 10)
	b := batch(p, 100, 1)
	defer b.Release()
	if err := c.Put(context.Background(), b); err == nil {
		t.Error("a channel of 10 events that holds 100 took another")
	}
	drain(t, c, p, numbers(0, 100))
	put(t, c, p, 100, 10)
	end(s, t)
}

// history does what sources and sinks do, at random, ends the channel at random, and wants exactly what was put and not
// committed, in order.
func history(t *testing.T, fresh func(t *testing.T) Store, end func(Store, *testing.T)) {
	seeds := uint64(20)
	if testing.Short() { // where a start takes long
		seeds = 5
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			s := fresh(t)
			rng := rand.New(rand.NewPCG(seed, 1))
			p := event.NewPool()
			next := 0
			var waiting []int // in the order in which they must come
			for range 6 {
				c := s.Open(t, 5000, 100)
				type held struct {
					l component.Lease
					n []int
				}
				var open []held
				for range 40 {
					switch k := rng.IntN(10); {
					case k < 4:
						n := 1 + rng.IntN(60)
						put(t, c, p, next, n)
						waiting = append(waiting, numbers(next, next+n)...)
						next += n
					case k < 7:
						if l := take(t, c.NewTaker(), 1+rng.IntN(50)); l != nil {
							n := len(l.Events())
							for i, e := range l.Events() {
								same(t, p, []event.Event{e}, waiting[i])
							}
							open = append(open, held{l, slices.Clone(waiting[:n])})
							waiting = waiting[n:]
						} else if len(waiting) > 0 {
							t.Fatalf("nothing came, and %d events wait", len(waiting))
						}
					case len(open) > 0:
						i := rng.IntN(len(open))
						h := open[i]
						open = slices.Delete(open, i, i+1)
						if k < 9 {
							commit(t, h.l)
							break
						}
						if err := h.l.Rollback(); err != nil {
							t.Fatal(err)
						}
						waiting = append(waiting, h.n...)
						slices.Sort(waiting)
					}
				}
				for _, h := range open {
					waiting = append(waiting, h.n...)
				}
				slices.Sort(waiting)
				end(s, t)
			}
			drain(t, s.Open(t, 5000, 100), p, waiting)
			end(s, t)
		})
	}
}
