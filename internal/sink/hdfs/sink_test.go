package hdfs

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/dfs"
)

// clock is a time that the test sets.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.at.Store(time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC).UnixMilli())
	return c
}

func (c *clock) now() time.Time          { return time.UnixMilli(c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(d.Milliseconds()) }

// faulty is the local file system with errors.
type faulty struct {
	dfs.Local
	fail func(op, name string) error
}

func (f *faulty) Create(name string) (dfs.File, error) {
	if err := f.fail("create", name); err != nil {
		return nil, err
	}
	file, err := f.Local.Create(name)
	if err != nil {
		return nil, err
	}
	return &faultyFile{File: file, fs: f, name: name}, nil
}

func (f *faulty) Rename(from, to string) error {
	if err := f.fail("rename", from); err != nil {
		return err
	}
	return f.Local.Rename(from, to)
}

func (f *faulty) Recover(name string) error {
	if err := f.fail("recover", name); err != nil {
		return err
	}
	return f.Local.Recover(name)
}

type faultyFile struct {
	dfs.File
	fs   *faulty
	name string
}

func (f *faultyFile) Write(p []byte) (int, error) {
	if err := f.fs.fail("write", f.name); err != nil {
		n, _ := f.File.Write(p[:len(p)/2])
		return n, err
	}
	return f.File.Write(p)
}

func (f *faultyFile) Flush() error {
	if err := f.fs.fail("flush", f.name); err != nil {
		return err
	}
	return f.File.Flush()
}

func (f *faultyFile) Err() error { return f.fs.fail("err", f.name) }

func (f *faultyFile) Close() error {
	if err := f.fs.fail("close", f.name); err != nil {
		return err
	}
	return f.File.Close()
}

// harness is a sink that writes below a directory of the test.
type harness struct {
	*sink
	t     *testing.T
	dir   string
	clock *clock
	fail  func(op, name string) error
}

func start(t *testing.T, path string, props ...string) *harness {
	t.Helper()
	h := &harness{t: t, dir: t.TempDir(), clock: newClock()}
	h.again(path, props...)
	return h
}

// again makes another sink in the same directory.
func (h *harness) again(path string, props ...string) {
	h.t.Helper()
	env, _ := componenttest.Env(h.t)
	cfg, _ := componenttest.Config(h.t, component.KindSink, "hdfs", append([]string{"hdfs.path=file://" + h.dir + path, "hdfs.timeZone=UTC"}, props...)...)
	snk, err := cfg.(component.SinkConfig).NewSink(env)
	if err != nil {
		h.t.Fatal(err)
	}
	h.sink = snk.(*sink)
	h.sink.clock = h.clock.now
	h.sink.start(&faulty{fail: func(op, name string) error {
		if h.fail == nil {
			return nil
		}
		return h.fail(op, name)
	}})
	h.t.Cleanup(func() { h.stop() })
}

func (h *harness) stop() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if err := h.sink.Stop(ctx); err != nil {
		h.t.Error(err)
	}
}

// settle waits for files to be found that another process left, which happens in the background.
func (h *harness) settle(done func() bool) {
	h.t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !done() && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if err := h.Idle(h.t.Context()); err != nil {
			h.t.Fatal(err)
		}
	}
}

