package bucket

import (
	"time"

	"github.com/sluice-data/sluice/component"
)

const (
	maxPenalty = time.Minute // how long a target is left alone after an error, at most
	maxBad     = 10_000      // targets of which that is remembered
)

// Penalties keep a target that does not answer from holding up the others, time after time.
type Penalties[K comparable] struct {
	now func() time.Time
	bad map[K]penalty
}

type penalty struct {
	since time.Time // of the first error in a row
	until time.Time
	err   error
}

// NewPenalties makes one without penalties.
func NewPenalties[K comparable](now func() time.Time) Penalties[K] {
	return Penalties[K]{now, map[K]penalty{}}
}

// Try calls f for a target, with the time since when it has failed. One that has failed is left alone for a second and four
// times as long as the failed call took, at most a minute, if others wait or the error is permanent: its last error is
// the answer then.
func (p Penalties[K]) Try(target K, others bool, f func(since time.Time) error) error {
	begin := p.now()
	was, failed := p.bad[target]
	if failed && begin.Before(was.until) && (others || component.IsPermanent(was.err)) {
		return was.err
	}
	if !failed {
		was.since = begin
	}
	err := f(was.since)
	if err == nil {
		delete(p.bad, target)
		return nil
	}
	if !failed && len(p.bad) >= maxBad {
		clear(p.bad)
	}
	now := p.now()
	p.bad[target] = penalty{was.since, now.Add(min(maxPenalty, time.Second+4*now.Sub(begin))), err}
	return err
}
