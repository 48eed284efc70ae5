package kafka

import (
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/serde"
)

// mapping copies a header of a record into one of the event.
type mapping struct{ from, to string }

// fill adds the batch's records to b as events. Those that are none were told
// of when it is a retry.
func (s *source) fill(b *event.Batch, retry bool) {
	for _, r := range s.recs {
		if err := s.convert(b, r); err != nil && !retry {
			s.readFail.Add(1)
			s.log.Error("a record is not a Flume event (useFlumeEventFormat) and is skipped", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "error", err)
		}
	}
}

var noBytes = []byte{}

// convert adds r to b. The body and the headers are copied: a view would keep
// all that the broker answered in memory for as long as the event lives.
func (s *source) convert(b *event.Batch, r *kgo.Record) error {
	hs, body := s.headers[:0], r.Value
	if s.avro {
		var err error
		if body, hs, err = serde.DecodeAvroEvent(r.Value, hs, s.names.Intern); err != nil {
			return fmt.Errorf("decode the value: %w", err)
		}
	}
	if body == nil {
		body = noBytes // a record without a value, as in Flume
	}
	// Flume's order. What the event brought with it stands, but for the key.
	digits := s.digits[:0]
	number := func(n int64) []byte {
		from := len(digits)
		digits = strconv.AppendInt(digits, n, 10)
		return digits[from:len(digits):len(digits)]
	}
	if !has(hs, "timestamp") {
		hs = append(hs, event.KV{Key: "timestamp", Value: number(r.Timestamp.UnixMilli())})
	}
	for _, m := range s.mapped {
		for i := range r.Headers {
			if r.Headers[i].Key == m.from {
				hs = set(hs, m.to, r.Headers[i].Value)
			}
		}
	}
	if s.setTopic && !has(hs, s.topicHdr) {
		if r.Topic != s.topic || s.topicB == nil {
			s.topic, s.topicB = r.Topic, []byte(r.Topic)
		}
		hs = append(hs, event.KV{Key: s.topicHdr, Value: s.topicB})
	}
	if !has(hs, "partition") {
		hs = append(hs, event.KV{Key: "partition", Value: number(int64(r.Partition))})
	}
	if !has(hs, "offset") {
		hs = append(hs, event.KV{Key: "offset", Value: number(r.Offset)})
	}
	if r.Key != nil {
		hs = set(hs, "key", r.Key)
	}
	b.AppendEvent(body, hs)
	clear(hs) // hold nothing of the record
	s.headers = hs[:0]
	return nil
}

func has(hs []event.KV, key string) bool {
	for i := range hs {
		if hs[i].Key == key {
			return true
		}
	}
	return false
}

// set sets a header. A nil value of a record's header is an empty one here.
func set(hs []event.KV, key string, v []byte) []event.KV {
	if v == nil {
		v = noBytes
	}
	for i := range hs {
		if hs[i].Key == key {
			hs[i].Value = v
			return hs
		}
	}
	return append(hs, event.KV{Key: key, Value: v})
}
