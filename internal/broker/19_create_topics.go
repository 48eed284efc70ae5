package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// CreateTopics: v2-7
//
// Rules:
//   - The replication factor is 1, or -1 for the broker's choice; a manual
//     assignment may name this broker only.
//   - -1 partitions means the broker's num.partitions (v4, KIP-464).
//   - Settings that are not honoured are INVALID_CONFIG: see topicconfig.go.
//   - A topic named twice in one request is INVALID_REQUEST, once.
//   - A dry run answers with an id as well, which nothing has.
//
// Version notes: v5 flexible, settings in the
// response (KIP-525); v7 topic ids.

func handleCreateTopics(ctx context.Context, b *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.CreateTopicsRequest)
	resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
	count := map[string]int{}
	for _, rt := range req.Topics {
		count[rt.Topic]++
	}
	for i := range req.Topics {
		rt := &req.Topics[i]
		st := kmsg.NewCreateTopicsResponseTopic()
		st.Topic = rt.Topic
		st.Configs = []kmsg.CreateTopicsResponseTopicConfig{} // not null, as Java's client wants it
		if count[rt.Topic] > 1 {
			st.ErrorCode, st.ErrorMessage = codeOf(apiErrorf(kerr.InvalidRequest, "topic %q is named %d times in one request", rt.Topic, count[rt.Topic]))
			count[rt.Topic] = -1
		} else if count[rt.Topic] < 0 {
			continue
		} else {
			b.createTopic(ctx, rt, &st, req.ValidateOnly)
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp, nil
}

func (b *Broker) createTopic(ctx context.Context, rt *kmsg.CreateTopicsRequestTopic, st *kmsg.CreateTopicsResponseTopic, dryRun bool) {
	fail := func(err error) { st.ErrorCode, st.ErrorMessage = codeOf(err) }
	cr := createRequest{name: rt.Topic, partitions: rt.NumPartitions, dryRun: dryRun}
	switch {
	case rt.Topic == groupTopic:
		fail(apiErrorf(kerr.InvalidTopicException, "topic %q is the broker's own", rt.Topic))
		return
	case len(rt.ReplicaAssignment) > 0:
		if rt.NumPartitions != -1 || rt.ReplicationFactor != -1 {
			fail(apiErrorf(kerr.InvalidRequest, "with a manual assignment, partitions and replication factor must be -1"))
			return
		}
		if err := b.checkAssignment(rt); err != nil {
			fail(err)
			return
		}
		cr.partitions = int32(len(rt.ReplicaAssignment))
	case rt.ReplicationFactor != 1 && rt.ReplicationFactor != -1:
		fail(apiErrorf(kerr.InvalidReplicationFactor, "replication factor %d is not possible: there is one broker, so it is 1", rt.ReplicationFactor))
		return
	case rt.NumPartitions == -1:
		cr.partitions = b.cfg.NumPartitions
	}
	for _, c := range rt.Configs {
		if c.Value == nil {
			fail(apiErrorf(kerr.InvalidConfig, "setting %q has no value", c.Name))
			return
		}
		if cr.configs == nil {
			cr.configs = map[string]string{}
		}
		cr.configs[c.Name] = *c.Value
	}
	t, cfg, err := b.topics.create(ctx, cr)
	if err != nil {
		fail(err)
		return
	}
	st.TopicID = newTopicID()
	if t != nil {
		st.TopicID = t.id
	}
	st.NumPartitions, st.ReplicationFactor = cr.partitions, 1
	for _, k := range topicConfigKeys() {
		sc := kmsg.NewCreateTopicsResponseTopicConfig()
		v := k.get(&cfg)
		sc.Name, sc.Value, sc.Source = k.name, &v, int8(b.configs.topicSource(k.name))
		if _, own := cr.configs[k.name]; own {
			sc.Source = int8(kmsg.ConfigSourceDynamicTopicConfig)
		}
		st.Configs = append(st.Configs, sc)
	}
}

func (b *Broker) checkAssignment(rt *kmsg.CreateTopicsRequestTopic) error {
	seen := map[int32]bool{}
	for _, ra := range rt.ReplicaAssignment {
		switch {
		case seen[ra.Partition]:
			return apiErrorf(kerr.InvalidReplicaAssignment, "partition %d is assigned twice", ra.Partition)
		case ra.Partition < 0 || int(ra.Partition) >= len(rt.ReplicaAssignment):
			return apiErrorf(kerr.InvalidReplicaAssignment, "partitions must be numbered from 0 without a gap, not %d", ra.Partition)
		case len(ra.Replicas) != 1 || ra.Replicas[0] != b.cfg.NodeID:
			return apiErrorf(kerr.InvalidReplicaAssignment, "the only possible replica is this broker, %d", b.cfg.NodeID)
		}
		seen[ra.Partition] = true
	}
	return nil
}
