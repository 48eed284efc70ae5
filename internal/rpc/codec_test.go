package rpc

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"strings"
	"testing"

	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/serde"
)

// batchOf is a batch of n events as benchmarks have them.
func batchOf(n int, headers bool) []event.Event {
	body := []byte(strings.Repeat("b", 48))
	evs := make([]event.Event, n)
	hosts := [][]event.KV{{{Key: "host", Value: []byte("h1")}, {Key: "n", Value: []byte("1")}}, {{Key: "host", Value: []byte("h1")}, {Key: "n", Value: []byte("2")}}}
	for i := range evs {
		evs[i].Body = body
		if headers {
			evs[i].Headers = hosts[i/10%2]
		}
	}
	return evs
}

type clientMaker func() clientCodec

func codecs(p Protocol) (codec, clientMaker) {
	if p == Avro {
		return &avroServer{known: &knownClients{list: map[hash]bool{flumeHash(): true}}}, func() clientCodec { return newAvroClient() }
	}
	return &thriftServer{compact: p == ThriftCompact}, func() clientCodec { return &thriftClient{compact: p == ThriftCompact} }
}

// payload is the message of a call without its frame.
func payload(p Protocol, frame []byte) []byte {
	if p == Avro {
		return frame[12:]
	}
	return frame[4:]
}

// The budget: nothing is allocated per event, at neither end.
func TestAllocs(t *testing.T) {
	for _, p := range []Protocol{Avro, ThriftCompact, ThriftBinary} {
		for _, headers := range []bool{false, true} {
			evs := batchOf(1000, headers)
			server, makeClient := codecs(p)
			client := makeClient()
			connected := client.request(nil, evs, false)
			pool := event.NewPool()
			ev := newEvents()
			meter := meter{budget: &budget{max: 1 << 30}}
			round := func(frame []byte) {
				b := pool.NewBatch()
				blk := pool.Block(len(frame))
				copy(blk.Extend(len(frame)), frame)
				b.Attach(blk)
				blk.Release()
				ev.begin(b, &meter)
				if _, emit, err := server.decode(payload(p, blk.Bytes()), ev); !emit || err != nil || b.Len() != len(evs) {
					t.Fatal(emit, err)
				}
				ev.end()
				meter.clear()
				b.Release()
			}
			round(connected)
			if a, ok := client.(*avroClient); ok {
				a.connected = true // the server's answer said so
			}
			frame := client.request(nil, evs, false)
			buf := make([]byte, 0, len(frame))
			componenttest.NoMoreAllocs(t, 0, func() { round(frame) })
			componenttest.NoMoreAllocs(t, 0, func() { buf = client.request(buf[:0], evs, false) })
			componenttest.NoMoreAllocs(t, 0, func() { buf = server.answer(buf[:0], false) })
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, p := range []Protocol{Avro, ThriftCompact, ThriftBinary} {
		b.Run([]string{"avro", "compact", "binary"}[p], func(b *testing.B) {
			server, makeClient := codecs(p)
			client := makeClient()
			if a, ok := client.(*avroClient); ok {
				a.connected = true
				server.(*avroServer).connected = true
			}
			evs := batchOf(1000, true)
			frame := client.request(nil, evs, false)
			pool, ev, m := event.NewPool(), newEvents(), meter{budget: &budget{max: 1 << 30}}
			b.SetBytes(int64(len(frame)))
			for b.Loop() {
				batch := pool.NewBatch()
				ev.begin(batch, &m)
				if _, _, err := server.decode(payload(p, frame), ev); err != nil {
					b.Fatal(err)
				}
				ev.end()
				m.clear()
				batch.Release()
			}
		})
	}
}

// decodeCall decodes a message as a server does and gives the events.
func decodeCall(p Protocol, message []byte) ([]event.Event, error) {
	server, _ := codecs(p)
	pool, ev, m := event.NewPool(), newEvents(), meter{budget: &budget{max: 64 << 20}}
	b := pool.NewBatch()
	defer b.Release()
	ev.begin(b, &m)
	_, _, err := server.decode(message, ev)
	ev.end()
	var out []event.Event
	for i := range b.Events() {
		out = append(out, b.Events()[i].Clone())
	}
	return out, err
}

// fuzzServer: whatever a client sends, the decoder answers with events that
// survive a round trip, or with an error.
func fuzzServer(f *testing.F, p Protocol) {
	_, makeClient := codecs(p)
	for _, evs := range [][]event.Event{nil, samples()[:5], batchOf(3, true)} {
		f.Add(payload(p, makeClient().request(nil, evs, false)))
		if len(evs) > 0 {
			f.Add(payload(p, makeClient().request(nil, evs, true)))
		}
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		evs, err := decodeCall(p, message)
		if err != nil || len(evs) == 0 {
			return
		}
		again, err := decodeCall(p, payload(p, makeClient().request(nil, evs, false)))
		if err != nil {
			t.Fatal(err)
		}
		sameEvents(t, again, evs)
	})
}

func FuzzAvroCall(f *testing.F)    { fuzzServer(f, Avro) }
func FuzzCompactCall(f *testing.F) { fuzzServer(f, ThriftCompact) }
func FuzzBinaryCall(f *testing.F)  { fuzzServer(f, ThriftBinary) }

// bytesConn is a connection that has these bytes to read.
func readerOf(p []byte) *reader {
	return &reader{conn: &unread{Conn: noConn{}, b: p}, buffers: &buffers{}}
}

// fuzzFrame: the frame of a call, over any bytes, takes no more memory than it has.
func fuzzFrame(f *testing.F, p Protocol) {
	_, makeClient := codecs(p)
	f.Add(makeClient().request(nil, samples()[:5], false))
	f.Add([]byte{0, 0, 0, 1, 0x7F, 0xFF, 0xFF, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF})
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 1, 'a', 0, 0, 0, 0, 0, 0, 0, 1, 'b'})
	f.Fuzz(func(t *testing.T, b []byte) {
		server, _ := codecs(p)
		m := meter{budget: &budget{max: 1 << 30}}
		fr := frame{pool: event.NewPool(), meter: &m, max: 1 << 30}
		if err := server.read(readerOf(b), &fr); err == nil {
			blk := fr.done()
			if n := len(blk.Bytes()); n > len(b) {
				t.Fatalf("%d bytes of %d", n, len(b))
			}
			blk.Release()
		}
		fr.drop()
		if n := m.own; n > int64(4*len(b)+2*firstBlock) {
			t.Fatalf("%d bytes were taken for %d", n, len(b))
		}
		if n := fr.pool.Outstanding(); n != 0 {
			t.Fatalf("%d blocks leaked", n)
		}
	})
}

