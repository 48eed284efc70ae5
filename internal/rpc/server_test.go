package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zlib"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
)

func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Bytes that are no call end their connection and nothing else; whoever sends
// calls is served.
func TestHostile(t *testing.T) {
	avroCall := newAvroClient().request(nil, batchOf(3, true), false)
	compactCall := (&thriftClient{compact: true}).request(nil, batchOf(3, true), false)
	binaryCall := (&thriftClient{}).request(nil, batchOf(3, true), false)
	huge := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	change := func(b []byte, old, new string) []byte {
		if !bytes.Contains(b, []byte(old)) {
			t.Fatalf("%q is not in the call", old)
		}
		return bytes.Replace(b, []byte(old), []byte(new), 1)
	}
	frameOf := func(p []byte) []byte { return cat(huge(uint32(len(p))), p) }
	avroFrame := func(p []byte) []byte { return cat(huge(1), huge(1), huge(uint32(len(p))), p) }
	// avroWith is a first call with arguments of one's own.
	avroWith := func(arguments string) []byte {
		ours := flumeHash()
		return avroFrame(cat(ours[:], []byte{0}, ours[:], []byte("\x00\x00\x16appendBatch"), []byte(arguments)))
	}
	for _, tt := range []struct {
		name string
		p    Protocol
		sent []byte
	}{
		{"garbage", Avro, []byte(strings.Repeat("garbage ", 100))},
		{"2 GB piece", Avro, cat(huge(1), huge(1), huge(1<<31-1))},
		{"4 GB piece", Avro, cat(huge(1), huge(1), huge(1<<32-1))},
		{"2 G pieces", Avro, cat(huge(1), huge(1<<31-1))},
		{"negative pieces", Avro, cat(huge(1), huge(1<<32-1))},
		{"many pieces", Avro, cat(huge(1), huge(1<<23), huge(0), bytes.Repeat([]byte{0, 0, 0, 0}, 1<<23))},
		{"no pieces", Avro, cat(huge(1), huge(0))},
		{"empty piece", Avro, cat(huge(1), huge(1), huge(0))},
		{"unknown call", Avro, change(avroCall, "appendBatch", "appendXatch")},
		{"too many events", Avro, change(avroCall, "appendBatch\x06", "appendBatch\xFE")},
		{"negative count", Avro, change(avroCall, "appendBatch\x06", "appendBatch\x01")},
		{"least count", Avro, avroWith("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01\x00")},
		{"empty blocks", Avro, avroWith(strings.Repeat("\x01\x00", 3))},
		{"huge count", Avro, avroWith("\xFE\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01")},
		{"many headers", Avro, avroWith("\x02\xFE\xFF\xFF\xFF\x0F")},
		{"least number of headers", Avro, avroWith("\x02\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01\x00")},
		{"long name", Avro, avroWith("\x02\x02\xFE\xFF\xFF\xFF\x0F")},
		{"negative name", Avro, avroWith("\x02\x02\x01")},
		{"negative body", Avro, avroWith("\x02\x00\x01")},
		{"no handshake's end", Avro, avroFrame(bytes.Repeat([]byte{0x80}, 100))},
		{"meta", Avro, avroFrame(append(bytes.Repeat([]byte{7}, 16), "\x00"+strings.Repeat("\x07", 16)+"\x02\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01\x00"...))},
		{"thrift", Avro, compactCall},
		{"http", Avro, []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")},
		{"garbage", ThriftCompact, []byte(strings.Repeat("garbage ", 100))},
		{"2 GB frame", ThriftCompact, huge(1<<31 - 1)},
		{"negative frame", ThriftBinary, huge(1<<32 - 1)},
		{"empty frame", ThriftCompact, huge(0)},
		{"avro", ThriftCompact, avroCall},
		{"binary", ThriftCompact, binaryCall},
		{"compact", ThriftBinary, compactCall},
		{"unknown call", ThriftBinary, change(binaryCall, "appendBatch", "appendXatch")},
		{"reply", ThriftCompact, change(compactCall, "\x82\x21", "\x82\x41")},
		{"many events", ThriftCompact, frameOf([]byte("\x82\x21\x01\x0BappendBatch\x19\xFC\xFF\xFF\xFF\xFF\x07"))},
		{"deep", ThriftCompact, frameOf(append([]byte("\x82\x21\x01\x06append"), bytes.Repeat([]byte{0x2C}, 1000)...))},
		{"wide", ThriftBinary, frameOf([]byte("\x80\x01\x00\x01\x00\x00\x00\x06append\x00\x00\x00\x01\x0F\x00\x05\x08\x7F\xFF\xFF\xFF"))},
		{"event without body", ThriftCompact, frameOf([]byte("\x82\x21\x01\x06append\x1C\x1B\x00\x00\x00"))},
		{"huge map", ThriftCompact, frameOf([]byte("\x82\x21\x01\x06append\x1C\x1B\xFF\xFF\xFF\xFF\x07\x88"))},
		{"map of structs", ThriftCompact, frameOf([]byte("\x82\x21\x01\x06append\x1C\x1B\x01\xCC\x00\x00"))},
		{"endless number", ThriftCompact, frameOf(append([]byte("\x82\x21\x01\x06append\x1C\x1B"), bytes.Repeat([]byte{0xFF}, 20)...))},
		{"negative map", ThriftBinary, frameOf([]byte("\x80\x01\x00\x01\x00\x00\x00\x06append\x00\x00\x00\x01\x0C\x00\x01\x0D\x00\x01\x0B\x0B\xFF\xFF\xFF\xFF"))},
		{"negative body", ThriftBinary, frameOf([]byte("\x80\x01\x00\x01\x00\x00\x00\x06append\x00\x00\x00\x01\x0C\x00\x01\x0B\x00\x02\xFF\xFF\xFF\xFF"))},
		{"old client's name", ThriftBinary, frameOf([]byte("\x7F\xFF\xFF\xFFappend"))},
		{"call without event", ThriftCompact, frameOf([]byte("\x82\x21\x01\x06append\x00"))},
	} {
		t.Run([]string{"avro ", "compact ", "binary "}[tt.p]+tt.name, func(t *testing.T) {
			out := componenttest.NewOutput()
			s, r, addr := serve(t, tt.p, out, "max-request-size=1000000")
			c := dial(t, addr)
			if _, err := c.Write(tt.sent); err != nil && !isReset(err) {
				t.Fatal(err)
			}
			if err := c.(*net.TCPConn).CloseWrite(); err != nil && !isReset(err) && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "not connected") {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, c); err != nil && !isReset(err) {
				t.Fatal(err)
			}
			out.WaitFor(t, "the fault to be counted", func() bool { return s.readFail.Load() == 1 })
			if n := len(out.Events()); n != 0 {
				t.Errorf("%d events", n)
			}
			send(t, newClient(t, tt.p, addr), batchOf(5, true))
			sameEvents(t, out.Events(), batchOf(5, true))
			r.Stop()
			if n := out.Pool().Outstanding(); n != 0 {
				t.Errorf("%d blocks leaked", n)
			}
			if n := s.budget.used.Load(); n != 0 {
				t.Errorf("%d bytes of the budget leaked", n)
			}
		})
	}
}

