package broker

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/record"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// topicConfigKey declares one topic setting: it feeds CreateTopics,
// AlterConfigs, DescribeConfigs and the broker's own defaults.
type topicConfigKey struct {
	name string
	// brokerName is the name of the broker-wide default in Apache Kafka.
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

const maxInt64Text = "9223372036854775807"

// topicConfigKeys returns the declarations, sorted by name.
func topicConfigKeys() []topicConfigKey {
	return []topicConfigKey{
		{name: "cleanup.policy", brokerName: "log.cleanup.policy", typ: kmsg.ConfigTypeList,
			doc: "delete: old segments are deleted by the retention settings. compact: the latest record of each key is kept. Both, with a comma, do both; nothing keeps everything.",
			get: func(c *log.TopicConfig) string {
				switch {
				case c.Compact && c.KeepExpired:
					return "compact"
				case c.Compact:
					return "compact,delete"
				case c.KeepExpired:
					return ""
				}
				return "delete"
			},
			set: func(c *log.TopicConfig, s string) error {
				if strings.TrimSpace(s) == "" { // KIP-1161
					c.Compact, c.KeepExpired = false, true
					return nil
				}
				var compact, del bool
				for p := range strings.SplitSeq(s, ",") {
					switch strings.TrimSpace(p) {
					case "compact":
						compact = true
					case "delete":
						del = true
					default:
						return fmt.Errorf("cleanup.policy is %q: want compact, delete, both with a comma, or nothing", s)
					}
				}
				c.Compact, c.KeepExpired = compact, !del
				return nil
			}},
		intKey("compression.gzip.level", "compression.gzip.level", "Level of gzip where compression.type is gzip: 1 to 9, -1 for its default.",
			func(c *log.TopicConfig) *int32 { return &c.GzipLevel }),
		intKey("compression.lz4.level", "compression.lz4.level", "Level of lz4 where compression.type is lz4: 1 to 17; above 9 is 9.",
			func(c *log.TopicConfig) *int32 { return &c.LZ4Level }),
		{name: "compression.type", brokerName: "compression.type", typ: kmsg.ConfigTypeString,
			doc: "producer: batches are kept as the producer compressed them. Otherwise what they are brought to: uncompressed, gzip, snappy, lz4 or zstd.",
			get: func(c *log.TopicConfig) string {
				if !c.Recompress {
					return "producer"
				}
				return compressionNames()[c.Compression]
			},
			set: func(c *log.TopicConfig, s string) error {
				if s == "producer" {
					c.Recompress, c.Compression = false, record.None
					return nil
				}
				i := slices.Index(compressionNames(), s)
				if i < 0 {
					return fmt.Errorf("compression.type is %q: want producer, %s", s, strings.Join(compressionNames(), ", "))
				}
				c.Recompress, c.Compression = true, record.Codec(i)
				return nil
			}},
		intKey("compression.zstd.level", "compression.zstd.level", "Level of zstd where compression.type is zstd.",
			func(c *log.TopicConfig) *int32 { return &c.ZstdLevel }),
		msKey("delete.retention.ms", "log.cleaner.delete.retention.ms", "How long a tombstone (a null value) is kept after the first compaction that saw it.", math.MaxInt64, maxInt64Text,
			func(c *log.TopicConfig) *time.Duration { return &c.DeleteRetention }),
		withoutKey("file.delete.delay.ms", "log.segment.delete.delay.ms", kmsg.ConfigTypeLong, "60000", anyInt, "a deleted segment's file goes when its last reader is done."),
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
		withoutKey("follower.replication.throttled.replicas", "", kmsg.ConfigTypeList, "", anyText, "there is one replica."),
		intKey("index.interval.bytes", "log.index.interval.bytes", "Bytes between entries of the sparse indexes.",
			func(c *log.TopicConfig) *int32 { return &c.IndexInterval }),
		withoutKey("leader.replication.throttled.replicas", "", kmsg.ConfigTypeList, "", anyText, "there is one replica."),
		withoutKey("local.retention.bytes", "log.local.retention.bytes", kmsg.ConfigTypeLong, "-2", anyInt, "there is no tiered storage."),
		withoutKey("local.retention.ms", "log.local.retention.ms", kmsg.ConfigTypeLong, "-2", anyInt, "there is no tiered storage."),
		msKey("max.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms", "Records older than this are compacted whatever the dirty ratio.", 0, maxInt64Text,
			func(c *log.TopicConfig) *time.Duration { return &c.MaxCompactionLag }),
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
		{name: "min.cleanable.dirty.ratio", brokerName: "log.cleaner.min.cleanable.ratio", typ: kmsg.ConfigTypeDouble,
			doc: "A log is compacted when so much of it was not compacted yet.",
			get: func(c *log.TopicConfig) string { return javaDouble(c.MinDirtyRatio) },
			set: func(c *log.TopicConfig, s string) error {
				v, err := strconv.ParseFloat(s, 64)
				if err != nil || !(v >= 0 && v <= 1) {
					return fmt.Errorf("min.cleanable.dirty.ratio is %q: want a number from 0 to 1", s)
				}
				c.MinDirtyRatio = v
				return nil
			}},
		msKey("min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms", "Records younger than this are not compacted.", math.MaxInt64, maxInt64Text,
			func(c *log.TopicConfig) *time.Duration { return &c.MinCompactionLag }),
		topicOnly(intKey("min.insync.replicas", "min.insync.replicas", "Replicas that must have a record before acks=all is answered. There is one: with 2 or more such a Produce gets NOT_ENOUGH_REPLICAS.",
			func(c *log.TopicConfig) *int32 { return &c.MinInsyncReplicas })),
		topicOnly(onlyKey("preallocate", "log.preallocate", kmsg.ConfigTypeBoolean, "false", "Files grow as they are written.")),
		topicOnly(onlyKey("remote.log.copy.disable", "", kmsg.ConfigTypeBoolean, "false", "There is no tiered storage.")),
		topicOnly(onlyKey("remote.log.delete.on.disable", "", kmsg.ConfigTypeBoolean, "false", "There is no tiered storage.")),
		topicOnly(onlyKey("remote.storage.enable", "", kmsg.ConfigTypeBoolean, "false", "There is no tiered storage.")),
		intKey("retention.bytes", "log.retention.bytes", "Bytes kept of each partition; -1 for no limit.",
			func(c *log.TopicConfig) *int64 { return &c.RetentionBytes }),
		msKey("retention.ms", "log.retention.ms", "How long records are kept; -1 for no limit.", -1, "-1",
			func(c *log.TopicConfig) *time.Duration { return &c.RetentionAge }),
		ofType(kmsg.ConfigTypeInt, intKey("segment.bytes", "log.segment.bytes", "Largest segment file.",
			func(c *log.TopicConfig) *int64 { return &c.SegmentBytes })),
		intKey("segment.index.bytes", "log.index.size.max.bytes", "A segment is rolled when its offset index has this size.",
			func(c *log.TopicConfig) *int32 { return &c.IndexBytes }),
		msKey("segment.jitter.ms", "log.roll.jitter.ms", "Segments are rolled up to so much before segment.ms, at random.", math.MaxInt64, "",
			func(c *log.TopicConfig) *time.Duration { return &c.SegmentJitter }),
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
		withoutKey("unclean.leader.election.enable", "unclean.leader.election.enable", kmsg.ConfigTypeBoolean, "false", anyBool, "there is one replica."),
	}
}

// compressionNames are the values of compression.type, by codec.
func compressionNames() []string { return []string{"uncompressed", "gzip", "snappy", "lz4", "zstd"} }

// javaDouble writes a number as Java does.
func javaDouble(v float64) string {
	s := strconv.FormatFloat(v, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// ofType shows a setting with another type than we keep it in.
func ofType(t kmsg.ConfigType, k topicConfigKey) topicConfigKey {
	k.typ = t
	return k
}

// topicOnly keeps a setting's default out of the broker's properties.
func topicOnly(k topicConfigKey) topicConfigKey {
	k.topicOnly = true
	return k
}

// withoutKey is a setting that tools write and that has nothing to say here,
// whatever its value. It is kept and shown.
func withoutKey(name, brokerName string, typ kmsg.ConfigType, value string, check func(string) error, why string) topicConfigKey {
	return topicConfigKey{name: name, brokerName: brokerName, topicOnly: true, typ: typ, doc: "Without effect: " + why,
		get: func(c *log.TopicConfig) string {
			if v, ok := c.Without[name]; ok {
				return v
			}
			return value
		},
		set: func(c *log.TopicConfig, s string) error {
			if err := check(s); err != nil {
				return fmt.Errorf("%s is %q: %w", name, s, err)
			}
			c.Without = maps.Clone(c.Without)
			if c.Without == nil {
				c.Without = map[string]string{}
			}
			c.Without[name] = s
			return nil
		}}
}

func anyText(string) error { return nil }

func anyInt(s string) error {
	if _, err := strconv.ParseInt(s, 10, 64); err != nil {
		return errors.New("want a whole number")
	}
	return nil
}

func anyBool(s string) error {
	if s != "true" && s != "false" {
		return errors.New("want true or false")
	}
	return nil
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
	return fmt.Errorf("unknown topic config name: %s; known are %s", name, strings.Join(names, ", "))
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
