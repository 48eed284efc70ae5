package spooldir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sort"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/serde"
)

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
}

func age(t testing.TB, path string, d time.Duration) {
	t.Helper()
	at := time.Now().Add(-d)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(p)
}

// tree lists the files below dir.
func tree(t testing.TB, dir string) []string {
	t.Helper()
	fs_ := []string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != lockName {
			fs_ = append(fs_, path[len(dir)+1:])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(fs_)
	return fs_
}

func stop(t testing.TB, src component.Source) {
	t.Helper()
	if err := src.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// drain runs a source until it has nothing left to read and stops it.
func drain(t testing.TB, dir string, props ...string) (*componenttest.Output, *componenttest.Health) {
	t.Helper()
	out := componenttest.NewOutput()
	env, h := componenttest.Env(t)
	src := componenttest.Source(t, env, "spooldir", append([]string{"spoolDir=" + dir, "pollDelay=1"}, props...)...)
	r := componenttest.Run(t, src, out)
	waitIdle(t, out, dir, src)
	r.Stop()
	if n := out.Pool().Outstanding(); n != 0 {
		t.Errorf("%d blocks leaked", n)
	}
	return out, h
}

// waitIdle waits until the source found nothing left to read, twice.
func waitIdle(t testing.TB, out *componenttest.Output, dir string, src component.Source) {
	t.Helper()
	s := src.(*source)
	polls := func() bool { return s.polls.Load() >= 2 }
	out.WaitFor(t, "an empty directory", polls)
}

func TestPolicies(t *testing.T) {
	tests := []struct {
		name  string
		props []string
		want  []string // files afterwards
	}{
		{"rename", nil, []string{"a.log.COMPLETED", "b.log.COMPLETED"}},
		{"suffix", []string{"fileSuffix=.done"}, []string{"a.log.done", "b.log.done"}},
		{"delete", []string{"deletePolicy=IMMEDIATE"}, []string{}},
		{"tracker", []string{"trackingPolicy=TRACKER_DIR"}, []string{".flumespool/a.log.COMPLETED", ".flumespool/b.log.COMPLETED", "a.log", "b.log"}},
		{"tracker elsewhere", []string{"trackingPolicy=tracker_dir", "trackerDir=t"}, []string{"a.log", "b.log", "t/a.log.COMPLETED", "t/b.log.COMPLETED"}},
		{"delete with tracker", []string{"trackingPolicy=tracker_dir", "deletePolicy=immediate"}, []string{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir+"/a.log", "a1\na2\n")
			write(t, dir+"/b.log", "b1\nb2")
			age(t, dir+"/a.log", time.Hour)
			out, h := drain(t, dir, tt.props...)
			if got, want := out.Bodies(), []string{"a1", "a2", "b1", "b2"}; !reflect.DeepEqual(got, want) {
				t.Errorf("events %q, want %q", got, want)
			}
			if got := tree(t, dir); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("files %q, want %q", got, tt.want)
			}
			if h.Last() != nil {
				t.Errorf("health: %v", h.Last())
			}
			again, _ := drain(t, dir, tt.props...)
			if got := again.Bodies(); len(got) != 0 {
				t.Errorf("second run: %q", got)
			}
		})
	}
}

func TestCandidates(t *testing.T) {
	tests := []struct {
		name  string
		props []string
		want  []string
	}{
		{"all", nil, []string{"a.log", "b.txt", "c.tmp"}},
		{"include", []string{`includePattern=.*\.log`}, []string{"a.log"}},
		{"include is a full match", []string{`includePattern=a`}, []string{}},
		{"ignore wins", []string{`includePattern=.*\.(log|txt)`, `ignorePattern=^a.*$`}, []string{"b.txt"}},
		{"recursive", []string{"recursiveDirectorySearch=true"}, []string{"a.log", "b.txt", "c.tmp", "d.log", "e.log"}},
		{"ignored directory", []string{"recursiveDirectorySearch=true", "ignorePattern=deep|c.tmp"}, []string{"a.log", "b.txt", "d.log"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range []string{"a.log", "b.txt", "c.tmp", ".hidden", "x.COMPLETED", "x.log.BAD", "x.log.BAD.reason", "sub/d.log", "sub/deep/e.log", ".hid/f.log"} {
				write(t, dir+"/"+f, filepath.Base(f)+"\n")
			}
			if err := os.Symlink(dir+"/sub", dir+"/link.log"); err != nil {
				t.Fatal(err)
			}
			out, _ := drain(t, dir, tt.props...)
			got := out.Bodies()
			sort.Strings(got)
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("read %q, want %q", got, tt.want)
			}
		})
	}
}

