package main

import (
	"bytes"
	"math"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestChildTime(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     time.Duration
	}{
		{"plain", "7 (sluice) S 1 7 7 0 -1 4194560 100 0 0 0 12 3 4 1 20 0 9 0 100 1 2", 50 * time.Millisecond},
		{"name with blanks and parentheses", "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 9 9 0 2 20 0 9 0 100 1 2", 20 * time.Millisecond},
	} {
		got, err := childTime([]byte(tt.in))
		if err != nil || got != tt.want {
			t.Errorf("%s: childTime = %v, %v; want %v", tt.name, got, err, tt.want)
		}
	}
	for _, in := range []string{"", "7 sluice S", "7 (sluice) S 1 2", "7 (s) S 1 7 7 0 -1 4194560 100 0 0 0 1 3 x 1 20"} {
		if got, err := childTime([]byte(in)); err == nil {
			t.Errorf("childTime(%q) = %v, want an error", in, got)
		}
	}
}

// TestCPUOf burns a known amount by getrusage and looks for it on the CPU clock.
func TestCPUOf(t *testing.T) {
	before, err := cpuOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	own := ownCPU()
	for ownCPU()-own < 100*time.Millisecond {
	}
	after, err := cpuOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if got := after - before; got < 95*time.Millisecond {
		t.Errorf("the clock shows %v of at least 100ms", got)
	}
	if kb, err := peakKB(os.Getpid()); err != nil || kb < 1000 {
		t.Errorf("peakKB = %d, %v", kb, err)
	}
}

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 3, 2}, 2.5}} {
		if got := median(tt.in); got != tt.want {
			t.Errorf("median(%v) = %v, want %v", tt.in, got, tt.want)
		}
	}
}

func TestSummarise(t *testing.T) {
	w := workload{Name: "w", Target: 10}
	rs := []run{
		{Workload: "w", Agent: "flume", Events: 100, Wall: 10, CPU: 20, StartCPU: 5, PeakKB: 400 << 10},
		{Workload: "w", Agent: "sluice", Events: 100, Wall: 2, CPU: 1, StartCPU: 0, PeakKB: 40 << 10},
		{Workload: "w", Agent: "sluice", Events: 100, Wall: 4, CPU: 4, StartCPU: 0, PeakKB: 40 << 10},
		{Workload: "w", Agent: "sluice", Events: 100, Wall: 2, CPU: 2, StartCPU: 0.5, PeakKB: 40 << 10},
		{Workload: "other", Agent: "flume", Events: 1, Wall: 1, CPU: 1},
	}
	s := summarise(w, rs)
	for _, x := range []struct {
		name      string
		got, want float64
	}{{"per second", s.PerSecond, 5}, {"per CPU second", s.PerCPU, 10}, {"with start-up", s.PerCPUStarted, 10}, {"memory", s.Memory, 10}} {
		if math.Abs(x.got-x.want) > 1e-9 {
			t.Errorf("ratio %s = %v, want %v", x.name, x.got, x.want)
		}
	}
	if m := (report{Summary: []summary{s}}).missed(); len(m) != 0 {
		t.Errorf("missed = %q, want none", m)
	}
	s.PerSecond, s.Clock = 0.9, 1
	if m := (report{Summary: []summary{s}}).missed(); len(m) != 1 {
		t.Errorf("missed = %q, want that it is slower", m)
	}
	s.PerCPU, s.Clock = 9.9, 0
	if m := (report{Summary: []summary{s}}).missed(); len(m) != 1 {
		t.Errorf("missed = %q, want one line", m)
	}
}

