package broker

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-data/sluice/internal/broker/wire"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// rawConn talks to the broker frame by frame.
type rawConn struct {
	t *testing.T
	net.Conn
}

func rawDial(t *testing.T, b *Broker) *rawConn {
	t.Helper()
	c, err := net.Dial("tcp", b.Addr())
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { c.Close() })
	return &rawConn{t, c}
}

func frame(key, version int16, corr int32, flexible bool, body []byte) []byte {
	b := make([]byte, 4)
	b = binary.BigEndian.AppendUint16(b, uint16(key))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = binary.BigEndian.AppendUint32(b, uint32(corr))
	b = append(b, 0xff, 0xff) // no client id
	if flexible {
		b = append(b, 0)
	}
	b = append(b, body...)
	wire.PutSize(b, len(b)-4)
	return b
}

func (c *rawConn) send(corr int32, req kmsg.Request) {
	c.t.Helper()
	if _, err := c.Write(frame(req.Key(), req.GetVersion(), corr, req.IsFlexible(), req.AppendTo(nil))); err != nil {
		c.t.Fatal(err)
	}
}

func (c *rawConn) receive() (corr int32, body []byte) {
	c.t.Helper()
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		c.t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		c.t.Fatal(err)
	}
	return int32(binary.BigEndian.Uint32(b)), b[4:]
}

// closed waits for the broker to close the connection.
func (c *rawConn) closed() {
	c.t.Helper()
	b, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("the connection is still open; got %x", b)
	}
}

// TestHostileFrames: each of them ends its own connection and nothing else.
func TestHostileFrames(t *testing.T) {
	var logs logBuffer
	b := startBroker(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&logs, nil)) })
	good := rawDial(t, b)
	good.send(1, kmsg.NewPtrMetadataRequest())
	good.receive()
	meta := kmsg.NewPtrMetadataRequest()
	for _, tt := range []struct {
		name string
		in   []byte
		log  string // a line that must be there
	}{
		{"negative length", []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0}, "frame size out of range: -1"},
		{"smallest length", []byte{0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, "frame size out of range"},
		{"length 2 GiB", []byte{0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0}, "frame size out of range"},
		{"length 0", make([]byte, 12), "frame size out of range: 0"},
		{"http", []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "frame size out of range"},
		{"unknown key", frame(999, 0, 1, false, nil), "API key 999"},
		{"negative key", frame(-1, 0, 1, false, nil), "API key -1"},
		{"transactions", frame(24, 3, 1, true, nil), "AddPartitionsToTxn) is not served"},
		{"old produce", frame(0, 2, 1, false, []byte{0, 1, 0, 0, 0, 0, 0, 0, 0, 0}), "Produce version 2 is not served, versions 3 to 13 are"},
		{"future metadata", frame(3, 99, 1, true, nil), "Metadata version 99"},
		{"negative version", frame(3, -1, 1, false, nil), "Metadata version -1"},
		{"large metadata", append([]byte{0x05, 0, 0, 0}, frame(3, 1, 1, false, nil)[4:]...), "frame size out of range: Metadata"},
		{"client id overrun", append([]byte{0, 0, 0, 10, 0, 3, 0, 1, 0, 0, 0, 1}, 0x7f, 0xff), "malformed request: header"},
		{"array overrun", frame(3, 1, 1, false, []byte{0x7f, 0xff, 0xff, 0xff}), "malformed request: Metadata"},
		{"produce array overrun", frame(0, 9, 1, true, []byte{0, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f}), "malformed request: produce"},
		{"cut short", frame(3, 1, 1, false, meta.AppendTo(nil))[:13], ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := rawDial(t, b)
			if _, err := c.Write(tt.in); err != nil {
				t.Fatal(err)
			}
			if tt.log == "" {
				c.Conn.(*net.TCPConn).CloseWrite()
			}
			c.closed()
			if !strings.Contains(logs.String(), tt.log) {
				t.Errorf("no %q in the log:\n%s", tt.log, logs.String())
			}
		})
	}
	good.send(2, kmsg.NewPtrMetadataRequest())
	if corr, _ := good.receive(); corr != 2 {
		t.Errorf("answer to %d", corr)
	}
}

