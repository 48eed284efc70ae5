// Package netcat is the source that takes lines over TCP and answers each.
package netcat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/charset"
)

func init() {
	component.RegisterSource(component.Info{
		Name:    "netcat",
		Classes: []string{"org.apache.flume.source.NetcatSource"},
		Doc:     "Takes lines over TCP, an event each, and answers OK to each.",
		Notes: "Lines that arrive together are put into the channel together; each gets its answer, in order. " +
			"When the channel refuses them each is answered with FAILED, and the client must send them again. " +
			"Unlike Flume's this source has counters.",
	}, func() component.SourceConfig { return new(config) })
}

type config struct {
	bind     string
	port     int
	maxLine  int
	ack      bool
	encoding *charset.Charset
}

func (c *config) Fields() []component.Field {
	return []component.Field{
		component.String("bind", &c.bind, "").Require().Describe("Address or host name to listen on; 0.0.0.0 for all."),
		component.Int("port", &c.port, 0).Require().Min(0).Max(65535).Describe("Port to listen on; 0 takes a free one and logs it."),
		component.Int("max-line-length", &c.maxLine, 512).In("chars").Min(1).
			Describe("The longest line, its line feed included. A longer one is answered with FAILED and ends the connection."),
		component.Bool("ack-every-event", &c.ack, true).Describe("Answer OK to each line that the channel took. FAILED is answered in any case."),
		component.Value("encoding", &c.encoding, "string", "utf-8", charset.Lookup).Describe("How lines are encoded. Bodies are UTF-8."),
	}
}

func (c *config) NewSource(env component.Env) (component.Source, error) {
	if c.encoding.Unit() != 1 {
		return nil, &component.KeyError{Key: "encoding", Err: fmt.Errorf("%s: characters of several bytes each are not supported", c.encoding.Name()), Hint: "use UTF-8 or a set whose line feed is one byte"}
	}
	return &source{config: *c, log: env.Log, open: env.Metrics.Counter("OpenConnectionCount")}, nil
}

type source struct {
	config
	log  *slog.Logger
	open *atomic.Int64

	mu sync.Mutex
	ln net.Listener
}

// Retry is none: the client waits for its answer.
func (s *source) Retry() component.RetryPolicy { return component.RetryPolicy{Once: true} }

func (s *source) Start(ctx context.Context) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", net.JoinHostPort(s.bind, strconv.Itoa(s.port)))
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	s.mu.Lock()
	s.ln = ln
	s.mu.Unlock()
	s.log.Info("listening", "addr", ln.Addr().String())
	return nil
}

func (s *source) Stop(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ln == nil {
		return nil
	}
	err := s.ln.Close()
	s.ln = nil
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close the listener: %w", err)
	}
	return nil
}

// addr is where the source listens.
func (s *source) addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ln.Addr()
}

// Run accepts connections until ctx ends, then waits for them: each ends the
// lines that it has read.
func (s *source) Run(ctx context.Context, out component.Output) error {
	s.mu.Lock()
	ln := s.ln
	s.mu.Unlock()
	if ln == nil {
		return errors.New("run: the source is not started")
	}
	var conns sync.WaitGroup
	defer conns.Wait()
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	pause := 5 * time.Millisecond
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("accept: %w", err)
		}
		if err != nil { // too many open files, say
			s.log.Warn("cannot accept a connection; trying again", "err", err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			pause = min(2*pause, time.Second)
			continue
		}
		pause = 5 * time.Millisecond
		conns.Go(func() {
			s.open.Add(1)
			defer s.open.Add(-1)
			c := connection{source: s, conn: conn, out: out}
			c.serve(ctx)
		})
	}
}

// connection reads lines, emits those that came together, and answers.
type connection struct {
	*source
	conn net.Conn
	out  component.Output
	text []byte // a line decoded, when it is not UTF-8
	ans  []byte
}

func (c *connection) serve(ctx context.Context) {
	defer c.conn.Close()
	defer func() {
		if r := recover(); r != nil {
			c.log.Error("a connection failed", "remote", c.conn.RemoteAddr(), "panic", r)
		}
	}()
	// The end of the agent wakes a read that waits.
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetReadDeadline(time.Now()) })
	defer stop()

	// A line of max-line-length characters always fits; a character has up to
	// four bytes.
	buf := make([]byte, max(4*c.maxLine+1, 16<<10))
	have := 0
	for {
		n, err := c.conn.Read(buf[have:])
		have += n
		used, ok := c.lines(ctx, buf[:have])
		if !ok {
			return
		}
		have = copy(buf, buf[used:have])
		switch {
		case err == nil:
		case errors.Is(err, io.EOF), ctx.Err() != nil:
			return // what has no line feed is not a line
		default:
			c.log.Debug("a connection broke", "remote", c.conn.RemoteAddr(), "err", err)
			return
		}
	}
}

// lines emits the whole lines in p and answers them. It returns how much of p
// it used, and false when the connection is to end.
func (c *connection) lines(ctx context.Context, p []byte) (used int, ok bool) {
	b := c.out.NewBatch()
	tooLong := false
	for {
		end := bytes.IndexByte(p[used:], '\n')
		if end < 0 {
			tooLong = c.tooLong(p[used:], 0)
			break
		}
		line := p[used : used+end]
		if tooLong = c.tooLong(line, 1); tooLong {
			break
		}
		used += end + 1
		if c.encoding.IsUTF8() {
			b.Append(bytes.ToValidUTF8(line, []byte("\uFFFD")))
		} else {
			// Replace never fails.
			c.text, _ = c.encoding.AppendUTF8(c.text[:0], line, charset.Replace)
			b.Append(c.text)
		}
	}
	c.ans = c.ans[:0]
	if n := b.Len(); n == 0 {
		b.Release()
	} else {
		c.emit(ctx, b, n)
	}
	if tooLong {
		c.ans = fmt.Appendf(c.ans, "FAILED: Event exceeds the maximum length (%d chars, including newline)\n", c.maxLine)
	}
	if len(c.ans) > 0 {
		// A client that reads no answers must not hold the stop up for ever.
		_ = c.conn.SetWriteDeadline(time.Now().Add(30 * time.Second))
		if _, err := c.conn.Write(c.ans); err != nil {
			c.log.Debug("cannot answer", "remote", c.conn.RemoteAddr(), "err", err)
			return used, false
		}
	}
	return used, !tooLong
}

// tooLong says whether a line, with extra more characters, is over the limit.
func (c *connection) tooLong(line []byte, extra int) bool {
	if len(line)+extra <= c.maxLine {
		return false
	}
	n := extra
	for len(line) > 0 && n <= c.maxLine {
		_, size := c.encoding.Next(line)
		line = line[size:]
		n++
	}
	return n > c.maxLine
}

func (c *connection) emit(ctx context.Context, b *event.Batch, n int) {
	err := c.out.Emit(context.WithoutCancel(ctx), b)
	if err != nil {
		c.log.Warn("lines were refused", "lines", n, "remote", c.conn.RemoteAddr(), "err", err)
		for range n {
			c.ans = fmt.Appendf(c.ans, "FAILED: %s\n", bytes.ReplaceAll([]byte(err.Error()), []byte("\n"), []byte(" ")))
		}
		return
	}
	if c.ack {
		for range n {
			c.ans = append(c.ans, "OK\n"...)
		}
	}
}
