package segment

import (
	"io"
	"log/slog"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/log/logtest"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
	"github.com/sluice-data/sluice/internal/seglog/vfs/memfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

type store struct {
	fs  vfs.FS
	dir string
}

func (s store) Open(t testing.TB, c log.TopicConfig) log.Log {
	t.Helper()
	l, err := Open(t.Context(), Options{FS: s.fs, Dir: s.dir, Config: c, Logger: quiet})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return l
}

func TestConformance(t *testing.T) {
	t.Run("os", func(t *testing.T) {
		logtest.Run(t, func(t *testing.T) logtest.Store { return store{vfs.OS{}, filepath.Join(t.TempDir(), "topic-0")} })
	})
	t.Run("memory", func(t *testing.T) {
		logtest.Run(t, func(t *testing.T) logtest.Store { return store{memfs.New(), "/data/topic-0"} })
	})
}
