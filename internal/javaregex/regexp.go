// Package javaregex matches byte slices against regular expressions with
// Java's meaning: the syntax and the results of java.util.regex.Pattern in
// JDK 17, as Flume's filters and extractors have them when they decode a body
// as UTF-8. Offsets are those of the bytes; malformed bytes match as U+FFFD.
//
// There are four engines, from fast to certain (see Explain):
//
//   - a comparison of fixed offsets, for patterns such as ^\d{14};
//   - a backtracker with a bounded amount of work, which searches for literals
//     first and knows what its runs need not give back;
//   - for patterns that are regular languages, engines that are linear in the
//     input: a lazily built automaton (does it match?), the backtracker with a
//     table of what it tried, and a simulation of all paths (where?);
//   - for the others (look-around, back-references, atomic groups and possessive
//     quantifiers over more than a character) the backtracker again, with a
//     fixed limit of work; see GaveUp.
//
// Known differences to Java: characters outside the BMP are one character
// everywhere (Java sometimes sees their halves); \X, \b{g}, \N{…} and canonical
// equivalence are refused; look-behind accepts whatever has a greatest length.
package javaregex

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Regexp is a compiled pattern. It is safe for concurrent use.
type Regexp struct {
	pattern string
	tree    *node
	groups  int
	names   []string // by group, "" for those without; names[0] is ""
	find    *engine  // with captures
	test    *engine  // without
	full    *engine  // of the whole input, without captures
	gaveUp  atomic.Int64
	pool    sync.Pool // *scratch
}

// Compile reads a pattern. An error is a *SyntaxError.
func Compile(pattern string, flags Flags) (*Regexp, error) { return newRegexp(pattern, flags, false) }

// CompileFull is Compile for a pattern that must match all of the input
// whatever is asked: FindSubmatch is then Matcher.matches() with its groups.
func CompileFull(pattern string, flags Flags) (*Regexp, error) {
	return newRegexp(pattern, flags, true)
}

func newRegexp(pattern string, flags Flags, full bool) (*Regexp, error) {
	n, p, err := parse(pattern, flags)
	if err != nil {
		return nil, err
	}
	if full {
		n = cat(assert(aBegin), n, assert(aEnd))
	}
	re := &Regexp{pattern: pattern, tree: n, groups: p.caps - 1, names: append([]string{""}, p.order...)}
	re.find, err = newEngine(re, n, true)
	if err == nil {
		re.test, err = newEngine(re, existence(n), false)
	}
	if err == nil {
		re.full, err = newEngine(re, cat(assert(aBegin), n, assert(aEnd)), false)
	}
	if err != nil {
		return nil, &SyntaxError{Pattern: pattern, Offset: 0, Msg: err.Error()}
	}
	return re, nil
}

// MustCompile is Compile for patterns in the program's own text.
func MustCompile(pattern string, flags Flags) *Regexp {
	re, err := Compile(pattern, flags)
	if err != nil {
		panic(err)
	}
	return re
}

// String is the pattern as it was given.
func (re *Regexp) String() string { return re.pattern }

// NumGroups is the number of capturing groups, group 0 not counted.
func (re *Regexp) NumGroups() int { return re.groups }

// GroupNames are the names of the groups; index 0 is the whole match, and
// groups without a name have "".
func (re *Regexp) GroupNames() []string { return re.names }

// GaveUp counts the inputs on which a pattern that only the backtracker can
// run used up the work it is allowed (some tens of milliseconds), one count a
// call. They count as not matching; TryMatch and the like tell for one call.
// It stays 0 for regular languages of reasonable size.
func (re *Regexp) GaveUp() int64 { return re.gaveUp.Load() }

// Match says whether the pattern matches somewhere in b: Matcher.find().
func (re *Regexp) Match(b []byte) bool {
	ok, _ := re.test.match(re, b)
	return ok
}

