package admin

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-data/sluice/internal/agent"
)

type fakeAgent struct{ health []agent.Condition }

func (f *fakeAgent) Metrics() []agent.Metric {
	return []agent.Metric{
		{Kind: "SOURCE", Name: "r1", Start: 5, Counters: map[string]int64{"EventReceivedCount": 7}},
		{Kind: "CHANNEL", Name: "c1", Size: 25, Capacity: 100, Bytes: 4096},
		{Kind: "CHANNEL", Name: "c2", Size: 1},
		{Kind: "SINKGROUP", Name: "g1", Counters: map[string]int64{"SinkSwitchCount": 2},
			Sinks: []agent.SinkState{{Name: "k1", FailedUntil: time.UnixMilli(1_800_000_000_500)}, {Name: "k2", Active: true}}},
	}
}
func (f *fakeAgent) Health() []agent.Condition { return f.health }

func get(t *testing.T, method, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestServer(t *testing.T) {
	f := &fakeAgent{}
	s, err := Start(t.Context(), "127.0.0.1:0", f, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context())
	base := "http://" + s.Addr().String()

	code, body := get(t, "GET", base+"/metrics")
	var m map[string]map[string]string
	if err := json.Unmarshal([]byte(body), &m); err != nil || code != 200 {
		t.Fatalf("/metrics: %d %s: %v", code, body, err)
	}
	if m["SOURCE.r1"]["EventReceivedCount"] != "7" || m["SOURCE.r1"]["Type"] != "SOURCE" || m["SOURCE.r1"]["StartTime"] != "5" ||
		m["CHANNEL.c1"]["ChannelFillPercentage"] != "25.0" || m["CHANNEL.c2"]["ChannelFillPercentage"] != "1.7976931348623157E308" ||
		m["SINKGROUP.g1"]["ActiveSink"] != "k2" || m["SINKGROUP.g1"]["FailedUntil.k1"] != "1800000000500" {
		t.Errorf("/metrics: %s", body)
	}

	code, body = get(t, "GET", base+"/prometheus")
	for _, want := range []string{`sluice_source_event_received_total{component="r1"} 7`, `sluice_channel_size_events{component="c1"} 25`, "sluice_health_conditions 0", `sluice_sinkgroup_sink_switch_total{component="g1"} 2`,
		`sluice_sinkgroup_sink_active{component="g1",sink="k2"} 1`, `sluice_sinkgroup_sink_failed_until_seconds{component="g1",sink="k1"} 1.8000000005e+09`, "process_resident_memory_bytes"} {
		if code != 200 || !strings.Contains(body, want) {
			t.Errorf("/prometheus (%d) lacks %s", code, want)
		}
	}

	if code, body = get(t, "GET", base+"/healthz"); code != 200 || !strings.Contains(body, `"ok":true`) {
		t.Errorf("/healthz: %d %s", code, body)
	}
	f.health = []agent.Condition{{Component: "sink k", Message: "peer is down", Since: time.Now()}}
	if code, body = get(t, "GET", base+"/healthz"); code != 503 || !strings.Contains(body, "peer is down") {
		t.Errorf("/healthz with a condition: %d %s", code, body)
	}
	for path, want := range map[string]int{"/": 200, "/nothing": 404} {
		if code, _ := get(t, "GET", base+path); code != want {
			t.Errorf("%s: %d, want %d", path, code, want)
		}
	}
	if code, _ := get(t, "OPTIONS", base+"/metrics"); code != 403 {
		t.Errorf("OPTIONS: %d, want 403", code)
	}
	if _, err := Start(t.Context(), s.Addr().String(), f, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a busy port was not reported")
	}
}
