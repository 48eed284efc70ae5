package dump

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/log/logtest"
	"github.com/sluice-data/sluice/internal/broker/log/segment"
	"github.com/sluice-data/sluice/internal/broker/record"
	"github.com/sluice-data/sluice/internal/seglog"
)

// batches makes n batches of two records each, from an offset on, a second apart.
func batches(base int64, n int) (b []byte, starts []int64) {
	for i := range n {
		starts = append(starts, int64(len(b)))
		at := int64(1000 * (i + 1))
		b = record.Append(b, record.Header{BaseOffset: base + int64(2*i), ProducerID: record.NoProducerID, ProducerEpoch: record.NoProducerEpoch, BaseSequence: record.NoSequence},
			record.Record{Timestamp: at, Key: []byte("k"), Value: []byte(strings.Repeat("v", 50))}, record.Record{Timestamp: at + 1})
	}
	return b, starts
}

func file(t *testing.T, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDamage: each kind of damage is found with its position and offset, and what lies behind it is still read.
func TestDamage(t *testing.T) {
	whole, at := batches(100, 5)
	fix := func(b []byte, i int) { // gives batch i its CRC again
		end := len(b)
		if i+1 < len(at) {
			end = int(at[i+1])
		}
		h, err := record.ParseHeader(b[at[i]:])
		if err != nil {
			t.Fatal(err)
		}
		record.Put(b[at[i]:end], h)
	}
	for _, c := range []struct {
		name    string
		change  func(b []byte) []byte
		batches int64 // that are believed
		next    int64
		want    string // of the one problem; "" for none
		torn    bool
	}{
		{"none", func(b []byte) []byte { return b }, 5, 110, "", false},
		{"empty", func(b []byte) []byte { return nil }, 0, 100, "", false},
		{"flipped bit", func(b []byte) []byte { b[at[2]+70] ^= 4; return b }, 4, 110, "position 252, offset 104: record batch is corrupt: CRC", false},
		{"flipped bit in the last", func(b []byte) []byte { b[at[4]+70] ^= 4; return b }, 4, 108, "position 504, offset 108: record batch is corrupt: CRC", false},
		{"bad magic", func(b []byte) []byte { b[at[1]+16] = 1; return b }, 4, 110, "position 126, offset 102: record batch format is not v2: magic is 1; the next valid batch is at 252", false},
		{"length too large", func(b []byte) []byte { b[at[1]+8] = 0x7f; return b }, 4, 110, "position 126, offset 102: record batch is cut short", false},
		{"zeros in the middle", func(b []byte) []byte { clear(b[at[1]:at[3]]); return b }, 3, 110, "the next valid batch is at 378", false},
		{"cut", func(b []byte) []byte { return b[:at[4]+100] }, 4, 108, "position 504, offset 108: record batch is cut short", true},
		{"cut in a header", func(b []byte) []byte { return b[:at[4]+10] }, 4, 108, "nothing valid follows in the last 10 bytes", true},
		{"zeros at the end", func(b []byte) []byte { return append(b, make([]byte, 5000)...) }, 5, 110, "position 630, offset 110: record batch format is not v2", true},
		{"padding", func(b []byte) []byte { return append(b, make([]byte, seglog.PadTo-len(b))...) }, 5, 110, "", false},
		{"offset goes back", func(b []byte) []byte { record.SetBaseOffset(b[at[3]:], 101); return b }, 4, 110, "begins at offset 101, and 106 was expected", false},
		{"a gap is none", func(b []byte) []byte { record.SetBaseOffset(b[at[4]:], 500); return b }, 5, 502, "", false},
		{"records do not fit", func(b []byte) []byte { b[at[1]+60] = 3; fix(b, 1); return b }, 4, 110, "record batch is invalid", false},
	} {
		path := file(t, "00000000000000000100.log", c.change(append([]byte{}, whole...)))
		sum, problems, err := Log(path, 100, 0, true, func(*Batch) error { return nil })
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if sum.Batches != c.batches || sum.Next != c.next {
			t.Errorf("%s: %+v", c.name, sum)
		}
		if (c.want == "") != (len(problems) == 0) || len(problems) > 1 {
			t.Errorf("%s: %v", c.name, problems)
			continue
		}
		if len(problems) == 1 && (!strings.Contains(problems[0].String(), c.want) || problems[0].Torn != c.torn || problems[0].File != path) {
			t.Errorf("%s: %v (torn %t), want %s", c.name, problems[0], problems[0].Torn, c.want)
		}
	}
}

func TestIndex(t *testing.T) {
	b, at := batches(0, 4)
	log := file(t, "00000000000000000000.log", b)
	be := binary.BigEndian
	pos := func(es ...[2]int64) (out []byte) {
		for _, e := range es {
			out = be.AppendUint32(be.AppendUint32(out, uint32(e[0])), uint32(e[1]))
		}
		return out
	}
	times := func(es ...[2]int64) (out []byte) {
		for _, e := range es {
			out = be.AppendUint32(be.AppendUint64(out, uint64(e[0])), uint32(e[1]))
		}
		return out
	}
	// Apache Kafka's form: offset of the last record of a batch, and the time of the record with the offset.
	for _, c := range []struct {
		name  string
		b     []byte
		times bool
		want  []string
	}{
		{"right", append(pos([2]int64{1, at[0]}, [2]int64{5, at[2]}), make([]byte, 80)...), false, nil},
		{"empty", make([]byte, 80), false, nil},
		{"no batch there", pos([2]int64{1, 3}), false, []string{"position 0, offset 1: no batch begins at position 3"}},
		{"beyond the end", pos([2]int64{1, at[0]}, [2]int64{9, 4000}), false, []string{"position 8, offset 9: no batch begins at position 4000"}},
		{"wrong offset", pos([2]int64{1, at[2]}), false, []string{"has offsets 4 to 5"}},
		{"out of order", pos([2]int64{5, at[2]}, [2]int64{1, at[0]}), false, []string{"comes after offset 5"}},
		{"times", times([2]int64{1001, 1}, [2]int64{3001, 5}), true, nil},
		{"wrong time", times([2]int64{1001, 1}, [2]int64{3000, 5}), true, []string{"it says time 3000, and the latest record of its batch is from 3001"}},
		{"time beyond the end", times([2]int64{9000, 99}), true, []string{"the segment ends before it, at offset 8"}},
	} {
		x, err := segment.ParseIndex(c.b, 0, c.times)
		if err != nil || x.Ours {
			t.Fatalf("%s: %v %+v", c.name, err, x)
		}
		problems, err := Index("x.index", log, 0, x, c.times)
		if err != nil || len(problems) != len(c.want) {
			t.Errorf("%s: %v %v, want %q", c.name, problems, err, c.want)
			continue
		}
		for i, p := range problems {
			if !strings.Contains(p.String(), c.want[i]) {
				t.Errorf("%s: %v, want %s", c.name, p, c.want[i])
			}
		}
	}
	// Ours: the offset of the first record, and a bound of all times before it.
	ours := func(es ...segment.IndexEntry) *segment.IndexFile { return &segment.IndexFile{Entries: es, Ours: true} }
	for _, c := range []struct {
		name  string
		x     *segment.IndexFile
		times bool
		want  string
	}{
		{"right", ours(segment.IndexEntry{Offset: 0, Position: 0}, segment.IndexEntry{Offset: 4, Position: at[2]}), false, ""},
		{"wrong offset", ours(segment.IndexEntry{Offset: 5, Position: at[2]}), false, "has offset 4"},
		{"times", ours(segment.IndexEntry{Timestamp: 2001, Offset: 4}, segment.IndexEntry{Timestamp: 4001, Offset: 8}), true, ""},
		{"time too small", ours(segment.IndexEntry{Timestamp: 2000, Offset: 4}), true, "no record before the offset is later than 2000, and one is from 2001"},
		{"last time too small", ours(segment.IndexEntry{Timestamp: 4000, Offset: 8}), true, "one is from 4001"},
	} {
		problems, err := Index("x.index", log, 0, c.x, c.times)
		if err != nil || (c.want == "") != (len(problems) == 0) || c.want != "" && !strings.Contains(problems[0].String(), c.want) {
			t.Errorf("ours, %s: %v %v, want %q", c.name, problems, err, c.want)
		}
	}
}

// FuzzLog: no file makes Log panic or loop, and batches come in ascending order of their positions.
func FuzzLog(f *testing.F) {
	b, at := batches(0, 3)
	f.Add(b)
	f.Add(b[:at[2]+30])
	f.Add(append(append([]byte{}, b...), make([]byte, 100)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "00000000000000000000.log")
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		end := int64(0)
		_, _, err := Log(path, 0, 0, true, func(b *Batch) error {
			if b.Position < end {
				t.Fatalf("a batch at %d after one that ends at %d", b.Position, end)
			}
			end = b.Position + b.Size()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// TestCompacted: what a compaction leaves, batches without records too, is in order, and so are its indexes.
func TestCompacted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "topic-0")
	l, err := segment.Open(t.Context(), segment.Options{Dir: dir, Config: logtest.Config(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for pass := range 2 { // the second one merges segments
		for i := range 200 {
			key := fmt.Sprint("k", i%7)
			if i%40 == 0 {
				key = fmt.Sprint("once", pass, i)
			}
			logtest.MustAppend(t, l, record.Append(nil, record.Header{ProducerID: record.NoProducerID, ProducerEpoch: record.NoProducerEpoch, BaseSequence: record.NoSequence},
				record.Record{Timestamp: int64(1000*pass + i), Key: []byte(key), Value: []byte(strings.Repeat("v", 60))}))
		}
		_, err := l.Compact(t.Context(), log.CompactOptions{Now: time.UnixMilli(10_000), DeleteRetention: time.Hour, MaxOpened: 1 << 20,
			KeepEmpty: func(*record.Header) bool { return false }})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(names) < 2 {
		t.Fatalf("%q, %v", names, err)
	}
	next, empty := int64(0), 0
	for _, name := range names {
		sum, problems, err := Log(name, next, 0, true, func(b *Batch) error {
			if b.Count == 0 {
				empty++
			}
			return nil
		})
		if err != nil || len(problems) > 0 {
			t.Errorf("%s: %v, %v", name, problems, err)
		}
		base := next
		next = sum.Next
		for _, times := range []bool{false, true} {
			index := strings.TrimSuffix(name, ".log") + map[bool]string{false: ".index", true: ".timeindex"}[times]
			b, err := os.ReadFile(index)
			if err != nil {
				t.Fatal(err)
			}
			x, err := segment.ParseIndex(b, base, times)
			if err != nil || !x.Ours || len(x.Entries) == 0 {
				t.Fatalf("%s: %+v, %v", index, x, err)
			}
			if problems, err := Index(index, name, base, x, times); err != nil || len(problems) > 0 {
				t.Errorf("%s: %v, %v", index, problems, err)
			}
		}
	}
	if next != 400 || empty == 0 {
		t.Errorf("the log ends at %d, with %d batches without records", next, empty)
	}
}
