// Package kafkaclient is what the Kafka source, sink and channel have in common beyond their properties (kafkaconf): how a
// batch of events is sent, and what is said about a consumer.
package kafkaclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/kafkaconf"
)

// NoPartition in a record leaves the choice to the partitioner.
const NoPartition = -1

// Encoder makes records of events.
type Encoder interface {
	// Encode fills in r, which has the time of sending and no partition. It may
	// view e until the next Forget. prev is the record before it in this
	// batch, made from prevEvent; both may be nil. An error fails that event alone.
	Encode(r *kgo.Record, e *event.Event, prev *kgo.Record, prevEvent *event.Event) error
	// Reset is called before the first record of each try: memory that
	// earlier records view may be used again.
	Reset()
	// Forget is called when a batch is done: no event is viewed any more.
	Forget()
}

// SenderConfig is how a sender is made.
type SenderConfig struct {
	Producer *kafkaconf.Producer
	Options  []kgo.Opt // Producer's, and hooks
	Batch    int       // the most events of one Send, as far as is known
	Encoder  Encoder
	Log      *slog.Logger
	Acked    func(*kgo.Record) // called for each record that was stored, one at a time; may be nil
}

// Sender sends batches of events, each record until it is acknowledged or has
// failed. It is used by one goroutine at a time; within a Send the client's
// goroutine calls promised, and nobody else does.
type Sender struct {
	cfg  SenderConfig
	opts []kgo.Opt

	cl    *kgo.Client // nil before the first Send, and after one that had to leave it
	turn  atomic.Uint64
	small int // bytes of values in a batch that brokers take; 0: any number

	recs    []kgo.Record // of a batch, and used again by the next
	promise func(*kgo.Record, error)
	done    chan struct{} // of the round at hand
	expect  int           // promises that the round waits for
	fired   int
	index   []int         // record → event; nil: the same
	failed  map[int]error // by event
	unknown []string      // topics that brokers did not know
}

// NewSender returns a sender, which connects when it is first used.
func NewSender(cfg SenderConfig) (*Sender, error) {
	s := &Sender{cfg: cfg}
	s.opts = append(slices.Clip(cfg.Options),
		kgo.RecordPartitioner(&partitioner{kind: cfg.Producer.Partitioner, sender: s}),
		// Room for a batch, so that the client never waits within one but for bytes.
		kgo.MaxBufferedRecords(max(10000, cfg.Batch+1)),
		// Nothing is sent before round flushes, so that the records of one
		// partition make one batch.
		kgo.ProducerLinger(time.Minute),
	)
	if err := kgo.ValidateOpts(s.opts...); err != nil {
		return nil, fmt.Errorf("configure the Kafka client: %w", err)
	}
	s.promise = s.promised
	return s, nil
}

// Connect makes the client. It dials when it is first used.
func (s *Sender) Connect() error {
	if s.cl != nil {
		return nil
	}
	cl, err := kgo.NewClient(s.opts...)
	if err != nil {
		return fmt.Errorf("make the Kafka client: %w", err)
	}
	s.cl = cl
	return nil
}

// Close closes the client. Another Send makes a new one.
func (s *Sender) Close() {
	if s.cl != nil {
		s.cl.Close()
		s.cl = nil
	}
}

// Send sends all events and returns when each of them is acknowledged or has
// failed: failed has the errors by index. Nothing of them is held after that.
// With transactions err says that none of them is stored.
func (s *Sender) Send(ctx context.Context, evs []event.Event) (failed map[int]error, err error) {
	if err := s.Connect(); err != nil {
		return nil, err
	}
	s.turn.Add(1)
	s.failed = nil
	if s.cfg.Producer.TransactionalID != "" {
		err = s.transact(ctx, evs)
	} else {
		s.deliver(ctx, evs, nil)
	}
	clear(s.recs)
	s.cfg.Encoder.Forget()
	if len(s.unknown) > 0 {
		// Otherwise the client would look for a topic that was deleted and
		// made again by its old id, for ever.
		if s.cl != nil {
			s.cl.PurgeTopicsFromProducing(s.unknown...)
		}
		s.unknown = s.unknown[:0]
	}
	return s.failed, err
}

