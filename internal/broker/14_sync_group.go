package broker

import (
	"context"
	"time"

	"github.com/sluice-data/sluice/internal/broker/group"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// SyncGroup: v0-5
//
// The leader's assignment is in the group log before anybody is told of it,
// so that members go on after a restart of the broker.
//
// Version notes: v3 static members; v4 flexible; v5 protocol type and name,
// which have to be there.

func startSyncGroup(_ context.Context, b *Broker, r *request) (outcome, error) {
	kreq, err := b.decoder.decode(r)
	if err != nil {
		return outcome{}, err
	}
	req := kreq.(*kmsg.SyncGroupRequest)
	answer := func(reply group.Reply) outcome {
		resp := req.ResponseKind().(*kmsg.SyncGroupResponse)
		resp.ErrorCode, resp.MemberAssignment = reply.Code, reply.Assignment
		if reply.Code == 0 {
			resp.ProtocolType, resp.Protocol = &reply.ProtocolType, &reply.Protocol
		}
		return outcome{resp: resp}
	}
	if req.Version >= 5 && (req.ProtocolType == nil || req.Protocol == nil) {
		return answer(group.Reply{Code: kerr.InconsistentGroupProtocol.Code}), nil
	}
	if req.Group == "" { // which may have offsets, but no members
		return answer(group.Reply{Code: kerr.InvalidGroupID.Code}), nil
	}
	e, err := b.groups.entry(req.Group, false)
	if err != nil {
		code, _ := codeOf(err)
		return answer(group.Reply{Code: code}), nil
	}
	if e == nil {
		return answer(group.Reply{Code: kerr.UnknownMemberID.Code}), nil
	}
	if b.groups.full(false, r) {
		b.groups.settle(e)
		return answer(group.Reply{Code: kerr.GroupMaxSizeReached.Code}), nil
	}
	e.sized = false
	token, ch := b.groups.wait(e)
	s := group.SyncRequest{
		Token: token, MemberID: req.MemberID, InstanceID: req.InstanceID, Generation: req.Generation,
		ProtocolType: req.ProtocolType, Protocol: req.Protocol,
	}
	for _, a := range req.GroupAssignment {
		s.Assignments = append(s.Assignments, group.Assignment{MemberID: a.MemberID, Bytes: a.MemberAssignment})
	}
	e.g.Sync(time.Now(), s)
	b.groups.settle(e)
	return outcome{later: func(ctx context.Context) (outcome, error) {
		reply, ok := b.groups.await(ctx, e, token, ch)
		if !ok {
			return outcome{}, errClose
		}
		return answer(reply), nil
	}}, nil
}
