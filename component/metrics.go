package component

import (
	"sync"
	"sync/atomic"
)

// Metrics are a component's counters by Flume's names (EventReceivedCount,
// ConnectionFailedCount, …). Get a counter once and keep it.
type Metrics struct {
	mu       sync.Mutex
	counters map[string]*atomic.Int64
}

// NewMetrics returns counters with the given names, at 0.
func NewMetrics(names ...string) *Metrics {
	m := &Metrics{counters: make(map[string]*atomic.Int64)}
	for _, n := range names {
		m.counters[n] = new(atomic.Int64)
	}
	return m
}

// Counter returns the counter of that name, made at the first call.
func (m *Metrics) Counter(name string) *atomic.Int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.counters[name]
	if c == nil {
		c = new(atomic.Int64)
		m.counters[name] = c
	}
	return c
}

// Snapshot returns all values.
func (m *Metrics) Snapshot() map[string]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := make(map[string]int64, len(m.counters))
	for n, c := range m.counters {
		s[n] = c.Load()
	}
	return s
}

// Reset sets every counter to 0, as Flume does when a component starts.
func (m *Metrics) Reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.counters {
		c.Store(0)
	}
}
