package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/tcpserver"
)

// ServerConfig is what the avro and the thrift source have in common.
type ServerConfig struct {
	Bind string
	Port int
	TLS  ServerTLS

	Protocol       Protocol
	Deflate        bool
	Filter         bool
	FilterRules    []string
	Calls          int // handled at a time; 0: any number
	MaxRequest     int
	MaxConnections int
}

// Fields declares the common properties.
func (c *ServerConfig) Fields() []component.Field {
	return append([]component.Field{
		component.String("bind", &c.Bind, "").Require().
			Describe("The host name or address to listen on; 0.0.0.0 for all."),
		component.Int("port", &c.Port, 0).Require().Min(0).Max(65535).
			Describe("The TCP port. 0 takes a free one and logs it."),
		component.Int("max-request-size", &c.MaxRequest, 64<<20).In("bytes").Min(1 << 10).Max(1 << 30).
			Describe("The largest call (ours). All that are being read have together at most four times as much memory."),
		component.Int("max-connections", &c.MaxConnections, 10000).Min(1).
			Describe("The most clients at a time (ours); another one is turned away."),
	}, c.TLS.Fields()...)
}

// NewSource makes the source.
func (c *ServerConfig) NewSource(env component.Env) (*Server, error) {
	conf, err := c.TLS.Config(env)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: c, env: env, layers: layers{tls: conf, deflate: c.Deflate}, port: tcpserver.New(env),
		budget: budget{max: 4 * int64(c.MaxRequest)}, known: &knownClients{list: map[hash]bool{flumeHash(): true}},
		filter:   filter{lookup: net.DefaultResolver.LookupAddr},
		readFail: env.Metrics.Counter("EventReadFail"),
		received: env.Metrics.Counter("AppendReceivedCount"), accepted: env.Metrics.Counter("AppendAcceptedCount"),
		said: limiter{log: env.Log, most: 10, span: time.Minute}, stall: stallTime,
	}
	s.port.MaxConnections = c.MaxConnections
	s.port.TurnedAway = func(client net.Addr) {
		s.said.warn("connections", "a client was turned away: too many connections", "client", client.String(), "max_connections", c.MaxConnections)
	}
	if c.Filter {
		if len(c.FilterRules) == 0 {
			return nil, &component.KeyError{Key: "ipFilterRules", Err: errors.New("it must be set with ipFilter = true"), Hint: "for example allow:ip:127.*,deny:ip:*"}
		}
		if s.filter.rules, err = parseRules(c.FilterRules); err != nil {
			return nil, &component.KeyError{Key: "ipFilterRules", Err: err}
		}
	}
	if c.Calls > 0 {
		s.turns = make(chan struct{}, c.Calls)
	}
	return s, nil
}

// knownClients are the hashes of protocols that were looked at.
type knownClients struct {
	mu   sync.Mutex
	list map[hash]bool
}

func (k *knownClients) has(h hash) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.list[h]
}

func (k *knownClients) add(h hash) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.list) < 100 { // there are a handful; the others tell their text again
		k.list[h] = true
	}
}

// Server is a source that serves one of the protocols. It implements
// component.Source.
type Server struct {
	cfg     *ServerConfig
	env     component.Env
	layers  layers
	filter  filter
	turns   chan struct{} // nil: any number of calls at a time
	buffers buffers
	budget  budget
	known   *knownClients
	said    limiter
	stall   time.Duration // stallTime, but in tests

	readFail, received, accepted *atomic.Int64

	port *tcpserver.Server
}

// Retry implements component.Retrier: the client waits for an answer.
func (s *Server) Retry() component.RetryPolicy { return component.RetryPolicy{Once: true} }

// Start opens the port.
func (s *Server) Start(ctx context.Context) error {
	return s.port.Listen(ctx, s.cfg.Bind, s.cfg.Port, "events")
}

// Addr is where the source listens, nil before Start.
func (s *Server) Addr() net.Addr { return s.port.Addr() }

// Stop closes the port and all connections and waits for their goroutines.
func (s *Server) Stop(ctx context.Context) error { return s.port.Stop(ctx) }

// Run serves clients until ctx ends. What was read before that is still
// emitted and answered.
func (s *Server) Run(ctx context.Context, out component.Output) error {
	return s.port.Run(ctx, func(emit context.Context, c net.Conn) { s.serve(ctx, emit, c, out) })
}

// serve is one connection.
func (s *Server) serve(stop, emit context.Context, raw net.Conn, out component.Output) {
	client := raw.RemoteAddr().String()
	if s.filter.rules != nil && !s.filter.allows(stop, raw.RemoteAddr()) {
		s.said.info("filter "+host(client), "a client was turned away by ipFilterRules", "client", client)
		return
	}
	c := session{s: s, stop: stop, emit: emit, raw: raw, out: out, events: newEvents(), meter: meter{budget: &s.budget}}
	c.peek.watch(raw)
	c.reader = reader{buffers: &s.buffers, deadline: c.extend}
	c.frame = frame{pool: out.Pool(), meter: &c.meter, max: s.cfg.MaxRequest}
	switch s.cfg.Protocol {
	case Avro:
		c.codec = &avroServer{known: s.known}
	default:
		c.codec = &thriftServer{compact: s.cfg.Protocol == ThriftCompact}
	}
	defer c.end()
	first := &firstBytes{Conn: raw}
	err := c.open(first)
	for err == nil {
		err = c.call()
	}
	c.tell(client, first.b[:first.n], err)
}

