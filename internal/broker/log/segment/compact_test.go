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
				if err := l.loadCleaned(); err != nil || l.cleaned.to != to {
					t.Fatalf("seed %d: compacted to %d after a restart, want %d (%v)", seed, l.cleaned.to, to, err)
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

// TestCompactCrash loses power, or is killed, at every step of a pass: nothing that must be there is gone.
func TestCompactCrash(t *testing.T) {
	for step := 0; ; step++ {
		fs := memfs.New()
		l := openMem(t, fs, logtest.Config())
		all := fill(t, l, 4)
		if err := l.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		var power, killed *memfs.FS
		n, stopped := 0, errors.New("stopped")
		fs.SetHook(func(op memfs.Op, _ string) error {
			if op == memfs.OpRead || op == memfs.OpOpen {
				return nil
			}
			if n++; n > step {
				return stopped
			}
			return nil
		})
		_, err := l.Compact(t.Context(), compactOptions(time.UnixMilli(2000)))
		fs.SetHook(nil)
		power, killed = fs.Crash(), fs.Clone()
		_ = l.Close() // it failed, or not
		for i, img := range []*memfs.FS{power, killed} {
			l := openMem(t, img, logtest.Config())
			got := contents(t, l)
			end := l.Offsets().End
			for off, kv := range surviving(all, 1<<60) {
				if off < end && got[off] != kv {
					t.Fatalf("step %d, image %d: offset %d holds %.20q, want %.20q", step, i, off, got[off], kv)
				}
			}
			if end != int64(len(all)) {
				t.Fatalf("step %d, image %d: the log ends at %d, want %d", step, i, end, len(all))
			}
			if _, err := l.Compact(t.Context(), compactOptions(time.UnixMilli(2000))); err != nil {
				t.Fatalf("step %d, image %d: compact again: %v", step, i, err)
			}
			if got, want := contents(t, l), surviving(all, l.cleaned.to); diffMaps(got, want) != "" {
				t.Fatalf("step %d, image %d:\n%s", step, i, diffMaps(got, want))
			}
			for _, name := range img.Names() {
				if strings.HasSuffix(name, ".tmp") {
					t.Errorf("step %d, image %d: %s is left", step, i, name)
				}
			}
			abandon(t, l)
		}
		if err == nil {
			if step < 10 {
				t.Errorf("only %d steps", step)
			}
			return
		}
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
