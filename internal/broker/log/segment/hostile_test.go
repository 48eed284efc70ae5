package segment

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/log/logtest"
	"github.com/sluice-data/sluice/internal/broker/record"
	"github.com/sluice-data/sluice/internal/seglog/vfs/memfs"
)

// The codecs that make much of little. (Snappy does not: at best 1 in 21.)
var bombCodecs = map[string]record.Codec{"gzip": record.Gzip, "lz4": record.LZ4, "zstd": record.Zstd}

// bomb is a batch of three records; the one in the middle is 64 MiB of zeros.
func bomb(t *testing.T, codec record.Codec) []byte {
	t.Helper()
	recs := []record.Record{
		{Timestamp: 1000, Key: []byte("a"), Value: []byte("x")},
		{Timestamp: 2000, Key: []byte("b"), Value: make([]byte, 64<<20)},
		{Timestamp: 3000, Key: []byte("c"), Value: []byte("x")},
	}
	o, _, err := record.Open(record.Append(nil, record.Header{ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1}, recs...), nil, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := o.Rewrite(nil, record.Compression{Codec: codec}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// allocated is how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// endsSoon is a context that ends when it has been asked a number of times.
type endsSoon struct {
	context.Context
	left int
}

func (e *endsSoon) Err() error {
	if e.left--; e.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestSearchThroughABomb: a search by time through a batch that is far larger than it seems takes little memory, and
// ends with its context in the middle of it.
func TestSearchThroughABomb(t *testing.T) {
	for name, codec := range bombCodecs {
		c := logtest.Config()
		c.SegmentBytes = 4 << 20
		l := store{memfs.New(), dir}.Open(t, c).(*Log)
		b := bomb(t, codec)
		logtest.MustAppend(t, l, b)
		n := allocated(func() {
			if st, err := l.OffsetFor(t.Context(), 2500); err != nil || st.Offset != 2 {
				t.Errorf("%s: %+v, %v", name, st, err)
			}
		})
		if limit := 20<<20 + uint64(len(b)); n > limit {
			t.Errorf("%s: the search allocated %d bytes, want at most %d", name, n, limit)
		}
		if st, err := l.OffsetFor(&endsSoon{t.Context(), 20}, 2500); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %+v, %v: want the end of the context", name, st, err)
		}
		abandon(t, l)
	}
}

// TestCompactionThroughABomb: a batch that may not be opened that far stays as it is, and what it takes in memory goes by
// what may be opened.
func TestCompactionThroughABomb(t *testing.T) {
	for name, codec := range bombCodecs {
		fs := memfs.New()
		c := logtest.Config()
		c.SegmentBytes = 1 << 20
		l := openMem(t, fs, c)
		logtest.MustAppend(t, l, keyed(t, record.None, 1, "a=old", "d=old"))
		b := bomb(t, codec)
		logtest.MustAppend(t, l, b)
		logtest.MustAppend(t, l, keyed(t, record.None, 2, "d=new"))
		for i := 0; len(l.segs) == 1; i++ {
			logtest.MustAppend(t, l, keyed(t, record.None, 3, fmt.Sprintf("other %d=%s", i, strings.Repeat("x", 100_000))))
		}
		var done log.Compacted
		n := allocated(func() {
			var err error
			if done, err = l.Compact(t.Context(), compactOptions(time.UnixMilli(10))); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		})
		// Twice through, with what may be opened and the decoder's window, and the files themselves.
		if limit := 2*(8*compactOptions(time.Time{}).MaxOpened+20<<20) + 16*int64(len(b)); n > uint64(limit) {
			t.Errorf("%s: compaction allocated %d bytes, want at most %d", name, n, limit)
		}
		// Only "d=old" goes: that "a" is in the bomb, nobody knows.
		if done.Records != 1 {
			t.Errorf("%s: %+v: want one record removed", name, done)
		}
		hs := logtest.Headers(t, logtest.ReadAll(t, l))
		if len(hs) < 3 || hs[1].Codec() != codec || hs[1].Count != 3 || hs[1].Size() != int64(len(b)) {
			t.Errorf("%s: batches afterwards: %+v", name, hs)
		}
		abandon(t, l)
	}
}
