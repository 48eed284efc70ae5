package segment

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/log/logtest"
	"github.com/sluice-data/sluice/internal/broker/record"
	"github.com/sluice-data/sluice/internal/seglog"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
)

// TestFlippedBitIsFoundOnRead flips bytes of a log that was closed cleanly, so that nothing is scanned: reading names
// file, position and offset, and everything else can be read.
func TestFlippedBitIsFoundOnRead(t *testing.T) {
	c := logtest.Config()
	for _, size := range []int{20, 20_000} { // copied and sent from the file
		c.SegmentBytes = int64(size+40) * 2 * 20
		s := store{vfs.OS{}, filepath.Join(t.TempDir(), "t-0")}
		l := s.Open(t, c).(*Log)
		for i := range 40 {
			logtest.MustAppend(t, l, logtest.Batch(int64(i), 2, size))
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		for _, seg := range []int{0, len(l.segs) - 1} { // sealed and active
			path, first := l.segs[seg].file.Path(), l.segs[seg].base
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			one, err := record.ParseHeader(b)
			if err != nil {
				t.Fatal(err)
			}
			for _, batch := range []int64{0, 1, int64(len(b))/one.Size() - 1} {
				for _, in := range []int64{17, 22, 30, 57, 61, 75, one.Size() - 1} {
					pos := batch * one.Size()
					bad := first + 2*batch
					logtest.FlipBit(t, path, pos+in)
					var logs bytes.Buffer
					l, err := Open(t.Context(), Options{Dir: s.dir, Config: c, Logger: slog.New(slog.NewTextHandler(&logs, nil))})
					if err != nil {
						t.Fatal(err)
					}
					name := fmt.Sprintf("size %d, segment %d, batch %d, byte %d", size, seg, batch, in)
					var got, refused []int64
					for off, again := int64(0), 0; off < l.Offsets().High; {
						r, err := l.Read(log.ReadReq{Offset: off, MaxBytes: 1 << 30, MinOne: true})
						if err != nil {
							ce := (*seglog.CorruptionError)(nil)
							if !errors.Is(err, log.ErrStorage) || !errors.As(err, &ce) || ce.Path != path || ce.Offset != pos || !strings.Contains(err.Error(), fmt.Sprintf("offset %d", bad)) {
								t.Fatalf("%s: %v", name, err)
							}
							if again++; again < 3 {
								continue // it is refused every time
							}
							refused, off, again = append(refused, off), off+2, 0
							continue
						}
						for _, h := range logtest.Headers(t, logtest.Bytes(t, r)) {
							got = append(got, h.BaseOffset)
						}
						off = r.Next
					}
					if len(refused) != 1 || refused[0] != bad || len(got) != 39 {
						t.Errorf("%s: refused at %v, %d batches are readable", name, refused, len(got))
					}
					if n := strings.Count(logs.String(), "batch is damaged"); n != 1 {
						t.Errorf("%s: %d lines: %s", name, n, logs.String())
					}
					if err := l.Close(); err != nil {
						t.Fatal(err)
					}
					logtest.FlipBit(t, path, pos+in)
				}
			}
		}
	}
}

// TestFlippedBitUnderOpenLog changes a file that this process wrote, behind its back.
func TestFlippedBitUnderOpenLog(t *testing.T) {
	l := benchLog(t)
	for i := range 200 { // more than the last batches that are known by heart
		logtest.MustAppend(t, l, logtest.Batch(int64(i), 1, 1000))
	}
	logtest.ReadAll(t, l)
	path := l.active().file.Path()
	logtest.FlipBit(t, path, 500)
	later := time.Now().Add(5 * time.Second) // as if it were so much later
	if err := os.Chtimes(path, later, later); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Read(log.ReadReq{Offset: 0, MaxBytes: 1 << 20}); !errors.As(err, new(*seglog.CorruptionError)) {
		t.Errorf("read of a changed file: %v", err)
	}
	logtest.FlipBit(t, path, 500)
	logtest.ReadAll(t, l)

	// A disk that gives other bytes than before changes no time.
	logtest.FlipBit(t, path, 500)
	if err := os.Chtimes(path, later, later); err != nil {
		t.Fatal(err)
	}
	if r, err := l.Read(log.ReadReq{Offset: 0, MaxBytes: 1 << 20}); err != nil {
		t.Fatalf("the change is not to be noticed yet: %v", err)
	} else {
		r.Release()
	}
	v := &l.active().verified
	v.mu.Lock()
	v.since = v.since.Add(-verifyAge - time.Second)
	v.mu.Unlock()
	if _, err := l.Read(log.ReadReq{Offset: 0, MaxBytes: 1 << 20}); !errors.As(err, new(*seglog.CorruptionError)) {
		t.Errorf("read when the verification is old: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestVerifiedRanges compares the ranges with a list of bytes. Some may be forgotten, none may be made up.
func TestVerifiedRanges(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var v verified
		var model [400]bool
		forgot := false
		for range 60 {
			from := rng.Int64N(390)
			to := from + 1 + rng.Int64N(min(400-from-1, 20)+1)
			to = min(to, 400)
			v.add(from, to)
			for i := from; i < to; i++ {
				model[i] = true
			}
			forgot = forgot || len(v.ranges) == maxRanges
			if len(v.ranges) > maxRanges {
				t.Fatal(len(v.ranges))
			}
			for i, r := range v.ranges {
				if r.from >= r.to || i > 0 && v.ranges[i-1].to >= r.from {
					t.Fatalf("%+v", v.ranges)
				}
			}
			seen := [400]bool{}
			for _, r := range v.ranges {
				for i := r.from; i < r.to; i++ {
					seen[i] = true
				}
			}
			for i := range model {
				if seen[i] && !model[i] || !forgot && seen[i] != model[i] {
					t.Fatalf("byte %d: %v, model %v: %+v", i, seen[i], model[i], v.ranges)
				}
			}
			a := rng.Int64N(399)
			b := a + 1 + rng.Int64N(400-a-1)
			for pos := a; ; {
				x, y := v.missing(pos, b)
				for i := pos; i < x; i++ {
					if !seen[i] {
						t.Fatalf("byte %d passed as verified: %+v", i, v.ranges)
					}
				}
				for i := x; i < y; i++ {
					if seen[i] {
						t.Fatalf("byte %d is to be verified again: %+v", i, v.ranges)
					}
				}
				if x == y {
					break
				}
				pos = y
			}
		}
	}
}

// BenchmarkReadVerified compares reading for the first time with reading again.
func BenchmarkReadVerified(b *testing.B) {
	l := benchLog(b)
	batch := logtest.Batch(1_700_000_000_000, 1000, 100)
	for range 600 {
		logtest.MustAppend(b, l, batch)
	}
	defer l.Close()
	for _, first := range []bool{true, false} {
		b.Run(map[bool]string{true: "first", false: "again"}[first], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if first {
					v := &l.active().verified
					v.mu.Lock()
					v.ranges = nil
					v.mu.Unlock()
				}
				r, err := l.Read(log.ReadReq{Offset: 0, MaxBytes: 50 << 20})
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(r.Size)
				r.Release()
			}
		})
	}
}
