package cli

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-data/sluice/internal/broker"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestGroupsCommands(t *testing.T) {
	t.Parallel()
	addr := "--bootstrap=" + testBroker(t)
	plan := write(t, "plan.csv", "t,0,1\n")
	reset := func(args ...string) []string {
		return append([]string{"sluice", "groups", "reset", "g", addr}, args...)
	}
	runCases(t, []kafkaCase{
		{"none", "", []string{"sluice", "groups", "list", addr}, 0, "", "there are no groups"},
		{"produce", "a\nb\nc\n", []string{"sluice", "produce", "t", addr}, 0, "", ""},
		{"consume", "", []string{"sluice", "consume", "t", "-g", "g", "--from-beginning", "-n", "2", addr}, 0, "a\nb\n", ""},
		{"list", "", []string{"sluice", "groups", "list", addr}, 0, "…g      ", ""},
		{"list by state", "", []string{"sluice", "groups", "list", "--state", "Stable", addr}, 0, "", "there are no groups"},
		{"describe", "", []string{"sluice", "groups", "describe", "g", addr}, 0, "…  t      0          2          3    1    -\n  total lag: 1\n", ""},
		{"describe as JSON", "", []string{"sluice", "groups", "describe", "--json", addr}, 0, `…"partitions":[{"topic":"t","partition":0,"committed":2,"end":3,"lag":1}],"totalLag":1}`, ""},
		{"describe nothing", "", []string{"sluice", "groups", "describe", "nope", addr}, 1, "", "describe group nope: the group does not exist"},
		{"no scenario", "", reset("--topic", "t"), 2, "", "give one of --to-earliest"},
		{"two scenarios", "", reset("--topic", "t", "--to-earliest", "--to-latest"), 2, "", "give one of --to-earliest"},
		{"no scope", "", reset("--to-earliest"), 2, "", "say what to reset"},
		{"contradiction", "", reset("--to-earliest", "--topic=t", "--dry-run", "--execute"), 2, "", "exclude each other"},
		{"bad scope", "", reset("--to-earliest", "--topic=t:x"), 2, "", "Invalid partition 'x'"},
		{"no partition", "", reset("--to-earliest", "--topic=t:7"), 1, "", `The partitions "t-7" do not exist`},
		{"dry run", "", reset("--to-earliest", "--topic", "t", "--dry-run"), 0, "…g      t      0          2    0\n", "nothing was changed; --execute does it"},
		{"no execute", "", reset("--to-latest", "--all-topics"), 0, "…g      t      0          2    3\n", "nothing was changed"},
		{"shift", "", reset("--shift-by=-1", "--all-topics", "--execute"), 0, "…2    1\n", ""},
		{"beyond the end", "", reset("--to-offset=99", "--topic=t:0", "--execute"), 0, "…1    3\n", "New offset (99) is higher than latest offset"},
		{"from a file", "", reset("--from-file", plan, "--execute"), 0, "…3    1\n", ""},
		{"export", "", reset("--to-current", "--all-topics", "--export"), 0, "t,0,1\n", ""},
		{"by age", "", reset("--by-duration=1h", "--all-topics"), 0, "…1    0\n", ""},
		{"in the future", "", reset("--to-datetime=2099-01-01T00:00:00", "--all-topics"), 0, "…1    3\n", ""},
		{"bad time", "", reset("--to-datetime=yesterday", "--all-topics"), 2, "", "is not a date with a time"},
		{"goes on there", "", []string{"sluice", "consume", "t", "-g", "g", "-n", "1", addr}, 0, "b\n", ""},
		{"new group", "", []string{"sluice", "groups", "reset", "fresh", "--topic=t", "--to-offset=1", "--execute", addr}, 0, "…fresh  t      0          -    1\n", ""},
		{"delete offsets", "", []string{"sluice", "groups", "delete-offsets", "g", "--topic", "t", addr}, 0, "deleted the offset of t-0\n", ""},
		{"none left", "", []string{"sluice", "groups", "delete-offsets", "g", "--topic", "t", addr}, 1, "", "no offsets for topic t"},
		{"delete", "", []string{"sluice", "groups", "delete", "fresh", addr}, 0, "deleted group fresh\n", ""},
		{"delete again", "", []string{"sluice", "groups", "delete", "fresh", addr}, 1, "", "the group does not exist"},
	})
}

