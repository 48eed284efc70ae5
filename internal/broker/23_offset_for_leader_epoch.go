package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetForLeaderEpoch: v2-4
//
// Tells a client where an epoch ended, so that it notices a truncated log
// (KIP-320). The current epoch ends at the high watermark.
//
// Version notes: v3 replica id, of no meaning here; v4 flexible.

func handleOffsetForLeaderEpoch(_ context.Context, b *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.OffsetForLeaderEpochRequest)
	resp := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
	for _, rt := range req.Topics {
		st := kmsg.NewOffsetForLeaderEpochResponseTopic()
		st.Topic = rt.Topic
		t := b.topics.byName(rt.Topic)
		for _, rp := range rt.Partitions {
			sp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			sp.Partition, sp.LeaderEpoch, sp.EndOffset = rp.Partition, -1, -1
			if t == nil || t.part(rp.Partition) == nil {
				sp.ErrorCode = kerr.UnknownTopicOrPartition.Code
			} else if sp.ErrorCode = checkEpoch(rp.CurrentLeaderEpoch); sp.ErrorCode == 0 {
				p := t.part(rp.Partition)
				if p.offline != nil {
					sp.ErrorCode = kerr.KafkaStorageError.Code
				} else if rp.LeaderEpoch == leaderEpoch {
					sp.LeaderEpoch, sp.EndOffset = leaderEpoch, p.Offsets().High
				} else {
					sp.LeaderEpoch, sp.EndOffset = p.OffsetForLeaderEpoch(rp.LeaderEpoch)
				}
			}
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp, nil
}
