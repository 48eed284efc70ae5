package rpc

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/serde"
)

// protocolHash names the protocol as Flume 1.11 has it, with its comments. A
// peer that knows the hash needs no text.
const protocolHash = "86aadae2c45474c0fe93ffd0f2350a65"

// protocolText is that protocol in our words, for a peer that does not.
const protocolText = `{"protocol":"AvroSourceProtocol","namespace":"org.apache.flume.source.avro","types":[` +
	`{"type":"enum","name":"Status","symbols":["OK","FAILED","UNKNOWN"]},` +
	`{"type":"record","name":"AvroFlumeEvent","fields":[{"name":"headers","type":{"type":"map","values":"string"}},{"name":"body","type":"bytes"}]}],` +
	`"messages":{"append":{"request":[{"name":"event","type":"AvroFlumeEvent"}],"response":"Status"},` +
	`"appendBatch":{"request":[{"name":"events","type":{"type":"array","items":"AvroFlumeEvent"}}],"response":"Status"}}}`

type hash [16]byte

func flumeHash() (h hash) {
	if _, err := hex.Decode(h[:], []byte(protocolHash)); err != nil {
		panic("BUG: " + err.Error())
	}
	return h
}

// Matches of a handshake.
const (
	matchBoth   = 0
	matchClient = 1
	matchNone   = 2
)

// Bounds of a peer's protocol text. Flume's has about a thousand bytes, and
// nests types three deep.
const (
	maxProtocolText = 64 << 10
	maxTypeDepth    = 8
)

// checkProtocol says whether the peer's protocol puts events on the wire as
// Flume does.
func checkProtocol(text []byte) error {
	var p struct {
		Types []struct {
			Name   string
			Fields []struct {
				Name string
				Type json.RawMessage
			}
		}
		Messages map[string]struct {
			Request []struct{ Type json.RawMessage }
		}
	}
	if len(text) > maxProtocolText {
		return fmt.Errorf("the peer's protocol has %d bytes, more than %d", len(text), maxProtocolText)
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return fmt.Errorf("the peer's protocol is not JSON: %w", err)
	}
	// typeName is a type's name, or that of {"type": name, …}: Java adds
	// properties to strings.
	var typeName func(raw json.RawMessage, depth int) (name string, inner json.RawMessage)
	typeName = func(raw json.RawMessage, depth int) (string, json.RawMessage) {
		var s string
		if json.Unmarshal(raw, &s) == nil {
			return s, nil
		}
		var o struct{ Type, Values, Items json.RawMessage }
		if depth == 0 || json.Unmarshal(raw, &o) != nil {
			return "", nil
		}
		if err := json.Unmarshal(o.Type, &s); err != nil {
			return typeName(o.Type, depth-1)
		}
		return s, append(o.Values, o.Items...)
	}
	is := func(raw json.RawMessage, want ...string) bool {
		for _, w := range want {
			name, inner := typeName(raw, maxTypeDepth)
			if name != w {
				return false
			}
			raw = inner
		}
		return true
	}
	records := 0
	for _, t := range p.Types {
		if t.Name != "AvroFlumeEvent" {
			continue
		}
		if len(t.Fields) != 2 || t.Fields[0].Name != "headers" || !is(t.Fields[0].Type, "map", "string") ||
			t.Fields[1].Name != "body" || !is(t.Fields[1].Type, "bytes") {
			return errors.New("the peer's AvroFlumeEvent is not {map<string> headers; bytes body}")
		}
		records++
	}
	if records != 1 || len(p.Messages) == 0 {
		return errors.New("the peer does not speak Flume's AvroSourceProtocol")
	}
	for name, m := range p.Messages {
		var ok bool
		switch name {
		case "append":
			ok = len(m.Request) == 1 && is(m.Request[0].Type, "AvroFlumeEvent")
		case "appendBatch":
			ok = len(m.Request) == 1 && is(m.Request[0].Type, "array", "AvroFlumeEvent")
		default:
			ok = true
		}
		if !ok {
			return fmt.Errorf("the peer's %s has other arguments than Flume's", name)
		}
	}
	return nil
}

