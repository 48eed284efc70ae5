//go:build interop

package interop

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/sluice-data/sluice/internal/sim"
)

// outageEnv gives the drill its full form: how long HBase is away, such as 2m.
const outageEnv = "SLUICE_DRILL_OUTAGE"

// The load: each of the drivers writes ten records a second, as the handbook's
// do, two seconds of simulated time apart. So no two records have the same
// second and car, which is the key of a row.
const (
	outageDrivers = 500
	outageSpeed   = 20
	outageRate    = outageDrivers * outageSpeed / sim.DriverStep // records a second
)

// outageForm is a way to go through the drill.
type outageForm struct {
	name       string
	apache     bool // Apache Kafka is the broker
	killAgent  bool // kill -9 of the agent that drains, in the middle
	killBroker bool // kill -9 of the broker while HBase is away
}

// TestHBaseOutage is the handbook's reason for a broker: driving records flow
// through an agent, a topic and another agent into HBase, which goes away. The
// first agent does not notice, the broker holds what HBase would have got, and
// when HBase is back it gets that and every row is there.
func TestHBaseOutage(t *testing.T) {
	warm, away := 2*time.Second, 5*time.Second
	forms := []outageForm{{name: "both killed", killAgent: true, killBroker: true}}
	if s := os.Getenv(outageEnv); s != "" {
		var err error
		if away, err = time.ParseDuration(s); err != nil {
			t.Fatalf("%s: %v", outageEnv, err)
		}
		warm = 8 * time.Second
		forms = []outageForm{
			{name: "plain"},
			{name: "agent killed", killAgent: true},
			{name: "broker killed", killBroker: true},
			{name: "Apache Kafka", apache: true},
		}
	}
	h := newHBase(t)
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) { newOutage(t, h, f).run(warm, away) })
	}
}

const (
	outageTopic = "SmartCar-Topic"
	outageGroup = "hbase"
	outageTable = "DriverCarInfo"
	columnNames = "date,car_number,speed_pedal,break_pedal,steer_angle,direct_light,speed,area_number"
)

// outageAgents are the agents before and behind the broker.
const outageAgents = `
live.sources = log
live.channels = c
live.sinks = topic
live.sources.log.type = TAILDIR
live.sources.log.filegroups = log
live.sources.log.filegroups.log = @dir@/driver-realtime-log/.*\\.log
live.sources.log.positionFile = @dir@/position.json
live.sources.log.channels = c
live.sources.log.interceptors = filter
live.sources.log.interceptors.filter.type = regex_filter
live.sources.log.interceptors.filter.regex = ^\\d{14}
live.channels.c.type = file
live.channels.c.checkpointDir = @dir@/live/checkpoint
live.channels.c.dataDirs = @dir@/live/data
live.sinks.topic.type = org.apache.flume.sink.kafka.KafkaSink
live.sinks.topic.channel = c
live.sinks.topic.kafka.bootstrap.servers = @broker@
live.sinks.topic.kafka.topic = @topic@
live.sinks.topic.flumeBatchSize = 1000
live.sinks.topic.kafka.producer.acks = all

store.sources = topic
store.channels = c
store.sinks = hbase
store.sources.topic.type = org.apache.flume.source.kafka.KafkaSource
store.sources.topic.kafka.bootstrap.servers = @broker@
store.sources.topic.kafka.topics = @topic@
store.sources.topic.kafka.consumer.group.id = hbase
store.sources.topic.kafka.consumer.group.instance.id = store
store.sources.topic.kafka.consumer.auto.offset.reset = earliest
store.sources.topic.batchSize = 2000
store.sources.topic.channels = c
store.channels.c.type = file
store.channels.c.capacity = 20000
store.channels.c.checkpointDir = @dir@/store/checkpoint
store.channels.c.dataDirs = @dir@/store/data
store.sinks.hbase.type = hbase2
store.sinks.hbase.channel = c
store.sinks.hbase.table = DriverCarInfo
store.sinks.hbase.columnFamily = cf1
store.sinks.hbase.zookeeperQuorum = @zookeeper@
store.sinks.hbase.batchSize = 5000
store.sinks.hbase.serializer = delimited
store.sinks.hbase.serializer.colNames = @columns@
store.sinks.hbase.serializer.rowKey = {date:reversed}-{car_number}
`

