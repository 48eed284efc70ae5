package broker

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// kafkaTopicConfigs is what Apache Kafka 4.3.1 answers to DescribeConfigs of a
// topic: name and the name of the broker-wide default.
const kafkaTopicConfigs = `
cleanup.policy log.cleanup.policy
compression.gzip.level compression.gzip.level
compression.lz4.level compression.lz4.level
compression.type compression.type
compression.zstd.level compression.zstd.level
delete.retention.ms log.cleaner.delete.retention.ms
file.delete.delay.ms log.segment.delete.delay.ms
flush.messages log.flush.interval.messages
flush.ms log.flush.interval.ms
follower.replication.throttled.replicas
index.interval.bytes log.index.interval.bytes
leader.replication.throttled.replicas
local.retention.bytes log.local.retention.bytes
local.retention.ms log.local.retention.ms
max.compaction.lag.ms log.cleaner.max.compaction.lag.ms
max.message.bytes message.max.bytes
message.timestamp.after.max.ms log.message.timestamp.after.max.ms
message.timestamp.before.max.ms log.message.timestamp.before.max.ms
message.timestamp.type log.message.timestamp.type
min.cleanable.dirty.ratio log.cleaner.min.cleanable.ratio
min.compaction.lag.ms log.cleaner.min.compaction.lag.ms
min.insync.replicas min.insync.replicas
preallocate log.preallocate
remote.log.copy.disable
remote.log.delete.on.disable
remote.storage.enable
retention.bytes log.retention.bytes
retention.ms log.retention.ms
segment.bytes log.segment.bytes
segment.index.bytes log.index.size.max.bytes
segment.jitter.ms log.roll.jitter.ms
segment.ms log.roll.ms
unclean.leader.election.enable unclean.leader.election.enable`

// TestTopicConfigNames: tools that copy a topic's settings from Apache Kafka
// find each of them here.
func TestTopicConfigNames(t *testing.T) {
	var got []string
	for _, k := range topicConfigKeys() {
		if !strings.HasPrefix(k.name, "sluice.") {
			got = append(got, strings.TrimSpace(k.name+" "+k.brokerName))
		}
	}
	if want := strings.Split(strings.TrimSpace(kafkaTopicConfigs), "\n"); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	c := log.DefaultTopicConfig()
	for _, k := range topicConfigKeys() {
		v := k.get(&c)
		if err := k.set(&c, v); err != nil || k.get(&c) != v {
			t.Errorf("%s does not take its own value %q: %v", k.name, v, err)
		}
	}
	for name, value := range map[string]string{"cleanup.policy": "keep", "remote.storage.enable": "true", "min.cleanable.dirty.ratio": "2",
		"compression.type": "brotli", "unclean.leader.election.enable": "perhaps", "message.format.version": "3.0", "file.delete.delay.ms": "soon"} {
		if err := setTopicConfig(&c, name, value); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s: %v: want an error with the name", name, value, err)
		}
	}
}

// TestTopicConfigTogether: what each setting allows may be wrong together.
func TestTopicConfigTogether(t *testing.T) {
	for _, own := range []map[string]string{
		{"min.insync.replicas": "0"}, {"compression.gzip.level": "10"}, {"compression.lz4.level": "18"}, {"compression.zstd.level": "23"},
		{"min.compaction.lag.ms": "1000", "max.compaction.lag.ms": "999"}, {"segment.index.bytes": "3"},
	} {
		if _, err := applyTopicConfigs(log.DefaultTopicConfig(), own); err == nil {
			t.Errorf("%v is taken", own)
		}
	}
	for _, policy := range []string{"compact", "delete", "compact,delete", ""} {
		c, err := applyTopicConfigs(log.DefaultTopicConfig(), map[string]string{"cleanup.policy": policy})
		if err != nil || c.Compact != strings.Contains(policy, "compact") || c.KeepExpired == strings.Contains(policy, "delete") {
			t.Errorf("%s: %+v, %v", policy, c, err)
		}
	}
}

// TestMinInsyncReplicas: Apache Kafka takes 2 with one replica, and refuses
// what asks for both.
func TestMinInsyncReplicas(t *testing.T) {
	b := startBroker(t, nil)
	cl := client(t, b)
	two := "2"
	if _, err := kadm.NewClient(cl).CreateTopic(ctxOf(t), 1, 1, map[string]*string{"min.insync.replicas": &two}, "two"); err != nil {
		t.Fatal(err)
	}
	all := client(t, b, kgo.RecordRetries(0), kgo.DisableIdempotentWrite())
	err := all.ProduceSync(ctxOf(t), &kgo.Record{Topic: "two", Value: []byte("v")}).FirstErr()
	if !errors.Is(err, kerr.NotEnoughReplicas) {
		t.Errorf("acks=all: %v: want NOT_ENOUGH_REPLICAS", err)
	}
	one := client(t, b, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	if err := one.ProduceSync(ctxOf(t), &kgo.Record{Topic: "two", Value: []byte("v")}).FirstErr(); err != nil {
		t.Errorf("acks=1: %v", err)
	}
	rcs, err := kadm.NewClient(cl).DescribeTopicConfigs(ctxOf(t), "two")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range rcs[0].Configs {
		if c.Key == "min.insync.replicas" && c.MaybeValue() != "2" {
			t.Errorf("described as %q", c.MaybeValue())
		}
	}
}
