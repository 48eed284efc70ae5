package javaregex

import "unicode"

// classExpr is a bracket expression as Java builds it. It is evaluated only
// when it is complete: single characters below U+0100 collect in one bit set,
// and an intersection made earlier sees those that are added later.
type classExpr struct {
	op   byte // 's' set, '|', '&', '!'
	set  runeSet
	a, b *classExpr
}

func (c *classExpr) eval() runeSet {
	switch c.op {
	case '|':
		return c.a.eval().union(c.b.eval())
	case '&':
		return c.a.eval().intersect(c.b.eval())
	case '!':
		return c.a.eval().negate()
	}
	return append(runeSet(nil), c.set...).normal()
}

func (c *classExpr) or(d *classExpr) *classExpr {
	if c == nil || c == d {
		return d
	}
	return &classExpr{op: '|', a: c, b: d}
}

// class reads […] with the cursor on the opening bracket. Where consume is
// false it reads the right side of && without brackets of its own, up to the ]
// that closes the left side.
func (p *parser) class(consume bool) *classExpr {
	p.depth++
	if p.depth > maxNesting {
		p.fail("classes are nested more than %d deep", maxNesting)
	}
	defer func() { p.depth-- }()
	open := p.cursor
	var prev, curr *classExpr
	bits := &classExpr{op: 's'}
	neg, hasBits := false, false
	ch := p.next()
	if ch == '^' && p.cursor > 0 && p.get(p.cursor-1) == '[' {
		ch = p.next()
		neg = true
	}
	for {
		switch ch {
		case '[':
			curr = p.class(true)
			prev = prev.or(curr)
			ch = p.peek()
			continue
		case '&':
			ch = p.next()
			if ch != '&' {
				p.cursor-- // a literal &
				break
			}
			ch = p.next()
			var right *classExpr
			for ch != ']' && ch != '&' {
				if ch == 0 && p.cursor >= p.n {
					p.failAt(open, "this [ is not closed: ] is missing")
				}
				if ch == '[' {
					right = right.or(p.class(true))
				} else {
					p.cursor--
					right = right.or(p.class(false))
				}
				ch = p.peek()
			}
			if hasBits {
				if prev == nil {
					prev, curr = bits, bits
				} else {
					prev = prev.or(bits)
				}
				hasBits = false
			}
			if right != nil {
				curr = right
			}
			switch {
			case prev == nil && right == nil:
				p.fail("&& needs a class on both sides, as in [a-z&&[^b]]")
			case prev == nil:
				prev = right
			case curr == nil:
				p.fail("&& needs a class on both sides, as in [a-z&&[^b]]")
			default:
				prev = &classExpr{op: '&', a: prev, b: curr}
			}
			continue
		case ']':
			if prev != nil || hasBits {
				if consume {
					p.next()
				}
				if hasBits {
					prev = prev.or(bits)
				}
				if neg {
					return &classExpr{op: '!', a: prev}
				}
				return prev
			}
		case 0:
			if p.cursor >= p.n {
				p.failAt(open, "this [ is not closed: ] is missing; write \\[ for a bracket in the text")
			}
		}
		curr = p.classRange(bits)
		if curr == nil {
			hasBits = true
		} else {
			prev = prev.or(curr)
		}
		ch = p.peek()
	}
}

// classRange reads one character, escape or range; nil when it went to bits.
func (p *parser) classRange(bits *classExpr) *classExpr {
	start := p.cursor
	ch := p.peek()
	if ch == '\\' {
		e := p.get(p.cursor + 1)
		if e == 'p' || e == 'P' {
			p.cursor++
			return &classExpr{op: 's', set: p.family(e == 'P')}
		}
		set, r := p.escape(p.get(p.cursor+2) == '-')
		if set != nil {
			return &classExpr{op: 's', set: set}
		}
		ch = r
	} else {
		p.next()
	}
	if p.peek() == '-' {
		end := p.get(p.cursor + 1)
		if end == '[' {
			return p.classSingle(bits, ch)
		}
		if end != ']' {
			p.next()
			m := p.peek()
			if m == '\\' {
				set, r := p.escape(true)
				if set != nil {
					p.failAt(start, "a range must end with a character, not with a class; put the - first or last, or write \\-")
				}
				m = r
			} else {
				p.next()
			}
			if m < ch {
				p.failAt(start, "the range is backwards; put the - first or last, or write \\-, for a hyphen in the text")
			}
			return &classExpr{op: 's', set: rangeFold(ch, m, p.fold())}
		}
	}
	return p.classSingle(bits, ch)
}

func (p *parser) classSingle(bits *classExpr, ch rune) *classExpr {
	f := p.fold()
	if ch >= 0x100 || f == foldUnicode && (ch == 0xFF || ch == 0xB5 || ch == 0xC5 || ch == 0xE5 ||
		ch|0x20 == 'i' || ch|0x20 == 's' || ch|0x20 == 'k') {
		return &classExpr{op: 's', set: singleFold(ch, f)}
	}
	bits.set = append(bits.set, ch, ch)
	switch {
	case f != foldNone && isAlpha(ch):
		bits.set = append(bits.set, ch^0x20, ch^0x20)
	case f == foldUnicode && ch >= 0x80:
		l, u := unicode.ToLower(ch), unicode.ToUpper(ch)
		bits.set = append(bits.set, l, l, u, u)
	}
	return nil
}

// family reads \p{…}, with the cursor on the p.
func (p *parser) family(complement bool) runeSet {
	start := p.cursor - 1
	var name string
	if p.next(); p.get(p.cursor) != '{' {
		name = string(p.get(p.cursor))
		if p.cursor >= p.n {
			p.failAt(start, "\\p must be followed by a category's letter or by {name}")
		}
		p.cursor++
	} else {
		end := p.cursor + 1
		for end < p.n && p.temp[end] != '}' {
			end++
		}
		if end >= p.n {
			p.failAt(start, "the closing } of \\p{…} is missing")
		}
		name = string(p.temp[p.cursor+1 : end])
		p.cursor = end + 1
		if name == "" {
			p.failAt(start, "\\p{} names no property")
		}
	}
	s, ok := lookupProperty(name, p.has(CaseInsensitive), p.has(UnicodeClass))
	if !ok {
		p.failAt(start, "there is no character property %q; see java.util.regex.Pattern for the names, as \\p{L}, \\p{Alpha}, \\p{IsHangul}", name)
	}
	if complement {
		return s.negate()
	}
	return s
}
