package javaregex

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"unicode"
	"unicode/utf8"
)

// dfa answers whether a regular program matches anywhere in an input, one
// table look-up per character. Its states are made when they are first
// reached; it is safe for concurrent use.
//
// The alphabet is not bytes but groups of characters that the program does not
// tell apart, so that malformed bytes are U+FFFD as in Java.
type dfa struct {
	p        *prog
	anchored bool
	ascii    [utf8.RuneSelf]uint16 // group of each ASCII character
	starts   []rune                // first character of each range …
	groups   []uint16              // … and its group
	traits   []trait               // of each group
	sample   []rune                // a character of each group
	mask     trait                 // those that the program's assertions ask for
	useFinal bool                  // $ occurs: the place before a final terminator is special
	finalNL  bool
	cache    atomic.Pointer[dfaCache]
}

// trait is what assertions ask of a neighbouring character.
type trait uint8

const (
	tBegin trait = 1 << iota // there is none before
	tWord
	tUWord
	tBase
	tMark // a mark, before resolve
	tCR
	tNL
	tTerm
)

type dfaState struct {
	pcs   []int32 // where paths are, before assertions and splits
	prev  trait
	match bool
	atEnd atomic.Int32               // whether the input may end here: 0 not known, 1 no, 2 yes
	next  []atomic.Pointer[dfaState] // by group
}

type dfaCache struct {
	mu     sync.Mutex
	states map[string]*dfaState
	size   atomic.Int64
	start  *dfaState
}

// maxDFA bounds the cache of one pattern, in bytes, roughly.
const maxDFA = 1 << 20

var dfaMatched = &dfaState{match: true}

