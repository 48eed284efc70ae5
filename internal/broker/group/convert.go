package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Type of a group.
type Type int8

const (
	Classic Type = iota
	Consumer
)

// String is the name that ListGroups shows.
func (t Type) String() string {
	if t == Consumer {
		return "consumer"
	}
	return "classic"
}

// Type returns the group's type.
func (g *Group) Type() Type {
	if g.c != nil {
		return Consumer
	}
	return Classic
}

func newConsumerGroup() *consumerGroup {
	return &consumerGroup{
		target: map[string]partitions{}, members: map[string]*consumerMember{}, static: map[string]string{},
		owners: map[TopicID]map[int32]string{}, regexes: map[string]*resolvedRegex{},
	}
}

// becomeConsumer makes a consumer group of a classic one, because a member
// of the consumer protocol joins. One without members just changes. In one
// with members, which then have to be Kafka's consumers, they stay, with what
// they own, as members that speak the classic protocol (see bridge.go).
func (g *Group) becomeConsumer(now time.Time) HeartbeatReply {
	c := newConsumerGroup()
	if len(g.members) > 0 {
		switch {
		case !g.limits.Migration.up():
			return refused(kerr.GroupIDNotFound, "Group %s is not a consumer group: its members use the classic protocol, and group.consumer.migration.policy is %s.", g.Name, g.limits.Migration)
		case g.protocolType != consumerProtocol:
			return refused(kerr.GroupIDNotFound, "Group %s is not a consumer group: its members are of protocol type %q.", g.Name, g.protocolType)
		}
		c.epoch, c.targetEpoch, c.targetAt = g.generation, g.generation, now
	}
	members := g.ordered()
	converted := make([]*consumerMember, 0, len(members))
	taken := map[TopicID]map[int32]bool{}
	for _, m := range members {
		n, assigned, err := g.convertMember(m)
		if err != nil {
			return refused(kerr.GroupIDNotFound, "Cannot upgrade the classic group %s to consumer group because the embedded consumer protocol is malformed.", g.Name)
		}
		n.assigned = epochs{}
		for id, ps := range assigned {
			for _, p := range ps {
				if taken[id] == nil {
					taken[id] = map[int32]bool{}
				}
				if !taken[id][p] { // an assignor of the client's may have given it twice
					taken[id][p] = true
					n.assigned.set(id, p, g.generation)
				}
			}
		}
		n.deadline = m.deadline
		converted = append(converted, n)
	}
	// From here on nothing fails. Who waits is told to join again.
	for _, m := range members {
		if m.wait != waitNone {
			g.reply(Reply{Token: m.token, Join: m.wait == waitJoin, Code: kerr.RebalanceInProgress.Code, Generation: -1, MemberID: m.id})
		}
	}
	g.emit(MetadataTombstone(g.Name))
	g.clearClassic(now)
	g.c = c
	for _, n := range converted {
		assigned := n.assigned
		n.assigned = nil
		c.members[n.id] = n
		if n.instance != nil {
			c.static[*n.instance] = n.id
		}
		g.own(n, assigned, nil)
		c.target[n.id] = assigned.partitions()
	}
	if len(converted) > 0 {
		c.hash = g.metadataHash()
		g.emit(g.consumerSnapshot()...)
	}
	return HeartbeatReply{}
}

// convertMember makes a classic member one of a consumer group.
func (g *Group) convertMember(m *member) (*consumerMember, map[TopicID][]int32, error) {
	protocol := g.protocol
	if protocol == "" && len(m.protocols) > 0 {
		protocol = m.protocols[0].Name
	}
	meta := kmsg.NewConsumerMemberMetadata()
	if err := meta.ReadFrom(m.metadata(protocol)); err != nil {
		return nil, nil, err
	}
	n := &consumerMember{
		id: m.id, instance: m.instance, rack: meta.Rack, clientID: m.clientID, clientHost: m.clientHost,
		rebalance: m.rebalance, topics: sortedSet(meta.Topics),
		classic: &classicMember{session: m.session, protocols: m.protocols},
		epoch:   g.generation, prevEpoch: g.generation, seq: m.seq,
	}
	assigned := map[TopicID][]int32{}
	if len(m.assignment) == 0 {
		return n, assigned, nil
	}
	a := kmsg.NewConsumerMemberAssignment()
	if err := a.ReadFrom(m.assignment); err != nil {
		return nil, nil, err
	}
	for _, t := range a.Topics {
		if id, count, ok := g.topics.ByName(t.Topic); ok {
			for _, p := range t.Partitions {
				if p >= 0 && p < count {
					assigned[id] = append(assigned[id], p)
				}
			}
		}
	}
	return n, assigned, nil
}

func (g *Group) clearClassic(now time.Time) {
	clear(g.members)
	clear(g.static)
	clear(g.pending)
	g.generation, g.protocolType, g.protocol, g.leader = 0, "", "", ""
	g.dirty = false
	g.to(now, Empty)
}

// canDowngrade reports whether all members but those that go speak the
// classic protocol, so that the group can be a classic one again.
func (g *Group) canDowngrade(gone map[*consumerMember]bool) bool {
	others, consumers := 0, 0
	for _, m := range g.c.members {
		switch {
		case gone[m] && m.classic == nil:
			consumers++
		case gone[m]:
		case m.classic == nil:
			return false
		default:
			others++
		}
	}
	return consumers > 0 && others > 0 && others <= g.limits.MaxSize && g.limits.Migration.down()
}

// becomeClassic makes a stable classic group of a consumer group, whose
// members but those that are gone speak the classic protocol. One of them may
// just be joining.
func (g *Group) becomeClassic(now time.Time, gone map[*consumerMember]bool, joining *consumerMember) {
	c := g.c
	g.emit(g.consumerTombstones()...)
	g.c = nil
	g.clearClassic(now)
	g.generation, g.protocolType = c.epoch, consumerProtocol
	for _, m := range c.ordered() {
		if gone[m] {
			continue
		}
		n := &member{
			id: m.id, instance: m.instance, clientID: m.clientID, clientHost: m.clientHost,
			session: m.classic.session, rebalance: m.rebalance, protocols: m.classic.protocols,
			synced: true, deadline: m.deadline, seq: m.seq,
		}
		if m == joining {
			n.deadline = now.Add(n.session)
		}
		g.members[n.id] = n
		if n.instance != nil {
			g.static[*n.instance] = n.id
		}
	}
	g.protocol = g.choose()
	for _, n := range g.ordered() {
		if g.leader == "" {
			g.leader = n.id
		}
		n.assignment = g.encodeAssignment(c.target[n.id], n.metadata(g.protocol))
	}
	g.to(now, Stable)
	g.dirty = true
}

// becomeEmptyClassic makes a classic group of a consumer group without
// members, because a classic member joins.
func (g *Group) becomeEmptyClassic(now time.Time) {
	g.emit(g.consumerTombstones()...)
	g.c = nil
	g.clearClassic(now)
}

// encodeAssignment writes an assignment for a classic member, in the version
// of its subscription.
func (g *Group) encodeAssignment(ps partitions, subscription []byte) []byte {
	a := kmsg.NewConsumerMemberAssignment()
	if len(subscription) >= 2 {
		a.Version = min(int16(subscription[0])<<8|int16(subscription[1]), 3)
	}
	for _, t := range ps.sorted() {
		if name, ok := g.topics.ByID(t.ID); ok {
			at := kmsg.NewConsumerMemberAssignmentTopic()
			at.Topic, at.Partitions = name, t.Partitions
			a.Topics = append(a.Topics, at)
		}
	}
	return a.AppendTo(nil)
}
