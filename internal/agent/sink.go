package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
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
	maxCauses       = 5           // and so many different causes in that time
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

	member *member      // not nil: a sink group runs it
	dead   *deadLetters // nil: an event that cannot be delivered is tried for ever
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

// up waits for the channel and starts the sink. It calls started after the
// first try, or when there is nothing to wait for any more.
func (n *sinkNode) up(ctx context.Context, a *Agent, started func()) bool {
	select {
	case <-n.channel.up:
	case <-n.drain:
	case <-ctx.Done():
	}
	if !n.channel.isUp() {
		started()
		return false
	}
	n.metrics.Reset()
	ok := n.start(ctx, a)
	if ok {
		n.times.started()
		if n.member != nil { // before the group hears of it: it would take the sink for failed
			close(n.member.up)
		}
	}
	started()
	if ok {
		a.log.Info("sink started", "sink", n.name, "type", n.typ, "channel", n.channel.name)
	}
	return ok
}

// run moves events from the channel to a sink that is in no group until work
// ends or, once draining, until the channel is empty. ctx, of which work is a
// child, is that of a write: one that is under way outlives work.
func (n *sinkNode) run(ctx, work context.Context, a *Agent, started func()) {
	defer n.ended()
	if !n.up(work, a, started) {
		return
	}
	takeCtx, wake := untilDrained(work, n.drain)
	defer wake()
	f := failures{id: n.id(), sink: n.name, agent: a}
	hold := func(err error) bool { return f.pause(work, err) }
	taker := n.channel.ch.NewTaker()
	for work.Err() == nil {
		began := time.Now()
		st, err := n.step(ctx, takeCtx, taker, hold)
		if err != nil {
			f.pause(work, err)
		}
		switch {
		case st == component.Ready && err == nil:
			f.clear()
		case st == component.Ready:
		case takeCtx.Err() != nil: // draining: other sinks may still roll events back
			if n.channel.drained() {
				return
			}
			sleep(work, emptyPause)
		default:
			if took := time.Since(began); took < emptyPause {
				sleep(takeCtx, emptyPause-took)
			}
		}
	}
}

// ended is called when the sink works no more: it makes no more dead letters.
func (n *sinkNode) ended() {
	if n.dead != nil && n.dead.channel != nil {
		n.dead.channel.feeders.Add(-1)
	}
}

// untilDrained is a context for takes, which wait for keep-alive: draining
// must not.
func untilDrained(ctx context.Context, drain <-chan struct{}) (context.Context, context.CancelFunc) {
	takeCtx, wake := context.WithCancel(ctx)
	go func() {
		select {
		case <-drain:
			wake()
		case <-takeCtx.Done():
		}
	}()
	return takeCtx, wake
}

// step is one take transaction: Ready when a batch was delivered, Empty when
// there was none. ErrBackoff comes back as the error that it is. hold waits
// before the failed part of a batch is offered again; without it such a batch
// is rolled back whole.
func (n *sinkNode) step(ctx, takeCtx context.Context, taker component.Taker, hold func(error) bool) (component.Status, error) {
	lease, err := taker.Take(takeCtx, n.batch)
	if err != nil {
		n.readFail.Add(1)
		return component.Empty, fmt.Errorf("take from channel %s: %w", n.channel.name, err)
	}
	n.channel.takeAttempt.Add(1)
	if lease == nil {
		n.empty.Add(1)
		if idler, ok := n.sink.(component.Idler); ok {
			return component.Empty, n.guard(func() error { return idler.Idle(ctx) })
		}
		return component.Empty, nil
	}
	return component.Ready, n.deliver(ctx, lease, hold)
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
		for !n.channel.drained() && sleep(ctx, emptyPause) {
		}
		giveUp()
	}()
	return start(ctx, a, n.id(), n.dead) && start(ctx, a, n.id(), n.sink)
}

