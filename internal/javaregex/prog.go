package javaregex

import (
	"errors"
	"unicode/utf8"
)

type opcode uint8

const (
	opFail opcode = iota
	opMatch
	opByte     // one byte of tab, never part of a longer character
	opChar     // one character of cls
	opLit      // the bytes of lit
	opSplit    // out, then alt
	opCapStart // n is the group
	opCapEnd
	opAssert
	// The rest is in programs for the backtracker only.
	opRun      // min to max characters of cls, as many as possible
	opRunLazy  // … as few as possible
	opRunOnly  // … as many as possible, without giving back
	opLook     // body at alt, up to opMatch
	opBehind   // the same, tried from min to max characters before
	opAtomic   // the same
	opBackref  // n is the group
	opMark     // note the position in register n
	opProgress // out if something was consumed since opMark n, else alt
)

// inst is an instruction; a program is an array of them.
type inst struct {
	op   opcode
	as   assertKind
	neg  bool
	fold foldKind
	n    int32 // capture group or register
	out  int32
	alt  int32
	min  int
	max  int
	cls  *class
	lit  string
	// opRun: the literal that must follow, and its place in the chain of
	// literals that every match has (or -1).
	next  literal
	chain int32
	// opCapStart, opCapEnd: every match comes here exactly once, so there is
	// nothing to put back when a path fails.
	once bool
	// opRunOnly, see fuse: the group that is the run, and what one byte must
	// follow it; 0 and nil for none.
	group int32
	then  *class
}

// class is a set of characters made ready for matching bytes.
type class struct {
	set  runeSet
	tab  [256]bool // bytes below 0x80 that are members; the others if all or none of them are
	high highKind
	dot  bool // the set of the dot: everything but line terminators
}

type highKind uint8

const (
	highNone highKind = iota // no character from U+0080 on
	highAll
	highSome
)

func newClass(s runeSet) *class {
	c := &class{set: s}
	for r := rune(0); r < utf8.RuneSelf; r++ {
		c.tab[r] = s.contains(r)
	}
	high := s.intersect(runeSet{utf8.RuneSelf, maxRune})
	// Surrogates cannot come out of UTF-8.
	gaps := high.union(runeSet{0xD800, 0xDFFF})
	switch {
	case len(high) == 0:
		c.high = highNone
	case len(gaps) == 2 && gaps[0] == utf8.RuneSelf && gaps[1] == maxRune:
		c.high = highAll
		for b := utf8.RuneSelf; b < 256; b++ {
			c.tab[b] = true
		}
	default:
		c.high = highSome
	}
	if c.high == highSome && len(s) == len(setDot) {
		c.dot = true
		for i := range s {
			c.dot = c.dot && s[i] == setDot[i]
		}
	}
	return c
}

// step is the width of the member of c at pos, or 0.
func (c *class) step(b []byte, pos int) int {
	if pos >= len(b) {
		return 0
	}
	x := b[pos]
	if x < utf8.RuneSelf {
		if c.tab[x] {
			return 1
		}
		return 0
	}
	if c.high == highNone {
		return 0
	}
	r, n := decode(b[pos:])
	if c.high == highAll || c.set.contains(r) {
		return n
	}
	return 0
}

// run is the end of the longest run of members from pos.
func (c *class) run(b []byte, pos int) int {
	if c.dot {
		return dotRun(b, pos)
	}
	if c.high != highSome {
		tail := b[pos:]
		for i, x := range tail {
			if !c.tab[x] {
				return pos + i
			}
		}
		return len(b)
	}
	for pos < len(b) {
		n := c.step(b, pos)
		if n == 0 {
			break
		}
		pos += n
	}
	return pos
}

// runN is the end of a run of at most n members, and how many there were.
func (c *class) runN(b []byte, pos, n int) (end, count int) {
	if c.high == highNone {
		for count < n && pos < len(b) && c.tab[b[pos]] {
			pos++
			count++
		}
		return pos, count
	}
	for count < n {
		w := c.step(b, pos)
		if w == 0 {
			break
		}
		pos += w
		count++
	}
	return pos, count
}

type prog struct {
	insts   []inst
	start   int32
	chain   []chainEl // of the literals that every match has, in order
	regs    int
	regular bool
	quirk   bool // captures depend on what was given back, see comp.quirks
}

var errTooLarge = errors.New("the pattern is too large when its repetitions are written out; make the counts in {n,m} smaller")

const maxInsts = 20000

// comp turns a syntax tree into a program, from its end to its start.
//
// Java leaves a loop as soon as an iteration consumed nothing. Where automata
// must be able to run the program there is no register to know that by: what
// is inside loops whose body can be empty is then compiled once per number of
// such loops that have made progress, and a continuation is a vector of
// entries, indexed by that number. (A loop begun later lies inside the others,
// so consuming a character means that all of them have made progress.) Patterns
// with look-around and the like are for the backtracker alone and use registers.
type comp struct {
	insts []inst
	fast  bool // fused instructions, for the backtracker
	caps  bool
	// quirks: captures inside a repeated group keep what a given-back
	// iteration wrote to them, as in Java. Only the backtracker can do that.
	quirks  bool
	quirk   bool // and there was one
	regs    bool
	nregs   int32
	classes map[string]*class
	big     bool
}

