//go:build race

package broker

// Under the race detector a sync.Pool forgets things at random.
const raceEnabled = true
