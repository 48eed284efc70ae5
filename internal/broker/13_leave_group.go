package broker

import (
	"context"
	"time"

	"github.com/sluice-data/sluice/internal/broker/group"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// LeaveGroup: v0-5
//
// Below version 3 one member leaves, and its error is the response's.
//
// Version notes: v3 several members, by instance id too (KIP-345); v4
// flexible; v5 a reason, which is not kept (KIP-800).

func handleLeaveGroup(_ context.Context, b *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.LeaveGroupRequest)
	resp := req.ResponseKind().(*kmsg.LeaveGroupResponse)
	members := []group.LeaveMember{{MemberID: req.MemberID}}
	if req.Version >= 3 {
		members = members[:0]
		for _, m := range req.Members {
			members = append(members, group.LeaveMember{MemberID: m.MemberID, InstanceID: m.InstanceID})
		}
	}
	codes := make([]int16, len(members))
	if req.Group == "" { // which may have offsets, but no members
		resp.ErrorCode = kerr.InvalidGroupID.Code
		return resp, nil
	}
	e, err := b.groups.entry(req.Group, false)
	switch {
	case err != nil:
		resp.ErrorCode, _ = codeOf(err)
		return resp, nil
	case e == nil:
		for i := range codes {
			codes[i] = kerr.UnknownMemberID.Code
		}
	default:
		e.sized = false
		codes = e.g.Leave(time.Now(), members)
		b.groups.settle(e)
	}
	if req.Version < 3 {
		resp.ErrorCode = codes[0]
		return resp, nil
	}
	for i, m := range members {
		sm := kmsg.NewLeaveGroupResponseMember()
		sm.MemberID, sm.InstanceID, sm.ErrorCode = m.MemberID, m.InstanceID, codes[i]
		resp.Members = append(resp.Members, sm)
	}
	return resp, nil
}