// First is the error of the first event that failed.
func First(failed map[int]error) error { return failed[slices.Min(slices.Collect(maps.Keys(failed)))] }

// deliver sends the events named by index (all: nil).
func (s *Sender) deliver(ctx context.Context, evs []event.Event, index []int) {
	if s.small == 0 {
		s.attempt(ctx, evs, index)
		return
	}
	n := count(evs, index)
	var part []int
	bytes := 0
	for r := range n {
		i := at(index, r)
		if size := len(evs[i].Body); len(part) > 0 && bytes+size > s.small {
			s.attempt(ctx, evs, part)
			part, bytes = part[:0], 0
		}
		part = append(part, i)
		bytes += len(evs[i].Body)
	}
	s.attempt(ctx, evs, part)
}

// minSmall is the least that batches are cut down to when a broker finds them
// too large: Kafka's own batch.size.
const minSmall = 16 << 10

// attempt sends events. A batch that a broker found too large is sent again in
// halves, until it is a single record, and the batches to come are made
// smaller: Java clients split such batches as well.
func (s *Sender) attempt(ctx context.Context, evs []event.Event, index []int) {
	s.round(ctx, evs, index)
	var again []int
	bytes := 0
	for i, err := range s.failed {
		if errors.Is(err, kerr.MessageTooLarge) && !component.IsPermanent(err) {
			again = append(again, i)
			bytes += len(evs[i].Body)
		}
	}
	if len(again) == 0 {
		return
	}
	n := count(evs, index)
	if n == 1 {
		i := again[0]
		s.failed[i] = component.Permanent(fmt.Errorf("a record with a value of %d bytes is too large: more than kafka.producer.max.request.size, or than the topic's max.message.bytes: %w", len(evs[i].Body), kerr.MessageTooLarge))
		return
	}
	slices.Sort(again)
	for _, i := range again {
		delete(s.failed, i)
	}
	// One record of many may be too large for us alone, which says nothing
	// about batches.
	if small := max(bytes/2, minSmall); len(again) > 1 && (s.small == 0 || small < s.small) {
		s.small = small
		s.cfg.Log.Warn("the broker finds batches too large, so they are made smaller: lower kafka.producer.max.request.size, or raise the topic's max.message.bytes", "bytes", s.small)
	}
	for len(again) > 0 {
		// Not all of a batch may have failed, so halve what it was.
		k := min((n+1)/2, len(again))
		s.attempt(ctx, evs, again[:k])
		again = again[k:]
	}
}

func count(evs []event.Event, index []int) int {
	if index == nil {
		return len(evs)
	}
	return len(index)
}

// round sends records once and waits for the outcome of each.
func (s *Sender) round(ctx context.Context, evs []event.Event, index []int) {
	n := count(evs, index)
	if err := ctx.Err(); err != nil || s.cl == nil {
		for r := range n {
			s.fail(at(index, r), cancelled(ctx))
		}
		return
	}
	if cap(s.recs) < n {
		s.recs = make([]kgo.Record, n)
	}
	s.recs = s.recs[:n]
	s.cfg.Encoder.Reset()
	s.index = index
	now := time.Now()

	// The slab is filled before the first record is sent: from then on
	// s.failed belongs to the client's goroutine.
	var prev *kgo.Record
	var prevEvent *event.Event
	m := 0
	var skipped []int
	for r := range n {
		i := at(index, r)
		rec := &s.recs[r]
		*rec = kgo.Record{Timestamp: now, Partition: NoPartition}
		if err := s.cfg.Encoder.Encode(rec, &evs[i], prev, prevEvent); err != nil {
			s.fail(i, err)
			skipped = append(skipped, r)
			continue
		}
		prev, prevEvent = rec, &evs[i]
		m++
	}
	if m == 0 {
		return
	}
	s.fired, s.expect, s.done = 0, m, make(chan struct{})
	// Bounds the wait for acknowledgements, and that of Produce for room.
	timed, cancel := context.WithTimeout(ctx, s.cfg.Producer.DeliveryTimeout)
	defer cancel()
	for r := range s.recs {
		if len(skipped) > 0 && skipped[0] == r {
			skipped = skipped[1:]
			continue
		}
		s.cl.Produce(timed, &s.recs[r], s.promise)
	}
	if err := s.cl.Flush(timed); err != nil {
		s.leave()
	}
	<-s.done
	if timed.Err() != nil && ctx.Err() == nil {
		for i, err := range s.failed {
			if stopped(err) {
				s.failed[i] = fmt.Errorf("no acknowledgement within kafka.producer.delivery.timeout.ms (%v): %w", s.cfg.Producer.DeliveryTimeout, err)
			}
		}
	}
}

