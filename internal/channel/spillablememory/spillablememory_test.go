package spillablememory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/channel/channeltest"
	"github.com/sluice-data/sluice/internal/channel/file"
	"github.com/sluice-data/sluice/internal/seglog/vfs/memfs"
)

func plenty(string) (int64, error) { return 1 << 50, nil }

// store keeps the files of a channel in memory and forgets what was not synced. Only the locks are real files.
type store struct {
	fs   *memfs.FS
	root string
	c    *Channel
	// The part of the capacity that is the memory's.
	memory func(capacity int) int
}

func newStore(t *testing.T, memory func(int) int) *store {
	t.Helper()
	s := &store{fs: memfs.New(), root: t.TempDir(), memory: memory}
	for _, dir := range []string{"c", "d"} {
		if err := os.MkdirAll(filepath.Join(s.root, dir, keptDir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *store) config(capacity, txCapacity int) Config {
	m := s.memory(capacity)
	return Config{MemoryCapacity: m, OverflowCapacity: capacity - m, TransactionCapacity: txCapacity, Timeout: 2 * time.Millisecond, Threshold: 5, SlotSize: 500, Slots: 1 << 30,
		File: file.Config{CheckpointDir: filepath.Join(s.root, "c"), DataDirs: []string{filepath.Join(s.root, "d")}, MaxFileSize: 16 << 10,
			CheckpointEvery: time.Hour, FS: s.fs, FreeSpace: plenty}}
}

func (s *store) start(t *testing.T, cfg Config) *Channel {
	t.Helper()
	s.c = New(cfg)
	if err := s.c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s.c
}

func (s *store) Open(t *testing.T, capacity, txCapacity int) component.Channel {
	t.Helper()
	c := s.start(t, s.config(capacity, txCapacity))
	t.Cleanup(func() { _ = c.Stop(context.Background()) }) // stopped before, or of no interest
	return c
}

func (s *store) Close(t *testing.T) {
	t.Helper()
	if err := s.c.Stop(context.Background()); err != nil { // also in a cleanup
		t.Fatal(err)
	}
}

// Kill leaves what a power cut leaves. What the old channel's stop does is done to files that nobody sees again.
func (s *store) Kill(t *testing.T) {
	t.Helper()
	after := s.fs.Crash()
	if err := s.c.Stop(t.Context()); err != nil {
		t.Log(err)
	}
	s.fs = after
}

func none(int) int   { return 0 }
func all(n int) int  { return n }
func some(n int) int { return min(n/3, 20) }

func TestConformance(t *testing.T) {
	for name, memory := range map[string]func(int) int{"file only": none, "memory only": all} {
		t.Run(name, func(t *testing.T) {
			channeltest.Run(t, func(t *testing.T, capacity, txCapacity int) component.Channel {
				return newStore(t, memory).Open(t, capacity, txCapacity)
			})
		})
	}
	// A batch goes to one of the parts, so for those tests that fill a channel to the last event in any batches each
	// part is as large as the whole must be.
	t.Run("memory and file", func(t *testing.T) {
		channeltest.RunOrder(t, func(t *testing.T, capacity, txCapacity int) component.Channel {
			s := newStore(t, some)
			cfg := s.config(capacity, txCapacity)
			cfg.OverflowCapacity = capacity
			c := s.start(t, cfg)
			t.Cleanup(func() { s.Close(t) })
			return c
		})
	})
}

// closing is a store that is only closed in order: what is in the memory does not outlive a kill.
type closing struct{ *store }

func (s closing) Open(t *testing.T, capacity, txCapacity int) component.Channel {
	t.Helper()
	cfg := s.config(capacity, txCapacity)
	cfg.OverflowCapacity = capacity
	return s.start(t, cfg)
}

func (s closing) Kill(t *testing.T) { s.Close(t) }

func TestDurable(t *testing.T) {
	t.Run("file only", func(t *testing.T) {
		channeltest.RunDurable(t, func(t *testing.T) channeltest.Store { return newStore(t, none) })
	})
	t.Run("memory and file, stopped in order", func(t *testing.T) {
		channeltest.RunStopped(t, func(t *testing.T) channeltest.Store { return closing{newStore(t, some)} })
	})
}

func put(t testing.TB, c *Channel, p *event.Pool, from, n int) error {
	t.Helper()
	b := p.NewBatch()
	defer b.Release()
	for i := from; i < from+n; i++ {
		b.AppendEvent(fmt.Appendf(nil, "%06d", i), []event.KV{{Key: "n", Value: fmt.Append(nil, i)}})
	}
	return c.Put(t.Context(), b)
}

func mustPut(t testing.TB, c *Channel, p *event.Pool, from, n int) {
	t.Helper()
	if err := put(t, c, p, from, n); err != nil {
		t.Fatal(err)
	}
}

func number(t testing.TB, e *event.Event) (n int) {
	t.Helper()
	if _, err := fmt.Sscanf(string(e.Body), "%d", &n); err != nil {
		t.Fatal(err)
	}
	if len(e.Headers) != 1 || string(e.Headers[0].Value) != fmt.Sprint(n) {
		t.Fatalf("event %d has the headers %q", n, e.Headers)
	}
	return n
}

func take(t testing.TB, c *Channel, tk component.Taker, limit int) (component.Lease, []int) {
	t.Helper()
	l, err := tk.Take(t.Context(), limit)
	if err != nil {
		t.Fatal(err)
	}
	if l == nil {
		return nil, nil
	}
	var ns []int
	for _, e := range l.Events() {
		ns = append(ns, number(t, &e))
	}
	return l, ns
}

func takeAll(t testing.TB, c *Channel) (got []int) {
	t.Helper()
	tk := c.NewTaker()
	for {
		l, ns := take(t, c, tk, 7)
		if l == nil {
			return got
		}
		got = append(got, ns...)
		if err := l.Commit(); err != nil {
			t.Fatal(err)
		}
	}
}

// commitN takes n events from the one with the number from on.
func commitN(t testing.TB, c *Channel, from, n int) {
	t.Helper()
	tk := c.NewTaker()
	for n > 0 {
		l, ns := take(t, c, tk, n)
		want(t, ns, span(from, from+len(ns)))
		if l == nil {
			t.Fatalf("nothing comes, %d is due", from)
		}
		from, n = from+len(ns), n-len(ns)
		if err := l.Commit(); err != nil {
			t.Fatal(err)
		}
	}
}

func span(from, to int) (ns []int) {
	for i := from; i < to; i++ {
		ns = append(ns, i)
	}
	return ns
}

func want(t testing.TB, got []int, want ...[]int) {
	t.Helper()
	if w := slices.Concat(want...); !slices.Equal(got, w) {
		t.Fatalf("these events came: %v\nwant %v", got, w)
	}
}

// parts of a mixed channel: 10 events in memory, 1000 on disk.
func (s *store) mixed(t *testing.T) *Channel {
	t.Helper()
	cfg := s.config(30, 100)
	cfg.OverflowCapacity = 1000
	return s.start(t, cfg)
}

// fill puts 0 to 46 so that they lie in turn in the memory and on the disk, and takes 0 to 3.
func fill(t *testing.T, c *Channel, p *event.Pool) {
	t.Helper()
	mustPut(t, c, p, 0, 8)  // memory
	mustPut(t, c, p, 8, 20) // disk: larger than the memory
	mustPut(t, c, p, 28, 2) // memory: full
	mustPut(t, c, p, 30, 1) // disk
	l, ns := take(t, c, c.NewTaker(), 4)
	want(t, ns, span(0, 4))
	if err := l.Commit(); err != nil {
		t.Fatal(err)
	}
	mustPut(t, c, p, 31, 4)  // memory
	mustPut(t, c, p, 35, 12) // disk
	if m, d := c.mem.Stats().Size, c.disk.Stats().Size; m != 10 || d != 33 {
		t.Fatalf("%d events in the memory, %d on the disk", m, d)
	}
}

func TestOrderAcrossParts(t *testing.T) {
	s := newStore(t, some)
	c := s.mixed(t)
	p := event.NewPool()
	fill(t, c, p)
	a, b := c.NewTaker(), c.NewTaker()
	la, ns := take(t, c, a, 26) // 4 of the memory, 20 of the disk, 2 of the memory
	want(t, ns, span(4, 30))
	lb, ns := take(t, c, b, 3)
	want(t, ns, span(30, 33))
	if err := la.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := lb.Rollback(); err != nil {
		t.Fatal(err)
	}
	if n := c.Stats(); n.Size != 43 || n.Capacity != 1010 || !n.Durable {
		t.Errorf("stats: %+v", n)
	}
	want(t, takeAll(t, c), span(4, 47))
	if n := p.Outstanding(); n != 0 {
		t.Errorf("%d blocks are held by an empty channel", n)
	}
	s.Close(t)
}

// What overflowed outlives a kill, in order; the memory does not.
func TestKill(t *testing.T) {
	s := newStore(t, some)
	c := s.mixed(t)
	fill(t, c, event.NewPool())
	take(t, c, c.NewTaker(), 9) // open: 5 of the disk's
	s.Kill(t)
	c = s.mixed(t)
	if n := c.Stats().Size; n != 33 {
		t.Errorf("%d events after the kill, want 33", n)
	}
	want(t, takeAll(t, c), span(8, 28), span(30, 31), span(35, 47))
	s.Close(t)
}

// A stop keeps all, in order, open takes as well; what it wrote down outlives a kill.
func TestStop(t *testing.T) {
	for name, end := range map[string]func(*store, *testing.T){"stopped": (*store).Close, "killed": (*store).Kill} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, some)
			c := s.mixed(t)
			p := event.NewPool()
			fill(t, c, p)
			l, ns := take(t, c, c.NewTaker(), 9)
			want(t, ns, span(4, 13))
			s.Close(t)
			if err := l.Commit(); err == nil {
				t.Error("a commit after the stop says that the events will not come again")
			}
			if n := p.Outstanding(); n != 0 {
				t.Errorf("%d blocks are held by a stopped channel", n)
			}
			c = s.mixed(t)
			if n := c.Stats().Size; n != 43 {
				t.Errorf("%d events after the stop, want 43", n)
			}
			mustPut(t, c, p, 47, 3)
			commitN(t, c, 4, 6)
			end(s, t)
			c = s.mixed(t)
			if name == "stopped" {
				want(t, takeAll(t, c), span(10, 50))
			} else { // without the order of a stop: first what was kept
				want(t, takeAll(t, c), span(28, 30), span(31, 35), span(10, 28), span(30, 31), span(35, 50))
			}
			s.Close(t)
			want(t, takeAll(t, s.mixed(t)))
			s.Close(t)
		})
	}
}

