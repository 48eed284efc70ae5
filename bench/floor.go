package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/twmb/franz-go/pkg/kgo"
)

// floor is what the same input costs without an agent: reading a file and
// splitting it at newlines; for the Kafka sink's flow, producing the lines with
// the client library alone, flushed every 1,000 records as the sink's batches
// are; for the Kafka source's, reading them with it.
func (b *bench) floor(ctx context.Context, w workload, c corpus, round int) (run, error) {
	r := run{Workload: w.Name, Agent: "floor", Round: round, Events: c.Lines, Kept: c.Lines}
	name := fmt.Sprintf("%s-floor-%d", w.Name, b.seq())
	var cl *kgo.Client
	if w.kafka {
		var err error
		if cl, err = kgo.NewClient(kgo.SeedBrokers(b.broker), kgo.DefaultProduceTopic(name), kgo.AllowAutoTopicCreation(),
			kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite(), kgo.ProducerBatchCompression(kgo.NoCompression())); err != nil {
			return r, fmt.Errorf("floor: %w", err)
		}
		defer cl.Close()
		if err := cl.ProduceSync(ctx, kgo.StringRecord("first")).FirstErr(); err != nil { // makes the topic
			return r, fmt.Errorf("floor: %w", err)
		}
	}
	begin := now()
	var lines int64
	var err error
	var end measured
	switch {
	case w.source:
		lines, begin, end, err = b.consumeFloor(ctx, name, c)
	case w.kafka:
		lines, err = produceLines(ctx, cl, c.Path)
		end = now()
	default:
		lines, err = splitLines(c.Path, func([]byte) error { return nil })
		end = now()
	}
	if err != nil {
		return r, fmt.Errorf("floor: %w", err)
	}
	if lines != c.Lines {
		return r, fmt.Errorf("floor: split %d lines, the file has %d", lines, c.Lines)
	}
	r.Wall, r.CPU = end.wall.Sub(begin.wall).Seconds(), (end.cpu - begin.cpu).Seconds()
	return r, nil
}

func splitLines(path string, each func(line []byte) error) (n int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buf := make([]byte, 256<<10)
	have := 0
	for {
		got, err := f.Read(buf[have:])
		if errors.Is(err, io.EOF) {
			if have > 0 {
				return n, fmt.Errorf("%s: last line has no newline", path)
			}
			return n, nil
		}
		if err != nil {
			return n, err
		}
		rest := buf[:have+got]
		for {
			i := bytes.IndexByte(rest, '\n')
			if i < 0 {
				break
			}
			if err := each(rest[:i]); err != nil {
				return n, err
			}
			n++
			rest = rest[i+1:]
		}
		have = copy(buf, rest)
	}
}

func produceLines(ctx context.Context, cl *kgo.Client, path string) (int64, error) {
	const batch = 1000
	var failed error
	pending := 0
	n, err := splitLines(path, func(line []byte) error {
		cl.Produce(ctx, &kgo.Record{Value: bytes.Clone(line)}, func(_ *kgo.Record, err error) {
			if err != nil && failed == nil {
				failed = err // callbacks run one at a time, and Flush orders them before its return
			}
		})
		if pending++; pending == batch {
			pending = 0
			return errors.Join(cl.Flush(ctx), failed)
		}
		return nil
	})
	if err != nil {
		return n, err
	}
	return n, errors.Join(cl.Flush(ctx), failed)
}
