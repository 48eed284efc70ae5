package agent

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/sluice-data/sluice/component"
)

// crossTake is how long a take waits for an event where the sinks of a group
// have different channels: an empty one must not hold up the others for as
// long as its keep-alive.
const crossTake = 100 * time.Millisecond

// groupNode is a sink group and its runner: one goroutine, as in Flume, in
// which the processor has the sinks work. They are not run by themselves.
type groupNode struct {
	name    string
	typ     string
	members []*member
	proc    component.SinkProcessor
	metrics *component.Metrics
	times   lifetimes
	cross   bool // the sinks do not all take from the same channel

	active              atomic.Pointer[member] // which delivered last
	switches, allFailed *atomic.Int64

	drain chan struct{} // as a sink's
	takes context.Context
}

func newGroupNode(name, typ string, m *component.Metrics) *groupNode {
	return &groupNode{name: name, typ: typ, metrics: m, switches: m.Counter("SinkSwitchCount"), allFailed: m.Counter("AllSinksFailedCount"),
		drain: make(chan struct{})}
}

func (g *groupNode) id() string { return "sinkgroup " + g.name }

// member is a sink of a group: what its processor has work.
type member struct {
	name  string
	node  *sinkNode // nil: left out at load
	group *groupNode
	up    chan struct{} // closed when the sink has started
	taker component.Taker
	fails failures
}

var _ component.GroupSink = (*member)(nil)

func (m *member) Name() string { return m.name }

func (m *member) Channel() string {
	if m.node == nil {
		return ""
	}
	return m.node.channel.name
}

// Process is one take transaction of the sink.
func (m *member) Process(ctx context.Context) (component.Status, error) {
	if m.node == nil {
		return component.Empty, errors.New("it was left out at the start, see the findings")
	}
	select {
	case <-m.up:
	default: // its start says why, in the log and in health
		return component.Empty, errors.New("it has not started")
	}
	if m.taker == nil {
		m.taker = m.node.channel.ch.NewTaker()
	}
	takes := m.group.takes
	if m.group.cross {
		var cancel context.CancelFunc
		takes, cancel = context.WithTimeout(takes, crossTake)
		defer cancel()
	}
	st, err := m.node.step(ctx, takes, m.taker, nil)
	switch {
	case errors.Is(err, component.ErrBackoff):
		return component.Backoff, nil
	case err != nil && ctx.Err() == nil:
		m.fails.report(err)
	case err == nil && st == component.Ready:
		m.fails.clear()
		if m.group.active.Swap(m) != m {
			m.group.switches.Add(1)
		}
	}
	return st, err
}

// drained says that nothing is left for the sink to do.
func (m *member) drained() bool {
	return m.node == nil || !m.node.channel.isUp() || m.node.channel.drained()
}

// run has the processor work until work ends or, once draining, until the
// channels of all its sinks are empty. ctx, of which work is a child, is that of
// the processor's steps: one that is under way outlives work. The group begins
// when every sink has tried to start, so that none is taken for failed that is
// only on its way; one that does not come up holds it up for startPause at most.
func (g *groupNode) run(ctx, work context.Context, a *Agent, tried <-chan struct{}) {
	defer func() {
		for _, m := range g.members {
			if m.node != nil {
				m.node.ended()
			}
		}
	}()
	select {
	case <-tried:
	case <-g.drain:
	case <-work.Done():
		return
	}
	var wake context.CancelFunc
	g.takes, wake = untilDrained(work, g.drain)
	defer wake()
	g.times.started()
	a.log.Info("sink group started", "sinkgroup", g.name, "processor", g.typ)
	f := failures{id: g.id(), agent: a}
	for work.Err() == nil {
		began := time.Now()
		st, err := g.process(ctx)
		if work.Err() != nil {
			return
		}
		g.showPenalties(a)
		draining := g.takes.Err() != nil
		switch {
		case err != nil:
			g.allFailed.Add(1)
			f.report(err)
			f.wait = min(max(2*f.wait, failPauseMin), failPauseMax)
			if !draining {
				sleep(g.takes, g.untilDue(f.wait))
			} else {
				sleep(work, failPauseMin)
			}
		case st == component.Ready:
			f.clear()
			continue
		case st == component.Backoff && !draining:
			f.backoff(g.takes)
		case draining:
			sleep(work, emptyPause)
		default:
			if took := time.Since(began); took < emptyPause {
				sleep(g.takes, emptyPause-took)
			}
		}
		if g.takes.Err() != nil && g.drained(ctx, work) {
			return
		}
	}
}

// process is one step of the processor. A panic is an error.
func (g *groupNode) process(ctx context.Context) (st component.Status, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return g.proc.Process(ctx)
}

// drained says whether the channels are empty. At a stop every sink works on
// what is left in its own channel: pauses and turns are for a life that goes
// on.
func (g *groupNode) drained(ctx, work context.Context) bool {
	empty := true
	for _, m := range g.members {
		if m.drained() {
			continue
		}
		if empty = false; work.Err() != nil {
			break
		}
		// A failure is reported; the loop comes again until the stop's limit.
		_, _ = m.Process(ctx)
	}
	return empty
}

// failedUntil is until when the processor leaves a sink out.
func (g *groupNode) failedUntil(sink int) time.Time {
	if p, ok := g.proc.(component.Penalizer); ok {
		return p.FailedUntil(sink)
	}
	return time.Time{}
}

// untilDue is the pause after all sinks failed: until the first of those that
// are left out is due, or what would be waited otherwise.
func (g *groupNode) untilDue(otherwise time.Duration) time.Duration {
	var first time.Time
	for i := range g.members {
		if t := g.failedUntil(i); !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	if first.IsZero() {
		return otherwise
	}
	return max(time.Until(first), time.Millisecond)
}

// showPenalties adds to the condition of a sink that failed until when it is
// left out.
func (g *groupNode) showPenalties(a *Agent) {
	for i, m := range g.members {
		if m.fails.cause == "" || m.fails.until.Equal(g.failedUntil(i)) {
			continue
		}
		if m.fails.until = g.failedUntil(i); !m.fails.until.IsZero() {
			a.setHealth(m.fails.id, fmt.Errorf("left out of its group until %s: %s", m.fails.until.Format(time.RFC3339), m.fails.cause))
		}
	}
}

// SinkState is what an operator sees of a sink of a group.
type SinkState struct {
	Name        string
	Active      bool      // it delivered last
	FailedUntil time.Time // zero: it is not left out
}

func (g *groupNode) states() []SinkState {
	var s []SinkState
	active := g.active.Load()
	for i, m := range g.members {
		st := SinkState{Name: m.name, Active: m == active}
		if t := g.failedUntil(i); t.After(time.Now()) {
			st.FailedUntil = t
		}
		s = append(s, st)
	}
	return s
}
