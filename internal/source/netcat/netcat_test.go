package netcat

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
)

func start(t testing.TB, out component.Output, props ...string) (*source, *componenttest.Running) {
	t.Helper()
	env, _ := componenttest.Env(t)
	src := componenttest.Source(t, env, "netcat", append([]string{"bind=127.0.0.1", "port=0"}, props...)...).(*source)
	return src, componenttest.Run(t, src, out)
}

func dial(t testing.TB, s *source) net.Conn {
	t.Helper()
	addr := s.port.Addr().String()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// talk sends the text, ends the sending side and returns all answers.
func talk(t testing.TB, s *source, text string) string {
	t.Helper()
	c := dial(t, s)
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	p, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(p)
}

const tooLong = "FAILED: Event exceeds the maximum length (10 chars, including newline)\n"

func TestLines(t *testing.T) {
	for _, tt := range []struct {
		name   string
		props  []string
		in     string
		bodies []string
		answer string
	}{
		{"one", nil, "hello\n", []string{"hello"}, "OK\n"},
		{"several", nil, "a\nb\nc\n", []string{"a", "b", "c"}, "OK\nOK\nOK\n"},
		{"carriage return stays", nil, "hello\r\n", []string{"hello\r"}, "OK\n"},
		{"empty line", nil, "\n\n", []string{"", ""}, "OK\nOK\n"},
		{"unterminated", nil, "a\nb", []string{"a"}, "OK\n"},
		{"no acks", []string{"ack-every-event=false"}, "a\nb\n", []string{"a", "b"}, ""},
		{"just fits", []string{"max-line-length=10"}, "123456789\n", []string{"123456789"}, "OK\n"},
		{"too long", []string{"max-line-length=10"}, "a\n1234567890\nb\n", []string{"a"}, "OK\n" + tooLong},
		{"too long without end", []string{"max-line-length=10"}, "a\n" + strings.Repeat("x", 100_000), []string{"a"}, "OK\n" + tooLong},
		{"too long without acks", []string{"max-line-length=10", "ack-every-event=false"}, "a\n1234567890\n", []string{"a"}, tooLong},
		{"characters", []string{"max-line-length=10"}, "한글한글한글한글한\n😀😀😀😀a\n", []string{"한글한글한글한글한", "😀😀😀😀a"}, "OK\nOK\n"},
		{"too many characters", []string{"max-line-length=10"}, "😀😀😀😀😀\n", []string{}, tooLong},
		{"malformed", nil, "a\xffb\n", []string{"a�b"}, "OK\n"},
		{"encoding", []string{"encoding=EUC-KR"}, "\xc7\xd1\xb1\xdb\n", []string{"한글"}, "OK\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := componenttest.NewOutput()
			s, r := start(t, out, tt.props...)
			if got := talk(t, s, tt.in); got != tt.answer {
				t.Errorf("answers %q, want %q", got, tt.answer)
			}
			if got := out.Bodies(); !reflect.DeepEqual(got, tt.bodies) {
				t.Errorf("events %q, want %q", got, tt.bodies)
			}
			r.Stop()
			if n := out.Pool().Outstanding(); n != 0 {
				t.Errorf("%d blocks leaked", n)
			}
		})
	}
}

