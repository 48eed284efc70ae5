// Package agent runs a Flume agent: it builds the graph of sources, channels
// and sinks that an agent file describes, starts and stops it in order, and
// owns what components do not: transactions, retries, back-off and counters.
// It knows component types only through the registry.
package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/flumeconf"
	"github.com/sluice-data/sluice/internal/suggest"
)

// Options are what an agent gets from outside its file.
type Options struct {
	Registry   *component.Registry // nil: the built-in components
	Log        *slog.Logger        // nil: discarded
	Properties map[string]string   // -D options
	// StopTimeout bounds a graceful stop: sources end, sinks drain the
	// channels, all within it. 0 means DefaultStopTimeout.
	StopTimeout time.Duration
}

// DefaultStopTimeout is how long a stop may take. It is below what service
// managers grant (systemd: 90 s).
const DefaultStopTimeout = 20 * time.Second

// Agent is a built agent. Run it once.
type Agent struct {
	Name     string
	log      *slog.Logger
	stopTime time.Duration
	pool     *event.Pool

	channels []*channelNode
	sources  []*sourceNode
	sinks    []*sinkNode
	groups   []*groupNode

	unusable bool // an unknown type: Flume does not start such a file either

	healthMu sync.Mutex
	health   map[reporter]Condition
	dropped  []Condition // components left out at load
}

// Runnable says whether there is anything to run: no component type is
// unknown, and at least one channel with a source or a sink stands.
func (a *Agent) Runnable() bool {
	return !a.unusable && len(a.channels) > 0 && len(a.sources)+len(a.sinks) > 0
}

// Components lists the names of what will come up.
func (a *Agent) Components() (sources, channels, sinks []string) {
	for _, n := range a.sources {
		sources = append(sources, n.name)
	}
	for _, n := range a.channels {
		channels = append(channels, n.name)
	}
	for _, n := range a.sinks {
		sinks = append(sinks, n.name)
	}
	return
}

// Build makes every component of conf that its settings allow, and says what
// it left out and why. It acquires nothing: that is Run's. As in Flume a
// component whose settings are wrong is left out and the rest stands; an
// unknown type makes the agent unusable.
func Build(conf *flumeconf.Agent, opts Options) (*Agent, []flumeconf.Diagnostic) {
	b := builder{
		conf: conf, opts: opts,
		chans: make(map[string]*channelNode),
	}
	if b.opts.Registry == nil {
		b.opts.Registry = component.Default()
	}
	if b.opts.Log == nil {
		b.opts.Log = slog.New(slog.DiscardHandler)
	}
	a := &Agent{Name: conf.Name, log: b.opts.Log, stopTime: opts.StopTimeout, pool: event.NewPool(), health: make(map[reporter]Condition)}
	if a.stopTime <= 0 {
		a.stopTime = DefaultStopTimeout
	}
	b.agent = a
	for i := range conf.Channels {
		b.channel(&conf.Channels[i])
	}
	for i := range conf.Sources {
		b.source(&conf.Sources[i])
	}
	for i := range conf.Sinks {
		b.sink(&conf.Sinks[i])
	}
	b.deadChains()
	b.groups()
	b.unconnected()
	if !a.Runnable() && !a.unusable {
		b.add(flumeconf.Diagnostic{Severity: flumeconf.Error, File: conf.First.File, Line: conf.First.Line, Key: conf.Name,
			Message: "nothing of this agent can run", Hint: "it needs a channel with a source or a sink; see the findings above"})
	}
	for _, d := range b.diags {
		if d.Severity == flumeconf.Error {
			a.dropped = append(a.dropped, Condition{Component: d.Key, Message: d.String(), Since: time.Now()})
		}
	}
	return a, b.diags
}

type builder struct {
	conf  *flumeconf.Agent
	opts  Options
	agent *Agent
	chans map[string]*channelNode
	diags []flumeconf.Diagnostic
}

func (b *builder) add(d flumeconf.Diagnostic) { b.diags = append(b.diags, d) }

