package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/serde"
)

func cluster(t testing.TB, opts ...kfake.Opt) string {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"})}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return strings.Join(c.ListenAddrs(), ",")
}

func produce(t testing.TB, addr string, rs ...*kgo.Record) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(context.Background(), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func records(topic string, partition int32, values ...string) []*kgo.Record {
	var rs []*kgo.Record
	for _, v := range values {
		rs = append(rs, &kgo.Record{Topic: topic, Partition: partition, Value: []byte(v)})
	}
	return rs
}

// output keeps what the source emits.
type output struct {
	pool *event.Pool
	mu   sync.Mutex
	evs  []event.Event
	size []int // of the batches
	fail func(b *event.Batch) error
}

func newOutput() *output { return &output{pool: event.NewPool()} }

func (o *output) Pool() *event.Pool      { return o.pool }
func (o *output) NewBatch() *event.Batch { return o.pool.NewBatch() }

func (o *output) Emit(_ context.Context, b *event.Batch) error {
	o.mu.Lock()
	fail := o.fail
	o.mu.Unlock()
	if fail != nil {
		if err := fail(b); err != nil {
			b.Release()
			return err
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.size = append(o.size, b.Len())
	for i := range b.Events() {
		o.evs = append(o.evs, b.Events()[i].Clone())
	}
	b.Release()
	return nil
}

func (o *output) events() []event.Event {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.evs)
}

// bodies waits for n events and returns all, sorted.
func (o *output) bodies(t testing.TB, n int) []string {
	t.Helper()
	until(t, fmt.Sprintf("%d events", n), func() bool { return len(o.events()) >= n })
	var bs []string
	for _, e := range o.events() {
		bs = append(bs, string(e.Body))
	}
	slices.Sort(bs)
	return bs
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("did not come: %s", what)
		}
	}
}

func configure(t testing.TB, health func(error), props ...string) (component.Source, *component.Metrics, error) {
	t.Helper()
	typ, ok := component.Default().Lookup(component.KindSource, "org.apache.flume.source.kafka.KafkaSource")
	if !ok {
		t.Fatal("not registered by its class")
	}
	c := typ.New()
	var ps []component.Property
	for _, p := range props {
		k, v, _ := strings.Cut(p, "=")
		ps = append(ps, component.Property{Key: k, Value: v})
	}
	for _, f := range component.Decode(component.Default(), c, ps) {
		if f.Error {
			return nil, nil, fmt.Errorf("%s: %s", f.Key, f.Message)
		}
	}
	m := component.NewMetrics()
	s, err := c.(component.SourceConfig).NewSource(component.Env{Agent: "a", Name: "s", Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: m, Health: health})
	return s, m, err
}

// start runs a source that reads from the beginning; stop ends it.
func start(t testing.TB, addr string, out component.Output, props ...string) (m *component.Metrics, stop func()) {
	t.Helper()
	s, m, err := configure(t, func(error) {}, append([]string{"kafka.bootstrap.servers=" + addr, "kafka.consumer.auto.offset.reset=earliest", "kafka.consumer.fetch.max.wait.ms=50",
		"kafka.consumer.heartbeat.interval.ms=100"}, props...)...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, out) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return m, stop
}

// committed returns the group's offset of a partition, or -1.
func committed(t testing.TB, addr, group, topic string, partition int32) int64 {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	os, err := kadm.NewClient(cl).FetchOffsets(context.Background(), group)
	if err != nil {
		return -1
	}
	o, ok := os.Lookup(topic, partition)
	if !ok {
		return -1
	}
	return o.At
}

