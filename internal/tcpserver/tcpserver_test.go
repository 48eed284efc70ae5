package tcpserver

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component/componenttest"
)

// running opens a port and serves it; the function it returns stops it and
// gives what Run returned.
func running(t *testing.T, s *Server, serve func(emit context.Context, c net.Conn)) (stop func() error) {
	t.Helper()
	if err := s.Listen(t.Context(), "127.0.0.1", 0, "tests"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, serve) }()
	t.Cleanup(func() {
		cancel()
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return func() error { cancel(); return <-done }
}

func dial(t *testing.T, s *Server) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func echo(_ context.Context, c net.Conn) { _, _ = io.Copy(c, c) }

func ask(t *testing.T, c net.Conn) error {
	t.Helper()
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

func TestServe(t *testing.T) {
	env, _ := componenttest.Env(t)
	s := New(env)
	s.MaxConnections = 2
	turned := make(chan net.Addr, 1)
	s.TurnedAway = func(a net.Addr) { turned <- a }
	stop := running(t, s, echo)
	a, b := dial(t, s), dial(t, s)
	for _, c := range []net.Conn{a, b} {
		if err := ask(t, c); err != nil {
			t.Fatal(err)
		}
	}
	third := dial(t, s)
	if got := <-turned; got.String() != third.LocalAddr().String() {
		t.Errorf("%v was turned away", got)
	}
	if err := ask(t, third); err == nil {
		t.Error("a third client is served")
	}
	// A stop wakes the readers up and closes what they served.
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadAll(a); err != nil {
		t.Error(err)
	}
	if n := env.Metrics.Counter("OpenConnectionCount").Load(); n != 0 {
		t.Errorf("%d connections open", n)
	}
	if err := s.Run(context.Background(), echo); err != nil { // the port is closed
		t.Errorf("run after the stop: %v", err)
	}
}

// What was read may be handed on for as long as Patience after the stop.
func TestPatience(t *testing.T) {
	env, _ := componenttest.Env(t)
	s := New(env)
	s.Patience = 10 * time.Millisecond
	began, ended := make(chan struct{}), make(chan error, 1)
	stop := running(t, s, func(emit context.Context, c net.Conn) {
		close(began)
		<-emit.Done()
		ended <- emit.Err()
	})
	dial(t, s)
	<-began
	select {
	case <-ended:
		t.Fatal("ended before the stop")
	default:
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("no end")
	}
}

func TestPanic(t *testing.T) {
	env, _ := componenttest.Env(t)
	s := New(env)
	first := true
	running(t, s, func(emit context.Context, c net.Conn) {
		if first {
			first = false
			panic("on purpose")
		}
		echo(emit, c)
	})
	if err := ask(t, dial(t, s)); err == nil {
		t.Error("the first client is served")
	}
	if err := ask(t, dial(t, s)); err != nil {
		t.Errorf("the second client: %v", err)
	}
}

func TestNotStarted(t *testing.T) {
	env, _ := componenttest.Env(t)
	s := New(env)
	if err := s.Run(context.Background(), echo); err == nil {
		t.Error("runs without a port")
	}
	if s.Addr() != nil {
		t.Error("an address without a port")
	}
	if err := s.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}
