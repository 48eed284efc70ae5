package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-data/sluice/internal/broker/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// conn is one client connection. Its reader starts requests in order and
// answers what is finished at once; what has to wait, and whatever comes
// behind it, goes to a writer, which finishes and answers in the same order.
// Between them are at most MaxInflight requests.
type conn struct {
	b      *Broker
	ln     *listener // through which it came
	nc     net.Conn
	remote string
	in     *input
	dst    *wire.Writer

	// out holds answers that the reader has not sent yet: those to requests
	// that arrived together go out together.
	out []byte
	// readBy is the read deadline that is set; frameBy says that it is a
	// request's, and not the idle connection's.
	readBy  time.Time
	frameBy bool

	together request // stands for a group of Produce requests in the log

	// mutedUntil is when a client over its quota is read from again, in
	// nanoseconds of the Unix time; 0 for one that never was.
	mutedUntil atomic.Int64

	ctx      context.Context // of the connection
	held     atomic.Int64    // bytes of memory that its requests have
	answered chan struct{}   // has an element when the writer has answered

	pending chan started // nil until something had to wait: most idle connections never need a writer
	open    atomic.Int64 // requests that the writer has and has not answered
	cancel  context.CancelFunc

	startWriter func()
}

type started struct {
	r   *request
	out outcome
}

// framePool keeps the buffers of requests whose handler is known not to keep
// views of them: Produce.
var framePool = sync.Pool{New: func() any { return new([]byte) }}

// maxPooledFrame is the largest frame buffer that is kept.
const maxPooledFrame = 2 << 20

// frameTime and frameRate bound how long a request may take to arrive once
// its first bytes have.
const (
	frameTime = 30 * time.Second
	frameRate = 256 << 10 // bytes per second
)

// sendBuffer is the socket's, as socket.send.buffer.bytes (100 KiB) is in
// Apache Kafka. Left to itself the system lets it grow to megabytes, whole
// fetch answers, and then wakes the consumer for every piece while the rest is
// still being put in: measured, that costs 1.5 times as much CPU time for each
// byte, and each slow reader holds that memory.
const sendBuffer = 384 << 10

// maxOut is how much the reader holds back to send it together.
const maxOut = 32 << 10