func TestOrder(t *testing.T) {
	for _, tt := range []struct {
		order string
		want  []string
	}{
		{"oldest", []string{"c", "a", "b", "d"}},
		{"youngest", []string{"d", "a", "b", "c"}},
	} {
		dir := t.TempDir()
		at := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
		for i, n := range []string{"c", "b", "a", "d"} {
			write(t, dir+"/"+n, n+"\n")
			m := at.Add(time.Duration(i) * time.Minute)
			if n == "a" || n == "b" { // the same millisecond, and a name decides
				m = at.Add(90*time.Second + time.Duration(i)*time.Microsecond)
			}
			if err := os.Chtimes(dir+"/"+n, m, m); err != nil {
				t.Fatal(err)
			}
		}
		out, _ := drain(t, dir, "consumeOrder="+tt.order)
		if got := out.Bodies(); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.order, got, tt.want)
		}
	}
	dir := t.TempDir()
	for i := range 20 {
		write(t, fmt.Sprintf("%s/f%d", dir, i), "x\n")
	}
	if out, _ := drain(t, dir, "consumeOrder=random"); len(out.Bodies()) != 20 {
		t.Errorf("random: %d files", len(out.Bodies()))
	}
}

func TestManyFiles(t *testing.T) {
	dir := t.TempDir()
	var want []string
	for i := range longList + 300 {
		name := fmt.Sprintf("f%05d", i)
		write(t, dir+"/"+name, name+"\n")
		if err := os.Chtimes(dir+"/"+name, time.Unix(1e9, 0), time.Unix(1e9, 0)); err != nil {
			t.Fatal(err)
		}
		want = append(want, name)
	}
	out := componenttest.NewOutput()
	env, _ := componenttest.Env(t)
	r := componenttest.Run(t, componenttest.Source(t, env, "spooldir", "spoolDir="+dir, "pollDelay=100000000"), out)
	out.Wait(t, len(want))
	r.Stop()
	if got := out.Bodies(); !reflect.DeepEqual(got, want) {
		t.Errorf("%d files, or not in order", len(got))
	}
}

func TestHeaders(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a.log", "1\n2\n")
	out, _ := drain(t, dir, "fileHeader=true", "fileHeaderKey=path", "basenameHeader=true")
	for _, e := range out.Events() {
		p, _ := e.Header("path")
		b, _ := e.Header("basename")
		if string(p) != dir+"/a.log" || string(b) != "a.log" {
			t.Errorf("headers %q", e.Headers)
		}
	}
	dir = t.TempDir()
	write(t, dir+"/a.log", "1\n")
	out, _ = drain(t, dir)
	if hs := out.Events()[0].Headers; len(hs) != 0 {
		t.Errorf("headers %q though none is on", hs)
	}
}