// resolve finds a component type. Without one it says why and returns nil.
func (b *builder) resolve(kind component.Kind, v flumeconf.Value, consequence string) *component.Type {
	name := strings.TrimSpace(v.Text)
	if t, ok := b.opts.Registry.Lookup(kind, name); ok {
		return t
	}
	if isNotBuilt(kind, name) {
		b.add(v.At(flumeconf.Warning, "", "Flume's %s %s is not there yet in Sluice: %s", kind, quoted(name), consequence))
		return nil
	}
	known := b.opts.Registry.Names(kind)
	hint := suggest.Hint(name, append(known, NotBuilt(kind)...))
	if hint == "" {
		hint = "known: " + strings.Join(shortNames(b.opts.Registry, kind), ", ")
		if strings.Contains(name, ".") {
			hint = "a class of your own needs a build of Sluice with its equivalent; " + hint
		}
	}
	b.add(v.At(flumeconf.Error, hint, "unknown %s type %s", kind, quoted(name)))
	b.agent.unusable = true
	return nil
}

func shortNames(r *component.Registry, kind component.Kind) []string {
	var ns []string
	for _, t := range r.Types(kind) {
		ns = append(ns, t.Label())
	}
	return ns
}

// quoted shortens hostile values: they end up in one line of a log.
func quoted(s string) string {
	if len(s) > 100 {
		s = s[:100] + "…"
	}
	return fmt.Sprintf("%q", s)
}

// decode fills cfg from props and turns what Decode found into diagnostics
// with positions. It answers whether the component stands.
func (b *builder) decode(cfg component.Config, props flumeconf.Props, missing func(key string) flumeconf.Value) bool {
	var ps []component.Property
	for _, p := range props {
		ps = append(ps, component.Property{Key: p.Name, Value: p.Value.Text})
	}
	ok := true
	add := b.findings(props, missing)
	for _, f := range component.Decode(b.opts.Registry, cfg, ps) {
		ok = ok && !f.Error
		add(f)
	}
	return ok
}

// failed turns the error of a constructor into a diagnostic, at the property
// that it names.
func (b *builder) failed(err error, props flumeconf.Props, missing func(key string) flumeconf.Value) {
	var ke *component.KeyError
	if !errors.As(err, &ke) {
		v := missing("type")
		b.add(v.At(flumeconf.Error, "", "%v", err))
		return
	}
	v, set := props.Get(ke.Key)
	if !set {
		v = missing(ke.Key)
	}
	b.add(v.At(flumeconf.Error, ke.Hint, "%v", ke.Err))
}

// own returns a component's properties without those that the agent reads.
func own(c *flumeconf.Component) flumeconf.Props {
	var out flumeconf.Props
	for _, p := range c.Props {
		switch n := p.Name; {
		case c.Kind != flumeconf.KindChannel && isDeadLetter(n):
		case n == "type", c.Kind == flumeconf.KindSink && n == "channel", c.Kind == flumeconf.KindSource && n == "channels":
		case c.Kind == flumeconf.KindSource && (n == "interceptors" || strings.HasPrefix(n, "interceptors.") || strings.HasPrefix(n, "selector.")):
		default:
			out = append(out, p)
		}
	}
	return out
}

func (b *builder) env(kind, name string, m *component.Metrics) component.Env {
	r := reporter{component: kind + " " + name, own: true}
	return component.Env{
		Agent: b.conf.Name, Name: name, Metrics: m,
		Log:        b.opts.Log.With(kind, name),
		Health:     func(err error) { b.agent.report(r, err) },
		Properties: b.opts.Properties,
	}
}

func (b *builder) channel(c *flumeconf.Component) {
	t := b.resolve(component.KindChannel, c.Type, "the channel and what needs it are left out")
	if t == nil {
		return
	}
	cfg := t.New().(component.ChannelConfig)
	props := own(c)
	if !b.decode(cfg, props, c.Prop) {
		return
	}
	m := component.NewMetrics("EventPutAttemptCount", "EventPutSuccessCount", "EventTakeAttemptCount", "EventTakeSuccessCount")
	ch, err := cfg.NewChannel(b.env("channel", c.Name, m))
	if err != nil {
		b.failed(err, props, c.Prop)
		return
	}
	n := newChannelNode(c.Name, ch, m)
	b.chans[c.Name] = n
	b.agent.channels = append(b.agent.channels, n)
}

