// Package race tells tests whether the race detector watches them: under it a
// sync.Pool forgets things at random, so allocations cannot be counted.
package race
