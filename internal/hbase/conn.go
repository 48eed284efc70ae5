package hbase

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// maxFrame bounds an answer. Those to a writer are small; the largest is one
// stack trace for each mutation of a request.
const maxFrame = 64 << 20

// preamble: the magic, version 0, and authentication "simple".
var preamble = []byte{'H', 'B', 'a', 's', 0, 0x50}

// connError is the failure of a connection: whatever was asked may or may not
// have been done.
type connError struct {
	addr string
	err  error
}

func (e *connError) Error() string { return fmt.Sprintf("server %s: %v", e.addr, e.err) }
func (e *connError) Unwrap() error { return e.err }

var (
	errNoAnswer = errors.New("no answer in time")
	errClosed   = errors.New("the connection was closed")
)

// conn is one connection to one service of one server. Any number of calls may
// be under way; answers come in any order.
type conn struct {
	addr    string
	c       net.Conn
	timeout time.Duration
	reader  chan struct{} // closed when read has ended

	wmu sync.Mutex // of writes

	mu      sync.Mutex
	pending map[uint32]*call
	next    uint32
	err     error // sticky
}

// call is a request whose answer is awaited.
type call struct {
	// decode reads the answer, in the reader's goroutine. An error means
	// that the server cannot be understood.
	decode func(param, cells []byte) error
	done   chan error
}

// dial connects and says hello. The server answers that only when it objects.
func dial(ctx context.Context, cfg *Config, addr, service string) (*conn, error) {
	dctx, cancel := context.WithTimeout(ctx, cfg.ConnectTimeout)
	defer cancel()
	nc, err := (&net.Dialer{}).DialContext(dctx, "tcp", addr)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &connError{addr, err}
	}
	hello := append([]byte(nil), preamble...)
	head := appendConnectionHeader(nil, cfg.User, service)
	hello = binary.BigEndian.AppendUint32(hello, uint32(len(head)))
	hello = append(hello, head...)
	err = nc.SetWriteDeadline(time.Now().Add(cfg.ConnectTimeout))
	if err == nil {
		_, err = nc.Write(hello)
	}
	if err != nil {
		nc.Close() // the error that counts is the one before
		return nil, &connError{addr, err}
	}
	c := &conn{addr: addr, c: nc, timeout: cfg.RPCTimeout, reader: make(chan struct{}), pending: make(map[uint32]*call)}
	go c.read()
	return c, nil
}

// close ends the connection and waits for its goroutine.
func (c *conn) close() {
	c.fail(errClosed)
	<-c.reader
}

// failed is the error that ended the connection, if any.
func (c *conn) failed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// fail ends the connection and every call on it.
func (c *conn) fail(err error) {
	c.mu.Lock()
	if c.err == nil {
		var remote *RemoteError
		if !errors.As(err, &remote) {
			err = &connError{c.addr, err}
		}
		c.err = err
		c.c.Close() // of no interest: it is not used any more
	}
	pending := c.pending
	c.pending = nil
	err = c.err
	c.mu.Unlock()
	for _, p := range pending {
		p.done <- err
	}
}

