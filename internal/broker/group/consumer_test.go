package group

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

func TestConsumerGroupReconciles(t *testing.T) {
	r := newConsumerRig(t, topicMap{"a": 6})
	a := r.add("a1", "a")
	rep := r.beat(a)
	if rep.Code != 0 || rep.Epoch != 2 || !rep.Assigned || len(a.owned) != 6 || rep.Interval != 5*time.Second {
		t.Fatalf("%+v", rep)
	}
	if r.g.State() != Stable || r.g.Type() != Consumer || r.g.ProtocolType() != "consumer" {
		t.Fatalf("%v %v %q", r.g.State(), r.g.Type(), r.g.ProtocolType())
	}
	// A second member gets nothing before the first has given it back.
	b := r.add("b1", "a")
	if rep = r.beat(b); rep.Epoch != 3 || !rep.Assigned || len(rep.Assignment) != 0 {
		t.Fatalf("%+v", rep)
	}
	if r.g.State() != Reconciling {
		t.Fatal(r.g.State())
	}
	a.lazy = true
	if rep = r.beat(a); rep.Epoch != 2 || !rep.Assigned || len(rep.Assignment[0].Partitions) != 3 {
		t.Fatalf("%+v", rep)
	}
	if rep = r.beat(b); len(b.owned) != 0 || rep.Assigned {
		t.Fatalf("%+v", rep)
	}
	a.lazy = false
	// It says that it still has all: nothing moves.
	if rep = r.beat(a); rep.Epoch != 2 || rep.Assigned {
		t.Fatalf("%+v", rep)
	}
	a.owned = map[string]bool{}
	for id, ps := range r.g.c.members["a1"].assigned {
		for p := range ps {
			a.owned[tpName(id, p)] = true
		}
	}
	if rep = r.beat(a); rep.Epoch != 3 {
		t.Fatalf("%+v", rep)
	}
	if rep = r.beat(b); len(b.owned) != 3 {
		t.Fatalf("%+v", rep)
	}
	r.shares(3, 3)
	if r.g.State() != Stable {
		t.Fatal(r.g.State())
	}
	// It leaves, and the other gets all.
	r.refused(r.beat(b, func(h *HeartbeatRequest) { h.Epoch = -1 }), nil)
	delete(r.ms, "b1")
	if r.g.State() != Assigning {
		t.Fatal(r.g.State())
	}
	r.converge()
	r.shares(6)
	r.refused(r.beat(a, func(h *HeartbeatRequest) { h.Epoch = -1 }), nil)
	delete(r.ms, "a1")
	if r.g.State() != Empty || !r.g.Idle() || !r.g.Deadline().IsZero() {
		t.Fatal(r.g.State())
	}
	r.settle()
}

