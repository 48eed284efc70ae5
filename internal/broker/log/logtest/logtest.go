// Package logtest is the suite that every log.Log must pass unchanged.
package logtest

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/record"
)

// Store makes logs for the suite. Open opens the same log again after it was closed.
type Store interface {
	Open(t testing.TB, c log.TopicConfig) log.Log
}

// Run runs the suite. fresh returns a Store of its own for each test.
func Run(t *testing.T, fresh func(t *testing.T) Store) {
	for _, c := range []struct {
		name string
		f    func(*testing.T, Store)
	}{
		{"Empty", testEmpty},
		{"AppendStampsAndReads", testAppendReads},
		{"ReadLimits", testReadLimits},
		{"OutOfRange", testOutOfRange},
		{"RefusesGarbage", testGarbage},
		{"Random", testRandom},
		{"OffsetFor", testOffsetFor},
		{"Epochs", testEpochs},
		{"DeleteTo", testDeleteTo},
		{"OpenReadSurvivesDeleteAndClose", testOpenRead},
		{"Notify", testNotify},
		{"NotifyRace", testNotifyRace},
		{"SyncAcks", testSyncAcks},
		{"Concurrent", testConcurrent},
		{"Closed", testClosed},
	} {
		t.Run(c.name, func(t *testing.T) { c.f(t, fresh(t)) })
	}
}

