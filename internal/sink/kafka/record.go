package kafka

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/escape"
	"github.com/sluice-data/sluice/internal/serde"
)

// mapping copies a header of an event into one of the record.
type mapping struct{ from, to string }

// sortMappings makes the order of record headers the same in every run.
func sortMappings(ms []mapping) {
	slices.SortFunc(ms, func(a, b mapping) int { return strings.Compare(a.from, b.from) })
}

// maxTopics bounds the names of topics that are kept: they come from headers.
const maxTopics = 10000

// noPartition leaves the choice to the partitioner.
const noPartition = -1

// build fills r from e, whose bytes it views. prev is the record before it in
// this batch, made from prevEvent; both may be nil. Where two events share
// their headers, what comes from them alone is taken over.
func (s *sink) build(r *kgo.Record, e *event.Event, prev *kgo.Record, prevEvent *event.Event, now time.Time) error {
	*r = kgo.Record{Value: e.Body, Timestamp: now, Partition: noPartition}
	if prev != nil && event.SameHeaders(e, prevEvent) {
		r.Topic, r.Key, r.Headers, r.Timestamp, r.Partition = prev.Topic, prev.Key, prev.Headers, prev.Timestamp, prev.Partition
	} else if err := s.route(r, e); err != nil {
		return err
	}
	if s.avro {
		from := len(s.values)
		s.values = serde.AppendAvroEvent(s.values, e)
		r.Value = s.values[from:len(s.values):len(s.values)]
	}
	return nil
}

// route fills in what comes from headers.
func (s *sink) route(r *kgo.Record, e *event.Event) error {
	var err error
	if r.Topic, err = s.topicOf(e); err != nil {
		return err
	}
	if v, _ := e.Header("key"); v != nil {
		r.Key = v
	}
	if s.partition != nil {
		r.Partition = *s.partition
	}
	if s.partitionHdr != "" {
		if v, _ := e.Header(s.partitionHdr); v != nil {
			if r.Partition, err = parsePartition(v); err != nil {
				return component.Permanent(fmt.Errorf("header %s: %w", s.partitionHdr, err))
			}
		}
	}
	if s.timestampHdr != "" {
		if v, _ := e.Header(s.timestampHdr); v != nil {
			if ms, err := escape.ParseMillis(v); err == nil {
				r.Timestamp = time.UnixMilli(ms)
			} else if !s.warnedTime {
				s.warnedTime = true
				s.env.Log.Warn("a header has no valid time, so the record gets the time of sending; further ones are not logged", "header", s.timestampHdr, "error", err)
			}
		}
	}
	if len(s.mapped) > 0 {
		from := len(s.recHeaders)
		for _, m := range s.mapped {
			if v, _ := e.Header(m.from); v != nil {
				s.recHeaders = append(s.recHeaders, kgo.RecordHeader{Key: m.to, Value: v})
			}
		}
		if to := len(s.recHeaders); to > from {
			r.Headers = s.recHeaders[from:to:to]
		}
	}
	return nil
}

// parsePartition reads a partition's number.
func parsePartition(b []byte) (int32, error) {
	n := int64(0)
	ok := len(b) > 0 && len(b) <= 10
	for _, c := range b {
		ok = ok && c >= '0' && c <= '9'
		n = n*10 + int64(c-'0')
	}
	if !ok || n > 1<<31-1 {
		return 0, fmt.Errorf("%.40q is not the number of a partition", b)
	}
	return int32(n), nil
}

// topicOf is Flume's rule: with allowTopicOverride the header, and without one
// the configured name, expanded; otherwise the configured name as it is.
func (s *sink) topicOf(e *event.Event) (string, error) {
	if !s.override {
		return s.topic, nil
	}
	name, _ := e.Header(s.topicHdr)
	if name == nil {
		if s.template == nil {
			return s.topic, nil
		}
		var err error
		if s.scratch, err = s.template.Append(s.scratch[:0], e); err != nil {
			return "", fmt.Errorf("expand kafka.topic: %w", err)
		}
		name = s.scratch
	}
	if string(name) == s.lastTopic {
		return s.lastTopic, nil
	}
	t, ok := s.topics[string(name)]
	if !ok {
		t = string(name)
		if err := validTopic(t); err != nil {
			return "", component.Permanent(err)
		}
		if len(s.topics) >= maxTopics {
			clear(s.topics)
		}
		s.topics[t] = t
	}
	s.lastTopic = t
	return t, nil
}

// partitioner picks partitions: the one that a record names; else by kind.
type partitioner struct {
	kind string // see kafkaconf.Producer
	sink *sink
}

func (p *partitioner) ForTopic(topic string) kgo.TopicPartitioner {
	tp := &topicPartitioner{p: p}
	if p.kind == "keys" {
		// Kafka's own hash (murmur2): Java clients find the same partition.
		tp.keys = kgo.StickyKeyPartitioner(nil).ForTopic(topic)
	}
	return tp
}

type topicPartitioner struct {
	p    *partitioner
	keys kgo.TopicPartitioner
	next int
}

// RequiresConsistency makes records with a partition or a key wait for theirs
// while it has no leader, rather than go to another.
func (t *topicPartitioner) RequiresConsistency(r *kgo.Record) bool {
	return r.Partition >= 0 || r.Key != nil && t.keys != nil
}

func (t *topicPartitioner) Partition(r *kgo.Record, n int) int {
	switch {
	case r.Partition >= 0:
		return int(r.Partition) // beyond n: the client fails the record
	case r.Key != nil && t.keys != nil:
		return t.keys.Partition(r, n)
	case t.p.kind == "round":
		t.next++
		return t.next % n
	}
	// One partition for a batch, and another for the next: large requests,
	// and even use over time.
	return int(t.p.sink.turn.Load() % uint64(n))
}

// errText is how the client says that a partition's number is too large.
var noSuchPartition = []byte("invalid record partitioning choice of ")

// partitionOf finds the number in such an error.
func partitionOf(err error) (pick string, of string, ok bool) {
	_, rest, ok := bytes.Cut([]byte(err.Error()), noSuchPartition)
	if !ok {
		return "", "", false
	}
	a, b, ok := strings.Cut(string(rest), " from ")
	of, _, _ = strings.Cut(b, " ")
	if _, err := strconv.Atoi(of); err != nil {
		return "", "", false
	}
	return a, of, ok
}

var errStopped = errors.New("the sink is not started")