func TestConsumerHeartbeatRefusals(t *testing.T) {
	r := newConsumerRig(t, topicMap{"a": 2})
	m := r.add("m", "a")
	for _, tt := range []struct {
		name   string
		change func(*HeartbeatRequest)
		want   *kerr.Error
	}{
		{"not there", func(h *HeartbeatRequest) { h.Epoch = 1 }, kerr.GroupIDNotFound},
		{"not there, leave", func(h *HeartbeatRequest) { h.Epoch = -1 }, kerr.GroupIDNotFound},
		{"no member id", func(h *HeartbeatRequest) { h.MemberID = "" }, kerr.InvalidRequest},
		{"no rebalance time-out", func(h *HeartbeatRequest) { h.Rebalance = -1 }, kerr.InvalidRequest},
		{"no subscription", func(h *HeartbeatRequest) { h.Topics = nil }, kerr.InvalidRequest},
		{"no owned partitions", func(h *HeartbeatRequest) { h.Owned = nil }, kerr.InvalidRequest},
		{"owned partitions", func(h *HeartbeatRequest) { h.Owned = []TopicPartitions{{}} }, kerr.InvalidRequest},
		{"empty instance", func(h *HeartbeatRequest) { h.InstanceID = new(string) }, kerr.InvalidRequest},
		{"empty rack", func(h *HeartbeatRequest) { h.RackID = new(string) }, kerr.InvalidRequest},
		{"-2 without instance", func(h *HeartbeatRequest) { h.Epoch = -2 }, kerr.InvalidRequest},
		{"-3", func(h *HeartbeatRequest) { h.Epoch = -3 }, kerr.InvalidRequest},
		{"assignor", func(h *HeartbeatRequest) { h.Assignor = ptr("best") }, kerr.UnsupportedAssignor},
		{"regex", func(h *HeartbeatRequest) { h.Regex = ptr("a)(b") }, kerr.InvalidRegularExpression},
		{"regex, too long", func(h *HeartbeatRequest) { h.Regex = ptr(strings.Repeat("a", 50_000)) }, kerr.InvalidRegularExpression},
		{"regex, too large", func(h *HeartbeatRequest) { h.Regex = ptr("(" + strings.Repeat("[a-c]d", 20) + "){1000}") }, kerr.InvalidRegularExpression},
	} {
		if rep := r.beat(m, tt.change); rep.Code != tt.want.Code || rep.Message == "" {
			t.Errorf("%s: %v %q, want %v", tt.name, kerr.ErrorForCode(rep.Code), rep.Message, tt.want)
		}
		if !r.g.Idle() || len(r.log) > 0 {
			t.Fatalf("%s: the group was changed", tt.name)
		}
	}
	// A client of version 0 gets an id.
	rep := r.g.ConsumerHeartbeat(r.now, HeartbeatRequest{NewMemberID: "fresh", Rebalance: time.Second, Topics: []string{"a"}, Owned: []TopicPartitions{}, Settings: settings})
	if rep.Code != 0 || rep.MemberID != "fresh" {
		t.Fatalf("%+v", rep)
	}
	r.settle()
	r.refused(r.beat(m), nil)
	stranger := r.add("stranger", "a")
	stranger.epoch = 2
	r.refused(r.beat(stranger), kerr.UnknownMemberID)
	delete(r.ms, "stranger")
	// Epochs: too new, too old, the previous one with and without what is not its.
	r.refused(r.beat(m, func(h *HeartbeatRequest) { h.Epoch = 99 }), kerr.FencedMemberEpoch)
	old := m.epoch
	r.topics["a"] = 4
	r.beat(r.g2("fresh"))
	r.beat(m)
	if m.epoch != old+1 {
		t.Fatalf("epoch %d after %d", m.epoch, old)
	}
	r.refused(r.beat(m, func(h *HeartbeatRequest) { h.Epoch = old; h.Owned = []TopicPartitions{} }), nil)
	r.refused(r.beat(m, func(h *HeartbeatRequest) { h.Epoch = old; h.Owned = nil }), kerr.FencedMemberEpoch)
	r.refused(r.beat(m, func(h *HeartbeatRequest) {
		h.Epoch, h.Owned = old, []TopicPartitions{{ID: topicID("a"), Partitions: []int32{0, 1, 2, 3}}}
	}), kerr.FencedMemberEpoch)
	// Full.
	for i := range 8 {
		r.refused(r.beat(r.add(fmt.Sprint("n", i), "a")), nil)
	}
	r.refused(r.beat(r.add("eleventh", "a")), kerr.GroupMaxSizeReached)
}

func TestConsumerMembersExpire(t *testing.T) {
	r := newConsumerRig(t, topicMap{"a": 4})
	a, b := r.add("a", "a"), r.add("b", "a")
	r.converge()
	r.shares(2, 2)
	// b falls silent.
	r.now = r.now.Add(30 * time.Second)
	r.beat(a)
	delete(r.ms, "b")
	if d := r.g.Deadline(); !d.Equal(t0.Add(45 * time.Second)) {
		t.Fatal(d)
	}
	r.tick(15 * time.Second)
	r.settle()
	r.converge()
	r.shares(4)
	r.ms["b"] = b
	b.owned = map[string]bool{}
	r.refused(r.beat(b), kerr.UnknownMemberID)
	// It joins again under its id; a does not give back in time.
	b.epoch = 0
	r.refused(r.beat(b), nil)
	a.lazy = true
	r.beat(a)
	for range 4 {
		r.now = r.now.Add(15 * time.Second)
		r.beat(b)
		r.beat(a)
		r.g.Tick(r.now)
		r.settle()
	}
	a.owned = map[string]bool{}
	r.refused(r.beat(a), kerr.UnknownMemberID)
	delete(r.ms, "a")
	r.converge()
	r.shares(4)
}