func FuzzAvroFrame(f *testing.F)   { fuzzFrame(f, Avro) }
func FuzzThriftFrame(f *testing.F) { fuzzFrame(f, ThriftCompact) }

// fuzzAnswer: whatever a server answers, the client says a status or an error.
func fuzzAnswer(f *testing.F, p Protocol) {
	server, makeClient := codecs(p)
	if t, ok := server.(*thriftServer); ok {
		t.seq, t.name = 1, "appendBatch"
	} else {
		server.(*avroServer).serial = 1
		server.(*avroServer).handshake = []byte{0, 0, 0, 0}
	}
	f.Add(server.answer(nil, false))
	f.Add(server.answer(nil, true))
	f.Add(server.reject(nil, errShort))
	f.Fuzz(func(t *testing.T, b []byte) {
		cl := makeClient()
		cl.request(nil, nil, false)
		_, buf, _ := cl.response(readerOf(b), nil)
		if cap(buf) > maxAnswer+len(b)+4096 {
			t.Fatalf("%d bytes were taken", cap(buf))
		}
	})
}

func FuzzAvroAnswer(f *testing.F)    { fuzzAnswer(f, Avro) }
func FuzzCompactAnswer(f *testing.F) { fuzzAnswer(f, ThriftCompact) }
func FuzzBinaryAnswer(f *testing.F)  { fuzzAnswer(f, ThriftBinary) }

