package group

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func subscription(owned []string, topics ...string) []byte {
	m := kmsg.NewConsumerMemberMetadata()
	m.Version, m.Topics = 1, topics
	for _, o := range owned {
		i := strings.LastIndex(o, "-")
		p := kmsg.NewConsumerMemberMetadataOwnedPartition()
		p.Topic = o[:i]
		var n int32
		fmt.Sscan(o[i+1:], &n)
		p.Partitions = []int32{n}
		m.OwnedPartitions = append(m.OwnedPartitions, p)
	}
	return m.AppendTo(nil)
}

func assigned(t *testing.T, b []byte) (tps []string) {
	t.Helper()
	a := kmsg.NewConsumerMemberAssignment()
	if err := a.ReadFrom(b); err != nil {
		t.Fatal(err)
	}
	for _, at := range a.Topics {
		for _, p := range at.Partitions {
			tps = append(tps, fmt.Sprintf("%s-%d", at.Topic, p))
		}
	}
	slices.Sort(tps)
	return tps
}

func encoded(g *Group, tps ...int32) []byte {
	return g.encodeAssignment(partitions{topicID("a"): tps}, subscription(nil, "a"))
}

// TestUpgradeAndDowngrade takes a group of classic members over to the
// consumer protocol, member by member, and back.
func TestUpgradeAndDowngrade(t *testing.T) {
	r := newConsumerRig(t, topicMap{"a": 4})
	proto := func(owned ...string) joinOpt {
		return protocols(Protocol{Name: "cooperative-sticky", Metadata: subscription(owned, "a")})
	}
	x, jx := r.member(proto())
	y, jy := r.member(proto())
	r.answered(jx, nil)
	jx = r.join(x, proto())
	rep := r.answered(jx, nil)
	r.answered(jy, nil)
	sx := r.sync(x, rep.Generation, Assignment{x, encoded(r.g, 0, 1)}, Assignment{y, encoded(r.g, 2, 3)})
	r.answered(sx, nil)
	r.answered(r.sync(y, rep.Generation), nil)
	r.log = append(r.log, r.g.Records()...)
	gen := rep.Generation
	r.state(Stable, gen)

	// A member of the new protocol joins.
	n := r.add("new", "a")
	hb := r.beat(n)
	if hb.Code != 0 || hb.Epoch != gen+1 || len(n.owned) != 0 || r.g.Type() != Consumer {
		t.Fatalf("%+v %v", hb, r.g.Type())
	}
	// A member may commit in its old generation, and is told to join again.
	code, each := r.g.CheckCommit(r.now, CommitRequest{MemberID: x, Generation: gen})
	r.code(code, nil)
	if each != nil {
		t.Error("its epoch is its generation still")
	}
	owned := map[string][]string{x: {"a-0", "a-1"}, y: {"a-2", "a-3"}}
	// cycle lets a classic member do what it does until it is stable.
	cycle := func(id string, gen int32) int32 {
		t.Helper()
		for range 5 {
			if r.g.Heartbeat(r.now, id, nil, gen) == 0 {
				return gen
			}
			rep := r.answered(r.join(id, proto(owned[id]...)), nil)
			gen = rep.Generation
			if rep.Leader == id {
				t.Fatal("a member in a consumer group is a leader")
			}
			s := r.answered(r.sync(id, gen), nil)
			owned[id] = assigned(t, s.Assignment)
			r.settle()
		}
		t.Fatalf("%s does not come to rest:\n%s", id, dump(r.g))
		return 0
	}
	gx, gy := gen, gen
	for range 4 {
		gx, gy = cycle(x, gx), cycle(y, gy)
		r.beat(n)
	}
	if len(owned[x])+len(owned[y])+len(n.owned) != 4 || len(n.owned) != 1 || r.g.State() != Stable {
		t.Fatalf("%v %v %v", owned, n.owned, dump(r.g))
	}
	for _, tp := range append(slices.Clone(owned[x]), owned[y]...) {
		if n.owned[tp] {
			t.Fatalf("%s has two owners", tp)
		}
	}
	// Errors of classic members.
	r.code(r.g.Heartbeat(r.now, "nobody", nil, 1), kerr.UnknownMemberID)
	r.code(r.g.Heartbeat(r.now, x, nil, gx+1), kerr.IllegalGeneration)
	r.code(r.g.Heartbeat(r.now, "new", nil, n.epoch), kerr.UnknownMemberID)
	r.answered(r.sync(x, gx-1), kerr.IllegalGeneration)
	code, _ = r.g.CheckCommit(r.now, CommitRequest{MemberID: x, Generation: gx + 1})
	r.code(code, kerr.IllegalGeneration)
	r.answered(r.join("", protocols(Protocol{Name: "range", Metadata: subscription(nil, "a")})), kerr.InconsistentGroupProtocol)
	r.answered(r.join("", protocolType("connect")), kerr.InconsistentGroupProtocol)
	r.answered(r.join("", protocols(Protocol{Name: "cooperative-sticky", Metadata: []byte{1}}), oldClient), kerr.InconsistentGroupProtocol)
	// After a restart everything goes on.
	r.g = r.restored()
	r.code(r.g.Heartbeat(r.now, x, nil, gx), nil)
	r.beat(n)

	// The new one leaves: a classic group again, which rebalances.
	r.beat(n, func(h *HeartbeatRequest) { h.Epoch = -1 })
	delete(r.ms, "new")
	if r.g.Type() != Classic || r.g.State() != PreparingRebalance {
		t.Fatal(r.g.Type(), r.g.State())
	}
	r.code(r.g.Heartbeat(r.now, x, nil, r.g.Generation()), kerr.RebalanceInProgress)
	jx, jy = r.join(x, proto(owned[x]...)), r.join(y, proto(owned[y]...))
	gen = r.answered(jx, nil).Generation
	r.answered(jy, nil)
	r.answered(r.sync(x, gen, Assignment{x, encoded(r.g, 0, 1)}, Assignment{y, encoded(r.g, 2, 3)}), nil)
	r.settle()
	r.state(Stable, gen)

	// Leave them all, and join with the new protocol; and the other way round.
	r.g.Leave(r.now, []LeaveMember{{MemberID: x}, {MemberID: y}})
	r.settle()
	r.g.SetOffset(TopicPartition{"a", 0}, Offset{Offset: 7})
	n.epoch = 0
	r.ms["new"] = n
	r.refused(r.beat(n), nil)
	if len(n.owned) != 4 || r.g.Type() != Consumer {
		t.Fatal(n.owned)
	}
	r.beat(n, func(h *HeartbeatRequest) { h.Epoch = -1 })
	delete(r.ms, "new")
	_, j := r.member(proto())
	r.answered(j, nil)
	if r.g.Type() != Classic {
		t.Fatal(r.g.Type())
	}
	if o, ok := r.g.Offset(TopicPartition{"a", 0}); !ok || o.Offset != 7 {
		t.Error("the offset is lost on the way")
	}
}