func TestConfigsAndTopicsCommands(t *testing.T) {
	t.Parallel()
	broker := testBroker(t)
	addr := "--bootstrap=" + broker
	runCases(t, []kafkaCase{
		{"create", "", []string{"sluice", "topics", "create", "t", "-p", "2", addr}, 0, "created topic t with 2 partition(s)\n", ""},
		{"none set", "", []string{"sluice", "configs", "describe", "--topic", "t", addr}, 0, "", "--all shows the defaults"},
		{"set", "", []string{"sluice", "configs", "set", "--topic", "t", "retention.ms=5000", "segment.bytes=1048576", addr}, 0, "changed 2 setting(s) of topic t\n", ""},
		{"set nothing", "", []string{"sluice", "configs", "set", "--topic", "t", "retention.ms", addr}, 2, "", "is not NAME=VALUE"},
		{"bad value", "", []string{"sluice", "configs", "set", "--topic", "t", "retention.ms=soon", addr}, 1, "", "change settings of topic t:"},
		{"check only", "", []string{"sluice", "configs", "set", "--topic", "t", "retention.ms=1", "--dry-run", addr}, 0, "the broker would take the settings of topic t\n", ""},
		{"delete", "", []string{"sluice", "configs", "delete", "--topic", "t", "segment.bytes", addr}, 0, "changed 1 setting(s) of topic t\n", ""},
		{"describe", "", []string{"sluice", "configs", "describe", "--topic", "t", addr}, 0, "retention.ms  5000  set here\n", ""},
		{"all", "", []string{"sluice", "configs", "describe", "--broker", "1", "--all", addr}, 0, "…num.partitions ", ""},
		{"whose", "", []string{"sluice", "configs", "describe", addr}, 2, "", "say whose settings"},
		{"alter", "", []string{"sluice", "topics", "alter", "t", "-p", "3", addr}, 0, "topic t has 3 partition(s)\n", ""},
		{"alter to fewer", "", []string{"sluice", "topics", "alter", "t", "-p", "2", addr}, 1, "", "add partitions to topic t:"},
		{"produce", "a\nb\nc\n", []string{"sluice", "produce", "t", "--partition", "1", "--timestamp", "1000", addr}, 0, "", ""},
		{"offsets", "", []string{"sluice", "topics", "offsets", "t", addr}, 0, "topic  partition  offset\nt      0          0\nt      1          3\nt      2          0\n", ""},
		{"offsets of a time", "", []string{"sluice", "topics", "offsets", "t", "--at", "2001", addr}, 0, "topic  partition  offset\nt      0          none\nt      1          none\nt      2          none\n", ""},
		{"offsets as JSON", "", []string{"sluice", "topics", "offsets", "t", "--at", "max-timestamp", "--json", addr}, 0, `…{"topic":"t","partition":1,"offset":0,"timestamp":1000}`, ""},
		{"bad time", "", []string{"sluice", "topics", "offsets", "--at", "noon", addr}, 2, "", "is none of earliest"},
		{"would delete", "", []string{"sluice", "topics", "delete-records", "t", "--before", "2", "--partition", "1", "--dry-run", addr}, 0, "would delete 2 record offset(s) of t-1, which then begins at 2\n", ""},
		{"delete records", "", []string{"sluice", "topics", "delete-records", "t", "--before", "2", "--partition", "1", addr}, 0, "t-1 begins at offset 2\n", ""},
		{"delete beyond the end", "", []string{"sluice", "topics", "delete-records", "t", "--before", "9", "--partition", "1", addr}, 1, "", "partition 1 ends at offset 3, before 9"},
		{"delete all", "", []string{"sluice", "topics", "delete-records", "t", "--before", "latest", addr}, 0, "t-0 begins at offset 0\nt-1 begins at offset 3\nt-2 begins at offset 0\n", ""},
		{"kafka-configs", "", []string{"kafka-configs", "--bootstrap-server", broker, "--alter", "--topic", "t", "--add-config", "retention.ms=[7000],segment.bytes=2097152"}, 0, "Completed updating config for topic t.\n", ""},
		{"kafka-configs shows", "", []string{"kafka-configs.sh", "--bootstrap-server", broker, "--describe", "--entity-type", "topics", "--entity-name", "t"}, 0, "…  retention.ms=7000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms=7000, ", ""},
		{"kafka-configs of users", "", []string{"kafka-configs", "--bootstrap-server", broker, "--describe", "--entity-type", "users"}, 2, "", "client quotas are not set by this tool"},
		{"kafka-configs of what", "", []string{"kafka-configs", "--bootstrap-server", broker, "--describe"}, 2, "", "At least one entity type must be specified"},
		{"kafka-topics with ZooKeeper's setting", "", []string{"kafka-topics", "--alter", "--topic", "t", "--config", "a=b", "--bootstrap-server", broker}, 2, "", "write kafka-configs --alter --entity-type topics --entity-name TOPIC --add-config"},
		{"run-class", "", []string{"kafka-run-class.sh", "kafka.tools.GetOffsetShell", "--broker-list", broker, "--topic", "t"}, 0, "t:0:0\nt:1:3\nt:2:0\n", "--broker-list is an old name: write --bootstrap-server"},
		{"run another class", "", []string{"kafka-run-class", "kafka.Kafka"}, 2, "", "Java classes cannot be loaded"},
		{"cluster", "", []string{"kafka-cluster", "list-endpoints", "--bootstrap-server", broker}, 0, "…unfenced   broker", ""},
		{"log dirs", "", []string{"kafka-log-dirs", "--describe", "--bootstrap-server", broker, "--topic-list", "t", "--broker-list", "1"}, 0, `…"partition":"t-1"`, ""},
		{"versions", "", []string{"kafka-broker-api-versions", "--bootstrap-server", broker}, 0, "…\tProduce(0): 0 to 13 [usable: 13],\n", ""},
	})
}