func (b *builder) source(c *flumeconf.Component) {
	list := c.Prop("channels")
	var chans []*channelNode
	var names []string
	for _, name := range flumeconf.List(list) {
		ch := b.chans[name]
		if ch == nil {
			b.add(list.At(flumeconf.Warning, b.channelHint(name), "channel %s is not there: the source goes without it", quoted(name)))
			continue
		}
		if !slices.Contains(names, name) {
			chans, names = append(chans, ch), append(names, name)
		}
	}
	t := b.resolve(component.KindSource, c.Type, "the source is left out")
	if t == nil {
		return
	}
	if len(chans) == 0 {
		if _, set := c.Props.Get("channels"); !set {
			b.add(list.At(flumeconf.Error, fmt.Sprintf("set %schannels = CHANNEL", c.Prefix), "required, but not set: the source is left out"))
		} else {
			b.add(list.At(flumeconf.Error, "", "none of its channels is there: the source is left out"))
		}
		return
	}
	cfg := t.New().(component.SourceConfig)
	props := own(c)
	ok := b.decode(cfg, props, c.Prop)
	ics, icsOK := b.interceptors(c)
	sel, selOK := b.selector(c, names)
	if !ok || !icsOK || !selOK {
		return
	}
	m := component.NewMetrics(sourceCounters...)
	src, err := cfg.NewSource(b.env("source", c.Name, m))
	if err != nil {
		b.failed(err, props, c.Prop)
		return
	}
	if !b.batchFits(src, c, chans) {
		return
	}
	n := &sourceNode{name: c.Name, src: src, metrics: m, typ: t.Label()}
	n.out = newProcessor(b.agent, n, chans, ics, sel)
	if n.out.dead, ok = b.deadLetters(c, "source", m, chans); !ok {
		return
	}
	if n.out.dead != nil && n.out.dead.channel != nil {
		n.out.dead.channel.sources++
	}
	for _, ch := range chans {
		ch.sources++
	}
	b.agent.sources = append(b.agent.sources, n)
}

// channelHint names the channel that was probably meant, if there is one.
func (b *builder) channelHint(name string) string {
	var have []string
	for n := range b.chans {
		have = append(have, n)
	}
	slices.Sort(have)
	if h := suggest.Hint(name, have); h != "" {
		return h
	}
	if len(have) == 0 {
		return "no channel of the agent stands"
	}
	return "the agent's channels: " + strings.Join(have, " ")
}

// batchFits refuses a component whose batches can never fit through one of
// its channels.
func (b *builder) batchFits(comp any, c *flumeconf.Component, chans []*channelNode) bool {
	s, ok := comp.(component.Sizer)
	if !ok {
		return true
	}
	for _, ch := range chans {
		limit := ch.ch.TransactionCapacity()
		if limit <= 0 || s.BatchSize() <= limit {
			continue
		}
		at := c.Prop("batchSize")
		for _, p := range c.Props {
			if name := strings.ToLower(p.Name); name == "batchsize" || strings.HasSuffix(name, ".batchsize") || name == "flumebatchsize" {
				at = p.Value
			}
		}
		b.add(at.At(flumeconf.Error, fmt.Sprintf("lower it to %d, or raise the channel's transactionCapacity", limit),
			"batch size %d is larger than the transactionCapacity of channel %s, %d", s.BatchSize(), quoted(ch.name), limit))
		return false
	}
	return true
}

func (b *builder) interceptors(c *flumeconf.Component) ([]*interceptorNode, bool) {
	var nodes []*interceptorNode
	ok := true
	all := c.Props.Sub("interceptors.")
	names := flumeconf.List(c.Prop("interceptors"))
	for _, p := range all {
		name, _, _ := strings.Cut(p.Name, ".")
		if !slices.Contains(names, name) {
			hint := suggest.Hint(name, names)
			if hint == "" {
				hint = fmt.Sprintf("add it to %sinterceptors", c.Prefix)
			}
			b.add(p.Value.At(flumeconf.Warning, hint, "interceptor %s is not in the source's list: ignored", quoted(name)))
		}
	}
	for _, name := range names {
		props := all.Sub(name + ".")
		at := func(key string) flumeconf.Value { return c.Prop("interceptors." + name + "." + key) }
		typ, set := props.Get("type")
		if !set {
			b.add(at("type").At(flumeconf.Error, "", "required, but not set: the source is left out"))
			ok = false
			continue
		}
		t := b.resolve(component.KindInterceptor, typ, "the source is left out")
		if t == nil {
			ok = false
			continue
		}
		cfg := t.New().(component.InterceptorConfig)
		props = slices.DeleteFunc(slices.Clone(props), func(p flumeconf.Property) bool { return p.Name == "type" })
		if !b.decode(cfg, props, at) {
			ok = false
			continue
		}
		m := component.NewMetrics()
		ic, err := cfg.NewInterceptor(b.env("interceptor", c.Name+"."+name, m))
		if err != nil {
			b.failed(err, props, at)
			ok = false
			continue
		}
		nodes = append(nodes, newInterceptorNode(c.Name+"."+name, ic, m))
	}
	return nodes, ok
}

