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
