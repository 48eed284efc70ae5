package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/suggest"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The binary called by the name of one of Apache Kafka's tools takes that
// tool's command line, one dash or two, VALUE after a blank or an equals sign,
// and writes what it writes on the standard output.

// kafkaTool is one of Kafka's tools.
type kafkaTool struct {
	run  func(env *Env, tool string, args []string) error
	does string // for --help
	ours string // the command of sluice that does the same
}

func kafkaTools() map[string]kafkaTool {
	return map[string]kafkaTool{
		"kafka-topics":              {kafkaTopics, "creates, lists, describes, alters and deletes topics", "topics"},
		"kafka-console-producer":    {kafkaConsoleProducer, "sends lines to a topic", "produce"},
		"kafka-console-consumer":    {kafkaConsoleConsumer, "shows a topic's records", "consume"},
		"kafka-consumer-groups":     {kafkaConsumerGroups, "lists, describes and deletes groups, and resets their offsets", "groups"},
		"kafka-groups":              {kafkaGroups, "lists groups", "groups"},
		"kafka-configs":             {kafkaConfigs, "shows and changes settings of topics, brokers and groups", "configs"},
		"kafka-get-offsets":         {kafkaGetOffsets, "shows offsets of partitions", "topics offsets"},
		"kafka-delete-records":      {kafkaDeleteRecords, "deletes records below an offset", "topics delete-records"},
		"kafka-log-dirs":            {kafkaLogDirs, "shows the size of partitions", "topics describe"},
		"kafka-dump-log":            {kafkaDumpLog, "shows what is in a partition's files", "dump"},
		"kafka-broker-api-versions": {kafkaBrokerAPIVersions, "shows what a broker serves", ""},
		"kafka-cluster":             {kafkaCluster, "shows the cluster's id and its brokers", ""},
		"kafka-server-start":        {kafkaServerStart, "starts the broker with a server.properties", "broker"},
		"kafka-storage":             {kafkaStorage, "formats a data directory", ""},
		"kafka-run-class":           {kafkaRunClass, "runs a tool by the name of its class", ""},
	}
}

// kafkaOpt declares one option of such a tool.
type kafkaOpt struct {
	value    bool   // takes a value
	optional string // what it is when the value is left out, if it may be
	ignore   string // why it does nothing
	instead  string // what to write, for one that Kafka no longer has
	same     string // the option that it is another name of
}

// noEffect is an option that is accepted and does nothing, and why.
func noEffect(value bool, why string) kafkaOpt { return kafkaOpt{value: value, ignore: why} }

// gone is an option that older versions of Kafka had.
func gone(value bool, instead string) kafkaOpt { return kafkaOpt{value: value, instead: instead} }

// alias is another name of an option.
func alias(of string) kafkaOpt { return kafkaOpt{value: true, same: of} }

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

// parseKafka reads a command line. What is no option goes to positional, if
// that is not nil.
func parseKafka(env *Env, tool string, opts map[string]kafkaOpt, args []string, positional *[]string) (kafkaArgs, error) {
	got := kafkaArgs{}
	if len(args) == 0 {
		printKafkaHelp(env.Stderr, tool, opts)
		return nil, &exitError{Code: ExitUsage}
	}
	for i := 0; i < len(args); i++ {
		name, value, joined := strings.Cut(args[i], "=")
		short := strings.TrimPrefix(strings.TrimPrefix(name, "-"), "-")
		if (short == name || short == "") && positional != nil {
			*positional = append(*positional, args[i])
			continue
		}
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
			printKafkaHelp(env.Stdout, tool, opts)
			return nil, &exitError{Code: ExitOK}
		case "version":
			fmt.Fprintln(env.Stdout, versionLine())
			return nil, &exitError{Code: ExitOK}
		}
		o, ok := opts[short]
		if !ok {
			hint := suggest.Hint(short, slices.Collect(maps.Keys(opts)))
			if hint != "" {
				hint += "; "
			}
			return nil, usageError(fmt.Errorf("%s: option --%s is not there; %sknown are %s", tool, short, hint, knownOpts(opts)))
		}
		if o.instead != "" {
			return nil, usageError(fmt.Errorf("%s: --%s is gone, here as in Kafka 4: %s", tool, short, o.instead))
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
		if o.same != "" {
			fmt.Fprintf(env.Stderr, "%s: --%s is an old name: write --%s\n", tool, short, o.same)
			short = o.same
		}
		got[short] = append(got[short], value)
	}
	return got, nil
}

