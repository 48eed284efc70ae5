package group

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
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
