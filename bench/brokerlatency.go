package main

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"
)

// latency sends single records at a fixed rate, first alone and then with a
// consumer at the tail.
func latency(ctx context.Context, b *brokerBench, row string) error {
	const rate = 1000
	d := 5 * time.Second
	if b.smoke {
		d = 500 * time.Millisecond
	}
	t, err := newTemplate(shape{1000, 0, "none"})
	if err != nil {
		return err
	}
	return b.turns(ctx, false, func(p peer, round int) error {
		bp, err := b.running(ctx, p)
		if err != nil {
			return err
		}
		topic, err := b.newTopic(ctx, bp, 1)
		if err != nil {
			return err
		}
		pr, err := newProducer(ctx, bp.addr, topic, 1, t)
		if err != nil {
			return err
		}
		defer pr.Close()
		if _, err := pr.paced(ctx, rate, d/5, nil); err != nil { // settles
			return err
		}
		var acked, arrived []time.Duration
		if _, err := b.measured(bp, func() (err error) {
			acked, err = pr.paced(ctx, rate, d, nil)
			return err
		}); err != nil {
			return err
		}
		c, err := newConsumer(ctx, bp.addr, topic, 0, pr.acked)
		if err != nil {
			return err
		}
		defer c.Close()
		// The record's value ends one byte (its header count) before the batch
		// does; its last bytes are the time at which it was sent.
		origin := time.Now()
		at := len(t.batch) - 9
		c.seen = func(batch []byte, now time.Time) {
			sent := time.Duration(binary.BigEndian.Uint64(batch[at:]))
			arrived = append(arrived, now.Sub(origin)-sent)
		}
		end := pr.acked + int64(d.Seconds()*rate)
		done := make(chan error, 1)
		go func() { done <- c.until(ctx, end) }()
		_, err = pr.paced(ctx, rate, d, func(batch []byte, now time.Time) {
			binary.BigEndian.PutUint64(batch[at:], uint64(now.Sub(origin)))
		})
		if err != nil {
			c.Close()
			return errors.Join(err, <-done)
		}
		if err := <-done; err != nil {
			return err
		}
		slices.Sort(acked)
		slices.Sort(arrived)
		b.record(row, p, round, map[string]float64{
			figP50: quantile(acked, 0.5), figP99: quantile(acked, 0.99), figP999: quantile(acked, 0.999),
			figEnd50: quantile(arrived, 0.5), figEnd99: quantile(arrived, 0.99), figEnd999: quantile(arrived, 0.999),
		})
		return bp.deleteTopic(ctx, topic)
	})
}
