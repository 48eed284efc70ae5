package group

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/twmb/franz-go/pkg/kerr"
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

// resolvedRegex is a subscription by regular expression and the topics that
// it stands for.
type resolvedRegex struct {
	re      *regexp.Regexp
	topics  []string // sorted
	version uint64
	at      time.Time
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

// HeartbeatRequest is a ConsumerGroupHeartbeat. Nil fields, and a negative
// Rebalance, mean no change since the last one.
type HeartbeatRequest struct {
	MemberID    string
	NewMemberID string // a fresh id, for clients of version 0 that have none
	Epoch       int32
	InstanceID  *string
	RackID      *string
	Rebalance   time.Duration
	Topics      []string
	Regex       *string
	Assignor    *string
	Owned       []TopicPartitions
	ClientID    string
	ClientHost  string
	Settings    ConsumerSettings

	RequireMemberID bool // version 1 and up: the client makes its id itself
}

// TopicPartitions are partitions of one topic.
type TopicPartitions struct {
	ID         TopicID
	Partitions []int32
}

// HeartbeatReply answers a ConsumerGroupHeartbeat.
type HeartbeatReply struct {
	Code       int16
	Message    string
	MemberID   string
	Epoch      int32
	Interval   time.Duration
	Assigned   bool // Assignment is to be sent
	Assignment []TopicPartitions
}

func refused(e *kerr.Error, format string, args ...any) HeartbeatReply {
	return HeartbeatReply{Code: e.Code, Message: fmt.Sprintf(format, args...)}
}

// ConsumerHeartbeat handles a ConsumerGroupHeartbeat: a member joins, stays,
// changes its subscription, says what it owns, or leaves. The request has
// passed Check.
func (g *Group) ConsumerHeartbeat(now time.Time, req HeartbeatRequest) HeartbeatReply {
	if g.state == Dead {
		return refused(kerr.CoordinatorNotAvailable, "the broker is stopping")
	}
	if req.Epoch < 0 {
		return g.leaveConsumer(now, req)
	}
	if req.MemberID == "" {
		req.MemberID = req.NewMemberID
	}
	if r := g.roomFor(req.MemberID); r.Code != 0 {
		return r
	}
	if g.c == nil {
		if req.Epoch != joinEpoch {
			return refused(kerr.GroupIDNotFound, "group %q is not a consumer group", g.Name)
		}
		if r := g.becomeConsumer(now); r.Code != 0 {
			return r
		}
	}
	m, isNew, r := g.memberOf(&req)
	if r.Code != 0 {
		return r
	}
	before := *m
	m.update(&req)
	return g.converge(now, m, &before, isNew, &req)
}

// Check finds what is wrong with a request by itself. Assignors are those
// that the broker allows.
func (req *HeartbeatRequest) Check(assignors []string) HeartbeatReply {
	blank := func(s *string) bool { return s != nil && strings.TrimSpace(*s) == "" }
	switch {
	case (req.RequireMemberID || req.Epoch > 0 || req.Epoch == leaveEpoch) && blank(&req.MemberID):
		return refused(kerr.InvalidRequest, "MemberId can't be empty.")
	case blank(req.InstanceID):
		return refused(kerr.InvalidRequest, "InstanceId can't be empty.")
	case blank(req.RackID):
		return refused(kerr.InvalidRequest, "RackId can't be empty.")
	case req.Epoch == joinEpoch && req.Rebalance < 0:
		return refused(kerr.InvalidRequest, "RebalanceTimeoutMs must be provided in first request.")
	case req.Epoch == joinEpoch && (req.Owned == nil || len(req.Owned) > 0):
		return refused(kerr.InvalidRequest, "TopicPartitions must be empty when (re-)joining.")
	case req.Epoch == joinEpoch && req.Topics == nil && req.Regex == nil:
		return refused(kerr.InvalidRequest, "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.")
	case req.Epoch == leaveStaticEpoch && req.InstanceID == nil:
		return refused(kerr.InvalidRequest, "InstanceId can't be null.")
	case req.Epoch < leaveStaticEpoch:
		return refused(kerr.InvalidRequest, "MemberEpoch is invalid.")
	case req.Assignor != nil && !slices.Contains(assignors, *req.Assignor):
		return refused(kerr.UnsupportedAssignor, "ServerAssignor %s is not supported. Supported assignors: %s.", *req.Assignor, strings.Join(assignors, ", "))
	}
	if req.Regex != nil && *req.Regex != "" {
		if _, err := compileRegex(*req.Regex); err != nil {
			return refused(kerr.InvalidRegularExpression, "SubscribedTopicRegex `%s` is not a valid regular expression: %v.", *req.Regex, err)
		}
	}
	return HeartbeatReply{}
}

// roomFor refuses a new member of a group that is full.
func (g *Group) roomFor(memberID string) HeartbeatReply {
	n := len(g.members)
	if g.c != nil {
		if g.c.members[memberID] != nil {
			return HeartbeatReply{}
		}
		n = len(g.c.members)
	}
	if n >= g.limits.ConsumerMaxSize {
		return refused(kerr.GroupMaxSizeReached, "The consumer group has reached its maximum capacity of %d members.", g.limits.ConsumerMaxSize)
	}
	return HeartbeatReply{}
}

// memberOf finds or makes the member of a heartbeat.
func (g *Group) memberOf(req *HeartbeatRequest) (m *consumerMember, isNew bool, r HeartbeatReply) {
	c := g.c
	if req.InstanceID == nil {
		if m = c.members[req.MemberID]; m == nil && req.Epoch != joinEpoch {
			return nil, false, refused(kerr.UnknownMemberID, "Member %s is not a member of group %s.", req.MemberID, g.Name)
		}
		if m == nil {
			return g.newConsumer(req.MemberID), true, r
		}
		return m, false, m.checkEpoch(req.Epoch, req.Owned)
	}
	existing := c.members[c.static[*req.InstanceID]]
	switch {
	case req.Epoch == joinEpoch && existing == nil:
		if m = c.members[req.MemberID]; m != nil {
			return m, false, r
		}
		return g.newConsumer(req.MemberID), true, r
	case req.Epoch == joinEpoch:
		if existing.classic == nil && existing.epoch != leaveStaticEpoch {
			return nil, false, refused(kerr.UnreleasedInstanceID, "Static member %s with instance id %s cannot join the group because the instance id is owned by %s member.",
				req.MemberID, *req.InstanceID, existing.id)
		}
		return g.replaceConsumer(existing, req.MemberID), false, r
	case existing == nil:
		return nil, false, refused(kerr.UnknownMemberID, "Instance id %s is unknown.", *req.InstanceID)
	case existing.id != req.MemberID:
		return nil, false, refused(kerr.FencedInstanceID, "Static member %s with instance id %s was fenced by member %s.", req.MemberID, *req.InstanceID, existing.id)
	}
	return existing, false, existing.checkEpoch(req.Epoch, req.Owned)
}

func (g *Group) newConsumer(id string) *consumerMember {
	g.seq++
	return &consumerMember{id: id, seq: g.seq}
}

// checkEpoch compares a heartbeat's epoch with the member's. One that is one
// step behind is the member that has not got the last answer, as long as it
// owns nothing that is no longer its.
func (m *consumerMember) checkEpoch(epoch int32, owned []TopicPartitions) HeartbeatReply {
	switch {
	case epoch == joinEpoch || epoch == m.epoch:
		return HeartbeatReply{}
	case epoch > m.epoch:
		return refused(kerr.FencedMemberEpoch, "The consumer group member has a greater member epoch (%d) than the one known by the group coordinator (%d). "+
			"The member must abandon all its partitions and rejoin.", epoch, m.epoch)
	case epoch == m.prevEpoch && owned != nil && m.ownsOnlyAssigned(owned):
		return HeartbeatReply{}
	}
	return refused(kerr.FencedMemberEpoch, "The consumer group member has a smaller member epoch (%d) than the one known by the group coordinator (%d). "+
		"The member must abandon all its partitions and rejoin.", epoch, m.epoch)
}

func (m *consumerMember) ownsOnlyAssigned(owned []TopicPartitions) bool {
	for _, t := range owned {
		for _, p := range t.Partitions {
			if !m.assigned.has(t.ID, p) {
				return false
			}
		}
	}
	return true
}

// update takes over what a heartbeat says of the member.
func (m *consumerMember) update(req *HeartbeatRequest) {
	if req.InstanceID != nil {
		m.instance = req.InstanceID
	}
	if req.RackID != nil {
		m.rack = req.RackID
	}
	if req.Rebalance >= 0 {
		m.rebalance = req.Rebalance
	}
	if req.Topics != nil {
		m.topics = sortedSet(req.Topics)
	}
	if req.Regex != nil {
		m.regex = *req.Regex
	}
	if req.Assignor != nil {
		m.assignor = *req.Assignor
	}
	m.clientID, m.clientHost = req.ClientID, req.ClientHost
	m.classic = nil
}

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

// converge is the second half of a heartbeat, and of a JoinGroup in a
// consumer group: the changed member is written down, the group's epoch is
// raised and the target computed when there is reason to, and the member is
// led towards it.
func (g *Group) converge(now time.Time, m, before *consumerMember, isNew bool, req *HeartbeatRequest) HeartbeatReply {
	c := g.c
	c.members[m.id] = m
	if before.instance != nil && c.static[*before.instance] == m.id {
		delete(c.static, *before.instance)
	}
	if m.instance != nil {
		c.static[*m.instance] = m.id
	}
	if isNew || !m.sameRecord(before) {
		g.emit(memberRecord(g.Name, m))
	}
	resubscribed := !slices.Equal(m.topics, before.topics) || m.regex != before.regex
	if m.regex != before.regex {
		g.dropUnusedRegex(before.regex)
		g.resolve(now, m.regex)
	}
	bump := resubscribed || c.epoch == 0
	if g.refresh(now, bump) {
		bump = true
	}
	if bump {
		g.bumpEpoch()
	}
	if c.epoch > c.targetEpoch && (c.targetAt.IsZero() || now.Sub(c.targetAt) >= req.Settings.AssignmentInterval) {
		g.assignTargets(now)
	}
	g.reconcile(now, m, req.Owned, resubscribed)
	session := req.Settings.Session
	if m.classic != nil {
		session = m.classic.session
	}
	m.deadline = now.Add(session)

	r := HeartbeatReply{MemberID: m.id, Epoch: m.epoch, Interval: req.Settings.Heartbeat}
	full := req.Epoch == joinEpoch || req.Rebalance >= 0 && (req.Topics != nil || req.Regex != nil) && req.Owned != nil
	if full || !m.assigned.equal(before.assigned) {
		r.Assigned, r.Assignment = true, m.assigned.partitions().sorted()
	}
	return r
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

// refresh looks whether the subscribed topics have changed: it resolves the
// regular expressions again and computes the hash. It costs nothing while the
// topics stay as they are, unless force is set.
func (g *Group) refresh(now time.Time, force bool) (changed bool) {
	c := g.c
	v := g.topics.Version()
	if c.fresh && c.seen == v && !force {
		return false
	}
	if !c.fresh || c.seen != v {
		for expr := range c.regexes {
			g.resolve(now, expr)
		}
	}
	c.seen, c.fresh = v, true
	hash := g.metadataHash()
	changed = hash != c.hash
	c.hash = hash
	return changed
}

// metadataHash is over name, id and number of partitions of every topic that
// a member subscribes to and that exists (KIP-1101); 0 when there is none.
func (g *Group) metadataHash() uint64 {
	names := g.subscribedNames()
	h := xxhash.New()
	any := false
	for _, name := range names {
		id, n, ok := g.topics.ByName(name)
		if !ok {
			continue
		}
		any = true
		h.WriteString(name)
		h.Write(id[:])
		var b [5]byte // a zero byte ends the name's part
		binary.BigEndian.PutUint32(b[1:], uint32(n))
		h.Write(b[:])
	}
	if !any {
		return 0
	}
	return h.Sum64()
}

// subscribedNames are the topics of all members, sorted.
func (g *Group) subscribedNames() []string {
	var names []string
	for _, m := range g.c.members {
		names = append(names, m.topics...)
	}
	for _, r := range g.c.regexes {
		names = append(names, r.topics...)
	}
	return sortedSet(names)
}

// maxRegexNodes bounds a regular expression with its repetitions written
// out, and with it the memory and time that a few bytes can ask for.
const maxRegexNodes = 10_000

// compileRegex compiles a subscription. It has to match a topic's whole name.
func compileRegex(expr string) (*regexp.Regexp, error) {
	if len(expr) > 4*maxRegexNodes {
		return nil, fmt.Errorf("%d bytes are too many", len(expr))
	}
	// By itself, so that no bracket can end the one below.
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, err
	}
	if n := regexNodes(tree); n > maxRegexNodes {
		return nil, fmt.Errorf("it is too large: %d nodes with its repetitions, allowed are %d", n, maxRegexNodes)
	}
	return regexp.Compile(`\A(?:` + expr + `)\z`)
}

func regexNodes(re *syntax.Regexp) int {
	n := 1 + len(re.Rune)
	for _, sub := range re.Sub {
		n += regexNodes(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min, re.Max, 1)
	}
	return n
}

// resolve finds the topics of a regular expression.
func (g *Group) resolve(now time.Time, expr string) {
	if expr == "" {
		return
	}
	c := g.c
	r := c.regexes[expr]
	isNew := r == nil
	if isNew {
		r = &resolvedRegex{}
		r.re, _ = compileRegex(expr) // it was checked before; from a damaged log it may be nil
		c.regexes[expr] = r
	}
	if r.re == nil {
		return
	}
	var topics []string
	for _, name := range g.topics.Names() {
		if r.re.MatchString(name) {
			topics = append(topics, name)
		}
	}
	slices.Sort(topics)
	if !isNew && slices.Equal(topics, r.topics) {
		return
	}
	r.topics, r.version, r.at = topics, g.topics.Version(), now
	g.emit(regexRecord(g.Name, expr, r))
}

// dropUnusedRegex forgets a regular expression that no member has any more.
func (g *Group) dropUnusedRegex(expr string) {
	if expr == "" || g.c.regexes[expr] == nil {
		return
	}
	for _, m := range g.c.members {
		if m.regex == expr {
			return
		}
	}
	delete(g.c.regexes, expr)
	g.emit(tombstone(keyRegex, g.Name, expr))
}

// subscribedIDs are the existing topics that a member wants, with their
// numbers of partitions.
func (g *Group) subscribedIDs(m *consumerMember) map[TopicID]int32 {
	ids := map[TopicID]int32{}
	add := func(names []string) {
		for _, name := range names {
			if id, n, ok := g.topics.ByName(name); ok {
				ids[id] = n
			}
		}
	}
	add(m.topics)
	if r := g.c.regexes[m.regex]; r != nil {
		add(r.topics)
	}
	return ids
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

// leaveConsumer handles the epochs -1 and -2.
func (g *Group) leaveConsumer(now time.Time, req HeartbeatRequest) HeartbeatReply {
	if g.c == nil {
		return refused(kerr.GroupIDNotFound, "Group %s is not a consumer group.", g.Name)
	}
	c := g.c
	var m *consumerMember
	if req.InstanceID == nil {
		if m = c.members[req.MemberID]; m == nil {
			return refused(kerr.UnknownMemberID, "Member %s is not a member of group %s.", req.MemberID, g.Name)
		}
	} else {
		m = c.members[c.static[*req.InstanceID]]
		switch {
		case m == nil:
			return refused(kerr.UnknownMemberID, "Instance id %s is unknown.", *req.InstanceID)
		case m.id != req.MemberID:
			return refused(kerr.FencedInstanceID, "Static member %s with instance id %s was fenced by member %s.", req.MemberID, *req.InstanceID, m.id)
		}
	}
	if req.Epoch == leaveStaticEpoch {
		m.epoch = leaveStaticEpoch
		g.own(m, m.assigned, nil)
		m.revokeBy = time.Time{}
		g.emit(currentRecord(g.Name, m))
	} else {
		g.fence(now, map[*consumerMember]bool{m: true})
	}
	return HeartbeatReply{MemberID: req.MemberID, Epoch: req.Epoch}
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
