package broker

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ElectLeaders: v0-2 (KIP-183, KIP-460)
//
// The only replica leads always, so an election is never needed:
// ELECTION_NOT_NEEDED for each partition that is named. A null list of topics
// means all; then partitions without an election are left out.
//
// Version notes: v1 the type of election (preferred or unclean); v2 flexible.

func handleElectLeaders(_ context.Context, b *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.ElectLeadersRequest)
	resp := req.ResponseKind().(*kmsg.ElectLeadersResponse)
	if req.Topics == nil {
		for _, t := range b.topics.all() {
			st := kmsg.NewElectLeadersResponseTopic()
			st.Topic = t.name
			resp.Topics = append(resp.Topics, st)
		}
		return resp, nil
	}
	var badType string
	if req.Version >= 1 && req.ElectionType != 0 && req.ElectionType != 1 {
		resp.ErrorCode = kerr.InvalidRequest.Code
		badType = fmt.Sprintf("Unknown election type %d", req.ElectionType)
	}
	for _, rt := range req.Topics {
		st := kmsg.NewElectLeadersResponseTopic()
		st.Topic = rt.Topic
		t := b.topics.byName(rt.Topic)
		for _, p := range rt.Partitions {
			sp := kmsg.NewElectLeadersResponseTopicPartition()
			sp.Partition = p
			var err error
			switch {
			case badType != "":
				err = apiErrorf(kerr.InvalidRequest, "%s", badType)
			case t == nil:
				err = apiErrorf(kerr.UnknownTopicOrPartition, "No such topic as %s", rt.Topic)
			case t.part(p) == nil:
				err = apiErrorf(kerr.UnknownTopicOrPartition, "No such partition as %s-%d", rt.Topic, p)
			default:
				err = apiErrorf(kerr.ElectionNotNeeded, "Leader election not needed for topic partition.")
			}
			sp.ErrorCode, sp.ErrorMessage = codeOf(err)
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp, nil
}
