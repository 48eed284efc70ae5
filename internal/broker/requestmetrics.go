package broker

import (
	"math/bits"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// apiStats counts the requests of one API. All of it is plain atomics,
// because it is on every request's way.
type apiStats struct {
	versions [maxAPIVersion + 1]atomic.Int64
	errors   [maxErrorCode + 2]atomic.Int64 // by code, from -1 on
	waiting  atomic.Int64                   // requests that wait for something to happen

	total, local, queue, remote, send histogram
}

const (
	maxAPIVersion = 31
	maxErrorCode  = 150
)

func (s *apiStats) request(version int16, n int) {
	s.versions[min(max(version, 0), maxAPIVersion)].Add(int64(n))
}

// requests counts them in all versions.
func (s *apiStats) requests() (n int64) {
	for i := range s.versions {
		n += s.versions[i].Load()
	}
	return n
}

func (s *apiStats) failed(code int16) {
	if code != 0 && code >= -1 && code <= maxErrorCode {
		s.errors[code+1].Add(1)
	}
}

// respErrors counts the error codes in a response, wherever they are.
func (s *apiStats) respErrors(resp kmsg.Response) {
	if resp != nil {
		s.errorsIn(reflect.ValueOf(resp).Elem())
	}
}

func (s *apiStats) errorsIn(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			switch f := v.Field(i); f.Kind() {
			case reflect.Int16:
				if v.Type().Field(i).Name == "ErrorCode" {
					s.failed(int16(f.Int()))
				}
			case reflect.Slice:
				s.errorsIn(f)
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Struct {
			for i := range v.Len() {
				s.errorsIn(v.Index(i))
			}
		}
	}
}

// histogram counts durations in buckets that double from histogramUnit on.
type histogram struct {
	buckets [histogramBuckets + 1]atomic.Int64 // the last one for all that is longer
	sum     atomic.Int64                       // nanoseconds
}

const (
	histogramUnit    = 64 * time.Microsecond
	histogramBuckets = 20 // up to 33 s
)

func (h *histogram) add(d time.Duration, n int) {
	i := bits.Len64(uint64(max(d-1, 0) / histogramUnit))
	h.buckets[min(i, histogramBuckets)].Add(int64(n))
	h.sum.Add(int64(d) * int64(n))
}

// metric is the histogram in milliseconds. Of count events those that were
// not added took no time at all.
func (h *histogram) metric(desc *prometheus.Desc, count int64, labels ...string) prometheus.Metric {
	var counts [histogramBuckets + 1]int64
	added := int64(0)
	for i := range counts {
		counts[i] = h.buckets[i].Load()
		added += counts[i]
	}
	count = max(count, added)
	sofar := count - added
	m := make(map[float64]uint64, histogramBuckets)
	for i := range histogramBuckets {
		sofar += counts[i]
		m[float64(histogramUnit<<i)/float64(time.Millisecond)] = uint64(sofar)
	}
	return prometheus.MustNewConstHistogram(desc, uint64(count), float64(h.sum.Load())/float64(time.Millisecond), m, labels...)
}

func (h *histogram) count() (n int64) {
	for i := range h.buckets {
		n += h.buckets[i].Load()
	}
	return n
}

// clock is the time since the broker started; cheaper than a time.Time.
func (m *metrics) clock() time.Duration { return time.Since(m.started) }

// topicStats counts for one topic, or for all of them.
type topicStats struct {
	records, bytesIn, bytesOut, bytesRejected atomic.Int64
	produces, fetches                         atomic.Int64 // of partitions
	failedProduces, failedFetches             atomic.Int64
}

func (s *topicStats) produced(records, bytes int) {
	s.records.Add(int64(records))
	s.bytesIn.Add(int64(bytes))
	s.produces.Add(1)
}

func (s *topicStats) produceFailed(code int16, bytes int) {
	s.produces.Add(1)
	s.failedProduces.Add(1)
	if code == kerr.MessageTooLarge.Code || code == kerr.RecordListTooLarge.Code {
		s.bytesRejected.Add(int64(bytes))
	}
}
