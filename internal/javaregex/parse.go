package javaregex

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Flags have the values of java.util.regex.Pattern's.
type Flags uint32

// The flags of java.util.regex.Pattern, without CANON_EQ.
const (
	UnixLines       Flags = 0x01  // (?d)
	CaseInsensitive Flags = 0x02  // (?i)
	Comments        Flags = 0x04  // (?x)
	Multiline       Flags = 0x08  // (?m)
	Literal         Flags = 0x10  // the pattern is a plain string
	DotAll          Flags = 0x20  // (?s)
	UnicodeCase     Flags = 0x40  // (?u)
	UnicodeClass    Flags = 0x100 // (?U)
)

// SyntaxError says where a pattern is wrong.
type SyntaxError struct {
	Pattern string
	Offset  int    // in bytes, into Pattern
	Msg     string // what is wrong, and what to write instead
}

func (e *SyntaxError) Error() string {
	at := "at the end"
	if e.Offset < len(e.Pattern) {
		rest := []rune(e.Pattern[e.Offset:])
		at = fmt.Sprintf("at character %d (%q)", utf8.RuneCountInString(e.Pattern[:e.Offset])+1, string(rest[:min(len(rest), 8)]))
	}
	return fmt.Sprintf("regular expression %q, %s: %s", e.Pattern, at, e.Msg)
}

// maxNesting bounds recursion: a pattern of a million brackets must not end
// the process.
const maxNesting = 500

// parser reads Java's syntax. It keeps Java's own structure (a cursor into a
// zero-terminated array of code points) because what odd patterns mean follows
// from it: `x{2}{3}` repeats x twice and then nothing three times.
type parser struct {
	pattern string
	temp    []rune
	at      []int // byte offset in pattern of each entry of temp
	n       int   // length without the terminators
	cursor  int
	flags   Flags
	caps    int // capturing groups so far, group 0 included
	names   map[string]int
	order   []string // names in order of their groups
	depth   int
}

func (p *parser) has(f Flags) bool { return p.flags&f != 0 }

func (p *parser) fold() foldKind {
	switch {
	case !p.has(CaseInsensitive):
		return foldNone
	case p.has(UnicodeCase):
		return foldUnicode
	}
	return foldASCII
}

// fail ends parsing; parse recovers. The position is that of the last
// character read.
func (p *parser) fail(format string, args ...any) {
	c := min(max(p.cursor-1, 0), len(p.at)-1)
	p.failAt(c, format, args...)
}

func (p *parser) failAt(c int, format string, args ...any) {
	panic(&SyntaxError{Pattern: p.pattern, Offset: p.at[c], Msg: fmt.Sprintf(format, args...)})
}

func parse(pattern string, flags Flags) (n *node, p *parser, err error) {
	p = &parser{pattern: pattern, flags: flags, caps: 1, names: map[string]int{}}
	if flags&UnicodeClass != 0 {
		p.flags |= UnicodeCase
	}
	for i, r := range pattern {
		p.temp = append(p.temp, r)
		p.at = append(p.at, i)
	}
	p.n = len(p.temp)
	if !p.has(Literal) {
		p.unquote()
	}
	p.temp = append(p.temp, 0, 0, 0)
	p.at = append(p.at, len(pattern), len(pattern), len(pattern))
	defer func() {
		if r := recover(); r != nil {
			se, ok := r.(*SyntaxError)
			if !ok {
				panic(r)
			}
			n, err = nil, se
		}
	}()
	if p.has(Literal) {
		n = &node{op: nCat}
		for _, r := range p.temp[:p.n] {
			n.subs = append(n.subs, p.single(r))
		}
		return n, p, nil
	}
	n = p.expr()
	if p.cursor < p.n {
		if p.peek() == ')' {
			p.failAt(p.cursor, "there is no opening bracket for this one; write \\) for a bracket in the text")
		}
		p.failAt(p.cursor, "unexpected character")
	}
	return n, p, nil
}

// unquote turns \Q…\E into escapes, as Java does before it parses.
func (p *parser) unquote() {
	i := 0
	for i < p.n-1 && (p.temp[i] != '\\' || p.temp[i+1] != 'Q') {
		if p.temp[i] == '\\' {
			i++
		}
		i++
	}
	if i >= p.n-1 {
		return
	}
	in, at := append(p.temp, 0, 0), append(p.at, len(p.pattern), len(p.pattern))
	out, outAt := append([]rune(nil), in[:i]...), append([]int(nil), at[:i]...)
	put := func(from int, rs ...rune) {
		for _, r := range rs {
			out, outAt = append(out, r), append(outAt, at[from])
		}
	}
	i += 2
	quoted, first := true, true
	for i < p.n {
		c := in[i]
		i++
		switch {
		case c >= utf8.RuneSelf || isAlpha(c):
			put(i-1, c)
		case isDigit(c):
			if first { // must not continue an escape before the quote
				put(i-1, '\\', 'x', '3')
			}
			put(i-1, c)
		case c != '\\':
			if quoted {
				put(i-1, '\\')
			}
			put(i-1, c)
		case quoted:
			if in[i] == 'E' {
				i++
				quoted = false
			} else {
				put(i-1, '\\', '\\')
			}
		default:
			if in[i] == 'Q' {
				i++
				quoted, first = true, true
				continue
			}
			put(i-1, c)
			if i != p.n {
				put(i, in[i])
				i++
			}
		}
		first = false
	}
	p.temp, p.at, p.n = out, outAt, len(out)
}

