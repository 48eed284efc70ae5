package broker

import (
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func metricsPage(t *testing.T, b *Broker) string {
	t.Helper()
	resp, err := http.Get("http://" + b.MetricsAddr() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, err, string(body))
	}
	return string(body)
}

func TestMetricsPage(t *testing.T) {
	b := startBroker(t, func(c *Config) { c.Metrics, c.Listen = "127.0.0.1:0", "LAN://127.0.0.1:0" })
	cl := client(t, b)
	produce(t, cl, "m", numbers(0, 7)...)
	consume(t, client(t, b, kgo.ConsumeTopics("m"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())), 7)
	var offsets kadm.Offsets
	offsets.AddOffset("m", 0, 3, -1)
	if _, err := kadm.NewClient(cl).CommitOffsets(ctxOf(t), "g", offsets); err != nil {
		t.Fatal(err)
	}
	huge := &kgo.Record{Topic: "m", Value: make([]byte, 2<<20)}
	big := client(t, b, kgo.ProducerBatchMaxBytes(4<<20), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err := big.ProduceSync(ctxOf(t), huge).FirstErr(); err == nil {
		t.Error("a record above max.message.bytes was taken")
	}
	page := metricsPage(t, b)
	for _, want := range []string{
		`kafka_log_log_logendoffset{partition="0",topic="m"} 7`,
		`kafka_server_brokertopicmetrics_messagesin_total{topic="m"} 7`,
		`kafka_server_brokertopicmetrics_messagesin_total{topic=""} 7`,
		`kafka_server_brokertopicmetrics_failedproducerequests_total{topic="m"} 1`,
		`kafka_network_requestmetrics_requests_total{request="Produce",version="`,
		`kafka_network_requestmetrics_errors_total{error="MESSAGE_TOO_LARGE",request="Produce"} 1`,
		`kafka_network_requestmetrics_totaltimems_count{request="Produce"} `,
		`kafka_network_requestmetrics_remotetimems_bucket{request="Fetch",le="+Inf"} `,
		`kafka_server_replicamanager_underreplicatedpartitions 0`,
		`kafka_server_socketservermetrics_connection_count{listener="LAN"} `,
		`kafka_coordinator_group_groupmetadatamanager_numgroups{state="Empty"} 1`,
		`kafka_consumergroup_lag{group="g",partition="0",topic="m"} 4`,
		`kafka_consumergroup_current_offset{group="g",partition="0",topic="m"} 3`,
		`process_resident_memory_bytes `,
		`sluice_broker_disk_free_bytes `,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q", want)
		}
	}
	for _, never := range []string{`bytesin_total{topic="m"} 0`, `bytesout_total{topic="m"} 0`, `bytesrejected_total{topic="m"} 0`} {
		if strings.Contains(page, never) {
			t.Errorf("there is %q", never)
		}
	}
	if t.Failed() {
		t.Log(page)
	}
}

func TestNoLagMetrics(t *testing.T) {
	b := startBroker(t, func(c *Config) { c.Metrics, c.DisableLagMetrics = "127.0.0.1:0", true })
	cl := client(t, b)
	produce(t, cl, "m", "x")
	var offsets kadm.Offsets
	offsets.AddOffset("m", 0, 0, -1)
	if _, err := kadm.NewClient(cl).CommitOffsets(ctxOf(t), "g", offsets); err != nil {
		t.Fatal(err)
	}
	if page := metricsPage(t, b); strings.Contains(page, "kafka_consumergroup_lag{") || !strings.Contains(page, "numoffsets 1") {
		t.Errorf("page is\n%s", page)
	}
}

// TestDocumentedMetrics: docs/broker-metrics.md has every metric, and no other.
func TestDocumentedMetrics(t *testing.T) {
	doc, err := os.ReadFile("../../docs/broker-metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	ch := make(chan *prometheus.Desc, 100)
	new(metrics).Describe(ch)
	close(ch)
	have := map[string]bool{}
	for d := range ch {
		name, _, _ := strings.Cut(strings.TrimPrefix(d.String(), `Desc{fqName: "`), `"`)
		have[name] = true
		if !strings.Contains(string(doc), "`"+name+"`") {
			t.Errorf("%s is not documented", name)
		}
	}
	for _, m := range regexp.MustCompile("`((?:kafka|sluice)_[a-z_]+)`").FindAllStringSubmatch(string(doc), -1) {
		if !have[m[1]] {
			t.Errorf("%s is documented and does not exist", m[1])
		}
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	for d, bucket := range map[time.Duration]int{0: 0, histogramUnit: 0, histogramUnit + 1: 1, 2 * histogramUnit: 1, time.Millisecond: 4, time.Hour: histogramBuckets} {
		before := h.buckets[bucket].Load()
		if h.add(d, 2); h.buckets[bucket].Load() != before+2 {
			t.Errorf("%v is not in bucket %d", d, bucket)
		}
	}
	if n := h.count(); n != 12 {
		t.Errorf("count is %d", n)
	}
	if n := testing.AllocsPerRun(100, func() { h.add(time.Millisecond, 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestErrorsInResponses(t *testing.T) {
	resp := kmsg.NewPtrMetadataResponse()
	mt := kmsg.NewMetadataResponseTopic()
	mt.ErrorCode = 3
	mp := kmsg.NewMetadataResponseTopicPartition()
	mp.ErrorCode = 5
	mt.Partitions = append(mt.Partitions, mp, mp, kmsg.NewMetadataResponseTopicPartition())
	resp.Topics = append(resp.Topics, mt)
	resp.ErrorCode = -1
	var s apiStats
	s.respErrors(resp)
	s.failed(10_000)
	for code, want := range map[int]int64{-1: 1, 0: 0, 3: 1, 5: 2} {
		if got := s.errors[code+1].Load(); got != want {
			t.Errorf("error %d counted %d times, want %d", code, got, want)
		}
	}
}
