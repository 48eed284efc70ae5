package broker

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Heartbeat: v0-4
//
// A group that does not exist is UNKNOWN_MEMBER_ID, so that the member joins
// again.
//
// Version notes: v3 static members; v4 flexible.

func handleHeartbeat(_ context.Context, b *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.HeartbeatRequest)
	resp := req.ResponseKind().(*kmsg.HeartbeatResponse)
	if req.Group == "" { // which may have offsets, but no members
		resp.ErrorCode = kerr.InvalidGroupID.Code
		return resp, nil
	}
	e, err := b.groups.entry(req.Group, false)
	switch {
	case err != nil:
		resp.ErrorCode, _ = codeOf(err)
	case e == nil:
		resp.ErrorCode = kerr.UnknownMemberID.Code
	default:
		resp.ErrorCode = e.g.Heartbeat(time.Now(), req.MemberID, req.InstanceID, req.Generation)
		b.groups.settle(e)
	}
	return resp, nil
}
