package javaregex

import "unicode"

// escapeNode reads an escape outside a class.
func (p *parser) escapeNode() *node {
	start := p.cursor
	ch := p.get(p.cursor + 1)
	switch ch {
	case 'p', 'P':
		p.cursor++
		return &node{op: nSet, set: p.family(ch == 'P')}
	case '1', '2', '3', '4', '5', '6', '7', '8', '9':
		p.cursor += 2
		ref := int(ch - '0')
		for isDigit(p.peek()) {
			more := ref*10 + int(p.peek()-'0')
			if p.caps-1 < more {
				break
			}
			ref = more
			p.read()
		}
		return &node{op: nBackref, cap: ref, fold: p.fold()}
	case 'k':
		p.cursor += 2
		if p.read() != '<' {
			p.fail("\\k must be followed by <name>")
		}
		name := p.groupName(p.read())
		g, ok := p.names[name]
		if !ok {
			p.fail("there is no group named %q before this place", name)
		}
		return &node{op: nBackref, cap: g, fold: p.fold()}
	case 'b', 'B':
		p.cursor += 2
		k := aWord
		if ch == 'b' && p.peek() == '{' && p.get(p.cursor+1) == 'g' {
			p.failAt(start, "grapheme boundaries (\\b{g}) are not supported; use \\b")
		}
		if p.has(UnicodeClass) {
			k = aUWord
		}
		if ch == 'B' {
			k++
		}
		return assert(k)
	case 'A':
		p.cursor += 2
		return assert(aBegin)
	case 'G':
		p.cursor += 2
		return assert(aLast)
	case 'Z':
		p.cursor += 2
		return p.final()
	case 'z':
		p.cursor += 2
		return assert(aEnd)
	case 'R':
		p.cursor += 2
		crlf := cat(&node{op: nSet, set: runes('\r')}, &node{op: nSet, set: runes('\n')})
		return &node{op: nAlt, subs: []*node{crlf, {op: nSet, set: setVert}}, crlf: true}
	case 'X':
		p.failAt(start, "grapheme clusters (\\X) are not supported; use . for a character or \\P{M}\\p{M}* for a base character and its marks")
	}
	set, r := p.escape(false)
	if set != nil {
		return &node{op: nSet, set: set}
	}
	return p.single(r)
}

// escape reads what follows a backslash, where that is a character (set is
// nil) or a set, in or outside a class. isRange: a '-' follows.
func (p *parser) escape(isRange bool) (set runeSet, r rune) {
	start := p.cursor
	uni := p.has(UnicodeClass)
	either := func(ascii runeSet, unicodeSet func() runeSet) runeSet {
		if uni {
			return unicodeSet()
		}
		return ascii
	}
	digit := func() runeSet { return catSet("Nd") }
	switch ch := p.skip(); ch {
	case '0':
		return nil, p.octal()
	case 'D':
		return either(setDigit, digit).negate(), 0
	case 'd':
		return either(setDigit, digit), 0
	case 'S':
		return either(setSpace, whiteSet).negate(), 0
	case 's':
		return either(setSpace, whiteSet), 0
	case 'W':
		return either(setWord, unicodeWord).negate(), 0
	case 'w':
		return either(setWord, unicodeWord), 0
	case 'H':
		return setHoriz.negate(), 0
	case 'h':
		return setHoriz, 0
	case 'V':
		return setVert.negate(), 0
	case 'v':
		if isRange {
			return nil, 0x0B
		}
		return setVert, 0
	case 'N':
		p.failAt(start, "characters by name (\\N{…}) are not supported; write \\x{h…h}")
	case 'a':
		return nil, 0x07
	case 'c':
		if p.cursor >= p.n {
			p.fail("\\c must be followed by a control character's letter, as in \\cI")
		}
		return nil, p.read() ^ 64
	case 'e':
		return nil, 0x1B
	case 'f':
		return nil, '\f'
	case 'n':
		return nil, '\n'
	case 'r':
		return nil, '\r'
	case 't':
		return nil, '\t'
	case 'u':
		return nil, p.utf16()
	case 'x':
		return nil, p.hex()
	default:
		if isAlpha(ch) || isDigit(ch) {
			p.failAt(start, "Java has no escape \\%c here; write \\\\ for a backslash", ch)
		}
		if ch == 0 && start+1 >= p.n {
			p.failAt(start, "the backslash at the end escapes nothing; write \\\\ for a backslash (in an agent file, where one is eaten by the file's own escapes: \\\\\\\\)")
		}
		return nil, ch
	}
	panic("BUG: unreachable")
}

func octalDigit(c rune) bool { return '0' <= c && c <= '7' }

func (p *parser) octal() rune {
	n := p.read()
	if !octalDigit(n) {
		p.fail("\\0 must be followed by one to three octal digits")
	}
	v := n - '0'
	m := p.read()
	if !octalDigit(m) {
		p.cursor--
		return v
	}
	v = v*8 + m - '0'
	o := p.read()
	if !octalDigit(o) || n > '3' {
		p.cursor--
		return v
	}
	return v*8 + o - '0'
}

func (p *parser) hex() rune {
	c := p.read()
	if h, ok := hexValue(c); ok {
		if l, ok := hexValue(p.read()); ok {
			return rune(h*16 + l)
		}
		p.fail("\\x must be followed by two hexadecimal digits, or by {h…h}")
	}
	if _, ok := hexValue(p.peek()); c != '{' || !ok {
		p.fail("\\x must be followed by two hexadecimal digits, or by {h…h}")
	}
	v := 0
	for {
		c = p.read()
		d, ok := hexValue(c)
		if !ok {
			break
		}
		if v = v<<4 + d; v > unicode.MaxRune {
			p.fail("there is no such character: the last is \\x{10FFFF}")
		}
	}
	if c != '}' {
		p.fail("the closing } of \\x{…} is missing")
	}
	return rune(v)
}

func (p *parser) hex4() rune {
	v := 0
	for range 4 {
		d, ok := hexValue(p.read())
		if !ok {
			p.fail("\\u must be followed by four hexadecimal digits")
		}
		v = v<<4 + d
	}
	return rune(v)
}

// utf16 reads \uXXXX, and a surrogate pair of two of them as one character.
func (p *parser) utf16() rune {
	r := p.hex4()
	if r >= 0xD800 && r < 0xDC00 {
		cur := p.cursor
		if p.read() == '\\' && p.read() == 'u' {
			if l := p.hex4(); l >= 0xDC00 && l < 0xE000 {
				return (r-0xD800)<<10 + (l - 0xDC00) + 0x10000
			}
		}
		p.cursor = cur
	}
	return r
}
