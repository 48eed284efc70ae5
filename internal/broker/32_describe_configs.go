package broker

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeConfigs: v0-4
//
// Topics (type 2): every setting of topicconfig.go. Brokers (type 4): the
// same settings' defaults by their broker names, and the broker's own limits;
// all read-only, as they are flags. Groups (type 32): groupconfig.go. Others are
// INVALID_REQUEST.
//
// Version notes: v1 synonyms; v3 types and documentation; v4 flexible.

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
			err = b.describeBrokerConfigs(rr, &sr, req)
		case kmsg.ConfigResourceTypeGroupConfig:
			err = b.groupConfigs.describe(rr, &sr, req)
		default:
			err = apiErrorf(kerr.InvalidRequest, "settings of resource type %d do not exist here", rr.ResourceType)
		}
		sr.ErrorCode, sr.ErrorMessage = codeOf(err)
		resp.Resources = append(resp.Resources, sr)
	}
	return resp, nil
}

func (b *Broker) describeTopicConfigs(rr *kmsg.DescribeConfigsRequestResource, sr *kmsg.DescribeConfigsResponseResource, req *kmsg.DescribeConfigsRequest) error {
	t := b.topics.byName(rr.ResourceName)
	if t == nil {
		return apiErrorf(kerr.UnknownTopicOrPartition, "topic %q does not exist", rr.ResourceName)
	}
	st := t.state.Load()
	for _, k := range topicConfigKeys() {
		if rr.ConfigNames != nil && !slices.Contains(rr.ConfigNames, k.name) {
			continue
		}
		c := kmsg.NewDescribeConfigsResponseResourceConfig()
		v, def := k.get(&st.cfg), k.get(&b.topics.defaults)
		c.Name, c.Value, c.ConfigType = k.name, &v, k.typ
		source := b.defaultSource(k.name)
		c.Source, c.IsDefault = source, true
		synonyms := []kmsg.DescribeConfigsResponseResourceConfigConfigSynonym{{Name: k.brokerName, Value: &def, Source: source}}
		if _, own := st.configs[k.name]; own {
			c.Source, c.IsDefault = kmsg.ConfigSourceDynamicTopicConfig, false
			synonyms = append([]kmsg.DescribeConfigsResponseResourceConfigConfigSynonym{{Name: k.name, Value: &v, Source: c.Source}}, synonyms...)
		}
		if req.IncludeSynonyms {
			c.ConfigSynonyms = synonyms
		}
		if req.IncludeDocumentation {
			c.Documentation = &k.doc
		}
		sr.Configs = append(sr.Configs, c)
	}
	return nil
}

// defaultSource says where a topic default comes from: a flag or the code.
func (b *Broker) defaultSource(name string) kmsg.ConfigSource {
	if _, ok := b.cfg.TopicDefaults[name]; ok {
		return kmsg.ConfigSourceStaticBrokerConfig
	}
	return kmsg.ConfigSourceDefaultConfig
}

func (b *Broker) describeBrokerConfigs(rr *kmsg.DescribeConfigsRequestResource, sr *kmsg.DescribeConfigsResponseResource, req *kmsg.DescribeConfigsRequest) error {
	if rr.ResourceName != "" && rr.ResourceName != strconv.Itoa(int(b.cfg.NodeID)) {
		return apiErrorf(kerr.InvalidRequest, "broker %q is not this one, %d", rr.ResourceName, b.cfg.NodeID)
	}
	add := func(name, value string, typ kmsg.ConfigType, source kmsg.ConfigSource, doc string) {
		if rr.ConfigNames != nil && !slices.Contains(rr.ConfigNames, name) {
			return
		}
		c := kmsg.NewDescribeConfigsResponseResourceConfig()
		c.Name, c.Value, c.ConfigType, c.Source, c.ReadOnly = name, &value, typ, source, true
		c.IsDefault = source == kmsg.ConfigSourceDefaultConfig
		if req.IncludeSynonyms {
			c.ConfigSynonyms = []kmsg.DescribeConfigsResponseResourceConfigConfigSynonym{{Name: name, Value: &value, Source: source}}
		}
		if req.IncludeDocumentation {
			c.Documentation = &doc
		}
		sr.Configs = append(sr.Configs, c)
	}
	if rr.ResourceName == "" {
		return nil // cluster-wide dynamic settings: there are none
	}
	for _, k := range topicConfigKeys() {
		add(k.brokerName, k.get(&b.topics.defaults), k.typ, b.defaultSource(k.name), k.doc)
	}
	static := kmsg.ConfigSourceStaticBrokerConfig
	add("auto.create.topics.enable", strconv.FormatBool(!b.cfg.DisableAutoCreate), kmsg.ConfigTypeBoolean, static, "Create a topic when a client first names it.")
	add("broker.id", strconv.Itoa(int(b.cfg.NodeID)), kmsg.ConfigTypeInt, static, "Number of this broker.")
	add("default.replication.factor", "1", kmsg.ConfigTypeInt, kmsg.ConfigSourceDefaultConfig, "There is one broker.")
	for _, s := range b.cfg.groupSettings() {
		add(s.name, s.value, s.typ, static, s.doc)
	}
	add("max.connections", strconv.Itoa(b.cfg.MaxConnections), kmsg.ConfigTypeInt, static, "Most connections at a time.")
	add("num.partitions", strconv.Itoa(int(b.cfg.NumPartitions)), kmsg.ConfigTypeInt, static, "Partitions of a topic that is created without a number.")
	add("offsets.retention.minutes", strconv.Itoa(int(b.cfg.OffsetsRetention.Minutes())), kmsg.ConfigTypeInt, static, "How long offsets of a group without members are kept.")
	add("sluice.max.disk.bytes", strconv.FormatInt(b.disk.limit, 10), kmsg.ConfigTypeLong, static, "Limit of all topics together; -1 for none.")
	add("socket.request.max.bytes", strconv.Itoa(int(b.cfg.MaxRequestBytes)), kmsg.ConfigTypeInt, static, "Largest request.")
	slices.SortFunc(sr.Configs, func(a, b kmsg.DescribeConfigsResponseResourceConfig) int { return strings.Compare(a.Name, b.Name) })
	return nil
}
