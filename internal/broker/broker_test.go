package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-data/sluice/internal/seglog/vfs"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// logBuffer collects what the broker logs.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startBroker runs a broker on a free port until the test ends.
func startBroker(t *testing.T, change func(*Config)) *Broker {
	t.Helper()
	cfg := Config{Listen: "127.0.0.1:0", DataDir: t.TempDir(), MaxDisk: -1, StopTimeout: 20 * time.Second}
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	if change != nil {
		change(&cfg)
	}
	b, err := startAgain(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b
}

func client(t *testing.T, b *Broker, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(b.Addr()), kgo.AllowAutoTopicCreation(), kgo.MetadataMinAge(10 * time.Millisecond),
		kgo.UnknownTopicRetries(20), kgo.RecordPartitioner(kgo.ManualPartitioner()),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func ctxOf(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func produce(t *testing.T, cl *kgo.Client, topic string, values ...string) {
	t.Helper()
	var recs []*kgo.Record
	for _, v := range values {
		recs = append(recs, &kgo.Record{Topic: topic, Value: []byte(v)})
	}
	if err := cl.ProduceSync(ctxOf(t), recs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// consume polls until it has n records.
func consume(t *testing.T, cl *kgo.Client, n int) []string {
	t.Helper()
	ctx := ctxOf(t)
	var got []string
	for len(got) < n {
		fs := cl.PollFetches(ctx)
		if err := fs.Err0(); err != nil {
			t.Fatalf("after %d of %d records: %v", len(got), n, err)
		}
		fs.EachError(func(topic string, p int32, err error) { t.Fatalf("%s-%d: %v", topic, p, err) })
		fs.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	return got
}

func numbers(from, to int) []string {
	var s []string
	for i := from; i < to; i++ {
		s = append(s, fmt.Sprintf("record-%d", i))
	}
	return s
}

func equal(t *testing.T, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d records, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("record %d: got %q, want %q", i, got[i], want[i])
		}
	}
}

func TestProduceAndConsume(t *testing.T) {
	t.Parallel()
	b := startBroker(t, nil)
	for _, tt := range []struct {
		name  string
		codec kgo.CompressionCodec
		opts  []kgo.Opt
	}{
		{"none", kgo.NoCompression(), nil},
		{"gzip", kgo.GzipCompression(), nil},
		{"snappy", kgo.SnappyCompression(), nil},
		{"lz4", kgo.Lz4Compression(), nil},
		{"zstd", kgo.ZstdCompression(), nil},
		{"not-idempotent", kgo.NoCompression(), []kgo.Opt{kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.LeaderAck())}},
		{"no-acks", kgo.NoCompression(), []kgo.Opt{kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.NoAck())}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cl := client(t, b, append(tt.opts, kgo.ProducerBatchCompression(tt.codec), kgo.ConsumeTopics(tt.name), kgo.ProducerBatchMaxBytes(20<<10))...)
			want := numbers(0, 3000)
			produce(t, cl, tt.name, want...)
			equal(t, consume(t, cl, len(want)), want)
		})
	}
}

// TestLargeSections makes responses large enough for sendfile.
func TestLargeSections(t *testing.T) {
	t.Parallel()
	b := startBroker(t, nil)
	cl := client(t, b, kgo.ConsumeTopics("large"), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(900<<10))
	var want []string
	for i := range 40 {
		want = append(want, strings.Repeat(fmt.Sprintf("%02d", i), 100<<10))
	}
	produce(t, cl, "large", want...)
	equal(t, consume(t, cl, len(want)), want)
}

// TestProtocolVersions talks as clients of several ages do.
func TestProtocolVersions(t *testing.T) {
	t.Parallel()
	b := startBroker(t, nil)
	for key, maxes := range map[string][]int16{"Produce": {3, 5, 8, 9, 13}, "Fetch": {4, 6, 7, 11, 12, 13, 18}} {
		for _, v := range maxes {
			name := fmt.Sprintf("%s-%d", key, v)
			t.Run(name, func(t *testing.T) {
				mv := versionsUpTo(map[string]int16{key: v})
				cl := client(t, b, kgo.MaxVersions(mv), kgo.ConsumeTopics(name))
				want := numbers(0, 100)
				produce(t, cl, name, want...)
				equal(t, consume(t, cl, len(want)), want)
			})
		}
	}
}

func TestLongPollWakesForANewRecord(t *testing.T) {
	t.Parallel()
	b := startBroker(t, nil)
	p := client(t, b)
	produce(t, p, "poll", "first")
	c := client(t, b, kgo.ConsumeTopics("poll"), kgo.FetchMaxWait(maxFetchWait)) // longer than anybody waits here
	equal(t, consume(t, c, 1), []string{"first"})
	done := make(chan []string)
	go func() {
		var got []string
		c.PollFetches(ctxOf(t)).EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
		done <- got
	}()
	// Whether the poll is waiting yet or not, it ends long before MaxWait.
	produce(t, p, "poll", "second")
	equal(t, <-done, []string{"second"})
}

type polled struct {
	resp *kmsg.FetchResponse
	err  error
}

// longPoll fetches from partition 0 at an offset, and returns when the broker
// waits for a record there. That takes longer than the test has.
func longPoll(t *testing.T, b *Broker, cl *kgo.Client, topic string, offset int64) <-chan polled {
	t.Helper()
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(maxFetchWait.Milliseconds()), 1, 1<<20
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = topic, b.topics.byName(topic).id
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.FetchOffset, rp.PartitionMaxBytes = offset, 1<<20
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	ch := make(chan polled, 1)
	ctx := ctxOf(t)
	go func() {
		resp, err := req.RequestWith(ctx, cl.Broker(1))
		ch <- polled{resp, err}
	}()
	for b.apis[keyFetch].stats.waiting.Load() == 0 {
		if ctx.Err() != nil {
			t.Fatal("the fetch does not wait")
		}
		time.Sleep(time.Millisecond)
	}
	return ch
}

func TestFetchFromManyPartitionsIsFair(t *testing.T) {
	t.Parallel()
	b := startBroker(t, nil)
	adm := kadm.NewClient(client(t, b))
	if _, err := adm.CreateTopic(ctxOf(t), 8, 1, nil, "fair"); err != nil {
		t.Fatal(err)
	}
	p := client(t, b, kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(16<<10))
	var recs []*kgo.Record
	for i := range 4000 {
		recs = append(recs, &kgo.Record{Topic: "fair", Partition: int32(i % 8), Value: []byte(strings.Repeat("x", 500))})
	}
	if err := p.ProduceSync(ctxOf(t), recs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	// Responses that hold a part of one partition only: all must have turns.
	c := client(t, b, kgo.ConsumeTopics("fair"), kgo.FetchMaxBytes(20<<10), kgo.FetchMaxPartitionBytes(20<<10))
	seen, n := map[int32]int{}, 0
	var early int
	for n < len(recs) {
		fs := c.PollFetches(ctxOf(t))
		if err := fs.Err(); err != nil {
			t.Fatal(err)
		}
		fs.EachRecord(func(r *kgo.Record) { seen[r.Partition]++; n++ })
		if n < len(recs)/2 {
			early = len(seen)
		}
	}
	if len(seen) != 8 || early < 8 {
		t.Errorf("partitions seen: %d, in the first half: %d", len(seen), early)
	}
}

func TestOffsetOutOfRangeAndListOffsets(t *testing.T) {
	t.Parallel()
	b := startBroker(t, nil)
	cl := client(t, b)
	adm := kadm.NewClient(cl)
	ctx := ctxOf(t)
	var recs []*kgo.Record
	base := time.UnixMilli(1_700_000_000_000)
	for i := range 10 {
		recs = append(recs, &kgo.Record{Topic: "lo", Value: []byte("v"), Timestamp: base.Add(time.Duration(i) * time.Second)})
	}
	if err := cl.ProduceSync(ctx, recs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	check := func(l kadm.ListedOffsets, err error, want int64) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if o, ok := l.Lookup("lo", 0); !ok || o.Err != nil || o.Offset != want {
			t.Fatalf("got %+v, want offset %d", o, want)
		}
	}
	l, err := adm.ListEndOffsets(ctx, "lo")
	check(l, err, 10)
	l, err = adm.ListOffsetsAfterMilli(ctx, base.Add(3500*time.Millisecond).UnixMilli(), "lo")
	check(l, err, 4)
	l, err = adm.ListMaxTimestampOffsets(ctx, "lo")
	check(l, err, 9)
	if _, err := adm.DeleteRecords(ctx, kadm.OffsetsFromRecords(*recs[3])); err != nil {
		t.Fatal(err)
	}
	l, err = adm.ListStartOffsets(ctx, "lo")
	check(l, err, 4)

	req := kmsg.NewPtrFetchRequest()
	req.MaxBytes = 1 << 20
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = "lo", b.topics.byName("lo").id
	for _, off := range []int64{0, 11} {
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.FetchOffset, rp.PartitionMaxBytes, rp.Partition = off, 1<<20, 0
		rt.Partitions = []kmsg.FetchRequestTopicPartition{rp}
		req.Topics = []kmsg.FetchRequestTopic{rt}
		resp, err := req.RequestWith(ctx, cl.Broker(1))
		if err != nil {
			t.Fatal(err)
		}
		if p := resp.Topics[0].Partitions[0]; p.ErrorCode != kerr.OffsetOutOfRange.Code || p.HighWatermark != -1 {
			t.Errorf("offset %d: %+v", off, p)
		}
	}
}

func TestTopicsAndConfigs(t *testing.T) {
	t.Parallel()
	b := startBroker(t, func(c *Config) { c.TopicDefaults = map[string]string{"retention.ms": "600000"} })
	cl := client(t, b)
	adm := kadm.NewClient(cl)
	ctx := ctxOf(t)
	str := func(s string) *string { return &s }
	if _, err := adm.CreateTopic(ctx, 3, 1, map[string]*string{"retention.bytes": str("12345678"), "cleanup.policy": str("delete")}, "t"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		topic   string
		parts   int32
		repl    int16
		configs map[string]*string
		want    error
	}{
		{"t", 1, 1, nil, kerr.TopicAlreadyExists},
		{"bad/name", 1, 1, nil, kerr.InvalidTopicException},
		{"..", 1, 1, nil, kerr.InvalidTopicException},
		{strings.Repeat("x", 250), 1, 1, nil, kerr.InvalidTopicException},
		{"zero", 0, 1, nil, kerr.InvalidPartitions},
		{"huge", 1 << 30, 1, nil, kerr.PolicyViolation},
		{"three", 1, 3, nil, kerr.InvalidReplicationFactor},
		{"c1", 1, 1, map[string]*string{"cleanup.policy": str("keep")}, kerr.InvalidConfig},
		{"c2", 1, 1, map[string]*string{"no.such.thing": str("1")}, kerr.InvalidConfig},
		{"c3", 1, 1, map[string]*string{"retention.ms": str("soon")}, kerr.InvalidConfig},
		{groupTopic, 1, 1, nil, kerr.InvalidTopicException},
	} {
		if _, err := adm.CreateTopic(ctx, tt.parts, tt.repl, tt.configs, tt.topic); !errors.Is(err, tt.want) {
			t.Errorf("create %q: got %v, want %v", tt.topic, err, tt.want)
		}
	}
	if _, err := adm.CreateTopic(ctx, 1, 1, nil, "a.b"); err != nil {
		t.Fatal(err)
	}
	if _, err := adm.CreateTopic(ctx, 1, 1, nil, "a_b"); !errors.Is(err, kerr.InvalidTopicException) {
		t.Errorf("colliding name: %v", err)
	}
	if _, err := adm.UpdatePartitions(ctx, 5, "t"); err != nil {
		t.Fatal(err)
	}
	rs, err := adm.UpdatePartitions(ctx, 2, "t")
	if err != nil || !errors.Is(rs["t"].Err, kerr.InvalidPartitions) {
		t.Errorf("fewer partitions: %v %v", err, rs["t"].Err)
	}
	alter := func(ops ...kadm.AlterConfig) error {
		rs, err := adm.AlterTopicConfigs(ctx, ops, "t")
		if err != nil {
			return err
		}
		return rs[0].Err
	}
	if err := alter(kadm.AlterConfig{Op: kadm.SetConfig, Name: "segment.bytes", Value: str("1048576")}, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: "retention.bytes"}); err != nil {
		t.Fatal(err)
	}
	if err := alter(kadm.AlterConfig{Op: kadm.SetConfig, Name: "segment.bytes", Value: str("1")}); !errors.Is(err, kerr.InvalidConfig) {
		t.Errorf("a segment of one byte: %v", err)
	}

	// All of it is there after a restart.
	dir := b.cfg.DataDir
	id := b.topics.byName("t").id
	cluster := b.dir.clusterID
	if err := b.Close(ctx); err != nil {
		t.Fatal(err)
	}
	b = startBroker(t, func(c *Config) { c.DataDir, c.TopicDefaults = dir, map[string]string{"retention.ms": "600000"} })
	adm = kadm.NewClient(client(t, b))
	if b.topics.byName("t").id != id || b.dir.clusterID != cluster {
		t.Error("ids changed over a restart")
	}
	ts, err := adm.ListTopics(ctx)
	if err != nil || len(ts["t"].Partitions) != 5 {
		t.Fatalf("%v %+v", err, ts)
	}
	cs, err := adm.DescribeTopicConfigs(ctx, "t")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, c := range cs[0].Configs {
		got[c.Key] = *c.Value + " " + c.Source.String()
	}
	for k, want := range map[string]string{
		"retention.ms": "600000 STATIC_BROKER_CONFIG", "retention.bytes": "-1 DEFAULT_CONFIG",
		"segment.bytes": "1048576 DYNAMIC_TOPIC_CONFIG", "cleanup.policy": "delete DYNAMIC_TOPIC_CONFIG",
	} {
		if got[k] != want {
			t.Errorf("%s: got %q, want %q", k, got[k], want)
		}
	}
	bc, err := adm.DescribeBrokerConfigs(ctx, 1)
	if err != nil || len(bc[0].Configs) < 20 {
		t.Errorf("broker configs: %v %+v", err, bc)
	}
}

func TestDeleteTopic(t *testing.T) {
	t.Parallel()
	// Without auto-creation: the waiting consumer would make the topic again.
	b := startBroker(t, func(c *Config) { c.DisableAutoCreate = true })
	cl := client(t, b)
	adm := kadm.NewClient(cl)
	ctx := ctxOf(t)
	if _, err := adm.CreateTopic(ctx, 1, 1, nil, "gone"); err != nil {
		t.Fatal(err)
	}
	produce(t, cl, "gone", numbers(0, 10)...)
	if err := adm.CommitAllOffsets(ctx, "g", kadm.OffsetsFromRecords(kgo.Record{Topic: "gone", Offset: 4})); err != nil {
		t.Fatal(err)
	}
	c := client(t, b, kgo.ConsumeTopics("gone"))
	consume(t, c, 10)
	c.Close()
	waits := longPoll(t, b, client(t, b), "gone", 10)
	if _, err := adm.DeleteTopic(ctx, "gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := adm.DeleteTopic(ctx, "gone"); !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("second delete: %v", err)
	}
	if a := <-waits; a.err != nil {
		t.Errorf("the fetch that waited for it: %v", a.err)
	}
	os, err := adm.FetchOffsets(ctx, "g")
	if err != nil || len(os) != 0 {
		t.Errorf("offsets of the deleted topic: %v %v", os, err)
	}
	if m, err := filepath.Glob(filepath.Join(b.cfg.DataDir, logsDir, "gone-*")); err != nil || len(m) != 0 {
		t.Errorf("files left: %v %v", m, err)
	}
	// The name is free again and starts from nothing.
	if _, err := adm.CreateTopic(ctx, 1, 1, nil, "gone"); err != nil {
		t.Fatal(err)
	}
	cl2 := client(t, b, kgo.ConsumeTopics("gone"))
	produce(t, cl2, "gone", "new")
	equal(t, consume(t, cl2, 1), []string{"new"})
	if _, err := adm.DeleteTopic(ctx, groupTopic); !errors.Is(err, kerr.InvalidTopicException) {
		t.Errorf("delete of the group log: %v", err)
	}
}

func TestRestartKeepsRecordsAndProducerIDs(t *testing.T) {
	t.Parallel()
	b := startBroker(t, nil)
	dir := b.cfg.DataDir
	cl := client(t, b)
	produce(t, cl, "keep", numbers(0, 100)...)
	id1, _, err := cl.ProducerID(ctxOf(t))
	if err != nil {
		t.Fatal(err)
	}
	cl.Close()
	if err := b.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	b = startBroker(t, func(c *Config) { c.DataDir = dir })
	if !b.dir.wasClean {
		t.Error("the mark of the clean stop is missing")
	}
	cl = client(t, b, kgo.ConsumeTopics("keep"))
	produce(t, cl, "keep", numbers(100, 200)...)
	equal(t, consume(t, cl, 200), numbers(0, 200))
	id2, _, err := cl.ProducerID(ctxOf(t))
	if err != nil || id2 <= id1 {
		t.Errorf("producer ids %d, then %d (%v)", id1, id2, err)
	}
}

func TestSecondBrokerOnTheDirectoryIsRefused(t *testing.T) {
	b := startBroker(t, nil)
	_, err := Start(context.Background(), Config{Listen: "127.0.0.1:0", DataDir: b.cfg.DataDir})
	if err == nil || !strings.Contains(err.Error(), "in use by another broker, pid ") {
		t.Errorf("got %v", err)
	}
	_, err = Start(context.Background(), Config{Listen: b.Addr(), DataDir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "port is in use") {
		t.Errorf("got %v", err)
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := writeJSON(vfs.OS{}, filepath.Join(dir, brokerFile), brokerState{Format: formatVersion + 1, ClusterID: "x"}); err != nil {
		t.Fatal(err)
	}
	_, err := Start(context.Background(), Config{Listen: "127.0.0.1:0", DataDir: dir})
	if err == nil || !strings.Contains(err.Error(), "use the newer binary") {
		t.Errorf("got %v", err)
	}
}

func TestTransactionsAreRefusedClearly(t *testing.T) {
	b := startBroker(t, nil)
	cl := client(t, b)
	ctx := ctxOf(t)
	id := "tx"
	init := kmsg.NewPtrInitProducerIDRequest()
	init.TransactionalID = &id
	resp, err := init.RequestWith(ctx, cl.Broker(1))
	if err != nil || resp.ErrorCode != kerr.InvalidRequest.Code {
		t.Errorf("%v %+v", err, resp)
	}
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorType, find.CoordinatorKeys, find.CoordinatorKey = 1, []string{id}, id
	fresp, err := find.RequestWith(ctx, cl.Broker(1))
	if err != nil || fresp.Coordinators[0].ErrorCode != kerr.InvalidRequest.Code || !strings.Contains(*fresp.Coordinators[0].ErrorMessage, "no transactions") {
		t.Errorf("%v %+v", err, fresp)
	}
}

func TestDiskGuard(t *testing.T) {
	t.Parallel()
	var logs logBuffer
	var mu sync.Mutex
	free := int64(1 << 30)
	b := startBroker(t, func(c *Config) {
		c.MinFreeDisk = 100 << 20
		c.RetentionCheck = 20 * time.Millisecond
		c.Logger = slog.New(slog.NewTextHandler(&logs, nil))
		c.FreeDisk = func(string) (int64, error) { mu.Lock(); defer mu.Unlock(); return free, nil }
	})
	cl := client(t, b, kgo.RecordRetries(0), kgo.DisableIdempotentWrite())
	produce(t, cl, "d", "fits")
	set := func(n int64) {
		mu.Lock()
		free = n
		mu.Unlock()
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("waited in vain: %s", what)
			}
		}
	}
	set(1 << 20)
	until("guard", b.disk.full)
	err := cl.ProduceSync(ctxOf(t), &kgo.Record{Topic: "d", Value: []byte("no")}).FirstErr()
	if !errors.Is(err, kerr.KafkaStorageError) && !errors.Is(err, kgo.ErrRecordRetries) {
		t.Errorf("got %v", err)
	}
	until("a line of it", func() bool { return strings.Contains(logs.String(), "disk is nearly full") })
	set(1 << 30)
	until("recovery", func() bool { return !b.disk.full() })
	produce(t, cl, "d", "fits again")
}

func TestDiskLimitDeletesTheOldest(t *testing.T) {
	t.Parallel()
	b := startBroker(t, func(c *Config) {
		c.MaxDisk = 8 << 20
		c.RetentionCheck = 20 * time.Millisecond
		c.TopicDefaults = map[string]string{"segment.bytes": "1100000"}
	})
	cl := client(t, b, kgo.ProducerBatchCompression(kgo.NoCompression()))
	big := strings.Repeat("x", 100<<10)
	for i := range 10 {
		for _, topic := range []string{"one", "two"} {
			produce(t, cl, topic, big, big, big, big, big, big, big, big, big, big)
			_ = i
		}
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		total, _, _ := b.disk.survey()
		if total <= 8<<20 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes on disk", total)
		}
	}
	adm := kadm.NewClient(cl)
	l, err := adm.ListStartOffsets(ctxOf(t), "one", "two")
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{"one", "two"} {
		if o, _ := l.Lookup(topic, 0); o.Offset == 0 || o.Offset >= 100 {
			t.Errorf("%s starts at %d", topic, o.Offset)
		}
	}
}

