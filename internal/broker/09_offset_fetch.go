package broker

import (
	"context"

	"github.com/sluice-data/sluice/internal/broker/group"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetFetch: v1-10
//
// Rules:
//   - A partition without an offset, and any partition of a group that does
//     not exist, is answered with offset -1 and no error.
//   - A null list of topics (v2) means all that the group has. A group that is
//     named so twice is answered once.
//   - A member of a consumer group (KIP-848) that names itself with a wrong
//     epoch gets STALE_MEMBER_EPOCH, with an unknown id UNKNOWN_MEMBER_ID (v9).
//   - RequireStable (v7, KIP-447) changes nothing: there are no transactions.
//
// Version notes: v2 top-level error; v5 leader epochs; v6 flexible; v8 several
// groups in one request (KIP-709); v9 member id and epoch; v10 topic ids.

func handleOffsetFetch(_ context.Context, b *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.OffsetFetchRequest)
	resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
	if req.Version >= 8 {
		all := map[string]bool{}
		for i := range req.Groups {
			if rg := &req.Groups[i]; rg.Topics == nil {
				if all[rg.Group] { // all of a group's offsets are answered once
					continue
				}
				all[rg.Group] = true
			}
			resp.Groups = append(resp.Groups, b.groupOffsets(req.Version, &req.Groups[i]))
		}
		return resp, nil
	}
	rg := kmsg.NewOffsetFetchRequestGroup()
	rg.Group = req.Group
	if req.Topics != nil {
		rg.Topics = []kmsg.OffsetFetchRequestGroupTopic{}
	}
	for _, t := range req.Topics {
		rt := kmsg.NewOffsetFetchRequestGroupTopic()
		rt.Topic, rt.Partitions = t.Topic, t.Partitions
		rg.Topics = append(rg.Topics, rt)
	}
	sg := b.groupOffsets(req.Version, &rg)
	resp.ErrorCode = sg.ErrorCode
	for _, t := range sg.Topics {
		st := kmsg.NewOffsetFetchResponseTopic()
		st.Topic = t.Topic
		for _, p := range t.Partitions {
			sp := kmsg.NewOffsetFetchResponseTopicPartition()
			sp.Partition, sp.Offset, sp.LeaderEpoch, sp.Metadata, sp.ErrorCode = p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp, nil
}

func (b *Broker) groupOffsets(version int16, rg *kmsg.OffsetFetchRequestGroup) kmsg.OffsetFetchResponseGroup {
	sg := kmsg.NewOffsetFetchResponseGroup()
	sg.Group = rg.Group
	e, err := b.groups.entry(rg.Group, false)
	if err != nil {
		sg.ErrorCode, _ = codeOf(err)
		return sg
	}
	if e != nil {
		defer e.mu.Unlock()
		if version >= 9 {
			if sg.ErrorCode = e.g.CheckFetch(rg.MemberID, rg.MemberEpoch); sg.ErrorCode != 0 {
				return sg
			}
		}
	}
	one := func(topic string, part int32) kmsg.OffsetFetchResponseGroupTopicPartition {
		sp := kmsg.NewOffsetFetchResponseGroupTopicPartition()
		sp.Partition, sp.Offset, sp.LeaderEpoch, sp.Metadata = part, -1, -1, new(string)
		if e != nil {
			if o, ok := e.g.Offset(group.TopicPartition{Topic: topic, Partition: part}); ok {
				sp.Offset, sp.LeaderEpoch, sp.Metadata = o.Offset, o.LeaderEpoch, &o.Metadata
			}
		}
		return sp
	}
	if rg.Topics == nil {
		if e == nil {
			return sg
		}
		for _, tp := range e.g.Offsets() {
			if n := len(sg.Topics); n == 0 || sg.Topics[n-1].Topic != tp.Topic {
				st := kmsg.NewOffsetFetchResponseGroupTopic()
				st.Topic = tp.Topic
				if t := b.topics.byName(tp.Topic); t != nil {
					st.TopicID = t.id
				}
				sg.Topics = append(sg.Topics, st)
			}
			st := &sg.Topics[len(sg.Topics)-1]
			st.Partitions = append(st.Partitions, one(tp.Topic, tp.Partition))
		}
		return sg
	}
	for _, rt := range rg.Topics {
		st := kmsg.NewOffsetFetchResponseGroupTopic()
		st.Topic, st.TopicID = rt.Topic, rt.TopicID
		name, unknown := rt.Topic, false
		if version >= 10 {
			if t := b.topics.byID(rt.TopicID); t != nil {
				name = t.name
			} else {
				unknown = true
			}
		}
		for _, p := range rt.Partitions {
			sp := one(name, p)
			if unknown {
				sp.ErrorCode = kerr.UnknownTopicID.Code
			}
			st.Partitions = append(st.Partitions, sp)
		}
		sg.Topics = append(sg.Topics, st)
	}
	return sg
}
