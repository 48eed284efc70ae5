package pilot

import (
	"strconv"
	"strings"

	"github.com/sluice-data/sluice/internal/ledger"
)

// What a part of a topology is, which says where its numbers come from.
type partKind string

const (
	logPart         partKind = "log" // of a simulator
	clientPart      partKind = "client"
	sourcePart      partKind = "source"
	interceptorPart partKind = "interceptor"
	selectorPart    partKind = "selector"
	channelPart     partKind = "channel"
	groupPart       partKind = "group"
	sinkPart        partKind = "sink"
)

// part is a node of a topology.
type part struct {
	kind      partKind
	process   string // its agent or simulator
	component string // its name in the agent file
	title     string
	col, row  float64
}

func (p part) id() string { return p.process + "." + string(p.kind) + "." + p.component }

// wire is an edge. by is the part whose rate shows that events go that way.
type wire struct {
	from, to, by string
	kind         string
	standby      bool
}

// plan is what a topology consists of.
type plan struct {
	title   string
	example string      // the directory in examples
	agents  []agentSpec // those that events come to first
	// names of the processes, as they stand over their frames.
	titles  map[string]string
	parts   []part
	wires   []wire
	borders []border          // between the columns of processes
	ports   map[string]string // of the agents that listen: the property of the port
	ends    []end
	// victim is the agent that others fail over from.
	victim string
}

// agentSpec is an agent of a topology and its file.
type agentSpec struct{ name, file string }

// border is a gap left of a column.
type border struct {
	col float64
	gap int
}

// end is a sink at the end, with its curve.
type end struct{ id, name, kind string }

// Colours of edges and curves.
const (
	blue   = "status"
	orange = "driver"
	green  = "consumer"
)

func planOf(number int, form string) *plan {
	p := &plan{titles: map[string]string{}, ports: map[string]string{}}
	switch number {
	case 1:
		p.simple()
	case 2:
		p.multiplexing()
	case 3:
		p.fanOut(form)
	case 4:
		p.aggregation()
	}
	return p
}

func (p *plan) agent(name, title, file string) {
	p.agents = append(p.agents, agentSpec{name, file})
	p.titles[name] = title
}

// at puts a part at a column and a row, and returns its id.
func (p *plan) at(kind partKind, process, component, title string, col, row float64) string {
	n := part{kind, process, component, title, col, row}
	p.parts = append(p.parts, n)
	return n.id()
}

// link leads from part to part. What a sink sends to another agent shows by
// its own count, everything else by that of the part that it comes to.
func (p *plan) link(kind string, standby bool, ids ...string) {
	for i := 1; i < len(ids); i++ {
		w := wire{from: ids[i-1], to: ids[i], by: ids[i], kind: kind, standby: standby}
		if strings.Contains(w.from, "."+string(sinkPart)+".") {
			w.by = w.from
		}
		p.wires = append(p.wires, w)
	}
}

// receiver is an agent that takes events from others and writes them into
// files. It returns its source.
func (p *plan) receiver(name, title, port, kind string, col, row float64) string {
	p.agent(name, title, name+".conf")
	p.ports[name] = port
	in := p.at(sourcePart, name, "in", "avro source", col, row)
	ch := p.at(channelPart, name, "c1", "file channel", col+1, row)
	out := p.at(sinkPart, name, "files", "file_roll", col+2, row)
	p.link(kind, false, in, ch, out)
	p.ends = append(p.ends, end{out, title + " → files", kind})
	return in
}

func (p *plan) simple() {
	p.example, p.title = "1-simple", "Topology 1: one source, one channel, one sink"
	p.agent("a1", "agent 1", "flume.conf")
	p.titles["client"] = "client, as nc"
	p.ports["a1"] = "port"
	p.borders = []border{{1, agentGap}, {2, agentGap}}
	log := p.at(logPart, "simulator", "driver", "drivers' log", 0, 0)
	nc := p.at(clientPart, "client", "nc", "lines answered", 1, 0)
	r1 := p.at(sourcePart, "a1", "r1", "netcat source", 2, 0)
	c1 := p.at(channelPart, "a1", "c1", "memory channel", 3, 0)
	k1 := p.at(sinkPart, "a1", "k1", "logger", 4, 0)
	p.link(orange, false, log, nc, r1, c1, k1)
	p.ends = []end{{k1, "drivers → log", orange}}
}

