package broker

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/suggest"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// property declares one property of Apache Kafka's server.properties. The
// declaration feeds the reading of the file, the broker resource of the config
// APIs, and docs/broker-properties.md.
type property struct {
	name string
	typ  kmsg.ConfigType
	doc  string
	// set is nil for a property without effect.
	set func(c *Config, value string) error
	// get is nil where there is nothing to show.
	get func(c *Config) string
	// reason is why a property has no effect, or only one possible value.
	reason string
	// dynamic properties can be changed while the broker runs.
	dynamic bool
	// topic is the topic setting whose default this is.
	topic string
	// instead are the properties that win when one of them is set too.
	instead []string
	secret  bool
}

// PropertyFinding is what was noticed about one property.
type PropertyFinding struct {
	Name    string
	Message string
	Kind    FindingKind
}

// FindingKind says what a finding means for the start.
type FindingKind uint8

const (
	FindingRefused  FindingKind = iota // the broker must not start
	FindingUnknown                     // a warning
	FindingShadowed                    // another property wins
	FindingNoEffect                    // known, without effect here
)

// SetProperties puts properties by Kafka's names into c. It never fails as a
// whole: what is wrong is in the findings, in the order of the names.
func (c *Config) SetProperties(values map[string]string) []PropertyFinding {
	var fs []PropertyFinding
	declared := properties()
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value := strings.TrimSpace(values[name])
		find := func(kind FindingKind, format string, args ...any) {
			fs = append(fs, PropertyFinding{Name: name, Kind: kind, Message: fmt.Sprintf(format, args...)})
		}
		p, ok := declared[name]
		if !ok {
			if reason := prefixReason(name); reason != "" {
				find(FindingNoEffect, "%s", reason)
				continue
			}
			hint := suggest.Hint(name, slices.Sorted(maps.Keys(declared)))
			if hint != "" {
				hint = ": " + hint
			}
			find(FindingUnknown, "no property of a Kafka broker%s", hint)
			continue
		}
		if i := slices.IndexFunc(p.instead, func(n string) bool { _, set := values[n]; return set }); i >= 0 {
			find(FindingShadowed, "%s is set and wins", p.instead[i])
			continue
		}
		if p.set == nil {
			find(FindingNoEffect, "%s", p.reason)
			continue
		}
		if err := p.set(c, value); err != nil {
			find(FindingRefused, "%v", err)
			continue
		}
		if c.Static == nil {
			c.Static = map[string]string{}
		}
		c.Static[name] = value
	}
	return fs
}

// prefixReason is about names of which there is no end.
func prefixReason(name string) string {
	for _, p := range []struct{ prefix, reason string }{
		{"listener.name.", "listeners have no settings of their own here"},
		{"zookeeper.", "there is no ZooKeeper"},
		{"sasl.", noSASL}, {"ssl.", noTLS},
		{"remote.log.", noTiers}, {"rsm.config.", noTiers}, {"rlmm.config.", noTiers},
		{"group.share.", noShare}, {"share.coordinator.", noShare},
		{"confluent.", "it belongs to another vendor's broker"},
		{"kafka.metrics.", noJMX},
	} {
		if strings.HasPrefix(name, p.prefix) {
			return p.reason
		}
	}
	return ""
}

const (
	noReplicas = "there is one broker, so nothing is replicated"
	noKRaft    = "there is no controller quorum: topics and settings are in the data directory"
	noThreads  = "every connection has its own goroutines, which cost nothing while they wait"
	noSASL     = "SASL is not served yet"
	noTLS      = "TLS is not served yet"
	noTiers    = "there is no tiered storage"
	noShare    = "there are no share groups"
	noStreams  = "there are no streams groups"
	noJMX      = "metrics are served in Prometheus' format: --metrics HOST:PORT"
	noTxn      = "there are no transactions yet"
	noQuotas   = "quotas are set by clients, not here, and count in Kafka's default windows"
	noZK       = "there is no ZooKeeper"
	noPlugins  = "Java classes cannot be loaded"
	noTokens   = "there are no delegation tokens"
	noPurge    = "what waits is woken when it is done, and leaves nothing to purge"
	noCleaner  = "the cleaner needs no tuning"
	oneLog     = "the group log is one partition that compacts itself"
)

