package group

import (
	"slices"
	"strings"
	"time"
)

// TopicID identifies a topic; a deleted topic's namesake has another.
type TopicID = [16]byte

// Topics is the host's view of the topics. The methods are called during an
// input and must not block.
type Topics interface {
	// Version changes whenever a topic appears, disappears or gets partitions.
	Version() uint64
	ByName(name string) (id TopicID, partitions int32, ok bool)
	ByID(id TopicID) (name string, ok bool)
	Names() []string
}

// MigrationPolicy says between which types a group with members may change
// (group.consumer.migration.policy). A group without members always may.
type MigrationPolicy string

const (
	MigrateBoth    MigrationPolicy = "bidirectional"
	MigrateUp      MigrationPolicy = "upgrade"   // classic to consumer
	MigrateDown    MigrationPolicy = "downgrade" // consumer to classic
	MigrateNothing MigrationPolicy = "disabled"
)

func (p MigrationPolicy) up() bool   { return p == MigrateBoth || p == MigrateUp }
func (p MigrationPolicy) down() bool { return p == MigrateBoth || p == MigrateDown }

// ConsumerSettings are those that a group may have of its own.
type ConsumerSettings struct {
	Session            time.Duration // consumer.session.timeout.ms
	Heartbeat          time.Duration // consumer.heartbeat.interval.ms
	AssignmentInterval time.Duration // consumer.assignment.interval.ms: least time between two assignments
}

// consumerGroup is the state of a group of the protocol of KIP-848: the
// members say what they want, the coordinator computes who is to have what
// (the target), and each member is led there step by step (see reconcile).
type consumerGroup struct {
	epoch       int32  // grows with every change of members, subscriptions, topics
	hash        uint64 // of the subscribed topics, see metadataHash
	targetEpoch int32  // of the target assignment; behind epoch until it is computed
	targetAt    time.Time
	target      map[string]partitions // by member id
	members     map[string]*consumerMember
	static      map[string]string            // instance id -> member id
	owners      map[TopicID]map[int32]string // assigned or still to be revoked: member id
	regexes     map[string]*resolvedRegex
	seen        uint64 // Topics.Version that hash and regexes are of
	fresh       bool   // seen is valid
}

// memberState is where a member is on its way to the target (Kafka's
// MemberState; the numbers are in the group log).
type memberState int8

const (
	memberStable     memberState = 0
	memberUnrevoked  memberState = 1 // has to give partitions back
	memberUnreleased memberState = 2 // waits for partitions that others have to give back
)

// partitions of topics, sorted. A value that is stored is never changed.
type partitions map[TopicID][]int32

// epochs are partitions with the member epoch at which each was assigned
// (KIP-1251). A value that is stored is never changed.
type epochs map[TopicID]map[int32]int32

func (e epochs) has(id TopicID, p int32) bool {
	_, ok := e[id][p]
	return ok
}

func (e epochs) set(id TopicID, p, epoch int32) {
	if e[id] == nil {
		e[id] = map[int32]int32{}
	}
	e[id][p] = epoch
}

func (e epochs) equal(o epochs) bool {
	if len(e) != len(o) {
		return false
	}
	for id, ps := range e {
		if len(ps) != len(o[id]) {
			return false
		}
		for p, epoch := range ps {
			if got, ok := o[id][p]; !ok || got != epoch {
				return false
			}
		}
	}
	return true
}

func (e epochs) partitions() partitions {
	ps := make(partitions, len(e))
	for id, m := range e {
		l := make([]int32, 0, len(m))
		for p := range m {
			l = append(l, p)
		}
		slices.Sort(l)
		ps[id] = l
	}
	return ps
}

// consumerMember is a member of a consumer group. It may be one that speaks
// the classic protocol (classic set), while a group is being migrated.
type consumerMember struct {
	id         string
	instance   *string
	rack       *string
	clientID   string
	clientHost string
	rebalance  time.Duration
	topics     []string // sorted, no duplicates
	regex      string
	assignor   string
	classic    *classicMember

	epoch     int32
	prevEpoch int32
	state     memberState
	assigned  epochs
	revoking  epochs

	deadline time.Time // of the session
	revokeBy time.Time // while memberUnrevoked; zero for classic members
	joinBy   time.Time // a classic member was told to join again
	syncBy   time.Time // a classic member has joined and not synchronised
	seq      int
}

