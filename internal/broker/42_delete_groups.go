package broker

import (
	"context"

	"github.com/sluice-data/sluice/internal/broker/group"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteGroups: v0-2
//
// Only a group without members can be deleted; its offsets go with it. A
// group that is named twice is answered once.

func handleDeleteGroups(ctx context.Context, b *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.DeleteGroupsRequest)
	resp := req.ResponseKind().(*kmsg.DeleteGroupsResponse)
	seen := map[string]bool{}
	for _, name := range req.Groups {
		if seen[name] {
			continue
		}
		seen[name] = true
		sg := kmsg.NewDeleteGroupsResponseGroup()
		sg.Group = name
		e, err := b.groups.entry(name, false)
		switch {
		case err != nil:
			sg.ErrorCode, _ = codeOf(err)
		case e == nil:
			sg.ErrorCode = kerr.GroupIDNotFound.Code
		case e.g.State() != group.Empty:
			sg.ErrorCode = kerr.NonEmptyGroup.Code
			e.mu.Unlock()
		default:
			if err := b.groups.drop(ctx, e); err != nil {
				b.logger.Error("group could not be deleted", "group", name, "err", err)
				sg.ErrorCode, _ = codeOf(err)
			}
			b.groups.settle(e)
		}
		resp.Groups = append(resp.Groups, sg)
	}
	return resp, nil
}