func TestProduceConsumeFormats(t *testing.T) {
	t.Parallel()
	broker := testBroker(t)
	addr := "--bootstrap=" + broker
	lines := `{"key":"k","value":"v","headers":[{"key":"h","value":"1"},{"key":"n"}],"timestamp":1000,"partition":1}
{"value":"in 0","partition":0,"timestamp":2000}
{"keyBase64":"//4=","timestamp":3000,"partition":1}
`
	runCases(t, []kafkaCase{
		{"create", "", []string{"sluice", "topics", "create", "j", "copy", "-p", "2", addr}, 0, "…created topic j", ""},
		{"produce", lines, []string{"sluice", "produce", "j", "--format", "json", "--no-idempotence", "--acks", "1", "--compression", "zstd", addr}, 0, "", "3 record(s) acknowledged"},
		{"no JSON", "v\n", []string{"sluice", "produce", "j", "--format", "json", addr}, 1, "", "line 1 is no record: read JSON"},
		{"unknown field", `{"valu":"v"}`, []string{"sluice", "produce", "j", "--format", "json", addr}, 1, "", `unknown field "valu"`},
		{"no such partition", `{"partition":7}`, []string{"sluice", "produce", "j", "--format", "json", addr}, 1, "", "0 of 1 record(s)"},
		{"bad acks", "", []string{"sluice", "produce", "j", "--acks", "2", addr}, 2, "", "want all, 1 or 0"},
		{"contradiction", "", []string{"sluice", "produce", "j", "--acks", "1", "--idempotence", addr}, 2, "", "it needs acks = all"},
		{"consume", "", []string{"sluice", "consume", "j", "--format", "json", "--partition", "1", "--from-beginning", "--exit-at-end", addr}, 0,
			`{"topic":"j","partition":1,"offset":0,"timestamp":1000,"timestampType":"CreateTime","leaderEpoch":0,"key":"k","headers":[{"key":"h","value":"1"},{"key":"n"}],"value":"v"}
{"topic":"j","partition":1,"offset":1,"timestamp":3000,"timestampType":"CreateTime","leaderEpoch":0,"keyBase64":"//4="}
`, "2 record(s)"},
		{"from a time", "", []string{"sluice", "consume", "j", "--from", "1500", "--meta", "--keys", "--exit-at-end", addr}, 0, "…\tin 0\n", "2 record(s)"},
		{"to an offset", "", []string{"sluice", "consume", "j", "--partition", "1", "--offset", "0", "--end-offset", "1", "--keys", addr}, 0, "k\tv\n", "1 record(s)"},
		{"from the end", "", []string{"sluice", "consume", "j", "--exit-at-end", addr}, 0, "", "0 record(s)"},
		{"contradiction", "", []string{"sluice", "consume", "j", "--from-beginning", "--from", "1", addr}, 2, "", "exclude each other"},
		{"isolation", "", []string{"sluice", "consume", "j", "--isolation", "dirty", addr}, 2, "", "isolation.level"},
		{"kafka's form", "h:1,n:\tk\tNULL\n", []string{"kafka-console-producer", "--bootstrap-server", broker, "--topic", "copy", "--reader-property", "parse.key=true", "--reader-property", "parse.headers=true", "--reader-property", "null.marker=NULL"}, 0, "", ""},
		{"bad line", "k\n", []string{"kafka-console-producer", "--bootstrap-server", broker, "--topic", "copy", "--property", "parse.key=true"}, 1, "", "No key separator found: 'k'"},
		{"kafka's form back", "", []string{"kafka-console-consumer", "--bootstrap-server", broker, "--topic", "copy", "--from-beginning", "--max-messages", "1", "--formatter-property", "print.headers=true", "--formatter-property", "print.key=true", "--formatter-property", "null.literal=-"}, 0, "h:1,n:\tk\t-\n", ""},
		{"by pattern", "", []string{"kafka-console-consumer", "--bootstrap-server", broker, "--whitelist", "co.*", "--from-beginning", "--max-messages", "1"}, 0, "null\n", "--whitelist is an old name: write --include"},
		{"Java's formatter", "", []string{"kafka-console-consumer", "--bootstrap-server", broker, "--topic", "copy", "--formatter", "com.example.F"}, 2, "", "Java classes cannot be loaded"},
		{"commit", "", []string{"sluice", "consume", "copy", "-g", "g", "--from-beginning", "-n", "1", addr}, 0, "\n", ""},
		{"group log", "", []string{"kafka-console-consumer", "--bootstrap-server", broker, "--topic", "__consumer_offsets", "--from-beginning", "--timeout-ms", "300", "--formatter", "org.apache.kafka.tools.consumer.OffsetsMessageFormatter"}, 0, `…{"key":{"type":1,"data":{"group":"g","topic":"copy","partition":`, ""},
	})
}