// deliver ends one lease, by commit or by rollback.
func (n *sinkNode) deliver(ctx context.Context, lease component.Lease, hold func(error) bool) error {
	evs := lease.Events()
	count := len(evs)
	if count < n.batch {
		n.underflow.Add(1)
	} else {
		n.complete.Add(1)
	}
	n.channel.takeAttempt.Add(int64(count) - 1)
	n.attempt.Add(int64(count))
	settled := 0 // delivered, or dead letters
	for {
		left, buried, err := n.settle(ctx, evs)
		settled += len(evs) - len(left)
		n.success.Add(int64(len(evs) - len(left) - buried))
		if err == nil {
			break
		}
		// What is settled is not offered again. The lease stays open, so that
		// a stop still rolls back: then all of it is repeated.
		if hold != nil && settled > 0 {
			evs = left
			if hold(err) {
				continue
			}
		}
		n.writeFail.Add(1)
		if rerr := lease.Rollback(); rerr != nil {
			err = errors.Join(err, fmt.Errorf("roll back: %w", rerr))
		}
		return err
	}
	if err := lease.Commit(); err != nil {
		return fmt.Errorf("commit the take from channel %s: %w", n.channel.name, err)
	}
	n.channel.takeSuccess.Add(int64(count))
	return nil
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

// failures are the reports and the back-off of a sink, or of a whole group.
type failures struct {
	id       string // of the health condition
	sink     string // "" for a group
	agent    *Agent
	wait     time.Duration
	backoffs int
	said     map[string]time.Time // causes, without their numbers, and when the log last had each
	cause    string
	until    time.Time // of the pause that health names, for a sink of a group
}

// report says that a sink failed: in the log when it begins, when the cause
// becomes another, and once a minute, in health as long as it lasts.
func (f *failures) report(err error) {
	if f.due(err.Error()) {
		switch {
		case f.sink == "":
			f.agent.log.Error("no sink of the group can deliver; the events stay in the channels and will be tried again", "component", f.id, "err", err)
		case component.IsPermanent(err):
			f.agent.log.Error("the sink cannot deliver an event; it will be tried again for ever, as in Flume", "sink", f.sink, "err", err)
		default:
			f.agent.log.Error("the sink failed; its events stay in the channel and will be tried again", "sink", f.sink, "err", err)
		}
	}
	f.cause, f.until = err.Error(), time.Time{}
	if component.IsPermanent(err) {
		err = fmt.Errorf("an event can never be delivered and is tried again for ever (deadletter = file sets such events aside): %w", err)
	}
	f.agent.setHealth(f.id, err)
}

// due says whether the log shall have this cause now. Causes that differ only
// in numbers (of a file, a port, a try) are one.
func (f *failures) due(cause string) bool {
	kind := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, cause)
	now := time.Now()
	maps.DeleteFunc(f.said, func(_ string, at time.Time) bool { return now.Sub(at) >= reportEvery })
	if _, ok := f.said[kind]; ok || len(f.said) >= maxCauses {
		return false
	}
	if f.said == nil {
		f.said = map[string]time.Time{}
	}
	f.said[kind] = now
	return true
}

// pause reports err and waits; it answers false when ctx ended.
func (f *failures) pause(ctx context.Context, err error) bool {
	if errors.Is(err, component.ErrBackoff) {
		return f.backoff(ctx)
	}
	f.wait = min(max(2*f.wait, failPauseMin), failPauseMax)
	f.report(err)
	return sleep(ctx, f.wait)
}

// backoff waits longer with each BACKOFF in a row.
func (f *failures) backoff(ctx context.Context) bool {
	f.backoffs++
	return sleep(ctx, min(time.Duration(f.backoffs)*backoffPause, backoffPauseMax))
}

// clear is called after a success.
func (f *failures) clear() {
	if f.cause != "" {
		f.agent.log.Info("delivers again", "component", f.id)
		f.agent.setHealth(f.id, nil)
	}
	f.wait, f.backoffs, f.cause, f.until = 0, 0, "", time.Time{}
	clear(f.said)
}
