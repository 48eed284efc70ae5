package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/channel/channeltest"
	"github.com/sluice-data/sluice/internal/seglog/vfs/memfs"
)

// memStore keeps a channel in memory and forgets what was not synced.
type memStore struct {
	fs  *memfs.FS
	c   *Channel
	cfg func(*Config)
}

func (s *memStore) config() Config {
	cfg := testConfig("/c")
	cfg.FS, cfg.unlocked, cfg.MaxFileSize = s.fs, true, 4<<10
	if s.cfg != nil {
		s.cfg(&cfg)
	}
	return cfg
}

func (s *memStore) Open(t *testing.T, capacity, txCapacity int) component.Channel {
	t.Helper()
	cfg := s.config()
	cfg.Capacity, cfg.TransactionCapacity = capacity, txCapacity
	s.c = New(cfg)
	if err := s.c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s.c
}

func (s *memStore) Close(t *testing.T) {
	t.Helper()
	if err := s.c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (s *memStore) Kill(t *testing.T) {
	t.Helper()
	after := s.fs.Crash()
	abandon(s.c)
	s.fs = after
}

// abandon ends the goroutines of a channel whose files are of no interest any more.
func abandon(c *Channel) {
	r := c.run
	r.wal.fail(errors.New("abandoned"))
	r.stop()
	r.done.Wait()
}

func TestDurable(t *testing.T) {
	for name, cfg := range map[string]func(*Config){
		"checkpoint on close":    nil,
		"no checkpoint on close": func(c *Config) { c.NoCheckpointOnClose = true },
		"two checkpoints":        func(c *Config) { c.BackupDir = "/c/backup" },
	} {
		t.Run(name, func(t *testing.T) {
			channeltest.RunDurable(t, func(*testing.T) channeltest.Store { return &memStore{fs: memfs.New(), cfg: cfg} })
		})
	}
}

// TestCrashAtEveryOperation runs a fixed history, fails it at each operation of the file system in turn, cuts the power,
// and wants: every event whose put returned and whose commit was not begun, in order; nothing whose put was not begun;
// of the others anything.
func TestCrashAtEveryOperation(t *testing.T) {
	t.Run("unencrypted", func(t *testing.T) { crashEverywhere(t, nil) })
	t.Run("encrypted", func(t *testing.T) { crashEverywhere(t, func(int) *Encryption { return twoKeys.active("new") }) })
	t.Run("another key each run", func(t *testing.T) {
		crashEverywhere(t, func(run int) *Encryption {
			return []*Encryption{nil, twoKeys.active("old"), twoKeys.active("new")}[min(run, 2)]
		})
	})
}

func crashEverywhere(t *testing.T, encryption func(run int) *Encryption) {
	for _, forget := range []bool{true, false} {
		for n := 0; ; n++ {
			run := 0
			s := &memStore{fs: memfs.New(), cfg: func(c *Config) {
				c.MaxFileSize, c.KeepAlive = 4096, 0
				if encryption != nil {
					c.Encryption = encryption(run)
				}
				run++
			}}
			count, hit := 0, false
			var mu sync.Mutex
			s.fs.SetHook(func(op memfs.Op, _ string) error {
				mu.Lock()
				defer mu.Unlock()
				if op == memfs.OpRead {
					return nil
				}
				if count++; count > n {
					hit = true
					return syscall.EIO
				}
				return nil
			})
			must, may := crashHistory(s)
			s.fs.SetHook(nil)
			if s.c != nil && s.c.run != nil {
				abandon(s.c)
			}
			if forget {
				s.fs = s.fs.Crash()
			} else {
				s.fs = s.fs.Clone()
			}
			checkAfter(t, s, fmt.Sprintf("operation %d, forget %v", n, forget), must, may)
			if !hit {
				t.Logf("%d operations", n)
				break
			}
		}
	}
}

// crashHistory puts, takes and checkpoints until something fails. must are the bodies that have to be there after, may
// those that can be.
func crashHistory(s *memStore) (must, may map[string]bool) {
	must, may = map[string]bool{}, map[string]bool{}
	ctx := context.Background()
	p := event.NewPool()
	next := 0
	for range 3 {
		s.c = New(s.config())
		if s.c.Start(ctx) != nil {
			s.c = nil
			return
		}
		tk := s.c.NewTaker()
		for round := range 12 {
			b := p.NewBatch()
			var bodies []string
			for range 1 + round%4 {
				body := fmt.Sprintf("%06d %s", next, strings.Repeat("x", 150))
				next++
				b.Append([]byte(body))
				bodies = append(bodies, body)
				may[body] = true
			}
			if s.c.Put(ctx, b) != nil {
				return
			}
			for _, body := range bodies {
				must[body] = true
			}
			if round%3 == 2 {
				l, err := tk.Take(ctx, 5)
				if err != nil || l == nil {
					return
				}
				bodies = nil
				for _, e := range l.Events() {
					bodies = append(bodies, string(e.Body))
					delete(must, string(e.Body))
				}
				if l.Commit() != nil {
					return
				}
				for _, body := range bodies {
					delete(may, body)
				}
			}
			if round == 6 && s.c.run.checkpoint() != nil {
				return
			}
		}
		if s.c.Stop(ctx) != nil {
			return
		}
	}
	return must, may
}

func checkAfter(t *testing.T, s *memStore, what string, must, may map[string]bool) {
	t.Helper()
	c := New(s.config())
	if err := c.Start(t.Context()); err != nil {
		t.Fatalf("%s: start: %v", what, err)
	}
	defer c.Stop(t.Context())
	size, got, last := c.Stats().Size, int64(0), ""
	tk := c.NewTaker()
	for {
		l, err := tk.Take(t.Context(), 7)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if l == nil {
			break
		}
		for _, e := range l.Events() {
			body := string(e.Body)
			if !may[body] {
				t.Fatalf("%s: %.10q came: it was never put, or its take was committed", what, body)
			}
			if body <= last {
				t.Fatalf("%s: %.10q came behind %.10q", what, body, last)
			}
			last = body
			delete(must, body)
			got++
		}
		if err := l.Commit(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	if len(must) > 0 {
		t.Fatalf("%s: %d committed events are lost", what, len(must))
	}
	if got != size {
		t.Fatalf("%s: the size was %d, %d events came", what, size, got)
	}
}

func putN(t *testing.T, c *Channel, from, n int) error {
	t.Helper()
	b := c.pool.NewBatch()
	defer b.Release()
	for i := from; i < from+n; i++ {
		b.Append(fmt.Appendf(nil, "%06d %s", i, strings.Repeat("y", 100)))
	}
	return c.Put(t.Context(), b)
}

// takeAll returns the numbers of what comes, committed.
func takeAll(t *testing.T, c *Channel) (got []int) {
	t.Helper()
	tk := c.NewTaker()
	for {
		l, err := tk.Take(t.Context(), 10)
		if err != nil {
			t.Fatal(err)
		}
		if l == nil {
			return got
		}
		for _, e := range l.Events() {
			got = append(got, number(t, e))
		}
		if err := l.Commit(); err != nil {
			t.Fatal(err)
		}
	}
}

// number is what putN made the event of.
func number(t *testing.T, e event.Event) (n int) {
	t.Helper()
	if _, err := fmt.Sscanf(string(e.Body), "%d", &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func wantRange(t *testing.T, got []int, from, to int) {
	t.Helper()
	if len(got) != to-from {
		t.Fatalf("%d events came, want %d", len(got), to-from)
	}
	for i, n := range got {
		if n != from+i {
			t.Fatalf("event %d came where %d is due", n, from+i)
		}
	}
}

// TestFailedSync: after it nothing is taken for written, until the channel is started again.
func TestFailedSync(t *testing.T) {
	s := &memStore{fs: memfs.New()}
	c := s.Open(t, 1000, 100).(*Channel)
	if err := putN(t, c, 0, 10); err != nil {
		t.Fatal(err)
	}
	s.fs.SetHook(func(op memfs.Op, name string) error {
		if op == memfs.OpSync && strings.HasSuffix(name, segmentExt) {
			return syscall.EIO
		}
		return nil
	})
	if err := putN(t, c, 10, 1); !errors.Is(err, syscall.EIO) {
		t.Fatalf("put: %v", err)
	}
	s.fs.SetHook(nil)
	if err := putN(t, c, 11, 1); err == nil || component.IsPermanent(err) {
		t.Errorf("put after a failed sync: %v", err)
	}
	if _, err := c.NewTaker().Take(t.Context(), 1); err == nil {
		t.Error("take after a failed sync succeeded")
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Logf("stop: %v", err)
	}
	s.fs = s.fs.Crash()
	c = s.Open(t, 1000, 100).(*Channel)
	wantRange(t, takeAll(t, c), 0, 10)
	if err := putN(t, c, 12, 1); err != nil {
		t.Error(err)
	}
	s.Close(t)
}

func TestFullDisk(t *testing.T) {
	s := &memStore{fs: memfs.New(), cfg: func(c *Config) { c.DataDirs = c.DataDirs[:1]; c.MaxFileSize = 1 << 20 }}
	c := s.Open(t, 10000, 100).(*Channel)
	if err := putN(t, c, 0, 10); err != nil {
		t.Fatal(err)
	}
	s.fs.SetLimit(s.fs.Used())
	for range 3 {
		if err := putN(t, c, 10, 10); err == nil || component.IsPermanent(err) {
			t.Fatalf("put on a full disk: %v", err)
		}
	}
	tk := c.NewTaker()
	l, err := tk.Take(t.Context(), 4)
	if err != nil || l == nil {
		t.Fatal(err)
	}
	if err := l.Commit(); err != nil { // goes on, although it cannot be written down
		t.Fatal(err)
	}
	if l, err = tk.Take(t.Context(), 2); err != nil || l == nil {
		t.Fatal(err)
	}
	if err := l.Commit(); err != nil {
		t.Fatal(err)
	}
	if n := c.Stats().Size; n != 4 {
		t.Errorf("size %d, want 4", n)
	}
	s.fs.SetLimit(-1)
	if err := putN(t, c, 10, 10); err != nil {
		t.Fatalf("put after there is space again: %v", err)
	}
	if l, err = tk.Take(t.Context(), 1); err != nil || l == nil {
		t.Fatal(err)
	}
	if err := l.Commit(); err != nil { // writes down the others, too
		t.Fatal(err)
	}
	s.Kill(t)
	c = s.Open(t, 10000, 100).(*Channel)
	wantRange(t, takeAll(t, c), 7, 20)
	s.Close(t)
}

// TestMinimumRequiredSpace: one disk is nearly full, then both are; then what was consumed makes room.
func TestMinimumRequiredSpace(t *testing.T) {
	free := map[string]int64{"/c/data1": 1 << 30, "/c/data2": 1 << 30}
	var mu sync.Mutex
	set := func(dir string, n int64) { mu.Lock(); free[dir] = n; mu.Unlock() }
	health := make(chan error, 10)
	s := &memStore{fs: memfs.New(), cfg: func(c *Config) {
		c.MinFree, c.MaxFileSize = 1<<20, 1<<20
		c.FreeSpace = func(dir string) (int64, error) { mu.Lock(); defer mu.Unlock(); return free[dir], nil }
		c.Env.Health = func(err error) { health <- err }
	}}
	c := s.Open(t, 10000, 100).(*Channel)
	c.run.wal.dirs[0].when, c.run.wal.dirs[1].when = time.Time{}, time.Time{}
	set("/c/data1", 1000)
	for i := range 100 {
		if err := putN(t, c, 10*i, 10); err != nil {
			t.Fatalf("put %d: %v", i, err)
		}
	}
	end := c.run.wal.tail()
	if d := c.run.wal.dirs[end.seg.dir].path; d != "/c/data2" {
		t.Errorf("written to %s", d)
	}
	set("/c/data2", 1000)
	c.run.wal.dirs[0].when, c.run.wal.dirs[1].when = time.Time{}, time.Time{}
	err := putN(t, c, 1000, 10)
	if err == nil || !strings.Contains(err.Error(), "usable space exhausted, only 1000 bytes remaining") {
		t.Fatalf("put on a disk that is nearly full: %v", err)
	}
	if err := <-health; err == nil {
		t.Error("health does not know of it")
	}
	wantRange(t, takeAll(t, c), 0, 1000)
	used := s.fs.Used()
	if err := putN(t, c, 1000, 10); err == nil {
		t.Fatal("put succeeded") // and made the consumed segment go
	}
	if now := s.fs.Used(); now > used/10 {
		t.Errorf("%d bytes are used, before it were %d", now, used)
	}
	set("/c/data2", 1<<30)
	c.run.wal.dirs[0].when, c.run.wal.dirs[1].when = time.Time{}, time.Time{}
	if err := putN(t, c, 1000, 10); err != nil {
		t.Fatal(err)
	}
	if err := <-health; err != nil {
		t.Errorf("health: %v", err)
	}
	wantRange(t, takeAll(t, c), 1000, 1010)
	s.Close(t)
}

// TestSegmentsGoWhenConsumed: space comes back, in both directories, and a recovery agrees.
func TestSegmentsGoWhenConsumed(t *testing.T) {
	s := &memStore{fs: memfs.New()}
	c := s.Open(t, 100000, 100).(*Channel)
	for round := range 20 {
		for i := range 20 {
			if err := putN(t, c, 200*round+10*i, 10); err != nil {
				t.Fatal(err)
			}
		}
		dirs := map[string]int{}
		for _, name := range s.fs.Names() {
			if strings.HasSuffix(name, segmentExt) {
				dirs[filepath.Dir(name)]++
			}
		}
		if len(dirs) != 2 {
			t.Fatalf("segments are in %v", dirs)
		}
		wantRange(t, takeAll(t, c), 200*round, 200*round+200)
		if n := len(c.run.wal.segs); n > 1 {
			t.Fatalf("%d segments are left of nothing", n)
		}
		if round%3 == 0 {
			s.Kill(t)
			c = s.Open(t, 100000, 100).(*Channel)
		}
	}
	s.Close(t)
}

// TestDamage flips bytes all over the files: what is whole is delivered in order, what is not is kept and named, and the
// account is right.
func TestDamage(t *testing.T) {
	for _, how := range []string{"kept open", "checkpoint", "no checkpoint"} {
		for at := int64(0); at < 12000; at += 347 {
			var log bytes.Buffer
			s := &memStore{fs: memfs.New(), cfg: func(c *Config) {
				c.Env.Log = slog.New(slog.NewTextHandler(&log, nil))
				c.MaxFileSize, c.NoCheckpointOnClose = 8192, how == "no checkpoint"
			}}
			c := s.Open(t, 1000, 100).(*Channel)
			for i := range 10 {
				if err := putN(t, c, 10*i, 10); err != nil {
					t.Fatal(err)
				}
			}
			name, off := "", at
			for _, seg := range c.run.wal.segs {
				if off < seg.file.Size() {
					name = seg.file.Path()
					break
				}
				off -= seg.file.Size()
			}
			if name == "" {
				s.Close(t)
				continue
			}
			last := c.run.wal.segs[len(c.run.wal.segs)-1].file.Path() == name
			if how != "kept open" {
				s.Close(t)
			}
			b, err := s.fs.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			f, err := s.fs.Open(name, 2)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte{b[off] ^ 0x55}, off); err != nil {
				t.Fatal(err)
			}
			f.Close()
			if how != "kept open" {
				c = s.Open(t, 1000, 100).(*Channel)
			}
			before := c.Stats().Size
			got := takeAll(t, c)
			for i := 1; i < len(got); i++ {
				if got[i] <= got[i-1] {
					t.Fatalf("%s, byte %d: %d came behind %d", how, at, got[i], got[i-1])
				}
			}
			// One frame has ten events.
			if len(got) < 90 {
				t.Errorf("%s, byte %d of %s: %d events came\n%s", how, off, name, len(got), log.String())
			}
			if n := c.Stats().Size; n != 0 {
				t.Errorf("%s, byte %d: size %d after all is taken, before %d, came %d", how, at, n, before, len(got))
			}
			kept := strings.Contains(strings.Join(s.fs.Names(), " "), damagedExt)
			if len(got) < 100 && !kept && !(last && how == "no checkpoint") {
				t.Errorf("%s, byte %d: nothing is kept of the damage\n%s", how, at, log.String())
			}
			if err := putN(t, c, 100, 10); err != nil {
				t.Errorf("%s, byte %d: put after damage: %v", how, at, err)
			}
			s.Close(t)
		}
	}
}

func TestMissingFiles(t *testing.T) {
	s := &memStore{fs: memfs.New()}
	c := s.Open(t, 1000, 100).(*Channel)
	for i := range 10 {
		if err := putN(t, c, 10*i, 10); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for _, seg := range c.run.wal.segs {
		names = append(names, seg.file.Path())
	}
	s.Close(t)
	whole := s.fs
	try := func(change func(*memfs.FS, *Config)) error {
		s.fs = whole.Clone()
		cfg := s.config()
		change(s.fs, &cfg)
		c := New(cfg)
		err := c.Start(t.Context())
		if err == nil {
			err = c.Stop(t.Context())
		}
		return err
	}
	for what, f := range map[string]struct {
		change func(*memfs.FS, *Config)
		want   string
	}{
		"nothing":          {func(*memfs.FS, *Config) {}, ""},
		"a middle segment": {func(fs *memfs.FS, _ *Config) { fs.Remove(names[1]) }, "a file of the channel is missing"},
		"the last segment": {func(fs *memfs.FS, _ *Config) { fs.Remove(names[len(names)-1]) }, "the newest file of the channel is missing"},
		"a disk":           {func(fs *memfs.FS, _ *Config) { fs.Remove("/c/data1/" + markFile) }, "is the disk mounted?"},
		"a directory":      {func(_ *memfs.FS, c *Config) { c.DataDirs = c.DataDirs[:1] }, "no longer among the dataDirs"},
		"the checkpoint": {func(fs *memfs.FS, _ *Config) {
			fs.Remove("/c/checkpoint/" + markFile)
			fs.Remove("/c/checkpoint/" + checkpointFile)
		}, ""},
		"another's": {func(fs *memfs.FS, _ *Config) {
			b, _ := fs.ReadFile("/c/data1/" + markFile)
			digit := &b[bytes.IndexByte(b, '"')+40]
			if *digit == '0' {
				*digit = '1'
			} else {
				*digit = '0'
			}
			fs.WriteFile("/c/data1/"+markFile, b)
		}, "different channels"},
		"a newer version's": {func(fs *memfs.FS, _ *Config) {
			b, _ := fs.ReadFile("/c/data1/" + markFile)
			fs.WriteFile("/c/data1/"+markFile, bytes.Replace(b, []byte(`"format": 1`), []byte(`"format": 2`), 1))
		}, "a newer version"},
	} {
		err := try(f.change)
		if f.want == "" && err != nil || f.want != "" && (err == nil || !strings.Contains(err.Error(), f.want)) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
