package kafka

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/broker"
)

// site is a broker that is stopped and started again at one address.
type site struct {
	t    *testing.T
	cfg  broker.Config
	b    *broker.Broker
	addr string
}

func newSite(t *testing.T, edit func(*broker.Config)) *site {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	s := &site{t: t, addr: addr, cfg: broker.Config{Listen: addr, DataDir: t.TempDir(), GroupMinSession: time.Millisecond, MaxDisk: -1, MinFreeDisk: -1, StopTimeout: time.Second}}
	if edit != nil {
		edit(&s.cfg)
	}
	t.Cleanup(s.stop)
	return s
}

func (s *site) start() {
	s.t.Helper()
	until(s.t, "the broker at "+s.addr, func() bool {
		b, err := broker.Start(context.Background(), s.cfg)
		s.b = b
		return err == nil
	})
}

func (s *site) stop() {
	if s.b == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.b.Close(ctx) // clients that still wait are cut off
	s.b = nil
}

// No broker at the start: the channel comes up, says what is wrong, and works once there is one.
func TestNoBrokerAtStart(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	env, health, log := testEnv(t)
	c := start(t, newTestChannel(t, env, s.addr, newTopic(), "kafka.producer.delivery.timeout.ms=1000"))
	tk := c.NewTaker()
	if l, err := tk.Take(t.Context(), 1); l != nil || err != nil {
		t.Errorf("take without a broker: %v, %v", l, err)
	}
	b := batch("a", "b")
	defer b.Release()
	err := c.Put(t.Context(), b)
	var partial *component.PartialError
	if !errors.As(err, &partial) || len(partial.Failed) != 2 || component.IsPermanent(err) || !strings.Contains(err.Error(), "delivery.timeout.ms") {
		t.Errorf("put without a broker: %v", err)
	}
	// Said once, by whichever of the clients came first.
	until(t, "a line that no broker can be used", func() bool {
		return log.count("level=ERROR", "no Kafka broker can be used", s.addr, "check that it runs") == 1
	})
	if err := health.Last(); err == nil || !strings.Contains(err.Error(), s.addr) {
		t.Errorf("health: %v", err)
	}
	s.start()
	again := batch("c")
	defer again.Release()
	until(t, "a put", func() bool { return c.Put(t.Context(), again) == nil }) // within delivery.timeout.ms
	var got []string
	until(t, "the event", func() bool {
		l := took(t, tk, 10)
		got = append(got, strings.Fields(bodies(l))...)
		commit(t, l)
		return slices.Contains(got, "c")
	})
	until(t, "good health", func() bool { return health.Last() == nil })
	until(t, "a line that the broker is back", func() bool { return log.count("Kafka answers") == 1 })
}

