package kafka

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	saslplain "github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

// brokers is cluster for tests that change it while the source runs.
func brokers(t testing.TB, opts ...kfake.Opt) (*kfake.Cluster, string) {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"})}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, strings.Join(c.ListenAddrs(), ",")
}

// health keeps what a component said of itself.
type health struct {
	mu   sync.Mutex
	last error
}

func (h *health) set(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = err
}

func (h *health) says(what string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if what == "" {
		return h.last == nil
	}
	return h.last != nil && strings.Contains(h.last.Error(), what)
}

// startWith is start for tests that look at the health.
func startWith(t testing.TB, addr string, out component.Output, props ...string) *health {
	t.Helper()
	h := &health{}
	s, _, err := configure(t, h.set, append([]string{"kafka.bootstrap.servers=" + addr, "kafka.consumer.auto.offset.reset=earliest", "kafka.consumer.fetch.max.wait.ms=50",
		"kafka.consumer.heartbeat.interval.ms=100", "kafka.consumer.metadata.max.age.ms=250"}, props...)...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, out) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return h
}

func has1(out *output, body string) func() bool {
	return func() bool {
		return slices.ContainsFunc(out.events(), func(e event.Event) bool { return string(e.Body) == body })
	}
}

// A pattern of Java's, with a look-ahead: topics that come later are found,
// and one that goes disturbs nobody.
func TestPattern(t *testing.T) {
	t.Parallel()
	c, addr := brokers(t, kfake.SeedTopics(1, "log-a", "log-skip", "other"))
	produce(t, addr, append(append(records("log-a", 0, "a"), records("log-skip", 0, "skip")...), records("other", 0, "other")...)...)
	out := newOutput()
	h := startWith(t, addr, out, `kafka.topics.regex=log-(?!skip)\w+`)
	until(t, "the topic that is there", has1(out, "a"))
	if err := c.CreateTopic("log-b", 2, nil); err != nil {
		t.Fatal(err)
	}
	produce(t, addr, append(records("log-b", 0, "b0"), records("log-b", 1, "b1")...)...)
	until(t, "the new topic", func() bool { return has1(out, "b0")() && has1(out, "b1")() })
	if err := c.DeleteTopic("log-b"); err != nil {
		t.Fatal(err)
	}
	produce(t, addr, records("log-a", 0, "a2")...)
	until(t, "what comes after a topic went", has1(out, "a2"))
	if got := out.bodies(t, 4); !slices.Equal(got, []string{"a", "a2", "b0", "b1"}) {
		t.Errorf("%q", got)
	}
	if !h.says("") {
		t.Errorf("bad health: %v", h.last)
	}
}

// A topic that is deleted and made again is read as a new one.
func TestTopicMadeAgain(t *testing.T) {
	t.Parallel()
	for _, which := range []string{"kafka.topics=t,quiet", "kafka.topics.regex=[t-u]|quiet"} {
		c, addr := brokers(t, kfake.SeedTopics(1, "t", "quiet"))
		produce(t, addr, records("t", 0, "a", "b")...)
		out := newOutput()
		h := startWith(t, addr, out, which)
		out.bodies(t, 2)
		until(t, "the commit", func() bool { return committed(t, addr, "flume", "t", 0) == 2 })
		if err := c.DeleteTopic("t"); err != nil {
			t.Fatal(err)
		}
		if err := c.CreateTopic("t", 1, nil); err != nil {
			t.Fatal(err)
		}
		produce(t, addr, records("t", 0, "c", "d", "e")...)
		until(t, "the records of the new topic", func() bool { return has1(out, "c")() && has1(out, "e")() })
		until(t, "good health", func() bool { return h.says("") })
		until(t, "the commit", func() bool { return committed(t, addr, "flume", "t", 0) == 3 })
	}
}

// A topic that does not exist is named, and read once it is there.
func TestMissingTopic(t *testing.T) {
	t.Parallel()
	c, addr := brokers(t, kfake.SeedTopics(1, "t"))
	out := newOutput()
	h := startWith(t, addr, out, "kafka.topics=t,absent", "kafka.consumer.allow.auto.create.topics=false")
	until(t, "the word on it", func() bool { return h.says("topic absent does not exist") })
	produce(t, addr, records("t", 0, "a")...)
	until(t, "the other topic", has1(out, "a"))
	if err := c.CreateTopic("absent", 1, nil); err != nil {
		t.Fatal(err)
	}
	produce(t, addr, records("absent", 0, "b")...)
	until(t, "its records", has1(out, "b"))
	until(t, "good health", func() bool { return h.says("") })
}

