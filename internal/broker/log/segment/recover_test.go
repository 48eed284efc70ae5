package segment

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/log/logtest"
	"github.com/sluice-data/sluice/internal/seglog"
	"github.com/sluice-data/sluice/internal/seglog/vfs/memfs"
)

// TestRandomPowerCut cuts the power while several segments wait for their sync: of each file any prefix may be left, or
// the file may be missing. The log opens with a prefix of what was sent.
func TestRandomPowerCut(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 3))
		fs := memfs.New()
		c := logtest.Config()
		c.SegmentBytes = 1500
		gate := make(chan struct{})
		l := store{&slowSync{FS: fs, before: func() { <-gate }}, dir}
		close(gate)
		open := l.Open(t, c).(*Log)
		gate = make(chan struct{})
		var sent []byte
		for i := range 20 {
			b := logtest.Batch(int64(i), 2, 50+rng.IntN(300))
			logtest.MustAppend(t, open, b)
			sent = append(sent, b...)
		}
		img := fs.Clone()
		close(gate)
		abandon(t, open)

		gone := false
		for _, n := range img.Names() {
			if !strings.HasSuffix(n, logExt) {
				continue
			}
			b, _ := img.ReadFile(n)
			switch {
			case gone || rng.IntN(20) == 0:
				// Names become durable in order, so what follows a missing one is missing too.
				gone = true
				if err := img.Remove(n); err != nil {
					t.Fatal(err)
				}
			case rng.IntN(4) == 0:
				img.WriteFile(n, b[:rng.IntN(len(b)+1)])
			}
		}
		ol := openMem(t, img, c)
		got := logtest.ReadAll(t, ol)
		if !bytes.HasPrefix(sent, got) {
			t.Fatalf("seed %d: found %d bytes that are no prefix of the %d sent", seed, len(got), len(sent))
		}
		end := ol.Offsets().End
		if p := logtest.MustAppend(t, ol, logtest.Batch(1, 1, 10)); p.Base != end {
			t.Fatalf("seed %d: append at %d, end was %d", seed, p.Base, end)
		}
		img2 := img.Clone()
		abandon(t, ol)
		if o := openAndClose(t, img2); o.End != end+1 {
			t.Fatalf("seed %d: reopened %+v", seed, o)
		}
	}
}

// TestDamagedSealedSegment flips a byte of a segment that was durable: reads of it fail with the position, other segments
// go on, and recovery does not cut anything.
func TestDamagedSealedSegment(t *testing.T) {
	fs := memfs.New()
	l := openMem(t, fs, logtest.Config())
	for i := range 40 {
		logtest.MustAppend(t, l, logtest.Batch(int64(i), 1, 500))
	}
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	img := fs.Clone()
	abandon(t, l)
	second := seglog.Name(dir, l.segs[1].base, logExt)
	b, _ := img.ReadFile(second)
	size := len(logtest.Batch(0, 1, 500))
	b[size+16] = 9 // the magic of the second batch
	img.WriteFile(second, b)

	l = openMem(t, img, logtest.Config())
	defer abandon(t, l)
	if o := l.Offsets(); o.End != 40 {
		t.Fatalf("%+v", o)
	}
	base := l.segs[1].base
	_, err := l.Read(log.ReadReq{Offset: base + 1, MaxBytes: 10, MinOne: true})
	ce := (*seglog.CorruptionError)(nil)
	if !errors.As(err, &ce) || ce.Path != second || ce.Offset != int64(size) || log.KafkaCode(err) != 56 {
		t.Fatalf("read of the damaged batch: %v", err)
	}
	for _, off := range []int64{0, base, l.segs[2].base, 39} {
		r, err := l.Read(log.ReadReq{Offset: off, MaxBytes: 10, MinOne: true})
		if err != nil {
			t.Fatalf("read at %d beside the damage: %v", off, err)
		}
		r.Release()
	}
}

