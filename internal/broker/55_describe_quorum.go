package broker

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeQuorum: v0-2 (KIP-595)
//
// Answers for __cluster_metadata as a cluster of one node does: this broker
// leads, votes alone and is never behind. There is no metadata log, so its end
// and its high watermark are 0. Other partitions are UNKNOWN_TOPIC_OR_PARTITION.
//
// Version notes: v1 times of the voters (KIP-836); v2 addresses (KIP-853).

const (
	metadataTopic = "__cluster_metadata"
	quorumEpoch   = 1
)

func handleDescribeQuorum(_ context.Context, b *Broker, r *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.DescribeQuorumRequest)
	resp := req.ResponseKind().(*kmsg.DescribeQuorumResponse)
	resp.ErrorMessage = new(string)
	now := time.Now().UnixMilli()
	known := false
	for _, rt := range req.Topics {
		st := kmsg.NewDescribeQuorumResponseTopic()
		st.Topic = rt.Topic
		for _, rp := range rt.Partitions {
			sp := kmsg.NewDescribeQuorumResponseTopicPartition()
			sp.Partition = rp.Partition
			if rt.Topic != metadataTopic || rp.Partition != 0 {
				msg := "This server does not host this topic-partition."
				sp.ErrorCode, sp.ErrorMessage = kerr.UnknownTopicOrPartition.Code, &msg
			} else {
				known = true
				sp.ErrorMessage = new(string)
				sp.LeaderID, sp.LeaderEpoch = b.cfg.NodeID, quorumEpoch
				voter := kmsg.NewDescribeQuorumResponseTopicPartitionReplicaState()
				voter.ReplicaID, voter.LastFetchTimestamp, voter.LastCaughtUpTimestamp = b.cfg.NodeID, now, now
				sp.CurrentVoters = append(sp.CurrentVoters, voter)
			}
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	if known {
		host, port := r.conn.advertised()
		sn := kmsg.NewDescribeQuorumResponseNode()
		sn.NodeID = b.cfg.NodeID
		sn.Listeners = []kmsg.DescribeQuorumResponseNodeListener{{Name: "CONTROLLER", Host: host, Port: uint16(port)}}
		resp.Nodes = append(resp.Nodes, sn)
	}
	return resp, nil
}
