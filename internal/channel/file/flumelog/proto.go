package flumelog

import (
	"encoding/binary"
	"errors"
	"fmt"
)

var errProto = errors.New("malformed protocol buffer")

// field is one field of a message: fixed32, fixed64 and varint values are in num, bytes in data.
type field struct {
	id, wire int
	num      uint64
	data     []byte
}

// Wire types.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// fields calls f for each field of a message.
func fields(b []byte, f func(field) error) error {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 || tag>>3 == 0 || tag>>3 > 1<<29 {
			return errProto
		}
		b = b[n:]
		v := field{id: int(tag >> 3), wire: int(tag & 7)}
		switch v.wire {
		case wireVarint:
			if v.num, n = binary.Uvarint(b); n <= 0 {
				return errProto
			}
		case wireFixed64:
			if n = 8; len(b) < n {
				return errProto
			}
			v.num = binary.LittleEndian.Uint64(b)
		case wireFixed32:
			if n = 4; len(b) < n {
				return errProto
			}
			v.num = uint64(binary.LittleEndian.Uint32(b))
		case wireBytes:
			data, rest, err := delimited(b)
			if err != nil {
				return err
			}
			v.data, n = data, len(b)-len(rest)
		default:
			return fmt.Errorf("%w: wire type %d", errProto, v.wire)
		}
		b = b[n:]
		if err := f(v); err != nil {
			return err
		}
	}
	return nil
}

// delimited reads a length and as many bytes.
func delimited(b []byte) (msg, rest []byte, err error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, errProto
	}
	end := n + int(size)
	return b[n:end:end], b[end:], nil
}

// need checks that required fields were there; bit i is field i.
func need(seen, want uint) error {
	if seen&want != want {
		return fmt.Errorf("%w: a required field is missing", errProto)
	}
	return nil
}
