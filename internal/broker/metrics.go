package broker

import (
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// metrics counts what happens and describes the topics when it is asked. What
// has a counterpart in Apache Kafka has the name that the usual exporter rules
// make of its MBean; docs/broker-metrics.md has the table.
type metrics struct {
	b       *Broker
	started time.Time

	all                topicStats
	bytesOut           atomic.Int64 // of whole responses
	flushes            histogram
	connections        atomic.Int64 // accepted, ever
	connectionsRefused atomic.Int64
	storageErrors      logLimit
}

func newMetrics(b *Broker) *metrics { return &metrics{b: b, started: time.Now()} }

func (m *metrics) sent(n int64) { m.bytesOut.Add(n) }

func (m *metrics) produced(t *topic, records, bytes int) {
	t.stats.produced(records, bytes)
	m.all.produced(records, bytes)
}

func (m *metrics) produceFailed(t *topic, code int16, bytes int) {
	t.stats.produceFailed(code, bytes)
	m.all.produceFailed(code, bytes)
}

func (m *metrics) fetched(parts []fetching, s *apiStats) {
	for i := range parts {
		f := &parts[i]
		m.all.fetches.Add(1)
		if f.code != 0 {
			m.all.failedFetches.Add(1)
			s.failed(f.code)
		}
		m.all.bytesOut.Add(f.res.Size)
		if f.part == nil {
			continue
		}
		t := &f.part.topic.stats
		t.fetches.Add(1)
		t.bytesOut.Add(f.res.Size)
		if f.code != 0 {
			t.failedFetches.Add(1)
		}
	}
}

// maxLagSeries bounds the series of groups' offsets on the page: a group may
// have committed for a hundred thousand partitions.
const maxLagSeries = 10_000

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	topicDescs = []struct {
		desc *prometheus.Desc
		get  func(*topicStats) *atomic.Int64
	}{
		{desc("kafka_server_brokertopicmetrics_messagesin_total", "Records appended; without a topic: of all.", "topic"), func(s *topicStats) *atomic.Int64 { return &s.records }},
		{desc("kafka_server_brokertopicmetrics_bytesin_total", "Bytes of record batches appended.", "topic"), func(s *topicStats) *atomic.Int64 { return &s.bytesIn }},
		{desc("kafka_server_brokertopicmetrics_bytesout_total", "Bytes of record batches in Fetch responses.", "topic"), func(s *topicStats) *atomic.Int64 { return &s.bytesOut }},
		{desc("kafka_server_brokertopicmetrics_bytesrejected_total", "Bytes refused for being too large.", "topic"), func(s *topicStats) *atomic.Int64 { return &s.bytesRejected }},
		{desc("kafka_server_brokertopicmetrics_totalproducerequests_total", "Appends to partitions that were asked for.", "topic"), func(s *topicStats) *atomic.Int64 { return &s.produces }},
		{desc("kafka_server_brokertopicmetrics_totalfetchrequests_total", "Reads of partitions that were asked for.", "topic"), func(s *topicStats) *atomic.Int64 { return &s.fetches }},
		{desc("kafka_server_brokertopicmetrics_failedproducerequests_total", "Appends to partitions answered with an error.", "topic"), func(s *topicStats) *atomic.Int64 { return &s.failedProduces }},
		{desc("kafka_server_brokertopicmetrics_failedfetchrequests_total", "Reads of partitions answered with an error.", "topic"), func(s *topicStats) *atomic.Int64 { return &s.failedFetches }},
	}
	timeDescs = []struct {
		desc *prometheus.Desc
		get  func(*apiStats) *histogram
	}{
		{desc("kafka_network_requestmetrics_totaltimems", "From the arrival of a request to its answer.", "request"), func(s *apiStats) *histogram { return &s.total }},
		{desc("kafka_network_requestmetrics_requestqueuetimems", "Waiting for the answers before it on the connection.", "request"), func(s *apiStats) *histogram { return &s.queue }},
		{desc("kafka_network_requestmetrics_localtimems", "Handling.", "request"), func(s *apiStats) *histogram { return &s.local }},
		{desc("kafka_network_requestmetrics_remotetimems", "Waiting for records, for group members or for the disk.", "request"), func(s *apiStats) *histogram { return &s.remote }},
		{desc("kafka_network_requestmetrics_responsesendtimems", "Sending, where it was not left to the next send of the connection.", "request"), func(s *apiStats) *histogram { return &s.send }},
	}
	descRequests    = desc("kafka_network_requestmetrics_requests_total", "Requests.", "request", "version")
	descErrors      = desc("kafka_network_requestmetrics_errors_total", "Error codes in responses; NONE is not counted.", "request", "error")
	descPurgatory   = desc("kafka_server_delayedoperationpurgatory_purgatorysize", "Requests that wait for records, group members or the disk.", "delayedoperation")
	descUnder       = desc("kafka_server_replicamanager_underreplicatedpartitions", "Always 0: there is one replica.")
	descPartitions  = desc("kafka_server_replicamanager_partitioncount", "Partitions.")
	descLeaders     = desc("kafka_server_replicamanager_leadercount", "Partitions that can be used.")
	descOffline     = desc("kafka_controller_kafkacontroller_offlinepartitionscount", "Partitions that cannot be used.")
	descController  = desc("kafka_controller_kafkacontroller_activecontrollercount", "Always 1.")
	descTopics      = desc("kafka_controller_kafkacontroller_globaltopiccount", "Topics.")
	descBrokerState = desc("kafka_server_kafkaserver_brokerstate", "3: running; 6: stopping.")
	descSize        = desc("kafka_log_log_size", "Size on disk.", "topic", "partition")
	descEnd         = desc("kafka_log_log_logendoffset", "Offset of the next record.", "topic", "partition")
	descStart       = desc("kafka_log_log_logstartoffset", "Offset of the oldest record.", "topic", "partition")
	descSegments    = desc("kafka_log_log_numlogsegments", "Segments.", "topic", "partition")
	descFlush       = desc("kafka_log_logflushstats_logflushrateandtimems", "Syncs of logs to the disk.")
	descConns       = desc("kafka_server_socketservermetrics_connection_count", "Open connections.", "listener")
	descConnsTotal  = desc("kafka_server_socketservermetrics_connection_creation_total", "Connections accepted.")
	descGroups      = desc("kafka_coordinator_group_groupmetadatamanager_numgroups", "Groups by state.", "state")
	descOffsets     = desc("kafka_coordinator_group_groupmetadatamanager_numoffsets", "Committed offsets.")
	descLag         = desc("kafka_consumergroup_lag", "Records after the committed offset.", "group", "topic", "partition")
	descCommitted   = desc("kafka_consumergroup_current_offset", "Committed offset.", "group", "topic", "partition")

	descSent       = desc("sluice_broker_sent_bytes_total", "Bytes of all responses.")
	descRefused    = desc("sluice_broker_connections_refused_total", "Connections closed because of a limit.")
	descMemory     = desc("sluice_broker_request_memory_bytes", "Memory of requests under way.")
	descMemoryMax  = desc("sluice_broker_request_memory_limit_bytes", "Its limit.")
	descMemoryWait = desc("sluice_broker_request_memory_waits_total", "Requests that had to wait for memory.")
	descDiskLimit  = desc("sluice_broker_disk_limit_bytes", "Limit of all topics together; -1 for none.")
	descDiskFree   = desc("sluice_broker_disk_free_bytes", "Free space of the data directory.")
	descDiskFull   = desc("sluice_broker_disk_full", "1 while produce is refused because the disk is nearly full.")
	descLagLeftOut = desc("sluice_broker_consumergroup_series_left_out", "Committed offsets that are not on this page because there are too many.")
)

