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
	return AppendAvroBytes(AppendAvroHeaders(dst, e), e.Body)
}

// AppendAvroHeaders appends the first field of that record.
func AppendAvroHeaders(dst []byte, e *event.Event) []byte {
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
				dst = AppendAvroBytes(dst, h.Key)
				dst = AppendAvroBytes(dst, h.Value)
			}
		}
	}
	return append(dst, 0)
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
	hs, p, err = ReadAvroHeaders(p, hs, key)
	if err == nil {
		body, p, err = ReadAvroBytes(p)
		switch {
		case err != nil:
			err = fmt.Errorf("body: %w", err)
		case len(p) > 0:
			err = fmt.Errorf("%d bytes follow the record", len(p))
		}
	}
	if err != nil {
		return nil, hs[:start], fmt.Errorf("decode Avro event: %w", err)
	}
	return body, hs, nil
}

// ReadAvroHeaders decodes the first field of the record, its headers, and
// returns what follows. It is DecodeAvroEvent in other respects.
func ReadAvroHeaders(p []byte, hs []event.KV, key func([]byte) string) (_ []event.KV, rest []byte, err error) {
	start := len(hs)
	for {
		var n int64
		if n, p, err = ReadAvroLong(p); err != nil {
			return hs[:start], nil, fmt.Errorf("number of headers: %w", err)
		}
		if n == 0 {
			return hs, p, nil
		}
		if n < 0 { // a block that gives its size in bytes as well
			if n == -1<<63 {
				return hs[:start], nil, errors.New("number of headers: out of range")
			}
			n = -n
			if _, p, err = ReadAvroLong(p); err != nil {
				return hs[:start], nil, fmt.Errorf("size of headers: %w", err)
			}
		}
		if n > int64(len(p)) || int64(len(hs)-start)+n > maxAvroHeaders {
			return hs[:start], nil, fmt.Errorf("%d headers do not fit in the %d bytes that are left", n, len(p))
		}
		for ; n > 0; n-- {
			var k, v []byte
			if k, p, err = ReadAvroBytes(p); err != nil {
				return hs[:start], nil, fmt.Errorf("header name: %w", err)
			}
			if v, p, err = ReadAvroBytes(p); err != nil {
				return hs[:start], nil, fmt.Errorf("header value: %w", err)
			}
			hs = SetHeader(hs, start, key(k), v)
		}
	}
}

// SetHeader adds a header to those of an event, which begin at start; of a name
// that occurs twice the last value counts.
func SetHeader(hs []event.KV, start int, k string, v []byte) []event.KV {
	// A list too long for a linear look is not searched: keys of a record
	// that a peer wrote are unique, as they come from a map.
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

// AppendAvroBytes appends Avro bytes or an Avro string.
func AppendAvroBytes[T []byte | string](dst []byte, v T) []byte {
	return append(appendLong(dst, int64(len(v))), v...)
}

// ReadAvroLong decodes an Avro int or long and returns what follows.
func ReadAvroLong(p []byte) (int64, []byte, error) {
	n, w := binary.Varint(p)
	switch {
	case w == 0:
		return 0, nil, errAvroShort
	case w < 0:
		return 0, nil, errors.New("a number has more than 64 bits")
	}
	return n, p[w:], nil
}

// ReadAvroBytes decodes Avro bytes or a string, as a view that is never nil (nil
// is Flume's null), and returns what follows.
func ReadAvroBytes(p []byte) (b, rest []byte, err error) {
	n, rest, err := ReadAvroLong(p)
	if err != nil {
		return nil, nil, err
	}
	if n < 0 || n > int64(len(rest)) {
		return nil, nil, fmt.Errorf("a length of %d, but %d bytes are left", n, len(rest))
	}
	return rest[:n:n], rest[n:], nil
}
