package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func sampleProduce(version int16) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Version = version
	req.Acks = -1
	req.TimeoutMillis = 1234
	if version%2 == 0 {
		id := "txn"
		req.TransactionID = &id
	}
	for t := range 3 {
		rt := kmsg.NewProduceRequestTopic()
		rt.Topic = string(rune('a' + t))
		rt.TopicID = [16]byte{1, byte(t)}
		for p := range t + 1 {
			rp := kmsg.NewProduceRequestTopicPartition()
			rp.Partition = int32(p)
			if p != 1 {
				rp.Records = bytes.Repeat([]byte{byte(p + 1)}, 100*(t+1))
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		req.Topics = append(req.Topics, rt)
	}
	return req
}

// sameProduce compares our decoding with kmsg's.
func sameProduce(t *testing.T, got *ProduceRequest, want *kmsg.ProduceRequest) {
	t.Helper()
	if (got.TransactionalID == nil) != (want.TransactionID == nil) ||
		want.TransactionID != nil && string(got.TransactionalID) != *want.TransactionID ||
		got.Acks != want.Acks || got.TimeoutMillis != want.TimeoutMillis || len(got.Topics) != len(want.Topics) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	for i, gt := range got.Topics {
		wt := want.Topics[i]
		if string(gt.Name) != wt.Topic || gt.ID != wt.TopicID || gt.Count != len(wt.Partitions) {
			t.Fatalf("topic %d: got %+v, want %+v", i, gt, wt)
		}
		for j, gp := range got.Partitions[gt.First : gt.First+gt.Count] {
			wp := wt.Partitions[j]
			if gp.Partition != wp.Partition || !bytes.Equal(gp.Records, wp.Records) || (gp.Records == nil) != (wp.Records == nil) {
				t.Fatalf("topic %d partition %d: got %+v, want %+v", i, j, gp, wp)
			}
		}
	}
}

func TestProduceMatchesKmsg(t *testing.T) {
	var got ProduceRequest
	for v := int16(3); v <= 13; v++ {
		want := sampleProduce(v)
		body := want.AppendTo(nil)
		parsed := &kmsg.ProduceRequest{Version: v}
		if err := parsed.ReadFrom(body); err != nil {
			t.Fatal(err)
		}
		if err := got.Decode(v, body); err != nil {
			t.Fatalf("version %d: %v", v, err)
		}
		sameProduce(t, &got, parsed)
		for cut := range body {
			if err := got.Decode(v, body[:cut]); !errors.Is(err, ErrMalformed) {
				t.Fatalf("version %d cut at %d: %v", v, cut, err)
			}
		}
	}
}

func TestProduceResponseMatchesKmsg(t *testing.T) {
	for v := int16(3); v <= 13; v++ {
		var p ProduceRequest
		if err := p.Decode(v, sampleProduce(v).AppendTo(nil)); err != nil {
			t.Fatal(err)
		}
		want := kmsg.ProduceResponse{Version: v}
		want.Default()
		for i := range p.Topics {
			pt := &p.Topics[i]
			wt := kmsg.NewProduceResponseTopic()
			wt.Topic, wt.TopicID = string(pt.Name), pt.ID
			for j := range p.Partitions[pt.First : pt.First+pt.Count] {
				pp := &p.Partitions[pt.First+j]
				pp.BaseOffset, pp.LogStart = int64(100*i+j), 7
				wp := kmsg.NewProduceResponseTopicPartition()
				if j == 1 {
					pp.ErrorCode, pp.ErrorMessage = 87, "bad"
					if v >= 8 {
						wp.ErrorMessage = &pp.ErrorMessage
					}
				}
				wp.Partition, wp.ErrorCode, wp.BaseOffset, wp.LogAppendTime, wp.LogStartOffset =
					pp.Partition, pp.ErrorCode, pp.BaseOffset, pp.LogAppendTime, pp.LogStart
				wt.Partitions = append(wt.Partitions, wp)
			}
			want.Topics = append(want.Topics, wt)
		}
		if got, want := p.AppendResponse(nil), want.AppendTo(nil); !bytes.Equal(got, want) {
			t.Errorf("version %d:\ngot  %x\nwant %x", v, got, want)
		}
	}
}

func TestProduceDecodeDoesNotAllocate(t *testing.T) {
	body := sampleProduce(9).AppendTo(nil)
	var p ProduceRequest
	var buf []byte
	if n := testing.AllocsPerRun(100, func() {
		if err := p.Decode(9, body); err != nil {
			t.Fatal(err)
		}
		buf = p.AppendResponse(buf[:0])
	}); n != 0 {
		t.Errorf("decoding and answering allocates %v times", n)
	}
}

// TestFetchEncode sends a response with sections in memory, small and large
// ones in a file, over TCP, and reads it back with kmsg.
func TestFetchEncode(t *testing.T) {
	data := make([]byte, 300<<10)
	for i := range data {
		data[i] = byte(i * 7)
	}
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for v := int16(4); v <= 18; v++ {
		resp := &FetchResponse{Version: v, SessionID: 5}
		if v < 7 {
			resp.SessionID = 0
		}
		want := kmsg.FetchResponse{Version: v}
		want.Default()
		want.SessionID = resp.SessionID
		add := func(i int, secs ...log.Section) {
			ft, wt := FetchTopic{}, kmsg.NewFetchResponseTopic()
			if v >= 13 {
				ft.ID = [16]byte{byte(i)}
				wt.TopicID = ft.ID
			} else {
				ft.Name = "topic"
				wt.Topic = "topic"
			}
			fp, wp := FetchPartition{Partition: int32(i), HighWatermark: 9, LastStable: 9, LogStart: -1, Records: secs}, kmsg.NewFetchResponseTopicPartition()
			wp.Partition, wp.HighWatermark, wp.LastStableOffset = int32(i), 9, 9
			wp.RecordBatches = []byte{}
			for _, s := range secs {
				fp.RecordBytes += s.Len()
				if s.File != nil {
					wp.RecordBatches = append(wp.RecordBatches, data[s.Off:s.Off+s.N]...)
				} else {
					wp.RecordBatches = append(wp.RecordBatches, s.Bytes...)
				}
			}
			ft.Partitions = append(ft.Partitions, fp)
			wt.Partitions = append(wt.Partitions, wp)
			resp.Topics, want.Topics = append(resp.Topics, ft), append(want.Topics, wt)
		}
		add(0, log.Section{Bytes: []byte("hello")})
		add(1)
		add(2, log.Section{File: f, Off: 11, N: 100}, log.Section{File: f, Off: 1000, N: 250 << 10})
		add(3, log.Section{File: f, Off: 5, N: sendfileMin}, log.Section{Bytes: []byte("end")})

		m := NewMessage()
		m.Append(func(dst []byte) []byte { return AppendResponseHeader(dst, 77, v >= 12) })
		resp.Encode(m)
		got := sendAndRead(t, m)
		body := AppendResponseHeader(nil, 77, v >= 12)
		body = want.AppendTo(body)
		PutSize(body, len(body)-4)
		if !bytes.Equal(got, body) {
			t.Fatalf("version %d: frames differ (%d and %d bytes)", v, len(got), len(body))
		}
		m.Free()
		back := kmsg.FetchResponse{Version: v}
		hdr := 8
		if v >= 12 {
			hdr = 9
		}
		if err := back.ReadFrom(got[hdr:]); err != nil {
			t.Fatalf("version %d: %v", v, err)
		}
	}
}

func sendAndRead(t *testing.T, m *Message) []byte {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	errc := make(chan error, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			errc <- err
			return
		}
		defer c.Close()
		errc <- m.WriteTo(NewWriter(c, time.Minute))
	}()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-errc; err != nil {
		t.Fatal(err)
	}
	return got
}