func isAlpha(c rune) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' && c < utf8.RuneSelf }
func isDigit(c rune) bool { return '0' <= c && c <= '9' }
func isSpace(c rune) bool { return c == ' ' || '\t' <= c && c <= '\r' }

func hexValue(c rune) (int, bool) {
	switch {
	case isDigit(c):
		return int(c - '0'), true
	case 'a' <= c|0x20 && c|0x20 <= 'f' && c < utf8.RuneSelf:
		return int(c|0x20-'a') + 10, true
	}
	return 0, false
}

// The cursor. peek, read and next skip white space and comments under (?x).

func (p *parser) get(i int) rune {
	if i < len(p.temp) {
		return p.temp[i]
	}
	return 0
}

func (p *parser) peek() rune {
	if p.has(Comments) {
		p.skipSpace()
	}
	return p.get(p.cursor)
}

func (p *parser) read() rune {
	c := p.peek()
	p.cursor++
	return c
}

func (p *parser) next() rune {
	p.cursor++
	return p.peek()
}

func (p *parser) skip() rune {
	c := p.get(p.cursor + 1)
	p.cursor += 2
	return c
}

func (p *parser) skipSpace() {
	for p.cursor < p.n {
		c := p.temp[p.cursor]
		if c == '#' {
			for p.cursor < p.n && !p.lineEnd(p.temp[p.cursor]) {
				p.cursor++
			}
			continue
		}
		if !isSpace(c) {
			return
		}
		p.cursor++
	}
}

func (p *parser) lineEnd(c rune) bool {
	if p.has(UnixLines) {
		return c == '\n'
	}
	return setTerm.contains(c)
}

// expr reads alternatives up to ) or the end.
func (p *parser) expr() *node {
	p.depth++
	if p.depth > maxNesting {
		p.fail("groups are nested more than %d deep", maxNesting)
	}
	defer func() { p.depth-- }()
	alts := []*node{p.sequence()}
	for p.peek() == '|' {
		p.next()
		alts = append(alts, p.sequence())
	}
	if len(alts) == 1 {
		return alts[0]
	}
	return &node{op: nAlt, subs: alts}
}

func (p *parser) sequence() *node {
	var subs []*node
	// The literal characters, so far, that no quantifier or group separates.
	var slice []*node
	endSlice := func() {
		if len(slice) > 1 {
			for _, n := range slice {
				n.set = sliceFold(n.ch, n.fold)
			}
		}
		slice = slice[:0]
	}
	defer endSlice()
	for {
		var n *node
		switch ch := p.peek(); ch {
		case '(':
			endSlice()
			if g := p.group(); g != nil {
				subs = append(subs, g)
			}
			continue
		case '[':
			n = &node{op: nSet, set: p.class(true).eval()}
		case '\\':
			n = p.escapeNode()
		case '^':
			p.next()
			switch {
			case p.has(Multiline) && p.has(UnixLines):
				n = assert(aLineBegNL)
			case p.has(Multiline):
				n = assert(aLineBeg)
			default:
				n = assert(aBegin)
			}
		case '$':
			p.next()
			switch {
			case p.has(Multiline) && p.has(UnixLines):
				n = assert(aLineEndNL)
			case p.has(Multiline):
				n = assert(aLineEnd)
			default:
				n = p.final()
			}
		case '.':
			p.next()
			switch {
			case p.has(DotAll):
				n = &node{op: nSet, set: setAll}
			case p.has(UnixLines):
				n = &node{op: nSet, set: setNotNL}
			default:
				n = &node{op: nSet, set: setDot}
			}
		case '|', ')':
			return cat(subs...)
		case '?', '*', '+':
			p.failAt(p.cursor, "there is nothing for %q to repeat; write \\%c for the character itself", string(ch), ch)
		case '{':
			n = &node{op: nEmpty} // Java repeats the empty string, or fails below
		default:
			if ch == 0 && p.cursor >= p.n {
				return cat(subs...)
			}
			p.next()
			n = p.single(ch)
		}
		q := p.closure(n, false)
		if n.literal && q == n {
			slice = append(slice, n)
		} else {
			endSlice()
		}
		subs = append(subs, q)
	}
}

func assert(k assertKind) *node { return &node{op: nAssert, as: k} }

func (p *parser) final() *node {
	if p.has(UnixLines) {
		return assert(aFinalNL)
	}
	return assert(aFinal)
}

func (p *parser) single(ch rune) *node {
	return &node{op: nSet, set: singleFold(ch, p.fold()), literal: true, ch: ch, fold: p.fold()}
}

