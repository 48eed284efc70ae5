package cli

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-data/sluice/internal/broker"
)

// What Apache Kafka delivers, with other words around it.
const (
	stockKafka4 = `
# role of the server
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=/tmp/kraft-combined-logs
num.partitions=1
num.recovery.threads.per.data.dir=1
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
`
	stockKafka2 = `
broker.id=0
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=/tmp/kafka-logs
num.partitions=1
num.recovery.threads.per.data.dir=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
zookeeper.connect=localhost:2181
zookeeper.connection.timeout.ms=18000
group.initial.rebalance.delay.ms=0
`
)

func configOf(t *testing.T, text string, change func(*brokerCmd)) (broker.Config, string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "server.properties")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var logs bytes.Buffer
	cfg := broker.Config{Logger: slog.New(slog.NewTextHandler(&logs, nil))}
	c := brokerCmd{File: file}
	if change != nil {
		change(&c)
	}
	err := c.configure(&cfg)
	return cfg, logs.String(), err
}

func TestStockServerProperties(t *testing.T) {
	for name, text := range map[string]string{"4": stockKafka4, "2": stockKafka2} {
		t.Run(name, func(t *testing.T) {
			cfg, logs, err := configOf(t, text, func(c *brokerCmd) { c.Listen, c.Data = []string{"PLAINTEXT://127.0.0.1:0"}, t.TempDir() })
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(logs, "WARN") || strings.Count(logs, "\n") != 1 || !strings.Contains(logs, "num.io.threads, num.network.threads") {
				t.Errorf("log is\n%s", logs)
			}
			if cfg.TopicDefaults["retention.ms"] != "604800000" || cfg.TopicDefaults["segment.bytes"] != "1073741824" || cfg.RetentionCheck != 5*time.Minute {
				t.Errorf("config is %+v", cfg)
			}
			cfg.StopTimeout = time.Second
			b, err := broker.Start(context.Background(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFlagsWinOverOverridesOverTheFile(t *testing.T) {
	cfg, _, err := configOf(t, "num.partitions=2\nmax.connections=7\nlog.dirs=/x\nsluice.max.disk.bytes=5\n", func(c *brokerCmd) {
		n := int32(4)
		c.Override, c.Partitions, c.MaxDisk = []string{"num.partitions=3", "max.connections=8", "group.max.size=9"}, &n, "none"
	})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.NumPartitions != 4 || cfg.MaxConnections != 8 || cfg.GroupMaxSize != 9 || cfg.DataDir != "/x" || cfg.MaxDisk != -1 {
		t.Errorf("config is %+v", cfg)
	}
}

func TestServerPropertiesFindings(t *testing.T) {
	_, logs, err := configOf(t, "num.partition=2\nlog.dirs=/x\n", nil)
	if err != nil || !strings.Contains(logs, `server.properties:1: num.partition: no property of a Kafka broker: did you mean`) {
		t.Errorf("%v, log is\n%s", err, logs)
	}
	_, _, err = configOf(t, "\nnum.partitions=many\n", nil)
	if err == nil || !strings.Contains(err.Error(), `server.properties:2: num.partitions is "many": want a whole number`) {
		t.Errorf("error is %v", err)
	}
	if _, _, err = configOf(t, "", func(c *brokerCmd) { c.Override = []string{"x"} }); err == nil {
		t.Error("an override without a value is taken")
	}
}

func TestKafkaServerCommands(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	file := filepath.Join(t.TempDir(), "server.properties")
	if err := os.WriteFile(file, []byte("log.dirs="+dir+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(want int, text string, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if code := Run(args, strings.NewReader(""), &out, &errs); code != want || !strings.Contains(out.String()+errs.String(), text) {
			t.Errorf("%v: exit %d, want %d and %q; wrote %s%s", args, code, want, text, out.String(), errs.String())
		}
		return out.String()
	}
	id := strings.TrimSpace(run(ExitOK, "", "kafka-storage.sh", "random-uuid"))
	if len(id) != 22 {
		t.Errorf("the uuid is %q", id)
	}
	run(ExitOK, "none", "kafka-storage", "info", "-c", file)
	run(ExitOK, "Formatting "+dir, "kafka-storage", "format", "-t", id, "-c", file, "--standalone")
	run(ExitFailed, "already formatted", "kafka-storage", "format", "-t", id, "-c", file)
	run(ExitOK, "already formatted", "kafka-storage", "format", "-t", id, "-c", file, "--ignore-formatted")
	run(ExitOK, id, "kafka-storage", "info", "-c", file)
	run(ExitUsage, "cluster id", "kafka-storage", "format", "-t", "x", "-c", file)
	run(ExitUsage, "want server.properties", "kafka-server-start")
	run(ExitUsage, "-daemon", "kafka-server-start.sh", "-daemon", file)
	run(ExitUsage, "num.partitions is", "kafka-server-start.sh", file, "--override", "num.partitions=0")
	run(ExitUsage, "kill -TERM", "kafka-server-stop.sh")
	if err := os.WriteFile(filepath.Join(filepath.Dir(file), "meta.properties"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	run(ExitUsage, "holds the data of an Apache Kafka", "kafka-server-start.sh", file, "--override", "log.dirs="+filepath.Dir(file), "--override=listeners=PLAINTEXT://127.0.0.1:0")
}