func TestEvents(t *testing.T) {
	addr := cluster(t, kfake.SeedTopics(2, "t"))
	at := time.UnixMilli(1451765229123)
	avro := serde.AppendAvroEvent(nil, &event.Event{Body: []byte("hi"), Headers: []event.KV{{Key: "timestamp", Value: []byte("7")}, {Key: "x", Value: []byte("y")}, {Key: "key", Value: []byte("old")}}})
	produce(t, addr,
		&kgo.Record{Topic: "t", Partition: 1, Value: []byte("plain"), Timestamp: at},
		&kgo.Record{Topic: "t", Partition: 1, Value: avro, Key: []byte("k"), Timestamp: at, Headers: []kgo.RecordHeader{{Key: "H", Value: []byte("1")}, {Key: "I", Value: []byte("3")}, {Key: "H", Value: []byte("2")}}},
		&kgo.Record{Topic: "t", Partition: 1, Timestamp: at}, // a tombstone
	)
	tests := []struct {
		name  string
		props []string
		want  []string
	}{
		{"defaults", []string{"kafka.topics=t"}, []string{
			`{partition=1, offset=0, topic=t, timestamp=1451765229123} plain`,
			`{partition=1, offset=1, topic=t, key=k, timestamp=1451765229123} ` + string(avro),
			`{partition=1, offset=2, topic=t, timestamp=1451765229123} `}},
		{"old keys, headers", []string{"topic=t", "setTopicHeader=false", "header.h=H", "header.none=N"}, []string{
			`{partition=1, offset=0, timestamp=1451765229123} plain`,
			`{partition=1, offset=1, h=2, key=k, timestamp=1451765229123} ` + string(avro),
			`{partition=1, offset=2, timestamp=1451765229123} `}},
		{"Flume events", []string{"kafka.topics=none , t", "topicHeader=from", "useFlumeEventFormat=true"}, []string{
			`{partition=1, offset=1, x=y, from=t, key=k, timestamp=7} hi`}},
		{"pattern", []string{"kafka.topics.regex=[a-t]", "kafka.topics=other", "setTopicHeader=false"}, []string{
			`{partition=1, offset=0, timestamp=1451765229123} plain`,
			`{partition=1, offset=1, key=k, timestamp=1451765229123} ` + string(avro),
			`{partition=1, offset=2, timestamp=1451765229123} `}},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := newOutput()
			m, stop := start(t, addr, out, append(tt.props, fmt.Sprint("groupId=g", i))...)
			until(t, "the commit", func() bool { return committed(t, addr, fmt.Sprint("g", i), "t", 1) == 3 })
			var got []string
			for _, e := range out.events() {
				if e.Body == nil {
					t.Error("a null body")
				}
				got = append(got, string(serde.AppendHeaders(nil, e.Headers))+" "+string(e.Body))
			}
			// Headers compare as sets: their order is Java's.
			if len(got) != len(tt.want) {
				t.Fatalf("got %q, want %q", got, tt.want)
			}
			for j := range got {
				if sorted(got[j]) != sorted(tt.want[j]) {
					t.Errorf("got %q, want %q", got[j], tt.want[j])
				}
			}
			stop()
			if out.pool.Outstanding() != 0 {
				t.Errorf("%d blocks are still held", out.pool.Outstanding())
			}
			if n := m.Snapshot()["EventReadFail"]; n != int64(3-len(tt.want)) {
				t.Errorf("EventReadFail %d", n)
			}
		})
	}
}

func sorted(s string) string {
	hs, body, _ := strings.Cut(strings.TrimPrefix(s, "{"), "} ")
	l := strings.Split(hs, ", ")
	slices.Sort(l)
	return strings.Join(l, ",") + " " + body
}

