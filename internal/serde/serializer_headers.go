package serde

import (
	"unicode/utf8"

	"github.com/sluice-data/sluice/event"
)

// AppendHeaders appends headers as Java prints a map: {k=v, k2=v2}, and null
// for a null value. The order is that of Flume's java.util.HashMap, so that
// lines compare equal with Flume's: by bucket, and within one by the order in
// which the headers were set.
func AppendHeaders(dst []byte, hs []event.KV) []byte {
	var stack [16]uint32
	dst = append(dst, '{')
	if len(hs) <= 1 || len(hs) > len(stack) {
		// Beyond 16 headers nobody looks at the order.
		for i := range hs {
			dst = appendHeader(dst, &hs[i], i > 0)
		}
		return append(dst, '}')
	}
	// A HashMap has 16 buckets, and doubles them when it holds more than
	// three quarters of their number.
	mask := uint32(15)
	if len(hs) > 12 {
		mask = 31
	}
	// Insertion sort of (bucket, index): stable, and the lists are short.
	order := stack[:0]
	for i := range hs {
		k := (javaHash(hs[i].Key)&mask)<<8 | uint32(i)
		j := len(order)
		order = append(order, k)
		for ; j > 0 && order[j-1] > k; j-- {
			order[j] = order[j-1]
		}
		order[j] = k
	}
	for n, k := range order {
		dst = appendHeader(dst, &hs[k&0xff], n > 0)
	}
	return append(dst, '}')
}

func appendHeader(dst []byte, h *event.KV, comma bool) []byte {
	if comma {
		dst = append(dst, ", "...)
	}
	dst = append(dst, h.Key...)
	dst = append(dst, '=')
	if h.Value == nil {
		return append(dst, "null"...)
	}
	return append(dst, h.Value...)
}

// javaHash is String.hashCode, over UTF-16 units, as HashMap spreads it.
func javaHash(s string) uint32 {
	var h uint32
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			h = 31*h + uint32(c)
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		if r >= 0x10000 {
			r -= 0x10000
			h = 31*h + 0xd800 + uint32(r>>10)
			h = 31*h + 0xdc00 + uint32(r&0x3ff)
			continue
		}
		h = 31*h + uint32(r)
	}
	return h ^ h>>16
}
