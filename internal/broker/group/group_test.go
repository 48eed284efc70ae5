package group

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var (
	t0     = time.UnixMilli(1_700_000_000_000)
	limits = Limits{MinSession: 6 * time.Second, MaxSession: 30 * time.Minute, MaxSize: 10}
)

// dirty reports, once, whether something is to be written.
func dirty(g *Group) bool { return len(g.Records()) > 0 }

func checkCommit(g *Group, now time.Time, id string, instance *string, generation int32) int16 {
	code, _ := g.CheckCommit(now, CommitRequest{MemberID: id, InstanceID: instance, Generation: generation})
	return code
}

// rig drives a group with a hand-turned clock and keeps the replies by token.
type rig struct {
	t    *testing.T
	g    *Group
	now  time.Time
	next Token
	got  map[Token]Reply
	ids  int
}

func newRig(t *testing.T) *rig {
	return &rig{t: t, g: New("g", t0, limits, topicMap{}), now: t0, got: map[Token]Reply{}}
}

func (r *rig) collect() {
	for _, rep := range r.g.Replies() {
		if _, dup := r.got[rep.Token]; dup {
			r.t.Fatalf("token %d answered twice", rep.Token)
		}
		r.got[rep.Token] = rep
	}
}

func (r *rig) token() Token { r.next++; return r.next }

type joinOpt func(*JoinRequest)

func static(id string) joinOpt          { return func(j *JoinRequest) { j.InstanceID = &id } }
func oldClient(j *JoinRequest)          { j.RequireKnownID = false }
func subs(s string) joinOpt             { return func(j *JoinRequest) { j.Protocols[0].Metadata = []byte(s) } }
func protocols(ps ...Protocol) joinOpt  { return func(j *JoinRequest) { j.Protocols = ps } }
func session(d time.Duration) joinOpt   { return func(j *JoinRequest) { j.Session = d } }
func skipping(j *JoinRequest)           { j.CanSkipAssignment = true }
func protocolType(typ string) joinOpt   { return func(j *JoinRequest) { j.ProtocolType = typ } }
func rebalance(d time.Duration) joinOpt { return func(j *JoinRequest) { j.Rebalance = d } }

func (r *rig) join(id string, opts ...joinOpt) Token {
	r.ids++
	req := JoinRequest{
		Token: r.token(), MemberID: id, NewMemberID: fmt.Sprintf("m%d", r.ids), Session: 10 * time.Second, Rebalance: 60 * time.Second,
		ProtocolType: "consumer", Protocols: []Protocol{{Name: "range", Metadata: []byte("sub")}}, RequireKnownID: true,
	}
	for _, o := range opts {
		o(&req)
	}
	r.g.Join(r.now, req)
	r.collect()
	return req.Token
}

func (r *rig) sync(id string, gen int32, as ...Assignment) Token {
	tok := r.token()
	r.g.Sync(r.now, SyncRequest{Token: tok, MemberID: id, Generation: gen, Assignments: as})
	r.collect()
	return tok
}

func (r *rig) tick(d time.Duration) {
	r.now = r.now.Add(d)
	r.g.Tick(r.now)
	r.collect()
}

func (r *rig) waits(tok Token) {
	r.t.Helper()
	if rep, ok := r.got[tok]; ok {
		r.t.Fatalf("token %d was answered: %+v", tok, rep)
	}
}

func (r *rig) answered(tok Token, code *kerr.Error) Reply {
	r.t.Helper()
	rep, ok := r.got[tok]
	if !ok {
		r.t.Fatalf("token %d waits, want an answer; group is %v", tok, r.g.State())
	}
	want := int16(0)
	if code != nil {
		want = code.Code
	}
	if rep.Code != want {
		r.t.Fatalf("token %d: got %v, want %v", tok, kerr.ErrorForCode(rep.Code), kerr.ErrorForCode(want))
	}
	return rep
}

func (r *rig) state(s State, generation int32) {
	r.t.Helper()
	if r.g.State() != s || r.g.Generation() != generation {
		r.t.Fatalf("group is %v generation %d, want %v generation %d", r.g.State(), r.g.Generation(), s, generation)
	}
}

func (r *rig) code(got int16, want *kerr.Error) {
	r.t.Helper()
	w := int16(0)
	if want != nil {
		w = want.Code
	}
	if got != w {
		r.t.Fatalf("got %v, want %v", kerr.ErrorForCode(got), kerr.ErrorForCode(w))
	}
}

