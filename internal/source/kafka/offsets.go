package kafka

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sluice-data/sluice/internal/kafkaclient"
)

// offsets are those up to which the channels have the events, and that the
// group has not been told yet.
type offsets struct {
	mu sync.Mutex
	m  map[string]map[int32]kgo.EpochOffset
}

func (o *offsets) set(topic string, partition int32, at kgo.EpochOffset) {
	parts := o.m[topic]
	if parts == nil {
		if o.m == nil {
			o.m = make(map[string]map[int32]kgo.EpochOffset)
		}
		parts = make(map[int32]kgo.EpochOffset)
		o.m[topic] = parts
	}
	parts[partition] = at
}

// add notes the records of a batch that the channels took.
func (o *offsets) add(recs []*kgo.Record) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range recs {
		o.set(r.Topic, r.Partition, kgo.EpochOffset{Epoch: r.LeaderEpoch, Offset: r.Offset + 1})
	}
}

// pending is a copy of them all, or of those of some partitions; nil for none.
func (o *offsets) pending(only map[string][]int32) map[string]map[int32]kgo.EpochOffset {
	o.mu.Lock()
	defer o.mu.Unlock()
	var m map[string]map[int32]kgo.EpochOffset
	put := func(topic string, parts map[int32]kgo.EpochOffset) {
		if len(parts) > 0 {
			if m == nil {
				m = make(map[string]map[int32]kgo.EpochOffset, len(o.m))
			}
			m[topic] = parts
		}
	}
	if only == nil {
		for topic, parts := range o.m {
			put(topic, maps.Clone(parts))
		}
		return m
	}
	for topic, ps := range only {
		some := make(map[int32]kgo.EpochOffset)
		for _, p := range ps {
			if at, ok := o.m[topic][p]; ok {
				some[p] = at
			}
		}
		put(topic, some)
	}
	return m
}

// told forgets an offset that the group knows, unless there is a newer one.
func (o *offsets) told(topic string, partition int32, at kgo.EpochOffset) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.m[topic][partition] == at {
		delete(o.m[topic], partition)
	}
}

// drop forgets partitions that are another member's now.
func (o *offsets) drop(parts map[string][]int32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for topic, ps := range parts {
		for _, p := range ps {
			delete(o.m[topic], p)
		}
		if len(o.m[topic]) == 0 {
			delete(o.m, topic)
		}
	}
}

// dropTopics forgets topics that are not read any more.
func (o *offsets) dropTopics(topics []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, t := range topics {
		delete(o.m, t)
	}
}

// commit tells the group the offsets that it does not know yet: all, or those
// of some partitions. When that fails the events may come again after a
// restart; the next commit makes up for it.
func (s *source) commit(ctx context.Context, cl *kgo.Client, only map[string][]int32) {
	m := s.offsets.pending(only)
	if m == nil {
		return
	}
	begin := time.Now()
	// The channels have the events: that the source is to stop is no reason
	// to read them again, if the broker answers soon.
	cctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTime)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		kafkaclient.Sleep(cctx, kafkaclient.LeaveTime)
		cancel()
	})()
	var failed error
	cl.CommitOffsetsSync(cctx, m, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		if err == nil && resp != nil {
			s.committed(m, resp)
		}
		failed = kafkaclient.CommitError(resp, err)
	})
	s.commits.Add(int64(time.Since(begin)))
	s.commitTimer.Store(time.Duration(s.commits.Load()).Milliseconds())
	if failed != nil {
		failed = fmt.Errorf("commit offsets of consumer group %s: %w: these events may be read again", s.consumer.Group, failed)
		if s.cond.Set("commit", failed) {
			s.log.Warn(failed.Error())
		}
		return
	}
	s.cond.Set("commit", nil)
}

// committed forgets what the group has been told, and what is of a topic that
// is not there any more: one of the same name begins anew.
func (s *source) committed(m map[string]map[int32]kgo.EpochOffset, resp *kmsg.OffsetCommitResponse) {
	for i := range resp.Topics {
		t := &resp.Topics[i]
		for j := range t.Partitions {
			p := &t.Partitions[j]
			switch p.ErrorCode {
			case kerr.UnknownTopicID.Code, kerr.UnknownTopicOrPartition.Code:
				p.ErrorCode = 0
				fallthrough
			case 0:
				s.offsets.told(t.Topic, p.Partition, m[t.Topic][p.Partition])
			}
		}
	}
}

// pin gives partitions that are to be read from their end (no offset is
// committed, and auto.offset.reset is latest) a position at once, which the
// group is told soon. Otherwise what is read and not yet committed when the
// partition moves to another member, or the agent ends, would be behind the
// end that is looked up then, and lost.
func (s *source) pin(ctx context.Context, adm *kadm.Client, at map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	if !s.consumer.AtEnd() {
		return at, nil
	}
	const end = -1
	var topics []string
	for topic, parts := range at {
		for _, o := range parts {
			if o.EpochOffset().Offset == end {
				topics = append(topics, topic)
				break
			}
		}
	}
	if len(topics) == 0 {
		return at, nil
	}
	list := adm.ListEndOffsets
	if s.consumer.Committed() {
		list = adm.ListCommittedOffsets
	}
	for try := 0; ; try++ {
		ends, err := list(ctx, topics...)
		open := 0
		for _, topic := range topics {
			for p, o := range at[topic] {
				if o.EpochOffset().Offset != end {
					continue
				}
				l, ok := ends.Lookup(topic, p)
				if !ok || l.Err != nil || l.Offset < 0 {
					open++
					continue
				}
				at[topic][p] = kgo.NewOffset().At(l.Offset)
				s.offsets.mu.Lock()
				s.offsets.set(topic, p, kgo.EpochOffset{Epoch: -1, Offset: l.Offset})
				s.offsets.mu.Unlock()
			}
		}
		switch {
		case open == 0 || try == pinTries: // the client looks those without a leader up itself
			return at, nil
		case ctx.Err() != nil:
			return at, ctx.Err()
		}
		s.log.Debug("looking up the end of partitions failed", "partitions", open, "error", err)
		kafkaclient.Sleep(ctx, pause)
	}
}

// pinTries bounds the time that partitions without a leader hold up the others.
const pinTries = 10
