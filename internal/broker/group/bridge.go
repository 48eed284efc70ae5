package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Members that speak the classic protocol in a consumer group (KIP-848,
// "Online migration"). To them the coordinator is a leader that has always
// decided already: a JoinGroup is a heartbeat with the whole subscription, the
// generation is the member's epoch, SyncGroup gets the member's assignment,
// and a Heartbeat says REBALANCE_IN_PROGRESS when the member has to come back
// because its epoch is old, or because it has to give back or may get more.

// consumerProtocol is the protocol type of Kafka's consumers.
const consumerProtocol = "consumer"

func (g *Group) bridgeJoin(now time.Time, req JoinRequest) {
	c := g.c
	fail := func(e *kerr.Error) {
		g.reply(Reply{Token: req.Token, Join: true, Code: e.Code, Generation: -1, MemberID: req.MemberID})
	}
	id := req.MemberID
	if id == "" {
		id = req.NewMemberID
	}
	switch {
	case g.limits.Migration == MigrateNothing:
		fail(kerr.InconsistentGroupProtocol)
		return
	case g.roomFor(id).Code != 0:
		fail(kerr.GroupMaxSizeReached)
		return
	case !g.bridgeable(req):
		fail(kerr.InconsistentGroupProtocol)
		return
	case req.MemberID == "" && req.RequireKnownID && req.InstanceID == nil:
		g.reply(Reply{Token: req.Token, Join: true, Code: kerr.MemberIDRequired.Code, Generation: -1, MemberID: id})
		return
	}
	meta := kmsg.NewConsumerMemberMetadata()
	if err := meta.ReadFrom(req.Protocols[0].Metadata); err != nil {
		fail(kerr.InconsistentGroupProtocol)
		return
	}
	var m, replaced *consumerMember
	isNew := false
	switch existing := g.staticMember(req.InstanceID); {
	case req.InstanceID == nil, existing == nil && req.MemberID == "":
		if m = c.members[id]; m == nil {
			m, isNew = g.newConsumer(id), true
		}
	case existing == nil:
		fail(kerr.UnknownMemberID)
		return
	case req.MemberID == "":
		replaced = existing
		m = g.replaceConsumer(existing, id)
	case existing.id != req.MemberID:
		fail(kerr.FencedInstanceID)
		return
	default:
		m = existing
	}
	before := *m
	if req.InstanceID != nil {
		m.instance = req.InstanceID
	}
	if meta.Rack != nil {
		m.rack = meta.Rack
	}
	m.rebalance, m.topics, m.regex = req.Rebalance, sortedSet(meta.Topics), ""
	m.clientID, m.clientHost = req.ClientID, req.ClientHost
	m.classic = &classicMember{session: req.Session, protocols: req.Protocols}
	owned := []TopicPartitions{}
	for _, o := range meta.OwnedPartitions {
		if tid, _, ok := g.topics.ByName(o.Topic); ok {
			owned = append(owned, TopicPartitions{ID: tid, Partitions: o.Partitions})
		}
	}
	g.converge(now, m, &before, isNew, &HeartbeatRequest{Epoch: m.epoch, Owned: owned, Rebalance: -1, Settings: g.limits.Consumer})
	m.joinBy, m.syncBy = time.Time{}, now.Add(req.Rebalance)
	if replaced != nil && replaced.classic == nil && g.allClassic() && len(c.members) <= g.limits.MaxSize && g.limits.Migration.down() {
		g.becomeClassic(now, nil, m)
	}
	g.reply(Reply{
		Token: req.Token, Join: true, Generation: m.epoch, ProtocolType: consumerProtocol, Protocol: req.Protocols[0].Name, MemberID: m.id,
	})
}

// bridgeable reports whether a member's protocols fit the other classic
// members'.
func (g *Group) bridgeable(req JoinRequest) bool {
	if req.ProtocolType != consumerProtocol {
		return false
	}
	for _, p := range req.Protocols {
		all := true
		for _, m := range g.c.members {
			if m.classic != nil && m.id != req.MemberID && !(&member{protocols: m.classic.protocols}).offers(p.Name) {
				all = false
				break
			}
		}
		if all {
			return true
		}
	}
	return false
}

func (g *Group) allClassic() bool {
	for _, m := range g.c.members {
		if m.classic == nil {
			return false
		}
	}
	return true
}

func (g *Group) staticMember(instance *string) *consumerMember {
	if instance == nil {
		return nil
	}
	return g.c.members[g.c.static[*instance]]
}

// bridgeMember finds a classic member of a consumer group.
func (g *Group) bridgeMember(memberID string, instance *string, generation int32) (*consumerMember, int16) {
	m := g.c.members[memberID]
	if instance != nil {
		if m = g.staticMember(instance); m != nil && m.id != memberID {
			return nil, kerr.FencedInstanceID.Code
		}
	}
	switch {
	case m == nil || m.classic == nil:
		return nil, kerr.UnknownMemberID.Code
	case generation != m.epoch:
		return nil, kerr.IllegalGeneration.Code
	}
	return m, 0
}

func (g *Group) bridgeSync(now time.Time, req SyncRequest) {
	fail := func(code int16) { g.reply(Reply{Token: req.Token, Code: code}) }
	m, code := g.bridgeMember(req.MemberID, req.InstanceID, req.Generation)
	if code != 0 {
		fail(code)
		return
	}
	protocol := m.classic.protocols[0]
	switch {
	case req.ProtocolType != nil && *req.ProtocolType != consumerProtocol, req.Protocol != nil && *req.Protocol != protocol.Name:
		fail(kerr.InconsistentGroupProtocol.Code)
		return
	case g.c.epoch > m.epoch && m.state != memberUnrevoked:
		g.toldToJoin(now, m)
		fail(kerr.RebalanceInProgress.Code)
		return
	}
	m.syncBy = time.Time{}
	m.deadline = now.Add(m.classic.session)
	g.reply(Reply{
		Token: req.Token, ProtocolType: consumerProtocol, Protocol: protocol.Name,
		Assignment: g.encodeAssignment(m.assigned.partitions(), protocol.Metadata),
	})
}

// toldToJoin starts the time in which a member has to join again.
func (g *Group) toldToJoin(now time.Time, m *consumerMember) {
	if m.joinBy.IsZero() {
		m.joinBy = now.Add(m.rebalance)
	}
}

func (g *Group) bridgeHeartbeat(now time.Time, memberID string, instance *string, generation int32) int16 {
	m, code := g.bridgeMember(memberID, instance, generation)
	if code != 0 {
		return code
	}
	m.deadline = now.Add(m.classic.session)
	if m.epoch < g.c.epoch || m.state == memberUnrevoked || m.state == memberUnreleased && !g.waitsForOthers(m) {
		g.toldToJoin(now, m)
		return kerr.RebalanceInProgress.Code
	}
	return 0
}

// waitsForOthers reports whether others still own a partition that the member
// is to get.
func (g *Group) waitsForOthers(m *consumerMember) bool {
	for id, ps := range g.c.target[m.id] {
		for _, p := range ps {
			if owner, taken := g.c.owners[id][p]; taken && owner != m.id {
				return true
			}
		}
	}
	return false
}

// bridgeLeave removes members of both protocols: admin clients take members
// out of a group by it.
func (g *Group) bridgeLeave(now time.Time, ms []LeaveMember) []int16 {
	codes := make([]int16, len(ms))
	gone := map[*consumerMember]bool{}
	for i, lm := range ms {
		m := g.c.members[lm.MemberID]
		if lm.InstanceID != nil {
			if m = g.staticMember(lm.InstanceID); m != nil && lm.MemberID != "" && lm.MemberID != m.id {
				codes[i] = kerr.FencedInstanceID.Code
				continue
			}
		}
		if m == nil {
			codes[i] = kerr.UnknownMemberID.Code
			continue
		}
		gone[m] = true
	}
	if len(gone) > 0 {
		g.fence(now, gone)
	}
	return codes
}
