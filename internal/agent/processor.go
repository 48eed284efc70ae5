package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

// defaultRetry is for sources without a policy of their own: wait for ever.
var defaultRetry = component.RetryPolicy{Initial: 250 * time.Millisecond, Max: 4 * time.Second}

// interceptorNode is an interceptor with its counters.
type interceptorNode struct {
	name        string // source.interceptor
	ic          component.Interceptor
	serial      *sync.Mutex // for interceptors that must not run concurrently
	metrics     *component.Metrics
	in, dropped *atomic.Int64
}

func newInterceptorNode(name string, ic component.Interceptor, m *component.Metrics) *interceptorNode {
	n := &interceptorNode{name: name, ic: ic, metrics: m, in: m.Counter("EventInCount"), dropped: m.Counter("EventDroppedCount")}
	if _, ok := ic.(component.Serial); ok {
		n.serial = new(sync.Mutex)
	}
	return n
}

func (n *interceptorNode) run(b *event.Batch) (err error) {
	if n.serial != nil {
		n.serial.Lock()
		defer n.serial.Unlock()
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	before := b.Len()
	err = n.ic.Intercept(b)
	n.in.Add(int64(before))
	if d := before - b.Len(); d > 0 {
		n.dropped.Add(int64(d))
	}
	return err
}

// processor is a source's way out: interceptors, selector, one put per
// channel. Flume calls it the channel processor.
type processor struct {
	agent        *Agent
	source       *sourceNode
	channels     []*channelNode
	interceptors []*interceptorNode
	selector     component.Selector
	always       *component.Route // not nil: the selector's answer for every event
	perEvent     bool             // equal headers do not mean the same answer
	retry        component.RetryPolicy
	dead         *deadLetters // nil: what a channel can never take is tried for ever

	received, accepted, batchReceived, batchAccepted, writeFail *atomic.Int64
	unrouted                                                    *atomic.Int64 // ours: events that the selector sends nowhere

	tailMu sync.Mutex
	tail   *event.Tail

	splits sync.Pool // *split
}

var _ component.Output = (*processor)(nil)

func newProcessor(a *Agent, s *sourceNode, chans []*channelNode, ics []*interceptorNode, sel component.Selector) *processor {
	p := &processor{agent: a, source: s, channels: chans, interceptors: ics, selector: sel, retry: defaultRetry,
		received: s.metrics.Counter("EventReceivedCount"), accepted: s.metrics.Counter("EventAcceptedCount"),
		batchReceived: s.metrics.Counter("AppendBatchReceivedCount"), batchAccepted: s.metrics.Counter("AppendBatchAcceptedCount"),
		writeFail: s.metrics.Counter("ChannelWriteFail"),
		unrouted:  s.metrics.Counter("EventUnroutedCount"),
		tail:      event.NewTail(a.pool),
	}
	if u, ok := sel.(component.Uniform); ok {
		p.always = u.Always()
	}
	_, p.perEvent = sel.(component.PerEvent)
	if r, ok := s.src.(component.Retrier); ok {
		p.retry = r.Retry()
	}
	p.splits.New = func() any {
		return &split{required: make([]*event.Batch, len(chans)), optional: make([]*event.Batch, len(chans))}
	}
	return p
}

func (p *processor) Pool() *event.Pool      { return p.agent.pool }
func (p *processor) NewBatch() *event.Batch { return p.agent.pool.NewBatch() }

// close ends the interceptors and lets go of the shared block.
func (p *processor) close() {
	for _, n := range p.interceptors {
		if c, ok := n.ic.(io.Closer); ok {
			if err := c.Close(); err != nil {
				p.agent.log.Warn("close interceptor", "interceptor", n.name, "err", err)
			}
		}
	}
	p.tailMu.Lock()
	p.tail.Close()
	p.tailMu.Unlock()
}

// Emit implements component.Output.
func (p *processor) Emit(ctx context.Context, b *event.Batch) error {
	defer b.Release()
	n := int64(b.Len())
	p.received.Add(n)
	p.batchReceived.Add(1)
	for _, ic := range p.interceptors {
		if err := ic.run(b); err != nil {
			return fmt.Errorf("interceptor %s: %w", ic.name, err)
		}
	}
	if b.Len() > 0 {
		if b.Sparse() {
			p.compact(b)
		}
		if err := p.route(ctx, b); err != nil {
			p.writeFail.Add(1)
			return err
		}
	}
	p.accepted.Add(n)
	p.batchAccepted.Add(1)
	return nil
}

func (p *processor) compact(b *event.Batch) {
	p.tailMu.Lock()
	p.tail.Compact(b)
	p.tailMu.Unlock()
}

// split is the scratch space for a batch whose events go different ways: one
// batch per channel, nil where nothing goes.
type split struct{ required, optional []*event.Batch }

func (s *split) add(to []*event.Batch, p *processor, ch int, b *event.Batch, i int) {
	if to[ch] == nil {
		to[ch] = p.NewBatch()
	}
	to[ch].Share(b, i)
}

func (s *split) release() {
	for _, to := range [][]*event.Batch{s.required, s.optional} {
		for i, b := range to {
			if b != nil {
				b.Release()
				to[i] = nil
			}
		}
	}
}

// route puts every event where the selector wants it. Required channels come
// first, in the order of the source's list, as in Flume; a channel that has
// taken its part keeps it when a later one fails, so the source's next try
// repeats events there.
func (p *processor) route(ctx context.Context, b *event.Batch) error {
	r := p.always
	evs := b.Events()
	differ := 0 // index of the first event that goes another way than event 0
	if r == nil && !p.perEvent {
		r = p.selector.Select(&evs[0])
		for differ = 1; differ < len(evs); differ++ {
			if !event.SameHeaders(&evs[differ], &evs[differ-1]) && p.selector.Select(&evs[differ]) != r {
				break
			}
		}
	}
	if p.always != nil || differ == len(evs) { // the whole batch goes one way
		if len(r.Required)+len(r.Optional) == 0 {
			p.unrouted.Add(int64(len(evs)))
		}
		for _, ch := range r.Required {
			if err := p.put(ctx, p.channels[ch], b); err != nil {
				return err
			}
		}
		for _, ch := range r.Optional {
			p.putOptional(ctx, p.channels[ch], b)
		}
		return nil
	}

	s := p.splits.Get().(*split)
	defer func() { s.release(); p.splits.Put(s) }()
	nowhere := int64(0)
	for i := range evs {
		if p.perEvent || i >= differ && (i == 0 || !event.SameHeaders(&evs[i], &evs[i-1])) {
			r = p.selector.Select(&evs[i])
		}
		if len(r.Required)+len(r.Optional) == 0 {
			nowhere++
		}
		for _, ch := range r.Required {
			s.add(s.required, p, ch, b, i)
		}
		for _, ch := range r.Optional {
			s.add(s.optional, p, ch, b, i)
		}
	}
	p.unrouted.Add(nowhere)
	// A small share must not pin the memory of all.
	live := b.Live()
	for _, to := range [][]*event.Batch{s.required, s.optional} {
		for _, sub := range to {
			if sub != nil && 4*sub.Live() < live {
				p.compact(sub)
			}
		}
	}
	for ch, sub := range s.required {
		if sub != nil {
			if err := p.put(ctx, p.channels[ch], sub); err != nil {
				return err
			}
		}
	}
	for ch, sub := range s.optional {
		if sub != nil {
			p.putOptional(ctx, p.channels[ch], sub)
		}
	}
	return nil
}

// put puts b into ch, for as long as the source's retry policy says.
func (p *processor) put(ctx context.Context, ch *channelNode, b *event.Batch) error {
	return p.pieces(ch, b, func(part *event.Batch) error { return p.putWhole(ctx, ch, part) })
}

// pieces calls put with b or, where that is larger than the channel's
// transactions, with one piece of it after the other.
func (p *processor) pieces(ch *channelNode, b *event.Batch, put func(*event.Batch) error) error {
	limit := ch.ch.TransactionCapacity()
	if limit <= 0 || b.Len() <= limit {
		return put(b)
	}
	for from := 0; from < b.Len(); from += limit {
		part := p.part(b, from, min(from+limit, b.Len()))
		err := put(part)
		part.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

// part is a batch of some of b's events.
func (p *processor) part(b *event.Batch, from, to int) *event.Batch {
	part := p.NewBatch()
	for i := from; i < to; i++ {
		part.Share(b, i)
	}
	return part
}

func (p *processor) putWhole(ctx context.Context, ch *channelNode, b *event.Batch) error {
	pause := p.retry.Initial
	for stalled := false; ; {
		err := ch.put(ctx, b)
		if rest := p.missing(b, err); rest != nil {
			if p.retry.Once {
				rest.Release()
				return fmt.Errorf("put %d events into channel %s: %w", b.Len(), ch.name, err)
			}
			p.source.stalled(p.agent, ch, err)
			return p.putRest(ctx, ch, rest, pause)
		}
		if component.IsPermanent(err) && b.Len() > 1 { // too large as a whole, say
			return p.putHalves(ctx, ch, b)
		}
		if component.IsPermanent(err) && p.dead != nil && ctx.Err() == nil {
			err = p.dead.bury(ctx, ch.name, b.Events(), []error{err})
		}
		if err == nil {
			if stalled {
				p.source.stalled(p.agent, ch, nil)
			}
			return nil
		}
		if ctx.Err() != nil || p.retry.Once || component.IsPermanent(err) {
			return fmt.Errorf("put %d events into channel %s: %w", b.Len(), ch.name, err)
		}
		if !stalled {
			stalled = true
			p.source.stalled(p.agent, ch, err)
		}
		if !sleep(ctx, pause) {
			return fmt.Errorf("put %d events into channel %s: %w", b.Len(), ch.name, errors.Join(err, ctx.Err()))
		}
		pause = min(2*pause, p.retry.Max)
	}
}

// missing is a batch of the events of b that a channel does not have, where it
// took some of them; else nil.
func (p *processor) missing(b *event.Batch, err error) *event.Batch {
	var partial *component.PartialError
	if !errors.As(err, &partial) || len(partial.Failed) >= b.Len() {
		return nil
	}
	rest := p.NewBatch()
	for i := range b.Len() {
		if partial.Failed[i] != nil {
			rest.Share(b, i)
		}
	}
	return rest
}

// putRest goes on with what is missing of a batch. It releases rest.
func (p *processor) putRest(ctx context.Context, ch *channelNode, rest *event.Batch, pause time.Duration) error {
	defer rest.Release()
	if !sleep(ctx, pause) {
		return fmt.Errorf("put %d events into channel %s: %w", rest.Len(), ch.name, ctx.Err())
	}
	if err := p.putWhole(ctx, ch, rest); err != nil {
		return err
	}
	p.source.stalled(p.agent, ch, nil)
	return nil
}

// putHalves puts a batch that the channel can never take as it is in two
// transactions.
func (p *processor) putHalves(ctx context.Context, ch *channelNode, b *event.Batch) error {
	half := b.Len() / 2
	for _, r := range [][2]int{{0, half}, {half, b.Len()}} {
		part := p.part(b, r[0], r[1])
		err := p.putWhole(ctx, ch, part)
		part.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

// putOptional tries once; what fails is missing there, as the selector's
// "optional" says it may.
func (p *processor) putOptional(ctx context.Context, ch *channelNode, b *event.Batch) {
	_ = p.pieces(ch, b, func(part *event.Batch) error {
		if err := ch.put(ctx, part); err != nil {
			ch.optionalFailed(p.agent, p.source.name, part.Len(), err)
		}
		return nil // the next piece may fit
	})
}

// sleep waits for d; it answers false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
