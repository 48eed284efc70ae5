package agent

import (
	"context"
	"fmt"

	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/suggest"
)

// LoneSink is one sink of an agent that works without its channel, on events
// that are handed to it: the replay of dead letters.
type LoneSink struct{ node *sinkNode }

// LoneSink starts the sink of that name. Close it after use. The agent is not
// to be run.
func (a *Agent) LoneSink(ctx context.Context, name string) (*LoneSink, error) {
	var names []string
	for _, n := range a.sinks {
		if n.name != name {
			names = append(names, n.name)
			continue
		}
		if err := safeStart(ctx, n.sink); err != nil {
			return nil, fmt.Errorf("start sink %s: %w", name, err)
		}
		return &LoneSink{n}, nil
	}
	hint := suggest.Hint(name, names)
	if hint == "" {
		hint = fmt.Sprintf("that stand: %q", names)
	}
	return nil, fmt.Errorf("agent %s has no sink %q that stands (%s)", a.Name, name, hint)
}

// Write delivers one event.
func (s *LoneSink) Write(ctx context.Context, e event.Event) error {
	evs := []event.Event{e}
	return s.node.guard(func() error { return s.node.sink.Write(ctx, evs) })
}

// Close stops the sink.
func (s *LoneSink) Close(ctx context.Context) error {
	if err := s.node.sink.Stop(ctx); err != nil {
		return fmt.Errorf("stop sink %s: %w", s.node.name, err)
	}
	return nil
}
