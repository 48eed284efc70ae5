package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterPartitionReassignments: v0-1 (KIP-455)
//
// The only possible replica is this broker. To assign a partition to it is
// done at once; any other assignment is INVALID_REPLICA_ASSIGNMENT. Nothing is
// ever under way, so to cancel (null replicas) is NO_REASSIGNMENT_IN_PROGRESS.
//
// Version notes: v1 may forbid another replication factor (KIP-860), which
// cannot come about here.

func handleAlterPartitionReassignments(_ context.Context, b *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.AlterPartitionAssignmentsRequest)
	resp := req.ResponseKind().(*kmsg.AlterPartitionAssignmentsResponse)
	resp.AllowReplicationFactorChange = req.AllowReplicationFactorChange
	if len(req.Topics) == 0 {
		resp.ErrorMessage = new(string)
	}
	for _, rt := range req.Topics {
		st := kmsg.NewAlterPartitionAssignmentsResponseTopic()
		st.Topic = rt.Topic
		t := b.topics.byName(rt.Topic)
		for _, rp := range rt.Partitions {
			sp := kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			sp.Partition = rp.Partition
			switch {
			case t == nil:
				sp.ErrorCode, sp.ErrorMessage = codeOf(apiErrorf(kerr.UnknownTopicOrPartition, "Unable to find a topic named %s.", rt.Topic))
			case t.part(rp.Partition) == nil:
				sp.ErrorCode, sp.ErrorMessage = codeOf(apiErrorf(kerr.UnknownTopicOrPartition, "Unable to find partition %s:%d.", rt.Topic, rp.Partition))
			case rp.Replicas == nil:
				sp.ErrorCode = kerr.NoReassignmentInProgress.Code
			default:
				sp.ErrorCode, sp.ErrorMessage = codeOf(b.checkReplicas(rp.Replicas))
			}
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp, nil
}

// checkReplicas checks a manual assignment of one partition. The messages are
// Apache Kafka's.
func (b *Broker) checkReplicas(replicas []int32) error {
	if len(replicas) == 0 {
		return apiErrorf(kerr.InvalidReplicaAssignment, "The manual partition assignment includes an empty replica list.")
	}
	for _, r := range replicas {
		if r != b.cfg.NodeID {
			return apiErrorf(kerr.InvalidReplicaAssignment, "The manual partition assignment includes broker %d, but no such broker is registered.", r)
		}
	}
	if len(replicas) > 1 {
		return apiErrorf(kerr.InvalidReplicaAssignment, "The manual partition assignment includes the broker %d more than once.", b.cfg.NodeID)
	}
	return nil
}
