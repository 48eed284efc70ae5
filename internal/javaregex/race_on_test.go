//go:build race

package javaregex

// Under the race detector a sync.Pool forgets things at random.
const raceEnabled = true
