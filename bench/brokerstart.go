package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// startTime starts a broker in an empty directory.
func startTime(ctx context.Context, b *brokerBench, row string) error {
	return b.turns(ctx, false, func(p peer, round int) error {
		dir := filepath.Join(b.dir, fmt.Sprintf("start-%s-%d", p.Name(), b.seq()))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		bp, err := p.Start(ctx, dir)
		if err != nil {
			return err
		}
		took, err := bp.ready(ctx)
		if err != nil {
			return errors.Join(err, bp.kill())
		}
		f := map[string]float64{figReady: took.Seconds() * 1000}
		cpu0, err0 := cpuOf(bp.pid)
		idle := 2 * time.Second
		time.Sleep(idle)
		cpu1, err1 := cpuOf(bp.pid)
		f[figIdle] = 100 * (cpu1 - cpu0).Seconds() / idle.Seconds()
		b.record(row, p, round, f)
		return errors.Join(err0, err1, bp.stop(), os.RemoveAll(dir))
	})
}

// startMany starts a broker that has 2,000 partitions with something in each,
// after an orderly stop and after a kill.
func startMany(ctx context.Context, b *brokerBench, row string) error {
	parts := 2000
	if b.smoke {
		parts = 50
	}
	t, err := newTemplate(shape{1000, 16 << 10, "none"})
	if err != nil {
		return err
	}
	for _, p := range b.peers {
		dir := filepath.Join(b.dir, fmt.Sprintf("many-%s-%d", p.Name(), b.seq()))
		bp, err := b.fresh(ctx, p, dir)
		if err != nil {
			return err
		}
		if err := bp.createTopic(ctx, "many", parts); err != nil {
			return errors.Join(err, bp.kill())
		}
		if _, err := produceAll(ctx, bp.addr, "many", parts, 1, t, int64(parts)*t.payload*2); err != nil {
			return errors.Join(err, bp.kill())
		}
		for _, how := range []struct {
			name string
			end  func() error
		}{{"-stopped", bp.stop}, {"-killed", nil}} {
			end := how.end
			if end == nil {
				end = bp.kill
			}
			if err := end(); err != nil {
				return err
			}
			if bp, err = p.Start(ctx, dir); err != nil {
				return err
			}
			took, err := bp.ready(ctx)
			if err != nil {
				return errors.Join(err, bp.kill())
			}
			f := map[string]float64{figReady: took.Seconds() * 1000}
			accepted, err := firstAccepted(ctx, bp, "many", t)
			if err != nil {
				return errors.Join(err, bp.kill())
			}
			f[figAccepted] = accepted.Seconds() * 1000
			if f[figMemory], err = peakMB(bp); err != nil {
				return errors.Join(err, bp.kill())
			}
			b.record(row+how.name, p, 1, f)
		}
		if err := errors.Join(bp.kill(), os.RemoveAll(dir)); err != nil {
			return err
		}
	}
	return nil
}

// firstAccepted tries to produce until the broker takes it, and returns how
// long after its start that was.
func firstAccepted(ctx context.Context, bp *brokerProcess, topic string, t template) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for {
		err := func() error {
			c, err := dialBroker(ctx, bp.addr)
			if err != nil {
				return err
			}
			// No producer id: getting one is another request, which a broker
			// may serve later than the first produce.
			p := &producer{kconn: c, t: t, topic: topic, parts: 1, seqs: []int32{-1}, pid: -1, epoch: -1}
			p.answer.Version = produceVersion
			defer p.Close()
			p.SetDeadline(time.Now().Add(ioTimeout))
			if err := p.send(1); err != nil {
				return err
			}
			return p.receive()
		}()
		if err == nil {
			return time.Since(bp.begun), nil
		}
		if ctx.Err() != nil {
			return 0, fmt.Errorf("nothing is accepted: %w\n--- the end of its log:\n%s", err, bp.Log())
		}
		time.Sleep(time.Millisecond)
	}
}

// restart fills a log, kills the broker and takes the time until it accepts a
// record again.
func restart(size int64) func(context.Context, *brokerBench, string) error {
	return func(ctx context.Context, b *brokerBench, row string) error {
		small, err := newTemplate(shape{1000, 16 << 10, "none"})
		if err != nil {
			return err
		}
		large, err := newTemplate(shape{1000, 1_000_000, "none"})
		if err != nil {
			return err
		}
		for _, p := range b.peers {
			dir := filepath.Join(b.dir, fmt.Sprintf("restart-%s-%d", p.Name(), b.seq()))
			bp, err := b.fresh(ctx, p, dir)
			if err != nil {
				return err
			}
			fail := func(err error) error { return errors.Join(err, bp.kill()) }
			if err := bp.createTopic(ctx, "log", 1); err != nil {
				return fail(err)
			}
			if _, err := produceAll(ctx, bp.addr, "log", 1, 1, large, b.scaled(size)); err != nil {
				return fail(err)
			}
			if strings.HasPrefix(row, "broker-target") {
				if err := b.logSize(ctx, p, bp, small); err != nil {
					return fail(err)
				}
			}
			for round := 1; round <= b.rounds; round++ {
				before, err := bp.count(ctx, "log", 1)
				if err != nil {
					return fail(err)
				}
				if err := bp.kill(); err != nil {
					return err
				}
				if bp, err = p.Start(ctx, dir); err != nil {
					return err
				}
				took, err := firstAccepted(ctx, bp, "log", small)
				if err != nil {
					return fail(err)
				}
				after, err := bp.count(ctx, "log", 1)
				if err != nil {
					return fail(err)
				}
				if after != before+int64(small.records) {
					return fail(fmt.Errorf("%d records were acknowledged before the kill, %d are there after one batch of %d more", before, after, small.records))
				}
				f := map[string]float64{figAccepted: took.Seconds() * 1000}
				if f[figMemory], err = peakMB(bp); err != nil {
					return fail(err)
				}
				b.record(row, p, round, f)
				// Something new to recover, too.
				if _, err := produceAll(ctx, bp.addr, "log", 1, 1, small, b.scaled(100*mb)); err != nil {
					return fail(err)
				}
			}
			if err := errors.Join(bp.kill(), os.RemoveAll(dir)); err != nil {
				return err
			}
		}
		return nil
	}
}
