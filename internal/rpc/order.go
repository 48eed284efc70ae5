package rpc

import (
	"math/rand/v2"
	"sync"
	"time"
)

// order says in which order the load balancing client tries its hosts: in
// turn or at random, and with back-off without those that failed lately. It is
// safe for concurrent use.
type order struct {
	random     bool
	backoff    bool
	maxBackoff time.Duration

	mu    sync.Mutex
	hosts []failState
	head  int
}

type failState struct {
	failures int
	last     time.Time
	until    time.Time // left alone until then
}

// Flume's numbers: the back-off doubles up to 2^16 s, and failures within an
// hour after it ended count as one row.
const (
	maxFailures = 16
	sameRow     = time.Hour
)

// next is the order for one batch.
func (o *order) next(now time.Time) []int {
	o.mu.Lock()
	defer o.mu.Unlock()
	var up []int
	for i := range o.hosts {
		if !o.backoff || !now.Before(o.hosts[i].until) {
			up = append(up, i)
		}
	}
	if len(up) == 0 {
		return nil
	}
	if o.random {
		rand.Shuffle(len(up), func(i, j int) { up[i], up[j] = up[j], up[i] })
		return up
	}
	begin := o.head % len(up)
	o.head = (begin + 1) % len(up)
	return append(append([]int(nil), up[begin:]...), up[:begin]...)
}

// failed notes that a host failed.
func (o *order) failed(i int, now time.Time) {
	if !o.backoff {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	s := &o.hosts[i]
	if now.Sub(s.last) < o.pause(s.failures)+sameRow {
		s.failures = min(s.failures+1, maxFailures)
	} else {
		s.failures = 1
	}
	s.last = now
	s.until = now.Add(o.pause(s.failures))
}

func (o *order) pause(failures int) time.Duration {
	return min(time.Second<<failures, o.maxBackoff)
}