func FuzzProtocolText(f *testing.F) {
	f.Add([]byte(protocolText))
	f.Add([]byte(`{"types":[{"name":"AvroFlumeEvent","fields":[{"type":{"type":{"type":"map"}}},{}]}],"messages":{"append":{"request":[{"type":{"type":{"type":[]}}}]}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if checkProtocol(text) == nil && !json.Valid(text) {
			t.Error("no JSON passed")
		}
	})
}

func TestProtocolText(t *testing.T) {
	if err := checkProtocol([]byte(protocolText)); err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{
		{`"values":"string"`, `"values":{"type":"string","avro.java.string":"String"}`},
		{`{"protocol"`, `{"doc":"a comment","protocol"`},
	} {
		text := strings.Replace(protocolText, change[0], change[1], 1)
		if err := checkProtocol([]byte(text)); err != nil || text == protocolText {
			t.Errorf("%s: %v", change[1], err)
		}
	}
	for _, change := range [][2]string{
		{`"values":"string"`, `"values":"bytes"`},
		{`{"name":"body","type":"bytes"}`, `{"name":"body","type":"string"}`},
		{`{"name":"body","type":"bytes"}`, `{"name":"body","type":"bytes"},{"name":"more","type":"int"}`},
		{`"name":"AvroFlumeEvent"`, `"name":"Other"`},
		{`"items":"AvroFlumeEvent"`, `"items":"string"`},
		{`{"protocol"`, `{{"protocol"`},
		{`{"protocol"`, `{"doc":"` + strings.Repeat("x", maxProtocolText) + `","protocol"`},
		{`"values":"string"`, `"values":` + strings.Repeat(`{"type":`, 5000) + `"string"` + strings.Repeat(`}`, 5000)},
	} {
		text := strings.Replace(protocolText, change[0], change[1], 1)
		if err := checkProtocol([]byte(text)); err == nil || text == protocolText {
			t.Errorf("%s passes", change[1])
		}
	}
}

// A client of another Flume, whose hash is not known, tells its protocol and is
// connected.
func TestForeignClient(t *testing.T) {
	server, _ := codecs(Avro)
	ask := func(text string) (match int64, rest []byte) {
		t.Helper()
		msg := append(bytes.Repeat([]byte{7}, 16), 0)
		if text != "" {
			msg = serde.AppendAvroBytes(append(msg[:16], 2), text)
		}
		msg = append(msg, bytes.Repeat([]byte{9}, 16)...)
		msg = append(msg, 0, 0) // no meta of the handshake, none of the call
		msg = serde.AppendAvroBytes(msg, "append")
		msg = serde.AppendAvroEvent(msg, &event.Event{Body: []byte("x")})
		pool, ev, m := event.NewPool(), newEvents(), meter{budget: &budget{max: 1 << 20}}
		b := pool.NewBatch()
		defer b.Release()
		ev.begin(b, &m)
		_, emit, err := server.decode(msg, ev)
		if err != nil {
			t.Fatal(err)
		}
		if emit != (text != "") || emit != (b.Len() == 1) {
			t.Fatalf("emit %v, %d events", emit, b.Len())
		}
		answer := payload(Avro, server.answer(nil, false))
		match, n := binary.Varint(answer)
		return match, answer[n:]
	}
	match, rest := ask("")
	if match != matchNone {
		t.Fatalf("match %d", match)
	}
	text, rest, err := serde.ReadAvroBytes(rest[1:])
	if err != nil || checkProtocol(text) != nil {
		t.Fatal(err)
	}
	ours := flumeHash()
	if !bytes.Equal(rest, append(append([]byte{2}, ours[:]...), 0)) {
		t.Fatalf("the answer goes on with %x", rest)
	}
	match, rest = ask(protocolText)
	if match != matchClient || !bytes.HasSuffix(rest, []byte{0, 0, 0, statusOK}) {
		t.Fatalf("match %d, %x", match, rest)
	}
}

// What Java's Thrift writes, byte by byte, of one call with one event, in both
// protocols.
func TestThriftBytes(t *testing.T) {
	e := event.Event{Body: []byte("hi"), Headers: []event.KV{{Key: "k", Value: []byte("v")}}}
	for _, tt := range []struct {
		compact bool
		want    string
	}{
		{true, "\x82\x21\x01\x06append" + "\x1c" + "\x1b\x01\x88\x01k\x01v" + "\x18\x02hi" + "\x00" + "\x00"},
		{false, "\x80\x01\x00\x01\x00\x00\x00\x06append\x00\x00\x00\x01" + "\x0c\x00\x01" +
			"\x0d\x00\x01\x0b\x0b\x00\x00\x00\x01\x00\x00\x00\x01k\x00\x00\x00\x01v" + "\x0b\x00\x02\x00\x00\x00\x02hi" + "\x00" + "\x00"},
	} {
		c := thriftClient{compact: tt.compact}
		if got := c.request(nil, []event.Event{e}, true); string(got[4:]) != tt.want || binary.BigEndian.Uint32(got) != uint32(len(tt.want)) {
			t.Errorf("%x, want %x", got, tt.want)
		}
	}
}
