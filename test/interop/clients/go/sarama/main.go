// Sarama, a Go client: sarama HOST:PORT
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"clients/report"
)

var (
	addr  []string
	admin sarama.ClusterAdmin
	keep  = map[string]string{"retention.ms": "-1"} // records that bear an old time would be deleted
)

func config(f ...func(*sarama.Config)) *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.V4_0_0_0
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Return.Successes = true
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Group.Heartbeat.Interval = 200 * time.Millisecond
	for _, f := range f {
		f(c)
	}
	return c
}

func newTopic(partitions int32, entries map[string]string) (string, error) {
	d := &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1, ConfigEntries: map[string]*string{}}
	for k, v := range entries {
		d.ConfigEntries[k] = &v
	}
	name := report.Topic("sarama")
	return name, admin.CreateTopic(name, d, false)
}

func produce(topic string, values []string, f ...func(*sarama.Config)) error {
	p, err := sarama.NewSyncProducer(addr, config(f...))
	if err != nil {
		return err
	}
	defer p.Close()
	var msgs []*sarama.ProducerMessage
	for _, v := range values {
		msgs = append(msgs, &sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(v)})
	}
	return p.SendMessages(msgs)
}

func read(topic string, n int, from int64) ([]*sarama.ConsumerMessage, error) {
	c, err := sarama.NewConsumer(addr, config())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	pc, err := c.ConsumePartition(topic, 0, from)
	if err != nil {
		return nil, err
	}
	defer pc.Close()
	var got []*sarama.ConsumerMessage
	for timeout := time.After(3 * time.Minute); len(got) < n; {
		select {
		case m := <-pc.Messages():
			got = append(got, m)
		case <-timeout:
			return got, fmt.Errorf("%d of %d messages", len(got), n)
		}
	}
	return got, nil
}

func many(n int) (v []string) {
	for i := range n {
		v = append(v, fmt.Sprint(i, " ", strings.Repeat("abcdefgh", 100)))
	}
	return v
}

// member counts what a member of a group gets.
type member struct {
	parts    atomic.Int32
	got      atomic.Int32
	last     atomic.Int64
	sessions atomic.Int32
}

func (m *member) Setup(s sarama.ConsumerGroupSession) error {
	n := 0
	for _, p := range s.Claims() {
		n += len(p)
	}
	m.sessions.Add(1) // first: who sees the partitions has it counted
	m.parts.Store(int32(n))
	return nil
}
func (m *member) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (m *member) ConsumeClaim(s sarama.ConsumerGroupSession, c sarama.ConsumerGroupClaim) error {
	for msg := range c.Messages() {
		m.last.Store(msg.Offset)
		m.got.Add(1)
		s.MarkMessage(msg, "")
	}
	return nil
}

func join(group, topic string, f ...func(*sarama.Config)) (*member, func() error, error) {
	g, err := sarama.NewConsumerGroup(addr, group, config(f...))
	if err != nil {
		return nil, nil, err
	}
	m := &member{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if err := g.Consume(ctx, []string{topic}, m); err != nil {
				time.Sleep(50 * time.Millisecond)
			}
		}
	}()
	return m, func() error { cancel(); <-done; return g.Close() }, nil
}

func shared(f ...func(*sarama.Config)) error {
	topic, err := newTopic(4, nil)
	if err != nil {
		return err
	}
	group := topic + "-g"
	a, leaveA, err := join(group, topic, f...)
	if err != nil {
		return err
	}
	defer leaveA()
	if err := report.Wait("the first has all", func() (bool, error) { return a.parts.Load() == 4, nil }); err != nil {
		return err
	}
	b, leaveB, err := join(group, topic, f...)
	if err != nil {
		return err
	}
	if err := report.Wait("both have half", func() (bool, error) { return a.parts.Load() == 2 && b.parts.Load() == 2, nil }); err != nil {
		return err
	}
	if err := produce(topic, many(100)); err != nil {
		return err
	}
	if err := report.Wait("all messages", func() (bool, error) { return a.got.Load()+b.got.Load() == 100, nil }); err != nil {
		return err
	}
	if err := leaveB(); err != nil {
		return err
	}
	return report.Wait("the first has all again", func() (bool, error) { return a.parts.Load() == 4, nil })
}