func mustClose(t testing.TB, l log.Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

func testEmpty(t *testing.T, s Store) {
	l := s.Open(t, Config())
	for range 2 {
		if o := l.Offsets(); o != (log.Offsets{}) {
			t.Fatalf("offsets of an empty log: %+v", o)
		}
		r, err := l.Read(log.ReadReq{MaxBytes: 100, MinOne: true})
		if err != nil || r.Size != 0 || len(r.Sections) != 0 || r.Next != 0 {
			t.Fatalf("read of an empty log: %+v, %v", r, err)
		}
		r.Release()
		for _, ts := range []int64{0, 5, log.MaxTimestamp} {
			if st, err := l.OffsetFor(t.Context(), ts); err != nil || st != log.NoStamp {
				t.Fatalf("OffsetFor(%d) = %+v, %v", ts, st, err)
			}
		}
		if e, off := l.EpochEnd(0); e != -1 || off != -1 {
			t.Fatalf("EpochEnd(0) = %d, %d", e, off)
		}
		if err := l.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustClose(t, l)
		l = s.Open(t, Config())
	}
	mustClose(t, l)
}

func testAppendReads(t *testing.T, s Store) {
	l := s.Open(t, Config())
	defer mustClose(t, l)
	two := append(Batch(10, 3, 20), Batch(20, 2, 20)...)
	if p := MustAppend(t, l, two); p.Base != 0 || p.Last != 4 {
		t.Fatalf("first append at %d to %d: want 0 to 4", p.Base, p.Last)
	}
	p, err := l.Append(t.Context(), Batch(30, 1, 20), log.AppendOpts{Epoch: 7})
	if err != nil || p.Base != 5 || p.Last != 5 {
		t.Fatalf("second append at %d to %d, %v: want 5", p.Base, p.Last, err)
	}
	r, err := l.Read(log.ReadReq{Offset: 4, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if r.Next != 6 || r.Offsets.High != 6 {
		t.Fatalf("read: next %d, high %d: want 6, 6", r.Next, r.Offsets.High)
	}
	hs := Headers(t, Bytes(t, r))
	if len(hs) != 2 || hs[0].BaseOffset != 3 || hs[1].BaseOffset != 5 || hs[0].LeaderEpoch != 0 || hs[1].LeaderEpoch != 7 {
		t.Fatalf("read from inside the second batch: %+v", hs)
	}
}

func testReadLimits(t *testing.T, s Store) {
	l := s.Open(t, Config())
	defer mustClose(t, l)
	size := len(Batch(0, 1, 300))
	for i := range 100 {
		MustAppend(t, l, Batch(int64(i), 1, 300))
	}
	for _, c := range []struct {
		off   int64
		max   int
		one   bool
		count int
	}{
		{0, 0, false, 0}, {0, 0, true, 1}, {0, -5, true, 1}, {0, size - 1, false, 0}, {0, size - 1, true, 1},
		{0, size, false, 1}, {0, size + 1, false, 1}, {0, 2*size - 1, true, 1}, {7, 5 * size, true, 5},
		{7, 50*size + 3, false, 50}, {98, 1 << 20, true, 2}, {0, 1 << 20, true, 100}, {100, 1 << 20, true, 0},
	} {
		r, err := l.Read(log.ReadReq{Offset: c.off, MaxBytes: c.max, MinOne: c.one})
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		hs := Headers(t, Bytes(t, r))
		if len(hs) != c.count || r.Next != c.off+int64(c.count) {
			t.Fatalf("%+v: %d batches, next %d", c, len(hs), r.Next)
		}
		for i, h := range hs {
			if h.BaseOffset != c.off+int64(i) {
				t.Fatalf("%+v: batch %d has offset %d", c, i, h.BaseOffset)
			}
		}
	}
}

func testOutOfRange(t *testing.T, s Store) {
	l := s.Open(t, Config())
	defer mustClose(t, l)
	MustAppend(t, l, Batch(0, 10, 10))
	if err := l.DeleteTo(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{-1, 0, 3, 11, 1 << 60} {
		_, err := l.Read(log.ReadReq{Offset: off, MaxBytes: 100})
		e := (*log.OffsetOutOfRangeError)(nil)
		if !errors.As(err, &e) || !errors.Is(err, log.ErrOffsetOutOfRange) || e.Start != 4 || e.High != 10 || log.KafkaCode(err) != 1 {
			t.Fatalf("read at %d: %v", off, err)
		}
	}
	if err := l.DeleteTo(t.Context(), 11); !errors.Is(err, log.ErrOffsetOutOfRange) {
		t.Fatalf("delete beyond the end: %v", err)
	}
}

func testGarbage(t *testing.T, s Store) {
	l := s.Open(t, Config())
	defer mustClose(t, l)
	good := Batch(1, 1, 30)
	for name, b := range map[string][]byte{
		"nothing":    nil,
		"cut header": good[:40],
		"cut batch":  good[:len(good)-1],
		"tail":       append(append([]byte{}, good...), 1, 2, 3),
		"zeros":      make([]byte, 200),
	} {
		if _, err := l.Append(t.Context(), b, log.AppendOpts{}); err == nil {
			t.Errorf("%s was appended", name)
		}
	}
	if o := l.Offsets(); o.End != 0 {
		t.Fatalf("garbage moved the end to %d", o.End)
	}
	MustAppend(t, l, good)
}

// testRandom appends, reads, deletes and reopens at random and compares with a list in memory.
func testRandom(t *testing.T, s Store) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 1))
		cfg := Config()
		l := s.Open(t, cfg)
		start := l.Offsets().End
		if err := l.DeleteTo(t.Context(), start); err != nil {
			t.Fatal(err)
		}
		type item struct {
			h record.Header
			b []byte
		}
		var model []item
		for step := range 400 {
			switch k := rng.IntN(20); {
			case k < 10:
				b := Batch(int64(1000*step), 1+rng.IntN(5), 10+rng.IntN(400))
				p := MustAppend(t, l, b)
				h, err := record.Check(b)
				if err != nil || h.BaseOffset != p.Base {
					t.Fatalf("seed %d: appended batch at %d, header %d, %v", seed, p.Base, h.BaseOffset, err)
				}
				model = append(model, item{h, bytes.Clone(b)})
			case k < 18 && len(model) > 0:
				i := rng.IntN(len(model))
				off := max(model[i].h.BaseOffset+rng.Int64N(int64(model[i].h.Count)), start)
				limit := rng.IntN(6000)
				r, err := l.Read(log.ReadReq{Offset: off, MaxBytes: limit, MinOne: true})
				if err != nil {
					t.Fatalf("seed %d: read at %d: %v", seed, off, err)
				}
				next := r.Next
				got := Bytes(t, r)
				var want []byte
				for j := i; j < len(model) && (j == i || len(want)+len(model[j].b) <= limit); j++ {
					want = append(want, model[j].b...)
					if next < model[j].h.LastOffset()+1 {
						next = -1
					}
				}
				if !bytes.Equal(got, want) || next < 0 {
					t.Fatalf("seed %d: read at %d, limit %d: %d bytes, want %d, next %d", seed, off, limit, len(got), len(want), r.Next)
				}
			case k == 18 && len(model) > 3 && rng.IntN(4) == 0:
				i := rng.IntN(len(model) / 2)
				start = model[i].h.BaseOffset + rng.Int64N(int64(model[i].h.Count))
				if err := l.DeleteTo(t.Context(), start); err != nil {
					t.Fatal(err)
				}
				model = model[i:]
			case k == 19 && rng.IntN(4) == 0:
				before := l.Offsets()
				mustClose(t, l)
				l = s.Open(t, cfg)
				if after := l.Offsets(); after != before {
					t.Fatalf("seed %d: reopened log has %+v, had %+v", seed, after, before)
				}
			}
		}
		var want []byte
		for _, m := range model {
			want = append(want, m.b...)
		}
		if !bytes.Equal(ReadAll(t, l), want) {
			t.Fatalf("seed %d: contents differ", seed)
		}
		mustClose(t, l)
	}
}