type conts []int32

func (c *comp) emit(in inst) int32 {
	if len(c.insts) >= maxInsts {
		c.big = true
		return 0
	}
	in.chain = -1
	c.insts = append(c.insts, in)
	return int32(len(c.insts) - 1)
}

func (c *comp) class(s runeSet) *class {
	key := string(s)
	if cl := c.classes[key]; cl != nil {
		return cl
	}
	cl := newClass(s)
	c.classes[key] = cl
	return cl
}

// compile makes the program for n. fast is for the backtracker, otherwise the
// program has simple instructions only.
func compile(n *node, fast, caps bool) (*prog, error) {
	c := &comp{fast: fast, caps: caps, quirks: fast && caps, classes: map[string]*class{}}
	c.regs = !n.regular()
	c.emit(inst{op: opFail})
	match := c.emit(inst{op: opMatch})
	k := c.node(n, conts{match})
	if c.big {
		return nil, errTooLarge
	}
	p := &prog{insts: c.insts, start: k[0], regs: int(c.nregs), regular: !c.regs, quirk: c.quirk}
	p.optimize()
	return p, nil
}

// same makes a continuation vector of one entry for all states.
func same(pc int32, n int) conts {
	k := make(conts, n)
	for i := range k {
		k[i] = pc
	}
	return k
}

// each applies f once per different entry.
func each(k conts, f func(pc int32) int32) conts {
	out := make(conts, len(k))
	for i, pc := range k {
		if i > 0 && pc == k[i-1] {
			out[i] = out[i-1]
		} else {
			out[i] = f(pc)
		}
	}
	return out
}

func (c *comp) node(n *node, k conts) conts {
	if c.big {
		return k
	}
	last := k[len(k)-1]
	switch n.op {
	case nEmpty:
		return k
	case nSet:
		return same(c.char(n.set, last), len(k))
	case nCat:
		return c.cat(n.subs, k)
	case nAlt:
		out := c.node(n.subs[len(n.subs)-1], k)
		for i := len(n.subs) - 2; i >= 0; i-- {
			out = c.split(c.node(n.subs[i], k), out)
		}
		return out
	case nGroup:
		if n.cap < 0 || !c.caps {
			return c.node(n.subs[0], k)
		}
		k = each(k, func(pc int32) int32 { return c.emit(inst{op: opCapEnd, n: int32(n.cap), out: pc}) })
		k = c.node(n.subs[0], k)
		return each(k, func(pc int32) int32 { return c.emit(inst{op: opCapStart, n: int32(n.cap), out: pc}) })
	case nAssert:
		return each(k, func(pc int32) int32 { return c.emit(inst{op: opAssert, as: n.as, out: pc}) })
	case nRepeat:
		return c.repeat(n, k)
	case nLook:
		body := c.sub(n.subs[0])
		in := inst{op: opLook, neg: n.neg, alt: body}
		if n.back {
			in.op, in.min, in.max = opBehind, n.min, n.max
		}
		return each(k, func(pc int32) int32 { in.out = pc; return c.emit(in) })
	case nAtomic:
		return c.atomic(n.subs[0], k)
	case nBackref:
		return same(c.emit(inst{op: opBackref, n: int32(n.cap), fold: n.fold, out: last}), len(k))
	}
	panic("BUG: unknown node")
}

func (c *comp) split(a, b conts) conts {
	out := make(conts, len(a))
	for i := range a {
		if i > 0 && a[i] == a[i-1] && b[i] == b[i-1] {
			out[i] = out[i-1]
		} else {
			out[i] = c.emit(inst{op: opSplit, out: a[i], alt: b[i]})
		}
	}
	return out
}

// sub compiles a body that is run on its own.
func (c *comp) sub(n *node) int32 {
	return c.node(n, conts{c.emit(inst{op: opMatch})})[0]
}

func (c *comp) atomic(n *node, k conts) conts {
	body := c.sub(n)
	return each(k, func(pc int32) int32 { return c.emit(inst{op: opAtomic, alt: body, out: pc}) })
}

// char is one character of a set.
func (c *comp) char(s runeSet, out int32) int32 {
	if r, ok := s.single(); ok && c.fast && r != runeError && utf8.ValidRune(r) {
		return c.emit(inst{op: opLit, lit: string(r), out: out})
	}
	if len(s) == 0 {
		return 0
	}
	cl := c.class(s)
	if cl.high == highNone {
		return c.emit(inst{op: opByte, cls: cl, out: out})
	}
	return c.emit(inst{op: opChar, cls: cl, out: out})
}

// cat compiles a sequence; for the backtracker it joins literals.
func (c *comp) cat(subs []*node, k conts) conts {
	for i := len(subs) - 1; i >= 0; i-- {
		if c.fast && subs[i].op == nSet {
			j, lit := i, ""
			for ; j >= 0 && subs[j].op == nSet; j-- {
				r, ok := subs[j].set.single()
				if !ok || r == runeError || !utf8.ValidRune(r) {
					break
				}
				lit = string(r) + lit
			}
			if i-j > 1 {
				k = same(c.emit(inst{op: opLit, lit: lit, out: k[len(k)-1]}), len(k))
				i = j + 1
				continue
			}
		}
		k = c.node(subs[i], k)
	}
	return k
}

