//go:build race

package record

// Under the race detector a sync.Pool forgets things at random.
const raceEnabled = true