func TestCommandConfig(t *testing.T) {
	t.Parallel()
	broker := testBroker(t)
	good := write(t, "client.properties", "bootstrap.servers="+broker+"\nclient.id=me\nrequest.timeout.ms = 20000\nsend.buffer.bytes=1\nfoo.bar=1\n")
	bad := write(t, "bad.properties", "bootstrap.servers="+broker+"\nsecurity.protocol=SASL_SSL\n")
	runCases(t, []kafkaCase{
		{"broker of the file", "", []string{"sluice", "topics", "create", "t", "--command-config", good}, 0, "created topic t with 1 partition(s)\n", "client property foo.bar: unknown property, ignored"},
		{"no effect", "", []string{"sluice", "topics", "list", "--command-config", good}, 0, "t\n", "send.buffer.bytes: no effect"},
		{"option goes before", "", []string{"sluice", "topics", "list", "--command-config", bad, "--command-property", "security.protocol=PLAINTEXT"}, 0, "t\n", ""},
		{"incomplete", "", []string{"sluice", "topics", "list", "--command-config", bad}, 2, "", "sasl.mechanism"},
		{"no such file", "", []string{"kafka-topics", "--list", "--bootstrap-server", broker, "--command-config", "/nonexistent"}, 2, "", "no such file"},
		{"kafka's", "", []string{"kafka-topics", "--list", "--bootstrap-server", broker, "--command-config", good}, 0, "t\n", "foo.bar"},
		{"value", "", []string{"sluice", "topics", "list", "--command-config", good, "--command-property", "request.timeout.ms=soon"}, 2, "", "client property request.timeout.ms"},
		{"produce", "a\n", []string{"sluice", "produce", "t", "--command-config", good, "--command-property", "compression.type=gzip", "--command-property=linger.ms=1"}, 0, "", "1 record(s)"},
		{"group of the file", "", []string{"sluice", "consume", "t", "--from-beginning", "-n", "1", "--command-config", good, "--command-property", "group.id=g"}, 0, "a\n", ""},
		{"is there", "", []string{"kafka-consumer-groups", "--list", "--bootstrap-server", broker}, 0, "g\n", ""},
	})
}