// newDFA answers nil for a program that it cannot run.
func newDFA(p *prog, anchored bool) *dfa {
	d := &dfa{p: p, anchored: anchored}
	var sets []runeSet
	words, lines, final := false, false, false
	for i := range p.insts {
		switch in := &p.insts[i]; in.op {
		case opByte, opChar:
			sets = append(sets, in.cls.set)
		case opAssert:
			switch in.as {
			case aWord, aNotWord, aUWord, aNotUWord:
				words = true
			case aFinal, aFinalNL:
				if final && d.finalNL != (in.as == aFinalNL) {
					return nil // two places would be special
				}
				final, d.finalNL = true, in.as == aFinalNL
			case aLineBeg, aLineBegNL, aLineEnd, aLineEndNL:
				lines = true
			}
		}
	}
	if words {
		sets = append(sets, catSet("L", "Nd"), runes('_'), tableSet(unicode.Mn), unicodeWord())
	}
	if lines {
		sets = append(sets, runes('\n'), runes('\r'), setTerm)
	}
	d.useFinal = final
	d.mask = tBegin
	if words {
		d.mask |= tWord | tUWord | tBase
	}
	if lines {
		d.mask |= tCR | tNL | tTerm
	}
	cuts := []rune{0}
	for _, s := range sets {
		for i := 0; i < len(s); i += 2 {
			cuts = append(cuts, s[i], s[i+1]+1)
		}
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	groups := map[string]uint16{}
	for _, r := range cuts {
		if r > maxRune {
			break
		}
		sig := make([]byte, len(sets))
		for i, s := range sets {
			if s.contains(r) {
				sig[i] = 1
			}
		}
		g, ok := groups[string(sig)]
		if !ok {
			g = uint16(len(groups))
			groups[string(sig)] = g
			d.sample = append(d.sample, r)
			d.traits = append(d.traits, traitOf(r))
		}
		d.starts, d.groups = append(d.starts, r), append(d.groups, g)
	}
	for r := range rune(utf8.RuneSelf) {
		d.ascii[r] = d.group(r)
	}
	d.reset()
	return d
}

func (d *dfa) group(r rune) uint16 {
	i, ok := slices.BinarySearch(d.starts, r)
	if !ok {
		i--
	}
	return d.groups[i]
}

func traitOf(r rune) (t trait) {
	if isWordRune(r, false) {
		t |= tWord
	}
	if isWordRune(r, true) {
		t |= tUWord
	}
	if isBase(r) {
		t |= tBase
	}
	if unicode.Is(unicode.Mn, r) {
		t |= tMark
	}
	switch {
	case r == '\r':
		t |= tCR | tTerm
	case r == '\n':
		t |= tNL | tTerm
	case isTerm(r):
		t |= tTerm
	}
	return t
}

// resolve makes a mark what it stands on.
func resolve(prev, t trait) trait {
	if t&tMark != 0 {
		t &^= tMark
		if prev&tBase != 0 {
			t |= tWord | tUWord | tBase
		}
	}
	return t
}

func (d *dfa) reset() *dfaCache {
	c := &dfaCache{states: map[string]*dfaState{}}
	c.start = d.state(c, []int32{d.p.start}, tBegin)
	d.cache.Store(c)
	return c
}

func (d *dfa) state(c *dfaCache, pcs []int32, prev trait) *dfaState {
	key := make([]byte, 0, 1+4*len(pcs))
	key = append(key, byte(prev))
	for _, pc := range pcs {
		key = binary.LittleEndian.AppendUint32(key, uint32(pc))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.states[string(key)]; s != nil {
		return s
	}
	s := &dfaState{pcs: slices.Clone(pcs), prev: prev, next: make([]atomic.Pointer[dfaState], len(d.traits))}
	c.states[string(key)] = s
	c.size.Add(int64(2*len(key) + 8*len(d.traits) + 128))
	return s
}

// match says whether the program matches anywhere in b.
func (d *dfa) match(b []byte) bool {
	c := d.cache.Load()
	s := c.start
	special := -1
	if d.useFinal {
		special = d.finalPlace(b)
	}
	for pos := 0; pos < len(b); {
		g, w := uint16(0), 1
		if x := b[pos]; x < utf8.RuneSelf {
			g = d.ascii[x]
		} else {
			var r rune
			r, w = decode(b[pos:])
			g = d.group(r)
		}
		if pos == special {
			s = d.step(c, s, g, true)
		} else if n := s.next[g].Load(); n != nil {
			s = n
		} else {
			n = d.step(c, s, g, false)
			s.next[g].Store(n)
			s = n
			if c.size.Load() > maxDFA && !s.match {
				pcs, prev := s.pcs, s.prev
				c = d.reset()
				s = d.state(c, pcs, prev)
			}
		}
		if s.match {
			return true
		}
		if len(s.pcs) == 0 {
			return false
		}
		pos += w
	}
	if s.atEnd.Load() == 0 {
		if d.closure(s, 0, true, true, new(dfaWork)) {
			s.atEnd.Store(2)
		} else {
			s.atEnd.Store(1)
		}
	}
	return s.atEnd.Load() == 2
}

// finalPlace is where $ holds before the end, or -1.
func (d *dfa) finalPlace(b []byte) int {
	for n := 1; n <= 3 && n <= len(b); n++ {
		if d.finalNL {
			if n == 1 && b[len(b)-1] == '\n' {
				return len(b) - 1
			}
			continue
		}
		if finalAt(b, len(b)-n) {
			return len(b) - n
		}
	}
	return -1
}

// dfaWork collects the instructions of a closure.
type dfaWork struct {
	seen []bool
	pcs  []int32
}

// step makes the state after s and a character of group g.
func (d *dfa) step(c *dfaCache, s *dfaState, g uint16, final bool) *dfaState {
	var w dfaWork
	next := resolve(s.prev, d.traits[g])
	if d.closure(s, next, false, final, &w) {
		return dfaMatched
	}
	var pcs []int32
	r := d.sample[g]
	for _, pc := range w.pcs {
		if in := &d.p.insts[pc]; in.cls.has(r) {
			pcs = append(pcs, in.out)
		}
	}
	if !d.anchored {
		pcs = append(pcs, d.p.start)
	}
	slices.Sort(pcs)
	return d.state(c, slices.Compact(pcs), next&d.mask)
}

// closure follows splits and assertions from s's instructions to those that
// consume a character; it says whether the match was reached.
func (d *dfa) closure(s *dfaState, next trait, end, final bool, w *dfaWork) bool {
	w.seen = make([]bool, len(d.p.insts))
	stack := slices.Clone(s.pcs)
	for len(stack) > 0 {
		pc := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if w.seen[pc] {
			continue
		}
		w.seen[pc] = true
		switch in := &d.p.insts[pc]; in.op {
		case opMatch:
			return true
		case opByte, opChar:
			w.pcs = append(w.pcs, pc)
		case opSplit:
			stack = append(stack, in.out, in.alt)
		case opAssert:
			if holdsBetween(in.as, s.prev, next, end, final) {
				stack = append(stack, in.out)
			}
		case opCapStart, opCapEnd:
			stack = append(stack, in.out)
		}
	}
	return false
}

// holdsBetween is scratch.holds by the traits of the neighbours.
func holdsBetween(k assertKind, prev, next trait, end, final bool) bool {
	switch k {
	case aBegin, aLast:
		return prev&tBegin != 0
	case aEnd:
		return end
	case aFinal, aFinalNL:
		return end || final
	case aLineBeg:
		return !end && (prev&tBegin != 0 || prev&tTerm != 0 && (prev&tCR == 0 || next&tNL == 0))
	case aLineBegNL:
		return !end && prev&(tBegin|tNL) != 0
	case aLineEnd:
		return end || next&tTerm != 0 && (next&tNL == 0 || prev&tCR == 0)
	case aLineEndNL:
		return end || next&tNL != 0
	case aWord:
		return (prev^next)&tWord != 0
	case aNotWord:
		return (prev^next)&tWord == 0
	case aUWord:
		return (prev^next)&tUWord != 0
	case aNotUWord:
		return (prev^next)&tUWord == 0
	}
	panic("BUG: unknown assertion")
}
