package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
)

// drainer takes and commits until it is told to stop, and notes what it got.
type drainer struct {
	mu   sync.Mutex
	got  []string
	stop func()
}

func drain(t testing.TB, c *Channel, hold time.Duration) *drainer {
	d := &drainer{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tk := c.NewTaker()
		for i := 0; ctx.Err() == nil; i++ {
			l, err := tk.Take(ctx, 50)
			if err != nil {
				t.Errorf("take: %v", err)
				return
			}
			if l == nil {
				continue
			}
			time.Sleep(hold)
			if i%4 == 3 {
				if err := l.Rollback(); err != nil {
					t.Errorf("rollback: %v", err)
				}
				continue
			}
			d.mu.Lock()
			for _, e := range l.Events() {
				d.got = append(d.got, string(e.Body))
			}
			d.mu.Unlock()
			if err := l.Commit(); err != nil {
				t.Errorf("commit: %v", err)
			}
		}
	}()
	d.stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(d.stop)
	return d
}

func (d *drainer) taken() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.got)
}

func numbered(from, n int) (bodies []string) {
	for i := from; i < from+n; i++ {
		bodies = append(bodies, fmt.Sprintf("%06d", i))
	}
	return bodies
}

// Members come and go while events are taken: none is lost, and none comes
// twice, because a partition changes hands when its leases have ended.
func TestRebalance(t *testing.T) {
	for _, strategy := range []string{"RangeAssignor", "CooperativeStickyAssignor"} {
		t.Run(strategy, func(t *testing.T) {
			t.Parallel()
			addr := startBroker(t, nil)
			topic := newTopic()
			create(t, addr, topic, 4, nil)
			props := []string{"kafka.consumer.partition.assignment.strategy=" + strategy, "kafka.producer.partitioner.class=RoundRobinPartitioner"}
			one := start(t, newTestChannel(t, componenttest.QuietEnv(), addr, topic, props...))
			d1 := drain(t, one, 2*time.Millisecond)
			next := 0
			some := func() {
				put(t, one, numbered(next, 300)...)
				next += 300
			}
			some()
			var all []string
			for range 3 {
				two := newTestChannel(t, componenttest.QuietEnv(), addr, topic, props...)
				if err := two.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				d2 := drain(t, two, 2*time.Millisecond)
				some()
				joined(t, two, 2)
				some()
				until(t, "events of the second member", func() bool { return len(d2.taken()) > 0 })
				d2.stop()
				stop(t, two)
				all = append(all, d2.taken()...)
				some()
				joined(t, one, 4)
			}
			until(t, "the rest", func() bool { return len(all)+len(d1.taken()) >= next })
			d1.stop()
			all = append(all, d1.taken()...)
			slices.Sort(all)
			if want := numbered(0, next); !slices.Equal(all, want) {
				t.Errorf("%d events, want %d: %d differ", len(all), len(want), len(all)-len(slices.Compact(slices.Clone(all))))
			}
			if s := one.Stats().Size; s != 0 {
				t.Errorf("size %d", s)
			}
		})
	}
}

// A member that is killed leaves its lease and what it read ahead to the others.
func TestMemberKilled(t *testing.T) {
	t.Parallel()
	addr := startBroker(t, nil)
	topic := newTopic()
	create(t, addr, topic, 2, nil)
	props := []string{"kafka.consumer.session.timeout.ms=500", "kafka.producer.partitioner.class=RoundRobinPartitioner"}
	one := newTestChannel(t, componenttest.QuietEnv(), addr, topic, props...)
	if err := one.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, one, numbered(0, 100)...)
	got := make(map[string]int)
	tk := one.NewTaker()
	for len(got) < 30 {
		l := took(t, tk, 10)
		for _, e := range l.Events() {
			got[string(e.Body)]++
		}
		commit(t, l)
	}
	open := took(t, tk, 10)
	n := len(open.Events())
	kill(one)
	two := start(t, newTestChannel(t, componenttest.QuietEnv(), addr, topic, props...))
	d := drain(t, two, 0)
	left := 100 - len(got)
	until(t, "what is left", func() bool { return len(d.taken()) >= left })
	d.stop()
	for _, b := range d.taken() {
		if got[b]++; got[b] > 1 {
			t.Errorf("%s came again after its commit", b)
		}
	}
	if len(got) != 100 || n == 0 {
		t.Errorf("%d events came, want 100; %d were open", len(got), n)
	}
	// The commit of one that died late does no harm.
	if err := open.Commit(); err != nil {
		t.Error(err)
	}
}