// cursor walks a message. After the first error it stays at the end.
type cursor struct {
	p   []byte
	err error
}

func (c *cursor) long() (n int64) {
	if c.err == nil {
		n, c.p, c.err = serde.ReadAvroLong(c.p)
	}
	return n
}

func (c *cursor) bytes() (b []byte) {
	if c.err == nil {
		b, c.p, c.err = serde.ReadAvroBytes(c.p)
	}
	return b
}

func (c *cursor) fixed(dst []byte) {
	if c.err == nil && len(c.p) < len(dst) {
		c.err = errShort
	}
	if c.err == nil {
		c.p = c.p[copy(dst, c.p):]
	}
}

// optional reads the index of a union of null and something.
func (c *cursor) optional() bool {
	n := c.long()
	if c.err == nil && n != 0 && n != 1 {
		c.err = fmt.Errorf("a union of two has no branch %d", n)
	}
	return c.err == nil && n == 1
}

// meta skips a map of bytes.
func (c *cursor) meta() {
	for c.err == nil {
		n := c.long()
		if n == 0 {
			return
		}
		if n < 0 {
			n = -n
			c.long()
		}
		if n < 0 || n > int64(len(c.p)) {
			c.err = errShort
		}
		for ; n > 0 && c.err == nil; n-- {
			c.bytes()
			c.bytes()
		}
	}
}

// avroServer is the server's side of one connection.
type avroServer struct {
	known     *knownClients
	serial    uint32
	connected bool
	handshake []byte // of the answer at hand
	complete  bool   // the answer is the handshake alone
}

// read reads a call.
func (a *avroServer) read(r *reader, f *frame) error {
	serial, err := r.uint32()
	if err != nil {
		return err
	}
	pieces, err := r.uint32()
	if err != nil {
		return err
	}
	if int64(pieces)*4 > int64(f.max) {
		return tooLarge(int(pieces), f.max)
	}
	a.serial = serial
	for i := range pieces {
		n, err := r.uint32()
		if err != nil {
			return err
		}
		if i == 0 {
			if int64(n) > int64(f.max) {
				return tooLarge(int(n), f.max)
			}
			// All pieces but the last are about as large.
			if err := f.begin(int(min(int64(n)*int64(pieces), int64(f.max)))); err != nil {
				return err
			}
		}
		if int64(n)+4 > int64(f.left) {
			return tooLarge(int(n), f.max)
		}
		f.left -= 4
		if err := f.read(r, int(n)); err != nil {
			return err
		}
	}
	if pieces == 0 {
		return f.begin(0)
	}
	return nil
}

// decode reads the events of a call. It answers false when there is nothing
// to emit: a handshake, or a call without events.
func (a *avroServer) decode(p []byte, ev *events) (single, emit bool, err error) {
	a.handshake, a.complete = a.handshake[:0], false
	c := cursor{p: p}
	if !a.connected {
		if err := a.shake(&c); err != nil {
			return false, false, &wrongPeer{fmt.Errorf("handshake: %w", err)}
		}
		if !a.connected { // the client is to send its protocol
			a.complete = true
			return false, false, nil
		}
	}
	c.meta()
	name := c.bytes()
	if c.err != nil {
		return false, false, c.err
	}
	switch string(name) {
	case "":
		a.complete = true
		return false, false, nil
	case "append":
		_, err := a.event(c.p, ev)
		return true, true, err
	case "appendBatch":
		rest := c.p
		for {
			var n int64
			if n, rest, err = serde.ReadAvroLong(rest); err != nil || n == 0 {
				return false, ev.batch.Len() > 0, err
			}
			if n < 0 {
				if _, rest, err = serde.ReadAvroLong(rest); err != nil {
					return false, false, err
				}
				n = -n
			}
			if err := ev.expect(n, 2, len(rest)); err != nil {
				return false, false, err
			}
			if ev.batch.Len()+int(n) > maxEvents {
				return false, false, errTooMany
			}
			for ; n > 0; n-- {
				if rest, err = a.event(rest, ev); err != nil {
					return false, false, err
				}
			}
		}
	}
	return false, false, fmt.Errorf("no such call: %.64q", name)
}