// Without a broker a stop ends, whatever is open.
func TestStopWithoutBroker(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.start()
	topic := newTopic()
	env, _, log := testEnv(t)
	c := newTestChannel(t, env, s.addr, topic, "kafka.consumer.session.timeout.ms=500")
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, c, numbered(0, 4)...)
	commit(t, took(t, c.NewTaker(), 1))
	until(t, "the commit", func() bool { at, _ := committed(t, s.addr, "flume", topic, 0); return at == 1 })
	open, late := took(t, c.NewTaker(), 1), took(t, c.NewTaker(), 1)
	s.stop()
	ctx, cancel := context.WithCancel(t.Context())
	putting := make(chan error, 1)
	go func() {
		b := batch("x")
		defer b.Release()
		putting <- c.Put(ctx, b)
	}()
	stop(t, c)
	commit(t, late)
	if err := open.Rollback(); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-putting; err == nil {
		t.Error("a put without a broker succeeded")
	}
	if log.count("leaving the consumer group failed") > 1 {
		t.Error("said more than once that leaving the group failed")
	}
	s.start()
	again := start(t, newTestChannel(t, env, s.addr, topic, "kafka.consumer.session.timeout.ms=500"))
	d := drain(t, again, 0)
	until(t, "what was not committed", func() bool { return slices.Contains(d.taken(), "000003") })
	d.stop()
	got := d.taken()
	slices.Sort(got)
	if want := numbered(1, 3); !slices.Equal(slices.DeleteFunc(got, func(s string) bool { return s == "x" }), want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// The broker goes while leases are open, for so long that the partition is lost. Commits are not refused, and made up for
// when the broker is back; what leases hold, or have committed meanwhile, does not come again.
func TestBrokerGoesAndComes(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.start()
	topic := newTopic()
	env, health, log := testEnv(t)
	c := start(t, newTestChannel(t, env, s.addr, topic))
	put(t, c, numbered(0, 30)...)
	var ls []component.Lease
	for range 5 {
		ls = append(ls, took(t, c.NewTaker(), 5))
	}
	s.stop()
	until(t, "the loss of the partition", func() bool { return log.count("partitions lost") == 1 })
	commit(t, ls[0])
	commit(t, ls[2])
	if n := log.count("level=WARN", "events=5", "does not get them back"); n != 2 {
		t.Errorf("said %d times that events may come again", n)
	}
	if l, err := c.NewTaker().Take(t.Context(), 1); l != nil || err != nil {
		t.Errorf("took %s, %v", bodies(l), err)
	}
	b := batch("x", "y")
	defer b.Release()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := c.Put(ctx, b); err == nil {
		t.Error("put without a broker succeeded")
	}
	if err := ls[4].Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := health.Last(); err == nil || !strings.Contains(err.Error(), s.addr) {
		t.Errorf("health: %v", err)
	}
	s.start()
	joined(t, c, 1)
	commit(t, ls[1])
	if err := ls[3].Rollback(); err != nil {
		t.Fatal(err)
	}
	until(t, "the commit", func() bool { at, _ := committed(t, s.addr, "flume", topic, 0); return at == 15 })
	until(t, "good health", func() bool { return health.Last() == nil })
	put(t, c, "z")
	d := drain(t, c, 0)
	until(t, "all events", func() bool { return slices.Contains(d.taken(), "z") })
	d.stop()
	got := slices.DeleteFunc(d.taken(), func(b string) bool { return b == "x" || b == "y" }) // their put failed: they may be there
	if want := append(numbered(15, 15), "z"); !slices.Equal(got, want) {
		t.Errorf("%v\nwant %v", got, want)
	}
	if n := c.Stats().Size; n != 0 {
		t.Errorf("size %d", n)
	}
}

// A commit that the broker does not answer holds a sink up once; then it is tried in the background.
func TestCommitFails(t *testing.T) {
	t.Parallel()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"), kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	addr := fake.ListenAddrs()[0]
	env, health, log := testEnv(t)
	c := start(t, newTestChannel(t, env, addr, "t"))
	put(t, c, numbered(0, 10)...)
	var refuse atomic.Bool
	refuse.Store(true)
	fake.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		if !refuse.Load() {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
		for _, rt := range req.(*kmsg.OffsetCommitRequest).Topics {
			st := kmsg.NewOffsetCommitResponseTopic()
			st.Topic, st.TopicID = rt.Topic, rt.TopicID
			for _, rp := range rt.Partitions {
				sp := kmsg.NewOffsetCommitResponseTopicPartition()
				sp.Partition, sp.ErrorCode = rp.Partition, kerr.GroupAuthorizationFailed.Code
				st.Partitions = append(st.Partitions, sp)
			}
			resp.Topics = append(resp.Topics, st)
		}
		return resp, nil, true
	})
	tk := c.NewTaker()
	for i := range 3 {
		l := took(t, tk, 2)
		if got := bodies(l); got != strings.Join(numbered(2*i, 2), " ") {
			t.Error(got)
		}
		commit(t, l)
	}
	if n := log.count("level=WARN", "is not committed", "delivered again", "group flume", "GROUP_AUTHORIZATION_FAILED"); n != 1 {
		t.Errorf("said %d times that the commit failed", n)
	}
	if err := health.Last(); err == nil || !strings.Contains(err.Error(), "commit offsets of consumer group flume") {
		t.Errorf("health: %v", err)
	}
	refuse.Store(false)
	until(t, "the commit", func() bool { at, _ := committed(t, addr, "flume", "t", 0); return at == 6 })
	until(t, "good health", func() bool { return health.Last() == nil })
	until(t, "a line that offsets are committed again", func() bool { return log.count("offsets are committed again") == 1 })
}