func TestSendFileShorterThanPromised(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, make([]byte, sendfileMin), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	client, server := tcpPair(t)
	go io.Copy(io.Discard, client)
	if err := sendFile(NewWriter(server, 0), f, 0, sendfileMin+1); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

func tcpPair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err = net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestStallingPeerIsDropped(t *testing.T) {
	_, server := tcpPair(t) // nobody reads the client's side
	m := NewMessage()
	m.Append(func([]byte) []byte { return make([]byte, 64<<20) })
	err := m.WriteTo(NewWriter(server, 50*time.Millisecond))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want a deadline error", err)
	}
}

func TestParseSize(t *testing.T) {
	for _, tt := range []struct {
		in []byte
		ok bool
	}{
		{[]byte{0, 0, 0, 8}, true},
		{[]byte{0, 0, 0, 7}, false},
		{[]byte{0, 0, 0, 0}, false},
		{[]byte{0xff, 0xff, 0xff, 0xff}, false},
		{[]byte{0x80, 0, 0, 0}, false},
		{[]byte{0x7f, 0xff, 0xff, 0xff}, false},
		{[]byte("GET "), false},
	} {
		_, err := ParseSize(tt.in, 1<<20)
		if tt.ok != (err == nil) || err != nil && !errors.Is(err, ErrFrameSize) {
			t.Errorf("% x: %v", tt.in, err)
		}
	}
}