func TestStaticConsumers(t *testing.T) {
	r := newConsumerRig(t, topicMap{"a": 4})
	a, b := r.add("a", "a"), r.add("b", "a")
	a.instance, b.instance = ptr("ia"), ptr("ib")
	r.converge()
	r.shares(2, 2)
	had := maps.Clone(a.owned)
	epoch := r.g.c.epoch
	// Another with its instance id, while it is there.
	twin := r.add("twin", "a")
	twin.instance = ptr("ia")
	r.refused(r.beat(twin), kerr.UnreleasedInstanceID)
	// It goes for a while, and its successor gets what it had, without a new epoch.
	r.refused(r.beat(a, func(h *HeartbeatRequest) { h.Epoch = -2 }), nil)
	a.owned = map[string]bool{}
	if r.g.State() != Reconciling || r.g.c.epoch != epoch {
		t.Fatal(r.g.State(), r.g.c.epoch)
	}
	r.beat(b)
	r.shares(0, 0, 2)
	r.refused(r.beat(twin), nil)
	if !maps.Equal(twin.owned, had) || r.g.c.epoch != epoch || twin.epoch != epoch {
		t.Fatalf("%v epoch %d, had %v epoch %d", twin.owned, twin.epoch, had, epoch)
	}
	a.epoch = epoch
	r.refused(r.beat(a), kerr.FencedInstanceID)
	r.refused(r.beat(a, func(h *HeartbeatRequest) { h.Epoch = -1 }), kerr.FencedInstanceID)
	r.refused(r.beat(a, func(h *HeartbeatRequest) { h.Epoch = -1; h.InstanceID = ptr("none") }), kerr.UnknownMemberID)
	r.refused(r.beat(a, func(h *HeartbeatRequest) { h.InstanceID = ptr("none") }), kerr.UnknownMemberID)
	delete(r.ms, "a")
	// Gone for too long.
	r.refused(r.beat(twin, func(h *HeartbeatRequest) { h.Epoch = -2 }), nil)
	delete(r.ms, "twin")
	r.now = r.now.Add(40 * time.Second)
	r.beat(b)
	r.tick(10 * time.Second)
	r.settle()
	r.converge()
	r.shares(4)
}

func TestConsumerSubscriptions(t *testing.T) {
	r := newConsumerRig(t, topicMap{"a": 2, "b": 2})
	a := r.add("m", "a", "none")
	r.converge()
	r.shares(2)
	epoch := r.g.c.epoch
	subscribe := func(m *testMember, regex *string, topics ...string) {
		t.Helper()
		m.names, m.regex = topics, regex
		if topics == nil {
			topics = []string{}
		}
		r.refused(r.beat(m, func(h *HeartbeatRequest) { h.Topics, h.Regex = topics, regex }), nil)
	}
	subscribe(a, nil, "none", "a", "a") // the same
	if r.g.c.epoch != epoch {
		t.Fatal("the same subscription is a new epoch")
	}
	subscribe(a, nil, "b")
	if sub, _ := r.g.Subscribed("b"); !sub {
		t.Error("not subscribed to b")
	}
	if sub, known := r.g.Subscribed("a"); sub || !known {
		t.Error("subscribed to a")
	}
	r.converge()
	if !a.owned["b-0"] || !a.owned["b-1"] || len(a.owned) != 2 {
		t.Fatal(a.owned)
	}
	// Topics that appear and grow.
	subscribe(a, ptr("x.*|a"))
	r.converge()
	r.shares(2)
	r.topics["x1"], r.topics["y"] = 3, 1
	r.converge()
	r.shares(5)
	if sub, _ := r.g.Subscribed("x1"); !sub {
		t.Error("not subscribed to x1")
	}
	r.topics["x1"] = 4
	r.converge()
	r.shares(6)
	delete(r.topics, "a")
	r.converge()
	r.shares(4)
	epoch = r.g.c.epoch
	r.topics["other"] = 1 // nobody's
	r.converge()
	if r.g.c.epoch != epoch {
		t.Fatal("a topic that nobody wants is a new epoch")
	}
	// A second member with the regular expression; the whole name has to match.
	b := r.add("n")
	b.regex = ptr("x.*|a")
	r.topics["bax"] = 1
	r.converge()
	r.shares(2, 2)
	subscribe(a, ptr(""), "y")
	r.converge()
	if len(a.owned) != 1 || len(b.owned) != 4 || len(r.g.c.regexes) != 1 {
		t.Fatal(a.owned, b.owned, r.g.c.regexes)
	}
	subscribe(b, ptr(""), "y")
	r.converge()
	if len(r.g.c.regexes) != 0 {
		t.Fatal(r.g.c.regexes)
	}
	subscribe(b, nil)
	r.converge()
	r.shares(0, 1)
}

