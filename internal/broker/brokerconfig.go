package broker

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// brokerConfigs are the broker's properties that clients set while it runs
// (KIP-226): for all brokers (resource name "") or for this one, which wins.
// They are kept in broker-configs.json, and win over the file and the flags.
type brokerConfigs struct {
	b    *Broker
	path string
	// live is Broker.cfg with what was set in force.
	live atomic.Pointer[Config]

	mu     sync.RWMutex
	stored storedBrokerConfigs
}

// storedBrokerConfigs is broker-configs.json.
type storedBrokerConfigs struct {
	Cluster map[string]string `json:"cluster"` // for all brokers
	Broker  map[string]string `json:"broker"`  // for this one
}

func openBrokerConfigs(b *Broker) (*brokerConfigs, error) {
	c := &brokerConfigs{b: b, path: b.dir.file(configsFile)}
	found, err := readJSON(c.path, &c.stored)
	if err != nil {
		return nil, err
	}
	if !found {
		// Apache Kafka 4.1 and later write it when they format a directory, with the value of the file (KIP-966).
		const name = "min.insync.replicas"
		c.stored.Cluster = map[string]string{name: cmp.Or(b.cfg.Static[name], "1")}
	}
	live, err := c.apply(c.stored)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w: mend or remove that line", c.path, err)
	}
	c.live.Store(live)
	return c, nil
}

// apply returns the configuration with st in force.
func (c *brokerConfigs) apply(st storedBrokerConfigs) (*Config, error) {
	live := c.b.cfg
	live.TopicDefaults, live.Static = maps.Clone(live.TopicDefaults), maps.Clone(live.Static)
	for _, m := range []map[string]string{st.Cluster, st.Broker} {
		for _, f := range live.SetProperties(m) {
			if f.Kind == FindingRefused {
				return nil, fmt.Errorf("%s: %s", f.Name, f.Message)
			}
		}
	}
	return &live, nil
}

// checkBrokerName answers whether a resource name is this broker's.
func (c *brokerConfigs) checkName(name string) error {
	if name == "" {
		return nil
	}
	id, err := strconv.Atoi(name)
	switch {
	case err != nil:
		return apiErrorf(kerr.InvalidRequest, "Node id must be an integer, but it is: %s", name)
	case id != int(c.b.cfg.NodeID):
		return apiErrorf(kerr.InvalidRequest, "Unexpected broker id, expected %d, but received %s", c.b.cfg.NodeID, name)
	}
	return nil
}

// isDynamic answers whether a property may be changed while the broker runs.
func isDynamic(p property) bool {
	return p.dynamic || slices.Contains(dynamicWithoutEffect(), p.name)
}

// configure changes the properties of all brokers or of this one.
func (c *brokerConfigs) configure(name string, change func(map[string]string) error, dryRun bool) error {
	if err := c.checkName(name); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	next := storedBrokerConfigs{Cluster: maps.Clone(c.stored.Cluster), Broker: maps.Clone(c.stored.Broker)}
	which := &next.Cluster
	if name != "" {
		which = &next.Broker
	}
	if *which == nil {
		*which = map[string]string{}
	}
	if err := change(*which); err != nil {
		return err
	}
	declared := properties()
	for _, n := range slices.Sorted(maps.Keys(*which)) {
		p, ok := declared[n]
		switch {
		case !ok:
			return apiErrorf(kerr.InvalidRequest, "%s is no property of a Kafka broker", n)
		case !isDynamic(p):
			// Apache Kafka's words; KAFKA-13609 is why it is not INVALID_CONFIG.
			return apiErrorf(kerr.InvalidRequest, "Cannot update these configs dynamically: Set(%s)", n)
		}
	}
	live, err := c.apply(next)
	if err != nil {
		return apiErrorf(kerr.InvalidRequest, "Invalid value for %v", err)
	}
	defaults, err := live.topicDefaults(c.b.disk.limit)
	if err != nil {
		return apiErrorf(kerr.InvalidRequest, "%v", err)
	}
	if dryRun {
		return nil
	}
	if err := c.b.topics.write(c.b.cfg.FS, c.path, next); err != nil {
		c.b.logger.Error("broker settings could not be written", "err", err)
		return apiErrorf(kerr.KafkaStorageError, "%v", err)
	}
	if err := c.b.topics.setDefaults(defaults); err != nil {
		// What is in force and what is written must not differ.
		return errors.Join(err, c.b.topics.write(c.b.cfg.FS, c.path, c.stored))
	}
	c.stored = next
	c.live.Store(live)
	c.b.logger.Info("broker settings changed by a client", "for", cmp.Or(name, "all brokers"), "set", fmt.Sprint(*which))
	return nil
}

