package broker

import (
	"context"
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Metadata: v0-13
//
// Rules:
//   - A null list of topics (in version 0 an empty one) means all.
//   - A topic that does not exist is created if the broker and, from version
//     4, the request allow it, with the broker's number of partitions.
//   - A partition whose files are damaged is LEADER_NOT_AVAILABLE with leader
//     -1, and its replica is offline (v5).
//   - Topics may be named by id (KIP-516) from version 12; in versions 10 and
//     11, which have the field, that is INVALID_REQUEST.
//   - The address of the broker is that of the listener through which the
//     client came: see conn.advertised.
//
// Version notes: v1 controller; v2 cluster id; v7 leader epochs; v8
// authorised operations of topics, and to v10 of the cluster: all (see
// operations.go); v9 flexible;
// v13 top-level error, never set (KIP-1102).

func handleMetadata(ctx context.Context, b *Broker, r *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.MetadataRequest)
	resp := req.ResponseKind().(*kmsg.MetadataResponse)
	if req.Version < 12 && slices.ContainsFunc(req.Topics, func(rt kmsg.MetadataRequestTopic) bool { return rt.TopicID != topicID{} }) {
		for _, rt := range req.Topics {
			mt := kmsg.NewMetadataResponseTopic()
			mt.Topic, mt.TopicID, mt.ErrorCode = rt.Topic, rt.TopicID, kerr.InvalidRequest.Code
			resp.Topics = append(resp.Topics, mt)
		}
		return resp, nil
	}
	if req.IncludeTopicAuthorizedOperations {
		defer func() {
			for i := range resp.Topics {
				if resp.Topics[i].ErrorCode == 0 {
					resp.Topics[i].AuthorizedOperations = topicOperations
				}
			}
		}()
	}
	if req.IncludeClusterAuthorizedOperations && req.Version <= 10 {
		resp.AuthorizedOperations = clusterOperations
	}
	host, port := r.conn.advertised()
	mb := kmsg.NewMetadataResponseBroker()
	mb.NodeID, mb.Host, mb.Port = b.cfg.NodeID, host, port
	if b.cfg.Rack != "" {
		mb.Rack = &b.cfg.Rack
	}
	resp.Brokers = append(resp.Brokers, mb)
	resp.ClusterID = &b.dir.clusterID
	resp.ControllerID = b.cfg.NodeID

	if req.Topics == nil || req.Version == 0 && len(req.Topics) == 0 {
		for _, t := range b.topics.all() {
			resp.Topics = append(resp.Topics, b.topicMetadata(t))
		}
		return resp, nil
	}
	create := !b.cfg.DisableAutoCreate && (req.Version < 4 || req.AllowAutoTopicCreation)
	seen := map[*topic]bool{}
	for i := range req.Topics {
		rt := &req.Topics[i]
		var t *topic
		var code int16
		switch {
		case rt.TopicID != topicID{}:
			if t = b.topics.byID(rt.TopicID); t == nil {
				code = kerr.UnknownTopicID.Code
			}
		case rt.Topic == nil:
			code = kerr.InvalidTopicException.Code
		default:
			t, code = b.findOrCreate(ctx, *rt.Topic, create)
		}
		if t == nil {
			mt := kmsg.NewMetadataResponseTopic()
			mt.Topic, mt.TopicID, mt.ErrorCode = rt.Topic, rt.TopicID, code
			if mt.Topic == nil && req.Version < 12 { // the name could not be null before
				mt.Topic = new(string)
			}
			resp.Topics = append(resp.Topics, mt)
		} else if !seen[t] {
			seen[t] = true
			resp.Topics = append(resp.Topics, b.topicMetadata(t))
		}
	}
	return resp, nil
}

func (b *Broker) findOrCreate(ctx context.Context, name string, create bool) (*topic, int16) {
	if t := b.topics.byName(name); t != nil {
		return t, 0
	}
	if !create || name == groupTopic { // the group log comes with the search for a coordinator
		if err := checkTopicName(name); err != nil {
			return nil, kerr.InvalidTopicException.Code
		}
		return nil, kerr.UnknownTopicOrPartition.Code
	}
	t, _, err := b.topics.create(ctx, createRequest{name: name, partitions: b.cfg.NumPartitions})
	if err != nil && t == nil {
		var ae *apiError
		if errors.As(err, &ae) {
			return nil, ae.code.Code
		}
		return nil, kerr.UnknownServerError.Code
	}
	return t, 0 // made, by us or just now by another
}

func (b *Broker) topicMetadata(t *topic) kmsg.MetadataResponseTopic {
	mt := kmsg.NewMetadataResponseTopic()
	mt.Topic, mt.TopicID, mt.IsInternal = &t.name, t.id, t.internal
	replicas := []int32{b.cfg.NodeID}
	for _, p := range t.state.Load().parts {
		mp := kmsg.NewMetadataResponseTopicPartition()
		mp.Partition, mp.Leader, mp.LeaderEpoch = p.id, b.cfg.NodeID, leaderEpoch
		mp.Replicas, mp.ISR = replicas, replicas
		if p.offline != nil { // as Apache Kafka shows a partition whose only replica's disk failed
			mp.ErrorCode, mp.Leader, mp.OfflineReplicas = kerr.LeaderNotAvailable.Code, -1, replicas
		}
		mt.Partitions = append(mt.Partitions, mp)
	}
	return mt
}
