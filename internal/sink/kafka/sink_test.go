package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

// patience only ends a test that hangs: a machine under load may take many seconds for anything.
const patience = 3 * time.Minute

func cluster(t *testing.T, opts ...kfake.Opt) (*kfake.Cluster, string) {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, strings.Join(c.ListenAddrs(), ",")
}

// newSink makes a sink from "key=value" properties.
func newSink(t testing.TB, addr string, props ...string) *sink {
	t.Helper()
	s, err := configure(t, append(props, "kafka.bootstrap.servers="+addr)...)
	if err != nil {
		t.Fatal(err)
	}
	started(t, s)
	return s
}

// started starts a sink for the time of the test.
func started(t testing.TB, s *sink) {
	t.Helper()
	if err := s.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

func configure(t testing.TB, props ...string) (*sink, error) {
	t.Helper()
	return configureWith(t, func(error) {}, props...)
}

func configureWith(t testing.TB, health func(error), props ...string) (*sink, error) {
	t.Helper()
	typ, ok := component.Default().Lookup(component.KindSink, "org.apache.flume.sink.kafka.KafkaSink")
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
			return nil, fmt.Errorf("%s: %s", f.Key, f.Message)
		}
	}
	made, err := c.(component.SinkConfig).NewSink(component.Env{
		Agent: "a", Name: "k", Log: slog.New(slog.DiscardHandler), Metrics: component.NewMetrics(), Health: health,
	})
	if err != nil {
		return nil, err
	}
	return made.(*sink), nil
}

func ev(body string, headers ...string) event.Event {
	e := event.Event{Body: []byte(body)}
	for i := 0; i < len(headers); i += 2 {
		e.Headers = append(e.Headers, event.KV{Key: headers[i], Value: []byte(headers[i+1])})
	}
	return e
}

// read returns n records of the topics, and fails if more are there.
func read(t *testing.T, addr string, n int, topics ...string) []*kgo.Record {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(addr, ",")...), kgo.ConsumeTopics(topics...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var rs []*kgo.Record
	for len(rs) < n {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("only %d of %d records came: %v", len(rs), n, bodies(rs))
		}
		rs = append(rs, fs.Records()...)
	}
	if len(rs) != n {
		t.Fatalf("%d records, want %d: %v", len(rs), n, bodies(rs))
	}
	return rs
}

func bodies(rs []*kgo.Record) []string {
	var bs []string
	for _, r := range rs {
		bs = append(bs, fmt.Sprintf("%.20q", r.Value))
	}
	return bs
}

func write(t *testing.T, s *sink, evs ...event.Event) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return s.Write(ctx, evs)
}

