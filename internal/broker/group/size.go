package group

// What entries take beside the bytes that clients chose: a rough figure, as
// maps and pointers go.
const (
	memberOverhead    = 600
	offsetOverhead    = 200
	partitionOverhead = 60
	regexOverhead     = 100 // for each byte of the expression
)

func (o *Offset) size() int64 { return offsetOverhead + int64(len(o.Metadata)) }

// OffsetBytes is the part of Size that the offsets have.
func (g *Group) OffsetBytes() int64 { return g.offsetBytes }

// Size is about how many bytes of memory the group takes, so that a host can
// bound all groups together. It looks at every member.
func (g *Group) Size() int64 {
	n := g.offsetBytes + int64(len(g.Name)) + int64(len(g.pending))*memberOverhead
	text := func(s string) { n += int64(len(s)) }
	for _, m := range g.members {
		n += memberOverhead + int64(len(m.assignment))
		text(m.clientID)
		for _, p := range m.protocols {
			n += int64(len(p.Name) + len(p.Metadata))
		}
	}
	if g.c == nil {
		return n
	}
	for _, m := range g.c.members {
		n += memberOverhead
		text(m.clientID)
		text(m.regex)
		for _, t := range m.topics {
			n += 16
			text(t)
		}
		for _, e := range []epochs{m.assigned, m.revoking} {
			for _, ps := range e {
				n += partitionOverhead * int64(len(ps))
			}
		}
		if m.classic != nil {
			for _, p := range m.classic.protocols {
				n += int64(len(p.Name) + len(p.Metadata))
			}
		}
	}
	for expr, r := range g.c.regexes {
		n += memberOverhead + regexOverhead*int64(len(expr)) + 16*int64(len(r.topics))
	}
	return n
}
