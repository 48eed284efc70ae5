package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fastConsumers lets groups of the consumer protocol move quickly. Sessions are
// long: a machine that stands still for a while must cost nobody his partitions.
func fastConsumers(c *Config) {
	c.GroupConsumerMinHeartbeat, c.GroupConsumerHeartbeat = 50*time.Millisecond, 50*time.Millisecond
	c.GroupConsumerSession = 60 * time.Second
	c.GroupMinSession = 500 * time.Millisecond
}

// collector polls members and notes what arrives and who owns what.
type collector struct {
	t  *testing.T
	wg sync.WaitGroup

	mu    sync.Mutex
	got   map[string]int
	owner map[string]string
	wrong string
}

func newCollector(t *testing.T) *collector {
	c := &collector{t: t, got: map[string]int{}, owner: map[string]string{}}
	t.Cleanup(c.wg.Wait)
	return c
}

// start runs a member of the consumer protocol until its client is closed.
func (c *collector) start(b *Broker, name, group, topic string, opts ...kgo.Opt) *kgo.Client {
	c.t.Helper()
	return c.startClassic(b, name, group, topic, append(opts, kgo.ServerSideBalancer())...)
}

// startClassic runs one of the classic protocol.
func (c *collector) startClassic(b *Broker, name, group, topic string, opts ...kgo.Opt) *kgo.Client {
	c.t.Helper()
	lost := func(_ context.Context, _ *kgo.Client, m map[string][]int32) {
		c.mu.Lock()
		defer c.mu.Unlock()
		for t, ps := range m {
			for _, p := range ps {
				if tp := fmt.Sprint(t, "-", p); c.owner[tp] == name {
					delete(c.owner, tp)
				}
			}
		}
	}
	cl := client(c.t, b, append([]kgo.Opt{
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.ClientID(name),
		kgo.AutoCommitInterval(100 * time.Millisecond), kgo.FetchMaxWait(100 * time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.Balancers(kgo.StickyBalancer()),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, m map[string][]int32) {
			c.mu.Lock()
			defer c.mu.Unlock()
			for t, ps := range m {
				for _, p := range ps {
					tp := fmt.Sprint(t, "-", p)
					if other := c.owner[tp]; other != "" && other != name {
						c.wrong = fmt.Sprintf("%s is given to %s while %s has it", tp, name, other)
					}
					c.owner[tp] = name
				}
			}
		}),
		kgo.OnPartitionsRevoked(func(ctx context.Context, cl *kgo.Client, m map[string][]int32) {
			if err := cl.CommitUncommittedOffsets(ctx); err != nil {
				c.t.Errorf("%s: commit what it gives back: %v", name, err)
			}
			lost(ctx, cl, m)
		}), kgo.OnPartitionsLost(lost),
	}, opts...)...)
	c.wg.Go(func() {
		for {
			fs := cl.PollFetches(context.Background())
			if fs.IsClientClosed() {
				return
			}
			c.mu.Lock()
			fs.EachRecord(func(r *kgo.Record) { c.got[string(r.Value)]++ })
			c.mu.Unlock()
		}
	})
	return cl
}

func (c *collector) wait(what string, f func() bool) {
	c.t.Helper()
	for ctx := ctxOf(c.t); ; time.Sleep(10 * time.Millisecond) {
		c.mu.Lock()
		ok, wrong := f(), c.wrong
		c.mu.Unlock()
		switch {
		case wrong != "":
			c.t.Fatal(wrong)
		case ok:
			return
		case ctx.Err() != nil:
			c.mu.Lock()
			defer c.mu.Unlock()
			c.t.Fatalf("%s: owners %v, %d records", what, c.owner, len(c.got))
		}
	}
}

// shared waits until the partitions are shared so, by client name.
func (c *collector) shared(want map[string]int) {
	c.t.Helper()
	c.wait(fmt.Sprint("want ", want), func() bool {
		n := map[string]int{}
		for _, name := range c.owner {
			n[name]++
		}
		return maps.Equal(n, want)
	})
}

func (c *collector) saw(values []string) {
	c.t.Helper()
	c.wait("all records", func() bool {
		return !slices.ContainsFunc(values, func(v string) bool { return c.got[v] == 0 })
	})
}