// firstBytes remembers how a connection began.
type firstBytes struct {
	net.Conn
	b [8]byte
	n int
}

func (f *firstBytes) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	if f.n < len(f.b) {
		f.n += copy(f.b[f.n:], p[:n])
	}
	return n, err
}

// codec is the server's side of a protocol on one connection.
type codec interface {
	// read collects a call in f.
	read(r *reader, f *frame) error
	// decode adds the events of the call p to ev. Without emit there are none
	// and the call is answered at once.
	decode(p []byte, ev *events) (single, emit bool, err error)
	// answer appends the answer to the call, reject that to one which decode
	// refused.
	answer(dst []byte, failed bool) []byte
	reject(dst []byte, err error) []byte
}

// session is one connection of a server.
type session struct {
	s      *Server
	stop   context.Context // ends when the source is to stop
	emit   context.Context // ends when nothing may be waited for any more
	raw    net.Conn
	conn   net.Conn // with its layers
	out    component.Output
	codec  codec
	peek   peeker
	reader reader
	frame  frame
	meter  meter
	events *events
	timed  bool // a read deadline is set
	reply  []byte
	called bool // a call was understood
}

// extend gives the peer time for the next bytes of a call.
func (c *session) extend() {
	d := c.s.stall
	if c.stop.Err() != nil {
		d = tcpserver.LingerTime
	}
	c.timed = true
	_ = c.raw.SetReadDeadline(time.Now().Add(d)) // an error shows at the read
}

var errStopping = errors.New("the source stops")

// idle takes the deadline away.
func (c *session) idle() error {
	if c.timed {
		c.timed = false
		_ = c.raw.SetReadDeadline(time.Time{})
	}
	if c.stop.Err() != nil { // after the line above, so that no stop is missed
		return errStopping
	}
	return nil
}

// open builds the layers.
func (c *session) open(raw net.Conn) error {
	c.extend()
	ctx, cancel := context.WithTimeout(c.stop, c.s.stall)
	defer cancel()
	conn, err := c.s.layers.server(ctx, raw)
	if err != nil {
		return err
	}
	c.conn, c.reader.conn = conn, conn
	return c.idle()
}

func (c *session) end() {
	c.frame.drop()
	c.meter.clear()
	c.reader.pending = nil
	c.reader.release()
}

// call reads a call, emits its events and answers.
func (c *session) call() error {
	if err := c.reader.wait(); err != nil {
		return &betweenCalls{err}
	}
	if err := c.codec.read(&c.reader, &c.frame); err != nil {
		return err
	}
	c.reader.release()
	blk := c.frame.done()
	defer c.meter.clear()
	b := c.out.NewBatch()
	b.Attach(blk)
	p := blk.Bytes()
	blk.Release() // b holds it
	c.events.begin(b, &c.meter)
	single, emit, err := c.codec.decode(p, c.events)
	c.events.end()
	c.reply = c.reply[:0]
	if err != nil {
		b.Release()
		c.s.readFail.Add(1)
		if werr := c.write(c.codec.reject(c.reply, err)); werr != nil {
			return werr
		}
		return &badCall{err}
	}
	c.called = true
	// A client that has given the call up has sent its events again, to somebody
	// else perhaps: this process hung, and finds an old call.
	if _, reset := c.peek.ended(); reset {
		b.Release()
		return fmt.Errorf("the client does not wait for its answer any more: %w", syscall.ECONNRESET)
	}
	failed := false
	if emit {
		failed = c.put(b, single) != nil
	} else {
		b.Release()
	}
	if err := c.write(c.codec.answer(c.reply, failed)); err != nil {
		return err
	}
	return c.idle()
}

// betweenCalls is an error that cut nothing off.
type betweenCalls struct{ err error }

func (b *betweenCalls) Error() string { return b.err.Error() }
func (b *betweenCalls) Unwrap() error { return b.err }

// badCall is a call that was answered with an error; the connection ends, as
// what follows cannot be trusted.
type badCall struct{ err error }

func (b *badCall) Error() string { return b.err.Error() }
func (b *badCall) Unwrap() error { return b.err }

// put hands the events on.
func (c *session) put(b *event.Batch, single bool) error {
	if c.s.turns != nil {
		select {
		case c.s.turns <- struct{}{}:
			defer func() { <-c.s.turns }()
		case <-c.emit.Done():
			b.Release()
			return c.emit.Err()
		}
	}
	if single {
		c.s.received.Add(1)
	}
	n := b.Len()
	if err := c.out.Emit(c.emit, b); err != nil {
		client := c.raw.RemoteAddr().String()
		c.s.said.warn("refused "+host(client), "events were refused and the client was told FAILED; it will send them again", "client", client, "events", n, "err", err)
		return err
	}
	if single {
		c.s.accepted.Add(1)
	}
	return nil
}

