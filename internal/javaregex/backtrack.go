package javaregex

import (
	"unicode"
)

// frame is an entry of the backtracker's stack: where to go on when a path
// fails, or a value to put back.
type frame struct {
	pc   int32 // of the instruction to resume; < 0: put back
	a, b int
}

const (
	undoCap  = -1 // less the group: a, b are the group's bounds
	undoMark = -1 << 20
)

// scratch is what one match needs; it is pooled.
type scratch struct {
	stack  []frame
	caps   []int // bounds of the groups, -1: none
	opened []int // where the group that is being read began
	marks  []int
	bounds []int // last place of each literal of the chain
	work   int   // what may still be spent
	// The run of the dot that was found last is [dotFrom, dotEnd].
	dotFrom, dotEnd int
	last            int // where the previous match ended, for \G
	gaveUp          bool

	visited []uint64 // by the bit-state matcher: (instruction, position)
	threads pikeState
}

type status uint8

const (
	failed status = iota
	matched
	exhausted // the work allowed is used up
)

// maxStack bounds the memory of one match, in frames.
const (
	maxStack     = 1 << 16
	maxStackOnly = 1 << 20 // where there is no other engine to go on with
)

func (s *scratch) push(pc int32, a, b int) { s.stack = append(s.stack, frame{pc, a, b}) }

// bound finds the last place of each literal of the chain; false: one is missing.
func (s *scratch) bound(p *prog, b []byte, from int) bool {
	hi := len(b)
	for i := len(p.chain) - 1; i >= 0; i-- {
		el := &p.chain[i]
		at := el.lit.last(b, from, hi-el.gap-len(el.lit.s))
		if at < 0 {
			return false
		}
		s.bounds[i] = at
		hi = at
	}
	return true
}

func (s *scratch) dot(b []byte, pos int) int {
	if pos < s.dotFrom || pos > s.dotEnd {
		s.dotFrom, s.dotEnd = pos, dotRun(b, pos)
	}
	return s.dotEnd
}

// run follows the program from pc at pos up to opMatch (which counts only at
// must, unless that is negative) and answers where that was. The frames it
// leaves on the stack are dropped by the caller, with the captures as they are.
// With visited set it never tries an instruction twice at one position.
func (s *scratch) run(p *prog, b []byte, pc int32, pos, must int, visited []uint64) (int, status) {
	base := len(s.stack)
	limit := maxStack
	if !p.regular {
		limit = maxStackOnly
	}
	// Without a way back there is nothing to restore, unless what a failed
	// attempt leaves behind counts.
	keep := !p.regular || p.quirk
	for {
		in := &p.insts[pc]
		switch in.op {
		case opMatch:
			if must < 0 || pos == must {
				return pos, matched
			}
			goto fail
		case opFail:
			goto fail
		case opByte:
			if pos < len(b) && in.cls.tab[b[pos]] {
				pos++
				pc = in.out
				continue
			}
			goto fail
		case opChar:
			if pos < len(b) && b[pos] < 0x80 {
				if in.cls.tab[b[pos]] {
					pos++
					pc = in.out
					continue
				}
			} else if w := in.cls.step(b, pos); w > 0 {
				pos += w
				pc = in.out
				continue
			}
			goto fail
		case opLit:
			if len(in.lit) == 1 {
				if pos < len(b) && b[pos] == in.lit[0] {
					pos++
					pc = in.out
					continue
				}
			} else if n := pos + len(in.lit); n <= len(b) && string(b[pos:n]) == in.lit {
				pos = n
				pc = in.out
				continue
			}
			goto fail
		case opSplit:
			if visited != nil {
				bit := int(pc)*(len(b)+1) + pos
				if visited[bit>>6]&(1<<(bit&63)) != 0 {
					goto fail
				}
				visited[bit>>6] |= 1 << (bit & 63)
			}
			if len(s.stack) >= limit {
				return 0, exhausted
			}
			s.push(in.alt, pos, -1)
			pc = in.out
			continue
		case opCapStart:
			if !in.once && (keep || len(s.stack) > 0) {
				s.push(undoMark+in.n, s.opened[in.n], 0)
			}
			s.opened[in.n] = pos
			pc = in.out
			continue
		case opCapEnd:
			g := 2 * in.n
			if !in.once && (keep || len(s.stack) > 0) {
				s.push(undoCap-in.n, s.caps[g], s.caps[g+1])
			}
			s.caps[g], s.caps[g+1] = s.opened[in.n], pos
			pc = in.out
			continue
		case opAssert:
			if s.holds(in.as, b, pos) {
				pc = in.out
				continue
			}
			goto fail
		case opRun, opRunLazy, opRunOnly:
			lo, hi := pos, 0
			switch {
			case in.cls.dot && in.max == inf && in.min <= 1:
				hi = s.dot(b, pos)
				if in.min == 1 {
					if hi == pos {
						goto fail
					}
					lo = pos + width(b[pos:])
				}
			case in.max == inf && in.min <= 1:
				hi = in.cls.run(b, pos)
				if in.min == 1 {
					if hi == pos {
						goto fail
					}
					lo = pos + width(b[pos:])
				}
			default:
				var n int
				if lo, n = in.cls.runN(b, pos, in.min); n < in.min {
					goto fail
				}
				if in.max == inf {
					hi = in.cls.run(b, lo)
				} else {
					hi, _ = in.cls.runN(b, lo, in.max-in.min)
				}
			}
			s.work -= (hi - pos) >> 6
			if in.op == opRunOnly {
				if in.group > 0 {
					s.caps[2*in.group], s.caps[2*in.group+1] = pos, hi
				}
				pos = hi
				if in.then != nil {
					if pos >= len(b) || !in.then.tab[b[pos]] {
						goto fail
					}
					pos++
				}
				pc = in.out
				continue
			}
			if lo == hi {
				pos, pc = hi, in.out
				continue
			}
			if in.op == opRunLazy {
				if pos = s.forth(in, pc, b, lo, hi); pos < 0 {
					goto fail
				}
			} else {
				if in.chain >= 0 {
					// No literal that is of use comes after this one.
					if at := s.bounds[in.chain]; at <= hi {
						if at < lo {
							goto fail
						}
						if at > lo {
							s.push(pc, lo, at-1)
						}
						pos, pc = at, in.out
						continue
					}
				}
				if pos = s.back(in, pc, b, lo, hi); pos < 0 {
					goto fail
				}
			}
			pc = in.out
			continue
		case opLook:
			h := len(s.stack)
			_, st := s.run(p, b, in.alt, pos, -1, nil)
			if st == exhausted {
				return 0, st
			}
			s.stack = s.stack[:h]
			if (st == matched) != in.neg {
				pc = in.out
				continue
			}
			goto fail
		case opBehind:
			ok, st := s.behind(p, in, b, pos)
			if st == exhausted {
				return 0, st
			}
			if ok != in.neg {
				pc = in.out
				continue
			}
			goto fail
		case opAtomic:
			h := len(s.stack)
			end, st := s.run(p, b, in.alt, pos, -1, nil)
			if st == exhausted {
				return 0, st
			}
			s.stack = s.stack[:h]
			if st == matched {
				pos, pc = end, in.out
				continue
			}
			goto fail
		case opBackref:
			if end := s.backref(in, b, pos); end >= 0 {
				pos, pc = end, in.out
				continue
			}
			goto fail
		case opMark:
			s.push(undoMark+int32(len(s.opened))+in.n, s.marks[in.n], 0)
			s.marks[in.n] = pos
			pc = in.out
			continue
		case opProgress:
			if pos > s.marks[in.n] {
				pc = in.out
			} else {
				pc = in.alt
			}
			continue
		}
	fail:
		for {
			if len(s.stack) == base {
				return 0, failed
			}
			if s.work--; s.work < 0 || len(s.stack) > limit {
				return 0, exhausted
			}
			f := s.stack[len(s.stack)-1]
			s.stack = s.stack[:len(s.stack)-1]
			if f.pc < 0 {
				s.undo(f)
				continue
			}
			if f.b < 0 {
				pc, pos = f.pc, f.a
				break
			}
			in := &p.insts[f.pc]
			if in.op == opRunLazy {
				pos = s.forth(in, f.pc, b, f.a, f.b)
			} else {
				pos = s.back(in, f.pc, b, f.a, f.b)
			}
			if pos >= 0 {
				pc = in.out
				break
			}
		}
	}
}