// A group without offsets starts at the end: what comes after that is read,
// although the first member goes before it has committed anything.
func TestEndIsPinned(t *testing.T) {
	t.Parallel()
	for _, isolation := range []string{"read_uncommitted", "read_committed"} {
		addr := cluster(t, kfake.SeedTopics(2, "t"))
		produce(t, addr, records("t", 0, "before", "before")...)
		full := newOutput()
		refused := make(chan struct{}, 100)
		full.fail = func(*event.Batch) error { refused <- struct{}{}; return component.ErrFull }
		props := []string{"kafka.topics=t", "kafka.consumer.auto.offset.reset=latest", "kafka.consumer.isolation.level=" + isolation, "backoffSleepIncrement=10"}
		_, stop := start(t, addr, full, props...)
		until(t, "the commit of the end", func() bool {
			return committed(t, addr, "flume", "t", 0) == 2 && committed(t, addr, "flume", "t", 1) == 0
		})
		produce(t, addr, append(records("t", 0, "a"), records("t", 1, "b")...)...)
		<-refused
		stop()
		out := newOutput()
		_, stop = start(t, addr, out, props...)
		if got := out.bodies(t, 2); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("%q", got)
		}
		stop()
	}
}

// A commit that failed is repeated though nothing more is read.
func TestCommitIsRepeated(t *testing.T) {
	t.Parallel()
	c, addr := brokers(t, kfake.SeedTopics(1, "t"))
	var mu sync.Mutex
	failures, commits := 0, 0
	c.ControlKey(int16(kmsg.OffsetCommit), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		commits++
		if failures == 2 {
			return nil, nil, false
		}
		failures++
		req := kreq.(*kmsg.OffsetCommitRequest)
		resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
		for _, rt := range req.Topics {
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
	out := newOutput()
	h := startWith(t, addr, out, "kafka.topics=t")
	produce(t, addr, records("t", 0, "a")...)
	until(t, "the word on it", func() bool { return h.says("commit offsets of consumer group flume") })
	until(t, "the commit", func() bool { return committed(t, addr, "flume", "t", 0) == 1 })
	until(t, "good health", func() bool { return h.says("") })
	time.Sleep(3 * pause)
	mu.Lock()
	defer mu.Unlock()
	if commits != failures+1 {
		t.Errorf("%d commits, of which %d failed", commits, failures)
	}
	if n := len(out.events()); n != 1 {
		t.Errorf("%d events", n)
	}
}

// What is in the channels but not committed is committed before the partition
// goes; what is on its way is neither committed nor lost.
func TestRevoked(t *testing.T) {
	t.Parallel()
	for _, strategy := range []string{"RangeAssignor", "CooperativeStickyAssignor"} {
		c, addr := brokers(t, kfake.SeedTopics(2, "t"))
		slow := newOutput()
		gate := make(chan struct{})
		slow.fail = func(*event.Batch) error { <-gate; return nil }
		props := []string{"kafka.topics=t", "kafka.consumer.partition.assignment.strategy=org.apache.kafka.clients.consumer." + strategy}
		_, stop := start(t, addr, slow, props...)
		produce(t, addr, append(records("t", 0, "a"), records("t", 1, "b")...)...)
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		if _, err := c.WaitGroupStable(ctx, "flume", 1); err != nil {
			t.Fatal(err)
		}
		other := newOutput()
		_, stopOther := start(t, addr, other, props...)
		until(t, "the rebalance", func() bool { return c.GroupInfo("flume").State != "Stable" })
		if at := max(committed(t, addr, "flume", "t", 0), committed(t, addr, "flume", "t", 1)); at > 0 {
			t.Errorf("%s: committed %d while the batch was on its way", strategy, at)
		}
		close(gate)
		if _, err := c.WaitGroupStable(ctx, "flume", 2); err != nil {
			t.Fatal(err)
		}
		produce(t, addr, append(records("t", 0, "c"), records("t", 1, "d")...)...)
		until(t, "all records", func() bool { return len(slow.events())+len(other.events()) >= 4 })
		stop()
		stopOther()
		got := append(slow.bodies(t, 0), other.bodies(t, 0)...)
		slices.Sort(got)
		if !slices.Equal(got, []string{"a", "b", "c", "d"}) {
			t.Errorf("%s: %q", strategy, got)
		}
	}
}

// A static member keeps its partition over a restart, and the group does not rebalance.
func TestStaticMember(t *testing.T) {
	t.Parallel()
	c, addr := brokers(t, kfake.SeedTopics(2, "t"))
	props := []string{"kafka.topics=t", "kafka.consumer.session.timeout.ms=60000"}
	one, two := newOutput(), newOutput()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	// The first one leads: kfake rebalances when a leader comes back, which Apache Kafka does not.
	start(t, addr, two, append(props, "kafka.consumer.group.instance.id=two")...)
	if _, err := c.WaitGroupStable(ctx, "flume", 1); err != nil {
		t.Fatal(err)
	}
	_, stop := start(t, addr, one, append(props, "kafka.consumer.group.instance.id=one")...)
	if _, err := c.WaitGroupStable(ctx, "flume", 2); err != nil {
		t.Fatal(err)
	}
	produce(t, addr, append(records("t", 0, "a"), records("t", 1, "b")...)...)
	until(t, "both records", func() bool { return len(one.events()) == 1 && len(two.events()) == 1 })
	generation := c.GroupInfo("flume").Epoch
	stop()
	mine := string(one.events()[0].Body)
	produce(t, addr, append(records("t", 0, "a"), records("t", 1, "b")...)...)
	again := newOutput()
	start(t, addr, again, append(props, "kafka.consumer.group.instance.id=one")...)
	until(t, "the record after the restart", func() bool { return len(again.events()) == 1 })
	if got := string(again.events()[0].Body); got != mine {
		t.Errorf("after the restart the member reads %q, before it %q", got, mine)
	}
	if g := c.GroupInfo("flume").Epoch; g != generation {
		t.Errorf("the group was rebalanced: generation %d, then %d", generation, g)
	}
}

// A user who may not read is told so, once, and reads on when he may.
func TestNotAuthorized(t *testing.T) {
	t.Parallel()
	read := func(res kmsg.ACLResourceType, name string) kfake.ACL {
		return kfake.ACL{Resource: res, Name: name, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: kmsg.ACLOperationRead, Allow: true}
	}
	for _, tt := range []struct {
		name  string
		acl   kfake.ACL // what the user may do from the start
		grant kadm.ACLBuilder
		want  string
	}{
		{"group", read(kmsg.ACLResourceTypeTopic, "t"), *kadm.NewACLs().Groups("flume"), "may not use the consumer group"},
		{"topic", read(kmsg.ACLResourceTypeGroup, "flume"), *kadm.NewACLs().Topics("t"), "may not read topic t"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, addr := brokers(t, kfake.EnableSASL(), kfake.EnableACLs(), kfake.SeedTopics(1, "t"),
				kfake.Superuser("PLAIN", "admin", "secret"), kfake.User("PLAIN", "u", "p", tt.acl))
			admin, err := kgo.NewClient(kgo.SeedBrokers(addr), plain("admin", "secret"))
			if err != nil {
				t.Fatal(err)
			}
			defer admin.Close()
			if err := admin.ProduceSync(context.Background(), records("t", 0, "a")...).FirstErr(); err != nil {
				t.Fatal(err)
			}
			out := newOutput()
			h := startWith(t, addr, out, "kafka.topics=t", "kafka.consumer.security.protocol=SASL_PLAINTEXT", "kafka.consumer.sasl.mechanism=PLAIN",
				`kafka.consumer.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="p";`)
			until(t, "the word on it", func() bool { return h.says(tt.want) })
			b := tt.grant.Allow("User:u").Operations(kadm.OpRead, kadm.OpDescribe).ResourcePatternType(kadm.ACLPatternLiteral)
			if _, err := kadm.NewClient(admin).CreateACLs(context.Background(), b); err != nil {
				t.Fatal(err)
			}
			until(t, "the record", has1(out, "a"))
			until(t, "good health", func() bool { return h.says("") })
		})
	}
}

func plain(user, password string) kgo.Opt {
	return kgo.SASL(saslplain.Auth{User: user, Pass: password}.AsMechanism())
}
