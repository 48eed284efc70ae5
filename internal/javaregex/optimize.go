package javaregex

import (
	"strings"
	"unicode/utf8"
)

// chainEl is a literal that every match has, in the order in which it has
// them. Before the backtracker starts, the last place where each can be is
// found, from the last to the first: a line that lacks one is refused, and a
// greedy run in front of one starts to give back there, not at its end.
type chainEl struct {
	lit literal
	gap int // bytes that a match has at least between it and the next one
}

// maxAnalysed bounds the analyses below, which take quadratic time.
const maxAnalysed = 2000

// through follows captures.
func (p *prog) through(pc int32) int32 {
	for p.insts[pc].op == opCapStart || p.insts[pc].op == opCapEnd {
		pc = p.insts[pc].out
	}
	return pc
}

// optimize marks what the backtracker can use.
func (p *prog) optimize() {
	if len(p.insts) > maxAnalysed {
		return
	}
	place := p.findChain()
	for i := range p.insts {
		in := &p.insts[i]
		if in.op != opRun && in.op != opRunLazy {
			continue
		}
		to := p.through(in.out)
		if p.insts[to].op == opLit {
			in.next = newLiteral(p.insts[to].lit)
			in.chain = -1
			if c, ok := place[to]; ok {
				in.chain = c
			}
		}
		if in.op == opRun && p.neverGivesBack(in) {
			in.op, in.next = opRunOnly, literal{}
		}
	}
}

// spine lists the instructions that every match passes, in order.
func (p *prog) spine() []int32 {
	// The nearest instruction that all paths from pc to the match meet.
	// Found by a round of refinements until nothing changes; an entry is the
	// immediate post-dominator, order the number in a walk back from the match.
	n := len(p.insts)
	succ := func(pc int32) []int32 {
		in := &p.insts[pc]
		switch in.op {
		case opMatch, opFail:
			return nil
		case opSplit, opProgress:
			return []int32{in.out, in.alt}
		}
		return []int32{in.out}
	}
	preds := make([][]int32, n)
	for pc := range int32(n) {
		for _, s := range succ(pc) {
			preds[s] = append(preds[s], pc)
		}
	}
	const match = 1
	order := make([]int, n) // postorder numbers of the reversed graph, 0: not seen
	var post []int32
	type frame struct {
		pc int32
		i  int
	}
	seen := make([]bool, n)
	seen[match] = true
	for st := []frame{{match, 0}}; len(st) > 0; {
		f := &st[len(st)-1]
		if f.i < len(preds[f.pc]) {
			q := preds[f.pc][f.i]
			f.i++
			if !seen[q] {
				seen[q] = true
				st = append(st, frame{q, 0})
			}
			continue
		}
		post = append(post, f.pc)
		order[f.pc] = len(post)
		st = st[:len(st)-1]
	}
	idom := make([]int32, n)
	for i := range idom {
		idom[i] = -1
	}
	idom[match] = match
	for changed := true; changed; {
		changed = false
		for i := len(post) - 2; i >= 0; i-- {
			pc := post[i]
			best := int32(-1)
			for _, s := range succ(pc) {
				if !seen[s] || idom[s] < 0 {
					continue
				}
				if best < 0 {
					best = s
					continue
				}
				for a := s; a != best; {
					for order[a] < order[best] {
						a = idom[a]
					}
					for order[best] < order[a] {
						best = idom[best]
					}
				}
			}
			if best >= 0 && idom[pc] != best {
				idom[pc], changed = best, true
			}
		}
	}
	if !seen[p.start] {
		return nil // nothing can match
	}
	var out []int32
	for pc := p.start; pc != match; pc = idom[pc] {
		out = append(out, pc)
	}
	return out
}

// findChain fills p.chain and answers the place in it of each instruction.
func (p *prog) findChain() map[int32]int32 {
	place := map[int32]int32{}
	for _, pc := range p.spine() {
		in := &p.insts[pc]
		gap := 0
		switch in.op {
		case opLit:
			place[pc] = int32(len(p.chain))
			p.chain = append(p.chain, chainEl{lit: newLiteral(in.lit)})
		case opByte, opChar:
			gap = 1
		case opRun, opRunLazy, opRunOnly:
			gap = in.min
		}
		if n := len(p.chain); n > 0 {
			p.chain[n-1].gap = clampAdd(p.chain[n-1].gap, gap)
		}
	}
	return place
}

// neverGivesBack says that a run that gave something back would only fail:
// what comes after it cannot begin with one of its own characters.
func (p *prog) neverGivesBack(in *inst) bool {
	f := firstFinder{p: p, run: in.cls.set, seen: map[int32]bool{}}
	set, empty := f.first(in.out)
	return !empty && len(set.intersect(in.cls.set)) == 0
}

