package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterConfigs: v0-2
//
// Replaces all settings of a topic, a group or the broker (brokerconfig.go).
// IncrementalAlterConfigs (key 44) is the better one.
//
// Version notes: v2 flexible.

func handleAlterConfigs(_ context.Context, b *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.AlterConfigsRequest)
	resp := req.ResponseKind().(*kmsg.AlterConfigsResponse)
	for i := range req.Resources {
		rr := &req.Resources[i]
		sr := kmsg.NewAlterConfigsResponseResource()
		sr.ResourceType, sr.ResourceName = rr.ResourceType, rr.ResourceName
		err := b.configure(rr.ResourceType, rr.ResourceName, func(own map[string]string) error {
			clear(own)
			for _, c := range rr.Configs {
				if c.Value == nil {
					return apiErrorf(kerr.InvalidRequest, "Null value not supported for : %s", c.Name)
				}
				own[c.Name] = *c.Value
			}
			return nil
		}, req.ValidateOnly)
		sr.ErrorCode, sr.ErrorMessage = codeOf(err)
		resp.Resources = append(resp.Resources, sr)
	}
	return resp, nil
}
