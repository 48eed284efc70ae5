// Package record reads and patches Kafka's record batches, format v2 (KIP-98), by hand: the broker stores batches as
// they came and needs little more than the 61-byte header.
package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// HeaderSize is the length of a batch's header in bytes, up to and including the record count.
const HeaderSize = 61

// Positions in the header. Everything from attributes on is covered by the CRC; base offset, length, leader epoch,
// magic and the CRC itself are not.
const (
	posBaseOffset      = 0
	posLength          = 8
	posLeaderEpoch     = 12
	posMagic           = 16
	posCRC             = 17
	posAttributes      = 21
	posLastOffsetDelta = 23
	posBaseTimestamp   = 27
	posMaxTimestamp    = 35
	posProducerID      = 43
	posProducerEpoch   = 51
	posBaseSequence    = 53
	posCount           = 57

	// lengthOverhead is what comes before the bytes that the length field counts.
	lengthOverhead = 12
	minLength      = HeaderSize - lengthOverhead
)

// Attribute bits.
const (
	attrCodec         = 0x07
	attrLogAppendTime = 0x08
	attrTransactional = 0x10
	attrControl       = 0x20
)

// Values that mean none.
const (
	NoProducerID    int64 = -1
	NoProducerEpoch int16 = -1
	NoSequence      int32 = -1
	NoTimestamp     int64 = -1
)

// The kinds of error of this package.
var (
	ErrShort   = errors.New("record batch is cut short")
	ErrMagic   = errors.New("record batch format is not v2")
	ErrCorrupt = errors.New("record batch is corrupt")
	ErrInvalid = errors.New("record batch is invalid")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Codec is a batch's compression.
type Codec int8

// The codecs of format v2.
const (
	None   Codec = 0
	Gzip   Codec = 1
	Snappy Codec = 2
	LZ4    Codec = 3
	Zstd   Codec = 4
)

// Header is a batch's header.
type Header struct {
	BaseOffset      int64
	Length          int32 // bytes after the length field
	LeaderEpoch     int32
	Magic           int8
	CRC             uint32
	Attributes      int16
	LastOffsetDelta int32
	BaseTimestamp   int64
	MaxTimestamp    int64
	ProducerID      int64
	ProducerEpoch   int16
	BaseSequence    int32
	Count           int32
}

// ParseHeader reads the header at the start of b, which may end right after it. It checks what can be told from the
// header alone: magic, a length that holds a header, a last offset that does not overflow. b shorter than HeaderSize is
// ErrShort, another magic ErrMagic, the rest ErrCorrupt.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		// Old formats are shorter; say so rather than calling them cut short.
		if len(b) > posMagic && b[posMagic] < 2 {
			return Header{Magic: int8(b[posMagic])}, fmt.Errorf("%w: magic is %d", ErrMagic, b[posMagic])
		}
		return Header{}, ErrShort
	}
	b = b[:HeaderSize]
	be := binary.BigEndian
	h := Header{
		BaseOffset:      int64(be.Uint64(b[posBaseOffset:])),
		Length:          int32(be.Uint32(b[posLength:])),
		LeaderEpoch:     int32(be.Uint32(b[posLeaderEpoch:])),
		Magic:           int8(b[posMagic]),
		CRC:             be.Uint32(b[posCRC:]),
		Attributes:      int16(be.Uint16(b[posAttributes:])),
		LastOffsetDelta: int32(be.Uint32(b[posLastOffsetDelta:])),
		BaseTimestamp:   int64(be.Uint64(b[posBaseTimestamp:])),
		MaxTimestamp:    int64(be.Uint64(b[posMaxTimestamp:])),
		ProducerID:      int64(be.Uint64(b[posProducerID:])),
		ProducerEpoch:   int16(be.Uint16(b[posProducerEpoch:])),
		BaseSequence:    int32(be.Uint32(b[posBaseSequence:])),
		Count:           int32(be.Uint32(b[posCount:])),
	}
	switch {
	case h.Magic != 2:
		return h, fmt.Errorf("%w: magic is %d", ErrMagic, h.Magic)
	case h.Length < minLength:
		return h, fmt.Errorf("%w: length is %d, less than a header's", ErrCorrupt, h.Length)
	case h.BaseOffset < 0 || h.LastOffsetDelta < 0 || h.BaseOffset > math.MaxInt64-int64(h.LastOffsetDelta)-1:
		return h, fmt.Errorf("%w: base offset %d with last offset delta %d", ErrCorrupt, h.BaseOffset, h.LastOffsetDelta)
	}
	return h, nil
}

// IsV2 reports whether b, which has HeaderSize bytes, may be a header: a quick look for a search through anything.
func IsV2(b []byte) bool { return b[posMagic] == 2 }

// Size is the whole batch's length in bytes.
func (h *Header) Size() int64 { return int64(h.Length) + lengthOverhead }

// LastOffset is the offset of the last record.
func (h *Header) LastOffset() int64 { return h.BaseOffset + int64(h.LastOffsetDelta) }

