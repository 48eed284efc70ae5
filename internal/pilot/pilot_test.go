package pilot

import (
	"bytes"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/sluice-data/sluice/examples"
	"github.com/sluice-data/sluice/internal/ledger"
	"github.com/sluice-data/sluice/internal/sim"
)

func TestMidnightFallsInTheMiddle(t *testing.T) {
	for _, c := range []struct {
		run   time.Duration
		speed float64
		start string
	}{
		{time.Minute, 60, "20160101233000"},
		{5 * time.Second, 60, "20160101235730"},
		{time.Second, 1, "20160102000000"}, // half a second does not count
		{0, 60, "20160101233000"},
		{time.Minute, 2880, "20160101000000"},
		{time.Minute, 10_000, "20160101124000"},
	} {
		start := clockStart(c.run, c.speed)
		if got := sim.FormatStamp(start); got != c.start {
			t.Errorf("%v at %v: the clock starts at %s, want %s", c.run, c.speed, got, c.start)
		}
	}
}

func TestCounterOverRestarts(t *testing.T) {
	var c counter
	at := time.Unix(0, 0)
	for _, v := range []int64{0, 100, 250, 10, 60} { // the process began again at 10
		c.observe(at, v)
		at = at.Add(time.Second)
	}
	if c.total() != 310 {
		t.Errorf("total %d, want 310", c.total())
	}
	if r := c.rate(); r != 70 { // 210 in the last three seconds
		t.Errorf("rate %v, want 70", r)
	}
}

func TestBusyPortIsReplaced(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	_, port, err := net.SplitHostPort(busy.Addr().String())
	if err != nil {
		t.Fatal(err)
	}

	var out bytes.Buffer
	run := &smartCar{pilot: &pilot{Options: Options{Listen: busy.Addr().String(), Broker: busy.Addr().String()}, con: newConsole(&out, false)}}
	page, err := run.listen()
	if err != nil {
		t.Fatal(err)
	}
	defer page.Close()
	if !strings.Contains(out.String(), port) || !strings.Contains(out.String(), page.Addr().String()) {
		t.Errorf("console: %q", out.String())
	}

	if got := run.brokerListen(0); got != "127.0.0.1:0" {
		t.Errorf("with its port busy the broker listens at %s", got)
	}
	busy.Close()
	if got := run.brokerListen(0); got != run.Broker {
		t.Errorf("with its port free the broker listens at %s", got)
	}
	// It was taken after the look: the next start takes any.
	if got := run.brokerListen(1); got != "127.0.0.1:0" {
		t.Errorf("after a failed start the broker listens at %s", got)
	}
	run.broker = "127.0.0.1:4711"
	if got := run.brokerListen(5); got != run.broker {
		t.Errorf("a broker that has come up is started again at %s", got)
	}
}

// The agent files are the handbook's: where its fourth and fifth stage are at
// hand, the properties are compared with them.
func TestAgentFileIsTheHandbooks(t *testing.T) {
	shared := os.Getenv("SLUICE_SHARED")
	if shared == "" {
		shared = "../../../shared"
	}
	handbook := func(stage string) map[string]string {
		found, err := filepath.Glob(filepath.Join(shared, "flume-conf", stage+"-*"))
		if err != nil || len(found) != 1 {
			t.Skip("NOT CHECKED: that the pilot's agent files equal the handbook's fourth and fifth stage, which are not at hand")
		}
		text, err := os.ReadFile(found[0])
		if err != nil {
			t.Fatal(err)
		}
		return properties(string(text))
	}
	fifth, err := examples.Files.ReadFile(hadoopExample + "/flume.conf")
	if err != nil {
		t.Fatal(err)
	}
	if want, got := handbook("005"), properties(string(fifth)); !maps.Equal(got, want) {
		t.Errorf("the example has\n%v\nand the handbook\n%v", got, want)
	}
	want, got := handbook("004"), properties(agentFile)
	for k, v := range want {
		ours, ok := got[k]
		if v := v[strings.LastIndexByte(v, '/')+1:]; strings.Contains(ours, "@") && ok {
			// A directory or a host: the file's name at the end must be ours too.
			if strings.HasSuffix(v, ".log") && !strings.HasPrefix(ours, "tail -F ") {
				t.Errorf("%s = %s, the handbook has %s", k, ours, v)
			}
			continue
		}
		if ours != v {
			t.Errorf("%s = %q, the handbook has %q", k, ours, v)
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("%s is not in the handbook's file", k)
		}
	}
}

func properties(text string) map[string]string {
	m := map[string]string{}
	blanks := regexp.MustCompile(`\s+`)
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			m[strings.TrimSpace(k)] = blanks.ReplaceAllString(strings.TrimSpace(v), " ")
		}
	}
	return m
}

