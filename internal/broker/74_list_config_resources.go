package broker

import (
	"context"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListConfigResources: v0-1 (KIP-1000, KIP-1142)
//
// Lists what DescribeConfigs can be asked about: topics, this broker, groups. There
// are no client metrics subscriptions. Groups are those with settings of their
// own. An unknown type is UNSUPPORTED_VERSION.
//
// Version notes: v0 lists client metrics subscriptions only; v1 the types that
// are named, none meaning all.

// resourceClientMetrics is ConfigResource.Type.CLIENT_METRICS.
const resourceClientMetrics = 16

func handleListConfigResources(_ context.Context, b *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.ListConfigResourcesRequest)
	resp := req.ResponseKind().(*kmsg.ListConfigResourcesResponse)
	if req.Version == 0 {
		return resp, nil
	}
	all := []int8{int8(kmsg.ConfigResourceTypeTopic), int8(kmsg.ConfigResourceTypeBroker), int8(kmsg.ConfigResourceTypeBrokerLogger), resourceClientMetrics, int8(kmsg.ConfigResourceTypeGroupConfig)}
	for _, t := range req.ResourceTypes {
		if !slices.Contains(all, t) {
			resp.ErrorCode = kerr.UnsupportedVersion.Code
			return resp, nil
		}
	}
	add := func(name string, typ int8) {
		if len(req.ResourceTypes) > 0 && !slices.Contains(req.ResourceTypes, typ) {
			return
		}
		sr := kmsg.NewListConfigResourcesResponseConfigResource()
		sr.Name, sr.Type = name, typ
		resp.ConfigResources = append(resp.ConfigResources, sr)
	}
	for _, t := range b.topics.all() {
		add(t.name, int8(kmsg.ConfigResourceTypeTopic))
	}
	node := strconv.Itoa(int(b.cfg.NodeID))
	add(node, int8(kmsg.ConfigResourceTypeBroker))
	add(node, int8(kmsg.ConfigResourceTypeBrokerLogger))
	for _, g := range b.groupConfigs.names() {
		add(g, int8(kmsg.ConfigResourceTypeGroupConfig))
	}
	return resp, nil
}
