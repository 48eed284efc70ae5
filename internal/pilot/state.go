package pilot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/internal/ledger"
	"github.com/sluice-data/sluice/internal/sim"
)

// Phases of a run.
const (
	phaseStarting = "starting"
	phaseRunning  = "running"
	phaseDraining = "draining"
	phaseChecking = "checking"
	phaseDone     = "done"
	phaseFailed   = "failed"
)

// State is what the page shows: /api/state, and each event of /api/events.
// Rates are events per second over the last few seconds.
type State struct {
	Phase     string    `json:"phase"`
	Message   string    `json:"message,omitempty"`
	ElapsedMS int64     `json:"elapsed_ms"`
	ForMS     int64     `json:"for_ms,omitempty"` // 0: until Ctrl-C
	Clock     string    `json:"clock,omitempty"`  // simulated, time14
	Speed     float64   `json:"speed"`
	Cars      int       `json:"cars"`
	Processes []Process `json:"processes"`

	Sim struct {
		Status LogState `json:"status"`
		Driver LogState `json:"driver"`
	} `json:"sim"`
	SpoolFiles int       `json:"spool_files"`
	Status     FlowState `json:"status"` // spool directory → logger
	Driver     FlowState `json:"driver"` // tail → topic
	Topic      struct {
		End  int64   `json:"end"`
		Lag  int64   `json:"lag"`
		Rate float64 `json:"rate"`
		// Known is false until the broker has answered.
		Known bool `json:"known"`
	} `json:"topic"`
	Consumer FlowState `json:"consumer"` // topic → files
	Ends     *Ends     `json:"ends,omitempty"`

	// Of a topology: its name, the drawing with its numbers, and what is under
	// way.
	Title   string   `json:"title,omitempty"`
	Diagram *Diagram `json:"diagram,omitempty"`
	Facts   []Fact   `json:"facts,omitempty"`
	sum     flowSum

	Series  []Series       `json:"series"`
	History []Point        `json:"history"`
	Notes   []string       `json:"notes"`
	Ledger  *ledger.Result `json:"ledger,omitempty"`
}

// LogState is what the simulator wrote into one log.
type LogState struct {
	Records int64   `json:"records"`
	Garbage int64   `json:"garbage"`
	Bytes   int64   `json:"bytes"`
	Files   int     `json:"files"`
	Rate    float64 `json:"rate"` // lines
}

// FlowState is one flow of an agent: source, filter, channel, sink.
type FlowState struct {
	Received    int64   `json:"received"`
	Rate        float64 `json:"rate"`
	Dropped     int64   `json:"dropped"` // by the filter
	ChannelSize int64   `json:"channel_size"`
	Capacity    int64   `json:"capacity"`
	Delivered   int64   `json:"delivered"` // taken from the channel and committed
	OutRate     float64 `json:"out_rate"`
}

// Ends say what is at the ends of the handbook's flows.
type Ends struct {
	Status End `json:"status"`
	Driver End `json:"driver"`
}

// End is a flow's last agent, as far as runs differ in it. Arrived says in
// words where its events are then, Place names what is not in the run's directory.
type End struct {
	Interceptors string `json:"interceptors"`
	Channel      string `json:"channel"`
	Sink         string `json:"sink"`
	Arrived      string `json:"arrived"`
	Place        string `json:"place,omitempty"`
}

// Series is a curve of the rate chart. Its kind is its colour: status, driver
// or consumer.
type Series struct {
	Name string  `json:"name"`
	Kind string  `json:"kind"`
	Rate float64 `json:"rate"` // now, events/s
}

// Point is a sample of the rate chart, with a rate for each series.
type Point struct {
	ElapsedMS int64     `json:"t"`
	Rates     []float64 `json:"v"`
}

// maxHistory bounds the chart: 240 samples of half a second.
const maxHistory = 240

// counter follows a counter that starts over when its process does.
type counter struct {
	base, last int64
	samples    []sample
}

type sample struct {
	at time.Time
	v  int64
}

