package record

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/s2"
	"github.com/pierrec/lz4/v4"
)

// Stamps calls f with offset and timestamp of each record of one whole batch, in order, until f returns false or ctx ends.
// It opens compressed batches, in bounded memory. It is what a search by time needs; keys and values are skipped.
func Stamps(ctx context.Context, batch []byte, f func(offset, timestamp int64) bool) error {
	h, err := ParseHeader(batch)
	if err != nil {
		return err
	}
	if h.Size() != int64(len(batch)) {
		return fmt.Errorf("%w: it says %d bytes and %d are there", ErrShort, h.Size(), len(batch))
	}
	body := batch[HeaderSize:]
	if h.Codec() == None {
		return stampsPlain(&h, body, f)
	}
	r, done, err := open(h.Codec(), body, maxRecord)
	if err != nil {
		return err
	}
	defer done()
	err = stampsStream(&h, bufio.NewReaderSize(until{ctx, r}, 32<<10), f)
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// until is a reader that ends with its context: a short batch can be opened for a long time.
type until struct {
	ctx context.Context
	r   io.Reader
}

func (u until) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

func (h *Header) stamp(tsDelta int64) int64 {
	if h.LogAppendTime() {
		return h.MaxTimestamp
	}
	return h.BaseTimestamp + tsDelta
}

func stampsPlain(h *Header, b []byte, f func(offset, timestamp int64) bool) error {
	for i := int32(0); i < h.Count; i++ {
		n, w := uvarint(b)
		size := unzigzag(n)
		if w <= 0 || size < 0 || size > int64(len(b)-w) {
			return recordError(i, "its length leaves the batch")
		}
		rec := b[w : w+int(size)]
		b = b[w+int(size):]
		if len(rec) < 1 {
			return recordError(i, "it is empty")
		}
		ts, w := uvarint(rec[1:])
		if w <= 0 {
			return recordError(i, "bad timestamp delta")
		}
		off, w2 := uvarint(rec[1+w:])
		if w2 <= 0 {
			return recordError(i, "bad offset delta")
		}
		if !f(h.BaseOffset+unzigzag(off), h.stamp(unzigzag(ts))) {
			return nil
		}
	}
	return nil
}

func stampsStream(h *Header, r *bufio.Reader, f func(offset, timestamp int64) bool) error {
	for i := int32(0); i < h.Count; i++ {
		size, _, err := readVarint(r)
		if err != nil {
			return recordError(i, err.Error())
		}
		if _, err := r.ReadByte(); err != nil {
			return recordError(i, "it is empty")
		}
		ts, n1, err := readVarint(r)
		if err != nil {
			return recordError(i, "bad timestamp delta")
		}
		off, n2, err := readVarint(r)
		if err != nil {
			return recordError(i, "bad offset delta")
		}
		rest := size - 1 - int64(n1) - int64(n2)
		if rest < 0 {
			return recordError(i, "its length is too small")
		}
		if !f(h.BaseOffset+off, h.stamp(ts)) {
			return nil
		}
		if _, err := io.CopyN(io.Discard, r, rest); err != nil {
			return recordError(i, "its length leaves the batch")
		}
	}
	return nil
}

func recordError(i int32, what string) error {
	return fmt.Errorf("%w: record %d: %s", ErrInvalid, i, what)
}

// CheckPlain walks the records of an uncompressed batch and verifies that they fill it exactly, that there are as many
// as the header says, that offset deltas count up from 0 and that keys, values and headers stay inside their record.
// It returns the smallest and largest record timestamp; both are NoTimestamp in an empty batch.
func CheckPlain(h *Header, batch []byte) (minTS, maxTS int64, err error) {
	return checkBody(h, batch[HeaderSize:h.Size()])
}

// Check is CheckPlain for what Open opened.
func (o *Opened) Check() (minTS, maxTS int64, err error) { return checkBody(&o.Header, o.body) }

// span is the range of record timestamps.
type span struct{ low, high int64 }

func (s *span) add(i int32, t int64) {
	if i == 0 || t < s.low {
		s.low = t
	}
	if i == 0 || t > s.high {
		s.high = t
	}
}

func checkBody(h *Header, b []byte) (minTS, maxTS int64, err error) {
	var low, high int64 // of the deltas
	for i := int32(0); i < h.Count; i++ {
		n, w := uvarint(b)
		size := unzigzag(n)
		if w <= 0 || size < 1 || size > int64(len(b)-w) {
			return 0, 0, recordError(i, "its length leaves the batch")
		}
		delta, err := checkRecord(b[w:w+int(size)], i)
		if err != nil {
			return 0, 0, err
		}
		b = b[w+int(size):]
		if i == 0 {
			low, high = delta, delta
		}
		low, high = min(low, delta), max(high, delta)
	}
	if len(b) != 0 {
		return 0, 0, fmt.Errorf("%w: %d bytes after the last of %d records", ErrInvalid, len(b), h.Count)
	}
	if h.Count <= 0 {
		return NoTimestamp, NoTimestamp, nil
	}
	return h.BaseTimestamp + low, h.BaseTimestamp + high, nil
}

// checkRecord checks the i-th record, without its length.
func checkRecord(rec []byte, i int32) (tsDelta int64, err error) {
	rec = rec[1:] // the unused attributes
	ts, w := uvarint(rec)
	if w <= 0 {
		return 0, recordError(i, "bad timestamp delta")
	}
	rec = rec[w:]
	off, w := uvarint(rec)
	if w <= 0 || unzigzag(off) != int64(i) {
		return 0, recordError(i, "offset deltas do not count up from 0")
	}
	rec = rec[w:]
	ok := true
	rec, ok = skipBytes(rec, true) // key
	if ok {
		rec, ok = skipBytes(rec, true) // value
	}
	if !ok {
		return 0, recordError(i, "key or value leaves the record")
	}
	nh, w := uvarint(rec)
	if w <= 0 || unzigzag(nh) < 0 {
		return 0, recordError(i, "bad header count")
	}
	rec = rec[w:]
	for left := unzigzag(nh); left > 0; left-- {
		if rec, ok = skipBytes(rec, false); ok {
			rec, ok = skipBytes(rec, true)
		}
		if !ok {
			return 0, recordError(i, "a header leaves the record")
		}
	}
	if len(rec) != 0 {
		return 0, recordError(i, "bytes are left over")
	}
	return unzigzag(ts), nil
}

// skipBytes skips a length and so many bytes; the length -1 is null where that is allowed.
func skipBytes(b []byte, nullable bool) ([]byte, bool) {
	n, w := uvarint(b)
	if w <= 0 {
		return nil, false
	}
	b = b[w:]
	size := unzigzag(n)
	if size == -1 && nullable {
		return b, true
	}
	if size < 0 || size > int64(len(b)) {
		return nil, false
	}
	return b[size:], true
}

func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

// uvarint is binary.Uvarint with its one-byte case inlined; most lengths and deltas are that small.
func uvarint(b []byte) (uint64, int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	return binary.Uvarint(b)
}

func readVarint(r *bufio.Reader) (int64, int, error) {
	var u uint64
	for i := 0; i < binary.MaxVarintLen64; i++ {
		c, err := r.ReadByte()
		if err != nil {
			return 0, 0, err
		}
		u |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return unzigzag(u), i + 1, nil
		}
	}
	return 0, 0, errors.New("number is too long")
}