func TestContent(t *testing.T) {
	tests := []struct {
		name, in string
		props    []string
		want     []string
	}{
		{"empty file", "", nil, []string{""}},
		{"carriage return", "a\r\nb\r\n", nil, []string{"a\r", "b\r"}},
		{"old name of maxLineLength", "abcdef\n", []string{"bufferMaxLineLength=4", "deserializer.maxLineLength=5"}, []string{"abcd", "ef"}},
		{"Korean", "\xc7\xd1\xb1\xdb\n", []string{"inputCharset=EUC-KR"}, []string{"한글"}},
		{"replace", "a\xff\n", []string{"decodeErrorPolicy=replace"}, []string{"a�"}},
		{"ignore", "a\xff\n", []string{"decodeErrorPolicy=IGNORE"}, []string{"a"}},
		{"nothing but ignored bytes", "\xff", []string{"decodeErrorPolicy=IGNORE"}, []string{""}},
		{"blob", "a\nb\xff", []string{"deserializer=org.apache.flume.sink.solr.morphline.BlobDeserializer$Builder"}, []string{"a\nb\xff"}},
		{"empty blob", "", []string{"deserializer=BLOB"}, []string{""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir+"/f", tt.in)
			out, h := drain(t, dir, tt.props...)
			if got := out.Bodies(); !reflect.DeepEqual(got, tt.want) || h.Last() != nil {
				t.Errorf("%q, want %q; health %v", got, tt.want, h.Last())
			}
		})
	}
}

// Batches have batchSize events and never those of two files.
func TestBatches(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a", "1\n2\n3\n4\n5\n")
	write(t, dir+"/b", "6\n")
	age(t, dir+"/a", time.Hour)
	out, _ := drain(t, dir, "batchSize=2")
	var sizes []int
	for _, b := range out.Batches() {
		sizes = append(sizes, len(b))
	}
	if !reflect.DeepEqual(sizes, []int{2, 2, 1, 1}) {
		t.Errorf("batches of %d", sizes)
	}
}

// What each bad file leaves behind, and that the file after it is read.
func TestBadFiles(t *testing.T) {
	appendTo := func(path string) {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString("more\n")
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			panic(err)
		}
	}
	tests := []struct {
		name   string
		in     string
		before func(dir string)  // before the start
		during func(path string) // while the first batch is put
		props  []string
		want   []string
		reason string
		files  []string
	}{
		{name: "broken byte", in: "1\n2\n3\xff\n4\n", want: []string{"1", "2"}, reason: "at byte 5: byte 5: ff is not UTF-8"},
		{name: "broken byte, batches", in: "1\n2\n3\xff\n4\n", props: []string{"batchSize=1"}, want: []string{"1", "2"}, reason: "at byte 5"},
		{name: "grows", in: "1\n2\n3\n", during: appendTo, props: []string{"batchSize=2"}, want: []string{"1", "2", "3"}, reason: "has changed size since it was opened, from 6 to 11 bytes"},
		{name: "grows in the middle of a line", in: "1\n2\n3", during: appendTo, props: []string{"batchSize=2"}, want: []string{"1", "2"}, reason: "has changed size since it was opened, from 5 to 10 bytes"},
		{name: "touched", in: "1\n", during: func(p string) { _ = os.Chtimes(p, time.Unix(1, 0), time.Unix(1, 0)) }, want: []string{"1"}, reason: "was modified after it was opened"},
		{name: "replaced", in: "1\n", during: func(p string) { _ = os.WriteFile(p+".new", []byte("2\n"), 0o666); _ = os.Rename(p+".new", p) }, want: []string{"1"}, reason: "was replaced by another one"},
		{name: "name used twice", in: "1\n", before: func(d string) { _ = os.WriteFile(d+"/bad.log.COMPLETED", nil, 0o666) }, want: []string{"1"}, reason: "the name was used before: "},
		{name: "bad twice", in: "\xff", before: func(d string) { _ = os.WriteFile(d+"/bad.log.BAD", nil, 0o666) }, want: []string{}, reason: "ff is not UTF-8", files: []string{"bad.log.2.BAD", "bad.log.2.BAD.reason", "bad.log.BAD", "good.log.COMPLETED"}},
		{name: "not Avro", in: "text", props: []string{"deserializer=AVRO", "includePattern=bad.*"}, want: []string{}, reason: "not an Avro container file"},
		{name: "marked", in: "1\n\xff", props: []string{"trackingPolicy=tracker_dir"}, want: []string{"1"}, reason: "ff is not UTF-8", files: []string{".flumespool/bad.log.BAD", ".flumespool/good.log.COMPLETED", "bad.log", "good.log"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			bad := dir + "/bad.log"
			write(t, bad, tt.in)
			age(t, bad, time.Hour)
			write(t, dir+"/good.log", "good\n")
			if tt.before != nil {
				tt.before(dir)
			}
			out := componenttest.NewOutput()
			out.FailWith(func(emit int, b *event.Batch) error {
				if emit == 0 && tt.during != nil {
					tt.during(bad)
				}
				return nil
			})
			env, h := componenttest.Env(t)
			src := componenttest.Source(t, env, "spooldir", append([]string{"spoolDir=" + dir, "pollDelay=1"}, tt.props...)...)
			r := componenttest.Run(t, src, out)
			waitIdle(t, out, dir, src)
			want := tt.want
			if !strings.Contains(strings.Join(tt.props, " "), "AVRO") {
				want = append(append([]string{}, tt.want...), "good")
			}
			if got := out.Bodies(); !reflect.DeepEqual(got, want) {
				t.Errorf("events %q, want %q", got, want)
			}
			if h.Last() == nil || !strings.Contains(h.Last().Error(), "1 files were set aside: "+dir) && tt.name != "bad twice" {
				t.Errorf("health: %v", h.Last())
			}
			reason := bad + ".BAD.reason"
			aside := bad + ".BAD"
			switch tt.name {
			case "marked":
				aside = dir + "/.flumespool/bad.log.BAD"
				reason = aside
			case "bad twice":
				aside = bad + ".2.BAD"
				reason = aside + ".reason"
			}
			if got := read(t, reason); !strings.Contains(got, tt.reason) {
				t.Errorf("reason %q, want %q", got, tt.reason)
			}
			if tt.files != nil && !reflect.DeepEqual(tree(t, dir), tt.files) {
				t.Errorf("files %q, want %q", tree(t, dir), tt.files)
			}
			// Health is well again when the operator took it away.
			for _, p := range []string{aside, bad + ".BAD"} {
				if err := os.Remove(p); err != nil && !os.IsNotExist(err) {
					t.Fatal(err)
				}
			}
			if tt.name == "marked" {
				_ = os.Remove(bad)
			}
			out.WaitFor(t, "health", func() bool { return h.Last() == nil })
			r.Stop()
		})
	}
}

