package broker

import (
	"context"
	"time"

	"github.com/sluice-data/sluice/internal/broker/group"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// JoinGroup: v0-9
//
// The rules are in package group. There is no initial rebalance delay unless
// group.initial.rebalance.delay.ms is set: the first member starts at once.
// A client that goes away while it waits loses its place one session time-out
// later. In a consumer group with members (KIP-848) the member becomes one of
// them, as far as group.consumer.migration.policy lets it.
//
// Version notes: v1 rebalance time-out; v4 MEMBER_ID_REQUIRED (KIP-394); v5
// static members (KIP-345); v6 flexible; v7 protocol type in the response; v8
// a reason, which is not kept (KIP-800); v9 SkipAssignment (KIP-814).

func startJoinGroup(_ context.Context, b *Broker, r *request) (outcome, error) {
	kreq, err := b.decoder.decode(r)
	if err != nil {
		return outcome{}, err
	}
	req := kreq.(*kmsg.JoinGroupRequest)
	fail := func(code int16) (outcome, error) {
		return outcome{resp: joinResponse(req, group.Reply{Code: code, Generation: -1, MemberID: req.MemberID})}, nil
	}
	if req.Group == "" {
		return fail(kerr.InvalidGroupID.Code)
	}
	e, err := b.groups.entry(req.Group, req.MemberID == "")
	if err != nil {
		code, _ := codeOf(err)
		return fail(code)
	}
	if e == nil {
		return fail(kerr.UnknownMemberID.Code)
	}
	if b.groups.full(req.MemberID == "", r) {
		b.groups.settle(e)
		return fail(kerr.GroupMaxSizeReached.Code)
	}
	e.sized = false
	token, ch := b.groups.wait(e)
	j := group.JoinRequest{
		Token: token, MemberID: req.MemberID, NewMemberID: newMemberID(r.ClientID, req.InstanceID), InstanceID: req.InstanceID,
		ClientID: r.ClientID, ClientHost: r.conn.clientHost(),
		Session:        time.Duration(req.SessionTimeoutMillis) * time.Millisecond,
		Rebalance:      time.Duration(req.RebalanceTimeoutMillis) * time.Millisecond,
		ProtocolType:   req.ProtocolType,
		RequireKnownID: req.Version >= 4, CanSkipAssignment: req.Version >= 9,
	}
	if req.Version == 0 {
		j.Rebalance = -1
	}
	for _, p := range req.Protocols {
		j.Protocols = append(j.Protocols, group.Protocol{Name: p.Name, Metadata: p.Metadata})
	}
	e.g.Join(time.Now(), j)
	b.groups.settle(e)
	return outcome{later: func(ctx context.Context) (outcome, error) {
		reply, ok := b.groups.await(ctx, e, token, ch)
		if !ok {
			return outcome{}, errClose
		}
		return outcome{resp: joinResponse(req, reply)}, nil
	}}, nil
}

func joinResponse(req *kmsg.JoinGroupRequest, r group.Reply) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.JoinGroupResponse)
	resp.ErrorCode, resp.Generation, resp.LeaderID, resp.MemberID = r.Code, r.Generation, r.Leader, r.MemberID
	resp.SkipAssignment = r.SkipAssignment
	// Null only from version 7 on; the protocol itself, too.
	if r.Code == 0 || req.Version < 7 {
		resp.ProtocolType, resp.Protocol = &r.ProtocolType, &r.Protocol
	}
	for _, m := range r.Members {
		jm := kmsg.NewJoinGroupResponseMember()
		jm.MemberID, jm.InstanceID, jm.ProtocolMetadata = m.MemberID, m.InstanceID, m.Metadata
		resp.Members = append(resp.Members, jm)
	}
	return resp
}