// buffers are used for frames to be sent.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// do sends a request and waits until its answer was decoded. param and cells
// append these parts, which have the sizes paramSize and h.cells.
func (c *conn) do(ctx context.Context, h requestHeader, paramSize int, param, cells func([]byte) []byte, decode func(param, cells []byte) error) error {
	p := &call{decode: decode, done: make(chan error, 1)}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return c.err
	}
	c.next++
	id := c.next & 0x7fffffff // the server's type has a sign, and -1 a meaning
	c.pending[id] = p
	c.mu.Unlock()

	h.id, h.timeout = id, uint32(c.timeout.Milliseconds())
	buf := buffers.Get().(*[]byte)
	b := append((*buf)[:0], 0, 0, 0, 0)
	var hb [160]byte
	b = protowire.AppendBytes(b, h.append(hb[:0]))
	b = protowire.AppendVarint(b, uint64(paramSize))
	at := len(b)
	b = param(b)
	if len(b)-at != paramSize {
		panic(fmt.Sprintf("BUG: a parameter of %s has %d bytes instead of %d", h.method, len(b)-at, paramSize))
	}
	if cells != nil {
		b = cells(b)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	err := c.write(b)
	*buf = b
	if cap(b) <= maxKept {
		buffers.Put(buf)
	}
	if err != nil {
		c.fail(err)
		return <-p.done
	}

	timer := time.NewTimer(c.timeout)
	defer timer.Stop()
	select {
	case err := <-p.done:
		return err
	case <-timer.C:
		// A server that hangs, or a network that swallows: the others on
		// this connection wait for the same.
		c.fail(fmt.Errorf("%s: %w (%v)", h.method, errNoAnswer, c.timeout))
		return <-p.done
	case <-ctx.Done():
		c.mu.Lock()
		mine := c.pending[id] == p
		if mine {
			delete(c.pending, id)
		}
		c.mu.Unlock()
		if mine {
			return ctx.Err()
		}
		return <-p.done // it is being decoded
	}
}

func (c *conn) write(b []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if err := c.c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return err
	}
	_, err := c.c.Write(b)
	return err
}

// read hands answers to their calls until the connection fails.
func (c *conn) read() {
	defer close(c.reader)
	var buf []byte
	for {
		var err error
		if buf, err = readFrame(c.c, buf); err == nil {
			err = c.answer(buf)
		}
		if err != nil {
			if err == io.EOF {
				err = errors.New("the server closed the connection")
			}
			c.fail(err)
			return
		}
		if cap(buf) > 1<<20 {
			buf = nil
		}
	}
}

// readFrame reads a frame into buf, or a larger one. Memory follows what has
// arrived, not what the length promises.
func readFrame(r io.Reader, buf []byte) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return buf, err
	}
	n := int(binary.BigEndian.Uint32(head[:]))
	if n > maxFrame {
		return buf, fmt.Errorf("an answer of %d bytes: not an HBase server, or a broken one", n)
	}
	buf = buf[:0]
	for len(buf) < n {
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), min(n, max(4096, 4*len(buf))))
			copy(grown, buf)
			buf = grown
		}
		at := len(buf)
		buf = buf[:min(n, cap(buf))]
		if _, err := io.ReadFull(r, buf[at:]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return buf, err
		}
	}
	return buf, nil
}

// splitFrame takes an answer apart.
func splitFrame(frame []byte) (h responseHeader, param, cells []byte, err error) {
	head, n := protowire.ConsumeBytes(frame)
	if n < 0 {
		return h, nil, nil, errMessage
	}
	if h, err = parseResponseHeader(head); err != nil {
		return h, nil, nil, err
	}
	rest := frame[n:]
	if h.exception != nil {
		return h, nil, nil, nil
	}
	if h.cells > uint64(len(rest)) {
		return h, nil, nil, fmt.Errorf("%w: a cell block of %d bytes in %d", errMessage, h.cells, len(rest))
	}
	cells = rest[uint64(len(rest))-h.cells:]
	param, n = protowire.ConsumeBytes(rest[:len(rest)-len(cells)])
	if n < 0 {
		return h, nil, nil, errMessage
	}
	return h, param, cells, nil
}

func (c *conn) answer(frame []byte) error {
	h, param, cells, err := splitFrame(frame)
	if err != nil {
		return err
	}
	c.mu.Lock()
	p := c.pending[h.id]
	delete(c.pending, h.id)
	c.mu.Unlock()
	if p == nil {
		if h.exception != nil && int32(h.id) < 0 { // about the connection: a user that is not let in
			return h.exception
		}
		return nil // nobody waits for it any longer
	}
	if h.exception != nil {
		p.done <- h.exception
		return nil
	}
	if err = p.decode(param, cells); err != nil {
		p.done <- &connError{c.addr, err}
		return err
	}
	p.done <- nil
	return nil
}
