package hbase

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// A read-only visit to ZooKeeper: connect, read one node, close. HBase's
// writers need it once, and again only when the server of hbase:meta is gone,
// so a session that lives on would be kept alive for nothing.

const (
	maxZKFrame = 1 << 20 // jute.maxbuffer
	zkGetData  = 4
	zkClose    = -11
	zkNoNode   = -101
)

var errNoNode = errors.New("there is no such node")

// zkGet reads a node from the first server of an ensemble that answers.
func zkGet(ctx context.Context, servers []string, path string, timeout time.Duration) ([]byte, error) {
	var errs []error
	for _, i := range rand.Perm(len(servers)) {
		data, err := zkGetFrom(ctx, servers[i], path, timeout)
		if err == nil {
			return data, nil
		}
		err = fmt.Errorf("ZooKeeper %s: %w", servers[i], err)
		if ctx.Err() != nil || errors.Is(err, errNoNode) {
			return nil, err
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func zkGetFrom(ctx context.Context, server, path string, timeout time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	data, err := zkVisit(c, path, timeout)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("no answer within %v: %w", timeout, context.Cause(ctx))
	}
	return data, err
}

func zkVisit(c io.ReadWriter, path string, timeout time.Duration) ([]byte, error) {
	// ConnectRequest: protocol, last zxid seen, time-out in ms, session, password, read-only.
	req := make([]byte, 4, 64)
	req = binary.BigEndian.AppendUint32(req, 0)
	req = binary.BigEndian.AppendUint64(req, 0)
	req = binary.BigEndian.AppendUint32(req, uint32(timeout.Milliseconds()))
	req = binary.BigEndian.AppendUint64(req, 0)
	req = zkBuffer(req, make([]byte, 16))
	req = append(req, 1) // a server cut off from the others will do
	if _, err := c.Write(zkFrame(req)); err != nil {
		return nil, err
	}
	resp, err := zkRead(c)
	if err != nil {
		return nil, err
	}
	if err := zkConnected(resp); err != nil {
		return nil, err
	}

	req = binary.BigEndian.AppendUint32(req[:4], 1) // xid
	req = binary.BigEndian.AppendUint32(req, zkGetData)
	req = zkBuffer(req, []byte(path))
	req = append(req, 0) // no watch
	if _, err := c.Write(zkFrame(req)); err != nil {
		return nil, err
	}
	for {
		if resp, err = zkRead(c); err != nil {
			return nil, err
		}
		data, mine, err := zkData(resp)
		if !mine && err == nil {
			continue
		}
		// The session ends at once instead of with its time-out. That nobody
		// hears it does no harm.
		req = binary.BigEndian.AppendUint32(req[:4], 2)
		_, _ = c.Write(zkFrame(binary.BigEndian.AppendUint32(req, uint32(0xFFFFFFFF&(1<<32+zkClose)))))
		return data, err
	}
}

// zkFrame fills the length in that the first four bytes are kept for.
func zkFrame(b []byte) []byte {
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

func zkBuffer(dst, b []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(b)))
	return append(dst, b...)
}

func zkRead(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if err == io.EOF {
			err = errors.New("it closed the connection")
		}
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxZKFrame {
		return nil, fmt.Errorf("an answer of %d bytes: not a ZooKeeper server", n)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

var errZK = errors.New("malformed answer: not a ZooKeeper server")

// zkConnected reads a ConnectResponse: protocol, time-out, session, password.
func zkConnected(p []byte) error {
	if len(p) < 4+4+8+4 {
		return errZK
	}
	if binary.BigEndian.Uint32(p[4:]) == 0 {
		return errors.New("it refused the session")
	}
	return nil
}

// zkData reads the answer to the request with xid 1; others are not mine.
func zkData(p []byte) (data []byte, mine bool, err error) {
	if len(p) < 16 { // xid, zxid, error
		return nil, false, errZK
	}
	if int32(binary.BigEndian.Uint32(p)) != 1 {
		return nil, false, nil
	}
	switch code := int32(binary.BigEndian.Uint32(p[12:])); code {
	case 0:
	case zkNoNode:
		return nil, true, errNoNode
	default:
		return nil, true, fmt.Errorf("error %d", code)
	}
	if p = p[16:]; len(p) < 4 {
		return nil, true, errZK
	}
	n := int64(int32(binary.BigEndian.Uint32(p)))
	if n < 0 || n > int64(len(p)-4) {
		return nil, true, errZK
	}
	return p[4 : 4+n], true, nil
}

var pbuf = []byte("PBUF")

// regionOpen is RegionState.State's OPEN.
const regionOpen = 3

// parseMetaNode reads what HBase keeps in the node meta-region-server: 0xFF, a
// length, that many bytes that name the writer, the magic PBUF and a
// MetaRegionServer.
func parseMetaNode(p []byte) (serverName, error) {
	if len(p) > 5 && p[0] == 0xFF {
		n := uint64(binary.BigEndian.Uint32(p[1:]))
		if n > uint64(len(p)-5) {
			return serverName{}, errMessage
		}
		p = p[5+n:]
	}
	p, ok := bytes.CutPrefix(p, pbuf)
	if !ok {
		return serverName{}, fmt.Errorf("%w: the node has no PBUF", errMessage)
	}
	var s serverName
	state := uint64(regionOpen)
	err := fields(p, func(num protowire.Number, v uint64, b []byte) (err error) {
		switch num {
		case 1:
			s, err = parseServerName(b)
		case 3:
			state = v
		}
		return err
	})
	switch {
	case err != nil:
		return s, err
	case s.host == "":
		return s, fmt.Errorf("%w: the node names no server", errMessage)
	case state != regionOpen:
		return s, errors.New("hbase:meta is not open yet")
	}
	return s, nil
}
