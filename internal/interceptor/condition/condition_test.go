package condition

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-data/sluice/component/componenttest"
)

func TestReporter(t *testing.T) {
	var log bytes.Buffer
	env, health := componenttest.Env(t)
	env.Log = slog.New(slog.NewTextHandler(&log, nil))
	r := New(env)
	one, other := errors.New("one"), errors.New("other")
	for _, err := range []error{nil, one, one, other, nil, nil, one, nil} {
		r.Batch(err)
	}
	want := []error{one, other, nil, one, nil}
	got := health.All()
	if len(got) != len(want) {
		t.Fatalf("health was told %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("report %d is %v, want %v", i, got[i], want[i])
		}
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings:\n%s", n, log.String())
	}
}

// Whatever batches do at the same time, health ends as the last one says.
func TestReporterConcurrently(t *testing.T) {
	env, health := componenttest.Env(t)
	r := New(env)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for k := range 200 {
				if (k+i)%2 == 0 {
					r.Batch(GaveUp("a", "which are kept"))
				} else {
					r.Batch(nil)
				}
			}
		})
	}
	wg.Wait()
	r.Batch(nil)
	if err := health.Last(); err != nil {
		t.Errorf("health has %v", err)
	}
}
