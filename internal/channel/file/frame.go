package file

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/channel/headers"
	"github.com/sluice-data/sluice/internal/seglog"
)

// What a segment consists of. docs/file-channel.md has the format byte by byte.
const (
	segmentMagic  = "SLFC"
	formatVersion = 1
	segmentHead   = 64 // bytes of a segment's header
	frameHead     = 32 // bytes of a frame's header
	rangeSize     = 16 // bytes of one range in a take frame

	flagImport           = 1 // of a segment: written by an import that had not come to its end
	flagEncryptedSegment = 2 // of a segment: puts in it may be encrypted
	flagEncrypted        = 1 // of a frame: the events are encrypted

	// maxFrame bounds a frame's length, as the length field would.
	maxFrame = math.MaxInt32
)

type frameType byte

const (
	framePut  frameType = 1 // events that came in with one put
	frameTake frameType = 2 // ranges of events that one commit took out
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is the head of a frame.
type header struct {
	size      int64 // of the whole frame
	typ       frameType
	encrypted bool   // a put whose events are
	count     uint32 // events of a put, ranges of a take
	seq       int64  // frames are numbered without gaps over all segments
	event     int64  // a put: number of its first event; a take: of the next event that will be put
}

var errFrame = errors.New("not a frame")

// parseHeader reads a frame's head. It checks what can be checked without the rest, so that a search for a frame in
// arbitrary bytes seldom goes wrong.
func parseHeader(b []byte) (header, error) {
	h := header{
		size:      int64(binary.BigEndian.Uint32(b)),
		typ:       frameType(b[8]),
		encrypted: b[9] == flagEncrypted,
		count:     binary.BigEndian.Uint32(b[12:]),
		seq:       int64(binary.BigEndian.Uint64(b[16:])),
		event:     int64(binary.BigEndian.Uint64(b[24:])),
	}
	switch {
	case h.size < frameHead || h.size > maxFrame:
		return h, fmt.Errorf("%w: length %d", errFrame, h.size)
	case h.typ != framePut && h.typ != frameTake:
		return h, fmt.Errorf("%w: type %d", errFrame, h.typ)
	case b[9] != 0 && !(h.encrypted && h.typ == framePut) || b[10]|b[11] != 0:
		return h, fmt.Errorf("%w: unknown flags", errFrame)
	case h.count == 0 || h.seq < 0 || h.event < 0 || h.event > math.MaxInt64-int64(h.count):
		return h, fmt.Errorf("%w: count %d, sequence %d, event %d", errFrame, h.count, h.seq, h.event)
	case h.typ == framePut && int64(h.count)*2 > h.size-frameHead:
		return h, fmt.Errorf("%w: %d events in %d bytes", errFrame, h.count, h.size)
	case h.typ == frameTake && int64(h.count)*rangeSize != h.size-frameHead:
		return h, fmt.Errorf("%w: %d ranges in %d bytes", errFrame, h.count, h.size)
	}
	return h, nil
}

// parseFrame is parseHeader and the check of the CRC.
func parseFrame(b []byte) (header, error) {
	if len(b) < frameHead {
		return header{}, fmt.Errorf("%w: %d bytes", errFrame, len(b))
	}
	h, err := parseHeader(b)
	if err != nil {
		return h, err
	}
	if h.size != int64(len(b)) {
		return h, fmt.Errorf("%w: length %d of %d bytes", errFrame, h.size, len(b))
	}
	if got, want := crc32.Checksum(b[8:], castagnoli), binary.BigEndian.Uint32(b[4:]); got != want {
		return h, fmt.Errorf("frame %d: CRC is %08x, the frame says %08x", h.seq, got, want)
	}
	return h, nil
}

// seal fills in the head of the frame b, whose first frameHead bytes are reserved for it.
func seal(b []byte, typ frameType, count int, seq, event int64) {
	writeHead(b, typ, 0, count, seq, event)
	writeCRC(b)
}

// writeHead fills in a frame's head but for the CRC.
func writeHead(b []byte, typ frameType, flags byte, count int, seq, event int64) {
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	b[8], b[9], b[10], b[11] = byte(typ), flags, 0, 0
	binary.BigEndian.PutUint32(b[12:], uint32(count))
	binary.BigEndian.PutUint64(b[16:], uint64(seq))
	binary.BigEndian.PutUint64(b[24:], uint64(event))
}

// writeCRC fills in the CRC of a frame or of a segment's header.
func writeCRC(b []byte) { binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli)) }

// appendEvent encodes an event: the length of the body, the headers, the body.
func appendEvent(b []byte, e *event.Event) []byte {
	b = binary.AppendUvarint(b, uint64(len(e.Body)))
	return append(headers.Append(b, e.Headers), e.Body...)
}

var errEvent = errors.New("an event's lengths do not fit into its frame")

// parseEvent decodes the event at the beginning of b, whose bytes body and header values stay in. Headers are appended to
// hs. rest is what follows the event.
func parseEvent(b []byte, names *headers.Names, hs []event.KV) (body []byte, _ []event.KV, rest []byte, err error) {
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)) {
		return nil, hs, nil, errEvent
	}
	if hs, b, err = headers.Parse(b[k:], names, hs); err != nil {
		return nil, hs, nil, err
	}
	if n > uint64(len(b)) {
		return nil, hs, nil, errEvent
	}
	return b[:n:n], hs, b[n:], nil
}