func TestRecords(t *testing.T) {
	_, addr := cluster(t, kfake.SeedTopics(3, "t", "other", "pilot-car"))
	tests := []struct {
		name  string
		props string // separated by blanks
		e     event.Event
		topic string
		want  string // partition (- any) key headers value
	}{
		{"plain", "kafka.topic=t", ev("body", "h", "v"), "t", `- "" [] "body"`},
		{"empty body", "kafka.topic=t", ev(""), "t", `- "" [] ""`},
		{"old keys", "topic=t batchSize=7 requiredAcks=-1", ev("b"), "t", `- "" [] "b"`},
		{"key", "kafka.topic=t", ev("b", "key", "k1"), "t", `2 "k1" [] "b"`}, // murmur2("k1") as Java computes it
		{"topic of the header", "kafka.topic=t", ev("b", "topic", "other"), "other", `- "" [] "b"`},
		{"no override", "kafka.topic=t allowTopicOverride=false", ev("b", "topic", "other"), "t", `- "" [] "b"`},
		{"another header", "kafka.topic=t topicHeader=x", ev("b", "topic", "t2", "x", "other"), "other", `- "" [] "b"`},
		{"escapes", "kafka.topic=pilot-%{logType}", ev("b", "logType", "car"), "pilot-car", `- "" [] "b"`},
		{"escapes, header", "kafka.topic=pilot-%{logType}", ev("b", "logType", "car", "topic", "t"), "t", `- "" [] "b"`},
		{"fixed partition", "kafka.topic=t defaultPartitionId=1", ev("b", "key", "k1"), "t", `1 "k1" [] "b"`},
		{"partition header", "kafka.topic=t defaultPartitionId=1 partitionIdHeader=p", ev("b", "p", "2"), "t", `2 "" [] "b"`},
		{"no such header", "kafka.topic=t defaultPartitionId=1 partitionIdHeader=p", ev("b"), "t", `1 "" [] "b"`},
		{"record headers", "kafka.topic=t header.b=X header.a=Y header.c=Z", ev("b", "a", "1", "b", "2"), "t", `- "" [Y=1 X=2] "b"`},
		{"avro", "kafka.topic=t useFlumeEventFormat=true", ev("hi", "k", "v"), "t", `- "" [] "\x02\x02k\x02v\x00\x04hi"`},
		{"sticky", "kafka.topic=t kafka.producer.partitioner.class=org.apache.kafka.clients.producer.UniformStickyPartitioner defaultPartitionId=0", ev("b", "key", "k1"), "t", `0 "k1" [] "b"`},
		{"keys do not count", "kafka.topic=t kafka.producer.partitioner.ignore.keys=true", ev("b", "key", "k1"), "t", `1 "k1" [] "b"`},
		{"one after the other", "kafka.topic=t kafka.producer.partitioner.class=org.apache.kafka.clients.producer.RoundRobinPartitioner", ev("b"), "t", `1 "" [] "b"`},
		{"compressed", "kafka.topic=t kafka.producer.compression.type=zstd", ev("b"), "t", `- "" [] "b"`},
		{"idempotent", "kafka.topic=t kafka.producer.acks=all kafka.producer.enable.idempotence=true", ev("b"), "t", `- "" [] "b"`},
	}
	seen := map[string]int{}
	had := map[string]bool{} // records of earlier tests
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSink(t, addr, strings.Fields(tt.props)...)
			if err := write(t, s, tt.e); err != nil {
				t.Fatal(err)
			}
			seen[tt.topic]++
			rs := read(t, addr, seen[tt.topic], tt.topic)
			var last *kgo.Record
			for _, r := range rs {
				if id := fmt.Sprint(r.Topic, r.Partition, r.Offset); !had[id] {
					had[id], last = true, r
				}
			}
			part := "-"
			if !strings.HasPrefix(tt.want, "-") {
				part = strconv.Itoa(int(last.Partition))
			}
			var hs []string
			for _, h := range last.Headers {
				hs = append(hs, h.Key+"="+string(h.Value))
			}
			if got := fmt.Sprintf("%s %q %v %q", part, last.Key, hs, last.Value); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			if last.Value == nil {
				t.Error("a body became a tombstone")
			}
			if d := time.Since(last.Timestamp); d < 0 || d > time.Minute {
				t.Errorf("timestamp %v", last.Timestamp)
			}
		})
	}
	// acks 0: nobody answers, the records are there all the same.
	s := newSink(t, addr, "kafka.topic=t", "kafka.producer.acks=0")
	if err := write(t, s, ev("quiet")); err != nil {
		t.Fatal(err)
	}
	read(t, addr, seen["t"]+1, "t")
}

func TestTimestamps(t *testing.T) {
	_, addr := cluster(t, kfake.SeedTopics(1, "t"))
	s := newSink(t, addr, "kafka.topic=t", "timestampHeader=timestamp")
	before := time.Now().Truncate(time.Millisecond)
	if err := write(t, s, ev("a", "timestamp", "1451765229123"), ev("b", "timestamp", "soon"), ev("c")); err != nil {
		t.Fatal(err)
	}
	rs := read(t, addr, 3, "t")
	if rs[0].Timestamp.UnixMilli() != 1451765229123 || rs[1].Timestamp.Before(before) || rs[2].Timestamp.Before(before) {
		t.Error(rs[0].Timestamp, rs[1].Timestamp, rs[2].Timestamp)
	}
}

