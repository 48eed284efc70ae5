package segment

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/log/logtest"
	"github.com/sluice-data/sluice/internal/broker/record"
	"github.com/sluice-data/sluice/internal/seglog"
	"github.com/sluice-data/sluice/internal/seglog/vfs/memfs"
)

func compactOptions(now time.Time) log.CompactOptions {
	return log.CompactOptions{Now: now, DeleteRetention: time.Hour, MaxOpened: 1 << 20, KeepEmpty: func(*record.Header) bool { return false }}
}

// keyed makes a batch of key=value records, in a codec. A value "" is a tombstone.
func keyed(t testing.TB, codec record.Codec, ts int64, kvs ...string) []byte {
	t.Helper()
	var recs []record.Record
	for _, kv := range kvs {
		k, v, _ := strings.Cut(kv, "=")
		r := record.Record{Timestamp: ts, Key: []byte(k)}
		if v != "" {
			r.Value = []byte(v)
		}
		recs = append(recs, r)
	}
	b := record.Append(nil, record.Header{ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1}, recs...)
	if codec == record.None {
		return b
	}
	o, _, err := record.Open(b, nil, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	b, _, err = o.Rewrite(nil, record.Compression{Codec: codec}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// contents reads a log from its start and returns its records as offset → key=value. It checks that the batches follow one
// another without gaps.
func contents(t testing.TB, l *Log) map[int64]string {
	t.Helper()
	out := map[int64]string{}
	o := l.Offsets()
	for off := o.Start; off < o.High; {
		r, err := l.Read(log.ReadReq{Offset: off, MaxBytes: 700, MinOne: true})
		if err != nil {
			t.Fatalf("read at %d: %v", off, err)
		}
		next := r.Next
		b := logtest.Bytes(t, r)
		at := int64(-1)
		for len(b) > 0 {
			h, err := record.Check(b)
			if err != nil {
				t.Fatal(err)
			}
			if at >= 0 && h.BaseOffset != at {
				t.Fatalf("a batch begins at %d where %d is due", h.BaseOffset, at)
			}
			at = h.LastOffset() + 1
			op, _, err := record.Open(b[:h.Size()], nil, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			n := int32(0)
			if err := op.Each(func(v record.View) bool {
				out[v.Offset] = string(v.Key) + "=" + string(v.Value)
				n++
				return true
			}); err != nil || n != h.Count {
				t.Fatalf("%d of %d records: %v", n, h.Count, err)
			}
			b = b[h.Size():]
		}
		if at != next {
			t.Fatalf("the read ends at %d, its batches at %d", next, at)
		}
		off = next
	}
	return out
}

// surviving is what a compaction of everything below to may leave, from offset → key=value.
func surviving(all map[int64]string, to int64) map[int64]string {
	latest := map[string]int64{}
	for off, kv := range all {
		if off < to {
			k, _, _ := strings.Cut(kv, "=")
			latest[k] = max(latest[k], off)
		}
	}
	out := map[int64]string{}
	for off, kv := range all {
		if k, _, _ := strings.Cut(kv, "="); off >= to || latest[k] == off {
			out[off] = kv
		}
	}
	return out
}

func diffMaps(got, want map[int64]string) string {
	var b strings.Builder
	for _, off := range slices.Sorted(maps.Keys(want)) {
		if got[off] != want[off] {
			fmt.Fprintf(&b, "offset %d: %.20q, want %.20q\n", off, got[off], want[off])
		}
	}
	for _, off := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[off]; !ok {
			fmt.Fprintf(&b, "offset %d: %.20q, want none\n", off, got[off])
		}
	}
	return b.String()
}

// TestCompactAgainstModel appends random records, compacts, reopens and compares with a map, over and over.
func TestCompactAgainstModel(t *testing.T) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 7))
		fs := memfs.New()
		l := openMem(t, fs, logtest.Config())
		all := map[int64]string{}
		removed := int64(0)
		for range 12 {
			for range 60 {
				var kvs []string
				for range 1 + r.IntN(4) {
					v := strings.Repeat("v", r.IntN(200))
					kvs = append(kvs, fmt.Sprintf("k%d=%s", r.IntN(30), v))
				}
				p := logtest.MustAppend(t, l, keyed(t, record.Codec(r.IntN(5)), 1000, kvs...))
				for i, kv := range kvs {
					all[p.Base+int64(i)] = kv
				}
			}
			o := compactOptions(time.UnixMilli(2000))
			if r.IntN(2) == 0 {
				o.MaxKeys = 7 // several passes
			}
			for range 1 + r.IntN(3) {
				done, err := l.Compact(t.Context(), o)
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				removed += done.Records
			}
			if got, want := contents(t, l), surviving(all, l.cleaned.to); diffMaps(got, want) != "" {
				t.Fatalf("seed %d, compacted to %d:\n%s", seed, l.cleaned.to, diffMaps(got, want))
			}
			if r.IntN(3) == 0 {
				end, to := l.Offsets().End, l.cleaned.to
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				if r.IntN(2) == 0 { // everything is scanned
					_ = fs.Remove(dir + "/" + stateName)
				}
				l = openMem(t, fs, logtest.Config())
				if l.Offsets().End != end {
					t.Fatalf("seed %d: the log ends at %d after a restart, want %d", seed, l.Offsets().End, end)
				}
				if l.cleaned.to != to {
					t.Fatalf("seed %d: compacted to %d after a restart, want %d", seed, l.cleaned.to, to)
				}
			}
		}
		if removed == 0 {
			t.Errorf("seed %d: nothing was removed", seed)
		}
		if st, err := l.OffsetFor(t.Context(), 1000); err != nil || st.Offset < 0 {
			t.Errorf("seed %d: search by time: %+v, %v", seed, st, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// fill appends until there are n sealed segments; every key is written again and again.
func fill(t testing.TB, l *Log, n int) map[int64]string {
	t.Helper()
	all := map[int64]string{}
	for i := 0; len(l.segs) <= n; i++ {
		kv := fmt.Sprintf("k%d=%d %s", i%5, i, strings.Repeat("x", 100))
		p := logtest.MustAppend(t, l, keyed(t, record.None, 1000, kv))
		all[p.Base] = kv
	}
	return all
}

func TestCompactTombstones(t *testing.T) {
	fs := memfs.New()
	l := openMem(t, fs, logtest.Config())
	logtest.MustAppend(t, l, keyed(t, record.None, 1000, "gone=1", "stays=1"))
	logtest.MustAppend(t, l, keyed(t, record.None, 1000, "gone="))
	fill(t, l, 3)
	has := func(off int64) bool { _, ok := contents(t, l)[off]; return ok }
	now := time.UnixMilli(10_000)
	if _, err := l.Compact(t.Context(), compactOptions(now)); err != nil {
		t.Fatal(err)
	}
	if has(0) || !has(1) || !has(2) {
		t.Fatalf("first pass: %v", contents(t, l))
	}
	// Before delete.retention.ms is over the tombstone stays, whatever is compacted.
	fill(t, l, 6)
	if _, err := l.Compact(t.Context(), compactOptions(now.Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	if !has(2) {
		t.Fatal("the tombstone is gone early")
	}
	fill(t, l, 9)
	if _, err := l.Compact(t.Context(), compactOptions(now.Add(time.Hour+time.Second))); err != nil {
		t.Fatal(err)
	}
	if has(2) || !has(1) {
		t.Fatalf("after delete.retention.ms: %v", contents(t, l))
	}
	abandon(t, l)
}

// TestCompactWhen: the dirty ratio, the lags.
func TestCompactWhen(t *testing.T) {
	fs := memfs.New()
	l := openMem(t, fs, logtest.Config())
	fill(t, l, 4)
	run := func(change func(*log.CompactOptions)) int {
		t.Helper()
		o := compactOptions(time.UnixMilli(100_000))
		change(&o)
		done, err := l.Compact(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		return done.Segments
	}
	if n := run(func(o *log.CompactOptions) { o.MinLag = time.Hour }); n != 0 {
		t.Errorf("%d segments were compacted that are younger than the least lag", n)
	}
	if n := run(func(*log.CompactOptions) {}); n == 0 {
		t.Error("nothing was compacted")
	}
	logtest.MustAppend(t, l, keyed(t, record.None, 1000, "k=v"))
	fill(t, l, 5)
	if n := run(func(o *log.CompactOptions) { o.MinDirtyRatio = 1 }); n != 0 {
		t.Errorf("%d segments were compacted below the dirty ratio", n)
	}
	if n := run(func(o *log.CompactOptions) { o.MinDirtyRatio, o.MaxLag = 1, time.Second }); n == 0 {
		t.Error("nothing was compacted beyond the longest lag")
	}
	abandon(t, l)
}

// TestCompactKeepsProducers: the last batch of a producer stays, without records if need be.
func TestCompactKeepsProducers(t *testing.T) {
	fs := memfs.New()
	l := openMem(t, fs, logtest.Config())
	b := record.Append(nil, record.Header{ProducerID: 42, ProducerEpoch: 3, BaseSequence: 17}, record.Record{Timestamp: 1000, Key: []byte("k0"), Value: []byte("old")})
	logtest.MustAppend(t, l, b)
	fill(t, l, 3)
	o := compactOptions(time.UnixMilli(2000))
	o.KeepEmpty = func(h *record.Header) bool { return h.ProducerID == 42 }
	for range 2 {
		if _, err := l.Compact(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		r, err := l.Read(log.ReadReq{Offset: 0, MaxBytes: 1, MinOne: true})
		if err != nil {
			t.Fatal(err)
		}
		h, err := record.Check(logtest.Bytes(t, r))
		if err != nil || h.ProducerID != 42 || h.ProducerEpoch != 3 || h.LastSequence() != 17 || h.Count != 0 {
			t.Fatalf("%+v, %v", h, err)
		}
		fill(t, l, len(l.segs)+1)
	}
	abandon(t, l)
}

// TestCompactCrash loses power, on a disk that keeps the order of names or not, or is killed, at every step of a pass, and then at every step of the start after it:
// nothing that must be there is gone, and no offset is there twice. The second pass makes one file of several.
func TestCompactCrash(t *testing.T) {
	for _, passes := range []int{0, 1} {
		merged := false
		for step := 0; ; step++ {
			fs := memfs.New()
			l := openMem(t, fs, logtest.Config())
			all := fill(t, l, 4)
			for range passes {
				if _, err := l.Compact(t.Context(), compactOptions(time.UnixMilli(2000))); err != nil {
					t.Fatal(err)
				}
				maps.Copy(all, fill(t, l, len(l.segs)+1))
			}
			if err := l.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			end := int64(len(all))
			fs.SetHook(stopAfter(step))
			done, err := l.Compact(t.Context(), compactOptions(time.UnixMilli(3000)))
			fs.SetHook(nil)
			merged = merged || done.Segments > len(l.segs)
			images := []*memfs.FS{fs.Crash(), fs.CrashUnordered(), fs.Clone()}
			_ = l.Close() // it failed, or not
			for i, img := range images {
				what := fmt.Sprintf("%d passes before, step %d, image %d", passes, step, i)
				if slices.ContainsFunc(img.Names(), func(n string) bool { return strings.HasSuffix(n, mergedExt) }) {
					crashedStart(t, what, img, all)
				}
				afterCrash(t, what, img, all, end)
			}
			if err == nil {
				if step < 10 {
					t.Errorf("only %d steps", step)
				}
				break
			}
		}
		if passes > 0 && !merged {
			t.Error("nothing was merged")
		}
	}
}

// stopAfter lets so many changes pass and fails all that follow.
func stopAfter(steps int) func(memfs.Op, string) error {
	n := 0
	return func(op memfs.Op, _ string) error {
		if op == memfs.OpRead || op == memfs.OpOpen {
			return nil
		}
		if n++; n > steps {
			return errors.New("stopped")
		}
		return nil
	}
}

// crashedStart ends starts on an image at every step.
func crashedStart(t *testing.T, what string, img *memfs.FS, all map[int64]string) {
	t.Helper()
	for step := 0; ; step++ {
		fs := img.Clone()
		fs.SetHook(stopAfter(step))
		l, err := Open(t.Context(), Options{FS: fs, Dir: dir, Config: logtest.Config(), Logger: quiet})
		fs.SetHook(nil)
		images := []*memfs.FS{fs.Crash(), fs.CrashUnordered(), fs.Clone()}
		if err == nil {
			abandon(t, l)
			if step < 4 {
				t.Errorf("%s: only %d steps of the start", what, step)
			}
			return
		}
		for i, img := range images {
			afterCrash(t, fmt.Sprintf("%s, start ended at step %d, image %d", what, step, i), img, all, int64(len(all)))
		}
	}
}

// afterCrash opens an image, looks at what is there, compacts and looks again.
func afterCrash(t *testing.T, what string, img *memfs.FS, all map[int64]string, end int64) {
	t.Helper()
	l := openMem(t, img, logtest.Config())
	got := contents(t, l)
	for off, kv := range surviving(all, 1<<60) {
		if got[off] != kv {
			t.Fatalf("%s: offset %d holds %.20q, want %.20q", what, off, got[off], kv)
		}
	}
	if o := l.Offsets(); o.Start != 0 || o.End != end {
		t.Fatalf("%s: the log goes from %d to %d, want 0 to %d", what, o.Start, o.End, end)
	}
	if _, err := l.Compact(t.Context(), compactOptions(time.UnixMilli(2000))); err != nil {
		t.Fatalf("%s: compact again: %v", what, err)
	}
	if got, want := contents(t, l), surviving(all, l.cleaned.to); diffMaps(got, want) != "" {
		t.Fatalf("%s:\n%s", what, diffMaps(got, want))
	}
	sameFiles(t, what, img, l)
	abandon(t, l)
}

// sameFiles holds the directory to the list of segments.
func sameFiles(t *testing.T, what string, fs *memfs.FS, l *Log) {
	t.Helper()
	var want, got []string
	for _, s := range l.segs {
		want = append(want, seglog.Name(dir, s.base, logExt))
		if s.file.Path() != want[len(want)-1] {
			t.Errorf("%s: a segment is called %s, want %s", what, s.file.Path(), want[len(want)-1])
		}
	}
	for _, name := range fs.Names() {
		if strings.HasSuffix(name, logExt) {
			got = append(got, name)
		}
		if strings.HasSuffix(name, ".tmp") || strings.HasSuffix(name, mergedExt) || strings.HasSuffix(name, ".deleted") {
			t.Errorf("%s: %s is left", what, name)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: files %q, want %q", what, got, want)
	}
}

// TestCompactMerges: small neighbours become one file, up to segment.bytes; searches find what they found.
func TestCompactMerges(t *testing.T) {
	fs := memfs.New()
	c := logtest.Config()
	l := openMem(t, fs, c)
	all := map[int64]string{}
	for i := range 600 {
		ts := int64(1000 + i)
		kv := fmt.Sprintf("k%d=%d %s", i%7, i, strings.Repeat("x", 50))
		if i%20 == 0 {
			kv = fmt.Sprintf("once%d=%s", i, strings.Repeat("y", 50))
		}
		all[logtest.MustAppend(t, l, keyed(t, record.None, ts, kv)).Base] = kv
	}
	sealed := len(l.segs)
	for pass := range 3 { // the second one merges what the first one made small
		to := l.cleaned.to
		if _, err := l.Compact(t.Context(), compactOptions(time.UnixMilli(10_000))); err != nil {
			t.Fatal(err)
		}
		if got, want := contents(t, l), surviving(all, l.cleaned.to); diffMaps(got, want) != "" {
			t.Fatalf("pass %d:\n%s", pass, diffMaps(got, want))
		}
		sameFiles(t, fmt.Sprint("pass ", pass), fs, l)
		if pass < 2 { // a pass needs something new
			for i := 0; l.active().base == to || i == 0; i++ {
				all[logtest.MustAppend(t, l, keyed(t, record.None, 5000, "new=v")).Base] = "new=v"
				if len(l.segs) > 1 && l.segs[len(l.segs)-1].size < 200 {
					break
				}
			}
		}
	}
	if len(l.segs) > sealed/4 {
		t.Errorf("%d segments of %d are left", len(l.segs), sealed)
	}
	for i, s := range l.segs[:len(l.segs)-1] {
		if s.size > c.SegmentBytes {
			t.Errorf("segment %d has %d bytes", i, s.size)
		}
	}
	look := func(when string) {
		t.Helper()
		kept := surviving(all, l.cleaned.to)
		for off := range l.cleaned.to { // a read at any offset begins with its batch
			r, err := l.Read(log.ReadReq{Offset: off, MaxBytes: 1, MinOne: true})
			if err != nil {
				t.Fatalf("%s: read at %d: %v", when, off, err)
			}
			h := logtest.Headers(t, logtest.Bytes(t, r))[0]
			if off < h.BaseOffset || off > h.LastOffset() {
				t.Fatalf("%s: read at %d gives %d to %d", when, off, h.BaseOffset, h.LastOffset())
			}
			if kept[off] == "" || off >= 600 {
				continue
			}
			if st, err := l.OffsetFor(t.Context(), 1000+off); err != nil || st.Offset != off {
				t.Fatalf("%s: time %d is at %+v, %v, want offset %d", when, 1000+off, st, err, off)
			}
		}
	}
	look("after the passes")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openMem(t, fs, c)
	look("after a restart")
	abandon(t, l)
}

// TestCompactWritesOnlyChanges: a segment that stays as it is is read and not written.
func TestCompactWritesOnlyChanges(t *testing.T) {
	fs := memfs.New()
	l := openMem(t, fs, logtest.Config())
	all := map[int64]string{}
	put := func(kv string) {
		all[logtest.MustAppend(t, l, keyed(t, record.None, 1000, kv)).Base] = kv
	}
	for i := 0; len(l.segs) < 5; i++ {
		put(fmt.Sprintf("k%d=%s", i, strings.Repeat("x", 100)))
	}
	third := l.segs[2]
	put(all[third.next-1])
	for i := 0; len(l.segs) < 7; i++ {
		put(fmt.Sprintf("other%d=%s", i, strings.Repeat("x", 100)))
	}
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	written := map[string]bool{}
	fs.SetHook(func(op memfs.Op, path string) error {
		if op != memfs.OpRead && strings.HasSuffix(path, compactedExt) {
			written[path] = true
		}
		return nil
	})
	done, err := l.Compact(t.Context(), compactOptions(time.UnixMilli(2000)))
	if err != nil || done.Segments != 1 || done.Records != 1 {
		t.Errorf("%+v, %v: want one record gone from one segment", done, err)
	}
	if want := seglog.Name(dir, third.base, compactedExt); len(written) != 1 || !written[want] {
		t.Errorf("%v were written, want %s", written, want)
	}
	if got, want := contents(t, l), surviving(all, l.cleaned.to); diffMaps(got, want) != "" {
		t.Error(diffMaps(got, want))
	}
	abandon(t, l)
}

// TestCompactEndsEarly: a pass that is ended keeps what it has done, and the next one goes on there.
func TestCompactEndsEarly(t *testing.T) {
	fs := memfs.New()
	l := openMem(t, fs, logtest.Config())
	all := fill(t, l, 6)
	ctx, cancel := context.WithCancel(t.Context())
	renames := 0
	fs.SetHook(func(op memfs.Op, path string) error {
		if op == memfs.OpRename && strings.HasSuffix(path, compactedExt) {
			if renames++; renames == 2 {
				cancel()
			}
		}
		return nil
	})
	_, err := l.Compact(ctx, compactOptions(time.UnixMilli(2000)))
	fs.SetHook(nil)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("%v: want that it was ended", err)
	}
	if want := l.segs[2].base; l.cleaned.to != want {
		t.Errorf("compacted to %d, want %d", l.cleaned.to, want)
	}
	if at, ok := l.cleaned.seenAt(0); !ok || at != 2000 {
		t.Errorf("offset 0 was seen at %d, %t", at, ok)
	}
	killed := fs.Clone()
	abandon(t, l)
	l = openMem(t, killed, logtest.Config())
	if want := l.segs[2].base; l.cleaned.to != want {
		t.Errorf("compacted to %d after a crash, want %d", l.cleaned.to, want)
	}
	if _, err := l.Compact(t.Context(), compactOptions(time.UnixMilli(3000))); err != nil {
		t.Fatal(err)
	}
	if got, want := contents(t, l), surviving(all, l.active().base); diffMaps(got, want) != "" {
		t.Error(diffMaps(got, want))
	}
	abandon(t, l)
}

// TestCompactKeepsTimes: retention by time goes by the last append where records have no time, also after a compaction
// and a restart.
func TestCompactKeepsTimes(t *testing.T) {
	fs := memfs.New()
	l := openMem(t, fs, logtest.Config())
	put := func(n int, at int64) {
		t.Helper()
		for i := 0; len(l.segs) <= n; i++ {
			b := keyed(t, record.None, record.NoTimestamp, fmt.Sprintf("k%d=%s", i%3, strings.Repeat("x", 100)))
			if _, err := l.Append(t.Context(), b, log.AppendOpts{AppendTime: at}); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(3, 1_000_000)
	check := func(when string) {
		t.Helper()
		for _, e := range l.Extents()[:1] {
			if e.MaxTimestamp != 1_000_000 {
				t.Errorf("%s: the segment at %d was changed at %d, want 1000000", when, e.Base, e.MaxTimestamp)
			}
		}
	}
	for range 2 { // the second pass merges
		done, err := l.Compact(t.Context(), compactOptions(time.UnixMilli(9_000_000)))
		if err != nil || done.Segments == 0 {
			t.Fatalf("%+v, %v", done, err)
		}
		check("after a pass")
		put(len(l.segs), 1_000_000)
	}
	killed := fs.Clone()
	abandon(t, l)
	l = openMem(t, killed, logtest.Config())
	check("after a restart")
	abandon(t, l)
}

// TestCompactTombstonesOutliveNoMerge: that a file takes up another does not make its tombstones younger.
func TestCompactTombstonesOutliveNoMerge(t *testing.T) {
	fs := memfs.New()
	l := openMem(t, fs, logtest.Config())
	logtest.MustAppend(t, l, keyed(t, record.None, 1000, "gone=1"))
	logtest.MustAppend(t, l, keyed(t, record.None, 1000, "gone="))
	now := time.UnixMilli(10_000)
	for i := range 9 { // a pass each ten minutes, each makes one file of what the last left and what is new
		fill(t, l, len(l.segs))
		if _, err := l.Compact(t.Context(), compactOptions(now.Add(time.Duration(i)*10*time.Minute))); err != nil {
			t.Fatal(err)
		}
		if _, ok := contents(t, l)[1]; ok != (i <= 6) {
			t.Errorf("pass %d: the tombstone is there: %t", i, ok)
		}
	}
	if len(l.segs) > 4 {
		t.Errorf("%d segments", len(l.segs))
	}
	if n := len(l.cleaned.passes); n > 8 {
		t.Errorf("%d passes are remembered", n)
	}
	abandon(t, l)
}

// TestCleanedAfterLostEnd: what was compacted is not believed when offsets were lost and given again.
func TestCleanedAfterLostEnd(t *testing.T) {
	fs := memfs.New()
	l := openMem(t, fs, logtest.Config())
	fill(t, l, 3)
	if _, err := l.Compact(t.Context(), compactOptions(time.UnixMilli(2000))); err != nil {
		t.Fatal(err)
	}
	keep := l.segs[1].base
	killed := fs.Clone()
	var dead []string
	for _, s := range l.segs[1:] {
		dead = append(dead, seglog.Name(dir, s.base, logExt))
	}
	abandon(t, l)
	for _, name := range dead {
		if err := killed.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	l = openMem(t, killed, logtest.Config())
	if l.Offsets().End != keep || l.cleaned.to != 0 {
		t.Fatalf("the log ends at %d, compacted to %d: want %d and 0", l.Offsets().End, l.cleaned.to, keep)
	}
	fill(t, l, 5)
	abandon(t, l)
	l = openMem(t, killed, logtest.Config())
	if l.cleaned.to != 0 {
		t.Errorf("compacted to %d after another restart", l.cleaned.to)
	}
	abandon(t, l)
}

// TestCompactWrongOffset: a base offset, which no CRC covers, must not take records that are the latest.
func TestCompactWrongOffset(t *testing.T) {
	fs := memfs.New()
	l := openMem(t, fs, logtest.Config())
	all := fill(t, l, 3)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	name := seglog.Name(dir, l.segs[0].base, logExt)
	b, _ := fs.ReadFile(name)
	h, err := record.ParseHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	at := h.Size() // the second batch
	record.SetBaseOffset(b[at:], 1<<40)
	fs.WriteFile(name, b)
	l = openMem(t, fs, logtest.Config())
	for range 2 {
		if _, err := l.Compact(t.Context(), compactOptions(time.UnixMilli(2000))); err != nil {
			t.Fatal(err)
		}
	}
	if after, _ := fs.ReadFile(name); string(after) != string(b) {
		t.Error("the damaged segment was changed")
	}
	for off, kv := range surviving(all, l.cleaned.to) {
		if off < l.segs[1].base {
			continue
		}
		if got := contentsOf(t, l, off, off+1); len(got) != 1 {
			t.Errorf("offset %d (%.10q) is gone", off, kv)
		}
	}
	abandon(t, l)
}

// TestCompactFailedLog: a log that failed is left alone until it is opened again.
func TestCompactFailedLog(t *testing.T) {
	fs := memfs.New()
	l := openMem(t, fs, logtest.Config())
	fill(t, l, 4)
	if err := l.fail(errors.New("sync failed")); !errors.Is(err, log.ErrStorage) {
		t.Fatal(err)
	}
	before := fs.Clone()
	done, err := l.Compact(t.Context(), compactOptions(time.UnixMilli(2000)))
	if err != nil || done != (log.Compacted{}) {
		t.Errorf("%+v, %v", done, err)
	}
	if got, want := fs.Names(), before.Names(); !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
	abandon(t, l)
}

func FuzzDecodeCleaned(f *testing.F) {
	c := cleaned{to: 90, passes: []cleanedPass{{0, 5}, {40, 9}}}
	f.Add(c.encode())
	f.Add([]byte("sluice-compaction 2\nto 0\n"))
	f.Add([]byte("sluice-compaction 2\nto 7\npass 8 1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeCleaned(b)
		if err != nil {
			return
		}
		again, err := decodeCleaned(c.encode())
		if err != nil || again.to != c.to || !slices.Equal(again.passes, c.passes) {
			t.Errorf("%+v became %+v, %v", c, again, err)
		}
	})
}

// TestRollForCompaction: on a compacted topic the segment that is written is rolled when it may not lag longer.
func TestRollForCompaction(t *testing.T) {
	for _, compact := range []bool{true, false} {
		c := logtest.Config()
		c.Compact, c.MaxCompactionLag = compact, time.Minute
		l := openMem(t, memfs.New(), c)
		for _, ts := range []int64{1000, 61_000, 61_001} {
			logtest.MustAppend(t, l, keyed(t, record.None, ts, "k=v"))
		}
		want := 1
		if compact {
			want = 2
		}
		if len(l.segs) != want {
			t.Errorf("compact %t: %d segments, want %d", compact, len(l.segs), want)
		}
		if compact && l.segs[1].base != 2 {
			t.Errorf("the second segment begins at %d, want 2", l.segs[1].base)
		}
		abandon(t, l)
	}
}

// TestCompactBesideReaders: appends, reads and deletions go on while segments are replaced.
func TestCompactBesideReaders(t *testing.T) {
	c := logtest.Config()
	l := store{nil, t.TempDir() + "/t-0"}.Open(t, c).(*Log)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	errs := make(chan error, 3)
	go func() {
		for i := 0; ctx.Err() == nil; i++ {
			if _, err := l.Append(t.Context(), keyed(t, record.Codec(i%5), 1000, fmt.Sprintf("k%d=%s", i%50, strings.Repeat("v", 100))), log.AppendOpts{}); err != nil {
				errs <- err
				return
			}
		}
		errs <- nil
	}()
	go func() {
		for ctx.Err() == nil {
			if _, err := l.Compact(ctx, compactOptions(time.UnixMilli(2000))); err != nil && ctx.Err() == nil {
				errs <- err
				return
			}
			if o := l.Offsets(); o.High-o.Start > 5000 {
				if err := l.DeleteTo(t.Context(), o.Start+100); err != nil {
					errs <- err
					return
				}
			}
		}
		errs <- nil
	}()
	go func() {
		off := int64(0)
		for ctx.Err() == nil {
			r, err := l.Read(log.ReadReq{Offset: off, MaxBytes: 64 << 10, MinOne: true})
			if errors.Is(err, log.ErrOffsetOutOfRange) {
				off = l.Offsets().Start
				continue
			}
			if err != nil {
				errs <- fmt.Errorf("read at %d: %w", off, err)
				return
			}
			off = r.Next
			r.Release()
			if off >= l.Offsets().High {
				off = l.Offsets().Start
			}
		}
		errs <- nil
	}()
	for range 3 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCompactDamage: a damaged batch stays as it is, a segment with a damaged header too, and the rest is compacted.
func TestCompactDamage(t *testing.T) {
	for _, what := range []string{"records", "header"} {
		fs := memfs.New()
		l := openMem(t, fs, logtest.Config())
		all := fill(t, l, 3)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		name := seglog.Name(dir, l.segs[1].base, logExt)
		b, _ := fs.ReadFile(name)
		h, err := record.ParseHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		at := h.Size() // the second batch
		if what == "header" {
			b[at+16] = 9 // its magic
		} else {
			b[at+100] ^= 1
		}
		fs.WriteFile(name, b)
		l = openMem(t, fs, logtest.Config())
		for range 2 {
			done, err := l.Compact(t.Context(), compactOptions(time.UnixMilli(2000)))
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if done.Segments == 0 && len(l.toldOver) != 1 {
				t.Fatalf("%s: nothing was compacted, %d batches passed over", what, len(l.toldOver))
			}
		}
		after, _ := fs.ReadFile(name)
		damaged := b[at : at+h.Size()] // all batches are of one size
		if what == "header" {
			damaged = b
		}
		if !strings.Contains(string(after), string(damaged)) {
			t.Errorf("%s: what was damaged was changed", what)
		}
		// Outside the damage the latest value of each key is there.
		want := surviving(all, l.cleaned.to)
		for off, kv := range want {
			r, err := l.Read(log.ReadReq{Offset: off, MaxBytes: 1, MinOne: true})
			if err != nil {
				if off < l.segs[1].base || off >= l.segs[1].next {
					t.Errorf("%s: offset %d: %v", what, off, err)
				}
				continue
			}
			got := logtest.Bytes(t, r)
			if k, _, _ := strings.Cut(kv, " "); !strings.Contains(string(got), strings.TrimPrefix(k, strings.Split(k, "=")[0]+"=")) {
				t.Errorf("%s: offset %d does not hold %.20q", what, off, kv)
			}
		}
		if first := l.segs[0]; int64(len(contentsOf(t, l, first.base, first.next))) == first.next-first.base {
			t.Errorf("%s: the segment before the damage was not compacted", what)
		}
		abandon(t, l)
	}
}

// contentsOf counts the offsets with records of one batch each in a range.
func contentsOf(t testing.TB, l *Log, from, to int64) (offsets []int64) {
	t.Helper()
	for off := from; off < to; {
		r, err := l.Read(log.ReadReq{Offset: off, MaxBytes: 1, MinOne: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range logtest.Headers(t, logtest.Bytes(t, r)) {
			if h.Count > 0 {
				offsets = append(offsets, h.BaseOffset)
			}
			off = h.LastOffset() + 1
		}
	}
	return offsets
}
