package broker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-data/sluice/internal/broker/group"
	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/twmb/franz-go/pkg/kerr"
)

// coordinator is the host of the group state machines: it gives them the
// time, appends what they ask for to the group log before their replies go
// out, and delivers the replies.
type coordinator struct {
	b      *Broker
	logger *slog.Logger
	limits group.Limits
	topics groupTopics
	log    *groupLog
	failed logLimit // of lines about the group log
	// uncommitted is of lines about offsets.
	uncommitted logLimit
	bytes       atomic.Int64 // of memory that the groups take, about

	tokens  atomic.Uint64
	mu      sync.RWMutex
	groups  map[string]*groupEntry
	stopped bool

	offline error // the group log is damaged: nothing is known of any group
}

// idleGroupTime is how long a group without members and offsets is still shown
// and can be deleted: Apache Kafka's offsets.retention.check.interval.ms.
const idleGroupTime = 10 * time.Minute

// groupEntry is one group with its lock, its timer and those who wait.
type groupEntry struct {
	name string

	mu    sync.Mutex
	g     *group.Group
	idle  time.Time // when upkeep first found it without members and offsets
	gone  bool      // no longer in the coordinator's map: look it up again
	fresh bool      // nothing of it has been written yet
	// unwritten is what the group log did not take. It goes first at the next turn.
	unwritten []group.Record
	size      int64 // its part of coordinator.bytes
	sized     bool  // size is of what the group is now
	waiters   map[group.Token]chan group.Reply
	timer     *time.Timer
	timerAt   time.Time
}

