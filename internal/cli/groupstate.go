package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// groupState is a group as both kinds show it: classic ones, and those of the
// protocol of KIP-848.
type groupState struct {
	name, kind, state, assignor string
	coordinator                 kadm.BrokerDetail
	epoch, targetEpoch          *int32 // of KIP-848 groups
	members                     []groupMember
}

type groupMember struct {
	id, instance, client, host string
	epoch                      *int32
	upgraded                   *bool // speaks KIP-848, in a group that does
	assigned, target           kadm.TopicsSet
}

func (m *groupMember) partitions() int {
	n := 0
	for _, ps := range m.assigned {
		n += len(ps)
	}
	return n
}

// active reports whether the group's offsets are its members' business.
func (g *groupState) active() bool { return g.state != "Empty" && g.state != "Dead" }

// errNoGroup says that a group does not exist.
var errNoGroup = errors.New("the group does not exist")

// describeGroup looks a group up, of whichever kind it is.
func describeGroup(ctx context.Context, cl *kgo.Client, name string) (*groupState, error) {
	adm := kadm.NewClient(cl)
	newer, err := serves(ctx, cl, kmsg.ConsumerGroupDescribe)
	if err != nil {
		return nil, err
	}
	if newer {
		gs, err := adm.DescribeConsumerGroups(ctx, name)
		if err != nil {
			return nil, err
		}
		switch g := gs[name]; {
		case g.Err == nil && g.Group == name:
			s := &groupState{name: name, kind: "Consumer", state: g.State, assignor: g.AssignorName, coordinator: g.Coordinator, epoch: &g.Epoch, targetEpoch: &g.AssignmentEpoch}
			for _, m := range g.Members {
				gm := groupMember{id: m.MemberID, client: m.ClientID, host: m.ClientHost, epoch: &m.MemberEpoch, assigned: m.Assignment, target: m.TargetAssignment}
				if m.InstanceID != nil {
					gm.instance = *m.InstanceID
				}
				if m.MemberType >= 0 {
					is := m.MemberType == 1
					gm.upgraded = &is
				}
				s.members = append(s.members, gm)
			}
			return s, nil
		case errors.Is(g.Err, kerr.GroupIDNotFound), errors.Is(g.Err, kerr.UnsupportedVersion): // a classic one, or none
		case g.Err != nil:
			return nil, g.Err
		}
	}
	gs, err := adm.DescribeGroups(ctx, name)
	if err != nil {
		return nil, err
	}
	g, ok := gs[name]
	switch {
	case !ok, errors.Is(g.Err, kerr.GroupIDNotFound), g.Err == nil && g.State == "Dead":
		return nil, errNoGroup
	case g.Err != nil:
		return nil, brokerError(g.Err, g.ErrMessage)
	}
	s := &groupState{name: name, kind: "Classic", state: g.State, assignor: g.Protocol, coordinator: g.Coordinator}
	for _, m := range g.Members {
		gm := groupMember{id: m.MemberID, client: m.ClientID, host: m.ClientHost, assigned: kadm.TopicsSet{}}
		if m.InstanceID != nil {
			gm.instance = *m.InstanceID
		}
		if a, ok := m.Assigned.AsConsumer(); ok {
			for _, t := range a.Topics {
				gm.assigned.Add(t.Topic, t.Partitions...)
			}
		}
		s.members = append(s.members, gm)
	}
	return s, nil
}

// listGroups lists groups of consumers, by their states and types; none of
// either means all.
func listGroups(ctx context.Context, cl *kgo.Client, states, types []string) ([]kmsg.ListGroupsResponseGroup, error) {
	req := kmsg.NewPtrListGroupsRequest()
	req.StatesFilter, req.TypesFilter = states, types
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, err
	}
	slices.SortFunc(resp.Groups, func(a, b kmsg.ListGroupsResponseGroup) int { return strings.Compare(a.Group, b.Group) })
	return resp.Groups, nil
}

// committed are the offsets that a group has committed.
func committed(ctx context.Context, adm *kadm.Client, group string) (kadm.Offsets, error) {
	rs, err := adm.FetchOffsets(ctx, group)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return kadm.Offsets{}, nil
	}
	if err == nil {
		err = rs.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("look up committed offsets: %w", err)
	}
	rs.KeepFunc(func(o kadm.OffsetResponse) bool { return o.At >= 0 })
	return rs.Offsets(), nil
}

// lagRow is a partition that a group reads or has read.
type lagRow struct {
	topic     string
	partition int32
	at        *int64 // nil: nothing committed
	epoch     int32  // leader epoch of the commit; -1 for none
	end       *int64 // nil: the partition is not there
	member    *groupMember
}

func (r *lagRow) lag() *int64 {
	if r.at == nil || r.end == nil {
		return nil
	}
	n := *r.end - *r.at
	return &n
}

// lagRows are a group's partitions: first those of the members with the most
// of them, then those without a member, each by topic and partition.
func lagRows(ctx context.Context, adm *kadm.Client, g *groupState) ([]lagRow, error) {
	offsets, err := committed(ctx, adm, g.name)
	if err != nil {
		return nil, err
	}
	topics := map[string]bool{}
	for t := range offsets {
		topics[t] = true
	}
	for i := range g.members {
		for t := range g.members[i].assigned {
			topics[t] = true
		}
	}
	var ends kadm.ListedOffsets
	if len(topics) > 0 {
		if ends, err = adm.ListEndOffsets(ctx, slices.Sorted(maps.Keys(topics))...); err != nil {
			return nil, fmt.Errorf("look up offsets: %w", err)
		}
	}
	var rows []lagRow
	taken := kadm.TopicsSet{}
	add := func(m *groupMember, set kadm.TopicsSet) {
		start := len(rows)
		for _, s := range set.Sorted() {
			for _, p := range s.Partitions {
				r := lagRow{topic: s.Topic, partition: p, member: m, epoch: -1}
				if o, ok := offsets.Lookup(s.Topic, p); ok {
					r.at, r.epoch = &o.At, o.LeaderEpoch
				}
				if e, ok := ends.Lookup(s.Topic, p); ok && e.Err == nil {
					r.end = &e.Offset
				}
				rows = append(rows, r)
				taken.Add(s.Topic, p)
			}
		}
		slices.SortFunc(rows[start:], func(a, b lagRow) int {
			return cmp.Or(strings.Compare(a.topic, b.topic), cmp.Compare(a.partition, b.partition))
		})
	}
	byCount := make([]*groupMember, len(g.members))
	for i := range g.members {
		byCount[i] = &g.members[i]
	}
	slices.SortStableFunc(byCount, func(a, b *groupMember) int { return cmp.Compare(b.partitions(), a.partitions()) })
	for _, m := range byCount {
		add(m, m.assigned)
	}
	rest := kadm.TopicsSet{}
	offsets.Each(func(o kadm.Offset) {
		if !taken.Lookup(o.Topic, o.Partition) {
			rest.Add(o.Topic, o.Partition)
		}
	})
	add(nil, rest)
	return rows, nil
}

// assignment writes a set as topic:0,1;other:0.
func assignment(set kadm.TopicsSet) string {
	var s []string
	for _, t := range set.Sorted() {
		s = append(s, t.Topic+":"+joinIDs(t.Partitions))
	}
	return strings.Join(s, ";")
}
