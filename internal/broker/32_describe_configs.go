package broker

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeConfigs: v1-4
//
// Topics (type 2): every setting of topicconfig.go. Brokers (type 4):
// brokerconfig.go; the empty name means what was set for all brokers while
// they run. Loggers (type 8): loggerconfig.go. Groups (type 32):
// groupconfig.go. Client metrics (16) are known and have none here;
// others are INVALID_REQUEST. An empty list of names means all, as null does.
// A resource named twice is answered once.
//
// Version notes: v3 types and documentation; v4 flexible.

func handleDescribeConfigs(_ context.Context, b *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.DescribeConfigsRequest)
	resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
	type resource struct {
		typ  kmsg.ConfigResourceType
		name string
	}
	seen := map[resource]bool{}
	for i := range req.Resources {
		rr := &req.Resources[i]
		if k := (resource{rr.ResourceType, rr.ResourceName}); seen[k] { // the answer is far larger than the question
			continue
		} else {
			seen[k] = true
		}
		sr := kmsg.NewDescribeConfigsResponseResource()
		sr.ResourceType, sr.ResourceName = rr.ResourceType, rr.ResourceName
		var err error
		switch rr.ResourceType {
		case kmsg.ConfigResourceTypeTopic:
			err = b.describeTopicConfigs(rr, &sr, req)
		case kmsg.ConfigResourceTypeBroker:
			err = b.configs.describe(rr, &sr, req)
		case kmsg.ConfigResourceTypeBrokerLogger:
			err = b.describeLoggers(rr, &sr)
		case kmsg.ConfigResourceTypeGroupConfig:
			err = b.groupConfigs.describe(rr, &sr, req)
		case resourceClientMetrics:
			// Nothing can be set, so nothing is.
		default:
			err = apiErrorf(kerr.InvalidRequest, "settings of resource type %d do not exist here", rr.ResourceType)
		}
		if sr.ErrorCode, sr.ErrorMessage = codeOf(err); err == nil {
			sr.ErrorMessage = new(string)
		}
		resp.Resources = append(resp.Resources, sr)
	}
	return resp, nil
}

// configSynonym is one of the places from which a setting may come.
type configSynonym = kmsg.DescribeConfigsResponseResourceConfigConfigSynonym

// addConfig adds a setting to an answer, with what the request asks for.
func addConfig(sr *kmsg.DescribeConfigsResponseResource, req *kmsg.DescribeConfigsRequest, c kmsg.DescribeConfigsResponseResourceConfig, synonyms []configSynonym, doc string) {
	if req.IncludeSynonyms {
		c.ConfigSynonyms = synonyms
	}
	if req.IncludeDocumentation {
		c.Documentation = &doc
	}
	sr.Configs = append(sr.Configs, c)
}

func (b *Broker) describeTopicConfigs(rr *kmsg.DescribeConfigsRequestResource, sr *kmsg.DescribeConfigsResponseResource, req *kmsg.DescribeConfigsRequest) error {
	t := b.topics.byName(rr.ResourceName)
	if t == nil {
		if err := checkTopicName(rr.ResourceName); err != nil {
			return apiErrorf(kerr.InvalidTopicException, "%v", err)
		}
		return apiErrorf(kerr.UnknownTopicOrPartition, "topic %q does not exist", rr.ResourceName)
	}
	st, defaults := t.state.Load(), b.topics.defaults.Load()
	for _, k := range topicConfigKeys() {
		if len(rr.ConfigNames) > 0 && !slices.Contains(rr.ConfigNames, k.name) {
			continue
		}
		c := kmsg.NewDescribeConfigsResponseResourceConfig()
		v, def := k.get(&st.cfg), k.get(defaults)
		c.Name, c.Value, c.ConfigType = k.name, &v, k.typ
		source := b.configs.topicSource(k.name)
		c.Source, c.IsDefault = source, true
		var synonyms []configSynonym
		if k.brokerName != "" {
			synonyms = append(synonyms, configSynonym{Name: k.brokerName, Value: &def, Source: source})
		}
		if text, own := st.configs[k.name]; own {
			if k.typ == kmsg.ConfigTypeList {
				v = text // in the order in which it was set
			}
			c.Source, c.IsDefault = kmsg.ConfigSourceDynamicTopicConfig, false
			synonyms = append([]configSynonym{{Name: k.name, Value: &v, Source: c.Source}}, synonyms...)
		}
		addConfig(sr, req, c, synonyms, k.doc)
	}
	return nil
}