// outage is one drill under way.
type outage struct {
	t    *testing.T
	h    *realHBase
	form outageForm

	dir     string
	conf    string
	log     string // the driving records
	topic   string
	adm     *kadm.Client
	monitor string // the draining agent's port

	broker      func() *sluiceProcess // starts it again
	live, store *sluiceProcess
	stores      []*sluiceProcess // store, and the one that was killed
	writer      *sluiceProcess
	ended       *sluiceProcess // on purpose

	begin  time.Time
	events *timeline
}

// sample is where the records are at a moment.
type sample struct {
	at      time.Duration
	written int64 // records in the log
	topic   int64 // in the topic
	taken   int64 // of those, in the channel of the draining agent or further
	waiting int64 // in that channel
}

// stored is how many have been confirmed by HBase.
func (s sample) stored() int64 { return s.taken - s.waiting }

// behind is how many HBase does not have yet.
func (s sample) behind() int64 { return s.written - s.stored() }

// timeline is what the sampler saw.
type timeline struct {
	mu      sync.Mutex
	samples []sample
}

func (l *timeline) add(s sample) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.samples = append(l.samples, s)
}

func (l *timeline) last() sample {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.samples) == 0 {
		return sample{}
	}
	return l.samples[len(l.samples)-1]
}

// between returns the samples of a time.
func (l *timeline) between(from, to time.Duration) []sample {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []sample
	for _, s := range l.samples {
		if s.at >= from && s.at <= to {
			out = append(out, s)
		}
	}
	return out
}

func newOutage(t *testing.T, h *realHBase, form outageForm) *outage {
	o := &outage{t: t, h: h, form: form, dir: t.TempDir(), topic: outageTopic, begin: time.Now(), events: &timeline{}}
	o.log = filepath.Join(o.dir, sim.DriverDir, sim.DriverLogName)
	o.conf = filepath.Join(o.dir, "agents.conf")
	var addr string
	if form.apache {
		addr = kafka.start(t)
		o.topic += fmt.Sprintf("-%d", time.Now().UnixNano())
	} else {
		addr = fmt.Sprintf("127.0.0.1:%d", freePort(t))
		data := filepath.Join(o.dir, "broker")
		o.broker = func() *sluiceProcess { return startBroker(t, data, addr) }
	}
	text := strings.NewReplacer("@dir@", o.dir, "@broker@", addr, "@topic@", o.topic, "@zookeeper@", h.zk, "@columns@", columnNames).Replace(outageAgents)
	if err := os.WriteFile(o.conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Dir(o.log), 0o755); err != nil {
		t.Fatal(err)
	}
	return o
}

// sayEvery is how often the time line has a line while nothing happens.
const sayEvery = 10 * time.Second

// say is a line of the time line.
func (o *outage) say(format string, args ...any) {
	s := o.events.last()
	o.t.Logf("%6.1f s  %-60s written %8d, in the topic %8d, the broker holds %7d, the channel %6d, stored %8d", time.Since(o.begin).Seconds(),
		fmt.Sprintf(format, args...), s.written, s.topic, s.topic-s.taken, s.waiting, s.stored())
}

