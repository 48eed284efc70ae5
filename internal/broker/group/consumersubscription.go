package group

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
)

// resolvedRegex is a subscription by regular expression and the topics that
// it stands for.
type resolvedRegex struct {
	re      *regexp.Regexp
	topics  []string // sorted
	version uint64
	at      time.Time
}

// refresh looks whether the subscribed topics have changed: it resolves the
// regular expressions again and computes the hash. It costs nothing while the
// topics stay as they are, unless force is set.
func (g *Group) refresh(now time.Time, force bool) (changed bool) {
	c := g.c
	v := g.topics.Version()
	if c.fresh && c.seen == v && !force {
		return false
	}
	if !c.fresh || c.seen != v {
		for expr := range c.regexes {
			g.resolve(now, expr)
		}
	}
	c.seen, c.fresh = v, true
	hash := g.metadataHash()
	changed = hash != c.hash
	c.hash = hash
	return changed
}

// metadataHash is over name, id and number of partitions of every topic that
// a member subscribes to and that exists (KIP-1101); 0 when there is none.
func (g *Group) metadataHash() uint64 {
	names := g.subscribedNames()
	h := xxhash.New()
	any := false
	for _, name := range names {
		id, n, ok := g.topics.ByName(name)
		if !ok {
			continue
		}
		any = true
		h.WriteString(name)
		h.Write(id[:])
		var b [5]byte // a zero byte ends the name's part
		binary.BigEndian.PutUint32(b[1:], uint32(n))
		h.Write(b[:])
	}
	if !any {
		return 0
	}
	return h.Sum64()
}

// subscribedNames are the topics of all members, sorted.
func (g *Group) subscribedNames() []string {
	var names []string
	for _, m := range g.c.members {
		names = append(names, m.topics...)
	}
	for _, r := range g.c.regexes {
		names = append(names, r.topics...)
	}
	return sortedSet(names)
}

// maxRegexNodes bounds a regular expression with its repetitions written
// out, and with it the memory and time that a few bytes can ask for.
const maxRegexNodes = 10_000

// compileRegex compiles a subscription. It has to match a topic's whole name.
func compileRegex(expr string) (*regexp.Regexp, error) {
	if len(expr) > 4*maxRegexNodes {
		return nil, fmt.Errorf("%d bytes are too many", len(expr))
	}
	// By itself, so that no bracket can end the one below.
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, err
	}
	if n := regexNodes(tree); n > maxRegexNodes {
		return nil, fmt.Errorf("it is too large: %d nodes with its repetitions, allowed are %d", n, maxRegexNodes)
	}
	return regexp.Compile(`\A(?:` + expr + `)\z`)
}

func regexNodes(re *syntax.Regexp) int {
	n := 1 + len(re.Rune)
	for _, sub := range re.Sub {
		n += regexNodes(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min, re.Max, 1)
	}
	return n
}

// resolve finds the topics of a regular expression.
func (g *Group) resolve(now time.Time, expr string) {
	if expr == "" {
		return
	}
	c := g.c
	r := c.regexes[expr]
	isNew := r == nil
	if isNew {
		r = &resolvedRegex{}
		r.re, _ = compileRegex(expr) // it was checked before; from a damaged log it may be nil
		c.regexes[expr] = r
	}
	if r.re == nil {
		return
	}
	var topics []string
	for _, name := range g.topics.Names() {
		if r.re.MatchString(name) {
			topics = append(topics, name)
		}
	}
	slices.Sort(topics)
	if !isNew && slices.Equal(topics, r.topics) {
		return
	}
	r.topics, r.version, r.at = topics, g.topics.Version(), now
	g.emit(regexRecord(g.Name, expr, r))
}

// dropUnusedRegex forgets a regular expression that no member has any more.
func (g *Group) dropUnusedRegex(expr string) {
	if expr == "" || g.c.regexes[expr] == nil {
		return
	}
	for _, m := range g.c.members {
		if m.regex == expr {
			return
		}
	}
	delete(g.c.regexes, expr)
	g.emit(tombstone(keyRegex, g.Name, expr))
}

// subscribedIDs are the existing topics that a member wants, with their
// numbers of partitions.
func (g *Group) subscribedIDs(m *consumerMember) map[TopicID]int32 {
	ids := map[TopicID]int32{}
	add := func(names []string) {
		for _, name := range names {
			if id, n, ok := g.topics.ByName(name); ok {
				ids[id] = n
			}
		}
	}
	add(m.topics)
	if r := g.c.regexes[m.regex]; r != nil {
		add(r.topics)
	}
	return ids
}
