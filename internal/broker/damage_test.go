package broker

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-data/sluice/internal/broker/log/logtest"
	"github.com/sluice-data/sluice/internal/broker/partition"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// flip changes a bit of a partition's first segment.
func flip(t *testing.T, dir, partition string, at int64) string {
	t.Helper()
	name := filepath.Join(dir, logsDir, partition, "00000000000000000000.log")
	logtest.FlipBit(t, name, at)
	return name
}

// batchEach writes each value as a batch of its own to a partition.
func batchEach(t *testing.T, cl *kgo.Client, topic string, part int32, values ...string) {
	t.Helper()
	for _, v := range values {
		r := kgo.StringRecord(v)
		r.Topic, r.Partition = topic, part
		if err := cl.ProduceSync(ctxOf(t), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDamagedPartitionIsOffline: damage that is found when the broker starts
// takes one partition out of service, is named, and is not touched.
func TestDamagedPartitionIsOffline(t *testing.T) {
	dir := t.TempDir()
	ctx := ctxOf(t)
	b := startBroker(t, func(c *Config) { c.DataDir = dir; c.NumPartitions = 2 })
	cl := client(t, b)
	for part := range int32(2) {
		batchEach(t, cl, "d", part, "one", "two", "three")
	}
	if err := kadm.NewClient(cl).CommitAllOffsets(ctx, "g", kadm.Offsets{"d": {1: kadm.Offset{Topic: "d", Partition: 1, At: 2, LeaderEpoch: -1}}}); err != nil {
		t.Fatal(err)
	}
	cl.Close()
	if err := b.Close(ctx); err != nil {
		t.Fatal(err)
	}
	// As after a crash, so that the segment is scanned.
	if err := os.Remove(filepath.Join(dir, logsDir, "d-0", "log-state")); err != nil {
		t.Fatal(err)
	}
	name := flip(t, dir, "d-0", 90) // in the second batch: each is shorter than 90 bytes
	before, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}

	var logs logBuffer
	logged := func(c *Config) {
		c.DataDir, c.Logger = dir, slog.New(slog.NewTextHandler(&logs, nil))
	}
	b = startBroker(t, logged)
	for _, want := range []string{"topic=d partition=0", "partition is offline", name, "offset 1"} {
		if !strings.Contains(logs.String(), want) {
			t.Errorf("no %q in the log: %s", want, logs.String())
		}
	}
	if n := b.topics.offlineCount(); n != 1 {
		t.Errorf("%d partitions are offline", n)
	}
	cl = client(t, b)
	adm := kadm.NewClient(cl)
	meta, err := adm.Metadata(ctx, "d")
	if err != nil {
		t.Fatal(err)
	}
	p0, p1 := meta.Topics["d"].Partitions[0], meta.Topics["d"].Partitions[1]
	if p0.Err != kerr.LeaderNotAvailable || p0.Leader != -1 || len(p0.OfflineReplicas) != 1 || p1.Err != nil || p1.Leader != 1 {
		t.Errorf("metadata: %+v and %+v", p0, p1)
	}
	// The other partition and the groups go on.
	batchEach(t, cl, "d", 1, "four")
	if o, err := adm.FetchOffsets(ctx, "g"); err != nil || o["d"][1].At != 2 {
		t.Errorf("committed: %v %v", o, err)
	}
	// Whoever asks for the damaged one is told so.
	prod := kmsg.NewPtrProduceRequest()
	prod.Acks, prod.TimeoutMillis = -1, 1000
	prod.Topics = []kmsg.ProduceRequestTopic{{Topic: "d", TopicID: b.topics.byName("d").id, Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: 0, Records: benchBatch(1)}}}}
	pr, err := prod.RequestWith(ctx, cl.Broker(1))
	if err != nil || pr.Topics[0].Partitions[0].ErrorCode != kerr.KafkaStorageError.Code {
		t.Errorf("produce: %+v %v", pr, err)
	}
	fetch := kmsg.NewPtrFetchRequest()
	fetch.MaxBytes, fetch.SessionEpoch, fetch.MaxWaitMillis, fetch.MinBytes = 1<<20, -1, 60_000, 1
	ft, fp := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	fp.PartitionMaxBytes = 1 << 20
	ft.Topic, ft.TopicID, ft.Partitions = "d", b.topics.byName("d").id, append(ft.Partitions, fp)
	fetch.Topics = append(fetch.Topics, ft)
	fr, err := fetch.RequestWith(ctx, cl.Broker(1))
	if err != nil || fr.Topics[0].Partitions[0].ErrorCode != kerr.KafkaStorageError.Code {
		t.Errorf("fetch: %+v %v", fr, err)
	}
	for _, ts := range []int64{-1, -2, 5} {
		lo := kmsg.NewPtrListOffsetsRequest()
		lt, lp := kmsg.NewListOffsetsRequestTopic(), kmsg.NewListOffsetsRequestTopicPartition()
		lp.Timestamp = ts
		lt.Topic, lt.Partitions = "d", append(lt.Partitions, lp)
		lo.Topics = append(lo.Topics, lt)
		lr, err := lo.RequestWith(ctx, cl.Broker(1))
		if err != nil || lr.Topics[0].Partitions[0].ErrorCode != kerr.KafkaStorageError.Code {
			t.Errorf("offset at %d: %+v %v", ts, lr, err)
		}
	}
	if dl, err := adm.DeleteRecords(ctx, kadm.Offsets{"d": {0: kadm.Offset{Topic: "d", Partition: 0, At: 1}}}); err == nil {
		if r, ok := dl.Lookup("d", 0); !ok || r.Err == nil {
			t.Errorf("records of an offline partition were deleted: %+v", dl)
		}
	}
	b.tickPartitions(func(p *partition.Partition) error { _, err := p.Tick(b.connCtx); return err })
	dirs, err := adm.DescribeAllLogDirs(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := dirs[1].Lookup(filepath.Join(dir, logsDir), "d", 0); !ok || p.Size < int64(len(before)) {
		t.Errorf("log dirs: %+v", dirs)
	}
	cl.Close()
	if err := b.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(name); err != nil || string(after) != string(before) {
		t.Errorf("the damaged file was changed: %v", err)
	}

	// Repair keeps what is before the damage.
	b = startBroker(t, func(c *Config) { logged(c); c.Repair = true })
	cl = client(t, b)
	batchEach(t, cl, "d", 0, "new")
	if p := b.topics.byName("d").part(0); p.offline != nil || p.Offsets().High != 2 {
		t.Errorf("after the repair: %v %+v", p.offline, p.Offsets())
	}
}

// TestDamagedGroupLog: without it nothing is known of any group, which must not
// look like groups that have committed nothing.
func TestDamagedGroupLog(t *testing.T) {
	dir := t.TempDir()
	ctx := ctxOf(t)
	b := startBroker(t, func(c *Config) { c.DataDir = dir })
	cl := client(t, b)
	batchEach(t, cl, "d", 0, "one")
	for range 3 {
		if err := kadm.NewClient(cl).CommitAllOffsets(ctx, "g", kadm.Offsets{"d": {0: kadm.Offset{Topic: "d", Partition: 0, At: 1, LeaderEpoch: -1}}}); err != nil {
			t.Fatal(err)
		}
	}
	cl.Close()
	if err := b.Close(ctx); err != nil {
		t.Fatal(err)
	}
	flip(t, dir, groupTopic+"-0", 200)
	for _, clean := range []bool{true, false} { // found by the replay, found by the scan
		if !clean {
			if err := os.Remove(filepath.Join(dir, logsDir, groupTopic+"-0", "log-state")); err != nil {
				t.Fatal(err)
			}
		}
		b = startBroker(t, func(c *Config) { c.DataDir = dir })
		cl = client(t, b)
		batchEach(t, cl, "d", 0, "more")
		of := kmsg.NewPtrOffsetFetchRequest()
		of.Groups = []kmsg.OffsetFetchRequestGroup{{Group: "g"}}
		or, err := of.RequestWith(ctx, cl.Broker(1))
		if err != nil || len(or.Groups) != 1 || or.Groups[0].ErrorCode != kerr.CoordinatorNotAvailable.Code {
			t.Errorf("clean %v: offsets: %+v %v", clean, or, err)
		}
		fc := kmsg.NewPtrFindCoordinatorRequest()
		fc.CoordinatorKeys = []string{"g"}
		cr, err := fc.RequestWith(ctx, cl.Broker(1))
		if err != nil || cr.Coordinators[0].ErrorCode != kerr.CoordinatorNotAvailable.Code {
			t.Errorf("clean %v: coordinator: %+v %v", clean, cr, err)
		}
		if n := b.topics.offlineCount(); n != 1 {
			t.Errorf("clean %v: %d partitions are offline", clean, n)
		}
		cl.Close()
		if err := b.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}
