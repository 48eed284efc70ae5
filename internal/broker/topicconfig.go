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
	"github.com/twmb/franz-go/pkg/kmsg"
)

// topicConfigKey declares one topic setting: it feeds CreateTopics,
// AlterConfigs, DescribeConfigs and the broker's own defaults.
type topicConfigKey struct {
	name string
	// brokerName is the name of the broker-wide default in Apache Kafka; "" if
	// it has none.
	brokerName string
	// topicOnly says that the broker-wide default is none of our properties:
	// server.properties lists it among those without effect.
	topicOnly bool
	typ       kmsg.ConfigType
	doc       string
	get       func(*log.TopicConfig) string
	set       func(*log.TopicConfig, string) error
}

func intKey[T int32 | int64](name, brokerName, doc string, f func(*log.TopicConfig) *T) topicConfigKey {
	typ, bits := kmsg.ConfigTypeLong, 64
	if _, ok := any(T(0)).(int32); ok {
		typ, bits = kmsg.ConfigTypeInt, 32
	}
	return topicConfigKey{name: name, brokerName: brokerName, typ: typ, doc: doc,
		get: func(c *log.TopicConfig) string { return strconv.FormatInt(int64(*f(c)), 10) },
		set: func(c *log.TopicConfig, s string) error {
			n, err := strconv.ParseInt(s, 10, bits)
			if err != nil {
				return fmt.Errorf("%s is %q: want a whole number", name, s)
			}
			*f(c) = T(n)
			return nil
		}}
}