func (b *builder) selector(c *flumeconf.Component, channels []string) (component.Selector, bool) {
	props := c.Props.Sub("selector.")
	at := func(key string) flumeconf.Value { return c.Prop("selector." + key) }
	typ, set := props.Get("type")
	if !set {
		typ = at("type")
		typ.Text = "replicating"
	}
	t := b.resolve(component.KindSelector, typ, "the source is left out")
	if t == nil {
		return nil, false
	}
	cfg := t.New().(component.SelectorConfig)
	props = slices.DeleteFunc(slices.Clone(props), func(p flumeconf.Property) bool { return p.Name == "type" })
	if !b.decode(cfg, props, at) {
		return nil, false
	}
	sel, err := cfg.NewSelector(b.env("source", c.Name, component.NewMetrics()), channels)
	if err != nil {
		b.failed(err, props, at)
		return nil, false
	}
	return sel, true
}

func (b *builder) sink(c *flumeconf.Component) {
	t := b.resolve(component.KindSink, c.Type, "the sink is left out")
	v := c.Prop("channel")
	name := strings.TrimSpace(v.Text)
	ch := b.chans[name]
	if t == nil {
		return
	}
	if ch == nil {
		if name == "" {
			b.add(v.At(flumeconf.Error, fmt.Sprintf("set %schannel = CHANNEL", c.Prefix), "required, but not set: the sink is left out"))
		} else {
			b.add(v.At(flumeconf.Error, b.channelHint(name), "channel %s is not there: the sink is left out", quoted(name)))
		}
		return
	}
	cfg := t.New().(component.SinkConfig)
	props := own(c)
	if !b.decode(cfg, props, c.Prop) {
		return
	}
	m := component.NewMetrics(sinkCounters...)
	sink, err := cfg.NewSink(b.env("sink", c.Name, m))
	if err != nil {
		b.failed(err, props, c.Prop)
		return
	}
	if !b.batchFits(sink, c, []*channelNode{ch}) {
		return
	}
	dead, ok := b.deadLetters(c, "sink", m, []*channelNode{ch})
	if !ok {
		return
	}
	ch.sinks++
	n := newSinkNode(b.agent, c.Name, t.Label(), sink, ch, m)
	if n.dead = dead; dead != nil && dead.channel != nil {
		dead.channel.sources++
		dead.channel.feeders.Add(1)
	}
	b.agent.sinks = append(b.agent.sinks, n)
}

// groups makes the sink groups. A group that does not stand takes its sinks
// with it, as in Flume.
func (b *builder) groups() {
	user := make(map[string]string) // sink → group
	for i := range b.conf.Groups {
		g := &b.conf.Groups[i]
		for _, p := range g.Props {
			if p.Name != "sinks" && !strings.HasPrefix(p.Name, "processor.") {
				b.add(p.Value.At(flumeconf.Warning, suggest.Hint(p.Name, []string{"sinks", "processor.type"}), "unknown property of a sink group, ignored"))
			}
		}
		members := b.members(g, user)
		if len(members) == 0 {
			continue
		}
		if !b.group(g, members) {
			for _, name := range members {
				b.dropSink(name)
			}
		}
	}
}

// members are the sinks of a group. One that the agent does not list, or that
// another group has already, is passed over.
func (b *builder) members(g *flumeconf.Component, user map[string]string) []string {
	list := g.Prop("sinks")
	listed, _ := b.conf.Lists.Get("sinks")
	sinks := flumeconf.List(listed)
	var members []string
	for _, name := range flumeconf.List(list) {
		switch other, taken := user[name]; {
		case taken && other == g.Name:
			b.add(list.At(flumeconf.Warning, "", "sink %s is named twice", quoted(name)))
		case taken:
			b.add(list.At(flumeconf.Warning, "", "sink %s is in group %s already: the group goes without it", quoted(name), quoted(other)))
		case !slices.Contains(sinks, name):
			hint := suggest.Hint(name, sinks)
			if hint == "" {
				hint = "the agent's sinks: " + strings.Join(sinks, " ")
			}
			b.add(list.At(flumeconf.Warning, hint, "the agent has no sink %s: the group goes without it", quoted(name)))
		default:
			user[name] = g.Name
			members = append(members, name)
		}
	}
	switch _, set := g.Props.Get("sinks"); {
	case !set:
		b.add(list.At(flumeconf.Error, "", "required, but not set: the sink group is left out"))
	case len(members) == 0:
		b.add(list.At(flumeconf.Error, "", "none of its sinks is there: the sink group is left out"))
	}
	return members
}

