package pilot

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sluice-data/sluice/internal/sim"
)

// flowSum is how far the events of a topology have come.
type flowSum struct {
	written   int64 // lines, by the simulators
	read      int64 // by the agents that the simulators' lines go to
	waiting   int64 // in all channels
	delivered int64 // by the sinks at the ends
	failed    int64 // batches that a sink sends again
}

// collect asks everything at once. What does not answer keeps its last numbers.
func (t *topology) collect(ctx context.Context) State {
	var wg sync.WaitGroup
	answers := make([]metrics, len(t.plan.agents))
	for i, a := range t.plan.agents {
		wg.Go(func() { answers[i], _ = t.metrics(ctx, t.agents[a.name]) }) // nil when down: the last numbers stand
	}
	wg.Wait()
	now := time.Now()
	s := State{Title: t.title}
	for _, c := range t.simulators() {
		w := t.sims[c.name]
		w.read(now)
		s.Clock = w.clock
		t.live[part{kind: logPart, process: c.name, component: "driver"}.id()] = &live{total: w.driver.Records + w.driver.Garbage, rate: w.driver.Rate}
		t.live[part{kind: logPart, process: c.name, component: "status"}.id()] = &live{total: w.status.Records + w.status.Garbage, rate: w.status.Rate}
	}
	if t.client != nil {
		n := t.client.answered.Load()
		c := t.count(now, "client", n)
		*t.live[part{kind: clientPart, process: "client", component: "nc"}.id()] = live{total: n, rate: c.rate()}
	}
	for i, a := range t.plan.agents {
		if answers[i] != nil {
			t.sample(now, a.name, answers[i])
		} else if t.agents[a.name].process().State != procUp {
			t.still(a.name)
		}
	}
	t.addUp(&s)
	t.show(&s)
	return s
}

// read takes over what the manifest says.
func (w *simulator) read(now time.Time) {
	m, err := sim.LoadManifest(filepath.Join(w.dir, sim.ManifestName))
	if err != nil {
		return // absent until the simulator has begun
	}
	if now.Sub(m.Updated) < 2*time.Second {
		w.serving()
	}
	w.clock = m.Clock
	w.status = simLog(now, &w.rates[0], m.Status)
	w.driver = simLog(now, &w.rates[1], m.Driver)
}

// sample takes over what an agent answered.
func (t *topology) sample(now time.Time, agent string, m metrics) {
	up := true
	for id, l := range t.live {
		process, rest, _ := strings.Cut(id, ".")
		kind, component, _ := strings.Cut(rest, ".")
		if process != agent {
			continue
		}
		follow := func(section, counter string) {
			if v, ok := m.num(section+"."+component, counter); ok {
				c := t.count(now, id, v)
				l.total, l.rate = c.total(), c.rate()
			}
		}
		switch partKind(kind) {
		case sourcePart:
			follow("SOURCE", "EventReceivedCount")
			up = up && m.started(component)
		case interceptorPart:
			follow("INTERCEPTOR", "EventInCount")
		case channelPart:
			follow("CHANNEL", "EventPutSuccessCount")
			l.size, _ = m.num("CHANNEL."+component, "ChannelSize")
			l.capacity, _ = m.num("CHANNEL."+component, "ChannelCapacity")
		case sinkPart:
			follow("SINK", "EventDrainSuccessCount")
			l.left = 0
			if v, ok := m.num("SINK."+component, "EventWriteFail"); ok {
				l.failed = t.count(now, id+" failed", v).total()
			}
			for group, attributes := range m {
				if !strings.HasPrefix(group, "SINKGROUP.") || attributes["FailedUntil."+component] == "" {
					continue
				}
				if until, ok := m.num(group, "FailedUntil."+component); ok {
					l.left = max(0, time.UnixMilli(until).Sub(now))
				}
			}
		case groupPart:
			follow("SINKGROUP", "SinkSwitchCount")
			l.active = m["SINKGROUP."+component]["ActiveSink"]
		}
	}
	if up {
		t.agents[agent].serving()
	}
}

// still is for an agent that is away: nothing moves in it.
func (t *topology) still(agent string) {
	for id, l := range t.live {
		if strings.HasPrefix(id, agent+".") {
			l.rate, l.left = 0, 0
		}
	}
}