func TestBadFileStop(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/bad.log", "1\n2\xff\n")
	out := componenttest.NewOutput()
	env, _ := componenttest.Env(t)
	src := componenttest.Source(t, env, "spooldir", "spoolDir="+dir, "onBadFile=stop")
	if err := src.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	err := src.Run(context.Background(), out)
	if !component.IsFatal(err) || !strings.Contains(err.Error(), dir+"/bad.log: at byte 3") {
		t.Errorf("%v", err)
	}
	stop(t, src)
	if got := out.Bodies(); !reflect.DeepEqual(got, []string{"1"}) {
		t.Errorf("events %q", got)
	}
	// What was delivered is not delivered again after a restart, as with Flume's tracker.
	out = componenttest.NewOutput()
	src = componenttest.Source(t, env, "spooldir", "spoolDir="+dir, "onBadFile=stop")
	if err := src.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := src.Run(context.Background(), out); !component.IsFatal(err) || len(out.Events()) != 0 {
		t.Errorf("second run: %q, %v", out.Bodies(), err)
	}
}

func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a.log", "a\n")
	write(t, dir+"/b.log", "b\n")
	age(t, dir+"/a.log", time.Hour)
	out := componenttest.NewOutput()
	env, h := componenttest.Env(t)
	src := componenttest.Source(t, env, "spooldir", "spoolDir="+dir, "pollDelay=1").(*source)
	var mended atomic.Bool
	src.open = func(path string) (*os.File, error) {
		if !mended.Load() && strings.HasSuffix(path, "a.log") {
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission}
		}
		return os.Open(path)
	}
	r := componenttest.Run(t, src, out)
	out.Wait(t, 1)
	out.WaitFor(t, "health", func() bool { return h.Last() != nil })
	if got := out.Bodies(); !reflect.DeepEqual(got, []string{"b"}) {
		t.Errorf("events %q", got)
	}
	if !strings.Contains(h.Last().Error(), "1 files cannot be read, among them "+dir+"/a.log") {
		t.Errorf("health: %v", h.Last())
	}
	mended.Store(true)
	out.Wait(t, 2)
	out.WaitFor(t, "health", func() bool { return h.Last() == nil })
	if n := len(h.All()); n != 2 {
		t.Errorf("health was reported %d times: %v", n, h.All())
	}
	r.Stop()
}

