package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-data/sluice/event"
)

// Client sends events to one of its hosts. It is safe for concurrent use.
type Client interface {
	// AppendBatch delivers evs, batch-size at a time. An error means that
	// some of them may not have arrived. The events are not kept.
	AppendBatch(ctx context.Context, evs []event.Event) error
	// Append delivers one event by the call for single ones.
	Append(ctx context.Context, e event.Event) error
	// Close ends the connections. The client must not be used after that.
	Close()
}

// clientCodec is the client's side of a protocol on one connection.
type clientCodec interface {
	// request appends a call.
	request(dst []byte, evs []event.Event, single bool) []byte
	// response reads its answer, into buf where that is large enough.
	response(r *reader, buf []byte) (status int64, _ []byte, err error)
}

// settings are those of a client's connections.
type settings struct {
	protocol       Protocol
	layers         layers
	batchSize      int
	connectTimeout time.Duration
	requestTimeout time.Duration
	maxAge         time.Duration // of a connection; 0: any
	connections    int           // to one host, at a time

	created, closed, failed *atomic.Int64
}

// conn is one connection.
type conn struct {
	set    *settings
	addr   string
	raw    net.Conn
	conn   net.Conn
	first  *firstBytes
	peek   peeker
	reader reader
	codec  clientCodec
	since  time.Time
	out    []byte
	in     []byte
	spoilt bool // its deadline may change at any time: not to be used again
}

// dialError is a connection that could not be made: nothing was sent.
type dialError struct{ err error }

func (d *dialError) Error() string { return d.err.Error() }
func (d *dialError) Unwrap() error { return d.err }

func (set *settings) dial(ctx context.Context, addr string, b *buffers) (*conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, &dialError{fmt.Errorf("connect to %s: %w", addr, err)}
	}
	dctx, cancel := context.WithTimeout(ctx, set.connectTimeout)
	defer cancel()
	var d net.Dialer
	raw, err := d.DialContext(dctx, "tcp", addr)
	if err != nil {
		return nil, &dialError{fmt.Errorf("connect to %s: %w (is the source there running? check host name and port)", addr, err)}
	}
	first := &firstBytes{Conn: raw}
	c := &conn{set: set, addr: addr, raw: raw, first: first, since: time.Now()}
	c.peek.watch(raw)
	if c.conn, err = set.layers.client(dctx, first, host); err != nil {
		raw.Close()
		return nil, &dialError{c.explain(err)}
	}
	c.reader = reader{conn: c.conn, buffers: b}
	switch set.protocol {
	case Avro:
		c.codec = newAvroClient()
	default:
		c.codec = &thriftClient{compact: set.protocol == ThriftCompact}
	}
	return c, nil
}

// maxKept is what a connection keeps of the memory that a huge batch needed.
const maxKept = 4 << 20

// append makes one call and waits for its answer.
func (c *conn) append(ctx context.Context, evs []event.Event, single bool) error {
	if err := c.raw.SetDeadline(time.Now().Add(c.set.requestTimeout)); err != nil {
		return c.explain(err)
	}
	done := context.AfterFunc(ctx, func() { _ = c.raw.SetDeadline(time.Unix(0, 1)) })
	status, err := c.call(evs, single)
	if errors.Is(err, errAgain) {
		status, err = c.call(evs, single)
	}
	if c.spoilt = !done(); err != nil {
		c.abort()
	}
	if cap(c.out) > maxKept {
		c.out = nil
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("send events to %s: %w", c.addr, ctx.Err())
	case err != nil:
		return c.explain(err)
	case status != statusOK:
		return fmt.Errorf("%s refused the events (%s): its channel is full or fails; look at its log", c.addr, statusName(c.set.protocol, status))
	}
	return nil
}

func (c *conn) call(evs []event.Event, single bool) (status int64, err error) {
	c.out = c.codec.request(c.out[:0], evs, single)
	if _, err := c.conn.Write(c.out); err != nil {
		return 0, err
	}
	status, c.in, err = c.codec.response(&c.reader, c.in)
	c.reader.release()
	return status, err
}

