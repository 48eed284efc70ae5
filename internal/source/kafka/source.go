package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/javaregex"
	"github.com/sluice-data/sluice/internal/kafkaclient"
	"github.com/sluice-data/sluice/internal/kafkaconf"
)

type source struct {
	config
	pattern     *javaregex.Regexp // nil: config.topics
	opts        []kgo.Opt
	log         *slog.Logger
	cond        *kafkaconf.Conditions
	mapped      []mapping
	getTimer    *atomic.Int64 // ms
	commitTimer *atomic.Int64 // ms
	empty       *atomic.Int64
	readFail    *atomic.Int64

	// Of the goroutine in Run.
	recs    []*kgo.Record // read, and not yet in the channels
	again   time.Time     // when to repeat a commit that failed
	sub     *kafkaclient.Subscription
	failing map[partition]*failure // what cannot be read
	names   kafkaclient.Names      // of headers
	headers []event.KV
	digits  [64]byte
	topic   string // of the last record
	topicB  []byte
	got     time.Duration

	// Of Run's goroutine and of those in which the client calls back.
	offsets offsets
	commits atomic.Int64 // time.Duration
}

// partition is one of a topic; -1 for the topic as a whole.
type partition struct {
	topic string
	id    int32
}

// failure is why a partition cannot be read.
type failure struct{ first, last time.Time }

func (p partition) String() string { return fmt.Sprintf("%s-%d", p.topic, p.id) }

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
	// pause is taken after a poll that brought nothing but errors, and before
	// a commit that failed is repeated.
	pause = time.Second
	// patience is how long a partition may have no leader, say, before it is
	// worth a word.
	patience = 3 * time.Second
	// The time for committing offsets.
	commitTime = 30 * time.Second
)

// Run implements component.Source.
func (s *source) Run(ctx context.Context, out component.Output) error {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var adm *kadm.Client
	// The client has no topics before it has this.
	cl, err := kgo.NewClient(append(slices.Clip(s.opts), kgo.WithContext(life),
		kgo.AdjustFetchOffsetsFn(func(ctx context.Context, at map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
			return s.pin(ctx, adm, at)
		}))...)
	if err != nil {
		return fmt.Errorf("make the Kafka client: %w", err)
	}
	adm = kadm.NewClient(cl)
	s.offsets, s.failing = offsets{}, map[partition]*failure{}
	s.got, s.again = 0, time.Time{}
	s.commits.Store(0)
	defer func() {
		clear(s.recs)
		s.recs = s.recs[:0]
		kafkaclient.Leave(cl, s.consumer.Group, s.log, end)
	}()

	s.sub = kafkaclient.Subscribe(kafkaclient.Topics{
		Names: s.topics, Key: "kafka.topics", Pattern: s.pattern, Internal: !s.consumer.ExcludeInternal, Every: s.consumer.MetadataAge(), Log: s.log, Cond: s.cond,
	})
	var watching sync.WaitGroup
	watch, stop := context.WithCancel(life)
	if s.pattern == nil {
		cl.AddConsumeTopics(s.topics...)
	}
	next := s.sub.Look(ctx, adm)
	watching.Go(func() { s.sub.Watch(watch, adm, next) })
	defer func() { stop(); watching.Wait() }()

	for {
		clear(s.recs)
		s.recs = s.recs[:0]
		s.sub.Apply(cl, s.offsets.dropTopics)
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
			s.offsets.add(s.recs)
		}
		if len(s.recs) > 0 || time.Now().After(s.again) {
			s.commit(ctx, cl, nil)
			s.again = time.Now().Add(pause)
		}
		cl.AllowRebalance()
	}
}

