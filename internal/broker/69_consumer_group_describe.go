package broker

import (
	"context"

	"github.com/sluice-data/sluice/internal/broker/group"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ConsumerGroupDescribe: v0-1 (KIP-848)
//
// A group that does not exist, or is a classic one, is GROUP_ID_NOT_FOUND. A
// group that is named twice is described once. Partitions of topics that do
// not exist any more are left out.
//
// Version notes: v1 tells members that speak the classic protocol (0) from
// those of the consumer protocol (1). Authorised operations are all (operations.go).

func handleConsumerGroupDescribe(_ context.Context, b *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.ConsumerGroupDescribeRequest)
	resp := req.ResponseKind().(*kmsg.ConsumerGroupDescribeResponse)
	seen := map[string]bool{}
	for _, name := range req.Groups {
		if seen[name] {
			continue
		}
		seen[name] = true
		sg := kmsg.NewConsumerGroupDescribeResponseGroup()
		sg.Group = name
		if name == "" {
			sg.ErrorCode, sg.ErrorMessage = codeOf(apiErrorf(kerr.InvalidGroupID, "a group has a name"))
			resp.Groups = append(resp.Groups, sg)
			continue
		}
		e, err := b.groups.entry(name, false)
		switch {
		case err != nil:
		case e == nil:
			err = apiErrorf(kerr.GroupIDNotFound, "Group %s not found.", name)
		case e.g.Type() != group.Consumer:
			err = apiErrorf(kerr.GroupIDNotFound, "Group %s is not a consumer group.", name)
			e.mu.Unlock()
		default:
			e.describeConsumer(b.topics, &sg)
			if req.IncludeAuthorizedOperations {
				sg.AuthorizedOperations = groupOperations
			}
			e.mu.Unlock()
		}
		sg.ErrorCode, sg.ErrorMessage = codeOf(err)
		resp.Groups = append(resp.Groups, sg)
	}
	return resp, nil
}

func (e *groupEntry) describeConsumer(ts *topics, sg *kmsg.ConsumerGroupDescribeResponseGroup) {
	var members []group.ConsumerMember
	sg.State = e.g.State().String()
	sg.Epoch, sg.AssignmentEpoch, sg.AssignorName, members = e.g.DescribeConsumer()
	assignment := func(tps []group.TopicPartitions) kmsg.Assignment {
		a := kmsg.NewAssignment()
		for _, tp := range tps {
			if t := ts.byID(tp.ID); t != nil {
				at := kmsg.NewAssignmentTopicPartition()
				at.TopicID, at.Topic, at.Partitions = tp.ID, t.name, tp.Partitions
				a.TopicPartitions = append(a.TopicPartitions, at)
			}
		}
		return a
	}
	for _, m := range members {
		sm := kmsg.NewConsumerGroupDescribeResponseGroupMember()
		sm.MemberID, sm.InstanceID, sm.RackID, sm.MemberEpoch = m.ID, m.InstanceID, m.RackID, m.Epoch
		sm.ClientID, sm.ClientHost, sm.SubscribedTopics = m.ClientID, m.ClientHost, m.Topics
		sm.SubscribedTopicRegex = &m.Regex // "" for none, as Apache Kafka
		sm.Assignment, sm.TargetAssignment = assignment(m.Assigned), assignment(m.Target)
		if sm.MemberType = 1; m.Classic {
			sm.MemberType = 0
		}
		sg.Members = append(sg.Members, sm)
	}
}