// testKey is a key under any alias.
type testKey string

func (k testKey) Key(string) ([]byte, error) { return []byte(k), nil }

// TestEncrypted: what overflows is encrypted, and so is what a stop keeps of the memory.
func TestEncrypted(t *testing.T) {
	s := newStore(t, some)
	encrypted := func() *Channel {
		cfg := s.config(30, 100)
		cfg.OverflowCapacity = 1000
		cfg.File.Encryption = &file.Encryption{ActiveKey: "k", Open: func() (file.Keys, error) { return testKey("0123456789abcdef"), nil }}
		return s.start(t, cfg)
	}
	fill(t, encrypted(), event.NewPool())
	s.Close(t)
	for _, dir := range []string{"d", filepath.Join("d", keptDir)} {
		files := 0
		entries, err := s.fs.List(filepath.Join(s.root, dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !strings.HasSuffix(e.Name(), file.SegmentExt) {
				continue
			}
			files++
			b, err := s.fs.ReadFile(filepath.Join(s.root, dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			for n := range 47 {
				if bytes.Contains(b, fmt.Appendf(nil, "%06d", n)) {
					t.Errorf("%s/%s has event %d in the clear", dir, e.Name(), n)
				}
			}
		}
		if files == 0 {
			t.Errorf("there is no file in %s", dir)
		}
	}
	want(t, takeAll(t, encrypted()), span(4, 47))
	s.Close(t)
}

// The same channel may be started again.
func TestStartAgain(t *testing.T) {
	s := newStore(t, some)
	c := s.mixed(t)
	p := event.NewPool()
	tk := c.NewTaker()
	fill(t, c, p)
	for at := 4; at < 40; at += 6 {
		commitN(t, c, at, 6)
		s.Close(t)
		if err := put(t, c, p, 99, 1); !errors.Is(err, errNotStarted) {
			t.Errorf("put into a stopped channel: %v", err)
		}
		if _, err := tk.Take(t.Context(), 1); !errors.Is(err, errNotStarted) {
			t.Errorf("take from a stopped channel: %v", err)
		}
		if err := c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	want(t, takeAll(t, c), span(40, 47))
	s.Close(t)
}

// A kill in the middle of a stop loses at most what was in the memory, and repeats nothing.
func TestKilledWhileStopping(t *testing.T) {
	for n := 0; ; n++ {
		s := newStore(t, some)
		c := s.mixed(t)
		fill(t, c, event.NewPool())
		ops, hit := 0, false
		var after *memfs.FS
		s.fs.SetHook(func(op memfs.Op, _ string) error {
			if op == memfs.OpRead {
				return nil
			}
			if ops++; ops > n {
				hit = true
				return syscall.EIO
			}
			return nil
		})
		err := c.Stop(t.Context())
		s.fs.SetHook(nil)
		after = s.fs.Crash()
		s.fs = after
		c = s.mixed(t)
		got := takeAll(t, c)
		s.Close(t)
		slices.Sort(got)
		if len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Fatalf("failure at operation %d: some came twice: %v", n, got)
		}
		for _, i := range slices.Concat(span(8, 28), span(30, 31), span(35, 47)) {
			if !slices.Contains(got, i) {
				t.Fatalf("failure at operation %d: event %d of the overflow is lost", n, i)
			}
		}
		if err == nil && len(got) != 43 {
			t.Fatalf("failure at operation %d: the stop succeeded, and %d events came of 43", n, len(got))
		}
		if !hit {
			t.Logf("%d operations", n)
			return
		}
	}
}

// On a full disk a stop says how many events go with the process.
func TestStopOnFullDisk(t *testing.T) {
	s := newStore(t, some)
	c := s.mixed(t)
	fill(t, c, event.NewPool())
	s.fs.SetLimit(s.fs.Used())
	if err := c.Stop(t.Context()); err == nil || !strings.Contains(err.Error(), "keep 10 events of the memory") {
		t.Errorf("stop: %v", err)
	}
}

// What a stop kept counts as memory, so that stops do not let the channel grow; a channel without a memory drains it, too.
func TestKeptCounts(t *testing.T) {
	s := newStore(t, some)
	p := event.NewPool()
	mustPut(t, s.mixed(t), p, 0, 10)
	for i := range 5 {
		s.Close(t)
		c := s.mixed(t)
		mustPut(t, c, p, 10+i, 1)
		if m, d := c.mem.Stats().Size, c.disk.Stats().Size; m != 0 || d != int64(i)+1 {
			t.Fatalf("%d events in the memory, %d on the disk", m, d)
		}
	}
	s.Close(t)
	s.memory = none
	c := s.mixed(t)
	mustPut(t, c, p, 15, 2)
	want(t, takeAll(t, c), span(0, 17))
	s.Close(t)
	s.memory = some
	c = s.mixed(t)
	mustPut(t, c, p, 17, 10)
	if n := c.mem.Stats().Size; n != 10 {
		t.Errorf("%d events in the memory, want 10", n)
	}
	want(t, takeAll(t, c), span(17, 27))
	s.Close(t)
}

func TestRefusals(t *testing.T) {
	s := newStore(t, some)
	cfg := s.config(30, 100) // 10 and 20
	cfg.Slots, cfg.SlotSize = 4, 10
	c := s.start(t, cfg)
	p := event.NewPool()
	if err := put(t, c, p, 0, 101); err == nil || errors.Is(err, component.ErrFull) {
		t.Errorf("beyond the transaction capacity: %v", err)
	}
	mustPut(t, c, p, 0, 5) // 5 slots, which the memory has not
	if n := c.disk.Stats().Size; n != 5 {
		t.Errorf("%d events on the disk, want 5", n)
	}
	mustPut(t, c, p, 5, 4)
	if n := c.mem.Stats().Size; n != 4 {
		t.Errorf("%d events in the memory, want 4", n)
	}
	mustPut(t, c, p, 9, 15)
	if err := put(t, c, p, 24, 1); !errors.Is(err, component.ErrFull) {
		t.Errorf("both parts are full: %v", err)
	}
	want(t, takeAll(t, c), span(0, 24))
	mustPut(t, c, p, 24, 20)
	want(t, takeAll(t, c), span(24, 44))
	s.Close(t)
}

// While the overflow lasts no put waits for the memory; it ends when enough of that is free.
func TestOverflowEnds(t *testing.T) {
	s := newStore(t, some)
	cfg := s.config(30, 100)
	cfg.Threshold = 50
	c := s.start(t, cfg)
	p := event.NewPool()
	mustPut(t, c, p, 0, 10)
	mustPut(t, c, p, 10, 1)
	if !c.spilling.Load() {
		t.Fatal("no overflow with a full memory")
	}
	tk := c.NewTaker()
	for i := range 5 {
		if !c.spilling.Load() {
			t.Errorf("the overflow ended with %d of 10 free", i)
		}
		l, _ := take(t, c, tk, 1)
		if err := l.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if c.spilling.Load() {
		t.Error("the overflow goes on with half of the memory free")
	}
	s.Close(t)
}

// A put into the overflow and a take of both parts allocate what the file channel does, whatever the batch.
func TestAllocationsOfOverflow(t *testing.T) {
	s := newStore(t, some)
	cfg := s.config(10000, 1000)
	cfg.MemoryCapacity, cfg.OverflowCapacity, cfg.Timeout = 500, 10000, 0
	cfg.File.FS, cfg.File.MaxFileSize = nil, file.MaxFileSize
	c := s.start(t, cfg)
	defer s.Close(t)
	tk := c.NewTaker()
	b := event.NewPool().NewBatch()
	for range 500 {
		b.Append(bytes.Repeat([]byte("x"), 48))
	}
	ctx := context.Background()
	round := func() {
		for range 2 { // into the memory, and onto the disk
			if err := c.Put(ctx, b); err != nil {
				t.Fatal(err)
			}
		}
		l, err := tk.Take(ctx, 1000)
		if err != nil || len(l.Events()) != 1000 {
			t.Fatal(err)
		}
		if err := l.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	round()
	if n := testing.AllocsPerRun(100, round); n > 20 {
		t.Errorf("%v allocations for 1000 events", n)
	} else {
		t.Logf("%v allocations for 1000 events", n)
	}
}

// Events that damage took do not hold up those behind them.
func TestDamage(t *testing.T) {
	s := newStore(t, some)
	c := s.mixed(t)
	p := event.NewPool()
	mustPut(t, c, p, 0, 11)  // disk
	mustPut(t, c, p, 11, 10) // memory
	mustPut(t, c, p, 21, 11) // disk
	s.Close(t)
	for _, name := range s.fs.Names() {
		b, err := s.fs.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(b, []byte("000003")); at >= 0 {
			b[at] ^= 1
			s.fs.WriteFile(name, b)
		}
	}
	c = s.mixed(t)
	got := takeAll(t, c)
	slices.Sort(got)
	want(t, got, span(11, 32))
	if n := c.Stats().Size; n != 0 {
		t.Errorf("%d events are left", n)
	}
	mustPut(t, c, p, 32, 30)
	want(t, takeAll(t, c), span(32, 62))
	s.Close(t)
}

// A disk that cannot be read gives an error, the events of the memory before it come, and nothing is passed over.
func TestReadError(t *testing.T) {
	s := newStore(t, some)
	c := s.mixed(t)
	p := event.NewPool()
	mustPut(t, c, p, 0, 10)
	mustPut(t, c, p, 10, 11)
	s.fs.SetHook(func(op memfs.Op, _ string) error {
		if op == memfs.OpRead {
			return syscall.EIO
		}
		return nil
	})
	tk := c.NewTaker()
	l, ns := take(t, c, tk, 15)
	want(t, ns, span(0, 10))
	if err := l.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := tk.Take(t.Context(), 15); !errors.Is(err, syscall.EIO) {
		t.Fatalf("take: %v", err)
	}
	s.fs.SetHook(nil)
	want(t, takeAll(t, c), span(10, 21))
	s.Close(t)
}

// history does at random what sources and sinks do, with stops between, and wants all in order.
func TestRandomHistory(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 7))
		s := newStore(t, some)
		p := event.NewPool()
		next, due := 0, 0
		for range 4 {
			cfg := s.config(60, 100)
			cfg.OverflowCapacity, cfg.Timeout = 100000, 0
			c := s.start(t, cfg)
			tk := c.NewTaker()
			for range 60 {
				if rng.IntN(2) == 0 {
					n := 1 + rng.IntN(15)
					mustPut(t, c, p, next, n)
					next += n
					continue
				}
				l, ns := take(t, c, tk, 1+rng.IntN(20))
				if l == nil {
					if due != next {
						t.Fatalf("seed %d: nothing came, %d is due", seed, due)
					}
					continue
				}
				want(t, ns, span(due, due+len(ns)))
				if rng.IntN(4) == 0 {
					if err := l.Rollback(); err != nil {
						t.Fatal(err)
					}
					continue
				}
				if err := l.Commit(); err != nil {
					t.Fatal(err)
				}
				due += len(ns)
			}
			s.Close(t)
		}
		cfg := s.config(60, 100)
		cfg.OverflowCapacity = 100000
		want(t, takeAll(t, s.start(t, cfg)), span(due, next))
		s.Close(t)
	}
}

func TestPutTakeCommitDoNotAllocate(t *testing.T) {
	s := newStore(t, all)
	cfg := s.config(10000, 1000)
	cfg.OverflowCapacity = 1000
	c := s.start(t, cfg)
	defer s.Close(t)
	tk := c.NewTaker()
	b := event.NewPool().NewBatch()
	for range 1000 {
		b.Append(bytes.Repeat([]byte("x"), 48))
	}
	ctx := context.Background()
	round := func() {
		if err := c.Put(ctx, b); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			l, err := tk.Take(ctx, 500)
			if err != nil || len(l.Events()) != 500 {
				t.Fatal(err)
			}
			if err := l.Commit(); err != nil {
				t.Fatal(err)
			}
		}
	}
	round()
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations in a put and two takes", n)
	}
}