// addUp fills in the numbers that come from others.
func (t *topology) addUp(s *State) {
	sources := map[string]*live{}
	for _, n := range t.parts {
		l := t.live[n.id()]
		switch n.kind {
		case logPart:
			s.sum.written += l.total
		case sourcePart:
			sources[n.process] = l
			if t.Topology == 1 || t.ports[n.process] == "" {
				s.sum.read += l.total
			}
		case channelPart:
			s.sum.waiting += l.size
		}
	}
	for _, l := range t.live {
		s.sum.failed += l.failed
	}
	for _, e := range t.ends {
		s.sum.delivered += t.live[e.id].total
		s.Series = append(s.Series, Series{e.name, e.kind, t.live[e.id].rate})
	}
	for _, n := range t.parts {
		// What comes through a selector or a group is what its agent reads or
		// sends; the group has a count of its own, of its switches.
		l := t.live[n.id()]
		switch n.kind {
		case selectorPart:
			l.total, l.rate = sources[n.process].total, sources[n.process].rate
			if t.Topology == 2 {
				i := t.live[part{kind: interceptorPart, process: n.process, component: "status.fields"}.id()]
				l.total, l.rate = i.total, i.rate
			}
		case groupPart:
			l.rate = 0
			for id, sink := range t.live {
				if strings.HasPrefix(id, n.process+"."+string(sinkPart)+".") {
					l.rate += sink.rate
				}
			}
		}
	}
}

// show writes the numbers into the drawing and the facts.
func (t *topology) show(s *State) {
	d := *t.diagram
	d.Nodes, d.Edges = append([]Node(nil), d.Nodes...), append([]Edge(nil), d.Edges...)
	switches := int64(0)
	for i, p := range t.parts {
		n, l := &d.Nodes[i], t.live[p.id()]
		n.Value, n.Note = group(l.total), rateText(l.rate)
		switch p.kind {
		case interceptorPart:
			n.Note = "+ static origin"
		case selectorPart:
			n.Note = "to both"
			if t.Topology == 2 {
				alarms := t.live[part{kind: channelPart, process: p.process, component: "alarms"}.id()]
				n.Value, n.Note = group(alarms.total), "engine B, C"
			}
		case channelPart:
			n.Size, n.Capacity = l.size, l.capacity
		case groupPart:
			switches += l.total
			n.Value = "–"
			if l.active != "" {
				n.Value = "→ agent " + strings.TrimPrefix(l.active, "k")
			}
			n.Note = rateText(l.rate)
			if name, left := t.leftOut(p.process); left > 0 {
				n.Note, n.Hot = fmt.Sprintf("%s out, %.0f s", name, math.Ceil(left.Seconds())), true
			}
		case sinkPart:
			if l.left > 0 {
				n.Note, n.Hot = fmt.Sprintf("left out, %.0f s", math.Ceil(l.left.Seconds())), true
			}
		}
		if c := t.agents[p.process]; c != nil && p.kind != channelPart {
			if st := c.process().State; st == procRestarting || st == procDead {
				n.Note, n.Hot = "down", true
			}
		}
	}
	for i, w := range t.wires {
		d.Edges[i].On = t.live[w.by].rate > 0
	}
	s.Diagram = &d
	s.Facts = []Fact{
		{"lines written", group(s.sum.written)},
		{"read by the first agents", group(s.sum.read)},
		{"waiting in channels", group(s.sum.waiting)},
	}
	for _, e := range t.ends {
		s.Facts = append(s.Facts, Fact{e.name, group(t.live[e.id].total)})
	}
	for _, p := range t.parts {
		if p.kind == groupPart {
			s.Facts = append(s.Facts, Fact{"switches of the sink groups", group(switches)})
			break
		}
	}
}

// leftOut is the first sink of an agent that is left out of its group.
func (t *topology) leftOut(agent string) (sink string, left time.Duration) {
	for id, l := range t.live {
		if name, ok := strings.CutPrefix(id, agent+"."+string(sinkPart)+"."); ok && l.left > 0 && (sink == "" || name < sink) {
			sink, left = name, l.left
		}
	}
	return sink, left
}

func rateText(r float64) string { return group(int64(r+.5)) + "/s" }

func (t *topology) progress(s State) string {
	var b strings.Builder
	fmt.Fprintf(&b, "written %s", group(s.sum.written))
	for _, e := range t.ends {
		fmt.Fprintf(&b, "  %s %s", e.name, group(t.live[e.id].total))
	}
	fmt.Fprintf(&b, "  in channels %s", group(s.sum.waiting))
	return b.String()
}
