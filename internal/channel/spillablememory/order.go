package spillablememory

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// part is where events are.
type part uint8

const (
	inMemory part = iota
	onDisk        // the overflow
	kept          // what a clean stop wrote down of the memory
	parts
)

// partNames are the names in the file of the order.
var partNames = [parts]string{inMemory: "memory", onDisk: "overflow", kept: "kept"}

// run is some events that follow each other and are in one part. The events of a part come out of it in the order of the
// runs, so that their number is all there is to know. seq is the number of the first one in the channel.
type run struct {
	part part
	seq  int64
	n    int
}

// order is the order in which events come out: Flume's drain order queue.
type order struct {
	runs []run
	head int   // what is before it is gone
	next int64 // the seq of the next event that is put
}

func (o *order) waiting() []run { return o.runs[o.head:] }

// push adds n events at the end.
func (o *order) push(p part, n int) {
	if n == 0 {
		return
	}
	seq := o.next
	o.next += int64(n)
	if len(o.runs) > o.head {
		if last := &o.runs[len(o.runs)-1]; last.part == p && last.seq+int64(last.n) == seq {
			last.n += n
			return
		}
	}
	if len(o.runs) == cap(o.runs) && 2*o.head > len(o.runs) { // make use of what is gone before growing
		o.runs = o.runs[:copy(o.runs, o.runs[o.head:])]
		o.head = 0
	}
	o.runs = append(o.runs, run{p, seq, n})
}

// plan appends to dst the runs of the next events, at most limit of them, out of the memory and one other part: a lease
// is on no more than these two.
func (o *order) plan(dst []run, limit int) []run {
	other := inMemory
	for _, r := range o.waiting() {
		if limit == 0 {
			break
		}
		if r.part != inMemory {
			if other != inMemory && other != r.part {
				break
			}
			other = r.part
		}
		r.n = min(r.n, limit)
		limit -= r.n
		dst = append(dst, r)
	}
	return dst
}

// drop removes the first n events.
func (o *order) drop(n int) {
	for n > 0 {
		r := &o.runs[o.head]
		k := min(n, r.n)
		r.n -= k
		r.seq += int64(k)
		n -= k
		if r.n == 0 {
			o.head++
		}
	}
	if o.head == len(o.runs) {
		o.runs, o.head = o.runs[:0], 0
	}
}

// forget removes the first n events of a part, wherever they are.
func (o *order) forget(p part, n int) {
	keep := o.runs[:o.head]
	for _, r := range o.waiting() {
		if r.part == p {
			k := min(n, r.n)
			n -= k
			r.n -= k
			r.seq += int64(k)
		}
		if r.n > 0 {
			keep = append(keep, r)
		}
	}
	o.runs = keep
}

// giveBack puts runs back where they were.
func (o *order) giveBack(rs []run) {
	all := append(slices.Clone(rs), o.waiting()...)
	slices.SortStableFunc(all, func(a, b run) int { return cmp.Compare(a.seq, b.seq) })
	o.runs, o.head = joined(all), 0
}

// joined makes one of runs that follow each other in one part.
func joined(rs []run) []run {
	out := rs[:0]
	for _, r := range rs {
		if n := len(out); n > 0 && out[n-1].part == r.part && out[n-1].seq+int64(out[n-1].n) == r.seq {
			out[n-1].n += r.n
		} else {
			out = append(out, r)
		}
	}
	return out
}

func count(rs []run, p part) (n int) {
	for _, r := range rs {
		if r.part == p {
			n += r.n
		}
	}
	return n
}

func total(rs []run) (n int) {
	for _, r := range rs {
		n += r.n
	}
	return n
}

// orderFile is what a clean stop leaves in orderName.
type orderFile struct {
	Format int        `json:"format"`
	Runs   []orderRun `json:"runs"`
}

type orderRun struct {
	Part   string `json:"part"`
	Events int    `json:"events"`
}

const orderFormat = 1

// encodeOrder is the order of what is on the disk after a stop.
func encodeOrder(rs []run) ([]byte, error) {
	f := orderFile{Format: orderFormat}
	for _, r := range rs {
		name := partNames[r.part]
		if n := len(f.Runs); n > 0 && f.Runs[n-1].Part == name {
			f.Runs[n-1].Events += r.n
		} else {
			f.Runs = append(f.Runs, orderRun{name, r.n})
		}
	}
	b, err := json.Marshal(f)
	return append(b, '\n'), err
}

// decodeOrder reads the order of events of which overflow are in the overflow and set in the part that is kept.
func decodeOrder(b []byte, overflow, set int64) (order, error) {
	var f orderFile
	if err := json.Unmarshal(b, &f); err != nil {
		return order{}, err
	}
	if f.Format != orderFormat {
		return order{}, fmt.Errorf("format %d, this binary knows %d", f.Format, orderFormat)
	}
	var o order
	for _, r := range f.Runs {
		left := &overflow
		p := onDisk
		switch r.Part {
		case partNames[onDisk]:
		case partNames[kept]:
			left, p = &set, kept
		default:
			return order{}, fmt.Errorf("%q is no part of the channel", r.Part)
		}
		if r.Events <= 0 || int64(r.Events) > *left {
			return order{}, fmt.Errorf("%d events of the part %s, which has %d more", r.Events, r.Part, *left)
		}
		*left -= int64(r.Events)
		o.push(p, r.Events)
	}
	if overflow != 0 || set != 0 {
		return order{}, errors.New("it does not name all events")
	}
	return o, nil
}
