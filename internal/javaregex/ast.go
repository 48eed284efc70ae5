package javaregex

type nodeOp uint8

const (
	nEmpty nodeOp = iota
	nSet          // one character of set
	nCat
	nAlt
	nRepeat
	nGroup // capturing, or (cap < 0) not
	nAssert
	nLook    // look-ahead or look-behind
	nAtomic  // (?>…)
	nBackref // cap is the group
)

type quantKind uint8

const (
	greedy quantKind = iota
	lazy
	possessive
)

type assertKind uint8

const (
	aBegin     assertKind = iota // \A, ^
	aEnd                         // \z
	aFinal                       // $, \Z: at the end or before the last line terminator
	aFinalNL                     // the same where only \n ends a line
	aLineBeg                     // (?m)^
	aLineBegNL                   // (?md)^
	aLineEnd                     // (?m)$
	aLineEndNL                   // (?md)$
	aWord                        // \b
	aNotWord                     // \B
	aUWord                       // \b with (?U)
	aNotUWord                    // \B with (?U)
	aLast                        // \G
)

const inf = 0x7FFFFFFF // Java's MAX_REPS

type node struct {
	op   nodeOp
	kind quantKind  // nRepeat
	as   assertKind // nAssert
	neg  bool       // nLook
	back bool       // nLook: look-behind
	fold foldKind   // nBackref, literals
	set  runeSet
	subs []*node
	cap  int
	// A character of the pattern itself, as it was written.
	literal bool
	ch      rune
	crlf    bool // \R
	min     int  // nRepeat; nLook back: characters
	max     int
	// fromGroup: the repeated thing was a group in the pattern's text, for
	// which Java's matcher has rules of its own (see comp.repeat).
	fromGroup bool
}

type foldKind uint8

const (
	foldNone foldKind = iota
	foldASCII
	foldUnicode
)

func cat(subs ...*node) *node {
	if len(subs) == 1 {
		return subs[0]
	}
	return &node{op: nCat, subs: subs}
}

// nullable says that n can match without consuming anything.
func (n *node) nullable() bool {
	switch n.op {
	case nSet:
		return false
	case nCat:
		for _, s := range n.subs {
			if !s.nullable() {
				return false
			}
		}
		return true
	case nAlt:
		for _, s := range n.subs {
			if s.nullable() {
				return true
			}
		}
		return false
	case nRepeat:
		return n.min == 0 || n.subs[0].nullable()
	case nGroup, nAtomic:
		return n.subs[0].nullable()
	}
	return true // empty, assertions, look-around; a back-reference may be empty
}

// hasCaps says that a capturing group is inside n.
func (n *node) hasCaps() bool {
	if n.op == nGroup && n.cap >= 0 {
		return true
	}
	for _, s := range n.subs {
		if s.hasCaps() {
			return true
		}
	}
	return false
}

// regular says that n is a regular language: finite automata can match it.
func (n *node) regular() bool {
	switch n.op {
	case nLook, nAtomic, nBackref:
		return false
	case nRepeat:
		if n.kind == possessive {
			return false
		}
	}
	for _, s := range n.subs {
		if !s.regular() {
			return false
		}
	}
	return true
}

// deterministic follows Java's own notion: a quantified group whose body never
// has a choice is matched by a simpler loop, whose treatment of captures and of
// empty iterations differs from the general one.
func (n *node) deterministic() bool {
	switch n.op {
	case nAlt:
		return n.crlf
	case nRepeat:
		return n.min == n.max && n.kind != possessive && n.subs[0].deterministic()
	case nCat, nGroup, nAtomic:
		for _, s := range n.subs {
			if !s.deterministic() {
				return false
			}
		}
	}
	return true
}

// hasCRLF says that \R is inside n.
func (n *node) hasCRLF() bool {
	if n.crlf {
		return true
	}
	for _, s := range n.subs {
		if s.hasCRLF() {
			return true
		}
	}
	return false
}

// widths gives the least and the most characters that n consumes; ok is false
// where there is no upper bound.
func (n *node) widths() (lo, hi int, ok bool) {
	switch n.op {
	case nSet:
		return 1, 1, true
	case nCat:
		ok = true
		for _, s := range n.subs {
			l, h, k := s.widths()
			lo, hi, ok = clampAdd(lo, l), clampAdd(hi, h), ok && k
		}
		return lo, hi, ok
	case nAlt:
		lo, ok = inf, true
		for _, s := range n.subs {
			l, h, k := s.widths()
			lo, hi, ok = min(lo, l), max(hi, h), ok && k
		}
		return lo, hi, ok
	case nRepeat:
		l, h, k := n.subs[0].widths()
		return clampMul(l, n.min), clampMul(h, n.max), k && (n.max != inf || h == 0)
	case nGroup, nAtomic:
		return n.subs[0].widths()
	case nBackref:
		return 0, inf, false
	}
	return 0, 0, true
}

func clampAdd(a, b int) int { return min(a+b, inf) }

func clampMul(a, b int) int {
	if a != 0 && b > inf/a {
		return inf
	}
	return a * b
}
