package rpc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-data/sluice/event"
)

// stallTime is how long a peer may pause in the middle of a call, leave its
// answer unread or take for the TLS handshake.
const stallTime = time.Minute

// readBuffer is the size of the buffers that connections share.
const readBuffer = 64 << 10

// buffers hands out read buffers. An idle connection has none.
type buffers struct{ pool sync.Pool }

func (b *buffers) get() *[]byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return p
	}
	p := make([]byte, readBuffer)
	return &p
}

// reader reads calls or answers from a connection.
type reader struct {
	conn    net.Conn // with its layers
	buffers *buffers
	// deadline sets the time until which the next bytes must come; nil: the
	// owner has set one.
	deadline func()

	first   [16]byte // the first bytes of the call, before there is a buffer
	prefix  [8]byte  // the first bytes of the connection, to tell what it is
	seen    int      // how many of prefix
	buf     *[]byte
	pending []byte // unread part of *buf
}

// wait waits for the first bytes of a call, without a deadline.
func (r *reader) wait() error {
	if len(r.pending) > 0 {
		return nil
	}
	n, err := r.conn.Read(r.first[:])
	if n == 0 {
		return err
	}
	if r.buf == nil {
		r.buf = r.buffers.get()
	}
	r.pending = (*r.buf)[:copy(*r.buf, r.first[:n])]
	r.note(r.pending)
	return nil
}

func (r *reader) note(p []byte) {
	if r.seen < len(r.prefix) {
		r.seen += copy(r.prefix[r.seen:], p)
	}
}

// release gives the buffer back when nothing is in it.
func (r *reader) release() {
	if r.buf != nil && len(r.pending) == 0 {
		r.buffers.pool.Put(r.buf)
		r.buf, r.pending = nil, nil
	}
}

// full fills p.
func (r *reader) full(p []byte) error {
	for len(p) > 0 {
		if len(r.pending) > 0 {
			n := copy(p, r.pending)
			p, r.pending = p[n:], r.pending[n:]
			continue
		}
		if r.deadline != nil {
			r.deadline()
		}
		if len(p) >= readBuffer { // past the buffer
			n, err := r.conn.Read(p)
			r.note(p[:n])
			if p = p[n:]; err != nil && len(p) > 0 {
				return cut(err)
			}
			continue
		}
		if r.buf == nil {
			r.buf = r.buffers.get()
		}
		n, err := r.conn.Read(*r.buf)
		if n == 0 && err != nil {
			return cut(err)
		}
		r.pending = (*r.buf)[:n]
		r.note(r.pending)
	}
	return nil
}

func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (r *reader) uint32() (uint32, error) {
	var b [4]byte
	if err := r.full(b[:]); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(b[:]), nil
}

// budget bounds the memory of all calls that a server is reading.
type budget struct {
	max  int64
	used atomic.Int64
}

// meter is one call's part of a budget.
type meter struct {
	budget *budget
	held   int64 // taken from the budget
	own    int64 // used
}

// freeUse is what a call may use without asking.
const freeUse = 256 << 10

var errBudget = errors.New("too many large calls at once")

// use takes n bytes more.
func (m *meter) use(n int) error {
	m.own += int64(n)
	if m.own <= freeUse {
		return nil
	}
	want := m.own - m.held
	if m.budget.used.Add(want) > m.budget.max {
		m.budget.used.Add(-want)
		return errBudget
	}
	m.held += want
	return nil
}

// clear gives everything back.
func (m *meter) clear() {
	m.budget.used.Add(-m.held)
	m.held, m.own = 0, 0
}

// frame collects a message in a block that grows with what arrives.
type frame struct {
	pool  *event.Pool
	meter *meter
	max   int
	blk   *event.Block
	left  int // of max
}

// firstBlock is the most that is taken for a call before its bytes are there.
const firstBlock = 64 << 10

// begin starts a message of which size bytes are announced.
func (f *frame) begin(size int) error {
	f.left = f.max
	return f.grow(min(size, firstBlock))
}

func (f *frame) grow(size int) error {
	if err := f.meter.use(size); err != nil {
		return err
	}
	blk := f.pool.Block(size)
	if f.blk != nil {
		have := f.blk.Bytes()
		copy(blk.Extend(len(have)), have)
		f.blk.Release()
	}
	f.blk = blk
	return nil
}

// read adds n bytes.
func (f *frame) read(r *reader, n int) error {
	if n < 0 || n > f.left {
		return tooLarge(n, f.max)
	}
	f.left -= n
	for n > 0 {
		room := f.blk.Free()
		if len(room) == 0 {
			have := len(f.blk.Bytes())
			if err := f.grow(min(2*max(have, 256), have+max(n, 256))); err != nil {
				return err
			}
			continue
		}
		part := min(n, len(room))
		if err := r.full(room[:part]); err != nil {
			return err
		}
		f.blk.Extend(part)
		n -= part
	}
	return nil
}

func tooLarge(n, limit int) error {
	return &wrongPeer{fmt.Errorf("a length of %d bytes, where max-request-size allows %d", uint32(n), limit)}
}

// done returns the message; the caller gets the block.
func (f *frame) done() *event.Block {
	blk := f.blk
	f.blk = nil
	// A block much larger than its content must not wait in a channel.
	if n := len(blk.Bytes()); blk.Cap() > 4<<10 && 8*n < blk.Cap() {
		small := f.pool.Block(n)
		copy(small.Extend(n), blk.Bytes())
		blk.Release()
		blk = small
	}
	return blk
}

// drop lets go of what was collected.
func (f *frame) drop() {
	if f.blk != nil {
		f.blk.Release()
		f.blk = nil
	}
}
