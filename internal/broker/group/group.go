// Package group is the coordinator of consumer groups, classic ones (JoinGroup,
// SyncGroup, Heartbeat, LeaveGroup) and those of KIP-848 (ConsumerGroupHeartbeat),
// and of their offsets, as a pure state machine: no clock, no disk, no
// goroutine, no randomness inside. The host passes the time with every input,
// appends what Records and the commits ask for to the group log, then delivers
// the replies, and calls Tick when Deadline is due.
//
// The rules are Apache Kafka's (GroupMetadataManager, ClassicGroup and
// ConsumerGroup of 4.3); where they are surprising a comment names the KIP.
//
// join.go and sync.go are the classic protocol; consumer*.go, reconcile.go and
// assign.go that of KIP-848; convert.go changes a group from one type into the
// other, and bridge.go serves classic members in a consumer group meanwhile.
package group

import (
	"bytes"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// State of a group.
type State int8

const (
	Empty State = iota
	PreparingRebalance
	CompletingRebalance
	Stable
	Dead
	Assigning   // consumer groups: the target assignment is not computed yet
	Reconciling // consumer groups: not every member has come to its target yet
)

// String is the name that DescribeGroups and ListGroups show.
func (s State) String() string {
	switch s {
	case Empty:
		return "Empty"
	case PreparingRebalance:
		return "PreparingRebalance"
	case CompletingRebalance:
		return "CompletingRebalance"
	case Stable:
		return "Stable"
	case Assigning:
		return "Assigning"
	case Reconciling:
		return "Reconciling"
	}
	return "Dead"
}

// Limits of a group.
type Limits struct {
	MinSession time.Duration // group.min.session.timeout.ms
	MaxSession time.Duration // group.max.session.timeout.ms
	MaxSize    int           // group.max.size, pending members included
	// InitialDelay is how long the first rebalance of an empty group waits for
	// more members (group.initial.rebalance.delay.ms).
	InitialDelay time.Duration

	Consumer        ConsumerSettings // of groups that have none of their own
	ConsumerMaxSize int              // group.consumer.max.size
	Assignors       []string         // group.consumer.assignors, the default first
	Migration       MigrationPolicy  // group.consumer.migration.policy
}

// Token names a request that waits for its reply; the host chooses it.
// 0 means that nobody waits.
type Token uint64

// Protocol is one assignment strategy that a member offers.
type Protocol struct {
	Name     string
	Metadata []byte
}

// TopicPartition names a partition.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// Offset is a committed offset.
type Offset struct {
	Offset      int64
	LeaderEpoch int32 // -1: not known
	Metadata    string
	Committed   time.Time
	TopicID     [16]byte // of the topic at the time of the commit; zero: not known
}

// Reply answers a JoinGroup (Join set) or a SyncGroup.
type Reply struct {
	Token Token
	Code  int16 // Kafka error code
	Join  bool

	Generation     int32
	ProtocolType   string
	Protocol       string
	Leader         string
	MemberID       string
	SkipAssignment bool         // KIP-814
	Members        []JoinMember // for the leader only
	Assignment     []byte       // of a SyncGroup
}

// JoinMember is what the leader learns of a member.
type JoinMember struct {
	MemberID   string
	InstanceID *string
	Metadata   []byte
}

type waiting int8

const (
	waitNone waiting = iota
	waitJoin
	waitSync
)

type member struct {
	id         string
	instance   *string
	clientID   string
	clientHost string
	session    time.Duration
	rebalance  time.Duration
	protocols  []Protocol
	assignment []byte

	wait     waiting
	token    Token // 0 while waiting: the client went away and its place is kept until the deadline
	synced   bool  // sent its SyncGroup in this generation
	deadline time.Time
	seq      int // order of arrival, so that choices do not depend on map order
}

func (m *member) matches(ps []Protocol) bool {
	if len(m.protocols) != len(ps) {
		return false
	}
	for i := range ps {
		if m.protocols[i].Name != ps[i].Name || !bytes.Equal(m.protocols[i].Metadata, ps[i].Metadata) {
			return false
		}
	}
	return true
}

func (m *member) metadata(protocol string) []byte {
	for _, p := range m.protocols {
		if p.Name == protocol {
			return p.Metadata
		}
	}
	return nil
}

// Group is one group. It is not safe for concurrent use.
type Group struct {
	Name string

	limits Limits
	topics Topics

	c *consumerGroup // nil in a classic group; then all between here and offsets counts

	state        State
	since        time.Time // of state
	generation   int32
	protocolType string
	protocol     string
	leader       string
	members      map[string]*member
	static       map[string]string    // instance id -> member id
	pending      map[string]time.Time // member ids handed out by KIP-394, until when they are kept
	rebalanceBy  time.Time            // while PreparingRebalance
	syncBy       time.Time            // while CompletingRebalance
	delayUntil   time.Time            // of the initial delay; zero when it is over
	joinedSince  bool                 // somebody joined since the initial delay was last extended
	seq          int
	offsets      map[TopicPartition]Offset
	offsetBytes  int64

	out   []Reply
	recs  []Record
	dirty bool
}

// New returns an empty group.
func New(name string, now time.Time, l Limits, topics Topics) *Group {
	return &Group{
		Name: name, limits: l, topics: topics, since: now,
		members: map[string]*member{}, static: map[string]string{}, pending: map[string]time.Time{},
		offsets: map[TopicPartition]Offset{},
	}
}

// State returns the group's state.
func (g *Group) State() State {
	if g.c != nil && g.state != Dead {
		return g.consumerState()
	}
	return g.state
}

// Generation returns the current generation of a classic group.
func (g *Group) Generation() int32 { return g.generation }

// ProtocolType returns the protocol type, "" while none is fixed.
func (g *Group) ProtocolType() string {
	if g.c != nil {
		return consumerProtocol
	}
	return g.protocolType
}

// Idle reports whether the group holds nothing worth keeping. A dead group is
// not idle: when the coordinator stops, its state stays in the log.
func (g *Group) Idle() bool {
	if g.c != nil && len(g.c.members) > 0 {
		return false
	}
	return g.state == Empty && len(g.members) == 0 && len(g.pending) == 0 && len(g.offsets) == 0
}

// Replies returns the replies that have become due and forgets them.
func (g *Group) Replies() []Reply {
	out := g.out
	g.out = nil
	return out
}

// Records returns what has to be in the group log before the replies go out,
// in this order, and forgets it.
func (g *Group) Records() []Record {
	recs := g.recs
	g.recs = nil
	if g.dirty {
		g.dirty = false
		recs = append(recs, g.MetadataRecord())
	}
	return recs
}

func (g *Group) emit(recs ...Record) { g.recs = append(g.recs, recs...) }

// Snapshot is everything to know of the group but its offsets.
func (g *Group) Snapshot() []Record {
	if g.c != nil {
		return g.consumerSnapshot()
	}
	return []Record{g.MetadataRecord()}
}

// Tombstones delete what Snapshot writes.
func (g *Group) Tombstones() []Record {
	if g.c != nil {
		return g.consumerTombstones()
	}
	return []Record{MetadataTombstone(g.Name)}
}

// Deadline returns when Tick has to be called next, or the zero time.
func (g *Group) Deadline() time.Time {
	var next time.Time
	take := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if g.c != nil {
		if g.state == Dead {
			return next
		}
		for _, m := range g.c.members {
			take(m.deadline)
			take(m.revokeBy)
			take(m.joinBy)
			take(m.syncBy)
		}
		return next
	}
	for _, m := range g.members {
		if m.expires() {
			take(m.deadline)
		}
	}
	for _, t := range g.pending {
		take(t)
	}
	switch g.state {
	case PreparingRebalance:
		take(g.rebalanceBy)
		take(g.delayUntil)
	case CompletingRebalance:
		take(g.syncBy)
	}
	return next
}

// expires reports whether the member's session is running. A member that
// waits for a reply cannot send heartbeats and so does not expire, unless its
// client has gone away.
func (m *member) expires() bool { return m.wait == waitNone || m.token == 0 }

// Tick handles what is due at now: silent members, handed-out ids that were
// never used, rebalances that took too long.
func (g *Group) Tick(now time.Time) {
	if g.c != nil {
		if g.state != Dead {
			g.tickConsumer(now)
		}
		return
	}
	lost, removed := false, false
	for id, t := range g.pending {
		if !now.Before(t) {
			delete(g.pending, id)
			lost = true
		}
	}
	for _, m := range g.ordered() {
		if m.expires() && !now.Before(m.deadline) {
			g.remove(m, kerr.UnknownMemberID.Code)
			removed = true
		}
	}
	if lost || removed {
		g.membersLeft(now, removed)
	}
	if g.state == CompletingRebalance && !now.Before(g.syncBy) {
		// Members that took the generation and never synchronised would
		// hold everybody else for ever.
		for _, m := range g.ordered() {
			if !m.synced {
				g.remove(m, kerr.UnknownMemberID.Code)
			}
		}
		g.prepareRebalance(now)
	}
	if g.state == PreparingRebalance && !g.delayUntil.IsZero() && !now.Before(g.delayUntil) {
		g.delayed(now)
	}
	if g.state == PreparingRebalance && !now.Before(g.rebalanceBy) {
		g.completeJoin(now)
	}
}

// Abandon says that the client of a waiting request has gone. Its member
// keeps its place for one session time-out.
func (g *Group) Abandon(now time.Time, t Token) {
	for _, m := range g.members {
		if m.wait != waitNone && m.token == t {
			m.token = 0
			m.deadline = now.Add(m.session)
			return
		}
	}
}

// ordered returns the members in order of arrival.
func (g *Group) ordered() []*member {
	ms := make([]*member, 0, len(g.members))
	for _, m := range g.members {
		ms = append(ms, m)
	}
	sortMembers(ms)
	return ms
}

func (g *Group) to(now time.Time, s State) {
	g.state = s
	g.since = now
	g.delayUntil = time.Time{}
}

func (g *Group) reply(r Reply) {
	if r.Token != 0 {
		g.out = append(g.out, r)
	}
}

// answer ends a member's wait.
func (g *Group) answer(now time.Time, m *member, r Reply) {
	r.Token, r.Join = m.token, m.wait == waitJoin
	gone := m.token == 0
	m.wait, m.token = waitNone, 0
	if !gone { // the session of a client that went away runs on
		m.deadline = now.Add(m.session)
	}
	g.reply(r)
}

// remove takes a member out and answers what it waits for. The caller then
// calls membersLeft or decides on a rebalance itself.
func (g *Group) remove(m *member, code int16) {
	if m.wait != waitNone {
		g.reply(Reply{Token: m.token, Join: m.wait == waitJoin, Code: code, Generation: -1, MemberID: m.id})
		m.wait, m.token = waitNone, 0
	}
	delete(g.members, m.id)
	if m.instance != nil && g.static[*m.instance] == m.id {
		delete(g.static, *m.instance)
	}
	if g.leader == m.id {
		g.leader = ""
	}
}

// membersLeft continues after a member (removed) or only a handed-out id has
// gone.
func (g *Group) membersLeft(now time.Time, removed bool) {
	switch g.state {
	case Stable, CompletingRebalance:
		if removed {
			g.prepareRebalance(now)
		}
	case PreparingRebalance:
		g.maybeCompleteJoin(now)
	}
}
