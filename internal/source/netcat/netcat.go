// Package netcat is Flume's netcat source: it listens on a TCP port and makes
// an event of every line that a client sends.
package netcat

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/charset"
)

const notes = `- Every line is answered, in order: ` + "`OK`" + ` when all required channels took it, ` + "`FAILED: reason`" + ` when one did not; the client decides whether to send it again. A full channel is waited for as long as the channel's own keep-alive and no longer.
- Lines that arrive together are put into the channels together, up to 100 at once; Flume puts each alone. If such a batch is refused its lines are tried one by one, so a channel with room for some of them takes these. After the first line that finds a channel full, the others of that batch fail without being tried. With several channels a line that one of them took before another refused it is a duplicate when it is tried again, as in Flume.
- A line longer than ` + "`max-line-length`" + ` is answered with ` + "`FAILED`" + ` and the connection is closed, after the lines before it were handled. What follows the last line feed when a client hangs up is dropped.
- A client that does not read its answers for a minute is disconnected.
- ` + "`encoding`" + ` must be a character set in which a line feed is one byte (not UTF-16). Malformed bytes become U+FFFD.
- On a stop the lines that were read are still delivered and answered; a channel that stays full is waited for 5 s at most, and a client that does not read its answers 1 s. Flume's source has no counters, this one has.`

func init() {
	component.RegisterSource(component.Info{
		Name:    "netcat",
		Classes: []string{"org.apache.flume.source.NetcatSource"},
		Doc:     "Listens on a TCP port, makes an event of every line and answers it.",
		Notes:   notes,
	}, func() component.SourceConfig { return new(config) })
}

type config struct {
	bind    string
	port    int
	maxLine int
	ack     bool
	charset *charset.Charset
}

func (c *config) Fields() []component.Field {
	return []component.Field{
		component.String("bind", &c.bind, "").Require().
			Describe("The host name or address to listen on; 0.0.0.0 for all."),
		component.Int("port", &c.port, 0).Require().Min(0).Max(65535).
			Describe("The TCP port. 0 takes a free one and logs it."),
		component.Int("max-line-length", &c.maxLine, 512).In("characters").Min(1).
			Describe("The longest line, counted in UTF-16 units and with its line feed."),
		component.Bool("ack-every-event", &c.ack, true).
			Describe("Answer OK for every line that was accepted. FAILED is answered either way."),
		component.Value("encoding", &c.charset, "string", "utf-8", charset.Narrow).
			Describe("The character set that clients send and get answers in. Bodies are always UTF-8."),
	}
}

func (c *config) NewSource(env component.Env) (component.Source, error) {
	return &source{cfg: c, env: env, patience: stopTime}, nil
}

type source struct {
	cfg      *config
	env      component.Env
	patience time.Duration // stopTime, or less in tests

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]struct{}
	hard     context.CancelFunc // makes channels that are full be waited for no longer; nil before Run
	handlers sync.WaitGroup
}

// Retry implements component.Retrier: the client waits for an answer.
func (s *source) Retry() component.RetryPolicy { return component.RetryPolicy{Once: true} }

func (s *source) Start(ctx context.Context) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(s.cfg.bind, strconv.Itoa(s.cfg.port)))
	if err != nil {
		return fmt.Errorf("listen for lines: %w (check bind and port; another process may have the port)", err)
	}
	s.mu.Lock()
	s.listener, s.conns = l, make(map[net.Conn]struct{})
	s.mu.Unlock()
	s.env.Log.Info("listening", "address", l.Addr().String())
	return nil
}

// Stop closes the port and all connections and waits for their goroutines.
func (s *source) Stop(ctx context.Context) error {
	s.mu.Lock()
	if s.listener != nil {
		s.listener.Close()
		s.listener = nil
	}
	if s.hard != nil {
		s.hard()
	}
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { s.handlers.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for connections to end: %w", ctx.Err())
	}
}

func (s *source) Run(ctx context.Context, out component.Output) error {
	// What was read before a stop is still delivered and answered, so it does
	// not end with ctx.
	emit, hard := context.WithCancel(context.WithoutCancel(ctx))
	defer hard()
	s.mu.Lock()
	l := s.listener
	s.hard = hard
	s.mu.Unlock()
	if l == nil {
		return errors.New("accept connections: the source was not started")
	}
	// The end of ctx closes the port and wakes the readers up; what they are
	// in the middle of is answered.
	defer context.AfterFunc(ctx, func() {
		l.Close()
		time.AfterFunc(s.patience, hard)
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			_ = c.SetReadDeadline(time.Unix(0, 1)) // an error means that it is closed
			_ = c.SetWriteDeadline(time.Now().Add(lingerTime))
		}
	})()
	defer s.handlers.Wait()
	for pause := time.Duration(0); ; {
		c, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				c.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return nil // Stop
		case err != nil: // out of file descriptors, perhaps: it may pass
			pause = min(max(2*pause, 10*time.Millisecond), time.Second)
			s.env.Log.Warn("accept connection; will be tried again", "pause", pause, "err", err)
			s.env.Health(fmt.Errorf("accept connection: %w", err))
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			continue
		}
		if pause > 0 {
			pause = 0
			s.env.Health(nil)
		}
		s.mu.Lock()
		if s.listener == nil { // stopped meanwhile
			s.mu.Unlock()
			c.Close()
			return nil
		}
		s.conns[c] = struct{}{}
		if ctx.Err() != nil { // too late for the AfterFunc to see it
			_ = c.SetReadDeadline(time.Unix(0, 1))
		}
		s.mu.Unlock()
		open := s.env.Metrics.Counter("OpenConnectionCount")
		open.Add(1)
		s.handlers.Go(func() {
			defer func() {
				open.Add(-1)
				c.Close()
				s.mu.Lock()
				delete(s.conns, c)
				s.mu.Unlock()
				// One client's input must not end the process.
				if r := recover(); r != nil {
					s.env.Log.Error("a connection failed", "client", c.RemoteAddr().String(), "panic", r, "stack", string(debug.Stack()))
				}
			}()
			(&session{s: s, conn: c, out: out, stop: ctx, emitCtx: emit}).serve()
		})
	}
}