// A lease that is open when its partition is taken away holds the group up, and
// its events do not come again.
func TestRevokedWaits(t *testing.T) {
	t.Parallel()
	addr := startBroker(t, nil)
	topic := newTopic()
	props := []string{"defaultPartitionId=0"}
	create(t, addr, topic, 2, nil)
	one := start(t, newTestChannel(t, componenttest.QuietEnv(), addr, topic, props...))
	put(t, one, numbered(0, 10)...)
	l := took(t, one.NewTaker(), 4)
	two := start(t, newTestChannel(t, componenttest.QuietEnv(), addr, topic, props...))
	d := drain(t, two, 0)
	until(t, "the rebalance", func() bool {
		one.mu.Lock()
		defer one.mu.Unlock()
		return one.con.parts[0] == nil || one.con.parts[0].revoking
	})
	if got := d.taken(); len(got) > 0 {
		t.Fatalf("another member took %v beside an open lease", got)
	}
	commit(t, l)
	d1 := drain(t, one, 0) // which of the two gets the partition is the brokers' choice
	until(t, "the other events", func() bool { return len(d.taken())+len(d1.taken()) >= 6 })
	d.stop()
	d1.stop()
	got := append(d.taken(), d1.taken()...)
	slices.Sort(got)
	if want := numbered(4, 6); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// What is not ended within the time of a rebalance comes again if the partition goes to another member, and that is
// said. If it comes back it does not.
func TestRevokedTooLate(t *testing.T) {
	t.Parallel()
	addr := startBroker(t, nil)
	topic := newTopic()
	create(t, addr, topic, 2, nil)
	props := []string{"partitionIdHeader=p", "kafka.consumer.max.poll.interval.ms=2000"}
	env, _, log := testEnv(t)
	one := start(t, newTestChannel(t, env, addr, topic, props...))
	joined(t, one, 2)
	for i, p := range []string{"0", "1", "0", "1", "0", "1"} {
		if err := putEvents(t, one, event.Event{Body: fmt.Append(nil, p, i), Headers: kvs("p", p)}); err != nil {
			t.Fatal(err)
		}
	}
	l := took(t, one.NewTaker(), 6)
	if len(l.Events()) != 6 {
		t.Fatal(bodies(l))
	}
	two := start(t, newTestChannel(t, componenttest.QuietEnv(), addr, topic, props...))
	joined(t, two, 1)
	joined(t, one, 1)
	commit(t, l)
	if n := log.count("level=WARN", "events=3", "does not get them back", "max.poll.interval.ms"); n != 1 {
		t.Errorf("said %d times", n)
	}
	d, d1 := drain(t, two, 0), drain(t, one, 0)
	until(t, "events once more", func() bool { return len(d.taken()) == 3 })
	time.Sleep(50 * time.Millisecond)
	if got := d1.taken(); len(got) > 0 {
		t.Errorf("%q came again", got)
	}
}

// Sinks without a source and sources without a sink need no group and no producer.
func TestHalves(t *testing.T) {
	addr := startBroker(t, nil)
	topic := newTopic()
	source := start(t, newTestChannel(t, componenttest.QuietEnv(), addr, topic))
	put(t, source, "a", "b")
	if s := source.Stats(); s.Size != 0 || !s.Durable || s.Capacity != 0 {
		t.Errorf("%+v", s)
	}
	if gs, err := admin(t, addr).ListGroups(t.Context()); err != nil || len(gs) > 0 {
		t.Errorf("a channel without sinks joined a group: %v, %v", gs, err)
	}
	sink := start(t, newTestChannel(t, componenttest.QuietEnv(), addr, topic))
	tk := sink.NewTaker()
	l := took(t, tk, 10)
	if got := bodies(l); got != "a b" {
		t.Error(got)
	}
	commit(t, l)
	put(t, source, "c")
	l = took(t, tk, 10)
	if got := bodies(l); got != "c" {
		t.Error(got)
	}
	commit(t, l)
	if len(sink.idle) > 0 {
		t.Error("a channel without sources made a producer")
	}
}

// A group that starts at the end of the topic takes what comes after that.
func TestReset(t *testing.T) {
	addr := startBroker(t, nil)
	for _, tt := range []struct{ props, want string }{
		{"", "old new"}, {"kafka.consumer.auto.offset.reset=latest", "new"}, {"readSmallestOffset=false", "new"}, {"readSmallestOffset=true", "old new"},
	} {
		topic := newTopic()
		props := strings.Fields(tt.props)
		c := start(t, newTestChannel(t, componenttest.QuietEnv(), addr, topic, append(props, "kafka.consumer.group.id="+topic)...))
		put(t, c, "old")
		joined(t, c, 1)
		var got []string
		tk := c.NewTaker()
		l, err := tk.Take(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		if l != nil {
			got = append(got, bodies(l))
			commit(t, l)
		}
		put(t, c, "new")
		l = took(t, tk, 1)
		got = append(got, bodies(l))
		commit(t, l)
		if g := strings.Join(got, " "); g != tt.want {
			t.Errorf("%s: %s, want %s", tt.props, g, tt.want)
		}
	}
}

// A group that starts at the end loses nothing that is put while it is there, also if it goes before it took anything.
func TestEndIsPinned(t *testing.T) {
	addr := startBroker(t, nil)
	topic := newTopic()
	c := newTestChannel(t, componenttest.QuietEnv(), addr, topic, "kafka.consumer.auto.offset.reset=latest")
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, c, "before")
	joined(t, c, 1)
	until(t, "the commit of the end", func() bool { at, _ := committed(t, addr, "flume", topic, 0); return at == 1 })
	put(t, c, "after")
	took(t, c.NewTaker(), 1) // and never ended
	stop(t, c)
	start(t, c)
	l := took(t, c.NewTaker(), 5)
	if got := bodies(l); got != "after" {
		t.Error(got)
	}
	commit(t, l)
}

// With a transactional id a put is one transaction. (The built-in broker has none.)
func TestTransactions(t *testing.T) {
	topic := newTopic()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topic), kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	addr := fake.ListenAddrs()[0]
	c := start(t, newTestChannel(t, componenttest.QuietEnv(), addr, topic, "kafka.producer.transactional.id=x", "kafka.consumer.isolation.level=read_committed"))
	joined(t, c, 1)
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			for j := range 5 {
				b := batch(numbered(100*i+10*j, 10)...)
				defer b.Release()
				if err := c.Put(t.Context(), b); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	d := drain(t, c, 0)
	until(t, "150 events", func() bool { return len(d.taken()) == 150 })
	until(t, "an empty channel: the ends of transactions are no events", func() bool { return c.Stats().Size == 0 })
}

// A record that is no event is passed over, which is said; offsets stay before
// it until an event behind it was taken.
func TestForeignRecords(t *testing.T) {
	addr := startBroker(t, nil)
	topic := newTopic()
	env, health, log := testEnv(t)
	c := start(t, newTestChannel(t, env, addr, topic))
	put(t, c, "a")
	produce(t, addr, &kgo.Record{Topic: topic, Value: []byte("no event")}, &kgo.Record{Topic: topic, Value: []byte("nor this")})
	tk := c.NewTaker()
	l := took(t, tk, 10)
	if got := bodies(l); got != "a" {
		t.Error(got)
	}
	commit(t, l)
	until(t, "a line", func() bool {
		return log.count("level=ERROR", "passed over", topic, "partition 0", "offsets 1 to 2", "2 records", "parseAsFlumeEvent = false") == 1
	})
	if err := health.Last(); err == nil || !strings.Contains(err.Error(), "offsets 1 to 2") {
		t.Errorf("health: %v", err)
	}
	if n := env.Metrics.Snapshot()["EventTakeErrorCount"]; n != 2 {
		t.Errorf("EventTakeErrorCount %d", n)
	}
	if at, _ := committed(t, addr, "flume", topic, 0); at != 1 {
		t.Errorf("committed %d, want 1: no event behind it was taken", at)
	}
	until(t, "an empty channel", func() bool { return c.Stats().Size == 0 })
	put(t, c, "b")
	l = took(t, tk, 10)
	if got := bodies(l); got != "b" {
		t.Error(got)
	}
	commit(t, l)
	if at, _ := committed(t, addr, "flume", topic, 0); at != 4 {
		t.Errorf("committed %d, want 4", at)
	}
	if err := health.Last(); err != nil {
		t.Errorf("health: %v", err)
	}
}

// A topic of text, read with the wrong setting and then with the right one: nothing is gone.
func TestForeignTopic(t *testing.T) {
	addr := startBroker(t, nil)
	topic := newTopic()
	produce(t, addr, &kgo.Record{Topic: topic, Value: []byte("one")}, &kgo.Record{Topic: topic, Value: []byte("two"), Key: []byte("k")})
	env, _, log := testEnv(t)
	c := start(t, newTestChannel(t, env, addr, topic))
	tk := c.NewTaker()
	until(t, "a line", func() bool {
		if l, err := tk.Take(t.Context(), 1); l != nil || err != nil {
			t.Fatalf("%s, %v", bodies(l), err)
		}
		return log.count("level=ERROR", "offsets 0 to 1") == 1
	})
	stop(t, c)
	c = start(t, newTestChannel(t, env, addr, topic, "parseAsFlumeEvent=false"))
	l := took(t, c.NewTaker(), 2)
	if len(l.Events()) != 2 {
		t.Fatal(bodies(l))
	}
	sameEvent(t, l.Events()[0], event.Event{Body: []byte("one")})
	sameEvent(t, l.Events()[1], event.Event{Body: []byte("two"), Headers: kvs("key", "k")})
	commit(t, l)
}

// What is taken behind an open lease is in the metadata, and gone from it afterwards.
func TestCommittedMetadata(t *testing.T) {
	addr := startBroker(t, nil)
	topic := newTopic()
	c := start(t, newTestChannel(t, componenttest.QuietEnv(), addr, topic))
	put(t, c, numbered(0, 10)...)
	a, b := took(t, c.NewTaker(), 3), took(t, c.NewTaker(), 4)
	commit(t, b)
	if at, m := committed(t, addr, "flume", topic, 0); at != 0 || m != "sluice:3+4" {
		t.Errorf("%d, %q", at, m)
	}
	commit(t, a)
	if at, m := committed(t, addr, "flume", topic, 0); at != 7 || m != "" {
		t.Errorf("%d, %q", at, m)
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	addr := startBroker(t, nil)
	before := goleak.IgnoreCurrent()
	c := newTestChannel(t, componenttest.QuietEnv(), addr, newTopic())
	for range 2 {
		if err := c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		put(t, c, "x")
		tk := c.NewTaker()
		commit(t, took(t, tk, 1))
		put(t, c, "y")
		l := took(t, tk, 1) // stays open
		for range 2 {
			stop(t, c)
		}
		if err := c.Put(t.Context(), batch("x")); !errors.Is(err, errNotStarted) {
			t.Error(err)
		}
		if _, err := c.NewTaker().Take(t.Context(), 1); !errors.Is(err, errNotStarted) {
			t.Error(err)
		}
		if err := l.Rollback(); err != nil {
			t.Error(err)
		}
		if err := c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		l = took(t, tk, 1)
		if got := bodies(l); got != "y" {
			t.Error(got)
		}
		commit(t, l)
		stop(t, c)
	}
	// Those of the broker's connections end a little later.
	var left error
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if left = goleak.Find(before); left == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error(left)
}
