package group

import "time"

// reconcile leads a member one step towards the target assignment (KIP-848,
// "Reconciliation of the group"):
//
//   - It first has to give back what the target no longer gives it. Until its
//     heartbeat shows that it has, it stays in its epoch.
//   - Then it moves to the target's epoch and gets what of its target nobody
//     else owns. What others still have to give back it gets later.
//
// A partition so has one owner at any time. A member whose subscription
// changed loses the topics that it left at once, whatever the target.
func (g *Group) reconcile(now time.Time, m *consumerMember, owned []TopicPartitions, resubscribed bool) {
	before := *m
	switch {
	case m.state == memberStable && m.epoch == g.c.targetEpoch:
		if resubscribed {
			g.dropUnsubscribed(m, owned)
		}
	case m.state == memberUnrevoked && ownsAny(owned, m.revoking):
		if resubscribed {
			g.dropUnsubscribed(m, owned)
		}
	default:
		g.advance(m, owned)
	}
	if m.epoch == before.epoch && m.prevEpoch == before.prevEpoch && m.state == before.state &&
		m.assigned.equal(before.assigned) && m.revoking.equal(before.revoking) {
		return
	}
	g.emit(currentRecord(g.Name, m))
	// Classic members have time-outs of their own: joinBy and syncBy.
	switch {
	case m.state != memberUnrevoked || m.classic != nil:
		m.revokeBy = time.Time{}
	default:
		m.revokeBy = now.Add(m.rebalance)
	}
}

// ownsAny reports whether a member still owns any of the partitions. One that
// does not say what it owns may own all of them.
func ownsAny(owned []TopicPartitions, of epochs) bool {
	if owned == nil {
		return true
	}
	for _, t := range owned {
		for _, p := range t.Partitions {
			if of.has(t.ID, p) {
				return true
			}
		}
	}
	return false
}

// advance computes the member's next assignment.
func (g *Group) advance(m *consumerMember, owned []TopicPartitions) {
	c := g.c
	subscribed := g.subscribedIDs(m)
	want := map[TopicID]map[int32]bool{}
	for id, ps := range c.target[m.id] {
		if _, ok := subscribed[id]; !ok {
			continue // it left the topic after the target was made
		}
		want[id] = map[int32]bool{}
		for _, p := range ps {
			want[id][p] = true
		}
	}
	assigned, revoking := epochs{}, epochs{}
	for id, ps := range m.assigned {
		for p, epoch := range ps {
			if want[id][p] {
				assigned.set(id, p, epoch)
			} else {
				revoking.set(id, p, epoch)
			}
		}
	}
	unreleased := false
	added := partitions{}
	for id, ps := range want {
		for p := range ps {
			if assigned.has(id, p) {
				continue
			}
			// What this member itself has just given back is free.
			if owner, taken := c.owners[id][p]; taken && owner != m.id {
				unreleased = true
				continue
			}
			added[id] = append(added[id], p)
		}
	}
	if len(revoking) > 0 && ownsAny(owned, revoking) {
		m.state = memberUnrevoked
		g.own(m, assigned, revoking)
		return
	}
	for id, ps := range added {
		for _, p := range ps {
			assigned.set(id, p, c.targetEpoch)
		}
	}
	m.state = memberStable
	if unreleased {
		m.state = memberUnreleased
	}
	if m.epoch != c.targetEpoch {
		m.prevEpoch, m.epoch = m.epoch, c.targetEpoch
	}
	g.own(m, assigned, nil)
}

// dropUnsubscribed takes the topics away that the member has left, within
// its epoch.
func (g *Group) dropUnsubscribed(m *consumerMember, owned []TopicPartitions) {
	subscribed := g.subscribedIDs(m)
	assigned, revoking := epochs{}, epochs{}
	for id, ps := range m.revoking {
		for p, epoch := range ps {
			revoking.set(id, p, epoch)
		}
	}
	dropped := false
	for id, ps := range m.assigned {
		_, ok := subscribed[id]
		dropped = dropped || !ok
		for p, epoch := range ps {
			if ok {
				assigned.set(id, p, epoch)
			} else {
				revoking.set(id, p, epoch)
			}
		}
	}
	switch {
	case !dropped:
	case ownsAny(owned, revoking):
		m.state = memberUnrevoked
		g.own(m, assigned, revoking)
	default:
		g.own(m, assigned, m.revoking)
	}
}

// own sets what a member has. The maps must not change any more.
func (g *Group) own(m *consumerMember, assigned, revoking epochs) {
	c := g.c
	for _, e := range []epochs{m.assigned, m.revoking} {
		for id, ps := range e {
			for p := range ps {
				if c.owners[id][p] == m.id {
					delete(c.owners[id], p)
				}
			}
			if len(c.owners[id]) == 0 {
				delete(c.owners, id)
			}
		}
	}
	m.assigned, m.revoking = assigned, revoking
	for _, e := range []epochs{assigned, revoking} {
		for id, ps := range e {
			if c.owners[id] == nil {
				c.owners[id] = map[int32]string{}
			}
			for p := range ps {
				c.owners[id][p] = m.id
			}
		}
	}
}
