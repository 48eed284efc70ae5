package serde

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/sluice-data/sluice/event"
)

// AppendAvroEvent appends e in Avro's binary encoding of Flume's record
// {map<string> headers; bytes body}, without any frame. Kafka values written
// with useFlumeEventFormat and the records of AVRO_EVENT files look so. Avro
// has no null here: a header with a null value is left out.
func AppendAvroEvent(dst []byte, e *event.Event) []byte {
	n := 0
	for i := range e.Headers {
		if e.Headers[i].Value != nil {
			n++
		}
	}
	if n > 0 {
		dst = appendLong(dst, int64(n))
		for i := range e.Headers {
			if h := &e.Headers[i]; h.Value != nil {
				dst = appendAvroString(dst, h.Key)
				dst = appendLong(dst, int64(len(h.Value)))
				dst = append(dst, h.Value...)
			}
		}
	}
	dst = append(dst, 0)
	dst = appendLong(dst, int64(len(e.Body)))
	return append(dst, e.Body...)
}

var errAvroShort = errors.New("the record ends too early")

// maxAvroHeaders bounds the headers of one record, so that a hostile count
// cannot make us allocate; Flume events have a handful.
const maxAvroHeaders = 1 << 16

// DecodeAvroEvent decodes what AppendAvroEvent wrote. Body and header values
// are views of p; key turns the bytes of a header name into a string, and so
// lets the caller intern names. Headers are appended to hs; of a name that
// occurs twice the last value counts, as in a Java map. Bytes after the record
// are an error here, though Java ignores them: they are a sign of another
// format.
func DecodeAvroEvent(p []byte, hs []event.KV, key func([]byte) string) (body []byte, _ []event.KV, err error) {
	start := len(hs)
	for {
		n, rest, err := readLong(p)
		if err != nil {
			return nil, hs[:start], fmt.Errorf("decode Avro event: number of headers: %w", err)
		}
		p = rest
		if n == 0 {
			break
		}
		if n < 0 { // a block that gives its size in bytes as well
			if n == -1<<63 {
				return nil, hs[:start], fmt.Errorf("decode Avro event: number of headers: out of range")
			}
			n = -n
			if _, p, err = readLong(p); err != nil {
				return nil, hs[:start], fmt.Errorf("decode Avro event: size of headers: %w", err)
			}
		}
		if n > int64(len(p)) || int64(len(hs)-start)+n > maxAvroHeaders {
			return nil, hs[:start], fmt.Errorf("decode Avro event: %d headers do not fit in the %d bytes that are left", n, len(p))
		}
		for ; n > 0; n-- {
			var k, v []byte
			if k, p, err = readBytes(p); err != nil {
				return nil, hs[:start], fmt.Errorf("decode Avro event: header name: %w", err)
			}
			if v, p, err = readBytes(p); err != nil {
				return nil, hs[:start], fmt.Errorf("decode Avro event: header value: %w", err)
			}
			hs = setHeader(hs, start, key(k), v)
		}
	}
	if body, p, err = readBytes(p); err != nil {
		return nil, hs[:start], fmt.Errorf("decode Avro event: body: %w", err)
	}
	if len(p) > 0 {
		return nil, hs[:start], fmt.Errorf("decode Avro event: %d bytes follow the record", len(p))
	}
	return body, hs, nil
}

func setHeader(hs []event.KV, start int, k string, v []byte) []event.KV {
	// A list too long for a linear look is not searched: keys of a record
	// that Avro wrote are unique, as they come from a map.
	if len(hs)-start < 64 {
		for i := start; i < len(hs); i++ {
			if hs[i].Key == k {
				hs[i].Value = v
				return hs
			}
		}
	}
	return append(hs, event.KV{Key: k, Value: v})
}

// appendLong appends an Avro long: zigzag, then base 128. That is what
// encoding/binary calls a varint.
func appendLong(dst []byte, n int64) []byte { return binary.AppendVarint(dst, n) }

func appendAvroString(dst []byte, s string) []byte {
	return append(appendLong(dst, int64(len(s))), s...)
}

func readLong(p []byte) (int64, []byte, error) {
	n, w := binary.Varint(p)
	switch {
	case w == 0:
		return 0, nil, errAvroShort
	case w < 0:
		return 0, nil, errors.New("a number has more than 64 bits")
	}
	return n, p[w:], nil
}

// readBytes returns a view that is never nil: nil is Flume's null.
func readBytes(p []byte) (b, rest []byte, err error) {
	n, rest, err := readLong(p)
	if err != nil {
		return nil, nil, err
	}
	if n < 0 || n > int64(len(rest)) {
		return nil, nil, fmt.Errorf("a length of %d, but %d bytes are left", n, len(rest))
	}
	return rest[:n:n], rest[n:], nil
}
