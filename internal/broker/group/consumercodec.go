package group

import (
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
)

// The entries of a consumer group, in Apache Kafka's encoding (the message
// definitions of its group coordinator, as of 4.3). The version of the key is
// the kind of the entry. Keys have no tagged fields, values have.
const (
	keyGroup        = 3  // ConsumerGroupMetadata: epoch, hash of the topics
	keyTopics       = 4  // ConsumerGroupPartitionMetadata: replaced by the hash in Kafka 4.1; read over, never written
	keyMember       = 5  // ConsumerGroupMemberMetadata: subscription
	keyTargetEpoch  = 6  // ConsumerGroupTargetAssignmentMetadata
	keyTargetMember = 7  // ConsumerGroupTargetAssignmentMember
	keyCurrent      = 8  // ConsumerGroupCurrentMemberAssignment: epochs, state, partitions
	keyRegex        = 16 // ConsumerGroupRegularExpression: topics of a regular expression
)

// consumerKey makes a key; parts are the group and, where there is one, the
// member or the regular expression.
func consumerKey(kind int16, parts ...string) []byte {
	k := kbin.AppendInt16(nil, kind)
	for _, p := range parts {
		k = kbin.AppendString(k, p)
	}
	return k
}

func tombstone(kind int16, parts ...string) Record { return Record{Key: consumerKey(kind, parts...)} }

// value starts a value of version 0.
func value() []byte { return kbin.AppendInt16(make([]byte, 0, 64), 0) }

// appendTag adds one tagged field, at most one per struct here.
func appendTag(dst []byte, tag uint32, content []byte) []byte {
	dst = kbin.AppendUvarint(dst, 1)
	dst = kbin.AppendUvarint(dst, tag)
	dst = kbin.AppendUvarint(dst, uint32(len(content)))
	return append(dst, content...)
}

func noTags(dst []byte) []byte { return append(dst, 0) }

// A tagged field that is a nullable struct begins with a varint of its own. (Elsewhere a null struct is the byte -1.)
const (
	noStruct = 0
	aStruct  = 1
)

func epochRecord(group string, c *consumerGroup) Record {
	v := kbin.AppendInt32(value(), c.epoch)
	if c.hash == 0 {
		v = noTags(v)
	} else {
		v = appendTag(v, 0, kbin.AppendInt64(nil, int64(c.hash)))
	}
	return Record{Key: consumerKey(keyGroup, group), Value: v}
}

func memberRecord(group string, m *consumerMember) Record {
	v := kbin.AppendCompactNullableString(value(), m.instance)
	v = kbin.AppendCompactNullableString(v, m.rack)
	v = kbin.AppendCompactString(v, m.clientID)
	v = kbin.AppendCompactString(v, m.clientHost)
	v = kbin.AppendCompactArrayLen(v, len(m.topics))
	for _, t := range m.topics {
		v = kbin.AppendCompactString(v, t)
	}
	v = appendCompactOptional(v, m.regex)
	v = kbin.AppendInt32(v, int32(m.rebalance.Milliseconds()))
	v = appendCompactOptional(v, m.assignor)
	// Left out, Apache Kafka takes it for a classic member without protocols.
	if m.classic == nil {
		v = appendTag(v, 0, kbin.AppendUvarint(nil, noStruct))
	} else {
		c := kbin.AppendUvarint(nil, aStruct)
		c = kbin.AppendInt32(c, int32(m.classic.session.Milliseconds()))
		c = kbin.AppendCompactArrayLen(c, len(m.classic.protocols))
		for _, p := range m.classic.protocols {
			c = kbin.AppendCompactString(c, p.Name)
			c = kbin.AppendCompactBytes(c, p.Metadata)
			c = noTags(c)
		}
		v = appendTag(v, 0, noTags(c))
	}
	return Record{Key: consumerKey(keyMember, group, m.id), Value: v}
}

// appendCompactOptional writes "" as null.
func appendCompactOptional(dst []byte, s string) []byte {
	if s == "" {
		return kbin.AppendCompactNullableString(dst, nil)
	}
	return kbin.AppendCompactString(dst, s)
}

func targetEpochRecord(group string, c *consumerGroup) Record {
	v := kbin.AppendInt32(value(), c.targetEpoch)
	if c.targetAt.IsZero() {
		v = noTags(v)
	} else {
		v = appendTag(v, 0, kbin.AppendInt64(nil, c.targetAt.UnixMilli()))
	}
	return Record{Key: consumerKey(keyTargetEpoch, group), Value: v}
}

