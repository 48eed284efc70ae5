package broker

import (
	"context"

	"github.com/sluice-data/sluice/internal/broker/group"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetDelete: v0
//
// A topic that does not exist is UNKNOWN_TOPIC_OR_PARTITION. The offsets of a
// topic that a member consumes stay: GROUP_SUBSCRIBED_TO_TOPIC. In a live group of a protocol other than
// Kafka's consumers nobody can tell: NON_EMPTY_GROUP.

func handleOffsetDelete(ctx context.Context, b *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.OffsetDeleteRequest)
	resp := req.ResponseKind().(*kmsg.OffsetDeleteResponse)
	e, err := b.groups.entry(req.Group, false)
	if err != nil {
		resp.ErrorCode, _ = codeOf(err)
		return resp, nil
	}
	if e == nil {
		resp.ErrorCode = kerr.GroupIDNotFound.Code
		return resp, nil
	}
	defer b.groups.settle(e)
	var tps []group.TopicPartition
	for _, rt := range req.Topics {
		st := kmsg.NewOffsetDeleteResponseTopic()
		st.Topic = rt.Topic
		t := b.topics.byName(rt.Topic)
		subscribed, known := e.g.Subscribed(rt.Topic)
		if !known {
			resp.ErrorCode, resp.Topics = kerr.NonEmptyGroup.Code, nil
			return resp, nil
		}
		for _, rp := range rt.Partitions {
			sp := kmsg.NewOffsetDeleteResponseTopicPartition()
			sp.Partition = rp.Partition
			tp := group.TopicPartition{Topic: rt.Topic, Partition: rp.Partition}
			if t == nil || t.part(rp.Partition) == nil {
				sp.ErrorCode = kerr.UnknownTopicOrPartition.Code
			} else if subscribed {
				sp.ErrorCode = kerr.GroupSubscribedToTopic.Code
			} else if _, ok := e.g.Offset(tp); ok {
				tps = append(tps, tp)
			}
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	if err := b.groups.forget(ctx, e, tps); err != nil {
		b.logger.Error("offsets could not be deleted", "group", req.Group, "err", err)
		resp.ErrorCode, _ = codeOf(err)
		resp.Topics = nil
	}
	return resp, nil
}