func main() {
	addr = os.Args[1:2]
	info, _ := debug.ReadBuildInfo()
	for _, d := range info.Deps {
		if d.Path == "github.com/IBM/sarama" {
			report.Version(d.Version)
		}
	}
	var err error
	if admin, err = sarama.NewClusterAdmin(addr, config()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer admin.Close()

	report.Test("metadata, cluster", "DescribeCluster", func() error {
		b, id, err := admin.DescribeCluster()
		if err == nil && (len(b) != 1 || b[0].ID() != id) {
			err = fmt.Errorf("%d brokers, controller %d", len(b), id)
		}
		return err
	})
	report.Test("topics", "create, list, delete", func() error {
		topic, err := newTopic(3, nil)
		if err != nil {
			return err
		}
		if err := admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false); !errors.Is(err, sarama.ErrTopicAlreadyExists) {
			return fmt.Errorf("created twice: %v", err)
		}
		list, err := admin.ListTopics()
		if err != nil || list[topic].NumPartitions != 3 {
			return fmt.Errorf("%+v %v", list[topic], err)
		}
		return admin.DeleteTopic(topic)
	})
	report.Test("partitions", "CreatePartitions", func() error {
		topic, err := newTopic(1, nil)
		if err != nil {
			return err
		}
		if err := admin.CreatePartitions(topic, 3, nil, false); err != nil {
			return err
		}
		return report.Wait("three partitions", func() (bool, error) {
			md, err := admin.DescribeTopics([]string{topic})
			return err == nil && len(md[0].Partitions) == 3, err
		})
	})
	report.Test("topic and broker configs", "DescribeConfig, IncrementalAlterConfig", func() error {
		topic, err := newTopic(1, map[string]string{"retention.ms": "600000"})
		if err != nil {
			return err
		}
		v := "4096"
		if err := admin.IncrementalAlterConfig(sarama.TopicResource, topic, map[string]sarama.IncrementalAlterConfigsEntry{
			"max.message.bytes": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &v}}, false); err != nil {
			return err
		}
		return report.Wait("the change shows", func() (bool, error) {
			e, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{"max.message.bytes", "retention.ms"}})
			if err != nil || len(e) != 2 {
				return false, fmt.Errorf("%v %v", e, err)
			}
			values := map[string]string{e[0].Name: e[0].Value, e[1].Name: e[1].Value}
			return values["max.message.bytes"] == "4096" && values["retention.ms"] == "600000", nil
		})
	})
	for name, codec := range map[string]sarama.CompressionCodec{"no compression": sarama.CompressionNone, "gzip": sarama.CompressionGZIP,
		"snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD} {
		report.Test("produce, "+name, "produce and read", func() error {
			topic, err := newTopic(1, nil)
			if err != nil {
				return err
			}
			want := many(300)
			if err := produce(topic, want, func(c *sarama.Config) { c.Producer.Compression = codec }); err != nil {
				return err
			}
			got, err := read(topic, len(want), sarama.OffsetOldest)
			for i, m := range got {
				if string(m.Value) != want[i] || m.Offset != int64(i) {
					return fmt.Errorf("message %d: %.20q", i, m.Value)
				}
			}
			return err
		})
	}
	report.Test("idempotent produce", "idempotent", func() error {
		topic, err := newTopic(1, nil)
		if err != nil {
			return err
		}
		if err := produce(topic, many(2000), func(c *sarama.Config) { c.Producer.Idempotent, c.Net.MaxOpenRequests = true, 1 }); err != nil {
			return err
		}
		_, err = read(topic, 2000, sarama.OffsetOldest)
		return err
	})
	report.Test("large messages", "up to and above the limit", func() error {
		topic, err := newTopic(1, nil)
		if err != nil {
			return err
		}
		big := func(c *sarama.Config) { c.Producer.MaxMessageBytes = 4 << 20 }
		if err := produce(topic, []string{strings.Repeat("x", 1_000_000)}, big); err != nil {
			return err
		}
		if _, err := read(topic, 1, 0); err != nil {
			return err
		}
		err = produce(topic, []string{strings.Repeat("x", 2_000_000)}, big)
		if !strings.Contains(fmt.Sprint(err), "Failed to deliver") {
			return fmt.Errorf("above the limit: %v", err)
		}
		return nil
	})
	report.Test("headers, null keys and values", "headers", func() error {
		topic, err := newTopic(1, keep)
		if err != nil {
			return err
		}
		p, err := sarama.NewSyncProducer(addr, config())
		if err != nil {
			return err
		}
		defer p.Close()
		at := time.UnixMilli(1_600_000_000_000)
		if _, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder("k"), Timestamp: at,
			Headers: []sarama.RecordHeader{{Key: []byte("a"), Value: []byte("1")}}}); err != nil {
			return err
		}
		got, err := read(topic, 1, 0)
		if err == nil && (got[0].Value != nil || string(got[0].Headers[0].Value) != "1" || !got[0].Timestamp.Equal(at)) {
			err = fmt.Errorf("%+v", got[0])
		}
		return err
	})
	report.Test("look-up by time", "GetOffset", func() error {
		topic, err := newTopic(1, keep)
		if err != nil {
			return err
		}
		p, err := sarama.NewSyncProducer(addr, config())
		if err != nil {
			return err
		}
		defer p.Close()
		for i := range 10 {
			if _, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: topic, Timestamp: time.UnixMilli(1_600_000_000_000 + int64(i)*1000)}); err != nil {
				return err
			}
		}
		c, err := sarama.NewClient(addr, config())
		if err != nil {
			return err
		}
		defer c.Close()
		for at, want := range map[int64]int64{1_600_000_004_500: 5, sarama.OffsetNewest: 10, sarama.OffsetOldest: 0} {
			if got, err := c.GetOffset(topic, 0, at); err != nil || got != want {
				return fmt.Errorf("at %d: %d %v, want %d", at, got, err, want)
			}
		}
		return nil
	})
	report.Test("delete records", "DeleteRecords", func() error {
		topic, err := newTopic(1, nil)
		if err != nil {
			return err
		}
		if err := produce(topic, many(20)); err != nil {
			return err
		}
		if err := admin.DeleteRecords(topic, map[int32]int64{0: 8}); err != nil {
			return err
		}
		got, err := read(topic, 12, sarama.OffsetOldest)
		if err == nil && got[0].Offset != 8 {
			err = fmt.Errorf("first offset %d", got[0].Offset)
		}
		return err
	})
	report.Test("log directories", "DescribeLogDirs", func() error {
		b, _, err := admin.DescribeCluster()
		if err != nil {
			return err
		}
		dirs, err := admin.DescribeLogDirs([]int32{b[0].ID()})
		if err == nil && len(dirs[b[0].ID()]) == 0 {
			err = errors.New("no directory")
		}
		return err
	})
	report.Test("classic groups", "range", func() error { return shared() })
	report.Test("classic groups", "sticky", func() error {
		return shared(func(c *sarama.Config) {
			c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategySticky()}
		})
	})
	report.Test("static members", "one goes and returns", func() error {
		topic, err := newTopic(2, nil)
		if err != nil {
			return err
		}
		enter := func(instance string) (*member, func() error, error) {
			return join(topic+"-g", topic, func(c *sarama.Config) {
				c.Consumer.Group.InstanceId, c.Consumer.Group.Session.Timeout = instance, time.Minute
			})
		}
		a, leaveA, err := enter("a")
		if err != nil {
			return err
		}
		defer leaveA()
		b, leaveB, err := enter("b")
		if err != nil {
			return err
		}
		if err := report.Wait("each has one", func() (bool, error) { return a.parts.Load() == 1 && b.parts.Load() == 1, nil }); err != nil {
			return err
		}
		sessions := a.sessions.Load()
		if err := leaveB(); err != nil {
			return err
		}
		if b, leaveB, err = enter("b"); err != nil {
			return err
		}
		defer leaveB()
		if err := report.Wait("it is back", func() (bool, error) { return b.parts.Load() == 1, nil }); err != nil {
			return err
		}
		if n := a.sessions.Load(); n != sessions {
			return fmt.Errorf("the return of a static member rebalanced the group %d times", n-sessions)
		}
		return nil
	})
	report.Test("fetch", "from an offset, out of range", func() error {
		topic, err := newTopic(1, nil)
		if err != nil {
			return err
		}
		if err := produce(topic, many(100)); err != nil {
			return err
		}
		got, err := read(topic, 10, 90)
		if err == nil && got[0].Offset != 90 {
			err = fmt.Errorf("first offset %d", got[0].Offset)
		}
		if err != nil {
			return err
		}
		if _, err := read(topic, 1, 1000); !errors.Is(err, sarama.ErrOffsetOutOfRange) {
			return fmt.Errorf("beyond the end: %v", err)
		}
		return nil
	})
	report.Test("compacted topics", "keys, deletions, no key", func() error {
		topic, err := newTopic(1, map[string]string{"cleanup.policy": "compact"})
		if err != nil {
			return err
		}
		p, err := sarama.NewSyncProducer(addr, config())
		if err != nil {
			return err
		}
		defer p.Close()
		for i := range 21 {
			m := &sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder(fmt.Sprint(i % 3)), Value: sarama.StringEncoder(fmt.Sprint(i))}
			if i == 20 {
				m.Key, m.Value = sarama.StringEncoder("0"), nil
			}
			if _, _, err := p.SendMessage(m); err != nil {
				return err
			}
		}
		if _, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder("no key")}); !errors.Is(err, sarama.ErrInvalidRecord) {
			return fmt.Errorf("a message without a key: %v", err)
		}
		got, err := read(topic, 21, sarama.OffsetOldest)
		last := map[string]string{}
		for _, m := range got {
			last[string(m.Key)] = string(m.Value)
		}
		if err == nil && (last["0"] != "" || last["1"] != "19" || last["2"] != "17") {
			err = fmt.Errorf("%v", last)
		}
		return err
	})
	report.Test("client quotas", "AlterClientQuotas, DescribeClientQuotas", func() error {
		who := []sarama.QuotaEntityComponent{{EntityType: sarama.QuotaEntityClientID, MatchType: sarama.QuotaMatchExact, Name: report.Topic("client")}}
		filter := []sarama.QuotaFilterComponent{{EntityType: sarama.QuotaEntityClientID, MatchType: sarama.QuotaMatchExact, Match: who[0].Name}}
		op := sarama.ClientQuotasOp{Key: "consumer_byte_rate", Value: 1 << 20}
		if err := admin.AlterClientQuotas(who, op, false); err != nil {
			return err
		}
		if err := report.Wait("the quota shows", func() (bool, error) {
			q, err := admin.DescribeClientQuotas(filter, true)
			return err == nil && len(q) == 1 && q[0].Values[op.Key] == op.Value, err
		}); err != nil {
			return err
		}
		op.Remove = true
		return admin.AlterClientQuotas(who, op, false)
	})
	report.Test("offset commit and resume", "offsets of a group", func() error {
		topic, err := newTopic(1, nil)
		if err != nil {
			return err
		}
		group := topic + "-g"
		for round := range 2 {
			if err := produce(topic, many(50)); err != nil {
				return err
			}
			m, leave, err := join(group, topic, func(c *sarama.Config) { c.Consumer.Group.InstanceId = "static" })
			if err != nil {
				return err
			}
			err = report.Wait("messages", func() (bool, error) { return m.last.Load() == int64(round*50+49), nil })
			if err := errors.Join(err, leave()); err != nil {
				return err
			}
			if n := m.got.Load(); n != 50 {
				return fmt.Errorf("round %d: %d messages, want 50", round, n)
			}
		}
		o, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {0}})
		if err == nil && o.GetBlock(topic, 0).Offset != 100 {
			err = fmt.Errorf("committed %d", o.GetBlock(topic, 0).Offset)
		}
		return err
	})
	report.Test("group administration", "list, describe, delete", func() error {
		topic, err := newTopic(1, nil)
		if err != nil {
			return err
		}
		group := topic + "-g"
		m, leave, err := join(group, topic)
		if err != nil {
			return err
		}
		err = report.Wait("the member has its partition", func() (bool, error) { return m.parts.Load() == 1, nil })
		list, err2 := admin.ListConsumerGroups()
		d, err3 := admin.DescribeConsumerGroups([]string{group})
		if err := errors.Join(err, err2, err3, leave()); err != nil {
			return err
		}
		if list[group] != "consumer" || d[0].State != "Stable" || len(d[0].Members) != 1 {
			return fmt.Errorf("%q %+v", list[group], d[0])
		}
		return report.Wait("deleted", func() (bool, error) { err := admin.DeleteConsumerGroup(group); return err == nil, err })
	})
	report.Test("transactions", "commit", func() error {
		topic, err := newTopic(1, nil)
		if err != nil {
			return err
		}
		p, err := sarama.NewSyncProducer(addr, config(func(c *sarama.Config) {
			c.Producer.Idempotent, c.Net.MaxOpenRequests, c.Producer.Transaction.ID = true, 1, topic
			c.Producer.Transaction.Retry.Max = 3
		}))
		if err != nil {
			return err
		}
		defer p.Close()
		if err := p.BeginTxn(); err != nil {
			return err
		}
		if _, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: topic}); err != nil {
			return err
		}
		return p.CommitTxn()
	})
}