func TestUnknownApiVersionsVersion(t *testing.T) {
	b := startBroker(t, nil)
	c := rawDial(t, b)
	if _, err := c.Write(frame(18, 77, 5, true, []byte("whatever a future version holds"))); err != nil {
		t.Fatal(err)
	}
	corr, body := c.receive()
	resp := kmsg.ApiVersionsResponse{Version: 0}
	if err := resp.ReadFrom(body); err != nil || corr != 5 || resp.ErrorCode != kerr.UnsupportedVersion.Code {
		t.Fatalf("%v %d %+v", err, corr, resp)
	}
	ranges := map[int16][2]int16{}
	for _, k := range resp.ApiKeys {
		ranges[k.ApiKey] = [2]int16{k.MinVersion, k.MaxVersion}
	}
	if len(ranges) != 1 || ranges[18] != [2]int16{0, 4} {
		t.Errorf("ranges %v", ranges)
	}
	// The connection is good for another try.
	av := kmsg.NewPtrApiVersionsRequest()
	av.Version, av.ClientSoftwareName, av.ClientSoftwareVersion = 3, "test", "1.0"
	c.send(6, av)
	if corr, _ := c.receive(); corr != 6 {
		t.Errorf("answer to %d", corr)
	}
	av.ClientSoftwareName = "no good\n"
	c.send(7, av)
	_, body = c.receive()
	resp = kmsg.ApiVersionsResponse{Version: 3}
	if err := resp.ReadFrom(body); err != nil || resp.ErrorCode != kerr.InvalidRequest.Code {
		t.Errorf("%v %+v", err, resp)
	}
}

// TestLengthsDoNotAllocate opens connections that promise a lot and send
// nothing.
func TestLengthsDoNotAllocate(t *testing.T) {
	b := startBroker(t, nil)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 50 {
		c := rawDial(t, b)
		f := frame(0, 9, 1, true, nil)
		wire.PutSize(f, 100<<20)
		if _, err := c.Write(f); err != nil {
			t.Fatal(err)
		}
	}
	for b.listeners[0].conns.Load() < 50 {
		time.Sleep(time.Millisecond)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 50*(256<<10) {
		t.Errorf("%d bytes for 50 promises", grown)
	}
}

// TestMemoryOfRequests: when the memory for requests is used up, connections
// wait and none is lost.
func TestMemoryOfRequests(t *testing.T) {
	b := startBroker(t, func(c *Config) { c.MaxInflightBytes = 4 << 20 })
	produce(t, client(t, b), "m", "x")
	half := frame(0, 9, 1, true, make([]byte, 20<<20))
	hog := rawDial(t, b) // goes beyond the limit, and stops in the middle
	hog.Write(half[:10<<20])
	for b.memory.used.Load() <= 4<<20 {
		time.Sleep(time.Millisecond)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		produce(t, client(t, b), "m", "y")
	}()
	for b.memory.waiting.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	hog.Close()
	<-done
	for b.memory.used.Load() != 0 {
		time.Sleep(time.Millisecond)
	}
}

func TestMemoryGateGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newMemoryGate(100)
		var wg sync.WaitGroup
		var have, most atomic.Int64 // what was granted; used also has what is asked for just now
		for range 20 {              // each needs in two steps what only one can have
			wg.Go(func() {
				r := &request{}
				for range 2 {
					if !g.try(r, 60) {
						if err := g.wait(t.Context(), nil, r, 60); err != nil {
							t.Error(err)
							return
						}
					}
					if n := have.Add(60); n > most.Load() {
						most.Store(n)
					}
					time.Sleep(time.Second)
				}
				have.Add(-120)
				g.give(r, 120)
			})
		}
		wg.Wait()
		if g.used.Load() != 0 || g.beyond.Load() != nil || g.waiting.Load() != 0 {
			t.Errorf("afterwards: %d used, %v beyond", g.used.Load(), g.beyond.Load())
		}
		if most.Load() > 100+120 {
			t.Errorf("%d were used at a time", most.Load())
		}
		hog, late := &request{}, &request{}
		g.try(hog, 1000)
		if g.try(late, 1) {
			t.Error("two go beyond the limit")
		}
		if err := g.wait(t.Context(), nil, late, 1); err == nil || !strings.Contains(err.Error(), "may have together") {
			t.Errorf("patience ends with %v", err)
		}
		stopping := make(chan struct{})
		close(stopping)
		if err := g.wait(t.Context(), stopping, late, 1); !errors.Is(err, errClose) {
			t.Errorf("a stop ends it with %v", err)
		}
	})
}