// explain says what happened to a call and what to look at.
func (c *conn) explain(err error) error {
	hint := c.hint()
	var wrong *wrongPeer
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		if hint == "" {
			hint = "it hangs, or the network does: look at it, or raise request-timeout"
		}
		return fmt.Errorf("%s did not answer in time (connect-timeout %v, request-timeout %v; %s): %w", c.addr, c.set.connectTimeout, c.set.requestTimeout, hint, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), isReset(err):
		if hint == "" {
			hint = "it was stopped, or does not understand us: protocol, compression-type, ssl and ipFilterRules must fit; look at its log"
			if n := len(c.out); n > 16<<20 {
				hint = fmt.Sprintf("the call had %d bytes, perhaps too many for it: lower batch-size", n)
			}
		}
		return fmt.Errorf("%s closed the connection (%s): %w", c.addr, hint, err)
	case errors.As(err, &wrong) || hint != "":
		if hint == "" {
			hint = "is it a source of this protocol?"
		}
		return fmt.Errorf("%s does not answer as expected (%s): %w", c.addr, hint, err)
	}
	return fmt.Errorf("send events to %s: %w", c.addr, err)
}

// hint says what the peer's first bytes are when they cannot be an answer.
func (c *conn) hint() string {
	l := &c.set.layers
	switch what := looksLike(c.first.b[:c.first.n]); {
	case what == "TLS" && l.tls == nil:
		return "it speaks TLS: set ssl = true"
	case what == "deflate" && !l.deflate:
		return "it compresses: set compression-type = deflate"
	case what == "HTTP", strings.HasPrefix(what, "Thrift") && c.set.protocol == Avro, what == "Avro" && c.set.protocol != Avro:
		return "it speaks " + what
	case c.first.n > 0 && l.tls != nil && !l.deflate && what != "TLS":
		return "it does not speak TLS: set ssl = false"
	case c.first.n > 0 && l.deflate && l.tls == nil && what != "deflate":
		return "it does not compress: set compression-type = none"
	}
	return ""
}

func (c *conn) close() {
	c.reader.pending = nil
	c.reader.release()
	c.raw.Close() // without TLS's goodbye, which may block
}

// abort has the operating system throw away what it has not sent yet of a call
// that failed. It would arrive when a peer that hangs, or the network, is back,
// long after the events were sent to somebody else.
func (c *conn) abort() {
	if tcp, ok := c.raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // an error means that it is closed
	}
}

// stale says that a connection that nobody used for a while is of no use: it
// is too old, or the peer has closed it, as one does that is started again. A
// call on that would fail without need.
func (c *conn) stale() bool {
	_ = c.raw.SetReadDeadline(time.Time{}) // that of the last call is over, and would keep the look from being taken
	ended, _ := c.peek.ended()
	return ended || c.set.maxAge > 0 && time.Since(c.since) >= c.set.maxAge
}

// endpoint is one host and the connections to it.
type endpoint struct {
	set     *settings
	name    string // host:port
	buffers buffers
	turns   chan struct{} // holds one for each call

	mu     sync.Mutex
	free   []*conn
	closed bool
}

func newEndpoint(set *settings, addr string) *endpoint {
	return &endpoint{set: set, name: addr, turns: make(chan struct{}, set.connections)}
}

var errClosed = errors.New("the client is closed")

// get returns a connection that is free, or a new one.
func (e *endpoint) get(ctx context.Context) (*conn, error) {
	for {
		c, err := e.idle()
		if err != nil {
			return nil, err
		}
		if c == nil {
			break
		}
		if !c.stale() {
			return c, nil
		}
		e.drop(c)
	}
	c, err := e.set.dial(ctx, e.name, &e.buffers)
	if err != nil {
		e.set.failed.Add(1)
		return nil, err
	}
	e.set.created.Add(1)
	return c, nil
}

// idle is a connection that is free, nil if there is none.
func (e *endpoint) idle() (*conn, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errClosed
	}
	n := len(e.free)
	if n == 0 {
		return nil, nil
	}
	c := e.free[n-1]
	e.free = e.free[:n-1]
	return c, nil
}

