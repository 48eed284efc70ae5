package broker

import (
	"context"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// IncrementalAlterConfigs: v0-1 (KIP-339)
//
// Sets or deletes single settings of a topic, a group or the broker
// (brokerconfig.go), and the level of the log (loggerconfig.go). APPEND and
// SUBTRACT change a list of a topic, which begins as the broker's default; on
// what is no list they are INVALID_CONFIG. A resource named twice, or a setting
// of one, is INVALID_REQUEST.
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
			err = b.configure(rr.ResourceType, rr.ResourceName, func(own map[string]string) error { return b.alter(own, rr) }, req.ValidateOnly)
		}
		sr.ErrorCode, sr.ErrorMessage = codeOf(err)
		resp.Resources = append(resp.Resources, sr)
	}
	return resp, nil
}

func (b *Broker) alter(own map[string]string, rr *kmsg.IncrementalAlterConfigsRequestResource) error {
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
		case kmsg.IncrementalAlterConfigOpAppend, kmsg.IncrementalAlterConfigOpSubtract:
			now, ok := b.topicList(rr.ResourceType, own, c.Name)
			if !ok {
				return apiErrorf(kerr.InvalidConfig, "setting %q is not a list", c.Name)
			}
			for e := range strings.SplitSeq(*c.Value, ",") {
				e = strings.TrimSpace(e)
				if c.Op == kmsg.IncrementalAlterConfigOpSubtract {
					now = slices.DeleteFunc(now, func(o string) bool { return o == e })
				} else if !slices.Contains(now, e) {
					now = append(now, e)
				}
			}
			own[c.Name] = strings.Join(now, ",")
		default:
			return apiErrorf(kerr.InvalidRequest, "operation %d on setting %q does not exist", c.Op, c.Name)
		}
	}
	return nil
}

// topicList returns the elements of a topic's list setting: its own or the
// broker's.
func (b *Broker) topicList(typ kmsg.ConfigResourceType, own map[string]string, name string) ([]string, bool) {
	if typ != kmsg.ConfigResourceTypeTopic {
		return nil, false
	}
	for _, k := range topicConfigKeys() {
		if k.name != name || k.typ != kmsg.ConfigTypeList {
			continue
		}
		v, ok := own[name]
		if !ok {
			v = k.get(b.topics.defaults.Load())
		}
		if v == "" {
			return nil, true
		}
		return strings.Split(v, ","), true
	}
	return nil, false
}
