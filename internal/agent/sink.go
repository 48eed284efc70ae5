package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

// sinkCounters are Flume's, in its order.
var sinkCounters = []string{
	"ConnectionCreatedCount", "ConnectionClosedCount", "ConnectionFailedCount",
	"BatchEmptyCount", "BatchUnderflowCount", "BatchCompleteCount",
	"EventDrainAttemptCount", "EventDrainSuccessCount", "EventWriteFail", "ChannelReadFail",
}

// Pauses of the sink runner. Flume waits 5 s after every failure; starting
// shorter brings a sink back sooner when its peer only restarted.
const (
	failPauseMin    = 250 * time.Millisecond
	failPauseMax    = 5 * time.Second
	backoffPause    = time.Second // × consecutive BACKOFFs
	backoffPauseMax = 5 * time.Second
	reportEvery     = time.Minute // a lasting failure is logged that often
	// emptyPause is the least time between two takes that bring nothing: a
	// channel with a keep-alive of 0 does not wait itself.
	emptyPause = 10 * time.Millisecond
)

// defaultSinkBatch is for sinks that leave the batch size to the runner.
const defaultSinkBatch = 1000

// sinkNode is a sink and its runner, which owns its take transactions.
type sinkNode struct {
	name    string
	typ     string
	sink    component.Sink
	channel *channelNode
	metrics *component.Metrics
	times   lifetimes
	batch   int

	empty, underflow, complete, attempt, success, writeFail, readFail *atomic.Int64

	// drain is closed when the sources have ended: the sink then works until
	// its channel is empty, and ends.
	drain chan struct{}
}

func newSinkNode(a *Agent, name, typ string, s component.Sink, ch *channelNode, m *component.Metrics) *sinkNode {
	n := &sinkNode{name: name, typ: typ, sink: s, channel: ch, metrics: m, batch: defaultSinkBatch, drain: make(chan struct{}),
		empty: m.Counter("BatchEmptyCount"), underflow: m.Counter("BatchUnderflowCount"), complete: m.Counter("BatchCompleteCount"),
		attempt: m.Counter("EventDrainAttemptCount"), success: m.Counter("EventDrainSuccessCount"),
		writeFail: m.Counter("EventWriteFail"), readFail: m.Counter("ChannelReadFail"),
	}
	if sz, ok := s.(component.Sizer); ok {
		n.batch = max(1, sz.BatchSize())
	}
	return n
}

func (n *sinkNode) id() string { return "sink " + n.name }

// run moves events from the channel to the sink until ctx ends or, once
// draining, until the channel is empty.
func (n *sinkNode) run(ctx context.Context, a *Agent, started func()) {
	select {
	case <-n.channel.up:
	case <-n.drain:
	case <-ctx.Done():
	}
	if !n.channel.isUp() {
		started()
		return
	}
	n.metrics.Reset()
	ok := n.start(ctx, a)
	started()
	if !ok {
		return
	}
	n.times.started()
	a.log.Info("sink started", "sink", n.name, "type", n.typ, "channel", n.channel.name)

	// A take waits for keep-alive; draining must not.
	takeCtx, wake := context.WithCancel(ctx)
	defer wake()
	go func() {
		select {
		case <-n.drain:
			wake()
		case <-takeCtx.Done():
		}
	}()

	f := failures{node: n, agent: a}
	idler, _ := n.sink.(component.Idler)
	taker := n.channel.ch.NewTaker()
	for ctx.Err() == nil {
		began := time.Now()
		lease, err := taker.Take(takeCtx, n.batch)
		if err != nil {
			n.readFail.Add(1)
			f.pause(ctx, fmt.Errorf("take from channel %s: %w", n.channel.name, err))
			continue
		}
		n.channel.takeAttempt.Add(1)
		if lease == nil {
			n.empty.Add(1)
			if idler != nil {
				if err := n.guard(func() error { return idler.Idle(ctx) }); err != nil {
					f.pause(ctx, err)
				}
			}
			if takeCtx.Err() != nil { // draining: other sinks may still roll events back
				if n.channel.ch.Stats().Size == 0 {
					return
				}
				sleep(ctx, emptyPause)
			} else if took := time.Since(began); took < emptyPause {
				sleep(takeCtx, emptyPause-took)
			}
			continue
		}
		n.deliver(ctx, lease, &f)
	}
}

