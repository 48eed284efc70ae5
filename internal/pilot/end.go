package pilot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/sluice-data/sluice/internal/ledger"
)

// running waits for the end of the run: the simulator's own, the signal, a
// child that cannot be kept up, or a full directory.
func (p *pilot) running(ctx context.Context) error {
	t := time.NewTicker(250 * time.Millisecond)
	defer t.Stop()
	sized := time.Now()
	for {
		select {
		case <-p.simProc.done:
			return p.simProc.failure()
		case <-ctx.Done():
			p.con.say("Stopping: the simulator first, then the rest once it is drained.")
			return p.simProc.stop(simGrace)
		case <-t.C:
		}
		for _, c := range p.children() {
			if err := c.failure(); err != nil {
				return err
			}
		}
		if p.MaxData > 0 && time.Since(sized) > sizeCheckEvery {
			sized = time.Now()
			if n := dirSize(p.Dir); n > p.MaxData {
				p.tell("the run's data have grown to %d MB: stopping in order before the disk is full", n>>20)
				return p.simProc.stop(simGrace)
			}
		}
	}
}

// dirSize adds up what a directory holds. Files that vanish meanwhile do not
// count.
func dirSize(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	return n
}

// account drains, stops the agents and has the ledger drawn up.
func (p *pilot) account(ctx context.Context) error {
	p.setPhase(phaseDraining, "waiting until everything has arrived")
	if err := p.drain(ctx); err != nil {
		return err
	}
	// Agent 1 may still hand over what its sources had in hand; only then is
	// the topic's end fixed and the consumer has it all.
	errAgent := p.agentProc.stop(agentGrace)
	if errAgent != nil {
		p.tell("%v", errAgent)
	}
	if err := p.drain(ctx); err != nil {
		return err
	}
	errConsumer := p.consumerProc.stop(agentGrace)
	if errConsumer != nil {
		p.tell("%v", errConsumer)
	}
	p.setPhase(phaseChecking, "comparing what arrived with what was written")
	if err := p.ledger(ctx); err != nil {
		return err
	}
	return errors.Join(errAgent, errConsumer)
}

// drain waits until the ends agree with what was written, or nothing moves any
// more. It is the ledger that judges; drain only waits.
func (p *pilot) drain(ctx context.Context) error {
	var before [8]int64
	moved := time.Now()
	for {
		for _, c := range p.children() {
			if err := c.failure(); err != nil {
				return err
			}
		}
		p.mu.Lock()
		s := p.newest
		p.mu.Unlock()
		now := [8]int64{s.Status.Received, s.Status.Delivered, s.Driver.Received, s.Driver.Delivered, s.Topic.End, s.Topic.Lag, s.Consumer.Received, s.Consumer.Delivered}
		if now != before {
			before, moved = now, time.Now()
		}
		quiet := time.Since(moved)
		idle := s.SpoolFiles == 0 && s.Status.ChannelSize == 0 && s.Driver.ChannelSize == 0 && s.Consumer.ChannelSize == 0 && s.Topic.Known && s.Topic.Lag == 0
		agree := s.Status.Delivered >= s.Sim.Status.Records && s.Topic.End >= s.Sim.Driver.Records && s.Consumer.Delivered >= s.Topic.End
		switch {
		case idle && agree && p.restarted() == 0 && quiet > 2*collectEvery:
			return nil
		case idle && quiet > drainQuiet:
			// After a restart, doubles can hide what is still under way.
			return nil
		case quiet > drainStalled:
			p.tell("nothing has moved for %v and not all is delivered: drawing up the ledger as it is", drainStalled)
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(collectEvery / 2):
		}
	}
}

// restarted counts the restarts that may have doubled events.
func (p *pilot) restarted() int { return p.allRestarts() - p.early }

func (p *pilot) allRestarts() (n int) {
	for _, c := range []*child{p.brokerProc, p.agentProc, p.consumerProc} {
		n += c.process().Restarts
	}
	return n
}

// ledger runs the ledger as a process of its own and reads its result back.
func (p *pilot) ledger(ctx context.Context) error {
	path := filepath.Join(p.Dir, "ledger.json")
	args := []string{"ledger", "--dir", p.Dir, "--bootstrap", p.broker, "--json", path}
	if p.restarted() > 0 {
		args = append(args, "--allow-duplicates")
	}
	p.con.endLine()
	// See child.keep: the death signal belongs to the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, p.Exe, args...)
	cmd.Stdout, cmd.Stderr = p.Stdout, p.Stdout
	cmd.SysProcAttr = ChildAttr()
	err := cmd.Run()
	if data, rerr := os.ReadFile(path); rerr == nil {
		res := &ledger.Result{}
		if jerr := json.Unmarshal(data, res); jerr != nil {
			return fmt.Errorf("read the ledger's result: %w", jerr)
		}
		p.mu.Lock()
		p.result = res
		p.mu.Unlock()
		if err != nil && !res.Balanced {
			return ErrUnbalanced
		}
	}
	if err != nil {
		return fmt.Errorf("draw up the ledger: %w", err)
	}
	return nil
}

// stopAll stops what still runs, the broker last.
func (p *pilot) stopAll() {
	for _, c := range p.children() {
		grace := agentGrace
		if c == p.brokerProc {
			grace = brokerGrace
		}
		if err := c.stop(grace); err != nil && c.failure() == nil {
			p.con.say("%v", err)
		}
	}
}