func testOffsetFor(t *testing.T, s Store) {
	l := s.Open(t, Config())
	// Timestamps rise by 100 a batch but for one far ahead and one without; records are 1 ms apart.
	base := map[int]int64{}
	for i := range 60 {
		ts := int64(1000 + 100*i)
		switch i {
		case 30:
			ts = 50_000
		case 31:
			b := record.Append(nil, record.Header{ProducerID: -1, BaseSequence: -1}, record.Record{Timestamp: -1, Value: []byte("x")})
			base[i] = MustAppend(t, l, b).Base
			continue
		}
		base[i] = MustAppend(t, l, Batch(ts, 5, 100)).Base
	}
	check := func(when string) {
		t.Helper()
		for _, c := range []struct{ ts, off, at int64 }{
			{0, 0, 1000}, {1000, 0, 1000}, {1001, 1, 1001}, {1004, 4, 1004}, {1005, base[1], 1100},
			{3900, base[29], 3900}, {3905, base[30], 50_000}, {4000, base[30], 50_000}, {50_003, base[30] + 3, 50_003},
			{50_005, -1, -1}, {log.MaxTimestamp, base[30] + 4, 50_004},
		} {
			st, err := l.OffsetFor(t.Context(), c.ts)
			if err != nil || st.Offset != c.off || st.Timestamp != c.at {
				t.Errorf("%s: OffsetFor(%d) = %+v, %v: want offset %d at %d", when, c.ts, st, err, c.off, c.at)
			}
		}
	}
	check("open")
	mustClose(t, l)
	l = s.Open(t, Config())
	check("reopened")
	if _, err := l.OffsetFor(t.Context(), -7); err == nil {
		t.Error("OffsetFor(-7) succeeded")
	}
	// What is deleted is not found, though it lies in the same batch and segment.
	if err := l.DeleteTo(t.Context(), base[30]+2); err != nil {
		t.Fatal(err)
	}
	for _, ts := range []int64{1000, 50_000, 50_002} {
		if st, err := l.OffsetFor(t.Context(), ts); err != nil || st.Offset != base[30]+2 {
			t.Errorf("after deletion OffsetFor(%d) = %+v, %v", ts, st, err)
		}
	}
	if err := l.DeleteTo(t.Context(), base[31]); err != nil {
		t.Fatal(err)
	}
	if st, err := l.OffsetFor(t.Context(), log.MaxTimestamp); err != nil || st.Timestamp != 1000+5900+4 {
		t.Errorf("largest timestamp after deletion: %+v, %v", st, err)
	}
	mustClose(t, l)
}

func testEpochs(t *testing.T, s Store) {
	l := s.Open(t, Config())
	app := func(e int32) {
		t.Helper()
		if _, err := l.Append(t.Context(), Batch(1, 2, 10), log.AppendOpts{Epoch: e}); err != nil {
			t.Fatal(err)
		}
	}
	app(2)
	app(2)
	app(5)
	if _, err := l.Append(t.Context(), Batch(1, 2, 10), log.AppendOpts{Epoch: 4}); !errors.Is(err, log.ErrFencedEpoch) {
		t.Fatalf("append with an old epoch: %v", err)
	}
	for range 2 {
		for _, c := range []struct {
			ask, epoch int32
			end        int64
		}{{-1, -1, -1}, {0, 0, 0}, {2, 2, 4}, {3, 2, 4}, {4, 2, 4}, {5, 5, 6}, {6, -1, -1}} {
			if e, off := l.EpochEnd(c.ask); e != c.epoch || off != c.end {
				t.Errorf("EpochEnd(%d) = %d, %d: want %d, %d", c.ask, e, off, c.epoch, c.end)
			}
		}
		mustClose(t, l)
		l = s.Open(t, Config())
	}
	mustClose(t, l)
}

