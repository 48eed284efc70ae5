// Package dump reads the files of partitions, this broker's and Apache Kafka's, without a broker and without changing
// them. It finds damage and goes on behind it.
package dump

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/sluice-data/sluice/internal/broker/log/segment"
	"github.com/sluice-data/sluice/internal/broker/record"
	"github.com/sluice-data/sluice/internal/seglog"
)

// Problem is damage in a file.
type Problem struct {
	File     string
	Position int64 // in bytes
	Offset   int64 // of the record, or the one that is expected there; -1 if none is
	Err      error
	// Torn says that the file ends in a write that did not come to its end, which is no damage in the last segment of a
	// partition: the next start cuts it off, and a running broker may be about to go on.
	Torn bool
}

func (p Problem) String() string {
	s := fmt.Sprintf("%s: position %d", p.File, p.Position)
	if p.Offset >= 0 {
		s += fmt.Sprintf(", offset %d", p.Offset)
	}
	return s + ": " + p.Err.Error()
}

// Batch is a batch found in a segment.
type Batch struct {
	record.Header
	Position int64
	Bad      error  // why the batch cannot be believed, its CRC for one
	Bytes    []byte // the whole batch, valid until the visit returns
}

// Summary is what a segment holds.
type Summary struct {
	Batches, Records int64
	First, Next      int64 // offsets; equal in an empty segment
	Bytes            int64 // that were read
}

// maxBatch bounds what is read at once for a batch whose length nobody has checked. No batch that a broker takes is as
// large.
const maxBatch = 1 << 30

// Log reads the segment in file, whose name says base, from its beginning, and calls visit for each batch. It goes
// no further than limit bytes, if that is positive. With records, the records of every batch are decoded and checked.
func Log(file string, base, limit int64, records bool, visit func(*Batch) error) (Summary, []Problem, error) {
	sum := Summary{First: base, Next: base}
	f, err := os.Open(file)
	if err != nil {
		return sum, nil, fmt.Errorf("open segment: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return sum, nil, fmt.Errorf("open segment: %w", err)
	}
	size := st.Size() // a running broker may append; that is not looked at
	if limit > 0 {
		size = min(size, limit)
	}
	var problems []Problem
	note := func(pos int64, torn bool, err error) {
		problems = append(problems, Problem{file, pos, sum.Next, err, torn})
	}
	var buf []byte
	first := true
	for pos := int64(0); pos < size; {
		sum.Bytes = pos
		var head [record.HeaderSize]byte
		n, err := f.ReadAt(head[:min(size-pos, record.HeaderSize)], pos)
		if err != nil && !errors.Is(err, io.EOF) {
			return sum, problems, fmt.Errorf("read segment: %w", err)
		}
		h, bad := record.ParseHeader(head[:n])
		switch {
		case errors.Is(bad, record.ErrShort) || bad == nil && h.Size() > size-pos:
			if limit > 0 {
				return sum, problems, nil
			}
			if bad == nil {
				bad = fmt.Errorf("%w: it says %d bytes and %d are there", record.ErrShort, h.Size(), size-pos)
			}
		case bad == nil && h.Size() > maxBatch:
			bad = fmt.Errorf("%w: it says %d bytes", record.ErrCorrupt, h.Size())
		}
		if bad != nil {
			padding, err := isPadding(f, pos, size)
			if err != nil {
				return sum, problems, fmt.Errorf("read segment: %w", err)
			}
			if padding {
				return sum, problems, nil
			}
			next, err := resync(f, pos+1, size, sum.Next)
			if err != nil {
				return sum, problems, fmt.Errorf("read segment: %w", err)
			}
			if next < 0 {
				note(pos, true, fmt.Errorf("%w; nothing valid follows in the last %d bytes", bad, size-pos))
				return sum, problems, nil
			}
			note(pos, false, fmt.Errorf("%w; the next valid batch is at %d", bad, next))
			pos = next
			continue
		}
		if int64(cap(buf)) < h.Size() {
			buf = make([]byte, h.Size())
		}
		b := Batch{Header: h, Position: pos, Bytes: buf[:h.Size()]}
		if n, err := f.ReadAt(b.Bytes, pos); int64(n) < h.Size() {
			return sum, problems, fmt.Errorf("read segment: %w", err)
		}
		if _, err := record.Check(b.Bytes); err != nil {
			b.Bad = err
		} else if h.BaseOffset < sum.Next {
			b.Bad = fmt.Errorf("the batch begins at offset %d, and %d was expected, or later", h.BaseOffset, sum.Next)
		} else if records {
			b.Bad = checkRecords(&b)
		}
		if b.Bad != nil {
			note(pos, false, b.Bad)
		} else {
			if first {
				sum.First = h.BaseOffset
			}
			first = false
			sum.Batches, sum.Records, sum.Next = sum.Batches+1, sum.Records+int64(h.Count), h.LastOffset()+1
		}
		if err := visit(&b); err != nil {
			return sum, problems, err
		}
		pos += h.Size()
		sum.Bytes = pos
	}
	return sum, problems, nil
}

// isPadding reports whether a segment that is being written, or was when its broker died, ends in an append's padding at
// pos.
func isPadding(r io.ReaderAt, pos, size int64) (bool, error) {
	if size%seglog.PadTo != 0 || size-pos >= seglog.PadTo {
		return false, nil
	}
	b := make([]byte, size-pos)
	if n, err := r.ReadAt(b, pos); n < len(b) {
		return false, err
	}
	return len(bytes.Trim(b, "\x00")) == 0, nil
}

// checkRecords decodes all records and holds them to the header.
func checkRecords(b *Batch) error {
	last := int64(-1)
	return record.Each(b.Bytes, func(r *record.Full) error {
		delta := r.Offset - b.BaseOffset
		if delta <= last || delta > int64(b.LastOffsetDelta) {
			return fmt.Errorf("a record has offset %d in a batch from %d to %d, after %d", r.Offset, b.BaseOffset, b.LastOffset(), b.BaseOffset+last)
		}
		last = delta
		return nil
	})
}

// resyncBudget bounds the bytes whose CRC is computed in the search for a batch, as bytes that only look like headers
// could make it quadratic.
const resyncBudget = 256 << 20

// resync finds the next batch at or behind pos that is valid and fits behind offset next, or -1.
func resync(r io.ReaderAt, pos, size, next int64) (int64, error) {
	const window = 1 << 20
	buf := make([]byte, window+record.HeaderSize)
	budget := int64(resyncBudget)
	for ; pos+record.HeaderSize <= size; pos += window {
		n, err := r.ReadAt(buf[:min(size-pos, int64(len(buf)))], pos)
		if err != nil && !errors.Is(err, io.EOF) {
			return -1, err
		}
		for i := 0; i < window && i+record.HeaderSize <= n; i++ {
			if buf[i+16] != 2 { // magic
				continue
			}
			h, err := record.ParseHeader(buf[i:n])
			at := pos + int64(i)
			if err != nil || h.Size() > size-at || h.BaseOffset < next || h.BaseOffset-next > math.MaxInt32 {
				continue
			}
			if budget -= h.Size(); budget < 0 {
				return -1, nil
			}
			b := make([]byte, h.Size())
			if _, err := r.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
				return -1, err
			}
			if _, err := record.Check(b); err == nil {
				return at, nil
			}
		}
	}
	return -1, nil
}

