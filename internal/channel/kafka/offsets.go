package kafka

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// span is a range of offsets: from, and up to but not including.
type span struct{ from, to int64 }

// part is a partition that this agent reads. Channel.mu guards it.
type part struct {
	id    int32
	epoch int32  // of the leader of what was last read; -1: not known
	base  int64  // what was committed last
	low   int64  // what is to be committed: every event below is taken
	done  []span // what is taken beyond; ascending, with gaps between them
	held  []span // what leases have that were taken before the partition was lost, and came back
	pos   int64  // the next offset to be read
	from  int64  // where the last event that was read ends
	end   int64  // of the partition, as far as is known

	open     int           // events in leases
	dirty    bool          // low or done is not committed yet
	pinned   bool          // it had no committed offset, and is read from low
	revoking bool          // no lease gets its events any more
	gone     bool          // it belongs to another member, or to nobody
	idle     chan struct{} // closed when open is 0; made by who waits for that
}

// take notes that the events in s are taken.
func (p *part) take(s span) {
	i, _ := slices.BinarySearchFunc(p.done, s.from, func(d span, from int64) int { return cmp.Compare(d.to, from) })
	j := i
	for ; j < len(p.done) && p.done[j].from <= s.to; j++ {
		s.from, s.to = min(s.from, p.done[j].from), max(s.to, p.done[j].to)
	}
	if s.from <= p.low { // what the others end at, for they do not touch
		p.low = max(p.low, s.to)
		p.done = slices.Delete(p.done, 0, j)
	} else {
		p.done = slices.Replace(p.done, i, j, s)
	}
	p.dirty = true
}

// isTaken says whether the event at an offset is taken.
func (p *part) isTaken(at int64) bool {
	if at < p.low {
		return true
	}
	return contains(p.done, at)
}

// contains says whether one of ascending spans has an offset.
func contains(spans []span, at int64) bool {
	i, found := slices.BinarySearchFunc(spans, at, func(d span, at int64) int { return cmp.Compare(d.to, at+1) })
	return found || i < len(spans) && spans[i].from <= at
}

// behind is the number of events that are in the partition, as far as is
// known, and not read yet.
func (p *part) behind() int64 {
	next := max(p.pos, p.low)
	n := p.end - next
	for _, d := range p.done {
		n -= max(0, d.to-max(d.from, next))
	}
	for _, d := range p.held {
		if d.from >= next && !p.isTaken(d.from) {
			n--
		}
	}
	return max(n, 0)
}

// resume goes on with what is known of a partition from before it was lost. It
// is void if somebody set the group's offset back since.
func (p *part) resume(old *part) {
	if p.low < old.base {
		return
	}
	for _, s := range append([]span{{old.base, old.low}}, old.done...) {
		if s.to > max(s.from, p.low) {
			p.take(s)
		}
	}
}

// metaPrefix begins the metadata of an offset that this channel committed.
const metaPrefix = "sluice:"

// maxMeta bounds the metadata: Kafka's offset.metadata.max.bytes is 4096.
const maxMeta = 4000

// metadata is what is committed beside low: what is taken beyond it, as
// distance from the end of the one before and length. What does not fit comes
// again after a crash.
func (p *part) metadata() string {
	if len(p.done) == 0 {
		return ""
	}
	b := []byte(metaPrefix)
	last := p.low
	for _, d := range p.done {
		n := len(b)
		b = strconv.AppendInt(b, d.from-last, 10)
		b = append(b, '+')
		b = strconv.AppendInt(b, d.to-d.from, 10)
		b = append(b, ' ')
		if len(b) > maxMeta {
			b = b[:n]
			break
		}
		last = d.to
	}
	return string(b[:len(b)-1])
}

// parseMetadata reads what metadata wrote for an offset of low. Metadata that
// somebody else wrote (Flume notes an id of the batch) is none of ours.
func parseMetadata(s string, low int64) (done []span, err error) {
	rest, ok := strings.CutPrefix(s, metaPrefix)
	if !ok {
		return nil, nil
	}
	for f := range strings.SplitSeq(rest, " ") {
		a, b, _ := strings.Cut(f, "+")
		gap, err1 := strconv.ParseInt(a, 10, 64)
		n, err2 := strconv.ParseInt(b, 10, 64)
		if err1 != nil || err2 != nil || gap <= 0 || n <= 0 || low < 0 || low+gap < 0 || low+gap+n < 0 {
			return nil, fmt.Errorf("metadata of a committed offset: %.60q is not a range of what is taken", f)
		}
		done = append(done, span{low + gap, low + gap + n})
		low += gap + n
	}
	return done, nil
}
