package record

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
)

// KeyValue is a header of a record; a nil value is null.
type KeyValue struct {
	Key   string
	Value []byte
}

// Full is a record with all that it holds. Nil keys and values are null.
type Full struct {
	Offset, Timestamp int64
	Sequence          int32 // NoSequence without an idempotent producer
	Key, Value        []byte
	Headers           []KeyValue
}

// maxRecord bounds one decompressed record, which a short batch may claim to be of any size.
const maxRecord = 256 << 20

// Each calls f with every record of one whole batch, in order. Keys and values are valid until f returns. It opens
// compressed batches a record at a time, so that memory is bounded by the largest record, and that by 256 MiB.
func Each(batch []byte, f func(*Full) error) error {
	h, err := ParseHeader(batch)
	if err != nil {
		return err
	}
	if h.Size() != int64(len(batch)) {
		return fmt.Errorf("%w: it says %d bytes and %d are there", ErrShort, h.Size(), len(batch))
	}
	var r io.Reader = bytes.NewReader(batch[HeaderSize:])
	if h.Codec() != None {
		var done func()
		if r, done, err = open(h.Codec(), batch[HeaderSize:], maxRecord); err != nil {
			return err
		}
		defer done()
	}
	br := bufio.NewReaderSize(r, 32<<10)
	var buf bytes.Buffer
	for i := int32(0); i < h.Count; i++ {
		size, _, err := readVarint(br)
		if err != nil {
			return recordError(i, err.Error())
		}
		if size < 1 || size > maxRecord {
			return recordError(i, fmt.Sprintf("its length is %d", size))
		}
		buf.Reset()
		if n, err := io.CopyN(&buf, br, size); err != nil {
			return recordError(i, fmt.Sprintf("it ends after %d of %d bytes: %v", n, size, err))
		}
		rec, err := h.full(buf.Bytes())
		if err != nil {
			return recordError(i, err.Error())
		}
		if err := f(&rec); err != nil {
			return err
		}
	}
	if _, err := br.ReadByte(); !errors.Is(err, io.EOF) {
		if err != nil {
			return fmt.Errorf("%w: after the last of %d records: %w", ErrInvalid, h.Count, err)
		}
		return fmt.Errorf("%w: bytes are left after the last of %d records", ErrInvalid, h.Count)
	}
	return nil
}

// full decodes a record's bytes after its length.
func (h *Header) full(b []byte) (Full, error) {
	rec := Full{Sequence: NoSequence}
	b = b[1:] // attributes: none are defined
	var bad error
	number := func(what string) int64 {
		n, w := uvarint(b)
		if w <= 0 {
			bad = errors.Join(bad, errors.New("bad "+what))
			return 0
		}
		b = b[w:]
		return unzigzag(n)
	}
	field := func(what string) []byte {
		n := number(what + " length")
		switch {
		case bad != nil || n == -1:
			return nil
		case n < 0 || n > int64(len(b)):
			bad = fmt.Errorf("%s leaves the record", what)
			return nil
		}
		v := b[:n:n]
		b = b[n:]
		return v
	}
	ts, off := number("timestamp delta"), number("offset delta")
	rec.Timestamp, rec.Offset = h.stamp(ts), h.BaseOffset+off
	if h.BaseSequence != NoSequence {
		rec.Sequence = int32((int64(h.BaseSequence) + off) & math.MaxInt32)
	}
	rec.Key, rec.Value = field("key"), field("value")
	n := number("header count")
	for ; n > 0 && bad == nil; n-- {
		k := field("header")
		if k == nil && bad == nil {
			bad = errors.New("a header's name is null")
		}
		rec.Headers = append(rec.Headers, KeyValue{string(k), field("header")})
	}
	switch {
	case bad != nil:
		return rec, bad
	case n < 0:
		return rec, errors.New("bad header count")
	case len(b) > 0:
		return rec, errors.New("bytes are left over")
	}
	return rec, nil
}