// member joins a new dynamic member up to the waiting JoinGroup.
func (r *rig) member(opts ...joinOpt) (string, Token) {
	r.t.Helper()
	id := r.answered(r.join("", opts...), kerr.MemberIDRequired).MemberID
	return id, r.join(id, opts...)
}

// stable makes a stable group of one.
func (r *rig) stable(opts ...joinOpt) string {
	r.t.Helper()
	id, j := r.member(opts...)
	rep := r.answered(j, nil)
	r.answered(r.sync(id, rep.Generation, Assignment{id, []byte("a")}), nil)
	r.state(Stable, rep.Generation)
	return id
}

func TestJoinSyncLeave(t *testing.T) {
	r := newRig(t)
	a, ja := r.member()
	rep := r.answered(ja, nil)
	if rep.Leader != a || len(rep.Members) != 1 || rep.Protocol != "range" || rep.Generation != 1 {
		t.Fatalf("leader's reply: %+v", rep)
	}
	if dirty(r.g) {
		t.Error("dirty before the assignment")
	}
	r.answered(r.sync(a, 1, Assignment{a, []byte("all")}), nil)
	r.state(Stable, 1)
	if !dirty(r.g) || dirty(r.g) {
		t.Error("a finished rebalance must ask once to be written")
	}

	// A second member: a is told by its heartbeat and joins again.
	b, jb := r.member()
	r.waits(jb)
	r.state(PreparingRebalance, 1)
	r.code(r.g.Heartbeat(r.now, a, nil, 1), kerr.RebalanceInProgress)
	ja = r.join(a)
	ra, rb := r.answered(ja, nil), r.answered(jb, nil)
	if ra.Leader != a || rb.Leader != a || len(ra.Members) != 2 || rb.Members != nil || rb.Generation != 2 {
		t.Fatalf("replies %+v and %+v", ra, rb)
	}
	sb := r.sync(b, 2)
	r.waits(sb)
	r.code(r.g.Heartbeat(r.now, a, nil, 2), nil)
	r.code(checkCommit(r.g, r.now, a, nil, 2), kerr.RebalanceInProgress)
	sa := r.sync(a, 2, Assignment{a, []byte("x")}, Assignment{b, []byte("y")}, Assignment{"stranger", []byte("z")})
	if x, y := r.answered(sa, nil), r.answered(sb, nil); string(x.Assignment) != "x" || string(y.Assignment) != "y" {
		t.Fatalf("assignments %q and %q", x.Assignment, y.Assignment)
	}

	// Old generation, strangers.
	r.code(r.g.Heartbeat(r.now, a, nil, 1), kerr.IllegalGeneration)
	r.code(r.g.Heartbeat(r.now, "nobody", nil, 2), kerr.UnknownMemberID)
	r.answered(r.sync(a, 1), kerr.IllegalGeneration)
	r.answered(r.join("nobody"), kerr.UnknownMemberID)
	r.code(checkCommit(r.g, r.now, a, nil, 2), nil)
	r.code(checkCommit(r.g, r.now, a, nil, 1), kerr.IllegalGeneration)
	r.code(checkCommit(r.g, r.now, "", nil, -1), kerr.UnknownMemberID)

	// The leader leaves: the other one is told, joins, and leads.
	if codes := r.g.Leave(r.now, []LeaveMember{{MemberID: a}, {MemberID: "nobody"}}); !reflect.DeepEqual(codes, []int16{0, kerr.UnknownMemberID.Code}) {
		t.Fatalf("codes %v", codes)
	}
	r.code(r.g.Heartbeat(r.now, b, nil, 2), kerr.RebalanceInProgress)
	if rep := r.answered(r.join(b), nil); rep.Leader != b {
		t.Fatalf("leader %q", rep.Leader)
	}
	r.g.Leave(r.now, []LeaveMember{{MemberID: b}})
	r.state(Empty, 4)
	if !dirty(r.g) {
		t.Error("an empty group must be written")
	}
	r.code(checkCommit(r.g, r.now, "", nil, -1), nil)
	r.code(checkCommit(r.g, r.now, b, nil, 3), kerr.UnknownMemberID)
}

