package record

import "encoding/binary"

// Record is one record to be written. Nil keys and values are null.
type Record struct {
	Timestamp  int64
	Key, Value []byte
}

// Append appends one uncompressed batch of recs to dst and returns it. h gives producer id, epoch, sequence, leader
// epoch, base offset and attributes; counts, timestamps, length and CRC are computed. The broker writes its own records
// (group state, markers) with it, and tests theirs.
func Append(dst []byte, h Header, recs ...Record) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	h.Count = int32(len(recs))
	h.LastOffsetDelta = max(int32(len(recs))-1, 0)
	h.BaseTimestamp, h.MaxTimestamp = NoTimestamp, NoTimestamp
	for i, r := range recs {
		if i == 0 {
			h.BaseTimestamp = r.Timestamp
		}
		h.MaxTimestamp = max(h.MaxTimestamp, r.Timestamp)
	}
	var body []byte
	for i, r := range recs {
		body = append(body[:0], 0) // attributes: none are defined
		body = binary.AppendVarint(body, r.Timestamp-h.BaseTimestamp)
		body = binary.AppendVarint(body, int64(i))
		body = appendBytes(body, r.Key)
		body = appendBytes(body, r.Value)
		body = binary.AppendVarint(body, 0) // no headers
		dst = binary.AppendVarint(dst, int64(len(body)))
		dst = append(dst, body...)
	}
	Put(dst[start:], h)
	return dst
}

func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(b))), b...)
}