// A topic that is not there and that the broker does not make is named; once it is made all is well.
func TestNoTopic(t *testing.T) {
	t.Parallel()
	addr := startBroker(t, func(c *broker.Config) { c.DisableAutoCreate = true })
	topic := newTopic()
	env, health, log := testEnv(t)
	c := start(t, newTestChannel(t, env, addr, topic))
	tk := c.NewTaker()
	if l, err := tk.Take(t.Context(), 1); l != nil || err != nil {
		t.Errorf("take: %v, %v", l, err)
	}
	b := batch("a")
	defer b.Release()
	if err := c.Put(t.Context(), b); err == nil || component.IsPermanent(err) || !strings.Contains(err.Error(), topic+" does not exist") || !strings.Contains(err.Error(), "create it") {
		t.Errorf("put: %v", err)
	}
	until(t, "a line about the topic", func() bool { return log.count("level=ERROR", topic, "create it") == 1 })
	if err := health.Last(); err == nil || !strings.Contains(err.Error(), topic) {
		t.Errorf("health: %v", err)
	}
	create(t, addr, topic, 1, nil)
	put(t, c, "b")
	l := took(t, tk, 10)
	if got := bodies(l); got != "b" {
		t.Error(got)
	}
	commit(t, l)
	until(t, "good health", func() bool { return health.Last() == nil })
}

// A record that is too large fails alone and for ever; the others of its batch are put, once.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	addr := startBroker(t, nil)
	small, max := newTopic(), "3000"
	create(t, addr, small, 1, map[string]*string{"max.message.bytes": &max})
	for name, tt := range map[string]struct {
		topic, prop, want string
	}{
		"for the client": {newTopic(), "kafka.producer.max.request.size=3000", "kafka.producer.max.request.size"},
		"for the topic":  {small, "kafka.producer.max.request.size=100000", "max.message.bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, newTestChannel(t, componenttest.QuietEnv(), addr, tt.topic, tt.prop))
			large := strings.Repeat("x", 5000)
			b := batch("a", large, "b")
			defer b.Release()
			err := c.Put(t.Context(), b)
			var partial *component.PartialError
			if !errors.As(err, &partial) || len(partial.Failed) != 1 || !component.IsPermanent(partial.Failed[1]) || !strings.Contains(err.Error(), tt.want) {
				t.Fatal(err)
			}
			if err := putEvents(t, c, event.Event{Body: []byte(large)}); !component.IsPermanent(err) || errors.As(err, &partial) {
				t.Error(err)
			}
			put(t, c, "c")
			var got []string
			for _, r := range records(t, addr, tt.topic, 3) {
				got = append(got, string(r.Value))
			}
			if want := []string{"\x00\x02a", "\x00\x02b", "\x00\x02c"}; !slices.Equal(got, want) {
				t.Errorf("%q", got)
			}
		})
	}
}

// Events that the topic's retention took away are named.
func TestRetention(t *testing.T) {
	addr := startBroker(t, nil)
	topic := newTopic()
	env, _, log := testEnv(t)
	c := start(t, newTestChannel(t, env, addr, topic))
	put(t, c, numbered(0, 10)...)
	commit(t, took(t, c.NewTaker(), 2))
	stop(t, c)
	adm := admin(t, addr)
	ends, err := adm.ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	os := ends.Offsets()
	for id, o := range os[topic] {
		o.At = 6
		os[topic][id] = o
	}
	if _, err := adm.DeleteRecords(t.Context(), os); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	joined(t, c, 1)
	if n := log.count("level=ERROR", "gone from the topic", "retention", "from=2", "to=6"); n != 1 {
		t.Errorf("said %d times", n)
	}
	if s := c.Stats().Size; s != 4 {
		t.Errorf("size %d, want 4", s)
	}
	l := took(t, c.NewTaker(), 10)
	if got := bodies(l); got != strings.Join(numbered(6, 4), " ") {
		t.Error(got)
	}
	commit(t, l)
	if at, _ := committed(t, addr, "flume", topic, 0); at != 10 {
		t.Errorf("committed %d", at)
	}
}

// A topic that is removed and made again begins anew.
func TestTopicMadeAgain(t *testing.T) {
	t.Parallel()
	addr := startBroker(t, nil)
	topic := newTopic()
	c := start(t, newTestChannel(t, componenttest.QuietEnv(), addr, topic))
	put(t, c, numbered(0, 10)...)
	commit(t, took(t, c.NewTaker(), 10))
	stop(t, c)
	if _, err := admin(t, addr).DeleteTopics(t.Context(), topic); err != nil {
		t.Fatal(err)
	}
	create(t, addr, topic, 1, nil)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, c, "x", "y")
	l := took(t, c.NewTaker(), 10)
	if got := bodies(l); got != "x y" {
		t.Error(got)
	}
	commit(t, l)
	if at, _ := committed(t, addr, "flume", topic, 0); at != 2 {
		t.Errorf("committed %d", at)
	}
}