func (o *outage) run(warm, away time.Duration) {
	t, h := o.t, o.h
	var broker *sluiceProcess
	if o.broker != nil {
		broker = o.broker()
	}
	addrs := regexp.MustCompile(`bootstrap.servers = (\S+)`).FindStringSubmatch(o.read(o.conf))[1]
	cl := topicClient(t, addrs)
	makeTopic(t, cl, o.topic, 4)
	o.adm = kadm.NewClient(cl)
	h.do(t, "create", outageTable, "cf1", "40000000", "80000000", "c0000000") // as the handbook's RegionSplitter does
	h.do(t, "keep", outageTable, "cf1", "5")                                  // so that a row that comes again can be told
	defer h.do(t, "drop", outageTable)
	o.live = o.agent("live", freePort(t))
	port := freePort(t)
	o.monitor = fmt.Sprintf("127.0.0.1:%d", port)
	o.store = o.agent("store", port)
	o.stores = append(o.stores, o.store)
	o.writer = startSluice(t, "sim", "--dir", o.dir, "--no-status", "--start", "20160103", "--cars", strconv.Itoa(outageDrivers), "--speed", strconv.Itoa(outageSpeed), "--burst-every", "0s", "--garbage", "0.01")
	stop := o.watch()
	defer stop()

	now := func() time.Duration { return time.Since(o.begin) }
	sleep := func(d time.Duration, what string) {
		for ; d > sayEvery; d -= sayEvery {
			time.Sleep(sayEvery)
			o.say("%s", what)
		}
		time.Sleep(d)
	}
	o.until("rows arrive", func(s sample) bool { return s.stored() > outageRate })
	o.say("rows arrive")
	sleep(warm, "all is well")
	o.say("HBase is told to stop")
	down := now()
	h.stop(t)
	o.say("HBase has ended")
	gone := now()
	if o.form.killBroker {
		sleep(away/3, "HBase is away")
		broker.kill()
		o.say("kill -9 of the broker")
		time.Sleep(time.Second)
		o.broker()
		o.say("the broker is back")
	}
	sleep(away-(now()-gone), "HBase is away")
	// The first agent must not be held up: while HBase is away, all but nothing of what the broker holds has yet to come to it.
	o.until("the first agent has delivered", func(s sample) bool { return s.written-s.topic <= (s.topic-s.taken)/10 })
	o.say("HBase's process is started")
	started := now()
	atReturn := o.events.last()
	h.start(t)
	o.say("HBase's master says that it is ready")

	stored := atReturn.stored()
	first := o.until("the first row is stored", func(s sample) bool { return s.stored() > stored })
	o.say("the first row after the return is stored")
	opened := o.regionOpened()
	backlog := int64(0)
	for _, s := range o.events.between(gone, first.at) {
		backlog = max(backlog, s.behind())
	}
	if o.form.killAgent {
		o.until("half of the backlog is stored", func(s sample) bool { return s.stored() >= stored+backlog/2 })
		o.store.kill()
		o.say("kill -9 of the draining agent")
		o.store = o.agent("store", port)
		o.stores = append(o.stores, o.store)
	}
	// It catches up with what is written meanwhile, but on a slow machine the records end first: the full form judges the speed.
	patience := time.Now().Add(time.Minute)
	done := o.until("the backlog is stored", func(s sample) bool {
		return s.behind() < outageRate || os.Getenv(outageEnv) == "" && time.Now().After(patience)
	})
	o.say("the backlog is stored but for %d records", done.behind())
	sleep(warm, "all is well")
	o.writer.stop(t)
	o.ended = o.writer
	o.until("everything is stored", func(s sample) bool { return s.behind() <= 0 && s.taken == s.topic && s.waiting == 0 })
	o.say("the writer has ended, and all is stored")
	o.store.stop(t)
	o.live.stop(t)

	rate := float64(done.stored()-first.stored()) / (done.at - first.at).Seconds()
	lag := func(from, to time.Duration) (worst int64) {
		for _, s := range o.events.between(from, to) {
			worst = max(worst, s.written-s.topic)
		}
		return worst
	}
	account := o.account()
	mutator := o.mutator(int(backlog))
	target := min(10*outageRate, 0.8*mutator)
	t.Logf("records %d, rows %d; written to HBase more than once %d", account.records, account.rows, account.again)
	t.Logf("the first agent: at most %d records behind the log while all was well, %d while HBase was away, %d while it came back and was filled up", lag(0, down), lag(down, started), lag(started, done.at))
	t.Logf("HBase's process was away for %.1f s; first row %.1f s after its start and %.1f s after the first region of the table was open", (started - gone).Seconds(), (first.at - started).Seconds(), (first.at - opened).Seconds())
	t.Logf("backlog of %d records, %.0f rows/s until it was stored: %.1f times the rate of the records. BufferedMutator, same records and machine: %.0f rows/s. Wanted %.0f, reached %.0f %% of that",
		backlog, rate, rate/outageRate, mutator, target, 100*rate/target)
	said := o.complaints()
	t.Logf("of HBase the draining agent said %d lines:\n%s", len(said), strings.Join(said, "\n"))

	if os.Getenv(outageEnv) != "" && rate < target {
		t.Errorf("the backlog was stored at %.0f rows/s, wanted %.0f", rate, target)
	}
}

func (o *outage) read(name string) string {
	o.t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		o.t.Fatal(err)
	}
	return string(b)
}

func (o *outage) agent(name string, port int) *sluiceProcess {
	return startSluice(o.t, "agent", "-n", name, "-f", o.conf, "-Dflume.monitoring.type=http", "-Dflume.monitoring.host=127.0.0.1", fmt.Sprintf("-Dflume.monitoring.port=%d", port))
}

