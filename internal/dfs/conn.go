package dfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// strictConn has a time limit for each read and each write, and closes after an error: the client above it would go on
// with a connection of which the last answer is still to come.
type strictConn struct {
	net.Conn
	timeout time.Duration // 0: none
}

func (c *strictConn) limit() time.Time {
	if c.timeout <= 0 {
		return time.Time{}
	}
	return time.Now().Add(c.timeout)
}

func (c *strictConn) Read(p []byte) (int, error) {
	if err := c.Conn.SetReadDeadline(c.limit()); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	return n, c.check(err)
}

func (c *strictConn) Write(p []byte) (int, error) {
	if err := c.Conn.SetWriteDeadline(c.limit()); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	return n, c.check(err)
}

func (c *strictConn) check(err error) error {
	if err == nil {
		return nil
	}
	_ = c.Conn.Close()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("%w: %s has not answered for %v (callTimeout)", err, c.RemoteAddr(), c.timeout)
	}
	return err
}

// SetDeadline is without effect: the limits above hold.
func (c *strictConn) SetDeadline(time.Time) error { return nil }

// A pipe is what is known of the packets of one file: how many were sent to the data nodes and how many these have
// acknowledged. The client does not tell, so pipeConn listens in on its connections.
//
// A connection finds its pipe by the deadline that the client sets on it, which is the one that was set on the file: each
// file has another, far in the future, and that is its id.
type pipe struct {
	id      time.Time
	timeout time.Duration

	mu      sync.Mutex
	conn    *pipeConn
	sent    int64 // number of the last packet of this connection
	acked   int64
	err     error
	changed chan struct{} // closed when acked or err changes
}

type pipes struct {
	mu   sync.Mutex
	next int64
	all  map[int64]*pipe
}

func (ps *pipes) new(timeout time.Duration) *pipe {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.all == nil {
		ps.all, ps.next = map[int64]*pipe{}, time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	}
	ps.next++
	p := &pipe{id: time.Unix(ps.next, 0), timeout: timeout, changed: make(chan struct{})}
	ps.all[ps.next] = p
	return p
}

func (ps *pipes) find(id time.Time) *pipe {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.all[id.Unix()]
}

func (ps *pipes) forget(p *pipe) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	delete(ps.all, p.id.Unix())
}

// fail ends all of them.
func (ps *pipes) fail(err error) {
	ps.mu.Lock()
	all := slices.Collect(maps.Values(ps.all))
	ps.mu.Unlock()
	for _, p := range all {
		p.fail(err)
	}
}

// begin is a new connection, for a new block. The client ends a block only when all of it is acknowledged.
func (p *pipe) begin(c *pipeConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn, p.sent, p.acked = c, 0, 0
}

// look notes whether the connection can be seen through.
func (p *pipe) look(c *pipeConn, plain bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.hidden = !plain
}

// hidden is whether nothing is known of the packets of this connection.
func (p *pipe) hidden() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conn != nil && p.conn.hidden
}

func (p *pipe) packet(c *pipeConn, seq int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn == c {
		p.sent = max(p.sent, seq)
	}
}

func (p *pipe) ack(c *pipeConn, seq int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn == c && seq > p.acked {
		p.acked = seq
		p.tell()
	}
}

func (p *pipe) tell() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// fail ends the pipe: its connection is closed and nothing is awaited any more. It answers whether that comes as a surprise:
// nothing had failed before, and packets were under way.
func (p *pipe) fail(err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	surprise := p.err == nil && p.acked < p.sent
	if p.err == nil {
		p.err = err
		p.tell()
	}
	if p.conn != nil {
		_ = p.conn.Conn.Close()
	}
	return surprise
}

// await returns when all packets that were sent are acknowledged. The connection's read limit ends the wait at the latest.
func (p *pipe) await() error {
	for {
		p.mu.Lock()
		done, err, changed := p.acked >= p.sent, p.err, p.changed
		p.mu.Unlock()
		if done || err != nil {
			return err
		}
		<-changed
	}
}

// pipeConn is a connection to the first data node of a block's pipeline. What goes through it is only looked at. Facts: DataTransferProtocol,
// that is an operation (2 bytes version, 1 byte code, a message with its length), its answer (a message with its length), then packets (4 bytes
// length of what follows the header, 2 bytes length of the header, the header, checksums and data) and their acknowledgements (messages).
type pipeConn struct {
	net.Conn
	pipes   *pipes
	timeout time.Duration
	pipe    *pipe // nil: not known (yet)
	nodes   *nodes
	line    []string // addresses of the data nodes of the pipeline, the one of this connection first

	out, in scanner
	looked  bool
	hidden  bool // by encryption or checksums (Kerberos): nothing can be seen
	asked   bool // the operation is through
	answer  bool // its answer is through
}

// isOperation is whether these bytes are the operation that writes a block: version 28, code 80 and a message, which the library
// writes at once.
func isOperation(p []byte) bool {
	if !bytes.HasPrefix(p, []byte{0, 28, 80}) {
		return false
	}
	_, n := message(p[3:])
	return n == len(p)-3
}

// SetDeadline tells whose connection it is; the limits of strictConn hold. With Kerberos the login is through by then.
func (c *pipeConn) SetDeadline(t time.Time) error {
	if p := c.pipes.find(t); p != nil && c.pipe == nil {
		c.pipe = p
		p.begin(c)
	}
	return nil
}