func (s *scratch) undo(f frame) {
	if f.pc > undoMark+1<<19 {
		g := 2 * (undoCap - f.pc)
		s.caps[g], s.caps[g+1] = f.a, f.b
		return
	}
	n := int(f.pc - undoMark)
	if n < len(s.opened) {
		s.opened[n] = f.a
	} else {
		s.marks[n-len(s.opened)] = f.a
	}
}

// back chooses the longest end of a greedy run that is in [lo, hi] and leaves
// a frame for the shorter ones.
func (s *scratch) back(in *inst, pc int32, b []byte, lo, hi int) int {
	if in.next.s != "" {
		p := in.next.last(b, lo, hi)
		if p > lo {
			s.push(pc, lo, p-1)
		}
		return p
	}
	if hi < lo {
		return -1
	}
	if hi > lo {
		s.push(pc, lo, before(b, hi))
	}
	return hi
}

// forth chooses the shortest end of a lazy run.
func (s *scratch) forth(in *inst, pc int32, b []byte, lo, hi int) int {
	p := lo
	if in.next.s != "" {
		if p = in.next.next(b, lo, hi); p < 0 {
			return -1
		}
	}
	if p < hi {
		s.push(pc, p+width(b[p:]), hi)
	}
	return p
}

func (s *scratch) behind(p *prog, in *inst, b []byte, pos int) (bool, status) {
	at := pos
	for n := 0; ; n++ {
		if n >= in.min {
			h := len(s.stack)
			_, st := s.run(p, b, in.alt, at, pos, nil)
			if st == exhausted {
				return false, st
			}
			s.stack = s.stack[:h]
			if st == matched {
				return true, st
			}
		}
		if n >= in.max || at == 0 {
			return false, failed
		}
		at = before(b, at)
	}
}

func (s *scratch) backref(in *inst, b []byte, pos int) int {
	if int(2*in.n) >= len(s.caps) || s.caps[2*in.n] < 0 {
		return -1
	}
	ref := b[s.caps[2*in.n]:s.caps[2*in.n+1]]
	s.work -= len(ref) >> 6
	if in.fold == foldNone {
		if len(b)-pos < len(ref) || string(b[pos:pos+len(ref)]) != string(ref) {
			return -1
		}
		return pos + len(ref)
	}
	for len(ref) > 0 {
		if pos >= len(b) {
			return -1
		}
		x, n := decode(b[pos:])
		y, m := decode(ref)
		if x != y {
			if in.fold == foldASCII {
				if !isAlpha(x) || !isAlpha(y) || x|0x20 != y|0x20 {
					return -1
				}
			} else if u, v := unicode.ToUpper(x), unicode.ToUpper(y); u != v && unicode.ToLower(u) != unicode.ToLower(v) {
				return -1
			}
		}
		pos, ref = pos+n, ref[m:]
	}
	return pos
}
