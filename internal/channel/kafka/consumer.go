package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sluice-data/sluice/internal/channel/wait"
	"github.com/sluice-data/sluice/internal/kafkaclient"
)

const (
	// aheadEvents and aheadBytes bound what is read ahead of the takes.
	aheadEvents = 2000
	aheadBytes  = 32 << 20
	// commitTime is how long the commit of a take waits for the brokers. If
	// they do not answer, it is tried again every retryEvery.
	commitTime = 10 * time.Second
	retryEvery = time.Second
	// pause is taken after a poll that brought nothing but errors, and bounds
	// one that brings nothing.
	pause = time.Second
)

// consumer is the channel's member of the group.
type consumer struct {
	c    *Channel
	cl   *kgo.Client
	adm  *kadm.Client
	sub  *kafkaclient.Subscription
	life context.Context // the client's
	end  context.CancelFunc
	work context.Context // ends when the channel is to stop
	halt context.CancelFunc
	done sync.WaitGroup

	dec   decoder         // of readAhead
	parts map[int32]*part // Channel.mu guards these two
	away  map[int32]*part // lost, until the next assignment: this member may get them back

	committing sync.Mutex // who commits; the others find it done, or do it again
	noMetadata bool       // the brokers do not take it
	failing    bool       // the last commit failed; Channel.mu guards it
	retry      chan struct{}
}

func newConsumer(c *Channel) (*consumer, error) {
	k := &consumer{c: c, dec: decoder{avro: c.avro}, parts: make(map[int32]*part), away: make(map[int32]*part), retry: make(chan struct{}, 1)}
	k.life, k.end = context.WithCancel(context.Background())
	k.work, k.halt = context.WithCancel(k.life)
	cl, err := kgo.NewClient(append(slices.Clip(c.consume),
		kgo.WithContext(k.life),
		kgo.OnPartitionsAssigned(k.assigned),
		kgo.OnOffsetsFetched(k.fetched),
		kgo.AdjustFetchOffsetsFn(k.adjust),
		kgo.OnPartitionsRevoked(k.revoked),
		kgo.OnPartitionsLost(k.lost),
	)...)
	if err != nil {
		k.end()
		return nil, fmt.Errorf("make the Kafka client: %w", err)
	}
	k.cl, k.adm = cl, kadm.NewClient(cl)
	k.sub = kafkaclient.Subscribe(kafkaclient.Topics{Names: []string{c.topic}, Key: "kafka.topic", Every: c.consumer.MetadataAge(), Log: c.log, Cond: c.cond})
	// Only now: with a topic the client begins to work, and calls back.
	cl.AddConsumeTopics(c.topic)
	return k, nil
}

func (k *consumer) start() {
	k.done.Go(k.readAhead)
	k.done.Go(k.commitAgain)
	k.done.Go(func() { k.sub.Watch(k.work, k.adm, 0) })
}

// stop leaves the group and waits for everything.
func (k *consumer) stop() {
	k.halt()
	k.done.Wait()
	k.commit(kafkaclient.LeaveTime)
	kafkaclient.Leave(k.cl, k.c.consumer.Group, k.c.log, k.end)
}

// readAhead fills the queue.
func (k *consumer) readAhead() {
	ctx := k.work
	for ctx.Err() == nil {
		k.sub.Apply(k.cl, func([]string) { k.madeAgain() })
		n := k.room()
		if n <= 0 {
			select {
			case <-k.c.room:
			case <-ctx.Done():
			}
			continue
		}
		pctx, cancel := context.WithTimeout(ctx, pause)
		fs := k.cl.PollRecords(pctx, n)
		cancel()
		if ctx.Err() == nil {
			k.report(ctx, fs)
			k.enqueue(fs)
		}
		k.cl.AllowRebalance()
	}
}

// room is how many events may be read ahead.
func (k *consumer) room() int {
	c := k.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.queue.bytes >= aheadBytes {
		return 0
	}
	return min(max(aheadEvents, 2*c.most)-c.queue.len(), c.consumer.MaxPoll)
}

