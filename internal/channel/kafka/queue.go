package kafka

import (
	"slices"

	"github.com/sluice-data/sluice/event"
)

// entry is an event that was read, and its place. It stands for the offsets
// from from on, too: those of records that are no events.
type entry struct {
	event  event.Event
	part   *part
	from   int64 // where the event before it ends
	offset int64
	seq    int64 // counts what was read
	size   int   // bytes of the record
}

// queue holds entries in the order of seq.
type queue struct {
	buf   []entry // from head on
	head  int
	bytes int
}

func (q *queue) len() int { return len(q.buf) - q.head }

func (q *queue) push(e entry) {
	if q.head > 0 && len(q.buf) == cap(q.buf) && 2*q.head >= len(q.buf) {
		q.buf = slices.Delete(q.buf, 0, q.head)
		q.head = 0
	}
	q.buf = append(q.buf, e)
	q.bytes += e.size
}

// pop appends the first n entries to dst and removes them.
func (q *queue) pop(dst []entry, n int) []entry {
	from := q.buf[q.head : q.head+n]
	for i := range from {
		q.bytes -= from[i].size
	}
	dst = append(dst, from...)
	clear(from)
	if q.head += n; q.head == len(q.buf) {
		q.buf, q.head = q.buf[:0], 0
	}
	return dst
}

// giveBack puts entries back where they were.
func (q *queue) giveBack(es []entry) {
	if len(es) == 0 {
		return
	}
	// Before the last of them may come what another lease gave back.
	k := 0
	for last := es[len(es)-1].seq; k < q.len() && q.buf[q.head+k].seq < last; k++ {
	}
	if k > 0 {
		es = q.pop(slices.Clone(es), k)
		slices.SortFunc(es, func(a, b entry) int { return int(a.seq - b.seq) })
	}
	for i := range es {
		q.bytes += es[i].size
	}
	if len(es) <= q.head {
		q.head -= len(es)
		copy(q.buf[q.head:], es)
		return
	}
	q.buf = slices.Insert(q.buf[q.head:], 0, es...)
	q.head = 0
}

// drop removes the entries of a partition.
func (q *queue) drop(p *part) {
	q.buf = slices.DeleteFunc(slices.Delete(q.buf, 0, q.head), func(e entry) bool {
		if e.part == p {
			q.bytes -= e.size
			return true
		}
		return false
	})
	q.head = 0
}
