package broker

import (
	"bufio"
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

// conn is one client connection: a reader that starts requests in order, and
// a writer that finishes and answers them in the same order. Between them are
// at most MaxInflight requests.
type conn struct {
	b      *Broker
	nc     net.Conn
	remote string
	br     *bufio.Reader

	pending chan started
	open    atomic.Int64 // requests started and not answered
	cancel  context.CancelFunc
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

func (b *Broker) serveConn(ctx context.Context, nc net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := &conn{
		b: b, nc: nc, remote: nc.RemoteAddr().String(), br: bufio.NewReaderSize(nc, 16<<10),
		pending: make(chan started, b.cfg.MaxInflight), cancel: cancel,
	}
	writerDone := make(chan struct{})
	go func() {
		defer close(writerDone)
		// When the writer gives up, the reader's read has to end too.
		defer nc.Close()
		c.write(ctx)
	}()
	if err := c.read(ctx); err != nil {
		b.closedWarning(c.remote, err)
	}
	// The peer has gone or misbehaved: what waits for it need not wait on.
	// When the broker stops, what was asked is still answered.
	if !b.isStopping() {
		cancel()
	}
	close(c.pending)
	<-writerDone
}

// read returns nil when the peer closed in order or the broker stops, and
// otherwise the reason to tell.
func (c *conn) read(ctx context.Context) error {
	for {
		r, err := c.next()
		if err != nil || r == nil {
			return err
		}
		out, err := c.b.run(ctx, r)
		if err != nil {
			r.release()
			if errors.Is(err, errClose) || ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("%s version %d from client %q: %w", kmsg.NameForKey(r.Key), r.Version, r.ClientID, err)
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

// next reads one request. Nothing is allocated for a request that would be
// refused anyway, or on the word of its length.
func (c *conn) next() (*request, error) {
	for {
		c.nc.SetReadDeadline(time.Now().Add(c.b.cfg.IdleTimeout))
		// Stopping sets a past deadline on every connection, after saying
		// so: this order of steps misses neither.
		if c.b.isStopping() {
			return nil, nil
		}
		_, err := c.br.Peek(4 + wire.HeaderPrefix)
		if err == nil {
			break
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && !c.b.isStopping() && c.open.Load() > 0:
			continue // idle only because it waits for us
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed), isReset(err):
			return nil, nil
		case errors.Is(err, io.EOF):
			if c.br.Buffered() >= 4 {
				return nil, c.checkShort()
			}
			return nil, nil
		}
		return nil, fmt.Errorf("read request: %w", err)
	}
	size, err := wire.ReadSize(c.br, c.b.cfg.MaxRequestBytes)
	if err != nil {
		return nil, err
	}
	prefix, err := c.br.Peek(wire.HeaderPrefix)
	if err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	h := wire.ParsePrefix(prefix)
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
		return nil, fmt.Errorf("%w: %s of %d bytes, allowed are %d", wire.ErrFrameSize, kmsg.NameForKey(h.Key), size, maxSmallRequest)
	}
	c.nc.SetReadDeadline(time.Now().Add(frameTime + time.Duration(size/frameRate)*time.Second))
	r := &request{Header: h, api: a, conn: c}
	if h.Key == keyProduce {
		r.pooled = framePool.Get().(*[]byte)
		r.frame = *r.pooled
	}
	if r.frame, err = wire.ReadBody(c.br, r.frame, int(size), r.reserve); err != nil {
		r.release()
		if c.b.isStopping() {
			return nil, nil
		}
		return nil, fmt.Errorf("read %s of %d bytes: %w", kmsg.NameForKey(h.Key), size, err)
	}
	if h.Key != keyProduce {
		if err := r.reserve(decodedFactor * int(size)); err != nil {
			r.release()
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

// checkShort explains a connection that ended inside a request's prefix.
func (c *conn) checkShort() error {
	if _, err := wire.ReadSize(c.br, c.b.cfg.MaxRequestBytes); err != nil {
		return err
	}
	return fmt.Errorf("read request: %w", io.ErrUnexpectedEOF)
}

// decodedFactor is what a decoded request may take beside its frame, as a
// multiple of it: the worst, a Fetch of empty topics, is 12 times as large. It
// may wait behind a long poll for minutes. Produce is decoded in place.
const decodedFactor = 12

// reserve counts memory for a request against what all of them may have
// together. The count is of what arrived: whoever wants to use it up has to
// send that much.
func (r *request) reserve(n int) error {
	r.reserved += int64(n)
	if r.conn.b.inflight.Add(int64(n)) > r.conn.b.cfg.MaxInflightBytes {
		return fmt.Errorf("requests under way use all of the %s that they may have together", sizeText(r.conn.b.cfg.MaxInflightBytes))
	}
	return nil
}

// release gives back what reserve counted. It is idempotent.
func (r *request) release() {
	r.conn.b.inflight.Add(-r.reserved)
	r.reserved = 0
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
	}
}

func (c *conn) answer(ctx context.Context, s started) (err error) {
	out := s.out
	for out.later != nil {
		if out, err = c.b.finish(ctx, s.r, out.later); err != nil {
			return err
		}
	}
	if out.silent {
		return nil
	}
	m := out.encode(s.r)
	c.b.metrics.sent(m.Len())
	err = m.WriteTo(c.nc, c.b.cfg.WriteTimeout)
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
