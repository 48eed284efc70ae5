package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/serde"
)

// answering runs a server that handles each connection by f, which closes it
// at its end.
func answering(t *testing.T, f func(net.Conn)) (addr string) {
	t.Helper()
	l := listen(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); f(c) }()
		}
	}()
	return l.Addr().String()
}

// impatient shortens the times of a client.
func impatient(cl Client, d time.Duration) Client {
	e := cl.(*endpoint)
	e.set.requestTimeout, e.set.connectTimeout = d, d
	return cl
}

// Each error of a peer is told with what to look at, and the client delivers
// once the peer is right again.
func TestPeerErrors(t *testing.T) {
	cert, other := pair(t, "server"), pair(t, "other")
	silent := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	closes := func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) }
	http := func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1))
		_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
		silent(c)
	}
	source := func(p Protocol, props ...string) func(t *testing.T) string {
		return func(t *testing.T) string {
			_, _, addr := serve(t, p, componenttest.NewOutput(), props...)
			return addr
		}
	}
	tcp := func(f func(net.Conn)) func(t *testing.T) string {
		return func(t *testing.T) string { return answering(t, f) }
	}
	ssl := []string{"ssl=true", "keystore=" + cert, "keystore-type=PEM"}
	trust := []string{"ssl=true", "truststore=" + cert}
	for _, tt := range []struct {
		name   string
		server func(t *testing.T) string
		client []string
		p      Protocol
		text   string
		short  bool // the peer hangs: do not wait long
	}{
		{"nobody there", func(t *testing.T) string { l := listen(t); l.Close(); return l.Addr().String() }, nil, Avro, "is the source there running?", false},
		{"closes", tcp(closes), nil, Avro, "closed the connection", false},
		{"hangs", tcp(silent), nil, Avro, "did not answer in time", true},
		{"hangs in TLS", tcp(silent), trust, Avro, "did not answer in time", true},
		{"hangs, thrift", tcp(silent), nil, ThriftCompact, "did not answer in time", true},
		{"http", tcp(http), nil, Avro, "it speaks HTTP", false},
		{"http for TLS", tcp(http), trust, Avro, "it speaks HTTP", false},
		{"avro to thrift", source(ThriftCompact), nil, Avro, "it speaks Thrift", false},
		{"thrift to avro", source(Avro), nil, ThriftCompact, "", false},
		{"compact to binary", source(ThriftBinary), nil, ThriftCompact, "is it a source of this protocol?", false},
		{"binary to compact", source(ThriftCompact), nil, ThriftBinary, "is it a source of this protocol?", false},
		{"plain to TLS", source(Avro, ssl...), nil, Avro, "ssl", false},
		{"TLS to plain", source(Avro), trust, Avro, "closed the connection", false},
		{"thrift TLS to plain", source(ThriftCompact), trust, ThriftCompact, "closed the connection", false},
		{"untrusted", source(Avro, ssl...), []string{"ssl=true", "truststore=" + other}, Avro, "not trusted (check truststore)", false},
		{"system's trust", source(Avro, ssl...), []string{"ssl=true"}, Avro, "not trusted (check truststore)", false},
		{"another name", source(Avro, ssl...), append([]string{"verify-hostname=true"}, trust...), Avro, "not trusted", false},
		{"no client certificate", source(Avro, append([]string{"client-auth=required", "truststore=" + other}, ssl...)...), trust, Avro, "certificate required", false},
		{"versions", source(Avro, append([]string{"include-protocols=TLSv1.3"}, ssl...)...), append([]string{"include-protocols=TLSv1.2"}, trust...), Avro, "protocol version", false},
		{"plain to deflate", source(Avro, "deflate=true"), nil, Avro, "compression-type", false},
		{"deflate to plain", source(Avro), []string{"compression-type=deflate"}, Avro, "compression-type", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cl := newClient(t, tt.p, tt.server(t), tt.client...)
			if tt.short {
				impatient(cl, 500*time.Millisecond)
			}
			err := cl.AppendBatch(context.Background(), batchOf(10, true))
			if err == nil || !strings.Contains(err.Error(), tt.text) {
				t.Fatalf("%v, want %q", err, tt.text)
			}
			t.Log(err)
			out := componenttest.NewOutput()
			_, _, addr := serve(t, tt.p, out)
			e := cl.(*endpoint)
			e.name, e.set.layers = addr, layers{}
			impatient(cl, time.Minute)
			send(t, cl, batchOf(10, true))
			sameEvents(t, out.Events(), batchOf(10, true))
		})
	}
}