// TestCorpora checks each generator's word on what the filter keeps against
// the pattern in the agent file, and that extractors find what they look for.
func TestCorpora(t *testing.T) {
	pattern := regexp.MustCompile(`\.regex = (.*)`)
	for _, w := range workloads() {
		c, err := w.corpus(t.Context(), t.TempDir(), 2000)
		if err != nil {
			t.Fatalf("%s: %v", w.Name, err)
		}
		var re *regexp.Regexp
		if m := pattern.FindStringSubmatch(w.interceptors); m != nil {
			re = regexp.MustCompile(strings.ReplaceAll(m[1], `\\`, `\`))
		}
		var kept int64
		n, err := splitLines(c.Path, func(line []byte) error {
			if re == nil || re.Match(line) {
				kept++
			}
			return nil
		})
		if err != nil {
			t.Fatalf("%s: %v", w.Name, err)
		}
		if w.all {
			c.Kept = c.Lines
		}
		if n != c.Lines || kept != c.Kept || kept == 0 {
			t.Errorf("%s: the file has %d lines, %d match; the corpus says %d and %d", w.Name, n, kept, c.Lines, c.Kept)
		}
	}
}

// TestConf looks for a verb that went astray and for references without a component.
func TestConf(t *testing.T) {
	for _, w := range workloads() {
		c := w.conf(place{Spool: "/s", Command: "sh /f", Broker: "b:1", Topic: "top", Sink: "hdfs://h:1/bench/x", Table: "t"})
		if strings.Contains(c, "%!") {
			t.Errorf("%s:\n%s", w.Name, c)
		}
		if w.kafka && (!strings.Contains(c, "brokerList = b:1\n") || !strings.Contains(c, "topic = top\n")) {
			t.Errorf("%s: broker or topic is missing:\n%s", w.Name, c)
		}
		if w.sink == hdfsPeer && !strings.Contains(c, "hdfs.path = hdfs://h:1/bench/x/%{logType}/wrk_date=%Y%m%d\n") || w.sink == hbasePeer && !strings.Contains(c, "table = t\n") {
			t.Errorf("%s: the sink's place is missing:\n%s", w.Name, c)
		}
		if w.source && (!strings.Contains(c, "kafka.bootstrap.servers = b:1\n") || !strings.Contains(c, "kafka.topics = top\n")) {
			t.Errorf("%s: broker or topic is missing:\n%s", w.Name, c)
		}
		for ch := range w.takes(corpus{}) {
			if ch = strings.TrimPrefix(ch, "CHANNEL."); !strings.Contains(c, "a1.channels."+ch+".type = "+map[bool]string{false: "memory", true: "file"}[w.file]+"\n") {
				t.Errorf("%s: channel %s is awaited but not configured:\n%s", w.Name, ch, c)
			}
		}
	}
}

func TestSplitLines(t *testing.T) {
	c, err := makeCorpus(t.TempDir(), "c.txt", 20_000, jsonLine)
	if err != nil {
		t.Fatal(err)
	}
	var joined []byte
	n, err := splitLines(c.Path, func(l []byte) error { joined = append(append(joined, l...), '\n'); return nil })
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(c.Path)
	if err != nil {
		t.Fatal(err)
	}
	if n != c.Lines || !bytes.Equal(joined, want) || int64(len(want)) != c.Bytes {
		t.Errorf("split %d lines of %+v, equal %v", n, c, bytes.Equal(joined, want))
	}
}

func TestOrder(t *testing.T) {
	a, b := sluice{}, flume{}
	var names []string
	for _, x := range order([]agent{a, b}, false) {
		names = append(names, x.Name())
	}
	if got := strings.Join(names, " "); got != "sluice flume flume sluice" {
		t.Errorf("order = %s", got)
	}
}

// TestOpenGate runs the command of the Kafka flow with a shell.
func TestOpenGate(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("needs a POSIX shell: the exec command's gate was not checked")
	}
	dir := t.TempDir()
	c, err := makeCorpus(dir, "c.txt", 10, serverLine)
	if err != nil {
		t.Fatal(err)
	}
	feed, gate, err := gatedCat(dir, c.Path, 2)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(sh, feed)
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := openGate(t.Context(), gate); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || bytes.Count(out.Bytes(), []byte("\n")) != 20 {
		t.Errorf("command printed %q, %v", out.Bytes(), err)
	}
}