func targetRecord(group, member string, ps partitions) Record {
	v := kbin.AppendCompactArrayLen(value(), len(ps))
	for _, t := range ps.sorted() {
		v = kbin.AppendUuid(v, t.ID)
		v = appendInt32s(v, t.Partitions)
		v = noTags(v)
	}
	return Record{Key: consumerKey(keyTargetMember, group, member), Value: noTags(v)}
}

func appendInt32s(dst []byte, l []int32) []byte {
	dst = kbin.AppendCompactArrayLen(dst, len(l))
	for _, p := range l {
		dst = kbin.AppendInt32(dst, p)
	}
	return dst
}

func currentRecord(group string, m *consumerMember) Record {
	v := kbin.AppendInt32(value(), m.epoch)
	v = kbin.AppendInt32(v, m.prevEpoch)
	v = kbin.AppendInt8(v, int8(m.state))
	for _, e := range []epochs{m.assigned, m.revoking} {
		v = kbin.AppendCompactArrayLen(v, len(e))
		for _, t := range e.partitions().sorted() {
			v = kbin.AppendUuid(v, t.ID)
			v = appendInt32s(v, t.Partitions)
			at := make([]int32, len(t.Partitions))
			for i, p := range t.Partitions {
				at[i] = e[t.ID][p]
			}
			v = appendTag(v, 0, appendInt32s(nil, at))
		}
	}
	return Record{Key: consumerKey(keyCurrent, group, m.id), Value: noTags(v)}
}

func regexRecord(group, expr string, r *resolvedRegex) Record {
	v := kbin.AppendCompactArrayLen(value(), len(r.topics))
	for _, t := range r.topics {
		v = kbin.AppendCompactString(v, t)
	}
	v = kbin.AppendInt64(v, int64(r.version))
	v = kbin.AppendInt64(v, r.at.UnixMilli())
	return Record{Key: consumerKey(keyRegex, group, expr), Value: noTags(v)}
}

// consumerSnapshot is everything to know of a consumer group but its offsets.
func (g *Group) consumerSnapshot() []Record {
	c := g.c
	ms := c.ordered()
	recs := make([]Record, 0, 3*len(ms)+2+len(c.regexes))
	for _, m := range ms {
		recs = append(recs, memberRecord(g.Name, m))
	}
	for expr, r := range c.regexes {
		recs = append(recs, regexRecord(g.Name, expr, r))
	}
	recs = append(recs, epochRecord(g.Name, c))
	for _, m := range ms {
		if t := c.target[m.id]; t != nil {
			recs = append(recs, targetRecord(g.Name, m.id, t))
		}
	}
	recs = append(recs, targetEpochRecord(g.Name, c))
	for _, m := range ms {
		recs = append(recs, currentRecord(g.Name, m))
	}
	return recs
}

// consumerTombstones delete what consumerSnapshot writes.
func (g *Group) consumerTombstones() []Record {
	c := g.c
	ms := c.ordered()
	var recs []Record
	for _, kind := range []int16{keyCurrent, keyTargetMember} {
		for _, m := range ms {
			recs = append(recs, tombstone(kind, g.Name, m.id))
		}
	}
	recs = append(recs, tombstone(keyTargetEpoch, g.Name))
	for _, m := range ms {
		recs = append(recs, tombstone(keyMember, g.Name, m.id))
	}
	for expr := range c.regexes {
		recs = append(recs, tombstone(keyRegex, g.Name, expr))
	}
	return append(recs, tombstone(keyGroup, g.Name))
}

// consumerEntry is a decoded entry of a consumer group.
type consumerEntry struct {
	kind int16
	name string // member or regular expression
	gone bool   // a tombstone

	epoch   int32 // keyGroup, keyTargetEpoch
	hash    uint64
	at      time.Time
	member  consumerMember // keyMember: subscription; keyCurrent: epochs, state, partitions
	target  partitions
	topics  []string
	version uint64
}