// TestLimitBelowMinBytes: a fetch that may not carry as much as it waits for
// is answered with what it may carry, at once.
func TestLimitBelowMinBytes(t *testing.T) {
	t.Parallel()
	b := startBroker(t, nil)
	cl := client(t, b, kgo.ProducerBatchCompression(kgo.NoCompression()))
	for range 5 { // a batch each
		produce(t, cl, "lim", strings.Repeat("x", 1000))
	}
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(maxFetchWait.Milliseconds()), 1<<20, 1<<20 // longer than ctxOf
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = "lim", b.topics.byName("lim").id
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.PartitionMaxBytes = 2500
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctxOf(t), cl.Broker(1))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(resp.Topics[0].Partitions[0].RecordBatches); n < 1000 || n > 2500 {
		t.Errorf("%d bytes", n)
	}
}

func TestStopAnswersLongPolls(t *testing.T) {
	t.Parallel()
	b := startBroker(t, nil)
	cl := client(t, b)
	produce(t, cl, "s", "x")
	waits := longPoll(t, b, cl, "s", 1)
	if err := b.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	a := <-waits
	if a.err != nil || len(a.resp.Topics) != 1 || a.resp.Topics[0].Partitions[0].HighWatermark != 1 {
		t.Errorf("%v %+v", a.err, a.resp)
	}
}

// TestFormattedDirectory: a directory that Format made has the id given, and
// its first broker does not speak of one before it.
func TestFormattedDirectory(t *testing.T) {
	dir, id := t.TempDir(), NewClusterID()
	if err := Format(dir, id); err != nil {
		t.Fatal(err)
	}
	var logs logBuffer
	startBroker(t, func(c *Config) {
		c.DataDir, c.Logger = dir, slog.New(slog.NewTextHandler(&logs, nil))
	})
	if got, err := ClusterID(dir); err != nil || got != id {
		t.Errorf("cluster id is %q, want %q: %v", got, id, err)
	}
	if strings.Contains(logs.String(), "did not stop in order") {
		t.Error(logs.String())
	}
}
