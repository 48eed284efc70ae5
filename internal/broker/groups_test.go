package broker

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/sluice-data/sluice/internal/broker/group"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// shortSessions lets tests lose members quickly.
func shortSessions(c *Config) { c.GroupMinSession = 500 * time.Millisecond }

func member(t *testing.T, b *Broker, group, topic string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	return client(t, b, append([]kgo.Opt{
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.SessionTimeout(patience), kgo.HeartbeatInterval(50 * time.Millisecond), kgo.RebalanceTimeout(20 * time.Second),
		kgo.FetchMaxWait(100 * time.Millisecond),
	}, opts...)...)
}

// TestGroupRebalances has three members come and go; every record is seen,
// and the partitions are always shared among those who are there.
func TestGroupRebalances(t *testing.T) {
	t.Parallel()
	b := startBroker(t, shortSessions)
	ctx := ctxOf(t)
	adm := kadm.NewClient(client(t, b))
	if _, err := adm.CreateTopic(ctx, 6, 1, nil, "g-topic"); err != nil {
		t.Fatal(err)
	}
	for _, balancer := range []kgo.GroupBalancer{kgo.RangeBalancer(), kgo.CooperativeStickyBalancer()} {
		name := "g-" + balancer.ProtocolName()
		t.Run(name, func(t *testing.T) {
			poll := func(cl *kgo.Client) {
				go func() {
					for {
						if cl.PollFetches(ctx).IsClientClosed() || ctx.Err() != nil {
							return
						}
					}
				}()
			}
			assigned := func(want int) {
				t.Helper()
				for {
					ds, err := adm.DescribeGroups(ctx, name)
					if err != nil {
						t.Fatal(err)
					}
					d, n := ds[name], 0
					seen := map[int32]bool{}
					for _, m := range d.Members {
						if a, ok := m.Assigned.AsConsumer(); ok {
							for _, at := range a.Topics {
								for _, p := range at.Partitions {
									if seen[p] {
										t.Fatalf("partition %d has two owners", p)
									}
									seen[p] = true
								}
								if len(at.Partitions) > 0 {
									n++
								}
							}
						}
					}
					if d.State == "Stable" && len(d.Members) == want && n == want && len(seen) == 6 {
						return
					}
					select {
					case <-ctx.Done():
						t.Fatalf("not %d members with 6 partitions together: %+v", want, d)
					case <-time.After(20 * time.Millisecond):
					}
				}
			}
			m1 := member(t, b, name, "g-topic", kgo.Balancers(balancer))
			poll(m1)
			assigned(1)
			m2 := member(t, b, name, "g-topic", kgo.Balancers(balancer))
			poll(m2)
			m3 := member(t, b, name, "g-topic", kgo.Balancers(balancer), kgo.InstanceID("static-"+name), kgo.SessionTimeout(2*time.Second))
			poll(m3)
			assigned(3)
			m1.Close() // leaves
			assigned(2)
			m3.Close() // static: stays until its session ends
			assigned(1)
		})
	}
}

