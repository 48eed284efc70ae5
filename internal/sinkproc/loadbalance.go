package sinkproc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sluice-data/sluice/component"
)

func init() {
	component.RegisterSinkProcessor(component.Info{
		Name:    "load_balance",
		Classes: []string{"org.apache.flume.sink.LoadBalancingSinkProcessor"},
		Doc:     "Has the sinks of the group work in turn; a batch that one cannot deliver goes to the next.",
		Notes: "`backoff` works with a selector of your own, too, which in Flume does its own. " +
			"While all sinks are left out the agent waits for the first of them; in Flume the selector `random` throws then.",
	}, func() component.SinkProcessorConfig { return new(loadBalanceConfig) })
	component.RegisterSinkSelector(component.Info{
		Name: "round_robin",
		Doc:  "Begins one sink further each time.",
	}, func() component.SinkSelectorConfig { return roundRobinConfig{} })
	component.RegisterSinkSelector(component.Info{
		Name: "random",
		Doc:  "A random order each time.",
	}, func() component.SinkSelectorConfig { return randomConfig{} })
}

const defaultMaxTimeOut = 30 * time.Second

type loadBalanceConfig struct {
	selector   component.Config
	backoff    bool
	maxTimeOut time.Duration
}

func (c *loadBalanceConfig) Fields() []component.Field {
	return []component.Field{
		component.Part("selector", &c.selector, component.KindSinkSelector, "selector.", "round_robin").
			Describe("The order in which the sinks are tried: `round_robin`, `random`, or one of your own, whose properties stand below `selector.`."),
		component.Bool("backoff", &c.backoff, false).
			Describe("Leave a sink that failed out for 2 s, doubling with each further failure in a row. Failures more than an hour after the end of the last pause are not in a row."),
		component.Duration("selector.maxTimeOut", &c.maxTimeOut, time.Millisecond, defaultMaxTimeOut).Min(0).
			Describe("The longest time for which a sink is left out; 0 keeps the default. It takes effect with `backoff = true` only."),
	}
}

func (c *loadBalanceConfig) NewSinkProcessor(env component.Env, sinks []component.GroupSink) (component.SinkProcessor, error) {
	if len(sinks) < 2 {
		return nil, &component.KeyError{Key: "type", Err: errors.New("load_balance takes two sinks at least"), Hint: "use default for one"}
	}
	var names []string
	for _, s := range sinks {
		names = append(names, s.Name())
	}
	cfg, ok := c.selector.(component.SinkSelectorConfig)
	if !ok {
		return nil, &component.KeyError{Key: "selector", Err: fmt.Errorf("%T makes no sink selector", c.selector)}
	}
	sel, err := cfg.NewSinkSelector(env, names)
	if err != nil {
		var ke *component.KeyError
		if errors.As(err, &ke) {
			return nil, &component.KeyError{Key: "selector." + ke.Key, Err: ke.Err, Hint: ke.Hint}
		}
		return nil, &component.KeyError{Key: "selector", Err: err}
	}
	if c.maxTimeOut == 0 {
		c.maxTimeOut = defaultMaxTimeOut
	}
	return &loadBalance{sinks: sinks, selector: sel, backoff: c.backoff, maxTimeOut: c.maxTimeOut,
		fails: make([]streak, len(sinks)), untils: newUntils(len(sinks))}, nil
}

type loadBalance struct {
	sinks      []component.GroupSink
	selector   component.SinkSelector
	backoff    bool
	maxTimeOut time.Duration
	fails      []streak
	live       []int
	untils
}

// streak is a sink's failures in a row. As in Flume a success does not end it;
// an hour without a failure does.
type streak struct {
	n    int
	last time.Time
}

const (
	longestStreak = 16
	streakEnds    = time.Hour // after the end of the last pause
)

func (l *loadBalance) failed(sink int) {
	if o, ok := l.selector.(component.FailureObserver); ok {
		o.SinkFailed(sink)
	}
	if !l.backoff {
		return
	}
	s, now := &l.fails[sink], time.Now()
	if s.n > 0 && now.Sub(s.last) >= penalty(s.n, l.maxTimeOut)+streakEnds {
		s.n = 0
	}
	s.n, s.last = min(s.n+1, longestStreak), now
	l.set(sink, now.Add(penalty(s.n, l.maxTimeOut)))
}

// Process tries the sinks that are not left out, in the selector's order.
func (l *loadBalance) Process(ctx context.Context) (component.Status, error) {
	now := time.Now()
	l.live = l.live[:0]
	for i := range l.sinks {
		if !l.backoff || !now.Before(l.FailedUntil(i)) {
			l.live = append(l.live, i)
		}
	}
	var last error
	for _, i := range l.selector.Order(l.live) {
		if i < 0 || i >= len(l.sinks) {
			return component.Ready, fmt.Errorf("the selector named sink %d of %d", i, len(l.sinks))
		}
		st, err := l.sinks[i].Process(ctx)
		if err == nil {
			l.set(i, time.Time{})
			return st, nil
		}
		last = fmt.Errorf("sink %s: %w", l.sinks[i].Name(), err)
		if ctx.Err() != nil {
			return st, last
		}
		l.failed(i)
	}
	if last != nil {
		return component.Ready, fmt.Errorf("%w; the last was %w", errAllFailed, last)
	}
	return component.Ready, errAllFailed
}

var errAllFailed = errors.New("all sinks of the group have failed")

type roundRobinConfig struct{}

func (roundRobinConfig) Fields() []component.Field { return nil }

func (roundRobinConfig) NewSinkSelector(component.Env, []string) (component.SinkSelector, error) {
	return new(roundRobin), nil
}

type roundRobin struct {
	next  int
	order []int
}

func (r *roundRobin) Order(live []int) []int {
	if len(live) == 0 {
		return nil
	}
	if r.next >= len(live) { // fewer than the last time
		r.next = 0
	}
	begin := r.next
	r.next++
	r.order = append(append(r.order[:0], live[begin:]...), live[:begin]...)
	return r.order
}

type randomConfig struct{}

func (randomConfig) Fields() []component.Field { return nil }

func (randomConfig) NewSinkSelector(component.Env, []string) (component.SinkSelector, error) {
	return random{}, nil
}

type random struct{}

func (random) Order(live []int) []int {
	rand.Shuffle(len(live), func(i, j int) { live[i], live[j] = live[j], live[i] })
	return live
}
