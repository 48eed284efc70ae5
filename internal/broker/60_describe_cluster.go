package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeCluster: v0-2 (KIP-700)
//
// Version notes: v1 endpoint type: brokers only, asking for controllers is
// UNSUPPORTED_ENDPOINT_TYPE (KIP-919); v2 fenced brokers: there are none.

func handleDescribeCluster(_ context.Context, b *Broker, r *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.DescribeClusterRequest)
	resp := req.ResponseKind().(*kmsg.DescribeClusterResponse)
	resp.ClusterID, resp.ControllerID = b.dir.clusterID, b.cfg.NodeID
	if req.Version >= 1 && req.EndpointType != 1 {
		resp.ErrorCode = kerr.UnsupportedEndpointType.Code
		return resp, nil
	}
	sb := kmsg.NewDescribeClusterResponseBroker()
	sb.NodeID = b.cfg.NodeID
	sb.Host, sb.Port = r.conn.advertised()
	if b.cfg.Rack != "" {
		sb.Rack = &b.cfg.Rack
	}
	resp.Brokers = append(resp.Brokers, sb)
	return resp, nil
}