func TestStartErrors(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/file", "")
	write(t, dir+"/spool/x", "")
	env, _ := componenttest.Env(t)
	for _, tt := range []struct {
		props []string
		want  string
	}{
		{[]string{"spoolDir=" + dir + "/none"}, "no such file or directory"},
		{[]string{"spoolDir=" + dir + "/file"}, "is not a directory"},
		{[]string{"spoolDir=" + dir + "/spool", "trackerDir=" + dir + "/file"}, "is not a directory"},
		{[]string{"spoolDir=" + dir + "/spool", "trackerDir=no/such"}, "make tracker directory"},
	} {
		src := componenttest.Source(t, env, "spooldir", tt.props...)
		if err := src.Start(context.Background()); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %q", tt.props, err, tt.want)
		}
		if err := src.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}
	if got := tree(t, dir); !reflect.DeepEqual(got, []string{"file", "spool/x"}) {
		t.Errorf("left behind: %q", got)
	}
}

func TestConfigErrors(t *testing.T) {
	for _, tt := range []struct {
		props []string
		want  string
	}{
		{nil, "spoolDir: required"},
		{[]string{"spoolDir=x", "deletePolicy=delay"}, `"delay" is not one of never, immediate`},
		{[]string{"spoolDir=x", "includePattern=("}, "includePattern"},
		{[]string{"spoolDir=x", "inputCharset=utf9"}, `unknown character set "utf9"`},
		{[]string{"spoolDir=x", "deserializer=LINES"}, `unknown deserializer "LINES"`},
		{[]string{"spoolDir=x", "batchSize=0"}, "at least 1"},
		{[]string{"spoolDir=x", "bufferMaxLines=3"}, "no effect"},
	} {
		_, fs := componenttest.Decode(t, component.KindSource, "org.apache.flume.source.SpoolDirectorySource", tt.props...)
		got := ""
		for _, f := range fs {
			got += f.Key + ": " + f.Message + "\n"
		}
		if !strings.Contains(got, tt.want) {
			t.Errorf("%v: %q, want %q", tt.props, got, tt.want)
		}
	}
	env, _ := componenttest.Env(t)
	cfg, _ := componenttest.Config(t, component.KindSource, "spooldir", "spoolDir=x", "fileSuffix=.BAD")
	if _, err := cfg.(component.SourceConfig).NewSource(env); err == nil {
		t.Error("fileSuffix=.BAD was accepted")
	}
}

