package dfs

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/colinmarc/hdfs/v2"
	"google.golang.org/protobuf/encoding/protowire"
)

// Recover implements FS. A file of another process is left alone as long as that renews its lease, and for the soft limit
// (a minute) after it: an append is refused until then. Our own files, given up by Abort, are closed at once (recoverLease).
func (h *HDFS) Recover(name string) error {
	closed, err := h.ask(isFileClosed, name)
	if closed || err != nil {
		return h.explain(err, "look at", name)
	}
	h.abortedMu.Lock()
	ours := h.aborted[name]
	h.abortedMu.Unlock()
	if !ours { // make it ours, if its writer is gone
		if _, err := h.append(name); err != nil {
			return err
		}
	}
	if closed, err = h.ask(recoverLease, name); err != nil {
		return h.explain(err, "close", name)
	}
	if !closed {
		return fmt.Errorf("close %s: %w: its last block is being recovered", name, ErrBusy)
	}
	h.abortedMu.Lock()
	defer h.abortedMu.Unlock()
	delete(h.aborted, name)
	return nil
}

func (h *HDFS) append(name string) (*hdfs.FileWriter, error) {
	c, err := h.connected()
	if err != nil {
		return nil, err
	}
	w, err := c.Append(name)
	var remote hdfs.Error
	if errors.As(err, &remote) {
		switch class := remote.Exception(); class[strings.LastIndexByte(class, '.')+1:] {
		case "AlreadyBeingCreatedException", "RecoveryInProgressException":
			return nil, fmt.Errorf("close %s: %w: another process writes to it, or has done so within the last minute", name, ErrBusy)
		}
	}
	return w, h.explain(err, "append to", name)
}

// ask makes a call that the client library does not have: one with a path, answered by yes or no. The name nodes are tried
// in turn, as only one of them is active.
//
// Facts: RpcHeader.proto, IpcConnectionContext.proto, ClientNamenodeProtocol.proto.
func (h *HDFS) ask(method, path string) (bool, error) {
	if h.login != nil {
		return h.askByTruncate(method, path)
	}
	var errs []string
	for _, addr := range h.opts.Addresses {
		yes, err := h.askOne(addr, method, path)
		if err == nil {
			return yes, nil
		}
		if r := (*refusal)(nil); errors.As(err, &r) && !strings.HasSuffix(r.class, ".StandbyException") {
			return false, err
		}
		errs = append(errs, err.Error())
	}
	return false, fmt.Errorf("no available namenodes: %s", strings.Join(errs, "; "))
}

const protocol = "org.apache.hadoop.hdfs.protocol.ClientProtocol"

const (
	isFileClosed = "isFileClosed"
	recoverLease = "recoverLease"
)

// Lengths that no file has, by which nodeConn knows what is meant.
const (
	askClosed  = -1
	askRecover = -2
)

// askByTruncate is ask where a call needs Kerberos: the library's truncate has a path and is answered by yes or no, too, and
// nodeConn makes the other calls of it.
func (h *HDFS) askByTruncate(method, path string) (bool, error) {
	c, err := h.connected()
	if err != nil {
		return false, err
	}
	size := int64(askRecover)
	if method == isFileClosed {
		size = askClosed
	}
	yes, err := c.Truncate(path, size)
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		err = pe.Err // it speaks of truncate
	}
	return yes, err
}

// question is the request of isFileClosed or recoverLease.
func question(method, path string) []byte {
	request := text(nil, 1, path)
	if method == recoverLease {
		request = text(request, 2, "sluice")
	}
	return request
}

// requestHeader is a RequestHeaderProto.
func requestHeader(method string) []byte {
	return number(text(text(nil, 1, method), 2, protocol), 3, 1)
}

func (h *HDFS) askOne(addr, method, path string) (bool, error) {
	in, err := h.call(addr, method, question(method, path))
	if err != nil {
		return false, err
	}
	return answer(in)
}

// dataNodes are all data nodes, as a GetDatanodeReportResponseProto.
func (h *HDFS) dataNodes(addr string) ([]byte, error) {
	in, err := h.call(addr, "getDatanodeReport", number(nil, 1, 1))
	if err != nil {
		return nil, err
	}
	return reply(in)
}

// call makes a call on a connection of its own. It returns the packet that is the answer.
func (h *HDFS) call(addr, method string, request []byte) ([]byte, error) {
	c, err := h.dialNameNode(context.Background(), "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	header := func(call int64) []byte {
		b := number(nil, 1, 2) // RPC_PROTOCOL_BUFFER
		b = number(b, 2, 0)    // RPC_FINAL_PACKET
		b = number(b, 3, protowire.EncodeZigZag(call))
		b = text(b, 4, string(id))
		return number(b, 5, 0)
	}
	out := []byte("hrpc\x09\x00\x00")
	out = packet(out, header(-3), text(text(nil, 2, string(text(nil, 1, h.opts.User))), 3, protocol))
	out = packet(out, header(0), requestHeader(method), request)
	if _, err := c.Write(out); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, fmt.Errorf("read the name node's answer: %w", err)
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxHead {
		return nil, fmt.Errorf("the name node's answer has %d bytes", n)
	}
	in := make([]byte, n)
	if _, err := io.ReadFull(c, in); err != nil {
		return nil, fmt.Errorf("read the name node's answer: %w", err)
	}
	return in, nil
}

// reply is the message in an answer.
func reply(in []byte) ([]byte, error) {
	head, used := message(in)
	if used == 0 {
		return nil, errors.New("the name node's answer is cut off")
	}
	for field, v := range fields(head) {
		if field == 2 && v != 0 { // status
			return nil, &refusal{class: textOf(head, 4), message: textOf(head, 5)}
		}
	}
	body, used := message(in[used:])
	if used == 0 {
		return nil, errors.New("the name node's answer is cut off")
	}
	return body, nil
}

// answer is the yes or no in an answer.
func answer(in []byte) (bool, error) {
	body, err := reply(in)
	if err != nil {
		return false, err
	}
	for field, v := range fields(body) {
		if field == 1 {
			return v != 0, nil
		}
	}
	return false, errors.New("the name node's answer says nothing")
}

// refusal is an exception of the name node.
type refusal struct{ class, message string }

func (r *refusal) Error() string {
	first, _, _ := strings.Cut(r.message, "\n")
	return r.class + ": " + first
}

// Is implements errors.Is.
func (r *refusal) Is(target error) bool {
	switch r.class {
	case "java.io.FileNotFoundException":
		return target == fs.ErrNotExist
	case "org.apache.hadoop.security.AccessControlException":
		return target == fs.ErrPermission
	}
	return false
}

func number(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func text(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func textOf(b []byte, field protowire.Number) string {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return ""
		}
		b = b[n:]
		if num == field && typ == protowire.BytesType {
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return ""
			}
			return string(bytes.ToValidUTF8(v, []byte("?")))
		}
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return ""
		}
		b = b[n:]
	}
	return ""
}

func packet(dst []byte, messages ...[]byte) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	for _, m := range messages {
		dst = protowire.AppendBytes(dst, m)
	}
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}