// Codec is the batch's compression; it may be a number that no codec has.
func (h *Header) Codec() Codec { return Codec(h.Attributes & attrCodec) }

// LogAppendTime reports whether all records carry MaxTimestamp as their time.
func (h *Header) LogAppendTime() bool { return h.Attributes&attrLogAppendTime != 0 }

// Transactional reports whether the batch is part of a transaction.
func (h *Header) Transactional() bool { return h.Attributes&attrTransactional != 0 }

// Control reports whether the batch holds a transaction marker.
func (h *Header) Control() bool { return h.Attributes&attrControl != 0 }

// Idempotent reports whether the batch has a producer id.
func (h *Header) Idempotent() bool { return h.ProducerID != NoProducerID }

// LastSequence is the sequence number of the last record; sequence numbers wrap from the largest int32 to 0.
func (h *Header) LastSequence() int32 {
	if h.BaseSequence == NoSequence {
		return NoSequence
	}
	return int32((int64(h.BaseSequence) + int64(h.LastOffsetDelta)) & math.MaxInt32)
}

// Check parses the batch at the start of b and verifies that it is whole and that its CRC is right.
// The batch is b[:h.Size()].
func Check(b []byte) (Header, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return h, err
	}
	if h.Size() > int64(len(b)) {
		return h, fmt.Errorf("%w: it says %d bytes and %d are there", ErrShort, h.Size(), len(b))
	}
	if sum := crc32.Checksum(b[posAttributes:h.Size()], castagnoli); sum != h.CRC {
		return h, fmt.Errorf("%w: CRC is %08x, its header says %08x", ErrCorrupt, sum, h.CRC)
	}
	return h, nil
}

// Ends finds where a batch can end whose length is in doubt: the CRC does not cover the length, but it covers the rest.
type Ends struct{ sum, want uint32 }

// NewEnds begins behind a batch's header.
func NewEnds(header []byte) *Ends {
	return &Ends{
		sum:  ^crc32.Checksum(header[posAttributes:HeaderSize], castagnoli),
		want: binary.BigEndian.Uint32(header[posCRC:]),
	}
}

// Ends reports whether the CRC fits a batch that ends before the next byte, b, and takes b.
func (e *Ends) Ends(b byte) bool {
	whole := ^e.sum == e.want
	e.sum = castagnoli[byte(e.sum)^b] ^ e.sum>>8
	return whole
}

// SetBaseOffset patches the offset of the first record. The CRC does not cover it.
func SetBaseOffset(batch []byte, off int64) {
	binary.BigEndian.PutUint64(batch[posBaseOffset:], uint64(off))
}

// SetLeaderEpoch patches the leader epoch. The CRC does not cover it.
func SetLeaderEpoch(batch []byte, epoch int32) {
	binary.BigEndian.PutUint32(batch[posLeaderEpoch:], uint32(epoch))
}

// SetMaxTimestamp sets the largest timestamp and whether it is every record's (LogAppendTime), and recomputes the CRC.
// batch is exactly one batch.
func SetMaxTimestamp(batch []byte, ts int64, logAppendTime bool) {
	be := binary.BigEndian
	attrs := be.Uint16(batch[posAttributes:]) &^ attrLogAppendTime
	if logAppendTime {
		attrs |= attrLogAppendTime
	}
	be.PutUint16(batch[posAttributes:], attrs)
	be.PutUint64(batch[posMaxTimestamp:], uint64(ts))
	putCRC(batch)
}

func putCRC(batch []byte) {
	binary.BigEndian.PutUint32(batch[posCRC:], crc32.Checksum(batch[posAttributes:], castagnoli))
}

// Put writes h as the header of batch, whose records follow it already: length and CRC are computed from batch, magic is
// 2. It is for the broker's own batches and for tests.
func Put(batch []byte, h Header) {
	_ = batch[:HeaderSize]
	be := binary.BigEndian
	be.PutUint64(batch[posBaseOffset:], uint64(h.BaseOffset))
	be.PutUint32(batch[posLength:], uint32(len(batch)-lengthOverhead))
	be.PutUint32(batch[posLeaderEpoch:], uint32(h.LeaderEpoch))
	batch[posMagic] = 2
	be.PutUint16(batch[posAttributes:], uint16(h.Attributes))
	be.PutUint32(batch[posLastOffsetDelta:], uint32(h.LastOffsetDelta))
	be.PutUint64(batch[posBaseTimestamp:], uint64(h.BaseTimestamp))
	be.PutUint64(batch[posMaxTimestamp:], uint64(h.MaxTimestamp))
	be.PutUint64(batch[posProducerID:], uint64(h.ProducerID))
	be.PutUint16(batch[posProducerEpoch:], uint16(h.ProducerEpoch))
	be.PutUint32(batch[posBaseSequence:], uint32(h.BaseSequence))
	be.PutUint32(batch[posCount:], uint32(h.Count))
	be.PutUint32(batch[posCRC:], crc32.Checksum(batch[posAttributes:], castagnoli))
}