func (c *pipeConn) Write(p []byte) (int, error) {
	if c.pipe != nil && !c.looked { // nobody reads before this
		c.looked = true
		c.pipe.look(c, isOperation(p))
	}
	if c.pipe != nil && !c.hidden {
		c.out.feed(p, c.scanOut)
	}
	strict := strictConn{c.Conn, c.timeout}
	n, err := strict.Write(p)
	if err != nil && c.pipe != nil && c.pipe.fail(err) {
		c.failed(0)
	}
	return n, err
}

func (c *pipeConn) Read(p []byte) (int, error) {
	strict := strictConn{c.Conn, c.timeout}
	n, err := strict.Read(p)
	if c.pipe != nil {
		if !c.hidden {
			c.in.feed(p[:n], c.scanIn)
		}
		if err != nil && c.pipe.fail(err) {
			c.failed(0)
		}
	}
	return n, err
}

// failed tells of a data node of the pipeline.
func (c *pipeConn) failed(i int) {
	if i < len(c.line) {
		c.nodes.fail(c.line[i])
	}
}

// scanner cuts a stream into pieces without keeping more than the head of each.
type scanner struct {
	buf  []byte
	skip int // bytes to pass over
}

// maxHead bounds what is kept: heads are far smaller.
const maxHead = 1 << 20

// feed calls scan with what is there: it returns how many bytes of it are a whole piece (0: more is needed) and how many to skip after them.
func (s *scanner) feed(p []byte, scan func([]byte) (used, skip int)) {
	for len(p) > 0 {
		if s.skip > 0 {
			n := min(s.skip, len(p))
			s.skip -= n
			p = p[n:]
			continue
		}
		var used int
		if len(s.buf) == 0 { // the usual case: a piece is in one write
			if used, s.skip = scan(p); used > 0 {
				p = p[used:]
				continue
			}
		}
		if len(s.buf) > maxHead {
			s.skip = int(^uint(0) >> 1) // not what it should be: nothing is understood from here on
			continue
		}
		had := len(s.buf)
		s.buf = append(s.buf, p...)
		if used, s.skip = scan(s.buf); used == 0 {
			return
		}
		p = p[used-had:]
		s.buf = s.buf[:0]
	}
}

// message is the length of a message with its length before it; 0: more is needed.
func message(p []byte) (body []byte, used int) {
	n, size := protowire.ConsumeVarint(p)
	if size < 0 || n > maxHead || len(p)-size < int(n) {
		return nil, 0
	}
	return p[size : size+int(n)], size + int(n)
}

func (c *pipeConn) scanOut(p []byte) (used, skip int) {
	if !c.asked {
		if len(p) < 4 {
			return 0, 0
		}
		if op, n := message(p[3:]); n > 0 {
			c.asked = true
			for target := range submessages(op, 2) {
				if addrs := addresses(target); len(addrs) > 0 {
					c.line = append(c.line, addrs[0])
				}
			}
			return 3 + n, 0
		}
		return 0, 0
	}
	if len(p) < 6 {
		return 0, 0
	}
	rest, head := int(binary.BigEndian.Uint32(p))-4, int(binary.BigEndian.Uint16(p[4:]))
	if len(p) < 6+head {
		return 0, 0
	}
	for field, v := range fields(p[6 : 6+head]) {
		if field == 2 && int64(v) > 0 { // seqno, sfixed64; a heartbeat has -1
			c.pipe.packet(c, int64(v))
		}
	}
	return 6 + head, max(0, rest)
}

func (c *pipeConn) scanIn(p []byte) (used, skip int) {
	body, n := message(p)
	if n == 0 {
		return 0, 0
	}
	if !c.answer {
		c.answer = true // the client looks at it
		for field, v := range fields(body) {
			if field == 1 && v != 0 { // status
				if link := textOf(body, 2); link != "" { // firstBadLink
					c.nodes.fail(link)
				} else {
					c.failed(0)
				}
			}
		}
		return n, 0
	}
	var seq int64
	node := 0
	for field, v := range fields(body) {
		switch field {
		case 1: // seqno, sint64
			seq = protowire.DecodeZigZag(v)
		case 2: // status of each data node
			if v != 0 && c.pipe.fail(fmt.Errorf("a data node has refused a packet (status %d)", v)) {
				c.failed(node)
			}
			node++
		}
	}
	if seq > 0 {
		c.pipe.ack(c, seq)
	}
	return n, 0
}

// fields are the numbers in a message.
func fields(b []byte) func(yield func(protowire.Number, uint64) bool) {
	return func(yield func(protowire.Number, uint64) bool) {
		for len(b) > 0 {
			num, typ, n := protowire.ConsumeTag(b)
			if n < 0 {
				return
			}
			b = b[n:]
			var v uint64
			switch typ {
			case protowire.VarintType:
				v, n = protowire.ConsumeVarint(b)
			case protowire.Fixed64Type:
				v, n = protowire.ConsumeFixed64(b)
			default:
				if n = protowire.ConsumeFieldValue(num, typ, b); n >= 0 {
					b = b[n:]
					continue
				}
			}
			if n < 0 || !yield(num, v) {
				return
			}
			b = b[n:]
		}
	}
}