// classicMember is what a member of the classic protocol has beside.
type classicMember struct {
	session   time.Duration
	protocols []Protocol
}

// Epochs with a meaning of their own in a heartbeat.
const (
	joinEpoch        = 0
	leaveEpoch       = -1
	leaveStaticEpoch = -2 // the member comes back; its partitions wait for it
)

func sortedSet(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return slices.Compact(s)
}

// sameRecord reports whether the member's entry in the group log is the same.
func (m *consumerMember) sameRecord(o *consumerMember) bool {
	eq := func(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }
	return eq(m.instance, o.instance) && eq(m.rack, o.rack) && m.clientID == o.clientID && m.clientHost == o.clientHost &&
		m.rebalance == o.rebalance && slices.Equal(m.topics, o.topics) && m.regex == o.regex && m.assignor == o.assignor &&
		m.classic.equal(o.classic)
}

func (c *classicMember) equal(o *classicMember) bool {
	if c == nil || o == nil {
		return c == o
	}
	return c.session == o.session && (&member{protocols: c.protocols}).matches(o.protocols)
}

// sorted lists the topics in the order of their ids.
func (ps partitions) sorted() []TopicPartitions {
	l := make([]TopicPartitions, 0, len(ps))
	for id, p := range ps {
		l = append(l, TopicPartitions{ID: id, Partitions: p})
	}
	slices.SortFunc(l, func(a, b TopicPartitions) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return l
}

// bumpEpoch raises the group's epoch. The first is 2, as in Apache Kafka,
// whose members have 1 while the first assignment is computed elsewhere.
func (g *Group) bumpEpoch() {
	g.c.epoch = max(g.c.epoch+1, 2)
	g.emit(epochRecord(g.Name, g.c))
}

// assignTargets computes the target assignment of the group's epoch.
func (g *Group) assignTargets(now time.Time) {
	c := g.c
	members := make([]assignMember, 0, len(c.members))
	known := map[string]map[TopicID]int32{} // by subscription: most members have the same
	for _, m := range c.ordered() {
		key := strings.Join(m.topics, "\x00") + "\x01" + m.regex
		topics, ok := known[key]
		if !ok {
			topics = g.subscribedIDs(m)
			known[key] = topics
		}
		members = append(members, assignMember{id: m.id, instance: m.instance, topics: topics, current: c.target[m.id]})
	}
	target := assignors[g.preferredAssignor()](members)
	for _, m := range c.ordered() {
		if now, was := target[m.id], c.target[m.id]; was == nil || !now.equal(was) {
			g.emit(targetRecord(g.Name, m.id, now))
		}
	}
	c.target, c.targetEpoch, c.targetAt = target, c.epoch, now
	g.emit(targetEpochRecord(g.Name, c))
}

func (ps partitions) equal(o partitions) bool {
	if len(ps) != len(o) {
		return false
	}
	for id, p := range ps {
		if !slices.Equal(p, o[id]) {
			return false
		}
	}
	return true
}

// preferredAssignor is the one that most members ask for.
func (g *Group) preferredAssignor() string {
	votes := map[string]int{}
	best := g.limits.Assignors[0]
	for _, m := range g.c.members {
		if m.assignor != "" {
			votes[m.assignor]++
		}
	}
	for _, name := range g.limits.Assignors {
		if votes[name] > votes[best] {
			best = name
		}
	}
	return best
}

func (c *consumerGroup) ordered() []*consumerMember {
	ms := make([]*consumerMember, 0, len(c.members))
	for _, m := range c.members {
		ms = append(ms, m)
	}
	slices.SortFunc(ms, func(a, b *consumerMember) int { return a.seq - b.seq })
	return ms
}

// fence removes members: they left, their sessions ended, or they did not
// give back in time what they have to.
func (g *Group) fence(now time.Time, gone map[*consumerMember]bool) {
	if g.canDowngrade(gone) {
		g.becomeClassic(now, gone, nil)
		g.prepareRebalance(now)
		return
	}
	for _, m := range g.c.ordered() {
		if gone[m] {
			g.removeConsumer(m)
		}
	}
	g.c.hash = g.metadataHash()
	g.bumpEpoch()
}

// removeConsumer takes a member out, without a word on the others.
func (g *Group) removeConsumer(m *consumerMember) {
	c := g.c
	g.own(m, nil, nil)
	delete(c.members, m.id)
	delete(c.target, m.id)
	if m.instance != nil && c.static[*m.instance] == m.id {
		delete(c.static, *m.instance)
	}
	g.emit(tombstone(keyCurrent, g.Name, m.id), tombstone(keyTargetMember, g.Name, m.id), tombstone(keyMember, g.Name, m.id))
	g.dropUnusedRegex(m.regex)
}

// replaceConsumer lets a static member that comes back take its former self's
// place, target and partitions, under a new member id (KIP-848; KIP-345).
func (g *Group) replaceConsumer(old *consumerMember, id string) *consumerMember {
	c := g.c
	target, assigned, revoking := c.target[old.id], old.assigned, old.revoking
	m := *old
	g.own(old, nil, nil)
	delete(c.members, old.id)
	delete(c.target, old.id)
	g.emit(tombstone(keyCurrent, g.Name, old.id), tombstone(keyTargetMember, g.Name, old.id), tombstone(keyMember, g.Name, old.id))
	m.id, m.epoch, m.prevEpoch = id, 0, 0
	m.revokeBy, m.joinBy, m.syncBy = time.Time{}, time.Time{}, time.Time{}
	n := &m
	c.members[id] = n
	c.static[*n.instance] = id
	if target == nil {
		target = partitions{}
	}
	c.target[id] = target
	g.own(n, assigned, revoking)
	g.emit(memberRecord(g.Name, n), targetRecord(g.Name, id, target), currentRecord(g.Name, n))
	return n
}

// tickConsumer handles what is due.
func (g *Group) tickConsumer(now time.Time) {
	due := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	gone := map[*consumerMember]bool{}
	for _, m := range g.c.members {
		if due(m.deadline) || due(m.revokeBy) || due(m.joinBy) || due(m.syncBy) {
			gone[m] = true
		}
	}
	if len(gone) > 0 {
		g.fence(now, gone)
	}
}

// consumerState is the group's state by Kafka's rules.
func (g *Group) consumerState() State {
	c := g.c
	switch {
	case len(c.members) == 0:
		return Empty
	case c.epoch > c.targetEpoch:
		return Assigning
	}
	for _, m := range c.members {
		if m.state != memberStable || m.epoch != c.targetEpoch {
			return Reconciling
		}
	}
	return Stable
}

// ConsumerMember describes a member for ConsumerGroupDescribe.
type ConsumerMember struct {
	ID         string
	InstanceID *string
	RackID     *string
	Epoch      int32
	ClientID   string
	ClientHost string
	Topics     []string
	Regex      string
	Assigned   []TopicPartitions
	Target     []TopicPartitions
	Classic    bool
}

// DescribeConsumer describes a consumer group.
func (g *Group) DescribeConsumer() (epoch, targetEpoch int32, assignor string, members []ConsumerMember) {
	c := g.c
	for _, m := range c.ordered() {
		members = append(members, ConsumerMember{
			ID: m.id, InstanceID: m.instance, RackID: m.rack, Epoch: m.epoch, ClientID: m.clientID, ClientHost: m.clientHost,
			Topics: m.topics, Regex: m.regex, Assigned: m.assigned.partitions().sorted(), Target: c.target[m.id].sorted(), Classic: m.classic != nil,
		})
	}
	return c.epoch, c.targetEpoch, g.preferredAssignor(), members
}