// repeat compiles X{min,max} by writing the iterations out. What it does with
// an empty iteration is what Java does: the loop ends there.
func (c *comp) repeat(n *node, k conts) conts {
	x := n.subs[0]
	if n.max == 0 {
		return k
	}
	if x.op == nSet && c.fast {
		in := inst{op: opRun, cls: c.class(x.set), min: n.min, max: n.max, out: k[len(k)-1]}
		switch n.kind {
		case lazy:
			in.op = opRunLazy
		case possessive:
			in.op = opRunOnly
		}
		if n.min > 0 || k[0] == k[len(k)-1] {
			return same(c.emit(in), len(k))
		}
		// Without a first character the run has made no progress: the two
		// cases go different ways. (Possessive runs are never here: k has
		// one entry where registers are used.)
		in.min = 1
		some := same(c.emit(in), len(k))
		if n.kind == lazy {
			return c.split(k, some)
		}
		return c.split(some, k)
	}
	if n.kind == possessive {
		return c.possessive(n, k)
	}
	if n.fromGroup && n.min == 0 && n.max == 1 {
		body := c.node(x, k)
		if n.kind == lazy {
			return c.split(k, body)
		}
		return c.split(body, k)
	}
	iter := func(k conts) conts { return c.node(x, k) }
	if n.fromGroup && x.deterministic() {
		if c.quirks && x.op == nGroup && x.subs[0].hasCaps() {
			// An iteration without choices that is given back leaves the
			// captures inside it as they are.
			c.quirk = true
			iter = func(k conts) conts { return c.kept(x, k) }
		}
		if lo, hi, ok := x.widths(); ok && lo == hi && hi == 0 {
			// Java undoes an optional iteration that consumed nothing, except
			// for the captures inside it.
			if c.quirks && x.op == nGroup && x.subs[0].hasCaps() && n.kind == greedy {
				k = c.split(c.atomic(x.subs[0], k), k)
			}
			if n.min > 0 {
				k = iter(k)
			}
			return k
		}
	}
	branch := func(body, k conts) conts {
		if n.kind == lazy {
			return c.split(k, body)
		}
		return c.split(body, k)
	}
	d := len(k) - 1
	nullable := x.nullable()
	if c.regs && nullable {
		plain, reg := iter, c.nregs
		c.nregs++
		iter = func(k conts) conts { // k: after an empty iteration, and after another
			pc := c.emit(inst{op: opProgress, n: reg, out: k[1], alt: k[0]})
			pc = plain(conts{pc})[0]
			return conts{c.emit(inst{op: opMark, n: reg, out: pc})}
		}
	}
	// after is where an iteration goes that ended in each state.
	after := func(again int32) conts {
		if !nullable {
			return same(again, len(k))
		}
		return append(append(conts(nil), k...), again)
	}
	trim := func(e conts) conts { return e[:len(k)] }
	var head conts // the optional iterations, in each state
	if n.max == inf {
		// The head that is entered with all outer loops having made progress
		// is the one that iterations return to: it is made first.
		h := c.emit(inst{op: opSplit})
		body := trim(iter(after(h)))
		if n.kind == lazy {
			c.insts[h].out, c.insts[h].alt = k[d], body[d]
		} else {
			c.insts[h].out, c.insts[h].alt = body[d], k[d]
		}
		head = make(conts, len(k))
		for s := range head {
			if s == d || body[s] == body[d] && k[s] == k[d] {
				head[s] = h
			} else {
				head[s] = branch(conts{body[s]}, conts{k[s]})[0]
			}
		}
	} else {
		head = k
		for range n.max - n.min {
			if c.big {
				return k
			}
			head = branch(trim(iter(after(head[d]))), k)
		}
	}
	for range n.min {
		if c.big {
			return k
		}
		head = trim(iter(after(head[d])))
	}
	return head
}

// kept compiles a group whose body has no choices so that captures inside the
// body stay when the group is given back.
func (c *comp) kept(x *node, k conts) conts {
	if x.cap >= 0 {
		k = each(k, func(pc int32) int32 { return c.emit(inst{op: opCapEnd, n: int32(x.cap), out: pc}) })
	}
	if lo, _, _ := x.widths(); lo > 0 {
		k = same(c.atomic(x.subs[0], k[len(k)-1:])[0], len(k))
	} else {
		k = c.atomic(x.subs[0], k)
	}
	if x.cap >= 0 {
		k = each(k, func(pc int32) int32 { return c.emit(inst{op: opCapStart, n: int32(x.cap), out: pc}) })
	}
	return k
}

// possessive: every iteration gives back nothing, and neither does the loop.
func (c *comp) possessive(n *node, k conts) conts {
	loop := &node{op: nRepeat, subs: []*node{{op: nAtomic, subs: n.subs}}, min: n.min, max: n.max}
	return c.atomic(loop, k)
}