// A stream of deflate that grows a thousand times over costs no more than the
// call that it makes, which has its bounds.
func TestDeflateBombs(t *testing.T) {
	bomb := func(head []byte, zeros int) []byte {
		var b bytes.Buffer
		w := zlib.NewWriter(&b)
		if _, err := w.Write(head); err != nil {
			t.Fatal(err)
		}
		for block := make([]byte, 1<<20); zeros > 0; zeros -= len(block) {
			if _, err := w.Write(block); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	huge := func(ns ...uint32) (b []byte) {
		for _, n := range ns {
			b = binary.BigEndian.AppendUint32(b, n)
		}
		return b
	}
	for _, tt := range []struct {
		name string
		sent []byte
	}{
		{"too large a call", bomb(huge(1, 1, 256<<20), 256<<20)},
		{"as large as it may be", bomb(huge(1, 1, 4<<20-100), 256<<20)},
		{"pieces", bomb(huge(1, 1<<20-1), 256<<20)},
		{"calls of nothing", bomb(nil, 256<<20)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := componenttest.NewOutput()
			s, r, addr := serve(t, Avro, out, "deflate=true", "max-request-size=4194304")
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			c := dial(t, addr)
			if _, err := c.Write(tt.sent); err != nil && !isReset(err) {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, c); err != nil && !isReset(err) {
				t.Fatal(err)
			}
			out.WaitFor(t, "the fault to be counted", func() bool { return s.readFail.Load() == 1 })
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > 32<<20 {
				t.Errorf("%d bytes were taken for %d", n, len(tt.sent))
			}
			send(t, newClient(t, Avro, addr, "compression-type=deflate"), batchOf(5, true))
			sameEvents(t, out.Events(), batchOf(5, true))
			r.Stop()
			if n := out.Pool().Outstanding(); n != 0 {
				t.Errorf("%d blocks leaked", n)
			}
		})
	}
}

// A client that breaks off at any byte of a call costs nothing but itself.
func TestBrokenOff(t *testing.T) {
	for _, p := range []Protocol{Avro, ThriftCompact} {
		_, makeClient := codecs(p)
		call := makeClient().request(nil, batchOf(1, true), false)
		out := componenttest.NewOutput()
		_, r, addr := serve(t, p, out)
		for n := range len(call) {
			c := dial(t, addr)
			if _, err := c.Write(call[:n]); err != nil {
				t.Fatal(err)
			}
			c.Close()
		}
		send(t, newClient(t, p, addr), batchOf(1, true))
		r.Stop()
		if n := len(out.Events()); n != 1 {
			t.Errorf("%d events", n)
		}
		if n := out.Pool().Outstanding(); n != 0 {
			t.Errorf("%d blocks leaked", n)
		}
	}
}

// Idle clients have no buffers, whatever they sent before.
func TestIdleClients(t *testing.T) {
	out := componenttest.NewOutput()
	_, _, addr := serve(t, Avro, out)
	var clients []Client
	const n = 200
	for range n {
		cl := newClient(t, Avro, addr)
		send(t, cl, batchOf(1, false))
		clients = append(clients, cl)
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools hold goes with the second
	runtime.ReadMemStats(&m)
	if per := m.HeapAlloc / n; per > 40<<10 { // both ends, and the rest of the test
		t.Errorf("%d bytes a connection", per)
	}
	runtime.KeepAlive(clients)
}

func TestMaxConnections(t *testing.T) {
	out := componenttest.NewOutput()
	s, _, addr := serve(t, Avro, out, "max-connections=2")
	a, b := newClient(t, Avro, addr), newClient(t, Avro, addr)
	send(t, a, batchOf(1, false))
	send(t, b, batchOf(1, false))
	if err := newClient(t, Avro, addr).AppendBatch(context.Background(), batchOf(1, false)); err == nil {
		t.Error("a third client was served")
	}
	a.Close()
	out.WaitFor(t, "a client less", func() bool { return s.env.Metrics.Counter("OpenConnectionCount").Load() == 1 })
	send(t, newClient(t, Avro, addr), batchOf(1, false))
}

// Calls that are being read have a bounded part of the memory together.
func TestBudget(t *testing.T) {
	out := componenttest.NewOutput()
	s, _, addr := serve(t, Avro, out, "max-request-size=2000000")
	head := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 1, 0, 0, 0, 1}, 2_000_000-4)
	part := make([]byte, 1_800_000)
	var waiting []net.Conn
	gone := make(chan struct{}, 100)
	for range 20 {
		c := dial(t, addr)
		waiting = append(waiting, c)
		go func() {
			_, _ = c.Write(append(bytes.Clone(head), part...))
			_, _ = io.Copy(io.Discard, c)
			gone <- struct{}{}
		}()
	}
	for range 15 { // at most so many fit
		<-gone
	}
	if n := s.budget.used.Load(); n > 8_000_000 {
		t.Errorf("%d bytes are taken", n)
	}
	send(t, newClient(t, Avro, addr), batchOf(100, true)) // small calls go on
	for _, c := range waiting {
		c.Close()
	}
	out.WaitFor(t, "the budget to be free", func() bool { return s.budget.used.Load() == 0 })
	large := []event.Event{{Body: make([]byte, 1_500_000)}}
	send(t, newClient(t, Avro, addr), large)
}

