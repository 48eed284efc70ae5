package event

// Tail compacts sparse batches: it copies what is left of them, one batch
// after the other, into shared blocks, so that a filter that passes one event
// in a thousand does not keep a thousand events' memory for each that waits in
// a channel. It is not safe for concurrent use.
type Tail struct {
	pool *Pool
	blk  *Block
}

// NewTail returns a Tail that takes its blocks from pool.
func NewTail(pool *Pool) *Tail { return &Tail{pool: pool} }

// tailBlock is the size of a shared block: small enough that one event still
// waiting does not pin much, large enough to be rare.
const tailBlock = 32 << 10

// Compact moves b's events into the tail's block and lets b's own blocks go.
func (t *Tail) Compact(b *Batch) {
	old := len(b.blocks)
	for i := range b.events {
		e := &b.events[i]
		t.fit(e.size(), len(e.Headers))
		// Not Attach: b may hold the block already, among those that go.
		if n := len(b.blocks); n == old || b.blocks[n-1] != t.blk {
			t.blk.Retain()
			b.blocks = append(b.blocks, t.blk)
		}
		body := t.copy(e.Body)
		var hs []KV
		if len(e.Headers) > 0 {
			hs = t.blk.slots(len(e.Headers))
			for j, h := range e.Headers {
				hs[j].Key = h.Key
				if h.Value != nil {
					hs[j].Value = t.copy(h.Value)
				}
			}
		}
		*e = Event{Body: body, Headers: hs}
	}
	for _, blk := range b.blocks[:old] {
		blk.Release()
	}
	n := copy(b.blocks, b.blocks[old:])
	clear(b.blocks[n:])
	b.blocks = b.blocks[:n]
	b.arena, b.own, b.span, b.hdrEnd = nil, 0, b.Live(), -1
}

// Close lets go of the last block.
func (t *Tail) Close() {
	if t.blk != nil {
		t.blk.Release()
		t.blk = nil
	}
}

func (t *Tail) copy(p []byte) []byte {
	if len(p) == 0 {
		return emptyBytes
	}
	dst := t.blk.Extend(len(p))
	copy(dst, p)
	return dst
}

// fit makes the current block hold n more bytes and kvs more slots.
func (t *Tail) fit(n, kvs int) {
	if b := t.blk; b != nil {
		if len(b.Free()) >= n && (kvs == 0 || len(b.kvs) == 0 || cap(b.kvs)-len(b.kvs) >= kvs) {
			return
		}
		b.Release()
	}
	t.blk = t.pool.Block(max(n, tailBlock))
}
