package kafkaconf

import (
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/component"
)

// Consumer is the configuration of a member of a consumer group.
type Consumer struct {
	client

	// Group is the group's name.
	Group string
	// MaxPoll is the most records that one poll should return.
	MaxPoll int
	// ExcludeInternal says that a pattern passes over Kafka's own topics.
	ExcludeInternal bool
	// Reset says where a group without a committed offset starts: "earliest",
	// "latest" or "none".
	Reset string
	// Rebalance is how long a rebalance waits for this member.
	Rebalance time.Duration

	instance         string
	isolation        string
	fetchMin         int
	fetchWait        time.Duration
	fetchMax         int
	partitionMax     int
	session          time.Duration
	heartbeat        time.Duration
	assignors        []string
	rack             string
	checkCRC, create bool
	classes          [3]string // properties that only have one value
}

var byteDeserializers = map[string]string{"StringDeserializer": "bytes", "ByteArrayDeserializer": "bytes", "BytesDeserializer": "bytes", "bytes": "bytes"}

var assignors = map[string]kgo.GroupBalancer{
	"RangeAssignor": kgo.RangeBalancer(), "RoundRobinAssignor": kgo.RoundRobinBalancer(),
	"StickyAssignor": kgo.StickyBalancer(), "CooperativeStickyAssignor": kgo.CooperativeStickyBalancer(),
	"range": kgo.RangeBalancer(), "roundrobin": kgo.RoundRobinBalancer(),
	"sticky": kgo.StickyBalancer(), "cooperative-sticky": kgo.CooperativeStickyBalancer(),
}

// Fields declares the properties below prefix, which ends in a dot.
func (c *Consumer) Fields(prefix string) []component.Field {
	fields := c.fields(prefix)
	k := func(s string) string { return prefix + s }
	return append(append(fields,
		component.String(k("group.id"), &c.Group, "flume").Describe("The consumer group: its members share the partitions, and its committed offsets say where to go on."),
		component.String(k("group.instance.id"), &c.instance, "").Describe("Makes this a static member, whose partitions wait for it over a restart; it must differ between members."),
		component.Value(k("group.protocol"), &c.classes[0], "enum", "classic", func(s string) (string, error) {
			if strings.EqualFold(s, "classic") {
				return "classic", nil
			}
			return "", fmt.Errorf("%q is not supported: only the classic protocol is", s)
		}).Describe("classic."),
		component.Enum(k("auto.offset.reset"), &c.Reset, "latest", "latest", "earliest", "none").Describe("Where a group without a committed offset starts. With latest, Kafka's default, what was written before is never read."),
		component.Enum(k("isolation.level"), &c.isolation, "read_uncommitted", "read_uncommitted", "read_committed").Describe("Whether records of transactions are read before they are committed."),
		component.Int(k("max.poll.records"), &c.MaxPoll, 500).In("events").Min(1).Describe("The most records taken from the client at once."),
		component.Int(k("fetch.min.bytes"), &c.fetchMin, 1).In("bytes").Min(0).Max(1<<30).Describe("A broker waits for so many bytes, or fetch.max.wait.ms."),
		ms(k("fetch.max.wait.ms"), &c.fetchWait, 500*time.Millisecond, 10).Max(1<<31-1).Describe("How long a broker waits for fetch.min.bytes."),
		component.Int(k("fetch.max.bytes"), &c.fetchMax, 50<<20).In("bytes").Min(1).Max(1<<29).Describe("The most that one broker answers with."),
		component.Int(k("max.partition.fetch.bytes"), &c.partitionMax, 1<<20).In("bytes").Min(1).Max(1<<29).Describe("The most of one partition in an answer; a larger batch comes alone."),
		ms(k("session.timeout.ms"), &c.session, 45*time.Second, 100).Max(1<<31-1).Describe("A member that sends no heartbeat for this time loses its partitions."),
		ms(k("heartbeat.interval.ms"), &c.heartbeat, 3*time.Second, 1).Describe("How often a heartbeat is sent."),
		ms(k("max.poll.interval.ms"), &c.Rebalance, 5*time.Minute, 100).Max(1<<31-1).Describe("How long a rebalance waits for a batch that is on its way."),
		component.CommaList(k("partition.assignment.strategy"), &c.assignors).Describe("RangeAssignor (the default), RoundRobinAssignor, StickyAssignor, CooperativeStickyAssignor, by preference. All members of a group need one in common."),
		component.String(k("client.rack"), &c.rack, "").Describe("Where this agent is, to read from the nearest replica."),
		component.Bool(k("check.crcs"), &c.checkCRC, true).Describe("Check the checksum of every batch."),
		component.Bool(k("allow.auto.create.topics"), &c.create, true).Describe("Ask the broker to make a topic that is not there."),
		component.Bool(k("exclude.internal.topics"), &c.ExcludeInternal, true).Describe("kafka.topics.regex passes over Kafka's own topics."),
		component.Ignore(k("enable.auto.commit"), "offsets are committed after a batch was handed on, as in Flume"),
		component.Ignore(k("auto.commit.interval.ms"), "offsets are committed after a batch was handed on, as in Flume"),
		class(k("key.deserializer"), &c.classes[1], "bytes", byteDeserializers, "the key becomes a header as it is").Describe("StringDeserializer."),
		class(k("value.deserializer"), &c.classes[2], "bytes", byteDeserializers, "the value becomes the body as it is; for Avro see useFlumeEventFormat of the source, parseAsFlumeEvent of the channel").Describe("ByteArrayDeserializer."),
	), c.unknown())
}