// withoutEffect lists Kafka's properties that change nothing here, by reason.
// Those that another declaration has do not count.
func withoutEffect() map[string][]string {
	return map[string][]string{
		noReplicas: {"auto.leader.rebalance.enable", "leader.imbalance.check.interval.seconds", "leader.imbalance.per.broker.percentage",
			"default.replication.factor", "min.insync.replicas", "num.replica.fetchers", "num.replica.alter.log.dirs.threads", "offsets.topic.replication.factor",
			"replica.fetch.backoff.ms", "replica.fetch.max.bytes", "replica.fetch.min.bytes", "replica.fetch.response.max.bytes", "replica.fetch.wait.max.ms",
			"replica.high.watermark.checkpoint.interval.ms", "replica.lag.time.max.ms", "replica.lag.max.messages", "replica.selector.class",
			"replica.socket.receive.buffer.bytes", "replica.socket.timeout.ms", "replication.quota.window.num", "replication.quota.window.size.seconds",
			"alter.log.dirs.replication.quota.window.num", "alter.log.dirs.replication.quota.window.size.seconds", "unclean.leader.election.enable",
			"unclean.leader.election.interval.ms", "controlled.shutdown.enable", "controlled.shutdown.max.retries", "controlled.shutdown.retry.backoff.ms",
			"inter.broker.protocol.version", "leader.replication.throttled.rate", "follower.replication.throttled.rate", "replica.alter.log.dirs.io.max.bytes.per.second",
			"request.timeout.ms", "controller.socket.timeout.ms", "socket.connection.setup.timeout.ms", "socket.connection.setup.timeout.max.ms", "eligible.leader.replicas.enable",
			"follower.fetch.last.tiered.offset.enable", "log.dir.failure.timeout.ms", "cordoned.log.dirs"},
		noKRaft: {"broker.heartbeat.interval.ms", "broker.session.timeout.ms", "broker.id.generation.enable", "reserved.broker.max.id", "controller.quorum.voters", "controller.quorum.bootstrap.servers",
			"controller.quorum.append.linger.ms", "controller.quorum.auto.join.enable", "controller.quorum.election.backoff.max.ms", "controller.quorum.election.timeout.ms",
			"controller.quorum.fetch.max.bytes", "controller.quorum.fetch.snapshot.max.bytes", "controller.quorum.fetch.timeout.ms", "controller.quorum.request.timeout.ms",
			"controller.quorum.retry.backoff.ms", "controller.performance.always.log.threshold.ms", "controller.performance.sample.period.ms", "controller.quota.window.num", "controller.quota.window.size.seconds",
			"control.plane.listener.name", "early.start.listeners", "initial.broker.registration.timeout.ms", "internal.metadata.delete.delay.millis", "internal.metadata.log.segment.bytes", "internal.metadata.max.batch.size.in.bytes",
			"metadata.log.dir", "metadata.log.max.record.bytes.between.snapshots", "metadata.log.max.snapshot.interval.ms", "metadata.log.segment.bytes", "metadata.log.segment.min.bytes", "metadata.log.segment.ms",
			"metadata.max.idle.interval.ms", "metadata.max.retention.bytes", "metadata.max.retention.ms", "server.max.startup.time.ms", "unstable.api.versions.enable", "unstable.feature.versions.enable"},
		noThreads: {"background.threads", "num.io.threads", "num.network.threads", "num.recovery.threads.per.data.dir", "queued.max.requests",
			"group.coordinator.threads", "group.coordinator.background.threads", "group.coordinator.append.linger.ms", "group.coordinator.cached.buffer.max.bytes"},
		"a connection sends through 384 KiB here, and the operating system sizes the other buffers": {"socket.send.buffer.bytes", "socket.receive.buffer.bytes", "socket.listen.backlog.size"},
		"new connections are not slowed down":                                                       {"max.connection.creation.rate"},
		noTxn: {"transaction.state.log.replication.factor", "transaction.state.log.min.isr", "transaction.state.log.num.partitions", "transaction.state.log.segment.bytes",
			"transaction.state.log.load.buffer.size", "transaction.max.timeout.ms", "transactional.id.expiration.ms", "transaction.abort.timed.out.transaction.cleanup.interval.ms",
			"transaction.remove.expired.transaction.cleanup.interval.ms", "transaction.partition.verification.enable", "transaction.two.phase.commit.enable",
			"add.partitions.to.txn.retry.backoff.ms", "add.partitions.to.txn.retry.backoff.max.ms"},
		oneLog:   {"offsets.topic.num.partitions", "offsets.topic.segment.bytes", "offsets.topic.compression.codec", "offsets.load.buffer.size", "offsets.commit.timeout.ms", "offsets.commit.required.acks"},
		noQuotas: {"quota.window.num", "quota.window.size.seconds", "quota.producer.default", "quota.consumer.default"},
		noJMX:    {"metric.reporters", "metrics.num.samples", "metrics.recording.level", "metrics.sample.window.ms", "kafka.metrics.reporters", "kafka.metrics.polling.interval.secs", "auto.include.jmx.reporter"},
		noPurge:  {"delete.records.purgatory.purge.interval.requests", "fetch.purgatory.purge.interval.requests", "producer.purgatory.purge.interval.requests", "share.fetch.purgatory.purge.interval.requests"},
		noCleaner: {"log.cleaner.dedupe.buffer.size", "log.cleaner.enable", "log.cleaner.io.buffer.load.factor", "log.cleaner.io.buffer.size",
			"log.cleaner.io.max.bytes.per.second", "log.cleaner.threads"},
		"recovery needs no checkpoints of its own":                                                        {"log.flush.offset.checkpoint.interval.ms", "log.flush.start.offset.checkpoint.interval.ms"},
		"log.flush.interval.ms is kept without a schedule":                                                {"log.flush.scheduler.interval.ms"},
		"upkeep runs every 10 s":                                                                          {"offsets.retention.check.interval.ms", "producer.id.expiration.check.interval.ms", "log.initial.task.delay.ms"},
		"files of deleted segments go when nobody reads them":                                             {"log.segment.delete.delay.ms"},
		"batches keep the producer's format":                                                              {"log.message.format.version", "log.message.downconversion.enable"},
		"it is gone since Kafka 4.0: log.message.timestamp.before.max.ms and after.max.ms took its place": {"log.message.timestamp.difference.max.ms"},
		"it is gone since Kafka 3.0: listeners=PLAINTEXT://HOST:PORT says it":                             {"host.name", "port"},
		"it is gone since Kafka 3.0: advertised.listeners=PLAINTEXT://HOST:PORT says it":                  {"advertised.host.name", "advertised.port"},
		"without an authorizer everybody may do everything":                                               {"super.users", "allow.everyone.if.no.acl.found", "principal.builder.class"},
		noTokens: {"delegation.token.expiry.check.interval.ms", "delegation.token.expiry.time.ms", "delegation.token.max.lifetime.ms", "delegation.token.secret.key", "delegation.token.master.key"},
		noSASL:   {"connection.failed.authentication.delay.ms", "connections.max.reauth.ms", "security.providers"},
		noTiers:  {"log.local.retention.bytes", "log.local.retention.ms", "remote.fetch.max.wait.ms", "remote.list.offsets.request.timeout.ms"},
		noShare:  {"max.request.partition.size.limit"},
		noStreams: {"group.streams.assignment.interval.ms", "group.streams.heartbeat.interval.ms", "group.streams.initial.rebalance.delay.ms", "group.streams.max.assignment.interval.ms",
			"group.streams.max.heartbeat.interval.ms", "group.streams.max.session.timeout.ms", "group.streams.max.size", "group.streams.max.standby.replicas",
			"group.streams.min.assignment.interval.ms", "group.streams.min.heartbeat.interval.ms", "group.streams.min.session.timeout.ms", "group.streams.num.standby.replicas", "group.streams.session.timeout.ms"},
		"both protocols of consumer groups are served":                   {"group.coordinator.rebalance.protocols", "group.coordinator.new.enable"},
		"its value is fixed":                                             {"group.consumer.max.assignment.interval.ms", "group.consumer.min.assignment.interval.ms", "group.consumer.regex.refresh.interval.ms", "max.incremental.fetch.session.cache.slots", "offset.metadata.max.bytes", "producer.id.expiration.ms", "telemetry.max.bytes", "log.index.size.max.bytes", "log.preallocate"},
		"segments of different partitions end at different times anyway": {"log.roll.jitter.ms", "log.roll.jitter.hours"},
		noPlugins: {"kafka.csv.metrics.reporter.enabled"},
		noZK:      {"zookeeper.connect", "zookeeper.connection.timeout.ms", "zookeeper.session.timeout.ms", "zookeeper.set.acl", "zookeeper.max.in.flight.requests", "zookeeper.sync.time.ms", "zookeeper.metadata.migration.enable", "password.encoder.secret", "password.encoder.old.secret"},
	}
}

