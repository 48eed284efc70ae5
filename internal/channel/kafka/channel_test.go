package kafka

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/broker"
	"github.com/sluice-data/sluice/internal/channel/channeltest"
)

// startBroker starts the built-in broker.
func startBroker(t testing.TB, edit func(*broker.Config)) (addr string) {
	t.Helper()
	cfg := broker.Config{Listen: "127.0.0.1:0", DataDir: t.TempDir(), GroupMinSession: time.Millisecond, MaxDisk: -1, MinFreeDisk: -1}
	if edit != nil {
		edit(&cfg)
	}
	b, err := broker.Start(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b.Addr()
}

// topics names topics that nobody used yet.
var topics atomic.Int64

func newTopic() string { return fmt.Sprint("topic-", topics.Add(1)) }

func admin(t testing.TB, addr string) *kadm.Client {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return kadm.NewClient(cl)
}

// patience only ends a test that hangs: a machine under load may take many seconds for anything.
const patience = 3 * time.Minute

// newTestChannel makes a channel, which is not started. Its takes wait for what
// was put, and for as much as they ask for, however long that takes.
func newTestChannel(t testing.TB, env component.Env, addr, topic string, props ...string) *Channel {
	t.Helper()
	cfg, _ := componenttest.Config(t, component.KindChannel, "org.apache.flume.channel.kafka.KafkaChannel", slices.Concat([]string{
		"kafka.bootstrap.servers=" + addr, "kafka.topic=" + topic, "kafka.pollTimeout=5", "kafka.consumer.fetch.max.wait.ms=100",
		"kafka.consumer.heartbeat.interval.ms=50"}, props)...)
	c, err := cfg.(component.ChannelConfig).NewChannel(env)
	if err != nil {
		t.Fatal(err)
	}
	ch := c.(*Channel)
	ch.due, ch.fill = patience, patience
	return ch
}

func start(t testing.TB, c *Channel) *Channel {
	t.Helper()
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, c) })
	return c
}

func stop(t testing.TB, c *Channel) {
	t.Helper()
	if err := c.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

// joined waits until the channel has the partitions 0 to n-1.
func joined(t testing.TB, c *Channel, n int) {
	t.Helper()
	if _, err := c.member(); err != nil {
		t.Fatal(err)
	}
	until(t, fmt.Sprintf("%d partitions", n), func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.con.parts) == n
	})
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("did not come: %s", what)
		}
	}
}

// kill ends a channel as if its process had died: nobody leaves the group, and
// nothing is committed.
func kill(c *Channel) {
	c.mu.Lock()
	con, idle := c.con, c.idle
	c.con, c.idle, c.started = nil, nil, false
	c.mu.Unlock()
	for _, p := range idle {
		p.sender.Close()
	}
	con.end()
	con.done.Wait()
	con.cl.CloseAllowingRebalance()
}

func TestConformance(t *testing.T) {
	addr := startBroker(t, nil)
	channeltest.Run(t, func(t *testing.T, _, _ int) component.Channel {
		env, _ := componenttest.Env(t)
		c := start(t, newTestChannel(t, env, addr, newTopic()))
		joined(t, c, 1)
		return c
	})
}

// store is a topic with a group.
type store struct {
	addr, topic string
	c           *Channel
}

func (s *store) Open(t *testing.T, _, _ int) component.Channel {
	t.Helper()
	env, _ := componenttest.Env(t)
	// A static member takes the place of one that was killed without waiting
	// for its session to end.
	s.c = newTestChannel(t, env, s.addr, s.topic, "kafka.consumer.group.id="+s.topic, "kafka.consumer.group.instance.id=one")
	if err := s.c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	joined(t, s.c, 1)
	return s.c
}

func (s *store) Close(t *testing.T) { stop(t, s.c) }
func (s *store) Kill(*testing.T)    { kill(s.c) }

func TestDurable(t *testing.T) {
	t.Parallel()
	addr := startBroker(t, nil)
	channeltest.RunDurable(t, func(t *testing.T) channeltest.Store { return &store{addr: addr, topic: newTopic()} })
}

func batch(bodies ...string) *event.Batch {
	b := event.NewPool().NewBatch()
	for _, s := range bodies {
		b.Append([]byte(s))
	}
	return b
}

func put(t testing.TB, c *Channel, bodies ...string) {
	t.Helper()
	b := batch(bodies...)
	defer b.Release()
	if err := c.Put(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

func bodies(l component.Lease) string {
	if l == nil {
		return "nothing"
	}
	var s []string
	for _, e := range l.Events() {
		s = append(s, string(e.Body))
	}
	return strings.Join(s, " ")
}

// took takes until n events came.
func took(t testing.TB, tk component.Taker, limit int) component.Lease {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		l, err := tk.Take(t.Context(), limit)
		if err != nil {
			t.Fatal(err)
		}
		if l != nil {
			return l
		}
	}
	t.Fatal("nothing comes")
	return nil
}

// journal is a log that tests read.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

// count is the number of lines that have all of the words.
func (j *journal) count(words ...string) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
lines:
	for line := range strings.Lines(j.b.String()) {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue lines
			}
		}
		n++
	}
	return n
}

// testEnv is an environment with a log that tests read.
func testEnv(t testing.TB) (component.Env, *componenttest.Health, *journal) {
	t.Helper()
	env, health := componenttest.Env(t)
	j := new(journal)
	env.Log = slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(j.b.String())
		}
	})
	return env, health, j
}

// committed is what the group has committed of a partition: the offset, -1 if
// there is none, and the metadata.
func committed(t testing.TB, addr, group, topic string, partition int32) (int64, string) {
	t.Helper()
	os, err := admin(t, addr).FetchOffsets(t.Context(), group)
	o, ok := os.Lookup(topic, partition)
	if !ok || err != nil {
		return -1, ""
	}
	return o.At, o.Metadata
}

// records reads a topic.
func records(t testing.TB, addr, topic string, n int) (rs []*kgo.Record) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics(topic), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for len(rs) < n {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatalf("%d records: %v", len(rs), err)
		}
		rs = append(rs, fs.Records()...)
	}
	return rs
}

func produce(t testing.TB, addr string, rs ...*kgo.Record) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.AllowAutoTopicCreation())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func create(t testing.TB, addr, topic string, partitions int32, settings map[string]*string) {
	t.Helper()
	if _, err := admin(t, addr).CreateTopic(t.Context(), partitions, 1, settings, topic); err != nil {
		t.Fatal(err)
	}
}

func commit(t testing.TB, l component.Lease) {
	t.Helper()
	if err := l.Commit(); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkChannel puts and takes batches of 1000 events. The broker is in this process; KAFKA_SERVERS names another.
func BenchmarkChannel(b *testing.B) {
	addr := os.Getenv("KAFKA_SERVERS")
	if addr == "" {
		addr = startBroker(b, nil)
	}
	c := start(b, newTestChannel(b, componenttest.QuietEnv(), addr, fmt.Sprint("bench-", time.Now().UnixNano())))
	joined(b, c, 1)
	evs := event.NewPool().NewBatch()
	defer evs.Release()
	for range 1000 {
		evs.AppendEvent([]byte("20160101000000,P0001,2,0,F,N,10,D0812"), kvs("host", "h1"))
	}
	tk := c.NewTaker()
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += evs.Len() {
		if err := c.Put(b.Context(), evs); err != nil {
			b.Fatal(err)
		}
		for n := 0; n < evs.Len(); {
			l := took(b, tk, evs.Len())
			n += len(l.Events())
			if err := l.Commit(); err != nil {
				b.Fatal(err)
			}
		}
	}
}
