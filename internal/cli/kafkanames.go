package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// The binary called as kafka-topics, kafka-console-producer or
// kafka-console-consumer takes the command line of Apache Kafka's tools: one
// dash or two, VALUE after a blank or an equals sign.

// kafkaOpt declares one option of such a tool.
type kafkaOpt struct {
	value    bool   // takes a value
	optional string // what it is when the value is left out, if it may be
	ignore   string
}

// noEffect is an option that is accepted and does nothing, and why.
func noEffect(value bool, why string) kafkaOpt { return kafkaOpt{value: value, ignore: why} }

var (
	optFlag  = kafkaOpt{}
	optValue = kafkaOpt{value: true}
)

// kafkaArgs is a parsed command line.
type kafkaArgs map[string][]string

func (a kafkaArgs) has(name string) bool { return len(a[name]) > 0 }

// last is an option's value; given more than once, the last one counts.
func (a kafkaArgs) last(name, def string) string {
	if v := a[name]; len(v) > 0 {
		return v[len(v)-1]
	}
	return def
}

func (a kafkaArgs) int(name string, def int64) (int64, error) {
	if !a.has(name) {
		return def, nil
	}
	n, err := strconv.ParseInt(a.last(name, ""), 10, 64)
	if err != nil {
		return 0, usageError(fmt.Errorf("--%s %s: want a whole number", name, a.last(name, "")))
	}
	return n, nil
}

// pairs splits the NAME=VALUE values of an option, which may have a second name.
func (a kafkaArgs) pairs(names ...string) (map[string]string, error) {
	m := map[string]string{}
	for _, name := range names {
		for _, v := range a[name] {
			k, val, ok := strings.Cut(v, "=")
			if !ok {
				return nil, usageError(fmt.Errorf("--%s %s: want NAME=VALUE", name, v))
			}
			m[k] = val
		}
	}
	return m, nil
}

func parseKafka(env *Env, tool string, opts map[string]kafkaOpt, args []string) (kafkaArgs, error) {
	got := kafkaArgs{}
	for i := 0; i < len(args); i++ {
		name, value, joined := strings.Cut(args[i], "=")
		short := strings.TrimPrefix(strings.TrimPrefix(name, "-"), "-")
		if short == name || short == "" {
			return nil, usageError(fmt.Errorf("%s: %q is not an option; known are %s", tool, args[i], knownOpts(opts)))
		}
		switch short {
		case "zookeeper":
			if !joined && i+1 < len(args) {
				value = args[i+1]
			}
			return nil, usageError(fmt.Errorf("%s: --zookeeper is gone, here as in Kafka since 3.0: name the broker instead, with --bootstrap-server %s", tool, brokerInstead(value)))
		case "help":
			printKafkaHelp(env, tool, opts)
			return nil, &exitError{Code: ExitOK}
		case "version":
			fmt.Fprintln(env.Stdout, versionLine())
			return nil, &exitError{Code: ExitOK}
		}
		o, ok := opts[short]
		if !ok {
			return nil, usageError(fmt.Errorf("%s: option --%s is not there; known are %s", tool, short, knownOpts(opts)))
		}
		switch {
		case o.value && !joined:
			if o.optional != "" && (i+1 == len(args) || strings.HasPrefix(args[i+1], "-")) {
				value = o.optional
				break
			}
			if i+1 == len(args) {
				return nil, usageError(fmt.Errorf("%s: --%s needs a value", tool, short))
			}
			i++
			value = args[i]
		case !o.value && joined:
			return nil, usageError(fmt.Errorf("%s: --%s takes no value", tool, short))
		}
		if o.ignore != "" {
			fmt.Fprintf(env.Stderr, "%s: --%s has no effect: %s\n", tool, short, o.ignore)
			continue
		}
		got[short] = append(got[short], value)
	}
	return got, nil
}

func knownOpts(opts map[string]kafkaOpt) string {
	names := slices.Sorted(maps.Keys(opts))
	return "--" + strings.Join(names, ", --")
}

// brokerInstead guesses the broker's address from ZooKeeper's: the same host
// and Kafka's port.
func brokerInstead(zookeeper string) string {
	first, _, _ := strings.Cut(zookeeper, ",")
	first, _, _ = strings.Cut(first, "/") // a path inside ZooKeeper
	host, _, err := net.SplitHostPort(first)
	if err != nil {
		host = first
	}
	if host == "" || strings.HasPrefix(host, "-") {
		host = "HOST"
	}
	return net.JoinHostPort(host, "9092")
}