// TestConnectionThatSendsAheadIsNotRead: a request of empty array elements is
// many times as large in memory as on the wire, and may wait behind a long
// poll.
func TestConnectionThatSendsAheadIsNotRead(t *testing.T) {
	b := startBroker(t, func(c *Config) { c.MaxConnInflightBytes = 30 << 20 })
	produce(t, client(t, b), "m", "x")
	poll := kmsg.NewPtrFetchRequest()
	poll.Version, poll.MaxWaitMillis, poll.MinBytes, poll.MaxBytes = 4, 60_000, 1, 1<<20
	pt, pp := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	pt.Topic, pp.FetchOffset, pp.PartitionMaxBytes = "m", 1, 1<<20
	pt.Partitions = append(pt.Partitions, pp)
	poll.Topics = append(poll.Topics, pt)
	big := kmsg.NewPtrFetchRequest()
	big.Version, big.Topics = 4, make([]kmsg.FetchRequestTopic, 300_000) // 1.8 MB
	c := rawDial(t, b)
	c.send(1, poll)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i := range 6 {
			c.Write(frame(1, 4, int32(i+2), false, big.AppendTo(nil)))
		}
	}()
	for b.memory.used.Load() < 40<<20 { // two of them
		time.Sleep(time.Millisecond)
	}
	produce(t, client(t, b), "m", "y") // ends the long poll
	for i := range 7 {
		if used := b.memory.used.Load(); used > 60<<20 {
			t.Errorf("%d bytes are used", used)
		}
		if corr, _ := c.receive(); corr != int32(i+1) {
			t.Fatalf("answer %d has the correlation id %d", i+1, corr)
		}
	}
	<-sent
	for b.memory.used.Load() != 0 {
		time.Sleep(time.Millisecond)
	}
}

// TestNamedTwiceAnsweredOnce: where an answer is far larger than its question,
// asking the same a million times would fill the memory.
func TestNamedTwiceAnsweredOnce(t *testing.T) {
	b := startBroker(t, nil)
	produce(t, client(t, b), "m", "x")
	c := rawDial(t, b)
	dg := kmsg.NewPtrDescribeGroupsRequest()
	dg.Groups = []string{"g", "h", "g", "g"}
	c.send(0, dg)
	_, body := c.receive()
	var dgr kmsg.DescribeGroupsResponse
	if err := dgr.ReadFrom(body); err != nil || len(dgr.Groups) != 2 {
		t.Errorf("%v, %d groups: want 2", err, len(dgr.Groups))
	}
	dc := kmsg.NewPtrDescribeConfigsRequest()
	dc.Version = 1
	topic := kmsg.DescribeConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "m"}
	dc.Resources = append(dc.Resources, topic, kmsg.DescribeConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeBroker, ResourceName: "1"}, topic)
	c.send(1, dc)
	_, body = c.receive()
	dcr := kmsg.DescribeConfigsResponse{Version: 1}
	if err := dcr.ReadFrom(body); err != nil || len(dcr.Resources) != 2 {
		t.Errorf("%v, %d resources: want 2", err, len(dcr.Resources))
	}
	of := kmsg.NewPtrOffsetFetchRequest()
	of.Version = 8
	of.Groups = []kmsg.OffsetFetchRequestGroup{{Group: "g"}, {Group: "g"}, {Group: "h"}}
	c.send(2, of)
	_, body = c.receive()
	ofr := kmsg.OffsetFetchResponse{Version: 8}
	if err := ofr.ReadFrom(body[1:]); err != nil || len(ofr.Groups) != 2 { // body[0]: tagged fields of the header
		t.Errorf("%v, %d groups: want 2", err, len(ofr.Groups))
	}
}

func TestBurstLimit(t *testing.T) {
	var l burstLimit
	now := time.Now()
	passed := 0
	for range burstLines + 7 {
		if ok, dropped := l.allow(now); ok && dropped == 0 {
			passed++
		}
	}
	if passed != burstLines {
		t.Errorf("%d lines passed, want %d", passed, burstLines)
	}
	if ok, dropped := l.allow(now.Add(burstTime)); !ok || dropped != 7 {
		t.Errorf("in the next window: %v, %d dropped: want true, 7", ok, dropped)
	}
	if ok, dropped := l.allow(now.Add(burstTime)); !ok || dropped != 0 {
		t.Errorf("told twice: %v, %d", ok, dropped)
	}
}

// TestFaultyClientsDoNotFloodTheLog: one that comes back at once with the same
// fault writes no more than a few lines.
func TestFaultyClientsDoNotFloodTheLog(t *testing.T) {
	var logs logBuffer
	b := startBroker(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&logs, nil)) })
	began := time.Now()
	for range 5 * burstLines {
		c := rawDial(t, b)
		c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
		c.closed()
	}
	windows := 1 + int(time.Since(began)/burstTime)
	if n := strings.Count(logs.String(), "connection closed"); n == 0 || n > burstLines*windows {
		t.Errorf("%d lines for %d connections, want at most %d", n, 5*burstLines, burstLines*windows)
	}
}

