// Package segment keeps a partition as append-only segment files in a directory: Kafka's record batches as they came,
// with sparse indexes that can be rebuilt from them.
package segment

import (
	"context"
	"errors"
	"log/slog"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
)

// Options opens a Log.
type Options struct {
	FS     vfs.FS // nil: the operating system's
	Dir    string // the partition's directory, "topic-partition"; made if absent
	Config log.TopicConfig
	Logger *slog.Logger
	// Repair cuts a damaged log off at the first damaged batch instead of refusing to open it. What is cut is lost.
	Repair bool
}

// Log is a log.Log over segment files.
type Log struct{ log.Log }

// Open recovers the directory's log. Damage that is not a torn end is a *seglog.CorruptionError.
func Open(ctx context.Context, o Options) (*Log, error) { return nil, errors.ErrUnsupported }
