package tail

import (
	"bytes"

	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/javaregex"
)

// Mode says how much of what there is makes events.
type Mode uint8

// The modes.
const (
	More  Mode = iota // more may come: only what is certainly complete
	Flush             // nothing has come for a while: what looks complete
	All               // nothing will come: everything
)

// Chunk is a piece of a file to be cut into events.
type Chunk struct {
	P     []byte // from the position on; in a block that the batch holds
	Prev  byte   // the byte before P, 0 at the start of the file
	Mode  Mode
	Max   int    // events
	Begin *[]int // if not nil, gets where in P each event begins
}

// Cutter makes events of a file's bytes. Cut appends at most c.Max events to b
// and returns how much of c.P they, and what lies between them, take.
type Cutter interface {
	Cut(b *event.Batch, c Chunk) (used int)
}

func (c *Chunk) begin(at int) {
	if c.Begin != nil {
		*c.Begin = append(*c.Begin, at)
	}
}

// Lines ends events at a line feed; one carriage return before it is dropped.
type Lines struct{}

// Cut implements Cutter.
func (Lines) Cut(b *event.Batch, c Chunk) (used int) {
	p := c.P
	for n := 0; n < c.Max && used < len(p); n++ {
		i := bytes.IndexByte(p[used:], '\n')
		if i < 0 {
			if c.Mode == All {
				c.begin(used)
				b.Add(p[used:])
				used = len(p)
			}
			break
		}
		c.begin(used)
		b.Add(chop(p[used : used+i]))
		used += i + 1
	}
	return used
}

// chop drops one carriage return at the end.
func chop(line []byte) []byte {
	if n := len(line); n > 0 && line[n-1] == '\r' {
		return line[:n-1]
	}
	return line
}

// Multiline begins an event at each line in which Start is found.
type Multiline struct{ Start *javaregex.Regexp }

// Cut implements Cutter.
func (m *Multiline) Cut(b *event.Batch, c Chunk) (used int) {
	p := c.P
	for n := 0; n < c.Max && used < len(p); n++ {
		end := 0 // of the event's last whole line, in p[used:]
		next := false
		for rest := p[used:]; ; {
			i := bytes.IndexByte(rest[end:], '\n')
			if i < 0 {
				break
			}
			if end > 0 && m.Start.Match(chop(rest[end:end+i])) {
				next = true
				break
			}
			end += i + 1
		}
		switch {
		case c.Mode == All && !next:
			end = len(p) - used
		case c.Mode == More && !next, end == 0:
			return used
		}
		text := p[used : used+end]
		if text[len(text)-1] == '\n' {
			text = chop(text[:len(text)-1])
		}
		c.begin(used)
		b.Add(text)
		used += end
	}
	return used
}
