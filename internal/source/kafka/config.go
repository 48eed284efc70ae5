// Package kafka is the source that reads Kafka topics as a member of a
// consumer group.
package kafka

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/javaregex"
	"github.com/sluice-data/sluice/internal/kafkaclient"
	"github.com/sluice-data/sluice/internal/kafkaconf"
)

func init() {
	component.RegisterSource(component.Info{
		Name:    "kafka",
		Classes: []string{"org.apache.flume.source.kafka.KafkaSource"},
		Doc:     "Reads Kafka topics as a member of a consumer group.",
		Notes: "Offsets are committed after the channels took a batch, so a crash repeats events and loses none. A batch that a channel refuses is kept and offered again. " +
			"A batch is handed on as soon as it is full, nothing more came for 10 ms, or `batchDurationMillis` passed: Flume waits for the full batch or the time. " +
			"As in Kafka and Flume, a group without committed offsets starts at the end of the topic: set `kafka.consumer.auto.offset.reset = earliest` to read what is there. " +
			"With `useFlumeEventFormat` a record that is not such an event is skipped, logged with its place and counted in EventReadFail. " +
			"`kafka.topics.regex` must match the whole name. New topics are found after `kafka.consumer.metadata.max.age.ms`; with `latest` what was written to one before that is not read, as in Kafka: set `earliest`. A topic that is deleted and made again is read as a new one, and a topic of `kafka.topics` that does not exist is named in the log and in health. " +
			"With `auto.offset.reset = latest` the end at which a partition begins is committed at once, so that what comes after it is not passed over when the partition moves to another member or the agent restarts before its first commit: Flume loses it.",
	}, func() component.SourceConfig { return new(config) })
}

type config struct {
	servers    []string
	topics     []string
	regex      string
	batchSize  int
	duration   time.Duration
	backoff    time.Duration
	maxBackoff time.Duration
	avro       bool
	setTopic   bool
	topicHdr   string
	headers    map[string]string // Flume's name → Kafka's
	migrate    bool
	consumer   kafkaconf.Consumer
}

func (c *config) Fields() []component.Field {
	consumer := c.consumer.Fields("kafka.consumer.")
	for i := range consumer {
		if consumer[i].Key == "kafka.consumer.group.id" {
			consumer[i] = consumer[i].Old("groupId")
		}
	}
	return append([]component.Field{
		component.CommaList("kafka.bootstrap.servers", &c.servers).Require().Describe("The brokers to ask first, as HOST:PORT, separated by commas."),
		component.CommaList("kafka.topics", &c.topics).Old("topic").Describe("The topics, separated by commas. One of this and kafka.topics.regex is needed."),
		component.String("kafka.topics.regex", &c.regex, "").AsType("regex").Describe("Reads every topic whose whole name matches, also those made later; it wins over kafka.topics."),
		component.Int("batchSize", &c.batchSize, 1000).In("events").Min(1).Describe("The most events put into the channels in one transaction."),
		component.Duration("batchDurationMillis", &c.duration, time.Millisecond, time.Second).Min(1).Describe("The longest that a batch which is not full waits for more."),
		component.Duration("backoffSleepIncrement", &c.backoff, time.Millisecond, time.Second).Min(1).Describe("The pause after a channel refused a batch; it doubles with every refusal."),
		component.Duration("maxBackoffSleep", &c.maxBackoff, time.Millisecond, 5*time.Second).Min(1).Describe("The longest such pause."),
		component.Bool("useFlumeEventFormat", &c.avro, false).Describe("Values are bare Avro records of Flume's AvroFlumeEvent: headers and body."),
		component.Bool("setTopicHeader", &c.setTopic, true).Describe("Whether the topic's name becomes a header."),
		component.String("topicHeader", &c.topicHdr, "topic").Describe("That header."),
		component.Map("header.", &c.headers).Describe("header.FLUME = KAFKA copies a record's header KAFKA (the last of that name) into the event's header FLUME."),
	}, append(kafkaclient.Zookeeper(&c.migrate), consumer...)...)
}

func (c *config) NewSource(env component.Env) (component.Source, error) {
	cond := kafkaconf.NewConditions(env.Health)
	env.Health = func(err error) { cond.Set("brokers", err) }
	opts, err := c.consumer.Options(kafkaconf.Env{Component: env, Servers: c.servers, ServersKey: "kafka.bootstrap.servers"})
	if err != nil {
		return nil, err
	}
	var pattern *javaregex.Regexp
	switch {
	case c.regex != "":
		if pattern, err = javaregex.Compile(c.regex, 0); err != nil {
			return nil, &component.KeyError{Key: "kafka.topics.regex", Err: err}
		}
	case len(c.topics) == 0:
		return nil, &component.KeyError{Key: "kafka.topics", Err: errors.New("required, but not set, and neither is kafka.topics.regex"), Hint: "the topics to read, separated by commas"}
	}
	s := &source{
		config: *c, pattern: pattern, log: env.Log, cond: cond,
		getTimer:    env.Metrics.Counter("KafkaEventGetTimer"),
		commitTimer: env.Metrics.Counter("KafkaCommitTimer"),
		empty:       env.Metrics.Counter("KafkaEmptyCount"),
		readFail:    env.Metrics.Counter("EventReadFail"),
	}
	for to, from := range c.headers {
		s.mapped = append(s.mapped, mapping{from, to})
	}
	slices.SortFunc(s.mapped, func(a, b mapping) int { return strings.Compare(a.to, b.to) })
	s.opts = append(opts,
		kgo.WithHooks(kafkaconf.NewWatch(env)),
		// Partitions are not taken away while a batch of theirs is on its way.
		kgo.BlockRebalanceOnPoll(),
		// The client tries on without a word: see fail.
		kgo.KeepRetryableFetchErrors(),
		kgo.OnPartitionsAssigned(s.assigned),
		kgo.OnPartitionsRevoked(s.revoked),
		kgo.OnPartitionsLost(s.lost),
	)
	if err := kgo.ValidateOpts(s.opts...); err != nil {
		return nil, fmt.Errorf("configure the Kafka client: %w", err)
	}
	return s, nil
}
