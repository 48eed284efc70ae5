package broker

import (
	"context"
	"time"

	"github.com/sluice-data/sluice/internal/broker/group"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ConsumerGroupHeartbeat: v0-1 (KIP-848)
//
// Everything that a member of a consumer group has to say: it joins (epoch 0),
// stays, changes its subscription, reports what it owns, and leaves (-1, or -2
// for a static member that comes back). The rules are in package group.
//
//   - A group that does not exist is made by a member that joins; otherwise it
//     is GROUP_ID_NOT_FOUND.
//   - What the answer says is in the group log first, so that after a restart
//     of the broker members go on where they are.
//
// Version notes: v1 subscription by regular expression; the client makes its
// member id itself (KIP-1082).

func handleConsumerGroupHeartbeat(_ context.Context, b *Broker, r *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.ConsumerGroupHeartbeatRequest)
	resp := req.ResponseKind().(*kmsg.ConsumerGroupHeartbeatResponse)
	fail := func(err error) (kmsg.Response, error) {
		resp.ErrorCode, resp.ErrorMessage = codeOf(err)
		return resp, nil
	}
	if req.Group == "" {
		return fail(apiErrorf(kerr.InvalidRequest, "GroupId can't be empty."))
	}
	h := group.HeartbeatRequest{
		MemberID: req.MemberID, Epoch: req.MemberEpoch, InstanceID: req.InstanceID, RackID: req.RackID,
		Rebalance: time.Duration(req.RebalanceTimeoutMillis) * time.Millisecond, Topics: req.SubscribedTopicNames,
		Regex: req.SubscribedTopicRegex, Assignor: req.ServerAssignor,
		ClientID: r.ClientID, ClientHost: r.conn.clientHost(),
		Settings: b.groupConfigs.settings(req.Group), RequireMemberID: req.Version >= 1,
	}
	if h.MemberID == "" {
		h.NewMemberID = newUUID()
	}
	if req.Topics != nil {
		h.Owned = []group.TopicPartitions{}
		for _, t := range req.Topics {
			h.Owned = append(h.Owned, group.TopicPartitions{ID: t.TopicID, Partitions: t.Partitions})
		}
	}
	reply := h.Check(b.groups.limits.Assignors)
	if reply.Code == 0 {
		e, err := b.groups.entry(req.Group, req.MemberEpoch == 0)
		switch {
		case err != nil:
			return fail(err)
		case e == nil:
			return fail(apiErrorf(kerr.GroupIDNotFound, "Group %s not found.", req.Group))
		}
		if b.groups.full(req.MemberEpoch == 0, r) {
			b.groups.settle(e)
			return fail(apiErrorf(kerr.GroupMaxSizeReached, "The groups of this broker take as much memory as they may."))
		}
		e.sized = e.sized && req.MemberEpoch > 0 && req.SubscribedTopicNames == nil && req.SubscribedTopicRegex == nil
		reply = e.g.ConsumerHeartbeat(time.Now(), h)
		e.sized = e.sized && !reply.Assigned
		b.groups.settle(e)
	}
	if reply.Code != 0 {
		resp.ErrorCode, resp.ErrorMessage = reply.Code, &reply.Message
		return resp, nil
	}
	resp.MemberID, resp.MemberEpoch = &reply.MemberID, reply.Epoch
	resp.HeartbeatIntervalMillis = int32(reply.Interval.Milliseconds())
	if reply.Assigned {
		a := kmsg.NewConsumerGroupHeartbeatResponseAssignment()
		for _, t := range reply.Assignment {
			at := kmsg.NewConsumerGroupHeartbeatResponseAssignmentTopic()
			at.TopicID, at.Partitions = t.ID, t.Partitions
			a.Topics = append(a.Topics, at)
		}
		resp.Assignment = &a
	}
	return resp, nil
}