func TestManyBatches(t *testing.T) {
	_, addr := cluster(t, kfake.SeedTopics(4, "t"))
	s := newSink(t, addr, "kafka.topic=t", "flumeBatchSize=1000")
	if s.BatchSize() != 1000 {
		t.Error(s.BatchSize())
	}
	const n = 10000
	evs := make([]event.Event, 1000)
	buf := make([]byte, 8*len(evs))
	for from := 0; from < n; from += len(evs) {
		for i := range evs {
			b := buf[8*i : 8*i+8]
			copy(b, fmt.Sprintf("%08d", from+i))
			evs[i].Body = b
		}
		if err := write(t, s, evs...); err != nil {
			t.Fatal(err)
		}
		clear(buf) // the channel has its memory back
	}
	next := map[int32]int{}
	seen := map[string]bool{}
	for _, r := range read(t, addr, n, "t") {
		v, err := strconv.Atoi(string(r.Value))
		if err != nil || v < next[r.Partition] || seen[string(r.Value)] {
			t.Fatalf("partition %d: %q after %d (%v)", r.Partition, r.Value, next[r.Partition], err)
		}
		next[r.Partition], seen[string(r.Value)] = v, true
	}
	if len(next) < 2 {
		t.Errorf("all batches went to one partition: %v", next)
	}
}

// A batch that is larger than the client's memory, and than several requests, goes through in parts.
func TestSmallBuffer(t *testing.T) {
	_, addr := cluster(t, kfake.SeedTopics(1, "t"))
	s := newSink(t, addr, "kafka.topic=t", "kafka.producer.buffer.memory=3000", "kafka.producer.max.request.size=1000")
	var evs []event.Event
	for i := range 200 {
		evs = append(evs, ev(fmt.Sprintf("%0100d", i)))
	}
	if err := write(t, s, evs...); err != nil {
		t.Fatal(err)
	}
	for i, r := range read(t, addr, 200, "t") {
		if string(r.Value) != string(evs[i].Body) {
			t.Fatalf("record %d is %s", i, r.Value)
		}
	}
}

func TestPermanent(t *testing.T) {
	_, addr := cluster(t, kfake.SeedTopics(2, "t"))
	big := strings.Repeat("x", 3000)
	tests := []struct {
		name  string
		props []string
		bad   event.Event
		want  string
	}{
		{"partition is no number", []string{"partitionIdHeader=p"}, ev("bad", "p", "one"), `header p: "one" is not the number of a partition`},
		{"no such partition", []string{"partitionIdHeader=p"}, ev("bad", "p", "7"), "topic t has no partition 7, only 2 of them"},
		{"negative partition", []string{"partitionIdHeader=p"}, ev("bad", "p", "-1"), "is not the number"},
		{"invalid topic", nil, ev("bad", "topic", "a b"), `"a b" is not a valid name`},
		{"too large for us", []string{"kafka.producer.max.request.size=2000"}, ev(big), "a record with a value of 3000 bytes is too large"},
	}
	total := 0
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSink(t, addr, append(tt.props, "kafka.topic=t")...)
			err := write(t, s, ev("good 1"), tt.bad, ev("good 2"))
			var pe *component.PartialError
			if !errors.As(err, &pe) || len(pe.Failed) != 1 || !component.IsPermanent(pe.Failed[1]) || !strings.Contains(pe.Failed[1].Error(), tt.want) {
				t.Fatalf("%v, want %s", err, tt.want)
			}
			total += 2
			read(t, addr, total, "t")
			if s.rollbacks.Load() != 1 {
				t.Error(s.rollbacks.Load())
			}
			// Alone it is the same.
			if err := write(t, s, tt.bad); !component.IsPermanent(err) {
				t.Error(err)
			}
		})
	}
}

