package event

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// blockSizes are the sizes that a Pool recycles; larger blocks are made to
// measure and left to the garbage collector.
var blockSizes = [...]int{512, 4 << 10, 32 << 10, 64 << 10, 256 << 10, 1 << 20}

// Pool recycles blocks and batches. It is safe for concurrent use; an agent
// has one. The zero value is not usable, see NewPool.
type Pool struct {
	blocks  [len(blockSizes)]sync.Pool
	batches sync.Pool
	out     atomic.Int64 // blocks handed out and not yet returned
}

// NewPool returns an empty pool.
func NewPool() *Pool { return new(Pool) }

// Outstanding is the number of blocks that somebody still holds. Tests use it
// to show that nothing leaks.
func (p *Pool) Outstanding() int64 { return p.out.Load() }

// Block returns a block with room for at least size bytes, held once.
func (p *Pool) Block(size int) *Block {
	p.out.Add(1)
	class := -1
	for i, s := range blockSizes {
		if size <= s {
			class, size = i, s
			break
		}
	}
	if class >= 0 {
		if v := p.blocks[class].Get(); v != nil {
			b := v.(*Block)
			b.refs.Store(1)
			return b
		}
	}
	b := &Block{pool: p, class: class, size: size, buf: make([]byte, 0, size)}
	b.refs.Store(1)
	return b
}

// NewBatch returns an empty batch.
func (p *Pool) NewBatch() *Batch {
	if v := p.batches.Get(); v != nil {
		return v.(*Batch)
	}
	return &Batch{pool: p}
}

// Block is a piece of memory that many events view: bytes for bodies and
// header values, and slots for headers. It is filled by one owner from front
// to back (Free, Extend); what has been filled never changes, so holders may
// read it from other goroutines while the owner goes on filling.
type Block struct {
	pool  *Pool
	class int // index in blockSizes, or -1: not recycled
	size  int // cap(buf), which holders may ask for while the owner fills
	refs  atomic.Int32
	buf   []byte // len: filled
	kvs   []KV   // len: filled
}

// Cap is the block's size in bytes.
func (b *Block) Cap() int { return b.size }

// Bytes is what has been filled so far. Do not write to it.
func (b *Block) Bytes() []byte { return b.buf[:len(b.buf):len(b.buf)] }

// Free is the room that is left, for read(2) and the like. Only the owner may
// write to it.
func (b *Block) Free() []byte { return b.buf[len(b.buf):cap(b.buf)] }

// Extend marks the first n bytes of Free as filled and returns them.
func (b *Block) Extend(n int) []byte {
	l := len(b.buf)
	b.buf = b.buf[:l+n]
	return b.buf[l : l+n : l+n]
}

// Retain adds a holder.
func (b *Block) Retain() { b.refs.Add(1) }

// Release takes one holder away; with the last one the block returns to its
// pool and every view into it is void.
func (b *Block) Release() {
	switch n := b.refs.Add(-1); {
	case n > 0:
		return
	case n < 0:
		panic(fmt.Sprintf("BUG: block released %d times too often", -n))
	}
	poison(b.buf)
	b.buf = b.buf[:0]
	clear(b.kvs) // keys and values must not be kept alive by a pooled block
	b.kvs = b.kvs[:0]
	b.pool.out.Add(-1)
	if b.class >= 0 {
		b.pool.blocks[b.class].Put(b)
	}
}

// slots returns n unused header slots, or nil when they do not fit.
func (b *Block) slots(n int) []KV {
	l := len(b.kvs)
	if l+n > cap(b.kvs) {
		if l > 0 {
			return nil // handed-out slots must not move
		}
		// As many slots as a block of this size can usefully serve: a
		// pooled block keeps them, so this is paid once.
		b.kvs = make([]KV, 0, max(n, 16, cap(b.buf)/64))
	}
	b.kvs = b.kvs[:l+n]
	return b.kvs[l : l+n : l+n]
}
