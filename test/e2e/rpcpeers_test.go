package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/rpc"
	_ "github.com/sluice-data/sluice/standard"
)

// certificate writes a PEM file with a key and a certificate of its own.
func certificate(t *testing.T, name string, until time.Duration) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(until),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pk, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "cert.pem")
	writeFile(t, path, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pk}))+string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return path
}

// rpcSource runs a source in this process.
func rpcSource(t *testing.T, typ string, out *componenttest.Output, props ...string) (addr string) {
	t.Helper()
	s := componenttest.Source(t, componenttest.QuietEnv(), typ, append([]string{"bind=127.0.0.1", "port=0"}, props...)...)
	componenttest.Run(t, s, out)
	return s.(interface{ Addr() net.Addr }).Addr().String()
}

// fickle is a peer of a sink that misbehaves until it is cured.
type fickle struct {
	port  int
	tries atomic.Int64
	cured atomic.Bool
	good  *componenttest.Output
}

// newFickle serves connections by bad until it is cured, and hands them to the
// source at good then.
func newFickle(t *testing.T, good string, bad func(net.Conn)) *fickle {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fickle{port: l.Addr().(*net.TCPAddr).Port}
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			f.tries.Add(1)
			serve := bad
			if f.cured.Load() {
				serve = passTo(good)
			}
			all.Go(func() { defer c.Close(); serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return f
}

// passTo joins a connection to another address.
func passTo(addr string) func(net.Conn) {
	return func(c net.Conn) {
		to, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		var back sync.WaitGroup
		back.Go(func() { _, _ = io.Copy(c, to); c.Close() })
		_, _ = io.Copy(to, c)
		to.Close()
		back.Wait()
	}
}

// Every way in which the peer of an avro or thrift sink can fail: the events stay
// in the channel, the log has one line about it that says what to look at, however
// often the sink tries, and the sink delivers by itself when the peer is right.
func TestSinkPeers(t *testing.T) {
	t.Parallel()
	good, other := certificate(t, "localhost", time.Hour), certificate(t, "localhost", time.Hour)
	expired, elsewhere := certificate(t, "localhost", -time.Hour), certificate(t, "elsewhere", time.Hour)
	both := func(certs ...string) string {
		var all []byte
		for _, c := range certs {
			b, err := os.ReadFile(c)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, b...)
		}
		path := filepath.Join(t.TempDir(), "trust.pem")
		writeFile(t, path, string(all))
		return path
	}
	ssl := func(cert string, more ...string) []string {
		return append([]string{"ssl=true", "keystore=" + cert, "keystore-type=PEM"}, more...)
	}
	trust := func(cert string, more ...string) []string {
		return append([]string{"ssl=true", "truststore=" + cert}, more...)
	}
	refusing := componenttest.NewOutput()
	refusing.FailWith(func(int, *event.Batch) error { return errors.New("full") })
	taking := componenttest.NewOutput()
	source := func(typ string, out *componenttest.Output, props ...string) func(net.Conn) {
		return passTo(rpcSource(t, typ, out, props...))
	}
	says := func(b string) func(net.Conn) {
		return func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1))
			_, _ = io.WriteString(c, b)
			_, _ = io.Copy(io.Discard, c)
		}
	}
	type fault struct {
		name string
		bad  func(net.Conn)
		sink []string
		good []string
		text string
	}
	const noAnswer = `did not answer in time`
	swap := map[string]string{"avro": "thrift", "thrift": "avro"}
	var conf, flows strings.Builder
	var names []string
	peers := make(map[string]*fickle)
	faults := make(map[string]fault)
	for _, typ := range []string{"avro", "thrift"} {
		foreign := `is it a source of this protocol|it speaks `
		for _, f := range []fault{
			{"refused", source(typ, refusing), nil, nil, `refused the events \(FAILED\)`},
			{"reset", func(c net.Conn) {
				_, _ = c.Read(make([]byte, 1))
				_ = c.(*net.TCPConn).SetLinger(0)
			}, nil, nil, `closed the connection`},
			{"closed", func(net.Conn) {}, nil, nil, `closed the connection`},
			{"silent", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, nil, nil, noAnswer},
			{"halfway", says("\x00\x00"), nil, nil, noAnswer},
			{"http", says("HTTP/1.1 400 Bad Request\r\n\r\n"), nil, nil, `it speaks HTTP`},
			{"random", says("\xE9\x01\x77\x5A\x13\x88\x90\xC2\x4F\x21\x0B"), nil, nil, foreign},
			{"foreign", source(swap[typ], taking), nil, nil, foreign + `|does not understand us: protocol, compression-type, ssl`},
			{"plain-to-tls", source(typ, taking, ssl(good)...), nil, nil, `ssl`},
			{"tls-to-plain", source(typ, taking), trust(good), ssl(good), `ssl .*must fit|set ssl = false`},
			{"expired", source(typ, taking, ssl(expired)...), trust(both(good, expired)), ssl(good), `not trusted .*expired`},
			{"name", source(typ, taking, ssl(elsewhere)...), trust(both(good, elsewhere), "verify-hostname=true"), ssl(good), `not trusted .*not localhost`},
			{"unknown", source(typ, taking, ssl(other)...), trust(good), ssl(good), `not trusted .*unknown authority`},
			{"version", source(typ, taking, ssl(good, "include-protocols=TLSv1.3")...), trust(good, "include-protocols=TLSv1.2"), ssl(good), `protocol version`},
			{"client", source(typ, taking, ssl(good, "client-auth=required", "truststore="+other)...), trust(good), ssl(good), `certificate required`},
		} {
			name := typ + "-" + f.name
			out := componenttest.NewOutput()
			p := newFickle(t, rpcSource(t, typ, out, f.good...), f.bad)
			p.good = out
			wait := patience // where the peer answers, or ends the connection, however late
			if f.text == noAnswer {
				wait = time.Second
			}
			names, peers[name], faults[name] = append(names, name), p, f
			fmt.Fprintf(&flows, "a.channels.%[1]s.type = memory\na.sinks.%[1]s.type = %[2]s\na.sinks.%[1]s.channel = %[1]s\na.sinks.%[1]s.hostname = localhost\na.sinks.%[1]s.port = %[3]d\na.sinks.%[1]s.request-timeout = %[4]d\n", name, typ, p.port, wait.Milliseconds())
			for _, prop := range f.sink {
				fmt.Fprintf(&flows, "a.sinks.%s.%s\n", name, prop)
			}
		}
	}
	list := strings.Join(names, " ")
	fmt.Fprintf(&conf, "a.sources = r\na.channels = %[1]s\na.sinks = %[1]s\na.sources.r.type = netcat\na.sources.r.bind = 127.0.0.1\na.sources.r.port = 0\na.sources.r.channels = %[1]s\n%[2]s", list, flows.String())
	began := time.Now()
	p, url := agent(t, conf.String())
	c, err := net.Dial("tcp", p.find(`msg=listening.* address=(\S+)`))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const lines = 10
	var want []string
	for i := range lines {
		want = append(want, fmt.Sprint("line ", i))
	}
	if _, err := io.WriteString(c, strings.Join(want, "\n")+"\n"); err != nil {
		t.Fatal(err)
	}
	p.await("the lines in the channels", func() bool { return counter(t, url, "SOURCE.r", "EventAcceptedCount") == lines })
	failed := func(name string) (lines []string) {
		for l := range strings.Lines(p.stderr() + p.stdout()) {
			if strings.Contains(l, "the sink failed") && strings.Contains(l, "sink="+name+" ") {
				lines = append(lines, l)
			}
		}
		return lines
	}
	for _, name := range names {
		p.await(name+": three tries", func() bool { return peers[name].tries.Load() >= 3 && len(failed(name)) > 0 })
		if n := counter(t, url, "CHANNEL."+name, "ChannelSize"); n != lines {
			t.Errorf("%s: %d events in the channel, want %d", name, n, lines)
		}
		for _, l := range failed(name) {
			if !regexp.MustCompile(faults[name].text).MatchString(l) {
				t.Errorf("%s: want %q, log: %q", name, faults[name].text, l)
			}
		}
	}
	if n := len(taking.Events()); n > 0 {
		t.Errorf("%d events came through", n)
	}
	for _, name := range names {
		peers[name].cured.Store(true)
	}
	for _, name := range names {
		p.await(name+": every event", func() bool {
			got := peers[name].good.Bodies()
			return !slices.ContainsFunc(want, func(w string) bool { return !slices.Contains(got, w) })
		})
		// Each cause once a minute: a connection that is closed may be reset in one try, and end in another.
		said, most := map[string]int{}, 1+int(time.Since(began)/time.Minute)
		for _, l := range failed(name) {
			_, cause, _ := strings.Cut(l, " err=")
			cause = regexp.MustCompile(`[0-9]+`).ReplaceAllString(cause, "")
			if said[cause]++; said[cause] > most || len(said) > 2 {
				t.Errorf("%s: said again: %s", name, l)
			}
		}
	}
	if code := p.term(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// Whatever clients send to an avro or thrift source costs them their connection
// and the log one line, however often they try, and others are served.
func TestSourcePeers(t *testing.T) {
	t.Parallel()
	cert, other := certificate(t, "localhost", time.Hour), certificate(t, "localhost", time.Hour)
	ssl := "a.sources.NAME.ssl = true\na.sources.NAME.keystore = " + cert + "\na.sources.NAME.keystore-type = PEM\n"
	mutual := ssl + "a.sources.NAME.client-auth = required\na.sources.NAME.truststore = " + other + "\na.sources.NAME.include-protocols = TLSv1.3\n"
	random := "\xE9\x01\x77\x5A\x13\x88\x90\xC2\x4F\x21\x0B" + strings.Repeat("\xA5", 100)
	plain := func(b string) func(c net.Conn) { return func(c net.Conn) { _, _ = io.WriteString(c, b) } }
	overTLS := func(conf *tls.Config, b string) func(c net.Conn) {
		return func(c net.Conn) {
			conf = conf.Clone()
			conf.InsecureSkipVerify = true
			tc := tls.Client(c, conf)
			_, _ = io.WriteString(tc, b)
			_, _ = io.Copy(io.Discard, tc)
		}
	}
	avroCall := "\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x05hello"
	compactCall, binaryCall := "\x00\x00\x00\x0A\x82\x21\x01\x06append\x00", "\x00\x00\x00\x0E\x80\x01\x00\x01\x00\x00\x00\x06append\x00"
	hello := new(bytes.Buffer)
	_ = tls.Client(recorder{hello}, &tls.Config{ServerName: "x"}).Handshake() // ends with the first read
	type fault struct {
		name string
		send func(net.Conn)
		text string
	}
	type server struct {
		name, typ, props string
		client           map[string]string // nil: none that can be right
		faults           []fault
	}
	servers := []server{
		{"avro", "avro", "", map[string]string{}, []fault{
			{"http", plain("GET / HTTP/1.1\r\n\r\n"), "it speaks HTTP"},
			{"random", plain(random), "no call"},
			{"compact", plain(compactCall), "it speaks Thrift, compact protocol"},
			{"binary", plain(binaryCall), "it speaks Thrift, binary protocol"},
			{"tls", plain(hello.String()), "it speaks TLS: set ssl = true here, or false there"},
			{"deflate", plain("\x78\x9C\x62\x60\x00\x00\x00\x00\xFF\xFF"), "it compresses"},
		}},
		{"thrift", "thrift", "", map[string]string{"client.type": "thrift"}, []fault{
			{"http", plain("GET / HTTP/1.1\r\n\r\n"), "it speaks HTTP"},
			{"random", plain(random), "no call"},
			{"avro", plain(avroCall), "it speaks Avro"},
			{"binary", plain(binaryCall), "it speaks Thrift, binary protocol"},
			{"tls", plain(hello.String()), "it speaks TLS: set ssl = true here, or false there"},
		}},
		{"binary", "thrift", "a.sources.NAME.protocol = binary\n", map[string]string{"client.type": "thrift", "protocol": "binary"}, []fault{
			{"compact", plain(compactCall), "it speaks Thrift, compact protocol"},
		}},
		{"avrotls", "avro", ssl, map[string]string{"ssl": "true", "truststore": cert}, []fault{
			{"plain", plain(avroCall), "it does not speak TLS"},
			{"http", plain("GET / HTTP/1.1\r\n\r\n"), "it speaks HTTP"},
			{"old", overTLS(&tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}, ""), "the TLS handshake failed"},
			{"inner", overTLS(&tls.Config{}, random), "no call"},
		}},
		{"thrifttls", "thrift", ssl, map[string]string{"client.type": "thrift", "ssl": "true", "truststore": cert}, []fault{
			{"plain", plain(compactCall), "it does not speak TLS|it speaks Thrift"},
			{"old", overTLS(&tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}, ""), "the TLS handshake failed"},
		}},
		{"mutual", "avro", mutual, nil, []fault{
			{"anonymous", overTLS(&tls.Config{}, avroCall), "certificate"},
			{"version", overTLS(&tls.Config{MaxVersion: tls.VersionTLS12}, ""), "the TLS handshake failed"},
		}},
		{"deflate", "avro", "a.sources.NAME.compression-type = deflate\n", map[string]string{"compression-type": "deflate"}, []fault{
			{"plain", plain(avroCall), "it does not compress"},
		}},
	}
	var conf strings.Builder
	var names []string
	for _, s := range servers {
		names = append(names, s.name)
		fmt.Fprintf(&conf, "a.sources.%[1]s.type = %[2]s\na.sources.%[1]s.bind = 127.0.0.1\na.sources.%[1]s.port = 0\na.sources.%[1]s.channels = c\n%[3]s", s.name, s.typ, strings.ReplaceAll(s.props, "NAME", s.name))
	}
	p, url := agent(t, fmt.Sprintf("a.sources = %s\na.channels = c\na.sinks = k\na.channels.c.type = memory\na.sinks.k.type = null\na.sinks.k.channel = c\n%s", strings.Join(names, " "), conf.String()))
	warned := func(name string) (lines []string) {
		for l := range strings.Lines(p.stderr() + p.stdout()) {
			if strings.Contains(l, "level=WARN") && strings.Contains(l, "source="+name+" ") {
				lines = append(lines, l)
			}
		}
		return lines
	}
	for _, s := range servers {
		addr := p.find(`msg=listening source=` + s.name + ` address=(\S+)`)
		for i, f := range s.faults {
			for range 5 {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				f.send(c)
				_ = c.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, c)
				c.Close()
			}
			p.await(s.name+" "+f.name, func() bool { return len(warned(s.name)) > i })
			if ls := warned(s.name); len(ls) != i+1 || !regexp.MustCompile(f.text).MatchString(ls[i]) {
				t.Fatalf("%s %s: want one more line, with %q, log: %q", s.name, f.name, f.text, ls)
			}
		}
		if s.client == nil {
			continue
		}
		props := map[string]string{"hosts": "h", "hosts.h": addr}
		for k, v := range s.client {
			props[k] = v
		}
		cl, err := rpc.New(props)
		if err != nil {
			t.Fatal(err)
		}
		if err := cl.AppendBatch(t.Context(), []event.Event{{Body: []byte("one")}, {Body: []byte("two")}}); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		cl.Close()
		if n := counter(t, url, "SOURCE."+s.name, "EventAcceptedCount"); n != 2 {
			t.Errorf("%s: %d events", s.name, n)
		}
	}
	if code := p.term(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// recorder keeps what is written and has nothing to read.
type recorder struct{ b *bytes.Buffer }

func (r recorder) Write(p []byte) (int, error)    { return r.b.Write(p) }
func (recorder) Read([]byte) (int, error)         { return 0, io.EOF }
func (recorder) Close() error                     { return nil }
func (recorder) LocalAddr() net.Addr              { return nil }
func (recorder) RemoteAddr() net.Addr             { return nil }
func (recorder) SetDeadline(time.Time) error      { return nil }
func (recorder) SetReadDeadline(time.Time) error  { return nil }
func (recorder) SetWriteDeadline(time.Time) error { return nil }
