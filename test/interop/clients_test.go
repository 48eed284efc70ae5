//go:build interop

package interop

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// client produces lines to a topic and reads a topic from the beginning.
type client interface {
	produce(t *testing.T, addr, topic string, lines []string)
	consume(t *testing.T, addr, topic string, n int) []string
}

// kcat is librdkafka's command line.
type kcat struct{ codec string }

func (k kcat) produce(t *testing.T, addr, topic string, lines []string) {
	args := []string{"-P", "-b", addr, "-t", topic}
	if k.codec != "" {
		args = append(args, "-z", k.codec)
	}
	clientOutput(t, strings.Join(lines, "\n")+"\n", program(t, "kcat"), args...)
}

func (kcat) consume(t *testing.T, addr, topic string, n int) []string {
	return splitLines(clientOutput(t, "", program(t, "kcat"), "-C", "-q", "-b", addr, "-t", topic, "-o", "beginning", "-c", strconv.Itoa(n)))
}

// console is Apache Kafka's console producer and consumer.
type console struct{}

func (console) produce(t *testing.T, addr, topic string, lines []string) {
	kafkaTool(t, strings.Join(lines, "\n")+"\n", "console-producer", "--bootstrap-server", addr, "--topic", topic)
}

func (console) consume(t *testing.T, addr, topic string, n int) []string {
	return splitLines(kafkaTool(t, "", "console-consumer", "--bootstrap-server", addr, "--topic", topic, "--from-beginning",
		"--max-messages", strconv.Itoa(n), "--timeout-ms", "180000"))
}

func kafkaTool(t *testing.T, stdin, tool string, args ...string) string {
	t.Helper()
	fetched(t, "kafka.sh")
	return clientOutput(t, stdin, filepath.Join("peers", "kafka-cli.sh"), append([]string{tool}, args...)...)
}

// kafkaPython is the pure Python client.
type kafkaPython struct{ codec string }

func (k kafkaPython) produce(t *testing.T, addr, topic string, lines []string) {
	const script = `
import sys, kafka
addr, topic, codec = sys.argv[1:4]
p = kafka.KafkaProducer(bootstrap_servers=addr, acks='all', compression_type=codec or None, retries=0)
futures = [p.send(topic, line.rstrip(b'\n')) for line in sys.stdin.buffer]
p.flush(60)
for f in futures: f.get(60)
`
	clientOutput(t, strings.Join(lines, "\n")+"\n", python(t), "-c", script, addr, topic, k.codec)
}

func (kafkaPython) consume(t *testing.T, addr, topic string, n int) []string {
	const script = `
import sys, kafka
addr, topic, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
c = kafka.KafkaConsumer(bootstrap_servers=addr, group_id=None, auto_offset_reset='earliest', consumer_timeout_ms=180000)
c.assign([kafka.TopicPartition(topic, 0)])
c.seek_to_beginning()
for m in c:
    sys.stdout.buffer.write(m.value + b'\n')
    n -= 1
    if n == 0: break
`
	return splitLines(clientOutput(t, "", python(t), "-c", script, addr, topic, strconv.Itoa(n)))
}

// records are lines as the pilot has them, with some that are long, not
// English, or blank at an end.
func records(n int) []string {
	lines := make([]string, n)
	for i := range lines {
		switch i % 50 {
		case 7:
			lines[i] = fmt.Sprintf("%d 스마트카 운행 정보 — 서울", i)
		case 19:
			lines[i] = fmt.Sprintf("%d %s", i, strings.Repeat("0123456789abcdef", 250))
		case 31:
			lines[i] = fmt.Sprintf("  %d, blanks at both ends  ", i)
		default:
			lines[i] = fmt.Sprintf("201601010%05d,A%04d,3,0,F,N,%d,D08", i, i%100+1, i%200)
		}
	}
	return lines
}

func readers() map[string]client {
	return map[string]client{"kcat": kcat{}, "console": console{}, "kafka-python": kafkaPython{}}
}

