package javaregex

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
)

// maxWork is what a pattern that is not a regular language may use for one
// input, in steps: some tens of milliseconds.
const maxWork = 4 << 20

// maxVisited bounds the table of the bit-state matcher, in bits.
const maxVisited = 1 << 21

// engine matches one program by the means that suit it.
type engine struct {
	fast   *prog
	basic  *prog // nil where only the backtracker can run the pattern
	search search
	fixed  *fixed // nil unless the whole pattern is a sequence of fixed offsets
	dfa    func() *dfa
	// tired is raised when the backtracker ran out of work and lowered when
	// it did not; at tiredOut it is not tried first any more.
	tired atomic.Int32
	only  tier // tests force one engine
}

const tiredOut = 16

type tier uint8

const (
	anyTier tier = iota
	tierFixed
	tierBacktrack
	tierDFA
	tierBitState
	tierPike
)

func newEngine(re *Regexp, n *node, captures bool) (*engine, error) {
	e := &engine{}
	var err error
	if e.fast, err = compile(n, true, captures || !n.regular()); err != nil {
		return nil, err
	}
	e.search = e.fast.newSearch()
	if n.regular() {
		// Too large a program (x{100000} has few fused instructions and many
		// simple ones) leaves the backtracker alone with it.
		if p, err := compile(n, false, captures); err == nil {
			e.basic = p
			e.dfa = sync.OnceValue(func() *dfa { return newDFA(p, e.search.anchored) })
		}
	}
	e.fixed = newFixed(e.fast, &e.search, re.groups, captures)
	e.fast.fuse()
	return e, nil
}

// match says whether b has a match, and whether that is sure.
func (e *engine) match(re *Regexp, b []byte) (ok, decided bool) {
	if f := e.fixed; f != nil && (e.only == anyTier || e.only == tierFixed) {
		return f.find(b, 0) >= 0, true
	}
	if e.only == tierDFA || e.only == anyTier && e.dfa != nil && e.tired.Load() >= tiredOut {
		if d := e.dfa(); d != nil {
			return d.match(b), true
		}
	}
	s := re.scratch()
	ok = e.searchFrom(re, s, b, 0, true)
	decided = !s.gaveUp
	re.release(s)
	return ok, decided
}

// prepare readies s for a search.
func (e *engine) prepare(re *Regexp, s *scratch, p *prog, b []byte) {
	s.stack = s.stack[:0]
	if n := 2 * (re.groups + 1); len(s.caps) != n {
		s.caps, s.opened = make([]int, n), make([]int, re.groups+1)
	}
	if len(s.marks) < p.regs {
		s.marks = make([]int, p.regs)
	}
	if len(s.bounds) < len(p.chain) {
		s.bounds = make([]int, len(p.chain))
	}
	for i := range s.caps {
		s.caps[i] = -1
	}
	s.dotFrom, s.dotEnd = 0, -1
	s.work = maxWork
	if e.basic != nil {
		s.work = 256 + 4*len(b)
	}
}

// searchFrom finds the first match at or after from and leaves it in s.caps
// (its bounds may be missing where testOnly is set).
func (e *engine) searchFrom(re *Regexp, s *scratch, b []byte, from int, testOnly bool) bool {
	e.prepare(re, s, e.fast, b)
	if f := e.fixed; f != nil && (e.only == anyTier || e.only == tierFixed) {
		at := f.find(b, from)
		if at < 0 {
			return false
		}
		f.captures(at, s.caps)
		return true
	}
	if e.only == anyTier || e.only == tierBacktrack {
		if e.search.lit.s != "" {
			if from = e.byLiteral(b, from); from < 0 {
				return false
			}
		}
		if e.search.bound && !s.bound(e.fast, b, from) {
			return false
		}
		if e.basic == nil || e.tired.Load() < tiredOut {
			switch e.backtrack(s, b, from) {
			case matched:
				e.rested()
				return true
			case failed:
				e.rested()
				return false
			}
			if e.basic == nil || e.only == tierBacktrack {
				return e.giveUp(re, s)
			}
			e.tired.Add(1)
		}
	}
	// The backtracker gave up, or was not asked.
	if e.basic == nil {
		return e.giveUp(re, s)
	}
	if from == 0 && (e.only == anyTier || e.only == tierDFA) {
		if d := e.dfa(); d != nil {
			if ok := d.match(b); !ok || testOnly {
				return ok
			}
		}
	}
	if bits := len(e.basic.insts) * (len(b) + 1); e.only != tierPike && bits <= maxVisited {
		e.prepare(re, s, e.basic, b)
		if st := e.bitState(s, b, from, bits); st != exhausted {
			return st == matched
		}
	}
	e.prepare(re, s, e.basic, b)
	return s.pike(e.basic, b, from, e.search.anchored, len(s.caps))
}

