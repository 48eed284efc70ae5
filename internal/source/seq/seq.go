// Package seq is Flume's sequence generator source: it counts.
package seq

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/sluice-data/sluice/component"
)

func init() {
	component.RegisterSource(component.Info{
		Name:    "seq",
		Classes: []string{"org.apache.flume.source.SequenceGeneratorSource"},
		Doc:     "Emits the numbers 0, 1, 2, … as bodies, as fast as the channels take them.",
		Notes: "- A batch that a channel refuses is offered again as it is, so no number is left out and none changes its place. Flume tries again without a pause; here the pause doubles from `backoffSleepIncrement` to `maxBackoffSleep`.\n" +
			"- The count begins at 0 when the source is made, also after a reload, and goes on when it is only restarted after an error.\n" +
			"- After `totalEvents` the source idles without polling.\n" +
			"- Events count as received, too; in Flume only as accepted.",
	}, func() component.SourceConfig { return new(config) })
}

type config struct {
	batchSize int
	total     int64
	increment time.Duration
	maximum   time.Duration
}

func (c *config) Fields() []component.Field {
	return []component.Field{
		component.Int("batchSize", &c.batchSize, 1).In("events").Min(1).
			Describe("How many numbers are put into the channels at once."),
		component.Int64("totalEvents", &c.total, math.MaxInt64).In("events").
			Describe("How many numbers to emit altogether. 0 or less: none."),
		component.Duration("backoffSleepIncrement", &c.increment, time.Millisecond, time.Second).Min(0).
			Describe("The first pause after a channel refused a batch. It doubles. At least 1 ms is waited."),
		component.Duration("maxBackoffSleep", &c.maximum, time.Millisecond, 5*time.Second).Min(0).
			Describe("The longest pause."),
	}
}

func (c *config) NewSource(component.Env) (component.Source, error) {
	return &source{cfg: c}, nil
}

type source struct {
	cfg  *config
	next int64 // Run's
}

// BatchSize implements component.Sizer.
func (s *source) BatchSize() int { return s.cfg.batchSize }

// Retry implements component.Retrier.
func (s *source) Retry() component.RetryPolicy {
	longest := max(s.cfg.maximum, time.Millisecond) // 0 would be a busy loop
	return component.RetryPolicy{Initial: min(max(s.cfg.increment, time.Millisecond), longest), Max: longest}
}

func (s *source) Start(context.Context) error { return nil }

func (s *source) Stop(context.Context) error { return nil }

func (s *source) Run(ctx context.Context, out component.Output) error {
	for s.next < s.cfg.total && ctx.Err() == nil {
		n := min(int64(s.cfg.batchSize), s.cfg.total-s.next)
		b := out.NewBatch()
		b.Grow(int(n))
		var digits [20]byte
		for i := s.next; i < s.next+n; i++ {
			b.Append(strconv.AppendInt(digits[:0], i, 10))
		}
		if err := out.Emit(ctx, b); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("put the numbers from %d on: %w", s.next, err)
		}
		s.next += n
	}
	<-ctx.Done()
	return nil
}
