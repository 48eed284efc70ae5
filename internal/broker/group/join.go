package group

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// JoinRequest is a JoinGroup. Byte slices are kept: the caller must own them.
type JoinRequest struct {
	Token        Token
	MemberID     string // "" for a new member
	NewMemberID  string // a fresh id, for when one has to be given
	InstanceID   *string
	ClientID     string
	ClientHost   string
	Session      time.Duration
	Rebalance    time.Duration // negative: the session time-out (version 0)
	ProtocolType string
	Protocols    []Protocol

	// RequireKnownID makes a new dynamic member come back with the id it is
	// given before it counts (KIP-394, version 4 and up).
	RequireKnownID bool
	// CanSkipAssignment: the client understands SkipAssignment (KIP-814,
	// version 9 and up).
	CanSkipAssignment bool
}

// Join handles a JoinGroup. The reply, with req.Token, may come now or later.
func (g *Group) Join(now time.Time, req JoinRequest) {
	fail := func(code int16, memberID string) {
		g.reply(Reply{Token: req.Token, Join: true, Code: code, Generation: -1, MemberID: memberID})
	}
	if req.Rebalance < 0 {
		req.Rebalance = req.Session
	}
	switch {
	case g.state == Dead:
		fail(kerr.CoordinatorNotAvailable.Code, req.MemberID)
		return
	case req.Session < g.limits.MinSession || req.Session > g.limits.MaxSession:
		fail(kerr.InvalidSessionTimeout.Code, req.MemberID)
		return
	case g.c != nil && len(g.c.members) > 0:
		g.bridgeJoin(now, req)
		return
	case !g.acceptsProtocols(req):
		fail(kerr.InconsistentGroupProtocol.Code, req.MemberID)
		return
	}
	if g.c != nil {
		g.becomeEmptyClassic(now)
	}
	if req.MemberID == "" {
		g.joinNew(now, req, fail)
		return
	}
	if code := g.checkInstance(req.MemberID, req.InstanceID); code != 0 {
		fail(code, req.MemberID)
		return
	}
	if _, ok := g.pending[req.MemberID]; ok {
		if req.InstanceID != nil { // ids are handed out to dynamic members only
			fail(kerr.UnknownMemberID.Code, req.MemberID)
			return
		}
		delete(g.pending, req.MemberID)
		g.add(now, req, req.MemberID)
		return
	}
	m, ok := g.members[req.MemberID]
	if !ok {
		fail(kerr.UnknownMemberID.Code, req.MemberID)
		return
	}
	switch g.state {
	case PreparingRebalance:
		g.rejoin(now, m, req)
	case CompletingRebalance:
		if m.matches(req.Protocols) {
			// The reply of this generation was lost on the way.
			g.answerCurrent(now, m, req, g.leader)
			return
		}
		g.rejoin(now, m, req)
	case Stable:
		// The leader rejoins to make the group rebalance, for instance
		// because a topic got partitions.
		if m.id != g.leader && m.matches(req.Protocols) {
			g.answerCurrent(now, m, req, g.leader)
			return
		}
		g.rejoin(now, m, req)
	default:
		fail(kerr.UnknownMemberID.Code, req.MemberID)
	}
}

func (g *Group) joinNew(now time.Time, req JoinRequest, fail func(int16, string)) {
	if req.InstanceID != nil {
		if old, ok := g.static[*req.InstanceID]; ok {
			g.replaceStatic(now, g.members[old], req)
			return
		}
	}
	if len(g.members)+len(g.pending) >= g.limits.MaxSize {
		fail(kerr.GroupMaxSizeReached.Code, "")
		return
	}
	if req.RequireKnownID && req.InstanceID == nil {
		g.pending[req.NewMemberID] = now.Add(req.Session)
		fail(kerr.MemberIDRequired.Code, req.NewMemberID)
		return
	}
	g.add(now, req, req.NewMemberID)
}

// acceptsProtocols checks that the group and the member have the protocol
// type and at least one protocol in common.
func (g *Group) acceptsProtocols(req JoinRequest) bool {
	if req.ProtocolType == "" || len(req.Protocols) == 0 {
		return false
	}
	if len(g.members) == 0 {
		return true
	}
	if req.ProtocolType != g.protocolType {
		return false
	}
	for _, p := range req.Protocols {
		if g.supportedByAll(p.Name, req.MemberID) {
			return true
		}
	}
	return false
}