func TestMigrationPolicy(t *testing.T) {
	for _, policy := range []MigrationPolicy{MigrateBoth, MigrateUp, MigrateDown, MigrateNothing} {
		r := newConsumerRig(t, topicMap{"a": 4})
		r.g.limits.Migration = policy
		x := r.stable(protocols(Protocol{Name: "range", Metadata: subscription(nil, "a")}))
		gen := r.g.Generation()
		rep := r.beatQuiet(r.add("new", "a"))
		if !policy.up() {
			r.code(rep.Code, kerr.GroupIDNotFound)
			r.state(Stable, gen)
			continue
		}
		// The classic assignment is not Kafka's: nothing is known of it.
		r.code(rep.Code, kerr.GroupIDNotFound)
		r.g.members[x].assignment = encoded(r.g, 0, 1, 2, 3)
		r.code(r.beatQuiet(r.ms["new"]).Code, nil)
		r.g.ConsumerHeartbeat(r.now, HeartbeatRequest{MemberID: "new", Epoch: -1})
		if got := r.g.Type() == Classic; got != policy.down() {
			t.Errorf("%s: classic again: %v", policy, got)
		}
	}
	r := newConsumerRig(t, topicMap{"a": 4})
	r.stable(protocolType("connect"))
	r.code(r.beatQuiet(r.add("new", "a")).Code, kerr.GroupIDNotFound)
	r = newConsumerRig(t, topicMap{"a": 4})
	r.g.limits.Migration = MigrateNothing
	r.beat(r.add("new", "a"))
	r.answered(r.join("", protocols(Protocol{Name: "range", Metadata: subscription(nil, "a")})), kerr.InconsistentGroupProtocol)
}

func (r *crig) beatQuiet(m *testMember) HeartbeatReply {
	rep := r.g.ConsumerHeartbeat(r.now, m.request())
	if rep.Code == 0 {
		m.epoch = rep.Epoch
	}
	return rep
}

