package hive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/dfs"
	"github.com/sluice-data/sluice/internal/metastore"
)

// fake is a metastore with one table, db.t.
type fake struct {
	mu         sync.Mutex
	table      metastore.Table
	partitions map[string]*metastore.Storage
	asked      int
	err        error // of all calls
}

func (f *fake) Table(_ context.Context, db, table string) (*metastore.Table, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	if db != "db" || table != "t" {
		return nil, fmt.Errorf("get table: %w", metastore.ErrNotFound)
	}
	t := f.table
	return &t, nil
}

func (f *fake) Partition(_ context.Context, _, _, name string) (*metastore.Storage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if f.err != nil {
		return nil, f.err
	}
	if p := f.partitions[name]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("get partition %s: %w", name, metastore.ErrNotFound)
}

func (f *fake) AddPartition(_ context.Context, _, _, name string) (*metastore.Storage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	s := f.table.Storage
	s.Location += "/" + name
	f.partitions[name] = &s
	return &s, nil
}

func (f *fake) Locations(context.Context, string, string) (dirs []string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.partitions {
		dirs = append(dirs, p.Location)
	}
	return dirs, f.err
}

func (f *fake) Close() error { return nil }

func (f *fake) change(c func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c()
}

// faulty is the local file system with errors.
type faulty struct {
	dfs.Local
	fail func(name string) error // of a write, of which half is done
}

func (f *faulty) Create(name string) (dfs.File, error) {
	file, err := f.Local.Create(name)
	return &faultyFile{file, f, name}, err
}

type faultyFile struct {
	dfs.File
	fs   *faulty
	name string
}

func (f *faultyFile) Write(p []byte) (int, error) {
	if f.fs.fail != nil {
		if err := f.fs.fail(f.name); err != nil {
			n, _ := f.File.Write(p[:len(p)-1])
			return n, err
		}
	}
	return f.File.Write(p)
}

// harness is a sink into db.t (a int, b string), in a directory of the test.
type harness struct {
	*sink
	t    *testing.T
	dir  string
	meta *fake
	fs   *faulty
	now  atomic.Int64
}

var delimitedProps = []string{"serializer=DELIMITED", "serializer.fieldnames=a,b"}

func newHarness(t *testing.T, keys ...string) *harness {
	h := &harness{t: t, dir: t.TempDir(), fs: &faulty{}}
	h.now.Store(time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC).UnixMilli())
	h.meta = &fake{partitions: map[string]*metastore.Storage{}, table: metastore.Table{Type: "MANAGED_TABLE",
		Storage: *storage(lazySimple, map[string]string{"field.delim": ","}, "a int", "b string")}}
	h.meta.table.Location = "file:" + h.dir + "/t"
	for _, k := range keys {
		h.meta.table.Keys = append(h.meta.table.Keys, metastore.Field{Name: k, Type: "string"})
	}
	return h
}

// make makes the sink, and does not start it.
func (h *harness) make(props ...string) {
	h.t.Helper()
	env, _ := componenttest.Env(h.t)
	cfg, _ := componenttest.Config(h.t, component.KindSink, "hive", append([]string{"hive.metastore=thrift://127.0.0.1:1", "hive.database=db", "hive.table=t", "timeZone=UTC"}, props...)...)
	snk, err := cfg.(component.SinkConfig).NewSink(env)
	if err != nil {
		h.t.Fatal(err)
	}
	h.sink = snk.(*sink)
	h.sink.meta, h.sink.clock = h.meta, func() time.Time { return time.UnixMilli(h.now.Load()) }
	h.sink.open = func(_ string, s *sink) (*volume, error) { return s.newVolume(h.fs), nil }
}

func (h *harness) start(props ...string) {
	h.t.Helper()
	h.make(append(delimitedProps, props...)...)
	if err := h.Start(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(h.stop)
}

func (h *harness) stop() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if err := h.Stop(ctx); err != nil {
		h.t.Error(err)
	}
}

