// Package charset decodes and encodes text in the character sets that agent
// files name, by Java's names for them, and tells malformed input from
// well-formed, which golang.org/x/text's decoders replace silently.
package charset

import (
	"bytes"
	"fmt"
	"slices"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/transform"
)

// Policy says what happens to malformed input, as Java's CodingErrorAction.
type Policy uint8

// The policies.
const (
	Fail    Policy = iota // an error
	Replace               // U+FFFD instead
	Ignore                // dropped
)

// DecodeError is malformed input under Fail.
type DecodeError struct {
	Charset string
	Offset  int64  // of the malformed sequence, in what was decoded
	Bytes   []byte // the sequence
}

func (e *DecodeError) Error() string {
	return fmt.Sprintf("byte %d: % x is not %s", e.Offset, e.Bytes, e.Charset)
}

type kind uint8

const (
	kindUTF8 kind = iota
	kindASCII
	kindCharmap
	kindMulti // ASCII-compatible, several bytes a character
	kindUTF16
	kindUTF32
)

// Charset is a character set. It is immutable and safe for concurrent use.
type Charset struct {
	name   string
	kind   kind
	little bool // UTF-16, UTF-32: the byte order
	marked bool // the byte order comes from a mark at the start, if there is one
	cmap   *charmap.Charmap
	// kindMulti. The coders of these sets keep no state, so they are shared.
	dec *encoding.Decoder
	enc *encoding.Encoder
}

// Name is Java's name of the character set.
func (c *Charset) Name() string { return c.name }

// IsUTF8 says whether c is UTF-8.
func (c *Charset) IsUTF8() bool { return c.kind == kindUTF8 }

// Unit is the number of bytes that every character is a multiple of: 1, 2 or
// 4. Where it is 1, a byte below 0x80 at the start of a character is ASCII,
// and 0x0A is a line feed wherever it stands.
func (c *Charset) Unit() int {
	switch c.kind {
	case kindUTF16:
		return 2
	case kindUTF32:
		return 4
	}
	return 1
}

// Detect resolves a character set whose byte order is given by a mark: head is
// the start of the text. It returns the length of the mark, which is no part
// of the text. Without a mark it is big endian, as in Java.
func (c *Charset) Detect(head []byte) (*Charset, int) {
	if !c.marked {
		return c, 0
	}
	d := *c
	d.marked = false
	switch {
	case c.kind == kindUTF16 && bytes.HasPrefix(head, []byte{0xFE, 0xFF}):
		return &d, 2
	case c.kind == kindUTF16 && bytes.HasPrefix(head, []byte{0xFF, 0xFE}):
		d.little = true
		return &d, 2
	case c.kind == kindUTF32 && bytes.HasPrefix(head, []byte{0, 0, 0xFE, 0xFF}):
		return &d, 4
	case c.kind == kindUTF32 && bytes.HasPrefix(head, []byte{0xFF, 0xFE, 0, 0}):
		d.little = true
		return &d, 4
	}
	return &d, 0
}

// Bad is the rune that Next returns for malformed input.
const Bad rune = -1

// Next decodes the first character of p, which is not empty, and returns its
// length. A malformed sequence, also one that p ends in the middle of, is Bad
// and as long as Java's decoders make it.
func (c *Charset) Next(p []byte) (rune, int) {
	switch c.kind {
	case kindUTF8:
		if r, n := utf8.DecodeRune(p); r != utf8.RuneError || n > 1 {
			return r, n
		}
		return Bad, malformedUTF8(p)
	case kindASCII:
		if p[0] < utf8.RuneSelf {
			return rune(p[0]), 1
		}
		return Bad, 1
	case kindCharmap:
		if r := c.cmap.DecodeByte(p[0]); r != utf8.RuneError {
			return r, 1
		}
		return Bad, 1
	case kindUTF16:
		return c.next16(p)
	case kindUTF32:
		if len(p) < 4 {
			return Bad, len(p)
		}
		r := c.unit(p[:4])
		if r > utf8.MaxRune || utf16.IsSurrogate(rune(r)) {
			return Bad, 4
		}
		return rune(r), 4
	}
	if p[0] < utf8.RuneSelf {
		return rune(p[0]), 1
	}
	return c.nextMulti(p)
}

func (c *Charset) next16(p []byte) (rune, int) {
	if len(p) < 2 {
		return Bad, len(p)
	}
	r := rune(c.unit(p[:2]))
	if !utf16.IsSurrogate(r) {
		return r, 2
	}
	if len(p) < 4 {
		if r < 0xDC00 {
			return Bad, len(p) // the other half is missing
		}
		return Bad, 2
	}
	if d := utf16.DecodeRune(r, rune(c.unit(p[2:4]))); d != utf8.RuneError {
		return d, 4
	}
	return Bad, 2
}

func (c *Charset) unit(p []byte) uint32 {
	var v uint32
	for i, b := range p {
		if c.little {
			v |= uint32(b) << (8 * i)
		} else {
			v = v<<8 | uint32(b)
		}
	}
	return v
}

// nextMulti finds out how long the first character is by offering more and
// more bytes: the decoders of x/text do not tell. It is only used for lines
// that are cut or malformed.
func (c *Charset) nextMulti(p []byte) (rune, int) {
	var out [2 * utf8.UTFMax]byte
	for k := 1; k <= min(4, len(p)); k++ {
		nDst, nSrc, err := c.dec.Transform(out[:], p[:k], k == len(p))
		if nSrc == 0 && err == transform.ErrShortSrc {
			continue
		}
		if nSrc == 0 {
			break
		}
		r, n := utf8.DecodeRune(out[:nDst])
		switch {
		case r != utf8.RuneError && n == nDst:
			return r, nSrc
		case nSrc == 2 && p[1] < utf8.RuneSelf:
			return Bad, 1 // as in Java: what is ASCII is not swallowed
		}
		return Bad, nSrc // also the four codes of HKSCS that are two characters each, which Java does not read either
	}
	return Bad, 1
}