func (c *session) write(p []byte) error {
	d := c.s.stall
	if c.stop.Err() != nil {
		d = tcpserver.LingerTime
	}
	_ = c.raw.SetWriteDeadline(time.Now().Add(d)) // an error shows at the write
	if _, err := c.conn.Write(p); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	if c.reply = p[:0]; cap(p) > 4<<10 {
		c.reply = nil
	}
	return nil
}

// tell logs why a connection ended, unless its client just left.
func (c *session) tell(client string, first []byte, err error) {
	var wrong *wrongPeer
	var bad *badCall
	var between *betweenCalls
	switch {
	case errors.Is(err, errStopping), c.stop.Err() != nil, errors.Is(err, net.ErrClosed):
		return
	case errors.Is(err, errBudget):
		c.s.said.warn("budget", "a client was disconnected: "+errBudget.Error()+"; it will send its events again. Lower the batch size of the clients, or raise max-request-size", "client", client)
		return
	case errors.As(err, &bad), errors.As(err, &wrong):
	case c.conn == nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)):
		c.s.said.warn("handshake "+host(client), "a client was disconnected: it did not finish the TLS handshake", "client", client, "after", c.s.stall)
		return
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.s.said.warn("stall "+host(client), "a client was disconnected: it stopped in the middle of a call", "client", client, "after", c.s.stall)
		return
	case (c.called || len(first) == 0) && (errors.Is(err, io.EOF) || isReset(err)),
		// Who is killed ends neither the TLS nor the zlib stream.
		c.called && errors.As(err, &between) && errors.Is(err, io.ErrUnexpectedEOF):
		c.s.env.Log.Debug("a client left", "client", client)
		return
	case c.called && errors.Is(err, io.ErrUnexpectedEOF):
		c.s.readFail.Add(1)
		c.s.said.warn("cut "+host(client), "a client broke off in the middle of a call; it will send its events again", "client", client)
		return
	}
	if !errors.As(err, &bad) {
		c.s.readFail.Add(1)
	}
	args := []any{"client", client, "err", err}
	hint := ""
	if !c.called {
		hint = c.s.hint(first, err)
	}
	if hint != "" {
		args = append(args, "hint", hint)
	}
	c.s.said.warn(host(client)+" "+cause(err)+hint, "a client was disconnected: its bytes are no call", args...)
}

// host is the client's address without its port, which changes with every try.
func host(client string) string {
	h, _, err := net.SplitHostPort(client)
	if err != nil {
		return client
	}
	return h
}

// cause is err's text without the ports that the network's errors name.
func cause(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err.Error()
	}
	return err.Error()
}

// hint says what to look at when a client's first bytes are wrong.
func (s *Server) hint(first []byte, err error) string {
	var tlsErr tls.RecordHeaderError
	switch what := looksLike(first); {
	case what == "TLS" && s.layers.tls == nil:
		return "it speaks TLS: set ssl = true here, or false there"
	case what == "TLS":
		return "the TLS handshake failed: compare protocols and cipher suites, and what each side trusts"
	case what == "deflate" && !s.layers.deflate:
		return "it compresses: set compression-type = deflate here, or none there"
	case what == "HTTP":
		return "it speaks HTTP"
	case strings.HasPrefix(what, "Thrift"), what == "Avro" && s.cfg.Protocol != Avro:
		return "it speaks " + what
	case s.layers.deflate && s.layers.tls == nil && what != "deflate":
		return "it does not compress: set compression-type = none here, or deflate there"
	case s.layers.tls != nil && (errors.As(err, &tlsErr) || what == "" || what == "Avro"):
		return "it does not speak TLS: set ssl = false here, or true there"
	}
	return ""
}

// limiter logs the same of one client once in a span of time, and at most so many
// lines: clients try again, and may be many.
type limiter struct {
	log  *slog.Logger
	most int
	span time.Duration

	mu    sync.Mutex
	began time.Time
	told  map[string]bool // in this span
	left  int             // lines that were left out since the last one
}

func (l *limiter) info(key, msg string, args ...any) { l.say(slog.LevelInfo, key, msg, args) }
func (l *limiter) warn(key, msg string, args ...any) { l.say(slog.LevelWarn, key, msg, args) }

// say logs a line unless one with its key was logged in this span.
func (l *limiter) say(level slog.Level, key, msg string, args []any) {
	l.mu.Lock()
	now := time.Now()
	if now.Sub(l.began) >= l.span {
		l.began, l.told = now, make(map[string]bool)
	}
	over := l.told[key] || len(l.told) >= l.most
	left := l.left
	if over {
		l.left++
	} else {
		l.told[key], l.left = true, 0
	}
	l.mu.Unlock()
	if over {
		return
	}
	if left > 0 {
		args = append(args, "lines_left_out_before", left)
	}
	l.log.Log(context.Background(), level, msg, args...)
}
