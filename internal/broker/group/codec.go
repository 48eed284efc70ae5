package group

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The group log has Apache Kafka's own keys and values, those of the topic
// __consumer_offsets: OffsetCommitKey 1 with OffsetCommitValue 4,
// GroupMetadataKey 2 with GroupMetadataValue 3 for classic groups, and those of
// consumercodec.go for consumer groups. A null value deletes. So any tool that
// reads that topic reads ours.
const (
	offsetKeyVersion   = 1
	offsetValueVersion = 4
	groupKeyVersion    = 2
	groupValueVersion  = 3
)

// Record is one entry of the group log. A nil Value is a tombstone.
type Record struct {
	Key, Value []byte
}

// OffsetRecord makes the entry for a commit, or with o == nil its tombstone.
func OffsetRecord(group string, tp TopicPartition, o *Offset) Record {
	k := kmsg.OffsetCommitKey{Version: offsetKeyVersion, Group: group, Topic: tp.Topic, Partition: tp.Partition}
	r := Record{Key: k.AppendTo(nil)}
	if o != nil {
		v := kmsg.OffsetCommitValue{
			Version: offsetValueVersion, Offset: o.Offset, LeaderEpoch: o.LeaderEpoch, Metadata: o.Metadata,
			CommitTimestamp: o.Committed.UnixMilli(), TopicID: o.TopicID,
		}
		r.Value = v.AppendTo(nil)
	}
	return r
}

// MetadataTombstone deletes a group's membership.
func MetadataTombstone(group string) Record {
	k := kmsg.GroupMetadataKey{Version: groupKeyVersion, Group: group}
	return Record{Key: k.AppendTo(nil)}
}

// MetadataRecord makes the entry for the membership as it is: what a
// restarted coordinator needs to go on without a rebalance.
func (g *Group) MetadataRecord() Record {
	r := MetadataTombstone(g.Name)
	v := kmsg.GroupMetadataValue{
		Version: groupValueVersion, ProtocolType: g.protocolType, Generation: g.generation,
		CurrentStateTimestamp: g.since.UnixMilli(),
	}
	if g.state == Stable {
		v.Protocol, v.Leader = &g.protocol, &g.leader
		for _, m := range g.ordered() {
			v.Members = append(v.Members, kmsg.GroupMetadataValueMember{
				MemberID: m.id, InstanceID: m.instance, ClientID: m.clientID, ClientHost: m.clientHost,
				RebalanceTimeoutMillis: int32(m.rebalance.Milliseconds()), SessionTimeoutMillis: int32(m.session.Milliseconds()),
				Subscription: m.metadata(g.protocol), Assignment: m.assignment,
			})
		}
	}
	r.Value = v.AppendTo(nil)
	return r
}

// Entry is a decoded Record: of the parts one is set.
type Entry struct {
	Group string

	TP     *TopicPartition // an offset
	Offset *Offset         // nil: deleted

	Membership *kmsg.GroupMetadataValue // nil with the others nil: the membership is deleted

	consumer *consumerEntry
}

// ParseRecord decodes an entry of the group log. Keys of a version from the
// future give ok false and are to be skipped, as Kafka does.
func ParseRecord(key, value []byte) (e Entry, ok bool, err error) {
	if len(key) < 2 {
		return e, false, fmt.Errorf("parse group log key: %d bytes are too short", len(key))
	}
	switch version := int16(key[0])<<8 | int16(key[1]); version {
	case 0, offsetKeyVersion:
		var k kmsg.OffsetCommitKey
		if err := k.ReadFrom(key); err != nil {
			return e, false, fmt.Errorf("parse group log key: %w", err)
		}
		e.Group, e.TP = k.Group, &TopicPartition{Topic: k.Topic, Partition: k.Partition}
		if value == nil {
			return e, true, nil
		}
		v := kmsg.NewOffsetCommitValue()
		v.LeaderEpoch = -1
		if err := v.ReadFrom(value); err != nil {
			return e, false, fmt.Errorf("parse committed offset of group %q: %w", k.Group, err)
		}
		e.Offset = &Offset{
			Offset: v.Offset, LeaderEpoch: v.LeaderEpoch, Metadata: v.Metadata,
			Committed: time.UnixMilli(v.CommitTimestamp), TopicID: v.TopicID,
		}
		return e, true, nil
	case groupKeyVersion:
		var k kmsg.GroupMetadataKey
		if err := k.ReadFrom(key); err != nil {
			return e, false, fmt.Errorf("parse group log key: %w", err)
		}
		e.Group = k.Group
		if value == nil {
			return e, true, nil
		}
		v := kmsg.NewGroupMetadataValue()
		if err := v.ReadFrom(value); err != nil {
			return e, false, fmt.Errorf("parse membership of group %q: %w", k.Group, err)
		}
		e.Membership = &v
		return e, true, nil
	case keyGroup, keyTopics, keyMember, keyTargetEpoch, keyTargetMember, keyCurrent, keyRegex:
		group, c, ok, err := parseConsumer(version, key, value)
		if !ok || err != nil {
			return e, false, err
		}
		e.Group, e.consumer = group, &c
		return e, true, nil
	}
	return e, false, nil
}

// Restore puts a membership read from the group log in force. Every member
// gets a whole session from now.
func (g *Group) Restore(now time.Time, v *kmsg.GroupMetadataValue) {
	clear(g.members)
	clear(g.static)
	g.generation, g.protocolType = v.Generation, v.ProtocolType
	g.protocol, g.leader = "", ""
	g.state, g.since = Empty, now
	if v.CurrentStateTimestamp >= 0 {
		g.since = time.UnixMilli(v.CurrentStateTimestamp)
	}
	if len(v.Members) == 0 || v.Protocol == nil {
		return
	}
	g.state, g.protocol = Stable, *v.Protocol
	if v.Leader != nil {
		g.leader = *v.Leader
	}
	for i := range v.Members {
		vm := &v.Members[i]
		g.seq++
		m := &member{
			id: vm.MemberID, instance: vm.InstanceID, clientID: vm.ClientID, clientHost: vm.ClientHost,
			session:    time.Duration(vm.SessionTimeoutMillis) * time.Millisecond,
			rebalance:  time.Duration(vm.RebalanceTimeoutMillis) * time.Millisecond,
			protocols:  []Protocol{{Name: g.protocol, Metadata: vm.Subscription}},
			assignment: vm.Assignment, synced: true, seq: g.seq,
		}
		m.deadline = now.Add(m.session)
		g.members[m.id] = m
		if m.instance != nil {
			g.static[*m.instance] = m.id
		}
	}
}