// Lines in many pieces, and more of them than a block or a batch holds.
func TestPieces(t *testing.T) {
	out := componenttest.NewOutput()
	s, _ := start(t, out, "max-line-length=5000")
	var text strings.Builder
	var want []string
	for i := range 3000 {
		want = append(want, fmt.Sprint(i, strings.Repeat("x", i%3000)))
		text.WriteString(want[i] + "\n")
	}
	c := dial(t, s)
	go func() {
		for p := text.String(); len(p) > 0; {
			n := min(len(p), 1+len(p)%7001)
			if _, err := io.WriteString(c, p[:n]); err != nil {
				return
			}
			p = p[n:]
		}
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	p, err := io.ReadAll(c)
	if err != nil || string(p) != strings.Repeat("OK\n", len(want)) {
		t.Errorf("%d bytes of answers, %v", len(p), err)
	}
	if got := out.Bodies(); !reflect.DeepEqual(got, want) {
		t.Errorf("%d events", len(got))
	}
	for _, b := range out.Batches() {
		if len(b) > maxBatch {
			t.Fatalf("a batch of %d", len(b))
		}
	}
}

// A client that waits for each answer gets it.
func TestDialogue(t *testing.T) {
	out := componenttest.NewOutput()
	s, _ := start(t, out)
	c := dial(t, s)
	r := bufio.NewReader(c)
	for i := range 100 {
		if _, err := fmt.Fprintf(c, "line %d\n", i); err != nil {
			t.Fatal(err)
		}
		if a, err := r.ReadString('\n'); a != "OK\n" || err != nil {
			t.Fatalf("%q, %v", a, err)
		}
	}
	if n := len(out.Events()); n != 100 {
		t.Errorf("%d events", n)
	}
}

func TestRefusals(t *testing.T) {
	full := fmt.Errorf("channel c1: %w", component.ErrFull)
	fullText := "FAILED: channel c1: " + component.ErrFull.Error() + "\n"
	for _, tt := range []struct {
		name   string
		in     string
		fail   func(emit int, b *event.Batch) error
		bodies []string
		answer string
	}{
		{"one line", "a\n", func(int, *event.Batch) error { return errors.New("no\r\nroom") }, []string{}, "FAILED: no  room\n"},
		{"room for two", "a\nb\nc\nd\n", func(emit int, b *event.Batch) error {
			if b.Len() > 1 || emit > 2 {
				return full
			}
			return nil
		}, []string{"a", "b"}, "OK\nOK\n" + fullText + fullText},
		{"one bad line", "a\nb\nc\n", func(_ int, b *event.Batch) error {
			for i := range b.Events() {
				if string(b.Events()[i].Body) == "b" {
					return errors.New("interceptor i1: b")
				}
			}
			return nil
		}, []string{"a", "c"}, "OK\nFAILED: interceptor i1: b\nOK\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := componenttest.NewOutput()
			out.FailWith(tt.fail)
			s, _ := start(t, out)
			if got := talk(t, s, tt.in); got != tt.answer {
				t.Errorf("answers %q, want %q", got, tt.answer)
			}
			if got := out.Bodies(); !reflect.DeepEqual(got, tt.bodies) {
				t.Errorf("events %q, want %q", got, tt.bodies)
			}
		})
	}
}

func TestManyClients(t *testing.T) {
	out := componenttest.NewOutput()
	s, r := start(t, out)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			c := dial(t, s)
			defer c.Close()
			rd := bufio.NewReader(c)
			for j := range 20 {
				if _, err := fmt.Fprintf(c, "%d %d\n", i, j); err != nil {
					t.Error(err)
					return
				}
				if a, err := rd.ReadString('\n'); a != "OK\n" || err != nil {
					t.Errorf("%q, %v", a, err)
					return
				}
			}
		})
	}
	wg.Wait()
	r.Stop()
	next := map[string]int{}
	for _, b := range out.Bodies() {
		var i, j int
		if _, err := fmt.Sscan(b, &i, &j); err != nil {
			t.Fatal(err)
		}
		if j != next[fmt.Sprint(i)] {
			t.Fatalf("client %d: line %d out of order", i, j)
		}
		next[fmt.Sprint(i)]++
	}
	if len(out.Events()) != 1000 {
		t.Errorf("%d events", len(out.Events()))
	}
	if n := s.env.Metrics.Counter("OpenConnectionCount").Load(); n != 0 {
		t.Errorf("%d connections open", n)
	}
}

// The stop answers what is under way, closes idle connections and the port.
func TestStop(t *testing.T) {
	out := componenttest.NewOutput()
	s, r := start(t, out)
	idle := dial(t, s)
	busy := dial(t, s)
	if _, err := io.WriteString(idle, "hello\n"); err != nil {
		t.Fatal(err)
	}
	out.Wait(t, 1)
	out.Pause()
	if _, err := io.WriteString(busy, "a\n"); err != nil {
		t.Fatal(err)
	}
	out.WaitFor(t, "a line under way", func() bool { return out.Emits() == 2 })
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		r.Stop()
	}()
	// The idle connection ends while the other one is still waited for.
	if p, err := io.ReadAll(idle); err != nil || string(p) != "OK\n" {
		t.Errorf("answer %q, %v", p, err)
	}
	out.Resume()
	<-stopped
	if p, err := io.ReadAll(busy); err != nil || string(p) != "OK\n" {
		t.Errorf("answer %q, %v", p, err)
	}
	if err := s.Stop(context.Background()); err != nil {
		t.Errorf("stop again: %v", err)
	}
}

// A stop is not held up by a client that does not read its answers.
func TestStopWithoutAReader(t *testing.T) {
	out := componenttest.NewOutput()
	s, r := start(t, out)
	c := dial(t, s)
	sent := make(chan struct{})
	go func() { // until the answers that nobody reads stop the source
		defer close(sent)
		p := bytes.Repeat([]byte("x\n"), 1<<14)
		for {
			if _, err := c.Write(p); err != nil {
				return
			}
		}
	}()
	last := -1
	out.WaitFor(t, "the source to be blocked", func() bool {
		n := out.Emits()
		time.Sleep(50 * time.Millisecond)
		blocked := n > 0 && n == last
		last = n
		return blocked
	})
	began := time.Now()
	r.Stop()
	if d := time.Since(began); d > writeTime/2 {
		t.Errorf("the stop took %v", d)
	}
	<-sent
}