func (e *endpoint) drop(c *conn) {
	c.close()
	e.set.closed.Add(1)
}

// send delivers evs in calls of batch-size events.
func (e *endpoint) send(ctx context.Context, evs []event.Event, single bool) error {
	select {
	case e.turns <- struct{}{}:
		defer func() { <-e.turns }()
	case <-ctx.Done():
		return ctx.Err()
	}
	c, err := e.get(ctx)
	if err != nil {
		return err
	}
	for len(evs) > 0 {
		if c.spoilt { // ctx ended as the last answer came
			e.drop(c)
			return ctx.Err()
		}
		n := min(len(evs), e.set.batchSize)
		if err := c.append(ctx, evs[:n], single); err != nil {
			e.drop(c) // what it would answer next is not known, and another one may sit behind the address
			return err
		}
		evs = evs[n:]
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || c.spoilt {
		e.drop(c)
		return nil
	}
	e.free = append(e.free, c)
	return nil
}

func (e *endpoint) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	for _, c := range e.free {
		e.drop(c)
	}
	e.free = nil
}

// The three clients.

func (e *endpoint) AppendBatch(ctx context.Context, evs []event.Event) error {
	return e.send(ctx, evs, false)
}

func (e *endpoint) Append(ctx context.Context, ev event.Event) error {
	return e.send(ctx, []event.Event{ev}, true)
}

func (e *endpoint) Close() { e.close() }

// failover stays with a host until it fails.
type failover struct {
	hosts    []*endpoint
	attempts int

	mu sync.Mutex
	at int
}

func (f *failover) current() (int, *endpoint) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at, f.hosts[f.at]
}

// next leaves the host at index at, unless another call has done so.
func (f *failover) next(at int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at == at {
		f.at = (f.at + 1) % len(f.hosts)
	}
}

// each calls send for one host after the other until one takes the events.
// Hosts that cannot be reached do not count as attempts.
func (f *failover) each(send func(*endpoint) error) error {
	var last error
	for range max(f.attempts, 1) {
		reached := false
		for range f.hosts {
			at, host := f.current()
			err := send(host)
			if err == nil || errors.Is(err, errClosed) || errors.Is(err, context.Canceled) {
				return err
			}
			last = err
			f.next(at)
			var unreachable *dialError
			if !errors.As(err, &unreachable) {
				reached = true
				break
			}
		}
		if !reached {
			break
		}
	}
	return fmt.Errorf("none of %d hosts took the events; the last: %w", len(f.hosts), last)
}

func (f *failover) AppendBatch(ctx context.Context, evs []event.Event) error {
	return f.each(func(e *endpoint) error { return e.AppendBatch(ctx, evs) })
}

func (f *failover) Append(ctx context.Context, ev event.Event) error {
	return f.each(func(e *endpoint) error { return e.Append(ctx, ev) })
}

func (f *failover) Close() { closeAll(f.hosts) }

func closeAll(hosts []*endpoint) {
	for _, h := range hosts {
		h.close()
	}
}

// balancer takes turns.
type balancer struct {
	hosts []*endpoint
	order *order
}

func (b *balancer) each(send func(*endpoint) error) error {
	turn := b.order.next(time.Now())
	if len(turn) == 0 {
		return fmt.Errorf("all %d hosts failed a short time ago and are left alone for now (backoff)", len(b.hosts))
	}
	var last error
	for _, i := range turn {
		err := send(b.hosts[i])
		if err == nil || errors.Is(err, errClosed) || errors.Is(err, context.Canceled) {
			return err
		}
		last = err
		b.order.failed(i, time.Now())
	}
	return fmt.Errorf("none of %d hosts took the events; the last: %w", len(turn), last)
}

func (b *balancer) AppendBatch(ctx context.Context, evs []event.Event) error {
	return b.each(func(e *endpoint) error { return e.AppendBatch(ctx, evs) })
}

func (b *balancer) Append(ctx context.Context, ev event.Event) error {
	return b.each(func(e *endpoint) error { return e.Append(ctx, ev) })
}

func (b *balancer) Close() { closeAll(b.hosts) }