// files are the contents of all files, each with its name, in which N stands for the counter.
func (h *harness) files() (list []string) {
	h.t.Helper()
	err := filepath.WalkDir(h.dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		if name = strings.TrimPrefix(name, h.dir); strings.Contains(filepath.Base(name), ".") {
			name = name[:strings.LastIndexByte(name, '.')]
		}
		list = append(list, name+" "+string(b))
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

func (h *harness) want(want ...string) {
	h.t.Helper()
	if got := h.files(); !slices.Equal(got, want) {
		h.t.Errorf("files\n%q, want\n%q", got, want)
	}
}

func (h *harness) write(bodies ...string) {
	h.t.Helper()
	if err := h.Write(h.t.Context(), componenttest.Events(bodies...)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) idle() {
	h.t.Helper()
	if err := h.Idle(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

const day = "86400000"

func TestPartitions(t *testing.T) {
	h := newHarness(t, "day", "kind")
	h.start("hive.partition=%Y-%m-%d,a/%H", "rollInterval=30")
	h.write("1,x@0", "2,y@"+day, "3,z@1000")
	h.want("/t/day=1970-01-01/kind=a%2F00/_sluice 1,x\n3,z\n", "/t/day=1970-01-02/kind=a%2F00/_sluice 2,y\n")
	h.now.Add(30_000)
	h.idle()
	h.want("/t/day=1970-01-01/kind=a%2F00/sluice 1,x\n3,z\n", "/t/day=1970-01-02/kind=a%2F00/sluice 2,y\n")
	if got := slices.Sorted(maps.Keys(h.meta.partitions)); !slices.Equal(got, []string{"day=1970-01-01/kind=a%2F00", "day=1970-01-02/kind=a%2F00"}) {
		t.Errorf("%q", got)
	}
	asked := h.meta.asked
	h.write("4,x@0")
	if h.meta.asked != asked {
		t.Error("the metastore is asked with each batch")
	}
	h.now.Add(fresh.Milliseconds())
	h.write("5,x@0")
	if h.meta.asked != asked+1 {
		t.Error("the metastore is not asked again")
	}
}

func TestNotPartitioned(t *testing.T) {
	h := newHarness(t)
	h.start("hive.txnsPerBatchAsk=2", "batchSize=2")
	h.write("1,a", "2,b")
	h.write("3,c", "4,d")
	h.write("5,e")
	h.want("/t/_sluice 5,e\n", "/t/sluice 1,a\n2,b\n3,c\n4,d\n")
	h.stop()
	h.want("/t/sluice 1,a\n2,b\n3,c\n4,d\n", "/t/sluice 5,e\n")
}

func TestLargeRow(t *testing.T) {
	h := newHarness(t)
	h.start()
	large := "2," + strings.Repeat("x", 3<<20)
	h.write("1,a", large, "3,c")
	h.stop()
	h.want("/t/sluice 1,a\n" + large + "\n3,c\n")
}

// A partition that is there is taken as it is: its own place, its own format.
func TestExistingPartition(t *testing.T) {
	h := newHarness(t, "day")
	p := storage(hiveJSON, nil, "b string", "a int")
	p.Location = "file://" + h.dir + "/elsewhere"
	h.meta.partitions["day=1"] = p
	h.start("hive.partition=%e")
	h.write("1,x@0", "2,y@"+day)
	h.want(`/elsewhere/_sluice {"b":"x","a":1}`+"\n", "/t/day=2/_sluice 2,y\n")
}

func TestNoAutoCreate(t *testing.T) {
	h := newHarness(t, "day")
	h.meta.partitions["day=1"] = storage(lazySimple, nil, "a int", "b string")
	h.meta.partitions["day=1"].Location = h.dir + "/1"
	h.start("hive.partition=%e", "autoCreatePartitions=false")
	err := h.Write(t.Context(), componenttest.Events("1,x@"+day, "2,y@0"))
	var partial *component.PartialError
	if !errors.As(err, &partial) || len(partial.Failed) != 1 || component.IsPermanent(partial.Failed[0]) || !strings.Contains(partial.Failed[0].Error(), "autoCreatePartitions") {
		t.Fatal(err)
	}
	h.want("/1/_sluice 2\x01y\n")
	s := h.meta.table.Storage
	s.Location = h.dir + "/2"
	h.meta.change(func() { h.meta.partitions["day=2"] = &s })
	h.write("1,x@" + day)
	h.want("/1/_sluice 2\x01y\n", "/2/_sluice 1,x\n")
}

// What cannot be a row, or has no partition, fails alone and for good.
// What the header of an event brings into a partition's name is the name of one directory, or the event fails alone.
func TestHostileHeaders(t *testing.T) {
	for _, tt := range []struct{ value, want string }{
		{"../../../etc", "/t/car=..%2F..%2F..%2Fetc/_sluice 2,x\n"},
		{"..", "/t/car=../_sluice 2,x\n"},
		{"/", "/t/car=%2F/_sluice 2,x\n"},
		{"a\nb=%", "/t/car=a%0Ab%3D%25/_sluice 2,x\n"},
		{"a\x00b", "byte 0"},
		{strings.Repeat("x", 252), "would have a name of 256 bytes"},
		{strings.Repeat("/", 100), "would have a name of 304 bytes"},
		{strings.Repeat("x", 10<<20), "has 10485760 bytes"},
	} {
		h := newHarness(t, "car")
		h.start("hive.partition=%{car}")
		e := componenttest.Events("1,x", "2,x", "3,x")
		for i, v := range []string{"good", tt.value, "good"} {
			e[i].Headers = append(e[i].Headers, event.KV{Key: "car", Value: []byte(v)})
		}
		err := h.Write(t.Context(), e)
		const good = "/t/car=good/_sluice 1,x\n3,x\n"
		if strings.HasPrefix(tt.want, "/") {
			if err != nil {
				t.Error(err)
			}
			want := []string{good, tt.want}
			slices.Sort(want)
			h.want(want...)
			continue
		}
		var partial *component.PartialError
		if !errors.As(err, &partial) || len(partial.Failed) != 1 || !component.IsPermanent(partial.Failed[1]) || !strings.Contains(partial.Failed[1].Error(), tt.want) || len(err.Error()) > 1000 {
			t.Errorf("%.1000v, want %q", err, tt.want)
		}
		h.want(good)
		if len(h.meta.partitions) != 1 || cap(h.key) > 64<<10 {
			t.Errorf("%d partitions, %d bytes are kept", len(h.meta.partitions), cap(h.key))
		}
	}
}

func TestBadEvents(t *testing.T) {
	h := newHarness(t, "day", "car")
	h.start("hive.partition=%e,%{car}", "serializer.delimiter=|")
	e := componenttest.Events("1|x@0", "2|y", "3|z,@0", "4|w@0")
	for _, i := range []int{0, 1, 2} {
		e[i].Headers = append(e[i].Headers, event.KV{Key: "car", Value: []byte("v")})
	}
	err := h.Write(t.Context(), e)
	var partial *component.PartialError
	if !errors.As(err, &partial) || len(partial.Failed) != 3 {
		t.Fatal(err)
	}
	for i, want := range map[int]string{1: "timestamp", 2: "has no ESCAPED BY", 3: "column car has no value"} {
		if err := partial.Failed[i]; !component.IsPermanent(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("event %d: %v", i, err)
		}
	}
	h.want("/t/day=1/car=v/_sluice 1,x\n")
}

func TestRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*metastore.Table)
		want   string
	}{
		"transactional": {func(t *metastore.Table) { t.Properties = map[string]string{"transactional": "TRUE"} }, "INSERT INTO this one SELECT"},
		"bucketed":      {func(t *metastore.Table) { t.Buckets = []string{"a"} }, "CLUSTERED BY a"},
		"view":          {func(t *metastore.Table) { t.Type = "VIRTUAL_VIEW" }, "is a view"},
		"handler": {func(t *metastore.Table) {
			t.Properties = map[string]string{"storage_handler": "org.apache.hadoop.hive.hbase.HBaseStorageHandler"}
		}, "kept by HBaseStorageHandler"},
		"header":  {func(t *metastore.Table) { t.Properties = map[string]string{"skip.header.line.count": "1"} }, "UNSET TBLPROPERTIES"},
		"ORC":     {func(t *metastore.Table) { t.InputFormat = "org.apache.hadoop.hive.ql.io.orc.OrcInputFormat" }, "STORED AS TEXTFILE"},
		"columns": {func(t *metastore.Table) { t.Columns = t.Columns[:1] }, `no column "b"`},
		"keys":    {func(t *metastore.Table) { t.Keys = nil }, "partitioned by 0 columns (), and hive.partition has 1 value"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, "day")
			good := h.meta.table
			tt.change(&h.meta.table)
			h.make(append(delimitedProps, "hive.partition=%e")...)
			if err := h.Start(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("%v, want %s", err, tt.want)
			}
			h.meta.table = good
			if err := h.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			h.stop()
		})
	}
	t.Run("missing", func(t *testing.T) {
		h := newHarness(t)
		h.make(append(delimitedProps, "hive.table=other")...)
		if err := h.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "create it, or correct") {
			t.Fatal(err)
		}
	})
}

