package thrift

import (
	"context"
	"fmt"
	"net"
	"testing"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
	_ "github.com/sluice-data/sluice/internal/source/thrift"
)

// Source and sink by the properties of an agent file, in both protocols.
func TestDeliver(t *testing.T) {
	for _, protocol := range []string{"compact", "binary", "Binary"} {
		out := componenttest.NewOutput()
		env, _ := componenttest.Env(t)
		src := componenttest.Source(t, env, "thrift", "bind=127.0.0.1", "port=0", "protocol="+protocol, "threads=1", "kerberos=false")
		componenttest.Run(t, src, out)
		port := src.(interface{ Addr() net.Addr }).Addr().(*net.TCPAddr).Port
		cfg, _ := componenttest.Config(t, component.KindSink, "org.apache.flume.sink.ThriftSink", "hostname=127.0.0.1", fmt.Sprint("port=", port), "protocol="+protocol, "connection-reset-interval=1")
		sink, err := cfg.(component.SinkConfig).NewSink(env)
		if err != nil {
			t.Fatal(err)
		}
		ctx := context.Background()
		for range 3 {
			if err := sink.Write(ctx, []event.Event{{Body: []byte("a"), Headers: []event.KV{{Key: "k", Value: []byte("v")}}}, {Body: []byte{}}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := sink.Stop(ctx); err != nil {
			t.Fatal(err)
		}
		if n := len(out.Events()); n != 6 {
			t.Errorf("%d events", n)
		}
	}
}

func TestKerberos(t *testing.T) {
	for _, kind := range []component.Kind{component.KindSink, component.KindSource} {
		_, fs := componenttest.Decode(t, kind, "thrift", "hostname=h", "bind=h", "port=1", "kerberos=true")
		found := false
		for _, f := range fs {
			found = found || f.Error && f.Key == "kerberos"
		}
		if !found {
			t.Errorf("%s: %+v", kind, fs)
		}
	}
}
