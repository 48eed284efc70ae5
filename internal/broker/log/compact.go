package log

import (
	"context"
	"time"

	"github.com/sluice-data/sluice/internal/broker/record"
)

// Compactor is implemented by stores that can keep the latest record of each key only. Offsets do not change: what is
// left where records were is a batch without records, so that offsets follow one another as before.
type Compactor interface {
	// Compact does one pass if there is enough to do. When ctx ends it stops, and what was done stands.
	Compact(ctx context.Context, o CompactOptions) (Compacted, error)
}

// CompactOptions are the settings of one pass.
type CompactOptions struct {
	Now             time.Time
	MinLag          time.Duration // records younger than this stay, and end what is looked at
	MaxLag          time.Duration // with a new record older than this the pass is made whatever the ratio; 0: never
	MinDirtyRatio   float64       // of the bytes that can be compacted, how many must be new
	DeleteRetention time.Duration // a tombstone goes so long after the first pass that saw it
	MaxKeys         int           // how many keys one pass may remember; 0: a million (some 60 MB). More take more passes
	MaxOpened       int64         // bytes that a batch may have when it is decompressed

	// KeepEmpty says that a batch must be kept, without records if need be, for the sake of its producer.
	KeepEmpty func(*record.Header) bool
}

// Compacted is what a pass did.
type Compacted struct {
	Segments int   // written anew
	Before   int64 // their bytes before
	After    int64 // and after
	Records  int64 // records that are gone
}