// Options returns the client's options. A *component.KeyError names the
// property that is wrong.
func (c *Consumer) Options(env Env) ([]kgo.Opt, error) {
	opts, err := c.fetchOptions(env)
	if err != nil {
		return nil, err
	}
	group, err := c.groupOptions()
	return append(opts, group...), err
}

// AtEnd says that a partition without a committed offset is read from its end.
func (c *Consumer) AtEnd() bool { return c.Reset == "latest" }

// Committed says that records of open transactions are not read.
func (c *Consumer) Committed() bool { return c.isolation == "read_committed" }

// MetadataAge is how often topics are looked up again.
func (c *Consumer) MetadataAge() time.Duration { return c.metadataAge }

// FetchWait is how long a broker may take to answer that there is nothing.
func (c *Consumer) FetchWait() time.Duration { return c.fetchWait }

// groupOptions are those of a member of a group.
func (c *Consumer) groupOptions() ([]kgo.Opt, error) {
	if c.heartbeat >= c.session {
		return nil, &component.KeyError{Key: c.prefix + "heartbeat.interval.ms", Err: fmt.Errorf("%v is not below session.timeout.ms, %v", c.heartbeat, c.session), Hint: "a third of it is usual"}
	}
	balancers := []kgo.GroupBalancer{kgo.RangeBalancer()}
	if len(c.assignors) > 0 {
		balancers = balancers[:0]
	}
	for _, a := range c.assignors {
		b := assignors[a[strings.LastIndexByte(a, '.')+1:]]
		if b == nil {
			return nil, &component.KeyError{Key: c.prefix + "partition.assignment.strategy", Err: fmt.Errorf("%s cannot be loaded", a), Hint: "RangeAssignor, RoundRobinAssignor, StickyAssignor or CooperativeStickyAssignor"}
		}
		balancers = append(balancers, b)
	}
	opts := []kgo.Opt{
		kgo.ConsumerGroup(c.Group),
		kgo.SessionTimeout(c.session),
		kgo.HeartbeatInterval(c.heartbeat),
		kgo.RebalanceTimeout(c.Rebalance),
		kgo.Balancers(balancers...),
		kgo.DisableAutoCommit(),
	}
	if c.instance != "" {
		opts = append(opts, kgo.InstanceID(c.instance))
	}
	return opts, nil
}

// fetchOptions are those of any consumer.
func (c *Consumer) fetchOptions(env Env) ([]kgo.Opt, error) {
	opts, err := c.options(env)
	if err != nil {
		return nil, err
	}
	from := map[string]kgo.Offset{"latest": kgo.NewOffset().AtEnd(), "earliest": kgo.NewOffset().AtStart(), "none": kgo.NoResetOffset()}[c.Reset]
	isolation := kgo.ReadUncommitted()
	if c.Committed() {
		isolation = kgo.ReadCommitted()
	}
	opts = append(opts,
		kgo.ConsumeStartOffset(from),
		kgo.ConsumeResetOffset(from),
		kgo.FetchIsolationLevel(isolation),
		kgo.FetchMinBytes(int32(c.fetchMin)),
		kgo.FetchMaxWait(c.fetchWait),
		kgo.FetchMaxBytes(int32(c.fetchMax)),
		kgo.FetchMaxPartitionBytes(int32(c.partitionMax)),
		kgo.BrokerMaxReadBytes(int32(max(100<<20, 2*c.fetchMax))),
	)
	if c.rack != "" {
		opts = append(opts, kgo.Rack(c.rack))
	}
	if !c.checkCRC {
		opts = append(opts, kgo.DisableFetchCRCValidation())
	}
	if c.create {
		opts = append(opts, kgo.AllowAutoTopicCreation())
	}
	return opts, nil
}
