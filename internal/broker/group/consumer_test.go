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
	"github.com/twmb/franz-go/pkg/kmsg"
)

// topicMap is a set of topics for tests. Its version is what is in it.
type topicMap map[string]int32

func topicID(name string) (id TopicID) {
	copy(id[:], name)
	return id
}

func (t topicMap) Version() uint64 {
	v := uint64(len(t))
	for name, n := range t {
		v += uint64(n) * uint64(1+len(name)) << 8
	}
	return v
}

func (t topicMap) ByName(name string) (TopicID, int32, bool) {
	n, ok := t[name]
	return topicID(name), n, ok
}

func (t topicMap) ByID(id TopicID) (string, bool) {
	name := strings.TrimRight(string(id[:]), "\x00")
	_, ok := t[name]
	return name, ok
}

func (t topicMap) Names() []string { return slices.Sorted(maps.Keys(t)) }

var settings = ConsumerSettings{Session: 45 * time.Second, Heartbeat: 5 * time.Second}

func consumerLimits() Limits {
	l := limits
	l.Consumer, l.ConsumerMaxSize, l.Assignors, l.Migration = settings, 10, Assignors(), MigrateBoth
	return l
}

// crig drives a consumer group as its members would, and checks after every
// step that no partition has two owners and that a coordinator which starts
// from the group log is in the same state.
type crig struct {
	*rig
	topics topicMap
	log    []Record
	ms     map[string]*testMember
}

// testMember is the client's side.
type testMember struct {
	id       string
	instance *string
	epoch    int32
	owned    map[string]bool // topic-partition
	names    []string
	regex    *string
	assignor *string
	lazy     bool // gives nothing back
}

func newConsumerRig(t *testing.T, topics topicMap) *crig {
	r := &crig{rig: newRig(t), topics: topics, ms: map[string]*testMember{}}
	r.g = New("g", t0, consumerLimits(), topics)
	return r
}

func (r *crig) add(id string, topics ...string) *testMember {
	m := &testMember{id: id, names: topics, owned: map[string]bool{}}
	r.ms[id] = m
	return m
}

func tpName(id TopicID, p int32) string {
	return fmt.Sprintf("%s-%d", strings.TrimRight(string(id[:]), "\x00"), p)
}

func (m *testMember) request() HeartbeatRequest {
	req := HeartbeatRequest{
		MemberID: m.id, Epoch: m.epoch, InstanceID: m.instance, Rebalance: -1, ClientID: "c", ClientHost: "/h",
		Settings: settings, RequireMemberID: true, Owned: []TopicPartitions{},
	}
	if m.epoch == 0 {
		req.Rebalance, req.Regex, req.Assignor = time.Minute, m.regex, m.assignor
		if req.Topics = m.names; m.names == nil && m.regex == nil {
			req.Topics = []string{}
		}
		return req
	}
	by := map[TopicID][]int32{}
	for tp := range m.owned {
		i := strings.LastIndex(tp, "-")
		var p int32
		fmt.Sscan(tp[i+1:], &p)
		by[topicID(tp[:i])] = append(by[topicID(tp[:i])], p)
	}
	for id, ps := range by {
		req.Owned = append(req.Owned, TopicPartitions{ID: id, Partitions: ps})
	}
	return req
}

// beat sends a heartbeat and takes the answer over as a client does.
func (r *crig) beat(m *testMember, change ...func(*HeartbeatRequest)) HeartbeatReply {
	r.t.Helper()
	req := m.request()
	for _, f := range change {
		f(&req)
	}
	rep := req.Check(r.g.limits.Assignors)
	if rep.Code == 0 {
		rep = r.g.ConsumerHeartbeat(r.now, req)
	}
	r.settle()
	if rep.Code != 0 {
		return rep
	}
	m.epoch = rep.Epoch
	if rep.Assigned && !m.lazy {
		m.owned = map[string]bool{}
		for _, tp := range rep.Assignment {
			for _, p := range tp.Partitions {
				m.owned[tpName(tp.ID, p)] = true
			}
		}
	}
	return rep
}

// settle does what the host does, and checks.
func (r *crig) settle() {
	r.t.Helper()
	r.log = append(r.log, r.g.Records()...)
	r.collect()
	r.check()
}