// The channels refuse a batch: it is kept, nothing is committed, nothing is lost or doubled.
func TestRefusedBatch(t *testing.T) {
	addr := cluster(t, kfake.SeedTopics(1, "t"))
	produce(t, addr, records("t", 0, "a", "b", "c")...)
	out := newOutput()
	var mu sync.Mutex
	var seen [][]string
	refused := errors.New("channel is full")
	out.fail = func(b *event.Batch) error {
		mu.Lock()
		defer mu.Unlock()
		var bs []string
		for i := range b.Events() {
			bs = append(bs, string(b.Events()[i].Body))
		}
		seen = append(seen, bs)
		if at := committed(t, addr, "flume", "t", 0); at > 0 {
			t.Errorf("offset %d was committed before the channels had the events", at)
		}
		if len(seen) < 4 {
			return refused
		}
		return nil
	}
	start(t, addr, out, "kafka.topics=t", "backoffSleepIncrement=1", "maxBackoffSleep=2")
	if got := out.bodies(t, 3); strings.Join(got, "") != "abc" {
		t.Errorf("%v", got)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, bs := range seen[1:4] {
		if !slices.Equal(bs, seen[0]) {
			t.Errorf("the batch changed: %v", seen)
		}
	}
}

func TestRestart(t *testing.T) {
	addr := cluster(t, kfake.SeedTopics(1, "t"))
	produce(t, addr, records("t", 0, "a", "b")...)
	out := newOutput()
	_, stop := start(t, addr, out, "kafka.topics=t", "kafka.consumer.group.id=g")
	out.bodies(t, 2)
	stop()
	if at := committed(t, addr, "g", "t", 0); at != 2 {
		t.Errorf("committed %d", at)
	}
	produce(t, addr, records("t", 0, "c")...)
	// Stopped while a channel is full: the event is read again.
	full := newOutput()
	emitting := make(chan struct{}, 100)
	full.fail = func(*event.Batch) error { emitting <- struct{}{}; return component.ErrFull }
	_, stop = start(t, addr, full, "kafka.topics=t", "kafka.consumer.group.id=g")
	<-emitting
	stop()
	if at := committed(t, addr, "g", "t", 0); at != 2 {
		t.Errorf("committed %d", at)
	}
	out = newOutput()
	start(t, addr, out, "kafka.topics=t", "kafka.consumer.group.id=g")
	if got := out.bodies(t, 1); len(got) != 1 || got[0] != "c" {
		t.Errorf("%v", got)
	}
}

func TestLatest(t *testing.T) {
	addr := cluster(t, kfake.SeedTopics(1, "t"))
	produce(t, addr, records("t", 0, "before")...)
	out := newOutput()
	m, _ := start(t, addr, out, "kafka.topics=t", "kafka.consumer.auto.offset.reset=latest", "batchDurationMillis=100")
	// Polls that bring nothing: the source stands at the end.
	until(t, "an empty poll", func() bool { return m.Snapshot()["KafkaEmptyCount"] > 0 })
	produced := 0
	until(t, "an event", func() bool {
		produce(t, addr, records("t", 0, "after")...)
		produced++
		return len(out.events()) > 0
	})
	for _, b := range out.bodies(t, 1) {
		if b != "after" {
			t.Error(b)
		}
	}
}

func TestBatches(t *testing.T) {
	addr := cluster(t, kfake.SeedTopics(1, "t"))
	var values []string
	for i := range 250 {
		values = append(values, fmt.Sprintf("%04d", i))
	}
	produce(t, addr, records("t", 0, values...)...)
	out := newOutput()
	// A batch that is not full goes on although an hour has not passed.
	m, _ := start(t, addr, out, "kafka.topics=t", "batchSize=100", "batchDurationMillis=3600000", "kafka.consumer.max.poll.records=30")
	if got := out.bodies(t, 250); !slices.Equal(got, values) {
		t.Errorf("%d events", len(got))
	}
	out.mu.Lock()
	defer out.mu.Unlock()
	if slices.Max(out.size) > 100 || len(out.size) > 100 {
		t.Errorf("batches of %v", out.size)
	}
	if s := m.Snapshot(); s["ConnectionCreatedCount"] == 0 {
		t.Errorf("%v", s)
	}
}

// Members come and go while batches are on their way: every record arrives, and none twice.
func TestRebalance(t *testing.T) {
	t.Parallel()
	const partitions, each = 4, 60
	addr := cluster(t, kfake.SeedTopics(partitions, "t"))
	out := newOutput()
	out.fail = func(*event.Batch) error { time.Sleep(3 * time.Millisecond); return nil }
	props := []string{"kafka.topics=t", "kafka.consumer.group.id=g", "batchSize=7", "kafka.consumer.session.timeout.ms=60000"}
	_, stop1 := start(t, addr, out, props...)
	var stop2, stop3 func()
	for i := range each {
		var rs []*kgo.Record
		for p := range int32(partitions) {
			rs = append(rs, records("t", p, fmt.Sprintf("%d-%04d", p, i))...)
		}
		produce(t, addr, rs...)
		switch i {
		case each / 5:
			_, stop2 = start(t, addr, out, props...)
		case 2 * each / 5:
			_, stop3 = start(t, addr, out, append(props, "kafka.consumer.client.id=third")...)
		case 3 * each / 5:
			stop1()
		case 4 * each / 5:
			stop2()
		}
	}
	got := out.bodies(t, partitions*each)
	stop3()
	seen := map[string]int{}
	for _, b := range got {
		seen[b]++
	}
	if len(seen) != partitions*each {
		t.Errorf("%d of %d records", len(seen), partitions*each)
	}
	for b, n := range seen {
		if n > 1 {
			t.Errorf("%s came %d times", b, n)
		}
	}
}

// The broker goes away and comes back: the source goes on by itself, and leaves nothing behind.
func TestBrokerRestarts(t *testing.T) {
	dir := t.TempDir()
	before := goleak.IgnoreCurrent()
	opts := []kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(1, "t"), kfake.DataDir(dir), kfake.SyncWrites(), kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"})}
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatal(err)
	}
	addr := c.ListenAddrs()[0]
	_, p, _ := net.SplitHostPort(addr)
	port, err := strconv.Atoi(p)
	if err != nil {
		t.Fatal(err)
	}
	out := newOutput()
	_, stop := start(t, addr, out, "kafka.topics=t")
	for i := range 3 {
		if i > 0 {
			c.Close()
			if c, err = kfake.NewCluster(append(opts, kfake.Ports(port))...); err != nil {
				t.Fatal(err)
			}
		}
		produce(t, addr, records("t", 0, fmt.Sprint(i))...)
		// At least once: what was not committed when the broker went may come twice.
		until(t, "an event", func() bool { return slices.Contains(out.bodies(t, i+1), fmt.Sprint(i)) })
	}
	// Stopping needs no broker.
	c.Close()
	stop()
	goleak.VerifyNone(t, before)
}