func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for i := range topicDescs {
		ch <- topicDescs[i].desc
	}
	for i := range timeDescs {
		ch <- timeDescs[i].desc
	}
	for _, d := range []*prometheus.Desc{
		descRequests, descErrors, descPurgatory, descUnder, descPartitions, descLeaders, descOffline, descController, descTopics, descBrokerState,
		descSize, descEnd, descStart, descSegments, descFlush, descConns, descConnsTotal, descGroups, descOffsets, descLag, descCommitted,
		descSent, descRefused, descMemory, descMemoryMax, descMemoryWait, descDiskLimit, descDiskFree, descDiskFull, descLagLeftOut,
	} {
		ch <- d
	}
}

// page is one answer to a scraper.
type page struct{ ch chan<- prometheus.Metric }

func (p page) counter(d *prometheus.Desc, v int64, labels ...string) {
	p.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func (p page) gauge(d *prometheus.Desc, v int64, labels ...string) {
	p.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
}

func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	p := page{ch}
	m.collectRequests(p)
	m.collectTopics(p)
	m.collectGroups(p)
	m.collectServer(p)
}

func (m *metrics) collectRequests(p page) {
	for key, a := range m.b.apis {
		name := kmsg.NameForKey(key)
		for v := range a.stats.versions {
			if n := a.stats.versions[v].Load(); n > 0 {
				p.counter(descRequests, n, name, strconv.Itoa(v))
			}
		}
		for i := range a.stats.errors {
			if n := a.stats.errors[i].Load(); n > 0 {
				p.counter(descErrors, n, name, errorName(int16(i-1)))
			}
		}
		if n := a.stats.requests(); n > 0 {
			for i := range timeDescs {
				p.ch <- timeDescs[i].get(a.stats).metric(timeDescs[i].desc, n, name)
			}
		}
		switch key {
		case keyProduce, keyFetch:
			p.gauge(descPurgatory, a.stats.waiting.Load(), name)
		case 11: // JoinGroup
			p.gauge(descPurgatory, a.stats.waiting.Load(), "Rebalance")
		}
	}
}