func TestJoinIsRefused(t *testing.T) {
	r := newRig(t)
	r.answered(r.join("", session(time.Second)), kerr.InvalidSessionTimeout)
	r.answered(r.join("", session(time.Hour)), kerr.InvalidSessionTimeout)
	r.answered(r.join("", protocolType("")), kerr.InconsistentGroupProtocol)
	r.answered(r.join("", protocols()), kerr.InconsistentGroupProtocol)
	r.stable()
	r.answered(r.join("", protocolType("connect")), kerr.InconsistentGroupProtocol)
	r.answered(r.join("", protocols(Protocol{Name: "sticky"})), kerr.InconsistentGroupProtocol)
	for range limits.MaxSize - 1 {
		r.answered(r.join(""), kerr.MemberIDRequired)
	}
	r.answered(r.join(""), kerr.GroupMaxSizeReached)
}

func TestOldClientJoinsAtOnce(t *testing.T) {
	r := newRig(t)
	rep := r.answered(r.join("", oldClient, rebalance(-1)), nil)
	if rep.MemberID == "" || rep.Leader != rep.MemberID {
		t.Fatalf("%+v", rep)
	}
}

func TestSessionTimeout(t *testing.T) {
	r := newRig(t)
	a := r.stable()
	r.tick(9 * time.Second)
	r.code(r.g.Heartbeat(r.now, a, nil, 1), nil)
	r.tick(9 * time.Second)
	r.state(Stable, 1)
	if want := r.now.Add(time.Second); !r.g.Deadline().Equal(want) {
		t.Fatalf("deadline %v, want %v", r.g.Deadline(), want)
	}
	r.tick(time.Second)
	r.state(Empty, 2)
	if !r.g.Deadline().IsZero() {
		t.Errorf("an empty group has the deadline %v", r.g.Deadline())
	}
}

func TestRebalanceTimeoutDropsTheAbsent(t *testing.T) {
	r := newRig(t)
	a := r.stable(session(5 * time.Minute))
	b, jb := r.member()
	r.tick(59 * time.Second) // longer than b's session: who waits does not expire
	r.waits(jb)
	r.tick(time.Second)
	if rep := r.answered(jb, nil); rep.Leader != b || len(rep.Members) != 1 {
		t.Fatalf("%+v", rep)
	}
	r.code(r.g.Heartbeat(r.now, a, nil, 1), kerr.UnknownMemberID)
}

func TestSyncTimeoutDropsTheSilent(t *testing.T) {
	r := newRig(t)
	a := r.stable(session(5 * time.Minute))
	b, jb := r.member(session(5 * time.Minute))
	r.answered(r.join(a, session(5*time.Minute)), nil)
	r.answered(jb, nil)
	sb := r.sync(b, 2) // a, the leader, never sends its decision
	r.tick(60 * time.Second)
	r.answered(sb, kerr.RebalanceInProgress)
	r.state(PreparingRebalance, 2)
	if rep := r.answered(r.join(b, session(5*time.Minute)), nil); rep.Leader != b {
		t.Fatalf("leader %q", rep.Leader)
	}
}

func TestHandedOutIDHoldsTheRebalanceUntilItExpires(t *testing.T) {
	r := newRig(t)
	a, ja := r.member()
	r.answered(ja, nil)
	r.answered(r.sync(a, 1, Assignment{a, nil}), nil)
	pending := r.answered(r.join(""), kerr.MemberIDRequired).MemberID
	ja = r.join(a) // the leader makes the group rebalance
	r.waits(ja)
	r.tick(10 * time.Second)
	r.answered(ja, nil)
	r.answered(r.join(pending), kerr.UnknownMemberID)
}

func TestAbandonedJoinLosesItsPlace(t *testing.T) {
	r := newRig(t)
	a := r.stable()
	b, jb := r.member()
	r.g.Abandon(r.now, jb)
	if want := r.now.Add(10 * time.Second); !r.g.Deadline().Equal(want) {
		t.Fatalf("deadline %v, want %v", r.g.Deadline(), want)
	}
	r.code(r.g.Heartbeat(r.now, a, nil, 1), kerr.RebalanceInProgress)
	r.tick(9 * time.Second)
	r.code(r.g.Heartbeat(r.now, a, nil, 1), kerr.RebalanceInProgress)
	r.tick(time.Second)
	ja := r.join(a)
	if rep := r.answered(ja, nil); len(rep.Members) != 1 {
		t.Fatalf("members %+v", rep.Members)
	}
	r.waits(jb)
	r.code(r.g.Heartbeat(r.now, b, nil, 2), kerr.UnknownMemberID)
}