func knownOpts(opts map[string]kafkaOpt) string {
	var names []string
	for _, n := range slices.Sorted(maps.Keys(opts)) {
		if opts[n].instead == "" {
			names = append(names, n)
		}
	}
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

func printKafkaHelp(out io.Writer, tool string, opts map[string]kafkaOpt) {
	t := kafkaTools()[tool]
	fmt.Fprintf(out, "%s, answered by sluice, %s. It takes these options of Apache Kafka's tool:\n\n", tool, t.does)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, name := range slices.Sorted(maps.Keys(opts)) {
		o := opts[name]
		line := "  --" + name
		switch {
		case o.optional != "":
			line += " [VALUE]"
		case o.value:
			line += " VALUE"
		}
		switch {
		case o.ignore != "":
			line += "\tno effect: " + o.ignore
		case o.instead != "":
			line += "\tgone: " + o.instead
		case o.same != "":
			line += "\told name of --" + o.same
		}
		if !strings.Contains(line, "\t") {
			line += "\t" // or the column would end here
		}
		fmt.Fprintln(w, line)
	}
	w.Flush()
	fmt.Fprintln(out, "\nOne dash will do for two.")
	if t.ours != "" {
		fmt.Fprintf(out, "What sluice itself offers: sluice %s --help\n", t.ours)
	}
}

// kafkaElse answers to the names of Kafka's programs that are not here.
func kafkaElse(name string) error {
	const theirs = "Apache Kafka's own tool works with this broker"
	what := map[string]string{
		"kafka-server-stop":                "stop the broker with a signal: kill -TERM and the process id that DIR/lock holds",
		"kafka-metadata-quorum":            "there is no quorum of controllers: the broker keeps its own metadata",
		"kafka-metadata-shell":             "there is no metadata log: topics are in topics.json of the data directory",
		"kafka-features":                   "there are no features to raise: the data directory has one format version",
		"kafka-leader-election":            "there is one broker, which leads every partition",
		"kafka-preferred-replica-election": "there is one broker, which leads every partition",
		"kafka-reassign-partitions":        "there is one broker, which has every partition",
		"kafka-replica-verification":       "there is one replica of every partition; sluice dump --verify checks a directory",
		"kafka-acls":                       "there are no ACLs",
		"kafka-delegation-tokens":          "there are no delegation tokens",
		"kafka-transactions":               "there are no transactions",
		"kafka-share-groups":               "there are no share groups",
		"kafka-console-share-consumer":     "there are no share groups; kafka-console-consumer reads a topic",
		"kafka-share-consumer-perf-test":   "there are no share groups",
		"kafka-client-metrics":             "there are no client metrics: the broker's are at sluice broker --metrics HOST:PORT",
		"kafka-jmx":                        "there is no JMX: metrics are at sluice broker --metrics HOST:PORT",
		"kafka-mirror-maker":               "MirrorMaker 1 is gone, here as in Kafka 4: an agent with a Kafka source and a Kafka sink copies topics (sluice agent)",
		"kafka-producer-perf-test":         theirs,
		"kafka-consumer-perf-test":         theirs,
		"kafka-e2e-latency":                theirs,
		"kafka-verifiable-producer":        theirs,
		"kafka-verifiable-consumer":        theirs,
		"kafka-streams-application-reset":  theirs + "; sluice groups reset sets the offsets of a group",
	}[name]
	if what == "" {
		what = "no tool of this name is known here"
	}
	return usageError(fmt.Errorf("called as %s: %s; of Kafka's tools there are %s", name, what, strings.Join(slices.Sorted(maps.Keys(kafkaTools())), ", ")))
}

// kafkaClasses are the tools by the names of their classes, old and new.
var kafkaClasses = map[string]string{
	"kafka.admin.TopicCommand": "kafka-topics", "kafka.tools.ConsoleProducer": "kafka-console-producer", "kafka.tools.ConsoleConsumer": "kafka-console-consumer",
	"kafka.admin.ConsumerGroupCommand": "kafka-consumer-groups", "kafka.admin.ConfigCommand": "kafka-configs", "kafka.tools.GetOffsetShell": "kafka-get-offsets",
	"kafka.admin.DeleteRecordsCommand": "kafka-delete-records", "kafka.admin.LogDirsCommand": "kafka-log-dirs", "kafka.tools.DumpLogSegments": "kafka-dump-log",
	"kafka.admin.BrokerApiVersionsCommand": "kafka-broker-api-versions", "kafka.tools.ClusterTool": "kafka-cluster",
	"org.apache.kafka.tools.TopicCommand": "kafka-topics", "org.apache.kafka.tools.ConsoleProducer": "kafka-console-producer", "org.apache.kafka.tools.consumer.ConsoleConsumer": "kafka-console-consumer",
	"org.apache.kafka.tools.consumer.group.ConsumerGroupCommand": "kafka-consumer-groups", "org.apache.kafka.tools.GroupsCommand": "kafka-groups", "org.apache.kafka.tools.GetOffsetShell": "kafka-get-offsets",
	"org.apache.kafka.tools.DeleteRecordsCommand": "kafka-delete-records", "org.apache.kafka.tools.LogDirsCommand": "kafka-log-dirs", "org.apache.kafka.tools.DumpLogSegments": "kafka-dump-log",
	"org.apache.kafka.tools.BrokerApiVersionsCommand": "kafka-broker-api-versions", "org.apache.kafka.tools.ClusterTool": "kafka-cluster",
}

func kafkaRunClass(env *Env, tool string, args []string) error {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return usageError(fmt.Errorf("%s: the name of a class comes first; known are %s", tool, strings.Join(slices.Sorted(maps.Keys(kafkaClasses)), ", ")))
	}
	name := kafkaClasses[args[0]]
	if name == "" {
		return usageError(fmt.Errorf("%s: Java classes cannot be loaded, and %s is none of those that have an equal here: %s", tool, args[0], strings.Join(slices.Sorted(maps.Keys(kafkaClasses)), ", ")))
	}
	return kafkaTools()[name].run(env, name, args[1:])
}

