package broker

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeTopicPartitions: v0 (KIP-966)
//
// Metadata in pages: at most ResponsePartitionLimit partitions (and at most
// 2000), sorted by topic and partition; a cursor says where to go on. Never
// creates a topic.

const maxDescribePartitions = 2000 // max.request.partition.size.limit

func handleDescribeTopicPartitions(_ context.Context, b *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.DescribeTopicPartitionsRequest)
	resp := req.ResponseKind().(*kmsg.DescribeTopicPartitionsResponse)
	var names []string
	for _, rt := range req.Topics {
		names = append(names, rt.Topic)
	}
	if len(names) == 0 {
		for _, t := range b.topics.all() {
			names = append(names, t.name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	first := int32(0)
	if c := req.Cursor; c != nil && c.Partition < 0 {
		for _, name := range names {
			st := kmsg.NewDescribeTopicPartitionsResponseTopic()
			st.Topic, st.ErrorCode = &name, kerr.InvalidRequest.Code
			resp.Topics = append(resp.Topics, st)
		}
		return resp, nil
	} else if c != nil {
		at, found := slices.BinarySearch(names, c.Topic)
		names = names[at:]
		if found {
			first = c.Partition
		}
	}
	room := min(max(int(req.ResponsePartitionLimit), 1), maxDescribePartitions)
	for _, name := range names {
		t := b.topics.byName(name)
		st := kmsg.NewDescribeTopicPartitionsResponseTopic()
		st.Topic, st.AuthorizedOperations = &name, topicOperations
		if t == nil {
			st.ErrorCode = kerr.UnknownTopicOrPartition.Code
			if checkTopicName(name) != nil {
				st.ErrorCode = kerr.InvalidTopicException.Code
			}
			resp.Topics = append(resp.Topics, st)
			first = 0
			continue
		}
		st.TopicID, st.IsInternal = t.id, t.internal
		for _, p := range t.state.Load().parts {
			if p.id < first {
				continue
			}
			if room == 0 {
				next := kmsg.NewDescribeTopicPartitionsResponseNextCursor()
				next.Topic, next.Partition = name, p.id
				resp.NextCursor = &next
				break
			}
			room--
			sp := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
			sp.Partition, sp.LeaderID, sp.LeaderEpoch = p.id, b.cfg.NodeID, leaderEpoch
			sp.Replicas, sp.ISR = []int32{b.cfg.NodeID}, []int32{b.cfg.NodeID}
			// Null is allowed here, but Java's admin client falls over it.
			if p.offline != nil {
				sp.ErrorCode, sp.LeaderID, sp.OfflineReplicas = kerr.LeaderNotAvailable.Code, -1, sp.Replicas
			}
			sp.EligibleLeaderReplicas, sp.LastKnownELR = []int32{}, []int32{}
			st.Partitions = append(st.Partitions, sp)
		}
		first = 0
		if resp.NextCursor == nil || len(st.Partitions) > 0 {
			resp.Topics = append(resp.Topics, st)
		}
		if resp.NextCursor != nil {
			break
		}
	}
	return resp, nil
}
