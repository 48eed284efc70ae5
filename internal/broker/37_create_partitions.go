package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// CreatePartitions: v0-3
//
// The number can only go up. A manual assignment may name this broker only. A
// topic named twice is INVALID_REQUEST, once.
//
// Version notes: v2 flexible.

func handleCreatePartitions(ctx context.Context, b *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.CreatePartitionsRequest)
	resp := req.ResponseKind().(*kmsg.CreatePartitionsResponse)
	count := map[string]int{}
	for _, rt := range req.Topics {
		count[rt.Topic]++
	}
	for _, rt := range req.Topics {
		if count[rt.Topic] < 0 {
			continue
		}
		st := kmsg.NewCreatePartitionsResponseTopic()
		st.Topic = rt.Topic
		var err error
		if count[rt.Topic] > 1 {
			err = apiErrorf(kerr.InvalidRequest, "topic %q is named %d times in one request", rt.Topic, count[rt.Topic])
			count[rt.Topic] = -1
		}
		for _, a := range rt.Assignment {
			if len(a.Replicas) != 1 || a.Replicas[0] != b.cfg.NodeID {
				err = apiErrorf(kerr.InvalidReplicaAssignment, "the only possible replica is this broker, %d", b.cfg.NodeID)
			}
		}
		if t := b.topics.byName(rt.Topic); err == nil && t != nil && len(rt.Assignment) > 0 {
			if more := int(rt.Count) - len(t.state.Load().parts); more != len(rt.Assignment) {
				err = apiErrorf(kerr.InvalidReplicaAssignment, "%d partitions are new, %d are assigned", more, len(rt.Assignment))
			}
		}
		if err == nil {
			err = b.topics.grow(ctx, rt.Topic, rt.Count, req.ValidateOnly)
		}
		if st.ErrorCode, st.ErrorMessage = codeOf(err); st.ErrorCode == kerr.UnknownTopicOrPartition.Code {
			st.ErrorMessage = nil // Java's client has its own
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp, nil
}
