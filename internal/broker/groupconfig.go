package broker

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluice-data/sluice/internal/broker/group"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// groupConfigs are the settings of single consumer groups (resource type 32,
// GROUP, of the config APIs), by Kafka's names. A group need not exist to have
// some. They are kept in groups.json.
type groupConfigs struct {
	path   string
	cfg    *Config
	logger *slog.Logger

	mu  sync.RWMutex
	own map[string]map[string]string // by group
}

// storedGroups is groups.json.
type storedGroups struct {
	Configs map[string]map[string]string `json:"configs"` // by group
}

// groupConfigKey is a setting that a group may have of its own. All are
// numbers of milliseconds.
type groupConfigKey struct {
	name, brokerName string
	doc              string
	min, max         func(*Config) time.Duration
	def              func(*Config) time.Duration
	set              func(*group.ConsumerSettings, time.Duration)
}

func groupConfigKeys() []groupConfigKey {
	return []groupConfigKey{{
		name: "consumer.assignment.interval.ms", brokerName: "group.consumer.assignment.interval.ms",
		doc: "Least time between two assignments.",
		min: func(*Config) time.Duration { return 0 },
		max: func(*Config) time.Duration { return maxAssignmentInterval },
		def: func(c *Config) time.Duration { return c.GroupConsumerAssignmentInterval },
		set: func(s *group.ConsumerSettings, d time.Duration) { s.AssignmentInterval = d },
	}, {
		name: "consumer.heartbeat.interval.ms", brokerName: "group.consumer.heartbeat.interval.ms",
		doc: "How often members are told to send heartbeats.",
		min: func(c *Config) time.Duration { return c.GroupConsumerMinHeartbeat },
		max: func(c *Config) time.Duration { return c.GroupConsumerMaxHeartbeat },
		def: func(c *Config) time.Duration { return c.GroupConsumerHeartbeat },
		set: func(s *group.ConsumerSettings, d time.Duration) { s.Heartbeat = d },
	}, {
		name: "consumer.session.timeout.ms", brokerName: "group.consumer.session.timeout.ms",
		doc: "How long a member may be silent.",
		min: func(c *Config) time.Duration { return c.GroupConsumerMinSession },
		max: func(c *Config) time.Duration { return c.GroupConsumerMaxSession },
		def: func(c *Config) time.Duration { return c.GroupConsumerSession },
		set: func(s *group.ConsumerSettings, d time.Duration) { s.Session = d },
	}}
}

// maxAssignmentInterval is Kafka's group.consumer.max.assignment.interval.ms.
const maxAssignmentInterval = 15 * time.Second

// names lists the groups that have settings of their own.
func (gc *groupConfigs) names() []string {
	gc.mu.RLock()
	defer gc.mu.RUnlock()
	return slices.Sorted(maps.Keys(gc.own))
}

// maxGroupConfigs bounds the groups with settings of their own.
const maxGroupConfigs = 10_000

func openGroupConfigs(path string, cfg *Config) (*groupConfigs, error) {
	var st storedGroups
	if _, err := readJSON(path, &st); err != nil {
		return nil, err
	}
	if st.Configs == nil {
		st.Configs = map[string]map[string]string{}
	}
	return &groupConfigs{path: path, cfg: cfg, logger: cfg.Logger, own: st.Configs}, nil
}

// settings are those in force for a group. One that the broker's limits no
// longer allow is brought to the nearest that they do, as in Apache Kafka.
func (gc *groupConfigs) settings(name string) group.ConsumerSettings {
	gc.mu.RLock()
	own := gc.own[name] // replaced as a whole, never changed
	gc.mu.RUnlock()
	s := gc.cfg.groupLimits().Consumer
	if len(own) == 0 {
		return s
	}
	for _, k := range groupConfigKeys() {
		if v, ok := own[k.name]; ok {
			if ms, err := strconv.ParseInt(v, 10, 32); err == nil {
				d := time.Duration(ms) * time.Millisecond
				k.set(&s, min(max(d, k.min(gc.cfg)), k.max(gc.cfg)))
			}
		}
	}
	return s
}

// configure replaces a group's settings by what change makes of them.
func (gc *groupConfigs) configure(name string, change func(map[string]string) error, dryRun bool) error {
	if name == "" {
		return apiErrorf(kerr.InvalidRequest, "Default group resources are not allowed.")
	}
	gc.mu.Lock()
	defer gc.mu.Unlock()
	own := maps.Clone(gc.own[name])
	if own == nil {
		own = map[string]string{}
	}
	if err := change(own); err != nil {
		return err
	}
	if err := gc.check(own); err != nil {
		return err
	}
	if dryRun {
		return nil
	}
	next := maps.Clone(gc.own)
	if next[name] = own; len(own) == 0 {
		delete(next, name)
	}
	if len(next) > maxGroupConfigs && len(next) > len(gc.own) {
		return apiErrorf(kerr.PolicyViolation, "%d groups have settings of their own, as many as allowed", len(gc.own))
	}
	if err := writeJSON(gc.cfg.FS, gc.path, storedGroups{Configs: next}); err != nil {
		gc.logger.Error("settings of a group could not be written", "group", name, "err", err)
		return apiErrorf(kerr.KafkaStorageError, "%v", err)
	}
	gc.own = next
	return nil
}