func (p *plan) multiplexing() {
	p.example, p.title = "2-multiplexing", "Topology 2: interceptors, multiplexing, two flows in one agent"
	p.agent("a1", "agent 1", "flume.conf")
	p.borders = []border{{1, agentGap}}
	log := p.at(logPart, "simulator", "status", "status, file a day", 0, 0)
	source := p.at(sourcePart, "a1", "status", "spooldir", 1, 0)
	fields := p.at(interceptorPart, "a1", "status.fields", "regex_extractor", 2, 0)
	engine := p.at(selectorPart, "a1", "engine", "multiplexing", 3, 0)
	flow := func(name, kind string, row float64, from ...string) {
		ch := p.at(channelPart, "a1", name, "channel "+name, 4, row)
		out := p.at(sinkPart, "a1", name, "file_roll "+name, 5, row)
		p.link(kind, false, append(from, ch, out)...)
		p.ends = append(p.ends, end{out, name, kind})
	}
	flow("normal", blue, 0, log, source, fields, engine)
	flow("alarms", orange, 1, engine)
	driving := p.at(logPart, "simulator", "driver", "drivers' log", 0, 2)
	tail := p.at(sourcePart, "a1", "driving", "taildir", 1, 2)
	flow("driving", green, 2, driving, tail)
}

func (p *plan) fanOut(form string) {
	p.example, p.title = "3-fan-out", "Topology 3: agent 1 to agents 2 and 3, by "+strings.ReplaceAll(form, "-", " ")
	p.agent("a1", "agent 1", "a1-"+form+".conf")
	in2 := p.receiver("a2", "agent 2", "port2", blue, 5, 0)
	in3 := p.receiver("a3", "agent 3", "port3", orange, 5, 1)
	p.borders = []border{{1, agentGap}, {5, agentGap}}
	log := p.at(logPart, "simulator", "driver", "drivers' log", 0, .5)
	source := p.at(sourcePart, "a1", "logs", "taildir", 1, .5)
	k2 := p.at(sinkPart, "a1", "k2", "avro sink k2", 4, 0)
	k3 := p.at(sinkPart, "a1", "k3", "avro sink k3", 4, 1)
	if form == ledger.Replication {
		both := p.at(selectorPart, "a1", "both", "replicating", 2, .5)
		c2 := p.at(channelPart, "a1", "c2", "file channel c2", 3, 0)
		c3 := p.at(channelPart, "a1", "c3", "file channel c3", 3, 1)
		p.link(green, false, log, source, both)
		p.link(blue, false, both, c2, k2, in2)
		p.link(orange, false, both, c3, k3, in3)
		return
	}
	c1 := p.at(channelPart, "a1", "c1", "file channel", 2, .5)
	g1 := p.at(groupPart, "a1", "g1", strings.ReplaceAll(form, "-", "_"), 3, .5)
	p.link(green, false, log, source, c1, g1)
	p.link(blue, false, g1, k2, in2)
	p.link(orange, form == ledger.Failover, g1, k3, in3)
	if form == ledger.Failover {
		p.victim = "a2"
	}
}

func (p *plan) aggregation() {
	p.example, p.title = "4-aggregation", "Topology 4: agents 1 to 4 into aggregator 5, doubled by 6"
	p.borders = []border{{1, agentGap}, {4, 4 * agentGap}}
	p.victim = "a5"
	in5, in6 := part{kind: sourcePart, process: "a5", component: "in"}.id(), part{kind: sourcePart, process: "a6", component: "in"}.id()
	for i := range 4 {
		n, row := strconv.Itoa(i+1), float64(i)
		a := "a" + n
		p.agent(a, "agent "+n, a+".conf")
		log := p.at(logPart, "simulator "+n, "driver", "drivers' log", 0, row)
		source := p.at(sourcePart, a, "logs", "taildir", 1, row)
		c1 := p.at(channelPart, a, "c1", "file channel", 2, row)
		g1 := p.at(groupPart, a, "g1", "failover", 3, row)
		p.link(green, false, log, source, c1, g1)
		p.wires = append(p.wires,
			wire{from: g1, to: in5, by: part{kind: sinkPart, process: a, component: "k5"}.id(), kind: blue},
			wire{from: g1, to: in6, by: part{kind: sinkPart, process: a, component: "k6"}.id(), kind: orange, standby: true})
	}
	p.receiver("a5", "agent 5, the aggregator", "port5", blue, 4, .5)
	p.receiver("a6", "agent 6, its double", "port6", orange, 4, 2.5)
}
