package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// backlogName is the row of events that wait in a file channel.
const backlogName = "file-backlog"

// Promises of Sluice for it.
const (
	recoveryPromise = 2.0 // seconds
	flatPromise     = 1.5 // memory with all events to memory with a tenth of them
)

// backlogRun is one agent's measurement.
type backlogRun struct {
	Agent   string  `json:"agent"`
	Events  int64   `json:"events"`
	Fill    float64 `json:"fill_s"`
	TenthMB float64 `json:"rss_mb_with_a_tenth"`
	AllMB   float64 `json:"rss_mb_with_all"`
	Recover float64 `json:"recovery_s"` // from exec after kill -9 until the channel's size is right
	Drain   float64 `json:"drain_s"`    // from then until the last is taken
	Smoke   bool    `json:"smoke,omitempty"`
}

// backlogs fills a file channel with each agent, kills it, and starts it again.
func (b *bench) backlogs(ctx context.Context, agents []agent, o options) ([]backlogRun, error) {
	events := int64(10_000_000)
	switch {
	case o.smoke:
		events = 100_000
	case o.lines > 0:
		events = o.lines
	}
	fmt.Printf("\n%s: %d events wait in a file channel when the agent is killed\n", backlogName, events)
	var runs []backlogRun
	for _, a := range agents {
		r, err := b.backlog(ctx, a, events)
		if err != nil {
			return runs, fmt.Errorf("%s, %s: %w", backlogName, a.Name(), err)
		}
		r.Smoke = o.smoke
		runs = append(runs, r)
	}
	return runs, nil
}

func (b *bench) backlog(ctx context.Context, a agent, events int64) (r backlogRun, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	r = backlogRun{Agent: a.Name(), Events: events}
	dir := filepath.Join(b.dir, fmt.Sprintf("%s-%s-%d", backlogName, a.Name(), b.seq()))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return r, fmt.Errorf("prepare run: %w", err)
	}
	defer func() {
		if err == nil {
			err = os.RemoveAll(dir)
		}
	}()
	channel := fmt.Sprintf("a1.channels = c1\na1.channels.c1.type = file\na1.channels.c1.checkpointDir = %[1]s/checkpoint\na1.channels.c1.dataDirs = %[1]s/data\n"+
		"a1.channels.c1.capacity = %[2]d\na1.channels.c1.transactionCapacity = 10000\n", filepath.Join(dir, "channel"), events)
	source := func(events int64) string {
		return fmt.Sprintf("a1.sources = r1\na1.sources.r1.type = seq\na1.sources.r1.batchSize = 1000\na1.sources.r1.totalEvents = %d\na1.sources.r1.channels = c1\n", events)
	}

	p, m, err := b.startBacklog(ctx, a, dir, channel+source(events))
	if err != nil {
		return r, err
	}
	stopped := false
	defer func() {
		if !stopped {
			err = errors.Join(err, p.Stop())
		}
	}()
	began := time.Now()
	size := func(n int64) error {
		return waitFor(ctx, p, 2*time.Millisecond, func() (bool, error) {
			got, err := m.read(ctx)
			return err == nil && got.get("CHANNEL.c1", "ChannelSize") >= n, nil
		})
	}
	if err := size(events / 10); err != nil {
		return r, fmt.Errorf("wait for a tenth: %w", err)
	}
	if r.TenthMB, err = residentMB(p.PID()); err != nil {
		return r, err
	}
	if err := size(events); err != nil {
		return r, fmt.Errorf("wait for all: %w", err)
	}
	r.Fill = time.Since(began).Seconds()
	if r.AllMB, err = residentMB(p.PID()); err != nil {
		return r, err
	}
	fmt.Printf("%-12s %-6s  filled in %.1f s, %.0f MB with a tenth, %.0f MB with all\n", backlogName, r.Agent, r.Fill, r.TenthMB, r.AllMB)
	stopped = true
	if err := p.Kill(); err != nil {
		return r, err
	}
	if a.Name() == "flume" {
		if err := p.Stop(); err != nil { // only forgets the pid
			return r, err
		}
	}

	began = time.Now()
	if p, m, err = b.startBacklog(ctx, a, dir, channel+source(0)); err != nil {
		return r, err
	}
	stopped = false
	if err := size(events); err != nil {
		return r, fmt.Errorf("wait for the recovery: %w", err)
	}
	r.Recover = time.Since(began).Seconds()
	fmt.Printf("%-12s %-6s  recovered in %.2f s\n", backlogName, r.Agent, r.Recover)
	stopped = true
	if err := p.Stop(); err != nil {
		return r, err
	}

	if p, m, err = b.startBacklog(ctx, a, dir, channel+"a1.sinks = k1\na1.sinks.k1.type = null\na1.sinks.k1.batchSize = 1000\na1.sinks.k1.channel = c1\n"); err != nil {
		return r, err
	}
	stopped = false
	began = time.Now()
	if err := waitFor(ctx, p, 2*time.Millisecond, func() (bool, error) {
		got, err := m.read(ctx)
		return err == nil && got.get("CHANNEL.c1", "EventTakeSuccessCount") == events, nil
	}); err != nil {
		return r, fmt.Errorf("wait for the last event: %w", err)
	}
	r.Drain = time.Since(began).Seconds()
	fmt.Printf("%-12s %-6s  drained in %.1f s\n", backlogName, r.Agent, r.Drain)
	stopped = true
	return r, p.Stop()
}

func (b *bench) startBacklog(ctx context.Context, a agent, dir, conf string) (process, *metrics, error) {
	path := filepath.Join(dir, "agent.conf")
	if err := os.WriteFile(path, []byte(conf), 0o644); err != nil {
		return nil, nil, fmt.Errorf("prepare run: %w", err)
	}
	port, err := freePort()
	if err != nil {
		return nil, nil, err
	}
	p, err := a.Start(ctx, dir, path, port)
	return p, newMetrics(port), err
}

// residentMB is what a process has in memory now.
func residentMB(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read resident memory: %w", err)
	}
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte("VmRSS:")); ok {
			kb, err := strconv.ParseFloat(string(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(rest), []byte("kB")))), 64)
			return kb / 1024, err
		}
	}
	return 0, errors.New("read resident memory: no VmRSS")
}

func backlogTable(w io.Writer, runs []backlogRun) {
	if len(runs) == 0 {
		return
	}
	fmt.Fprintln(w, "| file-backlog | events | filled in s | MB with a tenth | MB with all | recovery after kill -9, s | drained in s |")
	fmt.Fprintln(w, "|---|---:|---:|---:|---:|---:|---:|")
	for _, r := range runs {
		fmt.Fprintf(w, "| %s | %d | %.1f | %.0f | %.0f | %.2f | %.1f |\n", r.Agent, r.Events, r.Fill, r.TenthMB, r.AllMB, r.Recover, r.Drain)
	}
}

func missedBacklog(runs []backlogRun) (m []string) {
	for _, r := range runs {
		if r.Agent != "sluice" || r.Smoke {
			continue
		}
		if r.Recover > recoveryPromise {
			m = append(m, fmt.Sprintf("%s: recovery took %.2f s, promised are %.0f", backlogName, r.Recover, recoveryPromise))
		}
		if r.AllMB > flatPromise*r.TenthMB {
			m = append(m, fmt.Sprintf("%s: %.0f MB with all events, %.0f with a tenth: not flat", backlogName, r.AllMB, r.TenthMB))
		}
	}
	return m
}