// whole declares a whole number that is at least least.
func whole[T int | int32 | int64](name, doc string, least T, f func(*Config) *T) property {
	typ, bits := kmsg.ConfigTypeInt, 32
	if _, ok := any(T(0)).(int64); ok {
		typ, bits = kmsg.ConfigTypeLong, 64
	}
	return property{name: name, typ: typ, doc: doc,
		get: func(c *Config) string { return strconv.FormatInt(int64(*f(c)), 10) },
		set: func(c *Config, s string) error {
			n, err := strconv.ParseInt(s, 10, bits)
			if err != nil || n < int64(least) {
				return fmt.Errorf("%q: want a whole number, %d or more", s, least)
			}
			*f(c) = T(n)
			return nil
		}}
}

// span declares a time in units of unit that is at least least of them.
func span(name, doc string, typ kmsg.ConfigType, unit time.Duration, least int64, f func(*Config) *time.Duration) property {
	return property{name: name, typ: typ, doc: doc,
		get: func(c *Config) string { return strconv.FormatInt(int64(*f(c)/unit), 10) },
		set: func(c *Config, s string) error {
			n, err := strconv.ParseInt(s, 10, 64)
			if err != nil || n < least {
				return fmt.Errorf("%q: want a whole number, %d or more", s, least)
			}
			*f(c) = time.Duration(min(n, math.MaxInt64/int64(unit))) * unit
			return nil
		}}
}