// TestCommittedOffsetsSurviveARestart also has a member go on in its
// generation on the other side of the restart.
func TestCommittedOffsetsSurviveARestart(t *testing.T) {
	t.Parallel()
	b := startBroker(t, shortSessions)
	dir, addr := b.cfg.DataDir, b.Addr()
	p := client(t, b)
	produce(t, p, "r", numbers(0, 100)...)
	// The client rejoins when a heartbeat finds no broker, however soon one comes
	// back: it must send none meanwhile, and one of ours is sent below.
	m := member(t, b, "rg", "r", kgo.HeartbeatInterval(patience/2), kgo.Balancers(kgo.RangeBalancer()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	consume(t, m, 100)
	if err := m.CommitUncommittedOffsets(ctxOf(t)); err != nil {
		t.Fatal(err)
	}
	id, generation := m.GroupMetadata()
	if err := b.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	b = startBroker(t, func(c *Config) { c.DataDir, c.Listen = dir, addr; shortSessions(c) })
	produce(t, p, "r", numbers(100, 150)...)
	equal(t, consume(t, m, 50), numbers(100, 150))
	if err := m.CommitUncommittedOffsets(ctxOf(t)); err != nil {
		t.Fatal(err)
	}
	if _, g := m.GroupMetadata(); g != generation {
		t.Errorf("the generation went from %d to %d: the membership was lost", generation, g)
	}
	if code := (groupCaller{t, client(t, b)}).heartbeat("rg", id, generation); code != 0 {
		t.Errorf("heartbeat of the generation before the restart: error %d", code)
	}
	m.CloseAllowingRebalance()
	adm := kadm.NewClient(client(t, b))
	os, err := adm.FetchOffsets(ctxOf(t), "rg")
	if err != nil {
		t.Fatal(err)
	}
	if o, ok := os.Lookup("r", 0); !ok || o.At != 150 {
		t.Errorf("committed: %+v", o)
	}
}

func TestOffsetAPIs(t *testing.T) {
	t.Parallel()
	b := startBroker(t, func(c *Config) { c.DisableAutoCreate = true })
	cl := client(t, b)
	adm := kadm.NewClient(cl)
	ctx := ctxOf(t)
	if _, err := adm.CreateTopic(ctx, 1, 1, nil, "o"); err != nil {
		t.Fatal(err)
	}
	produce(t, cl, "o", numbers(0, 10)...)
	var os kadm.Offsets
	os.Add(kadm.Offset{Topic: "o", Partition: 0, At: 5, LeaderEpoch: 0, Metadata: "why"})
	os.Add(kadm.Offset{Topic: "o", Partition: 7, At: 5})
	os.Add(kadm.Offset{Topic: "missing", Partition: 0, At: 5})
	rs, err := adm.CommitOffsets(ctx, "og", os)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		topic string
		part  int32
		want  error
	}{{"o", 0, nil}, {"o", 7, kerr.UnknownTopicOrPartition}, {"missing", 0, kerr.UnknownTopicOrPartition}} {
		if r, _ := rs.Lookup(tt.topic, tt.part); !errors.Is(r.Err, tt.want) {
			t.Errorf("%s-%d: %v, want %v", tt.topic, tt.part, r.Err, tt.want)
		}
	}
	got, err := adm.FetchOffsets(ctx, "og")
	if o, _ := got.Lookup("o", 0); err != nil || o.At != 5 || o.Metadata != "why" {
		t.Errorf("%v %+v", err, o)
	}
	// kafkajs commits -2 and -1 for the start and the end of a partition.
	for _, at := range []int64{-2, -1} {
		var os kadm.Offsets
		os.Add(kadm.Offset{Topic: "o", Partition: 0, At: at})
		if err := adm.CommitAllOffsets(ctx, "og", os); err != nil {
			t.Errorf("commit of %d: %v", at, err)
		}
		got, err := adm.FetchOffsets(ctx, "og")
		if o, _ := got.Lookup("o", 0); err != nil || o.At != at {
			t.Errorf("after a commit of %d: %v %+v", at, err, o)
		}
	}
	if got, err = adm.FetchOffsets(ctx, "no-such-group"); err != nil || len(got) != 0 {
		t.Errorf("a group that is not there: %v %v", err, got)
	}
	gs, err := adm.ListGroups(ctx)
	if err != nil || !slices.Equal(slices.Collect(maps.Keys(gs)), []string{"og"}) || gs["og"].State != "Empty" {
		t.Errorf("%v %+v", err, gs)
	}
	var del kadm.TopicsSet
	del.Add("o", 0)
	if _, err := adm.DeleteOffsets(ctx, "og", del); err != nil {
		t.Fatal(err)
	}
	if got, err = adm.FetchOffsets(ctx, "og"); err != nil || len(got) != 0 {
		t.Errorf("after the deletion: %v %v", err, got)
	}
	ds, err := adm.DeleteGroups(ctx, "og", "no-such-group")
	if err != nil || ds["og"].Err != nil || !errors.Is(ds["no-such-group"].Err, kerr.GroupIDNotFound) {
		t.Errorf("%v %+v", err, ds)
	}

	// Live groups are not deleted, nor are the offsets of what they consume.
	m := member(t, b, "live", "o", kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	consume(t, m, 10)
	if ds, err = adm.DeleteGroups(ctx, "live"); err != nil || !errors.Is(ds["live"].Err, kerr.NonEmptyGroup) {
		t.Errorf("%v %+v", err, ds)
	}
	dos, err := adm.DeleteOffsets(ctx, "live", del)
	if r := dos["o"][0]; err != nil || !errors.Is(r, kerr.GroupSubscribedToTopic) {
		t.Errorf("%v %+v", err, dos)
	}
	// A stranger's commit into a live group.
	rs, err = adm.CommitOffsets(ctx, "live", os)
	if r, _ := rs.Lookup("o", 0); err != nil || !errors.Is(r.Err, kerr.UnknownMemberID) {
		t.Errorf("%v %+v", err, r)
	}
	// Nobody else writes the group log.
	err = client(t, b).ProduceSync(ctx, &kgo.Record{Topic: groupTopic, Value: []byte("x")}).FirstErr()
	if !errors.Is(err, kerr.InvalidTopicException) {
		t.Errorf("produce to the group log: %v", err)
	}
}

func TestDeadClientsJoinIsDropped(t *testing.T) {
	t.Parallel()
	b := startBroker(t, shortSessions)
	cl := client(t, b)
	produce(t, cl, "dc", "x")
	// It does not hear of the rebalance before it is told below: it would join, and nobody had to wait.
	m := member(t, b, "dcg", "dc", kgo.HeartbeatInterval(patience/2), kgo.Balancers(kgo.RangeBalancer()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	consume(t, m, 1)
	if err := m.CommitUncommittedOffsets(ctxOf(t)); err != nil {
		t.Fatal(err)
	}
	// A second client joins, waits, and its connection is cut: it loses its place a session's time later,
	// long before the rebalance ends.
	gone := client(t, b)
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis, join.ProtocolType = "dcg", 500, 1_000_000, "consumer"
	jp := kmsg.NewJoinGroupRequestProtocol()
	jp.Name, jp.Metadata = "range", []byte{}
	join.Protocols = append(join.Protocols, jp)
	resp, err := join.RequestWith(ctxOf(t), gone.Broker(1))
	if err != nil || resp.ErrorCode != kerr.MemberIDRequired.Code {
		t.Fatalf("%v %+v", err, resp)
	}
	join.MemberID = resp.MemberID
	jctx, cancel := context.WithCancel(ctxOf(t))
	errc := make(chan error, 1)
	go func() { _, err := join.RequestWith(jctx, gone.Broker(1)); errc <- err }()
	for b.apis[11].stats.requests() < 4 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-errc
	gone.Close()
	adm := kadm.NewClient(cl)
	alone := func(state string) {
		t.Helper()
		for ctx := ctxOf(t); ; time.Sleep(20 * time.Millisecond) {
			ds, err := adm.DescribeGroups(ctx, "dcg")
			if err != nil {
				t.Fatalf("not one member, %s: %v", state, err)
			}
			if d := ds["dcg"]; d.State == state && len(d.Members) == 1 {
				return
			}
		}
	}
	alone("PreparingRebalance")
	// The first member alone makes the next generation.
	m.ForceRebalance()
	produce(t, cl, "dc", "y")
	equal(t, consume(t, m, 1), []string{"y"})
	alone("Stable")
}

// TestGroupLogCompacts fills the group log with commits until it is
// compacted, and restarts.
func TestGroupLogCompacts(t *testing.T) {
	t.Parallel()
	b := startBroker(t, func(c *Config) { c.RetentionCheck = 20 * time.Millisecond })
	dir := b.cfg.DataDir
	cl := client(t, b)
	produce(t, cl, "c", "x")
	ctx := ctxOf(t)
	meta := string(make([]byte, 4000))
	e, err := b.groups.entry("many", true)
	if err != nil {
		t.Fatal(err)
	}
	e.mu.Unlock()
	id := b.topics.byName("c").id
	commits := int64(0)
	for ; b.groups.log.part.Offsets().Start == 0; commits++ {
		if commits > 3000 { // more than enough: wait for the upkeep
			time.Sleep(time.Millisecond)
		}
		if ctx.Err() != nil {
			t.Fatal("the group log is not compacted")
		}
		e.mu.Lock()
		_, err := b.groups.commit(ctx, e, time.Now(), map[group.TopicPartition]group.Offset{
			{Topic: "c", Partition: 0}: {Offset: commits, Metadata: meta, Committed: time.Now(), TopicID: id},
		})
		e.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
	}
	for b.groups.log.part.Size() > compactMin+4<<20 {
		if ctx.Err() != nil {
			t.Fatalf("%d bytes stay after compaction", b.groups.log.part.Size())
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err := b.Close(ctx); err != nil {
		t.Fatal(err)
	}
	b = startBroker(t, func(c *Config) { c.DataDir = dir })
	os, err := kadm.NewClient(client(t, b)).FetchOffsets(ctx, "many")
	if o, ok := os.Lookup("c", 0); err != nil || !ok || o.At != commits-1 {
		t.Errorf("%v, committed %d, want %d", err, o.At, commits-1)
	}
}

// TestNoCompactionOfStoppedGroups: a stopping broker takes the members out of
// its groups; a compaction at that moment would write them down as empty.
func TestNoCompactionOfStoppedGroups(t *testing.T) {
	t.Parallel()
	b := startBroker(t, shortSessions)
	produce(t, client(t, b), "s", numbers(0, 10)...)
	ctx, cancel := context.WithCancel(t.Context())
	m := member(t, b, "sg", "s", kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.WithContext(ctx))
	consume(t, m, 10)
	cancel() // it could not leave the group
	b.groups.stop()
	before := b.groups.log.part.Offsets()
	if err := b.groups.log.compact(t.Context(), b.groups.inForce); !errors.Is(err, errStopping) {
		t.Errorf("compaction: %v, want %v", err, errStopping)
	}
	if after := b.groups.log.part.Offsets(); after != before {
		t.Errorf("the group log went from %+v to %+v", before, after)
	}
}

func TestOffsetsOfEmptyGroupsExpire(t *testing.T) {
	t.Parallel()
	b := startBroker(t, func(c *Config) { c.RetentionCheck, c.OffsetsRetention = 20*time.Millisecond, 100*time.Millisecond })
	cl := client(t, b)
	adm := kadm.NewClient(cl)
	produce(t, cl, "e", "x")
	var os kadm.Offsets
	os.Add(kadm.Offset{Topic: "e", Partition: 0, At: 1, LeaderEpoch: -1})
	if err := adm.CommitAllOffsets(ctxOf(t), "eg", os); err != nil {
		t.Fatal(err)
	}
	for ctx := ctxOf(t); ; time.Sleep(10 * time.Millisecond) {
		gs, err := adm.ListGroups(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(gs) == 0 {
			return
		}
	}
}

// TestAnswersComeInOrder sends requests of one connection without waiting and
// checks the order of the answers.
func TestAnswersComeInOrder(t *testing.T) {
	t.Parallel()
	b := startBroker(t, nil)
	produce(t, client(t, b), "p", "x")
	c := rawDial(t, b)
	fetch := kmsg.NewPtrFetchRequest()
	fetch.Version, fetch.MaxWaitMillis, fetch.MinBytes, fetch.MaxBytes = 4, 200, 1, 1<<20
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic = "p"
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.FetchOffset, rp.PartitionMaxBytes = 1, 1<<20
	rt.Partitions = append(rt.Partitions, rp)
	fetch.Topics = append(fetch.Topics, rt)
	av := kmsg.NewPtrApiVersionsRequest()
	meta := kmsg.NewPtrMetadataRequest()
	for i := range int32(30) {
		switch i % 3 {
		case 0:
			c.send(i, fetch) // waits, and those behind it with it
		case 1:
			c.send(i, av)
		default:
			c.send(i, meta)
		}
	}
	for i := range int32(30) {
		if corr, _ := c.receive(); corr != i {
			t.Fatalf("answer %d came in place %d", corr, i)
		}
	}
}

// TestFindCoordinatorMakesTheLog looks for a coordinator before there is a group: clients wait for the topic then.
func TestFindCoordinatorMakesTheLog(t *testing.T) {
	b := startBroker(t, nil)
	c := client(t, b)
	ask := func() int16 {
		t.Helper()
		req := kmsg.NewPtrMetadataRequest()
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = kmsg.StringPtr(groupTopic)
		req.Topics = append(req.Topics, rt)
		resp, err := req.RequestWith(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return resp.Topics[0].ErrorCode
	}
	if code := ask(); code == 0 {
		t.Fatal("the topic is there before anybody asked for a coordinator")
	}
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorKey = "g"
	req.CoordinatorKeys = []string{"g"}
	if _, err := req.RequestWith(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if code := ask(); code != 0 {
		t.Fatalf("the topic is not there: error %d", code)
	}
}
