package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// metrics counts what happens and describes the topics when it is asked. The
// counters are plain atomics, because they are on every request's way.
type metrics struct {
	b                  *Broker
	requests           [maxAPIKey + 1]atomic.Int64
	produceErrors      atomic.Int64
	recordsIn          atomic.Int64
	bytesIn            atomic.Int64
	fetchBytes         atomic.Int64
	bytesOut           atomic.Int64
	connectionsRefused atomic.Int64
	storageErrors      logLimit
}

const maxAPIKey = 127

func newMetrics(b *Broker) *metrics { return &metrics{b: b} }

func (m *metrics) request(key int16) { m.requests[key].Add(1) }
func (m *metrics) sent(n int64)      { m.bytesOut.Add(n) }

func (m *metrics) produced(records, bytes int) {
	m.recordsIn.Add(int64(records))
	m.bytesIn.Add(int64(bytes))
}

func (m *metrics) fetched(parts []fetching) {
	var n int64
	for i := range parts {
		n += parts[i].res.Size
	}
	m.fetchBytes.Add(n)
}

var (
	descRequests      = prometheus.NewDesc("sluice_broker_requests_total", "Requests by API.", []string{"api"}, nil)
	descProduceErrors = prometheus.NewDesc("sluice_broker_produce_errors_total", "Produce requests' partitions answered with an error.", nil, nil)
	descRecordsIn     = prometheus.NewDesc("sluice_broker_produced_records_total", "Records appended.", nil, nil)
	descBytesIn       = prometheus.NewDesc("sluice_broker_produced_bytes_total", "Bytes of record batches appended.", nil, nil)
	descFetchBytes    = prometheus.NewDesc("sluice_broker_fetched_bytes_total", "Bytes of record batches in fetch responses.", nil, nil)
	descBytesOut      = prometheus.NewDesc("sluice_broker_sent_bytes_total", "Bytes of all responses.", nil, nil)
	descConnections   = prometheus.NewDesc("sluice_broker_connections", "Open connections.", nil, nil)
	descGroups        = prometheus.NewDesc("sluice_broker_groups", "Consumer groups.", nil, nil)
	descDiskLimit     = prometheus.NewDesc("sluice_broker_disk_limit_bytes", "Limit of all topics together; -1 for none.", nil, nil)
	descDiskFull      = prometheus.NewDesc("sluice_broker_disk_full", "1 while produce is refused because the disk is nearly full.", nil, nil)
	descOffline       = prometheus.NewDesc("sluice_broker_offline_partitions", "Partitions that are not served because their files are damaged.", nil, nil)
	descEnd           = prometheus.NewDesc("sluice_broker_partition_end_offset", "Offset of the next record.", []string{"topic", "partition"}, nil)
	descStart         = prometheus.NewDesc("sluice_broker_partition_start_offset", "Offset of the oldest record.", []string{"topic", "partition"}, nil)
	descBytes         = prometheus.NewDesc("sluice_broker_partition_bytes", "Size on disk.", []string{"topic", "partition"}, nil)
)

func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descRequests, descProduceErrors, descRecordsIn, descBytesIn, descFetchBytes, descBytesOut, descConnections,
		descGroups, descDiskLimit, descDiskFull, descOffline, descEnd, descStart, descBytes,
	} {
		ch <- d
	}
}

func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	for key := range m.b.apis {
		counter(descRequests, m.requests[key].Load(), kmsg.NameForKey(key))
	}
	counter(descProduceErrors, m.produceErrors.Load())
	counter(descRecordsIn, m.recordsIn.Load())
	counter(descBytesIn, m.bytesIn.Load())
	counter(descFetchBytes, m.fetchBytes.Load())
	counter(descBytesOut, m.bytesOut.Load())
	gauge(descConnections, m.b.connCount.Load())
	gauge(descGroups, int64(len(m.b.groups.entries())))
	gauge(descDiskLimit, m.b.disk.limit)
	full := int64(0)
	if m.b.disk.full() {
		full = 1
	}
	gauge(descDiskFull, full)
	gauge(descOffline, int64(m.b.topics.offlineCount()))
	for _, t := range m.b.topics.all() {
		for _, p := range t.state.Load().parts {
			if p.offline != nil {
				continue
			}
			o, id := p.Offsets(), fmt.Sprint(p.id)
			gauge(descEnd, o.High, t.name, id)
			gauge(descStart, o.Start, t.name, id)
			gauge(descBytes, p.Size(), t.name, id)
		}
	}
}

// metricsServer serves /metrics.
type metricsServer struct {
	addr string
	srv  *http.Server
	wg   sync.WaitGroup
}

func startMetricsServer(addr string, m *metrics, logger *slog.Logger) (*metricsServer, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for metrics on %s: %w", addr, err)
	}
	reg := prometheus.NewRegistry()
	if err := reg.Register(m); err != nil {
		ln.Close()
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	s := &metricsServer{addr: ln.Addr().String(), srv: &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}}
	s.wg.Go(func() {
		if err := s.srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			logger.Error("metrics are no longer served", "err", err)
		}
	})
	return s, nil
}

func (s *metricsServer) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := s.srv.Shutdown(ctx)
	if err != nil { // a scrape that hangs does not hold the stop
		err = s.srv.Close()
	}
	s.wg.Wait()
	return err
}
