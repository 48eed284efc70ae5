// Package null is the sink that drops every event.
package null

import (
	"context"
	"log/slog"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

func init() {
	component.RegisterSink(component.Info{
		Name:    "null",
		Classes: []string{"org.apache.flume.sink.NullSink"},
		Doc:     "Drops every event: for measuring, and for channels that nobody reads yet.",
		Notes:   "Flume logs at every `logEveryNEvents`-th event; here a batch that passes several multiples logs once.",
	}, func() component.SinkConfig { return new(config) })
}

type config struct {
	batchSize int
	logEvery  int64
}

func (c *config) Fields() []component.Field {
	return []component.Field{
		component.Int("batchSize", &c.batchSize, 100).In("events").Min(1).Describe("The most events taken in one transaction."),
		component.Int64("logEveryNEvents", &c.logEvery, 10000).In("events").Min(1).Describe("How often the number of events is logged."),
	}
}

func (c *config) NewSink(env component.Env) (component.Sink, error) {
	return &sink{config: *c, log: env.Log}, nil
}

type sink struct {
	config
	log   *slog.Logger
	total int64
}

func (s *sink) Start(context.Context) error { return nil }
func (s *sink) Stop(context.Context) error  { return nil }

// BatchSize implements component.Sizer.
func (s *sink) BatchSize() int { return s.batchSize }

// Write implements component.Sink.
func (s *sink) Write(_ context.Context, evs []event.Event) error {
	before := s.total / s.logEvery
	s.total += int64(len(evs))
	if s.total/s.logEvery != before {
		s.log.Info("null sink: events dropped", "events", s.total)
	}
	return nil
}