// files are the contents of all files, by name; the counters in the names are counted from 1.
func (h *harness) files() map[string]string {
	h.t.Helper()
	m := map[string]string{}
	err := filepath.WalkDir(h.dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		m[strings.TrimPrefix(name, h.dir)] = string(b)
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return m
}

// want compares the files but for the counters in their names, in the order of these.
func (h *harness) want(want ...string) {
	h.t.Helper()
	files := h.files()
	names := make([]string, 0, len(files))
	for n := range files {
		names = append(names, n)
	}
	slices.Sort(names)
	var got []string
	for _, n := range names {
		parts := strings.Split(n, ".")
		for i, p := range parts {
			if len(strings.TrimRight(p, "0123456789")) == 0 && len(p) > 12 {
				parts[i] = "N"
			}
		}
		got = append(got, strings.Join(parts, ".")+" "+files[n])
	}
	if !slices.Equal(got, want) {
		h.t.Errorf("files\n%q, want\n%q", got, want)
	}
}

func (h *harness) write(bodies ...string) {
	h.t.Helper()
	if err := h.Write(h.t.Context(), componenttest.Events(bodies...)); err != nil {
		h.t.Fatal(err)
	}
}

var plain = []string{"hdfs.fileType=DataStream", "hdfs.rollInterval=0", "hdfs.rollSize=0", "hdfs.rollCount=0"}

func TestNames(t *testing.T) {
	h := start(t, "/a/b", append(plain, "hdfs.filePrefix=x", "hdfs.fileSuffix=.log", "hdfs.inUsePrefix=_")...)
	h.write("1", "2")
	h.want("/a/b/_x.N.log.tmp 1\n2\n")
	h.write("3")
	h.stop()
	h.want("/a/b/x.N.log 1\n2\n3\n")
}

// A path without a slash in front begins at the process's directory, as in Flume.
func TestRelativePath(t *testing.T) {
	h := &harness{t: t, dir: t.TempDir(), clock: newClock()}
	t.Chdir(h.dir)
	left := "1970/FlumeData.1700000000001.tmp"
	if err := os.Mkdir("1970", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(left, []byte("0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.again("", append(plain, "hdfs.path=%Y")...)
	h.settle(func() bool { _, err := os.Stat(left); return err != nil })
	h.write("1@0")
	h.want("/1970/FlumeData.N 0\n", "/1970/FlumeData.N.tmp 1\n")
}

func TestRolls(t *testing.T) {
	t.Run("count", func(t *testing.T) {
		h := start(t, "/", append(plain, "hdfs.rollCount=2")...)
		h.write("1", "2", "3", "4", "5")
		h.want("/FlumeData.N 1\n2\n", "/FlumeData.N 3\n4\n", "/FlumeData.N.tmp 5\n")
		h.write("6")
		h.want("/FlumeData.N 1\n2\n", "/FlumeData.N 3\n4\n", "/FlumeData.N.tmp 5\n6\n") // Flume, too, rolls with the next
	})
	t.Run("size", func(t *testing.T) {
		h := start(t, "/", append(plain, "hdfs.rollSize=10")...)
		h.write("12345", "1234", "1", "2")
		h.want("/FlumeData.N 12345\n1234\n1\n", "/FlumeData.N.tmp 2\n")
	})
	t.Run("interval", func(t *testing.T) {
		h := start(t, "/", append(plain, "hdfs.rollInterval=30")...)
		h.write("1")
		h.clock.advance(29 * time.Second)
		h.write("2")
		h.clock.advance(time.Second)
		if err := h.Idle(t.Context()); err != nil {
			t.Error(err)
		}
		h.want("/FlumeData.N 1\n2\n")
		h.write("3")
		h.want("/FlumeData.N 1\n2\n", "/FlumeData.N.tmp 3\n")
	})
	t.Run("idle", func(t *testing.T) {
		h := start(t, "/", append(plain, "hdfs.idleTimeout=10")...)
		h.write("1")
		h.clock.advance(9 * time.Second)
		h.write("2")
		h.clock.advance(9 * time.Second)
		_ = h.Idle(t.Context())
		h.want("/FlumeData.N.tmp 1\n2\n")
		h.clock.advance(time.Second)
		_ = h.Idle(t.Context())
		h.want("/FlumeData.N 1\n2\n")
	})
	t.Run("most files", func(t *testing.T) {
		h := start(t, "/%{timestamp}", append(plain, "hdfs.maxOpenFiles=2")...)
		h.write("a@1", "b@2")
		h.clock.advance(time.Second)
		h.write("c@1", "d@3")
		h.want("/1/FlumeData.N.tmp a\nc\n", "/2/FlumeData.N b\n", "/3/FlumeData.N.tmp d\n")
	})
}

func TestBuckets(t *testing.T) {
	h := start(t, "/%Y-%m-%d/%H", append(plain, "hdfs.round=true", "hdfs.roundUnit=hour", "hdfs.roundValue=6", "hdfs.filePrefix=p%S")...)
	h.write("a@0", "b@86400000", "c@1000", "d@25200000")
	h.want("/1970-01-01/00/p00.N.tmp a\nc\n", "/1970-01-01/06/p00.N.tmp d\n", "/1970-01-02/00/p00.N.tmp b\n")
}

// An event without a timestamp keeps nobody from anything.
func TestNoTimestamp(t *testing.T) {
	h := start(t, "/%Y", plain...)
	err := h.Write(t.Context(), componenttest.Events("a@0", "b", "c@0"))
	var partial *component.PartialError
	if !errors.As(err, &partial) || len(partial.Failed) != 1 || !component.IsPermanent(partial.Failed[1]) || !strings.Contains(err.Error(), "timestamp") {
		t.Errorf("%v", err)
	}
	h.want("/1970/FlumeData.N.tmp a\nc\n")
}

// What the header of an event brings into a path leads to no other directory, holds up nobody and is set aside where that is
// asked for; with slashes it names directories, as in Flume.
func TestHostileHeaders(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, tt := range []struct{ name, path, prefix, value, want string }{
		{"plain", "/a/%{h}", "p", "v", "/a/v/p.N.tmp"},
		{"missing", "/a/%{h}", "p", "", "/a/p.N.tmp"},
		{"a path", "/a/%{h}", "p", "/v/w/", "/a/v/w/p.N.tmp"},
		{"blanks", "/a/%{h}", "p", " v\t", "/a/ v\t/p.N.tmp"},
		{"escapes", "/a/%{h}", "p", "%Y%{h}", "/a/%Y%{h}/p.N.tmp"},
		{"dots", "/a/%{h}", "p", "...", "/a/.../p.N.tmp"},
		{"a dot", "/a/%{h}", "p", ".", "/a/p.N.tmp"},
		{"two dots in a name", "/a/%{h}", "p", "v..w", "/a/v..w/p.N.tmp"},
		{"no UTF-8", "/a/%{h}", "p", "\xff", "/a/\xff/p.N.tmp"},
		{"above", "/a/%{h}", "p", "..", "has a .. of a header"},
		{"far above", "/a/%{h}", "p", "../../../../../../etc", "has a .. of a header"},
		{"above, in the middle", "/a/%{h}", "p", "v/../../../w", "has a .. of a header"},
		{"above, then back", "/a/%{h}", "p", "../a", "has a .. of a header"},
		{"made of parts", "/a/%{h}./b", "p", ".", "has a .. of a header"},
		{"in the prefix", "/a", "%{h}", "../../../etc/p", "has a .. of a header"},
		{"in the prefix, plain", "/a", "%{h}", "v", "/a/v.N.tmp"},
		{"in the prefix, a path", "/a", "%{h}", "v/w", "/a/v/w.N.tmp"},
		{"in the prefix, dots", "/a", "%{h}", "..", "/a/...N.tmp"},
		{"the operator's own", "/a/../b/%{h}", "p", "v", "/b/v/p.N.tmp"},
		{"the operator's own, and another", "/a/b/../%{h}", "p", "../v", "has a .. of a header"},
		{"a byte 0", "/a/%{h}", "p", "v\x00w", "has a byte 0"},
		{"a byte 0 in the prefix", "/a", "%{h}", "v\x00w", "has a byte 0"},
		{"a long name", "/a/%{h}", "p", long, "takes no such name"},
		{"a long name of a file", "/a", "%{h}", long, "takes no such name"},
		{"a long path", "/a/%{h}", "p", strings.Repeat("x/", 4500), "would have 9"},
		{"many directories", "/a/%{h}", "p", strings.Repeat("/", 1100), " slashes with the event"},
		{"a huge one", "/a/%{h}", "p", strings.Repeat("x", 10<<20), "would have 1048"},
		{"through a file", "/a/%{h}", "p", "file", "takes no such name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := start(t, "/x"+tt.path, append(plain, "hdfs.filePrefix="+tt.prefix)...)
			if tt.value == "file" {
				if err := os.MkdirAll(h.dir+"/x/a", 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(h.dir+"/x/a/file", []byte("there\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			evs := componenttest.Events("good", "bad", "good")
			evs[0].Headers = []event.KV{{Key: "h", Value: []byte("other")}}
			evs[1].Headers = []event.KV{{Key: "h", Value: []byte(tt.value)}}
			evs[2].Headers = evs[0].Headers
			err := h.Write(t.Context(), evs)
			bad := false
			for name, text := range h.files() {
				if !strings.HasPrefix(name, "/x/") {
					t.Errorf("%s was written", name)
				}
				if text == "bad\n" {
					bad = true
					if digits := strings.FieldsFunc(name, func(c rune) bool { return c < '0' || c > '9' }); strings.Replace(name, digits[len(digits)-1], "N", 1) != "/x"+tt.want {
						t.Errorf("it is in %q, want %q", name, tt.want)
					}
				} else if text != "good\ngood\n" && text != "there\n" {
					t.Errorf("%s has %q", name, text)
				}
			}
			var partial *component.PartialError
			switch {
			case bad:
				if err != nil {
					t.Error(err)
				}
			case !errors.As(err, &partial) || len(partial.Failed) != 1 || !component.IsPermanent(partial.Failed[1]) || !strings.Contains(partial.Failed[1].Error(), tt.want):
				t.Errorf("%.500v, want %q", err, tt.want)
			case len(err.Error()) > 2000:
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			if cap(h.scratch) > 64<<10 {
				t.Errorf("%d bytes are kept", cap(h.scratch))
			}
		})
	}
}

// A name that the operator's own settings make is his to correct: nothing is set aside for it.
func TestOwnNames(t *testing.T) {
	for _, path := range []string{"/" + strings.Repeat("x", 300) + "/%Y", "/" + strings.Repeat("x", 300) + "/%{timestamp}", "/file/%Y", "/file/%{timestamp}"} {
		h := start(t, path, plain...)
		if err := os.WriteFile(h.dir+"/file", nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := h.Write(t.Context(), componenttest.Events("1@0")); !errors.Is(err, dfs.ErrName) || component.IsPermanent(err) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// No header leads out of the directory that hdfs.path names.
func FuzzTarget(f *testing.F) {
	f.Add("v", "w", "1")
	f.Add("../..", "..", "0")
	f.Add("/./.", ".\x00", "-1")
	f.Add("..", "/../", "999999999999999999")
	f.Add(".", "\xff../", "")
	templates := [][2]string{{"/logs/%{a}/%Y", "p%{b}"}, {"/logs/x%{a}%{b}", "%t"}, {"/logs/.%{a}/.%{b}", "."}, {"/logs/../logs/%{a}/.%{b}./%{timestamp}", "%{b}"}}
	var sinks []*sink
	for _, tpl := range templates {
		cfg, _ := componenttest.Config(f, component.KindSink, "hdfs", "hdfs.path="+tpl[0], "hdfs.filePrefix="+tpl[1], "hdfs.fileType=DataStream", "hdfs.timeZone=UTC")
		s, err := cfg.(component.SinkConfig).NewSink(componenttest.QuietEnv())
		if err != nil {
			f.Fatal(err)
		}
		sinks = append(sinks, s.(*sink))
	}
	f.Fuzz(func(t *testing.T, a, b, timestamp string) {
		e := event.Event{Headers: []event.KV{{Key: "a", Value: []byte(a)}, {Key: "b", Value: []byte(b)}, {Key: "timestamp", Value: []byte(timestamp)}}}
		for i, s := range sinks {
			failed := s.assign([]event.Event{e})
			if len(failed) > 0 {
				if !component.IsPermanent(failed[0]) || len(s.groups) > 0 {
					t.Errorf("%v: %v, %v", templates[i], failed, s.groups)
				}
				continue
			}
			g := s.groups[0]
			if name := path.Join(g.Dir, g.Prefix+".1"); !strings.HasPrefix(name, "/logs/") || strings.IndexByte(name, 0) >= 0 || len(name) > maxName+2 {
				t.Errorf("%v: %q", templates[i], name)
			}
		}
	})
}

// An event whose timestamp header is no key of a record keeps nobody from anything.
func TestBadKey(t *testing.T) {
	h := start(t, "/", "hdfs.rollInterval=0", "hdfs.rollSize=0", "hdfs.rollCount=0")
	for range 2 {
		err := h.Write(t.Context(), componenttest.Events("a@1", "b@yesterday", "c@2"))
		var partial *component.PartialError
		if !errors.As(err, &partial) || len(partial.Failed) != 1 || !component.IsPermanent(partial.Failed[1]) || !strings.Contains(err.Error(), "timestamp") {
			t.Fatalf("%v", err)
		}
	}
	if files := h.files(); len(files) != 1 {
		t.Errorf("%q", files)
	}
}

// A constant prefix may have a directory in it, as in Flume; what was left there is found.
func TestPrefixWithDirectory(t *testing.T) {
	props := append(plain, "hdfs.filePrefix=sub/x", "hdfs.inUsePrefix=_", "hdfs.inUseSuffix=")
	h := start(t, "/a", props...)
	h.write("1")
	h.want("/a/sub/_x.N 1\n")
	h.stop()
	h.want("/a/sub/x.N 1\n")
	left := h.dir + "/a/sub/_x.1700000000001"
	if err := os.WriteFile(left, []byte("0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.again("/a", props...)
	h.settle(func() bool { _, err := os.Stat(left); return err != nil })
	h.want("/a/sub/x.N 0\n", "/a/sub/x.N 1\n")
}

// An event that can never be written says nothing of the others, which wait for the cluster.
func TestBadEventAndTrouble(t *testing.T) {
	h := start(t, "/%Y", plain...)
	h.fail = func(string, string) error { return errors.New("down") }
	err := h.Write(t.Context(), componenttest.Events("a", "b@0", "c@0"))
	var partial *component.PartialError
	if !errors.As(err, &partial) || len(partial.Failed) != 3 {
		t.Fatalf("%v", err)
	}
	for i, err := range partial.Failed {
		if component.IsPermanent(err) != (i == 0) {
			t.Errorf("event %d: %v", i, err)
		}
	}
}

// After an error the file is closed with what was flushed, and the batch goes into another.
func TestErrors(t *testing.T) {
	broken := errors.New("broken")
	for _, op := range []string{"write", "flush"} {
		t.Run(op, func(t *testing.T) {
			h := start(t, "/", plain...)
			h.write("1")
			h.fail = func(o, _ string) error {
				if o == op {
					return broken
				}
				return nil
			}
			if err := h.Write(t.Context(), componenttest.Events("2")); !errors.Is(err, broken) {
				t.Fatal(err)
			}
			h.fail = nil
			h.write("2")
			h.stop()
			first := "1\n2" // half of the write
			if op == "flush" {
				first = "1\n2\n"
			}
			h.want("/FlumeData.N "+first, "/FlumeData.N 2\n")
		})
	}
	t.Run("idle", func(t *testing.T) {
		h := start(t, "/", plain...)
		h.write("1")
		h.fail = func(op, _ string) error {
			if op == "err" {
				return broken
			}
			return nil
		}
		for range 2 { // gives it up, then closes it
			if err := h.Idle(t.Context()); err != nil {
				t.Error(err)
			}
		}
		h.fail = nil
		h.want("/FlumeData.N 1\n")
		h.write("2")
		h.want("/FlumeData.N 1\n", "/FlumeData.N.tmp 2\n")
	})
	t.Run("create", func(t *testing.T) {
		h := start(t, "/%{timestamp}", plain...)
		h.fail = func(op, name string) error {
			if op == "create" && strings.Contains(name, "/2/") {
				return fs.ErrPermission
			}
			return nil
		}
		err := h.Write(t.Context(), componenttest.Events("a@1", "b@2", "c@1"))
		var partial *component.PartialError
		if !errors.As(err, &partial) || len(partial.Failed) != 1 || !errors.Is(partial.Failed[1], fs.ErrPermission) {
			t.Fatal(err)
		}
		h.want("/1/FlumeData.N.tmp a\nc\n")
		// It is left alone for a moment where others could be written.
		h.fail = nil
		if err := h.Write(t.Context(), componenttest.Events("b@2", "d@1")); !errors.As(err, &partial) || len(partial.Failed) != 1 {
			t.Fatal(err)
		}
		h.clock.advance(2 * time.Second)
		h.write("b@2", "e@1")
		h.want("/1/FlumeData.N.tmp a\nc\nd\ne\n", "/2/FlumeData.N.tmp b\n")
	})
}

// Where every try fails there is not one more empty file each time.
func TestNoEmptyFiles(t *testing.T) {
	h := start(t, "/", plain...)
	for _, op := range []string{"flush", "write"} {
		h.fail = func(o, _ string) error {
			if o == op {
				return dfs.ErrQuota
			}
			return nil
		}
		for range 3 {
			if err := h.Write(t.Context(), componenttest.Events("1")); !errors.Is(err, dfs.ErrQuota) {
				t.Fatal(err)
			}
		}
	}
	h.fail = nil
	h.write("1")
	h.want("/FlumeData.N.tmp 1\n")
}

// What is refused for too long can be set aside, while others are written and until it is not refused any more.
func TestRefused(t *testing.T) {
	for _, refusal := range []error{fs.ErrPermission, dfs.ErrQuota, errors.New("broken")} {
		t.Run(refusal.Error(), func(t *testing.T) {
			h := start(t, "/%{timestamp}", append(plain, "hdfs.refusedTimeout=60")...)
			tries := 0
			h.fail = func(op, name string) error {
				if op == "create" && strings.Contains(name, "/2/") {
					tries++
					return refusal
				}
				return nil
			}
			permanent := func(bodies ...string) bool {
				t.Helper()
				err := h.Write(t.Context(), componenttest.Events(bodies...))
				if !errors.Is(err, refusal) {
					t.Fatal(err)
				}
				return component.IsPermanent(err)
			}
			passes := refusal.Error() == "broken" // may be the name node's trouble
			if permanent("a@1", "b@2") || permanent("b@2") {
				t.Error("permanent at once")
			}
			h.clock.advance(time.Minute)
			if permanent("b@2", "c@1") == passes || permanent("b@2") == passes {
				t.Error("after a minute")
			}
			if want := 3; !passes && tries != want {
				t.Errorf("%d tries, want %d", tries, want)
			}
			h.clock.advance(2 * time.Second)
			h.fail = nil
			h.write("b@2")
			h.want("/1/FlumeData.N.tmp a\nc\n", "/2/FlumeData.N.tmp b\n")
		})
	}
}

// A file that cannot be closed or renamed is tried again, and given up after the tries that are allowed.
func TestCloseTries(t *testing.T) {
	for _, op := range []string{"close", "rename"} {
		t.Run(op, func(t *testing.T) {
			h := start(t, "/", append(plain, "hdfs.rollCount=1", "hdfs.retryInterval=10", "hdfs.closeTries=3")...)
			fails := 0
			h.fail = func(o, _ string) error {
				if o == op || op == "close" && o == "recover" {
					fails++
					return errors.New("broken")
				}
				return nil
			}
			h.write("1", "2")
			for range 5 {
				_ = h.Idle(t.Context())
				_ = h.Idle(t.Context())
				h.clock.advance(10 * time.Second)
			}
			if fails != 3 {
				t.Errorf("%d tries", fails)
			}
			h.fail = nil
			h.write("3")
			h.want("/FlumeData.N.tmp 1\n", "/FlumeData.N 2\n", "/FlumeData.N.tmp 3\n")
		})
	}
	t.Run("then it works", func(t *testing.T) {
		h := start(t, "/", append(plain, "hdfs.rollCount=1", "hdfs.retryInterval=10")...)
		h.fail = func(o, _ string) error {
			if o == "close" {
				return errors.New("broken")
			}
			return nil
		}
		h.write("1", "2")
		h.fail = nil
		h.clock.advance(10 * time.Second)
		_ = h.Idle(t.Context())
		h.want("/FlumeData.N 1\n", "/FlumeData.N.tmp 2\n")
	})
}

// What a killed process left behind is closed, but not what another one writes to.
func TestLeftovers(t *testing.T) {
	h := start(t, "/%Y/%m", append(plain, "hdfs.fileSuffix=.log")...)
	h.stop()
	for name, text := range map[string]string{"/1970/01/FlumeData.1700000000001.log.tmp": "a\n", "/1970/02/FlumeData.1700000000002.log.tmp": "b\n",
		"/1970/01/FlumeData.1700000000001.log": "there\n", "/1970/01/Other.1700000000001.log.tmp": "c\n", "/x.tmp": "d\n"} {
		if err := os.MkdirAll(filepath.Dir(h.dir+name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(h.dir+name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	busy, err := dfs.Local{}.Create(h.dir + "/1970/02/FlumeData.1700000000003.log.tmp")
	if err != nil {
		t.Fatal(err)
	}
	h.again("/%Y/%m", append(plain, "hdfs.fileSuffix=.log")...)
	list := func() string {
		var names []string
		for n := range h.files() {
			names = append(names, n)
		}
		slices.Sort(names)
		return strings.Join(names, "\n")
	}
	want := "/1970/01/FlumeData.1700000000001-1.log\n/1970/01/FlumeData.1700000000001.log\n/1970/01/Other.1700000000001.log.tmp\n/1970/02/FlumeData.1700000000002.log\n"
	settled := want + "/1970/02/FlumeData.1700000000003.log.tmp\n/x.tmp"
	h.settle(func() bool { return list() == settled })
	if got := list(); got != settled {
		t.Errorf("%s", got)
	}
	if err := busy.Close(); err != nil {
		t.Fatal(err)
	}
	h.clock.advance(time.Minute)
	_ = h.Idle(t.Context())
	if got := list(); got != want+"/1970/02/FlumeData.1700000000003.log\n/x.tmp" {
		t.Errorf("%s", got)
	}
}

func TestCompressedStream(t *testing.T) {
	h := start(t, "/", "hdfs.fileType=CompressedStream", "hdfs.codeC=GZIP", "hdfs.rollInterval=0", "hdfs.rollSize=0", "hdfs.rollCount=0")
	h.write("1", "2")
	h.write("3")
	for name, text := range h.files() { // also before it is closed
		if !strings.HasSuffix(name, ".gz.tmp") {
			t.Error(name)
		}
		z, err := gzip.NewReader(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(z); err != nil || string(b) != "1\n2\n3\n" {
			t.Errorf("%q, %v", b, err)
		}
	}
}

func TestSequenceFile(t *testing.T) {
	h := start(t, "/", "hdfs.rollInterval=0", "hdfs.rollSize=0", "hdfs.rollCount=0")
	h.write("ab@258", "c")
	for _, text := range h.files() {
		head := "SEQ\x06\x21org.apache.hadoop.io.LongWritable\x22org.apache.hadoop.io.BytesWritable\x00\x00\x00\x00\x00\x00"
		if !strings.HasPrefix(text, head) {
			t.Fatalf("%q", text)
		}
		now := fmt.Appendf(nil, "%016x", h.clock.at.Load())
		rest := []byte(text[len(head)+16:])
		want := []byte("\x00\x00\x00\x0e\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x01\x02\x00\x00\x00\x02ab\x00\x00\x00\x0d\x00\x00\x00\x08")
		if !bytes.HasPrefix(rest, want) || fmt.Sprintf("%x", rest[len(want):len(want)+8]) != string(now) || !bytes.HasSuffix(rest, []byte("\x00\x00\x00\x01c")) {
			t.Errorf("%q", rest)
		}
	}
}

// The extension of the codec is in the names of SequenceFiles as well.
func TestSuffix(t *testing.T) {
	for want, props := range map[string][]string{
		"":         nil,
		".deflate": {"hdfs.codeC=default"},
		".gz":      {"hdfs.codeC=gzip", "hdfs.fileType=CompressedStream"},
		".x":       {"hdfs.codeC=gzip", "hdfs.fileSuffix=.x"},
	} {
		if h := start(t, "/", props...); h.suffix != want {
			t.Errorf("%q: %q, want %q", props, h.suffix, want)
		}
	}
}

func TestSettings(t *testing.T) {
	for _, tt := range []struct{ props, want string }{
		{"hdfs.path=s3a://bucket/x hdfs.fs.s3a.access.key=a", "must be set together"},
		{"hdfs.path=s3a://bucket/x hdfs.fs.s3a.multipart.size=4M", "between 5M and 5G"},
		{"hdfs.path=gopher://x/y", "not supported"},
		{"hdfs.path=hdfs:x/y", "no absolute path"},
		{"hdfs.path=hdfs://%{host}/y", "escapes can be in the path only"},
		{"hdfs.path=/x hdfs.fileType=DataStream hdfs.codeC=gzip", "not compressed"},
		{"hdfs.path=/x hdfs.fileType=CompressedStream", "must be set"},
		{"hdfs.path=/x hdfs.codeC=lzop", "LZO"},
		{"hdfs.path=/x hdfs.codeC=zip", "no codec"},
		{"hdfs.path=/x hdfs.round=true hdfs.roundValue=70", "between 1 and 60"},
		{"hdfs.path=/x hdfs.timeZone=Mars/Phobos", "unknown time zone"},
		{"hdfs.path=/x hdfs.proxyUser=a hdfs.kerberosPrincipal=b", "Kerberos"},
	} {
		cfg, found := componenttest.Decode(t, component.KindSink, "hdfs", strings.Fields(tt.props)...)
		text := fmt.Sprint(found)
		if _, err := cfg.(component.SinkConfig).NewSink(componenttest.QuietEnv()); err != nil {
			text += err.Error()
		}
		if !strings.Contains(text, tt.want) {
			t.Errorf("%s: %s", tt.props, text)
		}
	}
}

func TestAllocations(t *testing.T) {
	h := start(t, "/%Y/%m/%d", plain...)
	var bodies []string
	for range 1000 {
		bodies = append(bodies, "0123456789012345678901234567890123456789@0")
	}
	batch := componenttest.Events(bodies...)
	componenttest.NoMoreAllocs(t, 30, func() {
		if err := h.Write(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	})
}
