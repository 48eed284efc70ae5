package tail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/javaregex"
)

func TestMarks(t *testing.T) {
	text := []byte(strings.Repeat("0123456789abcdef", 200))
	for _, step := range []int{1, 7, 64, 65, 1000, 1024, 3200} {
		var m marks
		for i := 0; i < len(text); i += step {
			m.add(text[i:min(i+step, len(text))], int64(i))
		}
		want, err := markAt(bytes.NewReader(text), int64(len(text)))
		if err != nil {
			t.Fatal(err)
		}
		if m != want || m.headLen != headMax || m.tailLen != tailMax {
			t.Errorf("in steps of %d: %+v, want %+v", step, m, want)
		}
	}
}

func FuzzPositions(f *testing.F) {
	f.Add([]byte(`[{"inode":1310733,"pos":26,"file":"/var/log/app.log"}]`), uint32(0))
	f.Add([]byte(`[{"inode":7,"pos":26,"file":"/a"},{"inode":0,"pos":26,"file":"sluice born=5 head=26:9ae0daaf tail=26:9ae0daaf"}]`), uint32(1))
	f.Add([]byte("sluice positions 1 00000000\n9ae0daaf []\n"), uint32(0))
	f.Add([]byte(`[{"inode":-1,"pos":1e3`), uint32(2))
	f.Fuzz(func(t *testing.T, text []byte, base uint32) {
		for _, es := range [][]Entry{first(parsePositions(text)), first(parseRecent(text, base))} {
			again, err := parsePositions(appendEntries(nil, es))
			if err != nil {
				t.Fatalf("what was written cannot be read: %v", err)
			}
			for i := range es { // a name of ours is not written back as an entry
				if es[i].Inode == 0 {
					return
				}
			}
			if len(es) != len(again) {
				t.Fatalf("%d entries written, %d read", len(es), len(again))
			}
			for i := range es {
				if es[i] != again[i] {
					t.Fatalf("%+v written, %+v read", es[i], again[i])
				}
			}
		}
	})
}

func first[T any](es []Entry, _ T) []Entry { return es }

func TestParsePositions(t *testing.T) {
	plain := Entry{Inode: 7, Pos: 26, path: "/a"}
	full := Entry{Inode: 7, Pos: 26, path: "/a", known: true, born: 5, headLen: 26, headSum: 0x9ae0daaf, tailLen: 26, tailSum: 1}
	edited := full
	edited.Pos, edited.tailLen, edited.tailSum = 20, -1, 0
	const more = `{"inode":0,"pos":26,"file":"sluice born=5 head=26:9ae0daaf tail=26:00000001"}`
	for _, tt := range []struct {
		text string
		want []Entry
		bad  bool
	}{
		{"", nil, false},
		{"[]", nil, false},
		{`[{"inode":7,"pos":26,"file":"/a"}]`, []Entry{plain}, false},
		{`[{"file":"/a", "pos":26,"inode":7}] and what Flume does not read`, []Entry{plain}, false},
		{`[{"inode":7,"pos":26,"file":"/a"},` + more + `]`, []Entry{full}, false},
		{`[{"inode":7,"pos":20,"file":"/a"},` + more + `]`, []Entry{edited}, false},
		{`[{"inode":7,"pos":26,"file":"/a"},{"inode":0,"pos":26,"file":"sluice head=9999:1"}]`, []Entry{plain}, false},
		{`[{"inode":7,"pos":26,"file":"/a"},{"inode":8,"po`, []Entry{plain}, true},
		{`[{"inode":7,"pos":26,"file":"/a"},{"inode":8,"pos":1}]`, []Entry{plain}, true},
		{`[{"inode":7,"pos":26,"file":"/a"}`, []Entry{plain}, true},
		{`[{"inode":"x","pos":26,"file":"/a"}]`, nil, true},
		{`{}`, nil, true},
		{"\x00\x00\x00", nil, true},
	} {
		got, err := parsePositions([]byte(tt.text))
		if !reflect.DeepEqual(got, tt.want) || (err != nil) != tt.bad {
			t.Errorf("%s: %+v, %v, want %+v", tt.text, got, err, tt.want)
		}
	}
}