// Index holds the entries of an .index, or with times of a .timeindex, to the segment in log.
func Index(file, log string, base int64, x *segment.IndexFile, times bool) ([]Problem, error) {
	entry := 8
	if times {
		entry = 12
	}
	var problems []Problem
	i := 0
	note := func(format string, args ...any) {
		problems = append(problems, Problem{File: file, Position: int64(i * entry), Offset: x.Entries[i].Offset, Err: fmt.Errorf(format, args...)})
	}
	for i = 1; i < len(x.Entries); i++ {
		a, b := x.Entries[i-1], x.Entries[i]
		switch {
		case times && (b.Timestamp < a.Timestamp || b.Offset < a.Offset):
			note("time %d and offset %d come after time %d and offset %d", b.Timestamp, b.Offset, a.Timestamp, a.Offset)
		case !times && (b.Offset <= a.Offset || b.Position <= a.Position):
			note("offset %d at %d comes after offset %d at %d", b.Offset, b.Position, a.Offset, a.Position)
		default:
			continue
		}
		return problems, nil // what follows would only repeat it
	}
	i = 0
	newest := record.NoTimestamp // of all batches so far
	sum, _, err := Log(log, base, 0, false, func(b *Batch) error {
		for ; i < len(x.Entries); i++ {
			e := x.Entries[i]
			switch {
			case times && x.Ours:
				if e.Offset > b.BaseOffset {
					newest = max(newest, b.MaxTimestamp)
					return nil
				}
				if newest > e.Timestamp {
					note("it says that no record before the offset is later than %d, and one is from %d", e.Timestamp, newest)
				}
			case times:
				if e.Offset > b.LastOffset() {
					return nil
				}
				if e.Offset >= b.BaseOffset && b.MaxTimestamp != e.Timestamp {
					note("it says time %d, and the latest record of its batch is from %d", e.Timestamp, b.MaxTimestamp)
				}
			default:
				if e.Position > b.Position {
					return nil
				}
				switch {
				case e.Position < b.Position:
					note("no batch begins at position %d", e.Position)
				case x.Ours && e.Offset != b.BaseOffset:
					note("the batch at position %d has offset %d", e.Position, b.BaseOffset)
				case e.Offset < b.BaseOffset:
					note("the batch at position %d has offsets %d to %d", e.Position, b.BaseOffset, b.LastOffset())
				}
			}
		}
		return nil
	})
	if err != nil {
		return problems, err
	}
	for ; i < len(x.Entries); i++ {
		e := x.Entries[i]
		switch {
		case times && x.Ours && e.Offset <= sum.Next:
			if newest > e.Timestamp {
				note("it says that no record before the offset is later than %d, and one is from %d", e.Timestamp, newest)
			}
		case times && e.Offset >= sum.Next:
			note("the segment ends before it, at offset %d", sum.Next)
		case !times:
			note("no batch begins at position %d: the segment has %d bytes", e.Position, sum.Bytes)
		}
	}
	return problems, nil
}