func (r *crig) check() {
	r.t.Helper()
	if c := r.g.c; c != nil {
		seen := map[string]string{}
		for _, m := range c.members {
			for _, e := range []epochs{m.assigned, m.revoking} {
				for id, ps := range e {
					for p := range ps {
						if other := seen[tpName(id, p)]; other != "" {
							r.t.Fatalf("%s is %s's and %s's", tpName(id, p), other, m.id)
						}
						seen[tpName(id, p)] = m.id
						if c.owners[id][p] != m.id {
							r.t.Fatalf("owner of %s is %q, not %s", tpName(id, p), c.owners[id][p], m.id)
						}
					}
				}
			}
		}
		n := 0
		for _, ps := range c.owners {
			n += len(ps)
		}
		if n != len(seen) {
			r.t.Fatalf("%d partitions have an owner, %d are a member's", n, len(seen))
		}
	}
	// What clients hold is what they may hold.
	held := map[string]string{}
	for _, m := range r.ms {
		for tp := range m.owned {
			if held[tp] != "" {
				r.t.Fatalf("%s is held by %s and %s", tp, held[tp], m.id)
			}
			held[tp] = m.id
		}
	}
	if got, want := dump(r.restored()), dump(r.g); got != want {
		r.t.Fatalf("restored from the group log:\n%s\nwant\n%s", got, want)
	}
}

func (r *crig) restored() *Group {
	r.t.Helper()
	g := New("g", r.now, consumerLimits(), r.topics)
	for _, rec := range r.log {
		e, ok, err := ParseRecord(rec.Key, rec.Value)
		if err != nil || !ok || e.Group != "g" {
			r.t.Fatalf("entry %x %x: %v %v", rec.Key, rec.Value, ok, err)
		}
		g.Apply(r.now, e)
	}
	g.FinishRestore(r.now, settings.Session)
	return g
}

// dump is the state that has to survive a restart.
func dump(g *Group) string {
	var b strings.Builder
	if g.c == nil {
		fmt.Fprintf(&b, "classic %d %q", g.generation, g.protocolType)
		return b.String()
	}
	fmt.Fprintf(&b, "epoch %d target %d hash %x\n", g.c.epoch, g.c.targetEpoch, g.c.hash)
	for _, id := range slices.Sorted(maps.Keys(g.c.members)) {
		m := g.c.members[id]
		inst := ""
		if m.instance != nil {
			inst = *m.instance
		}
		fmt.Fprintf(&b, "%s/%s %d %d state %d topics %v regex %q assignor %q classic %v assigned %v revoking %v target %v\n", id, inst, m.epoch, m.prevEpoch, m.state,
			m.topics, m.regex, m.assignor, m.classic != nil, m.assigned, m.revoking, g.c.target[id].sorted())
	}
	for _, expr := range slices.Sorted(maps.Keys(g.c.regexes)) {
		fmt.Fprintf(&b, "%q %v\n", expr, g.c.regexes[expr].topics)
	}
	return strings.ReplaceAll(b.String(), "map[]", "[]")
}

// converge lets everybody send heartbeats until nothing changes.
func (r *crig) converge() {
	r.t.Helper()
	for range 20 {
		before := dump(r.g)
		for _, id := range slices.Sorted(maps.Keys(r.ms)) {
			if rep := r.beat(r.ms[id]); rep.Code != 0 {
				r.t.Fatalf("%s: %v %s", id, kerr.ErrorForCode(rep.Code), rep.Message)
			}
		}
		if dump(r.g) == before {
			return
		}
	}
	r.t.Fatalf("no end:\n%s", dump(r.g))
}

func (r *crig) shares(want ...int) {
	r.t.Helper()
	var got []int
	for _, m := range r.ms {
		got = append(got, len(m.owned))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		r.t.Fatalf("members have %v partitions, want %v\n%s", got, want, dump(r.g))
	}
}

func (r *crig) refused(rep HeartbeatReply, want *kerr.Error) {
	r.t.Helper()
	r.code(rep.Code, want)
	if rep.Code != 0 && rep.Message == "" {
		r.t.Error("no message")
	}
}

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

func ptr[T any](v T) *T { return &v }

