// Package rpc speaks the two protocols by which Flume agents pass events on,
// Avro IPC and Thrift, as a server (the avro and thrift sources) and as a
// client (their sinks, and the public package rpc). docs/rpc.md describes both.
package rpc

import (
	"errors"
	"fmt"

	"github.com/sluice-data/sluice/event"
)

// Protocol is one of the two.
type Protocol int

// The protocols.
const (
	Avro Protocol = iota
	ThriftCompact
	ThriftBinary
)

// Status of both protocols: what a server says of a call.
const (
	statusOK     = 0
	statusFailed = 1
)

func statusName(p Protocol, n int64) string {
	names := []string{"OK", "FAILED", "UNKNOWN"}
	if p != Avro {
		names = []string{"OK", "FAILED", "ERROR", "UNKNOWN"}
	}
	if n < 0 || n >= int64(len(names)) {
		return fmt.Sprint(n)
	}
	return names[n]
}

// limits of what a call may bring, beside its size.
const (
	maxEvents = 1 << 20
	// maxName is the longest header name that is kept for the next event.
	maxName  = 256
	maxNames = 1000
)

// events adds a call's events to a batch, as views of the block that the batch
// holds. A decoder of a protocol feeds it.
type events struct {
	batch *event.Batch
	meter *meter
	names map[string]string
	keep  func([]byte) string // intern, made once

	list []event.KV // scratch
	// The headers of the last event, and the bytes they were decoded from:
	// an event with the same bytes shares the list.
	raw    []byte
	shared []event.KV
}

func newEvents() *events {
	e := &events{names: map[string]string{}}
	e.keep = e.intern
	return e
}

// begin starts a call.
func (e *events) begin(b *event.Batch, m *meter) {
	e.batch, e.meter, e.raw, e.shared = b, m, nil, nil
}

// end lets go of the call.
func (e *events) end() {
	e.batch, e.raw, e.shared = nil, nil, nil
	clear(e.list[:cap(e.list)])
	if e.list = e.list[:0]; cap(e.list) > maxNames {
		e.list = nil
	}
}

// intern returns the name as a string; most are those of the last event.
func (e *events) intern(b []byte) string {
	if n, ok := e.names[string(b)]; ok {
		return n
	}
	n := string(b)
	if len(n) <= maxName {
		if len(e.names) >= maxNames {
			clear(e.names)
		}
		e.names[n] = n
	}
	return n
}

var errTooMany = fmt.Errorf("more than %d events in a call: use smaller batches", maxEvents)

const (
	eventBytes  = 48 // of an event.Event
	headerBytes = 40 // of an event.KV
)

// expect makes room for n events, of which each takes least bytes of the left ones.
func (e *events) expect(n int64, least, left int) error {
	if n < 0 || n > maxEvents {
		return errTooMany
	}
	if n > int64(left/least) {
		return fmt.Errorf("%d events do not fit in the %d bytes that are left", n, left)
	}
	if err := e.meter.use(int(n) * eventBytes); err != nil {
		return err
	}
	e.batch.Grow(int(n))
	return nil
}

// add adds an event with the headers in hs, which were decoded from raw.
func (e *events) add(body []byte, hs []event.KV, raw []byte) error {
	e.batch.Add(body)
	e.list = hs[:0]
	if len(hs) == 0 {
		e.raw = nil
		return nil
	}
	if err := e.meter.use(len(hs) * headerBytes); err != nil {
		return err
	}
	i := e.batch.Len() - 1
	e.batch.SetHeaders(i, hs)
	e.raw, e.shared = raw, e.batch.Events()[i].Headers
	return nil
}

// same adds an event with the headers of the one before.
func (e *events) same(body []byte) {
	e.batch.AppendView(event.Event{Body: body[:len(body):len(body)], Headers: e.shared})
}

// wrongPeer is an error that says what the bytes of a peer look like.
type wrongPeer struct{ err error }

func (w *wrongPeer) Error() string { return w.err.Error() }
func (w *wrongPeer) Unwrap() error { return w.err }

var errShort = errors.New("the call ends too early")

// looksLike says what the first bytes of a peer are, when they are not those
// of the protocol expected; "" when it cannot be told.
func looksLike(p []byte) string {
	switch {
	case len(p) >= 3 && (p[0] == recordHandshake || p[0] == 0x15) && p[1] == 3 && p[2] <= 4:
		return "TLS"
	case len(p) >= 2 && p[0] == 0x78 && (uint(p[0])<<8|uint(p[1]))%31 == 0:
		return "deflate"
	case len(p) >= 4 && (string(p[:4]) == "GET " || string(p[:4]) == "POST" || string(p[:4]) == "HTTP" || string(p[:4]) == "HEAD" || string(p[:4]) == "PUT "):
		return "HTTP"
	case len(p) >= 6 && p[0] == 0 && p[4] == 0x82 && p[5]&0x1F == 1:
		return "Thrift, compact protocol"
	case len(p) >= 6 && p[0] == 0 && p[4] == 0x80 && p[5] == 1:
		return "Thrift, binary protocol"
	case len(p) >= 8 && p[0] == 0 && p[4] == 0 && p[5] == 0 && (p[6] != 0 || p[7] != 0):
		return "Avro" // a small serial and a few pieces
	}
	return ""
}
