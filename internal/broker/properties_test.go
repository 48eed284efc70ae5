package broker

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var update = flag.Bool("update", false, "write docs/broker-properties.md anew")

var configTypes = map[kmsg.ConfigType]string{
	kmsg.ConfigTypeBoolean: "boolean", kmsg.ConfigTypeInt: "int", kmsg.ConfigTypeLong: "long", kmsg.ConfigTypeShort: "short",
	kmsg.ConfigTypeDouble: "double", kmsg.ConfigTypeList: "list", kmsg.ConfigTypeString: "string",
}

// propertiesPage is docs/broker-properties.md, made from the declarations.
func propertiesPage() []byte {
	var b bytes.Buffer
	b.WriteString(`# Broker properties

` + "`sluice broker server.properties`" + ` reads the file of an Apache Kafka broker, of KRaft and of ZooKeeper times, and ` + "`--override NAME=VALUE`" + ` sets a
single property. This page says what becomes of each. It is generated: edit the declarations in internal/broker and run
` + "`go test ./internal/broker -run TestPropertiesPage -update`" + `.

A name that is not here draws a warning with the nearest one that is. Names below ` + "`ssl.`, `sasl.`, `listener.name.`, `remote.log.`, `group.share.`" + `
and ` + "`zookeeper.`" + ` are known to be Kafka's and have no effect.

## Honoured

"Live" properties can be changed while the broker runs (` + "`kafka-configs --entity-type brokers`" + `); the others are read at the start. The default is the one
that is in force here, for a topic without settings of its own.

| Property | Type | Default | Live | Meaning |
|---|---|---|---|---|
`)
	all := properties()
	def := defaultConfig()
	for _, n := range slices.Sorted(maps.Keys(all)) {
		p := all[n]
		if p.set == nil {
			continue
		}
		v := ""
		switch {
		case p.topic != "" && len(p.instead) == 0:
			v = topicValue(def, p.topic, -1)
		case p.get != nil:
			v = p.get(def)
		}
		switch n { // they depend on the disk
		case "sluice.max.disk.bytes":
			v = "10 GiB or 10 % of the free space"
		}
		if v != "" {
			v = "`" + v + "`"
		}
		doc := p.doc
		if p.reason != "" {
			doc += " Anything else is refused: " + p.reason + "."
		}
		if p.topic != "" {
			doc += " Default of the topic setting `" + p.topic + "`."
		}
		if len(p.instead) > 0 {
			doc += " `" + strings.Join(p.instead, "` and `") + "` win over it."
		}
		live := ""
		if p.dynamic {
			live = "yes"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", n, configTypes[p.typ], v, live, strings.ReplaceAll(doc, "|", `\|`))
	}
	b.WriteString("\n## Without effect\n\n| Property | Reason |\n|---|---|\n")
	for _, n := range slices.Sorted(maps.Keys(all)) {
		if p := all[n]; p.set == nil {
			fmt.Fprintf(&b, "| `%s` | %s |\n", n, p.reason)
		}
	}
	return b.Bytes()
}

func TestPropertiesPage(t *testing.T) {
	const path = "../../docs/broker-properties.md"
	if *update {
		if err := os.WriteFile(path, propertiesPage(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(have, propertiesPage()) {
		t.Errorf("%s is not what the code declares: run go test ./internal/broker -run TestPropertiesPage -update (%v)", path, err)
	}
	for n, p := range properties() {
		if p.set == nil && p.reason == "" || p.set != nil && p.doc == "" || p.topic == "" && p.set != nil && p.get == nil {
			t.Errorf("property %s is declared in part", n)
		}
		if _, ok := configTypes[p.typ]; !ok {
			t.Errorf("property %s has type %d", n, p.typ)
		}
	}
	for _, n := range dynamicWithoutEffect() {
		if p, ok := properties()[n]; !ok || p.set != nil {
			t.Errorf("%s is not declared without effect", n)
		}
	}
}

// TestEveryKafkaPropertyIsKnown: the list is what Apache Kafka 4.3 declares.
func TestEveryKafkaPropertyIsKnown(t *testing.T) {
	data, err := os.ReadFile("testdata/kafka-4.3-properties.txt")
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(string(data))
	if len(names) < 300 {
		t.Fatalf("the list has %d names", len(names))
	}
	all := properties()
	for _, n := range names {
		if _, ok := all[n]; !ok && prefixReason(n) == "" {
			t.Errorf("property %s is not declared", n)
		}
	}
}

func findingsText(fs []PropertyFinding) string {
	var l []string
	for _, f := range fs {
		l = append(l, fmt.Sprintf("%d %s: %s", f.Kind, f.Name, f.Message))
	}
	return strings.Join(l, "\n")
}

func TestSetProperties(t *testing.T) {
	for _, tt := range []struct {
		name  string
		props map[string]string
		check func(c *Config) bool
		find  string // part of the findings
	}{
		{"milliseconds win", map[string]string{"log.retention.ms": "5000", "log.retention.minutes": "3", "log.retention.hours": "1"},
			func(c *Config) bool { return c.TopicDefaults["retention.ms"] == "5000" }, "log.retention.ms is set and wins"},
		{"minutes win", map[string]string{"log.retention.minutes": "3", "log.retention.hours": "1"},
			func(c *Config) bool { return c.TopicDefaults["retention.ms"] == "180000" }, "log.retention.minutes is set and wins"},
		{"hours", map[string]string{"log.retention.hours": "2", "log.roll.hours": "1"},
			func(c *Config) bool {
				return c.TopicDefaults["retention.ms"] == "7200000" && c.TopicDefaults["segment.ms"] == "3600000"
			}, ""},
		{"no limit", map[string]string{"log.retention.hours": "-1"}, func(c *Config) bool { return c.TopicDefaults["retention.ms"] == "-1" }, ""},
		{"broker 0", map[string]string{"broker.id": "0"}, func(c *Config) bool { return c.NodeID == NodeZero }, ""},
		{"node.id wins", map[string]string{"broker.id": "3", "node.id": "4"}, func(c *Config) bool { return c.NodeID == 4 }, "node.id is set and wins"},
		{"sizes", map[string]string{"message.max.bytes": "2000000", "log.segment.bytes": "1073741824"},
			func(c *Config) bool {
				return c.TopicDefaults["max.message.bytes"] == "2000000" && c.TopicDefaults["segment.bytes"] == "1073741824"
			}, ""},
		{"blanks", map[string]string{"num.partitions": " 7 ", "auto.create.topics.enable": "FALSE"},
			func(c *Config) bool { return c.NumPartitions == 7 && c.DisableAutoCreate }, ""},
		{"typing error", map[string]string{"num.partition": "7"}, func(c *Config) bool { return c.NumPartitions == 0 }, `1 num.partition: no property of a Kafka broker: did you mean "num.partitions"?`},
		{"bad number", map[string]string{"num.partitions": "x"}, nil, "0 num.partitions:"},
		{"authorizer", map[string]string{"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer"}, nil, "0 authorizer.class.name:"},
		{"controller", map[string]string{"process.roles": "controller"}, nil, "0 process.roles:"},
		{"two directories", map[string]string{"log.dirs": "/a,/b"}, nil, "0 log.dirs:"},
		{"tiers", map[string]string{"remote.log.storage.system.enable": "true"}, nil, "0 remote.log.storage.system.enable:"},
		{"of a cluster", map[string]string{"min.insync.replicas": "2", "default.replication.factor": "3", "zookeeper.connect": "zk:2181", "listener.name.x.ssl.keystore.location": "k"},
			func(c *Config) bool { return len(c.TopicDefaults) == 0 }, "3 min.insync.replicas:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c Config
			got := findingsText(c.SetProperties(tt.props))
			if tt.check != nil && !tt.check(&c) {
				t.Errorf("config is %+v", c)
			}
			if tt.find == "" && got != "" || !strings.Contains(got, tt.find) {
				t.Errorf("findings are %q, want %q", got, tt.find)
			}
		})
	}
}

func describeBroker(t *testing.T, adm *kadm.Client, names ...string) map[string]kadm.Config {
	t.Helper()
	rs, err := adm.DescribeBrokerConfigs(ctxOf(t), 1)
	if err != nil || rs[0].Err != nil {
		t.Fatal(err, rs[0].Err)
	}
	m := map[string]kadm.Config{}
	for _, c := range rs[0].Configs {
		m[c.Key] = c
	}
	return m
}

func TestBrokerConfigsWhileRunning(t *testing.T) {
	dir := t.TempDir()
	start := func() (*Broker, *kadm.Client) {
		b := startBroker(t, func(c *Config) {
			c.DataDir = dir
			if fs := c.SetProperties(map[string]string{"log.retention.hours": "1", "max.connections": "50", "num.partitions": "3"}); len(fs) > 0 {
				t.Fatal(findingsText(fs))
			}
		})
		return b, kadm.NewClient(client(t, b))
	}
	b, adm := start()
	check := func(name, value string, source kmsg.ConfigSource) {
		t.Helper()
		if c := describeBroker(t, adm)[name]; c.MaybeValue() != value || c.Source != source {
			t.Errorf("%s is %s by %v, want %s by %v", name, c.MaybeValue(), c.Source, value, source)
		}
	}
	check("log.retention.ms", "3600000", kmsg.ConfigSourceStaticBrokerConfig)
	check("log.retention.hours", "1", kmsg.ConfigSourceStaticBrokerConfig)
	check("max.connections", "50", kmsg.ConfigSourceStaticBrokerConfig)
	check("num.partitions", "3", kmsg.ConfigSourceStaticBrokerConfig)
	check("num.recovery.threads.per.data.dir", "", 0)
	check("message.max.bytes", "1048588", kmsg.ConfigSourceDefaultConfig)

	if _, err := adm.CreateTopic(ctxOf(t), 1, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	alter := func(adm *kadm.Client, want *kerr.Error, brokers []int32, cs ...kadm.AlterConfig) {
		t.Helper()
		rs, err := adm.AlterBrokerConfigs(ctxOf(t), cs, brokers...)
		if err != nil {
			t.Fatal(err)
		}
		if got := rs[0].Err; got == nil && want != nil || got != nil && (want == nil || got.Error() != want.Error()) {
			t.Errorf("alter %v: %v (%s), want %v", cs, got, rs[0].ErrMessage, want)
		}
	}
	val := func(name, v string) kadm.AlterConfig { return kadm.AlterConfig{Name: name, Value: &v} }
	alter(adm, nil, nil, val("log.retention.ms", "60000"), val("message.max.bytes", "500"))
	alter(adm, nil, []int32{1}, val("message.max.bytes", "700"), val("max.connections.per.ip", "40"), val("num.io.threads", "16"), val("log.cleaner.backoff.ms", "12000"))
	alter(adm, kerr.InvalidRequest, []int32{1}, val("num.partitions", "9"))
	alter(adm, kerr.InvalidRequest, []int32{1}, val("message.max.bytes", "x"))
	alter(adm, kerr.InvalidRequest, nil, val("listeners", "PLAINTEXT://:1"))
	inForce := func() {
		t.Helper()
		check("log.retention.ms", "60000", kmsg.ConfigSourceDynamicDefaultBrokerConfig)
		check("message.max.bytes", "700", kmsg.ConfigSourceDynamicBrokerConfig)
		check("max.connections.per.ip", "40", kmsg.ConfigSourceDynamicBrokerConfig)
		check("num.io.threads", "16", kmsg.ConfigSourceDynamicBrokerConfig)
		check("log.cleaner.backoff.ms", "12000", kmsg.ConfigSourceDynamicBrokerConfig)
		cfg := b.topics.byName("t").state.Load().cfg
		if cfg.MaxMessageBytes != 700 || cfg.RetentionAge != time.Minute {
			t.Errorf("the topic has %+v", cfg)
		}
		rs, err := adm.DescribeTopicConfigs(ctxOf(t), "t")
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range rs[0].Configs {
			if c.Key == "max.message.bytes" && (c.MaybeValue() != "700" || c.Source != kmsg.ConfigSourceDynamicBrokerConfig) {
				t.Errorf("the topic says %s by %v", c.MaybeValue(), c.Source)
			}
		}
	}
	inForce()
	var syn []string
	for _, s := range describeBroker(t, adm)["message.max.bytes"].Synonyms {
		syn = append(syn, cmp.Or(*s.Value, "")+" "+s.Source.String())
	}
	if got, want := strings.Join(syn, ", "), "700 DYNAMIC_BROKER_CONFIG, 500 DYNAMIC_DEFAULT_BROKER_CONFIG, 1048588 DEFAULT_CONFIG"; got != want {
		t.Errorf("synonyms are %s, want %s", got, want)
	}
	if err := b.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	b, adm = start()
	inForce()
	alter(adm, nil, []int32{1}, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: "message.max.bytes"})
	check("message.max.bytes", "500", kmsg.ConfigSourceDynamicDefaultBrokerConfig)
	if cfg := b.topics.byName("t").state.Load().cfg; cfg.MaxMessageBytes != 500 {
		t.Errorf("the topic has %+v", cfg)
	}
}