func openCoordinator(ctx context.Context, b *Broker) (*coordinator, error) {
	c := &coordinator{
		b: b, logger: b.logger, groups: map[string]*groupEntry{},
		limits: b.cfg.groupLimits(), topics: groupTopics{b.topics},
	}
	if t := b.topics.byName(groupTopic); t != nil {
		p := t.part(0)
		if p.offline != nil {
			c.offline = p.offline
			return c, nil
		}
		c.log = newGroupLog(p, b.logger)
		err := c.load(ctx)
		if damaged(err) && ctx.Err() == nil {
			// Without it every group would seem to have committed nothing.
			c.logger.Error("consumer groups are not served: their log is damaged; restore it from a copy, or delete its files to begin without any groups", "topic", groupTopic, "err", err)
			c.groups = map[string]*groupEntry{}
			c.log, c.offline, p.offline = nil, err, err
			return c, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

// load replays the group log.
func (c *coordinator) load(ctx context.Context) error {
	now := time.Now()
	skipped := 0
	err := c.log.replay(ctx, func(key, value []byte) {
		e, ok, err := group.ParseRecord(key, value)
		if err != nil {
			c.logger.Error("an entry of the group log is not readable and is skipped", "err", err)
		}
		if !ok {
			skipped++
			return
		}
		entry := c.groups[e.Group]
		if entry == nil {
			entry = c.newEntry(e.Group, now)
			c.groups[e.Group] = entry
		}
		entry.g.Apply(now, e)
	})
	if err != nil {
		return fmt.Errorf("read the group log: %w", err)
	}
	offsets := 0
	for name, e := range c.groups {
		e.g.FinishRestore(now, c.b.groupConfigs.settings(name).Session)
		for _, tp := range e.g.Offsets() {
			// A topic that was deleted, or deleted and made again, just
			// before the crash: its old offsets mean nothing.
			o, _ := e.g.Offset(tp)
			t := c.b.topics.byName(tp.Topic)
			if o.TopicID != (topicID{}) && (t == nil || t.id != o.TopicID) {
				e.g.ForgetOffset(tp)
			}
		}
		offsets += len(e.g.Offsets())
		if e.g.Idle() {
			delete(c.groups, name)
			continue
		}
		c.account(e)
		c.arm(e)
	}
	if len(c.groups) > 0 || skipped > 0 {
		c.logger.Info("consumer groups restored", "groups", len(c.groups), "offsets", offsets, "skipped_entries", skipped)
	}
	return nil
}

// entry returns a group locked, or nil. With create it is made when missing.
func (c *coordinator) entry(name string, create bool) (*groupEntry, error) {
	for {
		c.mu.RLock()
		e, stopped := c.groups[name], c.stopped
		c.mu.RUnlock()
		if c.offline != nil {
			return nil, apiErrorf(kerr.CoordinatorNotAvailable, "the group log is damaged")
		}
		if stopped {
			return nil, apiErrorf(kerr.CoordinatorNotAvailable, "the broker is stopping")
		}
		if e == nil {
			if !create {
				return nil, nil
			}
			var err error
			if e, err = c.create(name); err != nil {
				return nil, err
			}
		}
		e.mu.Lock()
		if !e.gone {
			return e, nil
		}
		e.mu.Unlock()
	}
}

func (c *coordinator) create(name string) (*groupEntry, error) {
	// The log first, so that every group that exists can be written.
	if err := c.ensureLog(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch e := c.groups[name]; {
	case e != nil:
		return e, nil
	case c.stopped:
		return nil, apiErrorf(kerr.CoordinatorNotAvailable, "the broker is stopping")
	case len(c.groups) >= c.b.cfg.MaxGroups:
		return nil, apiErrorf(kerr.PolicyViolation, "there are %d groups, as many as allowed", len(c.groups))
	}
	e := c.newEntry(name, time.Now())
	e.fresh = true
	c.groups[name] = e
	return e, nil
}

func (c *coordinator) newEntry(name string, now time.Time) *groupEntry {
	return &groupEntry{name: name, g: group.New(name, now, c.limits, c.topics), waiters: map[group.Token]chan group.Reply{}}
}

// groupTopics are the topics as the groups see them.
type groupTopics struct{ ts *topics }

func (t groupTopics) Version() uint64 { return t.ts.set.Load().version }

func (t groupTopics) ByName(name string) (id group.TopicID, partitions int32, ok bool) {
	if t := t.ts.byName(name); t != nil {
		return t.id, int32(len(t.state.Load().parts)), true
	}
	return id, 0, false
}

func (t groupTopics) ByID(id group.TopicID) (name string, ok bool) {
	if t := t.ts.byID(id); t != nil {
		return t.name, true
	}
	return "", false
}

func (t groupTopics) Names() []string {
	set := t.ts.set.Load()
	names := make([]string, 0, len(set.byName))
	for name := range set.byName {
		names = append(names, name)
	}
	return names
}

// ensureLog makes the group log's topic when the first group appears or its
// coordinator is looked for.
func (c *coordinator) ensureLog() error {
	c.mu.RLock()
	have := c.log != nil
	c.mu.RUnlock()
	if have {
		return nil
	}
	t, _, err := c.b.topics.create(c.b.connCtx, createRequest{name: groupTopic, partitions: 1})
	if err != nil && t == nil {
		return apiErrorf(kerr.CoordinatorNotAvailable, "make the group log: %v", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.log == nil {
		c.log = newGroupLog(t.part(0), c.logger)
	}
	return nil
}

// settle ends a turn with a locked group: what must be written is written,
// replies are delivered, the timer is set. It unlocks.
func (c *coordinator) settle(e *groupEntry) {
	if recs := append(e.unwritten, e.g.Records()...); len(recs) > 0 {
		e.fresh = false
		e.unwritten = nil
		// A lost membership costs a rebalance after the next restart, so the
		// group goes on; committed offsets are another matter (see commit).
		if _, err := c.log.append(c.b.connCtx, time.Now(), recs...); err != nil {
			e.unwritten = lastOfEach(recs)
			if c.failed.allow() {
				c.logger.Error("membership of a group could not be written; it is tried again, and after a restart before that its members join again", "group", e.name, "err", err)
			}
		}
	}
	c.account(e)
	for _, r := range e.g.Replies() {
		if ch := e.waiters[r.Token]; ch != nil {
			delete(e.waiters, r.Token)
			ch <- r // has room for one
		}
	}
	if e.fresh && e.g.Idle() { // it was made for a request that was refused
		c.remove(e)
	}
	c.arm(e)
	e.mu.Unlock()
}

// account brings coordinator.bytes up to date.
func (c *coordinator) account(e *groupEntry) {
	if !e.sized && !e.gone {
		e.sized = true
		n := e.g.Size()
		c.bytes.Add(n - e.size)
		e.size = n
	}
}

// smallRequest is what a member of a group may still send when the groups
// take as much memory as they may.
const smallRequest = 16 << 10

// full reports whether the groups take as much memory as they may, so that
// nobody new, and nothing large, is taken in.
func (c *coordinator) full(isNew bool, r *request) bool {
	return (isNew || len(r.body) > smallRequest) && c.bytes.Load() >= c.b.cfg.MaxGroupBytes
}

// lastOfEach leaves out the records that a later one with the same key
// replaces, so that what waits does not grow beyond the group.
func lastOfEach(recs []group.Record) []group.Record {
	last := make(map[string]int, len(recs))
	for i := range recs {
		last[string(recs[i].Key)] = i
	}
	kept := make([]group.Record, 0, len(last))
	for i := range recs {
		if last[string(recs[i].Key)] == i {
			kept = append(kept, recs[i])
		}
	}
	return kept
}

// remove takes a locked group out of the map.
func (c *coordinator) remove(e *groupEntry) {
	e.gone = true
	c.bytes.Add(-e.size)
	e.size = 0
	c.mu.Lock()
	if c.groups[e.name] == e {
		delete(c.groups, e.name)
	}
	c.mu.Unlock()
}

// arm sets the timer to the group's deadline. A timer that fires early only
// looks, so one that is early enough is left: heartbeats move the deadline
// all the time.
func (c *coordinator) arm(e *groupEntry) {
	d := e.g.Deadline()
	switch {
	case e.gone || d.IsZero():
		if e.timer != nil {
			e.timer.Stop()
		}
		e.timerAt = time.Time{}
	case e.timerAt.IsZero() || d.Before(e.timerAt):
		e.timerAt = d
		wait := max(time.Until(d), time.Millisecond)
		if e.timer == nil {
			e.timer = time.AfterFunc(wait, func() { c.fire(e) })
		} else {
			e.timer.Reset(wait)
		}
	}
}

func (c *coordinator) fire(e *groupEntry) {
	e.mu.Lock()
	if e.gone {
		e.mu.Unlock()
		return
	}
	e.timerAt = time.Time{}
	e.sized = false
	e.g.Tick(time.Now())
	c.settle(e)
}

// wait registers for the reply to a token; the group is locked.
func (c *coordinator) wait(e *groupEntry) (group.Token, chan group.Reply) {
	t := group.Token(c.tokens.Add(1))
	ch := make(chan group.Reply, 1)
	e.waiters[t] = ch
	return t, ch
}

// await waits for a reply. ok is false when the client has gone first.
func (c *coordinator) await(ctx context.Context, e *groupEntry, t group.Token, ch chan group.Reply) (r group.Reply, ok bool) {
	select {
	case r := <-ch:
		return r, true
	case <-ctx.Done():
	}
	e.mu.Lock()
	if e.waiters[t] == nil { // it came just now
		e.mu.Unlock()
		return <-ch, true
	}
	delete(e.waiters, t)
	e.g.Abandon(time.Now(), t)
	c.settle(e)
	return group.Reply{}, false
}

// commit writes offsets to the group log and then puts them in force. The
// group is locked. The commit may be acknowledged when the Pending is done.
func (c *coordinator) commit(ctx context.Context, e *groupEntry, now time.Time, offsets map[group.TopicPartition]group.Offset) (log.Pending, error) {
	recs := make([]group.Record, 0, len(offsets))
	for tp, o := range offsets {
		recs = append(recs, group.OffsetRecord(e.name, tp, &o))
	}
	p, err := c.log.append(ctx, now, recs...)
	if err != nil {
		return p, err
	}
	e.fresh = e.fresh && len(offsets) == 0
	before := e.g.OffsetBytes()
	defer func() {
		n := e.g.OffsetBytes() - before
		e.size += n
		c.bytes.Add(n)
	}()
	for tp, o := range offsets {
		e.g.SetOffset(tp, o)
	}
	return p, nil
}

// forget deletes offsets from a locked group.
func (c *coordinator) forget(ctx context.Context, e *groupEntry, tps []group.TopicPartition) error {
	if len(tps) == 0 {
		return nil
	}
	recs := make([]group.Record, 0, len(tps))
	for _, tp := range tps {
		recs = append(recs, group.OffsetRecord(e.name, tp, nil))
	}
	p, err := c.log.append(ctx, time.Now(), recs...)
	if err == nil {
		err = p.Wait(ctx)
	}
	if err != nil {
		return err
	}
	for _, tp := range tps {
		e.g.ForgetOffset(tp)
	}
	e.sized = false
	return nil
}

// drop deletes a locked group and its offsets.
func (c *coordinator) drop(ctx context.Context, e *groupEntry) error {
	if err := c.forget(ctx, e, e.g.Offsets()); err != nil {
		return err
	}
	if _, err := c.log.append(ctx, time.Now(), append(e.unwritten, e.g.Tombstones()...)...); err != nil {
		return err
	}
	e.unwritten = nil
	e.g.Kill()
	c.remove(e)
	return nil
}

// entries lists all groups.
func (c *coordinator) entries() []*groupEntry {
	c.mu.RLock()
	defer c.mu.RUnlock()
	l := make([]*groupEntry, 0, len(c.groups))
	for _, e := range c.groups {
		l = append(l, e)
	}
	return l
}

// forgetTopic drops a deleted topic's offsets.
func (c *coordinator) forgetTopic(ctx context.Context, topic string) {
	for _, e := range c.entries() {
		e.mu.Lock()
		if e.gone {
			e.mu.Unlock()
			continue
		}
		var tps []group.TopicPartition
		for _, tp := range e.g.Offsets() {
			if tp.Topic == topic {
				tps = append(tps, tp)
			}
		}
		if err := c.forget(ctx, e, tps); err != nil {
			// They carry the deleted topic's id, so the next start drops them.
			c.logger.Error("offsets of a deleted topic could not be removed", "topic", topic, "group", e.name, "err", err)
		}
		c.settle(e)
	}
}

// upkeep expires offsets and groups, and compacts the log when it has grown.
func (c *coordinator) upkeep(ctx context.Context, now time.Time) {
	for _, e := range c.entries() {
		e.mu.Lock()
		if e.gone {
			e.mu.Unlock()
			continue
		}
		err := c.forget(ctx, e, e.g.Expired(now, c.b.cfg.OffsetsRetention))
		switch {
		case err != nil || !e.g.Idle():
			e.idle = time.Time{}
		case e.idle.IsZero():
			e.idle = now
		case now.Sub(e.idle) >= min(idleGroupTime, c.b.cfg.OffsetsRetention):
			err = c.drop(ctx, e)
		}
		if err != nil && ctx.Err() == nil {
			c.logger.Error("expired offsets could not be removed", "group", e.name, "err", err)
		}
		c.settle(e)
	}
	c.mu.RLock()
	gl := c.log
	c.mu.RUnlock()
	if gl == nil || !gl.grown() {
		return
	}
	if err := gl.compact(ctx, c.inForce); err != nil && ctx.Err() == nil && !errors.Is(err, errStopping) {
		c.logger.Error("the group log could not be compacted; it grows until it can", "err", err)
	}
}

var errStopping = errors.New("the broker is stopping")

// inForce writes all that is to know of all groups. When the broker stops it
// gives up: stopping takes the members out of the groups, but not out of the
// log, and there they must stay.
func (c *coordinator) inForce(write func(...group.Record) error) error {
	for _, e := range c.entries() {
		e.mu.Lock()
		var err error
		switch {
		case e.gone:
		case e.g.State() == group.Dead:
			err = errStopping
		default:
			err = write(e.records()...)
		}
		e.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// records are everything to know of a locked group.
func (e *groupEntry) records() []group.Record {
	tps := e.g.Offsets()
	recs := e.g.Snapshot()
	for _, tp := range tps {
		o, _ := e.g.Offset(tp)
		recs = append(recs, group.OffsetRecord(e.name, tp, &o))
	}
	return recs
}

// stop answers everybody who waits and refuses from then on. The memberships
// stay in the log, so that the members go on after a restart.
func (c *coordinator) stop() {
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	for _, e := range c.entries() {
		e.mu.Lock()
		if !e.gone {
			e.g.Kill() // nothing of this is written
			e.unwritten = nil
			c.settle(e)
		} else {
			e.mu.Unlock()
		}
	}
}

// close is stop, and then no timer runs any more. It is idempotent.
func (c *coordinator) close() {
	c.stop()
	for _, e := range c.entries() {
		e.mu.Lock()
		e.gone = true
		if e.timer != nil {
			e.timer.Stop()
		}
		e.mu.Unlock()
	}
}

// newMemberID makes a member id as Kafka's clients show it.
func newMemberID(clientID string, instance *string) string {
	name := clientID
	if instance != nil {
		name = *instance
	}
	return name + "-" + newUUID()
}

func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	h := hex.EncodeToString(b[:])
	return fmt.Sprintf("%s-%s-%s-%s-%s", h[:8], h[8:12], h[12:16], h[16:20], h[20:])
}
