package componenttest

import (
	"testing"

	"github.com/sluice-data/sluice/internal/race"
)

// NoMoreAllocs fails the test when a round of f makes more than limit
// allocations, after one round to warm up. Under the race detector it only
// runs f: there sync.Pool forgets things at random.
func NoMoreAllocs(t testing.TB, limit int, f func()) {
	t.Helper()
	f()
	if race.Enabled {
		return
	}
	if n := testing.AllocsPerRun(20, f); n > float64(limit) {
		t.Errorf("%v allocations in a round, want at most %d", n, limit)
	}
}
