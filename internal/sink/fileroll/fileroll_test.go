package fileroll

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

var bg = context.Background()

type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func newSink(t *testing.T, dir string, props ...component.Property) (*sink, *clock) {
	t.Helper()
	typ, ok := component.Default().Lookup(component.KindSink, "org.apache.flume.sink.RollingFileSink")
	if !ok {
		t.Fatal("not registered")
	}
	c := typ.New()
	props = append(props, component.Property{Key: "sink.directory", Value: dir})
	for _, f := range component.Decode(component.Default(), c, props) {
		t.Errorf("%+v", f)
	}
	made, err := c.(component.SinkConfig).NewSink(component.Env{
		Log: slog.New(slog.DiscardHandler), Metrics: component.NewMetrics(), Health: func(error) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := made.(*sink)
	at := &clock{time.Date(2026, 11, 23, 7, 30, 1, 0, time.Local)}
	s.now = at.now
	s.names.made = time.UnixMilli(1795420523083)
	return s, at
}

func events(bodies ...string) []event.Event {
	var evs []event.Event
	for _, b := range bodies {
		evs = append(evs, event.Event{Body: []byte(b)})
	}
	return evs
}

// files returns the directory as "name=content" in order of name.
func files(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e.Name()+"="+string(b))
	}
	return strings.Join(list, "|")
}

