package seq

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
)

func TestSeq(t *testing.T) {
	for _, batch := range []int{1, 3, 100} {
		src := componenttest.Source(t, componenttest.QuietEnv(), "seq", fmt.Sprintf("batchSize=%d", batch), "totalEvents=10")
		out := componenttest.NewOutput()
		run := componenttest.Run(t, src, out)
		out.Wait(t, 10)
		run.Stop()
		var want []string
		for i := range 10 {
			want = append(want, fmt.Sprint(i))
		}
		if got := out.Bodies(); !slices.Equal(got, want) {
			t.Errorf("batchSize %d: %q", batch, got)
		}
		for _, b := range out.Batches() {
			if len(b) > batch {
				t.Errorf("a batch of %d events", len(b))
			}
		}
	}
}

// A refused batch comes again when the source is run again.
func TestRefusedNumbersComeAgain(t *testing.T) {
	src := componenttest.Source(t, componenttest.QuietEnv(), "seq", "batchSize=2", "totalEvents=6")
	out := componenttest.NewOutput()
	refuse := errors.New("refused")
	out.FailWith(func(emit int, _ *event.Batch) error {
		if emit == 1 {
			return refuse
		}
		return nil
	})
	if err := src.Run(t.Context(), out); !errors.Is(err, refuse) {
		t.Fatalf("run: %v", err)
	}
	run := componenttest.Run(t, src, out)
	out.Wait(t, 6)
	run.Stop()
	if got := out.Bodies(); !slices.Equal(got, []string{"0", "1", "2", "3", "4", "5"}) {
		t.Errorf("%q", got)
	}
}