func TestIPFilter(t *testing.T) {
	ctx := context.Background()
	addr := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 1} }
	for _, tt := range []struct {
		rules, ip string
		want      bool
	}{
		{"deny:ip:127.*", "127.0.0.1", false},
		{"deny:ip:127.*", "10.0.0.1", true},
		{"allow:ip:10.0.0.?,deny:ip:*", "10.0.0.1", true},
		{"allow:ip:10.0.0.?,deny:ip:*", "10.0.0.12", false},
		{"allow:ip:10.*, deny:ip:*", "192.168.0.1", false},
		{"allow:name:localhost,deny:ip:*", "127.0.0.1", true},
		{"allow:name:localhost,deny:ip:*", "::1", true},
		{"allow:name:localhost,deny:ip:*", "192.0.2.7", false},
		{"allow:name:*.example.com,deny:name:*", "192.0.2.7", true},
		{"allow:name:*.example.org,deny:name:*", "192.0.2.7", false},
		{"deny:name:192.0.2.9", "192.0.2.9", false}, // it has no name: its address is one
		{"allow:ip:[0-9]*,deny:ip:*", "10.0.0.1", false},
		{"deny:ip:2001:db8:*", "2001:db8::1", false},
		{"deny:ip:10.*", "::ffff:10.0.0.1", false},
	} {
		rules, err := parseRules(strings.Split(strings.ReplaceAll(tt.rules, " ", ""), ","))
		if err != nil {
			t.Fatal(err)
		}
		f := filter{rules: rules, lookup: func(_ context.Context, addr string) ([]string, error) {
			if addr == "192.0.2.7" {
				return []string{"a.example.com."}, nil
			}
			return nil, errors.New("no name")
		}}
		if got := f.allows(ctx, addr(tt.ip)); got != tt.want {
			t.Errorf("%s, %s: %v", tt.rules, tt.ip, got)
		}
	}
	for _, bad := range []string{"", "allow", "allow:ip", "permit:ip:*", "allow:host:*", "Allow:ip:*"} {
		if _, err := parseRules([]string{bad}); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
	out := componenttest.NewOutput()
	_, _, a := serve(t, Avro, out, "ipFilter=true", "ipFilterRules=deny:ip:127.*")
	if err := newClient(t, Avro, a).AppendBatch(ctx, batchOf(1, false)); err == nil || len(out.Events()) > 0 {
		t.Errorf("a client that is denied: %v", err)
	}
	_, _, a = serve(t, Avro, out, "ipFilter=true", "ipFilterRules=allow:ip:127.*,deny:ip:*")
	send(t, newClient(t, Avro, a), batchOf(1, false))
}

