// Package seq is the source that counts.
package seq

import (
	"context"
	"math"
	"strconv"
	"time"

	"github.com/sluice-data/sluice/component"
)

func init() {
	component.RegisterSource(component.Info{
		Name:    "seq",
		Classes: []string{"org.apache.flume.source.SequenceGeneratorSource"},
		Doc:     "Emits the numbers 0, 1, 2, … as bodies: for trying things out.",
		Notes:   "Numbers that the channel refuses are sent again. Every event counts as received, not only as accepted.",
	}, func() component.SourceConfig { return new(config) })
}

type config struct {
	batch      int
	total      int64
	increment  time.Duration
	maxBackoff time.Duration
}

func (c *config) Fields() []component.Field {
	return []component.Field{
		component.Int("batchSize", &c.batch, 1).In("events").Min(1).Describe("Events per batch."),
		component.Int64("totalEvents", &c.total, math.MaxInt64).In("events").Min(0).Describe("How many numbers there are; then the source rests."),
		component.Duration("backoffSleepIncrement", &c.increment, time.Millisecond, time.Second).Min(0).
			Describe("The first pause after the channel refused a batch."),
		component.Duration("maxBackoffSleep", &c.maxBackoff, time.Millisecond, 5*time.Second).Min(0).Describe("The longest such pause."),
	}
}

func (c *config) NewSource(component.Env) (component.Source, error) { return &source{config: *c}, nil }

type source struct {
	config
	next int64
}

func (s *source) BatchSize() int { return s.batch }

func (s *source) Retry() component.RetryPolicy {
	return component.RetryPolicy{Initial: max(s.increment, time.Millisecond), Max: max(s.maxBackoff, time.Millisecond)}
}

func (s *source) Start(context.Context) error { return nil }
func (s *source) Stop(context.Context) error  { return nil }

// Run counts on where a Run before left off.
func (s *source) Run(ctx context.Context, out component.Output) error {
	for s.next < s.total && ctx.Err() == nil {
		b := out.NewBatch()
		n := min(int64(s.batch), s.total-s.next)
		b.Grow(int(n))
		var buf [20]byte
		for i := range n {
			b.Append(strconv.AppendInt(buf[:0], s.next+i, 10))
		}
		if err := out.Emit(ctx, b); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		s.next += n
	}
	<-ctx.Done()
	return nil
}
