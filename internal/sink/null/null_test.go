package null

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

func TestNull(t *testing.T) {
	typ, ok := component.Default().Lookup(component.KindSink, "org.apache.flume.sink.nullsink")
	if !ok {
		t.Fatal("not registered by its class")
	}
	c := typ.New()
	for _, f := range component.Decode(component.Default(), c, []component.Property{{Key: "batchSize", Value: "7"}, {Key: "logEveryNEvents", Value: "10"}}) {
		t.Errorf("%+v", f)
	}
	var log bytes.Buffer
	s, err := c.(component.SinkConfig).NewSink(component.Env{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if n := s.(component.Sizer).BatchSize(); n != 7 {
		t.Errorf("batch size %d", n)
	}
	evs := make([]event.Event, 6)
	for range 5 {
		if err := s.Write(context.Background(), evs); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 3 || !strings.Contains(log.String(), "events=12") || !strings.Contains(log.String(), "events=30") {
		t.Errorf("logged %d times for 30 events, every 10:\n%s", n, log.String())
	}
	for _, bad := range []component.Property{{Key: "batchSize", Value: "0"}, {Key: "logEveryNEvents", Value: "0"}} {
		if fs := component.Decode(component.Default(), typ.New(), []component.Property{bad}); len(fs) != 1 || !fs[0].Error {
			t.Errorf("%v: %+v", bad, fs)
		}
	}
}