func errorName(code int16) string {
	var e *kerr.Error
	if errors.As(kerr.ErrorForCode(code), &e) {
		return e.Message
	}
	return strconv.Itoa(int(code))
}

func (m *metrics) collectTopics(p page) {
	for i := range topicDescs {
		p.counter(topicDescs[i].desc, topicDescs[i].get(&m.all).Load(), "")
	}
	parts, topics := int64(0), m.b.topics.all()
	for _, t := range topics {
		for i := range topicDescs {
			p.counter(topicDescs[i].desc, topicDescs[i].get(&t.stats).Load(), t.name)
		}
		for _, part := range t.state.Load().parts {
			parts++
			if part.offline != nil {
				continue
			}
			o, id := part.Offsets(), strconv.Itoa(int(part.id))
			p.gauge(descEnd, o.High, t.name, id)
			p.gauge(descStart, o.Start, t.name, id)
			p.gauge(descSize, part.Size(), t.name, id)
			p.gauge(descSegments, int64(len(part.log.Extents())), t.name, id)
		}
	}
	offline := int64(m.b.topics.offlineCount())
	p.gauge(descPartitions, parts)
	p.gauge(descLeaders, parts-offline)
	p.gauge(descUnder, 0)
	p.gauge(descOffline, offline)
	p.gauge(descController, 1)
	p.gauge(descTopics, int64(len(topics)))
	p.ch <- m.flushes.metric(descFlush, 0)
}

func (m *metrics) collectGroups(p page) {
	states := map[string]int64{}
	for _, s := range []string{"PreparingRebalance", "CompletingRebalance", "Stable", "Dead", "Empty", "Assigning", "Reconciling"} {
		states[s] = 0
	}
	offsets, series := int64(0), 0
	for _, e := range m.b.groups.entries() {
		e.mu.Lock()
		if e.gone {
			e.mu.Unlock()
			continue
		}
		states[e.g.State().String()]++
		tps := e.g.Offsets()
		offsets += int64(len(tps))
		for _, tp := range tps {
			if m.b.cfg.DisableLagMetrics || series >= maxLagSeries {
				break
			}
			o, ok := e.g.Offset(tp)
			t := m.b.topics.byName(tp.Topic)
			if t == nil || !ok {
				continue
			}
			if part := t.part(tp.Partition); part != nil && part.offline == nil {
				series++
				id := strconv.Itoa(int(tp.Partition))
				p.gauge(descCommitted, o.Offset, e.name, tp.Topic, id)
				p.gauge(descLag, max(part.Offsets().High-o.Offset, 0), e.name, tp.Topic, id)
			}
		}
		e.mu.Unlock()
	}
	for s, n := range states {
		p.gauge(descGroups, n, s)
	}
	p.gauge(descOffsets, offsets)
	left := int64(0)
	if series == maxLagSeries {
		left = offsets - maxLagSeries
	}
	p.gauge(descLagLeftOut, left)
}

func (m *metrics) collectServer(p page) {
	b := m.b
	for _, l := range b.listeners {
		p.gauge(descConns, l.conns.Load(), l.Name)
	}
	p.counter(descConnsTotal, m.connections.Load())
	p.counter(descRefused, m.connectionsRefused.Load())
	p.counter(descSent, m.bytesOut.Load())
	p.gauge(descMemory, b.memory.used.Load())
	p.gauge(descMemoryMax, b.memory.limit)
	p.counter(descMemoryWait, b.memory.paused.Load())
	p.gauge(descDiskLimit, b.disk.limit)
	if free, err := b.cfg.FreeDisk(b.dir.path); err == nil { // the log says why not
		p.gauge(descDiskFree, free)
	}
	full := int64(0)
	if b.disk.full() {
		full = 1
	}
	p.gauge(descDiskFull, full)
	state := int64(3)
	if b.isStopping() {
		state = 6
	}
	p.gauge(descBrokerState, state)
}
