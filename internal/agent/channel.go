package agent

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

// channelNode is a channel with its counters.
type channelNode struct {
	name    string
	ch      component.Channel
	metrics *component.Metrics
	times   lifetimes
	up      chan struct{} // closed when the channel has started

	sources, sinks int          // attached at load
	feeders        atomic.Int32 // sinks at work whose dead letters go here

	putAttempt, putSuccess, takeAttempt, takeSuccess *atomic.Int64
	optionalWarned                                   atomic.Int64 // unix seconds of the last warning
}

func newChannelNode(name string, ch component.Channel, m *component.Metrics) *channelNode {
	return &channelNode{name: name, ch: ch, metrics: m, up: make(chan struct{}),
		putAttempt: m.Counter("EventPutAttemptCount"), putSuccess: m.Counter("EventPutSuccessCount"),
		takeAttempt: m.Counter("EventTakeAttemptCount"), takeSuccess: m.Counter("EventTakeSuccessCount")}
}

func (n *channelNode) isUp() bool {
	select {
	case <-n.up:
		return true
	default:
		return false
	}
}

// drained says, once the sources have ended, that nothing is left to take and
// nothing will come.
func (n *channelNode) drained() bool {
	return n.feeders.Load() == 0 && n.ch.Stats().Size == 0
}

// put is one put transaction, counted.
func (n *channelNode) put(ctx context.Context, b *event.Batch) error {
	n.putAttempt.Add(int64(b.Len()))
	err := n.ch.Put(ctx, b)
	var partial *component.PartialError
	switch {
	case err == nil:
		n.putSuccess.Add(int64(b.Len()))
	case errors.As(err, &partial):
		n.putSuccess.Add(int64(b.Len() - len(partial.Failed)))
	}
	return err
}

// optionalFailed says, once a minute at most, that an optional channel misses
// events.
func (n *channelNode) optionalFailed(a *Agent, source string, events int, err error) {
	now := time.Now().Unix()
	last := n.optionalWarned.Load()
	if now-last >= 60 && n.optionalWarned.CompareAndSwap(last, now) {
		a.log.Warn("an optional channel refused events; it goes without them", "source", source, "channel", n.name, "events", events, "err", err)
	}
}

// lifetimes are a component's StartTime and StopTime, in ms since the epoch.
type lifetimes struct{ start, stop atomic.Int64 }

func (l *lifetimes) started() { l.start.Store(time.Now().UnixMilli()); l.stop.Store(0) }
func (l *lifetimes) stopped() { l.stop.Store(time.Now().UnixMilli()) }