func TestConsumerCommits(t *testing.T) {
	r := newConsumerRig(t, topicMap{"a": 4})
	a := r.add("a", "a")
	r.converge()
	commit := func(member string, epoch int32) (int16, func(TopicID, int32) int16) {
		return r.g.CheckCommit(r.now, CommitRequest{MemberID: member, Generation: epoch})
	}
	allowed := func(member string, epoch int32, want *kerr.Error) {
		t.Helper()
		code, each := commit(member, epoch)
		if each != nil {
			t.Fatal("there is a check for each partition")
		}
		r.code(code, want)
	}
	allowed("a", 2, nil)
	allowed("a", 3, kerr.StaleMemberEpoch)
	allowed("", -1, kerr.UnknownMemberID)
	allowed("b", 1, kerr.UnknownMemberID)
	code, _ := r.g.CheckCommit(r.now, CommitRequest{MemberID: "a", Generation: 2, OldClient: true})
	r.code(code, kerr.UnsupportedVersion)
	r.code(r.g.CheckFetch(nil, -1), nil)
	r.code(r.g.CheckFetch(ptr("a"), 2), nil)
	r.code(r.g.CheckFetch(ptr("a"), 3), kerr.StaleMemberEpoch)
	r.code(r.g.CheckFetch(ptr("x"), 1), kerr.UnknownMemberID)
	// An older epoch, for what it had then (KIP-1251).
	b := r.add("b", "a")
	r.converge()
	code, each := commit("a", 2)
	r.code(code, nil)
	for p := range int32(4) {
		want := kerr.StaleMemberEpoch
		if a.owned[tpName(topicID("a"), p)] {
			want = nil
		}
		r.code(each(topicID("a"), p), want)
	}
	if code, each = commit("b", b.epoch-1); code != 0 || each(topicID("a"), 0) != kerr.StaleMemberEpoch.Code {
		t.Fatal("b commits with an epoch before it had anything")
	}
	r.beat(a, func(h *HeartbeatRequest) { h.Epoch = -1 })
	r.beat(b, func(h *HeartbeatRequest) { h.Epoch = -1 })
	allowed("", -1, nil)
	clear(r.ms)

	// Offsets: of an empty group by age, in a live one those of topics that nobody wants.
	r.g.SetOffset(TopicPartition{"a", 0}, Offset{Committed: r.now})
	r.g.SetOffset(TopicPartition{"old", 0}, Offset{Committed: r.now})
	later := r.now.Add(time.Hour)
	if got := r.g.Expired(later, time.Hour); len(got) != 2 {
		t.Fatal(got)
	}
	c := r.add("c", "a")
	r.beat(c)
	if got := r.g.Expired(later, time.Hour); len(got) != 1 || got[0].Topic != "old" {
		t.Fatal(got)
	}
}

func TestAssignmentInterval(t *testing.T) {
	r := newConsumerRig(t, topicMap{"a": 4})
	slow := func(h *HeartbeatRequest) { h.Settings.AssignmentInterval = 10 * time.Second }
	a, b := r.add("a", "a"), r.add("b", "a")
	r.refused(r.beat(a, slow), nil)
	if len(a.owned) != 4 {
		t.Fatal("the first assignment waits")
	}
	r.refused(r.beat(b, slow), nil)
	r.refused(r.beat(a, slow), nil)
	if r.g.State() != Assigning || len(a.owned) != 4 || b.epoch != 2 {
		t.Fatal(r.g.State(), a.owned, b.epoch)
	}
	r.now = r.now.Add(10 * time.Second)
	r.beat(a, slow)
	r.converge()
	r.shares(2, 2)
}