// malformedUTF8 is the length of the malformed sequence at the start of p, by
// the rules of Java's decoder: as far as it could have gone on well, and a
// surrogate as a whole.
func malformedUTF8(p []byte) int {
	cont := func(i int) bool { return i < len(p) && p[i]&0xC0 == 0x80 }
	switch b := p[0]; {
	case b >= 0xE0 && b < 0xF0:
		if !cont(1) || b == 0xE0 && p[1] < 0xA0 {
			return 1
		}
		if cont(2) { // well-formed but for being a surrogate
			return 3
		}
		return 2
	case b >= 0xF0 && b < 0xF5:
		if !cont(1) || b == 0xF0 && p[1] < 0x90 || b == 0xF4 && p[1] > 0x8F {
			return 1
		}
		if !cont(2) {
			return 2
		}
		return 3
	}
	return 1
}

// Valid says whether p is well-formed from front to end. For multi-byte sets
// other than Unicode's it does not know and answers false unless p is ASCII.
func (c *Charset) Valid(p []byte) bool {
	switch c.kind {
	case kindUTF8:
		return utf8.Valid(p)
	case kindUTF16, kindUTF32:
		return false
	}
	return isASCII(p)
}

func isASCII(p []byte) bool {
	for _, b := range p {
		if b >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// AppendUTF8 decodes p, a whole text, and appends it to dst as UTF-8.
func (c *Charset) AppendUTF8(dst, p []byte, pol Policy) ([]byte, error) {
	if c.kind == kindMulti {
		if out, ok := c.appendMulti(dst, p); ok {
			return out, nil
		}
	}
	for i := 0; i < len(p); {
		r, n := c.Next(p[i:])
		if r == Bad {
			switch pol {
			case Fail:
				return dst, &DecodeError{c.name, int64(i), bytes.Clone(p[i : i+n])}
			case Ignore:
				i += n
				continue
			}
			r = utf8.RuneError
		}
		dst = utf8.AppendRune(dst, r)
		i += n
	}
	return dst, nil
}

// appendMulti decodes p at once; it gives up when there is something to say
// about single characters.
func (c *Charset) appendMulti(dst, p []byte) ([]byte, bool) {
	start := len(dst)
	dst = slices.Grow(dst, 3*len(p)) // no character makes more than three bytes of each of its own
	dst = dst[:cap(dst)]
	nDst, nSrc, err := c.dec.Transform(dst[start:], p, true)
	out := dst[:start+nDst]
	if err != nil || nSrc < len(p) {
		return dst[:start], false
	}
	for _, s := range alone {
		if bytes.Contains(out[start:], []byte(s)) {
			return dst[:start], false
		}
	}
	return out, true
}

// alone is what appendMulti leaves to nextMulti: replacements, and the second
// halves of the codes that are two characters each.
var alone = [...]string{"\uFFFD", "\u0304", "\u030C"}

// AppendText encodes UTF-8 text and appends it to dst. What c has no
// character for becomes a question mark, as in Java.
func (c *Charset) AppendText(dst, text []byte) []byte {
	switch c.kind {
	case kindUTF8:
		return append(dst, text...)
	case kindMulti:
		if out, n, err := transform.Append(c.enc, dst, text); err == nil && n == len(text) {
			return out
		}
	case kindUTF16:
		if c.marked && len(text) > 0 {
			dst = append(dst, 0xFE, 0xFF) // Java writes the mark it would read
		}
	}
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		dst = c.appendRune(dst, r)
		text = text[n:]
	}
	return dst
}

func (c *Charset) appendRune(dst []byte, r rune) []byte {
	switch c.kind {
	case kindASCII:
		if r < utf8.RuneSelf {
			return append(dst, byte(r))
		}
	case kindCharmap:
		if b, ok := c.cmap.EncodeRune(r); ok {
			return append(dst, b)
		}
	case kindMulti:
		var in [utf8.UTFMax]byte
		if out, n, err := transform.Append(c.enc, dst, in[:utf8.EncodeRune(in[:], r)]); err == nil && n > 0 {
			return out
		}
	case kindUTF16:
		if hi, lo := utf16.EncodeRune(r); hi != utf8.RuneError {
			return c.appendUnit(c.appendUnit(dst, uint32(hi), 2), uint32(lo), 2)
		}
		return c.appendUnit(dst, uint32(r), 2)
	case kindUTF32:
		return c.appendUnit(dst, uint32(r), 4)
	}
	return append(dst, '?')
}

func (c *Charset) appendUnit(dst []byte, v uint32, n int) []byte {
	for i := range n {
		s := 8 * (n - 1 - i)
		if c.little {
			s = 8 * i
		}
		dst = append(dst, byte(v>>s))
	}
	return dst
}

// IndexLF returns the offset of the first line feed in p, which starts at a
// character, or -1. The line feed is Unit bytes long.
func (c *Charset) IndexLF(p []byte) int {
	u := c.Unit()
	if u == 1 {
		return bytes.IndexByte(p, '\n')
	}
	for i := 0; i+u <= len(p); i += u {
		if c.unit(p[i:i+u]) == '\n' {
			return i
		}
	}
	return -1
}