// TestBridgeTimeouts: a classic member in a consumer group that does not
// synchronise, or does not join again when told to, is out.
func TestBridgeTimeouts(t *testing.T) {
	r := newConsumerRig(t, topicMap{"a": 4})
	r.beat(r.add("new", "a"))
	proto := protocols(Protocol{Name: "range", Metadata: subscription(nil, "a")})
	id := r.answered(r.join("", proto), kerr.MemberIDRequired).MemberID
	r.answered(r.join(id, proto, session(5*time.Minute)), nil)
	r.settle()
	alive := func(d time.Duration) {
		t.Helper()
		for ; d > 0; d -= 20 * time.Second {
			r.now = r.now.Add(20 * time.Second)
			r.refused(r.beat(r.ms["new"]), nil)
			r.g.Tick(r.now)
			r.settle()
		}
	}
	alive(40 * time.Second)
	if r.g.c.members[id] == nil {
		t.Fatal("out too early")
	}
	alive(20 * time.Second)
	if r.g.c.members[id] != nil {
		t.Fatal("a member that does not synchronise stays")
	}
	r.converge()
	r.shares(4)

	gen := r.answered(r.join(id, proto, session(5*time.Minute)), nil).Generation
	r.answered(r.sync(id, gen), nil)
	r.settle()
	r.beat(r.ms["new"])
	r.beat(r.ms["new"])
	r.code(r.g.Heartbeat(r.now, id, nil, gen), kerr.RebalanceInProgress)
	alive(40 * time.Second)
	r.code(r.g.Heartbeat(r.now, id, nil, gen), kerr.RebalanceInProgress)
	alive(20 * time.Second)
	r.code(r.g.Heartbeat(r.now, id, nil, gen), kerr.UnknownMemberID)
	// Leaving.
	gen = r.answered(r.join(id, proto), nil).Generation
	r.answered(r.sync(id, gen), nil)
	if codes := r.g.Leave(r.now, []LeaveMember{{MemberID: id}, {MemberID: "new"}, {MemberID: "x"}}); codes[0] != 0 ||
		codes[1] != 0 || codes[2] != kerr.UnknownMemberID.Code || r.g.State() != Empty {
		t.Fatal(codes)
	}
	clear(r.ms)
	r.settle()
}

// TestStaticBridge: the last member of the consumer protocol comes back
// with the classic one, under its instance id.
func TestStaticBridge(t *testing.T) {
	r := newConsumerRig(t, topicMap{"a": 4})
	m := r.add("m", "a")
	m.instance = ptr("i")
	r.converge()
	proto := protocols(Protocol{Name: "range", Metadata: subscription(nil, "a")})
	r.answered(r.join("other", proto, static("none")), kerr.UnknownMemberID)
	r.answered(r.join("other", proto, static("i")), kerr.FencedInstanceID)
	delete(r.ms, "m")
	rep := r.answered(r.join("", proto, static("i")), nil)
	r.settle()
	if r.g.Type() != Classic || r.g.State() != Stable {
		t.Fatal(r.g.Type(), r.g.State())
	}
	s := r.answered(r.sync(rep.MemberID, r.g.Generation()), nil)
	if got := assigned(t, s.Assignment); len(got) != 4 || rep.Generation != r.g.Generation() {
		t.Fatal(got, rep.Generation, r.g.Generation())
	}
}

func TestInitialDelay(t *testing.T) {
	r := newRig(t)
	r.g.limits.InitialDelay = 3 * time.Second
	a, ja := r.member()
	r.waits(ja)
	if d := r.g.Deadline(); !d.Equal(t0.Add(3 * time.Second)) {
		t.Fatal(d)
	}
	r.tick(2 * time.Second)
	_, jb := r.member()
	r.tick(time.Second)
	r.waits(ja) // b came meanwhile: once more
	r.tick(3 * time.Second)
	rep := r.answered(ja, nil)
	r.answered(jb, nil)
	if len(rep.Members) != 2 {
		t.Fatal(rep.Members)
	}
	r.answered(r.sync(a, rep.Generation), nil)
	// Later rebalances do not wait.
	_, jc := r.member()
	r.waits(jc)
	// Not beyond the rebalance time-out.
	r = newRig(t)
	r.g.limits.InitialDelay = time.Minute
	_, ja = r.member(rebalance(5 * time.Second))
	r.tick(5 * time.Second)
	r.answered(ja, nil)
}