// event reads an event.
func (a *avroServer) event(p []byte, ev *events) (rest []byte, err error) {
	if n := len(ev.raw); n > 0 && n <= len(p) && string(p[:n]) == string(ev.raw) {
		body, rest, err := serde.ReadAvroBytes(p[n:])
		if err != nil {
			return nil, fmt.Errorf("body: %w", err)
		}
		ev.same(body)
		return rest, nil
	}
	hs, rest, err := serde.ReadAvroHeaders(p, ev.list[:0], ev.keep)
	if err != nil {
		return nil, err
	}
	raw := p[:len(p)-len(rest)]
	body, rest, err := serde.ReadAvroBytes(rest)
	if err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	return rest, ev.add(body, hs, raw)
}

// shake reads a handshake and prepares its answer.
func (a *avroServer) shake(c *cursor) error {
	var client, server hash
	var text []byte
	c.fixed(client[:])
	if c.optional() {
		text = c.bytes()
	}
	c.fixed(server[:])
	if c.optional() {
		c.meta()
	}
	if c.err != nil {
		return c.err
	}
	ok := a.known.has(client)
	if !ok && text != nil {
		if err := checkProtocol(text); err != nil {
			return err
		}
		a.known.add(client)
		ok = true
	}
	ours := flumeHash()
	match := matchBoth
	switch {
	case !ok:
		match = matchNone
	case server != ours:
		match = matchClient
	}
	a.connected = ok
	b := binary.AppendVarint(a.handshake, int64(match))
	if match == matchBoth {
		b = append(b, 0, 0)
	} else {
		b = serde.AppendAvroBytes(append(b, 2), protocolText)
		b = append(append(b, 2), ours[:]...)
	}
	a.handshake = append(b, 0)
	return nil
}

// answer appends the answer to the call at hand.
func (a *avroServer) answer(dst []byte, failed bool) []byte {
	dst, at := a.open(dst)
	if !a.complete {
		status := int64(statusOK)
		if failed {
			status = statusFailed
		}
		dst = append(dst, 0, 0) // no meta, no error
		dst = binary.AppendVarint(dst, status)
	}
	return seal(dst, at)
}

// reject appends Avro's error to a call that cannot be read.
func (a *avroServer) reject(dst []byte, err error) []byte {
	dst, at := a.open(dst)
	dst = append(dst, 0, 1, 0)
	return seal(serde.AppendAvroBytes(dst, err.Error()), at)
}

func (a *avroServer) open(dst []byte) (_ []byte, at int) {
	dst = binary.BigEndian.AppendUint32(dst, a.serial)
	dst = append(dst, 0, 0, 0, 1, 0, 0, 0, 0)
	return append(dst, a.handshake...), len(dst)
}

// seal writes the length of what follows at into the four bytes before it.
func seal(b []byte, at int) []byte {
	binary.BigEndian.PutUint32(b[at-4:], uint32(len(b)-at))
	return b
}

// avroClient is the client's side of one connection.
type avroClient struct {
	serial    uint32
	connected bool
	server    hash // what the server is believed to have
	tellText  bool // it does not know our hash
}

func newAvroClient() *avroClient { return &avroClient{server: flumeHash()} }