func millis(name, doc string, least int64, f func(*Config) *time.Duration) property {
	return span(name, doc, kmsg.ConfigTypeInt, time.Millisecond, least, f)
}

// text declares a string that Start checks.
func text(name, doc string, f func(*Config) *string) property {
	return property{name: name, typ: kmsg.ConfigTypeString, doc: doc,
		get: func(c *Config) string { return *f(c) },
		set: func(c *Config, s string) error { *f(c) = s; return nil }}
}

func yesNo(name, doc string, get func(*Config) bool, set func(*Config, bool)) property {
	return property{name: name, typ: kmsg.ConfigTypeBoolean, doc: doc,
		get: func(c *Config) string { return strconv.FormatBool(get(c)) },
		set: func(c *Config, s string) error {
			switch strings.ToLower(s) {
			case "true":
				set(c, true)
			case "false":
				set(c, false)
			default:
				return fmt.Errorf("%q: want true or false", s)
			}
			return nil
		}}
}

// only declares a property that must have one of a few values, because the
// others would be a promise that is not kept.
func only(name string, typ kmsg.ConfigType, reason, doc string, allowed ...string) property {
	return property{name: name, typ: typ, doc: doc, reason: reason,
		get: func(*Config) string { return allowed[0] },
		set: func(_ *Config, s string) error {
			if slices.Contains(allowed, s) {
				return nil
			}
			return fmt.Errorf("%q: %s", s, reason)
		}}
}