// msKey is a time in milliseconds. off is what switches the rule off: -1 and
// Java's Long.MAX_VALUE are both read as «off».
func msKey(name, brokerName, doc string, off time.Duration, offText string, f func(*log.TopicConfig) *time.Duration) topicConfigKey {
	return topicConfigKey{name: name, brokerName: brokerName, typ: kmsg.ConfigTypeLong, doc: doc,
		get: func(c *log.TopicConfig) string {
			if *f(c) == off && offText != "" {
				return offText
			}
			return strconv.FormatInt(f(c).Milliseconds(), 10)
		},
		set: func(c *log.TopicConfig, s string) error {
			n, err := strconv.ParseInt(s, 10, 64)
			switch {
			case err != nil:
				return fmt.Errorf("%s is %q: want a time in milliseconds", name, s)
			case offText != "" && (s == offText || n > math.MaxInt64/int64(time.Millisecond)):
				*f(c) = off
			case n < 0:
				return fmt.Errorf("%s is %q: want a time in milliseconds, 0 or more", name, s)
			default:
				*f(c) = time.Duration(min(n, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
			}
			return nil
		}}
}

// onlyKey is a setting that has one possible value here. Tools write these
// into topics they create, so refusing the name itself would break them.
func onlyKey(name, brokerName string, typ kmsg.ConfigType, value, doc string) topicConfigKey {
	return topicConfigKey{name: name, brokerName: brokerName, typ: typ, doc: doc,
		get: func(*log.TopicConfig) string { return value },
		set: func(_ *log.TopicConfig, s string) error {
			if s != value {
				return fmt.Errorf("%s is %q: this broker has %q only (%s)", name, s, value, strings.TrimSuffix(doc, "."))
			}
			return nil
		}}
}

// idleKey is an onlyKey of a feature that is not here. Apache Kafka describes
// it for every topic, and so do we.
func idleKey(name, brokerName string, typ kmsg.ConfigType, value, doc string) topicConfigKey {
	k := onlyKey(name, brokerName, typ, value, doc)
	k.topicOnly = true
	return k
}

const maxInt64Text = "9223372036854775807"

// topicConfigKeys returns the declarations, sorted by name.
func topicConfigKeys() []topicConfigKey {
	return []topicConfigKey{
		onlyKey("cleanup.policy", "log.cleanup.policy", kmsg.ConfigTypeList, "delete", "Old segments are deleted. Compaction is not there yet."),
		idleKey("compression.gzip.level", "compression.gzip.level", kmsg.ConfigTypeInt, "-1", "Nothing is compressed anew."),
		idleKey("compression.lz4.level", "compression.lz4.level", kmsg.ConfigTypeInt, "9", "Nothing is compressed anew."),
		onlyKey("compression.type", "compression.type", kmsg.ConfigTypeString, "producer", "Batches are kept as the producer compressed them."),
		idleKey("compression.zstd.level", "compression.zstd.level", kmsg.ConfigTypeInt, "3", "Nothing is compressed anew."),
		idleKey("delete.retention.ms", "log.cleaner.delete.retention.ms", kmsg.ConfigTypeLong, "86400000", "Compaction is not there yet."),
		idleKey("file.delete.delay.ms", "log.segment.delete.delay.ms", kmsg.ConfigTypeLong, "0", "A file goes when its last reader is done."),
		{name: "flush.messages", brokerName: "log.flush.interval.messages", typ: kmsg.ConfigTypeLong, doc: "Sync after this many records.",
			get: func(c *log.TopicConfig) string {
				if c.FlushMessages == 0 {
					return maxInt64Text
				}
				return strconv.FormatInt(c.FlushMessages, 10)
			},
			set: func(c *log.TopicConfig, s string) error {
				n, err := strconv.ParseInt(s, 10, 64)
				if err != nil || n < 1 {
					return fmt.Errorf("flush.messages is %q: want a whole number, 1 or more", s)
				}
				if n == math.MaxInt64 {
					n = 0
				}
				c.FlushMessages = n
				return nil
			}},
		msKey("flush.ms", "log.flush.interval.ms", "Sync at the latest this long after an append.", 0, maxInt64Text,
			func(c *log.TopicConfig) *time.Duration { return &c.FlushAge }),
		idleKey("follower.replication.throttled.replicas", "", kmsg.ConfigTypeList, "", "There is one broker."),
		intKey("index.interval.bytes", "log.index.interval.bytes", "Bytes between entries of the sparse indexes.",
			func(c *log.TopicConfig) *int32 { return &c.IndexInterval }),
		idleKey("leader.replication.throttled.replicas", "", kmsg.ConfigTypeList, "", "There is one broker."),
		idleKey("local.retention.bytes", "log.local.retention.bytes", kmsg.ConfigTypeLong, "-2", "There is no tiered storage."),
		idleKey("local.retention.ms", "log.local.retention.ms", kmsg.ConfigTypeLong, "-2", "There is no tiered storage."),
		idleKey("max.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms", kmsg.ConfigTypeLong, maxInt64Text, "Compaction is not there yet."),
		intKey("max.message.bytes", "message.max.bytes", "Largest record batch.",
			func(c *log.TopicConfig) *int32 { return &c.MaxMessageBytes }),
		msKey("message.timestamp.after.max.ms", "log.message.timestamp.after.max.ms", "How far ahead of the broker's clock a record may be.", -1, maxInt64Text,
			func(c *log.TopicConfig) *time.Duration { return &c.TimestampAfterMax }),
		msKey("message.timestamp.before.max.ms", "log.message.timestamp.before.max.ms", "How far behind the broker's clock a record may be.", -1, maxInt64Text,
			func(c *log.TopicConfig) *time.Duration { return &c.TimestampBeforeMax }),
		{name: "message.timestamp.type", brokerName: "log.message.timestamp.type", typ: kmsg.ConfigTypeString, doc: "CreateTime or LogAppendTime.",
			get: func(c *log.TopicConfig) string {
				if c.TimestampType == log.LogAppendTime {
					return "LogAppendTime"
				}
				return "CreateTime"
			},
			set: func(c *log.TopicConfig, s string) error {
				switch s {
				case "CreateTime":
					c.TimestampType = log.CreateTime
				case "LogAppendTime":
					c.TimestampType = log.LogAppendTime
				default:
					return fmt.Errorf("message.timestamp.type is %q: want CreateTime or LogAppendTime", s)
				}
				return nil
			}},
		idleKey("min.cleanable.dirty.ratio", "log.cleaner.min.cleanable.ratio", kmsg.ConfigTypeDouble, "0.5", "Compaction is not there yet."),
		idleKey("min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms", kmsg.ConfigTypeLong, "0", "Compaction is not there yet."),
		{name: "min.insync.replicas", brokerName: "min.insync.replicas", topicOnly: true, typ: kmsg.ConfigTypeInt,
			doc: "Replicas that must have a record before acks=all is answered. There is one: with more, acks=all is refused.",
			get: func(c *log.TopicConfig) string { return strconv.Itoa(int(c.MinInsyncReplicas)) },
			set: func(c *log.TopicConfig, s string) error {
				n, err := strconv.ParseInt(s, 10, 32)
				if err != nil || n < 1 {
					return fmt.Errorf("min.insync.replicas is %q: want a whole number, 1 or more", s)
				}
				c.MinInsyncReplicas = int32(n)
				return nil
			}},
		idleKey("preallocate", "log.preallocate", kmsg.ConfigTypeBoolean, "false", "Segments grow as they are written."),
		idleKey("remote.log.copy.disable", "", kmsg.ConfigTypeBoolean, "false", "There is no tiered storage."),
		idleKey("remote.log.delete.on.disable", "", kmsg.ConfigTypeBoolean, "false", "There is no tiered storage."),
		idleKey("remote.storage.enable", "", kmsg.ConfigTypeBoolean, "false", "There is no tiered storage."),
		intKey("retention.bytes", "log.retention.bytes", "Bytes kept of each partition; -1 for no limit.",
			func(c *log.TopicConfig) *int64 { return &c.RetentionBytes }),
		msKey("retention.ms", "log.retention.ms", "How long records are kept; -1 for no limit.", -1, "-1",
			func(c *log.TopicConfig) *time.Duration { return &c.RetentionAge }),
		intKey("segment.bytes", "log.segment.bytes", "Largest segment file.",
			func(c *log.TopicConfig) *int64 { return &c.SegmentBytes }),
		idleKey("segment.index.bytes", "log.index.size.max.bytes", kmsg.ConfigTypeInt, "10485760", "An index is as large as its segment needs."),
		idleKey("segment.jitter.ms", "log.roll.jitter.ms", kmsg.ConfigTypeLong, "0", "Segments of a time are rolled without a jitter."),
		msKey("segment.ms", "log.roll.ms", "Longest time that the records of a segment span.", 0, "",
			func(c *log.TopicConfig) *time.Duration { return &c.SegmentAge }),
		{name: "sluice.sync.acks", brokerName: "sluice.sync.acks", typ: kmsg.ConfigTypeBoolean,
			doc: "Acknowledge only after an fsync that covers the records; waiting producers share one.",
			get: func(c *log.TopicConfig) string { return strconv.FormatBool(c.SyncAcks) },
			set: func(c *log.TopicConfig, s string) error {
				v, err := strconv.ParseBool(s)
				if err != nil {
					return fmt.Errorf("sluice.sync.acks is %q: want true or false", s)
				}
				c.SyncAcks = v
				return nil
			}},
		idleKey("unclean.leader.election.enable", "unclean.leader.election.enable", kmsg.ConfigTypeBoolean, "false", "There is one broker, so the leader never changes."),
	}
}

// setTopicConfig changes one setting by its Kafka name.
func setTopicConfig(c *log.TopicConfig, name, value string) error {
	keys := topicConfigKeys()
	for i := range keys {
		if keys[i].name == name {
			return keys[i].set(c, value)
		}
	}
	names := make([]string, len(keys))
	for i := range keys {
		names[i] = keys[i].name
	}
	return fmt.Errorf("topic setting %q is not known; known are %s", name, strings.Join(names, ", "))
}

// applyTopicConfigs returns def with a topic's own settings in force.
func applyTopicConfigs(def log.TopicConfig, own map[string]string) (log.TopicConfig, error) {
	for _, name := range slices.Sorted(maps.Keys(own)) {
		if err := setTopicConfig(&def, name, own[name]); err != nil {
			return def, err
		}
	}
	return def, def.Validate()
}
