package rpc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/serde"
)

// Types of Thrift fields, by the binary protocol's numbers.
const (
	typeStop   = 0
	typeBool   = 2
	typeByte   = 3
	typeDouble = 4
	typeI16    = 6
	typeI32    = 8
	typeI64    = 10
	typeString = 11
	typeStruct = 12
	typeMap    = 13
	typeSet    = 14
	typeList   = 15
	typeUUID   = 16
)

// compactTypes are the binary protocol's numbers by those of the compact one.
var compactTypes = [...]byte{typeStop, typeBool, typeBool, typeByte, typeI16, typeI32, typeI64, typeDouble, typeString, typeList, typeSet, typeMap, typeStruct, typeUUID}

// Kinds of messages.
const (
	messageCall      = 1
	messageReply     = 2
	messageException = 3
	messageOneway    = 4
)

// Types of the exception that every call may answer.
const (
	unknownMethod = 1
	protocolError = 7
)

// maxDepth bounds what is skipped within each other.
const maxDepth = 16

// thrift walks a message of either protocol. After the first error it stays.
type thrift struct {
	p       []byte
	compact bool
	err     error
}

func (t *thrift) fail(format string, args ...any) {
	if t.err == nil {
		t.err = fmt.Errorf(format, args...)
	}
	t.p = nil
}

func (t *thrift) take(n int) []byte {
	if t.err != nil || n < 0 || n > len(t.p) {
		if t.err == nil {
			t.err = errShort
		}
		t.p = nil
		return nil
	}
	b := t.p[:n:n]
	t.p = t.p[n:]
	return b
}

