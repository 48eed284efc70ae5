package broker

import (
	"io"
	"net"
	"sync"
	"syscall"
)

// input is what arrives on a connection. One receive takes as many requests as
// fit into its buffer, which belongs to the connection only while there is
// something in it: thousands of idle connections hold none.
type input struct {
	nc   net.Conn
	raw  syscall.RawConn // nil if nc is no socket; then the buffer is held while waiting
	buf  *[inputBuffer]byte
	r, w int

	// kept are the first bytes of a prefix whose rest has not come: a client
	// that sends a byte and waits must not hold a buffer.
	kept  [keptBytes]byte
	nkept int

	recv    func(fd uintptr) bool // receive, bound once
	n       int                   // what it returned
	recvErr error
}

// inputBuffer holds a handful of requests of Apache Kafka's default batch.size.
const inputBuffer = 128 << 10

var inputBuffers = sync.Pool{New: func() any { return new([inputBuffer]byte) }}

// keptBytes holds any part of a request's prefix.
const keptBytes = 16

func newInput(nc net.Conn) *input {
	in := &input{nc: nc}
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			in.raw = raw
			in.recv = in.receive
		}
	}
	return in
}

// buffered is what has arrived and was not taken yet.
func (in *input) buffered() []byte {
	if in.buf == nil {
		return in.kept[:in.nkept]
	}
	return in.buf[in.r:in.w]
}

// skip takes n bytes of what is buffered. They stay valid until the next fill.
func (in *input) skip(n int) { in.r += n }

// release gives an empty buffer back.
func (in *input) release() {
	if in.buf != nil && in.r == in.w {
		inputBuffers.Put(in.buf)
		in.buf, in.r, in.w = nil, 0, 0
	}
}

// drop gives the buffer back whatever is in it.
func (in *input) drop() {
	in.r, in.nkept = in.w, 0
	in.release()
}

// keep is release, also of a buffer with less than keptBytes in it.
func (in *input) keep() {
	if in.buf != nil && in.w-in.r <= keptBytes {
		in.nkept = copy(in.kept[:], in.buf[in.r:in.w])
		in.r = in.w
		in.release()
	}
}

// take has a buffer to receive into, with what was kept at its start.
func (in *input) take() {
	if in.buf == nil {
		in.buf = inputBuffers.Get().(*[inputBuffer]byte)
		in.r, in.w = 0, copy(in.buf[:], in.kept[:in.nkept])
		in.nkept = 0
	}
}

// fill waits until there is more than what is buffered, which must be less
// than the buffer holds.
func (in *input) fill() error {
	if in.r == in.w {
		in.r, in.w = 0, 0
	} else if in.r > 0 {
		in.w = copy(in.buf[:], in.buf[in.r:in.w])
		in.r = 0
	}
	if in.raw == nil {
		in.take()
		n, err := in.nc.Read(in.buf[in.w:])
		in.w += n
		if n > 0 {
			return nil
		}
		return err
	}
	in.n, in.recvErr = 0, nil
	if err := in.raw.Read(in.recv); err != nil {
		in.release()
		return err
	}
	switch {
	case in.recvErr != nil:
		in.release()
		return in.recvErr
	case in.n == 0:
		in.release()
		return io.EOF
	}
	in.w += in.n
	return nil
}

// receive tries once; false has the caller wait for the socket to be readable.
func (in *input) receive(fd uintptr) bool {
	in.take()
	for {
		n, err := syscall.Read(int(fd), in.buf[in.w:])
		switch err {
		case nil:
			in.n = n
			return true
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			in.keep()
			return false
		}
		in.recvErr = &net.OpError{Op: "read", Net: "tcp", Source: in.nc.LocalAddr(), Addr: in.nc.RemoteAddr(), Err: err}
		return true
	}
}

// Read takes what is buffered first.
func (in *input) Read(p []byte) (int, error) {
	if b := in.buffered(); len(b) > 0 {
		n := copy(p, b)
		in.r += n
		in.release()
		return n, nil
	}
	return in.nc.Read(p)
}