// The end of the context ends a call at once.
func TestCancel(t *testing.T) {
	got := make(chan struct{})
	addr := answering(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)); close(got); _, _ = io.Copy(io.Discard, c) })
	cl := newClient(t, Avro, addr)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-got; cancel() }()
	if err := cl.AppendBatch(ctx, batchOf(1, false)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A connection is made anew when it has the age for it, and after an error.
func TestReset(t *testing.T) {
	out := componenttest.NewOutput()
	_, _, addr := serve(t, Avro, out)
	cl := newClient(t, Avro, addr).(*endpoint)
	made := cl.set.created
	for range 3 {
		send(t, cl, batchOf(1, false))
	}
	if n := made.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	cl.set.maxAge = time.Nanosecond
	for range 3 {
		send(t, cl, batchOf(1, false))
	}
	if n := made.Load(); n != 4 || cl.set.closed.Load() != 3 {
		t.Errorf("%d connections, %d closed", n, cl.set.closed.Load())
	}
	cl.Close()
	if err := cl.AppendBatch(context.Background(), batchOf(1, false)); !errors.Is(err, errClosed) {
		t.Error(err)
	}
}

// A server that does not know our hash is told the protocol's text.
func TestForeignServer(t *testing.T) {
	calls := make(chan []byte, 2)
	addr := answering(t, func(c net.Conn) {
		for match := range 2 {
			var head [12]byte
			if _, err := io.ReadFull(c, head[:]); err != nil {
				return
			}
			p := make([]byte, binary.BigEndian.Uint32(head[8:]))
			if _, err := io.ReadFull(c, p); err != nil {
				return
			}
			calls <- p
			answer := append(bytes.Clone(head[:8]), 0, 0, 0, 0)
			if match == 0 {
				answer = binary.AppendVarint(answer, matchNone)
			} else {
				answer = binary.AppendVarint(answer, matchClient)
			}
			answer = serde.AppendAvroBytes(append(answer, 2), protocolText)
			answer = append(append(answer, 2), bytes.Repeat([]byte{5}, 16)...)
			answer = append(answer, 0)
			if match == 1 {
				answer = append(answer, 0, 0, statusOK)
			}
			if _, err := c.Write(seal(answer, 12)); err != nil {
				return
			}
		}
	})
	send(t, newClient(t, Avro, addr), batchOf(1, false))
	first, second := <-calls, <-calls
	if bytes.Contains(first, []byte("appendBatch\"")) || !bytes.Contains(second, []byte(protocolText)) || !bytes.Contains(second, bytes.Repeat([]byte{5}, 16)) {
		t.Errorf("%.100x, then %.100x", first, second)
	}
}

// group runs n sources and gives a client of all of them.
func group(t *testing.T, n int, props ...string) (Client, []*componenttest.Output) {
	t.Helper()
	var outs []*componenttest.Output
	names := ""
	for i := range n {
		out := componenttest.NewOutput()
		_, _, addr := serve(t, Avro, out)
		name := string(rune('a' + i))
		names += " " + name
		props = append(props, "hosts."+name+"="+addr)
		outs = append(outs, out)
	}
	return newClient(t, Avro, "", append(props, "hosts="+strings.TrimSpace(names))...), outs
}

func refuse(out *componenttest.Output, on bool) {
	out.FailWith(func(int, *event.Batch) error {
		if on {
			return errors.New("no")
		}
		return nil
	})
}

func counts(outs []*componenttest.Output) (n []int) {
	for _, o := range outs {
		n = append(n, len(o.Events()))
	}
	return n
}

func wantCounts(t *testing.T, outs []*componenttest.Output, want ...int) {
	t.Helper()
	got := counts(outs)
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("the hosts have %v events, want %v", got, want)
		}
	}
}

func TestFailover(t *testing.T) {
	cl, outs := group(t, 3, "client.type=default_failover")
	send(t, cl, batchOf(1, false))
	wantCounts(t, outs, 1, 0, 0)
	refuse(outs[0], true)
	send(t, cl, batchOf(1, false))
	wantCounts(t, outs, 1, 1, 0)
	refuse(outs[0], false)
	send(t, cl, batchOf(1, false)) // it stays where it is
	wantCounts(t, outs, 1, 2, 0)
	for _, o := range outs {
		refuse(o, true)
	}
	if err := cl.AppendBatch(context.Background(), batchOf(1, false)); err == nil || !strings.Contains(err.Error(), "none of 3 hosts") {
		t.Fatal(err)
	}
	for _, o := range outs {
		refuse(o, false)
	}
	send(t, cl, batchOf(1, false))
	if err := cl.Append(context.Background(), batchOf(1, false)[0]); err != nil {
		t.Fatal(err)
	}
}

func TestMaxAttempts(t *testing.T) {
	cl, outs := group(t, 3, "client.type=default_failover", "max-attempts=2")
	refuse(outs[0], true)
	refuse(outs[1], true)
	if err := cl.AppendBatch(context.Background(), batchOf(1, false)); err == nil {
		t.Fatal("a third host was asked")
	}
	send(t, cl, batchOf(1, false))
	wantCounts(t, outs, 0, 0, 1)
}

