package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/deadletter"
	"github.com/sluice-data/sluice/internal/flumeconf"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
)

// Where dead letters go.
const (
	deadOff     = "off"
	deadFile    = "file"
	deadChannel = "channel"
)

const minDeadBytes = 1 << 20

// deadLetterConfig declares the properties of dead letters, which every sink
// and every source has.
type deadLetterConfig struct {
	mode      string
	directory string
	maxBytes  int64
	channel   string
}

// Fields implements component.Config.
func (c *deadLetterConfig) Fields() []component.Field {
	return []component.Field{
		component.Enum("deadletter", &c.mode, deadOff, deadOff, deadFile, deadChannel).
			Describe("Where events go that can never be delivered. off: they are tried again for ever, as in Flume."),
		component.String("deadletter.directory", &c.directory, "").AsType("path").
			Describe("With file: the directory below which the component has one of its own."),
		component.Int64("deadletter.maxBytes", &c.maxBytes, 1<<30).In("bytes").Min(minDeadBytes).
			Describe("With file: the most that the component's dead letters may take."),
		component.String("deadletter.channel", &c.channel, "").
			Describe("With channel: a channel of the same agent that gets the events, with the reason in headers."),
	}
}

// isDeadLetter says whether a property of a sink or source is one of dead
// letters.
func isDeadLetter(name string) bool {
	return name == "deadletter" || strings.HasPrefix(name, "deadletter.")
}

// deadLetters is where one component's dead letters go: a file store or a
// channel.
type deadLetters struct {
	agent     *Agent
	component string // "sink k1"
	store     *deadletter.Store
	channel   *channelNode
	count     *atomic.Int64

	said   atomic.Int64 // unix seconds of the last line in the log
	unsaid atomic.Int64 // letters since then
}

// Start implements component.Component.
func (d *deadLetters) Start(ctx context.Context) error {
	if d == nil || d.store == nil {
		return nil
	}
	return d.store.Start(ctx)
}

// Stop implements component.Component.
func (d *deadLetters) Stop(ctx context.Context) error {
	if d == nil || d.store == nil {
		return nil
	}
	return d.store.Stop(ctx)
}

// put makes letters of events; reasons are by index. They are as durable as
// they get when it returns nil.
func (d *deadLetters) put(ctx context.Context, channel string, evs []event.Event, reasons []error) error {
	now := time.Now()
	if d.store != nil {
		letters := make([]deadletter.Letter, len(evs))
		for i := range evs {
			letters[i] = deadletter.Letter{Time: now, Agent: d.agent.Name, Component: d.component, Channel: channel, Reason: reasons[i].Error(), Event: evs[i]}
		}
		if err := d.store.Append(letters); err != nil {
			return err
		}
	} else if err := d.putChannel(ctx, now, channel, evs, reasons); err != nil {
		return err
	}
	d.count.Add(int64(len(evs)))
	d.unsaid.Add(int64(len(evs)))
	last := d.said.Load()
	if now.Unix()-last >= int64(reportEvery/time.Second) && d.said.CompareAndSwap(last, now.Unix()) {
		d.agent.log.Warn("events that cannot be delivered were set aside as dead letters", "component", d.component, "events", d.unsaid.Swap(0), "err", reasons[0])
	}
	return nil
}

// bury is put, with an error that does not count as the events' own: they are
// to be tried again until there is room for the letters.
func (d *deadLetters) bury(ctx context.Context, channel string, evs []event.Event, reasons []error) error {
	if err := d.put(ctx, channel, evs, reasons); err != nil {
		return fmt.Errorf("set %d events aside as dead letters: %w (they cannot be delivered: %v)", len(evs), err, reasons[0])
	}
	return nil
}

// Headers of events in a dead-letter channel.
const (
	deadReasonHeader    = "deadletter.reason"
	deadComponentHeader = "deadletter.component"
	deadChannelHeader   = "deadletter.channel"
	deadTimeHeader      = "deadletter.time"
)

func (d *deadLetters) putChannel(ctx context.Context, now time.Time, channel string, evs []event.Event, reasons []error) error {
	at := strconv.AppendInt(nil, now.UnixMilli(), 10)
	limit := d.channel.ch.TransactionCapacity()
	if limit <= 0 {
		limit = len(evs)
	}
	for from := 0; from < len(evs); from += limit {
		b := d.agent.pool.NewBatch()
		for i := from; i < min(from+limit, len(evs)); i++ {
			b.AppendEvent(evs[i].Body, evs[i].Headers)
			for _, h := range []event.KV{{Key: deadReasonHeader, Value: []byte(reasons[i].Error())}, {Key: deadComponentHeader, Value: []byte(d.component)},
				{Key: deadChannelHeader, Value: []byte(channel)}, {Key: deadTimeHeader, Value: at}} {
				b.SetHeader(b.Len()-1, h.Key, h.Value)
			}
		}
		err := d.channel.put(ctx, b)
		b.Release()
		if err != nil {
			return fmt.Errorf("put a dead letter into channel %s: %w", d.channel.name, err)
		}
	}
	return nil
}