// topicTime declares another unit for a topic setting in milliseconds.
func topicTime(name, topic, doc string, unit time.Duration, instead ...string) property {
	return property{name: name, typ: kmsg.ConfigTypeInt, doc: doc, instead: instead, topic: topic,
		set: func(c *Config, s string) error {
			n, err := strconv.ParseInt(s, 10, 32)
			if err != nil || n == 0 || n < -1 {
				return fmt.Errorf("%q: want a whole number, 1 or more, or -1 for no limit", s)
			}
			if n > 0 {
				n *= int64(unit / time.Millisecond)
			}
			return c.setTopicDefault(topic, strconv.FormatInt(n, 10))
		}}
}

func (c *Config) setTopicDefault(topic, value string) error {
	tc := log.DefaultTopicConfig()
	if err := setTopicConfig(&tc, topic, value); err != nil {
		return err
	}
	if c.TopicDefaults == nil {
		c.TopicDefaults = map[string]string{}
	}
	c.TopicDefaults[topic] = value
	return nil
}

// nodeID sets the number of the broker.
func nodeID(name string) property {
	return property{name: name, typ: kmsg.ConfigTypeInt, doc: "The broker's number.",
		get: func(c *Config) string { return strconv.Itoa(int(c.NodeID)) },
		set: func(c *Config, s string) error {
			n, err := strconv.ParseInt(s, 10, 32)
			switch {
			case err != nil || n < -1:
				return fmt.Errorf("%q: want a whole number, 0 or more", s)
			case n == 0:
				c.NodeID = NodeZero
			case n > 0: // -1 asked ZooKeeper for one
				c.NodeID = int32(n)
			}
			return nil
		}}
}

func dataDirs(name string, instead ...string) property {
	return property{name: name, typ: kmsg.ConfigTypeString, doc: "The data directory (--data).", instead: instead,
		get: func(c *Config) string { return c.DataDir },
		set: func(c *Config, s string) error {
			if strings.Contains(s, ",") {
				return fmt.Errorf("%q: there is one data directory: name one, or say --data DIR", s)
			}
			c.DataDir = s
			return nil
		}}
}