func TestWriteConf(t *testing.T) {
	l := ledger.LayoutOf(t.TempDir())
	if err := os.MkdirAll(l.Conf, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := writeConf(l, ledger.Hadoop{}, "127.0.0.1:9999"); err != nil {
		t.Fatal(err)
	}
	c := confPaths(l, ledger.Hadoop{})
	for path, wants := range map[string][]string{
		c.agent[0]:    {"spoolDir = " + l.Spool, "tail -F " + filepath.Join(l.Working, "driver-realtime-log/SmartCarDriverInfo.log"), "brokerList = 127.0.0.1:9999", `regex = ^\\d{14}`},
		c.agent[1]:    {"maxBytesToLog = 4096"},
		c.consumer[0]: {"sink.directory = " + l.Files, "bootstrap.servers = 127.0.0.1:9999"},
	} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(string(data), want) {
				t.Errorf("%s has no %q", path, want)
			}
		}
		if strings.Contains(string(data), "@") {
			t.Errorf("%s: a place was not filled in", path)
		}
	}
	for _, h := range []ledger.Hadoop{{HDFS: "file:///x"}, {HBase: "z"}, {HDFS: "file:///x", HBase: "z"}} {
		if err := writeConf(l, h, "127.0.0.1:9999"); err != nil {
			t.Fatal(err)
		}
		c := confPaths(l, h)
		for path, example := range map[string]bool{c.agent[0]: h.HDFS != "", c.agent[1]: h.HDFS != "", c.consumer[0]: h.HBase != ""} {
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			want, err := examples.Files.ReadFile(hadoopExample + "/" + filepath.Base(path))
			if same := err == nil && bytes.Equal(got, want); same != example {
				t.Errorf("%+v: that %s is the example's is %v", h, path, same)
			}
		}
	}
	l = ledger.LayoutOf("/tmp/a blank")
	if err := writeConf(l, ledger.Hadoop{}, "x:1"); err == nil {
		t.Error("a directory with a blank was taken; the exec source would split it")
	}
}

func TestCollect(t *testing.T) {
	l := ledger.LayoutOf(t.TempDir())
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, l.Topic))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	answer := `{"SOURCE.SmartCarInfo_SpoolSource":{"EventReceivedCount":"500","StartTime":"7"},"SOURCE.DriverCarInfo_TailSource":{"StartTime":"7","EventReceivedCount":"80"},
		"INTERCEPTOR.SmartCarInfo_SpoolSource.filterInterceptor":{"EventInCount":"500","EventDroppedCount":"20"},
		"CHANNEL.SmartCarInfo_Channel":{"ChannelSize":"30","ChannelCapacity":"100000","EventTakeSuccessCount":"450"}}`
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer) }))
	defer agent.Close()
	// Two children that are running, one of which has said where it serves.
	c := newCollector(l, &child{pid: 1, address: agent.URL}, &child{pid: 1, log: "/nowhere"})
	defer c.close()
	if err := c.setBroker(cluster.ListenAddrs()[0]); err != nil {
		t.Fatal(err)
	}
	s := c.collect(t.Context())
	if want := (FlowState{Received: 500, Dropped: 20, ChannelSize: 30, Capacity: 100000, Delivered: 450}); s.Status != want {
		t.Errorf("%+v, want %+v", s.Status, want)
	}
	if s.Driver.Received != 80 || !s.Topic.Known || c.answered != [4]bool{true, false, true, false} {
		t.Errorf("driver %+v, topic %+v, answered %v", s.Driver, s.Topic, c.answered)
	}
	answer = "not JSON"
	if again := c.collect(t.Context()); again.Status != s.Status || c.answered[0] {
		t.Errorf("after a bad answer: %+v, answered %v", again.Status, c.answered)
	}
}

func TestConsole(t *testing.T) {
	var out bytes.Buffer
	c := newConsole(&out, true)
	c.progress(12*time.Second, phaseRunning, "20160101233000", "nothing yet")
	c.say("hello")
	if got := out.String(); !strings.Contains(got, "2016-01-01 23:30:00") || !strings.HasSuffix(got, "\r\x1b[Khello\n") {
		t.Errorf("%q", got)
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 2880000: "2,880,000", -1234: "-1,234"} {
		if got := group(n); got != want {
			t.Errorf("%d is written %s, want %s", n, got, want)
		}
	}
}

func TestRefusesAUsedDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "old"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	err := Run(t.Context(), Options{Speed: 1, Cars: 1, Dir: dir, Stdout: &bytes.Buffer{}})
	if err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("%v", err)
	}
}

func TestValidate(t *testing.T) {
	good := Options{Speed: 60, Cars: 100, For: time.Minute}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		change func(*Options)
		want   string
	}{
		{func(o *Options) { o.Speed = 0 }, "speed"},
		{func(o *Options) { o.For = -time.Second }, "for is"},
		{func(o *Options) { o.For, o.Speed = time.Second, 0.5 }, "less than a simulated second"},
		{func(o *Options) { o.Cars = 0 }, "cars"},
		{func(o *Options) { o.Garbage = 7 }, "garbage"},
		{func(o *Options) { o.BurstEvery = 3 }, "burst"},
		{func(o *Options) { o.RecordBytes = 5000 }, "record bytes"},
		{func(o *Options) { o.Hadoop.HDFS = "nowhere" }, "hdfs is"},
		{func(o *Options) { o.Hadoop.HBase, o.RecordBytes = "z", 100 }, "ninth field"},
	} {
		o := good
		c.change(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want an error with %q", err, c.want)
		}
	}
}