// A stop answers the call that is under way and closes the others.
func TestStop(t *testing.T) {
	out := componenttest.NewOutput()
	s, r, addr := serve(t, Avro, out)
	s.port.Patience = time.Hour // the call under way is not given up
	idle, busy := newClient(t, Avro, addr), newClient(t, Avro, addr)
	send(t, idle, batchOf(1, false))
	half := dial(t, addr)
	if _, err := half.Write([]byte{0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 100, 'x'}); err != nil {
		t.Fatal(err)
	}
	out.Pause()
	answered := make(chan error)
	go func() { answered <- busy.AppendBatch(context.Background(), batchOf(2, false)) }()
	out.WaitFor(t, "the call", func() bool { return out.Emits() == 2 })
	stopped := make(chan struct{})
	go func() { defer close(stopped); r.Stop() }()
	if _, err := io.Copy(io.Discard, half); err != nil && !isReset(err) {
		t.Error(err)
	}
	out.Resume()
	if err := <-answered; err != nil {
		t.Errorf("the call under way: %v", err)
	}
	<-stopped
	if n := len(out.Events()); n != 3 {
		t.Errorf("%d events", n)
	}
	if n := out.Pool().Outstanding(); n != 0 {
		t.Errorf("%d blocks leaked", n)
	}
}

