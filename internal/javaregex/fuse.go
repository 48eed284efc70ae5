package javaregex

// fuse joins what the backtracker meets most: a run that gives nothing back,
// the group that consists of it, and the one byte after it, as in (\w+)\s. It
// comes last, because the analyses look at single instructions. Those that are
// joined stay where they are, for paths that enter in between.
func (p *prog) fuse() {
	if len(p.insts) > maxAnalysed || !p.regular || p.quirk {
		return
	}
	p.markOnce()
	classes := map[byte]*class{}
	for i := range p.insts {
		in := &p.insts[i]
		switch in.op {
		case opRunOnly:
			p.takeByte(in, classes)
		case opCapStart:
			run := p.insts[in.out]
			if !in.once || run.op != opRunOnly || run.group > 0 || run.then != nil {
				continue
			}
			// The run takes the place of the group's start.
			if end := &p.insts[run.out]; end.op == opCapEnd && end.n == in.n && end.once {
				run.group, run.out = in.n, end.out
				p.takeByte(&run, classes)
				*in = run
			}
		}
	}
}

// takeByte makes the byte that must follow in a part of it.
func (p *prog) takeByte(in *inst, classes map[byte]*class) {
	switch next := &p.insts[in.out]; {
	case next.op == opByte:
		in.then, in.out = next.cls, next.out
	case next.op == opLit && len(next.lit) == 1:
		c := next.lit[0]
		if classes[c] == nil {
			classes[c] = newClass(runeSet{rune(c), rune(c)})
		}
		in.then, in.out = classes[c], next.out
	}
}

// markOnce finds the ends of groups that every match comes by exactly once.
func (p *prog) markOnce() {
	for _, pc := range p.spine() {
		if in := &p.insts[pc]; (in.op == opCapStart || in.op == opCapEnd) && !p.reaches(in.out, pc) {
			in.once = true
		}
	}
}

// reaches says whether a path leads from one instruction to another.
func (p *prog) reaches(from, to int32) bool {
	seen := make([]bool, len(p.insts))
	todo := []int32{from}
	for len(todo) > 0 {
		pc := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if pc == to {
			return true
		}
		if seen[pc] {
			continue
		}
		seen[pc] = true
		switch in := &p.insts[pc]; in.op {
		case opMatch, opFail:
		case opSplit, opProgress:
			todo = append(todo, in.out, in.alt)
		default:
			todo = append(todo, in.out)
		}
	}
	return false
}