// group makes one sink group and answers whether it stands.
func (b *builder) group(c *flumeconf.Component, names []string) bool {
	const consequence = "the group and its sinks are left out"
	at := func(key string) flumeconf.Value { return c.Prop("processor." + key) }
	typ, set := c.Props.Get("processor.type")
	if !set {
		b.add(at("type").At(flumeconf.Error, "write default for one sink", "required, but not set: %s", consequence))
		return false
	}
	t, ok := b.opts.Registry.Lookup(component.KindProcessor, strings.TrimSpace(typ.Text))
	if !ok { // costs the group, not the agent: Flume goes on as well
		b.add(typ.At(flumeconf.Error, suggest.Hint(typ.Text, b.opts.Registry.Names(component.KindProcessor)), "unknown sink processor type %s: %s", quoted(typ.Text), consequence))
		return false
	}
	cfg := t.New().(component.SinkProcessorConfig)
	props := slices.DeleteFunc(c.Props.Sub("processor."), func(p flumeconf.Property) bool { return p.Name == "type" })
	if !b.decode(cfg, props, at) {
		return false
	}
	g := newGroupNode(c.Name, t.Label(), component.NewMetrics())
	var sinks []component.GroupSink
	var channel *channelNode
	for _, name := range names {
		m := &member{name: name, group: g, up: make(chan struct{}), fails: failures{id: "sink " + name, sink: name, agent: b.agent}}
		if i := slices.IndexFunc(b.agent.sinks, func(n *sinkNode) bool { return n.name == name }); i >= 0 {
			m.node = b.agent.sinks[i]
			g.cross = g.cross || channel != nil && channel != m.node.channel
			channel = m.node.channel
		}
		g.members, sinks = append(g.members, m), append(sinks, m)
	}
	if channel == nil {
		b.add(c.Prop("sinks").At(flumeconf.Error, "", "none of its sinks stands: the sink group is left out"))
		return false
	}
	env := b.env("sinkgroup", c.Name, g.metrics)
	env.Finding = b.findings(props, at)
	var err error
	if g.proc, err = cfg.NewSinkProcessor(env, sinks); err != nil {
		b.failed(err, append(props, flumeconf.Property{Name: "type", Value: typ}), at)
		return false
	}
	for _, m := range g.members {
		if m.node != nil {
			m.node.member = m
		}
	}
	b.agent.groups = append(b.agent.groups, g)
	return true
}

// findings takes what a constructor has to say about props.
func (b *builder) findings(props flumeconf.Props, missing func(key string) flumeconf.Value) func(component.Finding) {
	return func(f component.Finding) {
		v, set := props.Get(f.Key)
		if !set {
			v = missing(f.Key)
		}
		sev := flumeconf.Warning
		if f.Error {
			sev = flumeconf.Error
		}
		b.add(v.At(sev, f.Hint, "%s", f.Message))
	}
}

func (b *builder) dropSink(name string) {
	a := b.agent
	a.sinks = slices.DeleteFunc(a.sinks, func(n *sinkNode) bool {
		if n.name == name {
			n.channel.sinks--
			if n.dead != nil && n.dead.channel != nil {
				n.dead.channel.sources--
				n.ended()
			}
			return true
		}
		return false
	})
}

// unconnected leaves out channels that nothing uses, and warns of channels
// that only fill.
func (b *builder) unconnected() {
	a := b.agent
	position := func(name string) flumeconf.Value {
		for i := range b.conf.Channels {
			if c := &b.conf.Channels[i]; c.Name == name {
				return c.Pos()
			}
		}
		return flumeconf.Value{}
	}
	a.channels = slices.DeleteFunc(a.channels, func(n *channelNode) bool {
		v := position(n.name)
		_, shared := n.ch.(component.Shared)
		switch {
		case n.sources+n.sinks == 0:
			b.add(v.At(flumeconf.Warning, "", "channel %s has no source and no sink that stands: left out", quoted(n.name)))
			return true
		case shared:
		case n.sinks == 0:
			b.add(v.At(flumeconf.Warning, "its sources will wait when it is full", "channel %s has no sink that stands: what goes in stays there", quoted(n.name)))
		case n.sources == 0:
			b.add(v.At(flumeconf.Warning, "", "channel %s has no source that stands: nothing will come out of it", quoted(n.name)))
		}
		return false
	})
}