// TryMatch is Match; decided is false where it gave up (see GaveUp).
func (re *Regexp) TryMatch(b []byte) (matched, decided bool) { return re.test.match(re, b) }

// FullMatch says whether the pattern matches all of b: Matcher.matches().
func (re *Regexp) FullMatch(b []byte) bool {
	ok, _ := re.full.match(re, b)
	return ok
}

// FullMatchString is FullMatch for a string, without copying it.
func (re *Regexp) FullMatchString(s string) bool {
	return re.FullMatch(unsafe.Slice(unsafe.StringData(s), len(s))) // nothing writes to it
}

// FindSubmatch appends the bounds of the first match and of each group in it
// to dst: 2*(NumGroups()+1) offsets into b, -1 for a group that took no part.
// It returns nil where nothing matches.
func (re *Regexp) FindSubmatch(b []byte, dst []int) []int {
	loc, _ := re.TryFindSubmatch(b, dst)
	return loc
}

// TryFindSubmatch is FindSubmatch; decided is false where it gave up (see
// GaveUp).
func (re *Regexp) TryFindSubmatch(b []byte, dst []int) (loc []int, decided bool) {
	s := re.scratch()
	if re.find.searchFrom(re, s, b, 0, false) {
		loc = append(dst, s.caps...)
	}
	decided = !s.gaveUp
	re.release(s)
	return loc, decided
}

func (re *Regexp) scratch() *scratch {
	if s, ok := re.pool.Get().(*scratch); ok {
		s.last, s.gaveUp = 0, false
		return s
	}
	return &scratch{}
}

// release returns s to the pool, unless a match made it very large.
func (re *Regexp) release(s *scratch) {
	if cap(s.stack) <= maxStack && cap(s.visited) <= maxVisited/64 {
		re.pool.Put(s)
	}
}

// existence rewrites n where only the existence of a match is asked: without
// captures, and with no more of a run at either end than must be there.
func existence(n *node) *node {
	if !n.regular() {
		return n
	}
	n = trimEnd(dropCaps(n), true)
	return trimEnd(n, false)
}

func dropCaps(n *node) *node {
	c := *n
	c.subs = make([]*node, len(n.subs))
	for i, s := range n.subs {
		c.subs[i] = dropCaps(s)
	}
	if c.op == nGroup {
		c.cap = -1
		if len(c.subs) == 1 && c.subs[0].op != nAlt {
			return c.subs[0]
		}
	}
	return &c
}

func trimEnd(n *node, front bool) *node {
	switch n.op {
	case nCat:
		if len(n.subs) == 0 {
			return n
		}
		i := len(n.subs) - 1
		if front {
			i = 0
		}
		t := trimEnd(n.subs[i], front)
		subs := append([]*node(nil), n.subs...)
		if t.op == nEmpty {
			if front {
				subs = subs[1:]
			} else {
				subs = subs[:i]
			}
			return trimEnd(cat(subs...), front)
		}
		subs[i] = t
		return flat(subs)
	case nRepeat:
		if n.subs[0].op != nSet {
			return n
		}
		if n.min == 0 {
			return &node{op: nEmpty}
		}
		if n.min == 1 {
			return n.subs[0]
		}
		c := *n
		c.max = n.min
		return &c
	case nGroup:
		t := trimEnd(n.subs[0], front)
		if t.op == nAlt {
			return n
		}
		return t
	}
	return n
}

// flat joins sequences within a sequence, so that literals meet.
func flat(subs []*node) *node {
	var out []*node
	for _, s := range subs {
		if s.op == nCat {
			out = append(out, flat(s.subs).subs...)
			continue
		}
		out = append(out, s)
	}
	return &node{op: nCat, subs: out}
}

// Explain says how the pattern is matched, for people.
func (re *Regexp) Explain() string {
	var sb strings.Builder
	fmt.Fprintf(&sb, "test: %s\n", re.test.explain())
	fmt.Fprintf(&sb, "find: %s\n", re.find.explain())
	return sb.String()
}