// A metastore that is away keeps the events; a table that has been made unfit does, too.
func TestTrouble(t *testing.T) {
	h := newHarness(t, "day")
	h.start("hive.partition=%e")
	h.write("1,x@0")
	h.now.Add(fresh.Milliseconds())
	h.meta.change(func() { h.meta.err = errors.New("connect to the metastore: refused") })
	if err := h.Write(t.Context(), componenttest.Events("2,y@0")); err == nil || component.IsPermanent(err) || !strings.Contains(err.Error(), "refused") {
		t.Fatal(err)
	}
	h.meta.change(func() {
		h.meta.err = nil
		h.meta.table.Properties = map[string]string{"transactional": "true"}
	})
	if err := h.Write(t.Context(), componenttest.Events("2,y@0")); err == nil || component.IsPermanent(err) {
		t.Fatal(err)
	}
	h.meta.change(func() { h.meta.table.Properties = nil })
	h.write("2,y@0")
	// The file that was open for a minute is complete.
	h.want("/t/day=1/_sluice 2,y\n", "/t/day=1/sluice 1,x\n")
}

// After an error in the middle of a row the file is cut to whole rows, and the batch goes into another.
func TestCutRow(t *testing.T) {
	h := newHarness(t)
	h.start()
	h.write("1,a")
	h.fs.fail = func(string) error { return errors.New("broken") }
	if err := h.Write(t.Context(), componenttest.Events("2,b", "3,c")); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Fatal(err)
	}
	h.fs.fail = nil
	h.write("2,b", "3,c")
	h.stop()
	h.want("/t/sluice 1,a\n2,b\n", "/t/sluice 2,b\n3,c\n")
}

