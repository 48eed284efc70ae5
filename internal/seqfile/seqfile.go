// Package seqfile writes Hadoop's SequenceFiles, whose keys are LongWritables.
package seqfile

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"github.com/sluice-data/sluice/internal/hadoopcodec"
)

// Value is the class of the values.
type Value int

// The two kinds of values.
const (
	Bytes Value = iota // BytesWritable
	Text               // Text
)

func (v Value) class() string {
	return "org.apache.hadoop.io." + [...]string{"BytesWritable", "Text"}[v]
}

// Writer makes the bytes of one file. It holds nothing back between two calls
// of End. It is not safe for concurrent use.
//
// The format is that of version 6, as SequenceFile.java describes it.
type Writer struct {
	value Value
	codec *hadoopcodec.Codec // nil: records are not compressed
	sync  [16]byte
	since int // bytes since the last sync mark

	// The block that is being filled, with a codec.
	n                                int
	keyLens, keys, valueLens, values []byte
}

// NewWriter makes a writer for a new file. With a codec the file has blocks
// that are compressed.
func NewWriter(v Value, codec *hadoopcodec.Codec) *Writer {
	w := &Writer{value: v, codec: codec}
	_, _ = rand.Read(w.sync[:]) // never fails
	return w
}

// Every so many bytes of records there is a mark, from which a reader of a part of the file can begin (SequenceFile.SYNC_INTERVAL).
const syncInterval = 5 * 1024 * (4 + 16)

// AppendHeader appends what the file begins with.
func (w *Writer) AppendHeader(dst []byte) []byte {
	dst = append(dst, "SEQ\x06"...)
	dst = appendText(dst, []byte("org.apache.hadoop.io.LongWritable"))
	dst = appendText(dst, []byte(w.value.class()))
	if w.codec == nil {
		dst = append(dst, 0, 0)
	} else {
		dst = append(dst, 1, 1)
		dst = appendText(dst, []byte(w.codec.Class))
	}
	dst = append(dst, 0, 0, 0, 0) // no metadata
	return append(dst, w.sync[:]...)
}

// Append adds a record.
func (w *Writer) Append(dst []byte, key int64, value []byte) ([]byte, error) {
	if len(value) > 1<<30 {
		return nil, fmt.Errorf("a value has %d bytes", len(value))
	}
	if w.codec == nil {
		from := len(dst)
		if w.since >= syncInterval {
			dst = append(append(dst, 0xFF, 0xFF, 0xFF, 0xFF), w.sync[:]...)
			w.since = 0
		}
		at := len(dst)
		dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 8)
		dst = binary.BigEndian.AppendUint64(dst, uint64(key))
		dst = w.appendValue(dst, value)
		binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-8))
		w.since += len(dst) - from
		return dst, nil
	}
	w.n++
	w.keyLens = appendVInt(w.keyLens, 8)
	w.keys = binary.BigEndian.AppendUint64(w.keys, uint64(key))
	before := len(w.values)
	w.values = w.appendValue(w.values, value)
	w.valueLens = appendVInt(w.valueLens, int64(len(w.values)-before))
	if len(w.keys)+len(w.values) >= blockSize {
		return w.End(dst)
	}
	return dst, nil
}

// io.seqfile.compress.blocksize
const blockSize = 1_000_000

// maxKept is what a writer keeps of a block's memory for the next: there may be thousands of them.
const maxKept = 64 << 10

// End ends the block: what was appended is in the file then.
func (w *Writer) End(dst []byte) ([]byte, error) {
	if w.n == 0 {
		return dst, nil
	}
	dst = append(append(dst, 0xFF, 0xFF, 0xFF, 0xFF), w.sync[:]...)
	dst = appendVInt(dst, int64(w.n))
	for _, part := range []*[]byte{&w.keyLens, &w.keys, &w.valueLens, &w.values} {
		z, err := w.codec.Append(nil, *part)
		if err != nil {
			return nil, fmt.Errorf("compress a block: %w", err)
		}
		dst = append(appendVInt(dst, int64(len(z))), z...)
		if *part = (*part)[:0]; cap(*part) > maxKept {
			*part = nil
		}
	}
	w.n = 0
	return dst, nil
}

func (w *Writer) appendValue(dst, value []byte) []byte {
	if w.value == Text {
		return appendText(dst, value)
	}
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(value))), value...)
}

func appendText(dst, p []byte) []byte { return append(appendVInt(dst, int64(len(p))), p...) }

// appendVInt is WritableUtils.writeVLong: one byte for -112 to 127, else a byte that tells the sign and the number of bytes that follow.
func appendVInt(dst []byte, v int64) []byte {
	if v >= -112 && v <= 127 {
		return append(dst, byte(v))
	}
	first := -112
	if v < 0 {
		v, first = ^v, -120
	}
	n := 1
	for x := v >> 8; x != 0; x >>= 8 {
		n++
	}
	dst = append(dst, byte(first-n))
	for ; n > 0; n-- {
		dst = append(dst, byte(v>>(8*(n-1))))
	}
	return dst
}