func (b *Broker) serveConn(ctx context.Context, l *listener, nc net.Conn) {
	if tc, ok := nc.(*net.TCPConn); ok {
		_ = tc.SetWriteBuffer(sendBuffer) // the system's own size works too
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := &conn{
		b: b, ln: l, nc: nc, remote: nc.RemoteAddr().String(), in: newInput(nc), dst: wire.NewWriter(nc, b.cfg.WriteTimeout),
		answered: make(chan struct{}, 1), ctx: ctx, cancel: cancel,
	}
	c.together = request{Header: wire.Header{Key: keyProduce}, conn: c}
	defer c.in.drop()
	var writer sync.WaitGroup
	c.startWriter = func() {
		c.pending = make(chan started, b.cfg.MaxInflight)
		writer.Go(func() {
			// When the writer gives up, the reader's read has to end too.
			defer nc.Close()
			c.write(ctx)
		})
	}
	if err := c.read(ctx); err != nil {
		b.closedWarning(c.remote, err)
	}
	// The peer has gone or misbehaved: what waits for it need not wait on.
	// When the broker stops, what was asked is still answered.
	if !b.isStopping() {
		cancel()
	}
	if c.pending != nil {
		close(c.pending)
	}
	writer.Wait()
}

// read returns nil when the peer closed in order or the broker stops, and
// otherwise the reason to tell.
func (c *conn) read(ctx context.Context) (err error) {
	defer func() {
		if ferr := c.flush(); ferr != nil && err == nil && ctx.Err() == nil {
			err = c.writeFault(ferr)
		}
	}()
	for {
		c.room(ctx)
		if more, err := c.await(); err != nil || !more {
			return err
		}
		if err := c.muted(ctx); err != nil {
			return c.writeFault(err)
		}
		if c.open.Load() == 0 {
			took, err := c.guarded(ctx)
			if err != nil {
				return c.writeFault(err)
			}
			if took {
				continue
			}
		}
		r, err := c.next()
		if err != nil || r == nil {
			return err
		}
		if r.Key != keyProduce {
			// It may take its time.
			if err := c.flush(); err != nil {
				r.release()
				return c.writeFault(err)
			}
		}
		out, err := c.b.run(ctx, r)
		if err == nil && out.try != nil && c.open.Load() == 0 {
			out, err = c.b.finish(ctx, r, out.try)
		}
		if err != nil {
			r.release()
			if errors.Is(err, errClose) || ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("%s version %d from client %q: %w", kmsg.NameForKey(r.Key), r.Version, r.ClientID, err)
		}
		if out.later == nil && c.open.Load() == 0 {
			// Nothing is before it: no need to wake the writer.
			err := c.answerNow(r, out)
			c.observe(r)
			r.release()
			if err != nil {
				return c.writeFault(err)
			}
			continue
		}
		if err := c.flush(); err != nil {
			out.discard()
			r.release()
			return c.writeFault(err)
		}
		r.ran = c.b.metrics.clock()
		if c.pending == nil {
			c.startWriter()
		}
		c.open.Add(1)
		select {
		case c.pending <- started{r, out}:
		case <-ctx.Done():
			out.discard()
			r.release()
			return nil
		}
	}
}

// guarded is produceTogether with a panic turned into an error, as run does.
func (c *conn) guarded(ctx context.Context) (took bool, err error) {
	defer c.b.recovered(&c.together, &err)
	return c.produceTogether(ctx)
}

// observe notes how long a request took that did not have to wait.
func (c *conn) observe(r *request) {
	s, spent := r.api.stats, c.b.metrics.clock()-r.began
	s.total.add(spent, 1)
	s.local.add(spent, 1)
}

// writeFault is the reason to tell when an answer could not be sent, nil when
// the peer has simply gone.
func (c *conn) writeFault(err error) error {
	if isReset(err) || errors.Is(err, net.ErrClosed) || errors.Is(err, errClose) {
		return nil
	}
	return fmt.Errorf("answer: %w", err)
}

// answerNow is for the reader when the writer has nothing to do.
func (c *conn) answerNow(r *request, out outcome) error {
	if out.silent {
		return nil
	}
	r.api.stats.respErrors(out.resp)
	m := out.encode(r)
	defer m.Free()
	if out.release != nil {
		defer out.release()
	}
	c.b.metrics.sent(m.Len())
	if frame, ok := m.Frame(); ok && len(c.out)+len(frame) <= maxOut {
		c.out = append(c.out, frame...)
		return nil
	}
	err := c.flush()
	if err == nil {
		err = m.WriteTo(c.dst)
	}
	return err
}

// flush sends what the reader has held back.
func (c *conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.dst.Write(c.out)
	c.out = c.out[:0]
	return err
}

// idle sets the deadline of a connection that waits for a request. It is set
// a little later than asked for, so that it need not be set for every request.
func (c *conn) idle() {
	limit := c.b.cfg.IdleTimeout
	now := time.Now()
	if !c.frameBy && c.readBy.Sub(now) >= limit {
		return
	}
	c.frameBy, c.readBy = false, now.Add(limit+limit/16)
	c.nc.SetReadDeadline(c.readBy)
}

// arriving sets the deadline of a request that has begun to arrive.
func (c *conn) arriving(size int32) {
	c.frameBy, c.readBy = true, time.Now().Add(frameTime+time.Duration(size/frameRate)*time.Second)
	c.nc.SetReadDeadline(c.readBy)
}

// await returns when the next request's prefix is buffered. It is false when
// there will be none.
func (c *conn) await() (bool, error) {
	const prefix = 4 + wire.HeaderPrefix
	for len(c.in.buffered()) < prefix {
		if err := c.flush(); err != nil {
			return false, c.writeFault(err)
		}
		c.idle()
		// Stopping sets a past deadline on every connection, after saying
		// so: this order of steps misses neither.
		if c.b.isStopping() {
			return false, nil
		}
		err := c.in.fill()
		switch {
		case err == nil:
			continue
		case errors.Is(err, os.ErrDeadlineExceeded) && !c.b.isStopping() && c.open.Load() > 0:
			c.readBy = time.Time{}
			continue // idle only because it waits for us
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed), isReset(err):
			return false, nil
		case errors.Is(err, io.EOF):
			if len(c.in.buffered()) >= 4 {
				return false, c.checkShort()
			}
			return false, nil
		}
		return false, fmt.Errorf("read request: %w", err)
	}
	return !c.b.isStopping(), nil
}

