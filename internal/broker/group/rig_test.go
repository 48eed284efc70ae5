package group

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
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
