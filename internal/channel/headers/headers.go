// Package headers encodes an event's headers for channels that keep events outside of the process.
//
// The encoding is: the number of headers; for each the length of its name, the name, one more than the length of its value (0
// is Flume's null, which is not an empty value), the value. Numbers are varints (7 bits a byte, the lowest first).
package headers

import (
	"encoding/binary"
	"errors"

	"github.com/sluice-data/sluice/event"
)

// Append encodes hs.
func Append(b []byte, hs []event.KV) []byte {
	b = binary.AppendUvarint(b, uint64(len(hs)))
	for i := range hs {
		h := &hs[i]
		b = binary.AppendUvarint(b, uint64(len(h.Key)))
		b = append(b, h.Key...)
		if h.Value == nil {
			b = append(b, 0)
			continue
		}
		b = binary.AppendUvarint(b, uint64(len(h.Value))+1)
		b = append(b, h.Value...)
	}
	return b
}

// ErrLength says that the bytes are no headers.
var ErrLength = errors.New("the lengths of headers do not fit into their bytes")

// Parse decodes the headers at the beginning of b, in whose bytes the values stay. They are appended to hs. rest is what
// follows them.
func Parse(b []byte, names *Names, hs []event.KV) (_ []event.KV, rest []byte, err error) {
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)) {
		return hs, nil, ErrLength
	}
	b = b[k:]
	for range n {
		var name []byte
		if name, b, err = cut(b); err != nil {
			return hs, nil, err
		}
		size, k := binary.Uvarint(b)
		if k <= 0 || size > uint64(len(b)-k)+1 {
			return hs, nil, ErrLength
		}
		b = b[k:]
		var value []byte
		if size > 0 {
			value = b[: size-1 : size-1]
			b = b[size-1:]
		}
		hs = append(hs, event.KV{Key: names.get(name), Value: value})
	}
	return hs, b, nil
}

// cut reads a length and as many bytes.
func cut(b []byte) (p, rest []byte, err error) {
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)-k) {
		return nil, nil, ErrLength
	}
	end := k + int(n)
	return b[k:end:end], b[end:], nil
}

// Names keeps one string for each header name, because a name must outlive the block that it was read into.
type Names struct{ m map[string]string }

// maxNames bounds what header names that never come again may hold.
const maxNames = 4096

func (t *Names) get(b []byte) string {
	if s, ok := t.m[string(b)]; ok {
		return s
	}
	if t.m == nil || len(t.m) >= maxNames {
		t.m = make(map[string]string)
	}
	s := string(b)
	t.m[s] = s
	return s
}