// The same while the channel runs.
func TestTopicMadeAgainMeanwhile(t *testing.T) {
	t.Parallel()
	addr := startBroker(t, func(c *broker.Config) { c.DisableAutoCreate = true })
	topic := newTopic()
	create(t, addr, topic, 1, nil)
	env, _, log := testEnv(t)
	c := start(t, newTestChannel(t, env, addr, topic, "kafka.consumer.metadata.max.age.ms=250"))
	put(t, c, numbered(0, 10)...)
	tk := c.NewTaker()
	commit(t, took(t, tk, 10))
	put(t, c, numbered(10, 3)...)
	l := took(t, tk, 10) // of the topic that is deleted
	if _, err := admin(t, addr).DeleteTopics(t.Context(), topic); err != nil {
		t.Fatal(err)
	}
	until(t, "the topic anew", func() bool {
		_, err := admin(t, addr).CreateTopic(t.Context(), 1, 1, nil, topic)
		return err == nil
	})
	until(t, "that is noticed", func() bool { return log.count("level=WARN", "deleted and made again", topic) == 1 })
	commit(t, l)
	d := drain(t, c, 0)
	until(t, "a put", func() bool {
		b := batch("x", "y")
		defer b.Release()
		return c.Put(t.Context(), b) == nil
	})
	until(t, "its events", func() bool { return slices.Contains(d.taken(), "y") })
	until(t, "the commit", func() bool { at, _ := committed(t, addr, "flume", topic, 0); return at == 2 })
	if got := d.taken(); !slices.Equal(got, []string{"x", "y"}) {
		t.Errorf("%q", got)
	}
}

func TestConfig(t *testing.T) {
	for _, tt := range []struct{ props, want string }{
		{"", "kafka.bootstrap.servers: required"},
		{"kafka.bootstrap.servers=a:b:c", "is not HOST:PORT"},
		{"brokerList=h kafka.topic=a/b", "is not a valid name"},
		{"brokerList=h defaultPartitionId=x", "is not the number of a partition"},
		{"brokerList=h kafka.producer.acks=2", "acks"},
		{"brokerList=h kafka.producer.acks=1 kafka.producer.enable.idempotence=true", "needs acks = all"},
		{"brokerList=h kafka.consumer.auto.offset.reset=first", "earliest"},
		{"brokerList=h kafka.consumer.heartbeat.interval.ms=50000", "session.timeout.ms"},
		{"brokerList=h kafka.consumer.security.protocol=SASL_PLAINTEXT", "sasl"},
	} {
		cfg, findings := componenttest.Decode(t, component.KindChannel, "kafka", strings.Fields(tt.props)...)
		var got string
		for _, f := range findings {
			if f.Error {
				got += f.Key + ": " + f.Message
			}
		}
		if got == "" {
			if _, err := cfg.(component.ChannelConfig).NewChannel(componenttest.QuietEnv()); err != nil {
				got = err.Error()
			}
		}
		if !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.props, got, tt.want)
		}
	}

	cfg, findings := componenttest.Decode(t, component.KindChannel, "kafka", "brokerList=h:1,h:2", "topic=t", "groupId=g", "pollTimeout=7", "readSmallestOffset=false", "zookeeperConnect=z", "migrateZookeeperOffsets=false")
	c := cfg.(*config)
	if c.topic != "t" || c.consumer.Group != "g" || c.pollTimeout != 7*time.Millisecond || len(c.servers) != 2 || len(findings) != 5 {
		t.Errorf("%+v, %v", c, findings)
	}
	env := componenttest.QuietEnv()
	var found []component.Finding
	env.Finding = func(f component.Finding) { found = append(found, f) }
	if _, err := c.NewChannel(env); err != nil || c.consumer.Reset != "latest" || len(found) != 1 || !strings.Contains(found[0].Hint, "auto.offset.reset = latest") {
		t.Errorf("%v, %s, %v", err, c.consumer.Reset, found)
	}

	cfg, _ = componenttest.Decode(t, component.KindChannel, "kafka", "kafka.bootstrap.servers=h")
	c = cfg.(*config)
	if _, err := c.NewChannel(env); err != nil || c.topic != "flume-channel" || c.consumer.Group != "flume" || !c.avro || c.producer.Acks != "all" || c.consumer.Reset != "earliest" || c.pollTimeout != 500*time.Millisecond || c.partition != nil {
		t.Errorf("%v, %+v", err, c)
	}
}
