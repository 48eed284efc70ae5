package rpc

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"

	"github.com/klauspost/compress/zlib"
)

// A connection is TCP and, above it, TLS and deflate in one of two orders;
// docs/rpc.md says which Flume has which.
type layers struct {
	tls     *tls.Config // nil: none
	verify  verifier    // of a client; nil: any server will do
	deflate bool
	level   int  // of a client's deflate
	inside  bool // of a client: compress first, then encrypt
}

// client builds a client's layers on raw and shakes hands.
func (l *layers) client(ctx context.Context, raw net.Conn, host string) (net.Conn, error) {
	c := raw
	compress := func() (err error) {
		if l.deflate {
			c, err = newDeflater(c, l.level)
		}
		return err
	}
	if !l.inside {
		if err := compress(); err != nil {
			return nil, err
		}
	}
	if l.tls != nil {
		conf := l.tls.Clone()
		conf.ServerName = host
		if l.verify != nil {
			conf.VerifyConnection = func(cs tls.ConnectionState) error { return l.verify(host, cs) }
		}
		t := tls.Client(c, conf)
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("TLS handshake: %w", err)
		}
		c = t
	}
	if l.inside {
		if err := compress(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// server builds a server's layers on raw. With both of them the first byte
// tells the order.
func (l *layers) server(ctx context.Context, raw net.Conn) (net.Conn, error) {
	switch {
	case l.tls == nil && !l.deflate:
		return raw, nil
	case l.tls == nil:
		return &deflateConn{Conn: raw}, nil
	}
	c := raw
	inside := true
	if l.deflate {
		var first [1]byte
		if _, err := io.ReadFull(raw, first[:]); err != nil {
			return nil, err
		}
		c = &unread{Conn: raw, b: first[:]}
		inside = first[0] == recordHandshake
	}
	if !inside {
		c = &deflateConn{Conn: c}
	}
	t := tls.Server(c, l.tls)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	if l.deflate && inside {
		return &deflateConn{Conn: t}, nil
	}
	return t, nil
}

// recordHandshake opens the first TLS record of a connection.
const recordHandshake = 0x16

// unread is a connection of which some bytes were read already.
type unread struct {
	net.Conn
	b []byte
}

func (u *unread) Read(p []byte) (int, error) {
	if len(u.b) > 0 {
		n := copy(p, u.b)
		u.b = u.b[n:]
		return n, nil
	}
	return u.Conn.Read(p)
}

// deflateConn is a connection each direction of which is one zlib stream,
// flushed at the end of every Write.
type deflateConn struct {
	net.Conn
	in      io.ReadCloser // nil until the first Read
	out     *zlib.Writer  // nil: stored blocks
	queue   *bufio.Writer // of out, which writes in small pieces
	started bool          // the header of the stored stream is out
	buf     []byte
}

// newDeflater returns a connection that compresses what is written.
func newDeflater(c net.Conn, level int) (net.Conn, error) {
	queue := bufio.NewWriterSize(c, inflateBuffer)
	w, err := zlib.NewWriterLevel(queue, level)
	if err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	return &deflateConn{Conn: c, out: w, queue: queue}, nil
}

const inflateBuffer = 16 << 10

func (d *deflateConn) Read(p []byte) (int, error) {
	if d.in == nil {
		in, err := zlib.NewReader(bufio.NewReaderSize(d.Conn, inflateBuffer)) // reads the header
		if err != nil {
			return 0, err
		}
		d.in = in
	}
	return d.in.Read(p)
}

func (d *deflateConn) Write(p []byte) (int, error) {
	if d.out == nil {
		return d.store(p)
	}
	n, err := d.out.Write(p)
	if err == nil {
		err = d.out.Flush()
	}
	if err == nil {
		err = d.queue.Flush()
	}
	return n, err
}

// store writes p as stored blocks, with an empty one at the end that makes the
// peer hand everything on.
func (d *deflateConn) store(p []byte) (int, error) {
	const most = 1<<16 - 1
	b := d.buf[:0]
	if !d.started {
		b = append(b, 0x78, 0x01)
	}
	block := func(p []byte) {
		b = append(b, 0)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(p)))
		b = binary.LittleEndian.AppendUint16(b, ^uint16(len(p)))
		b = append(b, p...)
	}
	for rest := p; len(rest) > 0; {
		n := min(len(rest), most)
		block(rest[:n])
		rest = rest[n:]
	}
	block(nil)
	if d.buf = b[:0]; cap(b) > inflateBuffer {
		d.buf = nil
	}
	if _, err := d.Conn.Write(b); err != nil {
		return 0, err
	}
	d.started = true
	return len(p), nil
}