// span is the events from the number from up to, and without, to.
type span struct{ from, to int64 }

func appendSpan(b []byte, s span) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(s.from))
	return binary.BigEndian.AppendUint64(b, uint64(s.to))
}

// parseSpans decodes n ranges into dst.
func parseSpans(dst []span, b []byte, n int) ([]span, error) {
	if len(b) != n*rangeSize {
		return dst, fmt.Errorf("%d ranges in %d bytes", n, len(b))
	}
	for ; n > 0; n-- {
		s := span{int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:]))}
		if s.from < 0 || s.to <= s.from {
			return dst, fmt.Errorf("range of events from %d to %d", s.from, s.to)
		}
		dst, b = append(dst, s), b[rangeSize:]
	}
	return dst, nil
}

// channelID is the same in all segments of a channel.
type channelID [16]byte

// segmentInfo is a segment's header.
type segmentInfo struct {
	id        channelID
	importing bool
	encrypted bool  // puts in it may be; binaries that do not know that refuse the segment
	seq       int64 // of the first frame; the file's name has it too
	event     int64 // number of the first event that is put here or later
	prev      int64 // the first frame of the segment before; -1: none was there
	low       int64 // every event below was taken when the segment was begun
}

func (s segmentInfo) encode() []byte {
	b := make([]byte, segmentHead)
	copy(b, segmentMagic)
	binary.BigEndian.PutUint16(b[8:], formatVersion)
	var flags uint16
	if s.importing {
		flags |= flagImport
	}
	if s.encrypted {
		flags |= flagEncryptedSegment
	}
	binary.BigEndian.PutUint16(b[10:], flags)
	copy(b[16:], s.id[:])
	for i, v := range []int64{s.seq, s.event, s.prev, s.low} {
		binary.BigEndian.PutUint64(b[32+8*i:], uint64(v))
	}
	writeCRC(b)
	return b
}

var errVersion = errors.New("a newer version wrote it: use that one")

func parseSegment(b []byte) (segmentInfo, error) {
	var s segmentInfo
	if len(b) < segmentHead || string(b[:4]) != segmentMagic {
		return s, errors.New("it does not begin with the header of a segment")
	}
	b = b[:segmentHead]
	if crc32.Checksum(b[8:], castagnoli) != binary.BigEndian.Uint32(b[4:]) {
		return s, errors.New("the CRC of the segment's header is wrong")
	}
	if v := binary.BigEndian.Uint16(b[8:]); v != formatVersion {
		return s, fmt.Errorf("segment format %d: %w", v, errVersion)
	}
	flags := binary.BigEndian.Uint16(b[10:])
	if flags&^(flagImport|flagEncryptedSegment) != 0 {
		return s, fmt.Errorf("segment flags %04x: %w", flags, errVersion)
	}
	s.importing, s.encrypted = flags&flagImport != 0, flags&flagEncryptedSegment != 0
	copy(s.id[:], b[16:])
	for i, p := range []*int64{&s.seq, &s.event, &s.prev, &s.low} {
		*p = int64(binary.BigEndian.Uint64(b[32+8*i:]))
	}
	if s.seq < 0 || s.event < 0 || s.prev < -1 || s.prev >= s.seq || s.low < 0 || s.low > s.event {
		return s, errors.New("the numbers in the segment's header make no sense")
	}
	return s, nil
}

// framing is the frames of one segment, for seglog.Scan.
type framing struct {
	seq    int64 // the next frame's
	event  int64 // the next put's first event
	gap    bool  // frames may be missing before the next one: damage was passed over
	accept func(pos int64, h header, frame []byte) error
}

func (f *framing) HeaderSize() int { return frameHead }

func (f *framing) FrameSize(b []byte) (int64, error) {
	h, err := parseHeader(b)
	return h.size, err
}

func (f *framing) Accept(pos int64, frame []byte) error {
	h, err := parseFrame(frame)
	if err != nil {
		return err
	}
	if h.seq != f.seq && !(f.gap && h.seq > f.seq) || h.event < f.event || h.event > f.event && !f.gap {
		return fmt.Errorf("frame %d of event %d where frame %d of event %d is due", h.seq, h.event, f.seq, f.event)
	}
	if f.accept != nil {
		if err := f.accept(pos, h, frame); err != nil {
			return err
		}
	}
	f.gap, f.seq, f.event = false, h.seq+1, h.event
	if h.typ == framePut {
		f.event += int64(h.count)
	}
	return nil
}

// Ends implements seglog.Framing: the CRC covers everything but itself and the length.
func (f *framing) Ends(head []byte) seglog.Ends {
	h, err := parseHeader(head)
	if err != nil || h.seq != f.seq && !(f.gap && h.seq > f.seq) {
		return nil
	}
	return seglog.CRCEnds(head[8:frameHead], binary.BigEndian.Uint32(head[4:]))
}

func (f *framing) After(frame []byte) bool {
	h, err := parseFrame(frame)
	return err == nil && h.seq >= f.seq && h.event >= f.event
}
