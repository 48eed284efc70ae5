package taildir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
)

// site is a directory that is followed, and where positions are kept.
type site struct {
	t             *testing.T
	dir, position string
	out           *componenttest.Output
	health        *componenttest.Health
	run           *componenttest.Running
}

func newSite(t *testing.T) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{t: t, dir: filepath.Join(dir, "logs"), position: filepath.Join(dir, "pos", "taildir.json"), out: componenttest.NewOutput()}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(name, text string) {
	s.t.Helper()
	f, err := os.OpenFile(s.path(name), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) rename(from, to string) {
	s.t.Helper()
	if err := os.Rename(s.path(from), s.path(to)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) remove(name string) {
	s.t.Helper()
	if err := os.Remove(s.path(name)); err != nil {
		s.t.Fatal(err)
	}
}

// start follows app.* unless props say otherwise.
func (s *site) start(props ...string) {
	s.t.Helper()
	env, h := componenttest.Env(s.t)
	s.health = h
	all := append([]string{"filegroups=g", "filegroups.g=" + s.dir + `/app\..*`, "positionFile=" + s.position,
		"backoffSleepIncrement=5", "maxBackoffSleep=20"}, props...)
	seen := map[string]int{}
	var last []string // of each key
	for i, p := range all {
		k, _, _ := strings.Cut(p, "=")
		seen[k] = i
	}
	for i, p := range all {
		k, _, _ := strings.Cut(p, "=")
		if seen[k] == i {
			last = append(last, p)
		}
	}
	s.run = componenttest.Run(s.t, componenttest.Source(s.t, env, "taildir", last...), s.out)
}

func (s *site) stop() {
	s.t.Helper()
	s.run.Stop()
	if n := s.out.Pool().Outstanding(); n != 0 {
		s.t.Errorf("%d blocks leaked", n)
	}
}

// want waits for exactly these events, from the first on.
func (s *site) want(lines ...string) {
	s.t.Helper()
	s.out.Wait(s.t, len(lines))
	time.Sleep(50 * time.Millisecond) // for what must not come
	if got := s.out.Bodies(); !slices.Equal(got, lines) {
		s.t.Fatalf("events %q, want %q", got, lines)
	}
}

// Flume's view of the position file.
func (s *site) positions() map[string]int64 {
	s.t.Helper()
	b, err := os.ReadFile(s.position)
	if err != nil {
		s.t.Fatal(err)
	}
	var all []struct {
		Inode, Pos int64
		File       string
	}
	if err := json.Unmarshal(b, &all); err != nil {
		s.t.Fatalf("%v in %s", err, b)
	}
	m := map[string]int64{}
	for _, e := range all {
		if e.Inode != 0 {
			m[filepath.Base(e.File)] = e.Pos
		}
	}
	return m
}

func TestLines(t *testing.T) {
	s := newSite(t)
	s.write("app.log", "a\r\n\nb\rc\r\r\nlast")
	s.write("other.log", "no\n")
	s.start()
	s.want("a", "", "b\rc\r")
	s.write("app.log", " line\nx\n")
	s.want("a", "", "b\rc\r", "last line", "x")
	s.stop()
	if got := s.positions(); len(got) != 1 || got["app.log"] != 22 {
		t.Errorf("positions %v", got)
	}
	s.write("app.log", "y\n")
	s.start()
	s.want("a", "", "b\rc\r", "last line", "x", "y")
	s.stop()
}

func TestHeaders(t *testing.T) {
	s := newSite(t)
	s.write("app.1", "one\ntwo\n")
	s.start("headers.g.kind=app", "headers.g.a.b=c", "fileHeader=true", "fileHeaderKey=path", "byteOffsetHeader=true", "headers.h.x=y")
	s.want("one", "two")
	s.stop()
	want := []event.KV{{Key: "byteoffset", Value: []byte("4")}, {Key: "a.b", Value: []byte("c")}, {Key: "kind", Value: []byte("app")}, {Key: "path", Value: []byte(s.path("app.1"))}}
	if got := s.out.Events()[1].Headers; fmt.Sprintf("%s", got) != fmt.Sprintf("%s", want) {
		t.Errorf("headers %s, want %s", got, want)
	}
}

// Files are read in the order of their last change, each group's by itself.
func TestOrderAndBatches(t *testing.T) {
	s := newSite(t)
	for i, name := range []string{"app.3", "app.1", "app.2"} {
		s.write(name, name+" x\n"+name+" y\n"+name+" z\n")
		old := time.Now().Add(time.Duration(i-10) * time.Minute)
		if err := os.Chtimes(s.path(name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	s.start("batchSize=2", "maxBatchCount=1")
	s.want("app.3 x", "app.3 y", "app.1 x", "app.1 y", "app.2 x", "app.2 y", "app.3 z", "app.1 z", "app.2 z")
	s.stop()
	for _, b := range s.out.Batches() {
		if len(b) > 2 {
			t.Errorf("a batch of %d", len(b))
		}
	}
}

func TestRename(t *testing.T) {
	for _, to := range []string{"app.log.1", "old.log"} { // matches, does not match
		t.Run(to, func(t *testing.T) {
			s := newSite(t)
			s.write("app.log", "1\n2\n")
			s.start()
			s.want("1", "2")
			s.rename("app.log", to)
			s.write(to, "3\n") // the writer has it open still
			s.write("app.log", "4\n")
			s.out.Wait(t, 4)
			s.write(to, "5\n")
			s.out.Wait(t, 5)
			s.stop()
			got := s.out.Bodies()
			slices.Sort(got)
			if !slices.Equal(got, []string{"1", "2", "3", "4", "5"}) {
				t.Errorf("events %q", got)
			}

			// Again while nobody follows.
			s.write("app.log", "6\n")
			s.rename("app.log", to+".2")
			s.write("app.log", "7\n")
			s.start()
			s.out.Wait(t, 7)
			time.Sleep(50 * time.Millisecond)
			s.stop()
			if got := s.out.Bodies()[5:]; !slices.Contains(got, "6") || !slices.Contains(got, "7") || len(got) != 2 {
				t.Errorf("events after the restart %q", got)
			}
		})
	}
}

// A file that was read to its end, and then renamed while nobody followed it,
// may still be written to.
func TestLateWriter(t *testing.T) {
	s := newSite(t)
	s.write("app.log", "1\n")
	s.start()
	s.want("1")
	s.stop()
	s.rename("app.log", "old.log")
	s.start()
	s.out.WaitFor(t, "the old file is open", func() bool { return opened(t, s.path("old.log")) })
	s.write("old.log", "2\n")
	s.want("1", "2")
	s.stop()
}

func TestRereadRenamed(t *testing.T) {
	s := newSite(t)
	s.write("app.log", "1\n2\n")
	s.start("rereadRenamed=true")
	s.want("1", "2")
	s.rename("app.log", "app.log.1")
	s.want("1", "2", "1", "2")
	s.stop()
	s.rename("app.log.1", "app.log.2")
	s.start("rereadRenamed=true")
	s.want("1", "2", "1", "2", "1", "2")
	s.stop()
}

func TestReplacedContents(t *testing.T) {
	replace := func(s *site, text string) { // as a shell's > does
		if err := os.WriteFile(s.path("app.log"), []byte(text), 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
	const first = "heading\n1\n2\n"
	for name, text := range map[string]string{
		"shorter":          "x\n",
		"as long":          "heading\n3\n4\n",
		"longer":           "HEADING\n5\n6\n7\n",
		"same head longer": "heading\n5\n6\n7\n",
	} {
		for _, running := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, running %v", name, running), func(t *testing.T) {
				s := newSite(t)
				s.write("app.log", first)
				s.start()
				s.want("heading", "1", "2")
				if !running {
					s.stop()
				}
				replace(s, text)
				if !running {
					s.start()
				}
				s.want(append([]string{"heading", "1", "2"}, strings.Split(strings.TrimSuffix(text, "\n"), "\n")...)...)
				s.stop()
			})
		}
	}
}

// What the position file says of a file that is another one now does not stay
// there: Flume would go by it.
func TestOneEntryForAnInode(t *testing.T) {
	s := newSite(t)
	s.write("app.log", "1\n2\n")
	s.start()
	s.want("1", "2")
	s.stop()
	if err := os.WriteFile(s.path("app.log"), []byte("3\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.want("1", "2", "3")
	s.stop()
	b, err := os.ReadFile(s.position)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), s.path("app.log")); n != 1 {
		t.Errorf("the file is named %d times in %s", n, b)
	}
}

// Files that the agent file no longer names are left alone.
func TestChangedGroups(t *testing.T) {
	s := newSite(t)
	s.write("app.log", "1\n")
	s.write("web.log", "2\n")
	s.start("filegroups.g=" + s.dir + "/.*")
	s.out.Wait(t, 2)
	s.stop()
	s.write("app.log", "3\n")
	s.write("web.log", "4\n")
	s.start()
	s.out.Wait(t, 3)
	time.Sleep(50 * time.Millisecond)
	s.stop()
	s.start("filegroups.g=" + t.TempDir() + "/.*")
	time.Sleep(100 * time.Millisecond)
	s.stop()
	if got := s.out.Bodies()[2:]; !slices.Equal(got, []string{"3"}) {
		t.Errorf("events %q", got)
	}
	s.start("filegroups.g=" + s.dir + "/.*") // their positions are still known
	s.out.Wait(t, 4)
	time.Sleep(50 * time.Millisecond)
	s.stop()
	if got := s.out.Bodies()[2:]; !slices.Equal(got, []string{"3", "4"}) {
		t.Errorf("events %q", got)
	}
}

// A long file is told by its first kilobyte and by what stands before the
// position.
func TestReplacedLongContents(t *testing.T) {
	head := strings.Repeat("the same heading\n", 100)
	s := newSite(t)
	s.write("app.log", head+strings.Repeat("old\n", 100))
	s.start()
	s.out.Wait(t, 200)
	if err := os.WriteFile(s.path("app.log"), []byte(head+strings.Repeat("new\n", 150)), 0o644); err != nil {
		t.Fatal(err)
	}
	s.out.Wait(t, 450)
	s.stop()
	if n := strings.Count(strings.Join(s.out.Bodies(), " "), "new"); n != 150 {
		t.Errorf("%d new lines, want 150", n)
	}
}

func TestDeleted(t *testing.T) {
	s := newSite(t)
	s.write("app.log", "1\n")
	s.start("idleTimeout=100")
	s.want("1")
	s.out.Pause()
	s.write("app.log", "2\n3\n4") // without its end
	s.remove("app.log")
	s.out.Resume()
	s.want("1", "2", "3", "4")
	s.write("app.log", "5\n") // perhaps with the inode of the one before
	s.want("1", "2", "3", "4", "5")
	s.stop()
}

// A file with the inode of one that was deleted is another one, also when its
// contents are the same.
func TestInodeUsedAgain(t *testing.T) {
	s := newSite(t)
	s.write("app.log", "1\n2\n")
	s.start()
	s.want("1", "2")
	s.stop()
	s.remove("app.log")
	s.write("app.log", "1\n2\n")
	s.start()
	s.want("1", "2", "1", "2")
	s.stop()
}

func TestIdle(t *testing.T) {
	s := newSite(t)
	s.write("app.log", "whole\npart")
	s.start("idleTimeout=200")
	s.want("whole", "part")
	s.out.WaitFor(t, "the file is closed", func() bool { return !opened(t, s.path("app.log")) })
	s.write("app.log", " two\nx\n")
	s.want("whole", "part", " two", "x")
	s.stop()
}

// opened says whether this process has a file open.
func opened(t *testing.T, path string) bool {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("NOT CHECKED: %s needs /proc: %v", t.Name(), err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && to == path {
			return true
		}
	}
	return false
}

func TestSkipToEnd(t *testing.T) {
	s := newSite(t)
	s.write("app.log", "old\n")
	s.start("skipToEnd=true")
	s.out.WaitFor(t, "the file is followed", func() bool { return opened(t, s.path("app.log")) })
	s.write("app.log", "1\n")
	s.write("app.new", "2\n") // not there at the start
	s.out.Wait(t, 2)
	s.stop()
	s.rename("app.log", "app.log.1")
	s.write("app.log.1", "3\n")
	s.write("app.log", "4\n") // takes the place of one that is known
	s.write("app.more", "old\n")
	s.start("skipToEnd=true")
	s.out.Wait(t, 4)
	time.Sleep(50 * time.Millisecond)
	s.stop()
	got := s.out.Bodies()
	slices.Sort(got)
	if !slices.Equal(got, []string{"1", "2", "3", "4"}) {
		t.Errorf("events %q", got)
	}
}

func TestEmitFails(t *testing.T) {
	s := newSite(t)
	var want []string
	for i := range 100 {
		want = append(want, fmt.Sprint(i))
	}
	s.write("app.log", strings.Join(want, "\n")+"\n")
	s.out.FailWith(func(n int, _ *event.Batch) error {
		if n == 3 {
			return errors.New("no")
		}
		return nil
	})
	env, _ := componenttest.Env(t)
	src := componenttest.Source(t, env, "taildir", "filegroups=g", "filegroups.g="+s.dir+"/.*", "positionFile="+s.position, "batchSize=10")
	run := componenttest.Run(t, src, s.out)
	if err := run.Err(); err == nil || !strings.Contains(err.Error(), "put events of "+s.path("app.log")) {
		t.Fatalf("Run ended with %v", err)
	}
	if got := s.positions()["app.log"]; got != 80 {
		t.Errorf("position %d, want that after three batches", got)
	}
	s.start()
	s.want(want...)
	s.stop()
}

func TestBrokenPositionFile(t *testing.T) {
	s := newSite(t)
	s.write("app.a", "1\n2\n")
	s.write("app.b", "3\n")
	s.start()
	s.out.Wait(t, 3)
	s.stop()
	b, err := os.ReadFile(s.position)
	if err != nil {
		t.Fatal(err)
	}
	// Torn in the object of the second file, as by a Flume that was killed.
	if err := os.WriteFile(s.position, b[:strings.LastIndex(string(b), `"pos"`)-40], 0o644); err != nil {
		t.Fatal(err)
	}
	s.write("app.a", "4\n")
	s.start("skipToEnd=true")
	s.out.Wait(t, 5)
	s.out.WaitFor(t, "health", func() bool { return s.health.Last() != nil })
	if err := s.health.Last(); !strings.Contains(err.Error(), s.position+".BAD") {
		t.Errorf("health %v", err)
	}
	got := s.out.Bodies()[3:]
	slices.Sort(got)
	if !slices.Equal(got, []string{"3", "4"}) {
		t.Errorf("events after the damage %q, want all of the file without a position, and what is new in the other", got)
	}
	if err := os.Remove(s.position + ".BAD"); err != nil {
		t.Fatal(err)
	}
	s.out.WaitFor(t, "health is well again", func() bool { return s.health.Last() == nil })
	s.stop()
}

func TestSharedPositionFile(t *testing.T) {
	s := newSite(t)
	s.start()
	env, _ := componenttest.Env(t)
	other := componenttest.Source(t, env, "taildir", "filegroups=g", "filegroups.g="+s.dir+"/.*", "positionFile="+s.position)
	if err := other.Start(context.Background()); err == nil || !strings.Contains(err.Error(), "positionFile of its own") {
		t.Errorf("start: %v", err)
	}
	s.stop()
	if err := other.Start(context.Background()); err != nil {
		t.Errorf("start after the other's end: %v", err)
	}
	if err := other.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestMultiline(t *testing.T) {
	s := newSite(t)
	s.write("app.log", "before\n2026 one\r\n  at a\r\n  at b\n2026 two\n2026 three\n  at c\npart")
	s.start(`multilineStartPattern=^\d{4} `, "multilineTimeout=100", "idleTimeout=60000", "byteOffsetHeader=true")
	s.want("before", "2026 one\r\n  at a\r\n  at b", "2026 two", "2026 three\n  at c")
	s.write("app.log", "ly\n2026 four\n")
	s.want("before", "2026 one\r\n  at a\r\n  at b", "2026 two", "2026 three\n  at c", "partly", "2026 four")
	s.stop()
	if at, _ := s.out.Events()[2].Header("byteoffset"); string(at) != "32" {
		t.Errorf("offset of the third event: %s", at)
	}
}

func TestBelow(t *testing.T) {
	s := newSite(t)
	if err := os.MkdirAll(s.path("a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	outside := t.TempDir()
	if err := os.Symlink(outside, s.path("link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(outside+"/app.x", []byte("no\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.write("app.1", "1\n")
	s.write("a/b/app.2", "2\n")
	s.start("filegroups.g=" + s.dir + `/**/app\..*`)
	s.out.Wait(t, 2)
	if err := os.MkdirAll(s.path("new/dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.write("new/dir/app.3", "3\n")
	s.out.Wait(t, 3)
	s.stop()
	got := s.out.Bodies()
	slices.Sort(got)
	if !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("events %q", got)
	}
}

func TestLinks(t *testing.T) {
	s := newSite(t)
	if err := os.WriteFile(s.path("target"), []byte("1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"target": "app.link", "nothing": "app.dangling", ".": "app.dir"} {
		if err := os.Symlink(s.path(from), s.path(to)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(s.path("target"), s.path("app.hard")); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.want("1")
	s.write("target", "2\n")
	s.want("1", "2")
	s.stop()
}

// Many files, few descriptors.
func TestManyFiles(t *testing.T) {
	s := newSite(t)
	const files = 2000
	for i := range files {
		s.write(fmt.Sprintf("app.%d", i), fmt.Sprintf("first %d\n", i))
	}
	s.start("maxOpenFiles=20")
	s.out.Wait(t, files)
	fds, err := os.ReadDir("/proc/self/fd")
	if err == nil && len(fds) > 100 {
		t.Errorf("%d descriptors are open", len(fds))
	}
	for i := 0; i < files; i += 100 {
		s.write(fmt.Sprintf("app.%d", i), fmt.Sprintf("second %d\n", i))
	}
	s.out.Wait(t, files+files/100)
	s.stop()
	if got := len(s.positions()); got != files {
		t.Errorf("positions of %d files", got)
	}
	seen := map[string]bool{}
	for _, b := range s.out.Bodies() {
		if seen[b] {
			t.Errorf("%q twice", b)
		}
		seen[b] = true
	}
}

func TestMissingDirectory(t *testing.T) {
	s := newSite(t)
	s.write("app.log", "1\n")
	s.start("filegroups=g late", "filegroups.late="+s.dir+"/late/.*")
	s.want("1")
	if err := s.health.Last(); err == nil || !strings.Contains(err.Error(), s.dir+"/late") {
		t.Errorf("health %v", err)
	}
	if err := os.Mkdir(s.path("late"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.write("late/x", "2\n")
	s.want("1", "2")
	s.out.WaitFor(t, "health is well again", func() bool { return s.health.Last() == nil })
	s.stop()
}

func TestConfig(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	for _, tt := range []struct {
		props []string
		want  string
	}{
		{[]string{"filegroups=g"}, "filegroups: no group in it has a path"},
		{[]string{"filegroups=g", "filegroups.g=/var/log/*"}, "filegroups.g: the last part of /var/log/*"},
		{[]string{"filegroups=g", "filegroups.g=/var/**/log/x"}, "** stands before the last slash only"},
		{[]string{"filegroups=g", "filegroups.g=/var/log/.*", "headers.g=x"}, "headers.g: it names no header"},
		{[]string{"filegroups=g h", "filegroups.g=/var/log/.*"}, ""},
		{[]string{"filegroups=g", "filegroups.g=/.*"}, ""},
	} {
		cfg, _ := componenttest.Config(t, component.KindSource, "taildir", tt.props...)
		env, _ := componenttest.Env(t)
		_, err := cfg.(component.SourceConfig).NewSource(env)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%q: %v, want %q", tt.props, err, tt.want)
		}
	}
	_, fs := componenttest.Decode(t, component.KindSource, "taildir", "filegroups=g", "filegroups.g=/x/.*", "maxBatchCount=0")
	if len(fs) != 1 || fs[0].Error {
		t.Errorf("findings %+v", fs)
	}
}

// A directory that cannot be listed for a while must not cost its positions.
func TestDirectoryComesBack(t *testing.T) {
	s := newSite(t)
	s.write("app.log", "1\n")
	s.start("idleTimeout=50")
	s.want("1")
	if err := os.Rename(s.dir, s.dir+".away"); err != nil {
		t.Fatal(err)
	}
	s.out.WaitFor(t, "health", func() bool { return s.health.Last() != nil })
	time.Sleep(100 * time.Millisecond)
	if err := os.Rename(s.dir+".away", s.dir); err != nil {
		t.Fatal(err)
	}
	s.write("app.log", "2\n")
	s.want("1", "2")
	s.stop()
	if _, err := os.Stat(s.position + ".tmp"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the temporary file is left: %v", err)
	}
}