// TestDumpCommand reads a running broker's directory, and one that was damaged.
func TestDumpCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, err := broker.Start(context.Background(), broker.Config{Listen: "127.0.0.1:0", DataDir: dir, MaxDisk: -1})
	if err != nil {
		t.Fatal(err)
	}
	addr := "--bootstrap=" + b.Addr()
	log := filepath.Join(dir, "logs", "t-0", "00000000000000000000.log")
	index := strings.TrimSuffix(log, ".log") + ".index"
	runCases(t, []kafkaCase{
		{"produce", "a=1\nb=2\n", []string{"sluice", "produce", "t", "--key-separator", "=", "--header", "h=x", addr}, 0, "", ""},
		{"produce more", "c=3\n", []string{"sluice", "produce", "t", "--key-separator", "=", "--compression", "lz4", addr}, 0, "", ""},
		{"consume", "", []string{"sluice", "consume", "t", "-g", "g", "--from-beginning", "-n", "1", addr}, 0, "1\n", ""},
		{"running", "", []string{"sluice", "dump", log, "--print-data-log"}, 0, "… keySize: 1 valueSize: 1 sequence: 0 headerKeys: [h] key: a payload: 1\n", ""},
		{"verify", "", []string{"sluice", "dump", dir, "--verify"}, 0, "…" + log + ": 2 batch(es), 3 record(s), offsets 0 to 3\n", "no damage"},
		{"group log", "", []string{"sluice", "dump", filepath.Join(dir, "logs"), "--offsets-decoder"}, 0, `… key: {"type":"1","data":{"group":"g","topic":"t","partition":0}} payload: {"version":"`, ""},
	})
	if err := b.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	runCases(t, []kafkaCase{
		{"stopped", "", []string{"sluice", "dump", filepath.Dir(log)}, 0, "…Dumping " + index + "\noffset: 0 position: 0\n", ""},
		{"kafka's name", "", []string{"kafka-dump-log", "--files", log + "," + index, "--deep-iteration"}, 0, "…Dumping " + index + "\noffset: 0 position: 0\n", ""},
		{"verify it", "", []string{"sluice", "dump", dir, "--verify"}, 0, "…: 2 producer(s)\n", "no damage"},
		{"state", "", []string{"sluice", "dump", filepath.Join(filepath.Dir(log), "log-state"), "--json"}, 0, `…"data":{"start":0,"recovery":`, ""},
		{"unknown", "", []string{"sluice", "dump", filepath.Join(dir, "broker.json")}, 0, "", "Ignoring unknown file"},
		{"empty", "", []string{"sluice", "dump", t.TempDir()}, 1, "", "there are no files of a partition"},
		{"gone", "", []string{"kafka-dump-log", "--files", log, "--cluster-metadata-decoder"}, 2, "", "is gone, here as in Kafka 4"},
	})
	code, out, errs := runKafkaCLI("", "sluice", "dump", log, "--deep", "--json")
	for line := range strings.Lines(out) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
	if code != 0 || strings.Count(out, "\n") != 2+3 {
		t.Errorf("exit %d, %s%s", code, out, errs)
	}
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	data[70] ^= 1 // in the first batch's records
	if err := os.WriteFile(log, data, 0o644); err != nil {
		t.Fatal(err)
	}
	runCases(t, []kafkaCase{
		{"damaged", "", []string{"sluice", "dump", dir, "--verify"}, 1, "…", log + ": position 0, offset 0: record batch is corrupt: CRC is"},
		{"isvalid", "", []string{"sluice", "dump", log}, 1, "…isvalid: false\nbaseOffset: 2 ", "1 place(s) of damage"},
	})
}