// until waits for a sample.
func (o *outage) until(what string, ok func(sample) bool) sample {
	o.t.Helper()
	var s sample
	next := time.Now().Add(sayEvery)
	eventually(o.t, 10*time.Minute, what, func() error {
		if time.Now().After(next) {
			o.say("waiting until %s", what)
			next = next.Add(sayEvery)
		}
		for _, p := range []*sluiceProcess{o.live, o.store, o.writer} {
			if !p.alive() && p != o.ended {
				o.t.Fatalf("sluice %s has ended: %v", strings.Join(p.cmd.Args[1:4], " "), p.err)
			}
		}
		if s = o.events.last(); !ok(s) {
			return fmt.Errorf("written %d, in the topic %d, taken %d, waiting %d", s.written, s.topic, s.taken, s.waiting)
		}
		return nil
	})
	return s
}

// watch takes samples until the function that it returns is called.
func (o *outage) watch() (stop func()) {
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		var s sample
		var log tailed
		defer log.close()
		for {
			// The order counts: what is further on is looked at first, so that
			// nothing seems to be stored that is not written.
			s.waiting = o.waiting(s.waiting)
			s.taken = o.offsets(s.taken, o.committed)
			s.topic = o.offsets(s.topic, o.ends)
			var err error
			if s.written, err = log.records(o.log); err != nil {
				o.t.Errorf("count the records of the log: %v", err)
				return
			}
			s.at = time.Since(o.begin)
			o.events.add(s)
			select {
			case <-quit:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	return sync.OnceFunc(func() { close(quit); <-ended })
}

// waiting asks the draining agent; while there is none it is what it was.
func (o *outage) waiting(was int64) int64 {
	m, err := metrics(o.monitor)
	if err != nil {
		return was
	}
	n, err := strconv.ParseInt(m["CHANNEL.c"]["ChannelSize"], 10, 64)
	if err != nil {
		return was
	}
	return n
}

// offsets is a sum of offsets; while there is no broker it is what it was.
func (o *outage) offsets(was int64, ask func() (int64, error)) int64 {
	n, err := ask()
	if err != nil {
		return was
	}
	return n
}

func (o *outage) ends() (n int64, err error) {
	ends, err := o.adm.ListEndOffsets(o.t.Context(), o.topic)
	if err == nil {
		err = ends.Error()
	}
	ends.Each(func(l kadm.ListedOffset) { n += l.Offset })
	return n, err
}

func (o *outage) committed() (n int64, err error) {
	offsets, err := o.adm.FetchOffsets(o.t.Context(), outageGroup)
	if err == nil {
		err = offsets.Error()
	}
	offsets.Each(func(r kadm.OffsetResponse) {
		if r.Topic == o.topic {
			n += max(r.At, 0)
		}
	})
	return n, err
}

// tailed counts the records of a log that grows.
type tailed struct {
	f *os.File
	r *bufio.Reader
	n int64

	part []byte // a line whose end has not been written yet
}

func (l *tailed) close() {
	if l.f != nil {
		l.f.Close()
	}
}

func (l *tailed) records(name string) (int64, error) {
	if l.f == nil {
		f, err := os.Open(name)
		if os.IsNotExist(err) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		l.f, l.r = f, bufio.NewReaderSize(f, 1<<16)
	}
	for {
		line, err := l.r.ReadSlice('\n')
		l.part = append(l.part, line...)
		if err == io.EOF {
			return l.n, nil
		}
		if err != nil {
			return l.n, err
		}
		if isRecord(l.part) {
			l.n++
		}
		l.part = l.part[:0]
	}
}

// isRecord is the filter of the agent file.
func isRecord(line []byte) bool {
	return len(line) >= 14 && !bytes.ContainsFunc(line[:14], func(r rune) bool { return r < '0' || r > '9' })
}

// openedLine is what a region server logs of a region of the table, a dozen
// times; its name without the id is the same after a restart.
var openedLine = regexp.MustCompile(`(?m)^\[(\S+ \S+)\] INFO .*Opened ` + outageTable + `,`)

// regionOpened is when HBase opened the first region of the table, by HBase's
// log.
func (o *outage) regionOpened() (opened time.Duration) {
	o.t.Helper()
	// The log is that of the last start. A batch that the sink has in its hands looks like one that is stored, before there is a region.
	eventually(o.t, 5*time.Minute, "HBase's log says that a region was opened", func() error {
		m := openedLine.FindStringSubmatch(o.read(filepath.Join(o.h.dir, "log")))
		if m == nil {
			return errors.New("it says so of none")
		}
		at, err := time.ParseInLocation("2006-01-02 15:04:05,000", m[1], time.Local)
		opened = at.Sub(o.begin)
		return err
	})
	return opened
}

// complaints are the warnings and errors of the draining agents about HBase.
func (o *outage) complaints() (lines []string) {
	for _, p := range o.stores {
		for line := range strings.Lines(p.out.String()) {
			if strings.Contains(line, "sink=hbase") && !strings.Contains(line, "level=INFO") || strings.Contains(line, "delivers again") {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
	}
	return lines
}

// counts are what the drill ends with.
type counts struct{ records, rows, again int }

// account compares the table with the log, row by row, as HBase's own client
// reads it.
func (o *outage) account() counts {
	t := o.t
	t.Helper()
	manifest, err := sim.LoadManifest(filepath.Join(o.dir, sim.ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[string]string) // key → record
	for line := range strings.Lines(o.read(o.log)) {
		if line = strings.TrimSuffix(line, "\n"); isRecord([]byte(line)) {
			fields := strings.SplitN(line, ",", 3)
			key := []byte(fields[0])
			slices.Reverse(key)
			want[string(key)+"-"+fields[1]] = line
		}
	}
	c := counts{records: len(want)}
	if int64(c.records) != manifest.Driver.Records || !manifest.Complete {
		t.Errorf("the log has records with %d different keys, and the simulator's manifest %d records (complete: %v)", c.records, manifest.Driver.Records, manifest.Complete)
	}
	bad := 0
	complain := func(format string, args ...any) {
		if bad++; bad <= 5 {
			t.Errorf(format, args...)
		}
	}
	err = o.h.each(func(line string) {
		c.rows++
		w := strings.SplitN(line, " ", 4)
		if len(w) != 4 {
			t.Fatalf("a row like %q", line)
		}
		if record, ok := want[w[0]]; !ok {
			complain("row %s is of no record, or there twice", w[0])
		} else if w[2] != strconv.Itoa(strings.Count(columnNames, ",")+1) || w[3] != record {
			complain("row %s has %s cells with %q, want %q", w[0], w[2], w[3], record)
		}
		delete(want, w[0])
		if w[1] != "1" {
			c.again++
		}
	}, append([]string{"rows", outageTable}, strings.Split(columnNames, ",")...)...)
	if err != nil {
		t.Fatal(err)
	}
	for key, record := range want {
		complain("record %q has no row %s", record, key)
	}
	if bad > 0 {
		t.Errorf("%d rows are wrong", bad)
	}
	return c
}

// mutator is how many rows a second HBase's own BufferedMutator writes of the
// same log, into a table of the same shape. In the full form it is the median
// of three, each in an HBase that was just started, as the agent's was: it
// varies by a third.
func (o *outage) mutator(n int) float64 {
	o.t.Helper()
	if os.Getenv(outageEnv) == "" {
		return o.mutate(n, false)
	}
	var rates []float64
	for range 3 {
		rates = append(rates, o.mutate(n, true))
	}
	slices.Sort(rates)
	o.t.Logf("BufferedMutator: %.0f rows/s", rates)
	return rates[1]
}

func (o *outage) mutate(n int, restart bool) float64 {
	t, h := o.t, o.h
	t.Helper()
	const table = "Mutator"
	h.do(t, "create", table, "cf1", "40000000", "80000000", "c0000000")
	defer h.do(t, "drop", table)
	if restart {
		h.stop(t)
		h.start(t)
		h.do(t, "count", table) // the client finds its way
	}
	ms, err := strconv.Atoi(h.do(t, append([]string{"mutate", table, o.log, strconv.Itoa(n)}, strings.Split(columnNames, ",")...)...)[0])
	if err != nil {
		t.Fatal(err)
	}
	if got := h.do(t, "count", table)[0]; got != strconv.Itoa(n) {
		t.Errorf("BufferedMutator left %s rows of %d", got, n)
	}
	return float64(n) * 1000 / float64(cmp.Or(ms, 1))
}
