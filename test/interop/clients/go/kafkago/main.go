// kafka-go (segmentio), a Go client: kafkago HOST:PORT
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"

	"clients/report"
)

var (
	addr   string
	client *kafka.Client
	keep   = kafka.ConfigEntry{ConfigName: "retention.ms", ConfigValue: "-1"} // records that bear an old time would be deleted
	ctx    = context.Background()
)

func newTopic(partitions int, entries ...kafka.ConfigEntry) (string, error) {
	name := report.Topic("kafkago")
	r, err := client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{
		{Topic: name, NumPartitions: partitions, ReplicationFactor: 1, ConfigEntries: entries}}})
	if err == nil {
		err = r.Errors[name]
	}
	return name, err
}

func produce(topic string, msgs []kafka.Message, codec kafka.Compression) error {
	w := &kafka.Writer{Addr: kafka.TCP(addr), Topic: topic, RequiredAcks: kafka.RequireAll, Compression: codec, BatchTimeout: 10 * time.Millisecond, BatchBytes: 4 << 20}
	return errors.Join(w.WriteMessages(ctx, msgs...), w.Close())
}

func many(n int) (m []kafka.Message) {
	for i := range n {
		m = append(m, kafka.Message{Value: fmt.Append(nil, i, " ", strings.Repeat("abcdefgh", 100))})
	}
	return m
}

func read(n int, c kafka.ReaderConfig) ([]kafka.Message, error) {
	c.Brokers, c.MaxWait = []string{addr}, 200*time.Millisecond
	r := kafka.NewReader(c)
	defer r.Close()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	var got []kafka.Message
	for len(got) < n {
		m, err := r.ReadMessage(ctx)
		if err != nil {
			return got, fmt.Errorf("after %d of %d: %w", len(got), n, err)
		}
		got = append(got, m)
	}
	return got, nil
}