// firstFinder finds what a program can begin with.
type firstFinder struct {
	p    *prog
	seen map[int32]bool
	// run is set when the question is what comes after a run of these: it is
	// asked about places that are followed by one of them, and nothing is
	// tried again when the whole match is there.
	run runeSet
}

// first is the set of characters that what begins at pc can begin with, and
// whether it can end without one.
func (f *firstFinder) first(pc int32) (set runeSet, empty bool) {
	if f.seen[pc] {
		return nil, false
	}
	f.seen[pc] = true
	in := &f.p.insts[pc]
	switch in.op {
	case opFail:
		return nil, false
	case opMatch:
		return nil, f.run == nil || pc != 1
	case opByte, opChar:
		return in.cls.set, false
	case opLit:
		r, _ := utf8.DecodeRuneInString(in.lit)
		return runeSet{r, r}, false
	case opSplit, opProgress:
		a, e1 := f.first(in.out)
		b, e2 := f.first(in.alt)
		return a.union(b), e1 || e2
	case opRun, opRunLazy, opRunOnly:
		if in.min > 0 {
			return in.cls.set, false
		}
		a, e := f.first(in.out)
		return a.union(in.cls.set), e
	case opAssert:
		switch in.as {
		case aEnd, aFinal, aFinalNL, aLineEnd, aLineEndNL:
			if f.run != nil && len(f.run.intersect(setTerm)) == 0 {
				return nil, false // cannot hold inside the run
			}
		}
		set, empty = f.first(in.out)
		return set, empty || f.reachesMatch(in.out)
	case opCapStart, opCapEnd, opMark:
		return f.first(in.out)
	}
	return setAll, true
}

// reachesMatch says that the match may follow pc at once, or that it is not
// plain that it does not.
func (f *firstFinder) reachesMatch(pc int32) bool {
	switch in := &f.p.insts[f.p.through(pc)]; in.op {
	case opByte, opChar, opLit:
		return false
	case opRun, opRunLazy, opRunOnly:
		return in.min == 0
	}
	return true
}

// search says where matches can begin.
type search struct {
	anchored bool // only at the front
	// lit must be in a match, skip characters after its start.
	lit  literal
	skip int
	// bound: the places of the chain's literals are of use.
	bound bool
	// first holds the bytes that a match can begin with, where hasFirst is set.
	hasFirst bool
	first    [256]bool
	// leading is the run that the pattern begins with: when an attempt fails
	// so do those from inside the same run.
	leading *class
}

func (p *prog) newSearch() search {
	var s search
	if len(p.insts) > maxAnalysed {
		return s
	}
	s.bound = len(p.chain) > 0
	start := p.through(p.start)
	switch in := &p.insts[start]; {
	case in.op == opAssert && in.as == aBegin:
		s.anchored = true
		return s
	case (in.op == opRun || in.op == opRunOnly || in.op == opRunLazy) && in.max == inf && in.min <= 1 && p.regular:
		s.leading = in.cls
	}
	skip, rank := 0, 0
walk:
	for pc := start; ; pc = p.through(p.insts[pc].out) {
		switch in := &p.insts[pc]; in.op {
		case opLit:
			if r := litRank(in.lit); r > rank {
				rank, s.lit, s.skip = r, newLiteral(in.lit), skip
			}
			skip += utf8.RuneCountInString(in.lit)
		case opByte, opChar:
			skip++
		case opRun, opRunLazy, opRunOnly:
			if in.min != in.max || in.min > 64 {
				break walk
			}
			skip += in.min
		default:
			break walk
		}
	}
	if s.lit.s != "" {
		// The search alone finds the only one.
		s.bound = len(p.chain) > 1
		return s
	}
	f := firstFinder{p: p, seen: map[int32]bool{}}
	if set, empty := f.first(p.start); !empty && len(set) > 0 {
		s.hasFirst = true
		n := 0
		for b := range 256 {
			if b < utf8.RuneSelf {
				s.first[b] = set.contains(rune(b))
			} else {
				s.first[b] = set[len(set)-1] >= utf8.RuneSelf
			}
			if s.first[b] {
				n++
			}
		}
		s.hasFirst = n < 200
	}
	return s
}

// litRank estimates how rare a literal is in logs: the longer the rarer, then
// by its rarest byte.
func litRank(lit string) int {
	l := newLiteral(lit)
	r := strings.IndexByte(byFrequency, lit[l.rare])
	if r < 0 {
		r = len(byFrequency)
	}
	return 1 + r + 40*len(lit)
}
