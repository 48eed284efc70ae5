// Package kafka is Flume's Kafka channel: a topic holds the events, and the committed offsets of a consumer group say which
// of them are taken. docs/kafka-channel.md says how, and what Flume does differently.
//
// A put is a batch of records, acknowledged by the brokers. For the takes one member of the group reads ahead into a
// queue that all takers share; the commit of a take commits offsets.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/kafkaclient"
	"github.com/sluice-data/sluice/internal/kafkaconf"
)

// Channel is the channel.
type Channel struct {
	*config
	log     *slog.Logger
	cond    *kafkaconf.Conditions
	consume []kgo.Opt
	env     kafkaconf.Env // for the options of producers
	watch   kgo.Opt       // one for all clients: an operator is told once

	alone chan struct{} // one token with transactions: only one put at a time may use the id; else nil

	some, room chan struct{} // one token each: for takes, and for who reads ahead

	mu      sync.Mutex
	started bool
	idle    []*producer
	con     *consumer // nil before the first take
	queue   queue
	seq     int64
	leased  int64 // events of open leases
	open    map[*lease]struct{}
	most    int // the largest limit of a take

	// due is how long a take waits at most for events that are known to be
	// in the topic, and fill how long one that has some waits for more of those.
	due, fill time.Duration

	sent, got, committed             time.Duration
	sendTimer, getTimer, commitTimer *atomic.Int64 // ms
	rollbacks, takeErrors, putErrors *atomic.Int64
}

var (
	_ component.Channel = (*Channel)(nil)
	_ component.Shared  = (*Channel)(nil)
)

// IsShared implements component.Shared.
func (c *Channel) IsShared() {}

func newChannel(c *config, env component.Env) *Channel {
	ch := &Channel{config: c, log: env.Log, cond: kafkaconf.NewConditions(env.Health), due: 3 * time.Second, fill: 500 * time.Millisecond,
		open: make(map[*lease]struct{}), some: make(chan struct{}, 1), room: make(chan struct{}, 1),
		sendTimer: env.Metrics.Counter("KafkaEventSendTimer"), getTimer: env.Metrics.Counter("KafkaEventGetTimer"),
		commitTimer: env.Metrics.Counter("KafkaCommitTimer"), rollbacks: env.Metrics.Counter("RollbackCount"),
		putErrors: env.Metrics.Counter("EventPutErrorCount"), takeErrors: env.Metrics.Counter("EventTakeErrorCount"),
	}
	if c.producer.TransactionalID != "" {
		ch.alone = make(chan struct{}, 1)
	}
	return ch
}

var errNotStarted = errors.New("the channel is not started")

// Start connects nothing: puts and takes do. So an agent comes up without its
// brokers, as Flume does.
func (c *Channel) Start(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.started = true
	c.sent, c.got, c.committed = 0, 0, 0
	return nil
}

// Stop leaves the group. What open leases hold comes again after the next start.
func (c *Channel) Stop(context.Context) error {
	c.mu.Lock()
	con, idle := c.con, c.idle
	c.con, c.idle, c.started = nil, nil, false
	c.mu.Unlock()
	for _, p := range idle {
		p.sender.Close()
	}
	if con != nil {
		con.stop()
	}
	return nil
}

// TransactionCapacity is 0: there is no limit.
func (c *Channel) TransactionCapacity() int { return 0 }

// Stats counts events of open leases as still in the channel. What other
// agents put counts once it is known from a fetch.
func (c *Channel) Stats() component.ChannelStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return component.ChannelStats{Size: int64(c.queue.len()) + c.leased + c.behind(), Bytes: int64(c.queue.bytes), Durable: true}
}

// behind is how many events are known to be in the topic that were not read
// yet. mu is held.
func (c *Channel) behind() (n int64) {
	if c.con == nil {
		return 0
	}
	for _, p := range c.con.parts {
		n += p.behind()
	}
	return n
}

// producer is a sender and what it needs. It serves one put at a time.
type producer struct {
	sender *kafkaclient.Sender
	ends   map[int32]int64 // of partitions, as the acknowledgements of a put say
}

func (c *Channel) newProducer() (*producer, error) {
	// Each has options of its own: clients that are made at the same time
	// would write into those that they share.
	opts, err := c.producer.Options(c.env)
	if err != nil {
		return nil, err
	}
	p := &producer{ends: make(map[int32]int64)}
	p.sender, err = kafkaclient.NewSender(kafkaclient.SenderConfig{Producer: &c.producer, Options: append(opts, c.watch), Encoder: &encoder{config: c.config}, Log: c.log, Acked: p.acked})
	return p, err
}

func (p *producer) acked(r *kgo.Record) { p.ends[r.Partition] = max(p.ends[r.Partition], r.Offset+1) }

// acquire returns a producer that nobody else uses.
func (c *Channel) acquire(ctx context.Context) (*producer, error) {
	if c.alone != nil {
		select {
		case c.alone <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	p, err := c.idleOrNew()
	if err != nil && c.alone != nil {
		<-c.alone
	}
	return p, err
}

func (c *Channel) idleOrNew() (*producer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.started {
		return nil, errNotStarted
	}
	if n := len(c.idle); n > 0 {
		p := c.idle[n-1]
		c.idle = c.idle[:n-1]
		return p, nil
	}
	return c.newProducer()
}

// release takes a producer back, and notes where the partitions end now.
func (c *Channel) release(p *producer) {
	c.mu.Lock()
	if c.con != nil && c.producer.Acks != "0" { // else offsets are not known
		for id, end := range p.ends {
			if mine := c.con.parts[id]; mine != nil && !mine.revoking {
				mine.end = max(mine.end, end)
			}
		}
	}
	keep := c.started
	if keep {
		c.idle = append(c.idle, p)
	}
	c.mu.Unlock()
	clear(p.ends)
	if !keep {
		p.sender.Close()
	}
	if c.alone != nil {
		<-c.alone
	}
}

// Put sends the batch and returns when all of it is acknowledged, or with a
// *component.PartialError that names the events that are not.
func (c *Channel) Put(ctx context.Context, b *event.Batch) error {
	evs := b.Events()
	if len(evs) == 0 {
		return nil
	}
	p, err := c.acquire(ctx)
	if err != nil {
		return fmt.Errorf("send %d events to Kafka: %w", len(evs), err)
	}
	begin := time.Now()
	failed, err := p.sender.Send(ctx, evs)
	c.release(p)
	c.timed(&c.sent, c.sendTimer, begin)
	if err == nil && len(failed) > 0 {
		if err = kafkaclient.First(failed); len(evs) > 1 {
			err = &component.PartialError{Failed: failed}
		}
	}
	if err != nil {
		c.putErrors.Add(1)
		return fmt.Errorf("send %d events to Kafka: %w", len(evs), err)
	}
	return nil
}

// timed adds the time since begin to one of Flume's timers.
func (c *Channel) timed(sum *time.Duration, timer *atomic.Int64, begin time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*sum += time.Since(begin)
	timer.Store(sum.Milliseconds())
}

// NewTaker returns a taker with a lease of its own that is used over and over.
func (c *Channel) NewTaker() component.Taker { return &lease{c: c} }

// member returns the member of the group, which the first take makes: an
// agent without sinks on this channel takes no partitions.
func (c *Channel) member() (*consumer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.started {
		return nil, errNotStarted
	}
	if c.con == nil {
		con, err := newConsumer(c)
		if err != nil {
			return nil, err
		}
		c.con, c.queue, c.leased = con, queue{}, 0
		con.start()
	}
	return c.con, nil
}