// A broker may take smaller batches than we make, and a record may be too large for it alone.
func TestTooLargeForBroker(t *testing.T) {
	c, addr := cluster(t, kfake.SeedTopics(1, "t"))
	var refused atomic.Int32
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		r := req.(*kmsg.ProduceRequest)
		if len(r.Topics[0].Partitions[0].Records) <= 2000 {
			return nil, nil, false
		}
		refused.Add(1)
		return produceError(r, kerr.MessageTooLarge.Code), nil, true
	})
	s := newSink(t, addr, "kafka.topic=t")
	// While a topic is not known yet the client cuts batches as it learns of
	// the topic's partitions; order over refused batches holds after that.
	if err := write(t, s, ev("-1")); err != nil {
		t.Fatal(err)
	}
	var evs []event.Event
	for i := range 100 {
		evs = append(evs, ev(fmt.Sprintf("%0100d", i)))
	}
	evs[37] = ev(strings.Repeat("x", 3000))
	err := write(t, s, evs...)
	var pe *component.PartialError
	if !errors.As(err, &pe) || len(pe.Failed) != 1 || !component.IsPermanent(pe.Failed[37]) || !strings.Contains(pe.Failed[37].Error(), "max.message.bytes") {
		t.Fatal(err)
	}
	last := -2
	for _, r := range read(t, addr, 100, "t") {
		v, err := strconv.Atoi(string(r.Value))
		if err != nil || v <= last {
			t.Fatalf("%q after %d", r.Value, last)
		}
		last = v
	}
	if refused.Load() == 0 {
		t.Error("nothing was refused: the test tested nothing")
	}
}

func produceError(r *kmsg.ProduceRequest, code int16) *kmsg.ProduceResponse {
	resp := r.ResponseKind().(*kmsg.ProduceResponse)
	for _, rt := range r.Topics {
		st := kmsg.NewProduceResponseTopic()
		st.Topic, st.TopicID = rt.Topic, rt.TopicID
		for _, rp := range rt.Partitions {
			sp := kmsg.NewProduceResponseTopicPartition()
			sp.Partition, sp.ErrorCode = rp.Partition, code
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp
}

// Only what failed is to be offered again.
func TestPartial(t *testing.T) {
	t.Parallel() // waits for a topic that never comes
	_, addr := cluster(t, kfake.SeedTopics(1, "good"))
	s := newSink(t, addr, "kafka.topic=good")
	err := write(t, s, ev("1"), ev("2", "topic", "missing"), ev("3"))
	var pe *component.PartialError
	if !errors.As(err, &pe) || len(pe.Failed) != 1 || component.IsPermanent(err) || !strings.Contains(pe.Failed[1].Error(), "topic missing does not exist, and the broker does not make it: create it") {
		t.Fatal(err)
	}
	read(t, addr, 2, "good")
	// All of a batch, and none for good: an error as any.
	err = write(t, s, ev("2", "topic", "missing"))
	if errors.As(err, &pe) || !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Error(err)
	}
}

func TestAutoCreate(t *testing.T) {
	_, addr := cluster(t, kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(1))
	s := newSink(t, addr, "kafka.topic=fresh")
	if err := write(t, s, ev("1")); err != nil {
		t.Fatal(err)
	}
	read(t, addr, 1, "fresh")
}

func TestTransactions(t *testing.T) {
	c, addr := cluster(t, kfake.SeedTopics(1, "t"))
	s := newSink(t, addr, "kafka.topic=t", "kafka.producer.acks=all", "kafka.producer.transactional.id=x", "partitionIdHeader=p")
	if err := write(t, s, ev("1"), ev("2")); err != nil {
		t.Fatal(err)
	}
	// One that can never be delivered: the others are, in a transaction without it.
	err := write(t, s, ev("3"), ev("bad", "p", "9"), ev("4"))
	var pe *component.PartialError
	if !errors.As(err, &pe) || len(pe.Failed) != 1 || !component.IsPermanent(pe.Failed[1]) {
		t.Fatal(err)
	}
	// A failure that passes: nothing of the batch is seen, and the next try works.
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		return produceError(req.(*kmsg.ProduceRequest), kerr.TopicAuthorizationFailed.Code), nil, true
	})
	if err := write(t, s, ev("5"), ev("6")); err == nil || component.IsPermanent(err) {
		t.Fatal(err)
	}
	if err := write(t, s, ev("5"), ev("6")); err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	got := ""
	for len(got) < 6 && ctx.Err() == nil {
		for _, r := range cl.PollFetches(ctx).Records() {
			got += string(r.Value)
		}
	}
	if got != "123456" {
		t.Errorf("committed: %s", got)
	}
}