// request appends a call with evs.
func (a *avroClient) request(dst []byte, evs []event.Event, single bool) []byte {
	a.serial++
	dst = binary.BigEndian.AppendUint32(dst, a.serial)
	dst = append(dst, 0, 0, 0, 1, 0, 0, 0, 0)
	at := len(dst)
	if !a.connected {
		ours := flumeHash()
		dst = append(dst, ours[:]...)
		if a.tellText {
			dst = serde.AppendAvroBytes(append(dst, 2), protocolText)
		} else {
			dst = append(dst, 0)
		}
		dst = append(dst, a.server[:]...)
		dst = append(dst, 0)
	}
	dst = append(dst, 0)
	if single {
		dst = serde.AppendAvroBytes(dst, "append")
		return seal(serde.AppendAvroEvent(dst, &evs[0]), at)
	}
	dst = serde.AppendAvroBytes(dst, "appendBatch")
	dst = binary.AppendVarint(dst, int64(len(evs)))
	from, to := 0, 0 // the last event's headers in dst
	for i := range evs {
		e := &evs[i]
		if i > 0 && event.SameHeaders(e, &evs[i-1]) {
			n := len(dst)
			dst = append(dst, dst[from:to]...)
			from, to = n, len(dst)
		} else {
			from = len(dst)
			dst = serde.AppendAvroHeaders(dst, e)
			to = len(dst)
		}
		dst = serde.AppendAvroBytes(dst, e.Body)
	}
	return seal(append(dst, 0), at)
}

// errAgain asks for the same call once more, with our protocol's text.
var errAgain = errors.New("the server asks for the protocol")

// response reads the answer to the last request.
func (a *avroClient) response(r *reader, buf []byte) (status int64, _ []byte, err error) {
	var head [8]byte
	if err := r.full(head[:]); err != nil {
		return 0, buf, err
	}
	pieces := binary.BigEndian.Uint32(head[4:])
	if serial := binary.BigEndian.Uint32(head[:4]); serial != a.serial || pieces > maxAnswer/4 {
		return 0, buf, &wrongPeer{errors.New("the answer is not Avro's")}
	}
	buf = buf[:0]
	for range pieces {
		n, err := r.uint32()
		if err != nil {
			return 0, buf, err
		}
		if int64(n)+int64(len(buf)) > maxAnswer {
			return 0, buf, &wrongPeer{fmt.Errorf("an answer of %d bytes", n)}
		}
		at := len(buf)
		buf = slices.Grow(buf, int(n))[:at+int(n)]
		if err := r.full(buf[at:]); err != nil {
			return 0, buf, err
		}
	}
	c := cursor{p: buf}
	if !a.connected {
		if err := a.shaken(&c); err != nil {
			return 0, buf, err
		}
	}
	c.meta()
	var failed [1]byte
	c.fixed(failed[:])
	if failed[0] == 0 {
		status = c.long()
	} else if index := c.long(); c.err == nil && index == 0 {
		return 0, buf, fmt.Errorf("the server failed on the call: %.500s", c.bytes())
	}
	if c.err != nil {
		return 0, buf, &wrongPeer{fmt.Errorf("decode the answer: %w", c.err)}
	}
	return status, buf, nil
}

// maxAnswer bounds an answer: the text of a protocol is the most it has.
const maxAnswer = 1 << 20

func (a *avroClient) shaken(c *cursor) error {
	match := c.long()
	var text []byte
	if c.optional() {
		text = c.bytes()
	}
	if c.optional() {
		c.fixed(a.server[:])
	}
	if c.optional() {
		c.meta()
	}
	switch {
	case c.err != nil:
		return &wrongPeer{fmt.Errorf("handshake: %w", c.err)}
	case match == matchNone && a.tellText:
		return &wrongPeer{errors.New("handshake: the server refuses Flume's protocol")}
	case match != matchBoth && match != matchClient && match != matchNone:
		return &wrongPeer{fmt.Errorf("handshake: an unknown match %d", match)}
	}
	if text != nil {
		if err := checkProtocol(text); err != nil {
			return &wrongPeer{fmt.Errorf("handshake: %w", err)}
		}
	}
	if match == matchNone {
		a.tellText = true
		return errAgain
	}
	a.connected = true
	return nil
}
