// Package sinkproc holds Flume's sink processors, which decide which sink of a
// sink group works next, and the selectors of load_balance. Taking, delivering
// and committing is the agent's; a processor only has sinks work and sees
// whether they fail.
package sinkproc

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sluice-data/sluice/component"
)

func init() {
	component.RegisterSinkProcessor(component.Info{
		Name:    "default",
		Classes: []string{"org.apache.flume.sink.DefaultSinkProcessor"},
		Doc:     "Drives one sink, as if it had no group.",
	}, func() component.SinkProcessorConfig { return defaultConfig{} })
}

// firstPenalty doubles with every failure in a row; a first failure already
// costs twice as much.
const firstPenalty = time.Second

// penalty is how long a sink is left out after n failures in a row.
func penalty(n int, most time.Duration) time.Duration {
	const doublings = 30 // beyond any bound that a property can set
	return min(most, firstPenalty<<min(n, doublings))
}

// untils are the times until which sinks are left out. The processor's
// goroutine sets them, the monitoring port reads them.
type untils struct {
	mu sync.Mutex
	at []time.Time
}

func newUntils(sinks int) untils { return untils{at: make([]time.Time, sinks)} }

// FailedUntil implements component.Penalizer.
func (u *untils) FailedUntil(sink int) time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.at[sink]
}

func (u *untils) set(sink int, t time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.at[sink] = t
}

type defaultConfig struct{}

func (defaultConfig) Fields() []component.Field { return nil }

func (defaultConfig) NewSinkProcessor(_ component.Env, sinks []component.GroupSink) (component.SinkProcessor, error) {
	if len(sinks) != 1 {
		return nil, &component.KeyError{Key: "type", Err: fmt.Errorf("the default sink processor takes one sink, not %d", len(sinks)),
			Hint: "use load_balance or failover for several"}
	}
	return single{sinks[0]}, nil
}

type single struct{ sink component.GroupSink }

func (s single) Process(ctx context.Context) (component.Status, error) { return s.sink.Process(ctx) }