// stopped says that a record failed because nobody waited any longer.
func stopped(err error) bool {
	for _, target := range []error{kgo.ErrAborting, kgo.ErrClientClosed, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

func at(index []int, r int) int {
	if index == nil {
		return r
	}
	return index[r]
}

// promised gets the outcome of one record. The client calls it for one record
// at a time, and round waits for the last, so nothing here needs a lock.
func (s *Sender) promised(r *kgo.Record, err error) {
	if err != nil {
		i := int((uintptr(unsafe.Pointer(r)) - uintptr(unsafe.Pointer(&s.recs[0]))) / unsafe.Sizeof(kgo.Record{}))
		if unknownTopic(err) && !slices.Contains(s.unknown, r.Topic) {
			s.unknown = append(s.unknown, r.Topic)
		}
		s.fail(at(s.index, i), explain(r, err))
	} else if s.cfg.Acked != nil {
		s.cfg.Acked(r)
	}
	if s.fired++; s.fired == s.expect {
		close(s.done)
	}
}

func (s *Sender) fail(event int, err error) {
	if s.failed == nil {
		s.failed = make(map[int]error)
	}
	s.failed[event] = err
}

// leave gives the records up that are still with the client, when nobody
// waits for them any more. Some of them may have been stored all the same.
// The client is left, too, as its state is no longer known: the next Send
// makes a new one.
func (s *Sender) leave() {
	cl := s.cl
	s.cl = nil
	cl.UnsafeAbortBufferedRecords()
	// Close fails what a concurrent look-up of a topic hid from the line above.
	cl.Close()
}

func cancelled(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return errors.New("the Kafka client was closed")
}

func unknownTopic(err error) bool {
	return errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID)
}

// explain says what an operator can do about a record's error, and marks
// those that will not change.
func explain(r *kgo.Record, err error) error {
	topic := r.Topic
	switch {
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge):
		return fmt.Errorf("topic %s: %w", topic, kerr.MessageTooLarge)
	case errors.Is(err, kerr.InvalidTopicException), errors.Is(err, kerr.InvalidRecord), errors.Is(err, kerr.InvalidTimestamp), errors.Is(err, kerr.UnsupportedForMessageFormat):
		return component.Permanent(fmt.Errorf("topic %s does not take the record: %w", topic, err))
	case unknownTopic(err):
		return fmt.Errorf("topic %s does not exist, and the broker does not make it: create it: %w", topic, err)
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return fmt.Errorf("this user may not write to topic %s: allow it on the broker: %w", topic, err)
	case stopped(err):
		return fmt.Errorf("topic %s: stopped before the acknowledgement: %w", topic, err)
	}
	if pick, of, ok := partitionOf(err); ok {
		return component.Permanent(fmt.Errorf("topic %s has no partition %s, only %s of them, counted from 0", topic, pick, of))
	}
	return fmt.Errorf("topic %s: %w", topic, err)
}
