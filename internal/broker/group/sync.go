package group

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Assignment is what the leader gives one member.
type Assignment struct {
	MemberID string
	Bytes    []byte
}

// SyncRequest is a SyncGroup. Byte slices are kept: the caller must own them.
type SyncRequest struct {
	Token        Token
	MemberID     string
	InstanceID   *string
	Generation   int32
	ProtocolType *string // nil: not said (below version 5)
	Protocol     *string
	Assignments  []Assignment
}

// Sync handles a SyncGroup. The reply may come now or later.
func (g *Group) Sync(now time.Time, req SyncRequest) {
	fail := func(code int16) { g.reply(Reply{Token: req.Token, Code: code}) }
	if g.c != nil && g.state != Dead {
		g.bridgeSync(now, req)
		return
	}
	m, code := g.current(req.MemberID, req.InstanceID, req.Generation)
	switch {
	case code != 0:
		fail(code)
		return
	case req.ProtocolType != nil && *req.ProtocolType != g.protocolType,
		req.Protocol != nil && *req.Protocol != g.protocol:
		fail(kerr.InconsistentGroupProtocol.Code)
		return
	}
	switch g.state {
	case PreparingRebalance:
		fail(kerr.RebalanceInProgress.Code)
	case CompletingRebalance:
		m.synced = true
		g.wait(now, m, waitSync, req.Token)
		if m.id == g.leader {
			g.assign(now, req.Assignments)
		}
	case Stable:
		g.wait(now, m, waitSync, req.Token)
		g.answer(now, m, g.syncReply(m))
	default:
		fail(kerr.UnknownMemberID.Code)
	}
}

// assign ends a rebalance with the leader's decision.
func (g *Group) assign(now time.Time, as []Assignment) {
	for _, m := range g.members {
		m.assignment = nil
	}
	for _, a := range as {
		if m := g.members[a.MemberID]; m != nil {
			m.assignment = a.Bytes
		}
	}
	g.to(now, Stable)
	g.dirty = true
	for _, m := range g.ordered() {
		if m.wait == waitSync {
			g.answer(now, m, g.syncReply(m))
		}
	}
}

func (g *Group) syncReply(m *member) Reply {
	return Reply{ProtocolType: g.protocolType, Protocol: g.protocol, Assignment: m.assignment}
}

// current finds a member and checks that it is of the current generation.
func (g *Group) current(memberID string, instance *string, generation int32) (*member, int16) {
	if g.state == Dead {
		return nil, kerr.CoordinatorNotAvailable.Code
	}
	if code := g.checkInstance(memberID, instance); code != 0 {
		return nil, code
	}
	m := g.members[memberID]
	switch {
	case m == nil:
		return nil, kerr.UnknownMemberID.Code
	case generation != g.generation:
		return m, kerr.IllegalGeneration.Code
	}
	return m, 0
}

// Heartbeat keeps a member's session alive and tells it to join again when a
// rebalance is on.
func (g *Group) Heartbeat(now time.Time, memberID string, instance *string, generation int32) int16 {
	if g.c != nil && g.state != Dead {
		return g.bridgeHeartbeat(now, memberID, instance, generation)
	}
	m, code := g.current(memberID, instance, generation)
	if code != 0 {
		return code
	}
	m.deadline = now.Add(m.session)
	switch g.state {
	case PreparingRebalance:
		return kerr.RebalanceInProgress.Code
	case CompletingRebalance, Stable:
		return 0
	}
	return kerr.UnknownMemberID.Code
}

// LeaveMember names one who leaves: by member id, or by instance id (KIP-345).
type LeaveMember struct {
	MemberID   string
	InstanceID *string
}