func main() {
	addr = os.Args[1]
	client = &kafka.Client{Addr: kafka.TCP(addr), Timeout: 30 * time.Second}
	info, _ := debug.ReadBuildInfo()
	for _, d := range info.Deps {
		if d.Path == "github.com/segmentio/kafka-go" {
			report.Version(d.Version)
		}
	}
	report.Test("metadata, cluster", "Metadata, ApiVersions", func() error {
		md, err := client.Metadata(ctx, &kafka.MetadataRequest{})
		if err == nil && len(md.Brokers) != 1 {
			err = fmt.Errorf("%+v", md.Brokers)
		}
		if err != nil {
			return err
		}
		v, err := client.ApiVersions(ctx, &kafka.ApiVersionsRequest{})
		return errors.Join(err, v.Error)
	})
	report.Test("topics", "create, delete", func() error {
		topic, err := newTopic(3)
		if err != nil {
			return err
		}
		d, err := client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{topic}})
		if err == nil {
			err = d.Errors[topic]
		}
		return err
	})
	report.Test("partitions", "CreatePartitions", func() error {
		topic, err := newTopic(1)
		if err != nil {
			return err
		}
		r, err := client.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{Topics: []kafka.TopicPartitionsConfig{{Name: topic, Count: 3}}})
		if err == nil {
			err = r.Errors[topic]
		}
		return err
	})
	report.Test("topic and broker configs", "DescribeConfigs, IncrementalAlterConfigs", func() error {
		topic, err := newTopic(1, kafka.ConfigEntry{ConfigName: "retention.ms", ConfigValue: "600000"})
		if err != nil {
			return err
		}
		a, err := client.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{Resources: []kafka.IncrementalAlterConfigsRequestResource{{
			ResourceType: kafka.ResourceTypeTopic, ResourceName: topic,
			Configs: []kafka.IncrementalAlterConfigsRequestConfig{{Name: "max.message.bytes", Value: "4096", ConfigOperation: kafka.ConfigOperationSet}}}}})
		if err == nil {
			err = a.Resources[0].Error
		}
		if err != nil {
			return err
		}
		return report.Wait("the change shows", func() (bool, error) {
			d, err := client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{{
				ResourceType: kafka.ResourceTypeTopic, ResourceName: topic, ConfigNames: []string{"max.message.bytes"}}}})
			return err == nil && d.Resources[0].ConfigEntries[0].ConfigValue == "4096", err
		})
	})
	for name, codec := range map[string]kafka.Compression{"no compression": 0, "gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd} {
		report.Test("produce, "+name, "produce and read", func() error {
			topic, err := newTopic(1)
			if err != nil {
				return err
			}
			want := many(300)
			if err := produce(topic, want, codec); err != nil {
				return err
			}
			got, err := read(300, kafka.ReaderConfig{Topic: topic})
			for i, m := range got {
				if string(m.Value) != string(want[i].Value) {
					return fmt.Errorf("message %d: %.20q", i, m.Value)
				}
			}
			return err
		})
	}
	report.Test("large messages", "up to and above the limit", func() error {
		topic, err := newTopic(1)
		if err != nil {
			return err
		}
		if err := produce(topic, []kafka.Message{{Value: make([]byte, 1_000_000)}}, 0); err != nil {
			return err
		}
		if _, err := read(1, kafka.ReaderConfig{Topic: topic}); err != nil {
			return err
		}
		if err := produce(topic, []kafka.Message{{Value: make([]byte, 2_000_000)}}, 0); !strings.Contains(fmt.Sprint(err), "Message Size Too Large") {
			return fmt.Errorf("above the limit: %v", err)
		}
		return nil
	})
	report.Test("headers, null keys and values", "headers", func() error {
		topic, err := newTopic(1, keep)
		if err != nil {
			return err
		}
		at := time.UnixMilli(1_600_000_000_000)
		if err := produce(topic, []kafka.Message{{Key: []byte("k"), Time: at, Headers: []kafka.Header{{Key: "a", Value: []byte("1")}}}}, 0); err != nil {
			return err
		}
		got, err := read(1, kafka.ReaderConfig{Topic: topic})
		if err == nil && (string(got[0].Headers[0].Value) != "1" || !got[0].Time.Equal(at) || string(got[0].Key) != "k") {
			err = fmt.Errorf("%+v", got[0])
		}
		return err
	})
	report.Test("look-up by time", "ListOffsets", func() error {
		topic, err := newTopic(1, keep)
		if err != nil {
			return err
		}
		var msgs []kafka.Message
		for i := range 10 {
			msgs = append(msgs, kafka.Message{Time: time.UnixMilli(1_600_000_000_000 + int64(i)*1000)})
		}
		if err := produce(topic, msgs, 0); err != nil {
			return err
		}
		r, err := client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: {
			kafka.FirstOffsetOf(0), kafka.LastOffsetOf(0), kafka.TimeOffsetOf(0, time.UnixMilli(1_600_000_004_500))}}})
		if err != nil {
			return err
		}
		p := r.Topics[topic][0]
		if p.FirstOffset != 0 || p.LastOffset != 10 || len(p.Offsets) != 1 {
			return fmt.Errorf("%+v", p)
		}
		if _, ok := p.Offsets[5]; !ok {
			return fmt.Errorf("by time: %v", p.Offsets)
		}
		return nil
	})
	report.Test("fetch", "from an offset", func() error {
		topic, err := newTopic(1)
		if err != nil {
			return err
		}
		if err := produce(topic, many(100), 0); err != nil {
			return err
		}
		r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{addr}, Topic: topic, MaxWait: 200 * time.Millisecond})
		defer r.Close()
		for _, offset := range []int64{90, 3, kafka.FirstOffset} {
			if err := r.SetOffset(offset); err != nil {
				return err
			}
			m, err := r.ReadMessage(ctx)
			if want := max(offset, 0); err == nil && m.Offset != want {
				err = fmt.Errorf("offset %d, want %d", m.Offset, want)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	report.Test("compacted topics", "keys, deletions, no key", func() error {
		topic, err := newTopic(1, kafka.ConfigEntry{ConfigName: "cleanup.policy", ConfigValue: "compact"})
		if err != nil {
			return err
		}
		var msgs []kafka.Message
		for i := range 20 {
			msgs = append(msgs, kafka.Message{Key: fmt.Append(nil, i%3), Value: fmt.Append(nil, i)})
		}
		if err := produce(topic, append(msgs, kafka.Message{Key: []byte("0")}), 0); err != nil {
			return err
		}
		var failed kafka.WriteErrors
		if err := produce(topic, []kafka.Message{{Value: []byte("no key")}}, 0); !errors.Is(err, kafka.InvalidRecord) && (!errors.As(err, &failed) || !errors.Is(failed[0], kafka.InvalidRecord)) {
			return fmt.Errorf("a message without a key: %v", err)
		}
		got, err := read(21, kafka.ReaderConfig{Topic: topic})
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
		name := report.Topic("client")
		alter := func(remove bool) error {
			r, err := client.AlterClientQuotas(ctx, &kafka.AlterClientQuotasRequest{Entries: []kafka.AlterClientQuotaEntry{{
				Entities: []kafka.AlterClientQuotaEntity{{EntityType: "client-id", EntityName: name}},
				Ops:      []kafka.AlterClientQuotaOps{{Key: "producer_byte_rate", Value: 500_000, Remove: remove}}}}})
			if err == nil {
				err = r.Entries[0].Error
			}
			return err
		}
		if err := alter(false); err != nil {
			return err
		}
		if err := report.Wait("the quota shows", func() (bool, error) {
			r, err := client.DescribeClientQuotas(ctx, &kafka.DescribeClientQuotasRequest{
				Components: []kafka.DescribeClientQuotasRequestComponent{{EntityType: "client-id", MatchType: 0, Match: name}}})
			return err == nil && len(r.Entries) == 1 && r.Entries[0].Values[0].Value == 500_000, err
		}); err != nil {
			return err
		}
		return alter(true)
	})
	report.Test("group administration", "DeleteGroups", func() error {
		topic, err := newTopic(1)
		if err != nil {
			return err
		}
		group := topic + "-g"
		if err := produce(topic, many(5), 0); err != nil {
			return err
		}
		if _, err := read(5, kafka.ReaderConfig{Topic: topic, GroupID: group, StartOffset: kafka.FirstOffset}); err != nil {
			return err
		}
		return report.Wait("the group is deleted", func() (bool, error) {
			r, err := client.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{group}})
			if err == nil {
				err = r.Errors[group]
			}
			return err == nil, err
		})
	})
	report.Test("offset commit and resume", "a group goes on", func() error {
		topic, err := newTopic(1)
		if err != nil {
			return err
		}
		for round := range 2 {
			if err := produce(topic, many(20), 0); err != nil {
				return err
			}
			got, err := read(20, kafka.ReaderConfig{Topic: topic, GroupID: topic + "-g", StartOffset: kafka.FirstOffset})
			if err != nil {
				return err
			}
			if got[0].Offset != int64(round*20) {
				return fmt.Errorf("round %d begins at %d", round, got[0].Offset)
			}
		}
		return nil
	})
	report.Test("classic groups", "two members share", func() error {
		topic, err := newTopic(2)
		if err != nil {
			return err
		}
		c := kafka.ReaderConfig{Brokers: []string{addr}, Topic: topic, GroupID: topic + "-g", StartOffset: kafka.FirstOffset, HeartbeatInterval: 200 * time.Millisecond, MaxWait: 200 * time.Millisecond}
		a, b := kafka.NewReader(c), kafka.NewReader(c)
		defer a.Close()
		defer b.Close()
		err = report.Wait("both are members", func() (bool, error) {
			d, err := client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{c.GroupID}})
			return err == nil && d.Groups[0].GroupState == "Stable" && len(d.Groups[0].Members) == 2, err
		})
		if err != nil {
			return err
		}
		if err := produce(topic, many(200), 0); err != nil {
			return err
		}
		count := make(chan int)
		ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
		defer cancel()
		for _, r := range []*kafka.Reader{a, b} {
			go func() {
				for {
					m, err := r.ReadMessage(ctx)
					if err != nil {
						return
					}
					select {
					case count <- m.Partition:
					case <-ctx.Done():
						return
					}
				}
			}()
		}
		for i := range 200 {
			select {
			case <-count:
			case <-ctx.Done():
				return fmt.Errorf("%d of 200 messages", i)
			}
		}
		return nil
	})
}