// Lines that were read are tried on a stop, but not for ever, each for as long
// as the channel waits.
func TestStopWhenTheChannelIsFull(t *testing.T) {
	out := &fullOutput{pool: event.NewPool()}
	s, r := start(t, out)
	c := dial(t, s)
	if _, err := io.WriteString(c, strings.Repeat("a\n", 200)); err != nil {
		t.Fatal(err)
	}
	for out.emits.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	s.port.Patience = time.Millisecond
	r.Stop()
	if n := out.pool.Outstanding(); n != 0 {
		t.Errorf("%d blocks leaked", n)
	}
}

// fullOutput waits as a channel with a long keep-alive does that stays full.
type fullOutput struct {
	pool  *event.Pool
	emits atomic.Int64
}

func (o *fullOutput) Pool() *event.Pool      { return o.pool }
func (o *fullOutput) NewBatch() *event.Batch { return o.pool.NewBatch() }
func (o *fullOutput) Emit(ctx context.Context, b *event.Batch) error {
	defer b.Release()
	o.emits.Add(1)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Hour):
		return component.ErrFull
	}
}

// A panic below a connection ends that connection and nothing else.
func TestPanic(t *testing.T) {
	out := componenttest.NewOutput()
	out.FailWith(func(emit int, _ *event.Batch) error {
		if emit == 0 {
			panic("an interceptor's bug")
		}
		return nil
	})
	s, r := start(t, out)
	if got := talk(t, s, "a\n"); got != "" {
		t.Errorf("answer %q", got)
	}
	if got := talk(t, s, "b\n"); got != "OK\n" {
		t.Errorf("answer %q", got)
	}
	r.Stop()
	if n := out.Pool().Outstanding(); n != 0 {
		t.Errorf("%d blocks leaked", n)
	}
}

func TestStartErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	env, _ := componenttest.Env(t)
	src := componenttest.Source(t, env, "org.apache.flume.source.NetcatSource", "bind=127.0.0.1", fmt.Sprint("port=", l.Addr().(*net.TCPAddr).Port))
	if err := src.Start(context.Background()); err == nil || !strings.Contains(err.Error(), "listen for lines") {
		t.Errorf("%v", err)
	}
	if err := src.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	if !src.(component.Retrier).Retry().Once {
		t.Error("a client would wait for ever")
	}
	_, fs := componenttest.Decode(t, component.KindSource, "netcat", "bind=x", "port=70000", "encoding=UTF-16")
	if len(fs) != 2 || !fs[0].Error || !fs[1].Error {
		t.Errorf("%+v", fs)
	}
}

// FuzzSession feeds a connection byte by byte or at once.
func FuzzSession(f *testing.F) {
	f.Add([]byte("a\nbb\n\xff\nccc"), uint8(4), uint8(2))
	f.Add([]byte("한글\n😀\n"), uint8(3), uint8(1))
	f.Fuzz(func(t *testing.T, p []byte, maxLine, piece uint8) {
		if maxLine == 0 || piece == 0 {
			return
		}
		out := componenttest.NewOutput()
		cfg := new(config)
		cfg.Fields()
		cfg.maxLine = int(maxLine)
		client, server := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = io.Copy(io.Discard, client)
		}()
		served := make(chan struct{})
		go func() {
			defer close(served)
			(&session{s: &source{cfg: cfg, env: componenttest.QuietEnv()}, conn: server, out: out, stop: context.Background(), emitCtx: context.Background()}).serve()
			server.Close()
		}()
		var sent []byte
		for len(p) > 0 {
			n := min(len(p), int(piece))
			if _, err := client.Write(p[:n]); err != nil {
				break
			}
			sent = append(sent, p[:n]...)
			p = p[n:]
		}
		client.Close()
		<-served
		<-done
		lines := strings.Split(string(sent), "\n")
		for i, b := range out.Bodies() {
			if want := strings.ToValidUTF8(lines[i], ""); strings.ToValidUTF8(strings.ReplaceAll(b, "�", ""), "") != strings.ReplaceAll(want, "�", "") {
				t.Fatalf("line %d: %q, want %q", i, b, lines[i])
			}
		}
		if n := out.Pool().Outstanding(); n != 0 {
			t.Fatalf("%d blocks leaked", n)
		}
	})
}