// TestBrokerClients has every client write a topic of the built-in broker that
// every client then reads. The topic is made by the first write.
func TestBrokerClients(t *testing.T) {
	addr := newBroker(t)
	for name, w := range readers() {
		t.Run("written by "+name, func(t *testing.T) {
			topic, want := "by-"+name, records(500)
			w.produce(t, addr, topic, want)
			for name, r := range readers() {
				t.Run("read by "+name, func(t *testing.T) {
					sameLines(t, "records", r.consume(t, addr, topic, len(want)), want)
				})
			}
		})
	}
}

// TestBrokerCodecs appends batches of every codec to one topic; the broker
// passes them through, so each reader sees all of them.
func TestBrokerCodecs(t *testing.T) {
	addr := newBroker(t)
	var want []string
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		lines := records(200)
		for i := range lines {
			lines[i] = codec + " " + lines[i]
		}
		kcat{codec: codec}.produce(t, addr, "codecs", lines)
		want = append(want, lines...)
	}
	sameLines(t, "kcat", kcat{}.consume(t, addr, "codecs", len(want)), want)
	sameLines(t, "console consumer", console{}.consume(t, addr, "codecs", len(want)), want)
}

// TestBrokerGroup reads half of a topic in a group, restarts the broker, and
// lets another client go on in the same group.
func TestBrokerGroup(t *testing.T) {
	fetched(t, "kafka.sh")
	py := python(t)
	dir, addr := filepath.Join(t.TempDir(), "data"), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	b := startBroker(t, dir, addr)
	want := records(400)
	kcat{}.produce(t, addr, "grouped", want)

	const script = `
import sys, kafka
addr, topic, group, n = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
c = kafka.KafkaConsumer(topic, bootstrap_servers=addr, group_id=group, auto_offset_reset='earliest', enable_auto_commit=False, consumer_timeout_ms=180000)
m = None
for m in c:
    sys.stdout.buffer.write(m.value + b'\n')
    n -= 1
    if n == 0: break
c.commit({kafka.TopicPartition(topic, m.partition): kafka.structs.OffsetAndMetadata(m.offset + 1, '', -1)})
c.close()
`
	first := splitLines(clientOutput(t, "", py, "-c", script, addr, "grouped", "readers", "150"))
	sameLines(t, "first reader", first, want[:150])

	b.stop(t)
	startBroker(t, dir, addr)

	rest := splitLines(kafkaTool(t, "", "console-consumer", "--bootstrap-server", addr, "--topic", "grouped", "--group", "readers",
		"--max-messages", "250", "--timeout-ms", "180000"))
	sameLines(t, "second reader", rest, want[150:])

	described := kafkaTool(t, "", "consumer-groups", "--bootstrap-server", addr, "--describe", "--group", "readers")
	if f := strings.Fields(lineWith(described, "grouped")); len(f) < 6 || f[3] != "400" || f[4] != "400" || f[5] != "0" {
		t.Errorf("consumer-groups --describe does not show offset 400 of 400 and lag 0:\n%s", described)
	}
}

func lineWith(s, word string) string {
	for line := range strings.Lines(s) {
		if strings.Contains(line, " "+word+" ") {
			return line
		}
	}
	return ""
}

// TestBrokerTopicTool works on topics with Apache Kafka's own tool.
func TestBrokerTopicTool(t *testing.T) {
	addr := newBroker(t)
	topics := func(args ...string) string {
		t.Helper()
		return kafkaTool(t, "", "topics", append([]string{"--bootstrap-server", addr}, args...)...)
	}
	topics("--create", "--topic", "SmartCar-Topic", "--replication-factor", "1", "--partitions", "3")
	if got := splitLines(topics("--list")); !slices.Contains(got, "SmartCar-Topic") {
		t.Errorf("--list = %q", got)
	}
	if got := topics("--describe", "--topic", "SmartCar-Topic"); !strings.Contains(got, "PartitionCount: 3") || !strings.Contains(got, "Partition: 2") {
		t.Errorf("--describe:\n%s", got)
	}
	topics("--delete", "--topic", "SmartCar-Topic")
	if got := splitLines(topics("--list")); slices.Contains(got, "SmartCar-Topic") {
		t.Errorf("--list after --delete = %q", got)
	}
}