// An orderly stop in the middle of a file goes on exactly there.
func TestResume(t *testing.T) {
	for _, deser := range []string{"LINE", "AVRO"} {
		t.Run(deser, func(t *testing.T) {
			dir := t.TempDir()
			var lines []string
			for i := range 100 {
				lines = append(lines, fmt.Sprint("line ", i))
			}
			content := strings.Join(lines, "\n") + "\n"
			if deser == "AVRO" {
				content, lines = avroStrings(t, lines)
			}
			write(t, dir+"/f", content)
			write(t, dir+"/a-file-with-the-same-time", content)
			age(t, dir+"/f", time.Hour)
			var got []string
			for round := 0; len(got) < 200 && round < 100; round++ {
				out := componenttest.NewOutput()
				out.FailWith(func(emit int, b *event.Batch) error {
					if emit >= 2 {
						return errors.New("the agent stops")
					}
					return nil
				})
				env, _ := componenttest.Env(t)
				src := componenttest.Source(t, env, "spooldir", "spoolDir="+dir, "batchSize=7", "pollDelay=1", "deserializer="+deser, "recursiveDirectorySearch=true")
				ctx, cancel := context.WithCancel(context.Background())
				if err := src.Start(ctx); err != nil {
					t.Fatal(err)
				}
				done := make(chan struct{})
				go func() {
					_ = src.Run(ctx, out)
					close(done)
				}()
				out.WaitFor(t, "two batches", func() bool {
					select {
					case <-done:
						return true
					default:
						return out.Emits() >= 3 || len(got)+len(out.Events()) >= 200
					}
				})
				cancel()
				<-done
				stop(t, src)
				got = append(got, out.Bodies()...)
				// Another file becomes the oldest: the one that was begun still comes first.
				if other := dir + "/a-file-with-the-same-time"; exists(other) {
					age(t, other, 2*time.Hour)
				}
			}
			if want := append(append([]string{}, lines...), lines...); !reflect.DeepEqual(got, want) {
				t.Errorf("%d events: %q", len(got), got)
			}
		})
	}
}

// A refusal that Emit gives up on makes Run fail; when it runs again nothing
// is missing and nothing that was taken comes twice.
func TestEmitFails(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/f", "1\n2\n3\n4\n5\n")
	out := componenttest.NewOutput()
	out.FailWith(func(emit int, _ *event.Batch) error {
		if emit%2 == 1 {
			return errors.New("an interceptor failed")
		}
		return nil
	})
	env, _ := componenttest.Env(t)
	src := componenttest.Source(t, env, "spooldir", "spoolDir="+dir, "batchSize=2", "pollDelay=1")
	for i := 0; len(out.Events()) < 5; i++ {
		if i > 10 {
			t.Fatal("no progress")
		}
		if err := src.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- src.Run(ctx, out) }()
		out.WaitFor(t, "an error or the end", func() bool { return len(done) > 0 || len(out.Events()) == 5 })
		cancel()
		<-done
		if err := src.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if got := out.Bodies(); !reflect.DeepEqual(got, []string{"1", "2", "3", "4", "5"}) {
		t.Errorf("events %q", got)
	}
}

func TestShorterThanTracker(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/f", "a\nb\n")
	if err := os.Mkdir(dir+"/.flumespool", 0o777); err != nil {
		t.Fatal(err)
	}
	tr := tracker{path: dir + "/.flumespool/" + metaName}
	if err := tr.store(dir+"/f", serde.Position{Offset: 1000}, time.Now(), true); err != nil {
		t.Fatal(err)
	}
	tr.close()
	out, _ := drain(t, dir)
	if got := out.Bodies(); !reflect.DeepEqual(got, []string{"a", "b"}) {
		t.Errorf("events %q", got)
	}
}

func TestDamagedTracker(t *testing.T) {
	for _, content := range []string{"", "nonsense", "Obj\x01\x00" + strings.Repeat("s", 16)} {
		dir := t.TempDir()
		write(t, dir+"/f", "a\n")
		write(t, dir+"/.flumespool/"+metaName, content)
		out, _ := drain(t, dir)
		if got := out.Bodies(); !reflect.DeepEqual(got, []string{"a"}) {
			t.Errorf("%q: events %q", content, got)
		}
	}
}

// Events that cannot be remembered are delivered all the same, and health says so.
func TestTrackerCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/f", "a\nb\nc\n")
	env, h := componenttest.Env(t)
	src := componenttest.Source(t, env, "spooldir", "spoolDir="+dir, "batchSize=1", "pollDelay=1").(*source)
	clock := time.Unix(1e9, 0)
	src.now = func() time.Time { clock = clock.Add(storeEvery); return clock }
	src.tracker.path = dir + "/no/such/" + metaName
	out := componenttest.NewOutput()
	r := componenttest.Run(t, src, out)
	waitIdle(t, out, dir, src)
	if got := out.Bodies(); !reflect.DeepEqual(got, []string{"a", "b", "c"}) {
		t.Errorf("events %q", got)
	}
	if h.Last() == nil || !strings.Contains(h.Last().Error(), "the position cannot be stored") {
		t.Errorf("health: %v", h.Last())
	}
	r.Stop()
}