// TestDamageBelowRecoveryPoint loses the state file, so that all segments are scanned, and finds old damage.
func TestDamageBelowRecoveryPoint(t *testing.T) {
	for _, what := range []string{"flip", "cut", "missing end"} {
		fs := memfs.New()
		l := openMem(t, fs, logtest.Config())
		for i := range 40 {
			logtest.MustAppend(t, l, logtest.Batch(int64(i), 1, 500))
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		second := seglog.Name(dir, l.segs[1].base, logExt)
		b, _ := fs.ReadFile(second)
		size := len(logtest.Batch(0, 1, 500))
		at := int64(0)
		switch what {
		case "flip": // in the last batch: only the next segment shows that it is no torn end
			at = int64(len(b) - size)
			b[len(b)-3] ^= 4
			if err := fs.Remove(filepath.Join(dir, stateName)); err != nil {
				t.Fatal(err)
			}
		case "cut":
			at = int64(len(b) - size)
			b = b[:len(b)-5]
		case "missing end":
			at = int64(len(b) - size)
			b = b[:len(b)-size]
		}
		fs.WriteFile(second, b)
		_, err := Open(t.Context(), Options{FS: fs, Dir: dir, Config: logtest.Config(), Logger: quiet})
		if ce := (*seglog.CorruptionError)(nil); !errors.As(err, &ce) || ce.Path != second || ce.Offset != at {
			t.Fatalf("%s: %v, want position %d", what, err, at)
		}
		l, err = Open(t.Context(), Options{FS: fs, Dir: dir, Config: logtest.Config(), Logger: quiet, Repair: true})
		if err != nil {
			t.Fatalf("%s: repair: %v", what, err)
		}
		if end := l.Offsets().End; end != l.segs[1].base+at/int64(size) {
			t.Fatalf("%s: repaired end %d", what, end)
		}
		logtest.MustAppend(t, l, logtest.Batch(1, 1, 10))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestIndexSearch compares the search in files with the one in memory.
func TestIndexSearch(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{0, 1, 2, 511, 512, 513, 5000} {
		x := &index{}
		rel, pos, ts := uint32(0), uint32(0), int64(0)
		for range n {
			x.pos = append(x.pos, posEntry{rel, pos})
			x.times = append(x.times, timeEntry{ts, rel})
			rel += 1 + rng.Uint32N(20)
			pos += 61 + rng.Uint32N(9000)
			ts += 1 + rng.Int64N(50)
		}
		fs := memfs.New()
		const base = 1000
		next := base + int64(rel)
		pb, tb := x.encode(base, next, ts, int64(pos))
		fs.WriteFile(seglog.Name(dir, base, indexExt), pb)
		fs.WriteFile(seglog.Name(dir, base, timeExt), tb)
		f := &fileIndex{fs: fs, dir: dir, base: base, logSize: int64(pos)}
		m := memSearcher{x.pos, append(x.times, timeEntry{ts, rel})}
		if max, end, err := f.tail(); n > 0 && (err != nil || max != ts || end != next) {
			t.Fatalf("n %d: tail %d, %d, %v", n, max, end, err)
		}
		for range 300 {
			off, p, at := base+rng.Int64N(int64(rel)+3), rng.Int64N(int64(pos)+3), rng.Int64N(ts+3)
			type answer struct {
				v   [3]int64
				err string
			}
			ask := func(s searcher) (a answer) {
				var e [3]error
				a.v[0], e[0] = s.before(base, off)
				a.v[1], e[1] = s.beforePos(p)
				a.v[2], e[2] = s.notAfter(base, at)
				a.err = fmt.Sprint(e)
				return a
			}
			if a, b := ask(f), ask(m); a != b {
				t.Fatalf("n %d: offset %d, position %d, time %d: file says %+v, memory %+v", n, off, p, at, a, b)
			}
		}
		f.close()
	}
}

// FuzzRecover opens a directory with arbitrary contents. It must not crash, and what it accepts must work.
func FuzzRecover(f *testing.F) {
	fs := memfs.New()
	l := openMem(f, fs, logtest.Config())
	for i := range 12 {
		logtest.MustAppend(f, l, logtest.Batch(int64(i), 2, 20))
	}
	abandon(f, l)
	read := func(name string) []byte {
		b, err := fs.ReadFile(filepath.Join(dir, name))
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	const base = "00000000000000000000"
	whole := read(base + logExt)
	f.Add(whole, read(base+indexExt), read(base+timeExt), read(stateName), read(epochsName), false)
	f.Add(whole[:len(whole)-5], []byte{}, []byte{}, []byte{}, []byte{}, true)
	f.Add(append(bytes.Clone(whole[:300]), make([]byte, 9000)...), []byte{}, []byte{}, []byte("sluice-log 1\nstart 3\nrecovery 0\n"), []byte("0\n1\n0 0\n"), true)
	f.Add(whole, read(base+indexExt), read(base+timeExt), read(stateName), read(epochsName), true)
	f.Fuzz(func(t *testing.T, logb, idx, times, st, ep []byte, second bool) {
		fs := memfs.New()
		if err := fs.MkdirAll(dir); err != nil {
			t.Fatal(err)
		}
		fs.WriteFile(filepath.Join(dir, base+logExt), logb)
		fs.WriteFile(filepath.Join(dir, base+indexExt), idx)
		fs.WriteFile(filepath.Join(dir, base+timeExt), times)
		fs.WriteFile(filepath.Join(dir, stateName), st)
		fs.WriteFile(filepath.Join(dir, epochsName), ep)
		if second {
			fs.WriteFile(filepath.Join(dir, "00000000000000000024"+logExt), logb[:len(logb)/2])
		}
		l, err := Open(t.Context(), Options{FS: fs, Dir: dir, Config: logtest.Config(), Logger: quiet})
		if err != nil {
			if !errors.As(err, new(*seglog.CorruptionError)) {
				t.Fatalf("neither opened nor reported damage: %v", err)
			}
			if l, err = Open(t.Context(), Options{FS: fs, Dir: dir, Config: logtest.Config(), Logger: quiet, Repair: true}); err != nil {
				t.Fatalf("repair: %v", err)
			}
		}
		o := l.Offsets()
		if o.Start < 0 || o.Start > o.End || o.High != o.End {
			t.Fatalf("%+v", o)
		}
		p, err := l.Append(t.Context(), logtest.Batch(7, 1, 10), log.AppendOpts{Epoch: o.Epoch})
		if err != nil || p.Base != o.End {
			if o.End < 1<<61 {
				t.Fatalf("append at %d, end was %d: %v", p.Base, o.End, err)
			}
		} else if r, err := l.Read(log.ReadReq{Offset: p.Base, MaxBytes: 100, MinOne: true}); err != nil || r.Next != p.Base+1 {
			t.Fatalf("read of what was appended: %+v, %v", r, err)
		} else {
			r.Release()
		}
		_, _ = l.OffsetFor(t.Context(), 5) // may report damage
		if err := l.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	})
}

// TestFaultsInRecovery fails the n-th operation while a log with a hole, a torn end and left-overs is opened. Nothing may
// crash or leak, and the next open finds what the first would have.
func TestFaultsInRecovery(t *testing.T) {
	fs := memfs.New()
	c := logtest.Config()
	c.SegmentBytes = 1500
	gate := make(chan struct{})
	blocked := store{&slowSync{FS: fs, before: func() { <-gate }}, dir}
	close(gate)
	l := blocked.Open(t, c).(*Log)
	gate = make(chan struct{})
	for i := range 20 {
		logtest.MustAppend(t, l, logtest.Batch(int64(i), 2, 200))
	}
	img := fs.Clone()
	close(gate)
	abandon(t, l)
	third := seglog.Name(dir, l.segs[2].base, logExt)
	b, _ := img.ReadFile(third)
	img.WriteFile(third, b[:len(b)-7])
	img.WriteFile(filepath.Join(dir, "00000000000000000000.log.deleted"), nil)
	img.WriteFile(filepath.Join(dir, "00000000000000000777.index"), nil)
	good := img.Clone()
	ol := openMem(t, good, c)
	want := logtest.ReadAll(t, ol)
	abandon(t, ol)

	for _, start := range []int64{0, 5, 1000} {
		for n := 1; ; n++ {
			fs := img.Clone()
			if start > 0 {
				fs.WriteFile(filepath.Join(dir, stateName), state{start: start}.encode())
			}
			count := 0
			fs.SetHook(func(memfs.Op, string) error {
				if count++; count == n {
					return errors.New("fault")
				}
				return nil
			})
			l, err := Open(t.Context(), Options{FS: fs, Dir: dir, Config: c, Logger: quiet})
			fs.SetHook(nil)
			if err == nil {
				_ = l.Close() // a fault may have hit an index only
			}
			l = openMem(t, fs, c)
			got, o := logtest.ReadAll(t, l), l.Offsets()
			switch {
			case o.Start != start:
				t.Fatalf("start %d, operation %d: %+v", start, n, o)
			case start == 0 && !bytes.Equal(got, want), start == 5 && !bytes.HasSuffix(want, got), start == 1000 && o.End != 1000:
				t.Fatalf("start %d, operation %d: contents differ", start, n)
			}
			abandon(t, l)
			if count < n {
				break
			}
		}
	}
}

// TestTrim looks at the padding behind a log: it is there while the log is written, goes when it is not, and comes again.
func TestTrim(t *testing.T) {
	fs := memfs.New()
	c := logtest.Config()
	c.SegmentBytes = 1 << 20
	l := openMem(t, fs, c)
	size := func() int64 {
		t.Helper()
		b, err := fs.ReadFile(lastLog(t, fs))
		if err != nil {
			t.Fatal(err)
		}
		return int64(len(b))
	}
	end := int64(0)
	for range 3 {
		b := logtest.Batch(1, 10, 600)
		end += int64(len(b))
		logtest.MustAppend(t, l, b)
		if err := l.Trim(); err != nil { // something was appended
			t.Fatal(err)
		}
		if got := size(); got%seglog.PadTo != 0 || got < end {
			t.Fatalf("the file has %d bytes with %d of batches", got, end)
		}
		if err := l.Trim(); err != nil {
			t.Fatal(err)
		}
		if got := size(); got != end {
			t.Fatalf("trimmed, the file has %d bytes: want %d", got, end)
		}
	}
	logtest.MustAppend(t, l, logtest.Batch(1, 10, 600))
	killed := fs.Clone()
	want := logtest.ReadAll(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := size(); got != int64(len(want)) {
		t.Fatalf("closed, the file has %d bytes: want %d", got, len(want))
	}
	k := openMem(t, killed, c)
	if got := logtest.ReadAll(t, k); !bytes.Equal(got, want) {
		t.Fatalf("a log that was killed has %d bytes: want %d", len(got), len(want))
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
}
