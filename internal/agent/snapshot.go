package agent

import (
	"cmp"
	"slices"
	"time"
)

// Condition is something that an operator should know of.
type Condition struct {
	Component string    `json:"component"` // "sink k1"
	Message   string    `json:"message"`
	Since     time.Time `json:"since"`
}

// reporter tells conditions of one component apart by who reports them.
type reporter struct {
	component string // "sink k1"
	own       bool   // the component itself; otherwise its runner
}

// setHealth reports (err) or clears (nil) a condition that a runner sees.
func (a *Agent) setHealth(component string, err error) {
	a.report(reporter{component: component}, err)
}

// report keeps one condition per reporter: a sink that delivers again must
// not clear what the sink itself has said.
func (a *Agent) report(r reporter, err error) {
	a.healthMu.Lock()
	defer a.healthMu.Unlock()
	if err == nil {
		delete(a.health, r)
		return
	}
	c := Condition{Component: r.component, Message: err.Error(), Since: time.Now()}
	if old, ok := a.health[r]; ok {
		c.Since = old.Since
	}
	a.health[r] = c
}

// Health lists the conditions: components left out at load, then those of now.
func (a *Agent) Health() []Condition {
	a.healthMu.Lock()
	defer a.healthMu.Unlock()
	cs := slices.Clone(a.dropped)
	for _, c := range a.health {
		cs = append(cs, c)
	}
	slices.SortStableFunc(cs[len(a.dropped):], func(x, y Condition) int {
		return cmp.Or(cmp.Compare(x.Component, y.Component), x.Since.Compare(y.Since))
	})
	return cs
}

// Metric is one component's counters.
type Metric struct {
	Kind     string // SOURCE, CHANNEL, SINK, INTERCEPTOR, SINKGROUP
	Name     string
	Start    int64 // ms since the epoch, 0 if it is not up
	Stop     int64
	Counters map[string]int64
	// Of channels:
	Size, Capacity, Bytes int64
	// Of sink groups:
	Sinks []SinkState
}

// Metrics is a snapshot of all counters, in the order of the agent file.
func (a *Agent) Metrics() []Metric {
	var ms []Metric
	for _, n := range a.sources {
		ms = append(ms, Metric{Kind: "SOURCE", Name: n.name, Start: n.times.start.Load(), Stop: n.times.stop.Load(), Counters: n.metrics.Snapshot()})
		for _, ic := range n.out.interceptors {
			ms = append(ms, Metric{Kind: "INTERCEPTOR", Name: ic.name, Start: n.times.start.Load(), Stop: n.times.stop.Load(), Counters: ic.metrics.Snapshot()})
		}
	}
	for _, n := range a.channels {
		s := n.ch.Stats()
		ms = append(ms, Metric{Kind: "CHANNEL", Name: n.name, Start: n.times.start.Load(), Stop: n.times.stop.Load(), Counters: n.metrics.Snapshot(),
			Size: s.Size, Capacity: s.Capacity, Bytes: s.Bytes})
	}
	for _, n := range a.sinks {
		ms = append(ms, Metric{Kind: "SINK", Name: n.name, Start: n.times.start.Load(), Stop: n.times.stop.Load(), Counters: n.metrics.Snapshot()})
	}
	for _, g := range a.groups {
		ms = append(ms, Metric{Kind: "SINKGROUP", Name: g.name, Start: g.times.start.Load(), Stop: g.times.stop.Load(), Counters: g.metrics.Snapshot(), Sinks: g.states()})
	}
	return ms
}