// A stop waits for a channel that stays full no longer than its patience, and
// the client is told FAILED.
func TestStopOnAFullChannel(t *testing.T) {
	out := componenttest.NewOutput()
	s, r, addr := serve(t, Avro, out)
	s.port.Patience = 20 * time.Millisecond
	out.Pause()
	answered := make(chan error)
	go func() {
		answered <- newClient(t, Avro, addr).AppendBatch(context.Background(), batchOf(2, false))
	}()
	out.WaitFor(t, "the call", func() bool { return out.Emits() == 1 })
	r.Stop()
	if err := <-answered; err == nil || !strings.Contains(err.Error(), "FAILED") {
		t.Error(err)
	}
}

// A panic while a client is served costs that client its connection.
func TestPanic(t *testing.T) {
	out := componenttest.NewOutput()
	var once sync.Once
	out.FailWith(func(int, *event.Batch) error {
		once.Do(func() { panic("in an interceptor") })
		return nil
	})
	_, _, addr := serve(t, ThriftBinary, out)
	cl := newClient(t, ThriftBinary, addr)
	if err := cl.AppendBatch(context.Background(), batchOf(1, false)); err == nil {
		t.Error("the call was answered")
	}
	send(t, cl, batchOf(1, false))
}

// Bad settings are told by their key.
func TestBadSettings(t *testing.T) {
	cert := pair(t, "server")
	for _, tt := range []struct {
		key   string
		props []string
	}{
		{"keystore", []string{"ssl=true"}},
		{"keystore", []string{"ssl=true", "keystore=/no/such/file", "keystore-password=x"}},
		{"keystore-password", []string{"ssl=true", "keystore=" + cert}},
		{"include-protocols", []string{"ssl=true", "keystore=" + cert, "keystore-type=PEM", "include-protocols=SSLv3"}},
		{"include-protocols", []string{"ssl=true", "keystore=" + cert, "keystore-type=PEM", "include-protocols=TLSv1.1 TLSv1.3"}},
		{"include-cipher-suites", []string{"ssl=true", "keystore=" + cert, "keystore-type=PEM", "include-cipher-suites=NONE"}},
		{"exclude-cipher-suites", []string{"ssl=true", "keystore=" + cert, "keystore-type=PEM", "exclude-cipher-suites=TLS_AES_128_GCM_SHA256"}},
		{"truststore", []string{"ssl=true", "keystore=" + cert, "keystore-type=PEM", "client-auth=required"}},
		{"ipFilterRules", []string{"ipFilter=true"}},
		{"ipFilterRules", []string{"ipFilter=true", "ipFilterRules=nonsense"}},
	} {
		var cfg serverFields
		decode(t, &cfg, append([]string{"bind=127.0.0.1", "port=0"}, tt.props...)...)
		env, _ := componenttest.Env(t)
		_, err := cfg.NewSource(env)
		var ke *component.KeyError
		if !errors.As(err, &ke) || ke.Key != tt.key {
			t.Errorf("%q: %v, want %s", tt.props, err, tt.key)
		}
	}
	for _, tt := range []struct {
		key   string
		props []string
	}{
		{"hosts", nil},
		{"hosts.a", []string{"hosts=a"}},
		{"hosts.a", []string{"hosts=a", "hosts.a=nonsense"}},
		{"hosts", []string{"client.type=default_loadbalance", "hosts=a", "hosts.a=h:1"}},
		{"truststore", []string{"hosts=a", "hosts.a=h:1", "ssl=true", "truststore=/no/such/file"}},
	} {
		var cfg clientFields
		decode(t, &cfg, tt.props...)
		env, _ := componenttest.Env(t)
		_, err := cfg.New(env, "", false)
		var ke *component.KeyError
		if !errors.As(err, &ke) || ke.Key != tt.key {
			t.Errorf("%q: %v, want %s", tt.props, err, tt.key)
		}
	}
}

