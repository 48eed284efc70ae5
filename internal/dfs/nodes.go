package dfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// badFor is how long a data node that failed is not asked for, as in Java's client
// (dfs.client.write.exclude.nodes.cache.expiry.interval.millis).
const badFor = 10 * time.Minute

// nodes are the data nodes that have failed lately. A name node goes on naming a dead one for ten minutes, and the client
// library asks for blocks without telling which data nodes it should not get: nodeConn does.
type nodes struct {
	mu   sync.Mutex
	bad  map[string]time.Time // until when, by address
	info map[string][]byte    // what the name node says of each (DatanodeInfoProto), by address
}

func (n *nodes) fail(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.bad == nil {
		n.bad = map[string]time.Time{}
	}
	n.bad[addr] = time.Now().Add(badFor)
}

// forgive is for when no others are left.
func (n *nodes) forgive() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.bad)
}

// excluded is what to tell the name node. It asks report for what is not known yet.
func (n *nodes) excluded(report func() ([]byte, error)) [][]byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list [][]byte
	now, asked := time.Now(), false
	for addr, until := range n.bad {
		if now.After(until) {
			delete(n.bad, addr)
			continue
		}
		if n.info[addr] == nil && !asked {
			asked = true
			if body, err := report(); err == nil { // else it fails again, and is asked again
				n.learn(body)
			}
		}
		if info := n.info[addr]; info != nil {
			list = append(list, info)
		}
	}
	return list
}

// learn reads a GetDatanodeReportResponseProto.
func (n *nodes) learn(body []byte) {
	n.info = map[string][]byte{}
	for info := range submessages(body, 1) {
		for _, addr := range addresses(info) {
			n.info[addr] = info
		}
	}
}

// addresses are those of the data node of a DatanodeInfoProto.
func addresses(info []byte) []string {
	var list []string
	for id := range submessages(info, 1) {
		port := uint64(0)
		for field, v := range fields(id) {
			if field == 4 {
				port = v
			}
		}
		for _, host := range []string{textOf(id, 1), textOf(id, 2)} {
			if host != "" {
				list = append(list, net.JoinHostPort(host, strconv.FormatUint(port, 10)))
			}
		}
	}
	return list
}

// submessages are the fields of one number that are messages.
func submessages(b []byte, want protowire.Number) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			num, typ, n := protowire.ConsumeTag(b)
			if n < 0 {
				return
			}
			b = b[n:]
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return
			}
			if num == want && typ == protowire.BytesType {
				if v, n := protowire.ConsumeBytes(b); n < 0 || !yield(v) {
					return
				}
			}
			b = b[n:]
		}
	}
}

// nodeConn is a connection to a name node. It adds the data nodes that failed to each addBlock (field 4 of
// AddBlockRequestProto), and makes the calls of Recover out of the library's truncate. The library encrypts no request.
type nodeConn struct {
	strictConn
	nodes  *nodes
	report func() ([]byte, error) // nil with Kerberos, where only the library can call
	failed error                  // of the first read or write that failed

	in   scanner
	long int // bytes of an answer that is too long; 0: none is
}

// maxAnswer is Hadoop's own limit of an answer (ipc.maximum.response.length). The library takes memory for any length that it reads.
const maxAnswer = 128 << 20

// Read implements net.Conn.
func (c *nodeConn) Read(p []byte) (int, error) {
	n, err := c.strictConn.Read(p)
	c.in.feed(p[:n], c.scanIn)
	if c.long > 0 {
		return 0, c.keep(c.check(fmt.Errorf("the name node's answer has %d bytes: is it one?", c.long)))
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("the name node %s has closed the connection: %w", c.RemoteAddr(), err)
	}
	return n, c.keep(err)
}

// scanIn reads the length of a packet.
func (c *nodeConn) scanIn(p []byte) (used, skip int) {
	if len(p) < 4 {
		return 0, 0
	}
	if skip = int(binary.BigEndian.Uint32(p)); skip > maxAnswer {
		c.long = skip
	}
	return 4, skip
}

// Write implements net.Conn. The library writes each request whole.
func (c *nodeConn) Write(p []byte) (int, error) {
	if c.failed != nil { // that says more than that the connection is closed
		return 0, c.failed
	}
	out := c.rewrite(p)
	if out == nil {
		n, err := c.strictConn.Write(p)
		return n, c.keep(err)
	}
	if _, err := c.strictConn.Write(out); err != nil {
		return 0, c.keep(err)
	}
	return len(p), nil
}

func (c *nodeConn) keep(err error) error {
	if c.failed == nil {
		c.failed = err
	}
	return err
}

// rewrite is nil where p is to stay as it is.
func (c *nodeConn) rewrite(p []byte) []byte {
	if len(p) < 4 {
		return nil
	}
	var parts [3][]byte // header of the packet, header of the request, request
	rest := p[4:]
	for i := range parts {
		body, used := message(rest)
		if used == 0 {
			return nil
		}
		parts[i], rest = body, rest[used:]
	}
	if len(rest) > 0 {
		return nil
	}
	switch textOf(parts[1], 1) {
	case "truncate":
		for field, v := range fields(parts[2]) { // TruncateRequestProto
			if field == 2 && int64(v) < 0 {
				method := recoverLease
				if int64(v) == askClosed {
					method = isFileClosed
				}
				return packet(nil, parts[0], requestHeader(method), question(method, textOf(parts[2], 1)))
			}
		}
	case "addBlock":
		if c.report == nil {
			return nil
		}
		list := c.nodes.excluded(c.report)
		if len(list) == 0 {
			return nil
		}
		request := append([]byte(nil), parts[2]...)
		for _, info := range list {
			request = protowire.AppendBytes(protowire.AppendTag(request, 4, protowire.BytesType), info)
		}
		return packet(nil, parts[0], parts[1], request)
	}
	return nil
}
