package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// IncrementalAlterConfigs: v0-1 (KIP-339)
//
// Sets or deletes single settings of a topic, a group or the broker
// (brokerconfig.go), and the level of the log (loggerconfig.go). There is no list setting with
// more than one possible element, so APPEND and SUBTRACT are INVALID_CONFIG.
//
// Version notes: v1 flexible.

func handleIncrementalAlterConfigs(_ context.Context, b *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.IncrementalAlterConfigsRequest)
	resp := req.ResponseKind().(*kmsg.IncrementalAlterConfigsResponse)
	type resource struct {
		typ  kmsg.ConfigResourceType
		name string
	}
	count := map[resource]int{}
	for _, rr := range req.Resources {
		count[resource{rr.ResourceType, rr.ResourceName}]++
	}
	for i := range req.Resources {
		rr := &req.Resources[i]
		sr := kmsg.NewIncrementalAlterConfigsResponseResource()
		sr.ResourceType, sr.ResourceName = rr.ResourceType, rr.ResourceName
		var err error
		if count[resource{rr.ResourceType, rr.ResourceName}] > 1 {
			err = apiErrorf(kerr.InvalidRequest, "Each resource must appear at most once.")
		} else if rr.ResourceType == kmsg.ConfigResourceTypeBrokerLogger {
			err = b.alterLogger(rr, req.ValidateOnly)
		} else {
			err = b.configure(rr.ResourceType, rr.ResourceName, func(own map[string]string) error { return alter(own, rr) }, req.ValidateOnly)
		}
		sr.ErrorCode, sr.ErrorMessage = codeOf(err)
		resp.Resources = append(resp.Resources, sr)
	}
	return resp, nil
}

func alter(own map[string]string, rr *kmsg.IncrementalAlterConfigsRequestResource) error {
	seen := map[string]bool{}
	for _, c := range rr.Configs {
		if seen[c.Name] {
			return apiErrorf(kerr.InvalidRequest, "Error due to duplicate config keys")
		}
		seen[c.Name] = true
		if c.Value == nil && c.Op != kmsg.IncrementalAlterConfigOpDelete {
			return apiErrorf(kerr.InvalidRequest, "Null value not supported for:%s", c.Name)
		}
		switch c.Op {
		case kmsg.IncrementalAlterConfigOpSet:
			own[c.Name] = *c.Value
		case kmsg.IncrementalAlterConfigOpDelete:
			delete(own, c.Name)
		default:
			return apiErrorf(kerr.InvalidConfig, "setting %q is not a list", c.Name)
		}
	}
	return nil
}
