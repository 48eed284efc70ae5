package javaregex

import (
	"bytes"
	"encoding/binary"
)

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
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

// lastLit is the greatest position in [lo, hi] where lit is, or -1.
func lastLit(b []byte, lo, hi int, lit string) int {
	hi = min(hi, len(b)-len(lit))
	if hi < lo {
		return -1
	}
	c := lit[0]
	p := hi
	for {
		// Eight at a time, from the back.
		for p-lo >= 7 {
			if zeros(binary.LittleEndian.Uint64(b[p-7:])^uint64(c)*ones) != 0 {
				break
			}
			p -= 8
		}
		for n := min(p-lo, 7); n >= 0; n-- {
			if b[p] == c && (len(lit) == 1 || string(b[p:p+len(lit)]) == lit) {
				return p
			}
			p--
		}
		if p < lo {
			return -1
		}
	}
}

// nextLit is the least position in [lo, hi] where lit is, or -1.
func nextLit(b []byte, lo, hi int, lit string) int {
	hi = min(hi, len(b)-len(lit))
	if hi < lo {
		return -1
	}
	for p := lo; p <= hi; p++ {
		i := bytes.IndexByte(b[p:hi+1], lit[0])
		if i < 0 {
			return -1
		}
		p += i
		if len(lit) == 1 || string(b[p:p+len(lit)]) == lit {
			return p
		}
	}
	return -1
}