func TestLostJoinReplyIsRepeated(t *testing.T) {
	r := newRig(t)
	a, ja := r.member()
	first := r.answered(ja, nil)
	again := r.answered(r.join(a), nil)
	again.Token = first.Token
	if !reflect.DeepEqual(first, again) {
		t.Errorf("got %+v, want %+v", again, first)
	}
	r.state(CompletingRebalance, 1)
	// Another subscription is another matter.
	r.answered(r.join(a, subs("other")), nil)
	r.state(CompletingRebalance, 2)
}

func TestSecondRequestOfAMemberReplacesTheFirst(t *testing.T) {
	r := newRig(t)
	r.stable()
	b, j1 := r.member()
	j2 := r.join(b)
	r.answered(j1, kerr.RebalanceInProgress)
	r.waits(j2)
}

func TestStaticMember(t *testing.T) {
	r := newRig(t)
	j := r.join("", static("i1"), skipping)
	first := r.answered(j, nil) // no MEMBER_ID_REQUIRED for static members
	a := first.MemberID
	r.answered(r.sync(a, 1, Assignment{a, []byte("mine")}), nil)
	dirty(r.g)

	// Restarted with the same subscription: no rebalance, same assignment.
	again := r.answered(r.join("", static("i1"), skipping), nil)
	if again.MemberID == a || !again.SkipAssignment || again.Leader != again.MemberID || again.Generation != 1 {
		t.Fatalf("%+v", again)
	}
	if !dirty(r.g) {
		t.Error("a replaced static member must be written")
	}
	r.state(Stable, 1)
	tok := r.token()
	inst := "i1"
	r.g.Sync(r.now, SyncRequest{Token: tok, MemberID: again.MemberID, InstanceID: &inst, Generation: 1})
	r.collect()
	if rep := r.answered(tok, nil); string(rep.Assignment) != "mine" {
		t.Fatalf("assignment %q", rep.Assignment)
	}
	// The former self is fenced.
	r.code(r.g.Heartbeat(r.now, a, &inst, 1), kerr.FencedInstanceID)
	r.code(checkCommit(r.g, r.now, a, &inst, 1), kerr.FencedInstanceID)
	r.answered(r.join(a, static("i1")), kerr.FencedInstanceID)
	// A client before KIP-814 must not be told that it leads.
	older := r.answered(r.join("", static("i1")), nil)
	if older.Leader != again.MemberID || older.Members != nil || older.SkipAssignment {
		t.Fatalf("%+v", older)
	}
	// With another subscription there is a rebalance.
	r.answered(r.join("", static("i1"), subs("other")), nil)
	r.state(CompletingRebalance, 2)

	other := "i2"
	wrong := "nobody"
	codes := r.g.Leave(r.now, []LeaveMember{{InstanceID: &other}, {MemberID: wrong, InstanceID: &inst}, {InstanceID: &inst}})
	if want := []int16{kerr.UnknownMemberID.Code, kerr.FencedInstanceID.Code, 0}; !reflect.DeepEqual(codes, want) {
		t.Fatalf("codes %v, want %v", codes, want)
	}
	r.state(Empty, 3)
}

func TestStaticMemberIsKeptThroughARebalance(t *testing.T) {
	r := newRig(t)
	a := r.answered(r.join("", static("i1"), session(5*time.Minute)), nil).MemberID
	r.answered(r.sync(a, 1, Assignment{a, nil}), nil)
	b, jb := r.member()
	r.tick(time.Minute)
	rep := r.answered(jb, nil)
	if rep.Leader != b || len(rep.Members) != 2 {
		t.Fatalf("the absent static member must stay and not lead: %+v", rep)
	}
}

func TestProtocolVote(t *testing.T) {
	r := newRig(t)
	p := func(names ...string) joinOpt {
		var ps []Protocol
		for _, n := range names {
			ps = append(ps, Protocol{Name: n, Metadata: []byte(n)})
		}
		return protocols(ps...)
	}
	a := r.stable(p("x", "range", "sticky"))
	b, jb := r.member(p("sticky", "range"))
	ja := r.join(a, p("x", "sticky", "range"))
	if ra, rb := r.answered(ja, nil), r.answered(jb, nil); ra.Protocol != "sticky" || rb.Protocol != "sticky" || string(ra.Members[1].Metadata) != "sticky" {
		t.Fatalf("%+v %+v", ra, rb)
	}
	_ = b
}