// collect reads a batch into s.recs, which may stay empty.
func (s *source) collect(ctx context.Context, cl *kgo.Client) error {
	begin := time.Now()
	// Bounded, as there is other work: empty polls are counted as in Flume,
	// commits repeated, new topics subscribed to.
	if err := s.poll(ctx, cl, min(max(s.duration, 100*time.Millisecond), pause)); err != nil {
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
	failed, closed := false, false
	fs.EachError(func(topic string, id int32, err error) {
		switch {
		case errors.Is(err, kgo.ErrClientClosed):
			closed = true
		case pctx.Err() != nil && errors.Is(err, pctx.Err()):
		default:
			failed = s.fail(partition{topic, id}, err, time.Now()) || failed
		}
	})
	fs.EachRecord(func(r *kgo.Record) { s.recs = append(s.recs, r) })
	if closed {
		return errors.New("read from Kafka: the client was closed")
	}
	if len(s.failing) > 0 {
		s.recovered(s.recs[before:])
	}
	if failed && len(s.recs) == before {
		kafkaclient.Sleep(ctx, pause)
	}
	return nil
}

// fail notes why a partition, or (without a topic) the group, does not work. It
// answers false for what the client may yet get over by itself: a leader that
// moves, a topic that not every broker knows.
func (s *source) fail(p partition, err error, now time.Time) bool {
	name := "group"
	if p.topic != "" {
		name = "partition " + p.String()
		f := s.failing[p]
		if f == nil {
			f = &failure{first: now}
			s.failing[p] = f
		}
		f.last = now
		if kerr.IsRetriable(err) && now.Sub(f.first) < patience {
			return false
		}
	}
	if errors.Is(err, kerr.UnknownTopicID) || errors.Is(err, kerr.UnknownTopicOrPartition) {
		s.sub.Doubt(p.topic)
	}
	err = kafkaclient.ExplainFetch(p.topic, p.id, err)
	if s.cond.Set(name, err) {
		s.log.Error("reading from Kafka failed, trying on", "error", err)
	}
	return true
}

// recovered looks which of the failing partitions can be read again: a record
// came, or no error for a while.
func (s *source) recovered(recs []*kgo.Record) {
	for _, r := range recs {
		for _, p := range []partition{{r.Topic, r.Partition}, {r.Topic, -1}} {
			if _, ok := s.failing[p]; ok {
				s.works(p)
			}
		}
	}
	for p, f := range s.failing {
		if time.Since(f.last) > s.consumer.FetchWait()+30*time.Second {
			s.works(p)
		}
	}
}

func (s *source) works(p partition) {
	delete(s.failing, p)
	if s.cond.Set("partition "+p.String(), nil) {
		s.log.Info("reading from Kafka works again", "topic", p.topic, "partition", p.id)
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
		kafkaclient.Sleep(ctx, wait)
		if ctx.Err() != nil {
			return false
		}
		wait = min(2*wait, max(s.maxBackoff, s.backoff))
	}
}

// assigned is called after every rebalance.
func (s *source) assigned(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	s.cond.Set("group", nil)
	if len(parts) > 0 {
		s.log.Info("partitions assigned", "group", s.consumer.Group, "partitions", fmt.Sprint(parts))
	}
}

// revoked is called before partitions become another member's. No batch is on
// its way then: what the channels have is committed, and the rest is the next
// member's to read.
func (s *source) revoked(ctx context.Context, cl *kgo.Client, parts map[string][]int32) {
	if len(parts) == 0 {
		return
	}
	s.log.Info("partitions revoked", "group", s.consumer.Group, "partitions", fmt.Sprint(parts))
	s.commit(ctx, cl, parts)
	s.gone(parts)
}

// lost is called when the group has given this member up: it was silent for
// too long. Others read its partitions from where they were committed.
func (s *source) lost(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	if len(parts) == 0 {
		return
	}
	s.log.Warn("partitions lost: the group heard nothing from this member for longer than kafka.consumer.session.timeout.ms, or a rebalance waited longer than max.poll.interval.ms; what was not committed is read again",
		"group", s.consumer.Group, "partitions", fmt.Sprint(parts))
	s.gone(parts)
}

// gone forgets partitions that are not ours any more.
func (s *source) gone(parts map[string][]int32) {
	s.offsets.drop(parts)
	for topic, ps := range parts {
		for _, p := range ps {
			s.cond.Set("partition "+partition{topic, p}.String(), nil)
		}
	}
}