func testDeleteTo(t *testing.T, s Store) {
	l := s.Open(t, Config())
	for i := range 100 {
		MustAppend(t, l, Batch(int64(i), 3, 100))
	}
	sum := func() (n int64) {
		ext := l.Extents()
		for i, e := range ext {
			n += e.Bytes
			if i > 0 && e.Base != ext[i-1].Next {
				t.Fatalf("extent %d begins at %d, the last ended at %d", i, e.Base, ext[i-1].Next)
			}
		}
		return n
	}
	before := sum()
	for _, off := range []int64{151, 150, 0} { // backwards does nothing
		if err := l.DeleteTo(t.Context(), off); err != nil {
			t.Fatal(err)
		}
		if o := l.Offsets(); o.Start != 151 || o.End != 300 {
			t.Fatalf("after DeleteTo(%d): %+v", off, o)
		}
	}
	if after := sum(); after > before*6/10 {
		t.Fatalf("deleting half freed %d of %d bytes", before-after, before)
	}
	mustClose(t, l)
	l = s.Open(t, Config())
	if o := l.Offsets(); o.Start != 151 || o.End != 300 {
		t.Fatalf("reopened: %+v", o)
	}
	if hs := Headers(t, ReadAll(t, l)); hs[0].BaseOffset != 150 || len(hs) != 50 {
		t.Fatalf("%d batches left from %d", len(hs), hs[0].BaseOffset)
	}
	if err := l.DeleteTo(t.Context(), 300); err != nil {
		t.Fatal(err)
	}
	if n := sum(); n != 0 {
		t.Fatalf("%d bytes left after deleting all", n)
	}
	mustClose(t, l)
	l = s.Open(t, Config())
	if o := l.Offsets(); o.Start != 300 || o.End != 300 || o.High != 300 {
		t.Fatalf("all deleted, reopened: %+v", o)
	}
	if p := MustAppend(t, l, Batch(1, 1, 10)); p.Base != 300 {
		t.Fatalf("append after deleting all: offset %d", p.Base)
	}
	mustClose(t, l)
}