func TestRecentPositions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir", "p.json")
	open := func() *Positions {
		t.Helper()
		p, err := OpenPositions(path)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := open() // a crash before the position file was written for the first time
	if err := errors.Join(p.Append([]Entry{{Inode: 3, Pos: 1, path: "/c"}}), p.Close()); err != nil {
		t.Fatal(err)
	}
	p = open()
	if want := []Entry{{Inode: 3, Pos: 1, path: "/c"}}; !reflect.DeepEqual(p.Entries, want) {
		t.Errorf("%+v, want %+v", p.Entries, want)
	}
	a, b := Entry{Inode: 1, Pos: 5, path: "/a"}, Entry{Inode: 2, Pos: 6, path: "/b"}
	a2 := a
	a2.Pos = 50
	if err := errors.Join(p.Write([]Entry{a}), p.Append([]Entry{b}), p.Append([]Entry{a2}), p.Close()); err != nil {
		t.Fatal(err)
	}
	p = open()
	if want := []Entry{a2, b}; !reflect.DeepEqual(p.Entries, want) {
		t.Errorf("%+v, want %+v", p.Entries, want)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}

	// A torn line, and what follows it, does not count.
	text, err := os.ReadFile(path + recentSuffix)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+recentSuffix, text[:len(text)-3], 0o644); err != nil {
		t.Fatal(err)
	}
	p = open()
	if want := []Entry{a, b}; !reflect.DeepEqual(p.Entries, want) {
		t.Errorf("torn: %+v, want %+v", p.Entries, want)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}

	// What comes after that does, again.
	p = open()
	if err := errors.Join(p.Append([]Entry{a2}), p.Close()); err != nil {
		t.Fatal(err)
	}
	p = open()
	if want := []Entry{a2, b}; !reflect.DeepEqual(p.Entries, want) {
		t.Errorf("after the torn line: %+v, want %+v", p.Entries, want)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}

	// Nothing does when Flume has written the position file since.
	if err := os.WriteFile(path, []byte(`[{"inode":1,"pos":7,"file":"/a"}]`), 0o644); err != nil {
		t.Fatal(err)
	}
	p = open()
	if want := []Entry{{Inode: 1, Pos: 7, path: "/a"}}; !reflect.DeepEqual(p.Entries, want) {
		t.Errorf("after Flume: %+v, want %+v", p.Entries, want)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

// An event that is longer than a piece that is read, and one that is too long.
func TestLongLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	var text strings.Builder
	var want []string
	for i, n := range []int{0, 1, blockSize - 1, blockSize, 3 * blockSize, 7, 10*blockSize + 5, 1} {
		line := strings.Repeat(string(rune('a'+i)), n)
		text.WriteString(line + "\n")
		for ; len(line) > 8*blockSize; line = line[8*blockSize:] {
			want = append(want, line[:8*blockSize])
		}
		want = append(want, line)
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pool := event.NewPool()
	said := 0
	r := reader{cut: Lines{}, pool: pool, max: 8 * blockSize, long: func() { said++ }}
	r.open(f, 0, int64(text.Len()), &marks{})
	b := pool.NewBatch()
	for b.Len() < len(want) {
		if err := r.read(b, 100, More, false); err != nil && b.Len() < len(want) {
			t.Fatalf("%v after %d events", err, b.Len())
		}
	}
	for i, e := range b.Events() {
		if string(e.Body) != want[i] {
			t.Errorf("event %d has %d bytes, want %d", i, len(e.Body), len(want[i]))
		}
	}
	if said != 1 {
		t.Errorf("the cut was told %d times", said)
	}
	b.Release()
	r.close()
	if n := pool.Outstanding(); n != 0 {
		t.Errorf("%d blocks leaked", n)
	}
}

// However the pieces fall, the events are the same.
func FuzzCut(f *testing.F) {
	f.Add([]byte("2 a\r\nb\n\n2 c\nd"), uint8(3))
	f.Add([]byte("\r\n\n\r"), uint8(1))
	start := javaregex.MustCompile("^2", 0)
	f.Fuzz(func(t *testing.T, text []byte, step uint8) {
		for _, c := range []Cutter{Lines{}, &Multiline{start}} {
			whole := cutInSteps(c, text, len(text)+1)
			if parts := cutInSteps(c, text, int(step)+1); !reflect.DeepEqual(parts, whole) {
				t.Fatalf("%T in steps of %d: %q, want %q", c, int(step)+1, parts, whole)
			}
		}
	})
}

func cutInSteps(c Cutter, text []byte, step int) []string {
	pool := event.NewPool()
	var got []string
	for pos, have := 0, 0; pos < len(text); {
		have = min(have+step, len(text))
		mode := More
		if have == len(text) {
			mode = All
		}
		b := pool.NewBatch()
		pos += c.Cut(b, Chunk{P: text[pos:have], Mode: mode, Max: 2})
		for _, e := range b.Events() {
			got = append(got, string(e.Body))
		}
		b.Release()
	}
	return got
}

type nullOutput struct {
	pool   *event.Pool
	events int
}

func (o *nullOutput) Pool() *event.Pool      { return o.pool }
func (o *nullOutput) NewBatch() *event.Batch { return o.pool.NewBatch() }
func (o *nullOutput) Emit(_ context.Context, b *event.Batch) error {
	o.events += b.Len()
	b.Release()
	return nil
}

// benchFollower follows one file and reads it from its start in each round.
func benchFollower(t testing.TB, lines int, o Options) (w *Follower, out *nullOutput, round func()) {
	t.Helper()
	dir := t.TempDir()
	text := strings.Repeat("20260101000000,X0001,60,60,60,60,A,1,1,1,1,80\n", lines)
	if err := os.WriteFile(dir+"/day.log", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	pos, err := OpenPositions(dir + "/pos/p.json")
	if err != nil {
		t.Fatal(err)
	}
	o.Groups = []Group{{Dir: dir, Match: func(name string) bool { return name == "day.log" }, Headers: o.Groups[0].Headers}}
	o.BatchSize, o.MaxBatches, o.MaxOpen, o.Idle, o.WriteEvery, o.CacheDirs = 1000, NoLimit, 10, 1<<60, 1<<60, true
	o.Env = componenttest.QuietEnv()
	out = &nullOutput{pool: event.NewPool()}
	w = NewFollower(o, pos)
	w.out, w.reader.pool, w.notify = out, out.pool, newNotifier()
	t.Cleanup(func() {
		for _, f := range w.files {
			w.closeFile(f)
		}
		w.notify.close()
		if err := pos.Close(); err != nil {
			t.Error(err)
		}
	})
	return w, out, func() {
		for _, f := range w.files {
			f.pos, f.marks, f.atEnd = 0, marks{}, false
		}
		if _, _, err := w.visitAll(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAllocations(t *testing.T) {
	const lines = 50_000
	_, out, round := benchFollower(t, lines, Options{Cut: Lines{}, FileHeader: "file", OffsetHeader: "byteoffset",
		Groups: []Group{{Headers: []event.KV{{Key: "a", Value: []byte("b")}}}}})
	componenttest.NoMoreAllocs(t, 100, round) // for a round: none of 50,000 lines' own
	if out.events == 0 || out.events%lines != 0 {
		t.Errorf("%d events", out.events)
	}
}

func BenchmarkLines(b *testing.B) {
	const lines = 300_000
	_, out, round := benchFollower(b, lines, Options{Cut: Lines{}, Groups: make([]Group, 1)})
	b.SetBytes(lines * 46)
	b.ReportAllocs()
	for b.Loop() {
		round()
	}
	if out.events%lines != 0 {
		b.Fatalf("%d events", out.events)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/lines, "ns/line")
}

// Files that went away are not remembered without end.
func TestAwayIsBounded(t *testing.T) {
	w, _, round := benchFollower(t, 1, Options{Cut: Lines{}, Groups: make([]Group, 1)})
	now := w.now()
	for i := range awayMost + 500 {
		w.putAway(Entry{Inode: uint64(i) + 1<<40, path: fmt.Sprint(i)}, now.Add(-1))
	}
	round()
	if w.naway > awayMost || w.naway == 0 || len(w.away) != w.naway {
		t.Errorf("%d of them, %d inodes", w.naway, len(w.away))
	}
}
