// Package wire reads and writes Kafka's protocol below the level of single
// APIs: the size-prefixed frames, the request and response headers, and the
// two APIs on the hot path, Produce and Fetch, whose record bytes must not be
// copied. Everything else goes through franz-go's kmsg.
//
// The input is hostile until proven otherwise: no length that a peer sends is
// used to allocate before it has been compared with the bytes that are there.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// HeaderPrefix is what every request starts with: API key, version and
// correlation id.
const HeaderPrefix = 8

// Errors that end a connection.
var (
	ErrFrameSize = errors.New("frame size out of range")
	ErrMalformed = errors.New("malformed request")
)

// Header is a request's header, versions 1 and 2.
type Header struct {
	Key           int16
	Version       int16
	CorrelationID int32
	ClientID      string // "" where the client sent null, as in Apache Kafka
}

// ParseSize reads a frame's length prefix from its first four bytes. A length
// below HeaderPrefix (negative ones included) or above max is an ErrFrameSize.
func ParseSize(b []byte, max int32) (int32, error) {
	n := int32(binary.BigEndian.Uint32(b))
	if n < HeaderPrefix || n > max {
		return 0, fmt.Errorf("%w: %d bytes, allowed are %d to %d", ErrFrameSize, n, HeaderPrefix, max)
	}
	return n, nil
}

// ParsePrefix reads the first HeaderPrefix bytes of a frame, which is all
// that is needed to decide whether the rest is worth reading.
func ParsePrefix(b []byte) Header {
	return Header{
		Key:           int16(binary.BigEndian.Uint16(b)),
		Version:       int16(binary.BigEndian.Uint16(b[2:])),
		CorrelationID: int32(binary.BigEndian.Uint32(b[4:])),
	}
}

// ParseHeader reads the rest of the header from a whole frame and returns the
// body. flexible says whether the header is version 2, with tagged fields
// (KIP-482). The client id is a plain nullable string in both versions.
func ParseHeader(frame []byte, flexible bool) (Header, []byte, error) {
	if len(frame) < HeaderPrefix {
		return Header{}, nil, fmt.Errorf("%w: %d bytes are too short for a header", ErrMalformed, len(frame))
	}
	h := ParsePrefix(frame)
	client, body, err := splitHeader(frame, flexible)
	h.ClientID = string(client)
	return h, body, err
}

// SkipHeader is ParseHeader for those who have the prefix already and do not
// ask for the client id.
func SkipHeader(frame []byte, flexible bool) (body []byte, err error) {
	_, body, err = splitHeader(frame, flexible)
	return body, err
}

func splitHeader(frame []byte, flexible bool) (client, body []byte, err error) {
	r := reader{src: frame[HeaderPrefix:]}
	client = r.nullableString()
	if flexible {
		r.skipTags()
	}
	if r.bad {
		h := ParsePrefix(frame)
		return client, nil, fmt.Errorf("%w: header of API key %d version %d", ErrMalformed, h.Key, h.Version)
	}
	return client, r.src, nil
}

// AppendResponseHeader appends room for the length prefix, the correlation id
// and, for flexible responses, the empty tagged fields. The caller patches
// the length with PutSize when it is known. ApiVersions responses always have
// header version 0, whatever their version (KIP-511): pass flexible false.
func AppendResponseHeader(dst []byte, correlationID int32, flexible bool) []byte {
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(correlationID))
	if flexible {
		dst = append(dst, 0)
	}
	return dst
}

// PutSize writes the frame's length prefix: n counts what follows the prefix.
func PutSize(frame []byte, n int) { binary.BigEndian.PutUint32(frame, uint32(n)) }

// readGrow is how much of a frame is allocated on the word of its length
// prefix alone; from there a buffer only doubles as bytes really arrive.
const readGrow = 64 << 10

// ReadBody reads n bytes into buf (its capacity is used, its contents are
// dropped) and returns them. Memory grows with what arrived, and before it
// grows reserve is asked for the difference; its error ends the read.
func ReadBody(r io.Reader, buf []byte, n int, reserve func(more int) error) ([]byte, error) {
	buf = buf[:0]
	for len(buf) < n {
		if len(buf) == cap(buf) {
			size := min(n, max(readGrow, 2*cap(buf)))
			if err := reserve(size - cap(buf)); err != nil {
				return buf, err
			}
			grown := make([]byte, len(buf), size)
			copy(grown, buf)
			buf = grown
		}
		have := len(buf)
		buf = buf[:min(n, cap(buf))]
		if _, err := io.ReadFull(r, buf[have:]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return buf[:have], err
		}
	}
	return buf, nil
}

// reader decodes primitives; after the first fault every read gives zero
// values and bad stays set.
type reader struct {
	src []byte
	bad bool
}

func (r *reader) fail() {
	r.bad = true
	r.src = nil
}

func (r *reader) span(n int) []byte {
	if n < 0 || n > len(r.src) {
		r.fail()
		return nil
	}
	b := r.src[:n:n]
	r.src = r.src[n:]
	return b
}

func (r *reader) int16() int16 {
	b := r.span(2)
	if b == nil {
		return 0
	}
	return int16(binary.BigEndian.Uint16(b))
}

func (r *reader) int32() int32 {
	b := r.span(4)
	if b == nil {
		return 0
	}
	return int32(binary.BigEndian.Uint32(b))
}

func (r *reader) uvarint() uint32 {
	v, n := binary.Uvarint(r.src)
	if n <= 0 || n > 5 || v > 1<<32-1 {
		r.fail()
		return 0
	}
	r.src = r.src[n:]
	return uint32(v)
}

// nullableString returns a view; null is empty and length -1. Below -1 is
// malformed.
func (r *reader) nullableString() []byte {
	n := r.int16()
	if n == -1 {
		return nil
	}
	return r.span(int(n))
}

// compactNullable returns a view of a compact string or byte field; the
// length is sent plus one, zero is null.
func (r *reader) compactNullable() []byte {
	n := r.uvarint()
	if n == 0 {
		return nil
	}
	return r.span(int(n - 1))
}

// arrayLen returns the number of elements, -1 for null. min is the smallest
// size of an element in bytes: a count that cannot fit in what is left is
// malformed, so a caller may loop without fear.
func (r *reader) arrayLen(flexible bool, min int) int {
	var n int
	if flexible {
		n = int(r.uvarint()) - 1
	} else {
		n = int(r.int32())
	}
	if r.bad || n < -1 || n*min > len(r.src) {
		r.fail()
		return 0
	}
	return n
}

func (r *reader) skipTags() {
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		r.uvarint() // the tag
		r.span(int(r.uvarint()))
	}
}

func appendUvarint(dst []byte, v uint32) []byte { return binary.AppendUvarint(dst, uint64(v)) }

func appendArrayLen(dst []byte, n int, flexible bool) []byte {
	if flexible {
		return appendUvarint(dst, uint32(n+1))
	}
	return binary.BigEndian.AppendUint32(dst, uint32(int32(n)))
}

func appendString[S ~string | ~[]byte](dst []byte, s S, flexible bool) []byte {
	if flexible {
		dst = appendUvarint(dst, uint32(len(s)+1))
	} else {
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
	}
	return append(dst, s...)
}

func appendNullString(dst []byte, flexible bool) []byte {
	if flexible {
		return append(dst, 0)
	}
	return append(dst, 0xff, 0xff)
}
