package rpc_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
	_ "github.com/sluice-data/sluice/internal/source/avro"
	_ "github.com/sluice-data/sluice/internal/source/thrift"
	"github.com/sluice-data/sluice/rpc"
)

func source(t *testing.T, typ string) (*componenttest.Output, int) {
	t.Helper()
	out := componenttest.NewOutput()
	env, _ := componenttest.Env(t)
	s := componenttest.Source(t, env, typ, "bind=127.0.0.1", "port=0")
	componenttest.Run(t, s, out)
	return out, s.(interface{ Addr() net.Addr }).Addr().(*net.TCPAddr).Port
}

func TestClients(t *testing.T) {
	ctx := context.Background()
	avro, avroPort := source(t, "avro")
	thrift, thriftPort := source(t, "thrift")
	for _, tt := range []struct {
		name string
		out  *componenttest.Output
		make func() (*rpc.Client, error)
		size int
	}{
		{"default", avro, func() (*rpc.Client, error) { return rpc.Default("127.0.0.1", avroPort) }, 100},
		{"thrift", thrift, func() (*rpc.Client, error) { return rpc.Thrift("127.0.0.1", thriftPort) }, 100},
		{"failover", avro, func() (*rpc.Client, error) {
			return rpc.New(map[string]string{"client.type": "DEFAULT_FAILOVER", "hosts": "a b", "hosts.a": "127.0.0.1:1", "hosts.b": fmt.Sprint("127.0.0.1:", avroPort), "batch-size": "7"})
		}, 7},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cl, err := tt.make()
			if err != nil {
				t.Fatal(err)
			}
			before := len(tt.out.Events())
			if err := cl.Append(ctx, event.Event{Body: []byte("one")}); err != nil {
				t.Fatal(err)
			}
			if err := cl.AppendBatch(ctx, make([]event.Event, 250)); err != nil {
				t.Fatal(err)
			}
			if n := len(tt.out.Events()) - before; n != 251 || cl.BatchSize() != tt.size {
				t.Errorf("%d events, batches of %d", n, cl.BatchSize())
			}
			if err := cl.Close(); err != nil {
				t.Fatal(err)
			}
			if err := cl.Append(ctx, event.Event{}); err == nil {
				t.Error("a closed client sends")
			}
		})
	}
}

func TestBadProperties(t *testing.T) {
	for _, tt := range []struct {
		props map[string]string
		text  string
	}{
		{nil, "hosts"},
		{map[string]string{"hosts": "a"}, "hosts.a"},
		{map[string]string{"hosts": "a", "hosts.a": "h:1", "client.type": "x.y.Z"}, "client.type"},
		{map[string]string{"hosts": "a", "hosts.a": "h:1", "kerberos": "true"}, "kerberos"},
	} {
		if _, err := rpc.New(tt.props); err == nil || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%v: %v", tt.props, err)
		}
	}
	var log bytes.Buffer
	_, err := rpc.New(map[string]string{"hosts": "a", "hosts.a": "h:1", "batchsize": "5"}, rpc.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	if err != nil || !strings.Contains(log.String(), "batch-size") {
		t.Errorf("%v: %s", err, log.String())
	}
	if n := len(rpc.Properties()); n < 25 {
		t.Errorf("%d properties", n)
	}
}