// xerialHeader opens the framed snappy that Java clients write: magic and two version numbers, then chunks with their
// length. Other clients write one bare snappy block.
var xerialHeader = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

// open returns the records of a batch as a stream, and what ends it. Where memory does not depend on the codec's window
// alone, it is bounded by limit.
func open(c Codec, body []byte, limit int64) (io.Reader, func(), error) {
	switch c {
	case Gzip:
		r, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, nil, fmt.Errorf("%w: open gzip: %w", ErrInvalid, err)
		}
		return r, func() {}, nil
	case Snappy:
		return &snappyReader{in: body, framed: bytes.HasPrefix(body, xerialHeader), limit: limit}, func() {}, nil
	case LZ4:
		return lz4.NewReader(bytes.NewReader(body)), func() {}, nil
	case Zstd:
		d, err := newZstd(bytes.NewReader(body))
		if err != nil {
			return nil, nil, fmt.Errorf("%w: open zstd: %w", ErrInvalid, err)
		}
		return &zstdReader{d: d, body: body, limit: limit}, d.Close, nil
	}
	return nil, nil, fmt.Errorf("%w: unknown codec %d", ErrInvalid, c)
}

// maxSnappy bounds one snappy block, which is decoded whole. It is twice the largest request that Kafka takes.
const maxSnappy = 200 << 20

type snappyReader struct {
	in     []byte
	framed bool
	began  bool
	out    []byte // decoded, not yet read
	buf    []byte
	limit  int64 // of one block
}

func (s *snappyReader) Read(p []byte) (int, error) {
	for len(s.out) == 0 {
		if !s.began && s.framed {
			if len(s.in) < len(xerialHeader)+8 {
				return 0, io.ErrUnexpectedEOF
			}
			s.in = s.in[len(xerialHeader)+8:]
		}
		s.began = true
		if len(s.in) == 0 {
			return 0, io.EOF
		}
		block := s.in
		if s.framed {
			if len(s.in) < 4 {
				return 0, io.ErrUnexpectedEOF
			}
			n := binary.BigEndian.Uint32(s.in)
			if uint64(n) > uint64(len(s.in)-4) {
				return 0, io.ErrUnexpectedEOF
			}
			block, s.in = s.in[4:4+n], s.in[4+n:]
		} else {
			s.in = nil
		}
		size, err := s2.DecodedLen(block)
		if err != nil {
			return 0, err
		}
		// Snappy cannot do better than about 1 in 22; a block that claims more is a lie that would cost memory.
		if size > maxSnappy || size > 64*len(block)+64 {
			return 0, fmt.Errorf("snappy block claims %d bytes from %d", size, len(block))
		}
		if int64(size) > s.limit {
			return 0, tooLarge(s.limit)
		}
		if repeats(block) {
			return 0, errors.New("snappy block has a copy of S2's, which is not snappy's")
		}
		if s.out, err = s2.Decode(s.buf[:cap(s.buf)], block); err != nil {
			return 0, err
		}
		s.buf = s.out
	}
	n := copy(p, s.out)
	s.out = s.out[n:]
	return n, nil
}

// repeats reports whether a snappy block has a copy with the offset 0. S2, whose decoder reads the block, takes it for the
// offset of the copy before; to Kafka and its clients the block is corrupt.
func repeats(block []byte) bool {
	_, n := binary.Uvarint(block) // the decoded length
	b := block[max(n, 0):]
	for len(b) > 1 {
		switch tag := b[0]; tag & 3 {
		case 0: // literal
			n := int(tag>>2) + 1
			if extra := n - 60; extra > 0 {
				if len(b) < 1+extra {
					return false // cut short; the decoder says so
				}
				n = 0
				for i := range extra {
					n |= int(b[1+i]) << (8 * i)
				}
				n += 1 + extra
			}
			if n >= len(b) {
				return false
			}
			b = b[1+n:]
		case 1:
			if tag&0xe0 == 0 && b[1] == 0 {
				return true
			}
			b = b[2:]
		case 2:
			b = b[min(3, len(b)):]
		case 3:
			b = b[min(5, len(b)):]
		}
	}
	return false
}

func tooLarge(limit int64) error { return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit) }