func TestOffsetsExpire(t *testing.T) {
	g := New("g", t0, limits, topicMap{})
	tp := TopicPartition{"t", 1}
	g.SetOffset(tp, Offset{Offset: 5, Committed: t0})
	if got := g.Expired(t0.Add(59*time.Minute), time.Hour); got != nil {
		t.Errorf("expired early: %v", got)
	}
	if got := g.Expired(t0.Add(time.Hour), time.Hour); !reflect.DeepEqual(got, []TopicPartition{tp}) {
		t.Errorf("got %v", got)
	}
	r := newRig(t)
	a := r.stable()
	r.g.SetOffset(tp, Offset{Offset: 5, Committed: t0})
	if got := r.g.Expired(t0.Add(100*time.Hour), time.Hour); got != nil {
		t.Errorf("offsets of a live group expired: %v", got)
	}
	r.now = t0.Add(50 * time.Hour)
	r.g.Leave(r.now, []LeaveMember{{MemberID: a}})
	if got := r.g.Expired(r.now.Add(59*time.Minute), time.Hour); got != nil {
		t.Errorf("offsets count from when the group became empty, got %v", got)
	}
	if got := r.g.Expired(r.now.Add(time.Hour), time.Hour); len(got) != 1 {
		t.Errorf("got %v", got)
	}
}

func TestSubscribed(t *testing.T) {
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Topics = []string{"in"}
	r := newRig(t)
	r.stable(protocols(Protocol{Name: "range", Metadata: meta.AppendTo(nil)}))
	for _, tt := range []struct {
		topic             string
		subscribed, known bool
	}{{"in", true, true}, {"out", false, true}} {
		if s, k := r.g.Subscribed(tt.topic); s != tt.subscribed || k != tt.known {
			t.Errorf("%s: %v %v", tt.topic, s, k)
		}
	}
	r2 := newRig(t)
	r2.stable(protocolType("connect"))
	if s, k := r2.g.Subscribed("out"); !s || k {
		t.Errorf("a foreign protocol: %v %v", s, k)
	}
}

func TestKillAnswersEverybody(t *testing.T) {
	r := newRig(t)
	a := r.stable()
	_, jb := r.member()
	r.g.Kill()
	r.collect()
	r.answered(jb, kerr.NotCoordinator)
	r.code(r.g.Heartbeat(r.now, a, nil, 1), kerr.CoordinatorNotAvailable)
	r.answered(r.join(""), kerr.CoordinatorNotAvailable)
}

// TestRestore writes a stable group and its offsets to records and reads them
// back: members go on as if nothing had happened.
func TestRestore(t *testing.T) {
	r := newRig(t)
	inst := "i1"
	a := r.answered(r.join("", static(inst), subs("s")), nil).MemberID
	r.answered(r.sync(a, 1, Assignment{a, []byte("mine")}), nil)
	rec := r.g.MetadataRecord()
	e, ok, err := ParseRecord(rec.Key, rec.Value)
	if err != nil || !ok || e.Group != "g" || e.Membership == nil || e.TP != nil {
		t.Fatalf("%+v %v %v", e, ok, err)
	}
	later := t0.Add(time.Hour)
	g := New("g", later, limits, topicMap{})
	g.Restore(later, e.Membership)
	r2 := &rig{t: t, g: g, now: later, got: map[Token]Reply{}}
	r2.state(Stable, 1)
	r2.code(g.Heartbeat(later, a, &inst, 1), nil)
	r2.code(checkCommit(g, later, a, &inst, 1), nil)
	if rep := r2.answered(r2.sync(a, 1), nil); string(rep.Assignment) != "mine" {
		t.Errorf("assignment %q", rep.Assignment)
	}
	if !bytes.Equal(g.MetadataRecord().Value, rec.Value) {
		t.Error("the restored membership is written differently")
	}
	r2.tick(10 * time.Second)
	r2.state(Empty, 2)
	rec = g.MetadataRecord()
	if e, _, err = ParseRecord(rec.Key, rec.Value); err != nil || len(e.Membership.Members) != 0 {
		t.Fatalf("%+v %v", e, err)
	}
	g.Restore(later, e.Membership)
	r2.state(Empty, 2)

	tp := TopicPartition{"t", 3}
	o := Offset{Offset: 42, LeaderEpoch: 2, Metadata: "m", Committed: t0, TopicID: [16]byte{9}}
	rec = OffsetRecord("g", tp, &o)
	e, ok, err = ParseRecord(rec.Key, rec.Value)
	if err != nil || !ok || *e.TP != tp || *e.Offset != o {
		t.Errorf("%+v %v %v", e, ok, err)
	}
	rec = OffsetRecord("g", tp, nil)
	if e, ok, err = ParseRecord(rec.Key, rec.Value); err != nil || !ok || *e.TP != tp || e.Offset != nil {
		t.Errorf("%+v %v %v", e, ok, err)
	}
	rec = MetadataTombstone("g")
	if e, ok, err = ParseRecord(rec.Key, rec.Value); err != nil || !ok || e.TP != nil || e.Membership != nil {
		t.Errorf("%+v %v %v", e, ok, err)
	}
	if _, ok, err := ParseRecord([]byte{0, 99, 1, 2}, nil); ok || err != nil {
		t.Errorf("a key from the future: %v %v", ok, err)
	}
}