func (e *engine) giveUp(re *Regexp, s *scratch) bool {
	re.gaveUp.Add(1)
	s.gaveUp = true
	return false
}

func (e *engine) rested() {
	if e.tired.Load() > 0 {
		e.tired.Add(-1)
	}
}

// backtrack tries the fast program at each place where a match can begin.
func (e *engine) backtrack(s *scratch, b []byte, from int) status {
	p, se := e.fast, &e.search
	at := from
	for {
		switch {
		case se.anchored:
			if at > 0 {
				return failed
			}
		case se.lit.s != "":
			// The first place is known already.
			if at > from {
				if at = e.byLiteral(b, at); at < 0 {
					return failed
				}
			}
		case se.hasFirst:
			for at < len(b) && !se.first[b[at]] {
				at++
			}
			if at >= len(b) {
				return failed
			}
			if at > from && b[at]&0xC0 == 0x80 && insideChar(b, at) {
				at++
				continue
			}
		}
		end, st := s.run(p, b, p.start, at, -1, nil)
		switch st {
		case matched:
			s.caps[0], s.caps[1] = at, end
			return matched
		case exhausted:
			return exhausted
		}
		if at >= len(b) || se.anchored {
			return failed
		}
		if s.work--; s.work < 0 {
			return exhausted
		}
		if p.regular && !p.quirk {
			for i := range s.caps {
				s.caps[i] = -1
			}
		}
		if se.leading != nil {
			if se.leading.dot {
				at = s.dot(b, at)
			} else {
				at = se.leading.run(b, at)
			}
			if at >= len(b) {
				return failed
			}
		}
		at += width(b[at:])
	}
}

// insideChar says that the continuation byte at pos is part of a character
// that began before it.
func insideChar(b []byte, pos int) bool {
	return pos+1 <= len(b) && before(b, pos+1) != pos
}

// byLiteral is the next place at or after at where a match can begin, by the
// literal that must be some characters behind it.
func (e *engine) byLiteral(b []byte, at int) int {
	se := &e.search
	for lo := at + se.skip; lo <= len(b); lo++ {
		lo = se.lit.next(b, lo, len(b))
		if lo < 0 {
			return -1
		}
		p := lo
		for i := 0; i < se.skip && p >= at; i++ {
			if p == 0 {
				p = -1
				break
			}
			if b[p-1] < 0x80 {
				p--
			} else {
				p = before(b, p)
			}
		}
		if p >= at {
			return p
		}
	}
	return -1
}

// bitState is the backtracker over the basic program with a table of what it
// has tried, so that its work is at most the table's size.
func (e *engine) bitState(s *scratch, b []byte, from, bits int) status {
	n := (bits + 63) / 64
	if cap(s.visited) < n {
		s.visited = make([]uint64, n)
	}
	s.visited = s.visited[:n]
	clear(s.visited)
	s.work = 8 * (bits + 1024)
	for at := from; ; {
		end, st := s.run(e.basic, b, e.basic.start, at, -1, s.visited)
		if st == matched {
			s.caps[0], s.caps[1] = at, end
		}
		if st != failed || at >= len(b) || e.search.anchored {
			return st
		}
		for i := range s.caps {
			s.caps[i] = -1
		}
		at += width(b[at:])
	}
}

func (e *engine) explain() string {
	var how []string
	se := &e.search
	if e.fixed != nil {
		how = append(how, "compares bytes at fixed offsets")
	}
	switch {
	case se.anchored:
		how = append(how, "only at the front")
	case se.lit.s != "":
		how = append(how, fmt.Sprintf("searches %q first, %d characters into the match", se.lit.s, se.skip))
	case se.hasFirst:
		how = append(how, "searches the bytes that can begin a match")
	default:
		how = append(how, "tries every place")
	}
	if len(e.fast.chain) > 0 && e.fixed == nil {
		var lits []string
		for _, el := range e.fast.chain {
			lits = append(lits, fmt.Sprintf("%q", el.lit.s))
		}
		how = append(how, "needs "+strings.Join(lits, ", ")+" in this order")
	}
	if e.fixed == nil {
		if e.basic == nil {
			how = append(how, fmt.Sprintf("backtracks, at most %d steps", maxWork))
		} else {
			how = append(how, "backtracks a bounded number of steps, then automata linear in the input")
		}
	}
	return strings.Join(how, "; ")
}
