package kafkaclient

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

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

// PartitionField declares the property that sends all events to one partition.
func PartitionField(key string, p **int32) component.Field {
	return component.Value(key, p, "int", "", func(s string) (*int32, error) {
		n, err := parsePartition([]byte(strings.TrimSpace(s)))
		return &n, err
	}).Describe("Send all events to this partition.")
}

// PartitionOf is Flume's rule: the number in the event's header, if one is
// named and the event has it, else the fixed one, if it is not nil.
func PartitionOf(e *event.Event, fixed *int32, header string) (int32, error) {
	if header != "" {
		if v, _ := e.Header(header); v != nil {
			n, err := parsePartition(v)
			if err != nil {
				return 0, component.Permanent(fmt.Errorf("header %s: %w", header, err))
			}
			return n, nil
		}
	}
	if fixed != nil {
		return *fixed, nil
	}
	return NoPartition, nil
}

// partitioner picks partitions: the one that a record names; else by kind.
type partitioner struct {
	kind   string // see kafkaconf.Producer
	sender *Sender
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
	return int(t.p.sender.turn.Load() % uint64(n))
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
