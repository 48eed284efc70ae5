package jdbc

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/channel/channeltest"
)

// plenty is a disk without end.
func plenty(string) (int64, error) { return 1 << 50, nil }

func testStore(dir string) *sqliteStore {
	return &sqliteStore{path: filepath.Join(dir, "c.sqlite"), create: true, free: plenty}
}

func testChannel(s store, capacity int) *Channel {
	return newChannel(s, int64(capacity), 5*time.Millisecond, component.Env{})
}

func start(t testing.TB, s store, capacity int) *Channel {
	t.Helper()
	c := testChannel(s, capacity)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestConformance(t *testing.T) {
	channeltest.Run(t, func(t *testing.T, capacity, _ int) component.Channel {
		return start(t, testStore(t.TempDir()), capacity)
	})
}

// durable is a file that outlives the channels on it.
type durable struct {
	dir string
	c   *Channel
}

func (d *durable) Open(t *testing.T, capacity, _ int) component.Channel {
	t.Helper()
	s := testStore(d.dir)
	s.lazy = true
	d.c = testChannel(s, capacity)
	if err := d.c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.c.Stop(context.Background()) }) // stopped before, or of no interest
	return d.c
}

func (d *durable) Close(t *testing.T) {
	t.Helper()
	if err := d.c.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// Kill leaves what kill -9 leaves: the files as they are.
func (d *durable) Kill(t *testing.T) {
	t.Helper()
	after := t.TempDir()
	names, err := filepath.Glob(filepath.Join(d.dir, "c.sqlite*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if strings.HasSuffix(n, "-shm") { // the index of the log; it is made anew
			continue
		}
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(after, filepath.Base(n)), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.Close(t)
	d.dir = after
}

func TestDurable(t *testing.T) {
	channeltest.RunDurable(t, func(t *testing.T) channeltest.Store { return &durable{dir: t.TempDir()} })
}