// properties returns the declarations by name.
func properties() map[string]property {
	m := map[string]property{}
	add := func(ps ...property) {
		for _, p := range ps {
			m[p.name] = p
		}
	}
	for _, k := range topicConfigKeys() {
		if k.brokerName == "" || k.topicOnly {
			continue // a file from a cluster says min.insync.replicas=2; refusing it would help nobody
		}
		add(property{name: k.brokerName, typ: k.typ, doc: k.doc, topic: k.name, dynamic: true,
			set: func(c *Config, s string) error { return c.setTopicDefault(k.name, s) }})
	}
	add(
		topicTime("log.retention.minutes", "retention.ms", "How long records are kept, in minutes; -1 for no limit.", time.Minute, "log.retention.ms"),
		topicTime("log.retention.hours", "retention.ms", "How long records are kept, in hours; -1 for no limit.", time.Hour, "log.retention.ms", "log.retention.minutes"),
		topicTime("log.roll.hours", "segment.ms", "Longest time that the records of a segment span, in hours.", time.Hour, "log.roll.ms"),
		text("listeners", "Addresses to listen on, NAME://HOST:PORT (--listen).", func(c *Config) *string { return &c.Listen }),
		text("advertised.listeners", "Addresses told to clients (--advertise). Unset: the address through which the client came.", func(c *Config) *string { return &c.Advertise }),
		text("listener.security.protocol.map", "Protocols of the listeners. Only PLAINTEXT is served; a listener with another is refused.", func(c *Config) *string { return &c.ProtocolMap }),
		text("inter.broker.listener.name", "Must be one of the listeners. There is no other broker to use it.", func(c *Config) *string { return &c.InterBrokerListener }),
		property{name: "controller.listener.names", typ: kmsg.ConfigTypeList, doc: "Listeners of the controller, which are not opened: there is none.",
			get: func(c *Config) string { return strings.Join(c.ControllerListeners, ",") },
			set: func(c *Config, s string) error {
				c.ControllerListeners = nil
				for _, n := range strings.Split(s, ",") {
					if n = strings.ToUpper(strings.TrimSpace(n)); n != "" {
						c.ControllerListeners = append(c.ControllerListeners, n)
					}
				}
				return nil
			}},
		only("security.inter.broker.protocol", kmsg.ConfigTypeString, "only PLAINTEXT is served yet", "Protocol between brokers.", "PLAINTEXT"),
		only("process.roles", kmsg.ConfigTypeList, "this is a broker, and controllers of Apache Kafka cannot be part of it: want broker, or broker,controller", "Roles of the process.", "broker", "broker,controller", "controller,broker", "broker, controller", "controller, broker", ""),
		only("authorizer.class.name", kmsg.ConfigTypeString, "access control is not served yet, and without it everybody may do everything: remove the line to start all the same", "Access control.", ""),
		only("create.topic.policy.class.name", kmsg.ConfigTypeString, "Java classes cannot be loaded, and the policy would not be kept: remove the line to start all the same", "Policy for new topics.", ""),
		only("alter.config.policy.class.name", kmsg.ConfigTypeString, "Java classes cannot be loaded, and the policy would not be kept: remove the line to start all the same", "Policy for settings.", ""),
		only("config.providers", kmsg.ConfigTypeList, "values from a provider cannot be read: write them into the file", "Providers of values.", ""),
		only("client.quota.callback.class", kmsg.ConfigTypeString, "Java classes cannot be loaded: remove the line to start all the same", "Quotas by a class.", ""),
		only("remote.log.storage.system.enable", kmsg.ConfigTypeBoolean, noTiers+": remove the line to keep everything on this disk", "Tiered storage.", "false"),
	)
	node, id := nodeID("node.id"), nodeID("broker.id")
	id.instead = []string{"node.id"}
	add(node, id, dataDirs("log.dirs"), dataDirs("log.dir", "log.dirs"),
		text("broker.rack", "Rack of the broker, as Metadata tells it.", func(c *Config) *string { return &c.Rack }),
		whole("num.partitions", "Partitions of a topic that is created without a number.", 1, func(c *Config) *int32 { return &c.NumPartitions }),
		yesNo("auto.create.topics.enable", "Create a topic when a client first names it.",
			func(c *Config) bool { return !c.DisableAutoCreate }, func(c *Config, v bool) { c.DisableAutoCreate = !v }),
		yesNo("delete.topic.enable", "Topics may be deleted.",
			func(c *Config) bool { return !c.DisableDelete }, func(c *Config, v bool) { c.DisableDelete = !v }),
		span("log.retention.check.interval.ms", "How often retention runs. The limit of all topics together is looked at every 10 s all the same.", kmsg.ConfigTypeLong, time.Millisecond, 1, func(c *Config) *time.Duration { return &c.RetentionCheck }),
		span("offsets.retention.minutes", "How long offsets of a group without members are kept.", kmsg.ConfigTypeInt, time.Minute, 1, func(c *Config) *time.Duration { return &c.OffsetsRetention }),
		whole("fetch.max.bytes", "Largest Fetch response.", 1024, func(c *Config) *int32 { return &c.MaxFetchBytes }),
		whole("socket.request.max.bytes", "Largest request.", 1024, func(c *Config) *int32 { return &c.MaxRequestBytes }),
		span("connections.max.idle.ms", "A connection without requests is closed after this time.", kmsg.ConfigTypeLong, time.Millisecond, 1, func(c *Config) *time.Duration { return &c.IdleTimeout }),
		property{name: "queued.max.request.bytes", typ: kmsg.ConfigTypeLong, doc: "Memory for the requests of all connections; while it is used up no more is read. -1: 1 GiB.",
			get: func(c *Config) string { return strconv.FormatInt(c.MaxInflightBytes, 10) },
			set: func(c *Config, s string) error {
				n, err := strconv.ParseInt(s, 10, 64)
				switch {
				case err != nil || n < -1 || n == 0:
					return fmt.Errorf("%q: want a number of bytes, or -1", s)
				case n == -1:
					n = 0
				}
				c.MaxInflightBytes = n
				return nil
			}},
		whole("sluice.connection.max.inflight.bytes", "Memory for the requests of one connection that are not answered; above it no more is read from it.", 1024, func(c *Config) *int64 { return &c.MaxConnInflightBytes }),
		millis("group.initial.rebalance.delay.ms", "How long the first members of a classic group wait for others.", 0, func(c *Config) *time.Duration { return &c.GroupInitialDelay }),
		millis("group.min.session.timeout.ms", "Shortest session that a member may ask for.", 1, func(c *Config) *time.Duration { return &c.GroupMinSession }),
		millis("group.max.session.timeout.ms", "Longest session that a member may ask for.", 1, func(c *Config) *time.Duration { return &c.GroupMaxSession }),
		whole("group.max.size", "Most members of a classic group.", 1, func(c *Config) *int { return &c.GroupMaxSize }),
		millis("group.consumer.session.timeout.ms", "How long a member of a consumer group may be silent.", 1, func(c *Config) *time.Duration { return &c.GroupConsumerSession }),
		millis("group.consumer.min.session.timeout.ms", "Least value of it for a single group.", 1, func(c *Config) *time.Duration { return &c.GroupConsumerMinSession }),
		millis("group.consumer.max.session.timeout.ms", "Largest value of it for a single group.", 1, func(c *Config) *time.Duration { return &c.GroupConsumerMaxSession }),
		millis("group.consumer.heartbeat.interval.ms", "How often members of a consumer group are told to send heartbeats.", 1, func(c *Config) *time.Duration { return &c.GroupConsumerHeartbeat }),
		millis("group.consumer.min.heartbeat.interval.ms", "Least value of it for a single group.", 1, func(c *Config) *time.Duration { return &c.GroupConsumerMinHeartbeat }),
		millis("group.consumer.max.heartbeat.interval.ms", "Largest value of it for a single group.", 1, func(c *Config) *time.Duration { return &c.GroupConsumerMaxHeartbeat }),
		millis("group.consumer.assignment.interval.ms", "Least time between two assignments of a consumer group.", 0, func(c *Config) *time.Duration { return &c.GroupConsumerAssignmentInterval }),
		whole("group.consumer.max.size", "Most members of a consumer group.", 1, func(c *Config) *int { return &c.GroupConsumerMaxSize }),
		property{name: "group.consumer.assignors", typ: kmsg.ConfigTypeList, doc: "Assignors of consumer groups, the default one first.",
			get: func(c *Config) string { return strings.Join(c.GroupConsumerAssignors, ",") },
			set: func(c *Config, s string) error {
				c.GroupConsumerAssignors = nil
				for _, n := range strings.Split(s, ",") {
					if n = strings.TrimSpace(n); n != "" {
						// Java names its own by class as well.
						n = strings.TrimSuffix(n[strings.LastIndexByte(n, '.')+1:], "Assignor")
						c.GroupConsumerAssignors = append(c.GroupConsumerAssignors, strings.ToLower(n))
					}
				}
				return nil
			}},
		text("group.consumer.migration.policy", "Which classic groups may become consumer groups and back.", func(c *Config) *string { return &c.GroupConsumerMigration }),
		property{name: "sluice.max.disk.bytes", typ: kmsg.ConfigTypeLong, doc: "Limit of all topics together; -1 for none (--max-disk).",
			get: func(c *Config) string { return strconv.FormatInt(c.MaxDisk, 10) },
			set: func(c *Config, s string) error {
				n, err := strconv.ParseInt(s, 10, 64)
				if err != nil || n < -1 || n == 0 {
					return fmt.Errorf("%q: want a number of bytes, or -1 for no limit", s)
				}
				c.MaxDisk = n
				return nil
			}},
		property{name: "sluice.min.free.disk.bytes", typ: kmsg.ConfigTypeLong, doc: "Produce is refused while the disk has less free space; -1 for never (--min-free-disk).",
			get: func(c *Config) string { return strconv.FormatInt(c.MinFreeDisk, 10) },
			set: func(c *Config, s string) error {
				n, err := strconv.ParseInt(s, 10, 64)
				if err != nil || n < -1 || n == 0 {
					return fmt.Errorf("%q: want a number of bytes, or -1 for no limit", s)
				}
				c.MinFreeDisk = n
				return nil
			}},
		yesNo("sluice.metrics.lag", "The metrics page has the committed offsets and the lag of groups, 10 000 at most.",
			func(c *Config) bool { return !c.DisableLagMetrics }, func(c *Config, v bool) { c.DisableLagMetrics = !v }),
		text("sluice.metrics.listen", "HOST:PORT of the metrics page (--metrics).", func(c *Config) *string { return &c.Metrics }),
	)
	for _, p := range []property{
		whole("max.connections", "Most connections at a time.", 1, func(c *Config) *int { return &c.MaxConnections }),
		whole("max.connections.per.ip", "Most connections of one client address.", 1, func(c *Config) *int { return &c.MaxConnectionsPerIP }),
		{name: "max.connections.per.ip.overrides", typ: kmsg.ConfigTypeString, doc: "Other limits for single addresses: HOST:COUNT, separated by commas.",
			get: func(c *Config) string { return c.ConnectionsPerIPOverrides },
			set: func(c *Config, s string) error {
				m, err := parseIPLimits(s)
				if err != nil {
					return err
				}
				c.ConnectionsPerIPOverrides, c.ipLimits = s, m
				return nil
			}},
		span("log.cleaner.backoff.ms", "How often compacted topics are looked at.", kmsg.ConfigTypeLong, time.Millisecond, 1, func(c *Config) *time.Duration { return &c.CompactionCheck }),
	} {
		p.dynamic = true
		add(p)
	}
	for reason, names := range withoutEffect() {
		for _, n := range names {
			if _, has := m[n]; !has {
				p := property{name: n, typ: kmsg.ConfigTypeString, reason: reason}
				if d, ok := shownAnyway()[n]; ok {
					p.typ = d.typ
				}
				add(p)
			}
		}
	}
	for n, p := range m {
		p.secret = strings.HasSuffix(n, ".secret") || strings.Contains(n, "secret.key") || strings.Contains(n, "password")
		m[n] = p
	}
	return m
}

