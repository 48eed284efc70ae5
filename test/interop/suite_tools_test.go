//go:build interop

package interop

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// toolRun calls Apache Kafka's command line tools.
type toolRun struct {
	t    *testing.T
	addr string
	list []outcome
}

// call runs a tool with --bootstrap-server and returns all that it prints.
func (r *toolRun) call(stdin, tool string, args ...string) (string, error) {
	return r.raw(stdin, tool, append([]string{"--bootstrap-server", r.addr}, args...)...)
}

func (r *toolRun) raw(stdin, tool string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join("peers", "kafka-cli.sh"), append([]string{tool}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", tool, strings.Join(args, " "), err, tail(string(out), 600))
	}
	return string(out), err
}

// test records what steps came to: the first error ends it. A step is a call
// and the patterns that its output must match, in any order.
func (r *toolRun) test(feature, name string, steps ...func() error) {
	o := outcome{test: feature + ": " + name, feature: feature, result: "pass"}
	for _, step := range steps {
		if err := step(); err != nil {
			o.result, o.detail = "fail", err.Error()
			break
		}
	}
	r.list = append(r.list, o)
}

// says is a step: the tool must end well and print something like each pattern.
func (r *toolRun) says(patterns []string, stdin, tool string, args ...string) func() error {
	return func() error {
		out, err := r.call(stdin, tool, args...)
		if err != nil {
			return err
		}
		return matches(tool, out, patterns)
	}
}

// refuses is a step: the tool must fail and say why.
func (r *toolRun) refuses(pattern, tool string, args ...string) func() error {
	return func() error {
		out, err := r.call("", tool, args...)
		if err == nil && !strings.Contains(strings.ToLower(out), "error") {
			return fmt.Errorf("%s %s succeeded: %s", tool, strings.Join(args, " "), tail(out, 300))
		}
		return matches(tool, out, []string{pattern})
	}
}

func matches(tool, out string, patterns []string) error {
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(out) {
			return fmt.Errorf("%s printed nothing like %q:\n%s", tool, p, tail(out, 1500))
		}
	}
	return nil
}

