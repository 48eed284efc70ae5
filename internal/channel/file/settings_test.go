package file

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/seglog/vfs/memfs"
)

// logged is a memStore whose channels log into the string.
func logged(more func(*Config)) (*memStore, *strings.Builder) {
	log := new(strings.Builder)
	return &memStore{fs: memfs.New(), cfg: func(c *Config) {
		c.Env.Log = slog.New(slog.NewTextHandler(log, nil))
		if more != nil {
			more(c)
		}
	}}, log
}

// TestCapacityChanges: another capacity holds from the next start on, nothing is read again for it, and a channel that holds
// more than its capacity gives its events and takes no others.
func TestCapacityChanges(t *testing.T) {
	s, log := logged(func(c *Config) { c.MaxFileSize = 1 << 20 })
	c := s.Open(t, 1000, 100).(*Channel)
	for i := range 20 {
		if err := putN(t, c, 10*i, 10); err != nil {
			t.Fatal(err)
		}
	}
	s.Close(t)
	log.Reset()
	c = s.Open(t, 50, 50).(*Channel)
	if !strings.Contains(log.String(), "events=200") || !strings.Contains(log.String(), "bytes_replayed=0") {
		t.Errorf("log: %s", log)
	}
	if st := c.Stats(); st.Size != 200 || st.Capacity != 50 {
		t.Errorf("%d events of %d", st.Size, st.Capacity)
	}
	if err := putN(t, c, 200, 1); !errors.Is(err, component.ErrFull) {
		t.Errorf("put into a channel that holds more than its capacity: %v", err)
	}
	tk := c.NewTaker()
	for taken := 0; taken < 160; {
		l, err := tk.Take(t.Context(), 100)
		if err != nil || l == nil {
			t.Fatal(l, err)
		}
		if n := len(l.Events()); n > 50 {
			t.Fatalf("a take of %d", n)
		}
		taken += len(l.Events())
		if err := l.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	left := int(c.Stats().Size)
	if err := putN(t, c, 200, 50-left); err != nil {
		t.Errorf("put below the capacity: %v", err)
	}
	if err := putN(t, c, 250-left, 1); !errors.Is(err, component.ErrFull) {
		t.Errorf("put at the capacity: %v", err)
	}
	s.Close(t)
	log.Reset()
	c = s.Open(t, 100000, 100).(*Channel)
	if !strings.Contains(log.String(), "bytes_replayed=0") {
		t.Errorf("log: %s", log)
	}
	if err := putN(t, c, 250-left, 10); err != nil {
		t.Errorf("put into the larger channel: %v", err)
	}
	wantRange(t, takeAll(t, c), 200-left, 260-left)
	s.Close(t)
}

// TestReadError: a take on a disk that cannot be read fails and is tried again; nothing is passed over.
func TestReadError(t *testing.T) {
	s, _ := logged(nil)
	c := s.Open(t, 1000, 100).(*Channel)
	for i := range 50 {
		if err := putN(t, c, 10*i, 10); err != nil {
			t.Fatal(err)
		}
	}
	fail := func(on bool) {
		s.fs.SetHook(func(op memfs.Op, _ string) error {
			if on && op == memfs.OpRead {
				return syscall.EIO
			}
			return nil
		})
	}
	tk := c.NewTaker()
	got := 0
	for round := 0; got < 500; round++ {
		c.run.cur.drop() // what was read ahead
		fail(round%3 < 2)
		l, err := tk.Take(t.Context(), 7)
		if round%3 < 2 {
			if !errors.Is(err, syscall.EIO) || l != nil {
				t.Fatalf("round %d: %v, %v", round, l, err)
			}
			continue
		}
		if err != nil || l == nil {
			t.Fatalf("round %d: %v, %v", round, l, err)
		}
		for _, e := range l.Events() {
			if n := number(t, e); n != got {
				t.Fatalf("event %d came where %d is due", n, got)
			}
			got++
		}
		if round%6 == 2 { // given back, and read anew
			got -= len(l.Events())
			err = l.Rollback()
		} else {
			err = l.Commit()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := c.takeErrors.Load(); n == 0 {
		t.Error("the errors were not counted")
	}
	fail(false)
	s.Close(t)
}

// TestCheckpointFails: without checkpoints the channel works on, counts it, and recovers by its log.
func TestCheckpointFails(t *testing.T) {
	for _, tt := range []struct {
		dir             string
		counted, backup bool
		replayed        bool // there is no checkpoint that could be used
	}{
		{dir: "/c/checkpoint", counted: true, replayed: true},
		{dir: "/c/backup", backup: true},
	} {
		s, log := logged(func(c *Config) { c.BackupDir = "/c/backup"; c.CheckpointEvery = time.Millisecond })
		c := s.Open(t, 1000, 100).(*Channel)
		var mu sync.Mutex
		broken := true
		s.fs.SetHook(func(op memfs.Op, name string) error {
			mu.Lock()
			defer mu.Unlock()
			if broken && op == memfs.OpWrite && strings.HasPrefix(name, tt.dir+"/") {
				return syscall.EIO
			}
			return nil
		})
		n := 0
		for end := time.Now().Add(time.Minute); c.checkpointErrors.Load()+c.backupErrors.Load() < 3 && time.Now().Before(end); n += 10 {
			if err := putN(t, c, n, 10); err != nil {
				t.Fatal(err)
			}
			wantRange(t, takeAll(t, c), n, n+10)
			time.Sleep(time.Millisecond)
		}
		if err := putN(t, c, n, 10); err != nil {
			t.Fatal(err)
		}
		if a, b := c.checkpointErrors.Load(), c.backupErrors.Load(); (a > 0) != tt.counted || (b > 0) != tt.backup {
			t.Errorf("%s: %d and %d errors counted", tt.dir, a, b)
		}
		if err := c.Stop(t.Context()); err == nil {
			t.Errorf("%s: the stop does not say that its checkpoint failed", tt.dir)
		}
		mu.Lock()
		broken = false
		mu.Unlock()
		log.Reset()
		c = s.Open(t, 1000, 100).(*Channel)
		if none := strings.Contains(log.String(), "bytes_replayed=0"); none == tt.replayed {
			t.Errorf("%s: log: %s", tt.dir, log)
		}
		wantRange(t, takeAll(t, c), n, n+10)
		s.Close(t)
	}
}

// TestSecondCheckpoint: it counts when the first is damaged or gone; without both the log is read.
func TestSecondCheckpoint(t *testing.T) {
	const first, second = "/c/checkpoint/sluice-checkpoint", "/c/backup/sluice-checkpoint"
	for _, tt := range []struct {
		name     string
		damage   []string
		gone     []string
		replayed bool
	}{
		{"damaged", []string{first}, nil, false},
		{"gone", nil, []string{first}, false},
		{"the second", []string{second}, nil, false},
		{"both", []string{first, second}, nil, true},
		{"both gone", nil, []string{first, second}, true},
		{"one of each", []string{first}, []string{second}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, log := logged(func(c *Config) { c.BackupDir = "/c/backup" })
			c := s.Open(t, 1000, 100).(*Channel)
			for i := range 10 {
				if err := putN(t, c, 10*i, 10); err != nil {
					t.Fatal(err)
				}
			}
			l, err := c.NewTaker().Take(t.Context(), 25)
			if err == nil {
				err = l.Commit()
			}
			if err != nil {
				t.Fatal(err)
			}
			s.Close(t)
			for _, name := range tt.damage {
				b, err := s.fs.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				b[len(b)-1] ^= 1
				s.fs.WriteFile(name, b)
			}
			for _, name := range tt.gone {
				if err := s.fs.Remove(name); err != nil {
					t.Fatal(err)
				}
			}
			log.Reset()
			c = s.Open(t, 1000, 100).(*Channel)
			if none := strings.Contains(log.String(), "bytes_replayed=0"); none == tt.replayed {
				t.Errorf("log: %s", log)
			}
			wantRange(t, takeAll(t, c), 25, 100)
			s.Close(t)
		})
	}
}
