package event

import "unsafe"

// Batch is a list of events and the blocks they view. It has one owner at a
// time and is not safe for concurrent use. Get one from Output.NewBatch (or
// Pool.NewBatch); Emit takes ownership.
//
// Events are added by view (Attach, Add) or by copy (Append, AppendEvent).
// After that events change only through the methods here: several events may
// share one header list, and a body may be followed directly by its
// neighbour's.
type Batch struct {
	pool   *Pool
	events []Event
	blocks []*Block // each held once
	arena  *Block   // the one of blocks that copies go to, or nil
	span   int      // bytes that came in, see Sparse
	own    int      // size of the blocks that no other batch shares

	// The header list that SetHeader made last, which may grow in place.
	hdrEvent, hdrStart, hdrEnd int
}

// Len is the number of events.
func (b *Batch) Len() int { return len(b.events) }

// Events is a view of the events; it is valid until the next call that adds
// or drops events. Do not write to it.
func (b *Batch) Events() []Event { return b.events }

// Blocks are the blocks that the batch holds. A channel that keeps events
// beyond Put retains each of them.
func (b *Batch) Blocks() []*Block { return b.blocks }

// Attach makes the batch hold blk, so that Add may put views of it in. The
// caller keeps its own hold. Attaching a block again is free.
func (b *Batch) Attach(blk *Block) {
	for _, have := range b.blocks {
		if have == blk {
			return
		}
	}
	blk.Retain()
	b.blocks = append(b.blocks, blk)
}

// Add appends an event whose body is a view into an attached block.
func (b *Batch) Add(body []byte) {
	b.span += len(body)
	b.events = append(b.events, Event{Body: body[:len(body):len(body)]})
}

// Append appends an event with a copy of body.
func (b *Batch) Append(body []byte) { b.Add(b.Copy(body)) }

// AppendEvent appends a copy of body and headers. Keys are kept as they are,
// values are copied.
func (b *Batch) AppendEvent(body []byte, headers []KV) {
	n := len(body)
	for i := range headers {
		n += len(headers[i].Value)
	}
	b.reserve(n, len(headers))
	e := Event{Body: b.Copy(body)}
	if len(headers) > 0 {
		e.Headers = b.slots(len(headers))
		for i, h := range headers {
			e.Headers[i] = KV{Key: h.Key, Value: b.copyValue(h.Value)}
		}
	}
	b.span += n
	b.events = append(b.events, e)
}

// AppendView appends e as it is; its bytes must be in attached blocks or be
// immutable for ever.
func (b *Batch) AppendView(e Event) {
	b.span += e.size()
	b.events = append(b.events, e)
}

// Grow makes room for n more events.
func (b *Batch) Grow(n int) {
	if need := len(b.events) + n; need > cap(b.events) {
		grown := make([]Event, len(b.events), max(need, 2*cap(b.events), 64))
		copy(grown, b.events)
		b.events = grown
	}
}

// Alloc returns n bytes of the batch's own memory, to be filled before the
// next call.
func (b *Batch) Alloc(n int) []byte {
	b.reserve(n, 0)
	return b.arena.Extend(n)
}

// Copy returns a copy of p in the batch's own memory.
func (b *Batch) Copy(p []byte) []byte {
	if len(p) == 0 {
		return emptyBytes
	}
	dst := b.Alloc(len(p))
	copy(dst, p)
	return dst
}

var emptyBytes = []byte{} // not nil: nil is Flume's null

func (b *Batch) copyValue(v []byte) []byte {
	if v == nil {
		return nil
	}
	return b.Copy(v)
}

// Keep drops every event for which keep answers false, keeps the order of the
// others, and returns how many were dropped.
func (b *Batch) Keep(keep func(e *Event) bool) int {
	evs := b.events
	i := 0
	for i < len(evs) && keep(&evs[i]) {
		i++
	}
	w := i
	for i++; i < len(evs); i++ {
		if keep(&evs[i]) {
			evs[w] = evs[i]
			w++
		}
	}
	if w >= len(evs) {
		return 0
	}
	clear(evs[w:])
	b.events = evs[:w]
	b.hdrEnd = -1
	return len(evs) - w
}

// SetBody replaces the body of event i with a copy of body, which may be a
// view of the old one.
func (b *Batch) SetBody(i int, body []byte) { b.events[i].Body = b.Copy(body) }

// SetBodyView replaces the body of event i with bytes that Alloc returned, or
// with a part of the old body.
func (b *Batch) SetBodyView(i int, body []byte) {
	b.events[i].Body = body[:len(body):len(body)]
}

// SetHeader sets a header of event i to a copy of value; nil is Flume's null.
func (b *Batch) SetHeader(i int, key string, value []byte) {
	b.SetHeaderView(i, key, b.copyValue(value))
}

// SetHeaderView sets a header of event i without copying value, which must be
// in the batch's blocks (Alloc, a part of a body) or never change.
func (b *Batch) SetHeaderView(i int, key string, value []byte) {
	e := &b.events[i]
	n := len(e.Headers)
	for j := range e.Headers {
		if e.Headers[j].Key == key {
			hs := b.slots(n) // the list may be shared with other events
			copy(hs, e.Headers)
			hs[j].Value = value
			b.ownHeaders(i, hs)
			return
		}
	}
	// The list that was made last, for this event, sits at the end of the
	// used slots: it grows in place.
	if b.hdrEvent == i && n > 0 && b.arena != nil && b.hdrEnd == len(b.arena.kvs) && n == b.hdrEnd-b.hdrStart {
		if hs := b.arena.slots(1); hs != nil {
			hs[0] = KV{Key: key, Value: value}
			b.hdrEnd++
			e.Headers = b.arena.kvs[b.hdrStart:b.hdrEnd:b.hdrEnd]
			return
		}
	}
	hs := b.slots(n + 1)
	copy(hs, e.Headers)
	hs[n] = KV{Key: key, Value: value}
	b.ownHeaders(i, hs)
}

