package javaregex

import "unicode/utf8"

// pikeState runs all paths side by side, in order of preference: linear in the
// input whatever the pattern, but slow. It takes over where the backtracker
// gives up.
type pikeState struct {
	cur, next pikeList
	copied    []int // the captures of the thread being added
}

type pikeList struct {
	pcs  []int32
	caps []int // of each thread, one after the other
	// seen holds, by instruction, the round in which it was passed.
	seen  []uint64
	round uint64
}

func (l *pikeList) reset(n int) {
	l.pcs, l.caps = l.pcs[:0], l.caps[:0]
	l.round++
	if len(l.seen) < n {
		l.seen, l.round = make([]uint64, n), 1
	}
}

// pike finds the match that begins first at or after from. The result is in
// s.caps, group 0 included.
func (s *scratch) pike(p *prog, b []byte, from int, anchored bool, ncaps int) bool {
	ps := &s.threads
	n := len(p.insts)
	ps.cur.reset(n)
	ps.next.reset(n)
	ps.copied = append(ps.copied[:0], s.caps...)
	found := false
	for pos := from; ; {
		if !found && (pos == from || !anchored) {
			for i := range ps.copied {
				ps.copied[i] = -1
			}
			ps.copied[0] = pos
			s.addThread(p, &ps.cur, p.start, b, pos)
		}
		if len(ps.cur.pcs) == 0 && (found || anchored) {
			break
		}
		var r rune
		w := 0
		if pos < len(b) {
			r, w = decode(b[pos:])
		}
		for i, pc := range ps.cur.pcs {
			in := &p.insts[pc]
			caps := ps.cur.caps[i*ncaps : (i+1)*ncaps]
			if in.op == opMatch {
				copy(s.caps, caps)
				s.caps[1] = pos
				found = true
				break // threads of lower preference end here
			}
			if w > 0 && in.cls.has(r) {
				copy(ps.copied, caps)
				s.addThread(p, &ps.next, in.out, b, pos+w)
			}
		}
		ps.cur, ps.next = ps.next, ps.cur
		ps.next.reset(n)
		if w == 0 {
			break
		}
		pos += w
	}
	return found
}

// addThread follows pc to the instructions that consume something. The order
// of preference is that in which they are added.
func (s *scratch) addThread(p *prog, l *pikeList, pc int32, b []byte, pos int) {
	ps := &s.threads
	for {
		if l.seen[pc] == l.round {
			return // a path of higher preference came here
		}
		l.seen[pc] = l.round
		in := &p.insts[pc]
		switch in.op {
		case opMatch, opByte, opChar:
			l.pcs = append(l.pcs, pc)
			l.caps = append(l.caps, ps.copied...)
			return
		case opFail:
			return
		case opSplit:
			s.addThread(p, l, in.out, b, pos)
			pc = in.alt
		case opCapStart, opCapEnd:
			i := 2 * in.n
			if in.op == opCapEnd {
				i++
			}
			old := ps.copied[i]
			ps.copied[i] = pos
			s.addThread(p, l, in.out, b, pos)
			ps.copied[i] = old
			return
		case opAssert:
			if !s.holds(in.as, b, pos) {
				return
			}
			pc = in.out
		}
	}
}

// has says whether r is a member.
func (c *class) has(r rune) bool {
	if r < utf8.RuneSelf {
		return c.tab[r]
	}
	switch c.high {
	case highNone:
		return false
	case highAll:
		return true
	}
	return c.set.contains(r)
}