func spread(t *testing.T, cl *kgo.Client, topic string, parts int32, from, n int) []string {
	t.Helper()
	values := numbers(from, from+n)
	var recs []*kgo.Record
	for i, v := range values {
		recs = append(recs, &kgo.Record{Topic: topic, Partition: int32(i) % parts, Value: []byte(v)})
	}
	if err := cl.ProduceSync(ctxOf(t), recs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return values
}

// TestConsumerGroup has members of the consumer protocol come and go; then
// the broker restarts, and nobody rebalances.
func TestConsumerGroup(t *testing.T) {
	t.Parallel()
	b := startBroker(t, fastConsumers)
	dir, addr := b.cfg.DataDir, b.Addr()
	cl := client(t, b)
	adm := kadm.NewClient(cl)
	ctx := ctxOf(t)
	if _, err := adm.CreateTopic(ctx, 6, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	c := newCollector(t)
	all := spread(t, cl, "t", 6, 0, 600)
	m1 := c.start(b, "m1", "cg", "t")
	c.shared(map[string]int{"m1": 6})
	m2 := c.start(b, "m2", "cg", "t")
	c.shared(map[string]int{"m1": 3, "m2": 3})
	m3 := c.start(b, "m3", "cg", "t", kgo.InstanceID("i3"))
	c.shared(map[string]int{"m1": 2, "m2": 2, "m3": 2})
	all = append(all, spread(t, cl, "t", 6, 600, 600)...)
	c.saw(all)

	describe := func() *kmsg.ConsumerGroupDescribeResponseGroup {
		t.Helper()
		req := kmsg.NewPtrConsumerGroupDescribeRequest()
		req.Groups = []string{"cg", "cg", "nobody"}
		resp, err := req.RequestWith(ctx, cl)
		if err != nil || len(resp.Groups) != 2 || resp.Groups[1].ErrorCode != kerr.GroupIDNotFound.Code {
			t.Fatalf("%v %+v", err, resp)
		}
		return &resp.Groups[0]
	}
	g := describe()
	if g.State != "Stable" || len(g.Members) != 3 || g.AssignorName != "uniform" || g.Epoch != g.AssignmentEpoch {
		t.Fatalf("%+v", g)
	}
	for _, m := range g.Members {
		if m.MemberEpoch != g.Epoch || m.MemberType != 1 || len(m.Assignment.TopicPartitions) != 1 || m.Assignment.TopicPartitions[0].Topic != "t" ||
			m.ClientHost != "/127.0.0.1" || (m.ClientID == "m3") != (m.InstanceID != nil) {
			t.Errorf("%+v", m)
		}
	}
	ls, err := adm.ListGroups(ctx, "Stable")
	if err != nil || len(ls) != 1 || ls["cg"].ProtocolType != "consumer" {
		t.Errorf("%v %+v", err, ls)
	}
	list := kmsg.NewPtrListGroupsRequest()
	list.TypesFilter = []string{"Consumer"}
	lr, err := list.RequestWith(ctx, cl)
	if err != nil || len(lr.Groups) != 1 || lr.Groups[0].GroupType != "consumer" {
		t.Errorf("%v %+v", err, lr)
	}
	list.TypesFilter = []string{"classic"}
	if lr, err = list.RequestWith(ctx, cl); err != nil || len(lr.Groups) != 0 {
		t.Errorf("%v %+v", err, lr)
	}
	if ds, err := adm.DeleteGroups(ctx, "cg"); err != nil || !errors.Is(ds["cg"].Err, kerr.NonEmptyGroup) {
		t.Errorf("%v %+v", err, ds)
	}
	var set kadm.TopicsSet
	set.Add("t", 0)
	if ds, err := adm.DeleteOffsets(ctx, "cg", set); err != nil || !errors.Is(ds["t"][0], kerr.GroupSubscribedToTopic) {
		t.Errorf("%v %+v", err, ds)
	}

	// The broker restarts.
	if err := b.Close(ctx); err != nil {
		t.Fatal(err)
	}
	startBroker(t, func(c *Config) { fastConsumers(c); c.DataDir, c.Listen = dir, addr })
	all = append(all, spread(t, cl, "t", 6, 1200, 600)...)
	c.saw(all)
	if after := describe(); after.Epoch != g.Epoch || len(after.Members) != 3 {
		t.Errorf("epoch %d with %d members, before the restart %d with 3", after.Epoch, len(after.Members), g.Epoch)
	}
	// A topic grows, a member leaves, the others take over.
	if rs, err := adm.CreatePartitions(ctx, 3, "t"); err != nil || rs.Error() != nil {
		t.Fatal(err, rs)
	}
	c.shared(map[string]int{"m1": 3, "m2": 3, "m3": 3})
	m2.Close()
	c.shared(map[string]int{"m1": 5, "m3": 4})
	all = append(all, spread(t, client(t, b), "t", 9, 1800, 900)...)
	c.saw(all)
	m1.Close()
	m3.Close()
	os, err := adm.FetchOffsets(ctx, "cg")
	if err != nil {
		t.Fatal(err)
	}
	var sum int64
	os.Each(func(o kadm.OffsetResponse) { sum += o.At })
	if sum < int64(len(all)) {
		t.Errorf("%d records are committed, %d were consumed", sum, len(all))
	}
}

// TestConsumerGroupLogCompacts compacts the group log under live members and
// restarts from what is left.
func TestConsumerGroupLogCompacts(t *testing.T) {
	t.Parallel()
	b := startBroker(t, fastConsumers)
	dir, addr := b.cfg.DataDir, b.Addr()
	cl := client(t, b)
	ctx := ctxOf(t)
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, 4, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	c := newCollector(t)
	m1, m2 := c.start(b, "m1", "cg", "t"), c.start(b, "m2", "cg", "t")
	c.shared(map[string]int{"m1": 2, "m2": 2})
	all := spread(t, cl, "t", 4, 0, 100)
	c.saw(all)
	dumpOf := func(b *Broker) string {
		e, err := b.groups.entry("cg", false)
		if err != nil || e == nil {
			t.Fatal(e, err)
		}
		defer e.mu.Unlock()
		epoch, target, _, members := e.g.DescribeConsumer()
		return fmt.Sprint(epoch, target, members)
	}
	before := dumpOf(b)
	if err := b.groups.log.compact(ctx, b.groups.inForce); err != nil {
		t.Fatal(err)
	}
	if b.groups.log.part.Offsets().Start == 0 {
		t.Fatal("nothing was deleted")
	}
	if err := b.Close(ctx); err != nil {
		t.Fatal(err)
	}
	b = startBroker(t, func(c *Config) { fastConsumers(c); c.DataDir, c.Listen = dir, addr })
	all = append(all, spread(t, cl, "t", 4, 100, 100)...)
	c.saw(all)
	if after := dumpOf(b); sortedText(after) != sortedText(before) {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
	m1.Close()
	m2.Close()
}

// sortedText makes the order of the members not matter.
func sortedText(s string) string {
	r := []rune(s)
	slices.Sort(r)
	return string(r)
}

// TestGroupChangesType: classic members and those of the consumer protocol in
// one group; every partition has one owner all the time.
func TestGroupChangesType(t *testing.T) {
	t.Parallel()
	b := startBroker(t, fastConsumers)
	cl := client(t, b)
	ctx := ctxOf(t)
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, 6, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	c := newCollector(t)
	classic := []kgo.Opt{
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.SessionTimeout(patience), kgo.HeartbeatInterval(50 * time.Millisecond), kgo.RebalanceTimeout(20 * time.Second),
	}
	old1 := c.startClassic(b, "old1", "cg", "t", classic...)
	old2 := c.startClassic(b, "old2", "cg", "t", classic...)
	c.shared(map[string]int{"old1": 3, "old2": 3})
	all := spread(t, cl, "t", 6, 0, 300)
	new1 := c.start(b, "new1", "cg", "t")
	c.shared(map[string]int{"old1": 2, "old2": 2, "new1": 2})
	typ := func() string {
		e, err := b.groups.entry("cg", false)
		if err != nil || e == nil {
			t.Fatal(e, err)
		}
		defer e.mu.Unlock()
		return e.g.Type().String()
	}
	if got := typ(); got != "consumer" {
		t.Errorf("the group is %s", got)
	}
	all = append(all, spread(t, cl, "t", 6, 300, 300)...)
	c.saw(all)
	old1.Close()
	c.shared(map[string]int{"old2": 3, "new1": 3})
	new1.Close() // and back
	c.shared(map[string]int{"old2": 6})
	if got := typ(); got != "classic" {
		t.Errorf("the group is %s", got)
	}
	all = append(all, spread(t, cl, "t", 6, 600, 300)...)
	c.saw(all)
	old2.Close()
	new2 := c.start(b, "new2", "cg", "t")
	c.shared(map[string]int{"new2": 6})
	all = append(all, spread(t, cl, "t", 6, 900, 300)...)
	c.saw(all)
	new2.Close()
}

func TestGroupSettings(t *testing.T) {
	t.Parallel()
	b := startBroker(t, nil)
	dir := b.cfg.DataDir
	ctx := ctxOf(t)
	alter := func(name, key, value string, op kmsg.IncrementalAlterConfigOp) error {
		t.Helper()
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		rr := kmsg.NewIncrementalAlterConfigsRequestResource()
		rr.ResourceType, rr.ResourceName = kmsg.ConfigResourceTypeGroupConfig, name
		rc := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		rc.Name, rc.Value, rc.Op = key, &value, op
		rr.Configs = append(rr.Configs, rc)
		req.Resources = append(req.Resources, rr)
		resp, err := req.RequestWith(ctx, client(t, b))
		if err != nil {
			t.Fatal(err)
		}
		return kerr.ErrorForCode(resp.Resources[0].ErrorCode)
	}
	for _, tt := range []struct {
		group, key, value string
		want              error
	}{
		{"g", "consumer.session.timeout.ms", "50000", nil},
		{"g", "consumer.heartbeat.interval.ms", "7000", nil},
		{"g", "consumer.session.timeout.ms", "44999", kerr.InvalidConfig},
		{"g", "consumer.session.timeout.ms", "60001", kerr.InvalidConfig},
		{"g", "consumer.session.timeout.ms", "x", kerr.InvalidConfig},
		{"g", "consumer.heartbeat.interval.ms", "4999", kerr.InvalidConfig},
		{"g", "no.such.setting", "1", kerr.InvalidConfig},
		{"", "consumer.session.timeout.ms", "50000", kerr.InvalidRequest},
	} {
		if err := alter(tt.group, tt.key, tt.value, kmsg.IncrementalAlterConfigOpSet); !errors.Is(err, tt.want) {
			t.Errorf("%+v: %v", tt, err)
		}
	}
	if err := b.Close(ctx); err != nil {
		t.Fatal(err)
	}
	b = startBroker(t, func(c *Config) { c.DataDir = dir })
	describe := func() map[string]string {
		t.Helper()
		req := kmsg.NewPtrDescribeConfigsRequest()
		rr := kmsg.NewDescribeConfigsRequestResource()
		rr.ResourceType, rr.ResourceName = kmsg.ConfigResourceTypeGroupConfig, "g"
		req.Resources = append(req.Resources, rr)
		resp, err := req.RequestWith(ctx, client(t, b))
		if err != nil || resp.Resources[0].ErrorCode != 0 {
			t.Fatalf("%v %+v", err, resp)
		}
		got := map[string]string{}
		for _, c := range resp.Resources[0].Configs {
			got[c.Name] = fmt.Sprint(*c.Value, " ", c.Source)
		}
		return got
	}
	if got := describe(); !maps.Equal(got, map[string]string{
		"consumer.session.timeout.ms":     fmt.Sprint("50000 ", kmsg.ConfigSourceGroupConfig),
		"consumer.heartbeat.interval.ms":  fmt.Sprint("7000 ", kmsg.ConfigSourceGroupConfig),
		"consumer.assignment.interval.ms": fmt.Sprint("0 ", kmsg.ConfigSourceDefaultConfig),
	}) {
		t.Errorf("%v", got)
	}
	if s := b.groupConfigs.settings("g"); s.Session != 50*time.Second || s.Heartbeat != 7*time.Second {
		t.Errorf("%+v", s)
	}
	if err := alter("g", "consumer.session.timeout.ms", "", kmsg.IncrementalAlterConfigOpDelete); err != nil {
		t.Fatal(err)
	}
	if s := b.groupConfigs.settings("g"); s.Session != 45*time.Second {
		t.Errorf("%+v", s)
	}
	// Bad broker settings are found at the start.
	for _, change := range []func(*Config){
		func(c *Config) { c.GroupConsumerSession = time.Second },
		func(c *Config) { c.GroupConsumerHeartbeat = time.Minute },
		func(c *Config) { c.GroupConsumerMigration = "sideways" },
		func(c *Config) { c.GroupConsumerAssignors = []string{"best"} },
		func(c *Config) { c.GroupInitialDelay = -1 },
	} {
		cfg := Config{DataDir: t.TempDir(), Listen: "127.0.0.1:0"}
		change(&cfg)
		if _, err := Start(ctx, cfg); !errors.As(err, new(*ConfigError)) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

// TestGroupWritesAreCaughtUp: what the group log did not take is written
// with the next change.
func TestGroupWritesAreCaughtUp(t *testing.T) {
	t.Parallel()
	b := startBroker(t, fastConsumers)
	dir := b.cfg.DataDir
	cl := client(t, b)
	ctx := ctxOf(t)
	produce(t, cl, "t", "x")
	beat := func(id string, epoch int32) *kmsg.ConsumerGroupHeartbeatResponse {
		t.Helper()
		req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		req.Group, req.MemberID, req.MemberEpoch, req.RebalanceTimeoutMillis = "cg", id, epoch, 10_000
		req.SubscribedTopicNames, req.Topics = []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		resp, err := req.RequestWith(ctx, cl)
		if err != nil || resp.ErrorCode != 0 {
			t.Fatalf("%v %+v", err, resp)
		}
		return resp
	}
	beat("m1", 0)
	// As if the write had failed.
	e, err := b.groups.entry("cg", false)
	if err != nil {
		t.Fatal(err)
	}
	e.unwritten = lastOfEach(append(e.g.Snapshot(), e.g.Snapshot()...))
	n := len(e.unwritten)
	if n != len(e.g.Snapshot()) {
		t.Errorf("%d records wait, want %d", n, len(e.g.Snapshot()))
	}
	b.groups.settle(e)
	if len(e.unwritten) != 0 {
		t.Error("they wait still")
	}
	beat("m2", 0)
	if err := b.Close(ctx); err != nil {
		t.Fatal(err)
	}
	b = startBroker(t, func(c *Config) { fastConsumers(c); c.DataDir = dir })
	e, err = b.groups.entry("cg", false)
	if err != nil || e == nil {
		t.Fatal(e, err)
	}
	_, _, _, ms := e.g.DescribeConsumer()
	e.mu.Unlock()
	if len(ms) != 2 {
		t.Errorf("%d members", len(ms))
	}
}

// TestGroupMemoryIsBounded: above MaxGroupBytes nobody new is taken in; who is
// there goes on, and when somebody goes there is room again.
func TestGroupMemoryIsBounded(t *testing.T) {
	t.Parallel()
	b := startBroker(t, func(c *Config) { c.MaxGroupBytes = 200 << 10 })
	cl := client(t, b)
	ctx := ctxOf(t)
	produce(t, cl, "t", "x")
	long := string(bytes.Repeat([]byte("n"), 200))
	beat := func(member string, epoch int32, topics int) *kmsg.ConsumerGroupHeartbeatResponse {
		t.Helper()
		req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		req.Group, req.MemberID, req.MemberEpoch, req.RebalanceTimeoutMillis = "cg", member, epoch, 10_000
		for i := range topics {
			req.SubscribedTopicNames = append(req.SubscribedTopicNames, fmt.Sprint(long, i))
		}
		if epoch >= 0 {
			req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		}
		resp, err := req.RequestWith(ctx, cl)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	commit := func(partition int32, group string) error {
		t.Helper()
		var os kadm.Offsets
		os.Add(kadm.Offset{Topic: "t", Partition: partition, At: 1, LeaderEpoch: -1})
		rs, err := kadm.NewClient(cl).CommitOffsets(ctx, group, os)
		if err != nil {
			t.Fatal(err)
		}
		r, _ := rs.Lookup("t", partition)
		return r.Err
	}
	if err := commit(0, "offsets"); err != nil {
		t.Fatal(err)
	}
	var epoch int32
	members := 0
	for ; ; members++ {
		resp := beat(fmt.Sprint("m", members), 0, 100)
		if resp.ErrorCode == kerr.GroupMaxSizeReached.Code {
			break
		}
		if resp.ErrorCode != 0 || members > 50 {
			t.Fatalf("member %d: %+v", members, resp)
		}
		epoch = resp.MemberEpoch
	}
	if members < 5 {
		t.Errorf("only %d members fit", members)
	}
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis, join.ProtocolType = "other", 10_000, 10_000, "consumer"
	jp := kmsg.NewJoinGroupRequestProtocol()
	jp.Name = "range"
	join.Protocols = append(join.Protocols, jp)
	if resp, err := join.RequestWith(ctx, cl); err != nil || resp.ErrorCode != kerr.GroupMaxSizeReached.Code {
		t.Errorf("%v %+v", err, resp)
	}
	if err := commit(0, "offsets"); err != nil {
		t.Errorf("an offset that is there: %v", err)
	}
	if err := commit(0, "more"); !errors.Is(err, kerr.PolicyViolation) {
		t.Errorf("another group's offset: %v", err)
	}
	if resp := beat(fmt.Sprint("m", members-1), epoch, 1); resp.ErrorCode != 0 {
		t.Errorf("who is there: %+v", resp)
	}
	for i := range members {
		beat(fmt.Sprint("m", i), -1, 0)
	}
	if resp := beat("late", 0, 100); resp.ErrorCode != 0 {
		t.Errorf("there is room again: %+v", resp)
	}
	beat("late", -1, 0)
	if _, err := kadm.NewClient(cl).DeleteGroups(ctx, "cg", "offsets"); err != nil {
		t.Fatal(err)
	}
	if n := b.groups.bytes.Load(); n != 0 {
		t.Errorf("%d bytes are counted without a group", n)
	}
}
