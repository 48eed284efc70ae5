package sinkproc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/suggest"
)

func init() {
	component.RegisterSinkProcessor(component.Info{
		Name:    "failover",
		Classes: []string{"org.apache.flume.sink.FailoverSinkProcessor"},
		Doc:     "Uses the sink of the highest priority that works; one that failed is tried again after a growing pause.",
		Notes: "Sinks without a priority come in the order of the group's list; Flume takes its hash order. " +
			"A sink that is tried again and finds its channel empty stays on trial, as in Flume; where the others have other channels they go on working meanwhile, in Flume they starve. " +
			"The same holds for one that asks to come again later. " +
			"When all have failed the next try is made when the first pause ends, not at the next multiple of 5 s.",
	}, func() component.SinkProcessorConfig { return new(failoverConfig) })
}

type failoverConfig struct {
	priority   map[string]string
	maxPenalty time.Duration
}

func (c *failoverConfig) Fields() []component.Field {
	return []component.Field{
		component.Map("priority.", &c.priority).
			Describe("`priority.SINK`: a whole number, larger is preferred. A sink without one comes after those that have 0 or more: the first without gets -1, the next -2. Of two sinks with the same priority the later one does not run."),
		component.Duration("maxpenalty", &c.maxPenalty, time.Millisecond, 30*time.Second).Min(0).Lenient().
			Describe("The longest time for which a failed sink is left out. It is 2 s after the first failure and doubles with each further one."),
	}
}

func (c *failoverConfig) NewSinkProcessor(env component.Env, sinks []component.GroupSink) (component.SinkProcessor, error) {
	f := &failover{sinks: sinks, maxPenalty: c.maxPenalty, untils: newUntils(len(sinks))}
	var names []string
	none := 0
	for i, s := range sinks {
		names = append(names, s.Name())
		prio, err := strconv.ParseInt(c.priority[s.Name()], 10, 32)
		if err != nil {
			none--
			prio = int64(none)
			if text, set := c.priority[s.Name()]; set {
				env.Warn("priority."+s.Name(), "", "%q is not a whole number of 32 bits: the priority is %d", text, prio)
			}
		}
		twin := slices.IndexFunc(f.ranked, func(r *ranked) bool { return r.priority == prio })
		if twin >= 0 {
			env.Warn("priority."+s.Name(), "give every sink a priority of its own", "sink %s does not run: sink %s has the same priority, %d", s.Name(), sinks[f.ranked[twin].sink].Name(), prio)
			continue
		}
		f.ranked = append(f.ranked, &ranked{sink: i, priority: prio})
	}
	for name := range c.priority {
		if !slices.Contains(names, name) {
			env.Warn("priority."+name, suggest.Hint(name, names), "sink %q is not in the group: no effect", name)
		}
	}
	slices.SortFunc(f.ranked, func(a, b *ranked) int { return cmp.Compare(b.priority, a.priority) })
	return f, nil
}

// failover is the processor. As in Flume a sink is either live or failed, and
// a failed one comes back by delivering a batch on trial.
type failover struct {
	sinks      []component.GroupSink
	ranked     []*ranked // by priority, highest first
	maxPenalty time.Duration
	untils
}

type ranked struct {
	sink     int
	priority int64
	fails    int // in a row; 0: live
	until    time.Time
}

// Process tries the failed sinks that are due, the longest due first, then the
// live ones by priority.
func (f *failover) Process(ctx context.Context) (component.Status, error) {
	var last error
	onTrial := false // a failed sink had nothing to deliver: neither cured nor failed
	var answer component.Status
	for _, r := range f.due() {
		st, err := f.process(ctx, r)
		switch {
		case err != nil && ctx.Err() != nil:
			return st, err
		case err != nil:
			last = err
		case st == component.Ready:
			r.fails = 0
			f.set(r.sink, time.Time{})
			return st, nil
		case st == component.Empty && f.sameChannel(r):
			return st, nil
		default:
			onTrial, answer = true, st
		}
	}
	for _, r := range f.ranked {
		if r.fails > 0 {
			continue
		}
		st, err := f.process(ctx, r)
		if err == nil || ctx.Err() != nil {
			return st, err
		}
		last = err
	}
	switch {
	case onTrial:
		return answer, nil
	case last != nil:
		return component.Ready, fmt.Errorf("%w; the last was %w", errNoneLeft, last)
	}
	return component.Ready, errNoneLeft
}

// sameChannel says that the live sinks would find the channel of r empty, too.
func (f *failover) sameChannel(r *ranked) bool {
	return !slices.ContainsFunc(f.ranked, func(o *ranked) bool {
		return o.fails == 0 && f.sinks[o.sink].Channel() != f.sinks[r.sink].Channel()
	})
}

var errNoneLeft = errors.New("all sinks failed, nothing left to fail over to")

func (f *failover) process(ctx context.Context, r *ranked) (component.Status, error) {
	st, err := f.sinks[r.sink].Process(ctx)
	if err == nil {
		return st, nil
	}
	if ctx.Err() == nil {
		r.fails++
		r.until = time.Now().Add(penalty(r.fails, f.maxPenalty))
		f.set(r.sink, r.until)
	}
	return st, fmt.Errorf("sink %s: %w", f.sinks[r.sink].Name(), err)
}

// due are the failed sinks whose time is over, each to be tried once.
func (f *failover) due() []*ranked {
	var due []*ranked
	now := time.Now()
	for _, r := range f.ranked {
		if r.fails > 0 && !now.Before(r.until) {
			due = append(due, r)
		}
	}
	slices.SortStableFunc(due, func(a, b *ranked) int { return a.until.Compare(b.until) })
	return due
}