// report says what went wrong, once, and pauses if nothing else came.
func (k *consumer) report(ctx context.Context, fs kgo.Fetches) {
	var failed error
	fs.EachError(func(topic string, partition int32, err error) {
		if errors.Is(err, kgo.ErrClientClosed) || errors.Is(err, context.DeadlineExceeded) && topic == "" {
			return // of the poll
		}
		failed = kafkaclient.ExplainFetch(topic, partition, err)
		if errors.Is(err, kerr.UnknownTopicID) || errors.Is(err, kerr.UnknownTopicOrPartition) {
			k.sub.Doubt(topic)
		}
	})
	switch {
	case failed != nil:
		if k.c.cond.Set("fetch", failed) {
			k.c.log.Error("reading the topic failed, trying on", "topic", k.c.topic, "error", failed)
		}
		if fs.NumRecords() == 0 {
			kafkaclient.Sleep(ctx, pause)
		}
	case fs.NumRecords() > 0:
		if k.c.cond.Set("fetch", nil) {
			k.c.log.Info("reading the topic works again", "topic", k.c.topic)
		}
	}
}

// enqueue puts what was read into the queue.
func (k *consumer) enqueue(fs kgo.Fetches) {
	c := k.c
	c.mu.Lock()
	defer c.mu.Unlock()
	var bad error
	fs.EachPartition(func(fp kgo.FetchTopicPartition) {
		p := k.parts[fp.Partition]
		if p == nil || fp.Topic != c.topic {
			return
		}
		if end := fp.HighWatermark; !c.consumer.Committed() {
			p.end = max(p.end, end)
		} else if fp.LastStableOffset >= 0 { // what is behind it cannot be read yet
			p.end = max(p.end, min(end, fp.LastStableOffset))
		}
		if err := k.add(p, fp.Records); err != nil {
			bad = err
		}
	})
	if fs.NumRecords() > 0 {
		c.cond.Set("records", bad)
		wait.Signal(c.some) // if it is no event, a take waits for nothing more
	}
}

// add puts the records of one partition into the queue. The error is that of
// the first that is no event. mu is held.
func (k *consumer) add(p *part, rs []*kgo.Record) error {
	c := k.c
	var bad error
	var first, last, n int64
	for _, r := range rs {
		if r.Offset < p.from { // the topic was made anew
			c.log.Warn("the offsets of a partition begin anew: its topic was removed and made again", "topic", c.topic, "partition", p.id, "offset", r.Offset, "before", p.from)
			p.low, p.from, p.done = r.Offset, r.Offset, nil
		}
		p.pos, p.epoch, p.end = r.Offset+1, r.LeaderEpoch, max(p.end, r.Offset+1)
		if r.Attrs.IsControl() {
			continue
		}
		if p.isTaken(r.Offset) || contains(p.held, r.Offset) {
			p.from = r.Offset + 1
			continue
		}
		ev, err := k.dec.decode(r)
		if err != nil {
			if n++; bad == nil {
				bad, first = err, r.Offset
			}
			last = r.Offset
			continue
		}
		c.queue.push(entry{event: ev, part: p, from: p.from, offset: r.Offset, seq: c.seq, size: len(r.Key) + len(r.Value)})
		c.seq++
		p.from = r.Offset + 1
	}
	if bad == nil {
		return nil
	}
	c.takeErrors.Add(n)
	bad = fmt.Errorf("topic %s, partition %d, offsets %d to %d: %d records are not Flume events (if others write to this topic, set parseAsFlumeEvent = false): %w", c.topic, p.id, first, last, n, bad)
	c.log.Error("records are passed over; they stay in the topic", "error", bad)
	return bad
}

// commitSoon commits what was taken, or leaves that to commitAgain if the
// brokers did not take the last commit.
func (k *consumer) commitSoon() {
	k.c.mu.Lock()
	failing := k.failing
	k.c.mu.Unlock()
	if !failing {
		k.commit(commitTime)
	}
}

// commitAgain tries commits that failed.
func (k *consumer) commitAgain() {
	for {
		select {
		case <-k.retry:
		case <-k.work.Done():
			return
		}
		if kafkaclient.Sleep(k.work, retryEvery); k.work.Err() != nil {
			return // stop commits
		}
		k.commit(commitTime)
	}
}

