package agent

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/sluice-data/sluice/component"
)

// sourceCounters are Flume's, in its order.
var sourceCounters = []string{
	"EventReceivedCount", "EventAcceptedCount", "AppendReceivedCount", "AppendAcceptedCount",
	"AppendBatchReceivedCount", "AppendBatchAcceptedCount", "OpenConnectionCount",
	"EventReadFail", "ChannelWriteFail", "GenericProcessingFail",
}

// Pauses of the lifecycle, Flume's.
const (
	startPause = 3 * time.Second // before a failed start is tried again
	runPause   = 5 * time.Second // before a source that ended with an error runs again
)

// sourceNode is a source and its runner.
type sourceNode struct {
	name    string
	typ     string
	src     component.Source
	out     *processor
	metrics *component.Metrics
	times   lifetimes
}

func (n *sourceNode) id() string { return "source " + n.name }

// stalled is told when a channel refuses the source's events (err) and when
// it took them again (nil).
func (n *sourceNode) stalled(a *Agent, ch *channelNode, err error) {
	id := n.id() + " → channel " + ch.name
	if err != nil {
		a.log.Warn("the source waits for its channel", "source", n.name, "channel", ch.name, "err", err)
	} else {
		a.log.Info("the source goes on", "source", n.name, "channel", ch.name)
	}
	a.setHealth(id, err)
}

// run keeps the source going until ctx ends.
func (n *sourceNode) run(ctx context.Context, a *Agent) {
	defer n.out.close()
	for _, ch := range n.out.channels {
		select {
		case <-ch.up:
		case <-ctx.Done():
			return
		}
	}
	for {
		if ctx.Err() != nil { // the stop came before the start
			return
		}
		n.metrics.Reset()
		if !start(ctx, a, n.id(), n.out.dead) || !start(ctx, a, n.id(), n.src) {
			return
		}
		n.times.started()
		a.log.Info("source started", "source", n.name, "type", n.typ)
		err := n.safeRun(ctx)
		if err == nil || ctx.Err() != nil {
			// The agent stops the source, within the bound of its own stop.
			if err != nil {
				a.log.Warn("the source ended with an error", "source", n.name, "err", err)
			} else if ctx.Err() == nil {
				a.log.Info("the source has come to its end", "source", n.name)
			}
			return
		}
		if component.IsFatal(err) {
			a.log.Error("the source stops for good; restart the agent when the cause is gone", "source", n.name, "err", err)
			a.setHealth(n.id(), err)
			return
		}
		a.log.Error("the source failed and will run again", "source", n.name, "pause", runPause, "err", err)
		a.setHealth(n.id(), err)
		if err := n.src.Stop(ctx); err != nil {
			a.log.Warn("stop source", "source", n.name, "err", err)
		}
		if !sleep(ctx, runPause) {
			return
		}
		a.setHealth(n.id(), nil)
	}
}

func (n *sourceNode) safeRun(ctx context.Context) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return n.src.Run(ctx, n.out)
}

// start starts a component, again and again until it works (true) or ctx ends.
func start(ctx context.Context, a *Agent, id string, c component.Component) bool {
	last := ""
	for {
		err := safeStart(ctx, c)
		if err == nil {
			if last != "" {
				a.log.Info("started at last", "component", id)
				a.setHealth(id, nil)
			}
			return ctx.Err() == nil
		}
		if ctx.Err() != nil {
			return false
		}
		if err.Error() != last { // one line per cause, not one every 3 s
			last = err.Error()
			a.log.Error("cannot start; will be tried again", "component", id, "pause", startPause, "err", err)
		}
		a.setHealth(id, fmt.Errorf("start: %w", err))
		if component.IsFatal(err) {
			return false
		}
		if !sleep(ctx, startPause) {
			return false
		}
	}
}

func safeStart(ctx context.Context, c component.Component) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return c.Start(ctx)
}