// synonyms are the values of a property, the one in force first.
func (c *brokerConfigs) synonyms(p property) []configSynonym {
	var l []configSynonym
	add := func(value string, source kmsg.ConfigSource) {
		s := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
		s.Name, s.Source = p.name, source
		if !p.secret {
			s.Value = &value
		}
		l = append(l, s)
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if v, ok := c.stored.Broker[p.name]; ok {
		add(v, kmsg.ConfigSourceDynamicBrokerConfig)
	}
	if v, ok := c.stored.Cluster[p.name]; ok {
		add(v, kmsg.ConfigSourceDynamicDefaultBrokerConfig)
	}
	base, def := &c.b.cfg, defaultConfig()
	if p.topic != "" {
		if len(p.instead) > 0 { // another unit of it: shown where it was set
			if v, ok := base.Static[p.name]; ok {
				add(v, kmsg.ConfigSourceStaticBrokerConfig)
			}
			return l
		}
		if _, ok := base.TopicDefaults[p.topic]; ok {
			add(topicValue(base, p.topic, c.b.disk.limit), kmsg.ConfigSourceStaticBrokerConfig)
		}
		add(topicValue(def, p.topic, c.b.disk.limit), kmsg.ConfigSourceDefaultConfig)
		return l
	}
	if p.get == nil {
		if v, ok := base.Static[p.name]; ok {
			add(v, kmsg.ConfigSourceStaticBrokerConfig)
		}
		if d, ok := shownAnyway()[p.name]; ok {
			add(d.value, kmsg.ConfigSourceDefaultConfig)
		}
		return l
	}
	v, dv := p.get(base), p.get(def)
	if p.name == "sluice.max.disk.bytes" { // its default depends on the disk
		v, dv = strconv.FormatInt(c.b.disk.limit, 10), strconv.FormatInt(c.b.disk.limit, 10)
	}
	if _, static := base.Static[p.name]; static || v != dv {
		add(v, kmsg.ConfigSourceStaticBrokerConfig)
	}
	if dv != "" || len(l) == 0 {
		add(dv, kmsg.ConfigSourceDefaultConfig)
	}
	return l
}

// defaultConfig is what is in force where nothing is set.
func defaultConfig() *Config {
	c, err := Config{DataDir: "."}.withDefaults()
	if err != nil { // a test starts brokers with it
		panic(err)
	}
	c.DataDir = ""
	return &c
}

// topicValue is a topic setting's default under a configuration.
func topicValue(c *Config, topic string, limit int64) string {
	tc, err := c.topicDefaults(limit)
	if err != nil { // it was checked when it was set
		panic(err)
	}
	for _, k := range topicConfigKeys() {
		if k.name == topic {
			return k.get(&tc)
		}
	}
	return ""
}

// topicSource says where the default of a topic setting comes from.
func (c *brokerConfigs) topicSource(topic string) kmsg.ConfigSource {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, k := range topicConfigKeys() {
		if k.name != topic {
			continue
		}
		if _, ok := c.stored.Broker[k.brokerName]; ok {
			return kmsg.ConfigSourceDynamicBrokerConfig
		}
		if _, ok := c.stored.Cluster[k.brokerName]; ok {
			return kmsg.ConfigSourceDynamicDefaultBrokerConfig
		}
	}
	if _, ok := c.b.cfg.TopicDefaults[topic]; ok {
		return kmsg.ConfigSourceStaticBrokerConfig
	}
	return kmsg.ConfigSourceDefaultConfig
}

// describe answers for this broker with everything that is in force, and for
// all brokers with what was set for them.
func (c *brokerConfigs) describe(rr *kmsg.DescribeConfigsRequestResource, sr *kmsg.DescribeConfigsResponseResource, req *kmsg.DescribeConfigsRequest) error {
	if err := c.checkName(rr.ResourceName); err != nil {
		return err
	}
	declared := properties()
	for _, name := range slices.Sorted(maps.Keys(declared)) {
		p := declared[name]
		if rr.ConfigNames != nil && !slices.Contains(rr.ConfigNames, name) {
			continue
		}
		syn := c.synonyms(p)
		if rr.ResourceName == "" {
			syn = slices.DeleteFunc(syn, func(s configSynonym) bool {
				return s.Source != kmsg.ConfigSourceDynamicDefaultBrokerConfig
			})
		}
		if len(syn) == 0 {
			continue
		}
		e := kmsg.NewDescribeConfigsResponseResourceConfig()
		e.Name, e.Value, e.Source, e.ConfigType = name, syn[0].Value, syn[0].Source, p.typ
		e.IsDefault = e.Source == kmsg.ConfigSourceDefaultConfig
		e.IsSensitive, e.ReadOnly = p.secret, !isDynamic(p)
		addConfig(sr, req, e, syn, strings.TrimSpace(cmp.Or(p.doc, "No effect: "+p.reason+".")))
	}
	return nil
}
