package kafka

import (
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/kafkaclient"
	"github.com/sluice-data/sluice/internal/kafkaconf"
)

func init() {
	component.RegisterChannel(component.Info{
		Name:    "kafka",
		Classes: []string{"org.apache.flume.channel.kafka.KafkaChannel"},
		Doc:     "Holds events in a Kafka topic, of which the sinks read what a consumer group has not committed yet.",
		Notes: "- Records are Flume's, byte for byte: agents of both kinds may write to and read from one topic, in one consumer group. See docs/kafka-channel.md.\n" +
			"- All sinks share one member of the group; in Flume each has one of its own. So there may be more sinks than partitions, and a sink that fails holds no partition up.\n" +
			"- Offsets are committed at the commit of a take, up to the first event that is still open; what was taken behind it is noted in the metadata of the commit. If that fails, the sinks go on and it is tried again.\n" +
			"- A record that is not a Flume event (parseAsFlumeEvent) is passed over, logged with its place and counted in EventTakeErrorCount. As in Flume offsets are committed past it only with an event behind it.\n" +
			"- Of a batch that fails in part, only what is missing is put again, where the source can wait. Flume puts all of it again.\n" +
			"- ChannelSize is what the group has not committed of this agent's partitions, as far as is known from the last fetch; in Flume it is always 0.\n" +
			"- With `parseAsFlumeEvent = false` headers are lost, except `key`, as in Flume.",
	}, func() component.ChannelConfig { return new(config) })
}

type config struct {
	servers      []string
	topic        string
	avro         bool
	pollTimeout  time.Duration
	partition    *int32
	partitionHdr string
	reset        string
	readSmallest string
	migrate      bool
	producer     kafkaconf.Producer
	consumer     kafkaconf.Consumer
}

const (
	resetKey        = "kafka.consumer.auto.offset.reset"
	readSmallestKey = "readSmallestOffset"
)

func (c *config) Fields() []component.Field {
	producer, consumer := c.producer.Fields("kafka.producer."), c.consumer.Fields("kafka.consumer.")
	for i := range producer {
		if producer[i].Key == "kafka.producer.acks" {
			producer[i].Default, c.producer.Acks = "all", "all"
		}
	}
	for i := range consumer {
		switch consumer[i].Key {
		case "kafka.consumer.group.id":
			consumer[i] = consumer[i].Old("groupId")
		case resetKey:
			consumer[i] = component.Enum(resetKey, &c.reset, "", consumer[i].Values...).AsDefault("earliest").
				Describe("Where a group without a committed offset starts. With latest, what was put before is never taken.")
		}
	}
	return append(append([]component.Field{
		component.CommaList("kafka.bootstrap.servers", &c.servers).Require().Old("brokerList").Describe("The brokers to ask first, as HOST:PORT, separated by commas."),
		component.String("kafka.topic", &c.topic, "flume-channel").Old("topic").Describe("The topic that holds the events."),
		component.Bool("parseAsFlumeEvent", &c.avro, true).Describe("Values are headers and body as a bare Avro record of Flume's AvroFlumeEvent; otherwise the body alone, for topics that others write or read."),
		component.Duration("kafka.pollTimeout", &c.pollTimeout, time.Millisecond, 500*time.Millisecond).Min(0).Old("pollTimeout").Describe("How long a take waits for an event."),
		kafkaclient.PartitionField("defaultPartitionId", &c.partition),
		component.String("partitionIdHeader", &c.partitionHdr, "").Describe("The header that has the partition's number; it wins over defaultPartitionId."),
		component.Value(readSmallestKey, &c.readSmallest, "bool", "", func(s string) (string, error) {
			if strings.EqualFold(strings.TrimSpace(s), "true") {
				return "earliest", nil
			}
			return "latest", nil
		}).Describe("The old name of " + resetKey + ", which wins: true is earliest, false latest."),
		component.Ignore("capacity", "a topic has no capacity in events, as in Flume: its retention is set on the brokers"),
		component.Ignore("transactionCapacity", "batches have no limit but that of their sources and sinks, as in Flume"),
	}, append(kafkaclient.Zookeeper(&c.migrate), producer...)...), consumer...)
}

// NewChannel makes the channel.
func (c *config) NewChannel(env component.Env) (component.Channel, error) {
	if err := kafkaclient.ValidTopic(c.topic); err != nil {
		return nil, &component.KeyError{Key: "kafka.topic", Err: err}
	}
	if c.readSmallest != "" {
		env.Warn(readSmallestKey, "set "+resetKey+" = "+c.readSmallest, "%s is an old name", readSmallestKey)
	}
	switch {
	case c.reset != "":
		c.consumer.Reset = c.reset
	case c.readSmallest != "":
		c.consumer.Reset = c.readSmallest
	default:
		c.consumer.Reset = "earliest"
	}
	ch := newChannel(c, env)
	ch.env = kafkaconf.Env{Component: env, Servers: c.servers, ServersKey: "kafka.bootstrap.servers"}
	ch.env.Component.Health = func(err error) { ch.cond.Set("brokers", err) }
	ch.watch = kgo.WithHooks(kafkaconf.NewWatch(ch.env.Component))
	// The first shows whether the options are right.
	if _, err := ch.newProducer(); err != nil {
		return nil, err
	}
	consume, err := c.consumer.Options(ch.env)
	if err != nil {
		return nil, err
	}
	ch.consume = append(consume, ch.watch,
		// They end a transaction and are no events, but the end of the partition may be one.
		kgo.KeepControlRecords(),
		// Partitions are not taken away between a poll and the queue.
		kgo.BlockRebalanceOnPoll(),
	)
	if err := kgo.ValidateOpts(ch.consume...); err != nil {
		return nil, fmt.Errorf("configure the Kafka consumer: %w", err)
	}
	return ch, nil
}
