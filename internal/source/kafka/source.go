package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/kafkaclient"
	"github.com/sluice-data/sluice/internal/kafkaconf"
)

type source struct {
	config
	opts        []kgo.Opt
	log         *slog.Logger
	cond        *kafkaconf.Conditions
	mapped      []mapping
	getTimer    *atomic.Int64 // ms
	commitTimer *atomic.Int64 // ms
	empty       *atomic.Int64
	readFail    *atomic.Int64

	// Of the goroutine in Run.
	recs    []*kgo.Record // read and not yet committed
	offsets map[string]map[int32]kgo.EpochOffset
	names   kafkaclient.Names // of headers
	headers []event.KV
	digits  [64]byte
	topic   string // of the last record
	topicB  []byte
	got     time.Duration
	commits time.Duration
}

// BatchSize implements component.Sizer.
func (s *source) BatchSize() int { return s.batchSize }

// Retry implements component.Retrier.
func (s *source) Retry() component.RetryPolicy {
	return component.RetryPolicy{Initial: s.backoff, Max: max(s.maxBackoff, s.backoff)}
}

// Start implements component.Component. Run makes the client: it joins the
// group, so it must not be there before somebody reads.
func (s *source) Start(context.Context) error { return nil }

// Stop implements component.Component. Run has closed everything.
func (s *source) Stop(context.Context) error { return nil }

const (
	// quiet is how long a batch that is not full waits for the next record.
	quiet = 10 * time.Millisecond
	// maxBytes ends a batch of large records before it is full.
	maxBytes = 16 << 20
	// pause is taken after a poll that brought nothing but errors.
	pause = time.Second
	// The time for committing offsets.
	commitTime = 30 * time.Second
)

// Run implements component.Source.
func (s *source) Run(ctx context.Context, out component.Output) error {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	cl, err := kgo.NewClient(append(slices.Clip(s.opts), kgo.WithContext(life))...)
	if err != nil {
		return fmt.Errorf("make the Kafka client: %w", err)
	}
	defer func() {
		clear(s.recs)
		s.recs = s.recs[:0]
		kafkaclient.Leave(cl, s.consumer.Group, s.log, end)
	}()
	s.offsets = make(map[string]map[int32]kgo.EpochOffset)
	s.got, s.commits = 0, 0
	for {
		clear(s.recs)
		s.recs = s.recs[:0]
		if err := s.collect(ctx, cl); err != nil {
			return err
		}
		if ctx.Err() != nil { // what was read is not committed, and so read again
			return nil
		}
		if len(s.recs) > 0 {
			if !s.emit(ctx, out) {
				return nil
			}
			s.commit(ctx, cl)
		}
		cl.AllowRebalance()
	}
}

// collect reads a batch into s.recs, which may stay empty.
func (s *source) collect(ctx context.Context, cl *kgo.Client) error {
	begin := time.Now()
	// Bounded, to count empty polls as Flume does.
	if err := s.poll(ctx, cl, max(s.duration, 100*time.Millisecond)); err != nil {
		return err
	}
	if len(s.recs) == 0 {
		if ctx.Err() == nil {
			s.empty.Add(1)
		}
		return nil
	}
	bytes, counted := 0, 0
	for len(s.recs) < s.batchSize && ctx.Err() == nil {
		for ; counted < len(s.recs); counted++ {
			bytes += len(s.recs[counted].Value)
		}
		wait := min(quiet, s.duration-time.Since(begin))
		if bytes >= maxBytes || wait <= 0 {
			break
		}
		if err := s.poll(ctx, cl, wait); err != nil {
			return err
		}
		if len(s.recs) == counted {
			break
		}
	}
	s.got += time.Since(begin)
	s.getTimer.Store(s.got.Milliseconds())
	return nil
}

// poll adds the records that are there, or that come within wait.
func (s *source) poll(ctx context.Context, cl *kgo.Client, wait time.Duration) error {
	before := len(s.recs)
	limit := min(s.batchSize-before, s.consumer.MaxPoll)
	pctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	fs := cl.PollRecords(pctx, limit)
	var failed error
	closed := false
	fs.EachError(func(topic string, partition int32, err error) {
		switch {
		case errors.Is(err, kgo.ErrClientClosed):
			closed = true
		case pctx.Err() != nil && errors.Is(err, pctx.Err()):
		default:
			failed = kafkaclient.ExplainFetch(topic, partition, err)
		}
	})
	fs.EachRecord(func(r *kgo.Record) { s.recs = append(s.recs, r) })
	switch {
	case closed:
		return errors.New("read from Kafka: the client was closed")
	case failed != nil:
		if s.cond.Set("fetch", failed) {
			s.log.Error("reading from Kafka failed, trying on", "error", failed)
		}
		if len(s.recs) == before {
			sleep(ctx, pause)
		}
	case len(s.recs) > before:
		if s.cond.Set("fetch", nil) {
			s.log.Info("reading from Kafka works again")
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// emit puts the batch into the channels, again and again until they took it.
// It answers false when ctx ended first.
func (s *source) emit(ctx context.Context, out component.Output) bool {
	wait := s.backoff
	for retry := false; ; retry = true {
		b := out.NewBatch()
		b.Grow(len(s.recs))
		s.fill(b, retry)
		if b.Len() == 0 { // nothing but records that are no events
			b.Release()
			return true
		}
		err := out.Emit(ctx, b)
		if err == nil {
			if s.cond.Set("channel", nil) {
				s.log.Info("the channels take events again")
			}
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if s.cond.Set("channel", err) {
			s.log.Error("the channels do not take a batch, which is kept and offered again", "events", len(s.recs), "error", err)
		}
		sleep(ctx, wait)
		if ctx.Err() != nil {
			return false
		}
		wait = min(2*wait, max(s.maxBackoff, s.backoff))
	}
}

// commit commits the offsets of the batch. When that fails the events may
// come again after a restart; the next commit makes up for it.
func (s *source) commit(ctx context.Context, cl *kgo.Client) {
	for _, parts := range s.offsets {
		clear(parts)
	}
	for _, r := range s.recs {
		parts := s.offsets[r.Topic]
		if parts == nil {
			parts = make(map[int32]kgo.EpochOffset)
			s.offsets[r.Topic] = parts
		}
		parts[r.Partition] = kgo.EpochOffset{Epoch: r.LeaderEpoch, Offset: r.Offset + 1}
	}
	for t, parts := range s.offsets {
		if len(parts) == 0 {
			delete(s.offsets, t) // a topic that is no longer read
		}
	}
	begin := time.Now()
	// The channels have the events: that the source is to stop is no reason
	// to read them again, if the broker answers soon.
	cctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTime)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		sleep(cctx, kafkaclient.LeaveTime)
		cancel()
	})()
	var failed error
	cl.CommitOffsetsSync(cctx, s.offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		failed = kafkaclient.CommitError(resp, err)
	})
	s.commits += time.Since(begin)
	s.commitTimer.Store(s.commits.Milliseconds())
	if failed != nil {
		failed = fmt.Errorf("commit offsets of consumer group %s: %w: these events may be read again", s.consumer.Group, failed)
		if s.cond.Set("commit", failed) {
			s.log.Warn(failed.Error())
		}
		return
	}
	s.cond.Set("commit", nil)
}

func (s *source) assigned(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	if len(parts) > 0 {
		s.log.Info("partitions assigned", "group", s.consumer.Group, "partitions", fmt.Sprint(parts))
	}
}

func (s *source) revoked(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	if len(parts) > 0 {
		s.log.Info("partitions revoked", "group", s.consumer.Group, "partitions", fmt.Sprint(parts))
	}
}