func (p *parser) groupName(ch rune) string {
	if !isAlpha(ch) {
		p.fail("a group's name must begin with a Latin letter")
	}
	var sb strings.Builder
	for isAlpha(ch) || isDigit(ch) {
		sb.WriteRune(ch)
		ch = p.read()
	}
	if ch != '>' {
		p.fail("a group's name has only Latin letters and digits and ends with >")
	}
	return sb.String()
}

// group reads a group with its quantifier; nil for (?flags).
func (p *parser) group() *node {
	save, open := p.flags, p.cursor
	var n *node
	quantified := true // by the rules for groups
	ch := p.next()
	if ch == '?' {
		switch ch = p.skip(); ch {
		case ':':
			n = &node{op: nGroup, cap: -1, subs: []*node{p.expr()}}
		case '=', '!':
			n = &node{op: nLook, neg: ch == '!', subs: []*node{p.expr()}}
			quantified = false
		case '>':
			n = &node{op: nAtomic, subs: []*node{p.expr()}}
			quantified = false
		case '<':
			ch = p.read()
			if ch == '=' || ch == '!' {
				n = &node{op: nLook, neg: ch == '!', back: true, subs: []*node{p.expr()}}
				lo, hi, _ := n.subs[0].widths()
				n.min, n.max = lo, hi
				quantified = false
				break
			}
			name := p.groupName(ch)
			if _, dup := p.names[name]; dup {
				p.fail("there are two groups named %q", name)
			}
			p.names[name] = p.caps
			n = p.capture(name)
		case '$', '@':
			p.fail("Java has no group that begins with (?%c", ch)
		default:
			p.cursor--
			p.addFlags()
			switch ch = p.read(); ch {
			case ')':
				return nil // the flags hold to the end of the enclosing group
			case ':':
				n = &node{op: nGroup, cap: -1, subs: []*node{p.expr()}}
			default:
				p.fail("(? must be followed by one of : = ! > <= <! <name> or by flags out of idmsuxU")
			}
		}
	} else {
		n = p.capture("")
	}
	if p.read() != ')' {
		p.failAt(open, "this group is not closed: ) is missing; write \\( for a bracket in the text")
	}
	p.flags = save
	return p.closure(n, quantified)
}

func (p *parser) capture(name string) *node {
	n := &node{op: nGroup, cap: p.caps}
	p.caps++
	p.order = append(p.order, name)
	n.subs = []*node{p.expr()}
	return n
}

func (p *parser) addFlags() {
	on := true
	for ch := p.peek(); ; ch = p.next() {
		var f Flags
		switch ch {
		case 'i':
			f = CaseInsensitive
		case 'm':
			f = Multiline
		case 's':
			f = DotAll
		case 'd':
			f = UnixLines
		case 'u':
			f = UnicodeCase
		case 'x':
			f = Comments
		case 'U':
			f = UnicodeClass | UnicodeCase
		case 'c':
			p.failAt(p.cursor, "canonical equivalence (?c) is not supported; leave the flag out and write both forms of the character")
		case '-':
			if !on {
				return
			}
			on = false
			continue
		default:
			return
		}
		if on {
			p.flags |= f
		} else {
			p.flags &^= f
		}
	}
}

// closure reads the quantifier behind n, if there is one.
func (p *parser) closure(n *node, group bool) *node {
	lo, hi := 0, inf
	switch p.peek() {
	case '?':
		hi = 1
	case '*':
	case '+':
		lo = 1
	case '{':
		open := p.cursor
		ch := p.skip()
		if !isDigit(ch) {
			p.failAt(open, "{ must be followed by a number, as in {2} or {2,5}; write \\{ for a brace in the text")
		}
		number := func() int {
			v := 0
			for ; isDigit(ch); ch = p.read() {
				if v = v*10 + int(ch-'0'); v > inf {
					p.failAt(open, "the number of repetitions is above %d", inf)
				}
			}
			return v
		}
		lo = number()
		if ch == ',' {
			if ch = p.read(); ch != '}' {
				hi = number()
			}
		} else {
			hi = lo
		}
		if ch != '}' {
			p.failAt(open, "this { is not closed: write {n}, {n,} or {n,m}; \\{ for a brace in the text")
		}
		if hi < lo {
			p.failAt(open, "the greatest number of repetitions is below the least")
		}
		p.cursor--
	default:
		return n
	}
	// A repeated \R does not go back to match \r without its \n.
	if n.crlf {
		n = &node{op: nAtomic, subs: []*node{n}}
	} else if group && n.deterministic() && n.hasCRLF() {
		n.subs[0] = &node{op: nAtomic, subs: []*node{n.subs[0]}}
	}
	r := &node{op: nRepeat, subs: []*node{n}, min: lo, max: hi, fromGroup: group}
	switch p.next() {
	case '?':
		r.kind = lazy
		p.next()
	case '+':
		r.kind = possessive
		p.next()
	}
	return r
}