// When the context ends while no broker answers, Write ends, keeps nothing, and the sink works afterwards.
func TestContextEnds(t *testing.T) {
	c, addr := cluster(t, kfake.SeedTopics(1, "t"))
	for _, props := range [][]string{{}, {"kafka.producer.acks=all", "kafka.producer.enable.idempotence=true"}, {"kafka.producer.buffer.memory=20"}} {
		s := newSink(t, addr, append(props, "kafka.topic=t")...)
		if err := write(t, s, ev("first")); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			cancel()
			return nil, nil, true // no answer ever comes
		})
		evs := []event.Event{ev("held 12345"), ev("held 12346"), ev("held 12347")}
		err := s.Write(ctx, evs)
		if !errors.Is(err, context.Canceled) && !errors.Is(err, kgo.ErrAborting) && !errors.Is(err, kgo.ErrClientClosed) {
			t.Errorf("%v: %v", props, err)
		}
		if err := write(t, s, ev("after")); err != nil {
			t.Errorf("%v: %v", props, err)
		}
		if err := s.Write(ctx, evs); !errors.Is(err, context.Canceled) {
			t.Errorf("a context that had ended: %v", err)
		}
		cancel()
	}
}

func TestNoBroker(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	told := make(chan error, 10)
	s, err := configureWith(t, func(err error) { told <- err }, "kafka.bootstrap.servers="+addr, "kafka.topic=t", "kafka.producer.delivery.timeout.ms=1000")
	if err != nil {
		t.Fatal(err)
	}
	started(t, s)
	err = write(t, s, ev("x"))
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, kgo.ErrAborting) || !strings.Contains(err.Error(), "no acknowledgement within kafka.producer.delivery.timeout.ms (1s)") {
		t.Fatal(err)
	}
	select { // the first try to connect may still be under way when the time for the delivery is over
	case err := <-told:
		if err == nil || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "check that it runs") {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("health was not told")
	}
	if n := s.env.Metrics.Snapshot()["ConnectionFailedCount"]; n == 0 {
		t.Error("no failed connection was counted")
	}
}

func TestConfigErrors(t *testing.T) {
	tests := []struct {
		props []string
		want  string
	}{
		{nil, "kafka.bootstrap.servers: required"},
		{[]string{"brokerList=a b"}, "kafka.bootstrap.servers: \"a b\" is not HOST:PORT"},
		{[]string{"brokerList=h", "kafka.topic=a b"}, "kafka.topic: \"a b\" is not a valid name"},
		{[]string{"brokerList=h", "kafka.topic=%{x}", "allowTopicOverride=false"}, "kafka.topic"},
		{[]string{"brokerList=h", "kafka.topic=%[nothing]"}, "kafka.topic: %[nothing] is not one of"},
		{[]string{"brokerList=h", "flumeBatchSize=0"}, "out of range"},
		{[]string{"brokerList=h", "defaultPartitionId=-1"}, "is not the number of a partition"},
		{[]string{"brokerList=h", "requiredAcks=3"}, "requiredAcks: it must be 0, 1, all or -1"},
		{[]string{"brokerList=h", "kafka.producer.transactional.id=x"}, "it needs acks = all"},
	}
	for _, tt := range tests {
		if _, err := configure(t, tt.props...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %s", tt.props, err, tt.want)
		}
	}
	s, err := configure(t, "brokerList=h:1,PLAINTEXT://h2:2", "topic=t")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Write(context.Background(), []event.Event{ev("x")}); !errors.Is(err, errStopped) {
		t.Error(err)
	}
	if err := s.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestBadTime(t *testing.T) {
	_, addr := cluster(t, kfake.SeedTopics(1, "t-2016"))
	s := newSink(t, addr, "kafka.topic=t-%Y")
	err := write(t, s, ev("a", "timestamp", "1451765229123"), ev("b"))
	var pe *component.PartialError
	if !errors.As(err, &pe) || len(pe.Failed) != 1 || !strings.Contains(pe.Failed[1].Error(), "timestamp interceptor") {
		t.Fatal(err)
	}
	read(t, addr, 1, "t-2016")
}
