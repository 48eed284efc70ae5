package logger

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

var at = time.Date(2026, 11, 23, 7, 5, 3, 4e6, time.Local)

func newSink(t testing.TB, out io.Writer, d map[string]string, props ...component.Property) *sink {
	t.Helper()
	typ, ok := component.Default().Lookup(component.KindSink, "logger")
	if !ok {
		t.Fatal("not registered")
	}
	c := typ.New()
	for _, f := range component.Decode(component.Default(), c, props) {
		if f.Error {
			t.Fatalf("%+v", f)
		}
	}
	made, err := c.(component.SinkConfig).NewSink(component.Env{Log: slog.New(slog.DiscardHandler), Properties: d})
	if err != nil {
		t.Fatal(err)
	}
	s := made.(*sink)
	s.now = func() time.Time { return at }
	if out != nil {
		s.out = out
	}
	return s
}

const head = "2026-11-23 07:05:03,004 (SinkRunner-PollingRunner-DefaultSinkProcessor) [INFO - org.apache.flume.sink.LoggerSink.process(LoggerSink.java:95)] "

// The lines after the time are those of Flume 1.11 for these events.
func TestLines(t *testing.T) {
	hs := []event.KV{{Key: "file", Value: []byte("/s/in.txt")}, {Key: "basename", Value: []byte("in.txt")}, {Key: "logType", Value: []byte("car")}, {Key: "g1"}}
	const printed = "{logType=car, file=/s/in.txt, basename=in.txt, g1=null}"
	tests := []struct {
		max  string
		e    event.Event
		want string
	}{
		{"", event.Event{Body: []byte("hello."), Headers: hs}, "Event: { headers:" + printed + " body: 68 65 6C 6C 6F 2E                               hello. }\n"},
		{"", event.Event{Body: []byte{}}, "Event: { headers:{} body: }\n"},
		{"", event.Event{}, "Event: { headers:{} body:null }\n"},
		{"", event.Event{Body: []byte("\t\x01high \xc3\xa9 line")}, "Event: { headers:{} body: 09 01 68 69 67 68 20 C3 A9 20 6C 69 6E 65       ..high .. line }\n"},
		{"", event.Event{Body: []byte("exactly16bytes!!")}, "Event: { headers:{} body: 65 78 61 63 74 6C 79 31 36 62 79 74 65 73 21 21 exactly16bytes!! }\n"},
		{"", event.Event{Body: []byte("more than sixteen bytes here")}, "Event: { headers:{} body: 6D 6F 72 65 20 74 68 61 6E 20 73 69 78 74 65 65 more than sixtee }\n"},
		{"1", event.Event{Body: []byte("hi")}, "Event: { headers:{} body: 68                                              h }\n"},
		{"0", event.Event{Body: []byte("hi")}, "Event: { headers:{} body: }\n"},
		{"many", event.Event{Body: []byte("hi\r")}, "Event: { headers:{} body: 68 69 0D                                        hi. }\n"},
		{"40", event.Event{Body: []byte("more than sixteen bytes, and then some more of them")}, "Event: { headers:{} body:" +
			" 6D 6F 72 65 20 74 68 61 6E 20 73 69 78 74 65 65 more than sixtee\n" +
			"00000010 6E 20 62 79 74 65 73 2C 20 61 6E 64 20 74 68 65 n bytes, and the\n" +
			"00000020 6E 20 73 6F 6D 65 20 6D                         n some m }\n"},
	}
	for _, tt := range tests {
		var out bytes.Buffer
		var props []component.Property
		if tt.max != "" {
			props = append(props, component.Property{Key: "maxBytesToLog", Value: tt.max})
		}
		s := newSink(t, &out, nil, props...)
		// Twice: the second may take its headers from the first.
		if err := s.Write(context.Background(), []event.Event{tt.e, tt.e}); err != nil {
			t.Fatal(err)
		}
		if got, want := out.String(), head+tt.want+head+tt.want; got != want {
			t.Errorf("maxBytesToLog %q: got\n%s\nwant\n%s", tt.max, got, want)
		}
	}
}

