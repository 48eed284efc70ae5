package netcat

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
)

func open(t *testing.T, out *componenttest.Output, props ...string) (addr string, run *componenttest.Running) {
	t.Helper()
	src := componenttest.Source(t, componenttest.QuietEnv(), "netcat", append([]string{"bind=127.0.0.1", "port=0"}, props...)...)
	run = componenttest.Run(t, src, out)
	return src.(*source).addr().String(), run
}

// talk sends text, half-closes, and returns all answers.
func talk(t *testing.T, addr, text string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	ans, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(ans)
}

func TestNetcat(t *testing.T) {
	long := strings.Repeat("x", 20)
	const over = "FAILED: Event exceeds the maximum length (20 chars, including newline)\n"
	for _, tt := range []struct {
		name, send, answer string
		props              []string
		want               []string
	}{
		{"lines", "hello\r\n\nworld\n", "OK\nOK\nOK\n", nil, []string{"hello\r", "", "world"}},
		{"no line feed at the end", "a\nb", "OK\n", nil, []string{"a"}},
		{"without answers", "a\nb\n", "", []string{"ack-every-event=false"}, []string{"a", "b"}},
		{"just fits", long[:19] + "\n", "OK\n", []string{"max-line-length=20"}, []string{long[:19]}},
		{"too long", "a\n" + long + "\nb\n", "OK\n" + over, []string{"max-line-length=20"}, []string{"a"}},
		{"too long without an end", long + "x", over, []string{"max-line-length=20"}, nil},
		{"characters, not bytes", strings.Repeat("é", 19) + "\n", "OK\n", []string{"max-line-length=20"}, []string{strings.Repeat("é", 19)}},
		{"bad UTF-8", "a\xffb\n", "OK\n", nil, []string{"a\uFFFDb"}},
		{"another charset", "caf\xe9\n", "OK\n", []string{"encoding=ISO-8859-1"}, []string{"café"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := componenttest.NewOutput()
			addr, run := open(t, out, tt.props...)
			if got := talk(t, addr, tt.send); got != tt.answer {
				t.Errorf("answer %q, want %q", got, tt.answer)
			}
			run.Stop()
			if got := out.Bodies(); !slices.Equal(got, tt.want) {
				t.Errorf("bodies %q, want %q", got, tt.want)
			}
		})
	}
}

func TestRefusedLinesAreAnsweredWithFailed(t *testing.T) {
	out := componenttest.NewOutput()
	out.FailWith(func(emit int, _ *event.Batch) error {
		if emit == 0 {
			return errors.New("channel is full")
		}
		return nil
	})
	addr, run := open(t, out)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	var answers []string
	for range 2 {
		fmt.Fprintf(conn, "line\n")
		a, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, a)
	}
	if !strings.HasPrefix(answers[0], "FAILED: ") || !strings.Contains(answers[0], "full") || answers[1] != "OK\n" {
		t.Errorf("answers %q", answers)
	}
	run.Stop() // with the connection still open
	if got := out.Bodies(); !slices.Equal(got, []string{"line"}) {
		t.Errorf("bodies %q", got)
	}
}

func TestManyConnections(t *testing.T) {
	out := componenttest.NewOutput()
	addr, run := open(t, out)
	var wg sync.WaitGroup
	for c := range 20 {
		wg.Go(func() {
			var sb strings.Builder
			for i := range 500 {
				fmt.Fprintf(&sb, "%d-%d\n", c, i)
			}
			if got := talk(t, addr, sb.String()); got != strings.Repeat("OK\n", 500) {
				t.Errorf("connection %d: %d bytes of answers", c, len(got))
			}
		})
	}
	wg.Wait()
	run.Stop()
	next := make([]int, 20)
	for _, body := range out.Bodies() {
		var c, i int
		if _, err := fmt.Sscanf(body, "%d-%d", &c, &i); err != nil || next[c] != i {
			t.Fatalf("%q is out of order", body)
		}
		next[c]++
	}
	for c, n := range next {
		if n != 500 {
			t.Errorf("connection %d: %d lines", c, n)
		}
	}
}

func TestWrongSettings(t *testing.T) {
	cfg, _ := componenttest.Config(t, component.KindSource, "netcat", "bind=127.0.0.1", "port=0", "encoding=UTF-16")
	var ke *component.KeyError
	if _, err := cfg.(component.SourceConfig).NewSource(componenttest.QuietEnv()); !errors.As(err, &ke) || ke.Key != "encoding" {
		t.Errorf("UTF-16: %v", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	src := componenttest.Source(t, componenttest.QuietEnv(), "netcat", "bind=127.0.0.1", fmt.Sprintf("port=%d", ln.Addr().(*net.TCPAddr).Port))
	if err := src.Start(t.Context()); err == nil {
		t.Error("a busy port was not reported")
	}
	if err := src.Stop(t.Context()); err != nil {
		t.Errorf("stop without start: %v", err)
	}
}