// rateWindow is what rates are taken over: short enough to follow, long enough
// to smooth batches.
const rateWindow = 3 * time.Second

func (c *counter) observe(now time.Time, v int64) {
	if v < c.last {
		c.base += c.last
	}
	c.last = v
	c.samples = append(c.samples, sample{now, c.base + v})
	for len(c.samples) > 2 && now.Sub(c.samples[1].at) >= rateWindow {
		c.samples = c.samples[1:]
	}
}

func (c *counter) total() int64 { return c.base + c.last }

func (c *counter) rate() float64 {
	if len(c.samples) < 2 {
		return 0
	}
	first, last := c.samples[0], c.samples[len(c.samples)-1]
	return float64(last.v-first.v) / last.at.Sub(first.at).Seconds()
}

// prober asks agents for their numbers and keeps what the counters were.
type prober struct {
	http     *http.Client
	counters map[string]*counter
}

func newProber() prober {
	return prober{http: &http.Client{Timeout: collectTimeout, Transport: &http.Transport{Proxy: nil}}, counters: map[string]*counter{}}
}

// collector asks the processes for their numbers and keeps the last answers.
// Only one goroutine calls collect.
type collector struct {
	prober
	layout          ledger.Layout
	kafka           atomic.Pointer[kafkaClient] // nil until the broker's address is known
	agent, consumer *child

	simRate  [2]counter
	last     State   // numbers only
	answered [4]bool // by agent 1, consumer, broker, simulator, to the last collect
}

type kafkaClient struct {
	client *kgo.Client
	admin  *kadm.Client
}

// collectTimeout bounds one question; a process that is down must not hold up
// the numbers of the others.
const collectTimeout = 400 * time.Millisecond

func newCollector(l ledger.Layout, agent, consumer *child) *collector {
	return &collector{prober: newProber(), layout: l, agent: agent, consumer: consumer}
}

// setBroker tells the address of the broker, once.
func (c *collector) setBroker(addr string) error {
	// The pilot asks often and the broker may be down: answer quickly rather
	// than retry.
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RetryTimeout(collectTimeout), kgo.RequestRetries(1), kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		return fmt.Errorf("make Kafka client: %w", err)
	}
	c.kafka.Store(&kafkaClient{client, kadm.NewClient(client)})
	return nil
}

func (c *collector) close() {
	if k := c.kafka.Load(); k != nil {
		k.client.Close()
	}
	c.http.CloseIdleConnections()
}

// metrics is Flume's JSON: component → attribute → number as a string.
type metrics map[string]map[string]string

func (m metrics) num(component, attribute string) (int64, bool) {
	v, err := strconv.ParseInt(m[component][attribute], 10, 64)
	return v, err == nil
}

// metricsLimit bounds an answer; the pilot's agents need a few kilobytes.
const metricsLimit = 1 << 20

// metrics asks an agent at the address that it announced.
func (c *prober) metrics(ctx context.Context, agent *child) (metrics, error) {
	url, err := agent.announced()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	var m metrics
	if err := json.NewDecoder(io.LimitReader(resp.Body, metricsLimit)).Decode(&m); err != nil {
		return nil, fmt.Errorf("read metrics of %s: %w", url, err)
	}
	return m, nil
}

// started says whether an agent's metrics show its source at work.
func (m metrics) started(source string) bool {
	at, ok := m.num("SOURCE."+source, "StartTime")
	return ok && at > 0
}