// A stop in the middle of a file takes effect between two batches, and the
// next start goes on exactly there.
func TestStopWithinAFile(t *testing.T) {
	dir := t.TempDir()
	var want []string
	for i := range 5000 {
		want = append(want, fmt.Sprint(i))
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte(strings.Join(want, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := componenttest.NewOutput()
	ctx, stop := context.WithCancel(t.Context())
	out.FailWith(func(emit int, _ *event.Batch) error {
		if emit == 3 {
			stop() // as SIGTERM would, while a batch is under way
		}
		return nil
	})
	run := func(ctx context.Context) {
		src := componenttest.Source(t, componenttest.QuietEnv(), "spooldir", "spoolDir="+dir, "batchSize=10")
		if err := src.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if err := src.Run(ctx, out); err != nil {
			t.Fatal(err)
		}
		if err := src.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	run(ctx)
	if n := len(out.Bodies()); n != 40 {
		t.Errorf("%d events before the stop took effect, want 40", n)
	}
	ctx, stop = context.WithCancel(t.Context())
	out.FailWith(func(int, *event.Batch) error {
		if len(out.Bodies()) >= 4990 {
			stop()
		}
		return nil
	})
	run(ctx)
	if got := out.Bodies(); !slices.Equal(got, want) {
		t.Errorf("%d events over both runs, want %d in order", len(got), len(want))
	}
}

func TestLocalPath(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	s := &source{dir: "spool"}
	for _, tt := range []struct{ target, want string }{
		{"spool/a", "spool/a"}, {wd + "/spool/sub/a", "spool/sub/a"}, {"./spool/a", "spool/a"}, {"/other/a", "/other/a"},
	} {
		if got := s.localPath(tt.target); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.target, got, tt.want)
		}
	}
}

// A kill between the making and the deleting of the permission check's file
// leaves it behind; it is not data, and goes with the next start.
func TestLeftoverOfThePermissionCheck(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a[b]*") // no pattern either
	left := filepath.Join(dir, strings.Replace(canaryName, "*", "123", 1))
	write(t, left, "testing flume file permissions\n")
	write(t, filepath.Join(dir, "f"), "one\n")
	out := componenttest.NewOutput()
	run := componenttest.Run(t, componenttest.Source(t, componenttest.QuietEnv(), "spooldir", "spoolDir="+dir), out)
	out.Wait(t, 1)
	run.Stop()
	if got := out.Bodies(); len(got) != 1 || got[0] != "one" {
		t.Errorf("bodies %q", got)
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the leftover is still there: %v", err)
	}
}

// A tracker directory has one source: two would take each other's positions.
func TestTwoSources(t *testing.T) {
	dir := t.TempDir()
	first := componenttest.Source(t, componenttest.QuietEnv(), "spooldir", "spoolDir="+dir)
	second := componenttest.Source(t, componenttest.QuietEnv(), "spooldir", "spoolDir="+dir)
	if err := first.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := second.Start(t.Context()); err == nil || !strings.Contains(err.Error(), dir+"/.flumespool is in use by another source or another agent") {
		t.Errorf("the second: %v", err)
	}
	other := componenttest.Source(t, componenttest.QuietEnv(), "spooldir", "spoolDir="+dir, "trackerDir=.other")
	if err := other.Start(t.Context()); err != nil {
		t.Errorf("another tracker directory: %v", err)
	}
	stop(t, other)
	stop(t, first)
	if err := second.Start(t.Context()); err != nil {
		t.Errorf("after the first: %v", err)
	}
	stop(t, second)
	stop(t, second)
}