// supportedByAll reports whether every member but the one excepted offers
// the protocol.
func (g *Group) supportedByAll(protocol, except string) bool {
	for _, m := range g.members {
		if m.id != except && !m.offers(protocol) {
			return false
		}
	}
	return true
}

func (m *member) offers(protocol string) bool {
	return slices.ContainsFunc(m.protocols, func(p Protocol) bool { return p.Name == protocol })
}

// checkInstance compares a member id with its static identity (KIP-345).
func (g *Group) checkInstance(memberID string, instance *string) int16 {
	if instance == nil {
		return 0
	}
	switch id, ok := g.static[*instance]; {
	case !ok:
		return kerr.UnknownMemberID.Code
	case id != memberID:
		return kerr.FencedInstanceID.Code
	}
	return 0
}

func (g *Group) add(now time.Time, req JoinRequest, id string) {
	if len(g.members) == 0 {
		g.protocolType = req.ProtocolType
	}
	g.seq++
	g.joinedSince = true
	m := &member{id: id, instance: req.InstanceID, seq: g.seq}
	m.take(req)
	g.members[id] = m
	if req.InstanceID != nil {
		g.static[*req.InstanceID] = id
	}
	g.wait(now, m, waitJoin, req.Token)
	g.joined(now)
}

func (m *member) take(req JoinRequest) {
	m.clientID, m.clientHost = req.ClientID, req.ClientHost
	m.session, m.rebalance, m.protocols = req.Session, req.Rebalance, req.Protocols
}

func (g *Group) rejoin(now time.Time, m *member, req JoinRequest) {
	m.take(req)
	g.wait(now, m, waitJoin, req.Token)
	g.joined(now)
}

// joined continues after a member has joined or joined again.
func (g *Group) joined(now time.Time) {
	if g.state == PreparingRebalance {
		g.maybeCompleteJoin(now)
	} else {
		g.prepareRebalance(now)
	}
}

// wait notes what a member waits for. An older request of the same member
// that still waits is told to try again: its client has moved on.
func (g *Group) wait(now time.Time, m *member, w waiting, t Token) {
	if m.wait != waitNone {
		g.reply(Reply{Token: m.token, Join: m.wait == waitJoin, Code: kerr.RebalanceInProgress.Code, Generation: -1, MemberID: m.id})
	}
	m.wait, m.token = w, t
	m.deadline = now.Add(m.session)
}

// replaceStatic lets a restarted static member take the place of its former
// self (KIP-345): in a stable group without a rebalance if its subscription
// is unchanged. The former self, should it still run, is fenced.
func (g *Group) replaceStatic(now time.Time, old *member, req JoinRequest) {
	formerLeader := g.leader
	assignment, unchanged, synced := old.assignment, old.matches(req.Protocols), old.synced
	g.remove(old, kerr.FencedInstanceID.Code)
	g.leader = formerLeader
	m := &member{id: req.NewMemberID, instance: req.InstanceID, assignment: assignment, synced: synced, seq: old.seq}
	m.take(req)
	g.members[m.id] = m
	g.static[*req.InstanceID] = m.id
	wasLeader := g.leader == old.id
	if wasLeader {
		g.leader = m.id
	}
	if g.state == Stable && unchanged {
		g.dirty = true
		if wasLeader && !req.CanSkipAssignment {
			// An old client that hears it is the leader computes an
			// assignment nobody asked for. Told its former id is the
			// leader, it synchronises as a follower.
			g.answerCurrent(now, m, req, formerLeader)
			return
		}
		g.answerCurrent(now, m, req, g.leader)
		return
	}
	g.wait(now, m, waitJoin, req.Token)
	g.joined(now)
}

// answerCurrent answers a JoinGroup with the generation as it is.
func (g *Group) answerCurrent(now time.Time, m *member, req JoinRequest, leader string) {
	m.clientID, m.clientHost, m.session, m.rebalance = req.ClientID, req.ClientHost, req.Session, req.Rebalance
	g.wait(now, m, waitJoin, req.Token)
	r := g.joinReply(m, leader)
	r.SkipAssignment = leader == m.id && g.state == Stable
	g.answer(now, m, r)
}