// collect asks everything at once. What does not answer keeps its last numbers.
func (c *collector) collect(ctx context.Context) State {
	var (
		wg              sync.WaitGroup
		agent, consumer metrics
		end, lag        int64
		topicErr        error
		manifest        *sim.Manifest
		files           int
	)
	ask := func(f func()) {
		wg.Add(1)
		go func() { defer wg.Done(); f() }()
	}
	ask(func() { agent, _ = c.metrics(ctx, c.agent) }) // nil when down: the last numbers stand
	ask(func() { consumer, _ = c.metrics(ctx, c.consumer) })
	ask(func() { end, lag, topicErr = c.topic(ctx) })
	manifest, _ = sim.LoadManifest(c.layout.Manifest) // absent until the simulator has begun
	files = spoolFiles(c.layout.Spool)
	wg.Wait()

	now := time.Now()
	s := &c.last
	c.answered = [4]bool{
		agent.started(tailSource), consumer.started(topicSource), topicErr == nil,
		manifest != nil && now.Sub(manifest.Updated) < 2*time.Second,
	}
	if manifest != nil {
		s.Clock = manifest.Clock
		s.Sim.Status = simLog(now, &c.simRate[0], manifest.Status)
		s.Sim.Driver = simLog(now, &c.simRate[1], manifest.Driver)
	}
	s.SpoolFiles = files
	if agent != nil {
		c.flow(now, agent, &s.Status, spoolSource, spoolFilter, statusChannel)
		c.flow(now, agent, &s.Driver, tailSource, tailFilter, driverChannel)
	}
	if consumer != nil {
		c.flow(now, consumer, &s.Consumer, topicSource, "", fileChannel)
	}
	if topicErr == nil {
		s.Topic.Known = true
		s.Topic.End, s.Topic.Lag = end, lag
		s.Topic.Rate = c.count(now, "topic", end).rate()
	}
	return *s
}

func (c *prober) count(now time.Time, name string, v int64) *counter {
	ct := c.counters[name]
	if ct == nil {
		ct = &counter{}
		c.counters[name] = ct
	}
	ct.observe(now, v)
	return ct
}

func (c *collector) flow(now time.Time, m metrics, f *FlowState, source, filter, channel string) {
	if v, ok := m.num("SOURCE."+source, "EventReceivedCount"); ok {
		ct := c.count(now, source, v)
		f.Received, f.Rate = ct.total(), ct.rate()
	}
	if v, ok := m.num("INTERCEPTOR."+source+"."+filter, "EventDroppedCount"); ok {
		f.Dropped = c.count(now, source+"."+filter, v).total()
	}
	if v, ok := m.num("CHANNEL."+channel, "ChannelSize"); ok {
		f.ChannelSize = v
	}
	if v, ok := m.num("CHANNEL."+channel, "ChannelCapacity"); ok {
		f.Capacity = v
	}
	if v, ok := m.num("CHANNEL."+channel, "EventTakeSuccessCount"); ok {
		ct := c.count(now, channel, v)
		f.Delivered, f.OutRate = ct.total(), ct.rate()
	}
}

func simLog(now time.Time, rate *counter, l *sim.Log) LogState {
	if l == nil {
		return LogState{}
	}
	rate.observe(now, l.Lines)
	return LogState{Records: l.Records, Garbage: l.GarbageLines(), Bytes: l.Bytes, Files: len(l.Files), Rate: rate.rate()}
}

// topic asks for the topic's end and how far the consumer's group is behind it.
func (c *collector) topic(ctx context.Context) (end, lag int64, err error) {
	k := c.kafka.Load()
	if k == nil {
		return 0, 0, errors.New("the broker's address is not known yet")
	}
	ctx, cancel := context.WithTimeout(ctx, collectTimeout)
	defer cancel()
	ends, err := k.admin.ListEndOffsets(ctx, c.layout.Topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return 0, 0, err
	}
	committed, err := k.admin.FetchOffsets(ctx, consumerGroup)
	if err == nil {
		err = committed.Error()
	}
	// Before its first commit the group may not exist: it is behind by all.
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return 0, 0, err
	}
	ends.Each(func(o kadm.ListedOffset) {
		end += o.Offset
		behind := o.Offset
		if at, ok := committed.Lookup(o.Topic, o.Partition); ok && at.At >= 0 {
			behind -= at.At
		}
		lag += max(behind, 0)
	})
	return end, lag, nil
}

// spoolFiles counts the files that wait in the spool directory.
func spoolFiles(dir string) int {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	n := 0
	for _, e := range entries {
		if e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") {
			n++
		}
	}
	return n
}
