//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// proc is a command of the binary under test.
type proc struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{}
	err  error

	mu       sync.Mutex
	out, log bytes.Buffer
}

type lockedWriter struct {
	p *proc
	b *bytes.Buffer
}

func (w lockedWriter) Write(b []byte) (int, error) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	return w.b.Write(b)
}

func (p *proc) stdout() string { p.mu.Lock(); defer p.mu.Unlock(); return p.out.String() }
func (p *proc) stderr() string { p.mu.Lock(); defer p.mu.Unlock(); return p.log.String() }

// start runs the binary under the name arg0.
func start(t *testing.T, arg0 string, args ...string) *proc {
	t.Helper()
	p := &proc{t: t, cmd: exec.Command(sluice, args...), done: make(chan struct{})}
	p.cmd.Args[0] = arg0
	p.cmd.Stdout, p.cmd.Stderr = lockedWriter{p, &p.out}, lockedWriter{p, &p.log}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.err = p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // usually gone already
		<-p.done
		if t.Failed() {
			t.Logf("%s said:\n%.4000s", arg0, p.stderr())
		}
	})
	return p
}

// await waits for a condition; the process must not end before.
func (p *proc) await(what string, ok func() bool) {
	p.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
		select {
		case <-p.done:
			if ok() { // it came with the end
				return
			}
			p.t.Fatalf("the process ended (%v) before %s", p.err, what)
		default:
		}
	}
	p.t.Fatalf("%s never came", what)
}

// find waits for a match of pattern in what the process says, and returns its
// first group.
func (p *proc) find(pattern string) string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	var m []string
	p.await(pattern, func() bool {
		m = re.FindStringSubmatch(p.stdout() + p.stderr())
		return m != nil
	})
	return m[1]
}

// term asks for a graceful stop and returns the exit code.
func (p *proc) term() int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatal("the process does not stop")
	}
	return p.cmd.ProcessState.ExitCode()
}

// agent starts an agent "a" on text and waits until it serves its counters.
func agent(t *testing.T, text string, opts ...string) (p *proc, url string) {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "flume.conf")
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	p = start(t, "/opt/flume/bin/flume-ng", append([]string{"agent", "--conf", filepath.Dir(conf), "--conf-file", conf, "--name", "a",
		"-Duser.home=" + filepath.Dir(conf), "-Dflume.root.logger=INFO,console", "-Dflume.monitoring.type=http", "-Dflume.monitoring.port=0", "-Dflume.monitoring.host=127.0.0.1"}, opts...)...)
	return p, strings.TrimSuffix(p.find(`metrics=(http://\S+/metrics)`), "/metrics")
}

func httpGet(t *testing.T, url string) (int, []byte) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}

