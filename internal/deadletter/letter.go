// Package deadletter keeps events that can never be delivered, with the
// reason, in files of their own. docs/dead-letters.md describes the format.
package deadletter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/seglog"
)

// Letter is an event with its story.
type Letter struct {
	Number    int64 // in the component's directory, from 1; Store.Append sets it
	Time      time.Time
	Agent     string
	Component string // "sink k1"
	Channel   string // where it was taken from, or which refused it
	Reason    string
	Event     event.Event
}

const (
	version    = 1
	headerSize = 8
	minPayload = 1 + 8 + 8 + 4 + 1 + 1 // everything empty
	maxPayload = 1 << 30
	extension  = ".dead"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendFrame appends l's frame to b.
func appendFrame(b []byte, l *Letter) ([]byte, error) {
	start := len(b)
	b = append(b, make([]byte, headerSize)...)
	b = append(b, version)
	b = binary.BigEndian.AppendUint64(b, uint64(l.Number))
	b = binary.BigEndian.AppendUint64(b, uint64(l.Time.UnixMilli()))
	for _, s := range []string{l.Agent, l.Component, l.Channel, l.Reason} {
		b = appendString(b, s)
	}
	b = binary.AppendUvarint(b, uint64(len(l.Event.Headers)))
	for _, h := range l.Event.Headers {
		b = appendString(b, h.Key)
		if h.Value == nil {
			b = append(b, 0)
			continue
		}
		b = binary.AppendUvarint(b, uint64(len(h.Value))+1)
		b = append(b, h.Value...)
	}
	b = binary.AppendUvarint(b, uint64(len(l.Event.Body)))
	b = append(b, l.Event.Body...)
	payload := b[start+headerSize:]
	if len(payload) > maxPayload {
		return b[:start], fmt.Errorf("a dead letter of %d bytes is larger than %d", len(payload), maxPayload)
	}
	seal(b[start:])
	return b, nil
}

// seal fills in the header of a frame.
func seal(frame []byte) {
	payload := frame[headerSize:]
	binary.BigEndian.PutUint32(frame, uint32(len(payload)))
	binary.BigEndian.PutUint32(frame[4:], crc32.Checksum(payload, castagnoli))
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// parseFrame checks a whole frame and decodes it. The letter's bytes are views
// of it.
func parseFrame(frame []byte) (*Letter, error) {
	if len(frame) < headerSize {
		return nil, errShort
	}
	payload := frame[headerSize:]
	if n := binary.BigEndian.Uint32(frame); int64(n) != int64(len(payload)) {
		return nil, fmt.Errorf("a frame of %d bytes says that it has %d", len(payload), n)
	}
	if sum := crc32.Checksum(payload, castagnoli); sum != binary.BigEndian.Uint32(frame[4:]) {
		return nil, errors.New("the checksum is wrong")
	}
	if len(payload) < 17 {
		return nil, errShort
	}
	if payload[0] != version {
		return nil, fmt.Errorf("format %d is unknown", payload[0])
	}
	l := &Letter{Number: int64(binary.BigEndian.Uint64(payload[1:])), Time: time.UnixMilli(int64(binary.BigEndian.Uint64(payload[9:])))}
	d := decoder{rest: payload[17:]}
	for _, s := range []*string{&l.Agent, &l.Component, &l.Channel, &l.Reason} {
		*s = string(d.bytes(d.uvarint()))
	}
	headers := d.uvarint()
	if headers > uint64(len(d.rest)) { // two bytes each at least
		return nil, errShort
	}
	for range headers {
		h := event.KV{Key: string(d.bytes(d.uvarint()))}
		if n := d.uvarint(); n > 0 {
			h.Value = d.bytes(n - 1)
		}
		if d.short {
			return nil, errShort
		}
		l.Event.Headers = append(l.Event.Headers, h)
	}
	l.Event.Body = d.bytes(d.uvarint())
	switch {
	case d.short:
		return nil, errShort
	case len(d.rest) > 0:
		return nil, fmt.Errorf("%d bytes too many in a frame", len(d.rest))
	case l.Number < 1:
		return nil, fmt.Errorf("%d is no number of a letter", l.Number)
	}
	return l, nil
}

var errShort = errors.New("a frame ends too early")

// decoder takes values off the front; short says that one was not there.
type decoder struct {
	rest  []byte
	short bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.short, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// bytes never returns nil: a nil value is Flume's null.
func (d *decoder) bytes(n uint64) []byte {
	if d.short || n > uint64(len(d.rest)) {
		d.short, d.rest = true, nil
		return []byte{}
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

// framing is how seglog.Scan reads a file of letters; each gets a valid one
// and does not keep it.
type framing struct {
	next int64 // the number that the next letter must have; 0: any
	gap  bool  // damage lies before it: it may have a later number
	each func(*Letter) error
	err  error // each's
}

// HeaderSize implements seglog.Framing: up to the number, which every frame has.
func (f *framing) HeaderSize() int { return headerSize + 1 + 8 }

func (f *framing) FrameSize(header []byte) (int64, error) {
	n := binary.BigEndian.Uint32(header)
	if n < minPayload || n > maxPayload {
		return 0, fmt.Errorf("%d is no length of a payload", n)
	}
	return headerSize + int64(n), nil
}

func (f *framing) Accept(_ int64, frame []byte) error {
	l, err := parseFrame(frame)
	if err != nil {
		return err
	}
	if f.next != 0 && l.Number != f.next && !(f.gap && l.Number > f.next) {
		return fmt.Errorf("letter %d stands where %d should", l.Number, f.next)
	}
	f.next, f.gap = l.Number+1, false
	if f.each != nil && f.err == nil {
		f.err = f.each(l)
	}
	return nil
}

func (f *framing) After(frame []byte) bool {
	l, err := parseFrame(frame)
	return err == nil && l.Number >= f.next
}

// scan reads the file of size bytes at path. What is damaged is passed over:
// damage gets each such place, and where letters go on. The result is that of
// the file's end.
func (f *framing) scan(r io.ReaderAt, path string, size int64, damage func(*seglog.CorruptionError)) (seglog.ScanResult, error) {
	for from := int64(0); ; {
		res, err := seglog.Scan(r, path, from, size, f)
		var ce *seglog.CorruptionError
		if !errors.As(err, &ce) {
			return res, err
		}
		if ce.Next == 0 {
			ce.Next = size
		}
		damage(ce)
		from, f.gap = ce.Next, true
		if from == size {
			return seglog.ScanResult{End: size}, nil
		}
	}
}

// Ends implements seglog.Framing: a letter may hold a copy of dead letters, so
// one whose number is right reaches as far as its checksum does.
func (f *framing) Ends(head []byte) seglog.Ends {
	n := int64(binary.BigEndian.Uint64(head[headerSize+1:]))
	if head[headerSize] != version || n != f.next && !(f.gap && n > f.next) {
		return nil
	}
	return seglog.CRCEnds(head[headerSize:], binary.BigEndian.Uint32(head[4:]))
}