// SetHeaders is SetHeaderView for several headers at once; their keys must
// differ. It makes one new list where that would make one a header.
func (b *Batch) SetHeaders(i int, headers []KV) {
	e := &b.events[i]
	n := len(e.Headers)
	for j := range e.Headers {
		for k := range headers {
			if headers[k].Key == e.Headers[j].Key {
				for _, h := range headers {
					b.SetHeaderView(i, h.Key, h.Value)
				}
				return
			}
		}
	}
	if len(headers) == 0 {
		return
	}
	hs := b.slots(n + len(headers))
	copy(hs, e.Headers)
	copy(hs[n:], headers)
	b.ownHeaders(i, hs)
}

func (b *Batch) ownHeaders(i int, hs []KV) {
	b.events[i].Headers = hs
	b.hdrEvent, b.hdrEnd = i, len(b.arena.kvs)
	b.hdrStart = b.hdrEnd - len(hs)
}

// SetHeaderAll sets a header of every event (of those without it, where
// preserve is true) to the same value, which must be in the batch's blocks or
// never change. Events with equal header lists go on sharing one.
func (b *Batch) SetHeaderAll(key string, value []byte, preserve bool) {
	var in, out []KV // the last list changed, and what it became
	for i := range b.events {
		e := &b.events[i]
		if i > 0 && sameList(e.Headers, in) {
			e.Headers = out
			continue
		}
		in = e.Headers
		if _, set := e.Header(key); !set || !preserve {
			b.SetHeaderView(i, key, value)
		}
		out = e.Headers
	}
	b.hdrEnd = -1 // the last list is shared now: it must not grow in place
}

func sameList(a, b []KV) bool {
	return len(a) == len(b) && (len(a) == 0 || unsafe.SliceData(a) == unsafe.SliceData(b))
}

// SameHeaders says that two events share one header list; if it answers false
// the lists may still be equal. Selectors use it to look a header up once for
// a whole run of events.
func SameHeaders(a, b *Event) bool { return sameList(a.Headers, b.Headers) }

// DelHeader removes a header of event i and says whether it was set.
func (b *Batch) DelHeader(i int, key string) bool {
	e := &b.events[i]
	for j := range e.Headers {
		if e.Headers[j].Key != key {
			continue
		}
		if len(e.Headers) == 1 {
			e.Headers = nil
			return true
		}
		hs := b.slots(len(e.Headers) - 1)
		copy(hs, e.Headers[:j])
		copy(hs[j:], e.Headers[j+1:])
		b.ownHeaders(i, hs)
		return true
	}
	return false
}

// Share appends event i of src to b without copying: b holds src's blocks too.
// Selectors split a batch that way.
func (b *Batch) Share(src *Batch, i int) {
	if len(b.events) == 0 {
		for _, blk := range src.blocks {
			b.Attach(blk)
		}
	}
	e := src.events[i]
	b.span += e.size()
	b.events = append(b.events, e)
}

// Live is the number of body and header bytes of the remaining events.
func (b *Batch) Live() int {
	n := 0
	for i := range b.events {
		n += b.events[i].size()
	}
	return n
}

// Release lets go of the blocks and returns the batch to its pool.
func (b *Batch) Release() {
	b.Reset()
	b.pool.batches.Put(b)
}

// Reset empties the batch and lets go of its blocks, for use again.
func (b *Batch) Reset() {
	clear(b.events)
	b.events = b.events[:0]
	for i, blk := range b.blocks {
		blk.Release()
		b.blocks[i] = nil
	}
	b.blocks = b.blocks[:0]
	b.arena, b.span, b.own, b.hdrEnd = nil, 0, 0, -1
}

// reserve makes the arena hold n more bytes and kvs more slots.
func (b *Batch) reserve(n, kvs int) {
	a := b.arena
	if a == nil || cap(a.buf)-len(a.buf) < n ||
		kvs > 0 && len(a.kvs) > 0 && cap(a.kvs)-len(a.kvs) < kvs {
		b.newArena(n, kvs)
	}
}

// newArena starts another block for copies: 4 KiB, then twice the last.
func (b *Batch) newArena(n, kvs int) {
	size := 4 << 10
	if b.arena != nil {
		size = min(2*cap(b.arena.buf), 256<<10)
	}
	b.arena = b.pool.Block(max(n, size))
	b.own += b.arena.Cap()
	b.blocks = append(b.blocks, b.arena)
	b.hdrEnd = -1
}

// slots returns n header slots of the batch's own memory.
func (b *Batch) slots(n int) []KV {
	if b.arena != nil {
		if hs := b.arena.slots(n); hs != nil {
			return hs
		}
	}
	b.newArena(0, n)
	return b.arena.slots(n)
}

// Sparse says that what the events use is less than a quarter of the memory
// that the batch keeps from being used again, so that it should be compacted
// before something holds it for long.
func (b *Batch) Sparse() bool { return 4*b.Live() < b.span+b.own }