// Leave removes members and returns an error code for each.
func (g *Group) Leave(now time.Time, ms []LeaveMember) []int16 {
	if g.c != nil && g.state != Dead {
		return g.bridgeLeave(now, ms)
	}
	codes := make([]int16, len(ms))
	removed, lost := false, false
	for i, lm := range ms {
		id := lm.MemberID
		if lm.InstanceID != nil {
			current, ok := g.static[*lm.InstanceID]
			switch {
			case !ok:
				codes[i] = kerr.UnknownMemberID.Code
				continue
			case id != "" && id != current:
				codes[i] = kerr.FencedInstanceID.Code
				continue
			}
			id = current
		}
		if _, ok := g.pending[id]; ok {
			delete(g.pending, id)
			lost = true
		} else if m := g.members[id]; m != nil {
			g.remove(m, kerr.UnknownMemberID.Code)
			removed = true
		} else {
			codes[i] = kerr.UnknownMemberID.Code
		}
	}
	if removed || lost {
		g.membersLeft(now, removed)
	}
	return codes
}

// CommitRequest is who an OffsetCommit is from.
type CommitRequest struct {
	MemberID   string
	InstanceID *string
	Generation int32 // or member epoch
	// OldClient is a client of a version (below 9) that does not know member
	// epochs.
	OldClient bool
}

// CheckCommit decides whether an OffsetCommit is allowed. With code 0, each,
// unless it is nil, has to be asked for every partition; an error for one is
// that of the whole request. A commit of a classic member counts as a heartbeat.
func (g *Group) CheckCommit(now time.Time, req CommitRequest) (code int16, each func(TopicID, int32) int16) {
	if g.state == Dead {
		return kerr.CoordinatorNotAvailable.Code, nil
	}
	if g.c != nil {
		return g.checkConsumerCommit(req)
	}
	if req.Generation < 0 && g.state == Empty {
		return 0, nil // an admin client, or a consumer that assigns its partitions itself
	}
	if req.Generation < 0 && req.MemberID == "" && req.InstanceID == nil {
		return kerr.UnknownMemberID.Code, nil // only members may commit while there are some
	}
	m, code := g.current(req.MemberID, req.InstanceID, req.Generation)
	if code != 0 {
		return code, nil
	}
	m.deadline = now.Add(m.session)
	if g.state == CompletingRebalance {
		return kerr.RebalanceInProgress.Code, nil
	}
	return 0, nil
}

// checkConsumerCommit is CheckCommit of a consumer group. A member may still
// commit with an epoch that it has left behind, for the partitions that it
// had by then and still has (KIP-1251).
func (g *Group) checkConsumerCommit(req CommitRequest) (code int16, each func(TopicID, int32) int16) {
	if req.Generation < 0 && len(g.c.members) == 0 {
		return 0, nil
	}
	m := g.c.members[req.MemberID]
	if m == nil {
		return kerr.UnknownMemberID.Code, nil
	}
	stale := m.staleCode()
	switch {
	case m.classic == nil && req.OldClient:
		return kerr.UnsupportedVersion.Code, nil
	case req.Generation == m.epoch:
		return 0, nil
	case req.Generation > m.epoch:
		return stale, nil
	}
	return 0, func(id TopicID, p int32) int16 {
		at, ok := m.assigned[id][p]
		if !ok {
			at, ok = m.revoking[id][p]
		}
		if !ok || req.Generation < at {
			return stale
		}
		return 0
	}
}

// staleCode is the error for a wrong epoch.
func (m *consumerMember) staleCode() int16 {
	if m.classic != nil {
		return kerr.IllegalGeneration.Code
	}
	return kerr.StaleMemberEpoch.Code
}

// CheckFetch decides whether an OffsetFetch is allowed. A nil member id with
// a negative epoch is an admin client, or one that does not say who it is.
func (g *Group) CheckFetch(memberID *string, epoch int32) int16 {
	if g.c == nil || memberID == nil && epoch < 0 {
		return 0
	}
	var m *consumerMember
	if memberID != nil {
		m = g.c.members[*memberID]
	}
	switch {
	case m == nil:
		return kerr.UnknownMemberID.Code
	case m.epoch != epoch:
		return m.staleCode()
	}
	return 0
}

// SetOffset notes a commit that is in the group log.
func (g *Group) SetOffset(tp TopicPartition, o Offset) {
	g.ForgetOffset(tp)
	g.offsets[tp] = o
	g.offsetBytes += o.size()
}

