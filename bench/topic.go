package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// fillTopic makes a topic that holds the corpus in a transaction. A consumer
// that reads only what is committed waits in front of it until commit is
// called: so a Kafka source begins when the agent is up, with all of its input
// there, as the other sources do.
func (b *bench) fillTopic(ctx context.Context, topic string, c corpus) (commit func(context.Context) error, err error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.broker), kgo.DefaultProduceTopic(topic), kgo.TransactionalID(topic), kgo.TransactionTimeout(15*time.Minute),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return nil, fmt.Errorf("connect to Kafka: %w", err)
	}
	defer func() {
		if err != nil {
			cl.Close()
		}
	}()
	if r, err := kadm.NewClient(cl).CreateTopic(ctx, 1, 1, nil, topic); err != nil || r.Err != nil {
		return nil, fmt.Errorf("create topic %s: %w", topic, errors.Join(err, r.Err))
	}
	if err := cl.BeginTransaction(); err != nil {
		return nil, fmt.Errorf("fill topic %s: %w", topic, err)
	}
	var lines int64
	for range max(c.Times, 1) { // the floor reads it once
		n, err := produceLines(ctx, cl, c.Path)
		if err != nil {
			return nil, fmt.Errorf("fill topic %s: %w", topic, err)
		}
		lines += n
	}
	if lines != c.Lines {
		return nil, fmt.Errorf("fill topic %s: %d records, the corpus has %d lines", topic, lines, c.Lines)
	}
	return func(ctx context.Context) error {
		defer cl.Close()
		if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
			return fmt.Errorf("commit the records of topic %s: %w", topic, err)
		}
		return nil
	}, nil
}

// topicInput is the corpus in a topic, for a group of the topic's name.
func (b *bench) topicInput(ctx context.Context, topic string, c corpus) (input, error) {
	commit, err := b.fillTopic(ctx, topic, c)
	if err != nil {
		return input{}, err
	}
	return input{
		place:   place{Broker: b.broker, Topic: topic},
		release: func() error { return commit(ctx) },
		check: func(ctx context.Context) error {
			cl, err := kgo.NewClient(kgo.SeedBrokers(b.broker))
			if err != nil {
				return fmt.Errorf("connect to Kafka: %w", err)
			}
			defer cl.Close()
			adm := kadm.NewClient(cl)
			// The commit of the last batch may be on its way.
			for {
				os, err := adm.FetchOffsets(ctx, topic)
				if err != nil {
					return fmt.Errorf("read the offset of group %s: %w", topic, err)
				}
				at := int64(-1)
				if o, ok := os.Lookup(topic, 0); ok && o.Err == nil {
					at = o.At
				}
				if at == c.Kept {
					break
				}
				if at > c.Kept+1 { // the transaction's end is a record, too
					return fmt.Errorf("group %s is at offset %d of a topic with %d records", topic, at, c.Kept)
				}
				select {
				case <-ctx.Done():
					return fmt.Errorf("group %s is at offset %d, %d records were read: %w", topic, at, c.Kept, context.Cause(ctx))
				case <-time.After(50 * time.Millisecond):
				}
			}
			if _, err := adm.DeleteTopics(ctx, topic); err != nil {
				return fmt.Errorf("delete topic %s: %w", topic, err)
			}
			return nil
		},
	}, nil
}

// consumeFloor reads the corpus from a topic with the client library alone, as
// a member of a group that commits after every 1,000 records.
func (b *bench) consumeFloor(ctx context.Context, topic string, c corpus) (lines int64, begin, end measured, err error) {
	commit, err := b.fillTopic(ctx, topic, c)
	if err == nil {
		err = commit(ctx)
	}
	if err != nil {
		return 0, begin, end, err
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.broker), kgo.ConsumeTopics(topic), kgo.ConsumerGroup(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		return 0, begin, end, fmt.Errorf("connect to Kafka: %w", err)
	}
	defer cl.Close()
	for lines < c.Lines {
		fs := cl.PollRecords(ctx, 1000)
		if err := fs.Err(); err != nil {
			return lines, begin, end, err
		}
		if lines == 0 {
			begin = now() // joining the group is outside
		}
		lines += int64(fs.NumRecords())
		if err := cl.CommitUncommittedOffsets(ctx); err != nil {
			return lines, begin, end, err
		}
	}
	return lines, begin, now(), nil
}

// measured is a moment of this process.
type measured struct {
	wall time.Time
	cpu  time.Duration
}

func now() measured { return measured{time.Now(), ownCPU()} }