// start starts the sink. One that does not come up holds a stop up only while
// there is something for it to deliver.
func (n *sinkNode) start(ctx context.Context, a *Agent) bool {
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	go func() {
		select {
		case <-n.drain:
		case <-ctx.Done():
		}
		for n.channel.ch.Stats().Size > 0 && sleep(ctx, emptyPause) {
		}
		giveUp()
	}()
	return start(ctx, a, n.id(), n.sink)
}

// deliver ends one lease, by commit or by rollback.
func (n *sinkNode) deliver(ctx context.Context, lease component.Lease, f *failures) {
	evs := lease.Events()
	count := len(evs)
	if count < n.batch {
		n.underflow.Add(1)
	} else {
		n.complete.Add(1)
	}
	n.channel.takeAttempt.Add(int64(count) - 1)
	n.attempt.Add(int64(count))
	for {
		err := n.guard(func() error { return n.sink.Write(ctx, evs) })
		if err == nil {
			break
		}
		var partial *component.PartialError
		if errors.As(err, &partial) {
			// What was delivered is not offered again. The lease stays open,
			// so that a stop still rolls back: then all of it is repeated.
			left := pick(evs, partial.Failed)
			if len(left) > 0 {
				n.success.Add(int64(len(evs) - len(left)))
				evs = left
				if f.pause(ctx, err) {
					continue
				}
			} else {
				partial = nil // it names none of the events: all may be missing
			}
		}
		n.writeFail.Add(1)
		if rerr := lease.Rollback(); rerr != nil {
			err = errors.Join(err, fmt.Errorf("roll back: %w", rerr))
		}
		if partial == nil {
			f.pause(ctx, err)
		}
		return
	}
	if err := lease.Commit(); err != nil {
		f.pause(ctx, fmt.Errorf("commit the take from channel %s: %w", n.channel.name, err))
		return
	}
	n.channel.takeSuccess.Add(int64(count))
	n.success.Add(int64(len(evs)))
	f.clear()
}

// pick copies the events with the failed indexes, in order.
func pick(evs []event.Event, failed map[int]error) []event.Event {
	var left []event.Event
	for _, i := range slices.Sorted(maps.Keys(failed)) {
		if i >= 0 && i < len(evs) {
			left = append(left, evs[i])
		}
	}
	return left
}

// guard turns a panic of the sink into an error: it costs a batch a retry,
// not the process its life.
func (n *sinkNode) guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return f()
}

// failures is a sink's back-off and its reports.
type failures struct {
	node     *sinkNode
	agent    *Agent
	wait     time.Duration
	backoffs int
	reported time.Time
	cause    string
}

// pause reports err and waits; it answers false when ctx ended.
func (f *failures) pause(ctx context.Context, err error) bool {
	if errors.Is(err, component.ErrBackoff) {
		f.backoffs++
		return sleep(ctx, min(time.Duration(f.backoffs)*backoffPause, backoffPauseMax))
	}
	f.wait = min(max(2*f.wait, failPauseMin), failPauseMax)
	if f.cause == "" || time.Since(f.reported) >= reportEvery {
		f.reported = time.Now()
		msg := "the sink failed; its events stay in the channel and will be tried again"
		if component.IsPermanent(err) {
			msg = "the sink cannot deliver an event; it will be tried again for ever, as in Flume"
		}
		f.agent.log.Error(msg, "sink", f.node.name, "err", err)
	}
	f.cause = err.Error()
	f.agent.setHealth(f.node.id(), err)
	return sleep(ctx, f.wait)
}

// clear is called after a success.
func (f *failures) clear() {
	if f.cause != "" {
		f.agent.log.Info("the sink delivers again", "sink", f.node.name)
		f.agent.setHealth(f.node.id(), nil)
	}
	f.wait, f.backoffs, f.cause = 0, 0, ""
}
