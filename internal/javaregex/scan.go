package javaregex

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strings"
)

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
	lows  = highs - ones // 0x7F in every byte
)

// zeros has the high bit set at least in the lowest zero byte of v, and no bit
// set where there is none.
func zeros(v uint64) uint64 { return (v - ones) &^ v & highs }

// dotRun is the end of the run of characters from pos that are not line
// terminators. Terminators beyond ASCII are known by their bytes: what begins
// one always begins a character.
func dotRun(b []byte, pos int) int {
	for len(b)-pos >= 8 {
		v := binary.LittleEndian.Uint64(b[pos:])
		if zeros(v^('\n'*ones))|zeros(v^('\r'*ones))|v&highs == 0 {
			pos += 8
			continue
		}
		for end := pos + 8; pos < end; pos++ {
			if terminator(b, pos) {
				return pos
			}
		}
	}
	for ; pos < len(b); pos++ {
		if terminator(b, pos) {
			return pos
		}
	}
	return pos
}

// terminator says that a line terminator begins at pos.
func terminator(b []byte, pos int) bool {
	switch b[pos] {
	case '\n', '\r':
		return true
	case 0xC2:
		return pos+1 < len(b) && b[pos+1] == 0x85
	case 0xE2:
		return pos+2 < len(b) && b[pos+1] == 0x80 && b[pos+2]&0xFE == 0xA8
	}
	return false
}

// allIn says that the 8 bytes of v are in the ASCII range given by below and
// above (see newRange).
func allIn(v, below, above uint64) bool {
	return (v|(v+above)|^(v+below))&highs == 0
}

// newRange prepares allIn: adding below sets a byte's high bit when it is at
// least lo, adding above when it is greater than hi.
func newRange(lo, hi byte) (below, above uint64) {
	return uint64(0x80-lo) * ones, uint64(0x7F-hi) * ones
}

// literal is a string to search for, by its rarest byte.
type literal struct {
	s    string
	rare int // offset of that byte in s
}

func newLiteral(s string) literal {
	l := literal{s: s}
	best := -1
	for i := range len(s) {
		r := strings.IndexByte(byFrequency, s[i])
		if r < 0 {
			r = len(byFrequency) // capitals but few, controls, what is not ASCII
		}
		if r > best {
			best, l.rare = r, i
		}
	}
	return l
}

// byFrequency lists bytes from the most to the least frequent in logs.
const byFrequency = " e0\"1ta2,o:insr-3./4l56d789c=mup_fhgbywIEATNO[](){}SRDLCkv'FMP&%;GH+\\<>UxjBY|VK@WXqz#$Q?!*J^~Z`"

// isAt says whether the literal is at p.
func (l *literal) isAt(b []byte, p int) bool {
	return len(l.s) == 1 || string(b[p:p+len(l.s)]) == l.s
}

// last is the greatest position in [lo, hi] where the literal is, or -1.
func (l *literal) last(b []byte, lo, hi int) int {
	hi = min(hi, len(b)-len(l.s))
	if hi < lo {
		return -1
	}
	c, first := l.s[l.rare], lo+l.rare
	p := hi + l.rare
	for p-first >= 7 { // eight at a time, from the back
		x := binary.LittleEndian.Uint64(b[p-7:]) ^ uint64(c)*ones
		found := ^((x&lows + lows) | x | lows) // the high bit of every byte that is c
		if found == 0 {
			p -= 8
			continue
		}
		p -= bits.LeadingZeros64(found) >> 3
		if l.isAt(b, p-l.rare) {
			return p - l.rare
		}
		p--
	}
	for ; p >= first; p-- {
		if b[p] == c && l.isAt(b, p-l.rare) {
			return p - l.rare
		}
	}
	return -1
}

// next is the least position in [lo, hi] where the literal is, or -1.
func (l *literal) next(b []byte, lo, hi int) int {
	hi = min(hi, len(b)-len(l.s))
	c := l.s[l.rare]
	for p := lo; p <= hi; p++ {
		i := bytes.IndexByte(b[p+l.rare:hi+l.rare+1], c)
		if i < 0 {
			return -1
		}
		p += i
		if l.isAt(b, p) {
			return p
		}
	}
	return -1
}
