package javaregex

import "unicode/utf8"

const runeError = utf8.RuneError // U+FFFD, what Java's decoder puts for malformed bytes

// decode reads one character at the start of b (not empty) as Java's UTF-8
// decoder does: a malformed sequence is one U+FFFD for as many bytes as could
// have begun a character. Go's decoder takes one byte each, so a truncated
// three-byte character would count twice.
func decode(b []byte) (rune, int) {
	if b[0] < utf8.RuneSelf {
		return rune(b[0]), 1
	}
	if r, n := utf8.DecodeRune(b); n > 1 {
		return r, n
	}
	return runeError, malformed(b)
}

// malformed is the length of the malformed sequence at the start of b.
func malformed(b []byte) int {
	c := b[0]
	switch {
	case c >= 0xE0 && c <= 0xEF:
		if len(b) < 2 || b[1]&0xC0 != 0x80 || c == 0xE0 && b[1] < 0xA0 {
			return 1
		}
		if len(b) < 3 || b[2]&0xC0 != 0x80 {
			return 2
		}
		return 3 // a surrogate
	case c >= 0xF0 && c <= 0xF4:
		if len(b) < 2 || b[1]&0xC0 != 0x80 || c == 0xF0 && b[1] < 0x90 || c == 0xF4 && b[1] > 0x8F {
			return 1
		}
		if len(b) < 3 || b[2]&0xC0 != 0x80 {
			return 2
		}
		return 3
	}
	return 1
}

// width is the number of bytes of the character at the start of b.
func width(b []byte) int {
	if b[0] < utf8.RuneSelf {
		return 1
	}
	_, n := decode(b)
	return n
}

// before is the start of the character that ends at pos > 0. It needs no scan
// from the front: a byte that is not a continuation byte always starts a
// character, and continuation bytes without one are characters of their own.
func before(b []byte, pos int) int {
	if b[pos-1]&0xC0 != 0x80 {
		return pos - 1
	}
	for q := pos - 2; q >= 0 && q >= pos-4; q-- {
		if b[q]&0xC0 == 0x80 {
			continue
		}
		if b[q] >= 0xC0 && q+width(b[q:]) >= pos {
			return q
		}
		break
	}
	return pos - 1
}

// decodeBefore reads the character that ends at pos > 0.
func decodeBefore(b []byte, pos int) (rune, int) {
	q := before(b, pos)
	r, _ := decode(b[q:])
	return r, pos - q
}