// commit commits all that is taken and not committed yet. Those who come while
// another does it wait, and mostly find nothing left to do.
func (k *consumer) commit(limit time.Duration) {
	k.committing.Lock()
	defer k.committing.Unlock()
	c := k.c
	c.mu.Lock()
	offsets := make(map[int32]kgo.EpochOffset)
	metadata := make(map[int32]string)
	for id, p := range k.parts {
		if !p.dirty {
			continue
		}
		p.dirty = false
		offsets[id] = kgo.EpochOffset{Epoch: p.epoch, Offset: p.low}
		if !k.noMetadata {
			metadata[id] = p.metadata()
		}
	}
	// What was lost is not to be committed, unless it comes back.
	waiting := len(k.away) > 0
	c.mu.Unlock()
	if len(offsets) == 0 {
		if !waiting {
			k.settled(nil)
		}
		return
	}
	begin := time.Now()
	err := k.send(limit, offsets, metadata)
	if errors.Is(err, kerr.OffsetMetadataTooLarge) && !k.noMetadata {
		c.log.Warn("the brokers do not take as much metadata with an offset (offset.metadata.max.bytes), so that events which were taken out of order may be delivered again after a crash", "group", c.consumer.Group, "error", err)
		k.noMetadata = true
		err = k.send(limit, offsets, nil)
	}
	c.timed(&c.committed, c.commitTimer, begin)
	c.mu.Lock()
	for id, o := range offsets {
		if p := k.parts[id]; p != nil && err != nil {
			p.dirty = true
		} else if p != nil {
			p.base = o.Offset
		}
	}
	c.mu.Unlock()
	k.settled(err)
}

// settled notes the outcome of a commit. One that failed is tried again.
func (k *consumer) settled(err error) {
	c := k.c
	c.mu.Lock()
	k.failing = err != nil
	c.mu.Unlock()
	if err == nil {
		if c.cond.Set("commit", nil) {
			c.log.Info("offsets are committed again", "group", c.consumer.Group)
		}
		return
	}
	err = fmt.Errorf("commit offsets of consumer group %s: %w", c.consumer.Group, err)
	if c.cond.Set("commit", err) {
		c.log.Warn("what was taken is not committed, which is tried again; if the agent ends before that, it is delivered again", "error", err)
	}
	wait.Signal(k.retry)
}

// send is one commit.
func (k *consumer) send(limit time.Duration, offsets map[int32]kgo.EpochOffset, metadata map[int32]string) (failed error) {
	ctx, cancel := context.WithTimeout(k.life, limit)
	defer cancel()
	defer context.AfterFunc(k.work, func() {
		kafkaclient.Sleep(ctx, kafkaclient.LeaveTime)
		cancel()
	})()
	ctx = kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
		for i := range req.Topics {
			for j := range req.Topics[i].Partitions {
				p := &req.Topics[i].Partitions[j]
				m := metadata[p.Partition]
				p.Metadata = &m
			}
		}
		return nil
	})
	k.cl.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{k.c.topic: offsets}, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		failed = kafkaclient.CommitError(resp, err)
	})
	return failed
}

func (k *consumer) assigned(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	ids := parts[k.c.topic]
	if len(ids) > 0 {
		k.c.log.Info("partitions assigned", "group", k.c.consumer.Group, "topic", k.c.topic, "partitions", fmt.Sprint(ids))
	}
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	for id := range k.away { // those that others have now
		if !slices.Contains(ids, id) {
			delete(k.away, id)
		}
	}
	wait.Signal(k.retry)
}