// Offset returns a committed offset.
func (g *Group) Offset(tp TopicPartition) (Offset, bool) {
	o, ok := g.offsets[tp]
	return o, ok
}

// Offsets lists all partitions with a committed offset, sorted.
func (g *Group) Offsets() []TopicPartition {
	tps := make([]TopicPartition, 0, len(g.offsets))
	for tp := range g.offsets {
		tps = append(tps, tp)
	}
	slices.SortFunc(tps, compareTP)
	return tps
}

func compareTP(a, b TopicPartition) int {
	switch {
	case a.Topic < b.Topic:
		return -1
	case a.Topic > b.Topic:
		return 1
	}
	return int(a.Partition) - int(b.Partition)
}

// ForgetOffset drops a committed offset; the caller has put a tombstone into
// the group log.
func (g *Group) ForgetOffset(tp TopicPartition) {
	if o, ok := g.offsets[tp]; ok {
		g.offsetBytes -= o.size()
		delete(g.offsets, tp)
	}
}

// Expired lists the offsets that are older than retention. Those of an empty
// group count from when it became empty; in a group with members those of
// topics that nobody subscribes to expire, where that is known (KIP-211).
func (g *Group) Expired(now time.Time, retention time.Duration) []TopicPartition {
	state := g.State()
	if state != Empty && g.c == nil && state != Stable || state == Dead {
		return nil
	}
	kept := map[string]bool{} // topics that members subscribe to, or may
	subscribed := func(topic string) bool {
		is, ok := kept[topic]
		if !ok && state != Empty {
			in, known := g.Subscribed(topic)
			is = in || !known
			kept[topic] = is
		}
		return is
	}
	var tps []TopicPartition
	for tp, o := range g.offsets {
		from := o.Committed
		if state == Empty && g.c == nil && g.protocolType != "" && g.since.After(from) {
			from = g.since
		}
		if now.Sub(from) >= retention && !subscribed(tp.Topic) {
			tps = append(tps, tp)
		}
	}
	slices.SortFunc(tps, compareTP)
	return tps
}

// Subscribed reports whether a member consumes the topic: then its offsets
// must not be deleted. known is false when the members' protocol is not
// Kafka's own, so that nobody can tell.
func (g *Group) Subscribed(topic string) (subscribed, known bool) {
	if g.c != nil {
		return slices.Contains(g.subscribedNames(), topic), true
	}
	if len(g.members) == 0 {
		return false, true
	}
	if g.protocolType != "consumer" {
		return true, false
	}
	for _, m := range g.members {
		for _, p := range m.protocols {
			meta := kmsg.NewConsumerMemberMetadata()
			if err := meta.ReadFrom(p.Metadata); err != nil {
				return true, true // of any topic, for all that is known
			}
			if slices.Contains(meta.Topics, topic) {
				return true, true
			}
		}
	}
	return false, true
}

// Kill makes the group refuse everything from now on; it is for DeleteGroups
// and the end of the coordinator. Waiting requests are told to look for the
// coordinator again.
func (g *Group) Kill() {
	for _, m := range g.ordered() {
		g.remove(m, kerr.NotCoordinator.Code)
	}
	clear(g.pending)
	g.recs, g.dirty = nil, false // nothing of this is to be written
	g.state = Dead
}

// MemberInfo describes a member for DescribeGroups.
type MemberInfo struct {
	ID         string
	InstanceID *string
	ClientID   string
	ClientHost string
	Metadata   []byte
	Assignment []byte
}

// Describe lists the members; metadata and assignments only in a stable
// group, as Kafka does.
func (g *Group) Describe() (protocol string, members []MemberInfo) {
	for _, m := range g.ordered() {
		mi := MemberInfo{ID: m.id, InstanceID: m.instance, ClientID: m.clientID, ClientHost: m.clientHost}
		if g.state == Stable {
			mi.Metadata, mi.Assignment = m.metadata(g.protocol), m.assignment
		}
		members = append(members, mi)
	}
	if g.state == Stable {
		protocol = g.protocol
	}
	return protocol, members
}