// What a killed process left is completed, also in a partition that is not below the table's directory.
func TestLeftovers(t *testing.T) {
	h := newHarness(t, "day")
	p := *storage(lazySimple, nil, "a int", "b string")
	p.Location = "file:" + h.dir + "/elsewhere"
	h.meta.partitions["day=1"] = &p
	for name, text := range map[string]string{"/t/day=2/_sluice.1700000000001": "1,a\n2,", "/elsewhere/_sluice.1700000000002": "3,c\n", "/t/_other.1700000000003": "x"} {
		if err := os.MkdirAll(filepath.Dir(h.dir+name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(h.dir+name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h.start("hive.partition=%e")
	want := []string{"/elsewhere/sluice 3,c\n", "/t/_other x", "/t/day=2/sluice 1,a\n"}
	for deadline := time.Now().Add(3 * time.Minute); !slices.Equal(h.files(), want) && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		h.idle()
	}
	h.want(want...)
}

func TestSettings(t *testing.T) {
	base := "hive.metastore=thrift://h hive.database=d hive.table=t serializer=JSON "
	for _, tt := range []struct{ props, want string }{
		{"hive.metastore=h:9083", "thrift://HOST:PORT"},
		{"hive.table=d.t", "is no name"},
		{"hive.partition=%[nowhere]", "%[nowhere]"},
		{"hive.partition=%Q", "%Q is not known"},
		{"serializer=DELIMITED", "fieldnames"},
		{"serializer=DELIMITED serializer.fieldnames=,", "names no column"},
		{"serializer=DELIMITED serializer.fieldnames=a serializer.delimiter=\"\"", "empty"},
		{"serializer=CSV", "CSV"},
		{"round=true roundValue=25 roundUnit=hour", "between 1 and 24"},
		{"timeZone=Mars/Phobos", "unknown time zone"},
		{"batchSize=-1", "using the default, 15000"},
		{"heartBeatInterval=10", "no effect"},
	} {
		given := map[string]bool{}
		props := strings.Fields(tt.props)
		for _, p := range props {
			k, _, _ := strings.Cut(p, "=")
			given[k] = true
		}
		for _, p := range strings.Fields(base) {
			if k, _, _ := strings.Cut(p, "="); !given[k] {
				props = append(props, p)
			}
		}
		cfg, found := componenttest.Decode(t, component.KindSink, "hive", props...)
		env := componenttest.QuietEnv()
		env.Finding = func(f component.Finding) { found = append(found, f) }
		text := fmt.Sprint(found)
		if !slices.ContainsFunc(found, func(f component.Finding) bool { return f.Error }) {
			if _, err := cfg.(component.SinkConfig).NewSink(env); err != nil {
				text += err.Error()
			}
			text += fmt.Sprint(found)
		}
		if !strings.Contains(text, tt.want) {
			t.Errorf("%s: %s", tt.props, text)
		}
	}
	for _, class := range []string{"json", "org.apache.flume.sink.hive.HiveJsonSerializer", "Delimited", "org.apache.flume.sink.hive.HiveDelimitedTextSerializer"} {
		props := append(strings.Fields(base)[:3], "serializer="+class)
		if !strings.Contains(strings.ToLower(class), "json") {
			props = append(props, "serializer.fieldnames=a,,b", `serializer.delimiter="||"`)
		}
		cfg, _ := componenttest.Config(t, component.KindSink, "org.apache.flume.sink.hive.HiveSink", props...)
		snk, err := cfg.(component.SinkConfig).NewSink(componenttest.QuietEnv())
		if err != nil {
			t.Fatal(err)
		}
		if s := snk.(*sink); s.BatchSize() != 15000 || s.buckets.RollCount != 1_500_000 || s.buckets.RollInterval != time.Minute {
			t.Errorf("%+v", s.buckets)
		}
	}
}

func TestAllocations(t *testing.T) {
	h := newHarness(t, "day")
	h.start("hive.partition=%Y-%m-%d")
	var bodies []string
	for i := range 1000 {
		bodies = append(bodies, fmt.Sprintf("%d,0123456789012345678901234567890123456789@0", i))
	}
	batch := componenttest.Events(bodies...)
	componenttest.NoMoreAllocs(t, 40, func() {
		if err := h.Write(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	})
}
