package kafkaconf

import (
	"errors"
	"maps"
	"slices"
	"sync"
)

// Conditions joins several reasons for bad health into the one that a
// component may report. It is safe for concurrent use.
type Conditions struct {
	health func(error)
	mu     sync.Mutex
	errs   map[string]error
}

// NewConditions returns conditions that are told to health.
func NewConditions(health func(error)) *Conditions {
	return &Conditions{health: health, errs: make(map[string]error)}
}

// Set sets or (with nil) clears a condition. It answers whether that is news,
// and so whether to log it.
func (c *Conditions) Set(name string, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.errs[name]
	if old == nil && err == nil || old != nil && err != nil && old.Error() == err.Error() {
		return false
	}
	if err == nil {
		delete(c.errs, name)
	} else {
		c.errs[name] = err
	}
	var all []error
	for _, n := range slices.Sorted(maps.Keys(c.errs)) {
		all = append(all, c.errs[n])
	}
	c.health(errors.Join(all...))
	return true
}