// A broker that takes requests and answers none holds nobody up for longer than leaveTime.
func TestSilentBroker(t *testing.T) {
	t.Parallel()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"), kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	addr := c.ListenAddrs()[0]
	produce(t, addr, records("t", 0, "a")...)
	out := newOutput()
	_, stop := start(t, addr, out, "kafka.topics=t", "kafka.consumer.request.timeout.ms=600000")
	out.bodies(t, 1)
	c.ControlKey(-1, func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		return nil, nil, true
	})
	stop()
}

func TestNoBroker(t *testing.T) {
	told := make(chan error, 100)
	s, _, err := configure(t, func(err error) { told <- err }, "kafka.bootstrap.servers=127.0.0.1:1", "kafka.topics=t", "batchDurationMillis=100")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, newOutput()) }()
	if err := <-told; err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil { // and it ends, though there is no group to leave
		t.Error(err)
	}
}

func TestConfigErrors(t *testing.T) {
	tests := []struct {
		props []string
		want  string
	}{
		{nil, "kafka.bootstrap.servers: required"},
		{[]string{"zookeeperConnect=zk:2181", "topic=t"}, "kafka.bootstrap.servers: required"},
		{[]string{"kafka.bootstrap.servers=h", "kafka.topics=t", "migrateZookeeperOffsets=true"}, "cannot be copied from ZooKeeper"},
		{[]string{"kafka.bootstrap.servers=h"}, "kafka.topics: required"},
		{[]string{"kafka.bootstrap.servers=h:x", "kafka.topics=t"}, "kafka.bootstrap.servers: \"h:x\" is not HOST:PORT"},
		{[]string{"kafka.bootstrap.servers=h", "kafka.topics.regex=a(b"}, "kafka.topics.regex"},
		{[]string{"kafka.bootstrap.servers=h", "kafka.topics=t", "batchSize=0"}, "out of range"},
		{[]string{"kafka.bootstrap.servers=h", "kafka.topics=t", "kafka.consumer.heartbeat.interval.ms=60000"}, "session.timeout.ms"},
	}
	for _, tt := range tests {
		if _, _, err := configure(t, func(error) {}, tt.props...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %s", tt.props, err, tt.want)
		}
	}
	s, _, err := configure(t, func(error) {}, "kafka.bootstrap.servers=h", "kafka.topics=t", "batchSize=5", "backoffSleepIncrement=9", "maxBackoffSleep=3", "zookeeperConnect=zk", "migrateZookeeperOffsets=false")
	if err != nil {
		t.Fatal(err)
	}
	if s.(component.Sizer).BatchSize() != 5 || s.(component.Retrier).Retry() != (component.RetryPolicy{Initial: 9 * time.Millisecond, Max: 9 * time.Millisecond}) {
		t.Errorf("%+v", s)
	}
}

func TestNoAllocationPerEvent(t *testing.T) {
	for _, avro := range []bool{false, true} {
		s := &source{config: config{setTopic: true, topicHdr: "topic", avro: avro}, mapped: []mapping{{"H", "h"}}, log: slog.New(slog.DiscardHandler)}
		value := serde.AppendAvroEvent(nil, &event.Event{Body: []byte("hi"), Headers: []event.KV{{Key: "x", Value: []byte("y")}}})
		for i := range 100 {
			s.recs = append(s.recs, &kgo.Record{Topic: "t", Partition: 3, Offset: int64(i), Value: value, Key: []byte("k"), Timestamp: time.UnixMilli(1451765229123), Headers: []kgo.RecordHeader{{Key: "H", Value: []byte("v")}}})
		}
		pool := event.NewPool()
		n := testing.AllocsPerRun(100, func() {
			b := pool.NewBatch()
			s.fill(b, false)
			if b.Len() != 100 {
				t.Fatal(b.Len())
			}
			b.Release()
		})
		if n >= 10 { // a pool may lose blocks to the garbage collector
			t.Errorf("avro %v: %v allocations for 100 events", avro, n)
		}
	}
}

func BenchmarkConvert(b *testing.B) {
	s := &source{config: config{setTopic: true, topicHdr: "topic"}}
	for i := range 1000 {
		s.recs = append(s.recs, &kgo.Record{Topic: "t", Partition: 3, Offset: int64(i), Value: []byte("20160101000000,P0001,2,0,F,N,10,D0812"), Timestamp: time.UnixMilli(1451765229123)})
	}
	pool := event.NewPool()
	b.ReportAllocs()
	for i := 0; i < b.N; i += 1000 {
		batch := pool.NewBatch()
		s.fill(batch, false)
		batch.Release()
	}
}