// TestConsumersAtRandom lets members come, go, fall silent, change their
// subscriptions and lose answers, and topics change. The rig's checks hold
// all the time, and in the end everything is assigned.
func TestConsumersAtRandom(t *testing.T) {
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		r := newConsumerRig(t, topicMap{"a": 3, "b": 5, "c": 1})
		subs := [][]string{{"a"}, {"a", "b"}, {"c", "b"}, {"d"}, {}, {"a", "b", "c", "d"}}
		next := 0
		for range 150 {
			ids := slices.Sorted(maps.Keys(r.ms))
			var m *testMember
			if len(ids) > 0 {
				m = r.ms[ids[rnd.IntN(len(ids))]]
			}
			switch k := rnd.IntN(20); {
			case k == 0 && len(ids) < 6:
				next++
				n := r.add(fmt.Sprint("m", next), subs[rnd.IntN(len(subs))]...)
				if rnd.IntN(3) == 0 {
					n.regex = ptr("[ad]")
				}
				if rnd.IntN(2) == 0 {
					n.assignor = ptr("range")
				}
				if rnd.IntN(3) == 0 {
					n.instance = ptr(n.id)
				}
				r.refused(r.beat(n), nil)
			case m == nil:
			case k == 1: // leaves
				r.beat(m, func(h *HeartbeatRequest) { h.Epoch = -1 })
				delete(r.ms, m.id)
			case k == 2: // crashes
				delete(r.ms, m.id)
				r.now = r.now.Add(30 * time.Second)
				for _, o := range r.ms {
					r.refused(r.beat(o), nil)
				}
				r.now = r.now.Add(20 * time.Second)
				r.g.Tick(r.now)
				r.settle()
			case k == 3:
				m.names = subs[rnd.IntN(len(subs))]
				r.refused(r.beat(m, func(h *HeartbeatRequest) {
					if h.Topics = m.names; h.Topics == nil {
						h.Topics = []string{}
					}
				}), nil)
			case k == 4:
				name := []string{"a", "b", "c", "d"}[rnd.IntN(4)]
				if r.topics[name] > 0 && rnd.IntN(3) == 0 {
					delete(r.topics, name)
				} else {
					r.topics[name]++
				}
			case k == 5: // the answer is lost; the client sends again what it had sent
				req := m.request()
				r.g.ConsumerHeartbeat(r.now, req)
				r.log = append(r.log, r.g.Records()...)
				rep := r.beat(m, func(h *HeartbeatRequest) { *h = req })
				// A second change while the first answer was lost may fence it: it joins anew.
				if rep.Code != 0 {
					r.code(rep.Code, kerr.FencedMemberEpoch)
					m.epoch, m.owned = 0, map[string]bool{}
					r.refused(r.beat(m), map[bool]*kerr.Error{true: kerr.UnreleasedInstanceID}[m.instance != nil])
					if m.instance != nil {
						m.epoch = r.g.c.members[m.id].epoch
					}
				}
				r.now = r.now.Add(time.Second)
				r.beat(m)
			case k == 6: // the coordinator restarts
				r.g = r.restored()
			default:
				r.refused(r.beat(m), nil)
			}
		}
		r.converge()
		if s := r.g.State(); len(r.ms) > 0 && s != Stable {
			t.Fatalf("seed %d: %v\n%s", seed, s, dump(r.g))
		}
		var have, want int
		for _, m := range r.ms {
			have += len(m.owned)
		}
		if r.g.c != nil {
			for _, name := range r.g.subscribedNames() {
				want += int(r.topics[name])
			}
		}
		if have != want {
			t.Fatalf("seed %d: %d of %d partitions are assigned\n%s", seed, have, want, dump(r.g))
		}
	}
}

// TestHeartbeatAllocations: a heartbeat without news allocates next to nothing,
// however large the group.
func TestHeartbeatAllocations(t *testing.T) {
	r := newConsumerRig(t, topicMap{"a": 40})
	for i := range 10 {
		r.add(fmt.Sprint("m", i), "a")
	}
	r.converge()
	req := r.ms["m3"].request()
	if n := testing.AllocsPerRun(100, func() {
		if rep := r.g.ConsumerHeartbeat(r.now, req); rep.Code != 0 || rep.Assigned {
			t.Fatalf("%+v", rep)
		}
	}); n > 2 {
		t.Errorf("%v allocations", n)
	}
	if recs := r.g.Records(); len(recs) > 0 {
		t.Errorf("%d records", len(recs))
	}
}

// BenchmarkJoin is a member that joins a large group and leaves it.
func BenchmarkJoin(b *testing.B) {
	l := consumerLimits()
	l.ConsumerMaxSize = 1 << 20
	g := New("g", t0, l, topicMap{"a": 2000, "b": 100})
	join := func(id string) {
		g.ConsumerHeartbeat(t0, HeartbeatRequest{MemberID: id, Rebalance: time.Minute, Topics: []string{"a", "b"}, Owned: []TopicPartitions{}, Settings: settings})
		g.Records()
	}
	for i := range 500 {
		join(fmt.Sprint("m", i))
	}
	for b.Loop() {
		join("x")
		g.ConsumerHeartbeat(t0, HeartbeatRequest{MemberID: "x", Epoch: leaveEpoch})
		g.Records()
	}
}
