package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeCluster: v0-2 (KIP-700)
//
// Version notes: v1 endpoint type: brokers only, asking for controllers is
// MISMATCHED_ENDPOINT_TYPE (KIP-919); v2 fenced brokers: there are none.

const (
	endpointBrokers     = 1
	endpointControllers = 2
)

func handleDescribeCluster(_ context.Context, b *Broker, r *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.DescribeClusterRequest)
	resp := req.ResponseKind().(*kmsg.DescribeClusterResponse)
	if req.Version >= 1 && req.EndpointType != endpointBrokers {
		err := apiErrorf(kerr.UnsupportedEndpointType, "Unsupported endpoint type %d", req.EndpointType)
		if req.EndpointType == endpointControllers {
			err = apiErrorf(kerr.MismatchedEndpointType, "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER")
		}
		resp.ErrorCode, resp.ErrorMessage = codeOf(err)
		return resp, nil
	}
	resp.ClusterID, resp.ControllerID = b.dir.clusterID, b.cfg.NodeID
	if req.IncludeClusterAuthorizedOperations {
		resp.ClusterAuthorizedOperations = clusterOperations
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