func testOpenRead(t *testing.T, s Store) {
	l := s.Open(t, Config())
	var want []byte
	for i := range 300 {
		b := Batch(int64(i), 1, 300)
		MustAppend(t, l, b)
		want = append(want, b...)
	}
	small, err := l.Read(log.ReadReq{Offset: 0, MaxBytes: 2000})
	if err != nil {
		t.Fatal(err)
	}
	large, err := l.Read(log.ReadReq{Offset: 0, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.DeleteTo(t.Context(), 300); err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	if got := Bytes(t, large); !bytes.Equal(got, want) {
		t.Fatalf("large read has %d bytes, want %d", len(got), len(want))
	}
	if got := Bytes(t, small); !bytes.HasPrefix(want, got) || len(got) < 1500 {
		t.Fatalf("small read has %d bytes", len(got))
	}
}

func fired(w *log.Waiter) bool {
	select {
	case <-w.C():
		return true
	default:
		return false
	}
}

func testNotify(t *testing.T, s Store) {
	l := s.Open(t, Config())
	b := func() []byte { return Batch(1, 1, 100) }
	size := len(b())
	MustAppend(t, l, b())

	w := log.NewWaiter(2*size + 1)
	cancel := l.Notify(w, 1, log.ReadUncommitted)
	MustAppend(t, l, b())
	MustAppend(t, l, b())
	if fired(w) {
		t.Fatal("fired before there were enough bytes")
	}
	MustAppend(t, l, b())
	if !fired(w) {
		t.Fatal("did not fire with enough bytes")
	}
	MustAppend(t, l, b()) // must not close twice
	cancel()
	cancel()

	w = log.NewWaiter(1)
	l.Notify(w, 3, log.ReadUncommitted)() // something is there already
	if !fired(w) {
		t.Fatal("did not count what was there")
	}
	w = log.NewWaiter(1)
	l.Notify(w, 5, log.ReadUncommitted)()
	MustAppend(t, l, b())
	if fired(w) {
		t.Fatal("fired after it was cancelled")
	}
	w = log.NewWaiter(1 << 30)
	defer l.Notify(w, 6, log.ReadUncommitted)()
	mustClose(t, l)
	if !fired(w) {
		t.Fatal("closing the log did not fire the waiter")
	}
	w = log.NewWaiter(1 << 30)
	l.Notify(w, 6, log.ReadUncommitted)()
	if !fired(w) {
		t.Fatal("a closed log did not fire the waiter")
	}
}

// testNotifyRace follows the log with waiters only; a lost wake-up hangs it.
func testNotifyRace(t *testing.T, s Store) {
	l := s.Open(t, Config())
	const total = 2000
	var wg sync.WaitGroup
	for r := range 3 {
		wg.Go(func() {
			for off := int64(0); off < total; {
				res, err := l.Read(log.ReadReq{Offset: off, MaxBytes: 100_000, MinOne: true})
				if err != nil {
					t.Error(err)
					return
				}
				next := res.Next
				res.Release()
				if next > off {
					off = next
					continue
				}
				w := log.NewWaiter(1 + 100*r)
				cancel := l.Notify(w, next, log.ReadUncommitted)
				select {
				case <-w.C():
				case <-time.After(time.Minute):
					t.Errorf("lost a wake-up at offset %d, log: %+v", off, l.Offsets())
					cancel()
					return
				}
				cancel()
			}
		})
	}
	for p := range 2 {
		wg.Go(func() {
			for i := range total / 2 {
				if _, err := l.Append(context.Background(), Batch(int64(p*total+i), 1, 200), log.AppendOpts{}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	mustClose(t, l)
}

func testSyncAcks(t *testing.T, s Store) {
	c := Config()
	c.SyncAcks = true
	l := s.Open(t, c)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				p, err := l.Append(context.Background(), Batch(1, 2, 100), log.AppendOpts{})
				if err != nil {
					t.Error(err)
					return
				}
				if err := p.Wait(context.Background()); err != nil {
					t.Error(err)
					return
				}
				if o := l.Offsets(); o.High <= p.Last {
					t.Errorf("acknowledged %d, high watermark %d", p.Last, o.High)
				}
			}
		})
	}
	wg.Wait()
	if err := l.WaitDurable(t.Context(), 160); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.WaitDurable(ctx, 161); !errors.Is(err, context.Canceled) {
		t.Fatalf("wait for what is not there: %v", err)
	}
	if err := l.Reconfigure(Config()); err != nil {
		t.Fatal(err)
	}
	if err := l.WaitDurable(t.Context(), 161); err != nil {
		t.Fatalf("wait without a promise: %v", err)
	}
	mustClose(t, l)
}

func testConcurrent(t *testing.T, s Store) {
	l := s.Open(t, Config())
	const writers, each = 4, 100
	var wg, bg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		bg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				o := l.Offsets()
				r, err := l.Read(log.ReadReq{Offset: o.Start, MaxBytes: 50_000, MinOne: true})
				if errors.Is(err, log.ErrOffsetOutOfRange) {
					continue
				} else if err != nil {
					t.Error(err)
					return
				}
				Headers(t, Bytes(t, r))
				if _, err := l.OffsetFor(context.Background(), int64(o.High/2)); err != nil {
					t.Error(err)
					return
				}
				l.Extents()
			}
		})
	}
	bg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			if o := l.Offsets(); o.High > 100 {
				if err := l.DeleteTo(context.Background(), o.High-50); err != nil {
					t.Error(err)
				}
			}
		}
	})
	var mu sync.Mutex
	seen := map[int64]bool{}
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				p, err := l.Append(context.Background(), Batch(int64(w*each+i), 1, 100), log.AppendOpts{})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if seen[p.Base] {
					t.Errorf("offset %d given twice", p.Base)
				}
				seen[p.Base] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	close(stop)
	bg.Wait()
	if o := l.Offsets(); o.End != writers*each {
		t.Errorf("end is %d: want %d", o.End, writers*each)
	}
	mustClose(t, l)
}

func testClosed(t *testing.T, s Store) {
	for name, end := range map[string]func(log.Log) error{"close": log.Log.Close, "discard": log.Log.Discard} {
		t.Run(name, func(t *testing.T) {
			l := s.Open(t, Config())
			MustAppend(t, l, Batch(1, 1, 10))
			for range 2 {
				if err := end(l); err != nil {
					t.Fatal(err)
				}
			}
			refuses(t, l)
		})
	}
}

// refuses holds a log that was ended to its errors.
func refuses(t *testing.T, l log.Log) {
	if _, err := l.Append(t.Context(), Batch(1, 1, 10), log.AppendOpts{}); !errors.Is(err, log.ErrClosed) {
		t.Errorf("append: %v", err)
	}
	if _, err := l.Read(log.ReadReq{}); !errors.Is(err, log.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	if err := l.DeleteTo(t.Context(), 1); !errors.Is(err, log.ErrClosed) {
		t.Errorf("delete: %v", err)
	}
	if err := l.Sync(t.Context()); !errors.Is(err, log.ErrClosed) {
		t.Errorf("sync: %v", err)
	}
	if _, err := l.OffsetFor(t.Context(), 1); !errors.Is(err, log.ErrClosed) {
		t.Errorf("offset for: %v", err)
	}
}