func printKafkaHelp(env *Env, tool string, opts map[string]kafkaOpt) {
	fmt.Fprintf(env.Stdout, "%s, answered by sluice, takes these options of Apache Kafka's tool:\n\n", tool)
	w := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
	for _, name := range slices.Sorted(maps.Keys(opts)) {
		o := opts[name]
		line := "  --" + name
		switch {
		case o.optional != "":
			line += " [VALUE]"
		case o.value:
			line += " VALUE"
		}
		if o.ignore != "" {
			line += "\tno effect: " + o.ignore
		}
		fmt.Fprintln(w, line)
	}
	w.Flush()
	fmt.Fprintf(env.Stdout, "\nOne dash will do for two. What sluice itself offers: sluice %s --help\n",
		map[string]string{"kafka-topics": "topics", "kafka-console-producer": "produce", "kafka-console-consumer": "consume"}[tool])
}

// kafkaElse answers to the names of Kafka's other tools.
func kafkaElse(name string) error {
	return usageError(fmt.Errorf("called as %s: of Kafka's tools there are kafka-topics, kafka-console-producer and kafka-console-consumer; Apache Kafka's own %s works with this broker", name, name))
}

// broker finds the broker's address; there is no default, as in Kafka.
func (a kafkaArgs) broker(tool string, names ...string) (kafkaFlags, error) {
	for _, n := range names {
		if a.has(n) {
			return kafkaFlags{Bootstrap: a[n], Timeout: 10 * time.Second, option: "--" + n}, nil
		}
	}
	return kafkaFlags{}, usageError(fmt.Errorf("%s: no broker is given: --%s HOST:9092", tool, names[0]))
}

const (
	oneConfigFile = "settings from a file are not read; what is needed has an option"
	javaSettings  = "the Java client's settings do not apply here"
)

func kafkaTopics(env *Env, args []string) error {
	const tool = "kafka-topics"
	a, err := parseKafka(env, tool, map[string]kafkaOpt{
		"bootstrap-server": optValue, "create": optFlag, "list": optFlag, "describe": optFlag, "delete": optFlag, "alter": optFlag,
		"topic": optValue, "partitions": optValue, "replication-factor": optValue, "config": optValue,
		"if-not-exists": optFlag, "if-exists": optFlag, "exclude-internal": optFlag, "force": optFlag,
		"command-config": noEffect(true, oneConfigFile),
	}, args)
	if err != nil {
		return err
	}
	var action string
	for _, act := range []string{"create", "list", "describe", "delete", "alter"} {
		if a.has(act) {
			if action != "" {
				return usageError(fmt.Errorf("%s: give one of --create, --list, --describe, --delete and --alter", tool))
			}
			action = act
		}
	}
	f, err := a.broker(tool, "bootstrap-server")
	if err != nil {
		return err
	}
	topic := a.last("topic", "")
	if topic == "" && (action == "create" || action == "delete" || action == "alter") {
		return usageError(fmt.Errorf("%s: --%s needs --topic NAME", tool, action))
	}
	parts, err := a.int("partitions", -1)
	if err != nil {
		return err
	}
	replicas, err := a.int("replication-factor", -1)
	if err != nil {
		return err
	}
	configs, err := a.pairs("config")
	if err != nil {
		return err
	}
	switch action {
	case "create":
		return (&topicsCreateCmd{kafkaFlags: f, Names: []string{topic}, Partitions: int32(parts), Replication: int16(replicas), Config: configs, IfNotExists: a.has("if-not-exists")}).Run(env)
	case "list":
		return (&topicsListCmd{kafkaFlags: f, Internal: !a.has("exclude-internal")}).Run(env)
	case "delete":
		return (&topicsDeleteCmd{kafkaFlags: f, Names: []string{topic}, IfExists: a.has("if-exists")}).Run(env)
	case "alter":
		return growTopic(env, f, topic, int(parts))
	case "describe":
		return kafkaDescribe(env, f, a[`topic`])
	}
	return usageError(fmt.Errorf("%s: give one of --create, --list, --describe, --delete and --alter", tool))
}

