package partition

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/log/logtest"
	"github.com/sluice-data/sluice/internal/broker/log/segment"
	"github.com/sluice-data/sluice/internal/broker/record"
	"github.com/sluice-data/sluice/internal/seglog/vfs/memfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const dir = "/data/topic-0"

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

type clock struct{ ms atomic.Int64 }

func (c *clock) now() time.Time          { return time.UnixMilli(c.ms.Load()) }
func (c *clock) advance(d time.Duration) { c.ms.Add(d.Milliseconds()) }

func newClock() *clock {
	c := &clock{}
	c.ms.Store(1_700_000_000_000)
	return c
}

func open(t testing.TB, fs *memfs.FS, c log.TopicConfig, ck *clock) *Partition {
	t.Helper()
	l, err := segment.Open(context.Background(), segment.Options{FS: fs, Dir: dir, Config: c, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	p, err := Open(context.Background(), Options{Topic: "topic", Log: l, Config: c, FS: fs, Dir: dir, Logger: quiet, Now: ck.now})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func closeP(t testing.TB, p *Partition) {
	t.Helper()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

// seq makes a batch of an idempotent producer.
func seq(ck *clock, id int64, epoch int16, base int32, n int) []byte {
	recs := make([]record.Record, n)
	for i := range recs {
		recs[i] = record.Record{Timestamp: ck.ms.Load(), Value: []byte(fmt.Sprintf("%d/%d/%d", id, epoch, int(base)+i))}
	}
	return record.Append(nil, record.Header{ProducerID: id, ProducerEpoch: epoch, BaseSequence: base}, recs...)
}

func TestIdempotence(t *testing.T) {
	type step struct {
		id    int64
		epoch int16
		base  int32
		n     int
		want  error
		off   int64 // base offset if want is nil
		dup   bool
	}
	const maxSeq = math.MaxInt32
	for name, steps := range map[string][]step{
		"in order":                {{1, 0, 0, 3, nil, 0, false}, {1, 0, 3, 2, nil, 3, false}, {1, 0, 5, 1, nil, 5, false}},
		"retry":                   {{1, 0, 0, 3, nil, 0, false}, {1, 0, 0, 3, nil, 0, true}, {1, 0, 3, 1, nil, 3, false}, {1, 0, 0, 3, nil, 0, true}},
		"gap":                     {{1, 0, 0, 3, nil, 0, false}, {1, 0, 4, 1, log.ErrOutOfOrderSequence, 0, false}, {1, 0, 3, 1, nil, 3, false}},
		"overlap is no duplicate": {{1, 0, 0, 3, nil, 0, false}, {1, 0, 0, 2, log.ErrOutOfOrderSequence, 0, false}, {1, 0, 1, 2, log.ErrOutOfOrderSequence, 0, false}},
		"sixth last is forgotten": {
			{1, 0, 0, 1, nil, 0, false}, {1, 0, 1, 1, nil, 1, false}, {1, 0, 2, 1, nil, 2, false}, {1, 0, 3, 1, nil, 3, false},
			{1, 0, 4, 1, nil, 4, false}, {1, 0, 0, 1, nil, 0, true}, {1, 0, 5, 1, nil, 5, false},
			{1, 0, 0, 1, log.ErrOutOfOrderSequence, 0, false}, {1, 0, 1, 1, nil, 1, true}},
		"unknown producer may begin anywhere": {{1, 3, 77, 2, nil, 0, false}, {1, 3, 79, 1, nil, 2, false}},
		"new epoch":                           {{1, 0, 0, 3, nil, 0, false}, {1, 1, 3, 1, log.ErrOutOfOrderSequence, 0, false}, {1, 1, 0, 1, nil, 3, false}, {1, 1, 1, 1, nil, 4, false}},
		"old epoch is fenced":                 {{1, 2, 0, 1, nil, 0, false}, {1, 1, 1, 1, log.ErrInvalidProducerEpoch, 0, false}, {1, 1, 0, 1, log.ErrInvalidProducerEpoch, 0, false}},
		"new epoch forgets old batches":       {{1, 0, 0, 1, nil, 0, false}, {1, 1, 0, 1, nil, 1, false}, {1, 1, 0, 1, nil, 1, true}, {1, 0, 0, 1, log.ErrInvalidProducerEpoch, 0, false}},
		"two producers":                       {{1, 0, 0, 1, nil, 0, false}, {2, 0, 0, 1, nil, 1, false}, {1, 0, 1, 1, nil, 2, false}, {2, 0, 0, 1, nil, 1, true}},
		"wrap": {{1, 0, maxSeq - 1, 1, nil, 0, false}, {1, 0, maxSeq, 3, nil, 1, false}, {1, 0, 2, 1, nil, 4, false},
			{1, 0, maxSeq, 3, nil, 1, true}, {1, 0, 5, 1, log.ErrOutOfOrderSequence, 0, false}},
		"wrap at the edge":        {{1, 0, maxSeq, 1, nil, 0, false}, {1, 0, 0, 1, nil, 1, false}},
		"without id no sequences": {{-1, -1, -1, 2, nil, 0, false}, {-1, -1, -1, 2, nil, 2, false}},
	} {
		// The state must be the same when it is rebuilt between any two steps: from a snapshot, from the log alone, or
		// from a snapshot and the log's tail.
		for _, how := range []string{"live", "closed", "killed", "no snapshot"} {
			t.Run(name+"/"+how, func(t *testing.T) {
				ck := newClock()
				fs := memfs.New()
				p := open(t, fs, logtest.Config(), ck)
				for i, s := range steps {
					a, err := p.Append(t.Context(), seq(ck, s.id, s.epoch, s.base, s.n), AppendOpts{Acks: -1})
					if !errors.Is(err, s.want) {
						t.Fatalf("step %d: %v, want %v", i, err, s.want)
					}
					if err == nil && (a.Base != s.off || a.Last != s.off+int64(s.n)-1 || a.Duplicate != s.dup) {
						t.Fatalf("step %d: %+v, want offset %d, duplicate %v", i, a, s.off, s.dup)
					}
					img := fs.Clone()
					switch how {
					case "closed":
						closeP(t, p)
						p = open(t, fs, logtest.Config(), ck)
					case "killed":
						closeP(t, p)
						fs = img
						p = open(t, fs, logtest.Config(), ck)
						if i == 1 { // from now on there is a snapshot
							closeP(t, p)
							p = open(t, fs, logtest.Config(), ck)
						}
					case "no snapshot":
						closeP(t, p)
						for _, n := range fs.Names() {
							if len(n) > 9 && n[len(n)-9:] == snapshotExt {
								if err := fs.Remove(n); err != nil {
									t.Fatal(err)
								}
							}
						}
						p = open(t, fs, logtest.Config(), ck)
					}
				}
				closeP(t, p)
			})
		}
	}
}

func TestSnapshotBeyondTheLog(t *testing.T) {
	ck := newClock()
	fs := memfs.New()
	p := open(t, fs, logtest.Config(), ck)
	app := func(p *Partition, base int32) (Appended, error) {
		return p.Append(t.Context(), seq(ck, 1, 0, base, 1), AppendOpts{Acks: 1})
	}
	for i := range int32(3) {
		if _, err := app(p, i); err != nil {
			t.Fatal(err)
		}
	}
	lost := fs.Clone()
	if _, err := app(p, 3); err != nil {
		t.Fatal(err)
	}
	closeP(t, p)
	// The power went: the snapshot at offset 4 is there, the record at offset 3 is not.
	for _, n := range fs.Names() {
		if b, err := fs.ReadFile(n); err == nil && n[len(n)-9:] == snapshotExt {
			lost.WriteFile(n, b)
		}
	}
	p = open(t, lost, logtest.Config(), ck)
	a, err := app(p, 3)
	if err != nil || a.Duplicate || a.Base != 3 {
		t.Fatalf("the lost batch sent again: %+v, %v", a, err)
	}
	closeP(t, p)
}

func TestProducerExpiry(t *testing.T) {
	ck := newClock()
	p := open(t, memfs.New(), logtest.Config(), ck)
	defer closeP(t, p)
	old := record.Append(nil, record.Header{ProducerID: 1, BaseSequence: 0}, record.Record{Timestamp: 5})
	if _, err := p.Append(t.Context(), bytes.Clone(old), AppendOpts{}); err != nil {
		t.Fatal(err)
	}
	ck.advance(23 * time.Hour)
	if err := p.Reconfigure(func() log.TopicConfig { c := logtest.Config(); c.RetentionAge = -1; return c }()); err != nil {
		t.Fatal(err)
	}
	tick(t, p)
	if a, err := p.Append(t.Context(), bytes.Clone(old), AppendOpts{}); err != nil || !a.Duplicate {
		t.Fatalf("a producer of old records was forgotten early: %+v, %v", a, err)
	}
	ck.advance(2 * time.Hour)
	tick(t, p)
	if n := len(p.Producers()); n != 0 {
		t.Fatalf("%d producers after 25 h", n)
	}
}

func tick(t testing.TB, p *Partition) int64 {
	t.Helper()
	n, err := p.Tick(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestValidation(t *testing.T) {
	ck := newClock()
	now := ck.ms.Load()
	plain := func(h record.Header, ts int64) []byte {
		if h.ProducerID == 0 {
			h.ProducerID, h.ProducerEpoch, h.BaseSequence = -1, -1, -1
		}
		return record.Append(nil, h, record.Record{Timestamp: ts, Value: []byte("v")})
	}
	good := plain(record.Header{}, now)
	put := func(f func(h *record.Header)) []byte {
		b := bytes.Clone(good)
		h, err := record.ParseHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		f(&h)
		record.Put(b, h)
		return b
	}
	edit := func(i int, v byte) []byte { b := bytes.Clone(good); b[i] = v; return b }
	for _, c := range []struct {
		name string
		b    []byte
		set  func(*log.TopicConfig)
		want error
		code int16
	}{
		{"good", good, nil, nil, 0},
		{"nothing", nil, nil, log.ErrInvalidRecord, 87},
		{"two batches", append(bytes.Clone(good), good...), nil, log.ErrInvalidRecord, 87},
		{"bytes after it", append(bytes.Clone(good), 1), nil, log.ErrInvalidRecord, 87},
		{"cut short", good[:len(good)-1], nil, log.ErrInvalidRecord, 87},
		{"wrong CRC", edit(len(good)-1, 99), nil, log.ErrCorruptMessage, 2},
		{"magic 3", edit(16, 3), nil, log.ErrCorruptMessage, 2},
		{"magic 1", edit(16, 1), nil, log.ErrInvalidRecord, 87},
		{"count", put(func(h *record.Header) { h.Count = 2 }), nil, log.ErrInvalidRecord, 87},
		{"no records", put(func(h *record.Header) { h.Count = 0 }), nil, log.ErrInvalidRecord, 87},
		{"delta", put(func(h *record.Header) { h.LastOffsetDelta = 5 }), nil, log.ErrInvalidRecord, 87},
		{"count and delta", put(func(h *record.Header) { h.LastOffsetDelta, h.Count = 4, 5 }), nil, log.ErrInvalidRecord, 87},
		{"base offset", put(func(h *record.Header) { h.BaseOffset = 1 }), nil, log.ErrInvalidRecord, 87},
		{"codec 6", put(func(h *record.Header) { h.Attributes = 6 }), nil, log.ErrInvalidRecord, 87},
		{"control", put(func(h *record.Header) { h.Attributes = 0x20 }), nil, log.ErrInvalidRecord, 87},
		{"transactional", put(func(h *record.Header) { h.Attributes = 0x10 }), nil, log.ErrInvalidTxnState, 48},
		{"id without sequence", put(func(h *record.Header) { h.ProducerID, h.ProducerEpoch = 4, 0 }), nil, log.ErrInvalidRecord, 87},
		{"log append time is overruled", put(func(h *record.Header) { h.Attributes = 8 }), nil, nil, 0},
		{"too large", good, func(c *log.TopicConfig) { c.MaxMessageBytes = int32(len(good)) - 1 }, log.ErrMessageTooLarge, 10},
		{"just fits", good, func(c *log.TopicConfig) { c.MaxMessageBytes = int32(len(good)) }, nil, 0},
		{"larger than a segment", logtest.Batch(now, 5, 1000), nil, log.ErrBatchTooLarge, 18},
		{"from the future", plain(record.Header{}, now+3_600_001), nil, log.ErrInvalidTimestamp, 32},
		{"an hour ahead", plain(record.Header{}, now+3_600_000), nil, nil, 0},
		{"old", plain(record.Header{}, 1), nil, nil, 0},
		{"too old", plain(record.Header{}, now-1001), func(c *log.TopicConfig) { c.TimestampBeforeMax = time.Second }, log.ErrInvalidTimestamp, 32},
		{"no timestamp", plain(record.Header{}, -1), func(c *log.TopicConfig) { c.TimestampBeforeMax = time.Second }, nil, 0},
		{"wrong max timestamp", put(func(h *record.Header) { h.MaxTimestamp = now + 5 }), nil, nil, 0},
		{"compressed garbage", put(func(h *record.Header) { h.Attributes = 4 }), nil, log.ErrInvalidRecord, 87},
		{"compressed garbage to be opened", put(func(h *record.Header) { h.Attributes = 4 }), func(c *log.TopicConfig) { c.Compact = true }, log.ErrInvalidRecord, 87},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := logtest.Config()
			if c.set != nil {
				c.set(&cfg)
			}
			p := open(t, memfs.New(), cfg, ck)
			defer closeP(t, p)
			a, err := p.Append(t.Context(), bytes.Clone(c.b), AppendOpts{Acks: 1})
			if !errors.Is(err, c.want) || log.KafkaCode(err) != c.code {
				t.Fatalf("%v (code %d), want %v (%d)", err, log.KafkaCode(err), c.want, c.code)
			}
			if end := p.Offsets().End; (err == nil) != (end == 1) {
				t.Fatalf("end is %d", end)
			}
			if err == nil {
				if a.AppendTime != -1 || a.Records != 1 || a.Bytes != len(c.b) {
					t.Fatalf("%+v", a)
				}
				r, err := p.Read(log.ReadReq{MaxBytes: 1 << 20})
				if err != nil {
					t.Fatal(err)
				}
				h := logtest.Headers(t, logtest.Bytes(t, r))[0]
				if h.Codec() == record.None && h.BaseTimestamp != h.MaxTimestamp {
					t.Fatalf("largest timestamp %d of one record at %d", h.MaxTimestamp, h.BaseTimestamp)
				}
			}
		})
	}
}

// TestFaultyRecords: a batch that is refused for single records says which
// (KIP-467), whether it is compressed or not.
func TestFaultyRecords(t *testing.T) {
	ck := newClock()
	now := ck.ms.Load()
	var mixed, many []record.Record
	for i := range 5 {
		r := record.Record{Timestamp: now, Key: []byte("k"), Value: []byte("v")}
		if i == 1 || i == 4 {
			r.Key = nil
		}
		if i == 2 {
			r.Timestamp = now - 5000
		}
		mixed = append(mixed, r)
	}
	for range maxFaulty + 5 {
		many = append(many, record.Record{Timestamp: now})
	}
	none := record.Header{ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1}
	plain := record.Append(nil, none, mixed...)
	compacted := func(c *log.TopicConfig) { c.Compact = true }
	for _, tt := range []struct {
		name  string
		batch []byte
		set   func(*log.TopicConfig)
		kind  error
		want  []int32
		count int
	}{
		{"without a key", plain, compacted, log.ErrInvalidRecord, []int32{1, 4}, 2},
		{"without a key, compressed", packed(t, plain, record.Gzip), compacted, log.ErrInvalidRecord, []int32{1, 4}, 2},
		{"too old", plain, func(c *log.TopicConfig) { c.TimestampBeforeMax = time.Second }, log.ErrInvalidTimestamp, []int32{2}, 1},
		{"too old, compressed", packed(t, plain, record.Zstd), func(c *log.TopicConfig) { c.TimestampBeforeMax = time.Second }, log.ErrInvalidTimestamp, []int32{2}, 1},
		{"very many", record.Append(nil, none, many...), compacted, log.ErrInvalidRecord, []int32{0, 1, 2}, maxFaulty},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := logtest.Config()
			cfg.MaxMessageBytes, cfg.SegmentBytes = 1<<20, 1<<21
			tt.set(&cfg)
			p := open(t, memfs.New(), cfg, ck)
			defer closeP(t, p)
			_, err := p.Append(t.Context(), bytes.Clone(tt.batch), AppendOpts{Acks: 1})
			var faults *log.RecordsError
			if !errors.Is(err, tt.kind) || !errors.As(err, &faults) {
				t.Fatalf("%v: want %v with the records", err, tt.kind)
			}
			if len(faults.Records) != tt.count {
				t.Errorf("%d records are named, want %d", len(faults.Records), tt.count)
			}
			for i, f := range faults.Records {
				if i < len(tt.want) && f.Index != tt.want[i] || (f.Message != "") != (i < maxFaultyText) {
					t.Errorf("named as number %d: %+v", i, f)
				}
			}
		})
	}
}

// packed compresses a batch.
func packed(t *testing.T, plain []byte, codec record.Codec) []byte {
	t.Helper()
	o, _, err := record.Open(plain, nil, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := o.Rewrite(nil, record.Compression{Codec: codec}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestCompressedBatches: the header's times are put right from the records, the limits are the records', and a batch that
// grows too large is refused, whether it is only checked or stored in another codec.
func TestCompressedBatches(t *testing.T) {
	ck := newClock()
	now := ck.ms.Load()
	none := record.Header{ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1}
	zeros := make([]byte, 17<<20)
	for codec := record.Gzip; codec <= record.Zstd; codec++ {
		for _, recompress := range []bool{false, true} {
			cfg := logtest.Config()
			cfg.TimestampBeforeMax = time.Minute
			cfg.MaxMessageBytes = 16 << 20 / 32
			cfg.SegmentBytes = 8 << 20
			cfg.Compact = recompress // opened whole
			p := open(t, memfs.New(), cfg, ck)
			key := []byte("k")
			put := func(recs ...record.Record) []byte {
				b := packed(t, record.Append(nil, none, recs...), codec)
				h, err := record.ParseHeader(b)
				if err != nil {
					t.Fatal(err)
				}
				h.MaxTimestamp = now + 77
				record.Put(b, h)
				return b
			}
			old := put(record.Record{Timestamp: now, Key: key}, record.Record{Timestamp: now - 60_001, Key: key})
			if _, err := p.Append(t.Context(), old, AppendOpts{Acks: 1}); !errors.Is(err, log.ErrInvalidTimestamp) {
				t.Errorf("codec %d: too old inside: %v", codec, err)
			}
			if codec != record.Snappy { // which does not make it small enough to be sent
				bomb := put(record.Record{Timestamp: now, Key: key, Value: zeros})
				if _, err := p.Append(t.Context(), bomb, AppendOpts{Acks: 1}); log.KafkaCode(err) != 10 {
					t.Errorf("codec %d: bomb: %v", codec, err)
				}
			}
			good := put(record.Record{Timestamp: now - 9, Key: key}, record.Record{Timestamp: now - 5, Key: key}, record.Record{Timestamp: now - 7, Key: key})
			if _, err := p.Append(t.Context(), good, AppendOpts{Acks: 1}); err != nil {
				t.Fatal(err)
			}
			r, err := p.Read(log.ReadReq{MaxBytes: 1 << 20})
			if err != nil {
				t.Fatal(err)
			}
			if h := logtest.Headers(t, logtest.Bytes(t, r))[0]; h.MaxTimestamp != now-5 || h.Codec() != codec {
				t.Errorf("codec %d: stored in codec %d with largest time %d, want %d", codec, h.Codec(), h.MaxTimestamp, now-5)
			}
			closeP(t, p)
		}
	}
}

func TestLogAppendTime(t *testing.T) {
	ck := newClock()
	c := logtest.Config()
	c.TimestampType = log.LogAppendTime
	p := open(t, memfs.New(), c, ck)
	defer closeP(t, p)
	now := ck.ms.Load()
	a, err := p.Append(t.Context(), logtest.Batch(5, 3, 10), AppendOpts{Acks: 1})
	if err != nil || a.AppendTime != now {
		t.Fatalf("%+v, %v", a, err)
	}
	r, err := p.Read(log.ReadReq{MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	h := logtest.Headers(t, logtest.Bytes(t, r))[0] // checks the CRC
	if !h.LogAppendTime() || h.MaxTimestamp != now || h.BaseTimestamp != 5 {
		t.Fatalf("%+v", h)
	}
	if st, err := p.ListOffsets(t.Context(), now, log.ReadUncommitted); err != nil || st.Offset != 0 || st.Timestamp != now {
		t.Fatalf("%+v, %v", st, err)
	}
}

func TestListOffsets(t *testing.T) {
	ck := newClock()
	p := open(t, memfs.New(), logtest.Config(), ck)
	defer closeP(t, p)
	for i := range 20 {
		if _, err := p.Append(t.Context(), logtest.Batch(int64(1000*i), 4, 200), AppendOpts{}); err != nil {
			t.Fatal(err)
		}
	}
	if start, err := p.DeleteRecords(t.Context(), 10); err != nil || start != 10 {
		t.Fatalf("%d, %v", start, err)
	}
	for _, c := range []struct{ ask, off, ts int64 }{
		{-1, 80, -1}, {-2, 10, -1}, {-4, 10, -1}, {-3, 79, 19003}, {0, 10, 2002}, {5001, 21, 5001}, {5004, 24, 6000}, {19004, -1, -1},
	} {
		if st, err := p.ListOffsets(t.Context(), c.ask, log.ReadCommitted); err != nil || st.Offset != c.off || st.Timestamp != c.ts {
			t.Errorf("ListOffsets(%d) = %+v, %v: want %d at %d", c.ask, st, err, c.off, c.ts)
		}
	}
	if _, err := p.ListOffsets(t.Context(), -5, log.ReadUncommitted); log.KafkaCode(err) != 43 {
		t.Errorf("ListOffsets(-5): %v", err)
	}
	if _, err := p.DeleteRecords(t.Context(), 81); !errors.Is(err, log.ErrOffsetOutOfRange) {
		t.Errorf("delete beyond the end: %v", err)
	}
	if start, err := p.DeleteRecords(t.Context(), -1); err != nil || start != 80 || p.Size() != 0 {
		t.Errorf("delete all: start %d, %d bytes, %v", start, p.Size(), err)
	}
	if e, off := p.OffsetForLeaderEpoch(0); e != 0 || off != 80 {
		t.Errorf("epoch 0 ends at %d, %d", e, off)
	}
}

func TestRetention(t *testing.T) {
	ck := newClock()
	c := logtest.Config()
	c.SegmentBytes = 1024
	c.RetentionAge = time.Hour
	p := open(t, memfs.New(), c, ck)
	defer closeP(t, p)
	b := func() []byte { return logtest.Batch(ck.ms.Load(), 1, 400) }
	size := int64(len(b()))
	for range 9 { // two a segment
		if _, err := p.Append(t.Context(), b(), AppendOpts{}); err != nil {
			t.Fatal(err)
		}
		ck.advance(10 * time.Minute)
	}
	// Ages now: 90, 80, … 10 minutes. Segments {90,80} goes; {70,60} stays for its younger record.
	if freed := tick(t, p); freed != 2*size || p.Offsets().Start != 2 {
		t.Fatalf("by time: freed %d, %+v", freed, p.Offsets())
	}
	if freed := tick(t, p); freed != 0 {
		t.Fatalf("second tick freed %d", freed)
	}
	c.RetentionBytes = 3 * size
	if err := p.Reconfigure(c); err != nil {
		t.Fatal(err)
	}
	if freed := tick(t, p); freed != 4*size || p.Size() != 3*size || p.Offsets().Start != 6 {
		t.Fatalf("by size: freed %d, %d left, %+v", freed, p.Size(), p.Offsets())
	}
	// An open read keeps its files.
	r, err := p.Read(log.ReadReq{Offset: 6, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	ck.advance(2 * time.Hour)
	if freed := tick(t, p); freed != 3*size {
		t.Fatalf("all too old: freed %d", freed)
	}
	if o := p.Offsets(); o.Start != 9 || o.End != 9 || p.Size() != 0 {
		t.Fatalf("%+v", o)
	}
	if hs := logtest.Headers(t, logtest.Bytes(t, r)); len(hs) != 3 {
		t.Fatalf("the open read has %d batches", len(hs))
	}
	if freed := tick(t, p); freed != 0 {
		t.Fatalf("an empty partition freed %d", freed)
	}
	if a, err := p.Append(t.Context(), b(), AppendOpts{}); err != nil || a.Base != 9 || a.LogStart != 9 {
		t.Fatalf("%+v, %v", a, err)
	}
}

// TestRetentionWithoutTimestamps goes by the time of the last append, across a restart too.
func TestRetentionWithoutTimestamps(t *testing.T) {
	ck := newClock()
	ck.ms.Store(time.Now().UnixMilli()) // after the restart the file's own time counts
	c := logtest.Config()
	c.RetentionAge = time.Hour
	fs := memfs.New()
	p := open(t, fs, c, ck)
	b := record.Append(nil, record.Header{ProducerID: -1, BaseSequence: -1}, record.Record{Timestamp: -1})
	if _, err := p.Append(t.Context(), b, AppendOpts{}); err != nil {
		t.Fatal(err)
	}
	ck.advance(59 * time.Minute)
	if freed := tick(t, p); freed != 0 {
		t.Fatalf("freed %d after 59 minutes", freed)
	}
	closeP(t, p)
	p = open(t, fs, c, ck)
	if freed := tick(t, p); freed != 0 {
		t.Fatalf("freed %d after 59 minutes and a restart", freed)
	}
	ck.advance(2 * time.Minute)
	if freed := tick(t, p); freed == 0 {
		t.Fatal("freed nothing after 61 minutes")
	}
	closeP(t, p)
}

func TestNothingIsKeptOfAFailedAppend(t *testing.T) {
	ck := newClock()
	fs := memfs.New()
	p := open(t, fs, logtest.Config(), ck)
	defer closeP(t, p)
	if _, err := p.Append(t.Context(), seq(ck, 1, 0, 0, 1), AppendOpts{}); err != nil {
		t.Fatal(err)
	}
	fs.SetLimit(fs.Used() + 20)
	if _, err := p.Append(t.Context(), seq(ck, 1, 0, 1, 1), AppendOpts{}); !errors.Is(err, log.ErrNoSpace) || log.KafkaCode(err) != 56 {
		t.Fatalf("%v", err)
	}
	fs.SetLimit(-1)
	a, err := p.Append(t.Context(), seq(ck, 1, 0, 1, 1), AppendOpts{})
	if err != nil || a.Duplicate || a.Base != 1 {
		t.Fatalf("the same batch with space again: %+v, %v", a, err)
	}
}

func TestDuplicateWaitsForDurability(t *testing.T) {
	ck := newClock()
	fs := memfs.New()
	c := logtest.Config()
	c.SyncAcks = true
	p := open(t, fs, c, ck)
	fs.SetHook(func(op memfs.Op, _ string) error {
		if op == memfs.OpSync {
			return syscall.EIO
		}
		return nil
	})
	b := seq(ck, 1, 0, 0, 1)
	if _, err := p.Append(t.Context(), bytes.Clone(b), AppendOpts{Acks: -1}); !errors.Is(err, log.ErrStorage) {
		t.Fatalf("append: %v", err)
	}
	// The retry finds the batch in the log, but nobody may promise that it is safe.
	if _, err := p.Append(t.Context(), bytes.Clone(b), AppendOpts{Acks: -1}); !errors.Is(err, log.ErrStorage) {
		t.Fatalf("retry: %v", err)
	}
	if err := p.Close(); !errors.Is(err, log.ErrStorage) {
		t.Fatalf("close: %v", err)
	}
}

func TestConcurrentProducers(t *testing.T) {
	ck := newClock()
	p := open(t, memfs.New(), logtest.Config(), ck)
	var wg sync.WaitGroup
	const each = 200
	for id := range int64(4) {
		wg.Go(func() {
			for i := range int32(each) {
				b := seq(ck, id, 0, i, 1)
				for range 2 { // each batch twice
					if _, err := p.Append(context.Background(), bytes.Clone(b), AppendOpts{Acks: 1}); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Go(func() {
		for range 50 {
			if _, err := p.Tick(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	if end := p.Offsets().End; end != 4*each {
		t.Errorf("end is %d: want %d", end, 4*each)
	}
	for _, x := range p.Producers() {
		if x.LastSequence != each-1 {
			t.Errorf("%+v", x)
		}
	}
	closeP(t, p)
	closeP(t, p)
	if _, err := p.Append(t.Context(), seq(ck, 1, 0, each, 1), AppendOpts{}); !errors.Is(err, log.ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
	if _, err := p.Tick(t.Context()); !errors.Is(err, log.ErrClosed) {
		t.Errorf("tick after close: %v", err)
	}
}

func FuzzSnapshot(f *testing.F) {
	ps := producers{}
	for i := range int64(7) {
		h := record.Header{ProducerID: i % 3, ProducerEpoch: 2, BaseSequence: int32(i), MaxTimestamp: 99}
		ps.note(&h, 100+i, 5)
	}
	f.Add(ps.encode(107))
	f.Add(producers{}.encode(0))
	f.Fuzz(func(t *testing.T, b []byte) {
		ps, off, err := decodeSnapshot(b)
		if err != nil {
			return
		}
		again, off2, err := decodeSnapshot(ps.encode(off))
		if err != nil || off2 != off || len(again) != len(ps) {
			t.Fatalf("%v", err)
		}
		for id, p := range ps {
			if *again[id] != *p {
				t.Fatalf("producer %d: %+v, then %+v", id, p, again[id])
			}
		}
	})
}

func TestSnapshotRoundTrip(t *testing.T) {
	ps := producers{}
	for i := range int64(20) {
		h := record.Header{ProducerID: i % 3, ProducerEpoch: 2, BaseSequence: int32(i), MaxTimestamp: 99}
		ps.note(&h, 100+i, 5)
	}
	b := ps.encode(120)
	got, off, err := decodeSnapshot(b)
	if err != nil || off != 120 || len(got) != 3 || *got[1] != *ps[1] {
		t.Fatalf("%+v, %d, %v", got, off, err)
	}
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 1
		if _, _, err := decodeSnapshot(c); err == nil {
			t.Fatalf("byte %d changed and nobody noticed", i)
		}
		if _, _, err := decodeSnapshot(b[:i]); err == nil {
			t.Fatalf("cut at byte %d and nobody noticed", i)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	l, err := segment.Open(context.Background(), segment.Options{Dir: b.TempDir(), Config: log.DefaultTopicConfig(), Logger: quiet})
	if err != nil {
		b.Fatal(err)
	}
	p, err := Open(context.Background(), Options{Topic: "t", Log: l, Config: log.DefaultTopicConfig(), Dir: b.TempDir(), Logger: quiet})
	if err != nil {
		b.Fatal(err)
	}
	batch := logtest.Batch(1_700_000_000_000, 1000, 100)
	b.SetBytes(int64(len(batch)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		record.SetBaseOffset(batch, 0)
		if _, err := p.Append(context.Background(), batch, AppendOpts{Acks: 1}); err != nil {
			b.Fatal(err)
		}
		if i%1000 == 999 {
			if _, err := p.DeleteRecords(context.Background(), -1); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.StopTimer()
	if err := p.Close(); err != nil {
		b.Fatal(err)
	}
}
