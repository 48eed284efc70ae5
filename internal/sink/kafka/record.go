package kafka

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/escape"
	"github.com/sluice-data/sluice/internal/kafkaclient"
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

// Encode fills r from e, whose bytes it views. Where two events share their
// headers, what comes from them alone is taken over.
func (s *sink) Encode(r *kgo.Record, e *event.Event, prev *kgo.Record, prevEvent *event.Event) error {
	r.Value = e.Body
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
	if r.Partition, err = kafkaclient.PartitionOf(e, s.partition, s.partitionHdr); err != nil {
		return err
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
		if err := kafkaclient.ValidTopic(t); err != nil {
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

// maxKept is what a sink keeps of the memory that a huge batch needed.
const maxKept = 4 << 20

// Reset implements kafkaclient.Encoder.
func (s *sink) Reset() { s.recHeaders, s.values = s.recHeaders[:0], s.values[:0] }

// Forget implements kafkaclient.Encoder.
func (s *sink) Forget() {
	clear(s.recHeaders)
	s.Reset()
	if cap(s.values) > maxKept {
		s.values = nil
	}
}

var errStopped = errors.New("the sink is not started")
