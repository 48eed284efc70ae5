package broker

import (
	"context"

	"github.com/sluice-data/sluice/internal/broker/group"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeGroups: v0-6
//
// A group that does not exist, or is a consumer group (KIP-848, described by
// ConsumerGroupDescribe), is state Dead without an error below version 6, and
// GROUP_ID_NOT_FOUND from there (KIP-1043). A group that is named twice is
// described once.
//
// Version notes: v3 authorised operations (all, see operations.go); v4 instance ids; v5
// flexible.

func handleDescribeGroups(_ context.Context, b *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.DescribeGroupsRequest)
	resp := req.ResponseKind().(*kmsg.DescribeGroupsResponse)
	seen := map[string]bool{}
	for _, name := range req.Groups {
		if seen[name] { // a large group named a million times would fill the memory
			continue
		}
		seen[name] = true
		sg := kmsg.NewDescribeGroupsResponseGroup()
		sg.Group = name
		e, err := b.groups.entry(name, false)
		switch {
		case err != nil:
		case e == nil:
			err = apiErrorf(kerr.GroupIDNotFound, "Group %s not found.", name)
		case e.g.Type() != group.Classic:
			err = apiErrorf(kerr.GroupIDNotFound, "Group %s is not a classic group.", name)
			e.mu.Unlock()
		default:
			e.describe(&sg)
			if req.IncludeAuthorizedOperations {
				sg.AuthorizedOperations = groupOperations
			}
			e.mu.Unlock()
		}
		sg.ErrorCode, sg.ErrorMessage = codeOf(err)
		if sg.ErrorCode == kerr.GroupIDNotFound.Code {
			sg.State = group.Dead.String()
			if req.Version < 6 {
				sg.ErrorCode, sg.ErrorMessage = 0, nil
			}
		}
		resp.Groups = append(resp.Groups, sg)
	}
	return resp, nil
}

func (e *groupEntry) describe(sg *kmsg.DescribeGroupsResponseGroup) {
	sg.State, sg.ProtocolType = e.g.State().String(), e.g.ProtocolType()
	var members []group.MemberInfo
	sg.Protocol, members = e.g.Describe()
	for _, m := range members {
		sm := kmsg.NewDescribeGroupsResponseGroupMember()
		sm.MemberID, sm.InstanceID, sm.ClientID, sm.ClientHost = m.ID, m.InstanceID, m.ClientID, m.ClientHost
		sm.ProtocolMetadata, sm.MemberAssignment = m.Metadata, m.Assignment
		sg.Members = append(sg.Members, sm)
	}
}
