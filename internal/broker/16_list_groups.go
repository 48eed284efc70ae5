package broker

import (
	"context"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListGroups: v0-5
//
// Types are classic and consumer (KIP-848).
//
// Version notes: v3 flexible; v4 filter by state (KIP-518); v5 filter by type
// (KIP-848). Filters ignore case.

func handleListGroups(_ context.Context, b *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.ListGroupsRequest)
	resp := req.ResponseKind().(*kmsg.ListGroupsResponse)
	wanted := func(filter []string, v string) bool {
		return len(filter) == 0 || slices.ContainsFunc(filter, func(f string) bool { return strings.EqualFold(f, v) })
	}
	for _, e := range b.groups.entries() {
		e.mu.Lock()
		lg := kmsg.NewListGroupsResponseGroup()
		lg.Group, lg.ProtocolType = e.name, e.g.ProtocolType()
		lg.GroupState, lg.GroupType = e.g.State().String(), e.g.Type().String()
		gone := e.gone
		e.mu.Unlock()
		if !gone && wanted(req.StatesFilter, lg.GroupState) && wanted(req.TypesFilter, lg.GroupType) {
			resp.Groups = append(resp.Groups, lg)
		}
	}
	slices.SortFunc(resp.Groups, func(a, b kmsg.ListGroupsResponseGroup) int { return strings.Compare(a.Group, b.Group) })
	return resp, nil
}