func growTopic(env *Env, f kafkaFlags, topic string, partitions int) error {
	if partitions < 1 {
		return usageError(errors.New("kafka-topics: --alter needs --partitions N, a number above the present one"))
	}
	cl, ctx, done, err := f.session(env.Ctx)
	if err != nil {
		return err
	}
	defer done()
	rs, err := kadm.NewClient(cl).UpdatePartitions(ctx, partitions, topic)
	if err != nil {
		return fmt.Errorf("add partitions: %w", err)
	}
	if r := rs[topic]; r.Err != nil {
		return fmt.Errorf("add partitions to topic %s: %w", topic, brokerError(r.Err, r.ErrMessage))
	}
	return nil
}

// kafkaDescribe prints the lines that scripts around kafka-topics read.
func kafkaDescribe(env *Env, f kafkaFlags, topics []string) error {
	cl, ctx, done, err := f.session(env.Ctx)
	if err != nil {
		return err
	}
	defer done()
	adm := kadm.NewClient(cl)
	ts, err := adm.ListTopicsWithInternal(ctx, topics...)
	if err != nil {
		return fmt.Errorf("describe topics: %w", err)
	}
	for _, t := range ts.Sorted() {
		if errors.Is(t.Err, kerr.UnknownTopicOrPartition) {
			return fmt.Errorf("topic %s does not exist; --list shows what there is", t.Topic)
		}
		if t.Err != nil {
			return fmt.Errorf("describe topic %s: %w", t.Topic, t.Err)
		}
	}
	own, err := ownConfigs(ctx, adm, ts.Names())
	if err != nil {
		return err
	}
	ids := func(ns []int32) string {
		s := make([]string, len(ns))
		for i, n := range ns {
			s[i] = strconv.Itoa(int(n))
		}
		return strings.Join(s, ",")
	}
	for _, t := range ts.Sorted() {
		fmt.Fprintf(env.Stdout, "Topic: %s\tTopicId: %s\tPartitionCount: %d\tReplicationFactor: %d\tConfigs: %s\n",
			t.Topic, topicIDText(t.ID), len(t.Partitions), t.Partitions.NumReplicas(), strings.Join(own[t.Topic], ","))
		for _, p := range t.Partitions.Sorted() {
			fmt.Fprintf(env.Stdout, "\tTopic: %s\tPartition: %d\tLeader: %d\tReplicas: %s\tIsr: %s\n", t.Topic, p.Partition, p.Leader, ids(p.Replicas), ids(p.ISR))
		}
	}
	return nil
}

func kafkaConsoleProducer(env *Env, args []string) error {
	const tool = "kafka-console-producer"
	const batching = "batches are sent as fast as the broker takes them"
	a, err := parseKafka(env, tool, map[string]kafkaOpt{
		"bootstrap-server": optValue, "broker-list": optValue, "topic": optValue,
		"property": optValue, "reader-property": optValue, "request-required-acks": optValue,
		"compression-codec": {value: true, optional: "gzip"},
		"sync":              noEffect(false, batching), "batch-size": noEffect(true, batching), "timeout": noEffect(true, batching),
		"message-send-max-retries":   noEffect(true, "records are sent until they are acknowledged"),
		"producer-property":          noEffect(true, javaSettings),
		"command-property":           noEffect(true, javaSettings),
		"max-block-ms":               noEffect(true, javaSettings),
		"request-timeout-ms":         noEffect(true, javaSettings),
		"retry-backoff-ms":           noEffect(true, javaSettings),
		"socket-buffer-size":         noEffect(true, javaSettings),
		"metadata-expiry-ms":         noEffect(true, javaSettings),
		"max-memory-bytes":           noEffect(true, javaSettings),
		"max-partition-memory-bytes": noEffect(true, javaSettings),
		"producer.config":            noEffect(true, oneConfigFile),
		"command-config":             noEffect(true, oneConfigFile),
		"reader-config":              noEffect(true, oneConfigFile),
		"line-reader":                noEffect(true, "Java classes cannot be loaded; a record is a line"),
	}, args)
	if err != nil {
		return err
	}
	c := produceCmd{Topic: a.last("topic", ""), Partition: -1, Compression: "none", Acks: "all"}
	if c.kafkaFlags, err = a.broker(tool, "bootstrap-server", "broker-list"); err != nil {
		return err
	}
	if c.Topic == "" {
		return usageError(fmt.Errorf("%s: --topic NAME is missing", tool))
	}
	props, err := a.pairs("property", "reader-property")
	if err != nil {
		return err
	}
	if props["parse.key"] == "true" {
		c.KeySeparator = "\t"
		if s, ok := props["key.separator"]; ok {
			c.KeySeparator = s
		}
	}
	ignoredProperties(env, tool, props, "parse.key", "key.separator")
	switch acks := a.last("request-required-acks", "all"); acks {
	case "all", "-1":
	case "0", "1":
		c.Acks = acks
	default:
		return usageError(fmt.Errorf("%s: --request-required-acks %s: want all, -1, 0 or 1", tool, acks))
	}
	switch codec := a.last("compression-codec", "none"); codec {
	case "none", "gzip", "snappy", "lz4", "zstd":
		c.Compression = codec
	default:
		return usageError(fmt.Errorf("%s: --compression-codec %s: want none, gzip, snappy, lz4 or zstd", tool, codec))
	}
	_, err = c.send(env)
	return err
}

