package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
)

// Every event arrives as it was sent, over each protocol and in each layer.
func TestRoundTrip(t *testing.T) {
	server, client := pair(t, "server"), pair(t, "client")
	ssl := []string{"ssl=true", "keystore=" + server, "keystore-type=PEM"}
	trust := []string{"ssl=true", "truststore=" + server}
	deflate := []string{"compression-type=deflate"}
	join := func(lists ...[]string) (all []string) {
		for _, l := range lists {
			all = append(all, l...)
		}
		return all
	}
	for _, tt := range []struct {
		name     string
		protocol Protocol
		source   []string
		client   []string
	}{
		{"avro", Avro, nil, nil},
		{"avro deflate", Avro, []string{"deflate=true"}, deflate},
		{"avro deflate 0", Avro, []string{"deflate=true"}, append(deflate, "compression-level=0")},
		{"avro tls", Avro, ssl, trust},
		{"avro tls with the host's name", Avro, ssl, join(trust, []string{"trust-all-certs=true"})},
		{"avro mutual tls", Avro, join(ssl, []string{"client-auth=required", "truststore=" + client}), join(trust, []string{"keystore=" + client})},
		{"avro tls in deflate", Avro, join(ssl, []string{"deflate=true"}), join(trust, deflate)},
		{"avro deflate in tls", Avro, join(ssl, []string{"deflate=true"}), join(trust, deflate, []string{"compression-order=inside"})},
		{"avro tls 1.2", Avro, join(ssl, []string{"exclude-protocols=SSLv3 TLSv1.3"}), trust},
		{"avro tls suite", Avro, join(ssl, []string{"include-cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"}), trust},
		{"thrift compact", ThriftCompact, nil, nil},
		{"thrift binary", ThriftBinary, nil, nil},
		{"thrift compact tls", ThriftCompact, ssl, trust},
		{"thrift binary mutual tls", ThriftBinary, join(ssl, []string{"client-auth=required", "truststore=" + client}), join(trust, []string{"keystore=" + client})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := componenttest.NewOutput()
			s, r, addr := serve(t, tt.protocol, out, tt.source...)
			cl := newClient(t, tt.protocol, addr, append(tt.client, "batch-size=4")...)
			evs := samples()
			var want []event.Event
			for range 3 {
				send(t, cl, evs)
				want = append(want, evs...)
			}
			for i := range evs {
				if err := cl.Append(context.Background(), evs[i]); err != nil {
					t.Fatal(err)
				}
				want = append(want, evs[i])
			}
			sameEvents(t, out.Events(), want)
			if got := len(out.Batches()); got != 3*2+len(evs) {
				t.Errorf("%d batches", got)
			}
			if n := s.env.Metrics.Counter("AppendAcceptedCount").Load(); n != int64(len(evs)) {
				t.Errorf("AppendAcceptedCount %d", n)
			}
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

// A header with the value null has no place in either protocol.
func TestNullHeader(t *testing.T) {
	for _, p := range []Protocol{Avro, ThriftCompact, ThriftBinary} {
		out := componenttest.NewOutput()
		_, _, addr := serve(t, p, out)
		cl := newClient(t, p, addr)
		send(t, cl, []event.Event{{Body: []byte("a"), Headers: []event.KV{{Key: "null"}, {Key: "b", Value: []byte("c")}}}, {Body: []byte("d"), Headers: []event.KV{{Key: "null"}}}})
		sameEvents(t, out.Events(), []event.Event{{Body: []byte("a"), Headers: []event.KV{{Key: "b", Value: []byte("c")}}}, {Body: []byte("d")}})
	}
}

// FAILED keeps the events with the client, which goes on with a new connection.
func TestRefused(t *testing.T) {
	for _, p := range []Protocol{Avro, ThriftCompact, ThriftBinary} {
		out := componenttest.NewOutput()
		out.FailWith(func(emit int, _ *event.Batch) error {
			if emit < 2 {
				return errors.New("no room")
			}
			return nil
		})
		_, _, addr := serve(t, p, out)
		cl := newClient(t, p, addr)
		evs := samples()
		for range 2 {
			err := cl.AppendBatch(context.Background(), evs)
			if err == nil || !strings.Contains(err.Error(), "FAILED") {
				t.Fatalf("%v: %v", p, err)
			}
		}
		send(t, cl, evs)
		sameEvents(t, out.Events(), evs)
	}
}

func TestManyClients(t *testing.T) {
	out := componenttest.NewOutput()
	_, _, addr := serve(t, ThriftCompact, out, "threads=2")
	cl := newClient(t, ThriftCompact, addr, "maxConnections=3")
	done := make(chan error)
	for i := range 10 {
		go func() {
			var err error
			for j := range 20 {
				err = errors.Join(err, cl.AppendBatch(context.Background(), []event.Event{{Body: fmt.Append(nil, i, j)}}))
			}
			done <- err
		}()
	}
	for range 10 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := len(out.Events()); n != 200 {
		t.Errorf("%d events", n)
	}
}