// parseConsumer decodes an entry; ok is false for one that says nothing now.
func parseConsumer(kind int16, key, val []byte) (group string, e consumerEntry, ok bool, err error) {
	r := kbin.Reader{Src: key[2:]}
	group = r.String()
	e = consumerEntry{kind: kind, gone: val == nil}
	switch kind {
	case keyMember, keyTargetMember, keyCurrent, keyRegex:
		e.name = r.String()
	}
	if err := complete(&r, true); err != nil {
		return group, e, false, fmt.Errorf("parse group log key of kind %d: %w", kind, err)
	}
	if kind == keyTopics {
		return group, e, false, nil
	}
	if e.gone {
		return group, e, true, nil
	}
	r = kbin.Reader{Src: val}
	if v := r.Int16(); r.Ok() && v != 0 {
		return group, e, false, fmt.Errorf("parse group log entry of kind %d of group %q: version %d is not known", kind, group, v)
	}
	switch kind {
	case keyGroup:
		e.epoch = r.Int32()
		readTags(&r, func(b *kbin.Reader) { e.hash = uint64(b.Int64()) })
	case keyMember:
		e.readMember(&r)
	case keyTargetEpoch:
		e.epoch = r.Int32()
		readTags(&r, func(b *kbin.Reader) {
			if ms := b.Int64(); ms > 0 {
				e.at = time.UnixMilli(ms)
			}
		})
	case keyTargetMember:
		e.target = partitions{}
		for range r.CompactArrayLen() {
			id := r.Uuid()
			ps := readInt32s(&r)
			readTags(&r, nil)
			if !r.Ok() {
				break
			}
			slices.Sort(ps)
			e.target[id] = slices.Compact(ps)
		}
		readTags(&r, nil)
	case keyCurrent:
		e.member.epoch, e.member.prevEpoch, e.member.state = r.Int32(), r.Int32(), memberState(r.Int8())
		e.member.assigned = readEpochs(&r, e.member.epoch)
		e.member.revoking = readEpochs(&r, e.member.epoch)
		readTags(&r, nil)
	case keyRegex:
		e.topics = readStrings(&r)
		e.version, e.at = uint64(r.Int64()), time.UnixMilli(r.Int64())
		readTags(&r, nil)
	}
	if err := complete(&r, false); err != nil {
		return group, e, false, fmt.Errorf("parse group log entry of kind %d of group %q: %w", kind, group, err)
	}
	return group, e, true, nil
}

// complete ends a decoding. Values may go on, with fields of a later time.
func complete(r *kbin.Reader, whole bool) error {
	if !r.Ok() {
		return kbin.ErrNotEnoughData
	}
	if whole && len(r.Src) > 0 {
		return fmt.Errorf("%d bytes too many", len(r.Src))
	}
	return nil
}

func (e *consumerEntry) readMember(r *kbin.Reader) {
	m := &e.member
	m.instance, m.rack = r.CompactNullableString(), r.CompactNullableString()
	m.clientID, m.clientHost = r.CompactString(), r.CompactString()
	m.topics = sortedSet(readStrings(r))
	if s := r.CompactNullableString(); s != nil {
		m.regex = *s
	}
	m.rebalance = time.Duration(r.Int32()) * time.Millisecond
	if s := r.CompactNullableString(); s != nil {
		m.assignor = *s
	}
	readTags(r, func(b *kbin.Reader) {
		if b.Uvarint() == noStruct {
			return
		}
		m.classic = &classicMember{session: time.Duration(b.Int32()) * time.Millisecond}
		for range b.CompactArrayLen() {
			p := Protocol{Name: b.CompactString(), Metadata: b.CompactBytes()}
			readTags(b, nil)
			if !b.Ok() {
				return
			}
			m.classic.protocols = append(m.classic.protocols, p)
		}
		readTags(b, nil)
		if len(m.classic.protocols) == 0 { // a classic member has one at least
			b.Span(len(b.Src) + 1)
		}
	})
}

func readStrings(r *kbin.Reader) []string {
	var l []string
	for range r.CompactArrayLen() {
		s := r.CompactString()
		if !r.Ok() {
			return nil
		}
		l = append(l, s)
	}
	return l
}

func readInt32s(r *kbin.Reader) []int32 {
	var l []int32
	for range r.CompactArrayLen() {
		p := r.Int32()
		if !r.Ok() {
			return nil
		}
		l = append(l, p)
	}
	return l
}

// readEpochs reads partitions with their assignment epochs; entries of before
// Kafka 4.3 have none, and the member's epoch stands for them.
func readEpochs(r *kbin.Reader, epoch int32) epochs {
	e := epochs{}
	for range r.CompactArrayLen() {
		id := r.Uuid()
		ps := readInt32s(r)
		var at []int32
		readTags(r, func(b *kbin.Reader) { at = readInt32s(b) })
		if !r.Ok() {
			return nil
		}
		for i, p := range ps {
			if len(at) == len(ps) {
				e.set(id, p, at[i])
			} else {
				e.set(id, p, epoch)
			}
		}
	}
	return e
}

