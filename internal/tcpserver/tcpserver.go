// Package tcpserver is the port of a source that serves TCP clients: it accepts
// them, and a stop ends them in order.
package tcpserver

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
)

// Times of a stop.
const (
	// StopTime is how long what was read before a stop waits for channels that
	// are full.
	StopTime = 5 * time.Second
	// LingerTime is how long a stop waits for a client to read or to finish
	// what it began.
	LingerTime = time.Second
)

// Server is the port of a source. Its methods are safe for concurrent use.
type Server struct {
	Env component.Env
	// Patience is StopTime, or less in tests.
	Patience time.Duration
	// MaxConnections is the most clients at a time; 0: any number. TurnedAway
	// is told of each one more.
	MaxConnections int
	TurnedAway     func(client net.Addr)

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]struct{}
	hard     context.CancelFunc // ends the wait for channels that are full; nil before Run
	handlers sync.WaitGroup
}

// New returns the port of the source whose environment is env.
func New(env component.Env) *Server { return &Server{Env: env, Patience: StopTime} }

// Listen opens the port. what is that which clients send.
func (s *Server) Listen(ctx context.Context, bind string, port int, what string) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(bind, strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("listen for %s: %w (check bind and port; another process may have the port)", what, err)
	}
	s.mu.Lock()
	s.listener, s.conns = l, make(map[net.Conn]struct{})
	s.mu.Unlock()
	s.Env.Log.Info("listening", "address", l.Addr().String())
	return nil
}

// Addr is where the port is, nil while it is closed.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// Stop closes the port and all connections and waits for their goroutines.
func (s *Server) Stop(ctx context.Context) error {
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

// Run accepts clients until ctx ends or Stop, and returns when all are served.
// serve gets each connection in a goroutine of its own; the connection is
// closed when it returns, and a panic costs that client alone. emit is the
// context for handing on what was read: it outlives ctx by Patience. When ctx
// ends, reads fail at once and writes after LingerTime: a serve that sets
// deadlines itself must look at ctx after it did.
func (s *Server) Run(ctx context.Context, serve func(emit context.Context, c net.Conn)) error {
	emit, hard := context.WithCancel(context.WithoutCancel(ctx))
	defer hard()
	s.mu.Lock()
	l := s.listener
	s.hard = hard
	s.mu.Unlock()
	if l == nil {
		return errors.New("accept connections: the source was not started")
	}
	defer context.AfterFunc(ctx, func() {
		l.Close()
		time.AfterFunc(s.Patience, hard)
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			_ = c.SetReadDeadline(time.Unix(0, 1)) // an error means that it is closed
			_ = c.SetWriteDeadline(time.Now().Add(LingerTime))
		}
	})()
	defer s.handlers.Wait()
	open := s.Env.Metrics.Counter("OpenConnectionCount")
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
			s.Env.Log.Warn("accept connection; will be tried again", "pause", pause, "err", err)
			s.Env.Health(fmt.Errorf("accept connection: %w", err))
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			continue
		}
		if pause > 0 {
			pause = 0
			s.Env.Health(nil)
		}
		if !s.admit(ctx, c) {
			c.Close()
			continue
		}
		open.Add(1)
		s.handlers.Go(func() {
			defer func() {
				// One client's input must not end the process.
				if r := recover(); r != nil {
					s.Env.Log.Error("a connection failed", "client", c.RemoteAddr().String(), "panic", r, "stack", string(debug.Stack()))
				}
				open.Add(-1)
				c.Close()
				s.mu.Lock()
				delete(s.conns, c)
				s.mu.Unlock()
			}()
			serve(emit, c)
		})
	}
}

// admit adds a connection to those that a stop ends.
func (s *Server) admit(ctx context.Context, c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.listener == nil: // stopped meanwhile
		return false
	case s.MaxConnections > 0 && len(s.conns) >= s.MaxConnections:
		s.TurnedAway(c.RemoteAddr())
		return false
	}
	s.conns[c] = struct{}{}
	if ctx.Err() != nil { // too late for the AfterFunc to see it
		_ = c.SetReadDeadline(time.Unix(0, 1))
	}
	return true
}