// fetched gets the committed offsets of partitions that were assigned, before
// anything of them is read.
func (k *consumer) fetched(ctx context.Context, _ *kgo.Client, resp *kmsg.OffsetFetchResponse) error {
	c := k.c
	// Where partitions begin and end is for the size alone, but for the end
	// if that is where to begin: without it the size is known a little later.
	list := k.adm.ListEndOffsets
	if c.consumer.Committed() {
		list = k.adm.ListCommittedOffsets
	}
	starts, _ := k.adm.ListStartOffsets(ctx, c.topic)
	ends, endsErr := list(ctx, c.topic)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, g := range resp.Groups {
		for _, t := range g.Topics {
			if t.Topic != c.topic {
				continue
			}
			for _, fp := range t.Partitions {
				start, okStart := starts.Lookup(c.topic, fp.Partition)
				end, okEnd := ends.Lookup(c.topic, fp.Partition)
				okStart, okEnd = okStart && start.Err == nil, okEnd && end.Err == nil
				c.log.Debug("committed offset", "group", c.consumer.Group, "topic", c.topic, "partition", fp.Partition, "offset", fp.Offset, "start", start.Offset, "end", end.Offset)
				p := &part{id: fp.Partition, epoch: -1, low: fp.Offset}
				switch {
				case fp.Offset >= 0:
					meta := ""
					if fp.Metadata != nil {
						meta = *fp.Metadata
					}
					var err error
					if p.done, err = parseMetadata(meta, p.low); err != nil {
						c.log.Warn("what was taken out of order is not known, and may be delivered again", "topic", c.topic, "partition", p.id, "error", err)
					}
					if okStart && start.Offset > p.low {
						c.log.Error("events are gone from the topic before they were taken: its retention is too short", "topic", c.topic, "partition", p.id, "from", p.low, "to", start.Offset)
					}
				case c.consumer.AtEnd():
					if !okEnd {
						return fmt.Errorf("find the end of topic %s, partition %d: %w", c.topic, p.id, errors.Join(endsErr, end.Err))
					}
					// The group is told at once. If this member went before it
					// had committed anything, the next one would begin at the
					// end as it is then, and events would be lost.
					p.low, p.pinned, p.dirty = end.Offset, true, true
				case okStart:
					p.low = start.Offset
				default:
					p.low = 0
				}
				p.base, p.from, p.pos, p.end = p.low, p.low, p.low, p.low
				if old := k.away[p.id]; old != nil {
					p.resume(old)
					c.reattach(old, p)
					delete(k.away, p.id)
				}
				if okStart {
					p.pos = max(p.pos, start.Offset)
				}
				if okEnd {
					p.end = end.Offset
				}
				k.parts[p.id] = p
			}
		}
	}
	wait.Signal(c.some)
	wait.Signal(k.retry)
	return nil
}

// adjust gives pinned partitions their positions.
func (k *consumer) adjust(_ context.Context, at map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	for id := range at[k.c.topic] {
		if p := k.parts[id]; p != nil && p.pinned {
			at[k.c.topic][id] = kgo.NewOffset().At(p.low)
		}
	}
	return at, nil
}

// revoked gives partitions up once the leases that have events of them ended,
// and what was taken is committed.
func (k *consumer) revoked(ctx context.Context, _ *kgo.Client, parts map[string][]int32) {
	c := k.c
	var idle []chan struct{}
	c.mu.Lock()
	for _, id := range parts[c.topic] {
		p := k.parts[id]
		if p == nil {
			continue
		}
		p.revoking = true
		p.end = p.pos // nothing more is to come
		c.queue.drop(p)
		if p.open > 0 {
			p.idle = make(chan struct{})
			idle = append(idle, p.idle)
		}
	}
	c.mu.Unlock()
	wait.Signal(c.room)
	// The group waits for us that long, and the commit needs some of it.
	limit := time.After(c.consumer.Rebalance * 3 / 4)
waiting:
	for _, done := range idle {
		select {
		case <-done:
		case <-limit:
			break waiting
		case <-k.work.Done():
			break waiting
		case <-ctx.Done():
			break waiting
		}
	}
	if k.work.Err() == nil { // else stop has committed
		k.commit(commitTime)
	}
	k.forget(parts[c.topic], "partitions revoked")
}

// lost forgets partitions that are another member's already.
func (k *consumer) lost(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	k.forget(parts[k.c.topic], "partitions lost, until the group is joined again")
}

// madeAgain forgets all that is known of a topic that was deleted and made
// again: its offsets are others now.
func (k *consumer) madeAgain() {
	k.c.mu.Lock()
	ids := slices.Collect(maps.Keys(k.parts))
	for _, p := range k.parts {
		p.dirty = false
	}
	k.c.mu.Unlock()
	k.forget(ids, "partitions of the topic that was deleted are forgotten")
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	clear(k.away)
}

func (k *consumer) forget(ids []int32, why string) {
	if len(ids) == 0 {
		return
	}
	c := k.c
	c.mu.Lock()
	for _, id := range ids {
		if p := k.parts[id]; p != nil {
			p.gone = true
			c.queue.drop(p)
			if p.open > 0 || p.dirty {
				k.away[id] = p
			}
			delete(k.parts, id)
		}
	}
	c.mu.Unlock()
	wait.Signal(c.room)
	c.log.Info(why, "group", c.consumer.Group, "topic", c.topic, "partitions", fmt.Sprint(ids))
}
