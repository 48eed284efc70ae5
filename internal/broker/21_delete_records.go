package broker

import (
	"context"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteRecords: v0-2
//
// Moves a partition's log start; -1 means up to the high watermark. An offset
// outside the log is OFFSET_OUT_OF_RANGE. A topic that is compacted and
// nothing else is POLICY_VIOLATION.
//
// Version notes: v2 flexible.

func handleDeleteRecords(ctx context.Context, b *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.DeleteRecordsRequest)
	resp := req.ResponseKind().(*kmsg.DeleteRecordsResponse)
	for _, rt := range req.Topics {
		st := kmsg.NewDeleteRecordsResponseTopic()
		st.Topic = rt.Topic
		t := b.topics.byName(rt.Topic)
		for _, rp := range rt.Partitions {
			sp := kmsg.NewDeleteRecordsResponseTopicPartition()
			sp.Partition, sp.LowWatermark = rp.Partition, -1
			switch {
			case t == nil || t.part(rp.Partition) == nil:
				sp.ErrorCode = kerr.UnknownTopicOrPartition.Code
			case t.internal:
				sp.ErrorCode = kerr.InvalidTopicException.Code
			case t.state.Load().cfg.Compact && t.state.Load().cfg.KeepExpired:
				sp.ErrorCode = kerr.PolicyViolation.Code
			default:
				low, err := t.part(rp.Partition).DeleteRecords(ctx, rp.Offset)
				if err != nil {
					sp.ErrorCode = log.KafkaCode(err)
				} else {
					sp.LowWatermark = low
				}
			}
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp, nil
}