// counter reads one of Flume's counters.
func counter(t *testing.T, url, component, name string) int {
	t.Helper()
	_, body := httpGet(t, url+"/metrics")
	var m map[string]map[string]string
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	n, err := strconv.Atoi(m[component][name])
	if err != nil {
		t.Fatalf("%s %s: %q", component, name, m[component][name])
	}
	return n
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// appendFile appends text with one write(2).
func appendFile(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// The handbook's burst: 100 drivers' records of 4,000 bytes each, appended
// with one write, go through tail, filter, channel and Kafka sink and arrive
// once each, in order.
func TestBurstOfLargeRecords(t *testing.T) {
	dir := t.TempDir()
	broker := start(t, "sluice", "broker", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "broker"))
	addr := broker.find(`listening on (127\.0\.0\.1:\d+)`)
	log := filepath.Join(dir, "driver.log")
	p, url := agent(t, `
a.sources = r
a.channels = c
a.sinks = k
a.sources.r.type = exec
a.sources.r.command = tail -F `+log+`
a.sources.r.restart = true
a.sources.r.batchSize = 1000
a.sources.r.channels = c
a.sources.r.interceptors = f
a.sources.r.interceptors.f.type = regex_filter
a.sources.r.interceptors.f.regex = ^\\d{14}
a.sources.r.interceptors.f.excludeEvents = false
a.channels.c.type = memory
a.channels.c.capacity = 100000
a.channels.c.transactionCapacity = 10000
a.sinks.k.type = org.apache.flume.sink.kafka.KafkaSink
a.sinks.k.topic = SmartCar-Topic
a.sinks.k.brokerList = `+addr+`
a.sinks.k.requiredAcks = 1
a.sinks.k.batchSize = 1000
a.sinks.k.channel = c
`)
	appendFile(t, log, "Driver Status Infomation,CarNum\n")
	p.await("the heading", func() bool { return counter(t, url, "SOURCE.r", "EventReceivedCount") == 1 })
	var sent []string
	for i := range 100 {
		r := fmt.Sprintf("20160101000000,A%04d,0,0,F,N,10,D08,", i)
		sent = append(sent, r+strings.Repeat(string(rune('a'+i%26)), 3999-len(r)))
	}
	appendFile(t, log, strings.Join(sent, "\n")+"\n")
	p.await("the records in the topic", func() bool { return counter(t, url, "SINK.k", "EventDrainSuccessCount") >= 100 })
	if code := p.term(); code != 0 {
		t.Errorf("the agent ended with %d", code)
	}

	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"SmartCar-Topic": {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var got []string
	for len(got) < len(sent) {
		fs := cl.PollFetches(t.Context())
		if err := fs.Err(); err != nil {
			t.Fatal(err)
		}
		fs.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	if !slices.Equal(got, sent) {
		t.Errorf("%d records arrived, not the %d that were written, in order", len(got), len(sent))
	}
	if code := broker.term(); code != 0 {
		t.Errorf("the broker ended with %d", code)
	}
}

// A filter that passes one event in a thousand, a channel of 100,000 events
// and a sink that cannot deliver: the survivors must not keep the memory of
// the others. The channel fills, the source waits, nothing grows.
func TestMemoryOfAFullChannel(t *testing.T) {
	dir := t.TempDir()
	line := []byte("20160101000000,A0001,100,79,71,87,1,1,1,1,A,A,94\n")
	file := bytes.Repeat(line, 1_000_000)
	for i := 999; i < 1_000_000; i += 1000 { // every thousandth record begins with 7
		file[i*len(line)] = '7'
	}
	// 100 million events would take a disk; one file under many names does not.
	if err := os.WriteFile(filepath.Join(dir, "data"), file, 0o644); err != nil {
		t.Fatal(err)
	}
	spool := filepath.Join(dir, "spool")
	if err := os.Mkdir(spool, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 103 {
		if err := os.Link(filepath.Join(dir, "data"), filepath.Join(spool, fmt.Sprintf("f%03d", i))); err != nil {
			t.Fatal(err)
		}
	}
	p, url := agent(t, `
a.sources = r
a.channels = c
a.sinks = k
a.sources.r.type = spooldir
a.sources.r.spoolDir = `+spool+`
a.sources.r.deletePolicy = immediate
a.sources.r.batchSize = 1000
a.sources.r.channels = c
a.sources.r.interceptors = f
a.sources.r.interceptors.f.type = regex_filter
a.sources.r.interceptors.f.regex = ^7
a.channels.c.type = memory
a.channels.c.capacity = 100000
a.channels.c.transactionCapacity = 10000
a.sinks.k.type = org.apache.flume.sink.kafka.KafkaSink
a.sinks.k.kafka.bootstrap.servers = 127.0.0.1:1
a.sinks.k.channel = c
`, "--stop-timeout", "3s")
	p.await("the full channel", func() bool { return counter(t, url, "CHANNEL.c", "ChannelSize") >= 99_999 })
	p.await("health to say so", func() bool {
		code, body := httpGet(t, url+"/healthz")
		return code == http.StatusServiceUnavailable && bytes.Contains(body, []byte("channel is full")) && bytes.Contains(body, []byte("sink k"))
	})
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	kb, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("peak resident memory: %d MB", kb>>10)
	if kb > 120<<10 {
		t.Errorf("peak resident memory of %d MB, more than 120", kb>>10)
	}
	if code := p.term(); code != 1 || !strings.Contains(p.stderr(), "events were left in channel c") {
		t.Errorf("the agent ended with %d and did not name what it had to leave", code)
	}
}

// Faults of spooled files: what stands before the fault arrives, the file is
// set aside with its reason, health says so, and the source goes on.
func TestSpoolFaults(t *testing.T) {
	dir := t.TempDir()
	spool, out := filepath.Join(dir, "spool"), filepath.Join(dir, "out")
	for _, d := range []string{spool, out} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p, url := agent(t, `
a.sources = r
a.channels = c
a.sinks = k
a.sources.r.type = spooldir
a.sources.r.spoolDir = `+spool+`
a.sources.r.batchSize = 10
a.sources.r.channels = c
a.channels.c.type = memory
a.sinks.k.type = file_roll
a.sinks.k.sink.directory = `+out+`
a.sinks.k.sink.rollInterval = 0
a.sinks.k.channel = c
`)
	delivered := func(n int) func() bool {
		return func() bool { return counter(t, url, "SINK.k", "EventDrainSuccessCount") == n }
	}
	drop := func(name, text string) { // complete when it appears, as it should be
		writeFile(t, filepath.Join(dir, name), text)
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(spool, name)); err != nil {
			t.Fatal(err)
		}
	}
	drop("good", "one\ntwo\n")
	p.await("good", delivered(2))
	drop("broken", "three\nfo\xffur\nfive\n")
	p.await("what stands before the broken byte", delivered(3))
	p.await("health", func() bool {
		code, body := httpGet(t, url+"/healthz")
		return code == http.StatusServiceUnavailable && bytes.Contains(body, []byte("broken"))
	})
	drop("good", "a name used twice\n")
	p.await("the file of the name used twice", delivered(4))
	drop("last", "six\n")
	p.await("the file after the faults", delivered(5))
	p.await("its new name", func() bool { // which follows the delivery
		_, err := os.Stat(filepath.Join(spool, "last.COMPLETED"))
		return err == nil
	})
	if code := p.term(); code != 0 {
		t.Errorf("the agent ended with %d", code)
	}
	names, err := filepath.Glob(filepath.Join(spool, "*"))
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(names, " ")
	for _, want := range []string{"good.COMPLETED", "broken.BAD", "good.BAD", "last.COMPLETED"} {
		if !strings.Contains(all, want) {
			t.Errorf("%s is not among %s", want, all)
		}
	}
	var got bytes.Buffer
	files, err := filepath.Glob(filepath.Join(out, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		got.Write(b)
	}
	if got.String() != "one\ntwo\nthree\na name used twice\nsix\n" {
		t.Errorf("arrived:\n%s", &got)
	}
}

// A stop by SIGTERM drains what the channels hold.
func TestStopDrains(t *testing.T) {
	p, url := agent(t, `
a.sources = r
a.channels = c
a.sinks = k
a.sources.r.type = seq
a.sources.r.batchSize = 50
a.sources.r.channels = c
a.channels.c.type = memory
a.channels.c.capacity = 100000
a.sinks.k.type = logger
a.sinks.k.maxBytesToLog = 32
a.sinks.k.channel = c
`, "--stop-timeout", patience.String())
	p.await("some events", func() bool { return counter(t, url, "SOURCE.r", "EventAcceptedCount") > 1000 })
	if code, body := httpGet(t, url+"/prometheus"); code != 200 || !bytes.Contains(body, []byte(`sluice_source_event_accepted_total{component="r"}`)) {
		t.Errorf("/prometheus: %d", code)
	}
	if code := p.term(); code != 0 {
		t.Fatalf("the agent ended with %d", code)
	}
	next := 0
	for line := range strings.Lines(p.stdout()) {
		i := strings.Index(line, "body:")
		if i < 0 || !strings.HasSuffix(line, " "+strconv.Itoa(next)+" }\n") {
			t.Fatalf("line %d: %q", next, line)
		}
		next++
	}
	if next <= 1000 {
		t.Errorf("%d lines only", next)
	}
}
