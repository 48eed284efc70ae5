package broker

import (
	"context"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListOffsets: v1-11
//
// Special timestamps: -2 log start, -1 end, -3 the record with the largest
// timestamp (v7, KIP-734), -4 local log start (v8, KIP-405; the same as -2
// here), -5 last tiered offset (v9, KIP-1005) and -6 the first that is not
// tiered yet (v11, KIP-1023): nothing is tiered, so -1. Others below 0,
// or one below the version that brought it, are UNSUPPORTED_VERSION. A
// partition named twice is INVALID_REQUEST.
//
// Version notes: v2 isolation level; v4 leader epochs; v6 flexible; v10
// time-out for tiered storage, of no use here.

func handleListOffsets(ctx context.Context, b *Broker, r *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.ListOffsetsRequest)
	resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
	type tp struct {
		topic string
		part  int32
	}
	seen := map[tp]int{}
	for _, rt := range req.Topics {
		for _, rp := range rt.Partitions {
			seen[tp{rt.Topic, rp.Partition}]++
		}
	}
	for _, rt := range req.Topics {
		st := kmsg.NewListOffsetsResponseTopic()
		st.Topic = rt.Topic
		t := b.topics.byName(rt.Topic)
		for _, rp := range rt.Partitions {
			sp := kmsg.NewListOffsetsResponseTopicPartition()
			sp.Partition = rp.Partition
			if seen[tp{rt.Topic, rp.Partition}] > 1 {
				sp.ErrorCode = kerr.InvalidRequest.Code
			} else {
				b.listOffset(ctx, req, t, &rp, &sp)
			}
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp, nil
}

func (b *Broker) listOffset(ctx context.Context, req *kmsg.ListOffsetsRequest, t *topic, rp *kmsg.ListOffsetsRequestTopicPartition, sp *kmsg.ListOffsetsResponseTopicPartition) {
	needs := map[int64]int16{-1: 1, -2: 1, -3: 7, -4: 8, -5: 9, -6: 11}
	if v, ok := needs[rp.Timestamp]; rp.Timestamp < 0 && (!ok || req.Version < v) {
		sp.ErrorCode = kerr.UnsupportedVersion.Code
		return
	}
	var p *part
	if t != nil {
		p = t.part(rp.Partition)
	}
	if p == nil {
		sp.ErrorCode = kerr.UnknownTopicOrPartition.Code
		return
	}
	if sp.ErrorCode = checkEpoch(rp.CurrentLeaderEpoch); sp.ErrorCode != 0 || rp.Timestamp == -5 || rp.Timestamp == -6 {
		return // the defaults say that there is no such offset
	}
	if p.offline != nil { // said at the start
		sp.ErrorCode = kerr.KafkaStorageError.Code
		return
	}
	stamp, err := p.ListOffsets(ctx, rp.Timestamp, log.Isolation(req.IsolationLevel))
	if err != nil {
		sp.ErrorCode = log.KafkaCode(err)
		b.logger.Error("offset could not be looked up", "topic", t.name, "partition", p.id, "timestamp", rp.Timestamp, "err", err)
		return
	}
	sp.Offset, sp.Timestamp, sp.LeaderEpoch = stamp.Offset, stamp.Timestamp, stamp.Epoch
}
