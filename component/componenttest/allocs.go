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
	// Whatever else the process does, and a collection that empties pools, can
	// only add to what f allocates: the least of some measurements counts.
	n := testing.AllocsPerRun(20, f)
	for try := 0; try < 2 && n > float64(limit); try++ {
		n = min(n, testing.AllocsPerRun(20, f))
	}
	if n > float64(limit) {
		t.Errorf("%v allocations in a round, want at most %d", n, limit)
	}
}