func TestWhereLinesGo(t *testing.T) {
	e := []event.Event{{Body: []byte("x")}}
	dir := t.TempDir()
	path := filepath.Join(dir, "l", "agent.log")
	for range 2 { // a restart appends
		s := newSink(t, nil, map[string]string{"flume.root.logger": "INFO,LOGFILE", "flume.log.dir": filepath.Dir(path), "flume.log.file": "agent.log"})
		if err := s.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		if err := s.Write(context.Background(), e); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.Stop(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := os.ReadFile(path)
	const line = "23 Nov 2026 07:05:03,004 INFO  [SinkRunner-PollingRunner-DefaultSinkProcessor] (org.apache.flume.sink.LoggerSink.process:95) - Event: { headers:{} body: 78                                              x }\n"
	if err != nil || string(got) != line+line {
		t.Errorf("%v\n%s", err, got)
	}
	for _, root := range []string{"", "INFO,console", "DEBUG, console", "INFO"} {
		if s := newSink(t, nil, map[string]string{"flume.root.logger": root}); s.path != "" || s.silent {
			t.Errorf("%q: %+v", root, s)
		}
	}
	var out bytes.Buffer
	s := newSink(t, &out, map[string]string{"flume.root.logger": "WARN,console"})
	if err := s.Write(context.Background(), e); err != nil || out.Len() > 0 {
		t.Errorf("level WARN: %v %q", err, out.String())
	}
	blocked := filepath.Join(dir, "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s = newSink(t, nil, map[string]string{"flume.root.logger": "INFO,LOGFILE", "flume.log.dir": blocked})
	if err := s.Start(context.Background()); err == nil {
		t.Error("a log directory that is a file was accepted")
	}
}

// full takes a limited number of bytes.
type full struct {
	bytes.Buffer
	room int
	err  error
}

func (f *full) Write(p []byte) (int, error) {
	if len(p) <= f.room {
		f.room -= len(p)
		return f.Buffer.Write(p)
	}
	n, _ := f.Buffer.Write(p[:f.room])
	f.room = 0
	return n, f.err
}

func TestWriteErrors(t *testing.T) {
	evs := []event.Event{{Body: []byte("one")}, {Body: []byte("two")}}
	for _, cause := range []error{syscall.ENOSPC, syscall.EPIPE, io.ErrClosedPipe} {
		out := &full{room: len(head) + 20, err: cause}
		s := newSink(t, out, nil)
		if err := s.Write(context.Background(), evs); !errors.Is(err, cause) {
			t.Fatalf("%v became %v", cause, err)
		}
		out.room = 1 << 20
		if err := s.Write(context.Background(), evs); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(out.String(), "\n")
		if len(lines) != 4 { // the torn line, two whole ones, and what follows the last line feed
			t.Fatalf("after %v: %q", cause, lines)
		}
		for _, l := range lines[1:3] {
			if !strings.HasPrefix(l, head) || !strings.HasSuffix(l, " }") {
				t.Errorf("after %v: %q", cause, l)
			}
		}
	}
	s := newSink(t, nil, nil)
	if err := s.Write(context.Background(), evs); err == nil {
		t.Error("a sink that is not started took events")
	}
}

func TestLargeBatch(t *testing.T) {
	var out bytes.Buffer
	s := newSink(t, &out, nil, component.Property{Key: "maxBytesToLog", Value: "1000000"})
	evs := make([]event.Event, 12)
	for i := range evs {
		evs[i].Body = bytes.Repeat([]byte{'a' + byte(i)}, 100_000)
	}
	if err := s.Write(context.Background(), evs); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "Event: "); n != len(evs) {
		t.Errorf("%d events", n)
	}
	if n := strings.Count(out.String(), "\n"); n != len(evs)*6250 {
		t.Errorf("%d rows", n)
	}
}

func batch(n int) []event.Event {
	evs := make([]event.Event, n)
	for i := range evs {
		evs[i].Body = []byte("20160101000000,P0001,2,0,F,N,10,D08")
		evs[i].Headers = []event.KV{{Key: "timestamp", Value: []byte("1795420523083")}, {Key: "host", Value: []byte("127.0.0.1")}}
	}
	return evs
}

func TestNoAllocation(t *testing.T) {
	s := newSink(t, io.Discard, nil)
	evs := batch(100)
	ctx := context.Background()
	if n := testing.AllocsPerRun(100, func() {
		if err := s.Write(ctx, evs); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for 100 events", n)
	}
}

func BenchmarkLogger(b *testing.B) {
	s := newSink(b, io.Discard, nil)
	evs := batch(1000)
	for i := range evs {
		evs[i].Headers = nil
	}
	b.ReportAllocs()
	for i := 0; i < b.N; i += len(evs) {
		if err := s.Write(context.Background(), evs); err != nil {
			b.Fatal(err)
		}
	}
}