func FuzzParseRecord(f *testing.F) {
	o := Offset{Offset: 42, Metadata: "m", Committed: t0}
	for _, r := range []Record{OffsetRecord("g", TopicPartition{"t", 3}, &o), MetadataTombstone("g"), New("g", t0, limits, topicMap{}).MetadataRecord()} {
		f.Add(r.Key, r.Value)
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		e, ok, err := ParseRecord(key, value)
		if ok && err == nil && e.Membership != nil {
			g := New(e.Group, t0, limits, topicMap{})
			g.Restore(t0, e.Membership)
			g.Tick(t0.Add(time.Hour))
			g.MetadataRecord()
		}
	})
}

// FuzzGroup throws arbitrary sequences of inputs at a group: it must not
// panic, answer a token twice, or leave a due deadline after Tick.
func FuzzGroup(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 9})
	f.Add([]byte{0, 0, 1, 1, 0, 16, 1, 17, 6, 0, 5, 200, 7, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := newRig(t)
		ids := []string{"", "m1"}
		insts := []string{"i1", "i2"}
		for ; len(in) >= 2; in = in[2:] {
			op, arg := in[0]%8, int(in[1])
			id := ids[arg%len(ids)]
			var opts []joinOpt
			var inst *string
			if arg&16 != 0 {
				inst = &insts[arg>>5&1]
				opts = append(opts, static(*inst))
			}
			if arg&64 != 0 {
				opts = append(opts, oldClient, subs(fmt.Sprint(arg)))
			}
			switch op {
			case 0, 1:
				rep, ok := r.got[r.join(id, opts...)]
				if ok && rep.MemberID != "" {
					ids = append(ids, rep.MemberID)
				}
			case 2:
				r.sync(id, r.g.Generation(), Assignment{id, []byte{1}})
			case 3:
				r.g.Heartbeat(r.now, id, inst, r.g.Generation())
			case 4:
				r.g.Leave(r.now, []LeaveMember{{MemberID: id, InstanceID: inst}})
			case 5:
				r.tick(time.Duration(arg) * time.Second)
				if d := r.g.Deadline(); !d.IsZero() && d.Before(r.now) {
					t.Fatalf("deadline %v is past after a tick at %v", d, r.now)
				}
			case 6:
				r.g.Abandon(r.now, Token(arg))
			case 7:
				checkCommit(r.g, r.now, id, inst, r.g.Generation())
			}
			r.collect()
			if r.g.State() == Empty && len(r.g.members) != 0 {
				t.Fatal("an empty group with members")
			}
			if r.g.State() == CompletingRebalance && r.g.members[r.g.leader] == nil {
				t.Fatal("no leader to wait for")
			}
		}
		// Left alone, every group becomes empty and every request is answered.
		for range 100 {
			r.tick(10 * time.Minute)
		}
		if r.g.State() != Empty || len(r.g.pending) != 0 {
			t.Fatalf("left alone, the group is %v", r.g.State())
		}
	})
}
