package rpc

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
)

// decode fills a configuration from "key=value" properties.
func decode(t testing.TB, cfg component.Config, props ...string) {
	t.Helper()
	var ps []component.Property
	for _, p := range props {
		k, v, _ := strings.Cut(p, "=")
		ps = append(ps, component.Property{Key: k, Value: v})
	}
	for _, f := range component.Decode(&component.Registry{}, cfg, ps) {
		if f.Error {
			t.Fatalf("%s: %s", f.Key, f.Message)
		}
	}
}

type serverFields struct{ ServerConfig }

func (c *serverFields) Fields() []component.Field {
	return append(c.ServerConfig.Fields(), component.Bool("deflate", &c.Deflate, false),
		component.Bool("ipFilter", &c.Filter, false), component.CommaList("ipFilterRules", &c.FilterRules), component.Int("threads", &c.Calls, 0))
}

// serve runs a source and returns it and its address.
func serve(t testing.TB, p Protocol, out component.Output, props ...string) (*Server, *componenttest.Running, string) {
	t.Helper()
	var cfg serverFields
	decode(t, &cfg, append([]string{"bind=127.0.0.1", "port=0"}, props...)...)
	cfg.Protocol = p
	env, _ := componenttest.Env(t)
	s, err := cfg.NewSource(env)
	if err != nil {
		t.Fatal(err)
	}
	r := componenttest.Run(t, s, out)
	return s, r, s.Addr().String()
}

type clientFields struct{ ClientConfig }

func (c *clientFields) Fields() []component.Field {
	fs := append(c.CommonFields(), c.AvroFields()...)
	fs = append(fs, c.ThriftFields()...)
	return append(append(fs, c.HostFields()...), c.PoolField())
}

func newClient(t testing.TB, p Protocol, addr string, props ...string) Client {
	t.Helper()
	var cfg clientFields
	if p == ThriftBinary {
		props = append(props, "protocol=binary")
	}
	decode(t, &cfg, props...)
	env, _ := componenttest.Env(t)
	cl, err := cfg.New(env, addr, p != Avro)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// pair writes a PEM file with a key and a self-signed certificate.
func pair(t testing.TB, name string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pk, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name+".pem")
	b := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pk}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// samples are events with all that a body and a header can be.
func samples() []event.Event {
	long := strings.Repeat("x", 100_000)
	var many []event.KV
	for i := range 300 {
		many = append(many, event.KV{Key: "name" + strings.Repeat("y", i), Value: []byte(strings.Repeat("v", i))})
	}
	shared := []event.KV{{Key: "host", Value: []byte("한글")}, {Key: "empty", Value: []byte{}}, {Key: "bytes", Value: []byte{0xFF, 0, 0x80}}}
	return []event.Event{
		{Body: []byte("plain")},
		{Body: []byte{}},
		{Body: []byte{0, 0xFF, 0xFE, '\n'}, Headers: shared},
		{Body: []byte("shares them"), Headers: shared},
		{Body: []byte("has as many"), Headers: []event.KV{{Key: "host", Value: []byte("한글")}, {Key: "empty", Value: []byte("no")}, {Key: "bytes", Value: []byte{}}}},
		{Body: []byte(long), Headers: many},
		{Body: []byte("last"), Headers: []event.KV{{Key: "😀", Value: []byte("😀")}}},
	}
}

// sameEvents compares by content; a nil body is an empty one.
func sameEvents(t testing.TB, got, want []event.Event) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d events, want %d", len(got), len(want))
	}
	for i := range want {
		if g, w := got[i], want[i].Clone(); !reflect.DeepEqual(g, w) {
			t.Fatalf("event %d is %.200q with %d headers, want %.200q with %d", i, g.Body, len(g.Headers), w.Body, len(w.Headers))
		}
	}
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func send(t testing.TB, cl Client, evs []event.Event) {
	t.Helper()
	if err := cl.AppendBatch(context.Background(), evs); err != nil {
		t.Fatal(err)
	}
}

// noConn is a connection with nothing to read.
type noConn struct{ net.Conn }

func (noConn) Read([]byte) (int, error) { return 0, io.EOF }