// readTags reads tagged fields and gives the one with tag 0 to f.
func readTags(r *kbin.Reader, f func(*kbin.Reader)) {
	for range r.Uvarint() {
		tag, size := r.Uvarint(), r.Uvarint()
		if uint64(size) > uint64(len(r.Src)) {
			r.Span(len(r.Src) + 1) // marks the reader as bad
			return
		}
		b := kbin.Reader{Src: r.Span(int(size))}
		if tag == 0 && f != nil {
			if f(&b); !b.Ok() {
				r.Span(len(r.Src) + 1)
			}
		}
		if !r.Ok() {
			return
		}
	}
}

// Apply puts an entry of the group log in force. When all are, FinishRestore
// has to be called.
func (g *Group) Apply(now time.Time, e Entry) {
	switch {
	case e.TP != nil && e.Offset != nil:
		g.SetOffset(*e.TP, *e.Offset)
	case e.TP != nil:
		g.ForgetOffset(*e.TP)
	case e.consumer != nil:
		g.applyConsumer(now, e.consumer)
	case e.Membership != nil:
		g.c = nil
		g.Restore(now, e.Membership)
	case g.c == nil:
		g.clearClassic(now)
	}
}

func (g *Group) applyConsumer(now time.Time, e *consumerEntry) {
	if g.c == nil {
		if e.gone {
			return
		}
		g.clearClassic(now)
		g.c = newConsumerGroup()
	}
	c := g.c
	find := func() *consumerMember {
		m := c.members[e.name]
		if m == nil {
			g.seq++
			m = &consumerMember{id: e.name, seq: g.seq}
			c.members[e.name] = m
		}
		return m
	}
	switch {
	case e.kind == keyGroup && e.gone:
		g.c = nil
		g.to(now, Empty)
	case e.kind == keyGroup:
		c.epoch, c.hash = e.epoch, e.hash
	case e.kind == keyMember && e.gone:
		delete(c.members, e.name)
	case e.kind == keyMember:
		m, s := find(), &e.member
		m.instance, m.rack, m.clientID, m.clientHost, m.rebalance = s.instance, s.rack, s.clientID, s.clientHost, s.rebalance
		m.topics, m.regex, m.assignor, m.classic = s.topics, s.regex, s.assignor, s.classic
	case e.kind == keyTargetEpoch && !e.gone:
		c.targetEpoch, c.targetAt = e.epoch, e.at
	case e.kind == keyTargetMember && e.gone:
		delete(c.target, e.name)
	case e.kind == keyTargetMember:
		c.target[e.name] = e.target
	case e.kind == keyCurrent && e.gone:
		if m := c.members[e.name]; m != nil {
			m.epoch, m.prevEpoch, m.state, m.assigned, m.revoking = 0, 0, memberStable, nil, nil
		}
	case e.kind == keyCurrent:
		m, s := find(), &e.member
		m.epoch, m.prevEpoch, m.state, m.assigned, m.revoking = s.epoch, s.prevEpoch, s.state, s.assigned, s.revoking
	case e.kind == keyRegex && e.gone:
		delete(c.regexes, e.name)
	case e.kind == keyRegex:
		re, _ := compileRegex(e.name)
		topics := sortedSet(e.topics)
		c.regexes[e.name] = &resolvedRegex{re: re, topics: topics, version: e.version, at: e.at}
	}
}

// FinishRestore is called when all entries of the group log are in force:
// what is derived from them is made, and every member gets a whole session
// from now.
func (g *Group) FinishRestore(now time.Time, session time.Duration) {
	c := g.c
	if c == nil {
		return
	}
	for id := range c.target {
		if c.members[id] == nil {
			delete(c.target, id)
		}
	}
	for _, m := range c.ordered() {
		if m.instance != nil {
			c.static[*m.instance] = m.id
		}
		assigned, revoking := g.unowned(m.assigned), g.unowned(m.revoking)
		m.assigned, m.revoking = nil, nil
		g.own(m, assigned, revoking)
		m.deadline = now.Add(session)
		if m.classic != nil {
			m.deadline = now.Add(m.classic.session)
		} else if m.state == memberUnrevoked {
			m.revokeBy = now.Add(m.rebalance)
		}
		if c.target[m.id] == nil {
			c.target[m.id] = partitions{}
		}
	}
}

// unowned leaves out what another member owns already: in a log that lost an
// entry two might.
func (g *Group) unowned(e epochs) epochs {
	out := epochs{}
	for id, ps := range e {
		for p, epoch := range ps {
			if _, taken := g.c.owners[id][p]; !taken {
				out.set(id, p, epoch)
			}
		}
	}
	return out
}