// next reads the request whose prefix is buffered. Nothing is allocated for a
// request that would be refused anyway, or on the word of its length.
func (c *conn) next() (*request, error) {
	size, err := wire.ParseSize(c.in.buffered(), c.b.cfg.MaxRequestBytes)
	if err != nil {
		return nil, err
	}
	h := wire.ParsePrefix(c.in.buffered()[4:])
	a := c.b.apis[h.Key]
	switch {
	case a == nil:
		return nil, fmt.Errorf("API key %d (%s) is not served", h.Key, kmsg.NameForKey(h.Key))
	case h.Key == keyAPIVersions && (h.Version < a.min || h.Version > a.max):
		// KIP-511: answered below with what we do speak.
	case h.Version < a.min || h.Version > a.max:
		return nil, fmt.Errorf("%s version %d is not served, versions %d to %d are", kmsg.NameForKey(h.Key), h.Version, a.min, a.max)
	}
	if h.Key != keyProduce && size > maxSmallRequest {
		if limit := requestLimit(h.Key, h.Version); size > limit {
			return nil, fmt.Errorf("%w: %s of %d bytes, allowed are %d", wire.ErrFrameSize, kmsg.NameForKey(h.Key), size, limit)
		}
	}
	r := &request{Header: h, api: a, conn: c, size: size}
	if err := c.body(r, size); err != nil {
		r.release()
		if c.b.isStopping() || errors.Is(err, errClose) {
			return nil, nil
		}
		return nil, fmt.Errorf("read %s of %d bytes: %w", kmsg.NameForKey(h.Key), size, err)
	}
	if h.Key != keyProduce {
		if err := r.reserve(decodedFactor * int(size)); err != nil {
			r.release()
			if errors.Is(err, errClose) {
				return nil, nil
			}
			return nil, fmt.Errorf("decode %s of %d bytes: %w", kmsg.NameForKey(h.Key), size, err)
		}
	}
	if h.Key == keyAPIVersions && (h.Version < a.min || h.Version > a.max) {
		// The body is of a form that we do not know; nothing in it matters.
		return r, nil
	}
	if r.Header, r.body, err = wire.ParseHeader(r.frame, h.Version >= a.flexibleFrom); err != nil {
		r.release()
	}
	return r, err
}

// body brings the frame of a request whose prefix is buffered. A Produce that
// has arrived whole is used where it lies: its handler keeps no view of it.
func (c *conn) body(r *request, size int32) error {
	whole := len(c.in.buffered()) >= 4+int(size)
	if r.Key == keyProduce {
		if whole {
			r.frame = c.in.buffered()[4 : 4+size]
			c.in.skip(4 + int(size))
			return r.reserve(int(size))
		}
		r.pooled = framePool.Get().(*[]byte)
		r.frame = *r.pooled
	}
	c.in.skip(4)
	if !whole {
		if err := c.flush(); err != nil {
			return err
		}
		c.arriving(size)
	}
	var err error
	r.frame, err = wire.ReadBody(c.in, r.frame, int(size), r.reserve)
	return err
}

// clientHost is the client's address as Java prints it, which tools expect.
func (c *conn) clientHost() string {
	host, _, err := net.SplitHostPort(c.remote)
	if err != nil {
		host = c.remote
	}
	return "/" + host
}

// checkShort explains a connection that ended inside a request's prefix.
func (c *conn) checkShort() error {
	if _, err := wire.ParseSize(c.in.buffered(), c.b.cfg.MaxRequestBytes); err != nil {
		return err
	}
	return fmt.Errorf("read request: %w", io.ErrUnexpectedEOF)
}

// decodedFactor is what a decoded request may take beside its frame, as a
// multiple of it: the worst, a Fetch of empty topics, is 12 times as large. It
// may wait behind a long poll for minutes. Produce is decoded in place.
const decodedFactor = 12