// deadLetters makes what a sink or source says of its dead letters: nil
// without any. ok is false where the settings are wrong. own are the
// component's channels.
func (b *builder) deadLetters(c *flumeconf.Component, kind string, m *component.Metrics, own []*channelNode) (d *deadLetters, ok bool) {
	var props flumeconf.Props
	for _, p := range c.Props {
		if isDeadLetter(p.Name) {
			props = append(props, p)
		}
	}
	if len(props) == 0 {
		return nil, true
	}
	cfg := new(deadLetterConfig)
	if !b.decode(cfg, props, c.Prop) {
		return nil, false
	}
	id := kind + " " + c.Name
	wrong := func(key, hint, format string, args ...any) (*deadLetters, bool) {
		b.failed(&component.KeyError{Key: key, Err: fmt.Errorf(format, args...), Hint: hint}, props, c.Prop)
		return nil, false
	}
	d = &deadLetters{agent: b.agent, component: id, count: m.Counter("EventDeadLetterCount")}
	switch cfg.mode {
	case deadFile:
		if cfg.directory == "" {
			return wrong("deadletter.directory", "a directory that the agent may make", "required with deadletter = file, but not set: the %s is left out", kind)
		}
		d.store = deadletter.NewStore(vfs.OS{}, deadletter.Dir(cfg.directory, b.conf.Name, kind, c.Name), cfg.maxBytes, b.agent.log.With("component", id))
	case deadChannel:
		name := strings.TrimSpace(cfg.channel)
		if name == "" {
			return wrong("deadletter.channel", "", "required with deadletter = channel, but not set: the %s is left out", kind)
		}
		d.channel = b.chans[name]
		if d.channel == nil {
			return wrong("deadletter.channel", b.channelHint(name), "channel %s is not there: the %s is left out", quoted(name), kind)
		}
		if slices.Contains(own, d.channel) {
			return wrong("deadletter.channel", "give dead letters a channel of their own", "channel %s is the %s's own: the %s is left out", quoted(name), kind, kind)
		}
	default:
		if len(props) > 1 || props[0].Name != "deadletter" {
			v := props[len(props)-1].Value
			b.add(v.At(flumeconf.Warning, fmt.Sprintf("set %sdeadletter = file or channel", c.Prefix), "no effect while deadletter is off"))
		}
		return nil, true
	}
	return d, true
}

// deadChains refuses a dead-letter channel whose own sinks have one: their
// events could go round for ever.
func (b *builder) deadChains() {
	into := make(map[*channelNode]string)
	for _, n := range b.agent.sinks {
		if n.dead != nil && n.dead.channel != nil {
			into[n.dead.channel] = n.name
		}
	}
	for _, n := range slices.Clone(b.agent.sinks) {
		from, fed := into[n.channel]
		if !fed || n.dead == nil || n.dead.channel == nil {
			continue
		}
		i := slices.IndexFunc(b.conf.Sinks, func(c flumeconf.Component) bool { return c.Name == n.name })
		v := b.conf.Sinks[i].Prop("deadletter.channel")
		b.add(v.At(flumeconf.Error, "use deadletter = file here", "channel %s has the dead letters of sink %s, so its own sink cannot have a dead-letter channel: the sink is left out", quoted(n.channel.name), quoted(from)))
		b.dropSink(n.name)
	}
}

// settle writes evs and sees to those that can never be delivered. It answers
// which events are left, why, and how many became dead letters.
func (n *sinkNode) settle(ctx context.Context, evs []event.Event) (left []event.Event, buried int, err error) {
	err = n.guard(func() error { return n.sink.Write(ctx, evs) })
	if err == nil {
		return nil, 0, nil
	}
	var partial *component.PartialError
	if errors.As(err, &partial) {
		return n.settleFailed(ctx, evs, partial, err)
	}
	if n.dead == nil || !component.IsPermanent(err) || errors.Is(err, component.ErrBackoff) {
		return evs, 0, err
	}
	if len(evs) == 1 {
		if err := n.dead.bury(ctx, n.channel.name, evs, []error{err}); err != nil {
			return evs, 0, err
		}
		return nil, 1, nil
	}
	// It does not say which of them it is.
	half := len(evs) / 2
	left, buried, err = n.settle(ctx, evs[:half])
	if err != nil {
		return slices.Concat(left, evs[half:]), buried, err
	}
	left, more, err := n.settle(ctx, evs[half:])
	return left, buried + more, err
}

// settleFailed sees to a write that failed in part.
func (n *sinkNode) settleFailed(ctx context.Context, evs []event.Event, partial *component.PartialError, err error) (left []event.Event, buried int, _ error) {
	dead := make(map[int]error)
	rest := make(map[int]error)
	for i, cause := range partial.Failed {
		switch {
		case i < 0 || i >= len(evs):
		case n.dead != nil && component.IsPermanent(cause):
			dead[i] = cause
		default:
			rest[i] = cause
		}
	}
	if len(dead)+len(rest) == 0 { // it names none of the events: all may be missing
		return evs, 0, err
	}
	if len(dead) == 0 {
		return pick(evs, rest), 0, err
	}
	if len(rest) > 0 { // it may take long, and a group would begin anew each time: one letter an event
		maps.Copy(dead, rest)
		return pick(evs, dead), 0, &component.PartialError{Failed: rest}
	}
	order := slices.Sorted(maps.Keys(dead))
	reasons := make([]error, len(order))
	for i, at := range order {
		reasons[i] = dead[at]
	}
	buried = len(dead)
	left = pick(evs, dead)
	if err := n.dead.bury(ctx, n.channel.name, left, reasons); err != nil {
		return left, 0, err
	}
	return nil, buried, nil
}
