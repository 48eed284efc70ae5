package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// throughputRow produces payload bytes to a topic of one partition and reads
// it so many times.
func throughputRow(name, what string, s shape, payload int64, times int) brokerRow {
	return brokerRow{name, what, func(ctx context.Context, b *brokerBench, row string) error {
		t, err := newTemplate(s)
		if err != nil {
			return err
		}
		n := b.scaled(payload)
		batches := (n + t.payload - 1) / t.payload
		sent := float64(batches*t.payload) / mb
		fmt.Printf("  %.0f MB in batches of %d records, %d bytes; read %d times\n", sent, t.records, len(t.batch), times)
		return b.turns(ctx, true, func(p peer, round int) error {
			bp, err := b.running(ctx, p)
			if err != nil {
				return err
			}
			if err := resetPeak(bp.pid); err != nil {
				return err
			}
			var in, out spent
			if p.Name() == "floor" {
				if in, err = b.floorRun(ctx, bp, 1, t, n); err != nil {
					return err
				}
				st, err := os.Stat(filepath.Join(b.dir, "broker-floor", "floor.data"))
				if err != nil {
					return err
				}
				if out, err = b.measured(bp, func() error { return floorConsume(ctx, bp.addr, st.Size(), times) }); err != nil {
					return err
				}
				if err := os.Truncate(filepath.Join(b.dir, "broker-floor", "floor.data"), 0); err != nil {
					return err
				}
			} else if in, out, err = b.topicRun(ctx, bp, t, 1, 1, n, 1, times); err != nil {
				return err
			}
			f := map[string]float64{
				figProduce: sent / in.wall, figProduceCPU: sent / in.cpu,
				figConsume: float64(times) * sent / out.wall, figConsumeCPU: float64(times) * sent / out.cpu,
			}
			if f[figMemory], err = peakMB(bp); err != nil {
				return err
			}
			b.record(row, p, round, f)
			return nil
		})
	}}
}

// floorRun produces to the floor.
func (b *brokerBench) floorRun(ctx context.Context, bp *brokerProcess, parts int, t template, payload int64) (spent, error) {
	p, err := newFloorProducer(ctx, bp.addr, parts, t)
	if err != nil {
		return spent{}, err
	}
	defer p.Close()
	return b.measured(bp, func() error { return p.runFloor(payload) })
}

// topicRun produces to a new topic, counts what is there, reads partition 0 of
// it, and deletes it. times 0: nothing is read.
func (b *brokerBench) topicRun(ctx context.Context, bp *brokerProcess, t template, parts, producers int, payload int64, readers, times int) (in, out spent, err error) {
	topic, err := b.newTopic(ctx, bp, parts)
	if err != nil {
		return in, out, err
	}
	var records int64
	if in, err = b.measured(bp, func() (err error) {
		records, err = produceAll(ctx, bp.addr, topic, parts, producers, t, payload)
		return err
	}); err != nil {
		return in, out, err
	}
	n, err := bp.count(ctx, topic, parts)
	if err == nil && n != records {
		err = fmt.Errorf("topic %s holds %d records, %d were acknowledged", topic, n, records)
	}
	if err != nil {
		return in, out, err
	}
	if times > 0 {
		if out, err = b.measured(bp, func() error {
			_, err := consumeAll(ctx, bp.addr, topic, readers, times, 0, n)
			return err
		}); err != nil {
			return in, out, err
		}
	}
	return in, out, bp.deleteTopic(ctx, topic)
}

// partitions produces the same batches over topics with different numbers of
// partitions; the row's name gets the number.
func partitions(counts ...int) func(context.Context, *brokerBench, string) error {
	return func(ctx context.Context, b *brokerBench, row string) error {
		t, err := newTemplate(shape{1000, 16 << 10, "none"})
		if err != nil {
			return err
		}
		n := b.scaled(gb)
		batches := (n + t.payload - 1) / t.payload
		sent := float64(batches*t.payload) / mb
		return b.turns(ctx, true, func(p peer, round int) error {
			bp, err := b.running(ctx, p)
			if err != nil {
				return err
			}
			for _, parts := range counts {
				if b.smoke {
					parts = min(parts, 50)
				}
				if err := resetPeak(bp.pid); err != nil {
					return err
				}
				var in spent
				if p.Name() == "floor" {
					in, err = b.floorRun(ctx, bp, parts, t, n)
				} else {
					in, _, err = b.topicRun(ctx, bp, t, parts, 1, n, 0, 0)
				}
				if err != nil {
					return err
				}
				f := map[string]float64{figProduce: sent / in.wall, figProduceCPU: sent / in.cpu}
				if f[figMemory], err = peakMB(bp); err != nil {
					return err
				}
				name := row
				if len(counts) > 1 {
					name += "-" + strconv.Itoa(parts)
				}
				b.record(name, p, round, f)
			}
			return nil
		})
	}
}