// reserve counts memory for a request against what all of them may have
// together, and waits while there is none. The count is of what arrived:
// whoever wants to use it up has to send that much.
func (r *request) reserve(n int) error {
	c, g := r.conn, r.conn.b.memory
	if !g.try(r, int64(n)) {
		// The answers that this connection holds back are waited for.
		if err := c.flush(); err != nil {
			return err
		}
		if err := g.wait(c.ctx, c.b.stopping, r, int64(n)); err != nil {
			return err
		}
		if c.frameBy { // the client was not late, we were
			c.arriving(r.size)
		}
	}
	r.reserved += int64(n)
	c.held.Add(int64(n))
	return nil
}

// release gives back what reserve counted. It is idempotent.
func (r *request) release() {
	if r.reserved == 0 {
		return
	}
	c := r.conn
	c.b.memory.give(r, r.reserved)
	c.held.Add(-r.reserved)
	r.reserved = 0
}

// room waits until the connection's own requests have memory left: a client
// that sends ahead without taking answers is not read from.
func (c *conn) room(ctx context.Context) {
	for c.held.Load() > c.b.cfg.MaxConnInflightBytes && c.open.Load() > 0 {
		select {
		case <-c.answered:
		case <-ctx.Done():
			return
		}
	}
}

// mute stops reading from a client that is over its quota. What it has been
// answered told it for how long (KIP-219).
func (c *conn) mute(d time.Duration) {
	if until := time.Now().Add(d).UnixNano(); until > c.mutedUntil.Load() {
		c.mutedUntil.Store(until)
	}
}

// muted waits while the client is not to be read from.
func (c *conn) muted(ctx context.Context) error {
	for {
		until := c.mutedUntil.Load()
		if until == 0 {
			return nil
		}
		wait := time.Until(time.Unix(0, until))
		if wait <= 0 {
			return nil
		}
		if err := c.flush(); err != nil {
			return err
		}
		select {
		case <-time.After(wait):
		case <-c.b.stopping:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// free gives a Produce frame back to its pool. No view of it may be left.
func (r *request) free() {
	if r.pooled != nil && cap(r.frame) <= maxPooledFrame {
		*r.pooled = r.frame[:0]
		framePool.Put(r.pooled)
	}
	r.pooled, r.frame, r.body = nil, nil, nil
	r.release()
}

// write answers in order until there is nothing more to answer or the peer
// takes nothing any more.
func (c *conn) write(ctx context.Context) {
	failed := false
	for s := range c.pending {
		if failed {
			s.out.discard()
			s.r.release()
			continue
		}
		if err := c.answer(ctx, s); err != nil {
			failed = true
			c.cancel()
			c.nc.Close()
			if !errors.Is(err, errClose) && ctx.Err() == nil && !isReset(err) && !errors.Is(err, net.ErrClosed) {
				c.b.closedWarning(c.remote, fmt.Errorf("answer %s: %w", kmsg.NameForKey(s.r.Key), err))
			}
		}
		s.r.release()
		c.open.Add(-1)
		select {
		case c.answered <- struct{}{}:
		default:
		}
	}
}

func (c *conn) answer(ctx context.Context, s started) (err error) {
	out, stats, turn := s.out, s.r.api.stats, c.b.metrics.clock()
	stats.local.add(s.r.ran-s.r.began, 1)
	stats.queue.add(turn-s.r.ran, 1)
	if out.later != nil {
		stats.waiting.Add(1)
		for out.later != nil && err == nil {
			out, err = c.b.finish(ctx, s.r, out.later)
		}
		stats.waiting.Add(-1)
		if err != nil {
			return err
		}
	}
	done := c.b.metrics.clock()
	stats.remote.add(done-turn, 1)
	if out.silent {
		stats.total.add(done-s.r.began, 1)
		return nil
	}
	stats.respErrors(out.resp)
	m := out.encode(s.r)
	c.b.metrics.sent(m.Len())
	err = m.WriteTo(c.dst)
	sent := c.b.metrics.clock()
	stats.send.add(sent-done, 1)
	stats.total.add(sent-s.r.began, 1)
	if out.release != nil {
		out.release()
	}
	m.Free()
	return err
}

// discard gives back what an outcome holds that will not be sent.
func (out *outcome) discard() {
	if out.release != nil {
		out.release()
	}
	if out.msg != nil {
		out.msg.Free()
	}
}