func (t *thrift) byte() byte {
	if b := t.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (t *thrift) be16() int16 {
	if b := t.take(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (t *thrift) be32() int32 {
	if b := t.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (t *thrift) uvarint() uint64 {
	if t.err != nil {
		return 0
	}
	n, w := binary.Uvarint(t.p)
	if w <= 0 {
		t.fail("a number has no end")
		return 0
	}
	t.p = t.p[w:]
	return n
}

// size is a number of bytes or elements.
func (t *thrift) size() int {
	var n int64
	if t.compact {
		u := t.uvarint()
		if u > math.MaxInt32 {
			t.fail("a size of %d", u)
			return 0
		}
		n = int64(u)
	} else {
		n = int64(t.be32())
	}
	if n < 0 || n > int64(len(t.p)) {
		t.fail("a size of %d, but %d bytes are left", n, len(t.p))
		return 0
	}
	return int(n)
}

func (t *thrift) i32() int32 {
	if t.compact {
		u := t.uvarint()
		return int32(uint32(u)>>1) ^ -int32(u&1)
	}
	return t.be32()
}

func (t *thrift) bytes() []byte { return t.take(t.size()) }

// field reads the head of a field; last is the id of the one before.
func (t *thrift) field(last *int16) (typ byte) {
	b := t.byte()
	if !t.compact {
		if b != typeStop {
			*last = t.be16()
		}
		return b
	}
	if b == 0 {
		return typeStop
	}
	if delta := b >> 4; delta != 0 {
		*last += int16(delta)
	} else {
		u := t.uvarint()
		*last = int16(uint16(u)>>1) ^ -int16(u&1)
	}
	return t.compactType(b & 0xF)
}

func (t *thrift) compactType(b byte) byte {
	if int(b) >= len(compactTypes) {
		t.fail("a type %d", b)
		return typeStop
	}
	return compactTypes[b]
}

// list reads the head of a list or set.
func (t *thrift) list() (elem byte, n int) {
	b := t.byte()
	if !t.compact {
		return b, t.size()
	}
	elem = t.compactType(b & 0xF)
	if n = int(b >> 4); n == 15 {
		n = t.size()
	}
	if n > len(t.p) {
		t.fail("a list of %d, but %d bytes are left", n, len(t.p))
		n = 0
	}
	return elem, n
}

// table reads the head of a map.
func (t *thrift) table() (key, value byte, n int) {
	if !t.compact {
		return t.byte(), t.byte(), t.size()
	}
	if n = t.size(); n == 0 {
		return 0, 0, 0
	}
	b := t.byte()
	return t.compactType(b >> 4), t.compactType(b & 0xF), n
}

// skip passes over a value. A boolean has a byte within a list, a map or the
// binary protocol.
func (t *thrift) skip(typ byte, inField bool, depth int) {
	if depth == 0 {
		t.fail("more than %d values within each other", maxDepth)
	}
	if t.err != nil {
		return
	}
	switch typ {
	case typeBool:
		if !t.compact || !inField {
			t.byte()
		}
	case typeByte:
		t.byte()
	case typeI16, typeI32, typeI64:
		if t.compact {
			t.uvarint()
		} else {
			t.take(map[byte]int{typeI16: 2, typeI32: 4, typeI64: 8}[typ])
		}
	case typeDouble:
		t.take(8)
	case typeUUID:
		t.take(16)
	case typeString:
		t.bytes()
	case typeStruct:
		var id int16
		for t.err == nil {
			f := t.field(&id)
			if f == typeStop {
				return
			}
			t.skip(f, true, depth-1)
		}
	case typeList, typeSet:
		elem, n := t.list()
		for ; n > 0 && t.err == nil; n-- {
			t.skip(elem, false, depth-1)
		}
	case typeMap:
		k, v, n := t.table()
		for ; n > 0 && t.err == nil; n-- {
			t.skip(k, false, depth-1)
			t.skip(v, false, depth-1)
		}
	default:
		t.fail("a type %d", typ)
	}
}

// message reads the head of a message.
func (t *thrift) message() (name []byte, kind byte, seq int32) {
	if t.compact {
		id := t.byte()
		vt := t.byte()
		if t.err == nil && (id != 0x82 || vt&0x1F != 1) {
			t.fail("not the compact protocol (it begins with 0x%02X%02X)", id, vt)
		}
		kind, seq = vt>>5&7, int32(t.uvarint())
		return t.bytes(), kind, seq
	}
	v := t.be32()
	if v >= 0 { // an old client's: no version
		if int(v) > len(t.p) {
			t.fail("not the binary protocol (it begins with 0x%08X)", v)
		}
		name = t.take(int(v))
		return name, t.byte(), t.be32()
	}
	if t.err == nil && uint32(v)&0xFFFF0000 != 0x80010000 {
		t.fail("not the binary protocol (it begins with 0x%08X)", uint32(v))
	}
	name = t.bytes()
	return name, byte(v), t.be32()
}

// thriftServer is the server's side of one connection.
type thriftServer struct {
	compact bool
	seq     int32
	name    string
}

func (s *thriftServer) read(r *reader, f *frame) error {
	n, err := r.uint32()
	if err != nil {
		return err
	}
	if int64(n) > int64(f.max) {
		return tooLarge(int(n), f.max)
	}
	if err := f.begin(int(n)); err != nil {
		return err
	}
	return f.read(r, int(n))
}

func (s *thriftServer) decode(p []byte, ev *events) (single, emit bool, err error) {
	t := thrift{p: p, compact: s.compact}
	name, kind, seq := t.message()
	if t.err != nil {
		return false, false, &wrongPeer{t.err}
	}
	s.seq = seq
	switch string(name) {
	case "append":
		s.name, single = "append", true
	case "appendBatch":
		s.name = "appendBatch"
	default:
		s.name = string(name[:min(len(name), maxName)])
		return false, false, fmt.Errorf("no such call: %.64q", name)
	}
	if kind != messageCall {
		return false, false, fmt.Errorf("a message of kind %d is no call", kind)
	}
	var id int16
	for t.err == nil {
		typ := t.field(&id)
		switch {
		case t.err != nil:
		case typ == typeStop:
			if single && ev.batch.Len() != 1 {
				return single, false, errors.New("the call has no event")
			}
			return single, ev.batch.Len() > 0, nil
		case id == 1 && single && typ == typeStruct && ev.batch.Len() == 0:
			err = s.event(&t, ev)
		case id == 1 && !single && typ == typeList && ev.batch.Len() == 0:
			elem, n := t.list()
			if t.err == nil && n > 0 && elem != typeStruct {
				t.fail("a list of type %d, not of events", elem)
			}
			if t.err == nil {
				err = ev.expect(int64(n), 3, len(t.p))
			}
			for ; n > 0 && err == nil && t.err == nil; n-- {
				err = s.event(&t, ev)
			}
		default:
			t.skip(typ, true, maxDepth)
		}
		if err != nil {
			return single, false, err
		}
	}
	return single, false, t.err
}

// event reads one event: its headers and its body in any order, but both.
func (s *thriftServer) event(t *thrift, ev *events) error {
	var id int16
	hs, body := ev.list[:0], []byte(nil)
	var raw []byte
	var hasHeaders, same bool
	for {
		typ := t.field(&id)
		switch {
		case t.err != nil:
			return t.err
		case typ == typeStop:
			if !hasHeaders || body == nil {
				return errors.New("an event without its headers or its body")
			}
			if same {
				ev.same(body)
				return nil
			}
			return ev.add(body, hs, raw)
		case id == 1 && typ == typeMap:
			hasHeaders, hs = true, hs[:0]
			if n := len(ev.raw); n > 0 && n <= len(t.p) && string(t.p[:n]) == string(ev.raw) {
				t.p, same = t.p[n:], true
				continue
			}
			same = false
			before := t.p
			if hs = s.headers(t, hs, ev.keep); t.err != nil {
				return t.err
			}
			raw = before[:len(before)-len(t.p)]
		case id == 2 && typ == typeString:
			body = t.bytes()
		default:
			t.skip(typ, true, maxDepth)
		}
	}
}

// maxHeaders bounds the headers of one event.
const maxHeaders = 1 << 16

func (s *thriftServer) headers(t *thrift, hs []event.KV, key func([]byte) string) []event.KV {
	k, v, n := t.table()
	if n > 0 && (k != typeString || v != typeString) || n > maxHeaders {
		t.fail("headers are no map of strings (%d of types %d and %d)", n, k, v)
	}
	for ; n > 0 && t.err == nil; n-- {
		name, value := t.bytes(), t.bytes()
		hs = serde.SetHeader(hs, 0, key(name), value)
	}
	return hs
}

func (s *thriftServer) answer(dst []byte, failed bool) []byte {
	status := int32(statusOK)
	if failed {
		status = statusFailed
	}
	w := thriftWriter{b: append(dst, 0, 0, 0, 0), compact: s.compact}
	at := len(w.b)
	w.message(s.name, messageReply, s.seq)
	w.field(typeI32, 0, 0)
	w.i32(status)
	return seal(append(w.b, 0), at)
}

// reject answers Thrift's own exception.
func (s *thriftServer) reject(dst []byte, err error) []byte {
	kind := int32(protocolError)
	if s.name != "append" && s.name != "appendBatch" {
		kind = unknownMethod
	}
	w := thriftWriter{b: append(dst, 0, 0, 0, 0), compact: s.compact}
	at := len(w.b)
	w.message(s.name, messageException, s.seq)
	w.field(typeString, 1, 0)
	w.string(err.Error())
	w.field(typeI32, 2, 1)
	w.i32(kind)
	return seal(append(w.b, 0), at)
}

// thriftWriter appends a message.
type thriftWriter struct {
	b       []byte
	compact bool
}

func (w *thriftWriter) be32(n uint32) { w.b = binary.BigEndian.AppendUint32(w.b, n) }

func (w *thriftWriter) size(n int) {
	if w.compact {
		w.b = binary.AppendUvarint(w.b, uint64(n))
	} else {
		w.be32(uint32(n))
	}
}

func (w *thriftWriter) i32(n int32) {
	if w.compact {
		w.b = binary.AppendVarint(w.b, int64(n))
	} else {
		w.be32(uint32(n))
	}
}

func (w *thriftWriter) string(s string) { w.size(len(s)); w.b = append(w.b, s...) }
func (w *thriftWriter) bytes(p []byte)  { w.size(len(p)); w.b = append(w.b, p...) }

// typ is the number that the protocol has for a type.
func (w *thriftWriter) typ(t byte) byte {
	if !w.compact {
		return t
	}
	return byte(slices.Index(compactTypes[:], t))
}

func (w *thriftWriter) field(typ byte, id, last int16) {
	switch {
	case !w.compact:
		w.b = append(w.b, typ, byte(id>>8), byte(id))
	case id > last && id-last <= 15:
		w.b = append(w.b, byte(id-last)<<4|w.typ(typ))
	default:
		w.b = binary.AppendVarint(append(w.b, w.typ(typ)), int64(id))
	}
}

func (w *thriftWriter) list(elem byte, n int) {
	switch {
	case !w.compact:
		w.b = append(w.b, elem)
		w.size(n)
	case n < 15:
		w.b = append(w.b, byte(n)<<4|w.typ(elem))
	default:
		w.b = append(w.b, 0xF0|w.typ(elem))
		w.size(n)
	}
}

func (w *thriftWriter) table(key, value byte, n int) {
	if !w.compact {
		w.b = append(w.b, key, value)
		w.size(n)
		return
	}
	w.size(n)
	if n > 0 {
		w.b = append(w.b, w.typ(key)<<4|w.typ(value))
	}
}

func (w *thriftWriter) message(name string, kind byte, seq int32) {
	if w.compact {
		w.b = append(w.b, 0x82, kind<<5|1)
		w.b = binary.AppendUvarint(w.b, uint64(uint32(seq)))
		w.string(name)
		return
	}
	w.be32(0x80010000 | uint32(kind))
	w.string(name)
	w.be32(uint32(seq))
}

func (w *thriftWriter) headers(e *event.Event) {
	n := 0
	for i := range e.Headers {
		if e.Headers[i].Value != nil { // there is no null
			n++
		}
	}
	w.table(typeString, typeString, n)
	for i := range e.Headers {
		if h := &e.Headers[i]; h.Value != nil {
			w.string(h.Key)
			w.bytes(h.Value)
		}
	}
}

// thriftClient is the client's side of one connection.
type thriftClient struct {
	compact bool
	seq     int32
}

func (c *thriftClient) request(dst []byte, evs []event.Event, single bool) []byte {
	c.seq++
	w := thriftWriter{b: append(dst, 0, 0, 0, 0), compact: c.compact}
	at := len(w.b)
	name := "appendBatch"
	if single {
		name = "append"
	}
	w.message(name, messageCall, c.seq)
	if single {
		w.field(typeStruct, 1, 0)
	} else {
		w.field(typeList, 1, 0)
		w.list(typeStruct, len(evs))
	}
	from, to := 0, 0 // the last event's headers in w.b
	for i := range evs {
		e := &evs[i]
		w.field(typeMap, 1, 0)
		n := len(w.b)
		if i > 0 && event.SameHeaders(e, &evs[i-1]) {
			w.b = append(w.b, w.b[from:to]...)
		} else {
			w.headers(e)
		}
		from, to = n, len(w.b)
		w.field(typeString, 2, 1)
		w.bytes(e.Body)
		w.b = append(w.b, 0)
	}
	return seal(append(w.b, 0), at)
}

func (c *thriftClient) response(r *reader, buf []byte) (status int64, _ []byte, err error) {
	n, err := r.uint32()
	if err != nil {
		return 0, buf, err
	}
	if n > maxAnswer {
		return 0, buf, &wrongPeer{fmt.Errorf("an answer of %d bytes", n)}
	}
	buf = slices.Grow(buf[:0], int(n))[:n]
	if err := r.full(buf); err != nil {
		return 0, buf, err
	}
	t := thrift{p: buf, compact: c.compact}
	_, kind, seq := t.message()
	if t.err == nil && kind != messageReply && kind != messageException || t.err == nil && seq != c.seq {
		t.fail("a message of kind %d with number %d answers no call", kind, seq)
	}
	var id int16
	status = -1
	text := ""
	for t.err == nil {
		typ := t.field(&id)
		switch {
		case t.err != nil:
		case typ == typeStop:
			if kind == messageException {
				return 0, buf, fmt.Errorf("the server failed on the call: %.500s", text)
			}
			if status < 0 {
				return 0, buf, &wrongPeer{errors.New("the answer has no status")}
			}
			return status, buf, nil
		case kind == messageReply && id == 0 && typ == typeI32:
			status = int64(t.i32())
		case kind == messageException && id == 1 && typ == typeString:
			text = string(t.bytes())
		default:
			t.skip(typ, true, maxDepth)
		}
	}
	return 0, buf, &wrongPeer{fmt.Errorf("decode the answer: %w", t.err)}
}