// one returns which of the actions is asked for; there must be one.
func (a kafkaArgs) one(tool string, actions ...string) (string, error) {
	var is []string
	for _, act := range actions {
		if a.has(act) {
			is = append(is, act)
		}
	}
	if len(is) != 1 {
		return "", usageError(fmt.Errorf("%s: give one of --%s", tool, strings.Join(actions, ", --")))
	}
	return is[0], nil
}

// only refuses options that the action has no use for.
func (a kafkaArgs) only(tool, option string, actions ...string) error {
	if !a.has(option) || slices.ContainsFunc(actions, a.has) {
		return nil
	}
	return usageError(fmt.Errorf("%s: --%s is for --%s", tool, option, strings.Join(actions, " and --")))
}

// broker finds the broker's address, which must be given, as in Kafka, and the
// client's properties.
func (a kafkaArgs) broker(tool string, names ...string) (kafkaFlags, error) {
	f := kafkaFlags{Timeout: 10 * time.Second, CommandConfig: a.last("command-config", ""), CommandProperty: a["command-property"]}
	if ms, err := a.int("timeout", 0); tool == "kafka-consumer-groups" && (err != nil || ms > 0) {
		if err != nil {
			return f, err
		}
		f.Timeout = time.Duration(ms) * time.Millisecond
	}
	for _, n := range append([]string{"bootstrap-server"}, names...) {
		if a.has(n) {
			f.Bootstrap, f.option = a[n][len(a[n])-1:], "--"+n
			return f, nil
		}
	}
	return f, usageError(fmt.Errorf("%s: no broker is given: --bootstrap-server HOST:9092", tool))
}

// session is what a tool needs that asks a broker and changes it.
func (a kafkaArgs) session(env *Env, tool string) (*kgo.Client, context.Context, func(), error) {
	f, err := a.broker(tool)
	if err != nil {
		return nil, nil, nil, err
	}
	return f.session(env)
}

// options adds what every tool takes that talks to a broker.
func options(own map[string]kafkaOpt) map[string]kafkaOpt {
	all := map[string]kafkaOpt{
		"bootstrap-server": optValue, "broker-list": alias("bootstrap-server"), "command-config": optValue,
		"bootstrap-controller": gone(true, "there are no controllers here; write --bootstrap-server HOST:9092"),
	}
	maps.Copy(all, own)
	return all
}

// topicFilter is Kafka's --topic: regular expressions with commas between,
// which match whole names.
type topicFilter struct{ re *regexp.Regexp }

func newTopicFilter(tool, option, s string) (topicFilter, error) {
	s = strings.Trim(strings.NewReplacer(",", "|", " ", "").Replace(strings.TrimSpace(s)), `"'`)
	re, err := regexp.Compile("^(?:" + s + ")$")
	if err != nil {
		return topicFilter{}, usageError(fmt.Errorf("%s: --%s %s is no regular expression: %w", tool, option, s, err))
	}
	return topicFilter{re}, nil
}

func (f topicFilter) match(name string) bool { return f.re == nil || f.re.MatchString(name) }

// internalTopic reports whether a topic is the broker's own.
func internalTopic(name string) bool {
	return name == "__consumer_offsets" || name == "__transaction_state" || name == "__share_group_state"
}

func clientProperty(k, v string) component.Property { return component.Property{Key: k, Value: v} }

// orDash is the text of a column that may be empty.
func orDash(s string) string { return cmp.Or(s, "-") }

// kafkaSays is an error in the words of Kafka's tool, which scripts look for.
func kafkaSays(format string, args ...any) error { return fmt.Errorf(format, args...) }