// What a JVM has for the whole process holds where the component says nothing.
func TestGlobalTLS(t *testing.T) {
	cert := pair(t, "server")
	env, _ := componenttest.Env(t)
	env.Properties = map[string]string{"javax.net.ssl.keyStore": cert, "javax.net.ssl.keyStorePassword": "x", "flume.ssl.include.protocols": "TLSv1.3", "javax.net.ssl.trustStore": cert}
	var cfg serverFields
	decode(t, &cfg, "bind=127.0.0.1", "port=0", "ssl=true")
	s, err := cfg.NewSource(env)
	if err != nil {
		t.Fatal(err)
	}
	if s.layers.tls.MinVersion != s.layers.tls.MaxVersion || len(s.layers.tls.Certificates) != 1 {
		t.Errorf("%+v", s.layers.tls)
	}
	out := componenttest.NewOutput()
	componenttest.Run(t, s, out)
	t.Setenv("FLUME_SSL_TRUSTSTORE_PATH", cert)
	cl := newClient(t, Avro, s.Addr().String(), "ssl=true")
	send(t, cl, batchOf(1, false))
}

// A client that ends between two calls, in whatever way, is no fault; one that
// ends in the middle of a call is.
func TestClientsLeave(t *testing.T) {
	cert := pair(t, "server")
	ssl := []string{"ssl=true", "keystore=" + cert, "keystore-type=PEM"}
	trust := []string{"ssl=true", "truststore=" + cert}
	for _, tt := range []struct {
		name           string
		server, client []string
	}{
		{"plain", nil, nil},
		{"deflate", []string{"deflate=true"}, []string{"compression-type=deflate"}},
		{"TLS", ssl, trust},
		{"outside", append([]string{"deflate=true"}, ssl...), append([]string{"compression-type=deflate"}, trust...)},
		{"inside", append([]string{"deflate=true"}, ssl...), append([]string{"compression-type=deflate", "compression-order=inside"}, trust...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, log := loggedServer(t, tt.server...)
			out := componenttest.NewOutput()
			componenttest.Run(t, s, out)
			open := s.env.Metrics.Counter("OpenConnectionCount")
			gone := func() { out.WaitFor(t, "the client to be gone", func() bool { return open.Load() == 0 }) }
			left := newClient(t, Avro, s.Addr().String(), tt.client...)
			send(t, left, batchOf(1, false))
			left.Close()
			gone()
			if n := s.readFail.Load(); n != 0 || strings.Contains(log.String(), "WARN") {
				t.Errorf("%d faults, log: %s", n, log)
			}
			cut := newClient(t, Avro, s.Addr().String(), tt.client...).(*endpoint)
			send(t, cut, batchOf(1, false))
			if _, err := cut.free[0].conn.Write([]byte{0, 0, 0, 2, 0, 0, 0, 1, 0, 0}); err != nil {
				t.Fatal(err)
			}
			cut.Close()
			gone()
			if n := s.readFail.Load(); n != 1 || strings.Count(log.String(), "broke off in the middle of a call") != 1 {
				t.Errorf("%d faults, log: %s", n, log)
			}
		})
	}
}

// loggedServer is a source, not started yet, and what it logs.
func loggedServer(t *testing.T, props ...string) (*Server, *lockedBuilder) {
	t.Helper()
	var cfg serverFields
	decode(t, &cfg, append([]string{"bind=127.0.0.1", "port=0"}, props...)...)
	env := componenttest.QuietEnv()
	log := new(lockedBuilder)
	env.Log = slog.New(slog.NewTextHandler(log, nil))
	s, err := cfg.NewSource(env)
	if err != nil {
		t.Fatal(err)
	}
	return s, log
}

