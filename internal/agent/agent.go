package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Run starts the agent, works until ctx ends, and stops it within the stop
// timeout: sources end first, then the sinks drain the channels, then the
// channels stop. It returns an error when events of a channel that does not
// outlive the process had to be left behind.
//
// The order of starting is Flume's: channels, sinks, sources. A component
// that cannot start does not hold up those that do not need it.
func (a *Agent) Run(ctx context.Context) error {
	if !a.Runnable() {
		return errors.New("run agent: nothing of it can run")
	}
	// Each stage of the stop has a context of its own; none is a child of
	// ctx, whose end only begins the stop.
	base := context.WithoutCancel(ctx)
	chanCtx, stopChannels := context.WithCancel(base)
	sinkCtx, stopSinks := context.WithCancel(base)
	workCtx, stopWork := context.WithCancel(sinkCtx) // sinks begin nothing new when it ends
	srcCtx, stopSources := context.WithCancel(base)
	defer stopChannels()
	defer stopSinks()
	defer stopWork()
	defer stopSources()

	var chans, sinks, sources sync.WaitGroup
	for _, n := range a.channels {
		chans.Go(func() {
			if start(chanCtx, a, "channel "+n.name, n.ch) {
				n.times.started()
				a.log.Info("channel started", "channel", n.name)
				close(n.up)
			}
		})
	}
	sinksTried := make(chan struct{})
	untried := new(atomic.Int64)
	if untried.Store(int64(len(a.sinks))); len(a.sinks) == 0 {
		close(sinksTried)
	}
	for _, n := range a.sinks {
		tried := sync.OnceFunc(func() {
			if untried.Add(-1) == 0 {
				close(sinksTried)
			}
		})
		// A sink that does not come up must not hold the sources back for
		// ever: they fill the channel meanwhile.
		late := time.AfterFunc(startPause, tried)
		triedInTime := func() { late.Stop(); tried() }
		sinks.Go(func() {
			if n.member == nil {
				n.run(sinkCtx, workCtx, a, triedInTime)
			} else {
				n.up(workCtx, a, triedInTime)
			}
		})
	}
	for _, g := range a.groups {
		sinks.Go(func() { g.run(sinkCtx, workCtx, a, sinksTried) })
	}
	sources.Go(func() {
		select {
		case <-sinksTried:
		case <-srcCtx.Done(): // they end at once, and close what they have
		}
		for _, n := range a.sources {
			sources.Go(func() { n.run(srcCtx, a) })
		}
	})

	<-ctx.Done()
	deadline := time.Now().Add(a.stopTime)
	a.log.Info("stopping: sources end, then the sinks drain their channels", "agent", a.Name, "within", a.stopTime)
	stopCtx, cancel := context.WithDeadline(base, deadline)
	defer cancel()

	// A third of the time is for the sources, a third for the sinks to drain,
	// a sixth for them to end the write that is under way, which would be
	// repeated otherwise, and a sixth is kept to give up one that hangs.
	srcStopCtx, cancelSrc := context.WithDeadline(stopCtx, deadline.Add(-a.stopTime*2/3))
	defer cancelSrc()
	stopSources()
	var err error
	if !waitUntil(srcStopCtx, &sources) {
		err = errors.Join(err, errors.New("stop sources: some did not end in time"))
	}
	for _, n := range a.sources {
		if serr := errors.Join(n.src.Stop(srcStopCtx), n.out.dead.Stop(srcStopCtx)); serr != nil {
			err = errors.Join(err, fmt.Errorf("stop source %s: %w", n.name, serr))
		}
		n.times.stopped()
	}

	drainCtx, cancelDrain := context.WithDeadline(stopCtx, deadline.Add(-a.stopTime/3))
	defer cancelDrain()
	for _, n := range a.sinks {
		close(n.drain)
	}
	for _, g := range a.groups {
		close(g.drain)
	}
	if !waitUntil(drainCtx, &sinks) {
		a.log.Warn("the channels could not be drained in time", "agent", a.Name)
		stopWork()
		endCtx, cancelEnd := context.WithDeadline(stopCtx, deadline.Add(-a.stopTime/6))
		defer cancelEnd()
		if !waitUntil(endCtx, &sinks) {
			a.log.Warn("a write did not end in time and is given up: its events stay in the channel, and may have arrived", "agent", a.Name)
		}
		stopSinks()
		if !waitUntil(stopCtx, &sinks) {
			err = errors.Join(err, errors.New("stop sinks: some did not end in time"))
		}
	}
	stopSinks()
	for _, g := range a.groups {
		g.times.stopped()
	}
	for _, n := range a.sinks {
		if serr := errors.Join(n.sink.Stop(stopCtx), n.dead.Stop(stopCtx)); serr != nil {
			err = errors.Join(err, fmt.Errorf("stop sink %s: %w", n.name, serr))
		}
		n.times.stopped()
	}

	stopChannels()
	if !waitUntil(stopCtx, &chans) {
		err = errors.Join(err, errors.New("stop channels: some are still starting"))
	}
	for _, n := range a.channels {
		if s := n.ch.Stats(); s.Size > 0 && !s.Durable {
			err = errors.Join(err, fmt.Errorf("%d events were left in channel %s, which does not outlive the process", s.Size, n.name))
		}
		if serr := n.ch.Stop(stopCtx); serr != nil {
			err = errors.Join(err, fmt.Errorf("stop channel %s: %w", n.name, serr))
		}
		n.times.stopped()
	}
	return err
}

// waitUntil waits for wg; it answers false when ctx ended first. Its goroutine
// then lives until the group ends: the process is about to.
func waitUntil(ctx context.Context, wg *sync.WaitGroup) bool {
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}