// consumers reads one log with more and more consumers at a time; all together
// read the same number of bytes.
func consumers(ctx context.Context, b *brokerBench, row string) error {
	t, err := newTemplate(shape{1000, 16 << 10, "none"})
	if err != nil {
		return err
	}
	n := b.scaled(50 * mb)
	return b.turns(ctx, false, func(p peer, round int) error {
		bp, err := b.running(ctx, p)
		if err != nil {
			return err
		}
		topic, err := b.newTopic(ctx, bp, 1)
		if err != nil {
			return err
		}
		records, err := produceAll(ctx, bp.addr, topic, 1, 1, t, n)
		if err != nil {
			return err
		}
		for _, readers := range []int{1, 10, 100} {
			out, err := b.measured(bp, func() error {
				_, err := consumeAll(ctx, bp.addr, topic, readers, 100/readers, 0, records)
				return err
			})
			if err != nil {
				return err
			}
			read := float64(100*records*1000) / mb
			b.record(row+"-"+strconv.Itoa(readers), p, round, map[string]float64{figConsume: read / out.wall, figConsumeCPU: read / out.cpu})
		}
		return bp.deleteTopic(ctx, topic)
	})
}

// logSize compares a new log with the long one of topic log: the same batches
// are produced to the end of each in turn, and what was produced is read. The
// machine's memory is full of the long log's pages for both.
func (b *brokerBench) logSize(ctx context.Context, p peer, bp *brokerProcess, t template) error {
	n := b.scaled(gb / 2)
	batches := (n + t.payload - 1) / t.payload
	sent := float64(batches*t.payload) / mb
	for round := 1; round <= b.rounds; round++ {
		// Half a gigabyte is little: what else the disk does weighs as much as what is looked for.
		runs := 12
		if b.smoke {
			runs = 4
		}
		for i := range runs {
			long := i%4 == 0 || i%4 == 3
			topic, name := "log", sizeRow+"-long"
			if !long {
				topic, name = fmt.Sprintf("short-%d-%d", round, i), sizeRow+"-short"
				if err := bp.createTopic(ctx, topic, 1); err != nil {
					return err
				}
			}
			from, err := bp.count(ctx, topic, 1)
			if err != nil {
				return err
			}
			in, err := b.measured(bp, func() error {
				_, err := produceAll(ctx, bp.addr, topic, 1, 1, t, n)
				return err
			})
			if err != nil {
				return err
			}
			const times = 4
			out, err := b.measured(bp, func() error {
				_, err := consumeAll(ctx, bp.addr, topic, 1, times, from, from+batches*int64(t.records))
				return err
			})
			if err != nil {
				return err
			}
			b.record(name, p, round, map[string]float64{
				figProduce: sent / in.wall, figProduceCPU: sent / in.cpu,
				figConsume: times * sent / out.wall, figConsumeCPU: times * sent / out.cpu,
			})
			if !long {
				if err := bp.deleteTopic(ctx, topic); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// producerPerf has Apache Kafka's own producer send, to show that the load
// generator's requests are like real ones.
func producerPerf(ctx context.Context, b *brokerBench, row string) error {
	if b.tools == "" {
		fmt.Println("  not run: it needs Apache Kafka's tools")
		return nil
	}
	n := b.scaled(1_000_000)
	rate := regexp.MustCompile(`(\d+) records sent, .*\(([0-9.]+) MB/sec\)`)
	return b.turns(ctx, false, func(p peer, round int) error {
		bp, err := b.running(ctx, p)
		if err != nil {
			return err
		}
		topic, err := b.newTopic(ctx, bp, 1)
		if err != nil {
			return err
		}
		var out []byte
		in, err := b.measured(bp, func() (err error) {
			out, err = exec.CommandContext(ctx, b.tools, "producer-perf", "--topic", topic, "--num-records", strconv.FormatInt(n, 10),
				"--record-size", "1000", "--throughput", "-1", "--producer-props", "acks=all", "bootstrap.servers="+bp.addr).CombinedOutput()
			return err
		})
		if err != nil {
			return fmt.Errorf("producer-perf: %w\n%s", err, out)
		}
		all := rate.FindAllSubmatch(out, -1)
		if len(all) == 0 {
			return fmt.Errorf("producer-perf: no result in %q", out)
		}
		mib, err := strconv.ParseFloat(string(all[len(all)-1][2]), 64)
		if err != nil {
			return fmt.Errorf("producer-perf: %w", err)
		}
		if got, err := bp.count(ctx, topic, 1); err != nil || got != n {
			return errors.Join(err, fmt.Errorf("topic %s holds %d records, %d were sent", topic, got, n))
		}
		b.record(row, p, round, map[string]float64{figProduce: mib * (1 << 20) / mb, figProduceCPU: float64(n) * 1000 / mb / in.cpu})
		return bp.deleteTopic(ctx, topic)
	})
}
