package record

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// ErrTooLarge is in the chain of errors of batches that need more memory than they may when they are decompressed.
var ErrTooLarge = errors.New("record batch is too large when it is decompressed")

// View is one record as it lies in a batch. Its slices are views.
type View struct {
	Offset    int64
	Timestamp int64
	Key       []byte // nil: null
	Value     []byte // nil: null
	raw       []byte // with its length
}

// Opened is a batch whose records can be seen.
type Opened struct {
	Header Header
	batch  []byte
	body   []byte // not compressed
}

// Open decompresses a whole batch, if need be into buf (its capacity is used), which may grow to limit bytes.
func Open(batch, buf []byte, limit int64) (Opened, []byte, error) {
	h, err := ParseHeader(batch)
	if err != nil {
		return Opened{}, buf, err
	}
	if h.Size() != int64(len(batch)) {
		return Opened{}, buf, fmt.Errorf("%w: it says %d bytes and %d are there", ErrShort, h.Size(), len(batch))
	}
	o := Opened{Header: h, batch: batch, body: batch[HeaderSize:]}
	if h.Codec() == None || h.Count == 0 && len(o.body) == 0 {
		return o, buf, nil
	}
	r, done, err := open(h.Codec(), o.body, limit)
	if err != nil {
		return o, buf, err
	}
	defer done()
	b := bytes.NewBuffer(buf[:0])
	n, err := io.Copy(b, io.LimitReader(r, limit+1))
	switch {
	case errors.Is(err, ErrTooLarge):
		return o, b.Bytes(), err
	case err != nil:
		return o, b.Bytes(), fmt.Errorf("%w: decompress: %w", ErrInvalid, err)
	case n > limit:
		return o, b.Bytes(), tooLarge(limit)
	}
	o.body = b.Bytes()
	return o, o.body, nil
}

// Each calls f with every record, in order, until f returns false.
func (o *Opened) Each(f func(View) bool) error {
	b := o.body
	for i := int32(0); i < o.Header.Count; i++ {
		n, w := uvarint(b)
		size := unzigzag(n)
		if w <= 0 || size < 1 || size > int64(len(b)-w) {
			return recordError(i, "its length leaves the batch")
		}
		v := View{raw: b[:w+int(size)]}
		rec := b[w+1 : w+int(size)] // after the unused attributes
		b = b[w+int(size):]
		ts, w := uvarint(rec)
		if w <= 0 {
			return recordError(i, "bad timestamp delta")
		}
		rec = rec[w:]
		off, w := uvarint(rec)
		if d := unzigzag(off); w <= 0 || d < 0 || d > int64(o.Header.LastOffsetDelta) {
			return recordError(i, "bad offset delta")
		}
		rec = rec[w:]
		v.Timestamp, v.Offset = o.Header.stamp(unzigzag(ts)), o.Header.BaseOffset+unzigzag(off)
		var ok bool
		if v.Key, rec, ok = takeBytes(rec); ok {
			v.Value, _, ok = takeBytes(rec)
		}
		if !ok {
			return recordError(i, "key or value leaves the record")
		}
		if !f(v) {
			return nil
		}
	}
	return nil
}

// takeBytes reads a nullable field.
func takeBytes(b []byte) (field, rest []byte, ok bool) {
	n, w := uvarint(b)
	if w <= 0 {
		return nil, nil, false
	}
	b = b[w:]
	size := unzigzag(n)
	if size == -1 {
		return nil, b, true
	}
	if size < 0 || size > int64(len(b)) {
		return nil, nil, false
	}
	return b[:size:size], b[size:], true
}

// Compression is how batches are compressed. A level of 0 is the codec's own default.
type Compression struct {
	Codec Codec
	Level int
}

// Rewrite appends the batch with the records that keep returns true for, in another compression, to dst. Offsets,
// timestamps, producer and the range of offsets stay as they are. kept is how many records are left; with none the batch
// has only a header.
func (o *Opened) Rewrite(dst []byte, c Compression, keep func(View) bool) (out []byte, kept int, err error) {
	h := o.Header
	maxTS := NoTimestamp
	var body []byte
	err = o.Each(func(v View) bool {
		if keep == nil || keep(v) {
			body = append(body, v.raw...)
			maxTS = max(maxTS, v.Timestamp)
			kept++
		}
		return true
	})
	if err != nil {
		return dst, 0, err
	}
	if kept == 0 {
		return AppendEmpty(dst, h), 0, nil
	}
	h.Count = int32(kept)
	if !h.LogAppendTime() {
		h.MaxTimestamp = maxTS
	}
	h.Attributes = h.Attributes&^attrCodec | int16(c.Codec)
	start := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	if dst, err = appendCompressed(dst, body, c); err != nil {
		return dst[:start], 0, err
	}
	Put(dst[start:], h)
	return dst, kept, nil
}

// AppendEmpty appends a batch without records that stands for the offsets of h, and keeps its producer.
func AppendEmpty(dst []byte, h Header) []byte {
	h.Count = 0
	h.BaseTimestamp, h.MaxTimestamp = NoTimestamp, NoTimestamp
	h.Attributes &^= attrCodec | attrLogAppendTime
	start := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	Put(dst[start:], h)
	return dst
}

func appendCompressed(dst, body []byte, c Compression) ([]byte, error) {
	fail := func(err error) ([]byte, error) { return dst, fmt.Errorf("compress records: %w", err) }
	switch c.Codec {
	case None:
		return append(dst, body...), nil
	case Snappy:
		// One block. Its length must fit the format; larger batches do not exist.
		return append(dst, s2.EncodeSnappy(nil, body)...), nil
	case Zstd:
		level := zstd.SpeedDefault
		if c.Level != 0 {
			level = zstd.EncoderLevelFromZstd(c.Level)
		}
		w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(maxWindow))
		if err != nil {
			return fail(err)
		}
		defer w.Close()
		return w.EncodeAll(body, dst), nil
	}
	out := bytes.NewBuffer(dst)
	var w io.WriteCloser
	var err error
	switch c.Codec {
	case Gzip:
		level := gzip.DefaultCompression
		if c.Level != 0 {
			level = c.Level
		}
		w, err = gzip.NewWriterLevel(out, level)
	case LZ4:
		lw := lz4.NewWriter(out)
		// Independent blocks of 64 KiB, as Java's client writes and all clients read.
		opts := []lz4.Option{lz4.BlockSizeOption(lz4.Block64Kb), lz4.ChecksumOption(false)}
		if c.Level > 0 {
			opts = append(opts, lz4.CompressionLevelOption(lz4Level(c.Level)))
		}
		w, err = lw, lw.Apply(opts...)
	default:
		err = fmt.Errorf("unknown codec %d", c.Codec)
	}
	if err == nil {
		_, err = w.Write(body)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return fail(err)
	}
	return out.Bytes(), nil
}

// lz4Level maps lz4's levels, 1 to 17, to the library's nine.
func lz4Level(n int) lz4.CompressionLevel {
	return lz4.CompressionLevel(1 << (8 + min(max(n, 1), 9)))
}

// SetRange patches a batch without records so that it stands for the offsets from base to last.
func SetRange(batch []byte, base, last int64) {
	SetBaseOffset(batch, base)
	binary.BigEndian.PutUint32(batch[posLastOffsetDelta:], uint32(last-base))
	putCRC(batch)
}
