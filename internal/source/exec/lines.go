package exec

import (
	"bytes"

	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/charset"
)

const (
	blockSize = 64 << 10 // a pipe holds as much
	minRead   = 4 << 10  // a block with less room than that is full
	// maxLine bounds the memory that a command without line ends can take.
	maxLine = 16 << 20
	// maxHeld bounds the memory of lines that wait for batchTimeout.
	maxHeld = 16 << 20
)

// lines cuts what a command writes into lines. It ends them as Java's
// BufferedReader does: at a line feed, at a carriage return, or at both
// together, and a carriage return ends the line before it is known whether a
// line feed follows.
type lines struct {
	pool *event.Pool
	rec  recoder
	long func() // told when a line was cut at maxLine

	blk     *event.Block
	start   int  // where in blk the unfinished line begins
	scanned int  // how much of that was searched in vain
	skipLF  bool // the last line ended in a carriage return at the end of the input
	max     int  // maxLine, or less in tests
	ready   [][]byte
	held    []heldBlock // blocks before blk that ready has views of, in order
	pinned  int         // their bytes
}

// heldBlock is a block that is full and has lines which are not delivered.
type heldBlock struct {
	*event.Block
	lines int // the first so many of ready are in it or in a block before it
}

func newLines(pool *event.Pool, cs *charset.Charset, long func()) *lines {
	return &lines{pool: pool, rec: recoder{cs: cs}, long: long, max: maxLine}
}

// room returns memory to read into.
func (l *lines) room() []byte {
	if l.blk != nil && len(l.blk.Free()) >= minRead {
		return l.blk.Free()
	}
	var rest []byte
	if l.blk != nil {
		rest = l.blk.Bytes()[l.start:]
	}
	blk := l.pool.Block(max(blockSize, 2*len(rest)))
	copy(blk.Extend(len(rest)), rest)
	if l.blk != nil {
		seen := 0 // lines in the blocks before
		if n := len(l.held); n > 0 {
			seen = l.held[n-1].lines
		}
		if len(l.ready) > seen {
			l.held = append(l.held, heldBlock{l.blk, len(l.ready)})
			l.pinned += l.blk.Cap()
		} else {
			l.blk.Release()
		}
	}
	l.blk, l.start = blk, 0
	return blk.Free()
}

// filled takes the first n bytes of room.
func (l *lines) filled(n int) {
	l.blk.Extend(n)
	p := l.blk.Bytes()[l.start:]
	if l.skipLF && len(p) > 0 {
		l.skipLF = false
		if p[0] == '\n' {
			p = p[1:]
		}
	}
	from := l.scanned // in p
	lf := -1          // the next line feed, once found; len(p) if there is none
	for {
		if lf < from {
			lf = len(p)
			if i := bytes.IndexByte(p[from:], '\n'); i >= 0 {
				lf = from + i
			}
		}
		end, next := lf, lf+1
		if i := bytes.IndexByte(p[from:lf], '\r'); i >= 0 {
			end, next = from+i, from+i+1
			if next == len(p) {
				l.skipLF = true
			} else if next == lf {
				next++
			}
		}
		if end == len(p) {
			break
		}
		l.ready = append(l.ready, p[:end:end])
		p, lf, from = p[next:], lf-next, 0
	}
	for len(p) >= l.max {
		l.long()
		l.ready = append(l.ready, p[:l.max:l.max])
		p = p[l.max:]
	}
	l.start = len(l.blk.Bytes()) - len(p)
	l.scanned = len(p)
}

// end takes what is left without a line end as the last line.
func (l *lines) end() {
	if l.blk == nil {
		return
	}
	if p := l.blk.Bytes()[l.start:]; len(p) > 0 {
		l.ready = append(l.ready, p[:len(p):len(p)])
	}
	l.start, l.scanned, l.skipLF = len(l.blk.Bytes()), 0, false
}

// fill adds the first n lines to b. They stay until drop.
func (l *lines) fill(b *event.Batch, n int) {
	b.Grow(n)
	seen := 0
	for i := 0; i < len(l.held) && seen < n; i++ { // no more than these lines are in
		b.Attach(l.held[i].Block)
		seen = l.held[i].lines
	}
	if seen < n {
		b.Attach(l.blk)
	}
	for _, line := range l.ready[:n] {
		l.rec.add(b, line)
	}
}

// drop forgets the first n lines: somebody has them.
func (l *lines) drop(n int) {
	rest := copy(l.ready, l.ready[n:])
	clear(l.ready[rest:])
	l.ready = l.ready[:rest]
	w := 0
	for _, h := range l.held {
		if h.lines -= n; h.lines > 0 {
			l.held[w] = h
			w++
			continue
		}
		l.pinned -= h.Cap()
		h.Release()
	}
	clear(l.held[w:])
	l.held = l.held[:w]
}

// close lets go of everything.
func (l *lines) close() {
	l.drop(len(l.ready))
	if l.blk != nil {
		l.blk.Release()
		l.blk = nil
	}
}