func TestReadBodyGrowsWithWhatArrives(t *testing.T) {
	// 100 MiB promised, 10 bytes sent.
	reserved := 0
	reserve := func(n int) error { reserved += n; return nil }
	buf, err := ReadBody(bytes.NewReader(make([]byte, 10)), nil, 100<<20, reserve)
	if !errors.Is(err, io.ErrUnexpectedEOF) || cap(buf) > readGrow || reserved != cap(buf) {
		t.Errorf("err %v, %d bytes allocated", err, cap(buf))
	}
	want := bytes.Repeat([]byte("abcdefg"), 100_000)
	reserved = 0
	got, err := ReadBody(bytes.NewReader(want), make([]byte, 3, 100), len(want), reserve)
	if err != nil || !bytes.Equal(got, want) || reserved != cap(got)-100 {
		t.Errorf("body not read whole: %v, %d bytes reserved", err, reserved)
	}
	full := errors.New("full")
	if _, err := ReadBody(bytes.NewReader(want), nil, len(want), func(int) error { return full }); err != full {
		t.Errorf("got %v", err)
	}
}

func TestParseHeader(t *testing.T) {
	id := "client-1"
	body := []byte("body")
	for _, tt := range []struct {
		name     string
		tail     []byte
		flexible bool
		client   string
		ok       bool
	}{
		{"plain", append([]byte{0, 8}, id...), false, id, true},
		{"null", []byte{0xff, 0xff}, false, "", true},
		{"flexible", append(append([]byte{0, 8}, id...), 0), true, id, true},
		{"tags", append(append([]byte{0, 8}, id...), 1, 5, 2, 'x', 'y'), true, id, true},
		{"negative", []byte{0xff, 0xfe}, false, "", false},
		{"long", []byte{0x7f, 0xff}, false, "", false},
		{"tag overrun", append(append([]byte{0, 8}, id...), 1, 5, 200, 1), true, id, false},
		{"endless varint", append(append([]byte{0, 8}, id...), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), true, id, false},
	} {
		frame := []byte{0, 3, 0, 9, 0, 0, 0, 42}
		frame = append(frame, tt.tail...)
		if tt.ok {
			frame = append(frame, body...)
		}
		h, rest, err := ParseHeader(frame, tt.flexible)
		if tt.ok != (err == nil) {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if tt.ok && (h != Header{Key: 3, Version: 9, CorrelationID: 42, ClientID: tt.client} || !reflect.DeepEqual(rest, body)) {
			t.Errorf("%s: got %+v, body %q", tt.name, h, rest)
		}
	}
}

func FuzzProduceDecode(f *testing.F) {
	for v := int16(3); v <= 13; v++ {
		f.Add(v, sampleProduce(v).AppendTo(nil))
	}
	f.Add(int16(3), []byte{0xff, 0xff, 0, 1, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, v int16, body []byte) {
		if v < 3 || v > 13 {
			return
		}
		var p ProduceRequest
		err := p.Decode(v, body)
		if len(p.Partitions) > len(body) || len(p.Topics) > len(body) {
			t.Fatalf("%d bytes made %d topics and %d partitions", len(body), len(p.Topics), len(p.Partitions))
		}
		if err != nil {
			return
		}
		// What kmsg also takes must mean the same. (kmsg is laxer about
		// lengths below -1, so only this direction holds.)
		k := &kmsg.ProduceRequest{Version: v}
		if kerr := k.ReadFrom(body); kerr == nil {
			sameProduce(t, &p, k)
		}
		p.AppendResponse(nil)
	})
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte{0, 3, 0, 9, 0, 0, 0, 42, 0, 1, 'x', 0}, true)
	f.Add([]byte{0, 3, 0, 9, 0, 0, 0, 42, 0xff, 0xff}, false)
	f.Fuzz(func(t *testing.T, frame []byte, flexible bool) {
		if _, body, err := ParseHeader(frame, flexible); err == nil && len(body) > len(frame) {
			t.Fatal("body longer than its frame")
		}
	})
}