func runTools(t *testing.T, addr string, _ []string) (string, []outcome) {
	fetched(t, "kafka.sh")
	r := &toolRun{t: t, addr: addr}
	is := func(p ...string) []string { return p }
	group := fmt.Sprintf("tools-%d", time.Now().UnixNano())
	topic := func(s string) string { return group + "-" + s }
	props := filepath.Join(t.TempDir(), "delete.json")

	version := strings.Fields(clientOutput(t, "", filepath.Join("peers", "kafka-cli.sh"), "topics", "--version"))[0]
	r.test("metadata, cluster", "kafka-broker-api-versions", r.says(is(`Produce\(0\): 0 to 13 \[usable: 13\]`, `Fetch\(1\): 4 to 18`, `ApiVersions\(18\): 0 to 4`), "", "broker-api-versions"))
	r.test("metadata, cluster", "kafka-cluster", func() error {
		out, err := r.raw("", "cluster", "cluster-id", "--bootstrap-server", addr)
		if err != nil {
			return err
		}
		return matches("cluster", out, is(`Cluster ID: \S+`))
	})
	r.test("metadata, cluster", "kafka-metadata-quorum", r.says(is(`LeaderId:\s+\d`), "", "metadata-quorum", "describe", "--status"))
	r.test("metadata, cluster", "kafka-features", r.says(is(`Feature: group.version`, `Feature: metadata.version`), "", "features", "describe"))
	r.test("topics", "kafka-topics",
		r.says(is(`Created topic`), "", "topics", "--create", "--topic", topic("a"), "--partitions", "3", "--replication-factor", "1", "--config", "retention.ms=600000"),
		r.refuses(`already exists`, "topics", "--create", "--topic", topic("a")),
		r.says(is(`PartitionCount: 3`, `ReplicationFactor: 1`, `retention.ms=600000`, `Partition: 2\s+Leader: \d+\s+Replicas: \d+\s+Isr: \d+`), "", "topics", "--describe", "--topic", topic("a")),
		r.says(is(topic("a")), "", "topics", "--list"),
		r.says(nil, "", "topics", "--describe", "--unavailable-partitions"),
		r.says(nil, "", "topics", "--delete", "--topic", topic("a")),
		r.refuses(`does not exist`, "topics", "--describe", "--topic", topic("a")))
	r.test("partitions", "kafka-topics --alter",
		r.says(nil, "", "topics", "--create", "--topic", topic("b")+"", "--partitions", "1"),
		r.says(nil, "", "topics", "--alter", "--topic", topic("b"), "--partitions", "4"),
		r.says(is(`PartitionCount: 4`), "", "topics", "--describe", "--topic", topic("b")))
	r.test("partitions", "kafka-leader-election", r.says(nil, "", "leader-election", "--election-type", "preferred", "--topic", topic("b"), "--partition", "0"))
	r.test("topic and broker configs", "kafka-configs, of a topic",
		r.says(is(`Completed updating config`), "", "configs", "--entity-type", "topics", "--entity-name", topic("b"), "--alter", "--add-config", "max.message.bytes=4096,cleanup.policy=[compact,delete]"),
		r.says(is(`max.message.bytes=4096`, `cleanup.policy=compact,delete`), "", "configs", "--entity-type", "topics", "--entity-name", topic("b"), "--describe"),
		r.says(nil, "", "configs", "--entity-type", "topics", "--entity-name", topic("b"), "--alter", "--delete-config", "max.message.bytes"),
		r.refuses(`(?i)unknown topic config`, "configs", "--entity-type", "topics", "--entity-name", topic("b"), "--alter", "--add-config", "no.such=1"))
	client := group + "-client"
	r.test("client quotas", "kafka-configs, of clients",
		r.says(is(`Completed updating config for client `+client), "", "configs", "--alter", "--entity-type", "clients", "--entity-name", client, "--add-config", "producer_byte_rate=1048576"),
		r.says(is(`Quota configs for client-id '`+client+`' are producer_byte_rate=1048576`), "", "configs", "--describe", "--entity-type", "clients", "--entity-name", client),
		r.says(is(`Completed updating config for client `+client), "", "configs", "--alter", "--entity-type", "clients", "--entity-name", client, "--delete-config", "producer_byte_rate"))
	r.test("topic and broker configs", "kafka-configs, of brokers",
		r.says(is(`num.partitions`, `log.dirs`), "", "configs", "--entity-type", "brokers", "--entity-name", brokerID(r), "--describe", "--all"),
		r.says(is(`Completed updating default config`), "", "configs", "--entity-type", "brokers", "--entity-default", "--alter", "--add-config", "log.retention.ms=900000000"),
		r.says(is(`log.retention.ms=900000000`), "", "configs", "--entity-type", "brokers", "--entity-default", "--describe"),
		r.says(nil, "", "configs", "--entity-type", "brokers", "--entity-default", "--alter", "--delete-config", "log.retention.ms"))
	r.test("produce, no compression", "kafka-console-producer, kafka-console-consumer",
		r.says(nil, "k1:eins\nk2:zwei\n", "console-producer", "--topic", topic("c"), "--property", "parse.key=true", "--property", "key.separator=:"),
		r.says(is(`(?m)^k1\teins$`, `(?m)^k2\tzwei$`, `Processed a total of 2 messages`), "", "console-consumer", "--topic", topic("c"), "--from-beginning", "--max-messages", "2", "--timeout-ms", "60000", "--property", "print.key=true", "--group", group))
	for _, codec := range []string{"gzip", "snappy", "lz4", "zstd"} {
		r.test("produce, "+codec, "kafka-producer-perf-test",
			r.says(is(`(?m)^20000 records sent, .* 99.9th`), "", "producer-perf", "--topic", topic("perf"), "--num-records", "20000", "--record-size", "500", "--throughput", "-1", "--producer-props", "bootstrap.servers="+addr, "acks=all", "compression.type="+codec))
	}
	r.test("fetch", "kafka-consumer-perf-test", r.says(is(`data.consumed.in.nMsg`, `, (8|2)0\d\d\d, `), "", "consumer-perf", "--topic", topic("perf"), "--num-records", "80000", "--timeout", "60000"))
	r.test("idempotent produce", "VerifiableProducer", r.says(is(`"sent":1000,"acked":1000`), "", "verifiable-producer", "--topic", topic("v"), "--max-messages", "1000", "--acks", "-1"))
	r.test("classic groups", "VerifiableConsumer", r.says(is(`"offsets_committed".*"success":true`, `"records_consumed"`), "", "verifiable-consumer", "--topic", topic("v"), "--group-id", topic("vg"), "--reset-policy", "earliest", "--max-messages", "1000", "--group-protocol", "classic"))
	r.test("KIP-848 groups", "VerifiableConsumer", r.says(is(`"offsets_committed".*"success":true`, `"records_consumed"`), "", "verifiable-consumer", "--topic", topic("v"), "--group-id", topic("vg848"), "--reset-policy", "earliest", "--max-messages", "1000", "--group-protocol", "consumer"))
	r.test("KIP-848 groups", "kafka-console-consumer, kafka-consumer-groups",
		r.says(is(`Processed a total of 10 messages`), "", "console-consumer", "--topic", topic("v"), "--from-beginning", "--max-messages", "10", "--timeout-ms", "60000", "--group", topic("848"), "--consumer-property", "group.protocol=consumer"),
		r.says(is(topic("848")+`\s+Consumer`), "", "groups", "--list"),
		r.says(is(`(?m)`+topic("848")+`.*Empty`), "", "consumer-groups", "--describe", "--group", topic("848"), "--state"))
	r.test("fetch", "EndToEndLatency", func() error {
		out, err := r.raw("", "e2e-latency", addr, topic("e2e"), "200", "all", "100")
		if err != nil {
			return err
		}
		return matches("e2e-latency", out, is(`Avg latency:`, `Percentiles`))
	})
	r.test("look-up by time", "kafka-get-offsets",
		r.says(is(topic("c")+`:0:0`), "", "get-offsets", "--topic", topic("c")+"", "--time", "earliest"),
		r.says(is(topic("c")+`:\d:[12]`), "", "get-offsets", "--topic", topic("c"), "--time", "latest"),
		r.says(is(topic("c")+`:\d:\d`), "", "get-offsets", "--topic", topic("c"), "--time", "max-timestamp"),
		r.says(is(topic("c")+`:\d:0`), "", "get-offsets", "--topic", topic("c"), "--time", "1"))
	r.test("group administration", "kafka-consumer-groups",
		r.says(is(group), "", "consumer-groups", "--list"),
		r.says(is(`(?m)^`+group+`\s+`+topic("c")+`\s+\d\s+(\d)\s+(\d)\s+0\s`), "", "consumer-groups", "--describe", "--group", group),
		r.says(is(`Empty\s+0`), "", "consumer-groups", "--describe", "--group", group, "--state"),
		r.says(is(`has no active members`), "", "consumer-groups", "--describe", "--group", group, "--members"),
		r.says(is(group+`\s+`+topic("c")+`\s+\d\s+0`), "", "consumer-groups", "--group", group, "--reset-offsets", "--to-earliest", "--all-topics", "--dry-run"),
		r.says(is(`Successful`), "", "consumer-groups", "--delete-offsets", "--group", group, "--topic", topic("c")),
		r.says(is(`successful`), "", "consumer-groups", "--delete", "--group", group))
	r.test("delete records", "kafka-delete-records",
		func() error {
			return writeFile(props, fmt.Sprintf(`{"partitions":[{"topic":%q,"partition":0,"offset":-1}],"version":1}`, topic("perf")))
		},
		r.says(is(`low_watermark: \d`), "", "delete-records", "--offset-json-file", props))
	var logDir string
	r.test("log directories", "kafka-log-dirs", func() error {
		out, err := r.call("", "log-dirs", "--describe", "--topic-list", topic("v"))
		if err != nil {
			return err
		}
		m := regexp.MustCompile(`"logDir":"([^"]+)"`).FindStringSubmatch(out)
		if m == nil {
			return fmt.Errorf("no directory in %s", tail(out, 500))
		}
		logDir = m[1]
		return matches("log-dirs", out, is(`"partition":"`+regexp.QuoteMeta(topic("v"))+`-0","size":\d+`))
	})
	r.test("other", "kafka-dump-log reads the segments", func() error {
		segments, err := filepath.Glob(filepath.Join(logDir, topic("v")+"-*", "*.log"))
		if err != nil || len(segments) == 0 {
			return fmt.Errorf("no segments in %s: %v", logDir, err)
		}
		out, err := r.raw("", "dump-log", "--print-data-log", "--files", strings.Join(segments, ","))
		for i := 0; err != nil && strings.Contains(out, "Found record size 0") && i < 10; i++ {
			time.Sleep(5 * time.Second) // the padding goes when a segment is not written any more
			out, err = r.raw("", "dump-log", "--print-data-log", "--files", strings.Join(segments, ","))
		}
		if err != nil {
			return err
		}
		if strings.Count(out, "payload:") != 1000 {
			return fmt.Errorf("%d records of 1000", strings.Count(out, "payload:"))
		}
		return matches("dump-log", out, is(`isvalid: true`, `payload: 999`))
	})
	r.test("transactions", "kafka-transactions", r.says(is(`TransactionalId`), "", "transactions", "list"))
	r.test("ACLs, SASL, TLS", "kafka-acls", r.says(nil, "", "acls", "--list"))
	keepLog(t, fmt.Sprintf("%+v", r.list))
	return version, r.list
}

// brokerID is the number of the broker, as the tools see it.
func brokerID(r *toolRun) string {
	out, _ := r.call("", "broker-api-versions") // a failure shows as an id that no broker has
	if m := regexp.MustCompile(`\(id: (\d+) `).FindStringSubmatch(out); m != nil {
		return m[1]
	}
	return "-1"
}