func kafkaConsoleConsumer(env *Env, args []string) error {
	const tool = "kafka-console-consumer"
	const java = "Java classes cannot be loaded; values are written as they are"
	a, err := parseKafka(env, tool, map[string]kafkaOpt{
		"bootstrap-server": optValue, "topic": optValue, "from-beginning": optFlag, "partition": optValue, "offset": optValue,
		"max-messages": optValue, "timeout-ms": optValue, "group": optValue,
		"property": optValue, "formatter-property": optValue,
		"new-consumer":          noEffect(false, "there is no other"),
		"enable-systest-events": noEffect(false, "it is for Kafka's own tests"),
		"skip-message-on-error": noEffect(false, "nothing is decoded that could fail"),
		"consumer-property":     noEffect(true, javaSettings+"; --group sets the group"),
		"command-property":      noEffect(true, javaSettings+"; --group sets the group"),
		"consumer.config":       noEffect(true, oneConfigFile),
		"command-config":        noEffect(true, oneConfigFile),
		"formatter-config":      noEffect(true, oneConfigFile),
		"formatter":             noEffect(true, java),
		"key-deserializer":      noEffect(true, java),
		"value-deserializer":    noEffect(true, java),
		"isolation-level":       noEffect(true, "there are no transactions"),
	}, args)
	if err != nil {
		return err
	}
	c := consumeCmd{Topic: a.last("topic", ""), FromBeginning: a.has("from-beginning"), Group: a.last("group", "")}
	if c.kafkaFlags, err = a.broker(tool, "bootstrap-server"); err != nil {
		return err
	}
	if c.Topic == "" {
		return usageError(fmt.Errorf("%s: --topic NAME is missing", tool))
	}
	var part, most, idle int64
	for _, v := range []struct {
		to   *int64
		name string
		def  int64
	}{{&part, "partition", -1}, {&most, "max-messages", 0}, {&idle, "timeout-ms", 0}} {
		if *v.to, err = a.int(v.name, v.def); err != nil {
			return err
		}
	}
	c.Partition, c.MaxMessages, c.IdleTimeout, c.Offset = int32(part), int(most), time.Duration(idle)*time.Millisecond, -1
	switch off := a.last("offset", "latest"); off {
	case "latest":
	case "earliest":
		c.FromBeginning = true
	default:
		if c.Offset, err = strconv.ParseInt(off, 10, 64); err != nil || c.Offset < 0 {
			return usageError(fmt.Errorf("%s: --offset %s: want earliest, latest or a number", tool, off))
		}
	}
	props, err := a.pairs("property", "formatter-property")
	if err != nil {
		return err
	}
	c.Keys = props["print.key"] == "true"
	ignoredProperties(env, tool, props, "print.key")
	n, err := c.show(env)
	if err == nil || errors.Is(err, context.Canceled) {
		fmt.Fprintf(env.Stderr, "Processed a total of %d messages\n", n)
	}
	return err
}

func ignoredProperties(env *Env, tool string, props map[string]string, known ...string) {
	for _, k := range slices.Sorted(maps.Keys(props)) {
		if !slices.Contains(known, k) {
			fmt.Fprintf(env.Stderr, "%s: --property %s has no effect; known are %s\n", tool, k, strings.Join(known, ", "))
		}
	}
}