// Hosts that cannot be reached are no attempts.
func TestUnreachable(t *testing.T) {
	l := listen(t)
	l.Close()
	out := componenttest.NewOutput()
	_, _, addr := serve(t, Avro, out)
	gone := l.Addr().String()
	cl := newClient(t, Avro, "", "client.type=default_failover", "max-attempts=1", "hosts=a b c", "hosts.a="+gone, "hosts.b="+gone, "hosts.c="+addr)
	send(t, cl, batchOf(1, false))
	cl = newClient(t, Avro, "", "client.type=default_loadbalance", "hosts=a b c", "hosts.a="+gone, "hosts.b="+gone, "hosts.c="+addr)
	send(t, cl, batchOf(1, false))
	wantCounts(t, []*componenttest.Output{out}, 2)
}

func TestLoadBalance(t *testing.T) {
	cl, outs := group(t, 3, "client.type=default_loadbalance")
	for range 300 {
		send(t, cl, batchOf(1, false))
	}
	wantCounts(t, outs, 100, 100, 100)
	refuse(outs[1], true)
	for range 30 {
		send(t, cl, batchOf(1, false))
	}
	if n := counts(outs); n[1] != 100 || n[0]+n[2] != 230 {
		t.Errorf("%v", n)
	}
	random, outs := group(t, 3, "client.type=org.apache.flume.api.LoadBalancingRpcClient", "host-selector=RANDOM", "backoff=true")
	refuse(outs[2], true)
	began := time.Now()
	for range 300 {
		send(t, random, batchOf(1, false))
	}
	most := 1 + int(time.Since(began)/(2*time.Second)) // it is left out for two seconds, then for longer
	if n := counts(outs); n[0]+n[1] != 300 || n[0] < 90 || n[1] < 90 {
		t.Errorf("%v", n)
	}
	if n := outs[2].Emits(); n > most {
		t.Errorf("the host that failed was asked %d times, want at most %d", n, most)
	}
}

func TestOrder(t *testing.T) {
	o := &order{backoff: true, maxBackoff: 5 * time.Second, hosts: make([]failState, 2)}
	now := time.Unix(1000, 0)
	want := func(hosts ...int) {
		t.Helper()
		got := o.next(now)
		if len(got) != len(hosts) {
			t.Fatalf("hosts %v, want %v", got, hosts)
		}
		for i := range got {
			if got[i] != hosts[i] {
				t.Fatalf("hosts %v, want %v", got, hosts)
			}
		}
	}
	want(0, 1)
	want(1, 0)
	for _, pause := range []time.Duration{2, 4, 5, 5} { // seconds: doubling to the most
		o.failed(0, now)
		want(1)
		now = now.Add(pause*time.Second - 1)
		want(1)
		now = now.Add(1)
		if n := len(o.next(now)); n != 2 {
			t.Fatalf("%d hosts after %v s", n, pause)
		}
	}
	o.failed(0, now)
	o.failed(1, now)
	want()
	now = now.Add(2 * time.Hour) // a new row
	o.failed(0, now)
	now = now.Add(2 * time.Second)
	if n := len(o.next(now)); n != 2 {
		t.Errorf("%d hosts", n)
	}
	o.backoff = false
	o.failed(0, now)
	if n := len(o.next(now)); n != 2 {
		t.Errorf("%d hosts without back-off", n)
	}
}

// A peer that was started again since the last batch costs no failure: its end
// of the old connection is seen before a call is sent on it.
func TestPeerStartedAgain(t *testing.T) {
	for _, p := range []Protocol{Avro, ThriftCompact} {
		out := componenttest.NewOutput()
		_, running, addr := serve(t, p, out)
		cl := newClient(t, p, addr)
		for range 3 {
			send(t, cl, batchOf(1, false))
			for _, c := range cl.(*endpoint).free { // as after request-timeout
				if err := c.raw.SetDeadline(time.Unix(0, 1)); err != nil {
					t.Fatal(err)
				}
			}
			running.Stop()
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				t.Fatal(err)
			}
			_, running, _ = serve(t, p, out, "port="+port)
		}
		send(t, cl, batchOf(1, false))
		if n := len(out.Events()); n != 4 {
			t.Errorf("%d events", n)
		}
	}
}

// A call that is given up does not arrive later.
func TestGivenUpCallDoesNotArrive(t *testing.T) {
	var small net.ListenConfig
	small.Control = func(_, _ string, c syscall.RawConn) error {
		var err error
		cerr := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10) })
		return errors.Join(cerr, err)
	}
	l, err := small.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	evs := batchOf(3000, true)
	cl := impatient(newClient(t, Avro, l.Addr().String(), "batch-size=3000"), 500*time.Millisecond)
	if err := cl.AppendBatch(t.Context(), evs); err == nil || !strings.Contains(err.Error(), "did not answer in time") {
		t.Fatal(err)
	}
	c, err := l.Accept() // now the peer reads
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	call := newAvroClient().request(nil, evs, false)
	if got, err := io.ReadAll(c); err == nil || len(got) >= len(call) {
		t.Errorf("%d of %d bytes arrived, then %v", len(got), len(call), err)
	}
}
