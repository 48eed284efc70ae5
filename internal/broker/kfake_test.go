package broker

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestSameAnswersAsKfake asks our broker and kfake the same questions and
// compares the parts of the answers that do not depend on who answers.
func TestSameAnswersAsKfake(t *testing.T) {
	t.Parallel()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	b := startBroker(t, nil)
	ours := client(t, b)
	theirs, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...), kgo.AllowAutoTopicCreation(), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(theirs.Close)
	ctx := ctxOf(t)
	for _, cl := range []*kgo.Client{ours, theirs} {
		for i := range 10 {
			r := &kgo.Record{Topic: "d", Value: fmt.Append(nil, "v", i)}
			if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	ask := func(name string, f func(cl *kgo.Client) (string, error)) {
		t.Helper()
		got, err := f(ours)
		if err != nil {
			t.Errorf("%s: ours: %v", name, err)
		}
		want, err := f(theirs)
		if err != nil {
			t.Errorf("%s: theirs: %v", name, err)
		}
		if got != want {
			t.Errorf("%s:\nours   %s\ntheirs %s", name, got, want)
		}
	}
	for _, q := range []struct {
		topic string
		part  int32
		ts    int64
		epoch int32
		twice bool
	}{
		{"d", 0, -1, -1, false}, {"d", 0, -2, -1, false}, {"d", 0, -4, -1, false}, {"d", 0, -5, -1, false}, {"d", 0, -9, -1, false},
		{"d", 0, 0, -1, false}, {"d", 0, 1 << 60, -1, false}, {"d", 1, -1, -1, false}, {"none", 0, -1, -1, false},
		{"d", 0, -1, 7, false}, {"d", 0, -1, -1, true},
	} {
		ask(fmt.Sprintf("ListOffsets %+v", q), func(cl *kgo.Client) (string, error) {
			req := kmsg.NewPtrListOffsetsRequest()
			rt := kmsg.NewListOffsetsRequestTopic()
			rt.Topic = q.topic
			rp := kmsg.NewListOffsetsRequestTopicPartition()
			rp.Partition, rp.Timestamp, rp.CurrentLeaderEpoch = q.part, q.ts, q.epoch
			rt.Partitions = append(rt.Partitions, rp)
			if q.twice {
				rt.Partitions = append(rt.Partitions, rp)
			}
			req.Topics = append(req.Topics, rt)
			resp, err := req.RequestWith(ctx, cl.Broker(nodeOf(cl, ours)))
			if err != nil {
				return "", err
			}
			var s string
			for _, p := range resp.Topics[0].Partitions {
				s += fmt.Sprintf("[error %d offset %d]", p.ErrorCode, p.Offset)
			}
			return s, nil
		})
	}
	for _, q := range []struct {
		off        int64
		sid, epoch int32
		lepoch     int32
	}{{0, 0, -1, -1}, {5, 0, -1, -1}, {10, 0, -1, -1}, {11, 0, -1, -1}, {-5, 0, -1, -1}, {0, 4711, 3, -1}, {0, 0, -1, 9}} {
		ask(fmt.Sprintf("Fetch %+v", q), func(cl *kgo.Client) (string, error) {
			req := kmsg.NewPtrFetchRequest()
			req.Version, req.MaxBytes, req.SessionID, req.SessionEpoch = 11, 1<<20, q.sid, q.epoch
			rt := kmsg.NewFetchRequestTopic()
			rt.Topic = "d"
			rp := kmsg.NewFetchRequestTopicPartition()
			rp.FetchOffset, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch = q.off, 1<<20, q.lepoch
			rt.Partitions = append(rt.Partitions, rp)
			req.Topics = append(req.Topics, rt)
			maxed, err := kgo.NewClient(append(cl.Opts(), kgo.MaxVersions(versionsUpTo(map[string]int16{"Fetch": 11})))...)
			if err != nil {
				return "", err
			}
			defer maxed.Close()
			resp, err := req.RequestWith(ctx, maxed.Broker(nodeOf(cl, ours)))
			if err != nil {
				return "", err
			}
			s := fmt.Sprintf("error %d ", resp.ErrorCode)
			for _, t := range resp.Topics {
				for _, p := range t.Partitions {
					s += fmt.Sprintf("[error %d, some %v, preferred %d]", p.ErrorCode, len(p.RecordBatches) > 0, p.PreferredReadReplica)
				}
			}
			return s, nil
		})
	}
	for _, q := range []struct{ group, member string }{{"", ""}, {"no-group", "m"}, {"no-group", ""}} {
		ask(fmt.Sprintf("SyncGroup and LeaveGroup %+v", q), func(cl *kgo.Client) (string, error) {
			join := kmsg.NewPtrJoinGroupRequest()
			join.Group, join.MemberID, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis, join.ProtocolType = q.group, q.member, 10_000, 10_000, "consumer"
			jp := kmsg.NewJoinGroupRequestProtocol()
			jp.Name = "range"
			join.Protocols = append(join.Protocols, jp)
			resp, err := join.RequestWith(ctx, cl.Broker(nodeOf(cl, ours)))
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("join %d", resp.ErrorCode), nil
		})
	}
}

// nodeOf is the number of the only broker: ours has 1, kfake's 0.
func nodeOf(cl, ours *kgo.Client) int {
	if cl == ours {
		return 1
	}
	return 0
}