func (gc *groupConfigs) check(own map[string]string) error {
	keys := groupConfigKeys()
	s := gc.cfg.groupLimits().Consumer
	for name, value := range own {
		i := slices.IndexFunc(keys, func(k groupConfigKey) bool { return k.name == name })
		if i < 0 {
			return apiErrorf(kerr.InvalidConfig, "Unknown group config name: %s", name)
		}
		k := &keys[i]
		ms, err := strconv.ParseInt(strings.TrimSpace(value), 10, 32)
		if err != nil {
			return apiErrorf(kerr.InvalidConfig, "Invalid value %s for configuration %s: Not a number of type INT", value, name)
		}
		d, lo, hi := time.Duration(ms)*time.Millisecond, k.min(gc.cfg), k.max(gc.cfg)
		if d < lo || d > hi {
			return apiErrorf(kerr.InvalidConfig, "%s: %d is not between %d and %d, the limits of this broker", name, ms, lo.Milliseconds(), hi.Milliseconds())
		}
		k.set(&s, d)
	}
	if s.Session <= s.Heartbeat {
		return apiErrorf(kerr.InvalidConfig, "consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms")
	}
	return nil
}

// describe answers a DescribeConfigs.
func (gc *groupConfigs) describe(rr *kmsg.DescribeConfigsRequestResource, sr *kmsg.DescribeConfigsResponseResource, req *kmsg.DescribeConfigsRequest) error {
	if rr.ResourceName == "" {
		return apiErrorf(kerr.InvalidRequest, "Group name must not be empty")
	}
	gc.mu.RLock()
	own := gc.own[rr.ResourceName]
	gc.mu.RUnlock()
	for _, k := range groupConfigKeys() {
		if rr.ConfigNames != nil && !slices.Contains(rr.ConfigNames, k.name) {
			continue
		}
		c := kmsg.NewDescribeConfigsResponseResourceConfig()
		def := strconv.FormatInt(k.def(gc.cfg).Milliseconds(), 10)
		c.Name, c.Value, c.ConfigType = k.name, &def, kmsg.ConfigTypeInt
		c.Source, c.IsDefault = kmsg.ConfigSourceDefaultConfig, true
		synonyms := []configSynonym{{Name: k.brokerName, Value: &def, Source: c.Source}}
		if v, ok := own[k.name]; ok {
			c.Value, c.Source, c.IsDefault = &v, kmsg.ConfigSourceGroupConfig, false
			synonyms = append([]configSynonym{{Name: k.name, Value: &v, Source: c.Source}}, synonyms...)
		}
		addConfig(sr, req, c, synonyms, k.doc)
	}
	return nil
}

// configure changes the settings of a resource.
func (b *Broker) configure(typ kmsg.ConfigResourceType, name string, change func(map[string]string) error, dryRun bool) error {
	switch typ {
	case kmsg.ConfigResourceTypeTopic:
		return b.topics.configure(name, change, dryRun)
	case kmsg.ConfigResourceTypeGroupConfig:
		return b.groupConfigs.configure(name, change, dryRun)
	case kmsg.ConfigResourceTypeBroker:
		return b.configs.configure(name, change, dryRun)
	}
	return apiErrorf(kerr.InvalidRequest, "settings of resource type %d do not exist here", typ)
}

// groupLimits are the limits of all groups.
func (c *Config) groupLimits() group.Limits {
	return group.Limits{
		MinSession: c.GroupMinSession, MaxSession: c.GroupMaxSession, MaxSize: c.GroupMaxSize, InitialDelay: c.GroupInitialDelay,
		Consumer: group.ConsumerSettings{
			Session: c.GroupConsumerSession, Heartbeat: c.GroupConsumerHeartbeat, AssignmentInterval: c.GroupConsumerAssignmentInterval,
		},
		ConsumerMaxSize: c.GroupConsumerMaxSize, Assignors: c.GroupConsumerAssignors, Migration: group.MigrationPolicy(c.GroupConsumerMigration),
	}
}

// checkGroups checks the settings of groups against each other.
func (c *Config) checkGroups() error {
	for _, k := range groupConfigKeys() {
		if d, lo, hi := k.def(c), k.min(c), k.max(c); d < lo || d > hi {
			return fmt.Errorf("%s %v is not between %v and %v: change it or its min and max settings", k.brokerName, d, lo, hi)
		}
	}
	switch group.MigrationPolicy(c.GroupConsumerMigration) {
	case group.MigrateBoth, group.MigrateUp, group.MigrateDown, group.MigrateNothing:
	default:
		return fmt.Errorf("group.consumer.migration.policy %q: want bidirectional, upgrade, downgrade or disabled", c.GroupConsumerMigration)
	}
	for _, name := range c.GroupConsumerAssignors {
		if !slices.Contains(group.Assignors(), name) {
			return fmt.Errorf("group.consumer.assignors: %q is not one of %s", name, strings.Join(group.Assignors(), ", "))
		}
	}
	switch {
	case c.GroupConsumerSession <= c.GroupConsumerHeartbeat:
		return fmt.Errorf("group.consumer.session.timeout.ms %v must be above group.consumer.heartbeat.interval.ms %v", c.GroupConsumerSession, c.GroupConsumerHeartbeat)
	case c.GroupInitialDelay < 0:
		return fmt.Errorf("group.initial.rebalance.delay.ms %v: want 0 or more", c.GroupInitialDelay)
	}
	return nil
}