// g2 makes the client's side of a member that joined without one.
func (r *crig) g2(id string) *testMember {
	m := r.add(id, "a")
	sm := r.g.c.members[id]
	m.epoch = sm.epoch
	for tid, ps := range sm.assigned {
		for p := range ps {
			m.owned[tpName(tid, p)] = true
		}
	}
	return m
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

func TestAssignors(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		topics := map[TopicID]int32{}
		for i := range 1 + rnd.IntN(5) {
			topics[topicID(fmt.Sprint("t", i))] = int32(1 + rnd.IntN(7))
		}
		same := rnd.IntN(2) == 0
		var members []assignMember
		for i := range 1 + rnd.IntN(6) {
			m := assignMember{id: fmt.Sprint("m", i), topics: map[TopicID]int32{}}
			for id, n := range topics {
				if same || rnd.IntN(2) == 0 {
					m.topics[id] = n
				}
			}
			members = append(members, m)
		}
		for name, assign := range assignors {
			got := assign(members)
			check := func() (loads []int) {
				t.Helper()
				seen := map[string]bool{}
				takers := map[TopicID]bool{}
				for _, m := range members {
					n := 0
					for id, ps := range got[m.id] {
						if _, ok := m.topics[id]; !ok {
							t.Fatalf("%s seed %d: %s gets a topic that it does not want", name, seed, m.id)
						}
						if !slices.IsSorted(ps) {
							t.Fatalf("%s seed %d: not sorted", name, seed)
						}
						for _, p := range ps {
							if seen[tpName(id, p)] || p >= topics[id] {
								t.Fatalf("%s seed %d: %s is there twice or not at all", name, seed, tpName(id, p))
							}
							seen[tpName(id, p)] = true
							n++
						}
					}
					for id := range m.topics {
						takers[id] = true
					}
					loads = append(loads, n)
				}
				want := 0
				for id := range takers {
					want += int(topics[id])
				}
				if len(seen) != want {
					t.Fatalf("%s seed %d: %d of %d assigned", name, seed, len(seen), want)
				}
				return loads
			}
			loads := check()
			if name != "uniform" {
				continue
			}
			if same && slices.Max(loads)-slices.Min(loads) > 1 {
				t.Fatalf("seed %d: loads %v", seed, loads)
			}
			// Once more with what they have: nothing moves. With one less: what
			// the others have stays theirs.
			for i := range members {
				members[i].current = got[members[i].id]
			}
			again := assign(members)
			for id, ps := range got {
				if !ps.equal(again[id]) {
					t.Fatalf("seed %d: %s had %v and gets %v", seed, id, ps, again[id])
				}
			}
			if !same || len(members) < 2 {
				continue
			}
			members = members[1:]
			was := got
			got = assign(members)
			check()
			for _, m := range members {
				for id, ps := range was[m.id] {
					for _, p := range ps {
						if !slices.Contains(got[m.id][id], p) {
							t.Fatalf("seed %d: %s loses %s when another leaves", seed, m.id, tpName(id, p))
						}
					}
				}
			}
			for i := range members {
				members[i].current = nil
			}
		}
	}
}

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

func FuzzConsumerRecords(f *testing.F) {
	r := &crig{rig: &rig{g: New("g", t0, consumerLimits(), topicMap{"a": 3})}}
	for _, req := range []HeartbeatRequest{
		{MemberID: "m", Rebalance: time.Second, Topics: []string{"a"}, Regex: ptr("a.*"), Owned: []TopicPartitions{}, InstanceID: ptr("i")},
		{MemberID: "n", Rebalance: time.Second, Topics: []string{"a"}, Owned: []TopicPartitions{}, RackID: ptr("r"), Assignor: ptr("range")},
	} {
		r.g.ConsumerHeartbeat(t0, req)
	}
	r.g.Join(t0, JoinRequest{MemberID: "c", Session: 10 * time.Second, Rebalance: time.Second, ProtocolType: "consumer",
		Protocols: []Protocol{{Name: "range", Metadata: subscription(nil, "a")}}})
	for _, rec := range append(r.g.Records(), r.g.Tombstones()...) {
		f.Add(rec.Key, rec.Value)
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		e, ok, err := ParseRecord(key, value)
		if err != nil || !ok {
			return
		}
		g := New(e.Group, t0, consumerLimits(), topicMap{"a": 3})
		g.Apply(t0, e)
		g.FinishRestore(t0, time.Second)
		// What was read is written the same way, and lives.
		for _, rec := range g.Snapshot() {
			if _, ok, err := ParseRecord(rec.Key, rec.Value); err != nil || !ok {
				t.Fatalf("written: %v", err)
			}
		}
		g.ConsumerHeartbeat(t0, HeartbeatRequest{MemberID: "x", Rebalance: time.Second, Topics: []string{"a"}, Owned: []TopicPartitions{}, Settings: settings})
		g.Tick(t0.Add(time.Hour))
		g.Tombstones()
	})
}