func TestConnectionLimit(t *testing.T) {
	b := startBroker(t, func(c *Config) { c.MaxConnections = 2 })
	rawDial(t, b)
	rawDial(t, b)
	for b.listeners[0].conns.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	rawDial(t, b).closed()
}

func TestIdleTimeout(t *testing.T) {
	b := startBroker(t, func(c *Config) { c.IdleTimeout = 100 * time.Millisecond })
	first, second := rawDial(t, b), rawDial(t, b)
	first.closed()
	second.closed()
}

func TestPanicClosesOneConnection(t *testing.T) {
	var logs logBuffer
	b := startBroker(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&logs, nil)) })
	b.apis[3].handle = func(context.Context, *Broker, *request, kmsg.Request) (kmsg.Response, error) { panic("on purpose") }
	c := rawDial(t, b)
	c.send(1, kmsg.NewPtrMetadataRequest())
	c.closed()
	if l := logs.String(); !strings.Contains(l, "on purpose") || !strings.Contains(l, "hostile_test.go") {
		t.Errorf("no stack in the log: %s", l)
	}
	c = rawDial(t, b)
	c.send(1, kmsg.NewPtrApiVersionsRequest())
	c.receive()
}

// FuzzRequests feeds frames to a running broker: whatever comes, it goes on
// serving others.
func FuzzRequests(f *testing.F) {
	seeds := []kmsg.Request{
		kmsg.NewPtrMetadataRequest(), kmsg.NewPtrFetchRequest(), kmsg.NewPtrListOffsetsRequest(), kmsg.NewPtrApiVersionsRequest(),
		kmsg.NewPtrJoinGroupRequest(), kmsg.NewPtrSyncGroupRequest(), kmsg.NewPtrOffsetCommitRequest(), kmsg.NewPtrOffsetFetchRequest(),
		kmsg.NewPtrCreateTopicsRequest(), kmsg.NewPtrDescribeConfigsRequest(), kmsg.NewPtrLeaveGroupRequest(),
	}
	for _, r := range seeds {
		for _, v := range []int16{0, r.MaxVersion()} {
			r.SetVersion(v)
			f.Add(frame(r.Key(), v, 1, r.IsFlexible(), r.AppendTo(nil)))
		}
	}
	f.Add(frame(0, 9, 1, true, []byte{0, 0, 1, 0, 0, 0, 0, 2, 2, 'x', 2, 0, 0, 0, 0, 4, 1, 2, 3, 0, 0, 0}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	b, err := Start(context.Background(), Config{Listen: "127.0.0.1:0", DataDir: f.TempDir(), MaxDisk: -1, MaxPartitions: 20, MaxGroups: 20, StopTimeout: time.Second})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { b.Close(context.Background()) })
	f.Fuzz(func(t *testing.T, in []byte) {
		c := rawDial(t, b)
		c.SetDeadline(time.Now().Add(5 * time.Second))
		c.Write(in)
		c.Conn.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, c)
		ok := rawDial(t, b)
		ok.send(9, kmsg.NewPtrApiVersionsRequest())
		if corr, body := ok.receive(); corr != 9 || !bytes.HasPrefix(body, []byte{0, 0}) {
			t.Fatalf("the broker answers %d % x", corr, body)
		}
	})
}

// TestWaitingConnectionsAreSmall: connections that have sent a byte and wait
// hold neither a buffer nor a writer.
func TestWaitingConnectionsAreSmall(t *testing.T) {
	b := startBroker(t, nil)
	memory := func() int64 {
		runtime.GC()
		runtime.GC() // the second empties the pools
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapInuse + m.StackInuse)
	}
	before := memory()
	const n = 300
	for i := range n {
		c := rawDial(t, b)
		part := frame(3, 9, 1, true, nil)[:i%12]
		if _, err := c.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	for b.listeners[0].conns.Load() < n {
		time.Sleep(time.Millisecond)
	}
	// Those who go on in the middle of a prefix are answered.
	c := rawDial(t, b)
	req := kmsg.NewPtrApiVersionsRequest()
	f := frame(18, 0, 7, false, req.AppendTo(nil))
	for _, x := range f {
		if _, err := c.Write([]byte{x}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	if corr, _ := c.receive(); corr != 7 {
		t.Errorf("answer to %d", corr)
	}
	// Some may still be about to wait: their goroutines have not had their turn.
	grown := (memory() - before) / n
	for end := time.Now().Add(30 * time.Second); grown > 24<<10 && time.Now().Before(end); grown = (memory() - before) / n {
		time.Sleep(10 * time.Millisecond)
	}
	if grown > 24<<10 { // the clients' ends are in it
		t.Errorf("%d bytes for each waiting connection", grown)
	}
}