func check(t *testing.T, dir, want string) {
	t.Helper()
	if got := files(t, dir); got != want {
		t.Errorf("files: %q, want %q", got, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRolling(t *testing.T) {
	dir := t.TempDir()
	s, at := newSink(t, dir, component.Property{Key: "sink.rollInterval", Value: "10"})
	if s.BatchSize() != 100 {
		t.Error(s.BatchSize())
	}
	if err := s.Write(bg, events("x")); err == nil {
		t.Error("took events before the start")
	}
	must(t, s.Start(bg))
	must(t, s.Start(bg))
	check(t, dir, "1795420523083-1=")
	must(t, s.Write(bg, events("a", "b")))
	// With the operating system before Write returns.
	check(t, dir, "1795420523083-1=a\nb\n")
	at.t = at.t.Add(9 * time.Second)
	must(t, s.Idle(bg))
	must(t, s.Write(bg, events("c")))
	at.t = at.t.Add(time.Second)
	must(t, s.Idle(bg))
	check(t, dir, "1795420523083-1=a\nb\nc\n|1795420523083-2=")
	at.t = at.t.Add(10 * time.Second)
	must(t, s.Write(bg, events("d")))
	check(t, dir, "1795420523083-1=a\nb\nc\n|1795420523083-2=|1795420523083-3=d\n")
	must(t, s.Stop(bg))
	must(t, s.Stop(bg))
	// Started again, as after a reload: the numbers go on.
	must(t, s.Start(bg))
	must(t, s.Write(bg, events("e")))
	must(t, s.Stop(bg))
	check(t, dir, "1795420523083-1=a\nb\nc\n|1795420523083-2=|1795420523083-3=d\n|1795420523083-4=e\n")
	if m := []int64{s.created.Load(), s.closed.Load(), s.failed.Load()}; m[0] != 4 || m[1] != 4 || m[2] != 0 {
		t.Errorf("created, closed, failed: %v", m)
	}
}

func TestOneFile(t *testing.T) {
	for _, interval := range []string{"0", "-1"} {
		dir := t.TempDir()
		s, at := newSink(t, dir, component.Property{Key: "sink.rollInterval", Value: interval})
		must(t, s.Start(bg))
		must(t, s.Write(bg, events("a")))
		at.t = at.t.Add(1e6 * time.Hour)
		must(t, s.Idle(bg))
		must(t, s.Write(bg, events("b")))
		must(t, s.Stop(bg))
		check(t, dir, "1795420523083-1=a\nb\n")
	}
}

func TestNames(t *testing.T) {
	dir := t.TempDir()
	// A file of somebody else's is never touched.
	must(t, os.WriteFile(filepath.Join(dir, "p-20261123073001-1.log"), []byte("theirs"), 0o600))
	s, at := newSink(t, dir, component.Property{Key: "sink.pathManager", Value: "rolltime"}, component.Property{Key: "sink.rollInterval", Value: "1"},
		component.Property{Key: "sink.pathManager.prefix", Value: "p-"}, component.Property{Key: "sink.pathManager.extension", Value: "log"},
		component.Property{Key: "sink.serializer", Value: "HEADER_AND_TEXT"}, component.Property{Key: "sink.serializer.appendNewline", Value: "false"})
	must(t, s.Start(bg))
	must(t, s.Write(bg, events("a")))
	at.t = at.t.Add(time.Second)
	must(t, s.Write(bg, events("b")))
	must(t, s.Stop(bg))
	check(t, dir, "p-20261123073001-1.log=theirs|p-20261123073001-2.log={} a|p-20261123073002-1.log={} b")
}

func TestConfigErrors(t *testing.T) {
	typ, _ := component.Default().Lookup(component.KindSink, "file_roll")
	for _, p := range []component.Property{
		{Key: "sink.pathManager", Value: "HOURLY"}, {Key: "sink.batchSize", Value: "0"}, {Key: "sink.rollInterval", Value: "soon"}, {Key: "sink.serializer", Value: "TEXTS"},
	} {
		fs := component.Decode(component.Default(), typ.New(), []component.Property{{Key: "sink.directory", Value: "/"}, p})
		if len(fs) != 1 || !fs[0].Error || fs[0].Key != p.Key {
			t.Errorf("%v: %+v", p, fs)
		}
	}
	c := typ.New()
	component.Decode(component.Default(), c, []component.Property{{Key: "sink.directory", Value: "/"}, {Key: "sink.pathManager.prefix", Value: "a/b"}})
	_, err := c.(component.SinkConfig).NewSink(component.Env{Log: slog.New(slog.DiscardHandler), Metrics: component.NewMetrics()})
	var ke *component.KeyError
	if !errors.As(err, &ke) {
		t.Errorf("prefix with a separator: %v", err)
	}
	s, _ := newSink(t, filepath.Join(t.TempDir(), "missing"))
	if err := s.Start(bg); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
}

// flaky makes files whose writes, truncations and syncs fail on demand.
type flaky struct {
	osFS
	room     int // bytes that still fit; -1: any number
	truncate error
	sync     error
}

type flakyFile struct {
	file
	fs *flaky
}

func (f *flaky) Create(p string) (file, error) {
	of, err := f.osFS.Create(p)
	if err != nil {
		return nil, err
	}
	return &flakyFile{of, f}, nil
}

func (f *flakyFile) WriteAt(p []byte, off int64) (int, error) {
	if f.fs.room < 0 || len(p) <= f.fs.room {
		if f.fs.room > 0 {
			f.fs.room -= len(p)
		}
		return f.file.WriteAt(p, off)
	}
	n, _ := f.file.WriteAt(p[:f.fs.room], off)
	f.fs.room = 0
	return n, syscall.ENOSPC
}

func (f *flakyFile) Truncate(n int64) error {
	if f.fs.truncate != nil {
		return f.fs.truncate
	}
	return f.file.Truncate(n)
}

func (f *flakyFile) Sync() error {
	if f.fs.sync != nil {
		return f.fs.sync
	}
	return f.file.Sync()
}

func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	s, _ := newSink(t, dir)
	ff := &flaky{room: -1}
	s.fs = ff
	must(t, s.Start(bg))
	must(t, s.Write(bg, events("one", "two")))
	for room := range 8 {
		ff.room = room // in the middle of a line, and between two
		if err := s.Write(bg, events("three", "four")); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("room for %d bytes: %v", room, err)
		}
		check(t, dir, "1795420523083-1=one\ntwo\n")
	}
	ff.room = -1
	must(t, s.Write(bg, events("three", "four")))
	check(t, dir, "1795420523083-1=one\ntwo\nthree\nfour\n")

	// Even cutting back fails: the next batch, shorter than the torn one, lies over it, and the rest goes as soon as that works.
	ff.room, ff.truncate = 9, syscall.EIO
	if err := s.Write(bg, events("a longer line")); !errors.Is(err, syscall.ENOSPC) || !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	check(t, dir, "1795420523083-1=one\ntwo\nthree\nfour\na longer ")
	ff.room = -1
	must(t, s.Write(bg, events("five")))
	if !s.sick {
		t.Error("health was not told")
	}
	ff.truncate = nil
	must(t, s.Stop(bg))
	check(t, dir, "1795420523083-1=one\ntwo\nthree\nfour\nfive\n")
}

func TestDiskFullAtOpen(t *testing.T) {
	dir := t.TempDir()
	s, _ := newSink(t, dir, component.Property{Key: "sink.serializer", Value: "AVRO_EVENT"})
	ff := &flaky{room: 3}
	s.fs = ff
	if err := s.Start(bg); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	check(t, dir, "")
	ff.room = -1
	must(t, s.Start(bg))
	must(t, s.Stop(bg))
	if got := files(t, dir); !strings.HasPrefix(got, "1795420523083-2=Obj\x01") {
		t.Error(got)
	}
	if s.failed.Load() != 1 {
		t.Error(s.failed.Load())
	}
}

func TestSyncFails(t *testing.T) {
	dir := t.TempDir()
	s, at := newSink(t, dir)
	var told error
	s.health = func(err error) { told = err }
	ff := &flaky{room: -1, sync: syscall.EIO}
	s.fs = ff
	must(t, s.Start(bg))
	must(t, s.Write(bg, events("a")))
	at.t = at.t.Add(time.Minute)
	// What was committed stays committed: the roll goes on, and health knows.
	must(t, s.Write(bg, events("b")))
	if !errors.Is(told, syscall.EIO) {
		t.Error(told)
	}
	ff.sync = nil
	at.t = at.t.Add(time.Minute)
	must(t, s.Write(bg, events("c")))
	if told != nil {
		t.Error(told)
	}
	check(t, dir, "1795420523083-1=a\n|1795420523083-2=b\n|1795420523083-3=c\n")
}

func TestLargeEvents(t *testing.T) {
	dir := t.TempDir()
	s, _ := newSink(t, dir)
	must(t, s.Start(bg))
	var bodies []string
	for i := range 8 {
		bodies = append(bodies, strings.Repeat(fmt.Sprint(i), 700_000))
	}
	must(t, s.Write(bg, events(bodies...)))
	must(t, s.Stop(bg))
	if got := files(t, dir); got != "1795420523083-1="+strings.Join(bodies, "\n")+"\n" {
		t.Errorf("%d bytes", len(got))
	}
}

func TestRealDirectory(t *testing.T) {
	dir := t.TempDir()
	typ, _ := component.Default().Lookup(component.KindSink, "file_roll")
	c := typ.New()
	component.Decode(component.Default(), c, []component.Property{{Key: "sink.directory", Value: dir}})
	s, err := c.(component.SinkConfig).NewSink(component.Env{Log: slog.New(slog.DiscardHandler), Metrics: component.NewMetrics(), Health: func(error) {}})
	must(t, err)
	must(t, s.Start(bg))
	must(t, s.Write(bg, events("a")))
	must(t, s.Stop(bg))
	if got := files(t, dir); !regexp.MustCompile(`^\d{13}-1=a\n$`).MatchString(got) {
		t.Error(got)
	}
}

func TestFileRemoved(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("NOT CHECKED: a file removed under the sink, as an open file cannot be removed here")
	}
	dir := t.TempDir()
	s, _ := newSink(t, dir)
	must(t, s.Start(bg))
	must(t, s.Write(bg, events("a")))
	must(t, os.Rename(filepath.Join(dir, "1795420523083-1"), filepath.Join(dir, "moved")))
	must(t, s.Write(bg, events("b"))) // whoever moved it has it all
	must(t, os.Remove(filepath.Join(dir, "moved")))
	must(t, s.Write(bg, events("c")))
	must(t, s.Stop(bg))
	check(t, dir, "1795420523083-2=c\n")
}

func TestNoAllocation(t *testing.T) {
	s, _ := newSink(t, t.TempDir())
	must(t, s.Start(bg))
	evs := events(make([]string, 100)...)
	if n := testing.AllocsPerRun(100, func() {
		if err := s.Write(bg, evs); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for 100 events", n)
	}
	must(t, s.Stop(bg))
}
