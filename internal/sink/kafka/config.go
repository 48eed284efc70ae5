// Package kafka is the sink that produces events to Kafka topics.
package kafka

import (
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/escape"
	"github.com/sluice-data/sluice/internal/kafkaclient"
	"github.com/sluice-data/sluice/internal/kafkaconf"
)

func init() {
	component.RegisterSink(component.Info{
		Name:    "kafka",
		Classes: []string{"org.apache.flume.sink.kafka.KafkaSink"},
		Doc:     "Produces events to Kafka topics.",
		Notes: "A batch counts as delivered when the brokers acknowledged all of its records; those that failed are offered again, and only those " +
			"(Flume sends the whole batch again). An event that can never be delivered (too large, a partition that is not a number) fails alone and is told as such. " +
			"Order within a partition is kept over retries, as one request is in flight at a time (Kafka's default is 5); see the page on Kafka properties for `kafka.producer.*`. " +
			"With `acks = 1`, the default, a broker that dies may lose what it acknowledged and had not replicated yet. " +
			"`kafka.producer.transactional.id` makes every batch a Kafka transaction.",
	}, func() component.SinkConfig { return new(config) })
}

type config struct {
	servers      []string
	topic        string
	batchSize    int
	avro         bool
	partition    *int32
	partitionHdr string
	override     bool
	topicHdr     string
	timestampHdr string
	headers      map[string]string // Flume's name → Kafka's
	producer     kafkaconf.Producer
}

func (c *config) Fields() []component.Field {
	producer := c.producer.Fields("kafka.producer.")
	for i := range producer {
		if producer[i].Key == "kafka.producer.acks" {
			producer[i] = producer[i].Old("requiredAcks")
		}
	}
	return append([]component.Field{
		component.CommaList("kafka.bootstrap.servers", &c.servers).Require().Old("brokerList").Describe("The brokers to ask first, as HOST:PORT, separated by commas."),
		component.String("kafka.topic", &c.topic, "default-flume-topic").Old("topic").Describe("The topic, where no header names one. %{header} and the time escapes are expanded, unless allowTopicOverride is false."),
		component.Int("flumeBatchSize", &c.batchSize, 100).In("events").Min(1).Old("batchSize").Describe("The most events taken in one transaction. Larger batches are much faster."),
		component.Bool("useFlumeEventFormat", &c.avro, false).Describe("The value is headers and body as a bare Avro record of Flume's AvroFlumeEvent, not the body alone."),
		kafkaclient.PartitionField("defaultPartitionId", &c.partition),
		component.String("partitionIdHeader", &c.partitionHdr, "").Describe("The header that has the partition's number; it wins over defaultPartitionId."),
		component.Bool("allowTopicOverride", &c.override, true).Describe("Whether an event's header may name its topic."),
		component.String("topicHeader", &c.topicHdr, "topic").Describe("That header."),
		component.String("timestampHeader", &c.timestampHdr, "").Describe("The header with the record's time in ms since 1970; unset, or where it is missing: the time of sending."),
		component.Map("header.", &c.headers).Describe("header.FLUME = KAFKA copies an event's header FLUME into the record's header KAFKA."),
		component.Ignore("serializer.class", "as in Flume; values are the bytes of the body"),
		component.Ignore("key.serializer.class", "as in Flume; keys are the text of the header key"),
	}, producer...)
}

func (c *config) NewSink(env component.Env) (component.Sink, error) {
	s := &sink{config: *c, env: env, topics: map[string]string{}}
	opts, err := s.producer.Options(kafkaconf.Env{Component: env, Servers: c.servers, ServersKey: "kafka.bootstrap.servers"})
	if err != nil {
		return nil, err
	}
	if c.override {
		if s.template, err = escape.Parse(c.topic, escape.Options{}); err != nil {
			return nil, &component.KeyError{Key: "kafka.topic", Err: err}
		}
		if u := s.template.Unknown(); len(u) > 0 {
			env.Log.Warn("kafka.topic has escapes without a meaning, which expand to nothing", "escapes", u)
		}
		if t, ok := s.template.Constant(); ok {
			s.template, s.topic = nil, t
		}
	}
	if s.template == nil {
		if err := kafkaclient.ValidTopic(s.topic); err != nil {
			hint := ""
			if !c.override && strings.Contains(c.topic, "%") {
				hint = "escapes are expanded only with allowTopicOverride = true"
			}
			return nil, &component.KeyError{Key: "kafka.topic", Err: err, Hint: hint}
		}
	}
	for from, to := range c.headers {
		s.mapped = append(s.mapped, mapping{from, to})
	}
	sortMappings(s.mapped)
	s.sender, err = kafkaclient.NewSender(kafkaclient.SenderConfig{
		Producer: &s.producer, Options: append(opts, kgo.WithHooks(kafkaconf.NewWatch(env))), Batch: c.batchSize, Encoder: s, Log: env.Log,
	})
	if err != nil {
		return nil, err
	}
	s.sendTimer = env.Metrics.Counter("KafkaEventSendTimer")
	s.rollbacks = env.Metrics.Counter("RollbackCount")
	return s, nil
}