// shown is the default of a property without effect, and its type.
type shown struct {
	value string
	typ   kmsg.ConfigType
}

// shownAnyway are properties without effect that tools look for.
func shownAnyway() map[string]shown {
	return map[string]shown{
		"default.replication.factor":                {"1", kmsg.ConfigTypeInt},
		"min.insync.replicas":                       {"1", kmsg.ConfigTypeInt},
		"offsets.topic.replication.factor":          {"1", kmsg.ConfigTypeShort},
		"offsets.topic.num.partitions":              {"1", kmsg.ConfigTypeInt},
		"unclean.leader.election.enable":            {"false", kmsg.ConfigTypeBoolean},
		"offset.metadata.max.bytes":                 {"4096", kmsg.ConfigTypeInt},
		"max.incremental.fetch.session.cache.slots": {"1000", kmsg.ConfigTypeInt},
	}
}

// dynamicWithoutEffect are properties that Apache Kafka can change while it
// runs and that tools may set, though they have no effect here.
func dynamicWithoutEffect() []string {
	return []string{"background.threads", "num.io.threads", "num.network.threads", "num.recovery.threads.per.data.dir", "num.replica.fetchers",
		"log.cleaner.dedupe.buffer.size", "log.cleaner.io.buffer.load.factor", "log.cleaner.io.buffer.size", "log.cleaner.io.max.bytes.per.second",
		"log.cleaner.threads", "max.connection.creation.rate", "leader.replication.throttled.rate", "follower.replication.throttled.rate",
		"replica.alter.log.dirs.io.max.bytes.per.second", "metric.reporters", "unclean.leader.election.enable", "min.insync.replicas"}
}