// A client that says nothing more in the middle of a call, or of the handshake,
// loses its connection; one that is idle between calls does not.
func TestHalfOpenClients(t *testing.T) {
	cert := pair(t, "server")
	call := newAvroClient().request(nil, batchOf(1, false), false)
	for _, tt := range []struct {
		name, sent, text string
		props            []string
	}{
		{"call", string(call[:len(call)-1]), "it stopped in the middle of a call", nil},
		{"head", string(call[:5]), "it stopped in the middle of a call", nil},
		{"nothing of TLS", "", "it did not finish the TLS handshake", []string{"ssl=true", "keystore=" + cert, "keystore-type=PEM"}},
		{"part of TLS", "\x16\x03\x01\x02", "it did not finish the TLS handshake", []string{"ssl=true", "keystore=" + cert, "keystore-type=PEM"}},
		{"nothing of two layers", "", "it did not finish the TLS handshake", []string{"ssl=true", "keystore=" + cert, "keystore-type=PEM", "deflate=true"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, log := loggedServer(t, tt.props...)
			s.stall = 300 * time.Millisecond
			out := componenttest.NewOutput()
			componenttest.Run(t, s, out)
			var idle Client
			if tt.props == nil {
				idle = newClient(t, Avro, s.Addr().String())
				send(t, idle, batchOf(1, false))
			}
			for range 3 {
				c := dial(t, s.Addr().String())
				if _, err := io.WriteString(c, tt.sent); err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, c); err != nil && !isReset(err) { // until the source ends it
					t.Fatal(err)
				}
			}
			if idle != nil {
				send(t, idle, batchOf(1, false))
				if n := idle.(*endpoint).set.created.Load(); n != 1 {
					t.Errorf("the idle client made %d connections", n)
				}
			}
			out.WaitFor(t, "the line in the log", func() bool { return strings.Contains(log.String(), tt.text) })
			if n := strings.Count(log.String(), "level=WARN"); n != 1 {
				t.Errorf("%d lines: %s", n, log.String())
			}
		})
	}
}

type lockedBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuilder) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuilder) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// The same of one client is logged once a minute, and there are never more than
// a few lines.
func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		l := limiter{log: slog.New(slog.NewTextHandler(&log, nil)), most: 3, span: time.Minute}
		for range 1000 { // 1000 s
			l.warn("a", "first client")
			l.warn("b", "second client")
			time.Sleep(time.Second)
		}
		if a, b := strings.Count(log.String(), "first client"), strings.Count(log.String(), "second client"); a != 17 || b != 17 {
			t.Errorf("%d and %d lines in 1000 s", a, b)
		}
		if !strings.Contains(log.String(), "lines_left_out_before=118") {
			t.Errorf("log: %s", log.String())
		}
		log.Reset()
		for i := range 1000 {
			l.info(fmt.Sprint(i), "many clients")
		}
		if n := strings.Count(log.String(), "\n"); n > 3 {
			t.Errorf("%d lines at once", n)
		}
	})
}

// A process that hung finds calls whose clients gave them up and sent their
// events elsewhere. It does not take them.
func TestCallThatWasGivenUp(t *testing.T) {
	for _, gone := range []bool{false, true} {
		out := componenttest.NewOutput()
		s, _, _ := serve(t, Avro, out)
		l := listen(t)
		defer l.Close()
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if _, err := client.Write(newAvroClient().request(nil, batchOf(5, true), false)); err != nil {
			t.Fatal(err)
		}
		if gone {
			(&conn{raw: client}).abort()
			client.Close()
		} else if err := client.(*net.TCPConn).CloseWrite(); err != nil { // it still waits for its answer
			t.Fatal(err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		s.serve(t.Context(), t.Context(), c, out)
		c.Close()
		want := 5
		if gone {
			want = 0
		}
		if n := len(out.Events()); n != want {
			t.Errorf("given up: %v: %d events, want %d", gone, n, want)
		}
	}
}
