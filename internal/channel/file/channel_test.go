package file

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/channel/channeltest"
)

// plenty is a disk without end.
func plenty(string) (int64, error) { return 1 << 50, nil }

func testConfig(dir string) Config {
	return Config{
		CheckpointDir: filepath.Join(dir, "checkpoint"), DataDirs: []string{filepath.Join(dir, "data1"), filepath.Join(dir, "data2")},
		Capacity: 1000, TransactionCapacity: 100, KeepAlive: 5 * time.Millisecond, MaxFileSize: 16 << 10, CheckpointEvery: time.Hour, FreeSpace: plenty,
	}
}

func start(t testing.TB, cfg Config) *Channel {
	t.Helper()
	c := New(cfg)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestConformance(t *testing.T) {
	for name, lazy := range map[string]time.Duration{"fsync each": 0, "fsync by time": 10 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			channeltest.Run(t, func(t *testing.T, capacity, txCapacity int) component.Channel {
				cfg := testConfig(t.TempDir())
				cfg.Capacity, cfg.TransactionCapacity, cfg.SyncEvery = capacity, txCapacity, lazy
				return start(t, cfg)
			})
		})
	}
}
