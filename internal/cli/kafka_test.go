package cli

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-data/sluice/internal/broker"
)

// TestProduceSaysWhatWasNotAcknowledged: a broker without space refuses, and
// the command neither waits for ever nor keeps silent.
func TestProduceSaysWhatWasNotAcknowledged(t *testing.T) {
	var mu sync.Mutex
	free := int64(1 << 40)
	b, err := broker.Start(context.Background(), broker.Config{
		Listen: "127.0.0.1:0", DataDir: t.TempDir(), MaxDisk: -1, RetentionCheck: 5 * time.Millisecond,
		FreeDisk: func(string) (int64, error) { mu.Lock(); defer mu.Unlock(); return free, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close(context.Background())
	addr := "--bootstrap=" + b.Addr()
	if code, _, stderr := runKafkaCLI("1\n2\n", "sluice", "produce", "t", addr); code != 0 {
		t.Fatal(stderr)
	}
	mu.Lock()
	free = 0
	mu.Unlock()
	for deadline := time.Now().Add(3 * time.Minute); ; { // until the guard has looked
		code, _, stderr := runKafkaCLI("3\n", "sluice", "produce", "t", "--timeout=1s", addr)
		if code == 1 && strings.Contains(stderr, "0 of 1 record(s) were acknowledged") {
			return
		}
		if code != 0 || time.Now().After(deadline) {
			t.Fatalf("exit %d: %s", code, stderr)
		}
	}
}

// runKafkaCLI calls the command line and returns what it printed.
func runKafkaCLI(stdin string, args ...string) (code int, stdout, stderr string) {
	var out, errb bytes.Buffer
	code = Run(args, strings.NewReader(stdin), &out, &errb)
	return code, out.String(), errb.String()
}

func testBroker(t *testing.T) string {
	t.Helper()
	b, err := broker.Start(context.Background(), broker.Config{Listen: "127.0.0.1:0", DataDir: t.TempDir(), MaxDisk: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b.Addr()
}

type kafkaCase struct {
	name   string
	stdin  string
	args   []string
	code   int
	stdout string // exactly, unless it starts with "…": then contained
	stderr string // contained
}

func runCases(t *testing.T, cases []kafkaCase) {
	t.Helper()
	for _, c := range cases {
		code, stdout, stderr := runKafkaCLI(c.stdin, c.args...)
		want, part := strings.CutPrefix(c.stdout, "…")
		if code != c.code || part && !strings.Contains(stdout, want) || !part && stdout != want || !strings.Contains(stderr, c.stderr) {
			t.Errorf("%s: %v\nexit %d, want %d\nstdout %q, want %q\nstderr %q, want %q", c.name, c.args, code, c.code, stdout, c.stdout, stderr, c.stderr)
		}
	}
}

func TestTopicsProduceConsume(t *testing.T) {
	addr := "--bootstrap=" + testBroker(t)
	runCases(t, []kafkaCase{
		{"none yet", "", []string{"sluice", "topics", "list", addr}, 0, "", "no topics yet"},
		{"create", "", []string{"sluice", "topics", "create", "t", "u", "-p", "2", "-c", "retention.ms=600000", addr}, 0, "created topic t with 2 partition(s)\ncreated topic u with 2 partition(s)\n", ""},
		{"again", "", []string{"sluice", "topics", "create", "t", addr}, 1, "", `Topic 't' already exists.`},
		{"again, allowed", "", []string{"sluice", "topics", "create", "t", "--if-not-exists", addr}, 0, "topic t exists already\n", ""},
		{"replicas", "", []string{"sluice", "topics", "create", "v", "-r", "3", addr}, 1, "", "there is one broker"},
		{"unknown setting", "", []string{"sluice", "topics", "create", "v", "-c", "x=1", addr}, 1, "", `unknown topic config name: x; known are cleanup.policy`},
		{"list", "", []string{"sluice", "topics", "list", addr}, 0, "t\nu\n", ""},
		{"produce", "a=1\nb=2\r\nc=3", []string{"sluice", "produce", "t", "--partition", "1", "--key-separator", "=", addr}, 0, "", "3 record(s) acknowledged"},
		{"produce without key", "a=1\nnokey\n", []string{"sluice", "produce", "u", "--key-separator", "=", addr}, 1, "", `line 2 has no "=" between key and value; the 1 record(s) before it were acknowledged`},
		{"consume", "", []string{"sluice", "consume", "t", "--from-beginning", "-n", "3", "--keys", addr}, 0, "a\t1\nb\t2\nc\t3\n", "3 record(s)"},
		{"consume from an offset", "", []string{"sluice", "consume", "t", "--partition", "1", "--offset", "1", "-n", "1", addr}, 0, "2\n", ""},
		{"consume in a group", "", []string{"sluice", "consume", "t", "--group", "g", "--from-beginning", "-n", "2", addr}, 0, "1\n2\n", ""},
		{"and go on", "", []string{"sluice", "consume", "t", "--group", "g", "--from-beginning", "-n", "1", addr}, 0, "3\n", ""},
		{"nothing comes", "", []string{"sluice", "consume", "t", "--idle-timeout", "50ms", addr}, 0, "", "0 record(s)"},
		{"no such topic", "", []string{"sluice", "consume", "nope", addr}, 1, "", "create it with: sluice topics create nope"},
		{"no such partition", "", []string{"sluice", "consume", "t", "--partition", "2", addr}, 1, "", "no partition 2: it has 0 to 1"},
		{"offset without partition", "", []string{"sluice", "consume", "t", "--offset", "2", addr}, 2, "", "--offset needs --partition"},
		{"describe", "", []string{"sluice", "topics", "describe", "t", addr}, 0, "…settings: retention.ms=600000", ""},
		{"describe nothing", "", []string{"sluice", "topics", "describe", "nope", addr}, 1, "", "topic nope does not exist"},
		{"delete", "", []string{"sluice", "topics", "delete", "t", addr}, 0, "deleted topic t\n", ""},
		{"delete again", "", []string{"sluice", "topics", "delete", "t", addr}, 1, "", "does not exist"},
		{"no broker", "", []string{"sluice", "topics", "list", "--bootstrap=127.0.0.1:1"}, 1, "", "start one with: sluice broker"},
	})
}

func TestKafkaNames(t *testing.T) {
	addr := testBroker(t)
	const topic = "SmartCar-Topic"
	runCases(t, []kafkaCase{
		{"zookeeper", "", []string{"kafka-topics", "--create", "--zookeeper", "server02.hadoop.com:2181", "--replication-factor", "1", "--partitions", "1", "--topic", topic}, 2, "", "with --bootstrap-server server02.hadoop.com:9092\n"},
		{"zookeepers", "", []string{"kafka-topics", "--list", "--zookeeper=a:2181,b:2181/kafka"}, 2, "", "with --bootstrap-server a:9092\n"},
		{"zookeeper without a port", "", []string{"kafka-console-consumer", "-zookeeper", "zk/kafka"}, 2, "", "with --bootstrap-server zk:9092\n"},
		{"zookeeper without a value", "", []string{"kafka-topics", "--zookeeper", "--list"}, 2, "", "with --bootstrap-server HOST:9092\n"},
		{"help", "", []string{"kafka-topics", "--help"}, 0, "…  --bootstrap-server VALUE ", ""},
		{"version", "", []string{"kafka-topics.sh", "--version"}, 0, "…sluice", ""},
		{"another tool", "", []string{"kafka-server-start.sh", "x.properties"}, 2, "", "no such file or directory"},
		{"no broker there", "", []string{"kafka-topics", "--list", "--bootstrap-server", "127.0.0.1:1"}, 1, "", "another address with --bootstrap-server HOST:PORT"},
		{"create", "", []string{"/opt/kafka-topics.sh", "--create", "--bootstrap-server", addr, "--replication-factor", "1", "--partitions", "1", "--topic", topic}, 0, "Created topic " + topic + ".\n", ""},
		{"list", "", []string{"kafka-topics", "--list", "--bootstrap-server=" + addr}, 0, topic + "\n", ""},
		{"alter", "", []string{"kafka-topics", "--alter", "--topic", topic, "--partitions", "2", "--bootstrap-server=" + addr}, 0, "", ""},
		{"describe", "", []string{"kafka-topics", "--describe", "--bootstrap-server=" + addr, "--topic", topic}, 0, fmt.Sprintf("…\tTopic: %s\tPartition: 1\tLeader: 1\tReplicas: 1\tIsr: 1\tElr: \tLastKnownElr: \n", topic), ""},
		{"produce", "Hello! BigData!\n", []string{"kafka-console-producer", "--broker-list", addr, "-topic", topic}, 0, "", ""},
		{"consume", "", []string{"kafka-console-consumer", "--bootstrap-server", addr, "--topic", topic, "--from-beginning", "--max-messages", "1", "--property", "a=b"}, 0, "Hello! BigData!\n", "property a has no effect"},
		{"time-out", "", []string{"kafka-console-consumer", "--bootstrap-server", addr, "--topic", topic, "--partition", "0", "--timeout-ms", "50"}, 0, "", "Processed a total of 0 messages"},
		{"ignored", "x\n", []string{"kafka-console-producer", "--broker-list", addr, "--topic", topic, "--sync", "--batch-size", "1"}, 0, "", "--batch-size has no effect"},
		{"codec by default", "y\n", []string{"kafka-console-producer", "--bootstrap-server", addr, "--compression-codec", "--topic", topic, "--reader-property", "parse.key=false"}, 0, "", ""},
		{"delete", "", []string{"kafka-topics", "--delete", "--bootstrap-server", addr, "--topic", topic}, 0, "", ""},
		{"no action", "", []string{"kafka-topics", "--bootstrap-server", addr}, 2, "", "give one of --create"},
		{"unknown option", "", []string{"kafka-topics", "--lits"}, 2, "", "--lits is not there; did you mean \"list\"?; known are --alter"},
		{"no value", "", []string{"kafka-topics", "--list", "--bootstrap-server"}, 2, "", "needs a value"},
		{"no broker", "", []string{"kafka-console-consumer", "--topic", topic}, 2, "", "no broker is given"},
		{"bad number", "", []string{"kafka-console-consumer", "--bootstrap-server", addr, "--topic", topic, "--partition", "one"}, 2, "", "--partition one: want a whole number"},
	})
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "123": 123, "1K": 1 << 10, "1KiB": 1 << 10, "1kb": 1 << 10, "1.5M": 3 << 19, "20GiB": 20 << 30, "2T": 2 << 40, "none": -1,
	} {
		if got, err := parseSize(in); err != nil || got != want {
			t.Errorf("%q: %d %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "x", "-1", "1X", "1Ki B", "1e30T", "nan"} {
		if got, err := parseSize(in); err == nil {
			t.Errorf("%q gives %d", in, got)
		}
	}
}

func TestBrokerCommandRefuses(t *testing.T) {
	dir := t.TempDir()
	runCases(t, []kafkaCase{
		{"size", "", []string{"sluice", "broker", "--data", dir, "--max-disk", "lots"}, 2, "", "is not a size"},
		{"port", "", []string{"sluice", "broker", "--data", dir, "--listen", testBroker(t)}, 1, "", "port is in use"},
		{"default", "", []string{"sluice", "broker", "--data", dir, "--listen", "127.0.0.1:0", "--topic-default", "retention.ms=x"}, 2, "", "retention.ms"},
		{"address", "", []string{"sluice", "broker", "--data", dir, "--listen", "nonsense"}, 2, "", `"nonsense" is not HOST:PORT`},
		{"advertised", "", []string{"sluice", "broker", "--data", dir, "--listen", "127.0.0.1:0", "--advertise", "h:x"}, 2, "", `port "x"`},
		{"no directory", "", []string{"sluice", "broker"}, 2, "", "sluice broker --help"},
		{"help", "", []string{"sluice", "broker", "--help"}, 0, "…Default: 127.0.0.1:9092.", ""},
	})
}

// gate is a standard output that takes nothing until it is opened.
type gate struct {
	bytes.Buffer
	once          sync.Once
	reached, open chan struct{}
}

func (g *gate) Write(p []byte) (int, error) {
	g.once.Do(func() { close(g.reached) })
	<-g.open
	return g.Buffer.Write(p)
}

// TestConsumeKeepsWhatItShows: a partition goes to another member only after
// the records that are being shown are committed, or they would be shown twice.
func TestConsumeKeepsWhatItShows(t *testing.T) {
	t.Parallel()
	addr := "--bootstrap=" + testBroker(t)
	const group = "--group=g"
	runCases(t, []kafkaCase{
		{"create", "", []string{"sluice", "topics", "create", "t", "-p", "2", addr}, 0, "created topic t with 2 partition(s)\n", ""},
		{"one", "a\n", []string{"sluice", "produce", "t", "--partition=0", addr}, 0, "", ""},
		{"other", "b\n", []string{"sluice", "produce", "t", "--partition=1", addr}, 0, "", ""},
	})
	out := &gate{reached: make(chan struct{}), open: make(chan struct{})}
	var errb bytes.Buffer
	first := make(chan int, 1)
	go func() {
		first <- Run([]string{"sluice", "consume", "t", group, "--from-beginning", "-n", "2", addr}, strings.NewReader(""), out, &errb)
	}()
	<-out.reached
	code, stdout, stderr := runKafkaCLI("", "sluice", "consume", "t", group, "--from-beginning", "--idle-timeout", "5s", "--timeout", "4s", addr)
	close(out.open)
	if c := <-first; c != 0 {
		t.Fatalf("first member: exit %d: %s", c, errb.String())
	}
	// The first page may hold one partition's record only; the other's is
	// then free to go to either.
	all := strings.Split(strings.TrimSpace(out.String()+stdout), "\n")
	if code != 0 || len(all) != 2 {
		t.Errorf("second member: exit %d: %s\nshown: %q, want each once", code, stderr, all)
	}
}