func (g *Group) joinReply(m *member, leader string) Reply {
	r := Reply{
		Generation: g.generation, ProtocolType: g.protocolType, Protocol: g.protocol,
		Leader: leader, MemberID: m.id,
	}
	if leader == m.id {
		for _, o := range g.ordered() {
			r.Members = append(r.Members, JoinMember{MemberID: o.id, InstanceID: o.instance, Metadata: o.metadata(g.protocol)})
		}
	}
	return r
}

// prepareRebalance makes everybody join again.
func (g *Group) prepareRebalance(now time.Time) {
	if g.state == CompletingRebalance {
		for _, m := range g.ordered() {
			m.assignment = nil
			if m.wait == waitSync {
				g.answer(now, m, Reply{Code: kerr.RebalanceInProgress.Code})
			}
		}
	}
	first := g.state == Empty && g.limits.InitialDelay > 0
	g.to(now, PreparingRebalance)
	g.rebalanceBy = now.Add(g.longestRebalance())
	if first {
		g.delay(now)
	}
	g.maybeCompleteJoin(now)
}

// delay holds the first rebalance of a group up for the members that are
// about to come.
func (g *Group) delay(now time.Time) {
	g.joinedSince = false
	g.delayUntil = now.Add(g.limits.InitialDelay)
	if g.delayUntil.After(g.rebalanceBy) {
		g.delayUntil = g.rebalanceBy
	}
}

// delayed continues when the initial delay is over: with another one if
// somebody has joined meanwhile, but not beyond the rebalance time-out.
func (g *Group) delayed(now time.Time) {
	if g.joinedSince && now.Before(g.rebalanceBy) {
		g.delay(now)
		return
	}
	g.delayUntil = time.Time{}
	g.completeJoin(now)
}

func (g *Group) longestRebalance() time.Duration {
	var d time.Duration
	for _, m := range g.members {
		d = max(d, m.rebalance)
	}
	return d
}

// maybeCompleteJoin ends the joining phase when nobody is missing. Ids that
// were handed out count as somebody (KIP-394).
func (g *Group) maybeCompleteJoin(now time.Time) {
	if len(g.pending) > 0 || !g.delayUntil.IsZero() {
		return
	}
	for _, m := range g.members {
		if m.wait != waitJoin {
			return
		}
	}
	g.completeJoin(now)
}

// completeJoin starts the next generation with those who joined.
func (g *Group) completeJoin(now time.Time) {
	joined := 0
	for _, m := range g.ordered() {
		switch {
		case m.wait == waitJoin:
			joined++
		case m.instance == nil:
			// Static members stay until their session ends (KIP-345).
			g.remove(m, kerr.UnknownMemberID.Code)
		}
	}
	if len(g.members) == 0 {
		g.generation = nextGeneration(g.generation)
		g.protocol, g.leader = "", ""
		g.to(now, Empty)
		g.dirty = true
		return
	}
	if joined == 0 { // static members only, all absent: wait for one of them
		g.rebalanceBy = now.Add(max(g.longestRebalance(), time.Second))
		return
	}
	if l := g.members[g.leader]; l == nil || l.wait != waitJoin {
		g.leader = ""
	}
	g.generation = nextGeneration(g.generation)
	g.protocol = g.choose()
	g.to(now, CompletingRebalance)
	g.syncBy = now.Add(g.longestRebalance())
	ms := g.ordered()
	for _, m := range ms {
		m.synced = false
		if g.leader == "" && m.wait == waitJoin {
			g.leader = m.id
		}
	}
	for _, m := range ms {
		if m.wait == waitJoin {
			g.answer(now, m, g.joinReply(m, g.leader))
		}
	}
}

func nextGeneration(n int32) int32 {
	if n == 1<<31-1 {
		return 1
	}
	return n + 1
}

// choose picks the protocol: of those that all members offer, the one that
// most members name first. Ties go to the one an older member prefers.
func (g *Group) choose() string {
	votes := map[string]int{}
	var best string
	ms := g.ordered()
	for _, m := range ms {
		for _, p := range m.protocols {
			if g.supportedByAll(p.Name, "") {
				votes[p.Name]++
				break
			}
		}
	}
	for _, m := range ms {
		for _, p := range m.protocols {
			if votes[p.Name] > votes[best] {
				best = p.Name
			}
		}
	}
	return best
}

func sortMembers(ms []*member) {
	slices.SortFunc(ms, func(a, b *member) int { return a.seq - b.seq })
}
