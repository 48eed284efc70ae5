package admin

import (
	"strings"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"
)

// collector turns the agent's counters into Prometheus metrics:
// EventReceivedCount of source r becomes
// sluice_source_event_received_total{component="r"}.
type collector struct{ a Agent }

// Describe sends nothing: the set of counters is the components' own, so the
// collector is "unchecked" in Prometheus's terms.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Of sink groups, a line for each sink.
var (
	sinkActive      = prometheus.NewDesc("sluice_sinkgroup_sink_active", "1 for the sink of the group that delivered last.", []string{"component", "sink"}, nil)
	sinkFailedUntil = prometheus.NewDesc("sluice_sinkgroup_sink_failed_until_seconds", "Until when the group leaves the sink out, in seconds since 1970; 0 if it does not.", []string{"component", "sink"}, nil)
)

func (c collector) Collect(ch chan<- prometheus.Metric) {
	label := []string{"component"}
	for _, m := range c.a.Metrics() {
		kind := strings.ToLower(m.Kind)
		for name, v := range m.Counters {
			desc := prometheus.NewDesc("sluice_"+kind+"_"+snake(strings.TrimSuffix(name, "Count"))+"_total", "Flume's "+name+".", label, nil)
			ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(v), m.Name)
		}
		if m.Kind == "CHANNEL" {
			for name, v := range map[string]int64{"size_events": m.Size, "capacity_events": m.Capacity, "held_bytes": m.Bytes} {
				desc := prometheus.NewDesc("sluice_channel_"+name, "Of the channel, now.", label, nil)
				ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(v), m.Name)
			}
		}
		for _, s := range m.Sinks {
			active, until := 0.0, 0.0
			if s.Active {
				active = 1
			}
			if !s.FailedUntil.IsZero() {
				until = float64(s.FailedUntil.UnixMilli()) / 1000
			}
			ch <- prometheus.MustNewConstMetric(sinkActive, prometheus.GaugeValue, active, m.Name, s.Name)
			ch <- prometheus.MustNewConstMetric(sinkFailedUntil, prometheus.GaugeValue, until, m.Name, s.Name)
		}
	}
	desc := prometheus.NewDesc("sluice_health_conditions", "Conditions that an operator should know of; see /healthz.", nil, nil)
	ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(len(c.a.Health())))
}

func snake(s string) string {
	var b strings.Builder
	for i, r := range s {
		if unicode.IsUpper(r) {
			if i > 0 {
				b.WriteByte('_')
			}
			r = unicode.ToLower(r)
		}
		b.WriteRune(r)
	}
	return b.String()
}