func TestKafkaForms(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"PT1H30M": 90 * time.Minute, "P1DT2S": 24*time.Hour + 2*time.Second, "-PT1M": -time.Minute, "PT0.5S": time.Second / 2, "PT-1.5S": -1500 * time.Millisecond, "p7d": 7 * 24 * time.Hour,
	} {
		if got, err := isoDuration(in); err != nil || got != want {
			t.Errorf("%s: %v %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "P", "PT", "1h", "P1DT", "P1Y", "PT99999999999999999H", "PT1.S.S"} {
		if got, err := isoDuration(in); err == nil {
			t.Errorf("%q gives %v", in, got)
		}
	}
	// Double.toString of Java.
	for v, want := range map[float64]string{1: "1.0", 0.001: "0.001", 1e7: "1.0E7", 1.5e-5: "1.5E-5", 123456.789: "123456.789", -2.25e10: "-2.25E10", 0: "0.0", math.Inf(-1): "-Infinity"} {
		if got := javaFloat(v, 64); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
	if got := splitConfigs("a=1,b=[x,y],c=2"); len(got) != 3 || got[1] != "b=[x,y]" {
		t.Errorf("%q", got)
	}
	if got, err := kafkaDateTime("2026-01-31T12:00:00.000+09:00"); err != nil || got.UnixMilli() != 1769828400000 {
		t.Errorf("%v %v", got.UnixMilli(), err)
	}
	if got, err := kafkaDateTime("2026-01-31T12:00:00.000"); err != nil || got.UnixMilli() != 1769860800000 {
		t.Errorf("%v %v", got.UnixMilli(), err)
	}
}

// TestEveryKafkaToolHelps: --help of every tool lists what it takes, and the
// message for what is not here names what to do.
func TestEveryKafkaToolHelps(t *testing.T) {
	for name := range kafkaTools() {
		switch name {
		case "kafka-run-class", "kafka-storage", "kafka-server-start", "kafka-server-stop": // their command lines have another form
			continue
		}
		code, out, errs := runKafkaCLI("", name, "--help")
		if code != 0 || !strings.Contains(out, "answered by sluice") || !strings.Contains(out, "  --") {
			t.Errorf("%s --help: exit %d\n%s%s", name, code, out, errs)
		}
		code, _, errs = runKafkaCLI("", name, "--zookeeper", "zk:2181")
		if code != 2 || !strings.Contains(errs, "with --bootstrap-server zk:9092") {
			t.Errorf("%s --zookeeper: exit %d %s", name, code, errs)
		}
	}
	for _, class := range kafkaClasses {
		if kafkaTools()[class].run == nil {
			t.Errorf("no tool %s", class)
		}
	}
	if code, _, errs := runKafkaCLI("", "kafka-acls.sh", "--list"); code != 2 || !strings.Contains(errs, "there are no ACLs") {
		t.Errorf("exit %d %s", code, errs)
	}
}

// TestKafkaToolsAreDocumented: the page on the broker has a row for every name.
func TestKafkaToolsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/broker.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "## Kafka's command lines")
	table, _, _ = strings.Cut(table, "What differs")
	for name := range kafkaTools() {
		if !strings.Contains(table, "`"+name+"`") {
			t.Errorf("docs/broker.md does not say what %s does", name)
		}
	}
}
