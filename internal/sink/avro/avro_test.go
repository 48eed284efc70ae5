package avro

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
	_ "github.com/sluice-data/sluice/internal/source/avro"
)

// source runs an avro source and returns its port.
func source(t *testing.T, out component.Output, port int, props ...string) (*componenttest.Running, int) {
	t.Helper()
	env, _ := componenttest.Env(t)
	s := componenttest.Source(t, env, "avro", append([]string{"bind=127.0.0.1", fmt.Sprint("port=", port)}, props...)...)
	r := componenttest.Run(t, s, out)
	return r, s.(interface{ Addr() net.Addr }).Addr().(*net.TCPAddr).Port
}

func newSink(t *testing.T, port int, props ...string) (component.Sink, component.Env) {
	t.Helper()
	env, _ := componenttest.Env(t)
	cfg, _ := componenttest.Config(t, component.KindSink, "avro", append([]string{"hostname=127.0.0.1", fmt.Sprint("port=", port)}, props...)...)
	s, err := cfg.(component.SinkConfig).NewSink(env)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s, env
}

func events(n int) (evs []event.Event) {
	for i := range n {
		evs = append(evs, event.Event{Body: fmt.Append(nil, i), Headers: []event.KV{{Key: "k", Value: []byte("v")}}})
	}
	return evs
}

// The sink delivers, fails while the source is away, and delivers again.
func TestSourceAway(t *testing.T) {
	ctx := context.Background()
	out := componenttest.NewOutput()
	r, port := source(t, out, 0, "compression-type=deflate")
	sink, env := newSink(t, port, "compression-type=Deflate", "batch-size=10")
	if n := sink.(component.Sizer).BatchSize(); n != 10 {
		t.Errorf("batch size %d", n)
	}
	if err := sink.Write(ctx, events(10)); err != nil {
		t.Fatal(err)
	}
	r.Stop()
	for range 2 { // at once: that the source has closed the connection is seen
		err := sink.Write(ctx, events(10))
		if err == nil || !strings.Contains(err.Error(), "is the source there running?") {
			t.Fatal(err)
		}
		if component.IsPermanent(err) || errors.Is(err, component.ErrBackoff) {
			t.Errorf("the kind of the error: %v", err)
		}
	}
	source(t, out, port, "compression-type=deflate")
	if err := sink.Write(ctx, events(10)); err != nil {
		t.Fatal(err)
	}
	if n := len(out.Events()); n != 20 {
		t.Errorf("%d events", n)
	}
	for name, want := range map[string]int64{"ConnectionCreatedCount": 2, "ConnectionClosedCount": 1, "ConnectionFailedCount": 2} {
		if n := env.Metrics.Counter(name).Load(); n != want {
			t.Errorf("%s %d, want %d", name, n, want)
		}
	}
}

func TestStop(t *testing.T) {
	out := componenttest.NewOutput()
	_, port := source(t, out, 0)
	sink, _ := newSink(t, port)
	ctx := context.Background()
	if err := sink.Write(ctx, events(1)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sink.Stop(ctx), sink.Stop(ctx)); err != nil {
		t.Fatal(err)
	}
	if err := sink.Write(ctx, events(1)); err == nil {
		t.Error("a sink that was stopped took events")
	}
	if err := sink.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := sink.Write(ctx, events(1)); err != nil {
		t.Fatal(err)
	}
}

// What Flume lets pass with a warning passes here, and what it refuses is refused.
func TestProperties(t *testing.T) {
	base := []string{"hostname=h", "port=1"}
	for _, tt := range []struct {
		prop            string
		errors, warning bool
	}{
		{"batch-size=0", false, true},
		{"batch-size=many", false, true},
		{"request-timeout=10", false, true},
		{"connect-timeout=30000", false, false},
		{"maxIoWorkers=5", false, true},
		{"client.type=default_failover", false, false},
		{"client.type=org.apache.flume.api.FailoverRpcClient", false, false},
		{"client.type=com.example.Client", true, false},
		{"hosts.h2=b:2", false, false},
		{"compression-level=11", true, false},
		{"max-attempt=3", false, true}, // a typing mistake
	} {
		_, fs := componenttest.Decode(t, component.KindSink, "avro", append(base, tt.prop)...)
		var failed, warned bool
		for _, f := range fs {
			failed, warned = failed || f.Error, warned || !f.Error
		}
		if failed != tt.errors || warned != tt.warning {
			t.Errorf("%s: %+v", tt.prop, fs)
		}
	}
	if _, fs := componenttest.Decode(t, component.KindSink, "avro", "hostname=h"); len(fs) != 1 || fs[0].Key != "port" {
		t.Errorf("%+v", fs)
	}
}

// hostname and port are the host h1 of a sink with several.
func TestHosts(t *testing.T) {
	first, second := componenttest.NewOutput(), componenttest.NewOutput()
	_, p1 := source(t, first, 0)
	_, p2 := source(t, second, 0)
	sink, _ := newSink(t, p1, "client.type=default_loadbalance", "hosts=h1 h2", fmt.Sprint("hosts.h2=127.0.0.1:", p2))
	for range 10 {
		if err := sink.Write(context.Background(), events(1)); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := len(first.Events()), len(second.Events()); a != 5 || b != 5 {
		t.Errorf("%d and %d events", a, b)
	}
}
