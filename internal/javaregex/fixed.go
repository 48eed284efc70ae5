package javaregex

import "encoding/binary"

// fixed is a pattern all of whose characters are ASCII classes or literals at
// fixed distances: it is compared, not run.
type fixed struct {
	anchored bool
	n        int // bytes
	steps    []fixedStep
	groups   []int // bounds of group 0, 1, … relative to the match; -1: none
	lit      literal
	off      int // of lit in the match
}

// fixedStep compares n bytes with a range, a class or a literal.
type fixedStep struct {
	n            int
	isRange      bool
	lo, hi       byte
	below, above uint64
	cls          *class
	lit          string
}

// newFixed answers nil for programs of another kind.
func newFixed(p *prog, se *search, groups int, captures bool) *fixed {
	if !p.regular {
		return nil
	}
	f := &fixed{anchored: se.anchored}
	if captures {
		f.groups = make([]int, 2*(groups+1))
		for i := range f.groups {
			f.groups[i] = -1
		}
	}
	pc := p.start
	for first := true; ; first = false {
		in := &p.insts[pc]
		switch in.op {
		case opMatch:
			if f.n == 0 {
				return nil
			}
			if captures {
				f.groups[0], f.groups[1] = 0, f.n
			}
			if !f.anchored {
				if se.lit.s == "" {
					return nil
				}
				f.lit, f.off = se.lit, se.skip
			}
			return f
		case opAssert:
			if in.as != aBegin || !first {
				return nil
			}
		case opCapStart:
			f.groups[2*in.n] = f.n
		case opCapEnd:
			f.groups[2*in.n+1] = f.n
		case opLit:
			for i := range len(in.lit) {
				if in.lit[i] >= 0x80 {
					return nil
				}
			}
			f.n += len(in.lit)
			f.steps = append(f.steps, fixedStep{n: len(in.lit), lit: in.lit})
		case opByte:
			f.addClass(in.cls, 1)
		case opRun, opRunLazy, opRunOnly:
			if in.cls.high != highNone || in.min != in.max || in.min == 0 || in.min > 1<<16 {
				return nil
			}
			f.addClass(in.cls, in.min)
		default:
			return nil
		}
		pc = in.out
	}
}

func (f *fixed) addClass(c *class, n int) {
	st := fixedStep{n: n, cls: c}
	if len(c.set) == 2 {
		st.isRange, st.lo, st.hi = true, byte(c.set[0]), byte(c.set[1])
		st.below, st.above = newRange(st.lo, st.hi)
	}
	f.n += n
	f.steps = append(f.steps, st)
}

// at says whether b, of at least f.n bytes, begins with the pattern.
func (f *fixed) at(b []byte) bool {
	for i := range f.steps {
		st := &f.steps[i]
		x := b[:st.n]
		b = b[st.n:]
		switch {
		case st.cls == nil:
			if string(x) != st.lit {
				return false
			}
		case st.isRange && len(x) >= 8:
			for len(x) > 8 {
				if !allIn(binary.LittleEndian.Uint64(x), st.below, st.above) {
					return false
				}
				x = x[min(8, len(x)-8):] // the last eight may overlap
			}
			if !allIn(binary.LittleEndian.Uint64(x), st.below, st.above) {
				return false
			}
		case st.isRange:
			for _, c := range x {
				if c-st.lo > st.hi-st.lo {
					return false
				}
			}
		default:
			for _, c := range x {
				if !st.cls.tab[c] {
					return false
				}
			}
		}
	}
	return true
}

// find is the first place at or after from where the pattern is, or -1.
func (f *fixed) find(b []byte, from int) int {
	if f.anchored {
		if from == 0 && len(b) >= f.n && f.at(b) {
			return 0
		}
		return -1
	}
	for at := from; at+f.n <= len(b); at++ {
		p := f.lit.next(b, at+f.off, len(b)-(f.n-f.off))
		if p < 0 {
			return -1
		}
		at = p - f.off
		if f.at(b[at:]) {
			return at
		}
	}
	return -1
}

// captures writes the bounds of the match at at, with its groups.
func (f *fixed) captures(at int, caps []int) {
	for i, g := range f.groups {
		if g >= 0 {
			caps[i] = at + g
		}
	}
}
